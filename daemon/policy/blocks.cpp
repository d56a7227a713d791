// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/blocks.h"

#include <algorithm>
#include <array>
#include <set>

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

namespace {

struct Mention {  // of a prefix, by a block of an atom
  AtomId atom = 0;
  std::uint32_t block = 0;  // number of the block among all
  bool except = false;
};

struct Cuts {
  std::map<Prefix, std::vector<Mention>> prefixes;
  std::uint32_t blocks = 0;
};

Cuts cut(const AtomSet& in_force, const Atoms& atoms) {
  Cuts cuts;
  for (const AtomId atom : in_force) {
    for (const auto& block : std::get<Blocks>(atoms.content(atom)).any_of) {
      cuts.prefixes[block.cidr].push_back({atom, cuts.blocks, false});
      for (const auto& except : block.except) cuts.prefixes[except].push_back({atom, cuts.blocks, true});
      ++cuts.blocks;
    }
  }
  // In the 128-bit form an IPv6 prefix such as ::/0 holds the IPv4-mapped addresses too, which are no IPv6
  // addresses.
  const Prefix all_ipv4(Address::from_v4(0), SLUICE_V4_PREFIX_BITS);
  const bool around_ipv4 = std::ranges::any_of(cuts.prefixes, [&](const auto& entry) {
    return !entry.first.is_v4() && entry.first.contains(all_ipv4);
  });
  if (around_ipv4) cuts.prefixes.try_emplace(all_ipv4);
  return cuts;
}

// Sees it as soon as it is so: to cut all that hostile policies name would take seconds. By sorting, whose
// time nobody can make long by the addresses that they choose.
bool more_prefixes_than(std::uint64_t most, const AtomSet& in_force, const Atoms& atoms) {
  constexpr std::size_t kFirstLook = 4096;
  std::vector<Prefix> named;
  std::size_t next_look = kFirstLook;
  const auto look = [&] {
    std::ranges::sort(named);
    named.erase(std::unique(named.begin(), named.end()), named.end());
    next_look = 2 * named.size() + kFirstLook;
    return named.size() > most;
  };
  for (const AtomId atom : in_force) {
    for (const auto& block : std::get<Blocks>(atoms.content(atom)).any_of) {
      named.push_back(block.cidr);
      named.insert(named.end(), block.except.begin(), block.except.end());
      if (named.size() >= next_look && look()) return true;
    }
  }
  return look();
}

// Walks the prefixes from the outer to the inner ones and knows at each what is true there. A step costs what
// the prefix itself changes, not what is around it.
class WalkOfFamily {
 public:
  explicit WalkOfFamily(std::size_t blocks) : blocks_(blocks) {}

  // In the order of a map: all that a prefix contains follows it.
  const std::set<AtomId>& enter(const Prefix& prefix, const std::vector<Mention>& mentions) {
    while (!path_.empty() && !path_.back().prefix.contains(prefix)) leave();
    path_.push_back({prefix, &mentions});
    for (const auto& mention : mentions) change(mention, 1);
    return true_;
  }

 private:
  struct Block {
    int inside = 0;    // 1: within its CIDR
    int excepted = 0;  // within so many of its exceptions
    [[nodiscard]] bool holds() const { return inside > 0 && excepted == 0; }
  };
  struct Step {
    Prefix prefix;
    const std::vector<Mention>* mentions = nullptr;
  };

  void leave() {
    for (const auto& mention : *path_.back().mentions) change(mention, -1);
    path_.pop_back();
  }

  void change(const Mention& mention, int by) {
    Block& block = blocks_[mention.block];
    const bool before = block.holds();
    (mention.except ? block.excepted : block.inside) += by;
    if (block.holds() == before) return;
    int& holding = holding_[mention.atom];
    const bool was_true = holding > 0;
    holding += before ? -1 : 1;
    if ((holding > 0) == was_true) return;
    if (was_true)
      true_.erase(mention.atom);
    else
      true_.insert(mention.atom);
  }

  std::vector<Block> blocks_;
  std::map<AtomId, int> holding_;  // number of the atom's blocks that hold
  std::vector<Step> path_;
  std::set<AtomId> true_;
};

class Walk {
 public:
  explicit Walk(const Cuts& cuts) : families_{WalkOfFamily(cuts.blocks), WalkOfFamily(cuts.blocks)} {}
  const std::set<AtomId>& enter(const Prefix& prefix, const std::vector<Mention>& mentions) {
    return families_[prefix.is_v4() ? 1 : 0].enter(prefix, mentions);
  }

 private:
  std::array<WalkOfFamily, 2> families_;
};

}  // namespace

BlockIndex::Cost BlockIndex::cost(const AtomSet& blocks, const Atoms& atoms, const Cost& most) {
  if (more_prefixes_than(most.prefixes, blocks, atoms)) return {most.prefixes + 1, 0};
  const Cuts cuts = cut(blocks, atoms);
  Cost cost{cuts.prefixes.size(), 0};
  Walk walk(cuts);
  for (const auto& [prefix, mentions] : cuts.prefixes) {
    cost.memberships += walk.enter(prefix, mentions).size();
    if (cost.memberships > most.memberships) break;
  }
  return cost;
}

void BlockIndex::set(const AtomSet& in_force, const Atoms& atoms) {
  const Cuts cuts = cut(in_force, atoms);
  std::map<AtomSet, std::uint32_t> numbers{{AtomSet(), 0}};
  sets_.assign(1, AtomSet());
  prefixes_.clear();
  Walk walk(cuts);
  for (const auto& [prefix, mentions] : cuts.prefixes) {
    const auto& here = walk.enter(prefix, mentions);
    const auto [it, added] =
        numbers.try_emplace(AtomSet(here.begin(), here.end()), static_cast<std::uint32_t>(sets_.size()));
    if (added) sets_.push_back(it->first);
    prefixes_.emplace_hint(prefixes_.end(), prefix, it->second);
  }
}

std::uint32_t BlockIndex::set_of(const Address& address) const {
  const auto prefix = longest_match(prefixes_, address);
  return prefix == prefixes_.end() ? 0 : prefix->second;
}

}  // namespace sluice::policy
