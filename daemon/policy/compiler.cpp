// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/compiler.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <unordered_set>
#include <utility>

#include "daemon/policy/compiler_state.h"
#include "daemon/policy/follow.h"

namespace sluice::policy {

namespace {

bool is_peer(const model::Pod& pod) { return !pod.host_network && !pod.finished && !pod.ips.empty(); }

bool selects(const CompiledPolicy& policy, const Identity& identity) {
  return policy.source->ns == identity.ns && policy.source->pod_selector.matches(identity.labels);
}

}  // namespace

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

Compiler::State::Said Compiler::State::said_by(const std::vector<CompiledPolicy*>& in_force) const {
  std::set<AtomId> peers;
  std::map<PortName, std::set<AtomId>> uses;
  for (const auto* policy : in_force) {
    if (policy->refused) continue;
    for (const auto& rules : policy->rules)
      for (const auto& rule : rules) peers.insert(rule.peers.begin(), rule.peers.end());
    for (const auto& [peer, name] : policy->name_uses[SLUICE_EGRESS]) uses[name].insert(peer);
  }
  peers.erase(kEveryone);
  Said said;
  for (const AtomId atom : peers)
    (std::holds_alternative<PodPredicate>(atoms.content(atom)) ? said.predicates : said.blocks)
        .push_back(atom);
  for (const auto& [name, named_by] : uses) said.name_uses[name].assign(named_by.begin(), named_by.end());
  return said;
}

bool Compiler::State::has_room_for(const AtomSet& blocks_now, const std::vector<CompiledPolicy*>& in_force) {
  const auto cost = BlockIndex::cost(blocks_now, atoms);
  Usage prefixes, memberships;
  for (const auto* policy : in_force) {
    if (policy->refused) continue;
    prefixes.by_namespace[policy->source->ns] += policy->demand.prefixes;
    memberships.by_namespace[policy->source->ns] += policy->demand.memberships;
  }
  prefixes.total = cost.prefixes;
  memberships.total = cost.memberships;
  return !refusals.exceeds(prefixes, limits.prefixes, "CIDRs and exceptions") &&
         !refusals.exceeds(memberships, limits.memberships,
                           "CIDRs and exceptions, each as often as lists of blocks hold it");
}

// What the policies that select a pod of this node say of peers; nothing else makes classes.
void Compiler::State::choose_atoms() {
  std::unordered_set<const CompiledPolicy*> selecting;
  for (const Identity* local : locals) selecting.insert(local->selected_by.begin(), local->selected_by.end());
  std::vector<CompiledPolicy*> in_force;
  for (auto& policy : policies) {
    CompiledPolicy& compiled = *policy.compiled;
    const bool selects_some = selecting.contains(&compiled);
    if (selects_some && !compiled.in_force) {
      compiled.enter(atoms, limits);
      grown += compiled.demand.prefixes;
    }
    if (!selects_some && compiled.in_force) compiled.leave();
    if (selects_some) in_force.push_back(&compiled);
  }
  Said said;
  do {
    refusals.mark(in_force);
    said = said_by(in_force);
  } while (said.blocks != ip_blocks && !has_room_for(said.blocks, in_force));
  predicates.swap(said.predicates);
  identities.set_predicates(predicates, atoms);
  if (ip_blocks != said.blocks) {
    ip_blocks.swap(said.blocks);
    blocks.set(ip_blocks, atoms);
    find_block_sets();
    forget_classes_of_identities();
  }
  if (name_uses != said.name_uses) {
    name_uses.swap(said.name_uses);
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
  for (const auto& port : identity.ports) {
    const auto protocol = static_cast<std::uint8_t>(port.protocol);
    const auto use = name_uses.find({port.name, protocol});
    if (use == name_uses.end()) continue;
    const auto uses_it = [&](AtomId atom) { return std::ranges::binary_search(use->second, atom); };
    if (uses_it(kEveryone) || std::ranges::any_of(set, uses_it))
      named.push_back(atoms.number(NamedPort{port.name, protocol, port.port}));
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

Compiler::Compiler() : Compiler(FirstNumbers()) {}
Compiler::Compiler(const FirstNumbers& first, const Limits& limits)
    : state_(std::make_unique<State>(first, limits)) {}
Compiler::~Compiler() = default;

std::shared_ptr<const Ruleset> Compiler::compile(const Cluster& cluster) {
  State& state = *state_;
  const bool namespaces = state.identities.follow(cluster.namespaces);
  const bool policies = state.follow_policies(cluster);
  const bool pods = state.follow_pods(cluster);
  const bool endpoints = state.follow_endpoints(cluster);
  if (state.last && !namespaces && !policies && !pods && !endpoints) return state.last;

  if (policies) state.refusals.forget();
  if (policies || endpoints) state.choose_atoms();
  if (pods) state.find_block_sets();
  if (pods || endpoints) state.identities.sweep();

  auto ruleset = state.make_ruleset();
  while (!ruleset) {
    state.choose_atoms();
    ruleset = state.make_ruleset();
  }
  state.last = ruleset;
  return ruleset;
}

}  // namespace sluice::policy
