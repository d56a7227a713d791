// SPDX-License-Identifier: Apache-2.0
// What is a reply, and what a packet may do whose connection is denied.
#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

class Reply : public Service {
 protected:
  static constexpr sluice_policy kOpen{{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}};
  static constexpr sluice_policy kNoIngress{
      {7, 0}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS, 0, {}, {}};
  static constexpr sluice_policy kNoEgress{
      {0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}};

  static Frame ping(const std::string& from, std::uint8_t type = kEcho) {
    const bool a = from == "podA";
    return {.from = from,
            .src = a ? "10.1.0.2" : "10.1.0.3",
            .dst = a ? "10.1.0.3" : "10.1.0.2",
            .proto = IPPROTO_ICMP,
            .sport = 77,
            .icmp = type};
  }
  // Between podA's and podB's port 7946.
  static Frame gossip(const std::string& from, std::uint8_t proto = IPPROTO_UDP,
                      const std::string& flags = "A") {
    Frame frame = ping(from);
    frame.proto = proto;
    frame.sport = frame.dport = 7946;
    frame.flags = flags;
    return frame;
  }
  static Tuple gossip_of(std::uint8_t proto) { return {"10.1.0.2", 7946, "10.1.0.3", 7946, proto}; }
  std::string pod(const Frame& frame) { return send(SLUICE_HOOK_POD, frame).outcome; }
  // New rules for a pod, in force from now on.
  void change_policy(std::uint32_t pod, const sluice_policy& policy) {
    set_policy(pod, policy);
    set_live(1, ++epoch_);
  }
  void age(const Tuple& tuple, std::uint64_t seconds) {
    change_connection(tuple, [&](Connection& c) { c.last_seen_ns = now_ns() - seconds * SLUICE_NS_PER_S; });
  }

 private:
  std::uint32_t epoch_ = 0;
};

TEST_F(Reply, AnIcmpRequestIsNone) {
  struct Row {
    const char* sentence;
    std::uint8_t request, reply;
  };
  const Row rows[] = {{"echo", kEcho, kEchoReply},
                      {"timestamp", kTimestamp, 14},
                      {"information", 15, 16},
                      {"address mask", 17, 18},
                      {"extended echo", 42, 43}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    forget_connections();
    change_policy(kPodB, kNoIngress);
    EXPECT_EQ(pod(ping("podB", row.request)), "delivered");
    EXPECT_EQ(pod(ping("podA", row.reply)), "delivered");
    Frame request = ping("podA", row.request);
    EXPECT_EQ(pod(request), "dropped POLICY_INGRESS") << "podB has the same identifier in use";
    request.id = 5;
    request.more = true;
    EXPECT_EQ(pod(request), "dropped POLICY_INGRESS");
    request.offset = 1480;
    EXPECT_EQ(pod(request), "dropped FRAGMENT_UNKNOWN") << "nor are its other fragments";
    change_policy(kPodB, kOpen);
    for (const char* from : {"podA", "podB", "podA"}) {
      const std::uint64_t judged = counters().judged;
      EXPECT_EQ(pod(ping(from, row.request)), "delivered");
      EXPECT_EQ(counters().judged, judged + 1) << "in its own direction";
      EXPECT_EQ(pod(ping("podA", row.reply)), "delivered");
      EXPECT_EQ(pod(ping("podB", row.reply)), "delivered");
      EXPECT_EQ(pod(ping(from, row.request)), "delivered");
      EXPECT_EQ(counters().judged, judged + 1) << "whoever asked last has the entry";
    }
    EXPECT_EQ(connections(), 1U);
  }
}

TEST_F(Reply, FromOutsideARequestReachesNoPodsPing) {
  EXPECT_EQ(pod(but(ping("podA"), [](Frame& f) { f.dst = "198.51.100.7"; })), "out_uplink");
  const auto entry = connection({"10.1.0.2", 77, "198.51.100.7", 77, IPPROTO_ICMP});
  ASSERT_TRUE(entry);
  Frame echo{.from = "02:00:00:00:00:99",
             .to = "uplink",
             .src = "198.51.100.7",
             .dst = "192.0.2.1",
             .proto = IPPROTO_ICMP,
             .sport = ntohs(entry->nat.snat_port_be)};
  const Bytes request = build(echo);
  const Seen seen = send(SLUICE_HOOK_UPLINK, request);
  EXPECT_EQ(seen.outcome, "to_stack") << "the node is asked";
  EXPECT_EQ(seen.bytes, request) << "untouched";
  echo.icmp = kEchoReply;
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, echo).outcome, "delivered");
}

TEST_F(Reply, WhatIsDeniedKeepsNothingAlive) {
  for (const std::uint8_t proto : std::initializer_list<std::uint8_t>{IPPROTO_TCP, IPPROTO_UDP}) {
    SCOPED_TRACE(proto);
    const Tuple tuple = gossip_of(proto);
    const Frame from_a = gossip("podA", proto), from_b = gossip("podB", proto);
    EXPECT_EQ(pod(gossip("podA", proto, "S")), "delivered");
    EXPECT_EQ(pod(gossip("podB", proto, "SA")), "delivered");
    EXPECT_EQ(pod(from_a), "delivered");
    change_policy(kPodA, kNoEgress);
    change_policy(kPodB, kNoEgress);
    age(tuple, 20);
    const sluice_ct_entry before = *entry(tuple);
    for (const char* flags : {"A", "FA", "R"}) {
      EXPECT_EQ(pod(gossip("podA", proto, flags)), "dropped POLICY_EGRESS");
      EXPECT_EQ(pod(gossip("podB", proto, flags)), "dropped POLICY_EGRESS");
    }
    const sluice_ct_entry after = *entry(tuple);
    EXPECT_EQ(std::memcmp(&before, &after, sizeof before), 0) << "nor does it end anything";
    change_policy(kPodA, kOpen);
    EXPECT_EQ(pod(from_b), "delivered") << "judged as podA's connection";
    // Also on a machine that booted less than that ago.
    EXPECT_GT(static_cast<std::int64_t>(connection(tuple)->last_seen_ns - before.last_seen_ns), 0)
        << "what is admitted anew lives on";
    const std::uint64_t judged = counters().judged;
    EXPECT_EQ(pod(from_a), "delivered");
    EXPECT_EQ(counters().judged, judged) << "and is admitted from now on";
    change_policy(kPodB, kOpen);
  }
}

