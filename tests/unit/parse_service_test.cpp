// SPDX-License-Identifier: Apache-2.0
// Services and EndpointSlices from JSON. Of each error one more example: tests/corpus/api,
// malformed_object_test.cpp.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "daemon/model/parse.h"
#include "tests/unit/corpus.h"

namespace sluice::model {
namespace {

using nlohmann::json;

json service(const std::string& spec, const std::string& status = "{}", const std::string& labels = "{}") {
  return json::parse(
      R"({"apiVersion":"v1","kind":"Service","metadata":{"namespace":"shop","name":"web","labels":)" +
      labels + R"(},"spec":)" + spec + R"(,"status":)" + status + "}");
}

json slice(const std::string& fields, const std::string& labels = R"({"kubernetes.io/service-name":"web"})") {
  return json::parse(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
                         "metadata":{"namespace":"shop","name":"web-1","labels":)" +
                     labels + "}," + fields + "}");
}

template <typename Wanted>
Wanted good(const json& object, std::size_t warnings = 0) {
  const auto parsed = parse_object(Tree(object).root());
  EXPECT_TRUE(parsed && *parsed) << (parsed ? "of no kind" : parsed.error().message);
  if (!parsed || !*parsed) return {};
  EXPECT_EQ((*parsed)->warnings.size(), warnings);
  return std::get<Wanted>((*parsed)->object);
}

Service good_service(const std::string& spec, const std::string& status = "{}", std::size_t warnings = 0) {
  return good<Service>(service(spec, status), warnings);
}

EndpointSlice good_slice(const std::string& fields) { return good<EndpointSlice>(slice(fields)); }

// "accepted", else the error without the object's name.
std::string error_of(const json& object, const std::string& title) {
  const auto parsed = parse_object(Tree(object).root());
  if (parsed) return "accepted";
  EXPECT_TRUE(parsed.error().message.starts_with(title + ": ")) << parsed.error().message;
  return parsed.error().message.substr(std::min(title.size() + 2, parsed.error().message.size()));
}

Address ip(const char* text) { return Address::parse(text).value(); }
Prefix cidr(const char* text) { return Prefix::parse(text).value(); }

TEST(ParseService, ReadsEveryField) {
  const auto read = good<Service>(json::parse(corpus::read("api", "good-service.json")));
  Service wanted;
  wanted.ns = "shop";
  wanted.name = "web";
  wanted.cluster_ips = {ip("10.96.0.10"), ip("fd00:96::a")};
  wanted.ports = {{"http", Protocol::kTcp, 80, 30080}, {"dns", Protocol::kUdp, 53, 0}};
  wanted.external_ips = {ip("198.51.100.7")};
  wanted.load_balancer_ips = {ip("198.51.100.1")};
  wanted.source_ranges = {cidr("203.0.113.0/24"), cidr("10.0.0.0/8")};
  wanted.affinity_seconds = 60;
  wanted.internal_local = wanted.external_local = true;
  wanted.health_check_node_port = 31000;
  EXPECT_EQ(read, wanted);
}

TEST(ParseService, WhatIsAbsentOrNullHasItsDefault) {
  Service wanted;
  wanted.ns = "shop";
  wanted.name = "web";
  EXPECT_EQ(good_service("{}"), wanted);
  EXPECT_EQ(good<Service>(json::parse(corpus::read("api", "good-service-nulls.json"))), wanted);
  EXPECT_EQ(good_service(R"({"type":"","sessionAffinity":"","clusterIP":"","clusterIPs":[""]})"), wanted);
  EXPECT_EQ(good_service(R"({"healthCheckNodePort":0,"sessionAffinity":"None","newField":[{}]})"), wanted);
  // An unnamed port, and numbers that stand for none.
  EXPECT_EQ(good_service(R"({"ports":[{"port":80,"nodePort":0}]})").ports,
            (std::vector<ServicePort>{{"", Protocol::kTcp, 80, 0}}));
}

TEST(ParseService, TakesTheClusterIpsOrTheOne) {
  struct {
    const char* spec;
    std::vector<Address> wanted;
  } const cases[] = {
      {R"({"clusterIP":"10.96.0.1"})", {ip("10.96.0.1")}},
      {R"({"clusterIP":"10.96.0.1","clusterIPs":[]})", {ip("10.96.0.1")}},
      {R"({"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"]})", {ip("10.96.0.1"), ip("fd00::1")}},
      {R"({"clusterIP":"None"})", {}},
      {R"({"clusterIP":"None","clusterIPs":["None"]})", {}},
      {R"({"type":"ExternalName","externalName":"example.com","clusterIP":"10.96.0.1"})", {}},
  };
  for (const auto& c : cases) EXPECT_EQ(good_service(c.spec).cluster_ips, c.wanted) << c.spec;
}

TEST(ParseService, ExternalNameAndHeadlessAreNotProxied) {
  const std::string rest = R"(,"ports":[{"port":80,"nodePort":30080}],"externalIPs":["198.51.100.7"],
                               "healthCheckNodePort":31000})";
  const auto* const status = R"({"loadBalancer":{"ingress":[{"ip":"198.51.100.1"}]}})";
  auto read = good_service(R"({"type":"ExternalName")" + rest, status);
  EXPECT_TRUE(read.ports.empty() && read.external_ips.empty() && read.load_balancer_ips.empty());
  read = good_service(R"({"clusterIP":"None")" + rest, status);
  EXPECT_TRUE(read.external_ips.empty() && read.load_balancer_ips.empty());
  EXPECT_EQ(read.ports, (std::vector<ServicePort>{{"", Protocol::kTcp, 80, 0}}));
  EXPECT_EQ(read.health_check_node_port, 0);
}

