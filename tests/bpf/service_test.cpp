// SPDX-License-Identifier: Apache-2.0
// Connections to Services: the backend's address inside, the Service's outside.
#include <map>

#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint8_t kProtocols[] = {IPPROTO_TCP, IPPROTO_UDP};
std::string name_of(std::uint8_t proto, const std::string& flags) {
  return proto == IPPROTO_TCP ? "tcp " + flags : "udp";
}

TEST_F(Service, TranslatesBothWaysWithRightChecksums) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (const auto proto : kProtocols) {
    const Seen first = send(SLUICE_HOOK_POD, out(proto));
    EXPECT_EQ(first.outcome, "delivered");
    EXPECT_EQ(first.out, "gateway>podB 10.1.0.2:4000>10.1.0.3:8080 " + name_of(proto, "S") + " ttl 63");
    const Seen back = send(SLUICE_HOOK_POD, answer(proto));
    EXPECT_EQ(back.outcome, "delivered");
    EXPECT_NE(back.out.find("10.96.0.10:80>10.1.0.2:4000 " + name_of(proto, "SA")), std::string::npos)
        << back.out;
    EXPECT_EQ(back.out.find("BAD"), std::string::npos) << back.out;
    const auto judged = counters().judged;
    const Seen second = send(SLUICE_HOOK_POD, out(proto, "A"));
    EXPECT_EQ(second.out, "gateway>podB 10.1.0.2:4000>10.1.0.3:8080 " + name_of(proto, "A") + " ttl 63");
    EXPECT_EQ(counters().judged, judged) << "established: not judged again";
  }
}

TEST_F(Service, SctpKeepsItsPortsOrIsRefused) {
  serve(kService, kPort, {{"10.1.0.3", kPort}}, 0, SLUICE_SCOPE_INSIDE, {IPPROTO_SCTP});
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_SCTP)).outcome, "delivered");
  serve(kService, kPort, {{"10.1.0.3", kTarget}}, 0, SLUICE_SCOPE_INSIDE, {IPPROTO_SCTP});
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_SCTP), [](Frame& f) { f.sport = 4001; })).outcome,
            "dropped SERVICE_UNSUPPORTED");
}

TEST_F(Service, ChecksumsHoldForEveryPort) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (std::uint16_t source = 1; source < 60000; source = static_cast<std::uint16_t>(source + 997)) {
    for (const auto proto : kProtocols) {
      const Seen seen = send(SLUICE_HOOK_POD, but(out(proto), [&](Frame& f) { f.sport = source; }));
      ASSERT_EQ(seen.outcome, "delivered");
      ASSERT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
      const Seen back = send(SLUICE_HOOK_POD, answer(proto, source));
      ASSERT_EQ(back.out.find("BAD"), std::string::npos) << back.out;
    }
  }
}

TEST_F(Service, PolicySeesTheBackend) {
  serve(kService, kPort, {{"10.1.0.3"}});
  sluice_policy closed{};
  closed.flags = SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS;
  set_policy(kPodB, closed);
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "dropped POLICY_INGRESS");
  EXPECT_EQ(connections(), 0U) << "what is denied leaves no entry";
}

TEST_F(Service, ABackendOnAnotherNodeIsReachedByTheTunnel) {
  serve(kService, kPort, {{"10.2.0.9"}});
  const Seen first = send(SLUICE_HOOK_POD, out(IPPROTO_TCP));
  EXPECT_EQ(first.outcome, "out_tunnel");
  EXPECT_NE(first.out.find("10.1.0.2:4000>10.2.0.9:8080 tcp S"), std::string::npos) << first.out;
  const Seen back = send(SLUICE_HOOK_OVERLAY, {.src = "10.2.0.9",
                                               .dst = "10.1.0.2",
                                               .proto = IPPROTO_TCP,
                                               .sport = kTarget,
                                               .dport = 4000,
                                               .flags = "SA"});
  EXPECT_EQ(back.out, "gateway>podA 10.96.0.10:80>10.1.0.2:4000 tcp SA ttl 63");
}

