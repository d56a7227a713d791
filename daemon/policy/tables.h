// SPDX-License-Identifier: Apache-2.0
// Tables: what an endpoint admits in one direction, in terms of atoms and port classes, and the rows made of
// it.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/compiled_policy.h"
#include "daemon/policy/interner.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/port_classes.h"
#include "daemon/policy/ruleset.h"

namespace sluice::policy {

// A peer of which both atoms are true (0: always true) is admitted at the port classes whose bits are set.
struct TableEntry {
  AtomId peer = kEveryone;
  AtomId named_port = kEveryone;
  std::vector<std::uint64_t> bits;
  auto operator<=>(const TableEntry&) const = default;
};

// Says nothing of classes: what happens to peers elsewhere in the cluster leaves it as it is.
struct Table {
  std::uint32_t port_table = 0;    // 0: port_runs tell the class of every port
  std::vector<PortRun> port_runs;  // SLUICE_PORT_RUNS at most
  std::vector<TableEntry> entries;
  auto operator<=>(const Table&) const = default;
};

// The classes in use, by the atoms in them.
struct ClassIndex {
  std::vector<std::uint32_t> all;  // sorted, with 0
  std::unordered_map<AtomId, std::vector<std::uint32_t>> with_atom;
};

// The classes that `entry` is about; none if it is about anybody.
[[nodiscard]] std::vector<std::uint32_t> classes_of(const TableEntry& entry, const ClassIndex& index);

class Tables {
 public:
  // The numbers that named ports stand for: the endpoint's own for ingress (the same for every peer), or for
  // egress those of the peers in use.
  using NamedPorts = std::map<NameUse, std::set<std::uint16_t>>;

  Tables(std::uint32_t first_table, std::uint32_t first_port_table, const Limits& limits)
      : most_words_(limits.table_words), tables_(first_table), port_tables_(first_port_table) {}

  // Between begin() and end(), what was built before for the same rules is found again; what is not asked for
  // between the last begin() and end() is forgotten.
  void begin() { cached_before_.merge(std::exchange(cached_, {})); }
  void end() { cached_before_.clear(); }
  // The table of the rules of `policies` (by serial) in `direction`. No value: it would be too large
  // (limits.h).
  [[nodiscard]] std::optional<std::uint32_t> number_of(int direction,
                                                       const std::vector<const CompiledPolicy*>& policies,
                                                       const NamedPorts& named_ports, Atoms& atoms);
  [[nodiscard]] const Table& table(std::uint32_t number) const { return tables_.content(number); }

  // What limits.h counts.
  [[nodiscard]] std::uint64_t words(std::uint32_t table) const;
  [[nodiscard]] std::uint64_t pages(std::uint32_t table) const;  // rows of a class
  [[nodiscard]] std::uint64_t admissions(std::uint32_t table, const ClassIndex& classes) const;

  void add_port_classes(std::uint32_t port_table, std::map<PortKey, std::uint32_t>& port_classes) const;
  void add_rows(std::uint32_t table, const ClassIndex& classes, std::map<RowKey, Row>& rows) const;

  // See Interner.
  void sweep(const std::unordered_set<std::uint32_t>& tables,
             const std::unordered_set<std::uint32_t>& port_tables, unsigned kept);
  // Words and port classes of the tables that were built since the last call.
  [[nodiscard]] std::uint64_t take_built() { return std::exchange(built_, 0); }

 private:
  // direction, serials of the policies, and what their named ports stand for: all that a table is made of.
  using Key = std::vector<std::uint32_t>;

  [[nodiscard]] std::optional<std::uint32_t> build(int direction,
                                                   const std::vector<const CompiledPolicy*>& policies,
                                                   const NamedPorts& named_ports, Atoms& atoms);

  std::uint64_t most_words_;
  std::uint64_t built_ = 0;
  Interner<Table> tables_;
  Interner<std::vector<PortPrefix>> port_tables_;
  std::map<Key, std::uint32_t> cached_;
  std::map<Key, std::uint32_t> cached_before_;
};

}  // namespace sluice::policy
