// SPDX-License-Identifier: Apache-2.0
// Who waits for whom: what of the cluster's state a turn sees, by the policies that it says changed.
#include "daemon/controller/intake.h"

#include <gtest/gtest.h>

namespace sluice::controller {
namespace {

using model::Kind;
using Names = std::set<std::string>;

// With as many blocks; its versions differ by a port.
model::NetworkPolicy policy(const std::string& ns, const std::string& name, std::size_t blocks = 0,
                            std::uint16_t version = 1) {
  model::NetworkPolicy made;
  made.ns = ns;
  made.name = name;
  made.isolates_ingress = true;
  if (blocks == 0 && version == 1) return made;
  made.ingress.resize(1);
  made.ingress[0].ports = {{model::Protocol::kTcp, version, std::nullopt}};
  for (std::uint32_t i = 0; i < blocks; ++i) {
    model::PolicyPeer peer;
    peer.ip_block = model::IpBlock{Prefix::host(Address::from_v4(i)), {}};
    made.ingress[0].peers.push_back(std::move(peer));
  }
  return made;
}

constexpr std::size_t kMany = Intake::kFewItems + 1;

class IntakeTest : public testing::Test {
 protected:
  IntakeTest() {
    source::FullState all;
    for (const auto kind : {Kind::kNode, Kind::kNamespace, Kind::kPod, Kind::kNetworkPolicy}) all[kind];
    intake_.add(std::move(all));
  }
  void tell(model::Object object) { intake_.add(std::move(object)); }
  void remove(const std::string& ns, const std::string& name) {
    intake_.add(model::ObjectKey{Kind::kNetworkPolicy, ns, name});
  }
  Names turn(bool busy = false, std::chrono::milliseconds later = {}) {
    now_ += later;
    intake_.advance(busy, now_);
    return state_.take_policy_changes().policies;
  }
  [[nodiscard]] bool knows(const std::string& key) const { return state_.cluster().policies.contains(key); }

