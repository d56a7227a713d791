// SPDX-License-Identifier: Apache-2.0
#include "cni/deletions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "cni/daemon.h"
#include "common/fault_point.h"
#include "common/fd.h"
#include "common/guard.h"

namespace sluice::cni {

namespace {

Result<void> write_and_sync(const std::string& path, std::string_view text) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return failure_errno(errno, path);
  SLUICE_FAULT_POINT("cni.queue.part_made");
  while (!text.empty()) {
    const auto count = write(fd.get(), text.data(), text.size());
    if (count < 0 && errno != EINTR) return failure_errno(errno, path);
    if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
  }
  if (fsync(fd.get()) != 0) return failure_errno(errno, path);
  return {};
}

Result<void> sync_folder(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) return failure_errno(errno, path);
  return {};
}

}  // namespace

std::string Deletions::path_of(const AttachmentKey& key) const {
  return fmt::format("{}/{}_{}.json", folder_, key.container_id, key.ifname);
}

Result<Fd> Deletions::hold() const {
  Fd fd(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return failure_errno(errno, folder_);
  if (flock(fd.get(), LOCK_SH | LOCK_NB) != 0)
    return failure_errno(errno == EWOULDBLOCK ? ENOENT : errno, folder_);  // about to go
  struct stat held {};
  struct stat there {};
  if (fstat(fd.get(), &held) != 0 || stat(folder_.c_str(), &there) != 0) return failure_errno(errno, folder_);
  // It may have gone before it was locked.
  if (held.st_dev != there.st_dev || held.st_ino != there.st_ino) return failure_errno(ENOENT, folder_);
  return fd;
}

Result<void> Deletions::add(const AttachmentKey& key) const {
  // Not *.json until it is whole; the process id keeps two DELs of the same attachment apart.
  const auto part = fmt::format("{}.{}.part", path_of(key), getpid());
  Guard remove_part([&] { unlink(part.c_str()); });
  if (auto written = write_and_sync(part, dump(to_json(key)) + "\n"); !written) return written;
  SLUICE_FAULT_POINT("cni.queue.part_written");
  if (rename(part.c_str(), path_of(key).c_str()) != 0) return failure_errno(errno, path_of(key));
  remove_part.dismiss();
  SLUICE_FAULT_POINT("cni.queue.renamed");
  return sync_folder(folder_);
}

bool Deletions::contains(const AttachmentKey& key) const { return access(path_of(key).c_str(), F_OK) == 0; }

Result<void> Deletions::remove(const AttachmentKey& key) const {
  if (unlink(path_of(key).c_str()) != 0 && errno != ENOENT) return failure_errno(errno, path_of(key));
  return {};
}

}  // namespace sluice::cni
