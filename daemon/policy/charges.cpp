// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/charges.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "daemon/policy/block_walk.h"
#include "daemon/policy/sort_runs.h"

namespace sluice::policy {

namespace {

// Prefixes that one list weighs as much as. With 512 a namespace of 30 lists and 15,000 prefixes is charged
// for half of what there is room for at most because of a lighter one.
constexpr std::uint64_t kWeightOfList = 512;

// In by_namespace prefixes are counted in these parts, so that those who name the same share it.
constexpr std::uint64_t kWholePrefix = 1'000'000;

// Namespaces by weight, the lightest first.
std::vector<std::string_view> ranked(const AtomsByNamespace& lists, const Atoms& atoms,
                                     const Limits& limits) {
  std::vector<std::pair<std::uint64_t, std::string_view>> weights;
  for (const auto& [ns, of_ns] : lists)
    weights.emplace_back(prefixes_of(of_ns, atoms, limits.prefixes).size() + kWeightOfList * of_ns.size(),
                         ns);
  std::ranges::sort(weights);
  std::vector<std::string_view> names;
  for (const auto& [weight, ns] : weights) names.push_back(ns);
  return names;
}

}  // namespace

Usage charge_prefixes(const AtomsByNamespace& lists, const Atoms& atoms, const Limits& limits) {
  std::vector<std::pair<Prefix, std::string_view>> named;
  for (const auto& [ns, of_ns] : lists)
    for (const Prefix& prefix : prefixes_of(of_ns, atoms, limits.prefixes)) named.emplace_back(prefix, ns);
  sort_runs(named);
  Usage usage;
  for (auto it = named.begin(); it != named.end();) {
    const auto first = it;
    while (it != named.end() && it->first == first->first) ++it;
    const auto share = kWholePrefix / static_cast<std::uint64_t>(it - first);
    std::for_each(first, it, [&](const auto& each) { usage.by_namespace[each.second] += share; });
    ++usage.total;
  }
  return usage;
}

Usage charge_memberships(const AtomsByNamespace& lists, const Atoms& atoms, const Limits& limits) {
  const auto names = ranked(lists, atoms, limits);
  std::map<AtomId, std::size_t> heaviest_user;  // of each list; an index of `names`
  for (std::size_t rank = 0; rank < names.size(); ++rank)
    for (const AtomId list : lists.at(names[rank])) heaviest_user[list] = rank;
  AtomSet all;
  std::vector<std::size_t> rank_of;  // by place in `all`
  for (const auto& [list, rank] : heaviest_user) {
    all.push_back(list);
    rank_of.push_back(rank);
  }

  std::vector<std::uint64_t> charged(names.size()), holding(names.size());  // by rank
  std::vector<bool> holds(all.size());
  const auto toggle = [&](std::uint32_t list) {
    holds[list] = !holds[list];
    holding[rank_of[list]] += holds[list] ? 1 : -std::uint64_t{1};
  };
  const BlockMentions mentions = mentions_of(all, atoms);
  for (const bool is_v4 : {false, true}) {
    const auto& of_family = mentions.of_family[is_v4 ? 1 : 0];
    BlockWalk walk(mentions, is_v4, toggle);
    for (auto it = of_family.begin(); it != of_family.end();) {
      const Prefix& prefix = it->prefix;
      walk.enter(prefix);
      std::size_t heaviest_namer = 0;
      for (; it != of_family.end() && it->prefix == prefix; ++it)
        heaviest_namer = std::max(heaviest_namer, rank_of[it->list]);
      for (std::size_t rank = 0; rank < names.size(); ++rank)
        charged[std::max(rank, heaviest_namer)] += holding[rank];
    }
    walk.leave();
  }
  Usage usage;
  for (std::size_t rank = 0; rank < names.size(); ++rank) usage.add(names[rank], charged[rank]);
  return usage;
}

}  // namespace sluice::policy