  ClusterState state_;
  Intake intake_{state_};
  Intake::Clock::time_point now_{};
};

TEST_F(IntakeTest, LargePoliciesGoOneATurnAndSmallOnesOfOthersAtOnce) {
  for (int i = 0; i < 3; ++i) tell(policy("evil", "large" + std::to_string(i), kMany));
  tell(policy("good", "deny"));
  EXPECT_EQ(turn(), (Names{"evil/large0", "good/deny"}));
  tell(policy("good", "deny", 1, 2));
  EXPECT_EQ(turn(true), (Names{"good/deny"})) << "somebody waits for this turn";
  EXPECT_EQ(turn(), (Names{"evil/large1"}));
  EXPECT_TRUE(intake_.waiting());
  EXPECT_EQ(turn(), (Names{"evil/large2"}));
  EXPECT_FALSE(intake_.waiting());
}

TEST_F(IntakeTest, ALargePolicyDoesNotWaitForEver) {
  tell(policy("evil", "large0", kMany));
  tell(policy("evil", "large1", kMany));
  EXPECT_EQ(turn(true), Names{});
  EXPECT_EQ(turn(true, std::chrono::milliseconds(99)), Names{});
  EXPECT_EQ(turn(true, std::chrono::milliseconds(1)), Names{"evil/large0"});
  // However long it took to make rules of it, whoever came meanwhile goes first.
  EXPECT_EQ(turn(true, std::chrono::milliseconds(500)), Names{});
  EXPECT_EQ(turn(true, std::chrono::milliseconds(99)), Names{});
  EXPECT_EQ(turn(true, std::chrono::milliseconds(1)), Names{"evil/large1"});
}

// A policy that takes the place of another is in force before that one goes.
TEST_F(IntakeTest, PoliciesOfANamespaceKeepTheirOrder) {
  tell(policy("shop", "old"));
  EXPECT_EQ(turn(true), Names{"shop/old"});
  tell(policy("shop", "new", kMany));
  remove("shop", "old");
  tell(policy("shop", "last"));
  EXPECT_EQ(turn(true), Names{});
  EXPECT_TRUE(knows("shop/old"));
  EXPECT_EQ(turn(), Names{"shop/new"});
  EXPECT_TRUE(knows("shop/old"));
  EXPECT_EQ(turn(true), (Names{"shop/old", "shop/last"}));
  EXPECT_FALSE(knows("shop/old"));
}

TEST_F(IntakeTest, WhatAPolicyWasCostsToo) {
  tell(policy("evil", "large", kMany));
  EXPECT_EQ(turn(), Names{"evil/large"});
  remove("evil", "large");
  EXPECT_EQ(turn(true), Names{});
  EXPECT_EQ(turn(), Names{"evil/large"});
  EXPECT_FALSE(knows("evil/large"));
}

TEST_F(IntakeTest, ManySmallPoliciesOfANamespaceAreLikeALargeOne) {
  for (int i = 0; i < 3; ++i) tell(policy("evil", "half" + std::to_string(i), Intake::kFewItems / 2 - 10));
  tell(policy("good", "deny"));
  EXPECT_EQ(turn(true), (Names{"evil/half0", "evil/half1", "good/deny"}));
  EXPECT_EQ(turn(true), Names{"evil/half2"});
}

TEST_F(IntakeTest, NamespacesTakeTurns) {
  for (const auto* ns : {"a", "b"})
    for (const auto* name : {"1", "2"}) tell(policy(ns, name, kMany));
  std::vector<Names> turns;
  while (intake_.waiting()) turns.push_back(turn());
  EXPECT_EQ(turns, (std::vector<Names>{{"a/1"}, {"b/1"}, {"a/2"}, {"b/2"}}));
}

// Those that come later do not count: a tenant may change its policies all the time.
TEST_F(IntakeTest, AnAddWaitsForThePoliciesOfItsNamespaceThatWereToldBefore) {
  EXPECT_FALSE(intake_.waits("shop", intake_.last_of("shop")));
  tell(policy("shop", "large", kMany));
  EXPECT_EQ(turn(true), Names{});
  const auto told = intake_.last_of("shop");
  EXPECT_TRUE(intake_.waits("shop", told));
  EXPECT_FALSE(intake_.waits("other", intake_.last_of("other")));
  tell(policy("shop", "larger", kMany));
  EXPECT_EQ(turn(), Names{"shop/large"});
  EXPECT_FALSE(intake_.waits("shop", told));
  EXPECT_TRUE(intake_.waits("shop", intake_.last_of("shop")));
}

TEST_F(IntakeTest, AListGoesAtOnceAndEndsWhatWaited) {
  tell(policy("evil", "gone", kMany));
  tell(policy("evil", "large", kMany, 1));
  EXPECT_EQ(turn(true), Names{});
  source::FullState list;
  list[Kind::kNetworkPolicy] = {policy("evil", "large", kMany, 2), policy("evil", "other", kMany)};
  intake_.add(std::move(list));
  EXPECT_EQ(turn(true), (Names{"evil/large", "evil/other"}));
  EXPECT_FALSE(intake_.waiting());
  EXPECT_FALSE(knows("evil/gone"));
  // A list of another kind says nothing of policies.
  tell(policy("evil", "late", kMany));
  source::FullState pods;
  pods[Kind::kPod];
  intake_.add(std::move(pods));
  EXPECT_EQ(turn(), Names{"evil/late"});
}

TEST(Intake, BeforeAllIsKnownNothingWaits) {
  ClusterState state;
  Intake intake(state);
  intake.add(model::Object(policy("shop", "large", kMany)));
  EXPECT_FALSE(intake.waiting());
  EXPECT_EQ(state.cluster().policies.size(), 1u);
}

// Of a policy that is written again and again.
TEST_F(IntakeTest, OfWhatWaitsLastTheNewestVersionCounts) {
  tell(policy("evil", "first", kMany));
  tell(policy("evil", "large", kMany, 1));
  const auto told = intake_.last_of("evil");
  for (std::uint16_t version = 2; version < 100; ++version) tell(policy("evil", "large", kMany, version));
  EXPECT_EQ(turn(), Names{"evil/first"});
  EXPECT_TRUE(intake_.waits("evil", told)) << "who waits for the first version waits for the newest";
  EXPECT_EQ(turn(), Names{"evil/large"});
  EXPECT_FALSE(intake_.waiting());
  const auto& known = *state_.cluster().policies.at("evil/large");
  EXPECT_EQ(std::get<std::uint16_t>(known.ingress[0].ports[0].port), 99);
  tell(policy("evil", "large", kMany, 100));
  remove("evil", "large");
  while (intake_.waiting()) turn();
  EXPECT_FALSE(knows("evil/large"));
}

TEST_F(IntakeTest, WhereVeryMuchWaitsAllGoesAtOnce) {
  const std::size_t policies = Intake::kMostItems / kMany;
  for (std::size_t i = 0; i < policies - 1; ++i) tell(policy("evil", "p" + std::to_string(i), kMany));
  EXPECT_EQ(turn(true), Names{});
  for (std::size_t i = 0; i < 2; ++i) tell(policy("evil", "more" + std::to_string(i), kMany));
  EXPECT_EQ(turn(true).size(), policies + 1);
  EXPECT_FALSE(intake_.waiting());
}

TEST_F(IntakeTest, ExceptionsCostToo) {
  auto object = policy("evil", "p", 1);
  object.ingress[0].peers[0].ip_block->except.resize(kMany);
  tell(std::move(object));
  EXPECT_EQ(turn(true), Names{});
  EXPECT_EQ(turn(), Names{"evil/p"});
}

}  // namespace
}  // namespace sluice::controller
