// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/model/objects.h"

namespace sluice::source {

// One file of the folder and what it says. What cannot be read leaves in force what it said before.
class File {
 public:
  explicit File(std::string name) : name_(std::move(name)) {}

  struct Entry {
    model::Object object;
    int line = 1;
  };

  // Takes the content if it changed.
  void update(std::string content);
  void unreadable(const std::string& why);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::map<model::ObjectKey, Entry>& entries() const { return entries_; }
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }  // "x.yaml:3: …"
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void parse();

  std::string name_;
  std::string content_;
  bool seen_ = false;
  std::map<model::ObjectKey, Entry> entries_;
  std::vector<std::string> problems_;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::source
