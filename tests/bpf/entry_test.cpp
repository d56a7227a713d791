// SPDX-License-Identifier: Apache-2.0
// What the first module lets in, what it refuses, and why.
#include <fmt/format.h>

#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

using Entry = World;

struct Row {
  const char* sentence;
  Bytes frame;
  const char* outcome;
};

// A frame with some of its bytes changed after all checksums were made.
Bytes with(Bytes bytes, std::size_t at, std::initializer_list<std::uint8_t> values) {
  for (const std::uint8_t value : values) bytes[at++] = value;
  return bytes;
}

// BPF_PROG_TEST_RUN wants as many bytes as an IPv6 header has.
Bytes as_ipv6(Frame frame) {
  frame.payload = 20;
  return with(build(frame), 12, {0x86, 0xdd});
}

Bytes cut(Bytes bytes, std::size_t size) {
  bytes.resize(size);
  return bytes;
}

const Frame kToB{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 53};
constexpr std::uint32_t kIp = 14, kL4 = 34;

TEST_F(Entry, FromAPod) {
  const Bytes good = build(kToB);
  const Frame tcp = but(kToB, [](Frame& f) { f.proto = IPPROTO_TCP, f.flags = "S", f.payload = 0; });
  const Frame later = but(kToB, [](Frame& f) { f.offset = 1480, f.id = 77; });
  const Row rows[] = {
      {"a packet with the pod's own addresses passes", good, "delivered"},
      {"one with IPv4 options too", build(but(kToB, [](Frame& f) { f.options = 3; })), "delivered"},
      {"one with Ethernet padding behind it too", cut(good, 64), "delivered"},
      {"another source MAC is refused", build(but(kToB, [](Frame& f) { f.from = "02:00:00:00:00:99"; })),
       "dropped SOURCE_MAC"},
      {"the neighbour's source address is refused", build(but(kToB, [](Frame& f) { f.src = "10.1.0.3"; })),
       "dropped SOURCE_IP"},
      {"no source address is refused", build(but(kToB, [](Frame& f) { f.src = "0.0.0.0"; })),
       "dropped SOURCE_IP"},
      {"IPv6 is refused", as_ipv6(kToB), "dropped IPV6_UNSUPPORTED"},
      {"another EtherType is refused", with(good, 12, {0x88, 0xcc}), "dropped ETHERTYPE_UNSUPPORTED"},
      {"a total length beyond the frame is bad", cut(good, good.size() - 1), "dropped BAD_HEADER"},
      {"a header length under five words is bad", with(good, kIp, {0x44}), "dropped BAD_HEADER"},
      {"a header longer than the packet is bad", with(good, kIp + 2, {0, 16}), "dropped BAD_HEADER"},
      {"version 6 in an IPv4 frame is bad", with(good, kIp, {0x65}), "dropped BAD_HEADER"},
      {"a packet that ends inside the UDP header is short", with(good, kIp + 2, {0, 27}),
       "dropped SHORT_PACKET"},
      {"a packet that ends inside the TCP header is short", with(build(tcp), kIp + 2, {0, 39}),
       "dropped SHORT_PACKET"},
      {"a TCP header of four words is bad", with(build(tcp), kL4 + 12, {0x40}), "dropped BAD_HEADER"},
      {"multicast is refused",
       build(but(kToB, [](Frame& f) { f.dst = "224.0.0.251", f.to = "01:00:5e:00:00:fb"; })),
       "dropped MULTICAST_UNSUPPORTED"},
      {"multicast to the gateway's MAC is refused", build(but(kToB, [](Frame& f) { f.dst = "239.1.2.3"; })),
       "dropped MULTICAST_UNSUPPORTED"},
      {"limited broadcast is refused",
       build(but(kToB, [](Frame& f) { f.dst = "255.255.255.255", f.to = "all"; })),
       "dropped MULTICAST_UNSUPPORTED"},
      {"a unicast address in a broadcast frame is refused", build(but(kToB, [](Frame& f) { f.to = "all"; })),
       "dropped MULTICAST_UNSUPPORTED"},
      {"a fragment whose first was not seen is refused", build(later), "dropped FRAGMENT_UNKNOWN"},
      {"a fragment over the TCP header is bad",
       build(but(tcp, [](Frame& f) { f.offset = 8, f.payload = 16; })), "dropped BAD_HEADER"},
      {"SCTP passes", build(but(kToB, [](Frame& f) { f.proto = IPPROTO_SCTP; })), "delivered"},
      {"SCTP that ends inside its header is short",
       with(build(but(kToB, [](Frame& f) { f.proto = IPPROTO_SCTP; })), kIp + 2, {0, 31}),
       "dropped SHORT_PACKET"},
      {"a protocol without ports passes", build(but(kToB, [](Frame& f) { f.proto = IPPROTO_GRE; })),
       "delivered"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    EXPECT_EQ(send(SLUICE_HOOK_POD, row.frame).outcome, row.outcome);
  }
}

TEST_F(Entry, AVlanTagIsRefused) {
  EXPECT_EQ(send_tagged(build(kToB)).outcome, "dropped ETHERTYPE_UNSUPPORTED");
  EXPECT_EQ(send_tagged(build(but(kToB, [](Frame& f) { f.to = "podB"; }))).outcome,
            "dropped ETHERTYPE_UNSUPPORTED");
}

TEST_F(Entry, ArpFromAPodMustTellTheTruth) {
  const Arp honest{.sender_ip = "10.1.0.2", .target_ip = "10.1.0.1"};
  const auto lie = [&](const std::function<void(Arp&)>& what) {
    Arp arp = honest;
    what(arp);
    return build(arp);
  };
  const Row rows[] = {
      {"the pod's own addresses pass", build(honest), "answered"},
      {"another sender MAC inside is refused", lie([](Arp& a) { a.sender_mac = "podB"; }),
       "dropped SOURCE_MAC"},
      {"another MAC outside is refused", lie([](Arp& a) { a.from = "02:00:00:00:00:99"; }),
       "dropped SOURCE_MAC"},
      {"another sender address is refused", lie([](Arp& a) { a.sender_ip = "10.1.0.3"; }),
       "dropped SOURCE_IP"},
      {"another address length is bad", lie([](Arp& a) { a.address_length = 16; }), "dropped BAD_HEADER"},
      {"a short one is short", cut(build(honest), 41), "dropped SHORT_PACKET"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    EXPECT_EQ(send(SLUICE_HOOK_POD, row.frame).outcome, row.outcome);
  }
}

TEST_F(Entry, AnInterfaceWithoutAnEndpointIsClosed) {
  EXPECT_EQ(send_on(interfaces().stranger, build(kToB)).outcome, "dropped ENDPOINT_UNKNOWN");
}

TEST_F(Entry, AnEndpointThatMovedToAnotherInterfaceIsUnknownOnTheOld) {
  put("ifaces", sluice_iface_key{static_cast<std::uint32_t>(interfaces().stranger)}, kPodA);
  EXPECT_EQ(send_on(interfaces().stranger, build(kToB)).outcome, "dropped ENDPOINT_UNKNOWN");
}

TEST_F(Entry, AnEndpointIdOutOfRangeIsMissing) {
  put("ifaces", sluice_iface_key{static_cast<std::uint32_t>(interfaces().stranger)}, SLUICE_MAX_ENDPOINTS);
  EXPECT_EQ(send_on(interfaces().stranger, build(kToB)).outcome, "dropped MAP_MISSING");
}

TEST_F(Entry, HintsAreNotBelieved) {
  const Frame bridged = but(kToB, [](Frame& f) { f.to = "podB"; });
  const Frame unknown = but(kToB, [](Frame& f) { f.dst = "10.1.0.200"; });
  for (const std::uint32_t wrong : {0U, kPodA, kPodB, 7U, std::uint32_t{SLUICE_MAX_ENDPOINTS}}) {
    SCOPED_TRACE(wrong);
    for (std::uint32_t i = 0; i < 2 * SLUICE_MAX_ENDPOINTS; ++i) put("hints", i, wrong);
    EXPECT_EQ(send(SLUICE_HOOK_POD, kToB).outcome, "delivered");
    EXPECT_EQ(send(SLUICE_HOOK_POD, bridged).out.find("podA>podB"), 0U);
    EXPECT_EQ(send(SLUICE_HOOK_POD, unknown).outcome, "dropped ENDPOINT_GONE");
    EXPECT_EQ(send_on(interfaces().stranger, build(kToB)).outcome, "dropped ENDPOINT_UNKNOWN");
  }
}

TEST_F(Entry, FragmentsFollowTheirFirst) {
  Frame first = but(kToB, [](Frame& f) { f.more = true, f.id = 9, f.payload = 1472; });
  Frame later = but(kToB, [](Frame& f) { f.offset = 1480, f.id = 9; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, first).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "delivered");
  EXPECT_EQ(connections(), 1U) << "the later fragment has the first one's ports";
  later.id = 10;
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "dropped FRAGMENT_UNKNOWN") << "of another datagram";

  sluice_fragment_key key{};
  key.src = address(first.src);
  key.dst = address(first.dst);
  key.id = 9;
  key.proto = IPPROTO_UDP;
  auto stale = get<sluice_fragment>("fragments", key);
  ASSERT_TRUE(stale);
  const sluice_fragment whole = *stale;
  stale->seen_ns = now_ns() - 31 * SLUICE_NS_PER_S;
  put("fragments", key, *stale);
  later.id = 9;
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "dropped FRAGMENT_UNKNOWN") << "after 30 seconds";
  sluice_fragment torn = whole;
  torn.first.dport_be ^= 1;
  put("fragments", key, torn);
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "dropped FRAGMENT_UNKNOWN") << "ports of another's first";
  put("fragments", key, whole);
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "delivered");
}

