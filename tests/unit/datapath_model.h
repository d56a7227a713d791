// SPDX-License-Identifier: Apache-2.0
// The firewall program's lookups over a Ruleset, step by step and without any cleverness, as bpf/abi.h
// describes them.
#pragma once

#include "daemon/policy/evaluator.h"
#include "daemon/policy/ruleset.h"

namespace sluice::policy {

inline const Changes kEverything{true, {}, {}, {}, {}};  // for a compiler that is to look for itself

inline std::uint32_t model_peer_class(const Ruleset& ruleset, const Address& address) {
  if (const auto* peer = ruleset.peers.find(address)) return *peer;
  std::uint32_t found = 0;
  int longest = -1;
  for (const auto& [prefix, peer_class] : ruleset.blocks) {
    if (prefix.contains(address) && static_cast<int>(prefix.bits()) > longest) {
      longest = static_cast<int>(prefix.bits());
      found = peer_class;
    }
  }
  return found;
}

inline std::uint32_t model_port_class(const Ruleset& ruleset, const EndpointPolicy& policy,
                                      sluice_direction direction, const Flow& flow) {
  const std::uint32_t table = policy.ports[direction];
  std::uint32_t found = 0;
  if (table == 0) {
    for (const auto& run : policy.port_runs[direction]) {
      if (run.protocol == flow.protocol && run.first <= flow.destination_port &&
          flow.destination_port <= run.last)
        found = run.port_class;
    }
    return found;
  }
  int longest = -1;
  for (auto it = ruleset.port_classes.lower_bound({table, 0, 0, 0});
       it != ruleset.port_classes.end() && it->first.table == table; ++it) {
    const PortKey& key = it->first;
    const unsigned shift = 16U - key.port_bits;
    const bool in = key.protocol == flow.protocol && (flow.destination_port >> shift) == (key.port >> shift);
    if (in && key.port_bits > longest) {
      longest = key.port_bits;
      found = it->second;
    }
  }
  return found;
}

inline bool model_admits(const Ruleset& ruleset, const EndpointPolicy& policy, sluice_direction direction,
                         const Flow& flow) {
  const Address& peer = direction == SLUICE_INGRESS ? flow.source : flow.destination;
  const std::uint32_t peer_endpoint =
      direction == SLUICE_INGRESS ? flow.source_endpoint : flow.destination_endpoint;
  const auto local = ruleset.endpoints.find(peer_endpoint);
  const std::uint32_t peer_class = local != ruleset.endpoints.end() && local->second.peer_class
                                       ? *local->second.peer_class
                                       : model_peer_class(ruleset, peer);
  const std::uint32_t port_class = model_port_class(ruleset, policy, direction, flow);
  const std::uint32_t page = port_class / SLUICE_ROW_BITS;
  auto row = ruleset.rows.find({policy.table[direction], peer_class, page});
  if (row == ruleset.rows.end()) row = ruleset.rows.find({policy.table[direction], SLUICE_NO_CLASS, page});
  if (row == ruleset.rows.end()) return false;
  const std::uint32_t bit = port_class % SLUICE_ROW_BITS;
  return (row->second[bit / 64] >> (bit % 64) & 1U) != 0;
}

inline sluice_drop_reason model_verdict(const Ruleset& ruleset, const Flow& flow) {
  if (flow.source_endpoint != 0 && flow.source_endpoint == flow.destination_endpoint) return SLUICE_DROP_NONE;
  if (flow.source_endpoint != 0) {
    const auto policy = ruleset.endpoints.find(flow.source_endpoint);
    if (policy == ruleset.endpoints.end()) return SLUICE_DROP_POLICY_MISSING;
    if (policy->second.isolated_egress && !model_admits(ruleset, policy->second, SLUICE_EGRESS, flow))
      return SLUICE_DROP_POLICY_EGRESS;
  }
  if (flow.destination_endpoint != 0) {
    const auto policy = ruleset.endpoints.find(flow.destination_endpoint);
    if (policy == ruleset.endpoints.end()) return SLUICE_DROP_POLICY_MISSING;
    if (policy->second.isolated_ingress && !model_admits(ruleset, policy->second, SLUICE_INGRESS, flow))
      return SLUICE_DROP_POLICY_INGRESS;
  }
  return SLUICE_DROP_NONE;
}

}  // namespace sluice::policy
