// SPDX-License-Identifier: Apache-2.0
// Entries of conntrack that went to another connection while a program still had them in hand.
#include "reuse.skel.h"
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

struct Handover {  // as in reuse.bpf.c
  sluice_ct_key held;
  sluice_ct_key heir;
  sluice_ct_entry value;
};

// podA has a connection to podB's port 80, held by a program, and one to another port, which inherits the
// way.
class Reuse : public World {
 protected:
  static Frame to(std::uint16_t port, const std::string& flags = "A") {
    return {.src = "10.1.0.2",
            .dst = "10.1.0.3",
            .proto = IPPROTO_TCP,
            .sport = 4000,
            .dport = port,
            .flags = flags};
  }
  static Frame from(std::uint16_t port, const std::string& flags = "A") {
    return {.from = "podB",
            .src = "10.1.0.3",
            .dst = "10.1.0.2",
            .proto = IPPROTO_TCP,
            .sport = port,
            .dport = 4000,
            .flags = flags};
  }
  static Tuple tuple(std::uint16_t port) { return {"10.1.0.2", 4000, "10.1.0.3", port, IPPROTO_TCP}; }

  void SetUp() override {
    World::SetUp();
    load(reuse_bpf__elf_bytes);
    const auto set = set_of(key_of(tuple(80)));
    for (heir_ = 81; set_of(key_of(tuple(heir_))) != set; ++heir_) ASSERT_LT(heir_, 65535);
    for (const std::uint16_t port : {std::uint16_t{80}, heir_}) open(port);
  }
  void open(std::uint16_t port) {
    ASSERT_EQ(send(SLUICE_HOOK_POD, to(port, "S")).outcome, "delivered");
    ASSERT_EQ(send(SLUICE_HOOK_POD, from(port, "SA")).outcome, "delivered");
  }
  // Lets the program act on the entry of port 80 when its way has become the other's.
  int act(const char* program) {
    const sluice_ct_entry value = *entry(tuple(heir_));
    erase_entry(key_of(tuple(heir_)));
    put("handover", std::uint32_t{0}, Handover{key_of(tuple(80)), key_of(tuple(heir_)), value});
    return run_program(program);
  }

  std::uint16_t heir_ = 0;
};

