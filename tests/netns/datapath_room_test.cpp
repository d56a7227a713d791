// SPDX-License-Identifier: Apache-2.0
// The firewall's table of peers grows with the pods that there are, and what does not fit is closed alone.
#include <gtest/gtest.h>

#include "daemon/datapath/map.h"
#include "tests/netns/node_fixture.h"

namespace sluice::test {
namespace {

constexpr std::uint32_t kFirst = 4, kMost = 8;

class Room : public NodeTest {
 protected:
  [[nodiscard]] datapath::Options options() const override {
    auto options = NodeTest::options();
    options.peers = kFirst;
    options.most_peers = kMost;
    return options;
  }
  [[nodiscard]] static Address elsewhere(unsigned number) { return Address::from_v4(0x0a090000 + number); }
  // Pods of other nodes.
  static void add_peers(policy::Ruleset& rules, unsigned first, unsigned last, std::uint32_t peer_class) {
    for (unsigned i = first; i <= last; ++i) rules.peers.set(elsewhere(i), peer_class);
  }
  [[nodiscard]] datapath::MapStatus peers() const {
    for (const auto& map : must(datapath_->maps()))
      if (map.name == "peers") return map;
    return {};
  }
  // From a pod of another node to B's web port.
  [[nodiscard]] datapath::CheckPacket from_elsewhere(unsigned number, sluice_drop_reason expected) {
    auto packet = check_web(a(), b(), expected);
    packet.probe.src = elsewhere(number).abi();
    packet.probe.src_endpoint = 0;
    return packet;
  }
};

TEST_F(Room, TheTableGrowsByOneFlip) {
  add_three_pods();
  auto rules = web_from_a_to_b();
  add_peers(rules, 1, 1, kClassA);
  apply(rules, {from_elsewhere(1, SLUICE_DROP_NONE)});
  const auto before = peers();
  EXPECT_EQ(before.max_entries, kFirst);

  const auto listener = listen_tcp(&b().netns(), b().address(), kWeb);
  const auto client = connect_tcp(&a().netns(), b().address(), kWeb);
  const auto server = accept_tcp(listener);
  // The check fails: all stays as it is, the small table too.
  add_peers(rules, 2, 3, kClassA);
  ASSERT_FALSE(try_apply(rules, {from_elsewhere(2, SLUICE_DROP_POLICY_INGRESS)}));
  EXPECT_EQ(peers().id, before.id);
  EXPECT_TRUE(send_and_receive(client, server));

  const auto grown = apply(rules, {from_elsewhere(1, SLUICE_DROP_NONE), from_elsewhere(2, SLUICE_DROP_NONE),
                                   from_elsewhere(4, SLUICE_DROP_POLICY_INGRESS)});
  EXPECT_TRUE(grown.generation);
  EXPECT_EQ(grown.left_out, 0U);
  EXPECT_EQ(peers().max_entries, kMost);
  EXPECT_NE(peers().id, before.id);
  EXPECT_TRUE(send_and_receive(client, server));
  expect_no_differences();

  // There is room now: no other generation.
  add_peers(rules, 4, 4, kClassA);
  EXPECT_FALSE(apply(rules).generation);
  datapath_->collect();
  expect_no_differences();

  datapath_.reset();
  open();
  EXPECT_EQ(peers().max_entries, kMost);
  apply(rules, {from_elsewhere(4, SLUICE_DROP_NONE)});
  expect_no_differences();
}

// The next generation finds its slot written, however many peers there are.
TEST_F(Room, SlotsOfNoGenerationFollowTheOneInForce) {
  add_three_pods();
  const auto classes_of = [&](const Address& address) {
    const auto map = must(datapath::Map<sluice_addr, sluice_peer>::open(
        fmt::format("{}/sluice/v{}/peers", sandbox_.bpffs(), SLUICE_ABI_VERSION)));
    const auto value = must(map.lookup(address.abi()));
    std::vector<std::uint32_t> classes;
    for (const auto bound : value.value_or(sluice_peer{}).bound_class)
      classes.push_back(static_cast<std::uint32_t>(bound));
    return classes;
  };
  const auto all_of = [](std::uint32_t peer_class) {
    return std::vector<std::uint32_t>(SLUICE_GENERATION_SLOTS, peer_class);
  };
  auto rules = web_from_a_to_b();
  add_peers(rules, 1, 1, kClassA);
  apply(rules);
  datapath_->collect();
  EXPECT_EQ(classes_of(elsewhere(1)), all_of(kClassA));

  rules.peers.set(elsewhere(1), kClassC);
  EXPECT_FALSE(apply(rules).generation);
  EXPECT_NE(classes_of(elsewhere(1)), all_of(kClassC)) << "in force at once, in one slot";
  datapath_->collect();
  EXPECT_EQ(classes_of(elsewhere(1)), all_of(kClassC));

  // A failure of the candidate leaves the slot in force as it is.
  rules.peers.set(elsewhere(1), kClassA);
  rules.endpoints[b().endpoint().id].table[SLUICE_INGRESS] = kTable + 1;
  rules.rows[{kTable + 1, kClassA, 0}] = {1U << 1, 0, 0, 0};
  ASSERT_FALSE(try_apply(rules, {from_elsewhere(1, SLUICE_DROP_POLICY_INGRESS)}));
  expect_no_differences();
  for (unsigned round = 0; round < SLUICE_GENERATION_SLOTS + 1; ++round) {
    rules.endpoints[b().endpoint().id].table[SLUICE_INGRESS] = kTable + 2 + round;
    rules.rows = {{{kTable + 2 + round, kClassA, 0}, {1U << 1, 0, 0, 0}}};
    EXPECT_TRUE(apply(rules, {from_elsewhere(1, SLUICE_DROP_NONE)}).generation);
    expect_no_differences();
    datapath_->collect();
    expect_no_differences();
    EXPECT_EQ(classes_of(elsewhere(1)), all_of(kClassA));
  }

  datapath_.reset();
  open();
  rules.peers.set(elsewhere(1), kClassC);
  apply(rules, {from_elsewhere(1, SLUICE_DROP_POLICY_INGRESS)});
  datapath_->collect();
  EXPECT_EQ(classes_of(elsewhere(1)), all_of(kClassC));
  expect_no_differences();
}

TEST_F(Room, WhatDoesNotFitIsClosedAloneUntilThereIsRoom) {
  add_three_pods();
  auto rules = web_from_a_to_b();
  add_peers(rules, 1, 7, kClassA);
  // The definition admits all of them: those left out are no reason to reject the ruleset.
  datapath::CheckPackets check;
  for (unsigned i = 1; i <= 7; ++i) check.push_back(from_elsewhere(i, SLUICE_DROP_NONE));
  EXPECT_EQ(apply(rules, check).left_out, 2U);
  EXPECT_EQ(peers().max_entries, kMost);
  expect_no_differences();

  // Of those in the table all is in force, and changes are.
  const auto other = nothing_to_b();
  rules.endpoints = other.endpoints;
  rules.rows = other.rows;
  const auto closed = apply(rules);
  EXPECT_TRUE(closed.generation);
  EXPECT_EQ(closed.left_out, 2U);
  EXPECT_FALSE(connects(a(), b(), kWeb));

  auto fewer = web_from_a_to_b();
  add_peers(fewer, 6, 7, kClassA);
  apply(fewer);
  datapath_->collect();
  EXPECT_EQ(apply(fewer).left_out, 0U);
  EXPECT_TRUE(connects(a(), b(), kWeb));
  add_peers(fewer, 1, 1, kClassA);
  EXPECT_EQ(apply(fewer).left_out, 0U);
  expect_no_differences();
}

}  // namespace
}  // namespace sluice::test
