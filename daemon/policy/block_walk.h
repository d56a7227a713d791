// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/address.h"
#include "daemon/policy/atom.h"

namespace sluice::policy {

// Lists are Blocks. Here they are numbered by their place in the AtomSet that names them.
struct BlockMention {  // of a prefix, by a block of a list
  Prefix prefix;
  std::uint32_t list = 0;
  std::uint32_t block = 0;  // number of the block among all
  bool except = false;
};

struct BlockMentions {
  // IPv6, IPv4; by prefix. Apart, since in the 128-bit form an IPv6 prefix such as ::/0 holds the IPv4-mapped
  // addresses too, which are no IPv6 addresses.
  std::array<std::vector<BlockMention>, 2> of_family;
  std::uint32_t lists = 0;
  std::uint32_t blocks = 0;
};

[[nodiscard]] BlockMentions mentions_of(const AtomSet& lists, const Atoms& atoms);

// Counts distinct prefixes, by sorting: nobody can make that take long by the addresses that they choose.
// More than `most` are not counted: to sort all that hostile policies name would take seconds.
class PrefixCounter {
 public:
  explicit PrefixCounter(std::uint64_t most) : most_(most) {}
  // False: there are more than the most.
  bool add(const model::IpBlock& block);
  // Sorted, distinct.
  [[nodiscard]] const std::vector<Prefix>& prefixes();

 private:
  std::uint64_t most_;
  std::uint64_t new_ = 0;  // since the last count
  std::vector<Prefix> prefixes_;
};

// The prefixes that the lists name, sorted; some more than `most`, if there are more.
[[nodiscard]] std::vector<Prefix> prefixes_of(const AtomSet& lists, const Atoms& atoms, std::uint64_t most);

// Lists that hold each of the prefixes that they name, in all. More than `most` are not counted.
[[nodiscard]] std::uint64_t count_memberships(const AtomSet& lists, const Atoms& atoms, std::uint64_t most);

// Goes through prefixes of one family from the outer to the inner ones and knows at each which lists hold it.
// A step costs what the prefix itself changes, not what is around it. Calls toggle(list) when a list begins
// or ceases to hold; toggles are undone by leave().
template <typename Toggle>
class BlockWalk {
 public:
  BlockWalk(const BlockMentions& mentions, bool is_v4, Toggle toggle)
      : mentions_(mentions.of_family[is_v4 ? 1 : 0]),
        blocks_(mentions.blocks),
        holding_(mentions.lists),
        toggle_(std::move(toggle)) {}

  // The first prefix that is mentioned and was not entered; nullptr: all were.
  [[nodiscard]] const Prefix* next() const {
    return next_ == mentions_.size() ? nullptr : &mentions_[next_].prefix;
  }
  // Each in the order of a map, where all that a prefix contains follows it. None that is mentioned may be
  // left out; others may be entered, too.
  void enter(const Prefix& prefix) {
    while (!path_.empty() && !mentions_[path_.back().first].prefix.contains(prefix)) leave_one();
    const std::size_t first = next_;
    while (next_ < mentions_.size() && mentions_[next_].prefix == prefix) change(mentions_[next_++], 1);
    if (next_ > first) path_.push_back({first, next_});
  }
  void leave() {
    while (!path_.empty()) leave_one();
  }

 private:
  struct Block {
    std::uint32_t inside = 0;    // 1: within its CIDR
    std::uint32_t excepted = 0;  // within so many of its exceptions
    [[nodiscard]] bool holds() const { return inside > 0 && excepted == 0; }
  };
  struct Step {
    std::size_t first = 0, end = 0;  // its mentions
  };

  void leave_one() {
    for (std::size_t i = path_.back().first; i < path_.back().end; ++i) change(mentions_[i], -1);
    path_.pop_back();
  }

  void change(const BlockMention& mention, int by) {
    Block& block = blocks_[mention.block];
    const bool before = block.holds();
    (mention.except ? block.excepted : block.inside) += static_cast<std::uint32_t>(by);
    if (block.holds() == before) return;
    std::uint32_t& holding = holding_[mention.list];
    const bool held = holding > 0;
    holding += before ? -1U : 1U;
    if ((holding > 0) != held) toggle_(mention.list);
  }

  const std::vector<BlockMention>& mentions_;
  std::size_t next_ = 0;
  std::vector<Block> blocks_;
  std::vector<std::uint32_t> holding_;  // by list: how many of its blocks hold
  std::vector<Step> path_;
  Toggle toggle_;
};

}  // namespace sluice::policy