TEST_F(Service, ABackendOutsideIsReachedUnderTheNodesAddress) {
  serve(kService, 443, {{"198.51.100.7", 6443}});
  const Frame frame = but(out(IPPROTO_TCP), [](Frame& f) { f.dport = 443; });
  const Seen first = send(SLUICE_HOOK_POD, frame);
  EXPECT_EQ(first.outcome, "out_uplink");
  const auto entry = connection({"10.1.0.2", 4000, "198.51.100.7", 6443, IPPROTO_TCP});
  ASSERT_TRUE(entry);
  const auto nat = ntohs(entry->nat.snat_port_be);
  EXPECT_EQ(first.out, fmt::format("podA>gateway 192.0.2.1:{}>198.51.100.7:6443 tcp S ttl 63", nat));
  const Seen back = send(SLUICE_HOOK_UPLINK, but(from_world(nat, "SA"), [](Frame& f) { f.sport = 6443; }));
  EXPECT_EQ(back.out, "gateway>podA 10.96.0.10:443>10.1.0.2:4000 tcp SA ttl 63");
  const Seen again = send(SLUICE_HOOK_POD, frame);
  EXPECT_EQ(again.out, first.out) << "a SYN that is repeated keeps its port";
}

TEST_F(Service, ABackendOnTheNodeItselfAnswersByTheStack) {
  serve(kService, 443, {{"192.0.2.1", 6443}});
  const Seen first = send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP), [](Frame& f) { f.dport = 443; }));
  EXPECT_EQ(first.outcome, "to_stack");
  EXPECT_NE(first.out.find("10.1.0.2:4000>192.0.2.1:6443 tcp S"), std::string::npos) << first.out;
  const Seen back = send(SLUICE_HOOK_HOST, {.from = "gateway",
                                            .src = "192.0.2.1",
                                            .dst = "10.1.0.2",
                                            .proto = IPPROTO_TCP,
                                            .sport = 6443,
                                            .dport = 4000,
                                            .flags = "SA"});
  EXPECT_NE(back.out.find("10.96.0.10:443>10.1.0.2:4000 tcp SA"), std::string::npos) << back.out;
}

TEST_F(Service, APodReachesItself) {
  serve(kService, kPort, {{"10.1.0.2"}});
  const Seen first = send(SLUICE_HOOK_POD, out(IPPROTO_TCP));
  EXPECT_EQ(first.outcome, "delivered");
  const auto nat = source_port(first.out);
  EXPECT_EQ(first.out, fmt::format("gateway>podA 192.0.2.1:{}>10.1.0.2:8080 tcp S ttl 63", nat));
  const Seen back = send(SLUICE_HOOK_POD, {.src = "10.1.0.2",
                                           .dst = "192.0.2.1",
                                           .proto = IPPROTO_TCP,
                                           .sport = kTarget,
                                           .dport = nat,
                                           .flags = "SA"});
  EXPECT_EQ(back.out, "gateway>podA 10.96.0.10:80>10.1.0.2:4000 tcp SA ttl 63");
}

TEST_F(Service, NodePortFromOutsideWithTheClientsAddress) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  const Seen first = send(SLUICE_HOOK_UPLINK, from_world(kNodePort));
  EXPECT_EQ(first.out, "gateway>podB 198.51.100.7:443>10.1.0.3:8080 tcp S ttl 63");
  const Seen back = send(SLUICE_HOOK_POD, but(answer(IPPROTO_TCP, 443), [](Frame& f) {
                           f.dst = "198.51.100.7";
                           f.to = "gateway";
                         }));
  EXPECT_EQ(back.outcome, "out_uplink");
  EXPECT_NE(back.out.find("192.0.2.1:30080>198.51.100.7:443 tcp SA ttl 63"), std::string::npos) << back.out;
}

TEST_F(Service, NodePortFromOutsideToAnotherNodesPod) {
  serve("192.0.2.1", kNodePort, {{"10.2.0.9"}}, SLUICE_SERVICE_MASQUERADE, SLUICE_SCOPE_OUTSIDE);
  const Seen first = send(SLUICE_HOOK_UPLINK, from_world(kNodePort));
  EXPECT_EQ(first.outcome, "out_tunnel");
  const auto nat = source_port(first.out);
  EXPECT_NE(first.out.find(fmt::format("192.0.2.1:{}>10.2.0.9:8080 tcp S ttl 63", nat)), std::string::npos)
      << first.out;
  const Seen back = send(SLUICE_HOOK_OVERLAY, {.src = "10.2.0.9",
                                               .dst = "192.0.2.1",
                                               .proto = IPPROTO_TCP,
                                               .sport = kTarget,
                                               .dport = nat,
                                               .flags = "SA"});
  EXPECT_EQ(back.outcome, "out_uplink");
  EXPECT_NE(back.out.find("192.0.2.1:30080>198.51.100.7:443 tcp SA"), std::string::npos) << back.out;
}

