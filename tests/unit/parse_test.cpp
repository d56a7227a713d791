// SPDX-License-Identifier: Apache-2.0
#include "daemon/model/parse.h"

#include <gtest/gtest.h>

namespace sluice::model {
namespace {

using nlohmann::json;

json policy(const std::string& spec) {
  return json::parse(R"({"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy",
                         "metadata":{"namespace":"shop","name":"p","uid":"u-1"},"spec":)" +
                     spec + "}");
}

json pod(const std::string& spec, const std::string& status = "{}") {
  return json::parse(
      R"({"metadata":{"namespace":"shop","name":"web-0","uid":"u","labels":{"app":"web"}},"spec":)" + spec +
      R"(,"status":)" + status + "}");
}

NetworkPolicy good(const std::string& spec, std::size_t warnings = 0) {
  auto parsed = parse_object(Tree(policy(spec)).root(), Kind::kNetworkPolicy);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  if (!parsed) return {};
  EXPECT_EQ(parsed->warnings.size(), warnings) << (parsed->warnings.empty() ? "" : parsed->warnings.front());
  return std::get<NetworkPolicy>(parsed->object);
}

std::string error_of(const json& object, Kind kind) {
  const auto parsed = parse_object(Tree(object).root(), kind);
  return parsed ? "accepted" : parsed.error().message;
}

Prefix cidr(const char* text) { return Prefix::parse(text).value(); }

TEST(ParsePolicy, ReadsEveryField) {
  const auto parsed = good(R"({
    "podSelector":{"matchLabels":{"app":"db"},"matchExpressions":[{"key":"tier","operator":"In","values":["b","a","b"]}]},
    "policyTypes":["Ingress","Egress"],
    "ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web"}},"namespaceSelector":{}},
                        {"ipBlock":{"cidr":"10.0.0.0/8","except":["10.2.0.0/16","10.1.0.0/16"]}}],
                "ports":[{"port":80},{"protocol":"UDP","port":5000,"endPort":6000},{"port":"http"},{"protocol":"SCTP"}]}],
    "egress":[{"to":[{"ipBlock":{"cidr":"fd00::/8"}}]},{}]})");
  EXPECT_EQ(parsed.ns, "shop");
  EXPECT_EQ(parsed.name, "p");
  EXPECT_EQ(parsed.uid, "u-1");
  EXPECT_EQ(parsed.pod_selector.match_labels, (Labels{{"app", "db"}}));
  ASSERT_EQ(parsed.pod_selector.match_expressions.size(), 1U);
  EXPECT_EQ(parsed.pod_selector.match_expressions[0],
            (Requirement{"tier", Requirement::Operator::kIn, {"a", "b"}}));
  EXPECT_TRUE(parsed.isolates_ingress);
  EXPECT_TRUE(parsed.isolates_egress);
  ASSERT_EQ(parsed.ingress.size(), 1U);
  const auto& rule = parsed.ingress[0];
  ASSERT_EQ(rule.peers.size(), 2U);
  EXPECT_EQ(rule.peers[0].pod_selector, (LabelSelector{{{"app", "web"}}, {}}));
  EXPECT_EQ(rule.peers[0].namespace_selector, LabelSelector());
  EXPECT_EQ(rule.peers[1].ip_block,
            (IpBlock{cidr("10.0.0.0/8"), {cidr("10.1.0.0/16"), cidr("10.2.0.0/16")}}));
  const std::vector<PolicyPort> ports = {{Protocol::kTcp, std::uint16_t{80}, {}},
                                         {Protocol::kUdp, std::uint16_t{5000}, std::uint16_t{6000}},
                                         {Protocol::kTcp, "http", {}},
                                         {Protocol::kSctp, {}, {}}};
  EXPECT_EQ(rule.ports, ports);
  ASSERT_EQ(parsed.egress.size(), 2U);
  EXPECT_EQ(parsed.egress[1], PolicyRule());
}