TEST(ParseService, TakesAddressesOfALoadBalancerThatNodesReceive) {
  const auto read = [](const char* ingress, std::size_t warnings = 0) {
    return good_service("{}", fmt::format(R"({{"loadBalancer":{{"ingress":{}}}}})", ingress), warnings)
        .load_balancer_ips;
  };
  using Addresses = std::vector<Address>;
  EXPECT_EQ(read(R"([{"ip":"192.0.2.1"},{"ip":"fd00::1","ipMode":"VIP"},{"ip":"192.0.2.3","ipMode":null}])"),
            (Addresses{ip("192.0.2.1"), ip("fd00::1"), ip("192.0.2.3")}));
  EXPECT_EQ(read(R"([{"ip":"192.0.2.1","ipMode":"Proxy"},{"hostname":"lb.example"},{"ip":""}])"),
            Addresses());
  EXPECT_EQ(read(R"([{"ip":"192.0.2.1","ipMode":"Tunnel"},{"ip":"192.0.2.2"}])", 1),
            (Addresses{ip("192.0.2.2")}));
  EXPECT_EQ(read("null"), Addresses());
}

TEST(ParseService, AffinityIsOfClientIpAloneAndHasADefault) {
  const auto read = [](const char* spec) { return good_service(spec).affinity_seconds; };
  EXPECT_EQ(read(R"({"sessionAffinity":"ClientIP"})"), 10800u);
  EXPECT_EQ(read(R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":null}})"), 10800u);
  EXPECT_EQ(
      read(R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":1}}})"),
      1u);
  EXPECT_EQ(
      read(R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86400}}})"),
      86400u);
  EXPECT_EQ(read(R"({"sessionAffinity":"None","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":5}}})"),
            std::nullopt);
}

TEST(ParseService, ALabelLeavesItAlone) {
  EXPECT_FALSE(good<Service>(service("{}", "{}", R"({"app":"web"})")).left_alone);
  for (const auto* label : {"service-proxy-name", "headless"})
    for (const auto* value : {R"("kube-router")", R"("")", "null"})
      EXPECT_TRUE(good<Service>(
                      service("{}", "{}", fmt::format(R"({{"service.kubernetes.io/{}":{}}})", label, value)))
                      .left_alone)
          << label << value;
}

