// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "common/address.h"

namespace sluice::policy {

// Prefix -> class, as a value whose copies share their memory until one of them is changed: rulesets follow
// each other at each change of a pod, and hardly ever have other blocks than the one before.
class BlockClasses {
 public:
  using Map = std::map<Prefix, std::uint32_t>;

  [[nodiscard]] const Map& map() const { return *map_; }
  operator const Map&() const { return map(); }
  [[nodiscard]] Map::const_iterator begin() const { return map().begin(); }
  [[nodiscard]] Map::const_iterator end() const { return map().end(); }
  [[nodiscard]] std::size_t size() const { return map().size(); }
  [[nodiscard]] bool empty() const { return map().empty(); }
  [[nodiscard]] bool contains(const Prefix& prefix) const { return map().contains(prefix); }
  [[nodiscard]] Map::const_iterator find(const Prefix& prefix) const { return map().find(prefix); }

  // Nobody else has it from then on.
  [[nodiscard]] Map& own() {
    if (map_.use_count() > 1) map_ = std::make_shared<Map>(*map_);
    return *map_;
  }
  [[nodiscard]] std::uint32_t& operator[](const Prefix& prefix) { return own()[prefix]; }
  void erase(const Prefix& prefix) { own().erase(prefix); }

 private:
  std::shared_ptr<Map> map_ = std::make_shared<Map>();
};

}  // namespace sluice::policy
