// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>

#include "common/fault_point.h"
#include "daemon/datapath/bpf_error.h"

namespace sluice::datapath {

namespace {

// From Linux 6.6's <linux/bpf.h>, newer than the headers that we build with.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);

// Our filter among those that others may have on the same hook.
constexpr std::uint32_t kFilterHandle = 0x53;
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

bpf_tc_hook hook_of(std::uint32_t ifindex) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

bpf_tc_opts filter() {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = kFilterHandle;
  options.priority = kFilterPriority;
  return options;
}

Result<void> detach_clsact(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  auto options = filter();
  const int code = bpf_tc_detach(&hook, &options);
  // ENOENT: no such filter; EINVAL: no clsact at all; ENODEV: no such interface.
  if (code < 0 && code != -ENOENT && code != -EINVAL && code != -ENODEV)
    return messages.failure(code, fmt::format("detach from interface number {}", ifindex));
  return {};
}

Result<std::uint32_t> clsact_program(std::uint32_t ifindex) {
  const LibbpfMessages messages;
  auto hook = hook_of(ifindex);
  auto options = filter();
  const int code = bpf_tc_query(&hook, &options);
  if (code == -ENOENT || code == -EINVAL || code == -ENODEV)
    return failure_errno(ENOENT, fmt::format("filter on interface number {}", ifindex));
  if (code < 0)
    return messages.failure(code, fmt::format("ask for the filter on interface number {}", ifindex));
  return options.prog_id;
}

}  // namespace

Result<bool> Attacher::uses_tcx(AttachMode mode) {
  const bool tcx = mode != AttachMode::kClsact && kernel_has_tcx();
  if (mode == AttachMode::kTcx && !tcx)
    return failure("this kernel has no tcx (Linux 6.6): attach with 'auto' or 'clsact'");
  return tcx;
}

Result<void> Attacher::attach(std::uint32_t ifindex, sluice_hook hook) const {
  const Program& program = programs_.at(hook);
  return tcx_ ? attach_tcx(ifindex, program) : attach_clsact(ifindex, program);
}

Result<void> Attacher::attach_tcx(std::uint32_t ifindex, const Program& program) const {
  const auto what = fmt::format("attach to interface number {} (tcx)", ifindex);
  const auto path = pins_.link(ifindex);
  auto pinned = open_link(path);
  if (!pinned && pinned.error().code != ENOENT) return tl::unexpected(pinned.error());
  if (pinned && pinned->ifindex == ifindex) {
    if (pinned->program_id == program.id) return {};
    if (const int code = bpf_link_update(pinned->fd.get(), program.fd.get(), nullptr); code < 0)
      return failure_errno(code, what);
    return {};
  }
  Fd link(bpf_link_create(program.fd.get(), static_cast<int>(ifindex), kTcxIngress, nullptr));
  if (!link) return failure_errno(errno, what);
  SLUICE_FAILURE_POINT("attach.link_created");
  if (auto done = Pins::put(link.get(), path); !done) return done;
  return detach_clsact(ifindex);  // of a daemon that was told to use clsact
}

Result<void> Attacher::attach_clsact(std::uint32_t ifindex, const Program& program) const {
  {
    const LibbpfMessages messages;
    auto hook = hook_of(ifindex);
    if (const int code = bpf_tc_hook_create(&hook); code < 0 && code != -EEXIST)
      return messages.failure(code, fmt::format("make the clsact qdisc of interface number {}", ifindex));
    auto options = filter();
    options.prog_fd = program.fd.get();
    options.flags = BPF_TC_F_REPLACE;
    if (const int code = bpf_tc_attach(&hook, &options); code < 0)
      return messages.failure(code, fmt::format("attach to interface number {} (clsact)", ifindex));
  }
  return Pins::remove(pins_.link(ifindex));  // of a daemon that used tcx
}

Result<void> Attacher::detach(std::uint32_t ifindex) const {
  if (auto done = Pins::remove(pins_.link(ifindex)); !done) return done;
  return tcx_ ? Result<void>() : detach_clsact(ifindex);
}

Result<void> Attacher::sweep() const {
  for (const auto ifindex : pins_.links()) {
    const auto link = open_link(pins_.link(ifindex));
    if (!link) return tl::unexpected(link.error());
    if (link->ifindex == ifindex) continue;
    if (auto done = Pins::remove(pins_.link(ifindex)); !done) return done;
  }
  return {};
}

Result<LinkStatus> Attacher::attached(std::uint32_t ifindex) const {
  LinkStatus status;
  status.ifindex = ifindex;
  if (tcx_) {
    auto link = open_link(pins_.link(ifindex));
    if (!link) return tl::unexpected(link.error());
    if (link->ifindex != ifindex)
      return failure_errno(ENOENT,
                           fmt::format("link pinned for interface number {}, which is gone", ifindex));
    status.link_id = link->id;
    status.program_id = link->program_id;
    return status;
  }
  auto program = clsact_program(ifindex);
  if (!program) return tl::unexpected(program.error());
  status.program_id = *program;
  return status;
}

Result<void> Attacher::verify(std::uint32_t ifindex, sluice_hook hook) const {
  auto status = attached(ifindex);
  if (!status) return tl::unexpected(status.error());
  const auto wanted = programs_.at(hook).id;
  if (status->program_id != wanted)
    return failure("interface number {} has program {} attached where program {} (entry_{}) should be",
                   ifindex, status->program_id, wanted, hook_name(hook));
  return {};
}

}  // namespace sluice::datapath
