// SPDX-License-Identifier: Apache-2.0
// Generations and epochs: what an established connection needs to pass, and the probe that asks beforehand.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint32_t kIn = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS;

class Generations : public World {
 protected:
  const Frame kCall{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 80};
  const Frame kAnswer{.from = "podB", .src = "10.1.0.3", .dst = "10.1.0.2", .sport = 80, .dport = 4000};
  const Tuple kTuple{"10.1.0.2", 4000, "10.1.0.3", 80};
  std::string call() { return send(SLUICE_HOOK_POD, kCall).outcome; }
  std::string answer() { return send(SLUICE_HOOK_POD, kAnswer).outcome; }
  std::uint64_t stamp() { return connection(kTuple).value_or(Connection{}).stamp; }
};

TEST_F(Generations, AConnectionIsJudgedOnceInEach) {
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(stamp(), SLUICE_STAMP(1, 0));
  const Generation second{.number = 2, .slot = 1};
  go_live(load_generation(second), second);
  EXPECT_EQ(answer(), "delivered");
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(stamp(), SLUICE_STAMP(2, 0));
  EXPECT_EQ(counters(0).judged, 1U);
  EXPECT_EQ(counters(1).judged, 1U);
  EXPECT_EQ(counters(1).rejudged, 1U);
}

TEST_F(Generations, AnEpochHasItJudgedAgain) {
  EXPECT_EQ(call(), "delivered");
  set_live(1, 1);
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(stamp(), SLUICE_STAMP(1, 1));
  EXPECT_EQ(counters().rejudged, 1U);
}

TEST_F(Generations, ADenyClosesBothDirectionsAndALaterAllowOpensThem) {
  const auto tcp = [&](Frame frame, const char* flags) {
    frame.proto = IPPROTO_TCP;
    frame.flags = flags;
    return send(SLUICE_HOOK_POD, frame).outcome;
  };
  const auto tcp_stamp = [&] {
    Tuple tuple = kTuple;
    tuple.proto = IPPROTO_TCP;
    return connection(tuple).value_or(Connection{}).stamp;
  };
  EXPECT_EQ(tcp(kCall, "S"), "delivered");
  EXPECT_EQ(tcp(kAnswer, "SA"), "delivered");
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  set_live(1, 1);
  EXPECT_EQ(tcp(kCall, "A"), "dropped POLICY_INGRESS");
  EXPECT_EQ(tcp(kAnswer, "A"), "dropped POLICY_INGRESS")
      << "judged as the connection, not as a packet to podA";
  EXPECT_EQ(tcp_stamp(), SLUICE_STAMP(1, 0));
  set_row(5, 0, {0});
  EXPECT_EQ(tcp(kAnswer, "A"), "delivered");
  EXPECT_EQ(tcp_stamp(), SLUICE_STAMP(1, 1));
  const std::uint64_t judged = counters().judged;
  EXPECT_EQ(tcp(kCall, "A"), "delivered");
  EXPECT_EQ(counters().judged, judged);
}

TEST_F(Generations, AnswersNeedNoRuleOfTheirOwn) {
  set_policy(kPodA, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(answer(), "delivered");
  set_live(1, 1);
  EXPECT_EQ(answer(), "delivered") << "nor when judged again";
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kAnswer, [](Frame& f) { f.sport = 81; })).outcome,
            "dropped POLICY_INGRESS");
}

TEST_F(Generations, EachReadsTheClassOfItsOwnSlot) {
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  set_row(5, 3, {0});
  set_class("10.1.0.2", 3, 2);
  EXPECT_EQ(call(), "dropped POLICY_INGRESS") << "slot 0 has class 0";
  const Generation third{.number = 3, .slot = 2};
  Firewall next = load_generation(third);
  set_policy(next, kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  go_live(std::move(next), third);
  EXPECT_EQ(call(), "delivered") << "slot 2 has class 3";
}

TEST_F(Generations, AProgramThatIsNotLiveYetVouchesForItselfOnly) {
  // Between the slot's write and the publication, and for the replaced program the other way round.
  const Generation second{.number = 2, .slot = 1};
  Firewall next = load_generation(second);
  set_slot(SLUICE_MODULE_FIREWALL, next);
  set_live(1, 9);
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(stamp(), SLUICE_STAMP(2, 0)) << "not the epoch of another generation";
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(counters(1).judged, 2U) << "so it is judged until `live` says 2";
  set_live(2, 0);
  EXPECT_EQ(call(), "delivered");
  EXPECT_EQ(counters(1).judged, 2U);
}

TEST_F(Generations, EventsTellVerdictsAndDropsWhenAskedFor) {
  EXPECT_EQ(call(), "delivered");
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kCall, [](Frame& f) { f.sport = 4001; })).outcome,
            "dropped POLICY_INGRESS");
  EXPECT_TRUE(events().empty()) << "nobody asked";

  change_config([](sluice_config& c) { c.monitor = SLUICE_MONITOR_DROPS; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kCall, [](Frame& f) { f.sport = 4002; })).outcome,
            "dropped POLICY_INGRESS");
  auto seen = events();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].kind, SLUICE_EVENT_DROP);
  EXPECT_EQ(seen[0].reason, SLUICE_DROP_POLICY_INGRESS);
  EXPECT_EQ(seen[0].module, SLUICE_MODULE_FIREWALL);
  EXPECT_EQ(seen[0].hook, SLUICE_HOOK_POD);
  EXPECT_EQ(ntohs(seen[0].sport_be), 4002);
  EXPECT_EQ(seen[0].src_endpoint, kPodA);
  EXPECT_EQ(seen[0].dst_endpoint, kPodB);
  EXPECT_EQ(seen[0].length, build(kCall).size());
  EXPECT_EQ(seen[0].ifindex_low, interfaces().pod_a);
  EXPECT_EQ(0, std::memcmp(&seen[0].src, address("10.1.0.2").bytes, 16));

  change_config([](sluice_config& c) { c.monitor = SLUICE_MONITOR_VERDICTS; });
  set_row(5, 0, {0});
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kCall, [](Frame& f) { f.sport = 4003; })).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(kCall, [](Frame& f) { f.src = "10.1.0.9"; })).outcome,
            "dropped SOURCE_IP");
  seen = events();
  ASSERT_EQ(seen.size(), 1U) << "the drop is not asked for now";
  EXPECT_EQ(seen[0].kind, SLUICE_EVENT_VERDICT);
  EXPECT_EQ(seen[0].reason, SLUICE_DROP_NONE);
  EXPECT_EQ(seen[0].generation, 1U);
}

