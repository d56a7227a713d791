// SPDX-License-Identifier: Apache-2.0
// What each field of Services and EndpointSlices means for the table, one by one.
#include <gtest/gtest.h>

#include "tests/unit/service_fixture.h"

namespace sluice::service {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

TEST_F(ServiceCompiler, AClusterIpIsForTheInsideOnly) {
  update(web(), {on("here", "10.0.1.1"), on("there", "10.0.2.1")});
  ASSERT_EQ(compiler.table().size(), 1U);
  const Target& target = at(kClusterIp);
  EXPECT_EQ(target.service, "shop/web:http");
  EXPECT_EQ(text(*target.internal), "10.0.1.1:8080 10.0.2.1:8080");
  EXPECT_EQ(target.external, target.internal);
  EXPECT_FALSE(target.from_outside);
  EXPECT_FALSE(target.masquerade);
  EXPECT_FALSE(target.internal_elsewhere);
  EXPECT_FALSE(target.external_elsewhere);
  EXPECT_EQ(target.affinity_seconds, std::nullopt);
}

TEST_F(ServiceCompiler, AServiceThatIsNotProxiedHasNoFrontends) {
  model::Service headless = exposed();
  headless.cluster_ips.clear();
  update(headless, {on("here", "10.0.1.1")});
  EXPECT_TRUE(compiler.table().empty());

  model::Service others = exposed();
  others.left_alone = true;
  update(others, {on("here", "10.0.1.1")});
  EXPECT_TRUE(compiler.table().empty());
}

TEST_F(ServiceCompiler, WithoutEndpointsTheFrontendIsThereAndRefuses) {
  update(exposed_local(), std::vector<model::EndpointSlice>{});
  EXPECT_EQ(compiler.table().size(), 4U);
  for (const auto& [frontend, target] : compiler.table()) {
    EXPECT_TRUE(target->internal->backends.empty());
    EXPECT_TRUE(target->internal->slots.empty());
    EXPECT_EQ(target->internal, target->external);
    EXPECT_FALSE(target->internal_elsewhere || target->external_elsewhere);
  }
}

TEST_F(ServiceCompiler, InternalTrafficPolicyLocalConcernsClusterIpsOnly) {
  model::Service service = exposed();
  service.internal_local = true;
  update(service, {on("here", "10.0.1.1"), on("there", "10.0.2.1")});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  for (const auto& [address, port] : kEntrances) {
    EXPECT_EQ(inside(address, port), "10.0.1.1:8080 10.0.2.1:8080");
    EXPECT_EQ(outside(address, port), "10.0.1.1:8080 10.0.2.1:8080");
  }
  update(service, {on("there", "10.0.2.1")});
  EXPECT_EQ(inside(kClusterIp), "");
  EXPECT_TRUE(at(kClusterIp).internal_elsewhere);
  EXPECT_FALSE(at(kExternal).internal_elsewhere || at(kExternal).external_elsewhere);

  update(service, {not_ready(on("there", "10.0.2.1"))});
  EXPECT_FALSE(at(kClusterIp).internal_elsewhere) << "nobody anywhere: refused";
}

TEST_F(ServiceCompiler, ExternalTrafficPolicyClusterMasqueradesAndUsesEverybody) {
  update(exposed(), {on("here", "10.0.1.1"), on("there", "10.0.2.1")});
  for (const auto& [address, port] : kEntrances) {
    const Target& target = at(address, port);
    EXPECT_TRUE(target.from_outside) << address;
    EXPECT_TRUE(target.masquerade) << address;
    EXPECT_EQ(text(*target.external), "10.0.1.1:8080 10.0.2.1:8080") << address;
    EXPECT_EQ(target.internal, target.external) << address;
  }
  EXPECT_EQ(at(kClusterIp).internal, at(kExternal).internal);
  EXPECT_EQ(compiler.table().at(tcp(kBalancer, 80)), compiler.table().at(tcp(kExternal, 80)))
      << "frontends of a port with the same target share it";
}

// Kubernetes issue 112559: an external IP that is the node's address took over what its daemons serve on
// localhost.
TEST_F(ServiceCompiler, OnlyNodePortsAreServedOnTheNodesLoopback) {
  update(exposed(), {on("here", "10.0.1.1")});
  EXPECT_TRUE(at(kNode, 30080).on_loopback);
  for (const auto* address : {kClusterIp, kExternal, kBalancer})
    EXPECT_FALSE(at(address).on_loopback) << address;
}

TEST_F(ServiceCompiler, OfHostPortsOnlyThoseOnEveryAddressAreServedOnTheNodesLoopback) {
  const auto port = [](const char* host_ip, std::uint16_t number) {
    HostPort made;
    made.protocol = static_cast<std::uint8_t>(model::Protocol::kTcp);
    made.host_port = number;
    made.container_port = 8080;
    made.host_ip = Address::parse(host_ip).value();
    return made;
  };
  Input input;
  input.host_ports =
      HostPorts{"shop/web-0", *Address::parse("10.0.1.1"), {port("0.0.0.0", 8000), port(kNode, 8001)}};
  compiler.update("hostPort of shop/web-0", std::move(input));
  EXPECT_TRUE(at(kNode, 8000).on_loopback);
  EXPECT_FALSE(at(kNode, 8001).on_loopback);
}

TEST_F(ServiceCompiler, ExternalTrafficPolicyLocalIsForTheOutsideOnly) {
  update(exposed_local(), {on("here", "10.0.1.1"), on("there", "10.0.2.1")});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080 10.0.2.1:8080");
  for (const auto& [address, port] : kEntrances) {
    EXPECT_TRUE(at(address, port).from_outside) << address;
    EXPECT_FALSE(at(address, port).masquerade) << address;
    EXPECT_EQ(outside(address, port), "10.0.1.1:8080") << address;
    EXPECT_EQ(inside(address, port), "10.0.1.1:8080 10.0.2.1:8080") << address;
  }
  update(exposed_local(), {on("there", "10.0.2.1")});
  for (const auto& [address, port] : kEntrances) {
    EXPECT_EQ(outside(address, port), "") << address;
    EXPECT_TRUE(at(address, port).external_elsewhere) << address;
    EXPECT_FALSE(at(address, port).internal_elsewhere) << address;
    EXPECT_EQ(inside(address, port), "10.0.2.1:8080") << address;
  }
}

TEST_F(ServiceCompiler, WithAllEndpointsHereInsideAndOutsideShareAPool) {
  update(exposed_local(), {on("here", "10.0.1.1")});
  EXPECT_EQ(at(kExternal).internal, at(kExternal).external);
}

TEST_F(ServiceCompiler, ANodeWithoutANameHasNoEndpointsOfItsOwn) {
  compiler.set_node({"", "", ips({kNode})});
  update(exposed_local(), {on("", "10.0.1.1")});
  EXPECT_EQ(outside(kExternal), "");
  EXPECT_TRUE(at(kExternal).external_elsewhere);
}

TEST_F(ServiceCompiler, SourceRangesAreTheLoadBalancersOnly) {
  model::Service service = exposed();
  service.cluster_ips = ips({kClusterIp, "fd00:96::1"});
  service.load_balancer_ips = ips({kBalancer, "2001:db8:1::1"});
  service.source_ranges = {*Prefix::parse("192.0.2.0/24"), *Prefix::parse("10.0.0.0/8")};
  update(service, {on("here", "10.0.1.1")});
  EXPECT_EQ(at(kBalancer).source_ranges, service.source_ranges);
  EXPECT_TRUE(at("2001:db8:1::1").from_outside);
  EXPECT_TRUE(at("2001:db8:1::1").source_ranges.empty()) << "no range of the family: everybody";
  for (const auto& [address, port] :
       {Entrance{kNode, 30080}, Entrance{kExternal, 80}, Entrance{kClusterIp, 80}})
    EXPECT_TRUE(at(address, port).source_ranges.empty()) << address;
}

TEST_F(ServiceCompiler, AffinityHoldsForEveryFrontend) {
  model::Service service = exposed();
  service.affinity_seconds = 10800;
  update(service, {on("here", "10.0.1.1")});
  for (const auto& [frontend, target] : compiler.table()) EXPECT_EQ(target->affinity_seconds, 10800U);
}

TEST_F(ServiceCompiler, ReadyEndpointsFirstThenThoseThatServeWhileTheyTerminate) {
  const auto ready = on("here", "10.0.1.1");
  const auto leaving = terminating(on("here", "10.0.1.2"));
  const auto left = terminating(on("here", "10.0.1.3"), false);
  const auto starting = not_ready(on("here", "10.0.1.4"));
  update(web(), {ready, leaving, left, starting});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  update(web(), {leaving, left, starting});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.2:8080");
  update(web(), {left, starting});
  EXPECT_EQ(inside(kClusterIp), "");

  auto unpublished = starting;  // serving but neither ready nor terminating
  unpublished.serving = true;
  update(web(), {unpublished});
  EXPECT_EQ(inside(kClusterIp), "");

  auto published = left;  // publishNotReadyAddresses
  published.ready = true;
  update(web(), {published, leaving});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.3:8080");
}

TEST_F(ServiceCompiler, EachPolicyDecidesOnTerminatingEndpointsByItself) {
  update(exposed_local(), {terminating(on("here", "10.0.1.1")), on("there", "10.0.2.1")});
  EXPECT_EQ(outside(kExternal), "10.0.1.1:8080");
  EXPECT_EQ(inside(kExternal), "10.0.2.1:8080");
  EXPECT_FALSE(at(kExternal).external_elsewhere);

  update(exposed_local(), {terminating(on("there", "10.0.2.1"))});
  EXPECT_EQ(outside(kExternal), "");
  EXPECT_TRUE(at(kExternal).external_elsewhere);
}

TEST_F(ServiceCompiler, ZoneHintsCountIfEveryReadyEndpointHasThem) {
  const auto west = hinted(on("there", "10.0.2.1"), {"west"});
  const auto east = hinted(on("far", "10.0.3.1"), {"east"});
  const auto both = hinted(on("far", "10.0.3.2"), {"east", "west"});
  update(web(), {west, east, both});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080 10.0.3.2:8080");
  update(web(), {west, east, on("far", "10.0.3.3")});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080 10.0.3.1:8080 10.0.3.3:8080") << "one without hints";
  update(web(), {west, east, not_ready(on("far", "10.0.3.3"))});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080") << "those that are not ready are not asked";
  update(web(), {east});
  EXPECT_EQ(inside(kClusterIp), "10.0.3.1:8080") << "none for this zone: everybody";
  update(web(), {not_ready(west), east});
  EXPECT_EQ(inside(kClusterIp), "10.0.3.1:8080");
  update(web(), {terminating(west), terminating(east)});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080 10.0.3.1:8080") << "no hints among terminating ones";

  update(web(), {west, east});
  compiler.set_node({"here", "", ips({kNode})});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080 10.0.3.1:8080") << "zone not known";
  compiler.set_node({"here", "east", ips({kNode})});
  EXPECT_EQ(inside(kClusterIp), "10.0.3.1:8080");
}

TEST_F(ServiceCompiler, NodeHintsComeBeforeZoneHints) {
  const auto here = hinted(on("here", "10.0.1.1"), {"west"}, {"here"});
  const auto near = hinted(on("there", "10.0.2.1"), {"west"}, {"there"});
  const auto far = hinted(on("far", "10.0.3.1"), {"east"}, {"far"});
  update(web(), {here, near, far});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  update(web(), {near, far});
  EXPECT_EQ(inside(kClusterIp), "10.0.2.1:8080") << "none for this node: by zone";
  update(web(), {here, hinted(on("there", "10.0.2.1"), {"west"}), far});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080 10.0.2.1:8080") << "one without a node's hint: by zone";
}

TEST_F(ServiceCompiler, HintsDoNotConcernPolicyLocal) {
  update(exposed_local(),
         {hinted(on("here", "10.0.1.1"), {"east"}), hinted(on("there", "10.0.2.1"), {"west"})});
  EXPECT_EQ(outside(kExternal), "10.0.1.1:8080");
  EXPECT_EQ(inside(kExternal), "10.0.2.1:8080");
  EXPECT_FALSE(at(kExternal).external_elsewhere);
}

TEST_F(ServiceCompiler, HintsAreJudgedByPortAndFamily) {
  model::Service service = web();
  service.cluster_ips = ips({kClusterIp, "fd00:96::1"});
  update(service, {hinted(on("here", "10.0.1.1"), {"west"}), hinted(on("far", "10.0.3.1"), {"east"}),
                   on("far", "fd00::1")});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
  EXPECT_EQ(inside("fd00:96::1"), "fd00::1:8080");
}

TEST_F(ServiceCompiler, SlicePortsAreMatchedByNameAndProtocol) {
  model::Service service = web();
  service.ports = {
      {"dns", Protocol::kUdp, 53, 0}, {"dns-tcp", Protocol::kTcp, 53, 0}, {"", Protocol::kTcp, 81, 0}};
  auto first = slice({on("here", "10.0.1.1")});
  first.ports = {{"dns", Protocol::kUdp, 5353},
                 {"dns-tcp", Protocol::kUdp, 1},
                 {"dns-tcp", Protocol::kTcp, 5354},
                 {"", Protocol::kTcp, std::nullopt}};
  auto second = slice({on("there", "10.0.2.1")});
  second.ports = {{"dns", Protocol::kUdp, 5355}, {"", Protocol::kTcp, 0}};
  update(service, std::vector{first, second});
  const auto udp = compiler.table().at({ip(kClusterIp), Protocol::kUdp, 53});
  EXPECT_EQ(text(*udp->internal), "10.0.1.1:5353 10.0.2.1:5355") << "a named targetPort differs between pods";
  EXPECT_EQ(inside(kClusterIp, 53), "10.0.1.1:5354");
  EXPECT_EQ(inside(kClusterIp, 81), "") << "no port, or 0: not usable";
  EXPECT_EQ(at(kClusterIp, 81).service, "shop/web");
}

TEST_F(ServiceCompiler, AnEndpointInTwoSlicesIsOneBackend) {
  update(web(), std::vector{slice({on("here", "10.0.1.1"), on("here", "10.0.1.2")}),
                            slice({on("here", "10.0.1.1"), not_ready(on("here", "10.0.1.2"))})});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080 10.0.1.2:8080");
}

TEST_F(ServiceCompiler, OnlyTheFirstAddressOfAnEndpointCounts) {
  auto endpoint = on("here", "10.0.1.1");
  endpoint.addresses = ips({"10.0.1.1", "10.0.1.2"});
  update(web(), {endpoint, model::Endpoint()});
  EXPECT_EQ(inside(kClusterIp), "10.0.1.1:8080");
}

TEST_F(ServiceCompiler, FamiliesAreKeptApart) {
  model::Service service = exposed();
  service.external_ips = ips({kExternal, "2001:db8:2::1"});
  const std::vector endpoints{on("here", "10.0.1.1"), on("here", "fd00::1")};
  update(service, endpoints);
  EXPECT_EQ(compiler.table().size(), 4U) << "no cluster IP of the other family: no frontends of it";
  service.cluster_ips = ips({kClusterIp, "fd00:96::1"});
  update(service, endpoints);
  EXPECT_EQ(compiler.table().size(), 7U);
  EXPECT_EQ(inside("fd00:96::1"), "fd00::1:8080");
  EXPECT_EQ(outside("2001:db8:2::1"), "fd00::1:8080");
  EXPECT_EQ(outside(kNodeV6, 30080), "fd00::1:8080");
  EXPECT_EQ(outside(kNode, 30080), "10.0.1.1:8080");
}

TEST_F(ServiceCompiler, AHealthCheckTellsTheReadyEndpointsOfThisNode) {
  model::Service service = exposed_local();
  service.health_check_node_port = 32000;
  auto terminating = on("here", "10.0.1.3");
  terminating.ready = false;
  terminating.terminating = true;
  update(service, {on("here", "10.0.1.1"), on("here", "10.0.1.2"), terminating, on("there", "10.0.2.1")});
  EXPECT_EQ(compiler.health_checks(), (HealthChecks{{32000, {service.ns, service.name, 2}}}));
  update(service, {terminating, on("there", "10.0.2.1")});
  EXPECT_EQ(compiler.health_checks().at(32000).local_endpoints, 0u);

  service.health_check_node_port = 32001;
  update(service, {on("here", "10.0.1.1")});
  EXPECT_EQ(compiler.health_checks(), (HealthChecks{{32001, {service.ns, service.name, 1}}}));
  auto other = service;
  other.name = "zzz";
  update(other, std::vector<model::Endpoint>{});
  EXPECT_EQ(compiler.health_checks().at(32001).name, service.name);
  compiler.update(service.ns + "/" + service.name, {});
  EXPECT_EQ(compiler.health_checks().at(32001).name, "zzz");

  other.external_local = false;
  update(other, {on("here", "10.0.1.1")});
  EXPECT_TRUE(compiler.health_checks().empty());
}

TEST_F(ServiceCompiler, NodePortsFollowTheNodesAddresses) {
  update(exposed(), {on("here", "10.0.1.1")});
  (void)compiler.take_changes();
  compiler.set_node({"here", "west", ips({"192.0.2.9"})});
  const Changes changes = compiler.take_changes();
  EXPECT_EQ(changes.removed, std::vector{tcp(kNode, 30080)});
  ASSERT_EQ(changes.set.size(), 1U);
  EXPECT_EQ(changes.set.begin()->first, tcp("192.0.2.9", 30080));
}

}  // namespace
}  // namespace sluice::service