// Left out, a range that cannot be read would open the Service.
TEST(ParseService, ASourceRangeThatCannotBeReadIsNeverLeftOut) {
  EXPECT_EQ(good_service(R"({"loadBalancerSourceRanges":["\t10.1.2.3/8\n"," fd00::/8"]})").source_ranges,
            (std::vector{cidr("10.0.0.0/8"), cidr("fd00::/8")}));
  for (const auto* range :
       {R"("")", R"("  ")", R"("10.0.0.0")", R"("10.0.0.0 /8")", R"("10.0.0.0/8,11.0.0.0/8")",
        R"("10.0.0.0/33")", R"("10.0.0.0/8\u0000")", "null", "8", "{}", "[]"})
    EXPECT_TRUE(error_of(service(fmt::format(R"({{"loadBalancerSourceRanges":["192.0.2.0/24",{}]}})", range)),
                         "Service shop/web")
                    .starts_with("spec.loadBalancerSourceRanges[1]: "))
        << range;
}

TEST(ParseService, NamesWhatIsWrongAndWhere) {
  struct {
    const char* spec;
    const char* error;
  } const cases[] = {
      {R"([])", "spec: a list is not a map"},
      {R"({"type":"Headless"})",
       "spec.type: 'Headless' is not ClusterIP or NodePort or LoadBalancer or ExternalName"},
      {R"({"type":5})", "spec.type: 5 is not a string"},
      {R"({"clusterIPs":"10.96.0.1"})", "spec.clusterIPs: '10.96.0.1' is not a list"},
      {R"({"clusterIPs":["10.96.0.1","fd00::x"]})", "spec.clusterIPs[1]: 'fd00::x' is not an IP address"},
      {R"({"clusterIP":"0.0.0.0"})", "spec.clusterIP: 0.0.0.0 is unspecified"},
      {R"({"clusterIP":"::"})", "spec.clusterIP: :: is unspecified"},
      {R"({"clusterIP":"10.96.0.1\u0000"})", "spec.clusterIP: '10.96.0.1?' is not an IP address"},
      {R"({"externalIPs":["::1"]})", "spec.externalIPs[0]: ::1 is unspecified, loopback or link-local"},
      {R"({"externalIPs":["fe80::1"]})",
       "spec.externalIPs[0]: fe80::1 is unspecified, loopback or link-local"},
      {R"({"externalIPs":[7]})", "spec.externalIPs[0]: 7 is not a string"},
      {R"({"ports":{}})", "spec.ports: a map is not a list"},
      {R"({"ports":[80]})", "spec.ports[0]: 80 is not a map"},
      {R"({"ports":[{}]})", "spec.ports[0].port: is missing"},
      {R"({"ports":[{"port":0}]})", "spec.ports[0].port: 0 is not a port number from 1 to 65535"},
      {R"({"ports":[{"port":70000}]})", "spec.ports[0].port: 70000 is not a port number"},
      {R"({"ports":[{"port":"http"}]})", "spec.ports[0].port: 'http' is not a port number"},
      {R"({"ports":[{"port":80,"nodePort":65536}]})", "spec.ports[0].nodePort: 65536 is not a port number"},
      {R"({"ports":[{"port":80,"nodePort":0.5}]})", "spec.ports[0].nodePort: 0.5 is not a port number"},
      {R"({"ports":[{"port":80,"protocol":"tcp"}]})",
       "spec.ports[0].protocol: 'tcp' is not TCP, UDP or SCTP"},
      {R"({"ports":[{"port":80,"name":"a.b"}]})", "spec.ports[0].name: 'a.b' is not a port name"},
      {R"({"ports":[{"name":"a","port":80},{"port":81}]})", "spec.ports[1].name: is missing"},
      {R"({"ports":[{"name":"a","port":80},{"name":"a","port":81}]})",
       "spec.ports[1].name: 'a' stands twice"},
      {R"({"ports":[{"name":"a","port":80},{"name":"b","port":80}]})", "spec.ports[1].port: 80 stands twice"},
      {R"({"sessionAffinity":"Cookie"})", "spec.sessionAffinity: 'Cookie' is not None or ClientIP"},
      {R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}})",
       "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not a number from 1 to 86400"},
      {R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":-1}}})",
       "timeoutSeconds: -1 is not a number from 1 to 86400"},
      {R"({"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":"60"}}})",
       "timeoutSeconds: '60' is not a number from 1 to 86400"},
      {R"({"internalTrafficPolicy":"Global"})",
       "spec.internalTrafficPolicy: 'Global' is not Cluster or Local"},
      {R"({"externalTrafficPolicy":true})", "spec.externalTrafficPolicy: true is not a string"},
      {R"({"healthCheckNodePort":70000})", "spec.healthCheckNodePort: 70000 is not a port number"},
  };
  for (const auto& c : cases) {
    const auto error = error_of(service(c.spec), "Service shop/web");
    EXPECT_NE(error.find(c.error), std::string::npos) << c.spec << "\n" << error;
  }
  EXPECT_EQ(error_of(service("{}", R"({"loadBalancer":{"ingress":[{"ip":"0.0.0.0"}]}})"), "Service shop/web"),
            "status.loadBalancer.ingress[0].ip: 0.0.0.0 is unspecified");
  EXPECT_EQ(error_of(service("{}", R"({"loadBalancer":{"ingress":[{"ip":"x","ipMode":"Proxy"}]}})"),
                     "Service shop/web"),
            "status.loadBalancer.ingress[0].ip: 'x' is not an IP address");
  EXPECT_EQ(error_of(service("{}", "{}", R"({"a b":"c"})"), "Service shop/web"),
            "metadata.labels[a b]: is not a label key such as app or example.com/app");
}

