// SPDX-License-Identifier: Apache-2.0
// Which address and port may be claimed by whom, and how much one tenant may claim.
#include <gmock/gmock.h>

#include "daemon/service/ownership.h"
#include "tests/unit/service_fixture.h"

namespace sluice::service {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Ownership : public ServiceCompiler {
 protected:
  Ownership() {
    node.name = "here";
    node.addresses = ips({kNode});
    node.around.pod_ranges = {*Prefix::parse("10.0.1.0/24"), *Prefix::parse("10.0.2.0/24")};
    node.around.other_nodes = {ip("192.0.2.2")};
    node.around.api_servers = {tcp("192.0.2.9", 6443)};
    node.around.reserved = ephemeral_ports(parse_local_ports("32768\t60999", ""));
    node.around.reserved.push_back({Protocol::kUdp, 4789, 4789, "the tunnel"});
    node.around.reserved.push_back({Protocol::kTcp, 9790, 9790, "sluiced"});
    node.around.reserved.push_back({std::nullopt, 61000, 65535, "masqueraded connections"});
    compiler.set_node(node);
  }
  [[nodiscard]] bool may(Origin origin, const Frontend& frontend) const {
    return !refusal(origin, frontend, node).has_value();
  }
  NodeView node;
};

TEST_F(Ownership, AnExternalIpIsNobodyElsesAddress) {
  for (const char* address :
       {kNode, "192.0.2.2", "192.0.2.9", "10.0.1.7", "10.0.2.7", "127.0.0.1", "127.0.0.53", "169.254.169.254",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1"})
    EXPECT_FALSE(may(Origin::kExternalIp, tcp(address, 80))) << address;
  EXPECT_TRUE(may(Origin::kExternalIp, tcp(kExternal, 80)));
  EXPECT_TRUE(may(Origin::kExternalIp, tcp(kExternal, 40000))) << "the ports of no node";
  node.around.external_ips = false;
  EXPECT_FALSE(may(Origin::kExternalIp, tcp(kExternal, 80)));
}

TEST_F(Ownership, AnAddressOfAServiceCidrIsAClusterIpAndNothingElse) {
  node.around.service_ranges = {*Prefix::parse("10.96.0.0/16"), *Prefix::parse("fd00:96::/112")};
  node.addresses = ips({kNode, "10.96.0.10"});
  for (const Origin origin :
       {Origin::kNodePort, Origin::kHostPort, Origin::kLoadBalancerIp, Origin::kExternalIp})
    for (const char* address : {"10.96.0.10", "10.96.255.255", "fd00:96::a"})
      EXPECT_EQ(refusal(origin, tcp(address, 80), node), "it is in a ServiceCIDR") << address;
  EXPECT_TRUE(may(Origin::kClusterIp, tcp("10.96.0.10", 80)));
  EXPECT_TRUE(may(Origin::kClusterIp, tcp("10.97.0.10", 80))) << "the API server's matter";
  EXPECT_TRUE(may(Origin::kExternalIp, tcp("10.97.0.10", 80)));
  EXPECT_TRUE(may(Origin::kHostPort, tcp(kNode, 80)));

  compiler.set_node(node);
  model::Service thief = web();
  thief.external_ips = ips({"10.96.0.10", kExternal});
  update(thief, {on("here", "10.0.1.66")});
  EXPECT_FALSE(compiler.table().contains(tcp("10.96.0.10", 80))) << "of no Service yet";
  EXPECT_EQ(inside(kExternal), "10.0.1.66:8080");
  EXPECT_THAT(compiler.rejected(),
              ElementsAre("Service shop/web: external IP 10.96.0.10 port 80/TCP is not served: it is in a "
                          "ServiceCIDR"));
}

TEST_F(Ownership, ALoadBalancersAddressMayBeANodesButNotItsPorts) {
  for (const char* address : {kNode, "192.0.2.2"}) {
    EXPECT_TRUE(may(Origin::kLoadBalancerIp, tcp(address, 443))) << address;
    for (const std::uint16_t port :
         std::initializer_list<std::uint16_t>{9790, 32768, 40000, 60999, 61000, 65535})
      EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp(address, port))) << address << " " << port;
  }
  EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp("10.0.2.7", 443)));
  EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp("127.0.0.1", 443)));
  EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp("192.0.2.9", 6443)));
  EXPECT_TRUE(may(Origin::kLoadBalancerIp, tcp(kBalancer, 40000)));
}

