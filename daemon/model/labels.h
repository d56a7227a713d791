// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace sluice::model {

// The labels of an object, by key. A value whose copies share their memory: the pods of a Deployment have the
// same labels, and a cluster has a hundred thousand pods.
class Labels {
 public:
  using Map = std::map<std::string, std::string>;
  using value_type = Map::value_type;
  using const_iterator = Map::const_iterator;

  Labels() = default;
  Labels(std::initializer_list<value_type> labels) : Labels(Map(labels)) {}
  explicit Labels(Map labels) {
    if (!labels.empty()) map_ = std::make_shared<Map>(std::move(labels));
  }

  [[nodiscard]] const Map& map() const {
    static const Map kNone;
    return map_ ? *map_ : kNone;
  }
  [[nodiscard]] const_iterator begin() const { return map().begin(); }
  [[nodiscard]] const_iterator end() const { return map().end(); }
  [[nodiscard]] const_iterator find(const std::string& key) const { return map().find(key); }
  [[nodiscard]] bool contains(const std::string& key) const { return map().contains(key); }
  [[nodiscard]] const std::string& at(const std::string& key) const { return map().at(key); }
  [[nodiscard]] std::size_t size() const { return map().size(); }
  [[nodiscard]] bool empty() const { return map().empty(); }
  // Copies that there are stay as they are.
  std::string& operator[](const std::string& key) {
    if (!map_ || map_.use_count() > 1) map_ = std::make_shared<Map>(map());
    return (*map_)[key];
  }
  // Nobody else has this memory.
  [[nodiscard]] bool alone() const { return map_.use_count() <= 1; }

  bool operator==(const Labels& other) const { return map_ == other.map_ || map() == other.map(); }
  std::strong_ordering operator<=>(const Labels& other) const {
    return map_ == other.map_ ? std::strong_ordering::equal : map() <=> other.map();
  }

 private:
  std::shared_ptr<Map> map_;  // none: no labels
};

}  // namespace sluice::model
