// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/pinned.h"

#include <bpf/bpf.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <filesystem>

#include "daemon/datapath/pins.h"

namespace sluice::removal {

namespace {

namespace fs = std::filesystem;

Error error_at(const fs::path& path, const std::error_code& error) {
  return {fmt::format("remove {}: {}", path.string(), error.message()), error.value()};
}

// Without its pin the kernel detaches a link, too, but later: when it gets around to freeing it.
void detach(const fs::path& pin) {
  if (const auto fd = datapath::Pins::get(pin.string()); fd) bpf_link_detach(fd->get());
}

void remove_folder(const fs::path& folder, Report& report) {
  std::error_code error, ignored;
  std::vector<fs::path> pins;
  std::vector<fs::path> folders{folder};
  for (fs::recursive_directory_iterator i(folder, error), end; !error && i != end; i.increment(error))
    (i->is_directory(ignored) ? folders : pins).push_back(i->path());
  if (error == std::errc::no_such_file_or_directory) return;
  if (error) return report.failed(error_at(folder, error));
  const auto failures = report.failures();
  for (const auto& pin : pins) {
    detach(pin);
    if (fs::remove(pin, error); error) report.failed(error_at(pin, error));
  }
  // A folder stands before what is in it.
  std::ranges::reverse(folders);
  for (const auto& each : folders)
    if (fs::remove(each, error); error) report.failed(error_at(each, error));
  if (report.failures() == failures)
    report.removed(fmt::format("{} with {} pins", folder.string(), pins.size()));
}

}  // namespace

std::vector<std::string> Pinned::layouts() const {
  std::vector<std::string> paths;
  std::error_code error, ignored;
  for (fs::directory_iterator i(root_, error), end; !error && i != end; i.increment(error))
    if (i->is_directory(ignored)) paths.push_back(i->path().string());
  return paths;
}

void Pinned::remove(const std::string& folder, Report& report) const {
  for (const auto& layout : layouts()) remove_folder(layout + "/" + folder, report);
}

void Pinned::remove_rest(Report& report) const {
  struct statfs about {};
  if (statfs(bpffs_.c_str(), &about) != 0 || static_cast<std::uint64_t>(about.f_type) != BPF_FS_MAGIC)
    return report.failed(Error{
        fmt::format("{} is no BPF file system: what Sluice pinned there cannot be seen (--bpffs)", bpffs_)});
  remove_folder(root_, report);
}

}  // namespace sluice::removal
