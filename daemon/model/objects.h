// SPDX-License-Identifier: Apache-2.0
// The Kubernetes objects that Sluice knows, reduced to the fields it uses. Values: once made they are not
// changed. Source: Kubernetes API reference v1.36, core/v1, networking.k8s.io/v1 and discovery.k8s.io/v1.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/address.h"
#include "daemon/model/boxed.h"
#include "daemon/model/container_ports.h"
#include "daemon/model/labels.h"
#include "daemon/model/protocol.h"

namespace sluice::model {

struct Requirement {
  enum class Operator { kIn, kNotIn, kExists, kDoesNotExist };
  std::string key;
  Operator op = Operator::kIn;
  std::vector<std::string> values;  // sorted, distinct
  auto operator<=>(const Requirement&) const = default;
};

// metav1.LabelSelector: all of it must match; the empty one matches everything.
struct LabelSelector {
  Labels match_labels;
  std::vector<Requirement> match_expressions;  // sorted
  [[nodiscard]] bool matches(const Labels& labels) const;
  [[nodiscard]] std::string to_string() const;  // as kubectl writes it: "a=b,c in (d,e)"; "<all>" if empty
  auto operator<=>(const LabelSelector&) const = default;
};

struct Node {
  std::string name;
  Labels labels;
  std::vector<Prefix> pod_cidrs;
  std::vector<Address> addresses;  // of type InternalIP
  // Of type ExternalIP. Nothing is sent to these; they only are nobody else's.
  std::vector<Address> external_addresses = {};
  bool operator==(const Node&) const = default;
};

struct Namespace {
  std::string name;
  Labels labels;
  bool operator==(const Namespace&) const = default;
};

struct Pod {
  std::string ns;
  std::string name;
  std::string uid;
  std::string node_name;
  Labels labels;
  std::vector<Address> ips;
  ContainerPorts ports;
  bool host_network = false;
  bool egress_limited = false;     // the CNI plugin `bandwidth` is to limit what it sends
  std::optional<bool> masquerade;  // annotation sluice.dev/masquerade; none: as the node's configuration says
  bool finished = false;           // phase Succeeded or Failed: its addresses are no longer its own
  bool terminating = false;        // has a deletionTimestamp
  std::int64_t created = 0;        // creationTimestamp in seconds since 1970; 0: not told
  Boxed<std::string> static_uid;   // of a mirror pod: the UID by which kubelet and runtime know it
  bool operator==(const Pod&) const = default;
  // A sandbox with this UID is this pod's. A side that does not tell its UID goes by the name alone.
  [[nodiscard]] bool has_uid(const std::string& other) const {
    return uid.empty() || other.empty() || uid == other || (static_uid && *static_uid == other);
  }
};

struct IpBlock {
  Prefix cidr;
  std::vector<Prefix> except;  // sorted
  auto operator<=>(const IpBlock&) const = default;
};

// NetworkPolicyPeer. With none of the three set it matches nothing: what a peer becomes that has a field
// unknown to us.
struct PolicyPeer {
  // A policy may have tens of thousands of peers, and those that are many are blocks.
  Boxed<LabelSelector> pod_selector;
  Boxed<LabelSelector> namespace_selector;
  std::optional<IpBlock> ip_block;
  bool operator==(const PolicyPeer&) const = default;
};

struct PolicyPort {
  Protocol protocol = Protocol::kTcp;
  std::variant<std::monostate, std::uint16_t, std::string> port;  // none: every port of the protocol
  std::optional<std::uint16_t> end_port;                          // only with a number
  bool operator==(const PolicyPort&) const = default;
};

struct PolicyRule {
  std::vector<PolicyPeer> peers;  // empty: every peer
  std::vector<PolicyPort> ports;  // empty: every port of every protocol
  bool operator==(const PolicyRule&) const = default;
};

struct NetworkPolicy {
  std::string ns;
  std::string name;
  std::string uid;
  LabelSelector pod_selector;
  bool isolates_ingress = false;  // policyTypes, defaults applied
  bool isolates_egress = false;
  std::vector<PolicyRule> ingress;
  std::vector<PolicyRule> egress;
  bool operator==(const NetworkPolicy&) const = default;
};

// core/v1 Service, reduced to what is proxied. One of type ExternalName has no addresses and no ports here.
struct ServicePort {
  std::string name;  // may be empty if there is one only
  Protocol protocol = Protocol::kTcp;
  std::uint16_t port = 0;
  std::uint16_t node_port = 0;  // 0: none
  auto operator<=>(const ServicePort&) const = default;
};

struct Service {
  std::string ns;
  std::string name;
  std::vector<Address> cluster_ips;  // empty: headless, ExternalName, or none given yet
  std::vector<ServicePort> ports;
  std::vector<Address> external_ips;
  std::vector<Address> load_balancer_ips;         // status.loadBalancer.ingress, of ipMode VIP (the default)
  std::vector<Prefix> source_ranges;              // spec.loadBalancerSourceRanges; empty: everybody
  std::optional<std::uint32_t> affinity_seconds;  // sessionAffinity ClientIP; its timeout, 10800 by default
  bool internal_local = false;                    // internalTrafficPolicy Local
  bool external_local = false;                    // externalTrafficPolicy Local
  std::uint16_t health_check_node_port = 0;       // 0: none
  bool left_alone = false;  // has a label service.kubernetes.io/service-proxy-name or /headless: not for us
  bool operator==(const Service&) const = default;
};

// discovery.k8s.io/v1 Endpoint
struct Endpoint {
  std::vector<Address> addresses;
  bool ready = true;    // absent means true; true too while it terminates if publishNotReadyAddresses says so
  bool serving = true;  // absent: as ready
  bool terminating = false;
  std::string node_name;                            // empty: not of a node
  std::vector<std::string> hint_zones, hint_nodes;  // hints.forZones, hints.forNodes; sorted
  bool operator==(const Endpoint&) const = default;
};

struct EndpointPort {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  std::optional<std::uint16_t> port;  // absent: every port, which no Service can use
  auto operator<=>(const EndpointPort&) const = default;
};

struct EndpointSlice {
  std::string ns;
  std::string name;
  std::string service;  // label kubernetes.io/service-name; empty: of no Service, or left alone like one
  std::vector<Endpoint> endpoints;
  std::vector<EndpointPort> ports;
  bool operator==(const EndpointSlice&) const = default;
};

// networking.k8s.io/v1 ServiceCIDR: where the API server takes cluster IPs from.
struct ServiceCidr {
  std::string name;
  std::vector<Prefix> cidrs;
  bool operator==(const ServiceCidr&) const = default;
};

enum class Kind : std::uint8_t {
  kNode,
  kNamespace,
  kPod,
  kNetworkPolicy,
  kService,
  kEndpointSlice,
  kServiceCidr
};
inline constexpr std::size_t kKinds = 7;
[[nodiscard]] const char* to_string(Kind kind);  // "Node", …
[[nodiscard]] bool is_namespaced(Kind kind);

using Object = std::variant<Node, Namespace, Pod, NetworkPolicy, Service, EndpointSlice, ServiceCidr>;

struct ObjectKey {
  Kind kind = Kind::kPod;
  std::string ns;  // empty for cluster-scoped kinds
  std::string name;
  auto operator<=>(const ObjectKey&) const = default;
};
[[nodiscard]] ObjectKey key_of(const Object& object);
[[nodiscard]] std::string to_string(const ObjectKey& key);  // "NetworkPolicy shop/allow-front"

}  // namespace sluice::model
