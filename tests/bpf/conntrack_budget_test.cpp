// SPDX-License-Identifier: Apache-2.0
// Whose connections fill conntrack, and who may open more (SLUICE_CT_OWNERS in bpf/abi.h).
#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

class Budget : public Service {
 protected:
  static constexpr std::uint32_t kFromA = kPodA, kFromB = kPodB, kToB = SLUICE_MAX_ENDPOINTS + kPodB;
  static constexpr std::uint32_t kNode = SLUICE_MAX_ENDPOINTS;

  std::int64_t use(std::uint32_t owner) { return get<std::int64_t>("conntrack_use", owner).value_or(-1); }
  std::int64_t all() { return use(SLUICE_CT_USE_ALL); }
  // As if so many others were there.
  void have(std::uint32_t owner, std::int64_t entries) {
    put("conntrack_use", std::uint32_t{SLUICE_CT_USE_ALL}, all() - use(owner) + entries);
    put("conntrack_use", owner, entries);
  }
  std::string open(std::uint16_t port, const std::string& flags = "S") {
    return send(SLUICE_HOOK_POD, but(direct(IPPROTO_TCP, flags), [&](Frame& f) { f.sport = port; })).outcome;
  }
  std::string open_from_b(std::uint16_t port) {
    return send(SLUICE_HOOK_POD, {.from = "podB",
                                  .src = "10.1.0.3",
                                  .dst = "10.1.0.2",
                                  .proto = IPPROTO_TCP,
                                  .sport = port,
                                  .dport = 80,
                                  .flags = "S"})
        .outcome;
  }
  std::string open_from_outside(const std::string& pod, std::uint16_t port) {
    return send(SLUICE_HOOK_HOST, {.from = "gateway",
                                   .to = pod,
                                   .src = "198.51.100.9",
                                   .dst = pod == "podA" ? "10.1.0.2" : "10.1.0.3",
                                   .proto = IPPROTO_TCP,
                                   .sport = port,
                                   .dport = 80,
                                   .flags = "S"})
        .outcome;
  }
};

TEST_F(Budget, AConnectionCountsForThePodThatOpensIt) {
  EXPECT_EQ(open(4000), "delivered");
  EXPECT_EQ(open(4000, "A"), "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, answer(IPPROTO_TCP)).outcome, "delivered");
  EXPECT_EQ(use(kFromA), 1);
  EXPECT_EQ(use(kFromB), 0);
  EXPECT_EQ(all(), 1);
}

TEST_F(Budget, FromElsewhereItCountsForThePodThatItIsFor) {
  EXPECT_EQ(open_from_outside("podB", 4000), "delivered");
  EXPECT_EQ(use(kToB), 1);
  EXPECT_EQ(use(kNode), 0);
  EXPECT_EQ(all(), 1);
}

TEST_F(Budget, ATupleThatIsUsedAgainCountsOnce) {
  EXPECT_EQ(open(4000), "delivered");
  EXPECT_EQ(open(4000, "R"), "delivered");
  EXPECT_EQ(open(4000), "delivered");
  EXPECT_EQ(use(kFromA), 1);
  EXPECT_EQ(all(), 1);
}

TEST_F(Budget, EveryEntryOfAConnectionCounts) {
  serve(kService, kPort, {{"10.1.0.3"}});
  EXPECT_EQ(send(SLUICE_HOOK_POD, out(IPPROTO_TCP)).outcome, "delivered");
  EXPECT_EQ(connections(), 2U) << "of the backend's tuple, and of the Service's";
  EXPECT_EQ(use(kFromA), 2);
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP), [](Frame& f) { f.dst = "198.51.100.7"; })).outcome,
            "out_uplink");
  EXPECT_EQ(connections(), 4U) << "and the masquerade port's";
  EXPECT_EQ(use(kFromA), 4);
  EXPECT_EQ(all(), 4);
}

TEST_F(Budget, WhoHasAsManyAsAreFreeOpensNoMore) {
  have(kFromA, kConntrackMax / 2 - 1);
  EXPECT_EQ(open(4000), "delivered") << "one less than are free";
  EXPECT_EQ(open(4001), "dropped CT_BUDGET");
  EXPECT_EQ(connections(), 1U);
  EXPECT_EQ(use(kFromA), kConntrackMax / 2);
  EXPECT_EQ(open(4000, "A"), "delivered") << "what is open goes on";
  EXPECT_EQ(open_from_b(4000), "delivered");
  EXPECT_EQ(open_from_outside("podB", 4000), "delivered");
  EXPECT_EQ(open_from_outside("podA", 4000), "delivered") << "others' connections to it are not its own";
}

TEST_F(Budget, WithMoreWhoFloodThereIsLessForEach) {
  have(kFromA, kConntrackMax / 3 - 2);
  have(kFromB, kConntrackMax / 3 + 2);
  EXPECT_EQ(open(4000), "delivered");
  EXPECT_EQ(open_from_b(4000), "dropped CT_BUDGET");
  EXPECT_EQ(open_from_outside("podB", 4000), "delivered");
}

TEST_F(Budget, AFullTableIsOneForEverybody) {
  have(kFromA, kConntrackMax);
  EXPECT_EQ(open(4000), "dropped CT_FULL");
  EXPECT_EQ(open_from_b(4000), "dropped CT_FULL");
  EXPECT_EQ(connections(), 0U);
  have(kFromA, 0);
  EXPECT_EQ(open(4000), "delivered") << "and over when there is room";
}

