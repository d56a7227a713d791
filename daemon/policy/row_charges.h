// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/policy/charges.h"
#include "daemon/policy/refusals.h"
#include "daemon/policy/ruleset.h"
#include "daemon/policy/tables.h"

namespace sluice::policy {

// By number; a table that namespaces share is one's of them.
using NamespaceOfTable = std::map<std::uint32_t, std::string_view>;

// Rows are made by two sides: a table, and those whose rules tell its peers apart. Each row is charged to the
// one that weighs more (charges.h).
class RowCharges {
 public:
  // `atoms`: what the rules of each namespace say of peers.
  RowCharges(const NamespaceOfTable& by_table, const Tables& tables, const AtomsByNamespace& atoms,
             const ClassIndex& index);

  [[nodiscard]] Usage admissions() const;
  [[nodiscard]] Usage rows(const std::map<RowKey, Row>& rows) const;

 private:
  using ByRank = std::vector<std::uint64_t>;

  [[nodiscard]] std::size_t heaviest_of(std::uint32_t peer_class) const;
  [[nodiscard]] Usage usage(const ByRank& charged) const;

  const NamespaceOfTable& by_table_;
  const Tables& tables_;
  const ClassIndex& index_;
  std::vector<std::string_view> names_;  // by rank: by weight, the lightest first
  std::map<std::string_view, std::size_t> rank_;
  // Of those whose rules say something of the class.
  std::unordered_map<std::uint32_t, std::size_t> heaviest_;
};

}  // namespace sluice::policy
