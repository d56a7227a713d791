// SPDX-License-Identifier: Apache-2.0
// ICMP errors belong to the connection that they quote.
#include <fmt/format.h>

#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

class IcmpError : public World {
 protected:
  // An error about `about`, sent to where that came from.
  static Frame error(const Frame& about, const std::string& from_ip) {
    return {.src = from_ip,
            .dst = about.src,
            .proto = IPPROTO_ICMP,
            .icmp = kUnreachable,
            .quoted = packet(about)};
  }
  static Frame from_outside(Frame frame) {
    frame.from = "02:00:00:00:00:99";
    frame.to = "uplink";
    return frame;
  }
  static Frame from_pod_b(Frame frame) {
    frame.from = "podB";
    return frame;
  }
  const Frame kCall{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 53};
};

TEST_F(IcmpError, AboutAPodsConnectionReachesIt) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, kCall).outcome, "delivered");
  const std::uint64_t judged = counters().judged;
  const Seen seen = send(SLUICE_HOOK_POD, from_pod_b(error(kCall, "10.1.0.3")));
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out, "gateway>podA 10.1.0.3>10.1.0.2 icmp 3 about [10.1.0.2:4000>10.1.0.3:53 udp] ttl 63");
  EXPECT_EQ(counters().judged, judged) << "admitted with the connection";
  EXPECT_EQ(connections(), 1U);
}

TEST_F(IcmpError, IsJudgedAsTheConnection) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, kCall).outcome, "delivered");
  // podB may not call podA, and podA may call podB: the error goes the way that is closed.
  set_policy(kPodB, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  set_live(1, 1);
  EXPECT_EQ(send(SLUICE_HOOK_POD, from_pod_b(error(kCall, "10.1.0.3"))).outcome, "delivered");
  EXPECT_EQ(connection({"10.1.0.2", 4000, "10.1.0.3", 53})->stamp, SLUICE_STAMP(1, 1)) << "and restamps it";
  set_policy(kPodA, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  set_live(1, 2);
  EXPECT_EQ(send(SLUICE_HOOK_POD, from_pod_b(error(kCall, "10.1.0.3"))).outcome, "dropped POLICY_EGRESS");
}

TEST_F(IcmpError, AboutAnAnswerIsJudgedAsTheConnectionToo) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, kCall).outcome, "delivered");
  const Frame answer{.from = "podB", .src = "10.1.0.3", .dst = "10.1.0.2", .sport = 53, .dport = 4000};
  EXPECT_EQ(send(SLUICE_HOOK_POD, answer).outcome, "delivered");
  set_policy(kPodB, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  set_live(1, 1);
  EXPECT_EQ(send(SLUICE_HOOK_POD, error(answer, "10.1.0.2")).outcome, "delivered");
}

TEST_F(IcmpError, WithoutAConnectionIsInvalid) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, error(kCall, "10.1.0.2")).outcome, "dropped CT_INVALID");
  EXPECT_EQ(send(SLUICE_HOOK_POD, from_pod_b(error(kCall, "10.1.0.3"))).outcome, "dropped CT_INVALID");
  EXPECT_EQ(connections(), 0U);
}

TEST_F(IcmpError, OfAnExpiredConnectionIsInvalid) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, kCall).outcome, "delivered");
  change_connection({"10.1.0.2", 4000, "10.1.0.3", 53},
                    [](Connection& c) { c.last_seen_ns = now_ns() - 1000 * SLUICE_NS_PER_S; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, from_pod_b(error(kCall, "10.1.0.3"))).outcome, "dropped CT_INVALID");
}

TEST_F(IcmpError, APodCannotSpeakOfOthersConnections) {
  const Frame others = but(kCall, [](Frame& f) { f.dst = "10.2.0.9"; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, others).outcome, "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_POD, from_pod_b(error(others, "10.1.0.3"))).outcome, "dropped CT_INVALID");
}

TEST_F(IcmpError, ThatQuotesTooLittleIsInvalid) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, kCall).outcome, "delivered");
  Frame cut = from_pod_b(error(kCall, "10.1.0.3"));
  cut.quoted.resize(27);
  EXPECT_EQ(send(SLUICE_HOOK_POD, cut).outcome, "dropped CT_INVALID") << "seven bytes of UDP";
  Frame later = from_pod_b(error(but(kCall, [](Frame& f) { f.offset = 1480; }), "10.1.0.3"));
  EXPECT_EQ(send(SLUICE_HOOK_POD, later).outcome, "dropped CT_INVALID") << "a later fragment";
  Frame nested = from_pod_b(error(error(kCall, "10.1.0.2"), "10.1.0.3"));
  nested.dst = "10.1.0.2";
  EXPECT_EQ(send(SLUICE_HOOK_POD, nested).outcome, "dropped CT_INVALID") << "an error about an error";
}