TEST_F(Service, WhatIsForInsideIsNotServedOutside) {
  serve(kService, kPort, {{"10.1.0.3"}});
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(from_world(kPort), [](Frame& f) { f.dst = kService; })).outcome,
            "to_stack");
}

TEST_F(Service, NobodyMayClaimToBeAPodOutside) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  for (const char* forged : {"10.1.0.2", "10.2.0.9", "192.0.2.1"})
    EXPECT_EQ(send(SLUICE_HOOK_UPLINK, but(from_world(kNodePort), [&](Frame& f) { f.src = forged; })).outcome,
              "dropped SOURCE_IP");
}

TEST_F(Service, WithoutABackendTheSenderIsTold) {
  serve(kService, kPort, {});
  for (const auto proto : kProtocols) {
    const Seen seen = send(SLUICE_HOOK_POD, out(proto));
    EXPECT_EQ(seen.outcome, "answered");
    // What is quoted ends before what its own checksum is over.
    EXPECT_EQ(seen.out.substr(0, seen.out.find('[')).find("BAD"), std::string::npos) << seen.out;
    EXPECT_EQ(seen.out.find("gateway>podA 10.96.0.10>10.1.0.2"), 0U) << seen.out;
  }
  EXPECT_EQ(connections(), 0U);
  serve(kService, kPort, {}, SLUICE_SERVICE_SILENT);
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "dropped SERVICE_NO_BACKEND");
}

TEST_F(Service, AnEstablishedConnectionKeepsItsBackend) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (const auto proto : kProtocols) send(SLUICE_HOOK_POD, out(proto));
  serve(kService, kPort, {{"10.2.0.9"}});
  for (const auto proto : kProtocols) {
    EXPECT_EQ(send(SLUICE_HOOK_POD, out(proto, "A")).out,
              "gateway>podB 10.1.0.2:4000>10.1.0.3:8080 " + name_of(proto, "A") + " ttl 63");
    EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(proto), [](Frame& f) { f.sport = 4001; })).outcome, "out_tunnel");
  }
}

TEST_F(Service, ConnectionsSpreadOverTheBackends) {
  serve(kService, kPort, {{"10.1.0.3"}, {"10.2.0.9"}});
  unsigned here = 0;
  for (std::uint16_t port = 1000; port < 1400; ++port)
    here += send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [&](Frame& f) { f.sport = port; })).outcome ==
            "delivered";
  EXPECT_GT(here, 150U);
  EXPECT_LT(here, 250U);
}

// One pod, one port of its own, a backend directly and by its Service, in both orders.
TEST_F(Service, TheSamePortDirectlyAndByTheService) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (const auto proto : kProtocols) {
    for (const bool direct_first : {true, false}) {
      SCOPED_TRACE(fmt::format("{} {}", proto, direct_first));
      forget_connections();
      const Frame one = direct_first ? direct(proto) : out(proto);
      const Frame two = direct_first ? out(proto) : direct(proto);
      EXPECT_NE(send(SLUICE_HOOK_POD, one).out.find("10.1.0.2:4000>10.1.0.3:8080"), std::string::npos);
      const Seen second = send(SLUICE_HOOK_POD, two);
      EXPECT_EQ(second.outcome, "delivered");
      EXPECT_EQ(second.out.find("BAD"), std::string::npos) << second.out;
      const auto at = second.out.find("10.1.0.2:");
      ASSERT_NE(at, std::string::npos) << second.out;
      const auto other = source_port(second.out.substr(at));
      EXPECT_NE(other, 4000);
      // Each answer goes to the connection that it belongs to.
      const std::string by_service = "10.96.0.10:80>10.1.0.2:4000", directly = "10.1.0.3:8080>10.1.0.2:4000";
      EXPECT_NE(send(SLUICE_HOOK_POD, answer(proto)).out.find(direct_first ? directly : by_service),
                std::string::npos);
      const Seen back = send(SLUICE_HOOK_POD, answer(proto, other));
      EXPECT_NE(back.out.find(direct_first ? by_service : directly), std::string::npos) << back.out;
      EXPECT_EQ(back.out.find("BAD"), std::string::npos) << back.out;
      // And so do the packets that follow.
      const auto follows = [](Frame frame) {
        frame.flags = "A";
        return frame;
      };
      EXPECT_NE(send(SLUICE_HOOK_POD, follows(one)).out.find("10.1.0.2:4000>10.1.0.3:8080"),
                std::string::npos);
      EXPECT_NE(send(SLUICE_HOOK_POD, follows(two)).out.find(fmt::format("10.1.0.2:{}>10.1.0.3:8080", other)),
                std::string::npos);
    }
  }
}

