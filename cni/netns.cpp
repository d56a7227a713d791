// SPDX-License-Identifier: Apache-2.0
#include "cni/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>

namespace sluice::cni {

Result<NetworkNamespace> NetworkNamespace::open(const std::string& path) {
  // O_NONBLOCK: should the path be a FIFO, nothing waits for its other end.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return failure_errno(errno, path);
  if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) return failure("{} is not a network namespace", path);
  struct stat theirs {};
  struct stat own {};
  if (fstat(fd.get(), &theirs) != 0) return failure_errno(errno, path);
  if (stat("/proc/thread-self/ns/net", &own) != 0) return failure_errno(errno, "/proc/thread-self/ns/net");
  if (theirs.st_dev == own.st_dev && theirs.st_ino == own.st_ino)
    return failure("{} is the network namespace that the plugin itself was started in", path);
  return NetworkNamespace(std::move(fd), path);
}

Result<void> NetworkNamespace::enter() const {
  if (setns(fd_.get(), CLONE_NEWNET) != 0) return failure_errno(errno, "enter " + path_);
  return {};
}

}  // namespace sluice::cni