TEST_F(Ownership, PortsThatTheNodeNeedsAreNobodys) {
  for (const Origin origin : {Origin::kNodePort, Origin::kHostPort, Origin::kLoadBalancerIp}) {
    EXPECT_FALSE(may(origin, tcp(kNode, 9790)));
    EXPECT_EQ(may(origin, tcp(kNode, 40000)), origin != Origin::kLoadBalancerIp)
        << "an ephemeral port may be a NodePort or hostPort, as conformance has it";
    EXPECT_FALSE(may(origin, tcp(kNode, 61000)));
    EXPECT_FALSE(may(origin, {ip(kNode), Protocol::kUdp, 4789}));
    EXPECT_TRUE(may(origin, tcp(kNode, 4789))) << "the tunnel is UDP";
    EXPECT_TRUE(may(origin, tcp(kNode, 30080)));
  }
}

TEST_F(Ownership, AHostIpIsTheNodesOrLoopback) {
  EXPECT_TRUE(may(Origin::kHostPort, tcp(kNode, 8080)));
  EXPECT_TRUE(may(Origin::kHostPort, tcp("127.0.0.1", 8080)));
  for (const char* address : {"198.51.100.9", "10.0.1.7", "192.0.2.2", "10.96.0.1"})
    EXPECT_FALSE(may(Origin::kHostPort, tcp(address, 8080))) << address;
}

TEST_F(Ownership, AnotherServicesClusterIpIsNobodysOnAnyPort) {
  model::Service thief = web();
  thief.name = "thief";
  thief.cluster_ips = ips({"10.96.0.2"});
  thief.external_ips = ips({kClusterIp, kExternal});
  thief.load_balancer_ips = ips({kClusterIp, "10.96.0.2"});
  thief.ports.front().port = 9999;
  update(thief, {on("here", "10.0.1.66")});
  EXPECT_EQ(inside(kClusterIp, 9999), "10.0.1.66:8080") << "nobody has it yet";
  update(web(), {on("here", "10.0.1.1")});
  EXPECT_FALSE(compiler.table().contains(tcp(kClusterIp, 9999)));
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  EXPECT_EQ(inside(kExternal, 9999), "10.0.1.66:8080");
  EXPECT_EQ(inside("10.96.0.2", 9999), "10.0.1.66:8080") << "its own";
  const std::string why = " 10.96.0.1 port 9999/TCP is not served: it is the cluster IP of Service shop/web";
  EXPECT_THAT(compiler.rejected(), ElementsAre("Service shop/thief: load balancer address" + why,
                                               "Service shop/thief: external IP" + why));
  auto left_alone = web();
  left_alone.left_alone = true;
  update(left_alone, {on("here", "10.0.1.1")});
  EXPECT_FALSE(compiler.table().contains(tcp(kClusterIp, 9999))) << "another proxy serves it";
  compiler.update("shop/web", {});
  EXPECT_EQ(inside(kClusterIp, 9999), "10.0.1.66:8080") << "given back";
  EXPECT_THAT(compiler.rejected(), IsEmpty());
}

