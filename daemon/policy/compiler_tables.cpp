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

Tables::NamedPorts Compiler::State::named_ports_of_peers() const {
  Tables::NamedPorts resolved;
  const auto& name_uses = policies.name_uses();
  if (name_uses.empty()) return resolved;
  for (const auto& [atom, with_atom] : peers.index().with_atom) {
    const auto* port = std::get_if<NamedPort>(&atoms.content(atom));
    if (port == nullptr) continue;
    const auto use = name_uses.find({port->name, port->protocol});
    if (use == name_uses.end()) continue;
    for (const AtomId peer : use->second) {
      const auto used_by = [&](std::uint32_t peer_class) {
        return peer == kEveryone || std::ranges::binary_search(peers.content(peer_class), peer);
      };
      if (std::ranges::any_of(with_atom, used_by)) resolved[{peer, use->first}].insert(port->port);
    }
  }
  return resolved;
}

// False: they would take too much, and some policy is refused from now on.
bool Compiler::State::add_tables(Ruleset& ruleset) {
  const Tables::NamedPorts of_peers = named_ports_of_peers();
  NamespaceOfTable by_table, by_port_table;
  Usage words;
  tables.begin();
  for (const auto& [id, endpoint] : endpoints) {
    EndpointPolicy& policy = ruleset.endpoints[id];
    if (!endpoint.identity && !endpoint.is_pod) continue;
    // A pod that is not known has no rules, so nothing is admitted.
    static const Identity kUnknown{};
    const Identity& identity = endpoint.identity ? *endpoint.identity : kUnknown;
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
  if (policies.exceeds(words, limits.table_words, "words of ports by peers")) return false;
  return add_rows(by_table, ruleset) && add_port_classes(by_port_table, ruleset);
}

AtomsByNamespace Compiler::State::atoms_by_namespace() const {
  AtomsByNamespace by_namespace = policies.peers_by_namespace();
  for (const auto& [ns, names] : policies.names_by_namespace()) {
    AtomSet& of_ns = by_namespace[ns];
    for (const auto& [atom, with_atom] : peers.index().with_atom) {
      const auto* port = std::get_if<NamedPort>(&atoms.content(atom));
      if (port != nullptr && names.contains({port->name, port->protocol})) of_ns.push_back(atom);
    }
    std::ranges::sort(of_ns);
  }
  return by_namespace;
}

bool Compiler::State::add_rows(const NamespaceOfTable& by_table, Ruleset& ruleset) {
  const ClassIndex& index = peers.index();
  const auto charges = [&] { return RowCharges(by_table, tables, atoms_by_namespace(), index); };
  std::uint64_t admissions = 0;
  for (const auto& [table, ns] : by_table) admissions += tables.admissions(table, index);
  if (admissions > limits.admissions &&
      policies.exceeds(charges().admissions(), limits.admissions, "admissions of classes of peers"))
    return false;
  for (const auto& [table, ns] : by_table) tables.add_rows(table, index, ruleset.rows);
  return ruleset.rows.size() <= limits.rows ||
         !policies.exceeds(charges().rows(ruleset.rows), limits.rows, "rows");
}

bool Compiler::State::add_port_classes(const NamespaceOfTable& by_port_table, Ruleset& ruleset) {
  Usage usage;
  for (const auto& [table, ns] : by_port_table) {
    const std::size_t before = ruleset.port_classes.size();
    tables.add_port_classes(table, ruleset.port_classes);
    usage.add(ns, ruleset.port_classes.size() - before);
  }
  return !policies.exceeds(usage, limits.port_classes, "classes of ports");
}

void Compiler::State::sweep(const Ruleset& ruleset, unsigned kept) {
  std::unordered_set<AtomId> atoms_in_use;
  // Also of policies that are refused: they may not be for ever.
  policies.for_each_rule_in_force(
      [&](const CompiledRule& rule) { atoms_in_use.insert(rule.peers.begin(), rule.peers.end()); });
  for (const auto& [atom, with_atom] : peers.index().with_atom) atoms_in_use.insert(atom);
  std::unordered_set<std::uint32_t> tables_in_use;
  std::unordered_set<std::uint32_t> port_tables_in_use;
  for (const auto& [id, policy] : ruleset.endpoints) {
    tables_in_use.insert(policy.table.begin(), policy.table.end());
    port_tables_in_use.insert(policy.ports.begin(), policy.ports.end());
  }
  atoms.sweep(atoms_in_use, kept);
  peers.sweep(kept);
  tables.sweep(tables_in_use, port_tables_in_use, kept);
  grown = 0;
}

// None: some policy is refused from now on, without which it is to be made.
std::shared_ptr<const Ruleset> Compiler::State::make_ruleset(bool rules_changed) {
  auto made = std::make_shared<Ruleset>();
  if (rules_changed) {
    if (!add_tables(*made)) return nullptr;
    tables.end();
    made->refused = policies.refused();
  } else {
    *made = *last;
  }
  made->peers = peers.map();
  made->blocks = peers.blocks();
  for (auto& [id, policy] : made->endpoints) {
    const auto& endpoint = endpoints.at(id);
    if (endpoint.identity) policy.peer_class = class_of_all(*made, endpoint.pod->ips);
  }
  grown += tables.take_built() + policies.take_entered();
  if (++compiles % kCompilesBetweenSweeps == 0) sweep(*made, Atoms::kSweeps);
  if (grown > kMostGrowth) sweep(*made, 0);
  return made;
}

}  // namespace sluice::policy
