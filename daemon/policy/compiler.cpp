// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/compiler.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <unordered_set>
#include <utility>

#include "daemon/policy/atom.h"
#include "daemon/policy/blocks.h"
#include "daemon/policy/compiled_policy.h"
#include "daemon/policy/follow.h"
#include "daemon/policy/identities.h"
#include "daemon/policy/tables.h"

namespace sluice::policy {

namespace {

constexpr unsigned kCompilesBetweenSweeps = 256;

bool is_peer(const model::Pod& pod) { return !pod.host_network && !pod.finished && !pod.ips.empty(); }

bool selects(const CompiledPolicy& policy, const Identity& identity) {
  return policy.source->ns == identity.ns && policy.source->pod_selector.matches(identity.labels);
}

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

struct Compiler::State {
  struct KnownPod {
    std::shared_ptr<const model::Pod> source;
    std::shared_ptr<Identity> identity;  // none: no peer
  };

  struct KnownPolicy {
    std::shared_ptr<const model::NetworkPolicy> source;
    std::unique_ptr<CompiledPolicy> compiled;
  };

  struct KnownEndpoint {
    std::shared_ptr<const model::Pod> pod;
    std::shared_ptr<Identity> identity;
    bool is_pod = false;  // without an identity: a pod that is not known, which is closed
  };

  struct PeerAddress {
    Address address;
    Identity* identity = nullptr;
    std::uint32_t block_set = 0;
  };

  explicit State(const FirstNumbers& first)
      : classes(first.peer_class), tables(first.table, first.port_table) {}

  bool follow_policies(const Cluster& cluster);
  bool follow_pods(const Cluster& cluster);
  bool follow_endpoints(const Cluster& cluster);
  void choose_locals();
  void choose_atoms();
  void find_block_sets();
  void forget_classes_of_identities();
  [[nodiscard]] std::uint32_t class_of(Identity& identity, std::uint32_t block_set);
  void add_peers(Ruleset& ruleset);
  [[nodiscard]] ClassIndex index_classes(const Ruleset& ruleset) const;
  [[nodiscard]] Tables::NamedPorts named_ports_of_peers(const ClassIndex& index) const;
  void add_tables(const ClassIndex& index, Ruleset& ruleset);
  void sweep(const ClassIndex& index, const Ruleset& ruleset);

  Atoms atoms{kEveryone + 1};
  Interner<AtomSet> classes;
  Tables tables;
  Identities identities;
  BlockIndex blocks;