TEST_F(Ownership, WhereTheDaemonFindsTheApiServerIsNobodys) {
  for (const char* host : {"192.0.2.44", "2001:db8::44", "127.0.0.1", "::1", "localhost", "api.example"})
    protect_api_server(host, 8443, node.around.api_servers, node.around.reserved);
  EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp("192.0.2.44", 8443)));
  EXPECT_FALSE(may(Origin::kExternalIp, tcp("192.0.2.44", 1)));
  EXPECT_FALSE(may(Origin::kExternalIp, tcp("2001:db8::44", 8443)));
  for (const Origin origin : {Origin::kNodePort, Origin::kHostPort, Origin::kLoadBalancerIp})
    EXPECT_FALSE(may(origin, tcp(kNode, 8443))) << "served on loopback, too, where the way begins";
  EXPECT_FALSE(may(Origin::kHostPort, tcp("127.0.0.1", 8443)));
  EXPECT_TRUE(may(Origin::kHostPort, {ip(kNode), Protocol::kUdp, 8443}));
}

TEST_F(Ownership, APodHasSoManyHostPorts) {
  const auto ports = [&](unsigned count, const std::string& pod) {
    HostPorts of{"shop/" + pod, ip("10.0.1.5"), {}};
    for (unsigned i = 0; i < count; ++i) {
      HostPort port;
      port.host_port = port.container_port = static_cast<std::uint16_t>(1000 + i);
      port.protocol = 6;
      of.ports.push_back(port);
    }
    compiler.update("hostPort of shop/" + pod, {nullptr, {}, of});
  };
  ports(kMostFrontendsOfPod, "web");
  EXPECT_EQ(compiler.table().size(), kMostFrontendsOfPod);
  EXPECT_THAT(compiler.rejected(), IsEmpty());
  ports(kMostFrontendsOfPod + 1, "web");
  EXPECT_TRUE(compiler.table().empty());
  EXPECT_THAT(compiler.rejected(),
              ElementsAre("hostPort of shop/web: none is served: they make 1025 frontends "
                          "with the node's addresses, and a pod may have 1024"));
}

TEST_F(Ownership, AnEphemeralPortThatIsReservedMayBeClaimed) {
  node.around.reserved = ephemeral_ports(parse_local_ports("20000 60999", "30000-32767,40000"));
  EXPECT_TRUE(may(Origin::kLoadBalancerIp, tcp(kNode, 30000)));
  EXPECT_TRUE(may(Origin::kLoadBalancerIp, tcp(kNode, 32767)));
  EXPECT_TRUE(may(Origin::kLoadBalancerIp, tcp(kNode, 40000)));
  for (const std::uint16_t port :
       std::initializer_list<std::uint16_t>{20000, 29999, 32768, 39999, 40001, 60999})
    EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp(kNode, port))) << port;
  node.around.reserved = ephemeral_ports(parse_local_ports("", ""));
  EXPECT_FALSE(may(Origin::kLoadBalancerIp, tcp(kNode, 32768))) << "unknown: Linux' default";
}

TEST_F(Ownership, WhatIsRefusedIsToldOnceForAReason) {
  model::Service thief = web();
  thief.external_ips = ips({kNode, "192.0.2.2", kExternal});
  thief.ports.push_back({"more", Protocol::kTcp, 81, 0});
  update(thief, {on("here", "10.0.1.66")});
  EXPECT_FALSE(compiler.table().contains(tcp(kNode, 80)));
  EXPECT_TRUE(compiler.table().contains(tcp(kExternal, 80)));
  const std::string told =
      "Service shop/web: external IP 192.0.2.1 port 80/TCP (and 3 more) is not served: it is the address of "
      "a node";
  EXPECT_THAT(compiler.take_changes().warnings, ElementsAre(told));
  update(thief, {on("here", "10.0.1.67")});
  EXPECT_THAT(compiler.take_changes().warnings, IsEmpty()) << "told already";
  EXPECT_THAT(compiler.rejected(), ElementsAre(told));
  update(web(), {on("here", "10.0.1.67")});
  EXPECT_THAT(compiler.rejected(), IsEmpty());
}