TEST(ParsePolicy, DefaultsPolicyTypesAsTheApi) {
  struct {
    const char* spec;
    bool ingress, egress;
  } const cases[] = {{R"({"podSelector":{}})", true, false},
                     {R"({})", true, false},
                     {R"({"podSelector":null,"policyTypes":null})", true, false},
                     {R"({"policyTypes":[]})", true, false},
                     {R"({"egress":[]})", true, false},
                     {R"({"egress":[{}]})", true, true},
                     {R"({"policyTypes":["Egress"]})", false, true},
                     {R"({"policyTypes":["Ingress"]})", true, false},
                     {R"({"policyTypes":["Ingress","Egress"]})", true, true}};
  for (const auto& c : cases) {
    const auto parsed = good(c.spec);
    EXPECT_EQ(parsed.isolates_ingress, c.ingress) << c.spec;
    EXPECT_EQ(parsed.isolates_egress, c.egress) << c.spec;
    EXPECT_EQ(parsed.pod_selector, LabelSelector()) << c.spec;
  }
}

TEST(ParsePolicy, LeavesOutRulesOfADirectionThatIsNotNamed) {
  const auto parsed = good(R"({"policyTypes":["Egress"],"ingress":[{}],"egress":[{}]})", 1);
  EXPECT_TRUE(parsed.ingress.empty());
  EXPECT_EQ(parsed.egress.size(), 1U);
}

TEST(ParsePolicy, AbsentAndNullListsAreEveryPeerAndPort) {
  const auto parsed = good(R"({"ingress":[{"from":null,"ports":null},{"from":[],"ports":[]}]})");
  EXPECT_EQ(parsed.ingress, (std::vector<PolicyRule>{{}, {}}));
}

TEST(ParsePolicy, NeverAdmitsMoreForAFieldItDoesNotKnow) {
  const PolicyRule nothing{{PolicyPeer{}}, {}};
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"fqdn":"x"}]}]})", 1).ingress, std::vector<PolicyRule>{nothing});
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"podSelector":{},"fqdn":"x"}]}]})", 1).ingress,
            std::vector<PolicyRule>{nothing});
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"podSelector":{"matchNames":["x"]}}]}]})", 1).ingress,
            std::vector<PolicyRule>{nothing});
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","only":"x"}}]}]})", 1).ingress,
            std::vector<PolicyRule>{nothing});
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"namespaceSelector":
            {"matchExpressions":[{"key":"a","operator":"Exists","weight":1}]}}]}]})",
                 1)
                .ingress,
            std::vector<PolicyRule>{nothing});
  // The other peer of the rule stays.
  EXPECT_EQ(good(R"({"ingress":[{"from":[{"fqdn":"x"},{"podSelector":{}}]}]})", 1).ingress[0].peers.size(),
            2U);
  // A port: the rule's other ports stay, and with none left the rule goes.
  const auto ports = good(R"({"ingress":[{"ports":[{"port":80,"alpn":"h2"},{"port":81}]}]})", 1).ingress;
  ASSERT_EQ(ports.size(), 1U);
  EXPECT_EQ(ports[0].ports, (std::vector<PolicyPort>{{Protocol::kTcp, std::uint16_t{81}, {}}}));
  EXPECT_TRUE(good(R"({"ingress":[{"ports":[{"port":80,"alpn":"h2"}]}]})", 1).ingress.empty());
  // A rule, the pods it is for, the spec.
  EXPECT_TRUE(good(R"({"ingress":[{"action":"Deny"}]})", 1).ingress.empty());
  EXPECT_TRUE(good(R"({"ingress":[{"to":[{"podSelector":{}}]}]})", 1).ingress.empty());
  const auto spec = good(R"({"egress":[{}],"ingress":[{}],"tier":"x"})", 1);
  EXPECT_TRUE(spec.ingress.empty() && spec.egress.empty() && spec.isolates_ingress && spec.isolates_egress);
  EXPECT_TRUE(good(R"({"podSelector":{"matchNames":[]},"ingress":[{}]})", 1).ingress.empty());
}

