// SPDX-License-Identifier: Apache-2.0
// The NetworkPolicy definition written as plainly as possible (Kubernetes API reference,
// networking.k8s.io/v1; https://kubernetes.io/docs/concepts/services-networking/network-policies/). Used only
// to check the compiler and the programs: slow, and free of everything the compiler does.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "daemon/policy/cluster.h"

namespace sluice::policy {

struct Flow {  // a connection in its original direction, addresses after translation
  Address source;
  Address destination;
  std::uint8_t protocol = 0;
  std::uint16_t destination_port = 0;  // host order; 0 where the protocol has none
  std::uint32_t source_endpoint = 0;   // ids of cluster.endpoints; 0: not a pod of this node
  std::uint32_t destination_endpoint = 0;
};

// SLUICE_DROP_NONE, SLUICE_DROP_POLICY_EGRESS (asked first) or SLUICE_DROP_POLICY_INGRESS.
// Policies that are refused isolate and admit nobody.
[[nodiscard]] sluice_drop_reason evaluate(const Cluster& cluster, const Flow& flow,
                                          const RefusedPolicies& refused = {});

// The same for many flows at once, one pass over the cluster's pods for all of them.
[[nodiscard]] std::vector<sluice_drop_reason> evaluate_all(const Cluster& cluster,
                                                           const std::vector<Flow>& flows,
                                                           const RefusedPolicies& refused = {});

// For one who knows without a pass: the cluster's pod that has the address, the first by key if several have;
// nullptr: none.
using PodAt = std::function<const model::Pod*(const Address&)>;
[[nodiscard]] std::vector<sluice_drop_reason> evaluate_all(const Cluster& cluster,
                                                           const std::vector<Flow>& flows,
                                                           const PodAt& pod_at,
                                                           const RefusedPolicies& refused);

// The rules in force for one endpoint in words, a line each; for `sluicectl policy`.
struct EffectiveRule {
  std::string direction;  // "ingress" | "egress"
  std::string policy;     // "namespace/name"
  std::string text;       // "from pods app=front in namespaces env=prod to TCP 80, TCP 8000-8080"
};
struct EffectivePolicy {
  bool isolated_ingress = false;
  bool isolated_egress = false;
  std::vector<EffectiveRule> rules;
};
[[nodiscard]] EffectivePolicy effective_policy(const Cluster& cluster, std::uint32_t endpoint,
                                               const RefusedPolicies& refused = {});

}  // namespace sluice::policy
