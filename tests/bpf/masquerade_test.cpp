// SPDX-License-Identifier: Apache-2.0
// Pods' connections to the world under the node's address.
#include <fmt/format.h>

#include <set>

#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

class Masquerade : public World {
 protected:
  static Frame out(std::uint8_t proto, const std::string& flags = "S") {
    return {.src = "10.1.0.2",
            .dst = "198.51.100.7",
            .proto = proto,
            .sport = 4000,
            .dport = 443,
            .flags = flags};
  }
  // The outside's answer to what it saw coming from `port`.
  static Frame answer(std::uint8_t proto, std::uint16_t port, const std::string& flags = "SA") {
    Frame frame{.from = "02:00:00:00:00:99",
                .to = "uplink",
                .src = "198.51.100.7",
                .dst = "192.0.2.1",
                .proto = proto,
                .sport = 443,
                .dport = port,
                .flags = flags};
    if (proto == IPPROTO_ICMP) frame.icmp = kEchoReply, frame.sport = port;
    return frame;
  }
  static Tuple inside(std::uint8_t proto) {
    return {"10.1.0.2", 4000, "198.51.100.7",
            proto == IPPROTO_ICMP ? std::uint16_t{4000} : std::uint16_t{443}, proto};
  }
  static Tuple outside(std::uint8_t proto, std::uint16_t port) {
    return {"192.0.2.1", port, "198.51.100.7", proto == IPPROTO_ICMP ? port : std::uint16_t{443}, proto};
  }
  std::uint16_t port(std::uint8_t proto) {
    const auto entry = connection(inside(proto));
    EXPECT_TRUE(entry);
    const std::uint16_t found = entry ? ntohs(entry->nat.snat_port_be) : std::uint16_t{0};
    EXPECT_GE(found, SLUICE_SNAT_PORT_MIN);
    return found;
  }
  std::uint16_t open(std::uint8_t proto) {
    EXPECT_EQ(send(SLUICE_HOOK_POD, out(proto)).outcome, "out_uplink");
    return port(proto);
  }
};

constexpr std::uint8_t kProtocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP};

TEST_F(Masquerade, TranslatesBothWaysWithRightChecksums) {
  struct Row {
    std::uint8_t proto;
    const char* out;
    const char* back;
  };
  const Row rows[] = {
      {IPPROTO_TCP, "podA>gateway 192.0.2.1:{}>198.51.100.7:443 tcp S ttl 63",
       "gateway>podA 198.51.100.7:443>10.1.0.2:4000 tcp SA ttl 63"},
      {IPPROTO_UDP, "podA>gateway 192.0.2.1:{}>198.51.100.7:443 udp ttl 63",
       "gateway>podA 198.51.100.7:443>10.1.0.2:4000 udp ttl 63"},
      {IPPROTO_ICMP, "podA>gateway 192.0.2.1>198.51.100.7 echo id {} ttl 63",
       "gateway>podA 198.51.100.7>10.1.0.2 echo reply id 4000 ttl 63"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.out);
    const Seen first = send(SLUICE_HOOK_POD, out(row.proto));
    const std::uint16_t nat = port(row.proto);
    EXPECT_EQ(first.outcome, "out_uplink");
    EXPECT_EQ(first.out, fmt::format(fmt::runtime(row.out), nat));
    const Seen back = send(SLUICE_HOOK_UPLINK, answer(row.proto, nat));
    EXPECT_EQ(back.outcome, "delivered");
    EXPECT_EQ(back.out, row.back);
    const auto entry = connection(inside(row.proto));
    EXPECT_TRUE(entry->progress & SLUICE_CT_REPLIED);
    EXPECT_TRUE(connection(outside(row.proto, nat))->progress & SLUICE_CT_REPLIED)
        << "the alias lives as long";
    const std::uint64_t judged = counters().judged;
    const Seen second = send(SLUICE_HOOK_POD, out(row.proto, "A"));
    EXPECT_EQ(second.outcome, "out_uplink");
    EXPECT_EQ(second.out.find("BAD"), std::string::npos) << second.out;
    EXPECT_EQ(port(row.proto), nat);
    EXPECT_EQ(counters().judged, judged) << "established: not judged again";
  }
}

