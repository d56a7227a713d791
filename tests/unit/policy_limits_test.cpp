// SPDX-License-Identifier: Apache-2.0
// Rules that would take too much are refused by themselves: their pods are closed, everybody else's rules are
// in force, and the evaluator says the same.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "daemon/policy/check_packets.h"
#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/policy_words.h"
#include "tests/unit/random_cluster.h"

namespace sluice::policy {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

// Of small_cluster(): the tenant who asks for much is shop, bank is somebody else.
class PolicyLimits : public testing::Test {
 protected:
  void compile(std::vector<NetworkPolicy> policies) {
    policies.push_back(ingress("bank", "", {{{namespaces("env=prod")}, {tcp(80)}}}));
    policies.back().name = "of-bank";
    set_policies(cluster, policies);
    ruleset = compiler.compile(cluster, kEverything);
    EXPECT_FALSE(ruleset->refused.contains("bank/of-bank"));
    EXPECT_EQ(verdict("bank/front > bank/vault tcp/80"), SLUICE_DROP_NONE);
    EXPECT_EQ(verdict("lab/db > bank/vault tcp/80"), SLUICE_DROP_POLICY_INGRESS);
    EXPECT_LE(ruleset->rows.size(), limits.rows);
    EXPECT_LE(ruleset->port_classes.size(), limits.port_classes);
    EXPECT_LE(ruleset->blocks.size(), limits.prefixes);
    const auto flows = check_flows(cluster, 1);
    const auto expected = evaluate_all(cluster, flows, ruleset->refused);
    for (std::size_t i = 0; i < flows.size(); ++i) EXPECT_EQ(model_verdict(*ruleset, flows[i]), expected[i]);
  }
  sluice_drop_reason verdict(const std::string& text) {
    const Flow asked = flow(cluster, text);
    const auto result = model_verdict(*ruleset, asked);
    EXPECT_EQ(result, evaluate(cluster, asked, ruleset->refused)) << text;
    return result;
  }
  std::vector<std::string> refused() {
    std::vector<std::string> names;
    for (const auto& [name, why] : ruleset->refused) names.push_back(name);
    return names;
  }
  using Names = std::vector<std::string>;