TEST_F(Service, ATupleIsFreeAgainOnceItsConnectionIsClosed) {
  serve(kService, kPort, {{"10.1.0.3"}});
  for (int round = 0; round < 3; ++round) {
    for (const bool direct_now : {true, false}) {
      const Frame frame = direct_now ? direct(IPPROTO_TCP) : out(IPPROTO_TCP);
      EXPECT_NE(send(SLUICE_HOOK_POD, frame).out.find("10.1.0.2:4000>10.1.0.3:8080 tcp S"),
                std::string::npos);
      const Seen back = send(SLUICE_HOOK_POD, answer(IPPROTO_TCP));
      EXPECT_NE(back.out.find(direct_now ? "10.1.0.3:8080>10.1.0.2:4000" : "10.96.0.10:80>10.1.0.2:4000"),
                std::string::npos)
          << back.out;
      send(SLUICE_HOOK_POD, but(frame, [](Frame& f) { f.flags = "R"; }));
    }
  }
}

TEST_F(Service, ASynLeavesALivingConnectionWithItsBackend) {
  serve(kService, kPort, {{"10.1.0.3"}});
  send(SLUICE_HOOK_POD, out(IPPROTO_TCP));
  send(SLUICE_HOOK_POD, answer(IPPROTO_TCP));
  send(SLUICE_HOOK_POD, out(IPPROTO_TCP, "A"));
  serve(kService, kPort, {{"10.2.0.9"}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "delivered") << "to the backend that it has";
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP, "A")).outcome, "delivered");
  send(SLUICE_HOOK_POD, answer(IPPROTO_TCP, 4000, "R"));
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "out_tunnel") << "it is over";
}

// Who forges a client's reset, and then a packet of the client's to the backend itself, takes the tuple from nobody.
TEST_F(Service, AForgedResetLeavesTheTupleToWhoseItIs) {
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  const Tuple tuple{"198.51.100.7", 4000, "10.1.0.3", kTarget, IPPROTO_TCP};
  const auto from_world = [&](const char* dst, std::uint16_t port, const char* flags) {
    return send(SLUICE_HOOK_UPLINK, Frame{.from = "02:00:00:00:00:99",
                                          .to = "uplink",
                                          .src = "198.51.100.7",
                                          .dst = dst,
                                          .proto = IPPROTO_TCP,
                                          .sport = 4000,
                                          .dport = port,
                                          .flags = flags});
  };
  for (const char* flags : {"S", "R"}) from_world("192.0.2.1", kNodePort, flags);
  for (const char* flags : {"R", "A", "S"}) {
    from_world("10.1.0.3", kTarget, flags);
    EXPECT_TRUE(connection(tuple)->nat.flags & SLUICE_CT_SERVICE) << flags;
  }
  const Frame reply = but(answer(IPPROTO_TCP), [](Frame& f) { f.dst = "198.51.100.7", f.to = "gateway"; });
  const Seen back = send(SLUICE_HOOK_POD, reply);
  EXPECT_NE(back.out.find("192.0.2.1:30080>198.51.100.7:4000"), std::string::npos) << back.out;
}

