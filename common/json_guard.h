// SPDX-License-Identifier: Apache-2.0
// What a JSON text that a person wrote must not have: nesting so deep that copying the document would exhaust
// the stack, and keys that stand twice, of which another reader may count the other one.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace sluice {

// A callback of json::parse() (pass it by std::ref); what it found first is to be asked afterwards. Nothing
// is kept from there on.
class JsonGuard {
 public:
  explicit JsonGuard(int depth_most) : depth_most_(depth_most) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > depth_most_ && !repeated_key_) too_deep_ = true;
    if (too_deep_ || repeated_key_) return false;
    const auto level = static_cast<std::size_t>(depth);
    if (keys_.size() <= level + 1) keys_.resize(level + 2);
    if (event == Event::object_start) keys_[level + 1].clear();
    if (event == Event::key) {
      auto key = parsed.get<std::string>();
      if (!keys_[level].insert(key).second) repeated_key_ = std::move(key);
    }
    return !repeated_key_;
  }
  [[nodiscard]] bool too_deep() const { return too_deep_; }
  [[nodiscard]] const std::optional<std::string>& repeated_key() const { return repeated_key_; }

 private:
  const int depth_most_;
  std::vector<std::set<std::string>> keys_;  // by depth
  bool too_deep_ = false;
  std::optional<std::string> repeated_key_;
};

}  // namespace sluice