TEST_F(IcmpError, ToTheNodeAboutItsOwnConnectionPasses) {
  const Frame of_node{.src = "10.1.0.1", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_POD, error(of_node, "10.1.0.2")).outcome, "to_stack");
}

TEST_F(IcmpError, FromAPodToTheNodeAboutAnotherPacketOfTheNodeIsInvalid) {
  const Frame tunnel{.src = "192.0.2.1", .dst = "192.0.2.2", .sport = 40000, .dport = 4789};
  EXPECT_EQ(send(SLUICE_HOOK_POD, error(tunnel, "10.1.0.2")).outcome, "dropped CT_INVALID")
      << "or the path to the other node would have the MTU that a pod likes";
  const Frame to_b{.src = "10.1.0.1", .dst = "10.1.0.3", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_POD, error(to_b, "10.1.0.2")).outcome, "dropped CT_INVALID");
  Frame cut = error(but(to_b, [](Frame& f) { f.dst = "10.1.0.2"; }), "10.1.0.2");
  cut.quoted.resize(27);
  EXPECT_EQ(send(SLUICE_HOOK_POD, cut).outcome, "dropped CT_INVALID") << "seven bytes of UDP";
}

TEST_F(IcmpError, FromTheNodeReachesThePod) {
  const Frame tunnelled_call = but(kCall, [](Frame& f) { f.dst = "10.2.0.9"; });
  Frame too_big = error(tunnelled_call, "10.1.0.1");
  too_big.from = "gateway";
  EXPECT_EQ(send(SLUICE_HOOK_HOST, too_big).outcome, "delivered");
}

TEST_F(IcmpError, FromAnotherNodesPodReachesThePod) {
  const Frame call = but(kCall, [](Frame& f) { f.dst = "10.2.0.9"; });
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, error(call, "10.2.0.9")).outcome, "dropped CT_INVALID")
      << "nothing was sent";
  EXPECT_EQ(send(SLUICE_HOOK_POD, call).outcome, "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, error(call, "10.2.0.9")).outcome, "delivered");
}

TEST_F(IcmpError, AboutAMasqueradedConnectionIsTranslatedInsideAndOut) {
  struct Row {
    std::uint8_t proto;
    const char* out;
  };
  const Row rows[] = {
      {IPPROTO_UDP,
       "gateway>podA 203.0.113.1>10.1.0.2 icmp 3 about [10.1.0.2:4000>198.51.100.7:443 udp] ttl 63"},
      {IPPROTO_TCP,
       "gateway>podA 203.0.113.1>10.1.0.2 icmp 3 about [10.1.0.2:4000>198.51.100.7:443 tcp S] ttl 63"},
      {IPPROTO_ICMP,
       "gateway>podA 203.0.113.1>10.1.0.2 icmp 3 about [10.1.0.2>198.51.100.7 echo id 4000] ttl 63"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.out);
    const Frame call{.src = "10.1.0.2",
                     .dst = "198.51.100.7",
                     .proto = row.proto,
                     .sport = 4000,
                     .dport = 443,
                     .flags = "S"};
    const Seen sent = send(SLUICE_HOOK_POD, call);
    ASSERT_EQ(sent.outcome, "out_uplink");
    // A router on the way returns what it saw.
    Frame error_frame = from_outside(error(call, "203.0.113.1"));
    error_frame.dst = "192.0.2.1";
    error_frame.quoted.assign(sent.bytes.begin() + 14, sent.bytes.end());
    const Seen seen = send(SLUICE_HOOK_UPLINK, error_frame);
    EXPECT_EQ(seen.outcome, "delivered");
    EXPECT_EQ(seen.out, row.out);
  }
}

TEST_F(IcmpError, AboutAMasqueradedConnectionWithoutUdpChecksum) {
  const Frame call{.src = "10.1.0.2", .dst = "198.51.100.7", .sport = 4000, .dport = 443, .checksum = false};
  const Seen sent = send(SLUICE_HOOK_POD, call);
  Frame error_frame = from_outside(error(call, "203.0.113.1"));
  error_frame.dst = "192.0.2.1";
  error_frame.quoted.assign(sent.bytes.begin() + 14, sent.bytes.end());
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, error_frame).out,
            "gateway>podA 203.0.113.1>10.1.0.2 icmp 3 about [10.1.0.2:4000>198.51.100.7:443 udp no-checksum] "
            "ttl 63");
}

