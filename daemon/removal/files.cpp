// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/files.h"

#include <filesystem>

#include "common/paths.h"

namespace sluice::removal {

namespace {

namespace fs = std::filesystem;

void remove_tree(const std::string& path, Report& report) {
  constexpr int kTries = 10;
  std::error_code error;
  std::uintmax_t count = 0;
  // A CNI binary that is under way may write beside this. Once the folder itself is gone, it cannot.
  for (int tries = 0; tries == 0 || (tries < kTries && error == std::errc::directory_not_empty); ++tries)
    count = fs::remove_all(path, error);
  if (error)
    report.failed(Error{fmt::format("remove {}: {}", path, error.message()), error.value()});
  else if (count != 0)
    report.removed(path);
}

void remove_if_empty(const std::string& folder, Report& report) {
  std::error_code error;
  if (!fs::is_empty(folder, error) || error) return;
  const bool gone = fs::remove(folder, error);
  // In a container the node's folder is mounted here, below a root that may be read-only.
  if (error && error != std::errc::device_or_resource_busy && error != std::errc::read_only_file_system)
    report.failed(Error{fmt::format("remove {}: {}", folder, error.message()), error.value()});
  else if (gone)
    report.removed(folder);
}

std::string socket_in(const std::string& run_dir) { return run_dir + "/sluice.sock"; }

}  // namespace

std::string lock_of_socket(const std::string& run_dir) { return socket_in(run_dir) + ".lock"; }

void remove_files(const Places& places, Report& report) {
  const auto socket = socket_in(places.run_dir);
  for (const auto& path : {places.run_dir + "/attachments", deletions_folder(places.state_dir), socket,
                           socket + ".new", lock_of_socket(places.run_dir)})
    remove_tree(path, report);
  for (const auto& folder : {places.run_dir, places.state_dir}) remove_if_empty(folder, report);
}

}  // namespace sluice::removal
