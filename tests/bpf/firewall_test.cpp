// SPDX-License-Identifier: Apache-2.0
// Verdicts of one generation: tables, peer classes, port classes.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint32_t kIn = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS;
constexpr std::uint32_t kOut = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS;

class Verdict : public World {
 protected:
  // A new connection from podA to podB (or whoever is named).
  std::string verdict(const std::function<void(Frame&)>& change = [](Frame&) {}) {
    forget_connections();
    Frame frame{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 80};
    change(frame);
    return send(SLUICE_HOOK_POD, frame).outcome;
  }
  std::string verdict_on(std::uint8_t proto, std::uint16_t port) {
    return verdict([&](Frame& f) { f.proto = proto, f.dport = port; });
  }
};

TEST_F(Verdict, WithoutIsolationEverythingIsAllowed) {
  EXPECT_EQ(verdict(), "delivered");
  const sluice_generation_stats stats = counters();
  EXPECT_EQ(stats.judged, 1U);
  EXPECT_EQ(stats.allowed, 1U);
}

TEST_F(Verdict, AnEndpointWithoutRulesIsClosed) {
  set_policy(kPodB, {});
  EXPECT_EQ(verdict(), "dropped POLICY_MISSING") << "as a destination";
  set_policy(kPodB, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  set_policy(kPodA, {});
  EXPECT_EQ(verdict(), "dropped POLICY_MISSING") << "as a source";
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.2.0.9"; }), "dropped POLICY_MISSING");
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.1.0.1"; }), "to_stack") << "but the node is reached";
}

TEST_F(Verdict, IngressAdmitsTheClassesOfItsTable) {
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "no row";
  set_row(5, 3, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the peer is of class 0";
  set_class("10.1.0.2", 4);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the peer is of class 4";
  set_class("10.1.0.2", 3);
  EXPECT_EQ(verdict(), "delivered") << "the peer is of class 3";
  set_policy(kPodB, {{6, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "another table";
}

TEST_F(Verdict, EgressAdmitsTheClassesOfItsTable) {
  set_policy(kPodA, {{9, 5}, {0, 0}, kOut, 0, {}, {}});
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS");
  set_class("10.1.0.3", 3);
  set_row(9, 3, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS") << "the row is of the other direction's table";
  set_row(5, 3, {0});
  EXPECT_EQ(verdict(), "delivered");
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.2.0.9"; }), "dropped POLICY_EGRESS")
      << "an address of no class";
}

TEST_F(Verdict, EgressIsAskedFirstAndBothMustAdmit) {
  set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0, {}, {}});
  set_policy(kPodB, {{6, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS");
  set_row(5, 0, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  set_row(6, 0, {0});
  EXPECT_EQ(verdict(), "delivered");
  const sluice_generation_stats stats = counters();
  EXPECT_EQ(stats.judged, 3U);
  EXPECT_EQ(stats.denied_egress, 1U);
  EXPECT_EQ(stats.denied_ingress, 1U);
  EXPECT_EQ(stats.allowed, 1U);
  EXPECT_EQ(stats.rejudged, 0U);
}

TEST_F(Verdict, BlocksByTheLongestPrefixAndOnlyForUnknownAddresses) {
  set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0, {}, {}});
  set_row(5, 1, {0});
  set_block("10.0.0.0", 8, 1);
  EXPECT_EQ(verdict(), "delivered") << "in the block";
  set_block("10.1.0.0", 24, 2);
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS") << "in the exception inside";
  set_block("10.1.0.3", 32, 1);
  EXPECT_EQ(verdict(), "delivered") << "in the address inside that";
  set_class("10.1.0.3", 0);
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS") << "a known peer's class is final, be it 0";
}

TEST_F(Verdict, WithoutBlocksInUseTheyAreNotLookedAt) {
  set_block("10.0.0.0", 8, 1);
  set_row(5, 1, {0});
  const Generation plain{
      .number = 2, .slot = 0, .uses_blocks = false, .uses_ports = false, .uses_port_tables = false};
  Firewall next = load_generation(plain);
  set_policy(next, kPodA, {{0, 5}, {0, 0}, kOut, 0, {}, {}});
  go_live(std::move(next), plain);
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS");
}

TEST_F(Verdict, AClassWithoutARowHasTheTablesDefaultRow) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0, {}, {}});
  set_port(8, IPPROTO_UDP, 80, 16, 1);
  set_port(8, IPPROTO_UDP, 81, 16, 2);
  set_port(8, IPPROTO_UDP, 82, 16, 300);
  set_row(5, SLUICE_NO_CLASS, {1});
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 80), "delivered") << "class 0";
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 81), "dropped POLICY_INGRESS");
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 82), "dropped POLICY_INGRESS") << "another page";
  set_class("10.1.0.2", 3);
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 80), "delivered") << "class 3";
  set_row(5, 3, {2});
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 80), "dropped POLICY_INGRESS") << "a row of its own is all that holds";
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 81), "delivered");
  set_row(5, SLUICE_NO_CLASS, {300});
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 82), "delivered") << "class 3 has no row on this page";
  set_policy(kPodB, {{6, 0}, {8, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 80), "dropped POLICY_INGRESS") << "the default of another table";
}

