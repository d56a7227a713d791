// SPDX-License-Identifier: Apache-2.0
// Where the router sends, and what it takes from the time to live. Masquerade is masquerade_test.cpp's.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

using Router = World;

const Frame kFromA{.src = "10.1.0.2", .dst = "10.2.0.9", .sport = 4000, .dport = 53};

TEST_F(Router, FromAPod) {
  struct Row {
    const char* sentence;
    Frame frame;
    const char* outcome;
    const char* out;
  };
  const auto to = [](const char* dst) { return but(kFromA, [&](Frame& f) { f.dst = dst; }); };
  const Row rows[] = {
      {"to another node's pod by the tunnel", to("10.2.0.9"), "out_tunnel",
       "gateway>gateway 10.1.0.2:4000>10.2.0.9:53 udp ttl 63"},
      {"to a pod of this node", to("10.1.0.3"), "delivered",
       "gateway>podB 10.1.0.2:4000>10.1.0.3:53 udp ttl 63"},
      {"to the gateway itself", to("10.1.0.1"), "to_stack",
       "gateway>gateway 10.1.0.2:4000>10.1.0.1:53 udp ttl 64"},
      {"to the node's own address", to("192.0.2.1"), "to_stack",
       "gateway>gateway 10.1.0.2:4000>192.0.2.1:53 udp ttl 64"},
      {"to an address of the podCIDR that no pod has", to("10.1.0.200"), "dropped ENDPOINT_GONE", nullptr},
      {"with two hops left, to another node", but(kFromA, [](Frame& f) { f.ttl = 2; }), "out_tunnel",
       "gateway>gateway 10.1.0.2:4000>10.2.0.9:53 udp ttl 1"},
      {"with one hop left, to the node", but(to("10.1.0.1"), [](Frame& f) { f.ttl = 1; }), "to_stack",
       "gateway>gateway 10.1.0.2:4000>10.1.0.1:53 udp ttl 1"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Seen seen = send(SLUICE_HOOK_POD, row.frame);
    EXPECT_EQ(seen.outcome, row.outcome);
    if (row.out) {
      EXPECT_EQ(seen.out, row.out);
    }
  }
}

TEST_F(Router, TheIpChecksumHoldsForEveryTimeToLive) {
  // Identification and time to live together run through carries of the checksum.
  for (unsigned id = 0; id < 0x10000; id += 0x0f3d)
    for (const std::uint8_t ttl : std::initializer_list<std::uint8_t>{2, 63, 64, 128, 255}) {
      const Seen seen =
          send(SLUICE_HOOK_POD,
               but(kFromA, [&](Frame& f) { f.id = static_cast<std::uint16_t>(id), f.ttl = ttl; }));
      ASSERT_EQ(seen.out.find("BAD"), std::string::npos) << "id " << id << ": " << seen.out;
    }
}

TEST_F(Router, WithoutAnUplinkTheWorldIsOutOfReach) {
  change_config([](sluice_config& config) { config.uplinks = 0, config.node_ipv4 = {}; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kFromA, [](Frame& f) { f.dst = "198.51.100.7"; })).outcome,
            "dropped NO_UPLINK");
}

TEST_F(Router, WithoutARouteOfTheNodeThePacketIsDropped) {
  // The FIB refuses what would have to leave by an interface that does not forward.
  change_config([](sluice_config& config) {
    config.node_ipv4 = {};
    config.host_ifindex = static_cast<std::uint32_t>(interfaces().stranger);
  });
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kFromA, [](Frame& f) { f.dst = "198.51.100.7"; })).outcome,
            "dropped NO_ROUTE");
}

TEST_F(Router, WithoutAMasqueradeAddressTheWorldSeesThePod) {
  change_config([](sluice_config& config) { config.node_ipv4 = {}; });
  const Seen seen = send(SLUICE_HOOK_POD, but(kFromA, [](Frame& f) { f.dst = "198.51.100.7"; }));
  EXPECT_EQ(seen.outcome, "out_uplink");
  EXPECT_EQ(seen.out, "podA>gateway 10.1.0.2:4000>198.51.100.7:53 udp ttl 63");
}

TEST_F(Router, AnswersToAnotherNodeGoBackThroughTheTunnel) {
  const Frame question{.from = "gateway", .src = "192.0.2.2", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, question).outcome, "delivered");
  const Seen answer =
      send(SLUICE_HOOK_POD, Frame{.src = "10.1.0.2", .dst = "192.0.2.2", .sport = 80, .dport = 5000});
  EXPECT_EQ(answer.outcome, "out_tunnel");
  EXPECT_EQ(answer.out, "gateway>gateway 10.1.0.2:80>192.0.2.2:5000 udp ttl 63");
}

TEST_F(Router, FromTheNodeNoHopIsCounted) {
  const Seen seen = send(
      SLUICE_HOOK_HOST,
      Frame{.from = "gateway", .src = "10.1.0.1", .dst = "10.1.0.2", .sport = 5000, .dport = 80, .ttl = 1});
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out, "gateway>podA 10.1.0.1:5000>10.1.0.2:80 udp ttl 1");
}

TEST_F(Router, FromAnotherNodeAHopIsCounted) {
  const Frame frame{
      .from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 5000, .dport = 80, .ttl = 1};
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, but(frame, [](Frame& f) { f.ttl = 9; })).out,
            "gateway>podA 10.2.0.9:5000>10.1.0.2:80 udp ttl 8");
}

TEST_F(Router, AnEndpointWithoutAnInterfaceIsMissing) {
  sluice_endpoint gone{};
  gone.ipv4 = address("10.1.0.3");
  put("endpoints", kPodB, gone);
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kFromA, [](Frame& f) { f.dst = "10.1.0.3"; })).outcome,
            "dropped MAP_MISSING");
}

}  // namespace
}  // namespace sluice::bpftest
