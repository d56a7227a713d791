// SPDX-License-Identifier: Apache-2.0
// The tunnel's headers as the modules write and read them, and what they leave to the VXLAN device.
#include <arpa/inet.h>
#include <linux/udp.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <set>

#include "common/netlink.h"
#include "tests/bpf/lacking.h"
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint16_t kPort = 4789;
constexpr std::size_t kOverhead = 50;
enum Ecn : std::uint8_t { kNotEct = 0, kEct1 = 1, kEct0 = 2, kCe = 3 };

std::uint16_t checksum(const std::uint8_t* header, std::size_t size) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < size; i += 2) sum += static_cast<std::uint32_t>(header[i] << 8 | header[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

struct Outer {
  std::string from = "192.0.2.2", to = "192.0.2.1";
  std::uint16_t source_port = 40000, port = kPort;
  std::uint32_t flags = 0x08000000, vni = kVni;
  std::uint8_t tos = 0;
  std::uint16_t fragment = 0;  // flags and offset, as they stand in the header
  std::uint16_t udp_checksum = 0;
  std::size_t options = 0;  // words
  int longer = 0;           // what the IPv4 header says more than there is
  int udp_longer = 0;
  bool good_checksum = true;
};

void put16(Bytes& to, std::size_t value) {
  to.push_back(static_cast<std::uint8_t>(value >> 8));
  to.push_back(static_cast<std::uint8_t>(value));
}
void put32(Bytes& to, std::uint32_t value) {
  put16(to, value >> 16);
  put16(to, value & 0xffff);
}

// RFC 7348, 5.
Bytes wrapped(const Bytes& inner, const Outer& outer = {}) {
  Bytes frame = mac_of("uplink");
  for (const auto byte : mac_of("02:00:00:00:00:99")) frame.push_back(byte);
  put16(frame, ETH_P_IP);
  const std::size_t udp = sizeof(udphdr) + 8 + inner.size(), header = sizeof(iphdr) + 4 * outer.options;
  frame.push_back(static_cast<std::uint8_t>(0x40 | header / 4));
  frame.push_back(outer.tos);
  put16(frame, header + udp + static_cast<std::size_t>(outer.longer));
  put16(frame, 7);
  put16(frame, outer.fragment);
  frame.push_back(64);
  frame.push_back(IPPROTO_UDP);
  put16(frame, 0);
  put32(frame, ntohl(ipv4_be(outer.from)));
  put32(frame, ntohl(ipv4_be(outer.to)));
  for (std::size_t i = 0; i < outer.options; ++i) put32(frame, 0x01010101);
  const auto sum = checksum(&frame[ETH_HLEN], header) ^ (outer.good_checksum ? 0 : 0x0100);
  frame[ETH_HLEN + 10] = static_cast<std::uint8_t>(sum >> 8);
  frame[ETH_HLEN + 11] = static_cast<std::uint8_t>(sum);
  put16(frame, outer.source_port);
  put16(frame, outer.port);
  put16(frame, udp + static_cast<std::size_t>(outer.udp_longer));
  put16(frame, outer.udp_checksum);
  put32(frame, outer.flags);
  put32(frame, outer.vni << 8);
  frame.insert(frame.end(), inner.begin(), inner.end());
  return frame;
}

Bytes with_tos(Bytes frame, std::uint8_t tos) {
  frame[ETH_HLEN + 1] = tos;
  frame[ETH_HLEN + 10] = frame[ETH_HLEN + 11] = 0;
  const auto sum = checksum(&frame[ETH_HLEN], sizeof(iphdr));
  frame[ETH_HLEN + 10] = static_cast<std::uint8_t>(sum >> 8);
  frame[ETH_HLEN + 11] = static_cast<std::uint8_t>(sum);
  return frame;
}

const Frame kRemote{.from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
const Frame kOwn{.src = "10.1.0.2", .dst = "10.2.0.9", .sport = 4000, .dport = 53};
constexpr const char* kDelivered = "gateway>podA 10.2.0.9:5000>10.1.0.2:80 udp ttl 63";

class Tunnel : public World {
 protected:
  void SetUp() override {
    World::SetUp();
    change_config([](sluice_config& config) { config.tunnel_port_be = htons(kPort); });
  }
  // Was the last packet the modules' own, of those from (in) and to other nodes?
  struct Direct {
    std::uint64_t in, out;
    bool operator==(const Direct&) const = default;
  };
  Direct direct() {
    const auto now = stats();
    const Direct change{now.direct_in - before_.in, now.direct_out - before_.out};
    before_ = {now.direct_in, now.direct_out};
    return change;
  }

 private:
  Direct before_{0, 0};
};

TEST_F(Tunnel, WhatAnotherNodeSentIsDelivered) {
  const auto overlay = stats().in[SLUICE_HOOK_OVERLAY], uplink = stats().in[SLUICE_HOOK_UPLINK];
  const auto seen = send_from_wire(wrapped(build(kRemote)));
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out, kDelivered);
  EXPECT_EQ(direct(), (Direct{1, 0}));
  EXPECT_EQ(stats().in[SLUICE_HOOK_OVERLAY], overlay + 1) << "it came from another node";
  EXPECT_EQ(stats().in[SLUICE_HOOK_UPLINK], uplink);
}

TEST_F(Tunnel, WhatItCarriesIsJudgedAsWhatTheDeviceGives) {
  struct Case {
    const char* sentence;
    Frame inner;
    Outer outer;
    const char* outcome;
  };
  const Case cases[] = {
      {"a pod of another node than the one that sends",
       kRemote,
       {.from = "192.0.2.3"},
       "dropped TUNNEL_SOURCE"},
      {"a source in this node's own podCIDR",
       but(kRemote, [](Frame& f) { f.src = "10.1.0.3"; }),
       {},
       "dropped TUNNEL_SOURCE"},
      {"a source in the world",
       but(kRemote, [](Frame& f) { f.src = "198.51.100.7"; }),
       {},
       "dropped TUNNEL_SOURCE"},
      {"for the node's gateway address", but(kRemote, [](Frame& f) { f.dst = "10.1.0.1"; }), {}, "to_stack"},
      {"for the world", but(kRemote, [](Frame& f) { f.dst = "198.51.100.7"; }), {}, "dropped NOT_FOR_POD"},
      {"for a pod that is gone",
       but(kRemote, [](Frame& f) { f.dst = "10.1.0.200"; }),
       {},
       "dropped ENDPOINT_GONE"},
      {"a first fragment", but(kRemote, [](Frame& f) { f.more = true; }), {}, "delivered"},
      {"without a payload", but(kRemote, [](Frame& f) { f.payload = 0; }), {}, "delivered"},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.sentence);
    EXPECT_EQ(send_from_wire(wrapped(build(each.inner), each.outer)).outcome, each.outcome);
    EXPECT_EQ(direct(), (Direct{1, 0}));
  }
}

TEST_F(Tunnel, WhatIsNotSimpleOrNotOfTheTunnelIsLeftToTheStackAsItCame) {
  const Bytes inner = build(kRemote);
  Bytes arp = inner, ipv6 = inner;
  arp[13] = 0x06;
  ipv6[12] = 0x86, ipv6[13] = 0xdd;
  struct Case {
    const char* sentence;
    Bytes frame;
  };
  const Case cases[] = {
      {"another UDP port", wrapped(inner, {.source_port = 1, .port = 4790})},
      {"another virtual network", wrapped(inner, {.source_port = 2, .vni = kVni + 1})},
      {"without a network identifier", wrapped(inner, {.source_port = 3, .flags = 0})},
      {"an extension's flag (GBP)", wrapped(inner, {.source_port = 4, .flags = 0x88000000})},
      {"for another address", wrapped(inner, {.to = "192.0.2.77", .source_port = 5})},
      {"IPv4 options", wrapped(inner, {.source_port = 6, .options = 1})},
      {"a first fragment", wrapped(inner, {.source_port = 7, .fragment = 0x2000})},
      {"a later fragment", wrapped(inner, {.source_port = 8, .fragment = 0x0010})},
      {"a wrong header checksum", wrapped(inner, {.source_port = 9, .good_checksum = false})},
      {"a UDP checksum, which is to be verified",
       wrapped(inner, {.source_port = 10, .udp_checksum = 0x1234})},
      {"a congestion mark, which the inner packet is to get",
       wrapped(inner, {.source_port = 11, .tos = kCe})},
      {"longer than it is", wrapped(inner, {.source_port = 12, .longer = 1})},
      {"shorter than it is", wrapped(inner, {.source_port = 13, .longer = -1})},
      {"a UDP length of its own", wrapped(inner, {.source_port = 14, .udp_longer = -1})},
      {"ARP inside", wrapped(arp, {.source_port = 15})},
      {"IPv6 inside", wrapped(ipv6, {.source_port = 16})},
      {"no packet inside", wrapped(Bytes(inner.begin(), inner.begin() + ETH_HLEN + 19), {.source_port = 17})},
      {"nothing inside", wrapped({}, {.source_port = 18})},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.sentence);
    const auto seen = send_from_wire(each.frame);
    EXPECT_EQ(seen.outcome, "to_stack");
    EXPECT_EQ(seen.bytes, each.frame);
    EXPECT_EQ(direct(), (Direct{0, 0}));
  }
  SCOPED_TRACE("a frame that a promiscuous uplink sees");
  Bytes others = wrapped(inner);
  others[5] ^= 1;
  EXPECT_EQ(send_from_wire(others).outcome, "to_stack");
  EXPECT_EQ(direct(), (Direct{0, 0}));
}