TEST_F(Verdict, WithoutDefaultRowsInUseTheyAreNotLookedAt) {
  set_row(5, SLUICE_NO_CLASS, {0});
  const Generation plain{.number = 2, .slot = 0, .uses_default_rows = false};
  Firewall next = load_generation(plain);
  set_policy(next, kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  go_live(std::move(next), plain);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
}

TEST_F(Verdict, PortTableByProtocolAndInterval) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0, {}, {}});
  set_row(5, 0, {1, 2});
  set_port(8, IPPROTO_TCP, 80, 16, 1);
  set_port(8, IPPROTO_UDP, 8192, 3, 2);  // 8192–16383
  set_port(8, IPPROTO_UDP, 8200, 16, 3);
  struct Row {
    const char* sentence;
    std::uint8_t proto;
    std::uint16_t port;
    const char* outcome;
  };
  const Row rows[] = {
      {"TCP 80 is admitted", IPPROTO_TCP, 80, "delivered"},
      {"TCP 81 is not", IPPROTO_TCP, 81, "dropped POLICY_INGRESS"},
      {"UDP 80 is not", IPPROTO_UDP, 80, "dropped POLICY_INGRESS"},
      {"SCTP 80 is not", IPPROTO_SCTP, 80, "dropped POLICY_INGRESS"},
      {"UDP 8191 is before the range", IPPROTO_UDP, 8191, "dropped POLICY_INGRESS"},
      {"UDP 8192 begins it", IPPROTO_UDP, 8192, "delivered"},
      {"UDP 16383 ends it", IPPROTO_UDP, 16383, "delivered"},
      {"UDP 16384 is after it", IPPROTO_UDP, 16384, "dropped POLICY_INGRESS"},
      {"UDP 8200 is a class of its own", IPPROTO_UDP, 8200, "dropped POLICY_INGRESS"},
      {"an echo has no port", IPPROTO_ICMP, 0, "dropped POLICY_INGRESS"},
      {"a protocol without ports is of class 0", IPPROTO_GRE, 0, "dropped POLICY_INGRESS"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    EXPECT_EQ(verdict_on(row.proto, row.port), row.outcome);
  }
  set_row(5, 0, {0});
  EXPECT_EQ(verdict_on(IPPROTO_GRE, 0), "delivered") << "class 0 is what no port of the rules is";
  EXPECT_EQ(verdict_on(IPPROTO_UDP, 8200), "dropped POLICY_INGRESS");
}

