// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "daemon/policy/atom.h"

namespace sluice::policy {

// The ipBlocks in force, cut at every prefix that one of them names: an address is in what its longest prefix
// is in.
class BlockIndex {
 public:
  struct Cost {
    std::uint64_t prefixes = 0;     // distinct
    std::uint64_t memberships = 0;  // atoms that are true at each of them
  };
  // Each is counted until it is more than the most, memberships only if the prefixes are not: to see that
  // there are too many takes no longer than the most would.
  [[nodiscard]] static Cost cost(const AtomSet& blocks, const Atoms& atoms, const Cost& most);

  // `in_force` (sorted) are Blocks.
  void set(const AtomSet& in_force, const Atoms& atoms);

  // Number of the set of atoms that are true of `address`; 0 is the empty set.
  [[nodiscard]] std::uint32_t set_of(const Address& address) const;
  [[nodiscard]] const AtomSet& blocks(std::uint32_t set) const { return sets_[set]; }
  [[nodiscard]] const std::map<Prefix, std::uint32_t>& prefixes() const { return prefixes_; }

 private:
  std::map<Prefix, std::uint32_t> prefixes_;  // -> index of sets_
  std::vector<AtomSet> sets_{AtomSet()};
};

}  // namespace sluice::policy
