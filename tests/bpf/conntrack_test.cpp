// SPDX-License-Identifier: Apache-2.0
// Entries of connections: how they come, live, close, expire and begin anew.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

class Conntrack : public World {
 protected:
  static Frame forward(const std::string& flags = "A") {
    return {.src = "10.1.0.2",
            .dst = "10.1.0.3",
            .proto = IPPROTO_TCP,
            .sport = 4000,
            .dport = 80,
            .flags = flags};
  }
  static Frame back(const std::string& flags = "A") {
    return {.from = "podB",
            .src = "10.1.0.3",
            .dst = "10.1.0.2",
            .proto = IPPROTO_TCP,
            .sport = 80,
            .dport = 4000,
            .flags = flags};
  }
  void deliver(const Frame& frame) { ASSERT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "delivered"); }
  std::uint32_t progress() { return connection(kTcp).value_or(Connection{}).progress; }
  // Lets the entry look as if its last packet came so long ago.
  void age(const Tuple& tuple, std::uint64_t seconds) {
    change_connection(tuple, [&](Connection& c) { c.last_seen_ns = now_ns() - seconds * SLUICE_NS_PER_S; });
  }
  std::uint64_t judged() { return counters().judged; }

  static constexpr std::uint32_t kEstablished = SLUICE_CT_REPLIED | SLUICE_CT_ASSURED;
  const Tuple kTcp{"10.1.0.2", 4000, "10.1.0.3", 80, IPPROTO_TCP};
  const Tuple kUdp{"10.1.0.2", 4000, "10.1.0.3", 80, IPPROTO_UDP};
};

TEST_F(Conntrack, OneEntryServesBothDirections) {
  deliver(forward("S"));
  ASSERT_EQ(connections(), 1U);
  EXPECT_EQ(connection(kTcp)->nat.flags, 0) << "the originator has the lower address";
  EXPECT_EQ(progress(), 0U) << "nothing came back yet";
  EXPECT_EQ(connection(kTcp)->stamp, SLUICE_STAMP(1, 0));
  deliver(back("SA"));
  EXPECT_EQ(connections(), 1U);
  EXPECT_EQ(progress(), SLUICE_CT_REPLIED);
  deliver(forward("A"));
  EXPECT_EQ(progress(), kEstablished) << "the originator took the answer up";
  EXPECT_EQ(judged(), 1U) << "the answer is admitted by the connection";
}

TEST_F(Conntrack, TheOriginatorMayHaveTheHigherAddress) {
  deliver(but(back("S"), [](Frame& f) { f.sport = 4000, f.dport = 80; }));
  const auto entry = connection({"10.1.0.3", 4000, "10.1.0.2", 80, IPPROTO_TCP});
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->nat.flags, SLUICE_CT_ORIGIN_HIGH);
}

TEST_F(Conntrack, APodsConnectionToItselfIsOneToo) {
  const Frame self{.to = "podA", .src = "10.1.0.2", .dst = "10.1.0.2", .sport = 9000, .dport = 53};
  deliver(self);
  deliver(but(self, [](Frame& f) { f.sport = 53, f.dport = 9000; }));
  EXPECT_EQ(connections(), 1U);
  EXPECT_EQ(judged(), 1U);
}

TEST_F(Conntrack, PortsAreComparedInTheirOwnOrder) {
  // 256 and 1 in network order are the other way round as the CPU reads them.
  const Frame self{.to = "podA", .src = "10.1.0.2", .dst = "10.1.0.2", .sport = 256, .dport = 1};
  deliver(self);
  EXPECT_TRUE(connection({"10.1.0.2", 256, "10.1.0.2", 1}));
}

TEST_F(Conntrack, TheSecondPacketSkipsTheFirewall) {
  deliver(forward("S"));
  deliver(forward("A"));
  deliver(forward("A"));
  EXPECT_EQ(judged(), 1U);
}

TEST_F(Conntrack, ASynOnAConnectionIsJudgedAndBeginsItAnew) {
  deliver(forward("S"));
  deliver(back("SA"));
  deliver(forward("FA"));
  deliver(back("FA"));
  EXPECT_TRUE(progress() & SLUICE_CT_CLOSED);
  deliver(forward("S"));
  EXPECT_EQ(judged(), 2U);
  EXPECT_EQ(progress(), 0U);
}

TEST_F(Conntrack, ASynTheOtherWayIsJudgedInItsOwnDirection) {
  deliver(forward("S"));
  deliver(back("SA"));
  // podB may be reached but not reach out: it must not use the connection's entry to do so.
  set_policy(kPodB, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, back("S")).outcome, "dropped POLICY_EGRESS");
  EXPECT_EQ(progress(), SLUICE_CT_REPLIED) << "and what was there stays";
  deliver(back("A"));
}