TEST_F(Verdict, PortRunsByProtocolAndInterval) {
  sluice_policy policy{{5, 0}, {0, 0}, kIn, 0, {}, {}};
  const sluice_port_run runs[SLUICE_PORT_RUNS] = {
      {IPPROTO_TCP << 16, 0, 1},            // 0
      {IPPROTO_TCP << 16 | 80, 0, 2},       // 80
      {IPPROTO_TCP << 16 | 81, 0, 3},       // 81
      {IPPROTO_TCP << 16 | 65000, 535, 4},  // 65000–65535
      {IPPROTO_UDP << 16 | 53, 0, 65535},   // 53
      {IPPROTO_UDP << 16 | 8192, 7, 6},     // 8192–8199
      {IPPROTO_UDP << 16 | 8201, 8182, 6},  // 8201–16383
      {IPPROTO_SCTP << 16, 65535, 8},       // every port
  };
  std::copy(std::begin(runs), std::end(runs), policy.port_runs[SLUICE_INGRESS]);
  struct Row {
    const char* sentence;
    std::uint8_t proto;
    std::uint16_t port;
    unsigned port_class;
  };
  const Row rows[] = {
      {"the first port of a protocol", IPPROTO_TCP, 0, 1},
      {"the one after it", IPPROTO_TCP, 1, 0},
      {"before a run", IPPROTO_TCP, 79, 0},
      {"a run of one", IPPROTO_TCP, 80, 2},
      {"the run next to it", IPPROTO_TCP, 81, 3},
      {"after that", IPPROTO_TCP, 82, 0},
      {"before a range", IPPROTO_TCP, 64999, 0},
      {"a range begins", IPPROTO_TCP, 65000, 4},
      {"a range ends with the last port", IPPROTO_TCP, 65535, 4},
      {"the same port of the next protocol", IPPROTO_UDP, 0, 0},
      {"the same port of another protocol", IPPROTO_UDP, 80, 0},
      {"the highest class", IPPROTO_UDP, 53, 65535},
      {"before a hole", IPPROTO_UDP, 8199, 6},
      {"a hole", IPPROTO_UDP, 8200, 0},
      {"after a hole", IPPROTO_UDP, 8201, 6},
      {"the end of that", IPPROTO_UDP, 16383, 6},
      {"behind the end of that", IPPROTO_UDP, 16384, 0},
      {"the first of a whole protocol", IPPROTO_SCTP, 0, 8},
      {"the last of a whole protocol", IPPROTO_SCTP, 65535, 8},
      {"an echo has no port", IPPROTO_ICMP, 0, 0},
      {"a protocol without ports", IPPROTO_GRE, 0, 0},
  };
  for (std::uint32_t table = 5; const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    // Of each row's table: its class only, then all of the page but its class.
    policy.table[SLUICE_INGRESS] = ++table;
    set_policy(kPodB, policy);
    set_row(table, 0, {row.port_class});
    EXPECT_EQ(verdict_on(row.proto, row.port), "delivered");
    policy.table[SLUICE_INGRESS] = ++table;
    set_policy(kPodB, policy);
    for (const unsigned other : {0U, 1U, 2U, 3U, 4U, 6U, 8U, 65535U})
      if (other != row.port_class) set_row(table, 0, {other});
    EXPECT_EQ(verdict_on(row.proto, row.port), "dropped POLICY_INGRESS");
  }
}

TEST_F(Verdict, RunsAreOfTheirDirection) {
  sluice_policy policy{{5, 5}, {0, 0}, kIn | kOut, 0, {}, {}};
  policy.port_runs[SLUICE_EGRESS][0] = {IPPROTO_UDP << 16 | 80, 0, 1};
  set_row(5, 0, {1});
  set_policy(kPodB, policy);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  set_policy(kPodB, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  set_policy(kPodA, policy);
  EXPECT_EQ(verdict(), "delivered");
}

TEST_F(Verdict, APodOfThisNodeHasItsClassWithItsRules) {
  set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0, {3, ~3U}, {}});
  set_policy(kPodB, {{6, 0}, {0, 0}, kIn, 0, {4, ~4U}, {}});
  set_class("10.1.0.2", 13);
  set_class("10.1.0.3", 14);
  set_row(5, 14, {0});
  set_row(6, 13, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS") << "the address is not asked for";
  set_row(5, 4, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  set_row(6, 3, {0});
  EXPECT_EQ(verdict(), "delivered");
  for (const sluice_own_class& half : {sluice_own_class{}, {3, ~4U}, {3, 0}, {0, ~3U}, {23, ~3U}}) {
    set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0, half, {}});
    set_class("10.1.0.2", 13);
    EXPECT_EQ(verdict(), "delivered") << "by its address, if the class is not known or being written";
    set_class("10.1.0.2", 23);
    EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  }
}