TEST(ParseServiceCidr, ReadsEveryField) {
  const ServiceCidr wanted{"kubernetes", {*Prefix::parse("10.96.0.0/16"), *Prefix::parse("fd00:96::/112")}};
  EXPECT_EQ(good<ServiceCidr>(json::parse(corpus::read("api", "good-service-cidr.json"))), wanted);
}

TEST(ParseEndpointSlice, ReadsEveryField) {
  const auto read = good<EndpointSlice>(json::parse(corpus::read("api", "good-endpoint-slice.json")));
  EndpointSlice wanted;
  wanted.ns = "shop";
  wanted.name = "web-x7k2p";
  wanted.service = "web";
  wanted.endpoints = {{{ip("10.1.0.2")}, true, true, false, "n1", {"a"}, {"n1"}},
                      {{ip("10.1.1.2")}, false, true, true, "", {}, {}}};
  wanted.ports = {{"http", Protocol::kTcp, 8080}, {"any", Protocol::kTcp, std::nullopt}};
  EXPECT_EQ(read, wanted);
}

TEST(ParseEndpointSlice, ConditionsThatAreAbsentHaveTheirDefault) {
  struct {
    const char* conditions;
    bool ready, serving, terminating;
  } const cases[] = {
      {"null", true, true, false},
      {"{}", true, true, false},
      {R"({"ready":null,"serving":null,"terminating":null})", true, true, false},
      {R"({"ready":false})", false, false, false},
      {R"({"ready":true,"serving":false})", true, false, false},
      {R"({"ready":false,"serving":true,"terminating":true})", false, true, true},
      {R"({"ready":true,"terminating":true})", true, true, true},  // publishNotReadyAddresses
  };
  for (const auto& c : cases) {
    const auto read = good_slice(fmt::format(
        R"("addressType":"IPv4","endpoints":[{{"addresses":["10.1.0.2"],"conditions":{}}}])", c.conditions));
    ASSERT_EQ(read.endpoints.size(), 1u);
    EXPECT_EQ(read.endpoints[0].ready, c.ready) << c.conditions;
    EXPECT_EQ(read.endpoints[0].serving, c.serving) << c.conditions;
    EXPECT_EQ(read.endpoints[0].terminating, c.terminating) << c.conditions;
  }
}

TEST(ParseEndpointSlice, TakesIpv4AndIpv6AndNoNames) {
  EXPECT_EQ(
      good_slice(R"("addressType":"IPv6","endpoints":[{"addresses":["fd00::1"]}])").endpoints[0].addresses,
      (std::vector{ip("fd00::1")}));
  const auto names =
      good_slice(R"("addressType":"FQDN","endpoints":[{"addresses":["example.com"]}],"ports":[{"port":80}])");
  EXPECT_TRUE(names.endpoints.empty());
  EXPECT_EQ(names.ports, (std::vector<EndpointPort>{{"", Protocol::kTcp, 80}}));
}