TEST_F(Entry, FromTheNodesStack) {
  const Frame own{.from = "gateway", .src = "10.1.0.1", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  const Row rows[] = {
      {"from the gateway's address to a pod", build(own), "delivered"},
      {"from the node's address to a pod", build(but(own, [](Frame& f) { f.src = "192.0.2.1"; })),
       "delivered"},
      {"from the node to another node's pod", build(but(own, [](Frame& f) { f.dst = "10.2.0.9"; })),
       "out_tunnel"},
      {"to an address without a pod", build(but(own, [](Frame& f) { f.dst = "10.1.0.200"; })),
       "dropped ENDPOINT_GONE"},
      {"ARP has no place there", build(Arp{.sender_ip = "10.1.0.1", .target_ip = "10.1.0.2"}),
       "dropped ETHERTYPE_UNSUPPORTED"},
      {"IPv6 is refused", as_ipv6(own), "dropped IPV6_UNSUPPORTED"},
      {"multicast is refused", build(but(own, [](Frame& f) { f.dst = "224.0.0.1"; })),
       "dropped MULTICAST_UNSUPPORTED"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    EXPECT_EQ(send(SLUICE_HOOK_HOST, row.frame).outcome, row.outcome);
  }
  EXPECT_EQ(connections(), 0U) << "the node's own traffic is not tracked";
}

TEST_F(Entry, FromTheOverlay) {
  const Frame remote{.from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  struct Case {
    const char* sentence;
    Bytes frame;
    const char* source;
    std::uint32_t vni;
    const char* outcome;
  };
  const Case cases[] = {
      {"a pod of the node that sends", build(remote), "192.0.2.2", kVni, "delivered"},
      {"that node itself", build(but(remote, [](Frame& f) { f.src = "192.0.2.2"; })), "192.0.2.2", kVni,
       "delivered"},
      {"a pod of another node than the one that sends", build(remote), "192.0.2.3", kVni,
       "dropped TUNNEL_SOURCE"},
      {"another virtual network", build(remote), "192.0.2.2", 84, "dropped TUNNEL_SOURCE"},
      {"a source in this node's own podCIDR", build(but(remote, [](Frame& f) { f.src = "10.1.0.3"; })),
       "192.0.2.2", kVni, "dropped TUNNEL_SOURCE"},
      {"a source in the world", build(but(remote, [](Frame& f) { f.src = "198.51.100.7"; })), "192.0.2.2",
       kVni, "dropped TUNNEL_SOURCE"},
      {"IPv6 inside", as_ipv6(remote), "192.0.2.2", kVni, "dropped IPV6_UNSUPPORTED"},
      {"ARP inside", with(build(remote), 12, {0x08, 0x06}), "192.0.2.2", kVni,
       "dropped ETHERTYPE_UNSUPPORTED"},
      {"for the node's gateway address", build(but(remote, [](Frame& f) { f.dst = "10.1.0.1"; })),
       "192.0.2.2", kVni, "to_stack"},
      {"for the world", build(but(remote, [](Frame& f) { f.dst = "198.51.100.7"; })), "192.0.2.2", kVni,
       "dropped NOT_FOR_POD"},
      {"for a third node's pod", build(but(remote, [](Frame& f) { f.dst = "10.2.0.10"; })), "192.0.2.2", kVni,
       "dropped NOT_FOR_POD"},
      {"for a pod that is gone", build(but(remote, [](Frame& f) { f.dst = "10.1.0.200"; })), "192.0.2.2",
       kVni, "dropped ENDPOINT_GONE"},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.sentence);
    tunnel_source_ = each.source;
    tunnel_vni_ = each.vni;
    EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, each.frame).outcome, each.outcome);
  }
}