TEST_F(Verdict, PortsOfAnotherTableDoNotCount) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0, {}, {}});
  set_row(5, 0, {1});
  set_port(9, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  set_port(8, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "delivered");
}

TEST_F(Verdict, TableNumbersAreComparedWhole) {
  // 1 and 256 differ in the byte that a trie reading the wrong order would compare last.
  set_policy(kPodB, {{5, 0}, {256, 0}, kIn, 0, {}, {}});
  set_row(5, 0, {1});
  set_port(1, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
}

TEST_F(Verdict, PortClassesBeyondOnePageOfBits) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0, {}, {}});
  for (const unsigned number : {63U, 64U, 255U, 256U, 300U, 65535U}) {
    SCOPED_TRACE(number);
    set_port(8, IPPROTO_UDP, 80, 16, number);
    EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
    set_row(5, 0, {number});
    EXPECT_EQ(verdict(), "delivered");
    set_port(8, IPPROTO_UDP, 80, 16, number + 1);
    EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the next class is not admitted with it";
  }
}

TEST_F(Verdict, ThePeersDirectionDecidesWhoseClassCounts) {
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  set_row(5, 3, {0});
  set_class("10.1.0.3", 3);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the destination's own class admits nobody";
}

TEST_F(Verdict, APodReachesItself) {
  set_policy(kPodA, {{5, 5}, {0, 0}, kIn | kOut, 0, {}, {}});
  EXPECT_EQ(verdict([](Frame& f) { f.to = "podA", f.dst = "10.1.0.2"; }), "delivered");
}

TEST_F(Verdict, TheNodeItselfIsExemptBothWays) {
  set_policy(kPodA, {{5, 5}, {0, 0}, kIn | kOut, 0, {}, {}});
  EXPECT_EQ(send(SLUICE_HOOK_HOST,
                 Frame{.from = "gateway", .src = "10.1.0.1", .dst = "10.1.0.2", .sport = 5000, .dport = 80})
                .outcome,
            "delivered");
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.1.0.1"; }), "to_stack");
  EXPECT_EQ(counters().judged, 0U) << "policy does not apply";
}

TEST_F(Verdict, WhatTheStackForwardsIsNotExempt) {
  set_policy(kPodA, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  const Frame forwarded{
      .from = "gateway", .src = "198.51.100.7", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_HOST, forwarded).outcome, "dropped POLICY_INGRESS");
  set_policy(kPodB, {{0, 5}, {0, 0}, kOut, 0, {}, {}});
  EXPECT_EQ(send(SLUICE_HOOK_HOST, but(forwarded, [](Frame& f) { f.src = "10.1.0.3"; })).outcome,
            "dropped POLICY_EGRESS")
      << "nor does a pod escape its own rules by way of the stack";
}

TEST_F(Verdict, FromTheOverlayAndTheWorldIngressIsJudged) {
  set_policy(kPodA, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  const Frame remote{.from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, remote).outcome, "dropped POLICY_INGRESS");
  set_class("10.2.0.9", 3);
  set_row(5, 3, {0});
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, remote).outcome, "delivered");
  Frame world{.from = "02:00:00:00:00:99",
              .to = "uplink",
              .src = "198.51.100.7",
              .dst = "10.1.0.2",
              .sport = 5000,
              .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, world).outcome, "dropped POLICY_INGRESS");
  set_block("198.51.100.0", 24, 3);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, world).outcome, "delivered");
}

TEST_F(Verdict, ADeniedConnectionLeavesNoEntry) {
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  EXPECT_EQ(connections(), 0U);
}

}  // namespace
}  // namespace sluice::bpftest
