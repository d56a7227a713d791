// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <map>

#include "common/address.h"

namespace sluice::datapath {

// Finds in a sorted map of prefixes the longest that contains another, as the kernel's LPM trie does. Refers
// to the map; knows the lengths that were in it when it was made.
template <typename V>
class LongestPrefix {
 public:
  explicit LongestPrefix(const std::map<Prefix, V>& prefixes) : prefixes_(prefixes) {
    for (const auto& [prefix, value] : prefixes) lengths_.set(prefix.bits());
  }
  // nullptr: none contains it.
  [[nodiscard]] const V* find(const Prefix& prefix) const {
    for (unsigned bits = prefix.bits() + 1; bits-- > 0;) {
      if (!lengths_.test(bits)) continue;
      const auto found = prefixes_.find(Prefix(prefix.address(), bits));
      if (found != prefixes_.end()) return &found->second;
    }
    return nullptr;
  }

 private:
  const std::map<Prefix, V>& prefixes_;
  std::bitset<129> lengths_;
};

}  // namespace sluice::datapath
