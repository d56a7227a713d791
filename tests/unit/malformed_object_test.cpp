// SPDX-License-Identifier: Apache-2.0
// Kubernetes objects that are not as they should be (tests/corpus/api): what the error says, and what a
// NetworkPolicy that cannot be used stands for.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "daemon/model/parse.h"
#include "tests/unit/corpus.h"

namespace sluice::model {
namespace {

using nlohmann::json;

json object_of(const std::string& file) { return json::parse(corpus::read("api", file)); }

struct Case {
  const char* file;
  const char* error;
};

const Case kCases[] = {
    {"bad-cidr-words.json", "spec.ingress[0].from[0].ipBlock.cidr: 'ten' is not a CIDR such as 10.0.0.0/8"},
    {"bad-cidr-no-length.json", "ipBlock.cidr: '10.0.0.0' is not a CIDR"},
    {"bad-cidr-long.json", "ipBlock.cidr: '10.0.0.0/33' is not a CIDR"},
    {"bad-cidr-octet.json", "ipBlock.cidr: '10.0.0.256/32' is not a CIDR"},
    {"bad-cidr-empty.json", "ipBlock.cidr: '' is not a CIDR"},
    {"bad-cidr-type.json", "ipBlock.cidr: a list is not a string"},
    {"bad-cidr-null.json", "ipBlock.cidr: '' is not a CIDR"},
    {"bad-cidr-space.json", "ipBlock.cidr: ' 10.0.0.0/8' is not a CIDR"},
    {"bad-cidr-v6-long.json", "ipBlock.cidr: 'fd00::/129' is not a CIDR"},
    {"bad-cidr-nul.json", "ipBlock.cidr: '10.0.0.0?/8' is not a CIDR"},
    {"bad-except-outside.json", "ipBlock.except[0]: 11.0.0.0/16 is not a part of cidr 10.0.0.0/8"},
    {"bad-except-same.json", "ipBlock.except[0]: 10.0.0.0/8 is not a part of cidr 10.0.0.0/8"},
    {"bad-except-wider.json", "ipBlock.except[0]: 0.0.0.0/0 is not a part of cidr 10.0.0.0/8"},
    {"bad-except-family.json", "ipBlock.except[0]: fd00::/64 is not a part of cidr 10.0.0.0/8"},
    {"bad-except-type.json", "ipBlock.except: '10.1.0.0/16' is not a list"},
    {"bad-port-0.json", "spec.ingress[0].ports[0].port: 0 is not a port number from 1 to 65535"},
    {"bad-port-65536.json", "ports[0].port: 65536 is not a port number from 1 to 65535"},
    {"bad-port-minus.json", "ports[0].port: -1 is not a port number"},
    {"bad-port-fraction.json", "ports[0].port: 80.5 is not a port number"},
    {"bad-port-huge.json", "is not a port number"},
    {"bad-port-bool.json", "ports[0].port: true is not a port number"},
    {"bad-port-object.json", "ports[0].port: a map is not a port number"},
    {"bad-port-name-long.json", "ports[0].port: 'name-is-too-long' is not a port name: at most 15"},
    {"bad-port-name-digits.json", "ports[0].port: '80' is not a port name"},
    {"bad-port-name-upper.json", "ports[0].port: 'HTTP' is not a port name"},
    {"bad-port-name-empty.json", "ports[0].port: '' is not a port name"},
    {"bad-end-port-less.json", "ports[0].endPort: 79 is less than port 80"},
    {"bad-end-port-alone.json", "ports[0].endPort: needs port to be a number"},
    {"bad-end-port-named.json", "ports[0].endPort: needs port to be a number"},
    {"bad-end-port-65536.json", "ports[0].endPort: 65536 is not a port number"},
    {"bad-end-port-text.json", "ports[0].endPort: '90' is not a port number"},
    {"bad-protocol-lower.json", "ports[0].protocol: 'tcp' is not TCP, UDP or SCTP"},
    {"bad-protocol-icmp.json", "ports[0].protocol: 'ICMP' is not TCP, UDP or SCTP"},
    {"bad-protocol-number.json", "ports[0].protocol: 6 is not a string"},
    {"bad-operator-unknown.json",
     "spec.podSelector.matchExpressions[0].operator: 'Gt' is not In, NotIn, Exists or DoesNotExist"},
    {"bad-operator-in-empty.json", "matchExpressions[0].values: operator In needs at least one"},
    {"bad-operator-in-null.json", "matchExpressions[0].values: operator In needs at least one"},
    {"bad-operator-exists-values.json", "matchExpressions[0].values: operator Exists takes none"},
    {"bad-label-key.json", "spec.podSelector.matchLabels[-a]: is not a label key"},
    {"bad-label-value.json", "spec.podSelector.matchLabels[a]: 'x y' is not a label value"},
    {"bad-label-type.json", "spec.podSelector.matchLabels[a]: 1 is not a string"},
    {"bad-selector-list.json", "spec.podSelector: a list is not a map"},
    {"bad-peer-empty.json", "from[0]: a peer needs podSelector, namespaceSelector or ipBlock"},
    {"bad-peer-null.json", "from[0]: a peer needs podSelector, namespaceSelector or ipBlock"},
    {"bad-peer-both.json", "from[0]: ipBlock excludes podSelector and namespaceSelector"},
    {"bad-policy-types.json", "spec.policyTypes[0]: 'Both' is not Ingress or Egress"},
    {"bad-ingress-map.json", "spec.ingress: a map is not a list"},
    {"bad-spec-text.json", "spec: 'allow everything' is not a map"},
    {"bad-name.json", "metadata.name: '../x' is not a name: use a-z, 0-9, '-' and '.'"},
    {"bad-namespace.json", "metadata.namespace: 'Shop' is not the name of a namespace"},
    {"bad-pod-ip.json", "Pod shop/w: status.podIPs[0].ip: '10.1.0' is not an IP address"},
    {"bad-pod-port.json", "Pod shop/w: spec.containers[0].ports[0].containerPort: 0 is not a port number"},
    {"bad-node-cidr.json", "Node n1: spec.podCIDRs[0]: '10.1.0.0/240' is not a CIDR"},
    {"bad-service-range.json",
     "Service shop/web: spec.loadBalancerSourceRanges[1]: 'office' is not a CIDR such as 10.0.0.0/8"},
    {"bad-service-range-null.json", "spec.loadBalancerSourceRanges[0]: '' is not a CIDR"},
    {"bad-service-range-bare.json", "spec.loadBalancerSourceRanges[0]: '10.0.0.1' is not a CIDR"},
    {"bad-service-cluster-ip.json", "spec.clusterIP: 'none' is not an IP address"},
    {"bad-service-external-ip.json", "spec.externalIPs[0]: 127.0.0.1 is unspecified, loopback or link-local"},
    {"bad-service-load-balancer-ip.json",
     "status.loadBalancer.ingress[0].ip: '10.0.0.1/32' is not an IP address"},
    {"bad-service-port-0.json", "spec.ports[0].port: 0 is not a port number from 1 to 65535"},
    {"bad-service-port-70000.json", "spec.ports[0].port: 70000 is not a port number"},
    {"bad-service-port-twice.json", "spec.ports[1].port: 80 stands twice for the protocol"},
    {"bad-service-port-unnamed.json", "spec.ports[0].name: is missing; it may be if there is one port only"},
    {"bad-service-node-port.json", "spec.ports[0].nodePort: -1 is not a port number"},
    {"bad-service-type.json", "spec.type: 'clusterip' is not ClusterIP or NodePort"},
    {"bad-service-affinity.json",
     "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not a number from 1 to 86400"},
    {"bad-service-policy.json", "spec.externalTrafficPolicy: 'local' is not Cluster or Local"},
    {"bad-service-name.json", "Service shop/a.b: metadata.name: 'a.b' is not a name"},
    {"bad-slice-address.json",
     "EndpointSlice shop/web-x7k2p: endpoints[1].addresses[0]: '10.1.0' is not an IP address"},
    {"bad-slice-address-metadata.json",
     "endpoints[0].addresses[0]: 169.254.169.254 is unspecified, loopback"},
    {"bad-slice-address-family.json", "endpoints[0].addresses[0]: fd00::1 is not of the addressType IPv4"},
    {"bad-slice-address-none.json", "endpoints[0].addresses: is missing"},
    {"bad-slice-address-type.json", "addressType: 'IP' is not IPv4 or IPv6 or FQDN"},
    {"bad-slice-no-address-type.json", "addressType: is missing"},
    {"bad-slice-condition.json", "endpoints[0].conditions.ready: 'True' is not true or false"},
    {"bad-slice-hint.json", "endpoints[0].hints.forZones[0].name: is missing"},
    {"bad-slice-port.json", "ports[0].port: 0 is not a port number"},
    {"bad-slice-port-name.json", "ports[0].name: 'HTTP' is not a port name: at most 63 of a-z, 0-9"},
    {"bad-slice-port-twice.json", "ports[1].name: '' stands twice"},
    {"bad-slice-ports-map.json", "ports: a map is not a list"},
    {"bad-service-cidr-words.json", "ServiceCIDR kubernetes: spec.cidrs[1]: 'services' is not a CIDR"},
    {"bad-service-cidr-text.json", "ServiceCIDR kubernetes: spec.cidrs: '10.96.0.0/16' is not a list"},
};

TEST(MalformedObject, EachFileGivesItsError) {
  auto left = corpus::files("api", "bad-");
  for (const auto& [file, error] : kCases) {
    SCOPED_TRACE(file);
    left.erase(file);
    const auto source = object_of(file);
    const auto parsed = parse_object(Tree(source).root());
    ASSERT_FALSE(parsed);
    EXPECT_NE(parsed.error().message.find(error), std::string::npos) << parsed.error().message;
    EXPECT_TRUE(parsed.error().message.starts_with(source.at("kind").get<std::string>() + " "))
        << parsed.error().message;
  }
  EXPECT_TRUE(left.empty()) << "without a row: " << *left.begin();
}

// Of another kind's shape, or of a field that is new: nothing is admitted that would not be without it.
TEST(MalformedObject, AnUnknownFieldAdmitsNothingAndIsTold) {
  for (const auto& file : corpus::files("api", "unknown-")) {
    SCOPED_TRACE(file);
    const auto parsed = parse_object(Tree(object_of(file)).root(), Kind::kNetworkPolicy);
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_EQ(parsed->warnings.size(), 1u);
    EXPECT_NE(parsed->warnings[0].find("this version of Sluice does not know the field"), std::string::npos);
    const auto& policy = std::get<NetworkPolicy>(parsed->object);
    EXPECT_TRUE(policy.isolates_ingress);
    for (const auto& rule : policy.ingress)
      for (const auto& peer : rule.peers) EXPECT_EQ(peer, PolicyPeer());
    EXPECT_TRUE(policy.ingress.empty() || !policy.ingress[0].peers.empty())
        << "an empty list would be every peer";
  }
}

TEST(MalformedObject, NullsAreAbsentFields) {
  const auto parsed = parse_object(Tree(object_of("good-policy-nulls.json")).root(), Kind::kNetworkPolicy);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto& policy = std::get<NetworkPolicy>(parsed->object);
  EXPECT_TRUE(policy.isolates_ingress && !policy.isolates_egress && policy.ingress.empty());
}

TEST(MalformedObject, AHugeObjectIsReadInBoundedTime) {
  auto policy = object_of("good-policy.json");
  auto& peers = policy["spec"]["ingress"][0]["from"];
  for (int i = 0; i < 50'000; ++i)
    peers.push_back({{"ipBlock", {{"cidr", fmt::format("10.{}.{}.0/24", i / 250, i % 250)}}}});
  const auto parsed = parse_object(Tree(policy).root(), Kind::kNetworkPolicy);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(std::get<NetworkPolicy>(parsed->object).ingress[0].peers.size(), 50'002u);
  policy["spec"]["ingress"][0]["from"][50'001]["ipBlock"]["cidr"] = "x";
  const auto bad = parse_object(Tree(policy).root(), Kind::kNetworkPolicy);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("from[50001].ipBlock.cidr: 'x'"), std::string::npos);
}

// ---- what stands in for a NetworkPolicy that cannot be used -----------------------------------------------
NetworkPolicy closed(const std::string& file) {
  const auto object = closed_policy(Tree(object_of(file)).root());
  EXPECT_TRUE(object) << file;
  return object ? std::get<NetworkPolicy>(*object) : NetworkPolicy();
}

TEST(ClosedPolicy, IsolatesThePodsThatItSelectsAndAdmitsNothing) {
  for (const auto& file : corpus::files("api", "bad-")) {
    const auto source = object_of(file);
    if (source.at("kind") != "NetworkPolicy") continue;
    SCOPED_TRACE(file);
    const auto object = closed_policy(Tree(source).root());
    if (file == "bad-name.json" || file == "bad-namespace.json") {
      EXPECT_FALSE(object) << "it cannot be told whose it is";
      continue;
    }
    ASSERT_TRUE(object);
    EXPECT_EQ(key_of(*object), (ObjectKey{Kind::kNetworkPolicy, "shop", "p"}));
    const auto& policy = std::get<NetworkPolicy>(*object);
    EXPECT_TRUE(policy.isolates_ingress);
    EXPECT_TRUE(policy.ingress.empty() && policy.egress.empty());
  }
}

TEST(ClosedPolicy, TakesSelectorAndDirectionsWhereTheyCanBeRead) {
  auto source = object_of("bad-port-0.json");
  source["spec"]["podSelector"] = {{"matchLabels", {{"app", "web"}}}};
  auto policy = std::get<NetworkPolicy>(*closed_policy(Tree(source).root()));
  EXPECT_EQ(policy.pod_selector.to_string(), "app=web");
  EXPECT_TRUE(policy.isolates_ingress && !policy.isolates_egress);
  source["spec"]["policyTypes"] = {"Egress"};
  policy = std::get<NetworkPolicy>(*closed_policy(Tree(source).root()));
  EXPECT_TRUE(!policy.isolates_ingress && policy.isolates_egress);
}

TEST(ClosedPolicy, IsForAllPodsAndBothDirectionsWhereTheyCannot) {
  for (const auto* file : {"bad-operator-unknown.json", "bad-label-value.json", "bad-selector-list.json"})
    EXPECT_EQ(closed(file).pod_selector, LabelSelector()) << file;
  EXPECT_TRUE(closed("bad-policy-types.json").isolates_egress);
  EXPECT_TRUE(closed("bad-spec-text.json").isolates_egress);
  EXPECT_EQ(closed("bad-spec-text.json").pod_selector, LabelSelector());
  EXPECT_FALSE(closed_policy(Tree(json::parse("[]")).root()));
  EXPECT_FALSE(closed_policy(Tree(json::parse("null")).root()));
}

}  // namespace
}  // namespace sluice::model