TEST_F(IcmpError, FromAPodInsideAMasqueradedConnectionLeavesUnderTheNodesAddress) {
  for (const std::uint8_t proto : std::initializer_list<std::uint8_t>{IPPROTO_UDP, IPPROTO_TCP}) {
    SCOPED_TRACE(proto);
    const Frame call{
        .src = "10.1.0.2", .dst = "198.51.100.7", .proto = proto, .sport = 4000, .dport = 443, .flags = "S"};
    EXPECT_EQ(send(SLUICE_HOOK_POD, call).outcome, "out_uplink");
    const auto entry = connection({"10.1.0.2", 4000, "198.51.100.7", 443, proto});
    ASSERT_TRUE(entry);
    const Frame answer{
        .src = "198.51.100.7", .dst = "10.1.0.2", .proto = proto, .sport = 443, .dport = 4000, .flags = "SA"};
    const Seen seen = send(SLUICE_HOOK_POD, error(answer, "10.1.0.2"));
    EXPECT_EQ(seen.outcome, "out_uplink");
    EXPECT_EQ(
        seen.out,
        fmt::format("podA>gateway 192.0.2.1>198.51.100.7 icmp 3 about [198.51.100.7:443>192.0.2.1:{} {}] "
                    "ttl 63",
                    ntohs(entry->nat.snat_port_be), proto == IPPROTO_TCP ? "tcp SA" : "udp"));
  }
}

TEST_F(IcmpError, FromOutsideForNoConnectionIsTheStacks) {
  const Frame call{.src = "192.0.2.1", .dst = "198.51.100.7", .sport = SLUICE_SNAT_PORT_MIN, .dport = 443};
  const Bytes frame = build(from_outside(error(call, "203.0.113.1")));
  const Seen seen = send(SLUICE_HOOK_UPLINK, frame);
  EXPECT_EQ(seen.outcome, "to_stack");
  EXPECT_EQ(seen.bytes, frame) << "untouched";
}

// A router outside cannot pass on what a backend on another node sends to the client of a node port.
class IcmpErrorAcrossNodes : public Service {
 protected:
  static Frame too_big(const Frame& about, const std::string& from_ip) {
    return {.src = from_ip,
            .dst = about.src,
            .proto = IPPROTO_ICMP,
            .icmp = kUnreachable,
            .quoted = packet(about)};
  }
};

TEST_F(IcmpErrorAcrossNodes, GoesToTheBackendsNodeInTheNameOfThisOne) {
  serve("192.0.2.1", kNodePort, {{"10.2.0.9"}}, SLUICE_SERVICE_MASQUERADE, SLUICE_SCOPE_OUTSIDE);
  const Seen call = send(SLUICE_HOOK_UPLINK, from_world(kNodePort));
  ASSERT_EQ(call.outcome, "out_tunnel");
  const std::uint16_t nat = source_port(call.out);
  const Frame answer{.from = "gateway",
                     .src = "10.2.0.9",
                     .dst = "192.0.2.1",
                     .proto = IPPROTO_TCP,
                     .sport = kTarget,
                     .dport = nat,
                     .flags = "SA"};
  const Seen answered = send(SLUICE_HOOK_OVERLAY, answer);
  ASSERT_EQ(answered.outcome, "out_uplink");
  Frame error{.from = "02:00:00:00:00:99",
              .to = "uplink",
              .src = "203.0.113.1",
              .dst = "192.0.2.1",
              .proto = IPPROTO_ICMP,
              .icmp = kUnreachable};
  error.quoted.assign(answered.bytes.begin() + ETH_HLEN, answered.bytes.end());
  const Seen seen = send(SLUICE_HOOK_UPLINK, error);
  EXPECT_EQ(seen.outcome, "out_tunnel");
  const std::string text =
      fmt::format("192.0.2.1>10.2.0.9 icmp 3 about [10.2.0.9:8080>192.0.2.1:{} tcp SA]", nat);
  EXPECT_NE(seen.out.find(text), std::string::npos) << seen.out;
}

TEST_F(IcmpErrorAcrossNodes, OfAnotherNodeReachesTheBackend) {
  const Frame call{.from = "gateway",
                   .src = "192.0.2.2",
                   .dst = "10.1.0.2",
                   .proto = IPPROTO_TCP,
                   .sport = SLUICE_SNAT_PORT_MIN,
                   .dport = kTarget,
                   .flags = "S"};
  ASSERT_EQ(send(SLUICE_HOOK_OVERLAY, call).outcome, "delivered");
  const Frame answer{.src = "10.1.0.2",
                     .dst = "192.0.2.2",
                     .proto = IPPROTO_TCP,
                     .sport = kTarget,
                     .dport = SLUICE_SNAT_PORT_MIN,
                     .flags = "SA"};
  ASSERT_EQ(send(SLUICE_HOOK_POD, answer).outcome, "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, too_big(answer, "192.0.2.2")).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, too_big(answer, "203.0.113.1")).outcome, "dropped TUNNEL_SOURCE")
      << "a node speaks for itself and its pods only";
}

}  // namespace
}  // namespace sluice::bpftest