TEST(ParsePolicy, NamesWhatIsWrongAndWhere) {
  struct {
    const char* spec;
    const char* error;
  } const cases[] = {
      {R"({"ingress":[{"ports":[{"port":80},{"port":70000}]}]})",
       "spec.ingress[0].ports[1].port: 70000 is not"},
      {R"({"ingress":[{"ports":[{"port":0}]}]})", "ports[0].port: 0 is not"},
      {R"({"ingress":[{"ports":[{"port":-1}]}]})", "ports[0].port: -1 is not"},
      {R"({"ingress":[{"ports":[{"port":18446744073709551615}]}]})",
       "ports[0].port: 18446744073709551615 is not"},
      {R"({"ingress":[{"ports":[{"port":80.0}]}]})", "ports[0].port: 80.0 is not"},
      {R"({"ingress":[{"ports":[{"port":true}]}]})", "ports[0].port: true is not"},
      {R"({"ingress":[{"ports":[{"port":"80"}]}]})", "ports[0].port: '80' is not a port name"},
      {R"({"ingress":[{"ports":[{"port":""}]}]})", "ports[0].port: '' is not a port name"},
      {R"({"ingress":[{"ports":[{"port":"a--b"}]}]})", "is not a port name"},
      {R"({"ingress":[{"ports":[{"port":"-ab"}]}]})", "is not a port name"},
      {R"({"ingress":[{"ports":[{"port":"abcdefghijklmnop"}]}]})", "is not a port name"},
      {R"({"ingress":[{"ports":[{"port":"HTTP"}]}]})", "is not a port name"},
      {R"({"ingress":[{"ports":[{"protocol":"tcp"}]}]})", "protocol: 'tcp' is not TCP, UDP or SCTP"},
      {R"({"ingress":[{"ports":[{"port":80,"endPort":79}]}]})", "endPort: 79 is less than port 80"},
      {R"({"ingress":[{"ports":[{"endPort":79}]}]})", "endPort: needs port to be a number"},
      {R"({"ingress":[{"ports":[{"port":"http","endPort":79}]}]})", "endPort: needs port to be a number"},
      {R"({"ingress":[{"ports":[{"port":1,"endPort":65536}]}]})", "endPort: 65536 is not"},
      {R"({"ingress":[{"from":[{}]}]})", "from[0]: a peer needs"},
      {R"({"ingress":[{"from":[null]}]})", "from[0]: a peer needs"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8"},"podSelector":{}}]}]})", "ipBlock excludes"},
      {R"({"ingress":[{"from":[{"ipBlock":{}}]}]})", "ipBlock.cidr: '' is not a CIDR"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0"}}]}]})", "cidr: '10.0.0.0' is not a CIDR"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/33"}}]}]})", "cidr: '10.0.0.0/33' is not"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0\u0000/8"}}]}]})", "is not a CIDR"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":8}}]}]})", "cidr: 8 is not a string"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]}}]}]})",
       "except[0]: 11.0.0.0/16 is not a part of cidr 10.0.0.0/8"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.0.0.0/8"]}}]}]})",
       "is not a part of"},
      {R"({"ingress":[{"from":[{"ipBlock":{"cidr":"::/0","except":["10.0.0.0/8x"]}}]}]})", "is not a CIDR"},
      {R"({"policyTypes":["ingress"]})", "policyTypes[0]: 'ingress' is not Ingress or Egress"},
      {R"({"policyTypes":"Ingress"})", "spec.policyTypes: 'Ingress' is not a list"},
      {R"({"podSelector":[]})", "spec.podSelector: a list is not a map"},
      {R"({"podSelector":{"matchLabels":{"app":5}}})", "matchLabels[app]: 5 is not a string"},
      {R"({"podSelector":{"matchLabels":{"app":"a b"}}})", "'a b' is not a label value"},
      {R"({"podSelector":{"matchLabels":{"-app":"a"}}})", "is not a label key"},
      {R"({"podSelector":{"matchLabels":{"UP.io/app":"a"}}})", "is not a label key"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}})",
       "operator In needs at least one"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"NotIn","values":[]}]}})",
       "needs at least one"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}})",
       "takes none"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"DoesNotExist","values":["x"]}]}})",
       "takes none"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]}})",
       "'Gt' is not In"},
      {R"({"podSelector":{"matchExpressions":[{"operator":"Exists"}]}})", "key: is missing"},
      {R"({"podSelector":{"matchExpressions":[{"key":"a"}]}})", "operator: is missing"},
      {R"({"ingress":{}})", "spec.ingress: a map is not a list"},
      {R"({"ingress":[5]})", "spec.ingress[0]: 5 is not a map"},
      {R"({"ingress":[{"from":{}}]})", "from: a map is not a list"},
      {R"([])", "spec: a list is not a map"},
      // Errors count in what is not in force, too.
      {R"({"policyTypes":["Egress"],"ingress":[{"ports":[{"port":0}]}]})", "ports[0].port: 0 is not"},
      {R"({"tier":1,"ingress":[{"ports":[{"port":0}]}]})", "ports[0].port: 0 is not"},
  };
  for (const auto& c : cases) {
    const auto error = error_of(policy(c.spec), Kind::kNetworkPolicy);
    EXPECT_TRUE(error.starts_with("NetworkPolicy shop/p: ")) << error;
    EXPECT_NE(error.find(c.error), std::string::npos) << c.spec << "\n" << error;
  }
}