// As if the uplink's packets left under another address than the InternalIP.
TEST_F(Masquerade, TheUplinkThatTheFibNamesHasAnAddressOfItsOwn) {
  constexpr std::uint8_t kOther = 3;
  const std::uint16_t before = open(IPPROTO_UDP);
  put("masquerade_addresses", std::uint32_t{kOther}, address("192.0.2.9"));
  add_uplink(interfaces().uplink, kOther);
  change_config([](sluice_config& config) { config.ways_differ = 1; });
  for (const std::uint8_t proto : {IPPROTO_TCP, IPPROTO_ICMP}) {
    const Seen first = send(SLUICE_HOOK_POD, out(proto));
    EXPECT_EQ(first.outcome, "out_uplink");
    EXPECT_NE(first.out.find("192.0.2.9"), std::string::npos);
    const std::uint16_t nat = port(proto);
    EXPECT_TRUE(connection(
        {"192.0.2.9", nat, "198.51.100.7", proto == IPPROTO_ICMP ? nat : std::uint16_t{443}, proto}));
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(proto, nat)).outcome, "to_stack")
        << "the node's, not the uplink's";
    const Frame back = but(answer(proto, nat), [](Frame& f) { f.dst = "192.0.2.9"; });
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, back).outcome, "delivered");
    EXPECT_NE(send(SLUICE_HOOK_POD, out(proto, "A")).out.find("192.0.2.9"), std::string::npos);
  }
  EXPECT_NE(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).out.find("192.0.2.1"), std::string::npos)
      << "as it began";
  EXPECT_EQ(port(IPPROTO_UDP), before);
}

TEST_F(Masquerade, AnErrorAboutWhatLeftUnderAnotherAddressReachesThePod) {
  constexpr std::uint8_t kOther = 3;
  put("masquerade_addresses", std::uint32_t{kOther}, address("192.0.2.9"));
  add_uplink(interfaces().uplink, kOther);
  change_config([](sluice_config& config) { config.ways_differ = 1; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).outcome, "out_uplink");
  const std::uint16_t nat = port(IPPROTO_UDP);
  for (const char* to : {"192.0.2.9", "192.0.2.1"}) {
    const Frame about{.src = to, .dst = "198.51.100.7", .proto = IPPROTO_UDP, .sport = nat, .dport = 443};
    const Frame error{.from = "02:00:00:00:00:99",
                      .to = "uplink",
                      .src = "198.51.100.7",
                      .dst = to,
                      .proto = IPPROTO_ICMP,
                      .icmp = kUnreachable,
                      .quoted = packet(about)};
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, error).outcome,
              to == std::string("192.0.2.9") ? "delivered" : "to_stack");
  }
}

TEST_F(Masquerade, ChecksumsHoldForEveryPort) {
  for (std::uint16_t source = 1; source < 60000; source = static_cast<std::uint16_t>(source + 997)) {
    for (const std::uint8_t proto : kProtocols) {
      const Seen seen = send(SLUICE_HOOK_POD, but(out(proto), [&](Frame& f) { f.sport = source; }));
      ASSERT_EQ(seen.outcome, "out_uplink");
      ASSERT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
    }
  }
}

TEST_F(Masquerade, AUdpPacketWithoutChecksumStaysSo) {
  const Frame frame = but(out(IPPROTO_UDP), [](Frame& f) { f.checksum = false; });
  EXPECT_NE(send(SLUICE_HOOK_POD, frame).out.find("udp no-checksum ttl"), std::string::npos);
  const Frame back = but(answer(IPPROTO_UDP, port(IPPROTO_UDP)), [](Frame& f) { f.checksum = false; });
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, back).out,
            "gateway>podA 198.51.100.7:443>10.1.0.2:4000 udp no-checksum ttl 63");
}

TEST_F(Masquerade, OtherNodesAreReachedUnderTheNodesAddressToo) {
  const Seen seen = send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.dst = "192.0.2.2"; }));
  EXPECT_EQ(seen.outcome, "out_uplink");
  EXPECT_EQ(seen.out.find("podA>gateway 192.0.2.1:"), 0U) << seen.out;
}

TEST_F(Masquerade, WhatHasNoPortsCannotBeMasqueraded) {
  for (const std::uint8_t proto : std::initializer_list<std::uint8_t>{IPPROTO_SCTP, IPPROTO_GRE}) {
    SCOPED_TRACE(proto);
    EXPECT_EQ(send(SLUICE_HOOK_POD, out(proto)).outcome, "dropped SNAT_UNSUPPORTED");
  }
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_ICMP), [](Frame& f) { f.icmp = kTimestamp; })).outcome,
            "dropped SNAT_UNSUPPORTED");
  EXPECT_EQ(connections(), 0U);
}

