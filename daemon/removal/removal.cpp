// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/removal.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <vector>

#include "common/fd.h"
#include "daemon/removal/files.h"
#include "daemon/removal/network.h"
#include "daemon/removal/pinned.h"

namespace sluice::removal {

namespace {

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

}  // namespace

Result<void> remove_all(const Places& places) {
  const Pinned pinned(places.bpffs);
  auto paths = pinned.layouts();
  paths.push_back(lock_of_socket(places.run_dir));
  const auto locks = lock(paths);
  if (!locks) return tl::unexpected(locks.error());

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