TEST(ParsePod, ReadsItsFields) {
  const auto parsed = parse_object(
      Tree(pod(R"({"nodeName":"n1","hostNetwork":true,
              "containers":[{"ports":[{"name":"http","containerPort":8080},{"containerPort":9}]},{"ports":null},{}],
              "initContainers":[{"restartPolicy":"Always","ports":[{"name":"mesh","containerPort":15,"protocol":"UDP"}]},
                                {"ports":[{"name":"gone","containerPort":16}]}]})",
               R"({"phase":"Running","podIP":"10.0.0.9","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]})"))
          .root(),
      Kind::kPod);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto& got = std::get<Pod>(parsed->object);
  EXPECT_EQ(got.node_name, "n1");
  EXPECT_EQ(got.uid, "u");
  EXPECT_EQ(got.labels, (Labels{{"app", "web"}}));
  EXPECT_TRUE(got.host_network);
  EXPECT_FALSE(got.finished);
  EXPECT_EQ(got.ips, (std::vector{Address::parse("10.0.0.1").value(), Address::parse("fd00::1").value()}));
  EXPECT_EQ(got.ports,
            (std::vector<ContainerPort>{{"http", Protocol::kTcp, 8080}, {"mesh", Protocol::kUdp, 15}}));
}

// The API server warns of it and takes it; a Service's targetPort means the first, too.
TEST(ParsePod, OfPortsWithOneNameTheFirstContainersCounts) {
  const auto parsed = parse_object(
      Tree(pod(R"({"initContainers":[{"restartPolicy":"Always","ports":[{"name":"http","containerPort":1}]}],
              "containers":[{"ports":[{"name":"http","containerPort":8080},{"name":"http","containerPort":7,"protocol":"UDP"}]},
                            {"ports":[{"name":"http","containerPort":80},{"name":"more","containerPort":81}]}]})"))
          .root(),
      Kind::kPod);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(std::get<Pod>(parsed->object).ports,
            (ContainerPorts{
                {"http", Protocol::kTcp, 8080}, {"http", Protocol::kUdp, 7}, {"more", Protocol::kTcp, 81}}));
}

TEST(ParsePod, KnowsByItsAnnotationWhetherWhatItSendsIsToBeLimited) {
  const auto limited = [](const char* annotations) {
    auto object = pod("{}", "{}");
    object["metadata"]["annotations"] = json::parse(annotations);
    const auto parsed = parse_object(Tree(object).root(), Kind::kPod);
    return parsed && std::get<Pod>(parsed->object).egress_limited;
  };
  EXPECT_TRUE(limited(R"({"kubernetes.io/egress-bandwidth":"10M"})"));
  EXPECT_FALSE(limited(R"({"kubernetes.io/ingress-bandwidth":"10M"})"));
  EXPECT_FALSE(limited("null"));
}

TEST(ParsePod, TakesPodIpWherePodIpsAreAbsentAndNothingWhereThereIsNothing) {
  const auto one =
      parse_object(Tree(pod("{}", R"({"podIP":"10.0.0.9","phase":"Succeeded"})")).root(), Kind::kPod);
  ASSERT_TRUE(one);
  EXPECT_EQ(std::get<Pod>(one->object).ips, (std::vector{Address::parse("10.0.0.9").value()}));
  EXPECT_TRUE(std::get<Pod>(one->object).finished);
  const auto none =
      parse_object(Tree(json::parse(R"({"metadata":{"namespace":"a","name":"b"}})")).root(), Kind::kPod);
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_TRUE(std::get<Pod>(none->object).ips.empty());
}