TEST_F(Tunnel, CongestionIsMarkedOutsideAsRfc6040HasIt) {
  need_tunnel_headers();
  for (const auto outer : {kNotEct, kEct0, kEct1}) {
    const auto seen = send_from_wire(wrapped(with_tos(build(kRemote), 0xb8 | kEct0), {.tos = outer}));
    EXPECT_EQ(seen.outcome, "delivered");
    EXPECT_EQ(seen.bytes.at(ETH_HLEN + 1), 0xb8 | kEct0);
  }
  const std::pair<std::uint8_t, std::uint8_t> sent[] = {
      {kNotEct, kNotEct}, {kEct0, kEct0}, {kEct1, kEct1}, {kCe, kEct0}};
  for (const auto& [inner, outer] : sent) {
    const auto seen = send(SLUICE_HOOK_POD, with_tos(build(kOwn), static_cast<std::uint8_t>(0xb8 | inner)));
    EXPECT_EQ(seen.outcome, "out_tunnel");
    EXPECT_EQ(seen.bytes.at(ETH_HLEN + 1), outer) << "of " << int{inner};
    EXPECT_EQ(seen.bytes.at(ETH_HLEN + kOverhead + 1), 0xb8 | inner);
  }
}

TEST_F(Tunnel, WhatWasMergedIsTheDevicesAndNothingOfItsFlowOvertakesIt) {
  const auto flow = [](std::uint16_t port) { return wrapped(build(kRemote), {.source_port = port}); };
  EXPECT_EQ(send_from_wire(flow(40000)).outcome, "delivered");
  gso_size_ = 100;
  EXPECT_EQ(send_from_wire(flow(40000)).outcome, "to_stack");
  gso_size_ = 0;
  EXPECT_EQ(send_from_wire(flow(40000)).outcome, "to_stack") << "the one before may still wait in a queue";
  EXPECT_EQ(send_from_wire(flow(40001)).outcome, "delivered") << "another flow";
  const std::uint32_t slot = 40000 % SLUICE_TUNNEL_FLOWS;
  const auto last = get<std::uint32_t>("tunnel_flows", slot);
  ASSERT_TRUE(last);
  EXPECT_EQ(send_from_wire(flow(40000)).outcome, "to_stack");
  EXPECT_EQ(get<std::uint32_t>("tunnel_flows", slot), last) << "what only follows does not prolong it";
  put("tunnel_flows", slot, *last - 1024);
  EXPECT_EQ(send_from_wire(flow(40000)).outcome, "delivered") << "a second later";
}

