// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "common/fault_point.h"
#include "common/guard.h"
#include "daemon/datapath/bpf_error.h"

namespace sluice::datapath {

namespace {

// From Linux 6.6's <linux/bpf.h>, newer than the headers that we build with.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

std::string interface_text(std::uint32_t ifindex) {
  char name[IF_NAMESIZE] = {};
  if (if_indextoname(ifindex, name) == nullptr) return fmt::format("interface number {}", ifindex);
  return fmt::format("interface {} (number {})", name, ifindex);
}

// Our filter among those that others may have on the same hook. Its handle keeps in mind who made the qdisc.
constexpr std::uint32_t kOnOurQdisc = 0x53;
constexpr std::uint32_t kOnTheirQdisc = 0x54;
constexpr std::uint32_t kFilterPriority = 1;

// Kernels without tcx do not know the attach type.
bool kernel_has_tcx() {
  constexpr int kLoopback = 1;
  std::uint32_t flags = 0;
  std::uint32_t programs = 0;
  return bpf_prog_query(kLoopback, kTcxIngress, 0, &flags, nullptr, &programs) != -EINVAL;
}

struct TcxLink {
  Fd fd;
  std::uint32_t id = 0;
  std::uint32_t program_id = 0;
  std::uint32_t ifindex = 0;  // 0: the interface is gone
};

Result<TcxLink> open_link(const std::string& path) {
  auto fd = Pins::get(path);
  if (!fd) return tl::unexpected(fd.error());
  bpf_link_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about " + path);
  // The description of a tcx link begins with the ifindex, as that of an XDP link does, which these headers
  // have.
  return TcxLink{std::move(*fd), info.id, info.prog_id, info.xdp.ifindex};
}

Result<Fd> create_link(std::uint32_t ifindex, const Program& program) {
  const int link = bpf_link_create(program.fd.get(), static_cast<int>(ifindex), kTcxIngress, nullptr);
  if (link < 0) return failure_errno(link, "attach by tcx to " + interface_text(ifindex));
  return Fd(link);
}

bpf_tc_hook hook_of(std::uint32_t ifindex) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

bpf_tc_opts filter(std::uint32_t handle) {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = handle;
  options.priority = kFilterPriority;
  return options;
}

// ENOENT: no such filter; EINVAL: no clsact at all.
bool is_none(int code) { return code == -ENOENT || code == -EINVAL; }

struct OurFilter {
  std::uint32_t handle = 0;
  std::uint32_t program_id = 0;
};

// ENOENT in Error::code: there is none; ENODEV: the interface is gone.
Result<OurFilter> find_filter(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  for (const auto handle : {kOnOurQdisc, kOnTheirQdisc}) {
    auto options = filter(handle);
    const int code = bpf_tc_query(&hook, &options);
    if (code == 0) return OurFilter{handle, options.prog_id};
    if (code == -ENODEV)
      return tl::unexpected(Error{"Sluice's program is missing on " + interface_text(ifindex), ENODEV});
    if (!is_none(code)) return messages.failure(code, "ask for the filter on " + interface_text(ifindex));
  }
  return tl::unexpected(Error{"Sluice's program is missing on " + interface_text(ifindex), ENOENT});
}

// False: there is one already.
Result<bool> make_clsact(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  const int code = bpf_tc_hook_create(&hook);
  if (code < 0 && code != -EEXIST)
    return messages.failure(code, "make the clsact qdisc of " + interface_text(ifindex));
  return code == 0;
}

Result<void> attach_clsact(std::uint32_t ifindex, const Program& program) {
  const auto made = make_clsact(ifindex);
  if (!made) return tl::unexpected(made.error());
  SLUICE_FAILURE_POINT("attach.qdisc_made");
  auto options = filter(kOnOurQdisc);
  if (!*made) {
    const auto present = find_filter(ifindex);
    if (!present && present.error().code != ENOENT) return tl::unexpected(present.error());
    options.handle = present ? present->handle : kOnTheirQdisc;
  }
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  options.prog_fd = program.fd.get();
  options.flags = BPF_TC_F_REPLACE;
  if (const int code = bpf_tc_attach(&hook, &options); code < 0)
    return messages.failure(code, "attach by clsact to " + interface_text(ifindex));
  return {};
}

Result<void> detach_clsact(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  for (const auto handle : {kOnOurQdisc, kOnTheirQdisc}) {
    auto options = filter(handle);
    const int code = bpf_tc_detach(&hook, &options);
    if (code < 0 && !is_none(code) && code != -ENODEV)
      return messages.failure(code, "detach from " + interface_text(ifindex));
  }
  return {};
}

Result<void> delete_clsact(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);  // the qdisc itself
  const int code = bpf_tc_hook_destroy(&hook);
  if (code < 0 && !is_none(code) && code != -ENODEV)
    return messages.failure(code, "delete the clsact qdisc of " + interface_text(ifindex));
  return {};
}

// And the qdisc with it, in one step, if we made it and nobody else has a filter there. One that somebody
// adds between the look and the deletion goes, too: the kernel cannot be asked for both at once.
Result<void> remove_filter(NetlinkSocket& netlink, std::uint32_t ifindex) {
  const auto ours = find_filter(ifindex);
  if (!ours && (ours.error().code == ENOENT || ours.error().code == ENODEV)) return {};
  if (!ours) return tl::unexpected(ours.error());
  if (ours->handle != kOnOurQdisc) return detach_clsact(ifindex);
  const auto filters = netlink.filters(static_cast<int>(ifindex));
  if (!filters) return tl::unexpected(filters.error());
  const bool alone = std::all_of(filters->begin(), filters->end(), [](const Filter& each) {
    return !each.egress && each.priority == kFilterPriority &&
           (each.handle == 0 || each.handle == kOnOurQdisc);
  });
  return alone ? delete_clsact(ifindex) : detach_clsact(ifindex);
}

// Others may use the same number.
bool is_own(const Filter& filter) {
  return !filter.egress && filter.priority == kFilterPriority &&
         (filter.handle == kOnOurQdisc || filter.handle == kOnTheirQdisc) &&
         filter.program.starts_with("entry_");
}

}  // namespace

