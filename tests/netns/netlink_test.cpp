// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "tests/netns/pod_network.h"

namespace sluice::test {

namespace {

class Netlink : public testing::Test {
 protected:
  [[nodiscard]] int add_up_veth() {
    must(netlink_.add_veth("one", "two", -1));
    const auto link = must(netlink_.link("one"));
    LinkChange up;
    up.up = true;
    must(netlink_.change_link(link.index, up));
    must(netlink_.change_link(link.peer_index, up));
    return link.index;
  }
  [[nodiscard]] std::vector<Route> routes_of(int index) {
    std::vector<Route> found;
    for (auto& route : must(netlink_.routes()))
      if (route.link_index == index) found.push_back(route);
    return found;
  }

  Sandbox sandbox_;
  NetlinkSocket netlink_ = must(NetlinkSocket::make());
};

TEST_F(Netlink, ErrorsCarryTheKernelsNumberAndTheInterfacesName) {
  const auto missing = netlink_.link("nobody");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENODEV);
  EXPECT_NE(missing.error().message.find("nobody"), std::string::npos);
  EXPECT_EQ(netlink_.delete_link("nobody").error().code, ENODEV);
  must(netlink_.add_veth("one", "two", -1));
  EXPECT_EQ(netlink_.add_veth("one", "two", -1).error().code, EEXIST);
  EXPECT_FALSE(netlink_.link("a-name-that-is-too-long"));
  // The socket is still of use after failures.
  EXPECT_TRUE(netlink_.link("one"));
}

TEST_F(Netlink, AVethPairKnowsItsPeerInAnotherNamespace) {
  const auto inside = new_netns();
  must(netlink_.add_veth("outside", "eth0", inside.get()));
  const auto outside = must(netlink_.link("outside"));
  EXPECT_EQ(outside.kind, "veth");
  EXPECT_FALSE(outside.up);
  EXPECT_FALSE(netlink_.link("eth0"));
  in_netns(inside, [&] {
    auto netlink = must(NetlinkSocket::make());
    const auto peer = must(netlink.link("eth0"));
    EXPECT_EQ(peer.index, outside.peer_index);
    EXPECT_EQ(peer.peer_index, outside.index);
  });
  must(netlink_.delete_link("outside"));
  EXPECT_FALSE(netlink_.link(outside.index));
}

TEST_F(Netlink, ALinkChangesInWhatIsAskedAndNothingElse) {
  must(netlink_.add_veth("one", "two", -1));
  const auto before = must(netlink_.link("one"));
  LinkChange change;
  change.mac = must(Mac::parse("02:53:0a:00:00:01"));
  change.mtu = 1400;
  must(netlink_.change_link(before.index, change));
  auto after = must(netlink_.link("one"));
  EXPECT_EQ(after.mac, *change.mac);
  EXPECT_EQ(after.mtu, 1400U);
  EXPECT_FALSE(after.up);
  LinkChange second;
  second.up = true;
  second.arp = false;
  second.ipv4_forwarding = true;
  second.ipv6_addresses = false;
  second.name = "three";
  must(netlink_.change_link(before.index, second));
  after = must(netlink_.link("three"));
  EXPECT_EQ(after.index, before.index);
  EXPECT_TRUE(after.up);
  EXPECT_EQ(after.mac, *change.mac);
  LinkChange up;  // the peer too, or no address would appear in any case
  up.up = true;
  must(netlink_.change_link(after.peer_index, up));
  for (const auto& address : must(netlink_.addresses())) EXPECT_NE(address.index, before.index);
}

TEST_F(Netlink, AVxlanDeviceTellsItsPort) {
  must(netlink_.add_vxlan_external("overlay", 8472, {40000, 40999}));
  const auto link = must(netlink_.link("overlay"));
  EXPECT_EQ(link.kind, "vxlan");
  EXPECT_EQ(link.vxlan_port, 8472);
  EXPECT_EQ(link.vxlan_source_ports, (PortRange{40000, 40999}));
  const auto taken = netlink_.add_vxlan_external("overlay2", 8472, {40000, 40999});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, EEXIST);
}

TEST_F(Netlink, AddressesComeAndGo) {
  const int index = add_up_veth();
  const LinkAddress address{index, must(Address::parse("192.0.2.7")), 24};
  must(netlink_.add_address(address));
  must(netlink_.add_address(address));  // again is no error
  const auto has = [&] {
    for (const auto& each : must(netlink_.addresses()))
      if (each.index == index && each.address == address.address && each.length == 24) return true;
    return false;
  };
  EXPECT_TRUE(has());
  must(netlink_.delete_address(address));
  EXPECT_FALSE(has());
  EXPECT_EQ(netlink_.delete_address(address).error().code, EADDRNOTAVAIL);
}

TEST_F(Netlink, RoutesAreReadAsTheyWereWritten) {
  const int index = add_up_veth();
  must(netlink_.add_address({index, must(Address::parse("192.0.2.7")), 32}));
  Route route;
  route.destination = must(Prefix::parse("198.51.100.0/24"));
  route.source = must(Address::parse("192.0.2.7"));
  route.link_index = index;
  route.mtu = 1300;
  route.protocol = kSluiceRouteProtocol;
  must(netlink_.replace_route(route));
  must(netlink_.replace_route(route));
  Route beyond;
  beyond.destination = must(Prefix::parse("0.0.0.0/0"));
  beyond.gateway = must(Address::parse("198.51.100.1"));
  beyond.link_index = index;
  must(netlink_.replace_route(beyond));

  const auto routes = routes_of(index);
  ASSERT_EQ(routes.size(), 2U);
  EXPECT_EQ(routes[0].destination, beyond.destination);
  EXPECT_EQ(routes[0].gateway, beyond.gateway);
  EXPECT_EQ(routes[1].destination, route.destination);
  EXPECT_EQ(routes[1].source, route.source);
  EXPECT_EQ(routes[1].mtu, 1300U);
  EXPECT_EQ(routes[1].protocol, kSluiceRouteProtocol);
  EXPECT_FALSE(routes[1].gateway);
  for (const auto& each : routes) must(netlink_.delete_route(each));
  EXPECT_TRUE(routes_of(index).empty());
  EXPECT_EQ(netlink_.delete_route(route).error().code, ESRCH);
}

TEST_F(Netlink, RoutesThatLeadNowhereAndTheRulesToThem) {
  constexpr std::uint32_t kTable = 8301;
  Route route;
  route.destination = must(Prefix::parse("198.51.100.7/32"));
  route.protocol = kSluiceRouteProtocol;
  route.table = kTable;
  route.unreachable = true;
  must(netlink_.replace_route(route));
  must(netlink_.replace_route(route));
  const auto routes = must(netlink_.routes(kTable));
  ASSERT_EQ(routes.size(), 1U);
  EXPECT_EQ(routes[0].destination, route.destination);
  EXPECT_EQ(routes[0].link_index, 0);
  EXPECT_TRUE(routes[0].unreachable);
  must(netlink_.delete_route(route));
  EXPECT_TRUE(must(netlink_.routes(kTable)).empty());

  for (const bool others : {false, true}) {
    const Rule rule{.priority = 8301, .table = kTable, .interface = kLoopbackDevice, .others = others};
    must(netlink_.add_rule(rule));
    EXPECT_EQ(must(netlink_.rules()), std::vector{rule});
    must(netlink_.delete_rule(rule));
    EXPECT_TRUE(must(netlink_.rules()).empty());
  }
}

}  // namespace

}  // namespace sluice::test