TEST_F(Conntrack, FinOfBothSidesClosesAndRstToo) {
  deliver(forward("S"));
  deliver(back("SA"));
  deliver(forward("FA"));
  EXPECT_EQ(progress(), kEstablished | SLUICE_CT_FIN_ORIGIN);
  deliver(back("FA"));
  EXPECT_EQ(progress(), kEstablished | SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY | SLUICE_CT_CLOSED);
  forget_connections();
  deliver(forward("S"));
  deliver(back("R"));
  EXPECT_EQ(progress(), SLUICE_CT_REPLIED | SLUICE_CT_CLOSED);
}

TEST_F(Conntrack, ASynChangesNothingThatLives) {
  deliver(forward("S"));
  deliver(back("SA"));
  deliver(forward("A"));
  age(kTcp, 100);
  const auto before = connection(kTcp)->last_seen_ns;
  const auto judgements = judged();
  deliver(forward("S"));
  EXPECT_EQ(judged(), judgements + 1) << "judged all the same";
  deliver(back("S"));
  EXPECT_EQ(progress(), kEstablished);
  EXPECT_EQ(connection(kTcp)->nat.flags, 0) << "its direction stays";
  EXPECT_EQ(connection(kTcp)->last_seen_ns, before);
  // Its originator has closed it, and nobody has spoken since: the server is asked.
  deliver(forward("FA"));
  age(kTcp, 121);
  deliver(forward("S"));
  deliver(back("A"));
  EXPECT_EQ(progress(), kEstablished | SLUICE_CT_FIN_ORIGIN) << "it still sends";
  age(kTcp, 121);
  deliver(forward("S"));
  EXPECT_EQ(progress(), kEstablished | SLUICE_CT_FIN_ORIGIN | SLUICE_CT_ASKED);
  age(kTcp, 1);
  deliver(forward("S"));
  EXPECT_EQ(progress(), 0U) << "nobody said that it goes on";
}

// What it left could stand in a connection's way, or take the place of one that is not yet answered.
TEST_F(Conntrack, AResetOfNoConnectionLeavesNothing) {
  for (const char* flags : {"R", "RA", "SR"}) deliver(forward(flags));
  EXPECT_EQ(connections(), 0U);
  deliver(forward("S"));
  deliver(back("R"));
  EXPECT_EQ(connections(), 1U);
}

TEST_F(Conntrack, AResetThatWasNotTakenClosesNothing) {
  deliver(forward("S"));
  deliver(back("SA"));
  deliver(forward("A"));
  for (const Frame& reset : {forward("R"), back("R")}) {
    deliver(reset);
    EXPECT_TRUE(progress() & SLUICE_CT_CLOSED);
    deliver(back("A"));
    EXPECT_EQ(progress(), kEstablished) << "the connection goes on";
  }
  deliver(forward("FA"));
  deliver(back("FA"));
  deliver(forward("A"));
  EXPECT_TRUE(progress() & SLUICE_CT_CLOSED) << "the last acknowledgement";
}

// Whether a reset from outside was taken, only the ends know.
TEST_F(Conntrack, AResetFromOutsideLeavesTheConnectionTimeToGoOn) {
  const auto to_world = [&](const std::string& flags) {
    const Seen seen = send(SLUICE_HOOK_POD, but(forward(flags), [](Frame& f) { f.dst = "198.51.100.7"; }));
    EXPECT_EQ(seen.outcome, "out_uplink");
  };
  const Tuple tuple{"10.1.0.2", 4000, "198.51.100.7", 80, IPPROTO_TCP};
  const auto from_world = [&](const std::string& flags) {
    const Seen seen = send(SLUICE_HOOK_UPLINK, Frame{.from = "02:00:00:00:00:99",
                                                     .to = "uplink",
                                                     .src = "198.51.100.7",
                                                     .dst = "192.0.2.1",
                                                     .proto = IPPROTO_TCP,
                                                     .sport = 80,
                                                     .dport = ntohs(connection(tuple)->nat.snat_port_be),
                                                     .flags = flags});
    EXPECT_EQ(seen.outcome, "delivered");
  };
  const auto state = [&] { return connection(tuple)->progress; };
  to_world("S");
  from_world("R");
  EXPECT_EQ(state(), SLUICE_CT_REPLIED | SLUICE_CT_CLOSED) << "refused: there was no connection yet";
  to_world("S");
  from_world("SA");
  to_world("A");
  const std::uint16_t port = connection(tuple)->nat.snat_port_be;
  from_world("R");
  EXPECT_EQ(state(), kEstablished | SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED);
  const Tuple alias{"192.0.2.1", ntohs(port), "198.51.100.7", 80, IPPROTO_TCP};
  EXPECT_EQ(connection(alias)->progress, state()) << "its port is kept, too";
  const std::uint64_t before = judged();
  for (const Tuple& each : {tuple, alias}) age(each, 3600);
  from_world("A");
  EXPECT_EQ(judged(), before) << "the same connection after an hour";
  EXPECT_EQ(state(), kEstablished);
  from_world("R");
  to_world("S");
  EXPECT_EQ(state(), kEstablished | SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED)
      << "nor does a SYN right behind it end it";
  to_world("R");
  EXPECT_EQ(state(), kEstablished | SLUICE_CT_CLOSED) << "the pod itself is believed";
  to_world("A");
  from_world("R");
  age(tuple, SLUICE_CT_TCP_CLOSED_S + 1);
  to_world("S");
  EXPECT_EQ(state(), kEstablished | SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED | SLUICE_CT_ASKED);
  from_world("A");
  EXPECT_EQ(state(), kEstablished) << "the server knows it";
  from_world("R");
  age(tuple, SLUICE_CT_TCP_CLOSED_S + 1);
  to_world("S");
  age(tuple, 1);
  to_world("S");
  EXPECT_EQ(state(), 0U) << "nobody said that it goes on";
  EXPECT_EQ(connections(), 2U);
}