TEST(ParseEndpointSlice, HintsAreSortedAndDistinct) {
  const auto read = good_slice(R"("addressType":"IPv4","endpoints":[{"addresses":["10.1.0.2"],
      "hints":{"forZones":[{"name":"b"},{"name":"Zone_A"},{"name":"b"}],"forNodes":[{"name":"n2"},{"name":"n1"}]}}])");
  EXPECT_EQ(read.endpoints[0].hint_zones, (std::vector<std::string>{"Zone_A", "b"}));
  EXPECT_EQ(read.endpoints[0].hint_nodes, (std::vector<std::string>{"n1", "n2"}));
}

TEST(ParseEndpointSlice, MayBeOfNoService) {
  EXPECT_EQ(good<EndpointSlice>(slice(R"("addressType":"IPv4")", "null")).service, "");
  EXPECT_EQ(
      good<EndpointSlice>(slice(R"("addressType":"IPv4")", R"({"kubernetes.io/service-name":""})")).service,
      "");
  for (const auto* label : {"service-proxy-name", "headless"})
    EXPECT_EQ(good<EndpointSlice>(
                  slice(R"("addressType":"IPv4")",
                        fmt::format(R"({{"kubernetes.io/service-name":"web","service.kubernetes.io/{}":""}})",
                                    label)))
                  .service,
              "");
  EXPECT_TRUE(good<EndpointSlice>(json::parse(corpus::read("api", "good-endpoint-slice-nulls.json")))
                  .endpoints.empty());
}

TEST(ParseEndpointSlice, NamesWhatIsWrongAndWhere) {
  const auto endpoint = [](const char* fields) {
    return fmt::format(R"("addressType":"IPv4","endpoints":[{{{}}}])", fields);
  };
  struct {
    std::string fields;
    const char* error;
  } const cases[] = {
      {R"("endpoints":[])", "addressType: is missing"},
      {R"("addressType":"ipv4")", "addressType: 'ipv4' is not IPv4 or IPv6 or FQDN"},
      {R"("addressType":4)", "addressType: 4 is not a string"},
      {R"("addressType":"IPv4","endpoints":{})", "endpoints: a map is not a list"},
      {R"("addressType":"IPv4","endpoints":[null])", "endpoints[0].addresses: is missing"},
      {endpoint(""), "endpoints[0].addresses: is missing"},
      {endpoint(R"("addresses":"10.1.0.2")"), "endpoints[0].addresses: '10.1.0.2' is not a list"},
      {endpoint(R"("addresses":["10.1.0.2","10.1.0.300"])"),
       "endpoints[0].addresses[1]: '10.1.0.300' is not an IP address"},
      {endpoint(R"("addresses":["::ffff:x"])"), "addresses[0]: '::ffff:x' is not an IP address"},
      {endpoint(R"("addresses":["fd00::1"])"), "addresses[0]: fd00::1 is not of the addressType IPv4"},
      {R"("addressType":"IPv6","endpoints":[{"addresses":["::ffff:10.1.0.2"]}])",
       "10.1.0.2 is not of the addressType IPv6"},
      {endpoint(R"("addresses":["127.0.0.1"])"),
       "addresses[0]: 127.0.0.1 is unspecified, loopback or link-local"},
      {endpoint(R"("addresses":["169.254.169.254"])"),
       "169.254.169.254 is unspecified, loopback or link-local"},
      {endpoint(R"("addresses":["0.0.0.0"])"), "0.0.0.0 is unspecified, loopback or link-local"},
      {endpoint(R"("addresses":["10.1.0.2"],"conditions":[])"),
       "endpoints[0].conditions: a list is not a map"},
      {endpoint(R"("addresses":["10.1.0.2"],"conditions":{"ready":1})"),
       "conditions.ready: 1 is not true or false"},
      {endpoint(R"("addresses":["10.1.0.2"],"nodeName":"N1/x")"),
       "nodeName: 'N1/x' is not the name of a node"},
      {endpoint(R"("addresses":["10.1.0.2"],"hints":{"forZones":["a"]})"), "forZones[0]: 'a' is not a map"},
      {endpoint(R"("addresses":["10.1.0.2"],"hints":{"forZones":[{"name":"a b"}]})"),
       "hints.forZones[0].name: 'a b' is not the name of a zone or node"},
      {endpoint(R"("addresses":["10.1.0.2"],"hints":{"forNodes":[{}]})"),
       "hints.forNodes[0].name: is missing"},
      {R"("addressType":"IPv4","ports":[{"port":0}])",
       "ports[0].port: 0 is not a port number from 1 to 65535"},
      {R"("addressType":"IPv4","ports":[{"port":70000}])", "ports[0].port: 70000 is not a port number"},
      {R"("addressType":"IPv4","ports":[{"port":80,"protocol":"ICMP"}])",
       "ports[0].protocol: 'ICMP' is not TCP"},
      {R"("addressType":"IPv4","ports":[{"name":"a","port":80},{"name":"a","port":81}])",
       "ports[1].name: 'a' stands twice"},
      {R"("addressType":"FQDN","ports":[{"port":-1}])", "ports[0].port: -1 is not a port number"},
  };
  for (const auto& c : cases) {
    const auto error = error_of(slice(c.fields), "EndpointSlice shop/web-1");
    EXPECT_NE(error.find(c.error), std::string::npos) << c.fields << "\n" << error;
  }
}

