// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/block_walk.h"
#include "daemon/policy/sort_runs.h"

namespace sluice::policy {

// The lists of ipBlocks in force, cut at every prefix that one of them names: an address is in the lists that
// its longest prefix is in. Whether a list holds a prefix depends on that list alone. So a list that comes or
// goes changes the prefixes within its CIDRs, and no other list is looked at.
class BlockIndex {
 public:
  BlockIndex() = default;
  BlockIndex(const BlockIndex&) = delete;
  BlockIndex& operator=(const BlockIndex&) = delete;

  struct Cost {
    std::uint64_t prefixes = 0;     // distinct
    std::uint64_t memberships = 0;  // lists that hold each of them
  };
  // Takes lists out and puts others in. Returns what all that are in cost then. Where that is more than
  // `most`, nothing has changed, and what is returned is counted only until it was more.
  [[nodiscard]] Cost change(const AtomSet& removed, const AtomSet& added, const Atoms& atoms,
                            const Cost& most);

  // nullptr: none contains it.
  [[nodiscard]] const Prefix* longest(const Address& address) const;
  // Number of the set of lists that hold `address`; 0 is the empty set. A number that is out of use may be
  // given again once prefixes have changed.
  [[nodiscard]] std::uint32_t set_of(const Address& address) const;
  [[nodiscard]] const AtomSet& lists(std::uint32_t set) const { return *sets_[set].lists; }

  // visit(prefix, set), in order, for all that may have changed since the last call: that came (a pointer to
  // its set), went (nullptr) or has another set.
  template <typename Visit>
  void for_each_changed(Visit&& visit) {
    sort_runs(changed_);
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    auto node = nodes_.begin();
    for (const Prefix& prefix : std::exchange(changed_, {})) {
      node = place_of(prefix, node);
      const bool there = node != nodes_.end() && node->first == prefix;
      if (there) node->second.changed = false;
      visit(prefix, there ? &std::as_const(node->second.set) : nullptr);
    }
  }

 private:
  struct Node {
    std::uint32_t named = 0;  // by so many blocks and exceptions; 0: on its way out
    std::uint32_t set = 0;
    bool changed = false;  // in changed_
  };
  using Nodes = std::map<Prefix, Node>;
  struct Set {
    const AtomSet* lists = nullptr;  // of numbers_; nullptr: the number is free
    std::uint32_t uses = 0;          // by nodes
  };
  struct Change;  // see blocks.cpp

  [[nodiscard]] Nodes::iterator place_of(const Prefix& prefix, Nodes::iterator near);
  [[nodiscard]] Nodes::const_iterator longest(const Prefix& prefix) const;
  Nodes::iterator name(const Prefix& prefix, std::uint32_t by, Nodes::iterator near);
  [[nodiscard]] std::uint64_t name_all(const Change& change, bool added, std::uint32_t by,
                                       std::uint64_t mentions, std::uint64_t most);
  void walk(Change& change, bool is_v4, std::uint64_t most);
  void commit(const Change& change);
  void remove_unnamed(const Change& change);
  void mark(const Prefix& prefix, Node& node);
  [[nodiscard]] std::uint32_t number(AtomSet&& lists);
  void use(std::uint32_t set, std::uint32_t by);
  void forget_unused();

  Nodes nodes_;
  std::array<std::array<std::uint32_t, 129>, 2> lengths_{};  // IPv6, IPv4: nodes of each length
  Cost cost_;
  std::map<AtomSet, std::uint32_t> numbers_{{AtomSet(), 0}};
  std::vector<Set> sets_{{&numbers_.begin()->first, 1}};
  std::vector<std::uint32_t> free_numbers_, maybe_unused_;
  std::vector<Prefix> changed_;
};

}  // namespace sluice::policy