TEST_F(Conntrack, AResetFromAPodOrAnotherNodeIsBelieved) {
  deliver(forward("S"));
  deliver(back("SA"));
  deliver(forward("A"));
  deliver(back("R"));
  EXPECT_EQ(progress(), kEstablished | SLUICE_CT_CLOSED);
  const Frame to_a{.from = "gateway",
                   .src = "10.2.0.9",
                   .dst = "10.1.0.2",
                   .proto = IPPROTO_TCP,
                   .sport = 80,
                   .dport = 4000};
  const Tuple tuple{"10.1.0.2", 4000, "10.2.0.9", 80, IPPROTO_TCP};
  for (const char* flags : {"S", "A"})
    EXPECT_EQ(send(SLUICE_HOOK_POD, but(forward(flags), [](Frame& f) { f.dst = "10.2.0.9"; })).outcome,
              "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_OVERLAY, but(to_a, [](Frame& f) { f.flags = "R"; })).outcome, "delivered");
  EXPECT_EQ(connection(tuple)->progress, SLUICE_CT_REPLIED | SLUICE_CT_CLOSED);
}

TEST_F(Conntrack, LifetimesByState) {
  struct Row {
    const char* sentence;
    std::uint8_t proto;
    std::uint32_t progress;
    unsigned seconds;
  };
  const Row rows[] = {
      {"TCP without an answer", IPPROTO_TCP, 0, SLUICE_CT_TCP_NEW_S},
      {"TCP established", IPPROTO_TCP, kEstablished, SLUICE_CT_TCP_ESTABLISHED_S},
      {"TCP reset", IPPROTO_TCP, kEstablished | SLUICE_CT_CLOSED, SLUICE_CT_TCP_CLOSED_S},
      {"TCP reset by somebody outside", IPPROTO_TCP, kEstablished | SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED,
       SLUICE_CT_TCP_ESTABLISHED_S},
      {"TCP closed", IPPROTO_TCP,
       kEstablished | SLUICE_CT_CLOSED | SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY,
       SLUICE_CT_TCP_TIME_WAIT_S},
      {"UDP without an answer", IPPROTO_UDP, 0, SLUICE_CT_UDP_NEW_S},
      {"UDP answered", IPPROTO_UDP, SLUICE_CT_REPLIED, SLUICE_CT_UDP_NEW_S},
      {"UDP that lasts", IPPROTO_UDP, kEstablished, SLUICE_CT_UDP_LASTING_S},
      {"echo", IPPROTO_ICMP, SLUICE_CT_REPLIED, SLUICE_CT_ICMP_S},
      {"another protocol", IPPROTO_GRE, 0, SLUICE_CT_OTHER_S},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    forget_connections();
    const Frame frame = but(forward(), [&](Frame& f) {
      f.proto = row.proto;
      if (row.proto == IPPROTO_ICMP) f.dport = f.sport;
    });
    const bool ports = row.proto != IPPROTO_GRE;
    const Tuple tuple{frame.src, ports ? frame.sport : std::uint16_t{0}, frame.dst,
                      ports ? frame.dport : std::uint16_t{0}, row.proto};
    deliver(frame);
    change_connection(tuple, [&](Connection& c) { c.progress = row.progress; });
    age(tuple, row.seconds - 2);
    const std::uint64_t before = judged();
    deliver(frame);
    EXPECT_EQ(judged(), before) << "alive two seconds before its end";
    change_connection(tuple, [&](Connection& c) { c.progress = row.progress | SLUICE_CT_FIN_REPLY; });
    age(tuple, row.seconds + 1);
    deliver(frame);
    EXPECT_EQ(judged(), before + 1) << "a new connection a second after it";
    EXPECT_EQ(connection(tuple)->progress, 0U) << "with an entry of its own";
    EXPECT_EQ(connections(), 1U);
  }
}

TEST_F(Conntrack, UdpLastsIfMoreComesThanAnAnswer) {
  const Tuple tuple{"10.1.0.2", 4000, "10.1.0.3", 80, IPPROTO_UDP};
  for (const bool by_reply : {false, true}) {
    forget_connections();
    const auto turn = [&](const Frame& frame) {
      deliver(but(frame, [](Frame& f) { f.proto = IPPROTO_UDP; }));
    };
    const auto lasts = [&] { return (connection(tuple)->progress & SLUICE_CT_ASSURED) != 0; };
    turn(forward());
    age(tuple, 5);
    turn(forward());
    EXPECT_FALSE(lasts()) << "a question that is repeated";
    turn(back());
    // However long the next steps take, they come at once.
    change_connection(tuple, [](Connection& c) { c.last_seen_ns = now_ns() + 60 * SLUICE_NS_PER_S; });
    turn(forward());
    turn(back());
    EXPECT_FALSE(lasts()) << "two questions at once";
    age(tuple, 2);
    turn(by_reply ? back() : forward());
    EXPECT_TRUE(lasts());
  }
}

TEST_F(Conntrack, AnAnswerThatNobodyTookUpLivesNoLongerThanNone) {
  deliver(forward("S"));
  deliver(back("SA"));
  age(kTcp, SLUICE_CT_TCP_NEW_S + 1);
  const std::uint64_t before = judged();
  deliver(forward("A"));
  EXPECT_EQ(judged(), before + 1) << "a new connection";
}

TEST_F(Conntrack, AnExpiredEntryLetsNoAnswerIn) {
  deliver(forward("S"));
  deliver(back("SA"));
  set_policy(kPodA, {{7, 0}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS, 0, {}, {}});
  deliver(back("A"));
  age(kTcp, SLUICE_CT_TCP_ESTABLISHED_S + 1);
  EXPECT_EQ(send(SLUICE_HOOK_POD, back("A")).outcome, "dropped POLICY_INGRESS");
}

TEST_F(Conntrack, TheTimeIsRenewedAtMostOnceASecond) {
  deliver(forward("S"));
  change_connection(kTcp, [](Connection& c) { c.last_seen_ns = now_ns() - SLUICE_NS_PER_S / 4; });
  const std::uint64_t written = connection(kTcp)->last_seen_ns;
  age(kTcp, 5);
  deliver(forward("A"));
  EXPECT_GE(connection(kTcp)->last_seen_ns, written) << "five seconds ago is renewed";
  // A clock that this CPU has not reached yet is neither old nor renewed.
  const std::uint64_t ahead = now_ns() + 100 * SLUICE_NS_PER_S;
  change_connection(kTcp, [&](Connection& c) { c.last_seen_ns = ahead; });
  const std::uint64_t before = judged();
  deliver(forward("A"));
  EXPECT_EQ(connection(kTcp)->last_seen_ns, ahead);
  EXPECT_EQ(judged(), before);
}

TEST_F(Conntrack, FullSetsRefuseNewConnectionsAndKeepOldOnes) {
  deliver(forward("S"));
  fill_sets_of(key_of(kTcp));
  deliver(back("SA"));
  deliver(forward("A"));
  deliver(forward("S"));
  const std::uint32_t full = connections();
  EXPECT_EQ(full, 2U * SLUICE_CT_WAYS);
  // The connection's place goes to another one, too.
  erase_entry(key_of(kTcp));
  fill_sets_of(key_of(kTcp));
  EXPECT_EQ(send(SLUICE_HOOK_POD, forward("S")).outcome, "dropped CT_FULL");
  EXPECT_EQ(connections(), full);
  deliver(but(forward("S"), [](Frame& f) { f.sport = 4001; }));
}

TEST_F(Conntrack, ATupleThatAnAliasHasIsNotTaken) {
  Connection alias;
  alias.nat.flags = SLUICE_CT_ALIAS;
  put_connection(kUdp, alias);
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(forward(), [](Frame& f) { f.proto = IPPROTO_UDP; })).outcome,
            "dropped CT_BUSY");
  EXPECT_EQ(connection(kUdp)->nat.flags, SLUICE_CT_ALIAS);
}

}  // namespace
}  // namespace sluice::bpftest