TEST_F(Ownership, OneWarningForAPairOfServices) {
  model::Service first = web();
  first.external_ips = ips({kExternal, "198.51.100.2"});
  for (std::uint16_t i = 1; i < 50; ++i)
    first.ports.push_back({"p" + std::to_string(i), Protocol::kTcp, static_cast<std::uint16_t>(80 + i), 0});
  model::Service second = first;
  second.name = "z";
  second.cluster_ips = ips({"10.96.0.2"});
  update(first, {on("here", "10.0.1.1")});
  update(second, {on("here", "10.0.1.1")});
  const std::string told =
      "Service shop/z: 198.51.100.1:80/TCP (and 99 more) is not served for it, Service shop/web has it";
  EXPECT_THAT(compiler.take_changes().warnings, ElementsAre(told));
  EXPECT_THAT(compiler.rejected(), ElementsAre(told));
}

model::Service large(const std::string& ns, const std::string& name, unsigned ports, unsigned addresses) {
  model::Service service;
  service.ns = ns;
  service.name = name;
  service.cluster_ips = ips({"10.97.0.1"});
  for (unsigned i = 0; i < ports; ++i)
    service.ports.push_back({"p" + std::to_string(i), Protocol::kTcp, static_cast<std::uint16_t>(i + 1), 0});
  for (unsigned i = 0; i < addresses; ++i) service.external_ips.push_back(Address::from_v4(0xcb007100 + i));
  return service;
}

TEST_F(Ownership, AServiceThatIsTooLargeIsRejectedAlone) {
  update(large("evil", "huge", 2000, 1000), std::vector<model::EndpointSlice>{});
  update(large("evil", "wide", 20000, 0), std::vector<model::EndpointSlice>{});
  update(web(), {on("here", "10.0.1.1")});
  EXPECT_EQ(compiler.table().size(), 1U);
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  EXPECT_THAT(
      compiler.rejected(),
      ElementsAre(HasSubstr("Service evil/huge: it is not served: its ports and addresses make 2002000 "
                            "frontends, and a Service may have 4096"),
                  HasSubstr("Service evil/wide: it is not served")));
}

TEST_F(Ownership, ANamespaceThatAsksForTooMuchLosesItsLastByName) {
  const auto key = [](char letter) { return std::string("s") + letter; };
  for (char letter = 'j'; letter >= 'a'; --letter) {
    auto service = large("evil", key(letter), 4000, 0);
    service.cluster_ips = {Address::from_v4(0x0a610000U + static_cast<unsigned char>(letter))};
    update(service, std::vector<model::EndpointSlice>{});
  }
  update(web(), {on("here", "10.0.1.1")});
  EXPECT_EQ(compiler.table().size(), 8 * 4000U + 1);
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  EXPECT_THAT(compiler.rejected(),
              ElementsAre(HasSubstr("evil/si: it is not served: the Services of a namespace"),
                          HasSubstr("evil/sj: it is not served")));
  compiler.update("evil/sa", {});
  EXPECT_THAT(compiler.rejected(), ElementsAre(HasSubstr("evil/sj"))) << "another fits now";
  EXPECT_EQ(compiler.table().size(), 8 * 4000U + 1);
}

TEST_F(Ownership, TheOrderOnANodesAddress) {
  EXPECT_LT(Origin::kClusterIp, Origin::kNodePort);
  EXPECT_LT(Origin::kNodePort, Origin::kHostPort);
  EXPECT_LT(Origin::kHostPort, Origin::kLoadBalancerIp);
  EXPECT_LT(Origin::kLoadBalancerIp, Origin::kExternalIp);
  auto balanced = web();
  balanced.name = "a";
  balanced.load_balancer_ips = ips({kNode});
  balanced.ports.front().port = 30080;
  auto node_port = web();
  node_port.ports.front().node_port = 30080;
  node_port.cluster_ips = ips({"10.96.0.2"});
  update(balanced, {on("here", "10.0.1.66")});
  update(node_port, {on("here", "10.0.1.1")});
  EXPECT_EQ(at(kNode, 30080).service, "shop/web:http");
}

}  // namespace
}  // namespace sluice::service