  std::vector<KnownPolicy> policies;
  std::vector<KnownPod> pods;
  std::map<std::uint32_t, KnownEndpoint> endpoints;
  std::vector<PeerAddress> addresses;  // of `pods`
  std::set<Identity*> locals;          // of `endpoints`
  AtomSet predicates, ip_blocks;       // in force
  std::set<NameUse> name_uses;         // of egress rules in force
  std::uint32_t next_serial = 1;
  unsigned compiles = 0;
  std::shared_ptr<const Ruleset> last;
};

bool Compiler::State::follow_policies(const Cluster& cluster) {
  std::vector<KnownPolicy> removed;
  std::vector<const CompiledPolicy*> added;
  const auto make = [&](const std::shared_ptr<const model::NetworkPolicy>& source) {
    auto compiled = std::make_unique<CompiledPolicy>();
    compiled->source = source;
    compiled->serial = next_serial++;
    added.push_back(compiled.get());
    return KnownPolicy{source, std::move(compiled)};
  };
  if (!follow(cluster.policies, policies, removed, make)) return false;
  for (Identity* local : locals) {
    for (const auto& policy : removed) std::erase(local->selected_by, policy.compiled.get());
    for (const auto* policy : added) {  // serials count up: the list stays in their order
      if (selects(*policy, *local)) local->selected_by.push_back(policy);
    }
  }
  return true;
}

bool Compiler::State::follow_pods(const Cluster& cluster) {
  std::vector<KnownPod> removed;
  const auto make = [&](const std::shared_ptr<const model::Pod>& pod) {
    return KnownPod{pod, is_peer(*pod) ? identities.of(*pod) : nullptr};
  };
  if (!follow(cluster.pods, pods, removed, make)) return false;
  addresses.clear();
  for (const auto& pod : pods) {
    if (!pod.identity) continue;
    for (const auto& address : pod.source->ips) addresses.push_back({address, pod.identity.get(), 0});
  }
  return true;
}

bool Compiler::State::follow_endpoints(const Cluster& cluster) {
  std::map<std::uint32_t, KnownEndpoint> now;
  bool changed = cluster.endpoints.size() != endpoints.size();
  for (const auto& [id, endpoint] : cluster.endpoints) {
    const auto pod = cluster.pods.find(endpoint.key());
    KnownEndpoint known{pod == cluster.pods.end() ? nullptr : pod->second, nullptr, !endpoint.pod.empty()};
    const auto before = endpoints.find(id);
    if (before != endpoints.end() && before->second.pod == known.pod &&
        before->second.is_pod == known.is_pod) {
      known.identity = before->second.identity;
    } else {
      changed = true;
      if (known.pod) known.identity = identities.of(*known.pod);
    }
    now.emplace_hint(now.end(), id, std::move(known));
  }
  if (!changed) return false;
  endpoints.swap(now);
  choose_locals();
  return true;
}

void Compiler::State::choose_locals() {
  std::set<Identity*> now;
  for (const auto& [id, endpoint] : endpoints) {
    if (endpoint.identity) now.insert(endpoint.identity.get());
  }
  for (Identity* local : locals) {
    if (!now.contains(local)) local->selected_by.clear();
  }
  std::vector<const CompiledPolicy*> by_serial;
  for (const auto& policy : policies) by_serial.push_back(policy.compiled.get());
  std::ranges::sort(by_serial, {}, &CompiledPolicy::serial);
  for (Identity* local : now) {
    if (locals.contains(local)) continue;
    for (const auto* policy : by_serial) {
      if (selects(*policy, *local)) local->selected_by.push_back(policy);
    }
  }
  locals.swap(now);
}

// What the policies that select a pod of this node say of peers; nothing else makes classes.
void Compiler::State::choose_atoms() {
  std::unordered_set<const CompiledPolicy*> selecting;
  for (const Identity* local : locals) selecting.insert(local->selected_by.begin(), local->selected_by.end());
  std::set<AtomId> now;
  std::set<NameUse> uses;
  for (auto& policy : policies) {
    CompiledPolicy& compiled = *policy.compiled;
    const bool in_force = selecting.contains(&compiled);
    if (in_force && !compiled.in_force) compiled.enter(atoms);
    if (!in_force && compiled.in_force) compiled.leave();
    for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
      for (const auto& rule : compiled.rules[direction]) now.insert(rule.peers.begin(), rule.peers.end());
    }
    uses.insert(compiled.name_uses[SLUICE_EGRESS].begin(), compiled.name_uses[SLUICE_EGRESS].end());
  }
  now.erase(kEveryone);
  predicates.clear();
  AtomSet ip_blocks_now;
  for (const AtomId atom : now)
    (std::holds_alternative<PodPredicate>(atoms.content(atom)) ? predicates : ip_blocks_now).push_back(atom);
  identities.set_predicates(predicates, atoms);
  if (ip_blocks != ip_blocks_now) {
    ip_blocks.swap(ip_blocks_now);
    blocks.set(ip_blocks, atoms);
    find_block_sets();
    forget_classes_of_identities();
  }
  if (name_uses != uses) {
    name_uses.swap(uses);
    forget_classes_of_identities();
  }
}

void Compiler::State::find_block_sets() {
  for (auto& peer : addresses) peer.block_set = blocks.set_of(peer.address);
}

void Compiler::State::forget_classes_of_identities() {
  identities.for_each([](Identity& identity) { identity.classes.clear(); });
}

std::uint32_t Compiler::State::class_of(Identity& identity, std::uint32_t block_set) {
  const auto known =
      std::ranges::find(identity.classes, block_set, &std::pair<std::uint32_t, std::uint32_t>::first);
  if (known != identity.classes.end()) return known->second;
  AtomSet set;
  std::ranges::merge(identity.atoms, blocks.blocks(block_set), std::back_inserter(set));
  AtomSet named;
  for (const auto& [peer, name] : name_uses) {
    if (peer != kEveryone && !std::ranges::binary_search(set, peer)) continue;
    for (const auto& port : identity.ports) {
      const auto protocol = static_cast<std::uint8_t>(port.protocol);
      if (port.name == name.name && protocol == name.protocol)
        named.push_back(atoms.number(NamedPort{port.name, protocol, port.port}));
    }
  }
  set.insert(set.end(), named.begin(), named.end());
  std::ranges::sort(set);
  set.erase(std::unique(set.begin(), set.end()), set.end());
  const std::uint32_t number = set.empty() ? 0 : classes.number(set);
  identity.classes.emplace_back(block_set, number);
  return number;
}

void Compiler::State::add_peers(Ruleset& ruleset) {
  ruleset.peers.reserve(addresses.size());
  // Of two pods with one address the first by name has it, in the evaluator too.
  for (const auto& peer : addresses)
    ruleset.peers.try_emplace(peer.address, class_of(*peer.identity, peer.block_set));
  for (const auto& [prefix, set] : blocks.prefixes()) {
    const AtomSet& members = blocks.blocks(set);
    ruleset.blocks.emplace_hint(ruleset.blocks.end(), prefix, members.empty() ? 0 : classes.number(members));
  }
}

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
    for (const auto& use : name_uses) {
      if (use.second != PortName{port->name, port->protocol}) continue;
      const auto used_by = [&](std::uint32_t peer_class) {
        return use.first == kEveryone || std::ranges::binary_search(classes.content(peer_class), use.first);
      };
      if (std::ranges::any_of(with_atom, used_by)) resolved[use].insert(port->port);
    }
  }
  return resolved;
}