TEST(ParsePod, NamesWhatIsWrong) {
  EXPECT_EQ(error_of(pod(R"({"hostNetwork":"yes"})"), Kind::kPod),
            "Pod shop/web-0: spec.hostNetwork: 'yes' is not true or false");
  EXPECT_EQ(error_of(pod("{}", R"({"podIPs":[{"ip":"10.0.0"}]})"), Kind::kPod),
            "Pod shop/web-0: status.podIPs[0].ip: '10.0.0' is not an IP address");
  EXPECT_EQ(error_of(pod(R"({"containers":[{"ports":[{"name":"a"}]}]})"), Kind::kPod),
            "Pod shop/web-0: spec.containers[0].ports[0].containerPort: is missing");
  EXPECT_EQ(error_of(json::parse(R"({"metadata":{"name":"x"}})"), Kind::kPod),
            "Pod x: metadata.namespace: is missing");
  EXPECT_EQ(error_of(json::parse(R"({"metadata":{"namespace":"x"}})"), Kind::kPod),
            "Pod without a name: metadata.name: is missing");
  EXPECT_EQ(error_of(json::parse(R"({"kind":"Node","metadata":{"namespace":"x","name":"a"}})"), Kind::kPod),
            "Pod x/a: kind: 'Node' is not Pod");
  for (const char* name : {"../x", "a/b", "A", "a..b", "a.", "-a"})
    EXPECT_NE(error_of(json{{"metadata", {{"namespace", "x"}, {"name", name}}}}, Kind::kPod), "accepted")
        << name;
}

TEST(ParseNode, ReadsCidrsAndInternalAddresses) {
  const auto parsed = parse_object(Tree(json::parse(R"({"metadata":{"name":"n1.example","labels":{"a":""}},
    "spec":{"podCIDR":"10.9.0.0/24","podCIDRs":["10.1.0.0/24","fd00:1::/64"]},
    "status":{"addresses":[{"type":"Hostname","address":"n1"},{"type":"InternalIP","address":"192.0.2.1"},
                           {"type":"ExternalIP","address":"198.51.100.1"},
                           {"type":"InternalIP","address":"nonsense"}]}})"))
                                        .root(),
                                   Kind::kNode);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto& node = std::get<Node>(parsed->object);
  EXPECT_EQ(node.pod_cidrs, (std::vector{cidr("10.1.0.0/24"), cidr("fd00:1::/64")}));
  EXPECT_EQ(node.addresses, (std::vector{Address::parse("192.0.2.1").value()}));
  EXPECT_EQ(node.external_addresses, (std::vector{Address::parse("198.51.100.1").value()}));
  EXPECT_EQ(parsed->warnings.size(), 1U);
  const auto single = parse_object(
      Tree(json::parse(R"({"metadata":{"name":"n"},"spec":{"podCIDR":"10.9.0.0/24"}})")).root(), Kind::kNode);
  ASSERT_TRUE(single);
  EXPECT_EQ(std::get<Node>(single->object).pod_cidrs, (std::vector{cidr("10.9.0.0/24")}));
}

TEST(ParseNode, TakesSixteenInternalAddresses) {
  for (const char* text : {"10.0.0.1", "nonsense"}) {
    json node{{"metadata", {{"name", "n"}}}};
    for (int i = 0; i < 3000; ++i)
      node["status"]["addresses"].push_back({{"type", "InternalIP"}, {"address", text}});
    const auto parsed = parse_object(Tree(node).root(), Kind::kNode);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_LE(std::get<Node>(parsed->object).addresses.size(), 16U);
    EXPECT_LE(parsed->warnings.size(), 17U) << "nor is the log flooded";
    EXPECT_EQ(parsed->warnings.back(),
              "Node n: status.addresses: has more than 16 InternalIPs; the first 16 are used");
  }
}

