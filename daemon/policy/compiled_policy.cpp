// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/compiled_policy.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "bpf/abi.h"
#include "daemon/policy/block_walk.h"
#include "daemon/policy/sort_runs.h"

namespace sluice::policy {

namespace {

struct Peers {
  bool everyone = false;
  std::vector<PodPredicate> predicates;
  Blocks blocks;
};

// A peer that is not understood is left out: it matches nothing.
void add_peer(Peers& peers, const model::PolicyPeer& peer, const std::string& ns) {
  const bool by_selector = peer.pod_selector || peer.namespace_selector;
  if (peer.ip_block && !by_selector) peers.blocks.any_of.push_back(*peer.ip_block);
  if (peer.ip_block || !by_selector) return;
  PodPredicate predicate;
  if (peer.namespace_selector) {
    predicate.namespaces = *peer.namespace_selector;
  } else {
    predicate.ns = ns;
  }
  if (peer.pod_selector) predicate.pods = *peer.pod_selector;
  peers.predicates.push_back(std::move(predicate));
}

void sort_and_dedupe(auto& list) {
  sort_runs(list);
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

void add_port(RulePorts& ports, const model::PolicyPort& port) {
  const auto protocol = static_cast<std::uint8_t>(port.protocol);
  if (const auto* number = std::get_if<std::uint16_t>(&port.port)) {
    const std::uint16_t last = port.end_port.value_or(*number);
    if (last >= *number) ports.spans.push_back({protocol, *number, last});
  } else if (port.end_port) {
    return;  // only a number begins a range; what cannot be understood admits nothing
  } else if (const auto* name = std::get_if<std::string>(&port.port)) {
    ports.names.push_back({*name, protocol});
  } else {
    ports.spans.push_back({protocol, 0, std::numeric_limits<std::uint16_t>::max()});
  }
}

RulePorts ports_of(const model::PolicyRule& rule) {
  RulePorts ports;
  ports.every = rule.ports.empty();
  for (const auto& port : rule.ports) add_port(ports, port);
  sort_and_dedupe(ports.spans);
  sort_and_dedupe(ports.names);
  return ports;
}

AtomSet number(Peers&& peers, Atoms& atoms) {
  if (peers.everyone) return {kEveryone};
  AtomSet numbers;
  for (auto& predicate : peers.predicates) numbers.push_back(atoms.number(std::move(predicate)));
  sort_and_dedupe(peers.blocks.any_of);
  if (!peers.blocks.any_of.empty()) numbers.push_back(atoms.number(std::move(peers.blocks)));
  sort_and_dedupe(numbers);
  return numbers;
}

std::vector<CompiledRule> compile(const std::vector<model::PolicyRule>& sources, const std::string& ns,
                                  Atoms& atoms) {
  std::map<RulePorts, Peers> by_ports;
  for (const auto& source : sources) {
    Peers& peers = by_ports[ports_of(source)];
    peers.everyone |= source.peers.empty();
    for (const auto& peer : source.peers) add_peer(peers, peer, ns);
  }
  std::vector<CompiledRule> rules;
  for (auto& [ports, peers] : by_ports) rules.push_back({number(std::move(peers), atoms), ports});
  return rules;
}

std::vector<NameUse> name_uses_of(const std::vector<CompiledRule>& rules, int direction) {
  std::set<NameUse> uses;
  for (const auto& rule : rules) {
    for (const auto& name : rule.ports.names) {
      if (direction == SLUICE_INGRESS) {
        uses.emplace(kEveryone, name);
        continue;
      }
      for (const AtomId peer : rule.peers) uses.emplace(peer, name);
    }
  }
  return {uses.begin(), uses.end()};
}

}  // namespace

bool CompiledPolicy::isolates(int direction) const {
  return direction == SLUICE_INGRESS ? source->isolates_ingress : source->isolates_egress;
}

// All that it names are distinct prefixes at most, which is as good an answer where it is few enough.
std::uint64_t CompiledPolicy::count_prefixes(std::uint64_t most) const {
  const auto for_each = [&](auto&& visit) {
    for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
      if (!isolates(direction)) continue;
      for (const auto& rule : direction == SLUICE_INGRESS ? source->ingress : source->egress)
        for (const auto& peer : rule.peers)
          if (peer.ip_block && !visit(*peer.ip_block)) return;
    }
  };
  std::uint64_t named = 0;
  for_each([&](const model::IpBlock& block) {
    named += 1 + block.except.size();
    return true;
  });
  if (named <= most) return named;
  PrefixCounter counter(most);
  for_each([&](const model::IpBlock& block) { return counter.add(block); });
  return counter.prefixes().size();
}

void CompiledPolicy::enter(Atoms& atoms, const Limits& limits) {
  in_force = true;
  demand.prefixes = count_prefixes(limits.prefixes);
  if (demand.prefixes > limits.prefixes) return;
  AtomSet lists;
  for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
    if (!isolates(direction)) continue;
    rules[direction] =
        compile(direction == SLUICE_INGRESS ? source->ingress : source->egress, source->ns, atoms);
    for (const auto& rule : rules[direction]) {
      demand.peer_ports += rule.peers.size() * std::max<std::size_t>(1, rule.ports.spans.size());
      demand.named_ports += rule.peers.size() * rule.ports.names.size();
      for (const AtomId peer : rule.peers)
        if (is_list(peer, atoms)) lists.push_back(peer);
    }
  }
  sort_and_dedupe(lists);
  demand.memberships = demand.prefixes * lists.size();
  if (demand.memberships > limits.memberships)
    demand.memberships = count_memberships(lists, atoms, limits.memberships);
  if (demand.named_ports > limits.named_ports) return;
  for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS})
    name_uses[direction] = name_uses_of(rules[direction], direction);
}

void CompiledPolicy::leave() {
  in_force = false;
  rules = {};
  name_uses = {};
  demand = {};
}

}  // namespace sluice::policy