TEST_F(Service, ErrorsAreTranslatedBothWays) {
  serve(kService, kPort, {{"10.1.0.3"}});
  send(SLUICE_HOOK_POD, out(IPPROTO_UDP));
  const Frame forward = {.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = kTarget};
  const Seen to_client = send(SLUICE_HOOK_POD, {.from = "podB",
                                                .to = "podA",
                                                .src = "10.1.0.3",
                                                .dst = "10.1.0.2",
                                                .proto = IPPROTO_ICMP,
                                                .icmp = kUnreachable,
                                                .quoted = packet(forward)});
  EXPECT_EQ(to_client.outcome, "delivered");
  EXPECT_NE(to_client.out.find("10.96.0.10>10.1.0.2"), std::string::npos) << to_client.out;
  EXPECT_NE(to_client.out.find("10.1.0.2:4000>10.96.0.10:80"), std::string::npos) << to_client.out;
  EXPECT_EQ(to_client.out.find("BAD"), std::string::npos) << to_client.out;

  const Frame reply = {.src = kService, .dst = "10.1.0.2", .sport = kPort, .dport = 4000};
  const Seen to_backend = send(SLUICE_HOOK_POD, {.src = "10.1.0.2",
                                                 .dst = kService,
                                                 .proto = IPPROTO_ICMP,
                                                 .icmp = kUnreachable,
                                                 .quoted = packet(reply)});
  EXPECT_EQ(to_backend.outcome, "delivered");
  EXPECT_NE(to_backend.out.find("10.1.0.2>10.1.0.3"), std::string::npos) << to_backend.out;
  EXPECT_NE(to_backend.out.find("10.1.0.3:8080>10.1.0.2:4000"), std::string::npos) << to_backend.out;
  EXPECT_EQ(to_backend.out.find("BAD"), std::string::npos) << to_backend.out;
}

TEST_F(Service, ErrorsFromOutsideAboutANodePort) {
  const auto error = [](std::uint16_t port) {
    return Frame{.from = "02:00:00:00:00:99",
                 .to = "uplink",
                 .src = "198.51.100.1",
                 .dst = "192.0.2.1",
                 .proto = IPPROTO_ICMP,
                 .icmp = kUnreachable,
                 .quoted = packet({.src = "192.0.2.1",
                                   .dst = "198.51.100.7",
                                   .proto = IPPROTO_TCP,
                                   .sport = port,
                                   .dport = 443,
                                   .flags = "A"})};
  };
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, error(22)).outcome, "to_stack") << "the node's own";
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, error(kNodePort)).outcome, "to_stack") << "of no connection";
  send(SLUICE_HOOK_UPLINK, from_world(kNodePort));
  const Seen seen = send(SLUICE_HOOK_UPLINK, error(kNodePort));
  EXPECT_EQ(seen.outcome, "delivered");
  EXPECT_NE(seen.out.find("198.51.100.1>10.1.0.3"), std::string::npos) << seen.out;
  EXPECT_NE(seen.out.find("10.1.0.3:8080>198.51.100.7:443"), std::string::npos) << seen.out;
  EXPECT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
}

TEST_F(Service, AClientKeepsItsBackendWhileTheServiceHasIt) {
  serve(kService, kPort, {{"10.1.0.3"}, {"10.2.0.9"}});
  constexpr std::uint64_t kId = 7;
  sluice_service_key key{};
  key.addr = bpftest::address(kService);
  key.port_be = htons(kPort);
  key.proto = IPPROTO_TCP;
  auto service = *get<sluice_service>("services", key);
  service.affinity_s = 60;
  service.id = kId;
  service.seal = sluice_service_seal(&key, &service);
  put("services", key, service);
  for (const std::uint32_t backend : {1U, 2U})
    put("affine", sluice_affine_key{kId, backend, 0}, std::uint32_t{0});
  std::uint16_t port = 1000;
  const auto outcome = [&] {
    return send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP), [&](Frame& f) { f.sport = port++; })).outcome;
  };
  const auto first = outcome();
  for (int i = 0; i < 40; ++i) ASSERT_EQ(outcome(), first);
  const std::uint32_t gone = first == "delivered" ? 1 : 2;
  const sluice_affinity_key client{bpftest::address("10.1.0.2"), kId};
  const auto lately = [&](std::uint64_t seconds_ago) {
    sluice_affinity affinity{now_ns() - seconds_ago * SLUICE_NS_PER_S, gone, 0};
    affinity.seal = sluice_affinity_seal(&client, gone);
    put("affinities", client, affinity);
  };
  const auto kept_of_40 = [&](std::uint64_t seconds_ago) {
    int kept = 0;
    for (int i = 0; i < 40; ++i) {
      lately(seconds_ago);
      kept += outcome() == first;
    }
    return kept;
  };
  EXPECT_EQ(kept_of_40(59), 40);
  EXPECT_LT(kept_of_40(61), 40) << "the time is over";
  erase("affine", sluice_affine_key{kId, gone, 0});
  EXPECT_LT(kept_of_40(0), 40) << "the Service has it no more";
  put("affinities", client, sluice_affinity{now_ns(), 99, 1});
  EXPECT_NE(outcome(), "dropped SERVICE_NO_BACKEND") << "another client's element is not believed";
}

