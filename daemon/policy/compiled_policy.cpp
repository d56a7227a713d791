// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/compiled_policy.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "bpf/abi.h"

namespace sluice::policy {

namespace {

// No value: a peer that matches nothing.
std::optional<Atom> atom_of(const model::PolicyPeer& peer, const std::string& ns) {
  const bool by_selector = peer.pod_selector || peer.namespace_selector;
  if (peer.ip_block) return by_selector ? std::nullopt : std::optional<Atom>(*peer.ip_block);
  if (!by_selector) return std::nullopt;
  PodPredicate predicate;
  if (peer.namespace_selector) {
    predicate.namespaces = peer.namespace_selector;
  } else {
    predicate.ns = ns;
  }
  if (peer.pod_selector) predicate.pods = *peer.pod_selector;
  return predicate;
}

void add_port(CompiledRule& rule, const model::PolicyPort& port) {
  const auto protocol = static_cast<std::uint8_t>(port.protocol);
  if (const auto* number = std::get_if<std::uint16_t>(&port.port)) {
    const std::uint16_t last = port.end_port.value_or(*number);
    if (last >= *number) rule.spans.push_back({protocol, *number, last});
  } else if (port.end_port) {
    return;  // only a number begins a range; what cannot be understood admits nothing
  } else if (const auto* name = std::get_if<std::string>(&port.port)) {
    rule.names.push_back({*name, protocol});
  } else {
    rule.spans.push_back({protocol, 0, std::numeric_limits<std::uint16_t>::max()});
  }
}

CompiledRule compile(const model::PolicyRule& source, const std::string& ns, Atoms& atoms) {
  CompiledRule rule;
  if (source.peers.empty()) rule.peers.push_back(kEveryone);
  for (const auto& peer : source.peers) {
    if (const auto atom = atom_of(peer, ns)) rule.peers.push_back(atoms.number(*atom));
  }
  std::ranges::sort(rule.peers);
  rule.peers.erase(std::unique(rule.peers.begin(), rule.peers.end()), rule.peers.end());
  rule.every_port = source.ports.empty();
  for (const auto& port : source.ports) add_port(rule, port);
  return rule;
}

}  // namespace

bool CompiledPolicy::isolates(int direction) const {
  return direction == SLUICE_INGRESS ? source->isolates_ingress : source->isolates_egress;
}

void CompiledPolicy::enter(Atoms& atoms) {
  in_force = true;
  for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
    if (!isolates(direction)) continue;
    for (const auto& rule : direction == SLUICE_INGRESS ? source->ingress : source->egress)
      rules[direction].push_back(compile(rule, source->ns, atoms));
  }
}

void CompiledPolicy::leave() {
  in_force = false;
  rules = {};
}

}  // namespace sluice::policy
