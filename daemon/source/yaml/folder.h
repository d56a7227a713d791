// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/source/source.h"
#include "daemon/source/yaml/file.h"

namespace sluice::source {

// All files of the folder. scan() compares with what the sink was told and tells it the difference, so that a
// change that went unnoticed is made good by the next scan.
class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}

  struct Scanned {
    std::size_t changed_kinds = 0;
    std::vector<std::string> problems;
    // Nothing was told: a file that nothing is known of may hold policies, and what is in force from before
    // this process must not give way to less.
    bool held = false;
  };
  // An error: the folder cannot be listed; nothing changes then.
  [[nodiscard]] Result<Scanned> scan(Sink& sink);

 private:
  Result<std::vector<std::string>> list() const;
  void read(const std::string& name);

  std::string path_;
  std::map<std::string, File> files_;  // by name: the first to name an object has it
  std::array<std::vector<model::Object>, model::kKinds> told_;
  bool told_once_ = false;
  std::set<std::string> reported_;
};

}  // namespace sluice::source