TEST_F(Service, AnElementOfAnotherAddressIsNotBelieved) {
  serve(kService, kPort, {{"10.1.0.3"}});
  sluice_service_key key{};
  key.addr = bpftest::address(kService);
  key.port_be = htons(kPort);
  key.proto = IPPROTO_TCP;
  auto foreign = *get<sluice_service>("services", key);
  foreign.first += 1;
  put("services", key, foreign);
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "out_uplink") << "no Service's";
}

TEST_F(Service, OnlyTheSourcesOfItsRangesReachIt) {
  constexpr std::uint64_t kOurs = 0x1234567890abcdef, kOthers = 0x1234567890abcdee;
  const std::vector<std::uint8_t> all = {IPPROTO_TCP, IPPROTO_UDP};
  serve("203.0.113.1", kPort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE, all, kOurs);
  serve("203.0.113.1", kPort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_INSIDE, all, kOurs);
  const auto from_world_by = [&](std::uint16_t port) {
    return send(SLUICE_HOOK_UPLINK, but(from_world(kPort),
                                        [&](Frame& f) {
                                          f.dst = "203.0.113.1";
                                          f.sport = port;
                                        }))
        .outcome;
  };
  const auto from_pod = [&](std::uint16_t port) {
    return send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP),
                                     [&](Frame& f) {
                                       f.dst = "203.0.113.1";
                                       f.sport = port;
                                     }))
        .outcome;
  };
  EXPECT_EQ(from_world_by(1000), "dropped SERVICE_SOURCE");
  allow_source(kOthers, "198.51.100.0", 24);
  allow_source(kOurs, "198.51.100.8", 29);  // .8 to .15
  EXPECT_EQ(from_world_by(1000), "dropped SERVICE_SOURCE") << "198.51.100.7, and another set";
  EXPECT_EQ(from_pod(1000), "dropped SERVICE_SOURCE") << "pods as well";
  EXPECT_EQ(connections(), 0U);
  allow_source(kOurs, "198.51.100.0", 29);
  EXPECT_EQ(from_world_by(1000), "delivered");
  EXPECT_EQ(from_pod(1000), "dropped SERVICE_SOURCE");
  allow_source(kOurs, "10.1.0.2", 32);
  EXPECT_EQ(from_pod(1000), "delivered");
}

TEST_F(Service, ARandomChoiceUsesEveryBackendAndKeepsAConnectionsOwn) {
  serve(kService, kPort, {{"10.1.0.3", 8001}, {"10.1.0.3", 8002}, {"10.1.0.3", 8003}}, SLUICE_SERVICE_RANDOM);
  std::map<std::string, int> chosen;
  const auto backend = [&](std::uint16_t port, const std::string& flags) {
    const Seen seen = send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP, flags), [&](Frame& f) { f.sport = port; }));
    const auto at = seen.out.find("10.1.0.3:");
    return at == std::string::npos ? seen.outcome : seen.out.substr(at + 9, 4);
  };
  for (std::uint16_t port = 1000; port < 1300; ++port) {
    const auto first = backend(port, "S");
    ++chosen[first];
    ASSERT_EQ(backend(port, "S"), first) << "repeated";
    ASSERT_EQ(backend(port, "A"), first);
  }
  ASSERT_EQ(chosen.size(), 3U);
  for (const auto& [which, count] : chosen) EXPECT_GT(count, 50) << which;
}