TEST_F(Masquerade, FragmentsAreTranslated) {
  const Frame first = but(out(IPPROTO_UDP), [](Frame& f) { f.more = true, f.payload = 1472; });
  const Frame later = but(out(IPPROTO_UDP), [](Frame& f) { f.offset = 1480; });
  EXPECT_EQ(send(SLUICE_HOOK_POD, first).outcome, "out_uplink");
  const std::uint16_t nat = port(IPPROTO_UDP);
  const Seen seen = send(SLUICE_HOOK_POD, later);
  EXPECT_EQ(seen.outcome, "out_uplink");
  EXPECT_EQ(seen.out, "podA>gateway 192.0.2.1>198.51.100.7 fragment at 1480 ttl 63");
  const Bytes payload = build(later);
  EXPECT_TRUE(std::equal(seen.bytes.begin() + 34, seen.bytes.end(), payload.begin() + 34))
      << "its data is not touched";

  const Frame first_back = but(answer(IPPROTO_UDP, nat), [](Frame& f) { f.more = true, f.payload = 1472; });
  const Frame later_back = but(answer(IPPROTO_UDP, nat), [](Frame& f) { f.offset = 1480; });
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, later_back).outcome, "to_stack") << "before its first nobody knows it";
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, first_back).out,
            "gateway>podA 198.51.100.7:443>10.1.0.2:4000 udp ttl 63");
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, later_back).out,
            "gateway>podA 198.51.100.7>10.1.0.2 fragment at 1480 ttl 63");
  EXPECT_EQ(connections(), 2U) << "one connection and its alias";
}

TEST_F(Masquerade, ARepeatedSynKeepsItsPort) {
  const std::uint16_t nat = open(IPPROTO_TCP);
  EXPECT_EQ(open(IPPROTO_TCP), nat);
  EXPECT_EQ(counters().judged, 2U);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_TCP, nat)).outcome, "delivered");
  EXPECT_EQ(connections(), 2U);
}

TEST_F(Masquerade, AnExpiredConnectionBeginsAnewUnderItsPort) {
  const std::uint16_t nat = open(IPPROTO_UDP);
  const auto long_ago = [](Connection& c) { c.last_seen_ns = now_ns() - 1000 * SLUICE_NS_PER_S; };
  change_connection(inside(IPPROTO_UDP), long_ago);
  change_connection(outside(IPPROTO_UDP, nat), long_ago);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, nat)).outcome, "to_stack")
      << "no way in when it is dead";
  EXPECT_EQ(open(IPPROTO_UDP), nat);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, nat)).outcome, "delivered");
}

TEST_F(Masquerade, OnlyThePeerThatWasCalledMayAnswer) {
  const std::uint16_t nat = open(IPPROTO_UDP);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(answer(IPPROTO_UDP, nat), [](Frame& f) { f.src = "198.51.100.8"; }))
                .outcome,
            "to_stack");
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(answer(IPPROTO_UDP, nat), [](Frame& f) { f.sport = 444; })).outcome,
            "to_stack");
}

TEST_F(Masquerade, ASynFromOutsideIsJudgedAsThePodsConnection) {
  const std::uint16_t nat = open(IPPROTO_TCP);
  set_policy(kPodA, {{0, 7}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_EGRESS, 0, {}, {}});
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_TCP, nat, "S")).outcome, "dropped POLICY_EGRESS");
}

TEST_F(Masquerade, AnAliasThatItsConnectionGaveUpLeadsNowhere) {
  const std::uint16_t nat = open(IPPROTO_UDP);
  const auto other = static_cast<std::uint16_t>(nat == SLUICE_SNAT_PORT_MAX ? nat - 1 : nat + 1);
  change_connection(inside(IPPROTO_UDP), [&](Connection& c) { c.nat.snat_port_be = htons(other); });
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, nat)).outcome, "to_stack");
}

TEST_F(Masquerade, TwoPodsWithTheSamePortGetTwo) {
  const std::uint16_t of_a = open(IPPROTO_UDP);
  EXPECT_EQ(
      send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.from = "podB", f.src = "10.1.0.3"; }))
          .outcome,
      "out_uplink");
  const auto entry = connection({"10.1.0.3", 4000, "198.51.100.7", 443});
  ASSERT_TRUE(entry);
  EXPECT_NE(ntohs(entry->nat.snat_port_be), of_a);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, ntohs(entry->nat.snat_port_be))).out,
            "gateway>podB 198.51.100.7:443>10.1.0.3:4000 udp ttl 63");
}

class MasqueradePorts : public Masquerade {
 protected:
  // Takes every port towards the peer, as of `age` seconds ago.
  void take_all(std::int64_t age) {
    Connection alias;
    alias.nat.flags = SLUICE_CT_ALIAS;
    alias.nat.addr = address("10.1.0.3");
    alias.nat.port_be = htons(9);
    alias.last_seen_ns = now_ns() - static_cast<std::uint64_t>(age) * SLUICE_NS_PER_S;
    for (unsigned nat = SLUICE_SNAT_PORT_MIN; nat <= SLUICE_SNAT_PORT_MAX; ++nat)
      put_connection(outside(IPPROTO_UDP, static_cast<std::uint16_t>(nat)), alias);
  }
};