  Cluster cluster = small_cluster();
  Limits limits;
  Compiler compiler;
  std::shared_ptr<const Ruleset> ruleset;
};

std::string address(std::uint32_t i) { return Address::from_v4(0xcb000000U + 2 * i).to_string(); }

std::vector<PolicyPort> single_ports(int first, int step) {
  std::vector<PolicyPort> ports;
  for (int port = first; port < 65536; port += step) ports.push_back(tcp(port));
  return ports;
}

// Rows would be tables × blocks.
TEST_F(PolicyLimits, ManyBlocksBesideManyPodsThatAdmitAnybody) {
  auto policies = add_pods_that_admit_anybody(cluster, 200);
  PolicyRule blocks{{}, {tcp(443)}};
  for (std::uint32_t i = 0; i < 8000; ++i) blocks.peers.push_back(block(address(i) + "/32"));
  policies.push_back(egress("shop", "", {blocks}));
  compile(policies);
  EXPECT_EQ(refused(), Names{});
  EXPECT_EQ(ruleset->blocks.size(), 8000U);
  EXPECT_LE(ruleset->rows.size(), 300U);
  EXPECT_EQ(verdict("shop/cart > " + address(7999) + " tcp/443"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("shop/cart > 203.0.0.1 tcp/443"), SLUICE_DROP_POLICY_EGRESS);
  EXPECT_EQ(verdict("shop/cart > lab/pod199 tcp/443"), SLUICE_DROP_POLICY_EGRESS);
  EXPECT_EQ(verdict("bank/front > lab/pod199 tcp/1199"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("bank/front > lab/pod199 tcp/1198"), SLUICE_DROP_POLICY_INGRESS);
}

// Each address is in all lists of blocks but one.
TEST_F(PolicyLimits, ManyExceptionsOfManyBlocks) {
  NetworkPolicy big = ingress("shop", "app=cart", {});
  for (std::uint32_t i = 0; i < 10000; ++i)
    big.ingress.push_back({{block("0.0.0.0/0", {address(i) + "/32"})}, {tcp(static_cast<int>(1000 + i))}});
  big.name = "big";
  compile({big, ingress("shop", "app=front", {{{}, {tcp(81)}}})});
  EXPECT_EQ(refused(), Names{"shop/big"});
  EXPECT_EQ(verdict("lab/db > shop/cart tcp/1000"), SLUICE_DROP_POLICY_INGRESS) << "closed";
  EXPECT_EQ(verdict("shop/cart > lab/db tcp/1000"), SLUICE_DROP_NONE) << "it does not isolate for egress";
  EXPECT_EQ(verdict("lab/db > shop/front tcp/81"), SLUICE_DROP_NONE);

  big.ingress.resize(100);
  compile({big});
  EXPECT_EQ(refused(), Names{}) << "what is within the limits is in force again";
  EXPECT_EQ(verdict(address(3) + " > shop/cart tcp/1004"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict(address(3) + " > shop/cart tcp/1003"), SLUICE_DROP_POLICY_INGRESS);
}

// What it says is kept, through all the sweeps between.
TEST_F(PolicyLimits, APolicyThatWasRefusedForLongIsInForceAgain) {
  limits.port_classes = 20;
  Compiler small({}, limits);
  NetworkPolicy first = ingress("shop", "app=cart", {{{block("192.0.2.0/24")}, single_ports(1, 5000)}});
  NetworkPolicy second = ingress("shop", "app=front", {{{block("198.51.100.0/24")}, single_ports(3, 5000)}});
  first.name = "first";
  second.name = "second";
  set_policies(cluster, {first, second});
  ruleset = small.compile(cluster, kEverything);
  EXPECT_EQ(refused(), Names{"shop/second"});
  for (int i = 0; i < 2000; ++i) {
    model::Pod pod = *cluster.pods.at("lab/db");
    pod.labels = {{"round", std::to_string(i)}};
    add_pod(cluster, pod);
    ruleset = small.compile(cluster, kEverything);
  }
  EXPECT_EQ(refused(), Names{"shop/second"});
  cluster.policies.erase("shop/first");  // the other one is the very object that was refused
  ruleset = small.compile(cluster, kEverything);
  EXPECT_EQ(refused(), Names{});
  EXPECT_EQ(verdict("198.51.100.1 > shop/front tcp/5003"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("192.0.2.1 > shop/front tcp/5003"), SLUICE_DROP_POLICY_INGRESS);
}

// A list that somebody's controller keeps up to date: what it was before is not kept.
TEST_F(PolicyLimits, AListOfBlocksThatChangesOftenIsHeldOnce) {
  PolicyRule rule{{}, {tcp(443)}};
  for (std::uint32_t i = 0; i < 8000; ++i) rule.peers.push_back(block(address(i) + "/32"));
  const auto held = [] { return mallinfo2().uordblks; };
  compile({egress("shop", "", {rule})});
  const std::size_t first = held();
  for (std::uint32_t i = 0; i < 200; ++i) {
    rule.peers[i] = block(address(8000 + i) + "/32");
    set_policies(cluster, {egress("shop", "", {rule})});
    ruleset = compiler.compile(cluster, kEverything);
  }
  EXPECT_EQ(refused(), Names{});
  EXPECT_LT(held(), first + (64U << 20));
}

TEST_F(PolicyLimits, ManyBlocksTimesManyNamedPorts) {
  PolicyRule rule;
  rule.peers.push_back(block("10.0.0.0/8"));
  for (std::uint32_t i = 1; i < 4000; ++i) rule.peers.push_back(block(address(i) + "/32"));
  for (int i = 1; i < 4000; ++i) rule.ports.push_back(tcp(fmt::format("name{}", i).c_str()));
  rule.ports.push_back(tcp("http"));
  compile({egress("shop", "", {rule})});
  EXPECT_EQ(refused(), Names{}) << "the blocks of a rule are one";
  EXPECT_EQ(verdict("shop/cart > bank/front tcp/9090"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("shop/cart > bank/vault tcp/9090"), SLUICE_DROP_POLICY_EGRESS);
}

TEST_F(PolicyLimits, ManySelectorsTimesManyPorts) {
  PolicyRule by_name, by_number;
  for (int i = 0; i < 4000; ++i) {
    by_name.peers.push_back(pods(fmt::format("app={}", i)));
    by_name.ports.push_back(tcp(fmt::format("name{}", i).c_str()));
    by_number.ports.push_back(tcp(2 * i));
  }
  by_number.peers = by_name.peers;
  NetworkPolicy names = egress("shop", "", {by_name}), numbers = ingress("shop", "", {by_number});
  names.name = "names";
  numbers.name = "numbers";
  compile({names, numbers});
  EXPECT_EQ(refused(), (Names{"shop/names", "shop/numbers"}));
  EXPECT_EQ(verdict("shop/front > lab/db tcp/80"), SLUICE_DROP_POLICY_EGRESS);
  EXPECT_EQ(verdict("lab/db > shop/front tcp/80"), SLUICE_DROP_POLICY_INGRESS);
}

TEST_F(PolicyLimits, PortsThatDoNotFitBesideEachOther) {
  NetworkPolicy halves = ingress("shop", "app=cart", {{{}, single_ports(1, 2)}});
  NetworkPolicy thirds = ingress("shop", "app=front", {{{}, single_ports(0, 3)}});
  halves.name = "halves";
  thirds.name = "thirds";
  compile({halves, thirds});
  EXPECT_EQ(refused(), Names{"shop/thirds"}) << "the last by name";
  EXPECT_EQ(verdict("lab/db > shop/cart tcp/65535"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("lab/db > shop/front tcp/3"), SLUICE_DROP_POLICY_INGRESS);
  EXPECT_NE(ruleset->refused.at("shop/thirds").find("namespace shop asks for most"), std::string::npos);

  thirds.ns = "bank";
  thirds.pod_selector = selector("app=vault");
  compile({halves, thirds});
  EXPECT_EQ(refused(), Names{"shop/halves"}) << "of the namespace that asks for most";
  compile({thirds});
  EXPECT_EQ(refused(), Names{});
}

// One whose rules are too many is told apart from those who have few, also if each policy by itself is small.
TEST_F(PolicyLimits, ManyPoliciesOfOneNamespaceAreRefusedFromTheLastOn) {
  std::vector<NetworkPolicy> policies;
  for (int i = 0; i < 100; ++i) {
    policies.push_back(ingress("shop", "", {}));
    policies.back().name = fmt::format("policy{:02}", i);
    for (std::uint32_t j = 0; j < 400; ++j)
      policies.back().ingress.push_back(
          {{block(address(400 * static_cast<std::uint32_t>(i) + j) + "/32")}, {}});
  }
  compile(policies);
  EXPECT_FALSE(ruleset->refused.empty());
  EXPECT_LT(ruleset->refused.size(), 50U);
  EXPECT_FALSE(ruleset->refused.contains("shop/policy00"));
  EXPECT_TRUE(ruleset->refused.contains("shop/policy99"));
  EXPECT_EQ(verdict(address(0) + " > shop/cart tcp/1"), SLUICE_DROP_NONE);
}

// With limits that small clusters exceed: who is refused is closed, all else is as the evaluator says.
TEST(PolicyLimitsProperty, TheEvaluatorAgreesWhoeverIsRefused) {
  std::size_t refused = 0, in_force = 0;
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomCluster random(seed);
    const auto most = [&](int bound) { return static_cast<std::uint64_t>(1 + random.below(bound)); };
    Limits limits;
    switch (seed % 8) {
      case 0:
        limits.peer_ports = most(12);
        break;
      case 1:
        limits.named_ports = most(4);
        break;
      case 2:
        limits.prefixes = most(12);
        break;
      case 3:
        limits.memberships = most(20);
        break;
      case 4:
        limits.table_words = most(20);
        break;
      case 5:
        limits.admissions = most(60);
        break;
      case 6:
        limits.rows = most(30);
        break;
      default:
        limits.port_classes = most(40);
    }
    Compiler compiler({}, limits);
    for (int step = 0; step < 25; ++step) {
      SCOPED_TRACE(fmt::format("step {}", step));
      if (step != 0) random.change();
      const auto ruleset = compiler.compile(random.cluster(), kEverything);
      EXPECT_LE(ruleset->rows.size(), limits.rows);
      EXPECT_LE(ruleset->port_classes.size(), limits.port_classes);
      EXPECT_LE(ruleset->blocks.size(), limits.prefixes);
      refused += ruleset->refused.size();
      in_force += random.cluster().policies.size() - ruleset->refused.size();
      std::vector<Flow> flows = check_flows(random.cluster(), seed);
      for (int i = 0; i < 40; ++i) flows.push_back(random.flow());
      const auto expected = evaluate_all(random.cluster(), flows, ruleset->refused);
      for (std::size_t i = 0; i < flows.size(); ++i)
        ASSERT_EQ(model_verdict(*ruleset, flows[i]), expected[i]);
      if (HasFailure()) return;
    }
  }
  EXPECT_GE(refused, 500U);
  EXPECT_GE(in_force, 500U);
}

}  // namespace
}  // namespace sluice::policy