TEST_F(Generations, EveryVariantOfTheProgramIsAccepted) {
  for (std::uint32_t slot = 0; slot < SLUICE_GENERATION_SLOTS; ++slot)
    for (const bool blocks : {false, true})
      for (const unsigned rows : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U}) {
        const Generation variant{.number = 2 + slot,
                                 .slot = slot,
                                 .uses_blocks = blocks,
                                 .uses_ports = (rows & 1) != 0,
                                 .uses_port_tables = (rows & 2) != 0,
                                 .uses_default_rows = (rows & 4) != 0};
        go_live(load_generation(variant), variant);
        EXPECT_EQ(call(), "delivered");
        EXPECT_EQ(stamp(), SLUICE_STAMP(variant.number, 0));
      }
}

class Probe : public Generations {
 protected:
  static sluice_probe ask(std::uint32_t module) {
    sluice_probe probe{};
    probe.src = address("10.1.0.2");
    probe.dst = address("10.1.0.3");
    probe.sport_be = htons(4000);
    probe.dport_be = htons(80);
    probe.proto = IPPROTO_UDP;
    probe.src_endpoint = kPodA;
    probe.dst_endpoint = kPodB;
    probe.module = module;
    return probe;
  }
  const int kAllowed = SLUICE_PROBE_RESULT;
  const int kIngress = SLUICE_PROBE_RESULT + SLUICE_DROP_POLICY_INGRESS;
};

TEST_F(Probe, AsksTheLiveGenerationOrTheCandidate) {
  EXPECT_EQ(probe(ask(SLUICE_MODULE_CANDIDATE)), 0) << "there is none";
  const Generation second{.number = 2, .slot = 1};
  Firewall candidate = load_generation(second);
  set_policy(candidate, kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  set_slot(SLUICE_MODULE_CANDIDATE, candidate);
  EXPECT_EQ(probe(ask(SLUICE_MODULE_FIREWALL)), kAllowed);
  EXPECT_EQ(probe(ask(SLUICE_MODULE_CANDIDATE)), kIngress);
  sluice_probe reply = ask(SLUICE_MODULE_CANDIDATE);
  std::swap(reply.src, reply.dst);
  std::swap(reply.sport_be, reply.dport_be);
  std::swap(reply.src_endpoint, reply.dst_endpoint);
  EXPECT_EQ(probe(reply), kAllowed) << "podB may call";
  reply.reply = 1;
  EXPECT_EQ(probe(reply), kIngress) << "but this is the answer to the call above";
  sluice_probe own = ask(SLUICE_MODULE_CANDIDATE);
  own.own_node = 1;
  EXPECT_EQ(probe(own), kAllowed);
  sluice_probe unknown = ask(SLUICE_MODULE_CANDIDATE);
  unknown.dst_endpoint = 77;
  EXPECT_EQ(probe(unknown), SLUICE_PROBE_RESULT + SLUICE_DROP_POLICY_MISSING);
}

TEST_F(Probe, HasNoEffect) {
  EXPECT_EQ(call(), "delivered");
  change_config([](sluice_config& c) { c.monitor = SLUICE_MONITOR_DROPS | SLUICE_MONITOR_VERDICTS; });
  const sluice_stats before = stats();
  const sluice_generation_stats judged = counters();
  set_policy(kPodB, {{5, 0}, {0, 0}, kIn, 0, {}, {}});
  set_live(1, 1);
  EXPECT_EQ(probe(ask(SLUICE_MODULE_FIREWALL)), kIngress);
  set_row(5, 0, {0});
  EXPECT_EQ(probe(ask(SLUICE_MODULE_FIREWALL)), kAllowed);
  const sluice_stats after = stats();
  EXPECT_EQ(std::memcmp(&before, &after, sizeof before), 0);
  EXPECT_EQ(counters().judged, judged.judged);
  EXPECT_EQ(stamp(), SLUICE_STAMP(1, 0));
  EXPECT_TRUE(events().empty());
}

TEST_F(Probe, AnswersNothingToWhatItDoesNotUnderstand) {
  EXPECT_EQ(run_program("probe", Bytes(14 + sizeof(sluice_probe) - 1)), 0) << "too short";
  EXPECT_EQ(probe(ask(SLUICE_MODULE_DELIVER)), 0) << "no firewall's slot";
}

}  // namespace
}  // namespace sluice::bpftest