void Compiler::State::add_tables(const ClassIndex& index, Ruleset& ruleset) {
  const Tables::NamedPorts of_peers = named_ports_of_peers(index);
  std::set<std::uint32_t> used;
  std::set<std::uint32_t> used_port_tables;
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
      policy.table[direction] = tables.number_of(direction, identity.selected_by, named_ports, atoms);
      const Table& table = tables.table(policy.table[direction]);
      policy.ports[direction] = table.port_table;
      policy.port_runs[direction] = table.port_runs;
      used.insert(policy.table[direction]);
      used_port_tables.insert(policy.ports[direction]);
    }
  }
  tables.end();
  for (const std::uint32_t table : used) tables.add_rows(table, index, ruleset.rows);
  for (const std::uint32_t table : used_port_tables) tables.add_port_classes(table, ruleset.port_classes);
}

void Compiler::State::sweep(const ClassIndex& index, const Ruleset& ruleset) {
  std::unordered_set<AtomId> atoms_in_use(predicates.begin(), predicates.end());
  atoms_in_use.insert(ip_blocks.begin(), ip_blocks.end());
  for (const auto& [atom, with_atom] : index.with_atom) atoms_in_use.insert(atom);
  std::unordered_set<std::uint32_t> tables_in_use;
  std::unordered_set<std::uint32_t> port_tables_in_use;
  for (const auto& [id, policy] : ruleset.endpoints) {
    tables_in_use.insert(policy.table.begin(), policy.table.end());
    port_tables_in_use.insert(policy.ports.begin(), policy.ports.end());
  }
  atoms.sweep(atoms_in_use);
  classes.sweep({index.all.begin(), index.all.end()});
  tables.sweep(tables_in_use, port_tables_in_use);
  forget_classes_of_identities();
}

Compiler::Compiler() : Compiler(FirstNumbers()) {}
Compiler::Compiler(const FirstNumbers& first) : state_(std::make_unique<State>(first)) {}
Compiler::~Compiler() = default;

std::shared_ptr<const Ruleset> Compiler::compile(const Cluster& cluster) {
  State& state = *state_;
  const bool namespaces = state.identities.follow(cluster.namespaces);
  const bool policies = state.follow_policies(cluster);
  const bool pods = state.follow_pods(cluster);
  const bool endpoints = state.follow_endpoints(cluster);
  if (state.last && !namespaces && !policies && !pods && !endpoints) return state.last;

  if (policies || endpoints) state.choose_atoms();
  if (pods) state.find_block_sets();
  if (pods || endpoints) state.identities.sweep();

  auto ruleset = std::make_shared<Ruleset>();
  state.add_peers(*ruleset);
  const ClassIndex index = state.index_classes(*ruleset);
  state.add_tables(index, *ruleset);
  if (++state.compiles % kCompilesBetweenSweeps == 0) state.sweep(index, *ruleset);
  state.last = ruleset;
  return ruleset;
}

}  // namespace sluice::policy