TEST_F(Tunnel, WhatIsForAnotherNodeGetsTheHeaders) {
  need_tunnel_headers();
  const auto seen = send(SLUICE_HOOK_POD, kOwn);
  EXPECT_EQ(seen.outcome, "out_tunnel");
  EXPECT_EQ(direct(), (Direct{0, 1}));
  const Bytes inner(seen.bytes.begin() + ETH_HLEN + 36, seen.bytes.end());
  EXPECT_EQ(describe(inner), "gateway>gateway 10.1.0.2:4000>10.2.0.9:53 udp ttl 63");

  iphdr ip{};
  udphdr udp{};
  std::memcpy(&ip, &seen.bytes[ETH_HLEN], sizeof ip);
  std::memcpy(&udp, &seen.bytes[ETH_HLEN + sizeof ip], sizeof udp);
  // All of it as the receiving end of these tests expects it.
  Outer outer{.from = "192.0.2.1", .to = "192.0.2.2", .source_port = ntohs(udp.source)};
  Bytes expected = wrapped(inner, outer);
  const auto id = reinterpret_cast<const std::uint8_t*>(&ip.id);
  expected[ETH_HLEN + 4] = id[0], expected[ETH_HLEN + 5] = id[1];
  expected[ETH_HLEN + 10] = expected[ETH_HLEN + 11] = 0;
  const auto sum = checksum(&expected[ETH_HLEN], sizeof ip);
  expected[ETH_HLEN + 10] = static_cast<std::uint8_t>(sum >> 8);
  expected[ETH_HLEN + 11] = static_cast<std::uint8_t>(sum);
  EXPECT_EQ(Bytes(seen.bytes.begin() + ETH_HLEN, seen.bytes.end()),
            Bytes(expected.begin() + ETH_HLEN, expected.end()));
  EXPECT_GE(ntohs(udp.source), 32768);
  EXPECT_LT(ntohs(udp.source), 61000);
}

