// SPDX-License-Identifier: Apache-2.0
// Connections that come by the node's stack, which may have translated them (hostPort): their replies go back
// to it. And pods whose link has a queueing discipline.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

class Stack : public World {
 protected:
  // As the stack hands it on: to podA's port 80, whatever address and port the client knows.
  static Frame call(const std::string& client = "198.51.100.7") {
    return {.from = "gateway",
            .src = client,
            .dst = "10.1.0.2",
            .proto = IPPROTO_TCP,
            .sport = 5000,
            .dport = 80,
            .flags = "S"};
  }
  static Frame reply(const std::string& client = "198.51.100.7") {
    return {
        .src = "10.1.0.2", .dst = client, .proto = IPPROTO_TCP, .sport = 80, .dport = 5000, .flags = "SA"};
  }
  static Tuple tuple(const std::string& client = "198.51.100.7") {
    return {client, 5000, "10.1.0.2", 80, IPPROTO_TCP};
  }
};

TEST_F(Stack, RepliesGoBackByTheStack) {
  struct Row {
    const char* sentence;
    const char* client;
    const char* to;
    const char* out;
  };
  const Row rows[] = {
      {"to the world, not out by the uplink", "198.51.100.7", "gateway",
       "gateway>gateway 10.1.0.2:80>198.51.100.7:5000 tcp SA ttl 64"},
      {"to another node, not through the tunnel", "192.0.2.2", "gateway",
       "gateway>gateway 10.1.0.2:80>192.0.2.2:5000 tcp SA ttl 64"},
      {"to another node's pod", "10.2.0.9", "gateway",
       "gateway>gateway 10.1.0.2:80>10.2.0.9:5000 tcp SA ttl 64"},
      {"to the pod beside, though addressed to its MAC", "10.1.0.3", "podB",
       "gateway>gateway 10.1.0.2:80>10.1.0.3:5000 tcp SA ttl 64"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    ASSERT_EQ(send(SLUICE_HOOK_HOST, call(row.client)).outcome, "delivered");
    ASSERT_TRUE(connection(tuple(row.client)));
    EXPECT_TRUE(connection(tuple(row.client))->nat.flags & SLUICE_CT_STACK);
    const auto judged = counters().judged;
    const Seen seen = send(SLUICE_HOOK_POD, but(reply(row.client), [&](Frame& f) { f.to = row.to; }));
    EXPECT_EQ(seen.outcome, "to_stack");
    EXPECT_EQ(seen.out, row.out);
    EXPECT_EQ(counters().judged, judged) << "the connection is admitted";
    EXPECT_TRUE(connection(tuple(row.client))->progress & SLUICE_CT_REPLIED);
  }
}

TEST_F(Stack, WhatItHandsBackIsDelivered) {
  ASSERT_EQ(send(SLUICE_HOOK_HOST, call("10.1.0.3")).outcome, "delivered");
  // It had nothing to translate, or has forgotten.
  const Seen seen = send(SLUICE_HOOK_HOST, but(reply("10.1.0.3"), [](Frame& f) { f.from = "gateway"; }));
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out, "gateway>podB 10.1.0.2:80>10.1.0.3:5000 tcp SA ttl 64");
}

TEST_F(Stack, ConnectionsThatCameOtherwiseDoNotGoThere) {
  const Frame beside = but(call("10.1.0.3"), [](Frame& f) { f.from = "podB"; });
  ASSERT_EQ(send(SLUICE_HOOK_POD, beside).outcome, "delivered");
  EXPECT_FALSE(connection(tuple("10.1.0.3"))->nat.flags & SLUICE_CT_STACK);
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply("10.1.0.3")).outcome, "delivered");
  ASSERT_EQ(send(SLUICE_HOOK_OVERLAY, call("10.2.0.9")).outcome, "delivered");
  EXPECT_FALSE(connection(tuple("10.2.0.9"))->nat.flags & SLUICE_CT_STACK);
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply("10.2.0.9")).outcome, "out_tunnel");
}

TEST_F(Stack, WhichWayCountsAnewWithEveryConnection) {
  const Frame beside = but(call("10.1.0.3"), [](Frame& f) { f.from = "podB"; });
  const Frame reset = but(reply("10.1.0.3"), [](Frame& f) { f.flags = "R"; });
  for (int turn = 0; turn < 2; ++turn) {
    ASSERT_EQ(send(SLUICE_HOOK_POD, beside).outcome, "delivered");
    EXPECT_EQ(send(SLUICE_HOOK_POD, reply("10.1.0.3")).outcome, "delivered");
    EXPECT_EQ(send(SLUICE_HOOK_POD, reset).outcome, "delivered") << "the next one is another connection";
    ASSERT_EQ(send(SLUICE_HOOK_HOST, call("10.1.0.3")).outcome, "delivered");
    EXPECT_EQ(send(SLUICE_HOOK_POD, reply("10.1.0.3")).outcome, "to_stack");
    EXPECT_EQ(send(SLUICE_HOOK_POD, reset).outcome, "to_stack");
  }
}

TEST_F(Stack, ErrorsAboutThemGoBackThereToo) {
  const Frame asked = but(call(), [](Frame& f) { f.proto = IPPROTO_UDP; });
  ASSERT_EQ(send(SLUICE_HOOK_HOST, asked).outcome, "delivered");
  const Frame error{.src = "10.1.0.2",
                    .dst = "198.51.100.7",
                    .proto = IPPROTO_ICMP,
                    .icmp = kUnreachable,
                    .quoted = packet(asked)};
  EXPECT_EQ(send(SLUICE_HOOK_POD, error).outcome, "to_stack");
}

TEST_F(Stack, PolicyJudgesBothDirections) {
  ASSERT_EQ(send(SLUICE_HOOK_HOST, call()).outcome, "delivered");
  // podA may not call anybody; that it answers is another thing.
  set_policy(kPodA, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  set_live(1, 1);
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply()).outcome, "to_stack");
  set_policy(kPodA, {{7, 0}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS, 0, {}, {}});
  set_live(1, 2);
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply()).outcome, "dropped POLICY_INGRESS");
  EXPECT_EQ(send(SLUICE_HOOK_HOST, call()).outcome, "dropped POLICY_INGRESS");
}

TEST_F(Stack, TheNodesOwnConnectionsNeedNoEntry) {
  EXPECT_EQ(send(SLUICE_HOOK_HOST, call("10.1.0.1")).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply("10.1.0.1")).outcome, "to_stack");
  EXPECT_EQ(connections(), 0U);
}

TEST_F(Stack, ATornFlagIsNotBelieved) {
  ASSERT_EQ(send(SLUICE_HOOK_HOST, call()).outcome, "delivered");
  change_entry(tuple(), [](sluice_ct_entry& entry) { entry.nat.flags ^= SLUICE_CT_STACK; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, reply()).outcome, "dropped CT_BUSY");
}

// That it is sent by the link and not past it, real links show: tests/netns/datapath_queue_test.cpp.
TEST_F(Stack, AQueuedPodGetsTheSameFrame) {
  const Seen before = send(SLUICE_HOOK_HOST, call());
  auto endpoint = get<sluice_endpoint>("endpoints", kPodA);
  ASSERT_TRUE(endpoint);
  endpoint->flags = SLUICE_ENDPOINT_QUEUED;
  put("endpoints", kPodA, *endpoint);
  const Seen after = send(SLUICE_HOOK_HOST, call());
  EXPECT_EQ(after.outcome, "delivered");
  EXPECT_EQ(after.bytes, before.bytes);
}

}  // namespace
}  // namespace sluice::bpftest