TEST_F(MasqueradePorts, WhenAllAreInUseThePacketIsDroppedAndNothingLeft) {
  take_all(-60);  // none is over when the last one is taken, however slow the machine is
  const std::uint32_t before = connections();
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).outcome, "dropped SNAT_PORTS_EXHAUSTED");
  EXPECT_EQ(connections(), before);
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.dport = 444; })).outcome,
            "out_uplink")
      << "towards another peer all are free";
}

TEST_F(MasqueradePorts, ThoseOfDeadConnectionsAreTakenOver) {
  take_all(SLUICE_CT_UDP_NEW_S + 1);
  const std::uint32_t before = connections();
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, open(IPPROTO_UDP))).outcome, "delivered");
  EXPECT_EQ(connections(), before + 1) << "the alias took another's place";
}

TEST_F(MasqueradePorts, AFullTableGivesThePortBack) {
  fill_sets_of(key_of({"10.1.0.2", 4000, "198.51.100.7", 443, IPPROTO_UDP}));
  const std::uint32_t before = connections();
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).outcome, "dropped CT_FULL") << "room for the alias only";
  EXPECT_EQ(connections(), before);
}

TEST_F(Masquerade, APodMayKeepItsAddress) {
  auto pod = get<sluice_endpoint>("endpoints", kPodA);
  pod->flags = SLUICE_ENDPOINT_KEEPS_SOURCE;
  put("endpoints", kPodA, *pod);
  for (const auto proto : kProtocols) {
    const Seen seen = send(SLUICE_HOOK_POD, out(proto));
    EXPECT_EQ(seen.outcome, "out_uplink");
    EXPECT_NE(seen.out.find("10.1.0.2"), std::string::npos) << seen.out;
    const Seen back =
        send(SLUICE_HOOK_UPLINK, but(answer(proto, 4000), [](Frame& f) { f.dst = "10.1.0.2"; }));
    EXPECT_EQ(back.outcome, "delivered");
  }
  // The way back from another node is the tunnel, for which the packet must be the node's.
  add_route("192.0.2.9", 32, SLUICE_ROUTE_NODE, "192.0.2.9");
  const Seen node = send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.dst = "192.0.2.9"; }));
  EXPECT_NE(node.out.find("192.0.2.1:"), std::string::npos) << node.out;
}

TEST_F(Masquerade, DestinationsMayBeExempt) {
  add_route("198.51.100.0", 29, SLUICE_ROUTE_WORLD_BARE);
  const Seen exempt = send(SLUICE_HOOK_POD, out(IPPROTO_UDP));
  EXPECT_EQ(exempt.outcome, "out_uplink");
  EXPECT_NE(exempt.out.find("10.1.0.2:4000>198.51.100.7:443"), std::string::npos) << exempt.out;
  const Seen other = send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.dst = "198.51.100.8"; }));
  EXPECT_NE(other.out.find("192.0.2.1:"), std::string::npos) << other.out;
}

TEST_F(Masquerade, PortsAreThoseOfTheConfiguration) {
  change_config([](sluice_config& c) {
    c.snat_port_min = 2000;
    c.snat_port_max = 2003;
  });
  std::set<std::uint16_t> ports;
  for (std::uint16_t source = 5000; source < 5004; ++source) {
    const Seen seen = send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [&](Frame& f) { f.sport = source; }));
    ASSERT_EQ(seen.outcome, "out_uplink");
    const auto entry = connection({"10.1.0.2", source, "198.51.100.7", 443, IPPROTO_UDP});
    ASSERT_TRUE(entry);
    const auto nat = ntohs(entry->nat.snat_port_be);
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, nat)).outcome, "delivered");
    ports.insert(nat);
  }
  EXPECT_EQ(ports, (std::set<std::uint16_t>{2000, 2001, 2002, 2003}));
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.sport = 5004; })).outcome,
            "dropped SNAT_PORTS_EXHAUSTED");
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, answer(IPPROTO_UDP, 61000)).outcome, "to_stack");
}

TEST_F(Masquerade, WhatAnswersOrEndsAConnectionTakesNoPort) {
  for (const char* flags : {"SA", "FA", "R", "RA"})
    EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP, flags)).outcome, "dropped CT_INVALID") << flags;
  EXPECT_EQ(connections(), 0U);
}

}  // namespace
}  // namespace sluice::bpftest