TEST_F(Reuse, ALateStampAdmitsNoOtherConnection) {
  // Now it is denied; the packet in hand has just been admitted under the rules that say so.
  set_live(1, 1);
  set_policy(kPodA, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  const sluice_ct_entry before = *entry(tuple(heir_));
  ASSERT_EQ(act("late_restamp"), 1) << "the way did not change hands";
  ASSERT_NE(entry(tuple(heir_))->stamp, before.stamp) << "nothing was written late";
  EXPECT_EQ(send(SLUICE_HOOK_POD, to(heir_)).outcome, "dropped POLICY_EGRESS");
  EXPECT_EQ(send(SLUICE_HOOK_POD, from(heir_)).outcome, "dropped POLICY_EGRESS");
}

TEST_F(Reuse, ALateStampIsHealedWhereTheRulesAdmit) {
  ASSERT_EQ(act("late_restamp"), 1);
  const std::uint64_t judged = counters().judged;
  EXPECT_EQ(send(SLUICE_HOOK_POD, to(heir_)).outcome, "delivered");
  EXPECT_EQ(counters().judged, judged + 1) << "asks the firewall once";
  EXPECT_EQ(connection(tuple(heir_))->stamp, SLUICE_STAMP(1, 0));
}

TEST_F(Reuse, ALateEndClosesNoOtherConnection) {
  const sluice_ct_entry before = *entry(tuple(heir_));
  ASSERT_EQ(act("late_touch"), 1) << "the way did not change hands";
  ASSERT_NE(entry(tuple(heir_))->progress, before.progress) << "nothing was written late";
  change_entry(tuple(heir_), [](sluice_ct_entry& e) {
    e.last_seen_ns = now_ns() - (SLUICE_CT_TCP_ESTABLISHED_S - 10) * SLUICE_NS_PER_S;
  });
  const std::uint64_t judged = counters().judged;
  EXPECT_EQ(send(SLUICE_HOOK_POD, from(heir_)).outcome, "delivered");
  EXPECT_EQ(counters().judged, judged) << "alive";
  EXPECT_EQ(connection(tuple(heir_))->progress, SLUICE_CT_REPLIED | SLUICE_CT_ASSURED) << "and healed";
}

TEST_F(Reuse, ALateReadIsRefused) { EXPECT_EQ(act("late_read"), 2); }

TEST_F(Reuse, ALateStampDoesNotReachTheSameTupleTheOtherWayRound) {
  // Judged as podA's connection to port 80, written into podB's connection to podA.
  const std::uint64_t seal = entry(tuple(80))->seal;
  change_connection(tuple(80), [](Connection& c) { c.nat.flags = SLUICE_CT_ORIGIN_HIGH; });
  set_policy(kPodB, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  change_entry(tuple(80), [&](sluice_ct_entry& e) { e.stamp = sluice_ct_stamp(seal, SLUICE_STAMP(1, 0)); });
  EXPECT_EQ(send(SLUICE_HOOK_POD, from(80)).outcome, "dropped POLICY_EGRESS");
}

TEST_F(Reuse, ForeignOrHalfWrittenFieldsAreNotBelieved) {
  struct Row {
    const char* sentence;
    void (*change)(sluice_ct_entry&);
  };
  const Row rows[] = {
      {"another direction", [](sluice_ct_entry& e) { e.nat.flags ^= SLUICE_CT_ORIGIN_HIGH; }},
      {"another kind of entry", [](sluice_ct_entry& e) { e.nat.flags |= SLUICE_CT_ALIAS; }},
      {"a translation", [](sluice_ct_entry& e) { e.nat.flags |= SLUICE_CT_MASQUERADE; }},
      {"another address", [](sluice_ct_entry& e) { e.nat.addr = address("192.0.2.1"); }},
      {"another port", [](sluice_ct_entry& e) { e.nat.port_be = htons(61000); }},
      {"the seal of another", [](sluice_ct_entry& e) { e.seal += 1; }},
      {"nothing yet", [](sluice_ct_entry& e) { e = {}; }},
  };
  const sluice_ct_entry whole = *entry(tuple(80));
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    change_entry(tuple(80), row.change);
    const sluice_ct_entry before = *entry(tuple(80));
    for (const char* flags : {"A", "R"}) {
      EXPECT_EQ(send(SLUICE_HOOK_POD, to(80, flags)).outcome, "dropped CT_BUSY") << flags;
      EXPECT_EQ(send(SLUICE_HOOK_POD, from(80, flags)).outcome, "dropped CT_BUSY") << flags;
    }
    const sluice_ct_entry after = *entry(tuple(80));
    EXPECT_EQ(std::memcmp(&before, &after, sizeof before), 0) << "and nothing is written into it";
    EXPECT_EQ(send(SLUICE_HOOK_POD, to(80, "S")).outcome, "delivered") << "a SYN believes none of it";
    EXPECT_TRUE(connection(tuple(80))) << "and writes it anew";
    put_entry(key_of(tuple(80)), whole);
    EXPECT_EQ(send(SLUICE_HOOK_POD, to(80)).outcome, "delivered");
  }
}

TEST_F(Reuse, AWholeEntryOfAnotherKeyIsNotBelieved) {
  put_entry(key_of(tuple(80)), *entry(tuple(heir_)));
  EXPECT_EQ(send(SLUICE_HOOK_POD, to(80)).outcome, "dropped CT_BUSY");
}

TEST_F(Reuse, OfMasqueradedConnectionsNeitherEntryIsBelieved) {
  const Frame out{.src = "10.1.0.2", .dst = "198.51.100.7", .sport = 4000, .dport = 443};
  const Tuple inside{"10.1.0.2", 4000, "198.51.100.7", 443};
  ASSERT_EQ(send(SLUICE_HOOK_POD, out).outcome, "out_uplink");
  const std::uint16_t nat = ntohs(connection(inside)->nat.snat_port_be);
  const Frame answer{.from = "02:00:00:00:00:99",
                     .to = "uplink",
                     .src = "198.51.100.7",
                     .dst = "192.0.2.1",
                     .sport = 443,
                     .dport = nat};
  const Tuple outside{"192.0.2.1", nat, "198.51.100.7", 443};
  for (const Tuple& torn : {inside, outside}) {
    SCOPED_TRACE(torn.src);
    const sluice_ct_entry whole = *entry(torn);
    change_entry(torn, [](sluice_ct_entry& e) { e.nat.addr = address("10.1.0.3"); });
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer).outcome, "dropped CT_BUSY") << "the stack would reset it";
    put_entry(key_of(torn), whole);
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer).outcome, "delivered");
  }
}

TEST_F(Reuse, AnErrorAboutATornEntryIsDropped) {
  Frame error = from(80);
  error.proto = IPPROTO_ICMP;
  error.icmp = kUnreachable;
  error.quoted = packet(to(80));
  ASSERT_EQ(send(SLUICE_HOOK_POD, error).outcome, "delivered");
  change_entry(tuple(80), [](sluice_ct_entry& e) { e.nat.flags ^= SLUICE_CT_ORIGIN_HIGH; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, error).outcome, "dropped CT_BUSY");
}

TEST_F(Reuse, TheClassOfAnotherAddressIsNotBelieved) {
  Frame frame = to(82, "S");
  set_policy(kPodA, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  set_class("10.1.0.2", 3);
  set_class("10.1.0.3", 4);
  set_row(7, 3, {0});
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "dropped POLICY_EGRESS") << "podB is of class 4";
  // What a lookup of podB finds once its element has become podA's.
  put("peers", address("10.1.0.3"), get<sluice_peer>("peers", address("10.1.0.2")).value());
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "dropped POLICY_EGRESS");
  set_row(7, 0, {0});
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "dropped POLICY_EGRESS") << "nor is it class 0";
  erase("peers", address("10.1.0.3"));
  set_class("10.1.0.3", 3);
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "delivered");
}

TEST_F(Reuse, TheEndpointOfAnotherAddressGetsNoPacket) {
  Frame frame = to(82, "S");
  frame.dst = "10.1.0.9";
  frame.to = "gateway";
  const std::string nobody = send(SLUICE_HOOK_POD, frame).outcome;
  EXPECT_EQ(nobody, "dropped ENDPOINT_GONE");
  // What a lookup of the address finds once its element has become podB's.
  put("locals", address("10.1.0.9"), std::uint32_t{kPodB});
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, nobody);
}

}  // namespace
}  // namespace sluice::bpftest