TEST_F(Tunnel, AFlowHasOneSourcePortAndFlowsHaveSeveral) {
  need_tunnel_headers();
  const auto port = [&](std::uint16_t sport) {
    const auto seen = send(SLUICE_HOOK_POD, but(kOwn, [&](Frame& f) { f.sport = sport; }));
    return seen.bytes.at(ETH_HLEN + sizeof(iphdr)) << 8 | seen.bytes.at(ETH_HLEN + sizeof(iphdr) + 1);
  };
  EXPECT_EQ(port(4000), port(4000));
  std::set<int> ports;
  for (std::uint16_t sport = 1; sport <= 32; ++sport) ports.insert(port(sport));
  EXPECT_GT(ports.size(), 16U);
}

TEST_F(Tunnel, WhatDoesNotFitOrLeavesElsewhereIsTheDevices) {
  need_tunnel_headers();
  add_route("10.3.0.0", 24, SLUICE_ROUTE_TUNNEL, "192.0.3.2");
  auto netlink = NetlinkSocket::make();
  ASSERT_TRUE(netlink);
  Route elsewhere;
  elsewhere.destination = Prefix::host(*Address::parse("192.0.3.2"));
  elsewhere.link_index = interfaces().stranger;
  ASSERT_TRUE(netlink->replace_route(elsewhere));
  struct Case {
    const char* sentence;
    Frame frame;
    std::uint32_t gso_size;
    std::uint64_t direct;
  };
  const auto sized = [](unsigned payload) { return but(kOwn, [&](Frame& f) { f.payload = payload; }); };
  const Case cases[] = {
      {"as large as the uplink takes", sized(1500 - kOverhead - 28), 0, 1},
      {"a byte larger", sized(1500 - kOverhead - 27), 0, 0},
      {"segments of a protocol that is cut by nothing known here",
       but(kOwn, [](Frame& f) { f.proto = IPPROTO_SCTP, f.payload = 100; }), 50, 0},
      {"segments that do not fit", sized(2000), 1500, 0},
      {"a node that another interface leads to", but(kOwn, [](Frame& f) { f.dst = "10.3.0.1"; }), 0, 0},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.sentence);
    gso_size_ = each.gso_size;
    const auto seen = send(SLUICE_HOOK_POD, each.frame);
    EXPECT_EQ(seen.outcome, "out_tunnel");
    EXPECT_EQ(direct(), (Direct{0, each.direct}));
    EXPECT_EQ(seen.bytes.size(), build(each.frame).size() + (each.direct ? kOverhead : 0));
  }
}

// What a pod would send to a node's tunnel: an answer to another pod's question, say.
Frame forged(const std::string& to) { return {.src = "10.1.0.2", .dst = to, .sport = 4000, .dport = kPort}; }

TEST_F(Tunnel, NoPodSpeaksToANodesTunnelUnderTheNodesAddress) {
  const char* const paths[] = {"the modules write the headers", "the device does", "masquerade is off",
                               "the pod keeps its address"};
  for (const std::string path : paths) {
    SCOPED_TRACE(path);
    if (path == paths[1]) change_config([](sluice_config& config) { config.tunnel_port_be = 0; });
    if (path == paths[2]) change_config([](sluice_config& config) { config.node_ipv4 = {}; });
    if (path == paths[3]) {
      change_config([](sluice_config& config) { config.node_ipv4 = address("192.0.2.1"); });
      auto pod = get<sluice_endpoint>("endpoints", kPodA).value();
      pod.flags |= SLUICE_ENDPOINT_KEEPS_SOURCE;
      put("endpoints", kPodA, pod);
    }
    for (const char* node : {"192.0.2.2", "192.0.2.1", "10.1.0.1"})
      EXPECT_EQ(send(SLUICE_HOOK_POD, forged(node)).outcome, "dropped TUNNEL_PORT") << node;
  }
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(forged("192.0.2.2"), [](Frame& f) { f.dport = kPort + 1; }))
                .outcome.find("dropped"),
            std::string::npos)
      << "another port of the node is nobody's tunnel";
}

