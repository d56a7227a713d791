// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/evaluator.h"

#include <algorithm>
#include <map>

namespace sluice::policy {

namespace {

using model::NetworkPolicy;
using model::Pod;
using model::PolicyPeer;
using model::PolicyPort;
using model::PolicyRule;

using PodsByAddress = std::map<Address, const Pod*>;

// The pods that have the addresses of the flows. A pod with host network has the node's address, a finished
// pod has given its address back: their addresses are no pod's.
PodsByAddress pods_of(const Cluster& cluster, const std::vector<Flow>& flows) {
  PodsByAddress pods;
  for (const Flow& flow : flows) {
    pods[flow.source] = nullptr;
    pods[flow.destination] = nullptr;
  }
  for (const auto& [key, pod] : cluster.pods) {
    if (pod->host_network || pod->finished) continue;
    for (const Address& address : pod->ips) {
      const auto wanted = pods.find(address);
      if (wanted != pods.end() && wanted->second == nullptr) wanted->second = pod.get();
    }
  }
  return pods;
}

const Pod* pod_of(const Cluster& cluster, std::uint32_t endpoint) {
  const auto found = cluster.endpoints.find(endpoint);
  if (found == cluster.endpoints.end()) return nullptr;
  const auto pod = cluster.pods.find(found->second.key());
  return pod == cluster.pods.end() ? nullptr : pod->second.get();
}

// A pod whose object was never seen: nobody can say which policies select it.
bool is_unknown(const Cluster& cluster, std::uint32_t endpoint) {
  const auto found = cluster.endpoints.find(endpoint);
  return found != cluster.endpoints.end() && !found->second.pod.empty() &&
         pod_of(cluster, endpoint) == nullptr;
}

// One end of a flow, seen from the other: an address, and the pod that has it, if one does.
struct Party {
  Address address;
  const Pod* pod = nullptr;
};

bool in_block(const model::IpBlock& block, const Address& address) {
  const auto in = [&](const Prefix& prefix) {
    return prefix.is_v4() == address.is_v4() && prefix.contains(address);
  };
  return in(block.cidr) && std::ranges::none_of(block.except, in);
}

bool namespace_matches(const Cluster& cluster, const model::LabelSelector& selector, const std::string& ns) {
  const auto found = cluster.namespaces.find(ns);
  if (found != cluster.namespaces.end()) return selector.matches(found->second.labels);
  return selector.matches({{"kubernetes.io/metadata.name", ns}});
}

bool peer_matches(const Cluster& cluster, const NetworkPolicy& policy, const PolicyPeer& peer,
                  const Party& party) {
  if (peer.ip_block) {
    if (peer.pod_selector || peer.namespace_selector) return false;  // not allowed together
    return in_block(*peer.ip_block, party.address);
  }
  if (party.pod == nullptr) return false;
  if (peer.pod_selector && peer.namespace_selector)
    return namespace_matches(cluster, *peer.namespace_selector, party.pod->ns) &&
           peer.pod_selector->matches(party.pod->labels);
  if (peer.namespace_selector) return namespace_matches(cluster, *peer.namespace_selector, party.pod->ns);
  if (peer.pod_selector) return party.pod->ns == policy.ns && peer.pod_selector->matches(party.pod->labels);
  return false;
}

// A port's name is that of a container port of the pod that is the destination.
bool port_matches(const PolicyPort& port, const Flow& flow, const Pod* destination) {
  if (flow.protocol != static_cast<std::uint8_t>(port.protocol)) return false;
  if (const auto* number = std::get_if<std::uint16_t>(&port.port)) {
    if (port.end_port) return *number <= flow.destination_port && flow.destination_port <= *port.end_port;
    return flow.destination_port == *number;
  }
  if (port.end_port) return false;  // only with a number
  if (const auto* name = std::get_if<std::string>(&port.port)) {
    if (destination == nullptr) return false;
    return std::ranges::any_of(destination->ports, [&](const model::ContainerPort& candidate) {
      return candidate.name == *name && candidate.protocol == port.protocol &&
             candidate.port == flow.destination_port;
    });
  }
  return true;
}

// One direction of one flow: `subject` is the pod whose policies are asked, `peer` the other end.
struct Question {
  const Cluster& cluster;
  const Flow& flow;
  const RefusedPolicies& refused;
  bool ingress = false;
  const Pod* subject = nullptr;
  Party peer;
};

bool rule_admits(const Question& question, const NetworkPolicy& policy, const PolicyRule& rule) {
  const Pod* destination = question.ingress ? question.subject : question.peer.pod;
  const bool peer = rule.peers.empty() || std::ranges::any_of(rule.peers, [&](const PolicyPeer& candidate) {
                      return peer_matches(question.cluster, policy, candidate, question.peer);
                    });
  const bool port = rule.ports.empty() || std::ranges::any_of(rule.ports, [&](const PolicyPort& candidate) {
                      return port_matches(candidate, question.flow, destination);
                    });
  return peer && port;
}

// Without a policy that isolates the pod everything is admitted; else what any rule of those policies admits.
bool admitted(const Question& question) {
  if (question.subject == nullptr) return true;
  bool isolated = false;
  const std::string& ns = question.subject->ns;
  const auto& policies = question.cluster.policies;
  for (auto it = policies.lower_bound(ns + "/"); it != policies.end() && it->second->ns == ns; ++it) {
    const NetworkPolicy& policy = *it->second;
    if (!policy.pod_selector.matches(question.subject->labels)) continue;
    if (!(question.ingress ? policy.isolates_ingress : policy.isolates_egress)) continue;
    isolated = true;
    if (question.refused.contains(it->first)) continue;
    for (const PolicyRule& rule : question.ingress ? policy.ingress : policy.egress) {
      if (rule_admits(question, policy, rule)) return true;
    }
  }
  return !isolated;
}

sluice_drop_reason judge(const Cluster& cluster, const Flow& flow, const PodAt& pod_at,
                         const RefusedPolicies& refused) {
  // A pod always reaches itself.
  if (flow.source_endpoint != 0 && flow.source_endpoint == flow.destination_endpoint) return SLUICE_DROP_NONE;
  const Party source{flow.source, pod_at(flow.source)};
  const Party destination{flow.destination, pod_at(flow.destination)};
  if (is_unknown(cluster, flow.source_endpoint)) return SLUICE_DROP_POLICY_EGRESS;
  if (!admitted({cluster, flow, refused, false, pod_of(cluster, flow.source_endpoint), destination}))
    return SLUICE_DROP_POLICY_EGRESS;
  if (is_unknown(cluster, flow.destination_endpoint)) return SLUICE_DROP_POLICY_INGRESS;
  if (!admitted({cluster, flow, refused, true, pod_of(cluster, flow.destination_endpoint), source}))
    return SLUICE_DROP_POLICY_INGRESS;
  return SLUICE_DROP_NONE;
}

}  // namespace

sluice_drop_reason evaluate(const Cluster& cluster, const Flow& flow, const RefusedPolicies& refused) {
  return evaluate_all(cluster, {flow}, refused).front();
}

std::vector<sluice_drop_reason> evaluate_all(const Cluster& cluster, const std::vector<Flow>& flows,
                                             const PodAt& pod_at, const RefusedPolicies& refused) {
  std::vector<sluice_drop_reason> verdicts;
  for (const Flow& flow : flows) verdicts.push_back(judge(cluster, flow, pod_at, refused));
  return verdicts;
}

std::vector<sluice_drop_reason> evaluate_all(const Cluster& cluster, const std::vector<Flow>& flows,
                                             const RefusedPolicies& refused) {
  const PodsByAddress pods = pods_of(cluster, flows);
  return evaluate_all(
      cluster, flows, [&](const Address& address) { return pods.at(address); }, refused);
}

}  // namespace sluice::policy
