// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "daemon/policy/evaluator.h"

namespace sluice::policy {

namespace {

using model::NetworkPolicy;
using model::PolicyPeer;
using model::PolicyPort;
using model::PolicyRule;

std::string text_of(const PolicyPeer& peer, const std::string& ns) {
  if (peer.ip_block) {
    if (peer.pod_selector || peer.namespace_selector) return "nobody (ipBlock beside a selector)";
    std::string text = "addresses " + peer.ip_block->cidr.to_string();
    std::vector<std::string> excepts;
    for (const auto& except : peer.ip_block->except) excepts.push_back(except.to_string());
    return excepts.empty() ? text : fmt::format("{} except {}", text, fmt::join(excepts, ", "));
  }
  if (!peer.pod_selector && !peer.namespace_selector) return "nobody (a peer without a selector)";
  const model::LabelSelector everything;
  const auto& pods = peer.pod_selector ? *peer.pod_selector : everything;
  const std::string who = pods == everything ? "all pods" : "pods " + pods.to_string();
  if (!peer.namespace_selector) return who + " in namespace " + ns;
  if (*peer.namespace_selector == everything) return who + " in all namespaces";
  return who + " in namespaces " + peer.namespace_selector->to_string();
}

std::string text_of(const PolicyPort& port) {
  const std::string protocol = model::to_string(port.protocol);
  if (const auto* number = std::get_if<std::uint16_t>(&port.port))
    return port.end_port ? fmt::format("{} {}-{}", protocol, *number, *port.end_port)
                         : fmt::format("{} {}", protocol, *number);
  if (port.end_port) return "no port (endPort without a number)";
  if (const auto* name = std::get_if<std::string>(&port.port))
    return fmt::format("{} port \"{}\"", protocol, *name);
  return fmt::format("every {} port", protocol);
}

std::string text_of(const PolicyRule& rule, const std::string& ns, bool ingress) {
  std::vector<std::string> peers;
  std::vector<std::string> ports;
  for (const auto& peer : rule.peers) peers.push_back(text_of(peer, ns));
  for (const auto& port : rule.ports) ports.push_back(text_of(port));
  // Egress reads "to <peers> at <ports>": "to" twice would not tell which is which.
  return fmt::format("{} {} {} {}", ingress ? "from" : "to",
                     peers.empty() ? "everyone" : fmt::format("{}", fmt::join(peers, " or ")),
                     ingress ? "to" : "at",
                     ports.empty() ? "every port" : fmt::format("{}", fmt::join(ports, ", ")));
}

void add(const NetworkPolicy& policy, bool ingress, const std::string* refused, EffectivePolicy& effective) {
  (ingress ? effective.isolated_ingress : effective.isolated_egress) = true;
  if (refused != nullptr) {
    effective.rules.push_back({ingress ? "ingress" : "egress", policy.ns + "/" + policy.name,
                               (ingress ? "from nobody, refused: " : "to nobody, refused: ") + *refused});
    return;
  }
  for (const auto& rule : ingress ? policy.ingress : policy.egress)
    effective.rules.push_back(
        {ingress ? "ingress" : "egress", policy.ns + "/" + policy.name, text_of(rule, policy.ns, ingress)});
}

}  // namespace

EffectivePolicy effective_policy(const Cluster& cluster, std::uint32_t endpoint,
                                 const RefusedPolicies& refused) {
  EffectivePolicy effective;
  const auto found = cluster.endpoints.find(endpoint);
  if (found == cluster.endpoints.end()) return effective;
  const auto pod = cluster.pods.find(found->second.key());
  if (pod == cluster.pods.end()) {
    // A pod that is not known is closed; a container that is no pod has no policies.
    effective.isolated_ingress = effective.isolated_egress = !found->second.pod.empty();
    return effective;
  }
  for (const bool ingress : {true, false}) {
    for (const auto& [key, policy] : cluster.policies) {
      if (policy->ns != pod->second->ns || !policy->pod_selector.matches(pod->second->labels)) continue;
      if (!(ingress ? policy->isolates_ingress : policy->isolates_egress)) continue;
      const auto why = refused.find(key);
      add(*policy, ingress, why == refused.end() ? nullptr : &why->second, effective);
    }
  }
  return effective;
}

}  // namespace sluice::policy
