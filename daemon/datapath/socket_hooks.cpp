// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/socket_hooks.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <optional>

#include "common/fault_point.h"

namespace sluice::datapath {

namespace {

constexpr std::array<bpf_attach_type, kSocketPrograms.size()> kAttachTypes{
    BPF_CGROUP_INET4_CONNECT,    BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_UDP4_SENDMSG,
    BPF_CGROUP_UDP4_RECVMSG,     BPF_CGROUP_UDP6_RECVMSG,  BPF_CGROUP_INET4_GETPEERNAME,
    BPF_CGROUP_INET6_GETPEERNAME};

// 0: this kernel does not tell (before 5.14).
Result<std::uint64_t> netns_cookie() {
  constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return failure_errno(errno, "make a socket");
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (getsockopt(socket.get(), SOL_SOCKET, kNetnsCookie, &cookie, &length) == 0) return cookie;
  if (errno == ENOPROTOOPT) return 0;
  return failure_errno(errno, "ask for the cookie of the network namespace");
}

bool is_cgroup2(const std::string& path) {
  struct statfs about {};
  return statfs(path.c_str(), &about) == 0 && static_cast<std::uint64_t>(about.f_type) == CGROUP2_SUPER_MAGIC;
}

struct CgroupLink {
  Fd fd;
  std::uint32_t program_id = 0;
  std::uint64_t cgroup_id = 0;  // 0: the cgroup is gone, or the link was detached
};

Result<CgroupLink> open_link(const std::string& path) {
  auto fd = Pins::get(path);
  if (!fd) return tl::unexpected(fd.error());
  bpf_link_info info{};
  std::uint32_t length = sizeof info;
  if (const int code = bpf_obj_get_info_by_fd(fd->get(), &info, &length); code < 0)
    return failure_errno(code, "ask the kernel about " + path);
  return CgroupLink{std::move(*fd), info.prog_id, info.cgroup.cgroup_id};
}

}  // namespace

Result<SocketHooks::Cgroup> SocketHooks::open_cgroup() const {
  if (cgroup_.empty()) return failure("switched off (--cgroup none)");
  Cgroup cgroup;
  for (const auto& path : {cgroup_, cgroup_ + "/unified"})
    if (cgroup.path.empty() && is_cgroup2(path)) cgroup.path = path;
  if (cgroup.path.empty()) return failure("{} is no cgroup v2 and has none in 'unified' (--cgroup)", cgroup_);
  cgroup.fd.reset(::open(cgroup.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.fd) return failure_errno(errno, "open " + cgroup.path);
  struct stat about {};
  if (fstat(cgroup.fd.get(), &about) != 0) return failure_errno(errno, "look at " + cgroup.path);
  cgroup.id = about.st_ino;
  return cgroup;
}

Result<std::string> SocketHooks::amiss(std::size_t index, const Cgroup& cgroup) const {
  const auto* hook = kSocketPrograms[index];
  const auto link = open_link(pins_.socket_link(hook));
  if (!link && link.error().code == ENOENT)
    return fmt::format("{} of cgroup {} has no program of Sluice's", hook, cgroup.path);
  if (!link) return tl::unexpected(link.error());
  if (link->cgroup_id != cgroup.id) return fmt::format("{} of cgroup {} was detached", hook, cgroup.path);
  if (link->program_id != programs_[index].id)
    return fmt::format("{} of cgroup {} has program {} attached where program {} should be", hook,
                       cgroup.path, link->program_id, programs_[index].id);
  return "";
}

Result<void> SocketHooks::attach(std::size_t index, const Cgroup& cgroup) const {
  const auto path = pins_.socket_link(kSocketPrograms[index]);
  const int program = programs_[index].fd.get();
  if (const auto link = open_link(path); link && link->cgroup_id == cgroup.id) {
    if (const int code = bpf_link_update(link->fd.get(), program, nullptr); code < 0)
      return failure_errno(code, fmt::format("replace {} of cgroup {}", kSocketPrograms[index], cgroup.path));
    return {};
  }
  const Fd link(bpf_link_create(program, cgroup.fd.get(), kAttachTypes[index], nullptr));
  if (!link)
    return failure_errno(errno, fmt::format("attach {} to cgroup {}", kSocketPrograms[index], cgroup.path));
  SLUICE_FAULT_POINT("sockets.link_made");
  return Pins::put(link.get(), path);
}

Result<void> SocketHooks::detach() const {
  for (const auto* hook : kSocketPrograms)
    if (auto done = Pins::remove(pins_.socket_link(hook)); !done) return done;
  return {};
}

Result<void> SocketHooks::adopt(const Settings& settings) {
  const auto cookie = netns_cookie();
  if (!cookie) return tl::unexpected(cookie.error());
  if (auto done = settings.change([&](sluice_config& config) { config.netns_cookie = *cookie; }); !done)
    return done;
  const auto cgroup = open_cgroup();
  if (!cgroup) {
    status_.why_not = cgroup.error().message;
    spdlog::warn(
        "Services are translated packet by packet for the node's own processes, which reach no node ports "
        "by that: {}",
        status_.why_not);
    return detach();
  }
  for (std::size_t i = 0; i < kSocketPrograms.size(); ++i) {
    const auto wrong = amiss(i, *cgroup);
    if (!wrong) return tl::unexpected(wrong.error());
    if (wrong->empty()) continue;
    if (auto done = attach(i, *cgroup); !done) return done;
    SLUICE_FAULT_POINT("sockets.attached");
  }
  status_.cgroup = cgroup->path;
  return {};
}

Result<void> SocketHooks::restore() const {
  if (status_.cgroup.empty()) return {};
  const auto cgroup = open_cgroup();
  if (!cgroup) return tl::unexpected(cgroup.error());
  for (std::size_t i = 0; i < kSocketPrograms.size(); ++i) {
    const auto wrong = amiss(i, *cgroup);
    if (!wrong) return tl::unexpected(wrong.error());
    if (wrong->empty()) continue;
    if (auto done = attach(i, *cgroup); !done) return done;
    spdlog::error("{}: attached again; find out who detaches Sluice's programs", *wrong);
  }
  return {};
}

Result<void> SocketHooks::audit(std::vector<std::string>& differences) const {
  if (status_.cgroup.empty()) return {};
  const auto cgroup = open_cgroup();
  if (!cgroup) return tl::unexpected(cgroup.error());
  for (std::size_t i = 0; i < kSocketPrograms.size(); ++i) {
    const auto wrong = amiss(i, *cgroup);
    if (!wrong) return tl::unexpected(wrong.error());
    if (!wrong->empty()) differences.push_back("sockets: " + *wrong);
  }
  return {};
}

}  // namespace sluice::datapath
