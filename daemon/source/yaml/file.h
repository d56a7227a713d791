// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
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
    bool stands_in = false;  // for a policy that cannot be used (model::closed_policy())
  };

  // Takes the content if it changed.
  void update(std::string content);
  void unreadable(const std::string& why);

  [[nodiscard]] const std::string& name() const { return name_; }
  // Every document of it could be told apart, once at least.
  [[nodiscard]] bool known() const { return known_; }
  [[nodiscard]] const std::map<model::ObjectKey, Entry>& entries() const { return entries_; }
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }  // "x.yaml:3: …"
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void parse();
  std::optional<std::string> keep_or_close(const nlohmann::json& object, int line,
                                           std::map<model::ObjectKey, Entry>& entries);

  std::string name_;
  std::string content_;
  bool seen_ = false;
  bool known_ = false;
  std::map<model::ObjectKey, Entry> entries_;
  std::vector<std::string> problems_;
  std::vector<std::string> warnings_;
};

}  // namespace sluice::source
