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
#include "daemon/removal/files.h"
#include "daemon/removal/network.h"
#include "daemon/removal/pinned.h"

namespace sluice::removal {

namespace {

constexpr std::chrono::seconds kCniCallsEndWithin{15};  // CNI ADD waits 5 s for a daemon

// What a daemon locks as long as it runs.
Result<std::vector<Fd>> lock(const std::vector<std::string>& paths) {
  std::vector<Fd> locks;
  for (const auto& path : paths) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return failure_errno(errno, "open " + path);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return failure_errno(errno, "lock " + path);
      return failure(
          "{} is in use: a sluiced runs on this node, nothing was removed. Stop it first: by `helm upgrade … "
          "--set removal=true`, by `helm uninstall`, or by deleting its DaemonSet",
          path);
    }
    locks.push_back(std::move(fd));
  }
  return locks;
}

// A CNI binary that attaches a pod has the folder locked. None that comes later makes anything on this node.
Result<Fd> wait_for_cni_calls(const std::string& folder) {
  Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? Result<Fd>(Fd()) : failure_errno(errno, "open " + folder);
  const auto deadline = std::chrono::steady_clock::now() + kCniCallsEndWithin;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failure_errno(errno, "lock " + folder);
    if (std::chrono::steady_clock::now() >= deadline)
      return failure(
          "a CNI call that attaches a pod holds {} and does not end; nothing was removed. Try again (`fuser "
          "{}` tells its process id)",
          folder, folder);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return fd;
}

}  // namespace

Result<void> remove_all(const Places& places) {
  const Pinned pinned(places.bpffs);
  auto paths = pinned.layouts();
  paths.push_back(lock_of_socket(places.run_dir));
  const auto locks = lock(paths);
  if (!locks) return tl::unexpected(locks.error());
  const auto no_calls = wait_for_cni_calls(deletions_folder(places.state_dir));
  if (!no_calls) return tl::unexpected(no_calls.error());

  Report report;
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
    spdlog::info("everything of Sluice's is removed, but for the files in the folders of CNI");
  return {};
}

}  // namespace sluice::removal