TEST(ParseObject, FindsTheKind) {
  const auto kind_of = [](const char* text) -> std::string {
    const auto parsed = parse_object(Tree(json::parse(text)).root());
    if (!parsed) return parsed.error().message;
    return *parsed ? to_string(key_of((*parsed)->object)) : "none";
  };
  EXPECT_EQ(kind_of(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}})"), "Namespace a");
  EXPECT_EQ(kind_of(R"({"apiVersion":"apps/v1","kind":"Deployment"})"), "none");
  EXPECT_EQ(kind_of(R"({"apiVersion":"crd.projectcalico.org/v1","kind":"NetworkPolicy"})"), "none");
  EXPECT_EQ(kind_of(R"({"apiVersion":"extensions/v1beta1","kind":"NetworkPolicy","metadata":{"name":"a"}})"),
            "NetworkPolicy a: apiVersion: 'extensions/v1beta1' is not networking.k8s.io/v1");
  EXPECT_EQ(kind_of(R"({"apiVersion":"v2","kind":"Pod","metadata":{"name":"a","namespace":"b"}})"),
            "Pod b/a: apiVersion: 'v2' is not v1");
  EXPECT_EQ(kind_of(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"}})"),
            "Service b/a");
  EXPECT_EQ(kind_of(R"({"apiVersion":"serving.knative.dev/v1","kind":"Service"})"), "none");
  EXPECT_EQ(kind_of(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
                        "metadata":{"name":"a.1","namespace":"b"}})"),
            "EndpointSlice b/a.1");
  EXPECT_EQ(kind_of(R"({"apiVersion":"discovery.k8s.io/v1beta1","kind":"EndpointSlice",
                        "metadata":{"name":"a","namespace":"b"}})"),
            "EndpointSlice b/a: apiVersion: 'discovery.k8s.io/v1beta1' is not discovery.k8s.io/v1");
  EXPECT_EQ(
      kind_of(R"({"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"a.1"}})"),
      "ServiceCIDR a.1");
  EXPECT_EQ(kind_of(R"({"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"a"}})"), "none");
  EXPECT_NE(kind_of(R"({"kind":"Pod"})").find("apiVersion"), std::string::npos);
  EXPECT_NE(kind_of("[]").find("not a map"), std::string::npos);
}

// Each value of the shapes below in the place of each field: errors or objects, never a crash or an
// exception.
TEST(ParseObject, SurvivesGarbage) {
  json deep = json::array();
  for (int i = 0; i < 100'000; ++i) {
    json outer = json::array();
    outer.push_back(std::move(deep));
    deep = std::move(outer);
  }
  const json bases[] = {
      policy(R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["v"]}]},
    "policyTypes":["Ingress"],"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],
    "ports":[{"port":1,"endPort":2,"protocol":"TCP"}]}]})"),
      json::parse(
          R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b","labels":{"c":"d"}},
    "spec":{"type":"LoadBalancer","clusterIPs":["10.96.0.1"],"externalIPs":["192.0.2.1"],"healthCheckNodePort":1,
    "ports":[{"name":"p","protocol":"TCP","port":1,"nodePort":2}],"loadBalancerSourceRanges":["10.0.0.0/8"],
    "sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":1}},
    "internalTrafficPolicy":"Local","externalTrafficPolicy":"Local"},
    "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2","ipMode":"VIP"}]}}})"),
      json::parse(
          R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"a","namespace":"b",
    "labels":{"kubernetes.io/service-name":"c"}},"addressType":"IPv4","ports":[{"name":"p","protocol":"TCP","port":1}],
    "endpoints":[{"addresses":["10.1.0.1"],"conditions":{"ready":true,"serving":true,"terminating":true},"nodeName":"n",
    "hints":{"forZones":[{"name":"z"}],"forNodes":[{"name":"n"}]}}]})"),
      json::parse(R"({"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"a"},
    "spec":{"cidrs":["10.96.0.0/16","fd00::/112"]}})")};
  std::size_t tried = 0;
  for (const auto& base : bases) {
    const auto flat = base.flatten();
    for (const auto& [path, unused] : flat.items()) {
      for (auto pointer = json::json_pointer(path);; pointer = pointer.parent_pointer()) {
        for (const json& garbage : {json(nullptr), json(1.5), json("\x01\xff"), json(true), json::array(),
                                    json::object(), json(std::string(1 << 20, 'x'))}) {
          json broken = base;
          broken[pointer] = garbage;
          const auto parsed = parse_object(Tree(broken).root());
          EXPECT_TRUE(parsed || parsed.error().message.size() < 500);
          ++tried;
        }
        json broken = base;
        broken[pointer].swap(deep);
        EXPECT_FALSE(parse_object(Tree(broken).root())) << pointer.to_string();
        broken[pointer].swap(deep);
        if (pointer.empty()) break;
      }
    }
  }
  EXPECT_GT(tried, 1000U);
}

}  // namespace
}  // namespace sluice::model