Result<bool> remove_own_filter(NetlinkSocket& netlink, std::uint32_t ifindex) {
  const auto filters = netlink.filters(static_cast<int>(ifindex));
  if (!filters) return tl::unexpected(filters.error());
  if (std::ranges::none_of(*filters, is_own)) return false;
  if (auto done = remove_filter(netlink, ifindex); !done) return tl::unexpected(done.error());
  return true;
}

Result<Attacher::Ways> Attacher::ways(AttachMode mode) {
  const bool tcx = mode != AttachMode::kClsact && kernel_has_tcx();
  if (mode == AttachMode::kTcx && !tcx)
    return failure("this kernel has no tcx (Linux 6.6): attach with 'auto' or 'clsact'");
  return Ways{mode == AttachMode::kTcx, tcx};
}

Result<void> Attacher::attach(std::uint32_t ifindex, sluice_hook hook, Ingress ingress) const {
  const Program& program = programs_.at(hook);
  const auto pinned = open_link(pins_.link(ifindex));
  if (!pinned && pinned.error().code != ENOENT) return tl::unexpected(pinned.error());
  if (pinned && pinned->ifindex == ifindex) {
    if (pinned->program_id == program.id) return {};
    if (const int code = bpf_link_update(pinned->fd.get(), program.fd.get(), nullptr); code < 0)
      return failure_errno(code, "replace the program (tcx) of " + interface_text(ifindex));
    return {};
  }
  const bool by_tcx = ingress == Ingress::kShared ? ways_.shared_by_tcx : ways_.ours_by_tcx;
  if (by_tcx && !find_filter(ifindex)) return attach_tcx(ifindex, program);
  return attach_clsact(ifindex, program);
}