TEST_F(Tunnel, NoPodSpeaksToTheTunnelOfANodesAddressThatIsNotKnown) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, forged("203.0.113.2")).outcome, "dropped TUNNEL_PORT")
      << "it would bear this node's address";
  auto pod = get<sluice_endpoint>("endpoints", kPodA).value();
  pod.flags |= SLUICE_ENDPOINT_KEEPS_SOURCE;
  put("endpoints", kPodA, pod);
  EXPECT_EQ(send(SLUICE_HOOK_POD, forged("203.0.113.2")).outcome, "out_uplink")
      << "under the pod's own address";
}

TEST_F(Tunnel, PodsMaySpeakVxlanToEachOther) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, forged("10.2.0.9")).outcome, "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_POD, forged("10.1.0.3")).outcome, "delivered");
}

TEST_F(Tunnel, LaterFragmentsGoWhereTheirFirstOneMayGo) {
  const auto fragment = [](bool first) {
    return but(forged("192.0.2.2"), [&](Frame& f) { f.id = 9, f.more = first, f.offset = first ? 0 : 1480; });
  };
  EXPECT_EQ(send(SLUICE_HOOK_POD, fragment(true)).outcome, "dropped TUNNEL_PORT");
  EXPECT_NE(send(SLUICE_HOOK_POD, fragment(false)).outcome.find("dropped"), std::string::npos);
}

TEST_F(Tunnel, NoTunnelPacketIsTakenFromAMasqueradePort) {
  const auto inner = build(kRemote);
  for (const std::uint16_t direct : {kPort, std::uint16_t{0}}) {
    SCOPED_TRACE(direct);
    change_config([&](sluice_config& config) { config.tunnel_port_be = htons(direct); });
    for (const std::uint16_t port :
         {std::uint16_t{SLUICE_SNAT_PORT_MIN}, std::uint16_t{SLUICE_SNAT_PORT_MAX}}) {
      EXPECT_EQ(send_from_wire(wrapped(inner, {.source_port = port})).outcome, "dropped TUNNEL_PORT");
      EXPECT_EQ(send_from_wire(wrapped(inner, {.to = "10.1.0.1", .source_port = port})).outcome,
                "dropped TUNNEL_PORT")
          << "whichever of the node's addresses";
      EXPECT_EQ(send_from_wire(wrapped(inner, {.source_port = port, .fragment = 0x2000})).outcome,
                "dropped TUNNEL_PORT")
          << "the first of several fragments";
    }
  }
  EXPECT_EQ(send_from_wire(wrapped(inner, {.source_port = SLUICE_TUNNEL_PORT_MAX})).outcome, "to_stack");
}

// Where other interfaces lead, somebody could forge a node's address past the kernel's filter.
TEST_F(Tunnel, IsTakenOnlyWhereTheOtherNodesAre) {
  const auto from = wrapped(build(kRemote));
  add_uplink(interfaces().uplink, kNodeNumber, SLUICE_UPLINK_ETHERNET);
  EXPECT_EQ(send_from_wire(from).outcome, "to_stack");
  EXPECT_EQ(direct(), (Direct{0, 0}));
  add_uplink(interfaces().uplink, kNodeNumber);
  EXPECT_EQ(send_from_wire(from).outcome, "delivered");
}

TEST_F(Tunnel, WithoutAPortAllIsTheDevices) {
  change_config([](sluice_config& config) { config.tunnel_port_be = 0; });
  const auto from = wrapped(build(kRemote));
  EXPECT_EQ(send_from_wire(from).outcome, "to_stack");
  const auto to = send(SLUICE_HOOK_POD, kOwn);
  EXPECT_EQ(to.outcome, "out_tunnel");
  EXPECT_EQ(to.out, "gateway>gateway 10.1.0.2:4000>10.2.0.9:53 udp ttl 63");
  EXPECT_EQ(direct(), (Direct{0, 0}));
}

}  // namespace
}  // namespace sluice::bpftest