TEST_F(Reply, WhatIsAdmittedAnewLivesOnInAllItsEntries) {
  serve(kService, kPort, {{"198.51.100.7", 443}});
  ASSERT_EQ(pod(out(IPPROTO_TCP)), "out_uplink");
  const Tuple inside{"10.1.0.2", 4000, "198.51.100.7", 443, IPPROTO_TCP};
  const std::uint16_t nat = ntohs(connection(inside)->nat.snat_port_be);
  const Tuple front{"10.1.0.2", 4000, kService, kPort, IPPROTO_TCP};
  const Tuple alias{"192.0.2.1", nat, "198.51.100.7", 443, IPPROTO_TCP};
  for (const Tuple& each : {inside, front, alias}) age(each, 30);
  change_policy(kPodA, kOpen);
  const std::uint64_t judged = counters().judged, begun = now_ns() - SLUICE_NS_PER_S;
  Frame answer = from_world(nat, "SA");
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer).outcome, "delivered");
  EXPECT_EQ(counters().judged, judged + 1);
  for (const Tuple& each : {inside, front, alias}) {
    EXPECT_GT(connection(each)->last_seen_ns, begun);
    EXPECT_EQ(connection(each)->progress, SLUICE_CT_REPLIED);
  }
}

TEST_F(Reply, OfADeniedConnectionMayStandByItself) {
  for (const std::uint8_t proto :
       std::initializer_list<std::uint8_t>{IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_GRE}) {
    SCOPED_TRACE(proto);
    const bool ports = proto != IPPROTO_GRE;
    Tuple tuple = gossip_of(proto);
    if (!ports) tuple.sport = tuple.dport = 0;
    EXPECT_EQ(pod(gossip("podA", proto)), "delivered");
    change_policy(kPodB, kNoIngress);
    age(tuple, 5);
    const sluice_ct_entry before = *entry(tuple);
    const sluice_generation_stats counted = counters();
    EXPECT_EQ(pod(gossip("podB", proto)), "delivered") << "podB may speak to podA";
    EXPECT_EQ(counters().judged, counted.judged + 1);
    EXPECT_EQ(counters().denied_ingress, counted.denied_ingress);
    EXPECT_EQ(pod(gossip("podA", proto)), "dropped POLICY_INGRESS")
        << "which lets podA in no more than before";
    change_policy(kPodA, kNoIngress);
    EXPECT_EQ(pod(gossip("podB", proto)), "dropped POLICY_INGRESS") << "podB may not speak to podA";
    change_policy(kPodA, kOpen);
    EXPECT_EQ(pod(gossip("podB", proto)), "delivered");
    const sluice_ct_entry after = *entry(tuple);
    EXPECT_EQ(std::memcmp(&before, &after, sizeof before), 0);
    // The denied connection is over at last.
    age(tuple, SLUICE_CT_OTHER_S + 1);
    EXPECT_EQ(pod(gossip("podB", proto)), "delivered");
    EXPECT_EQ(connection(tuple)->nat.flags, SLUICE_CT_ORIGIN_HIGH) << "podB's own";
    EXPECT_EQ(pod(gossip("podA", proto)), "delivered") << "and podA answers";
    change_policy(kPodB, kOpen);
  }
}

TEST_F(Reply, OfADeniedConnectionIsDeniedWhereItCanBeNothingElse) {
  for (const Frame& from_b : {gossip("podB", IPPROTO_TCP), ping("podB", kEchoReply)}) {
    SCOPED_TRACE(from_b.proto);
    const bool echo = from_b.proto == IPPROTO_ICMP;
    EXPECT_EQ(pod(echo ? ping("podA") : gossip("podA", IPPROTO_TCP, "S")), "delivered");
    change_policy(kPodB, kNoIngress);
    EXPECT_EQ(pod(from_b), "dropped POLICY_INGRESS");
    change_policy(kPodB, kOpen);
  }
  // A backend's answer comes from the Service, as its client sees it, and not from the backend.
  serve(kService, kPort, {{"10.1.0.3"}});
  EXPECT_EQ(pod(out(IPPROTO_UDP)), "delivered");
  change_policy(kPodB, kNoIngress);
  EXPECT_EQ(pod(but(answer(IPPROTO_UDP), [](Frame& f) { f.to = "gateway"; })), "dropped POLICY_INGRESS");
  // The world's answer to the node is for no pod by itself.
  EXPECT_EQ(pod(but(gossip("podA"), [](Frame& f) { f.dst = "198.51.100.7"; })), "out_uplink");
  const auto entry = connection({"10.1.0.2", 7946, "198.51.100.7", 7946});
  ASSERT_TRUE(entry);
  change_policy(kPodA, kNoEgress);
  Frame from_outside = from_world(ntohs(entry->nat.snat_port_be));
  from_outside.proto = IPPROTO_UDP;
  from_outside.sport = 7946;
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, from_outside).outcome, "dropped POLICY_EGRESS");
}

}  // namespace
}  // namespace sluice::bpftest
