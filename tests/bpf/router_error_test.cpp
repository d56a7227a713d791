// SPDX-License-Identifier: Apache-2.0
// ICMP errors of the node itself: whom they go to, and that they quote what their receiver sent.
#include "common/netlink.h"
#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

constexpr const char* kWorld = "198.51.100.7";

class RouterError : public Service {
 protected:
  void TearDown() override {
    set_mtu(1500);
    Service::TearDown();
  }
  static void set_mtu(unsigned mtu) {
    LinkChange change;
    change.mtu = mtu;
    ASSERT_TRUE(NetlinkSocket::make()->change_link(interfaces().uplink, change));
  }
  // An IPv4 packet of that size.
  static Frame sized(Frame frame, unsigned size) {
    frame.payload = size - 20 - (frame.proto == IPPROTO_TCP ? 20 : 8);
    return frame;
  }
  static Frame to_world(std::uint8_t proto = IPPROTO_UDP) {
    return {.src = "10.1.0.2", .dst = kWorld, .proto = proto, .sport = 4000, .dport = 53, .flags = "S"};
  }
  static Frame last_hop(Frame frame) {
    frame.ttl = 1;
    return frame;
  }
  static unsigned code(const Seen& seen) { return seen.bytes.at(35); }
  static unsigned mtu(const Seen& seen) { return seen.bytes.at(40) << 8U | seen.bytes.at(41); }
};

TEST_F(RouterError, TheLastHopIsTold) {
  struct Row {
    const char* sentence;
    sluice_hook hook;
    Frame frame;
    const char* outcome;
    const char* out;
  };
  const Frame remote{.from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 5000, .dport = 80};
  const Row rows[] = {
      {"a pod, on its way out", SLUICE_HOOK_POD, to_world(), "answered",
       "gateway>podA 10.1.0.1>10.1.0.2 icmp 11 about [10.1.0.2:4000>198.51.100.7:53 udp] ttl 64"},
      {"a pod, to another node's pod", SLUICE_HOOK_POD,
       but(to_world(IPPROTO_TCP), [](Frame& f) { f.dst = "10.2.0.9"; }), "answered",
       "gateway>podA 10.1.0.1>10.1.0.2 icmp 11 about [10.1.0.2:4000>10.2.0.9:53 tcp S] ttl 64"},
      {"a pod that asks for an echo", SLUICE_HOOK_POD, to_world(IPPROTO_ICMP), "answered",
       "gateway>podA 10.1.0.1>10.1.0.2 icmp 11 about [10.1.0.2>198.51.100.7 echo id 4000] ttl 64"},
      {"a pod with IPv4 options", SLUICE_HOOK_POD, but(to_world(), [](Frame& f) { f.options = 10; }),
       "answered", "gateway>podA 10.1.0.1>10.1.0.2 icmp 11 about [10.1.0.2:4000>198.51.100.7:53 udp] ttl 64"},
      {"another node's pod", SLUICE_HOOK_OVERLAY, remote, "out_tunnel",
       "gateway>gateway 192.0.2.1>10.2.0.9 icmp 11 about [10.2.0.9:5000>10.1.0.2:80 udp] ttl 64"},
      {"a host outside",
       SLUICE_HOOK_UPLINK,
       {.from = "02:00:00:00:00:99",
        .to = "uplink",
        .src = kWorld,
        .dst = "10.1.0.2",
        .sport = 443,
        .dport = 80},
       "out_uplink",
       "uplink>02:00:00:00:00:99 192.0.2.1>198.51.100.7 icmp 11 about [198.51.100.7:443>10.1.0.2:80 udp] ttl "
       "64"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Seen seen = send(row.hook, last_hop(row.frame));
    EXPECT_EQ(seen.outcome, row.outcome);
    EXPECT_EQ(seen.out, row.out);
  }
  EXPECT_EQ(connections(), 0U) << "nothing is learnt from them";
}

TEST_F(RouterError, AnErrorNamesWhatItsReceiverSaw) {
  serve(kService, kPort, {{"10.1.0.3"}});
  // Of a connection that nobody knows yet, by the gateway; of one that is translated, by the end that the pod
  // knows.
  for (const std::string flags : {"S", "A"}) {
    const std::string source = flags == "S" ? "10.1.0.1" : kService;
    const Seen seen = send(SLUICE_HOOK_POD, last_hop(out(IPPROTO_TCP, flags)));
    EXPECT_EQ(
        seen.out.find(fmt::format(
            "gateway>podA {}>10.1.0.2 icmp 11 about [10.1.0.2:4000>10.96.0.10:80 tcp {}]", source, flags)),
        0U)
        << seen.out;
    EXPECT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
    EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP, "S")).outcome, "delivered");
  }
  // The answer of a host outside to a masqueraded pod.
  ASSERT_EQ(send(SLUICE_HOOK_POD, to_world()).outcome, "out_uplink");
  const auto known = connection({"10.1.0.2", 4000, kWorld, 53});
  ASSERT_TRUE(known);
  const Frame answer{.from = "02:00:00:00:00:99",
                     .to = "uplink",
                     .src = kWorld,
                     .dst = "192.0.2.1",
                     .sport = 53,
                     .dport = ntohs(known->nat.snat_port_be),
                     .ttl = 1};
  const Seen seen = send(SLUICE_HOOK_UPLINK, answer);
  EXPECT_EQ(seen.outcome, "out_uplink");
  EXPECT_NE(seen.out.find(fmt::format(
                "192.0.2.1>198.51.100.7 icmp 11 about [198.51.100.7:53>192.0.2.1:{} udp]", answer.dport)),
            std::string::npos)
      << seen.out;
}