// The backend's TIME_WAIT: a SYN with another destination's sequence numbers and timestamps would be an old
// one's.
TEST_F(Service, WhatABackendRemembersIsNotMetByTheOtherWay) {
  serve(kService, kPort, {{"10.1.0.3"}});
  const auto seen_port = [&](const Frame& frame) {
    const Seen seen = send(SLUICE_HOOK_POD, frame);
    EXPECT_EQ(seen.outcome, "delivered");
    return source_port(seen.out);
  };
  const auto close = [&](const Frame& by_client, std::uint16_t port) {
    send(SLUICE_HOOK_POD, answer(IPPROTO_TCP, port, "SA"));
    send(SLUICE_HOOK_POD, but(by_client, [](Frame& f) { f.flags = "A"; }));
    send(SLUICE_HOOK_POD, answer(IPPROTO_TCP, port, "FA"));
    send(SLUICE_HOOK_POD, but(by_client, [](Frame& f) { f.flags = "FA"; }));
  };
  EXPECT_EQ(seen_port(direct(IPPROTO_TCP)), 4000);
  close(direct(IPPROTO_TCP), 4000);
  // Linux remembers it for a minute, and its timer may be late.
  change_connection({"10.1.0.2", 4000, "10.1.0.3", kTarget, IPPROTO_TCP},
                    [](Connection& c) { c.last_seen_ns = now_ns() - 90 * SLUICE_NS_PER_S; });
  const auto other = seen_port(out(IPPROTO_TCP));
  EXPECT_NE(other, 4000) << "by the Service";
  close(out(IPPROTO_TCP), other);
  EXPECT_EQ(seen_port(direct(IPPROTO_TCP)), 4000) << "directly again";
  close(direct(IPPROTO_TCP), 4000);
  EXPECT_EQ(seen_port(out(IPPROTO_TCP)), other) << "by the Service again, not by a third port";
  send(SLUICE_HOOK_POD, out(IPPROTO_TCP, "R"));

  // What was reset nobody remembers.
  EXPECT_EQ(seen_port(but(direct(IPPROTO_TCP), [](Frame& f) { f.sport = 5000; })), 5000);
  send(SLUICE_HOOK_POD, but(direct(IPPROTO_TCP, "R"), [](Frame& f) { f.sport = 5000; }));
  EXPECT_EQ(seen_port(but(out(IPPROTO_TCP), [](Frame& f) { f.sport = 5000; })), 5000);
}

// A tenant's EndpointSlice may name any address and port.
TEST_F(Service, NoServiceLeadsToANodesTunnel) {
  constexpr std::uint16_t kTunnelPort = 4789;
  serve(kService, kPort, {{"192.0.2.2", kTunnelPort}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).outcome, "dropped TUNNEL_PORT") << "from a pod";
  serve(kService, kPort, {{"192.0.2.1", kTunnelPort}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_UDP)).outcome, "dropped TUNNEL_PORT")
      << "from a pod to its own node";
  for (const std::uint32_t flags : {0U, std::uint32_t{SLUICE_SERVICE_MASQUERADE}}) {
    for (const char* backend : {"192.0.2.2", "192.0.2.1", "203.0.113.2"}) {
      serve("192.0.2.1", kNodePort, {{backend, kTunnelPort}}, flags, SLUICE_SCOPE_OUTSIDE);
      auto packet = from_world(kNodePort);
      packet.proto = IPPROTO_UDP;
      EXPECT_EQ(send(SLUICE_HOOK_UPLINK, packet).outcome, "dropped TUNNEL_PORT")
          << backend << " by a node port";
    }
  }
}

// A client outside may forge its address: the answer of a node port's backend leaves under the node's
// address.
TEST_F(Service, NoBackendAnswersToANodesTunnel) {
  constexpr std::uint16_t kTunnelPort = 4789;
  serve("192.0.2.1", kNodePort, {{"10.1.0.3"}}, 0, SLUICE_SCOPE_OUTSIDE);
  auto packet = from_world(kNodePort);
  packet.proto = IPPROTO_UDP;
  packet.src = "203.0.113.2";
  packet.sport = kTunnelPort;
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, packet).outcome, "delivered");
  EXPECT_EQ(
      send(SLUICE_HOOK_POD,
           {.from = "podB", .src = "10.1.0.3", .dst = "203.0.113.2", .sport = kTarget, .dport = kTunnelPort})
          .outcome,
      "dropped TUNNEL_PORT");
}

}  // namespace
}  // namespace sluice::bpftest
