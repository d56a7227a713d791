// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/block_walk.h"

#include <algorithm>

#include "daemon/policy/sort_runs.h"

namespace sluice::policy {

BlockMentions mentions_of(const AtomSet& lists, const Atoms& atoms) {
  BlockMentions mentions;
  for (const AtomId list : lists) {
    const auto add = [&](const Prefix& prefix, bool except) {
      mentions.of_family[prefix.is_v4() ? 1 : 0].push_back({prefix, mentions.lists, mentions.blocks, except});
    };
    for (const auto& block : std::get<Blocks>(atoms.content(list)).any_of) {
      add(block.cidr, false);
      for (const auto& except : block.except) add(except, true);
      ++mentions.blocks;
    }
    ++mentions.lists;
  }
  for (auto& family : mentions.of_family) sort_runs(family, &BlockMention::prefix);
  return mentions;
}

bool PrefixCounter::add(const model::IpBlock& block) {
  prefixes_.push_back(block.cidr);
  prefixes_.insert(prefixes_.end(), block.except.begin(), block.except.end());
  new_ += 1 + block.except.size();
  // As often as they may have become twice as many.
  return prefixes_.size() <= most_ || new_ <= most_ / 2 || prefixes().size() <= most_;
}

const std::vector<Prefix>& PrefixCounter::prefixes() {
  new_ = 0;
  sort_runs(prefixes_);
  prefixes_.erase(std::unique(prefixes_.begin(), prefixes_.end()), prefixes_.end());
  return prefixes_;
}

std::vector<Prefix> prefixes_of(const AtomSet& lists, const Atoms& atoms, std::uint64_t most) {
  PrefixCounter counter(most);
  for (const AtomId list : lists)
    for (const auto& block : std::get<Blocks>(atoms.content(list)).any_of)
      if (!counter.add(block)) return counter.prefixes();
  return counter.prefixes();
}

std::uint64_t count_memberships(const AtomSet& lists, const Atoms& atoms, std::uint64_t most) {
  const BlockMentions mentions = mentions_of(lists, atoms);
  std::vector<bool> holds(lists.size());
  std::uint64_t holding = 0, count = 0;
  for (const bool is_v4 : {false, true}) {
    BlockWalk walk(mentions, is_v4, [&](std::uint32_t list) {
      holds[list] = !holds[list];
      holding += holds[list] ? 1 : -std::uint64_t{1};
    });
    while (walk.next() != nullptr && count <= most) {
      walk.enter(*walk.next());
      count += holding;
    }
    walk.leave();
  }
  return count;
}

}  // namespace sluice::policy
