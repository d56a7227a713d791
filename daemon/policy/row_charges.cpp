// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/row_charges.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace sluice::policy {

namespace {

// Kinds of peers that one page of a table, which is a row for each of them, weighs as much as. With 8 a
// namespace of 60 pages and 480 kinds is charged for half of what there is room for at most because of a
// lighter one.
constexpr std::uint64_t kWeightOfPage = 8;

const std::vector<std::uint32_t>* classes_with(AtomId atom, const ClassIndex& index) {
  const auto found = index.with_atom.find(atom);
  return found == index.with_atom.end() ? nullptr : &found->second;
}

// How many kinds of peers these atoms tell apart.
std::uint64_t kinds_of(const AtomSet& atoms, const ClassIndex& index) {
  std::unordered_map<std::uint32_t, std::uint32_t> kinds;  // of classes; 0: none of the atoms is true of them
  std::unordered_map<std::uint64_t, std::uint32_t> numbers;  // of kinds, by kind without an atom, atom
  for (const AtomId atom : atoms) {
    const auto* classes = classes_with(atom, index);
    if (classes == nullptr) continue;
    for (const std::uint32_t peer_class : *classes) {
      std::uint32_t& kind = kinds[peer_class];
      kind = numbers
                 .try_emplace(static_cast<std::uint64_t>(kind) << 32 | atom,
                              static_cast<std::uint32_t>(numbers.size() + 1))
                 .first->second;
    }
  }
  std::unordered_set<std::uint32_t> distinct;
  for (const auto& [peer_class, kind] : kinds) distinct.insert(kind);
  return distinct.size();
}

}  // namespace

RowCharges::RowCharges(const NamespaceOfTable& by_table, const Tables& tables, const AtomsByNamespace& atoms,
                       const ClassIndex& index)
    : by_table_(by_table), tables_(tables), index_(index) {
  std::map<std::string_view, std::uint64_t> weights;
  for (const auto& [table, ns] : by_table) weights[ns] += kWeightOfPage * tables.pages(table);
  for (const auto& [ns, of_ns] : atoms) weights[ns] += kinds_of(of_ns, index);
  for (const auto& [ns, weight] : weights) names_.push_back(ns);
  std::ranges::stable_sort(names_, {}, [&](std::string_view ns) { return weights.at(ns); });
  for (std::size_t rank = 0; rank < names_.size(); ++rank) {
    rank_.emplace(names_[rank], rank);
    const auto of_ns = atoms.find(names_[rank]);
    if (of_ns == atoms.end()) continue;
    for (const AtomId atom : of_ns->second)
      if (const auto* classes = classes_with(atom, index); classes != nullptr)
        for (const std::uint32_t peer_class : *classes) heaviest_[peer_class] = rank;
  }
}

Usage RowCharges::admissions() const {
  // Many tables may have entries for the same peers: their classes are looked at once. Most peers are told
  // apart by few namespaces: what is kept of them is the ranks that there are and the number of classes.
  std::map<std::pair<AtomId, AtomId>, std::vector<std::pair<std::size_t, std::uint64_t>>> classes_of_peers;
  ByRank charged(names_.size());
  for (const auto& [table, ns] : by_table_) {
    const std::size_t owner = rank_.at(ns);
    const std::uint64_t pages = tables_.pages(table);
    for (const auto& entry : tables_.table(table).entries) {
      const auto [classes, is_new] = classes_of_peers.try_emplace({entry.peer, entry.named_port});
      if (is_new) {
        std::map<std::size_t, std::uint64_t> by_rank;
        for (const std::uint32_t peer_class : classes_of(entry, index_)) ++by_rank[heaviest_of(peer_class)];
        classes->second.assign(by_rank.begin(), by_rank.end());
      }
      for (const auto& [rank, count] : classes->second) charged[std::max(rank, owner)] += pages * count;
    }
  }
  return usage(charged);
}

Usage RowCharges::rows(const std::map<RowKey, Row>& rows) const {
  ByRank charged(names_.size());
  for (const auto& [key, row] : rows) {
    const std::size_t owner = rank_.at(by_table_.at(key.table));
    ++charged[std::max(owner, heaviest_of(key.peer_class))];
  }
  return usage(charged);
}

// The lightest of all, where no rule says anything of the class.
std::size_t RowCharges::heaviest_of(std::uint32_t peer_class) const {
  const auto found = heaviest_.find(peer_class);
  return found == heaviest_.end() ? 0 : found->second;
}

Usage RowCharges::usage(const ByRank& charged) const {
  Usage result;
  for (std::size_t rank = 0; rank < names_.size(); ++rank) result.add(names_[rank], charged[rank]);
  return result;
}

}  // namespace sluice::policy