TEST_F(Budget, WhatFindsNoPlaceTakesNothing) {
  fill_sets_of(key_of({"10.1.0.2", 4000, "198.51.100.7", kPort, IPPROTO_TCP}));
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_TCP), [](Frame& f) { f.dst = "198.51.100.7"; })).outcome,
            "dropped CT_FULL");
  EXPECT_EQ(all(), 0) << "the masquerade port was given back";
  EXPECT_EQ(use(kFromA), 0);
}

// As a flood leaves it: connections to a Service by the node's address, with both of their views.
class Crowd : public Budget {
 protected:
  // So many entries of `owner`, all of an age.
  void leave(std::uint32_t owner, std::uint32_t entries, std::uint64_t age_s,
             std::uint8_t proto = IPPROTO_UDP, std::uint32_t progress = 0) {
    Connection made;
    made.progress = progress;
    made.last_seen_ns = now_ns() - age_s * SLUICE_NS_PER_S;
    made.owner = owner;
    const auto kinds = {SLUICE_CT_MASQUERADE | SLUICE_CT_SERVICE, SLUICE_CT_ALIAS + 0, SLUICE_CT_FRONT + 0};
    const auto before = all();
    for (std::uint32_t i = 0; i < entries; ++i, ++made_) {
      made.nat.flags = static_cast<__u16>(kinds.begin()[i % kinds.size()]);
      put_connection({"10.1.0.9", static_cast<std::uint16_t>(made_ % 50'000), "198.51.100.9",
                      static_cast<std::uint16_t>(1 + made_ / 50'000), proto},
                     made);
    }
    put("conntrack_use", owner, use(owner) + entries);
    put("conntrack_use", std::uint32_t{SLUICE_CT_USE_ALL}, before + entries);
  }
  std::uint32_t made_ = 0;
};

TEST_F(Crowd, WhatIsOverMakesRoomForItsOwnerWithoutASweep) {
  leave(kFromA, kConntrackMax / 2, SLUICE_CT_UDP_NEW_S + 1);
  for (std::uint16_t port = 4000; port < 4500; ++port) ASSERT_EQ(open(port), "delivered") << port;
  EXPECT_LT(all(), kConntrackMax * 2 / 5);
  EXPECT_EQ(use(kFromA), all());
  EXPECT_EQ(connections(), static_cast<std::uint32_t>(all()));
}

TEST_F(Crowd, WhatIsOverMakesRoomForOthersWithoutASweep) {
  leave(kFromA, kConntrackMax * 2 / 5, SLUICE_CT_UDP_NEW_S + 1);
  leave(kFromB, kConntrackMax * 2 / 5, SLUICE_CT_UDP_NEW_S + 1);
  leave(kNode, kConntrackMax / 5, SLUICE_CT_UDP_NEW_S + 1);
  serve(kService, kPort, {{"10.1.0.3"}});
  for (std::uint16_t port = 4000; port < 4200; ++port) {
    ASSERT_EQ(open_from_outside("podB", port), "delivered") << port;
    ASSERT_EQ(send(SLUICE_HOOK_HOST, but(out(IPPROTO_TCP),
                                         [&](Frame& f) {
                                           f.from = "gateway";
                                           f.src = "198.51.100.9";
                                           f.sport = port;
                                         }))
                  .outcome,
              "delivered")
        << port;
  }
  EXPECT_EQ(use(kFromA) + use(kFromB) + use(kToB) + use(kNode), all());
  EXPECT_EQ(connections(), static_cast<std::uint32_t>(all()));
}

TEST_F(Crowd, WhatLivesStays) {
  leave(kFromA, kConntrackMax / 2, 3600, IPPROTO_TCP, SLUICE_CT_REPLIED | SLUICE_CT_ASSURED);
  for (std::uint16_t port = 4000; port < 4100; ++port) ASSERT_EQ(open(port), "dropped CT_BUDGET") << port;
  EXPECT_EQ(use(kFromA), kConntrackMax / 2);
  EXPECT_EQ(connections(), kConntrackMax / 2);
  EXPECT_EQ(open_from_b(4000), "delivered");
}

TEST_F(Budget, ADeadPortThatIsTakenOverIsNoLongerItsFormerOwners) {
  Connection alias;
  alias.nat.flags = SLUICE_CT_ALIAS;
  alias.nat.addr = address("10.1.0.3");
  alias.last_seen_ns = now_ns() - (SLUICE_CT_UDP_NEW_S + 1) * SLUICE_NS_PER_S;
  alias.owner = kFromB;
  std::int64_t taken = 0;
  constexpr std::uint16_t kLast = SLUICE_SNAT_PORT_MIN + 499;  // so few that the table is not crowded
  change_config([](sluice_config& c) { c.snat_port_max = kLast; });
  for (unsigned nat = SLUICE_SNAT_PORT_MIN; nat <= kLast; ++nat) {
    const Tuple tuple{"192.0.2.1", static_cast<std::uint16_t>(nat), "198.51.100.7", 80, IPPROTO_UDP};
    put_connection(tuple, alias);
    ++taken;
  }
  have(kFromB, taken);
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [](Frame& f) { f.dst = "198.51.100.7"; })).outcome,
            "out_uplink");
  EXPECT_EQ(use(kFromB), taken - 1);
  EXPECT_EQ(use(kFromA), 2);
  EXPECT_EQ(all(), taken + 1);
}

}  // namespace
}  // namespace sluice::bpftest
