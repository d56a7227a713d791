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
  set_policy(kPodB, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0});
  set_policy(kPodA, {});
  EXPECT_EQ(verdict(), "dropped POLICY_MISSING") << "as a source";
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.2.0.9"; }), "dropped POLICY_MISSING");
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.1.0.1"; }), "to_stack") << "but the node is reached";
}

TEST_F(Verdict, IngressAdmitsTheClassesOfItsTable) {
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "no row";
  set_row(5, 3, {0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the peer is of class 0";
  set_class("10.1.0.2", 4);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the peer is of class 4";
  set_class("10.1.0.2", 3);
  EXPECT_EQ(verdict(), "delivered") << "the peer is of class 3";
  set_policy(kPodB, {{6, 0}, {0, 0}, kIn, 0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "another table";
}

TEST_F(Verdict, EgressAdmitsTheClassesOfItsTable) {
  set_policy(kPodA, {{9, 5}, {0, 0}, kOut, 0});
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
  set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0});
  set_policy(kPodB, {{6, 0}, {0, 0}, kIn, 0});
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
  set_policy(kPodA, {{0, 5}, {0, 0}, kOut, 0});
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
  const Generation plain{.number = 2, .slot = 0, .uses_blocks = false, .uses_ports = false};
  Firewall next = load_generation(plain);
  set_policy(next, kPodA, {{0, 5}, {0, 0}, kOut, 0});
  go_live(std::move(next), plain);
  EXPECT_EQ(verdict(), "dropped POLICY_EGRESS");
}

TEST_F(Verdict, PortsByProtocolAndInterval) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0});
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

TEST_F(Verdict, PortsOfAnotherTableDoNotCount) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0});
  set_row(5, 0, {1});
  set_port(9, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  set_port(8, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "delivered");
}

TEST_F(Verdict, TableNumbersAreComparedWhole) {
  // 1 and 256 differ in the byte that a trie reading the wrong order would compare last.
  set_policy(kPodB, {{5, 0}, {256, 0}, kIn, 0});
  set_row(5, 0, {1});
  set_port(1, IPPROTO_UDP, 80, 16, 1);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
}

TEST_F(Verdict, PortClassesBeyondOnePageOfBits) {
  set_policy(kPodB, {{5, 0}, {8, 0}, kIn, 0});
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
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0});
  set_row(5, 3, {0});
  set_class("10.1.0.3", 3);
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS") << "the destination's own class admits nobody";
}

TEST_F(Verdict, APodReachesItself) {
  set_policy(kPodA, {{5, 5}, {0, 0}, kIn | kOut, 0});
  EXPECT_EQ(verdict([](Frame& f) { f.to = "podA", f.dst = "10.1.0.2"; }), "delivered");
}

TEST_F(Verdict, TheNodeItselfIsExemptBothWays) {
  set_policy(kPodA, {{5, 5}, {0, 0}, kIn | kOut, 0});
  EXPECT_EQ(send(SLUICE_HOOK_HOST,
                 Frame{.from = "gateway", .src = "10.1.0.1", .dst = "10.1.0.2", .sport = 5000, .dport = 80})
                .outcome,
            "delivered");
  EXPECT_EQ(verdict([](Frame& f) { f.dst = "10.1.0.1"; }), "to_stack");
  EXPECT_EQ(counters().judged, 0U) << "policy does not apply";
}

TEST_F(Verdict, WhatTheStackForwardsIsNotExempt) {
  set_policy(kPodA, {{5, 0}, {0, 0}, kIn, 0});
  const Frame forwarded{
      .from = "gateway", .src = "198.51.100.7", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_HOST, forwarded).outcome, "dropped POLICY_INGRESS");
  set_policy(kPodB, {{0, 5}, {0, 0}, kOut, 0});
  EXPECT_EQ(send(SLUICE_HOOK_HOST, but(forwarded, [](Frame& f) { f.src = "10.1.0.3"; })).outcome,
            "dropped POLICY_EGRESS")
      << "nor does a pod escape its own rules by way of the stack";
}

TEST_F(Verdict, FromTheOverlayAndTheWorldIngressIsJudged) {
  set_policy(kPodA, {{5, 0}, {0, 0}, kIn, 0});
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
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0});
  EXPECT_EQ(verdict(), "dropped POLICY_INGRESS");
  EXPECT_EQ(connections(), 0U);
}

}  // namespace
}  // namespace sluice::bpftest