TEST_F(RouterError, APodIsToldHowMuchItsWayTakes) {
  for (const unsigned narrow : {1300U, 1299U, 576U}) {
    set_mtu(narrow);
    for (const auto proto : std::initializer_list<std::uint8_t>{IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP}) {
      SCOPED_TRACE(fmt::format("protocol {} MTU {}", proto, narrow));
      EXPECT_EQ(send(SLUICE_HOOK_POD, sized(to_world(proto), narrow)).outcome, "out_uplink") << "fits";
      const Seen seen = send(SLUICE_HOOK_POD, sized(to_world(proto), narrow + 1));
      EXPECT_EQ(seen.outcome, "delivered");
      EXPECT_EQ(seen.out.find("gateway>podA 10.1.0.1>10.1.0.2 icmp 3 about [10.1.0.2"), 0U) << seen.out;
      EXPECT_NE(seen.out.find(">198.51.100.7"), std::string::npos) << seen.out;
      EXPECT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
      if (proto != IPPROTO_ICMP) {
        EXPECT_NE(seen.out.find("10.1.0.2:4000>198.51.100.7:53"), std::string::npos) << seen.out;
      }
      EXPECT_EQ(code(seen), 4U);
      EXPECT_EQ(mtu(seen), narrow);
    }
  }
}

TEST_F(RouterError, WhatTheInterfaceCutsIsJudgedByItsSegments) {
  set_mtu(1300);
  gso_size_ = 1260;
  EXPECT_EQ(send(SLUICE_HOOK_POD, sized(to_world(IPPROTO_TCP), 3000)).outcome, "out_uplink");
  gso_size_ = 1261;
  const Seen seen = send(SLUICE_HOOK_POD, sized(to_world(IPPROTO_TCP), 3000));
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(mtu(seen), 1300U);
}

TEST_F(RouterError, ABackendIsToldWhatItSentToItsClient) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  ASSERT_EQ(send(SLUICE_HOOK_UPLINK, from_world(kNodePort)).outcome, "delivered");
  set_mtu(1300);
  const Frame large =
      sized(but(answer(IPPROTO_TCP, 443, "A"), [](Frame& f) { f.to = "gateway", f.dst = kWorld; }), 1400);
  const Seen seen = send(SLUICE_HOOK_POD, large);
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_EQ(seen.out,
            "gateway>podB 10.1.0.1>10.1.0.3 icmp 3 about [10.1.0.3:8080>198.51.100.7:443 tcp A] ttl 63");
  EXPECT_EQ(mtu(seen), 1300U);
}

TEST_F(RouterError, WhatMustNotBeAnsweredIsDropped) {
  const Frame first = but(to_world(), [](Frame& f) { f.more = true, f.id = 7, f.payload = 1472; });
  ASSERT_EQ(send(SLUICE_HOOK_POD, first).outcome, "out_uplink");
  const Frame question{.from = "02:00:00:00:00:99",
                       .to = "uplink",
                       .src = kWorld,
                       .dst = "10.1.0.2",
                       .sport = 443,
                       .dport = 80};
  ASSERT_EQ(send(SLUICE_HOOK_UPLINK, question).outcome, "delivered");
  const Frame error{.src = "10.1.0.2",
                    .dst = kWorld,
                    .proto = IPPROTO_ICMP,
                    .ttl = 1,
                    .icmp = kUnreachable,
                    .quoted = packet(question)};
  EXPECT_EQ(send(SLUICE_HOOK_POD, error).outcome, "dropped TTL_EXPIRED") << "an error";
  EXPECT_EQ(
      send(SLUICE_HOOK_POD, last_hop(but(to_world(), [](Frame& f) { f.offset = 1480, f.id = 7; }))).outcome,
      "dropped TTL_EXPIRED")
      << "a later fragment";
  EXPECT_EQ(send(SLUICE_HOOK_POD,
                 last_hop(but(to_world(IPPROTO_TCP), [](Frame& f) { f.dst = "10.2.0.9", f.flags = "R"; })))
                .outcome,
            "dropped TTL_EXPIRED")
      << "a reset";
  for (const char* nobody : {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"})
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, last_hop(but(question, [&](Frame& f) { f.src = nobody; }))).outcome,
              "dropped TTL_EXPIRED")
        << nobody;
}

TEST_F(RouterError, WhoHasUsedUpItsAnswersIsToldNothing) {
  const auto ask = [&] { return send(SLUICE_HOOK_POD, last_hop(to_world())).outcome; };
  // As if counted an hour from now: no time passes that would give more.
  put("answers_left", kPodA, sluice_answers{now_ns() + 3600 * SLUICE_NS_PER_S, 2});
  EXPECT_EQ(ask(), "answered");
  EXPECT_EQ(ask(), "answered");
  EXPECT_EQ(ask(), "dropped TTL_EXPIRED");
  EXPECT_EQ(
      send(SLUICE_HOOK_POD, last_hop(but(to_world(), [](Frame& f) { f.from = "podB", f.src = "10.1.0.3"; })))
          .outcome,
      "answered")
      << "another pod has its own";
  put("answers_left", kPodA, sluice_answers{now_ns() - SLUICE_NS_PER_S, 0});
  EXPECT_EQ(ask(), "answered") << "a second later";
  EXPECT_EQ(get<sluice_answers>("answers_left", kPodA)->left, SLUICE_ANSWERS_AT_ONCE - 1U)
      << "and not 1,000 more";
}

}  // namespace
}  // namespace sluice::bpftest
