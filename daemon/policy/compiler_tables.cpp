// SPDX-License-Identifier: Apache-2.0
// From classes to tables and rows.
#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "daemon/policy/compiler_state.h"

namespace sluice::policy {

namespace {

constexpr unsigned kCompilesBetweenSweeps = 256;
constexpr std::uint64_t kMostGrowth = 250'000;  // then what is not in use is not kept for later

// Which of the pod's addresses is the endpoint's is not known here.
std::optional<std::uint32_t> class_of_all(const Ruleset& ruleset, const std::vector<Address>& addresses) {
  std::optional<std::uint32_t> common;
  for (const auto& address : addresses) {
    const std::uint32_t peer_class = ruleset.class_of(address);
    if (common.value_or(peer_class) != peer_class) return std::nullopt;
    common = peer_class;
  }
  return common;
}

}  // namespace

ClassIndex Compiler::State::index_classes(const Ruleset& ruleset) const {
  std::unordered_set<std::uint32_t> in_use{0};
  for (const auto& [address, peer_class] : ruleset.peers) in_use.insert(peer_class);
  for (const auto& [prefix, peer_class] : ruleset.blocks) in_use.insert(peer_class);
  ClassIndex index;
  index.all.assign(in_use.begin(), in_use.end());
  std::ranges::sort(index.all);
  for (const std::uint32_t peer_class : index.all) {
    if (peer_class == 0) continue;
    for (const AtomId atom : classes.content(peer_class)) index.with_atom[atom].push_back(peer_class);
  }
  return index;
}

Tables::NamedPorts Compiler::State::named_ports_of_peers(const ClassIndex& index) const {
  Tables::NamedPorts resolved;
  for (const auto& [atom, with_atom] : index.with_atom) {
    const auto* port = std::get_if<NamedPort>(&atoms.content(atom));
    if (port == nullptr) continue;
    const auto use = name_uses.find({port->name, port->protocol});
    if (use == name_uses.end()) continue;
    for (const AtomId peer : use->second) {
      const auto used_by = [&](std::uint32_t peer_class) {
        return peer == kEveryone || std::ranges::binary_search(classes.content(peer_class), peer);
      };
      if (std::ranges::any_of(with_atom, used_by)) resolved[{peer, use->first}].insert(port->port);
    }
  }
  return resolved;
}

// False: they would take too much, and some policy is refused from now on.
bool Compiler::State::add_tables(const ClassIndex& index, Ruleset& ruleset) {
  const Tables::NamedPorts of_peers = named_ports_of_peers(index);
  Sharers by_table, by_port_table;
  Usage words;
  tables.begin();
  for (const auto& [id, endpoint] : endpoints) {
    EndpointPolicy& policy = ruleset.endpoints[id];
    if (!endpoint.identity && !endpoint.is_pod) continue;
    // A pod that is not known has no rules, so nothing is admitted.
    static const Identity kUnknown{};
    const Identity& identity = endpoint.identity ? *endpoint.identity : kUnknown;
    if (endpoint.identity) policy.peer_class = class_of_all(ruleset, endpoint.pod->ips);
    Tables::NamedPorts own;
    for (const auto& port : identity.ports)
      own[{kEveryone, {port.name, static_cast<std::uint8_t>(port.protocol)}}].insert(port.port);
    for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
      const auto isolates = [&](const CompiledPolicy* source) { return source->isolates(direction); };
      if (endpoint.identity && std::ranges::none_of(identity.selected_by, isolates)) continue;
      (direction == SLUICE_INGRESS ? policy.isolated_ingress : policy.isolated_egress) = true;
      const auto& named_ports = direction == SLUICE_INGRESS ? own : of_peers;
      const auto number = tables.number_of(direction, identity.selected_by, named_ports, atoms);
      if (!number) {
        words.add(identity.ns, limits.table_words + 1);
        continue;
      }
      policy.table[direction] = *number;
      const Table& table = tables.table(*number);
      policy.ports[direction] = table.port_table;
      policy.port_runs[direction] = table.port_runs;
      if (by_table.emplace(*number, identity.ns).second) words.add(identity.ns, tables.words(*number));
      if (table.port_table != 0) by_port_table.emplace(table.port_table, identity.ns);
    }
  }
  if (refusals.exceeds(words, limits.table_words, "words of ports by peers")) return false;
  return add_rows(index, by_table, by_port_table, ruleset);
}

bool Compiler::State::add_rows(const ClassIndex& index, const Sharers& by_table, const Sharers& by_port_table,
                               Ruleset& ruleset) {
  Usage admissions;
  for (const auto& [table, ns] : by_table) admissions.add(ns, tables.admissions(table, index));
  if (refusals.exceeds(admissions, limits.admissions, "admissions of classes of peers")) return false;
  Usage rows, port_classes;
  for (const auto& [table, ns] : by_table) {
    const std::size_t before = ruleset.rows.size();
    tables.add_rows(table, index, ruleset.rows);
    rows.add(ns, ruleset.rows.size() - before);
  }
  for (const auto& [table, ns] : by_port_table) {
    const std::size_t before = ruleset.port_classes.size();
    tables.add_port_classes(table, ruleset.port_classes);
    port_classes.add(ns, ruleset.port_classes.size() - before);
  }
  return !refusals.exceeds(rows, limits.rows, "rows") &&
         !refusals.exceeds(port_classes, limits.port_classes, "classes of ports");
}

void Compiler::State::sweep(const ClassIndex& index, const Ruleset& ruleset, unsigned kept) {
  std::unordered_set<AtomId> atoms_in_use;
  for (const auto& policy : policies)  // also those that are refused: they may not be for ever
    for (const auto& rules : policy.compiled->rules)
      for (const auto& rule : rules) atoms_in_use.insert(rule.peers.begin(), rule.peers.end());
  for (const auto& [atom, with_atom] : index.with_atom) atoms_in_use.insert(atom);
  std::unordered_set<std::uint32_t> tables_in_use;
  std::unordered_set<std::uint32_t> port_tables_in_use;
  for (const auto& [id, policy] : ruleset.endpoints) {
    tables_in_use.insert(policy.table.begin(), policy.table.end());
    port_tables_in_use.insert(policy.ports.begin(), policy.ports.end());
  }
  atoms.sweep(atoms_in_use, kept);
  classes.sweep({index.all.begin(), index.all.end()}, kept);
  tables.sweep(tables_in_use, port_tables_in_use, kept);
  forget_classes_of_identities();
  grown = 0;
}

// None: some policy is refused from now on, without which it is to be made.
std::shared_ptr<const Ruleset> Compiler::State::make_ruleset() {
  auto ruleset = std::make_shared<Ruleset>();
  add_peers(*ruleset);
  const ClassIndex index = index_classes(*ruleset);
  if (!add_tables(index, *ruleset)) return nullptr;
  tables.end();
  ruleset->refused = refusals.reasons();
  grown += tables.take_built();
  if (++compiles % kCompilesBetweenSweeps == 0) sweep(index, *ruleset, Atoms::kSweeps);
  if (grown > kMostGrowth) sweep(index, *ruleset, 0);
  return ruleset;
}

}  // namespace sluice::policy