TEST(ParseService, RefusesListsThatNoServerWouldSend) {
  const auto many = [](std::size_t count, auto&& of) {
    json list = json::array();
    for (std::size_t i = 0; i < count; ++i) list.push_back(of(i));
    return list;
  };
  const auto address = [](std::size_t i) {
    return fmt::format("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255);
  };
  auto object = service("{}");
  object["spec"]["externalIPs"] = many(1000, address);
  EXPECT_EQ(good<Service>(object).external_ips.size(), 1000u);
  object["spec"]["externalIPs"].push_back("10.9.9.9");
  EXPECT_EQ(error_of(object, "Service shop/web"), "spec.externalIPs: has 1001 items; 1000 is the most");

  object = service("{}");
  object["spec"]["ports"] = many(20'000, [](std::size_t i) {
    return json{{"name", fmt::format("p{}", i)}, {"port", i + 1}};
  });
  EXPECT_EQ(good<Service>(object).ports.size(), 20'000u);
  object["spec"]["ports"].push_back(json::object());
  EXPECT_EQ(error_of(object, "Service shop/web"), "spec.ports: has 20001 items; 20000 is the most");

  object = service("{}");
  object["spec"]["loadBalancerSourceRanges"] =
      many(10'001, [&](std::size_t i) { return address(i) + "/32"; });
  EXPECT_EQ(error_of(object, "Service shop/web"),
            "spec.loadBalancerSourceRanges: has 10001 items; 10000 is the most");

  auto endpoints = slice(R"("addressType":"IPv4")");
  endpoints["endpoints"] = many(1000, [&](std::size_t i) { return json{{"addresses", {address(i)}}}; });
  EXPECT_EQ(good<EndpointSlice>(endpoints).endpoints.size(), 1000u);
  endpoints["endpoints"].push_back(json::object());
  EXPECT_EQ(error_of(endpoints, "EndpointSlice shop/web-1"), "endpoints: has 1001 items; 1000 is the most");
  endpoints["endpoints"] = json::array({{{"addresses", many(101, address)}}});
  EXPECT_EQ(error_of(endpoints, "EndpointSlice shop/web-1"),
            "endpoints[0].addresses: has 101 items; 100 is the most");

  endpoints = slice(R"("addressType":"IPv4")");
  endpoints["ports"] = many(4096, [](std::size_t i) {
    return json{{"name", fmt::format("p{}", i)}, {"port", i + 1}};
  });
  EXPECT_EQ(good<EndpointSlice>(endpoints).ports.size(), 4096u);
  endpoints["ports"].push_back(json::object());
  EXPECT_EQ(error_of(endpoints, "EndpointSlice shop/web-1"), "ports: has 4097 items; 4096 is the most");
}

}  // namespace
}  // namespace sluice::model
