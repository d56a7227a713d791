// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/removal.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "common/fd.h"
#include "common/paths.h"
#include "daemon/install/files.h"
#include "daemon/removal/files.h"
#include "daemon/removal/network.h"
#include "daemon/removal/pinned.h"

namespace sluice::removal {

namespace {

using Clock = std::chrono::steady_clock;

// A daemon that was told to end takes some seconds, and CNI ADD waits 5 s for one.
constexpr std::chrono::seconds kEndsWithin{15};

// No descriptor: there is nothing to lock. `in_use`: the error if somebody keeps the lock until the deadline.
Result<Fd> lock_within(const std::string& path, Clock::time_point deadline, const std::string& in_use) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? Result<Fd>(Fd()) : failure_errno(errno, "open " + path);
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failure_errno(errno, "lock " + path);
    if (Clock::now() >= deadline) return failure("{} is in use: {}", path, in_use);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return fd;
}

// What a daemon locks as long as it runs, and a CNI binary while it attaches a pod. None that comes later
// makes anything on this node.
Result<std::vector<Fd>> lock_all(const Pinned& pinned, const Places& places) {
  const auto deadline = Clock::now() + kEndsWithin;
  auto paths = pinned.layouts();
  paths.push_back(lock_of_socket(places.run_dir));
  std::vector<Fd> locks;
  for (const auto& path : paths) {
    auto locked =
        lock_within(path, deadline,
                    "a sluiced runs on this node, nothing was removed. Stop it first: by `helm uninstall`, "
                    "or by deleting its DaemonSet");
    if (!locked) return tl::unexpected(locked.error());
    locks.push_back(std::move(*locked));
  }
  auto locked =
      lock_within(deletions_folder(places.state_dir), deadline,
                  "a CNI call that attaches a pod does not end; nothing was removed. Try again (`fuser` "
                  "tells its process id)");
  if (!locked) return tl::unexpected(locked.error());
  locks.push_back(std::move(*locked));
  return locks;
}

}  // namespace

Result<void> remove_all(const Places& places) {
  const Pinned pinned(places.bpffs);
  const auto locks = lock_all(pinned, places);
  if (!locks) return tl::unexpected(locks.error());

  Report report;
  // Before all: the runtime must not call a daemon that does not come back.
  if (!places.cni_bin_dir.empty() && !places.cni_net_dir.empty()) {
    const auto files = install::remove_node_files(places.cni_bin_dir, places.cni_net_dir);
    if (!files) report.failed(files.error());
    for (const auto& path : files.value_or(std::vector<std::string>())) report.removed(path);
  }
  // First what leads processes of the node to backends that are about to lose their network.
  pinned.remove("sockets", report);
  auto netlink = NetlinkSocket::make();
  if (netlink) {
    remove_pod_links(*netlink, report);
    pinned.remove("links", report);
    remove_filters(*netlink, report);
    remove_rules_and_routes(*netlink, report);
    remove_devices(*netlink, report);
  } else {
    report.failed(netlink.error());
  }
  pinned.remove_rest(report);
  remove_files(places, report);

  if (report.failures() != 0)
    return failure("{} of the things to remove are still there, see above; the others are gone",
                   report.failures());
  if (report.removals() == 0)
    spdlog::info("there was nothing to remove");
  else
    spdlog::info(
        "everything of Sluice's is removed{}",
        places.cni_net_dir.empty() ? ", but for the files in the folders of CNI (--cni-conf-dir)" : "");
  return {};
}

}  // namespace sluice::removal