TEST_F(Entry, TheUplinkLeavesToTheStackWhatIsNotForPods) {
  const Frame node{.from = "02:00:00:00:00:99",
                   .to = "uplink",
                   .src = "198.51.100.7",
                   .dst = "192.0.2.1",
                   .sport = 443,
                   .dport = 40000};
  const Row rows[] = {
      {"a packet for the node below the masquerade ports", build(node), "to_stack"},
      {"one in the masquerade ports that no connection has",
       build(but(node, [](Frame& f) { f.dport = SLUICE_SNAT_PORT_MIN; })), "to_stack"},
      {"an echo request to the node", build(but(node, [](Frame& f) { f.proto = IPPROTO_ICMP; })), "to_stack"},
      {"an error about a connection of the node",
       build(but(node,
                 [](Frame& f) {
                   f.proto = IPPROTO_ICMP, f.icmp = kUnreachable;
                   f.quoted =
                       packet({.src = "192.0.2.1", .dst = "198.51.100.7", .sport = 40000, .dport = 53});
                 })),
       "to_stack"},
      {"a later fragment for the node", build(but(node, [](Frame& f) { f.offset = 1480; })), "to_stack"},
      {"what is for somebody else", build(but(node, [](Frame& f) { f.dst = "203.0.113.1"; })), "to_stack"},
      {"a pod's address that no pod has", build(but(node, [](Frame& f) { f.dst = "10.1.0.200"; })),
       "to_stack"},
      {"ARP", build(Arp{.from = "02:00:00:00:00:99", .sender_ip = "192.0.2.254", .target_ip = "192.0.2.1"}),
       "to_stack"},
      {"IPv6", as_ipv6(node), "to_stack"},
      {"a bad header", with(build(node), kIp, {0x44}), "to_stack"},
      {"one that is cut off", cut(build(node), 40), "to_stack"},
      {"a pod's packet in a frame for another host",
       build(but(node, [](Frame& f) { f.dst = "10.1.0.2", f.to = "02:00:00:00:00:77"; })), "to_stack"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Seen seen = send(SLUICE_HOOK_UPLINK, row.frame);
    EXPECT_EQ(seen.outcome, row.outcome);
    EXPECT_EQ(seen.bytes, row.frame) << "untouched";
  }
}

TEST_F(Entry, TheUplinkTakesWhatIsForAPod) {
  const Frame direct{.from = "02:00:00:00:00:99",
                     .to = "uplink",
                     .src = "198.51.100.7",
                     .dst = "10.1.0.2",
                     .sport = 5000,
                     .dport = 80};
  const Seen seen = send(SLUICE_HOOK_UPLINK, direct);
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out, "gateway>podA 198.51.100.7:5000>10.1.0.2:80 udp ttl 63");
  for (const char* forged : {"10.1.0.3", "10.2.0.9", "10.1.0.1", "192.0.2.1"}) {
    SCOPED_TRACE(forged);
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(direct, [&](Frame& f) { f.src = forged; })).outcome,
              "dropped SOURCE_IP");
  }
}

}  // namespace
}  // namespace sluice::bpftest