Result<void> Attacher::attach_tcx(std::uint32_t ifindex, const Program& program) const {
  const auto link = create_link(ifindex, program);
  if (!link) return tl::unexpected(link.error());
  SLUICE_FAILURE_POINT("attach.link_created");
  return Pins::put(link->get(), pins_.link(ifindex));
}

Result<Fd> Attacher::begin_move(std::uint32_t ifindex, sluice_hook hook) const {
  auto link = create_link(ifindex, programs_.at(hook));
  if (!link) return link;
  SLUICE_FAILURE_POINT("move.link_made");
  return link;
}

Result<void> Attacher::finish_move(NetlinkSocket& netlink, std::uint32_t ifindex, const Fd& link) const {
  Guard unpin([&] { static_cast<void>(forget(ifindex)); });
  if (auto done = Pins::put(link.get(), pins_.link(ifindex)); !done) return done;
  SLUICE_FAILURE_POINT("move.link_pinned");
  if (auto done = remove_filter(netlink, ifindex); !done) return done;
  unpin.dismiss();
  SLUICE_FAULT_POINT("move.filter_removed");
  return {};
}

Result<void> Attacher::finish_interrupted_move(NetlinkSocket& netlink, std::uint32_t ifindex) const {
  const auto link = open_link(pins_.link(ifindex));
  return link && link->ifindex == ifindex ? remove_filter(netlink, ifindex) : Result<void>();
}

// Of an interface that has lost its program nothing else is known, and somebody else may be at work on it:
// shared is right for all.
Result<std::string> Attacher::refresh(std::uint32_t ifindex, sluice_hook hook) const {
  const auto good = verify(ifindex, hook);
  if (good || good.error().code == ENODEV) return "";
  if (auto done = attach(ifindex, hook, Ingress::kShared); !done) return tl::unexpected(done.error());
  return good.error().message;
}

Result<void> Attacher::restore(std::uint32_t ifindex, sluice_hook hook) const {
  const auto amiss = refresh(ifindex, hook);
  if (!amiss) return tl::unexpected(amiss.error());
  if (!amiss->empty())
    spdlog::error(
        "{}: attached again. Since it went, packets that came in there were not judged; find out who removes "
        "or replaces Sluice's programs (clsact qdiscs, tcx links)",
        *amiss);
  return {};
}

Result<void> Attacher::detach(std::uint32_t ifindex) const {
  if (auto done = forget(ifindex); !done) return done;
  return detach_clsact(ifindex);
}

Result<void> Attacher::forget(std::uint32_t ifindex) const { return Pins::remove(pins_.link(ifindex)); }

Result<void> Attacher::sweep() const {
  for (const auto ifindex : pins_.links()) {
    const auto link = open_link(pins_.link(ifindex));
    if (!link) return tl::unexpected(link.error());
    if (link->ifindex == ifindex) continue;
    if (auto done = forget(ifindex); !done) return done;
  }
  return {};
}

Result<LinkStatus> Attacher::attached(std::uint32_t ifindex) const {
  LinkStatus status;
  status.ifindex = ifindex;
  const auto link = open_link(pins_.link(ifindex));
  if (!link && link.error().code != ENOENT) return tl::unexpected(link.error());
  if (link && link->ifindex == ifindex) {
    status.link_id = link->id;
    status.program_id = link->program_id;
    return status;
  }
  const auto filter = find_filter(ifindex);
  if (!filter) return tl::unexpected(filter.error());
  status.program_id = filter->program_id;
  return status;
}

Result<void> Attacher::verify(std::uint32_t ifindex, sluice_hook hook) const {
  auto status = attached(ifindex);
  if (!status) return tl::unexpected(status.error());
  const auto wanted = programs_.at(hook).id;
  if (status->program_id != wanted)
    return failure("{} has program {} attached where program {} (entry_{}) should be",
                   interface_text(ifindex), status->program_id, wanted, hook_name(hook));
  return {};
}

}  // namespace sluice::datapath
