// SPDX-License-Identifier: Apache-2.0
// Who is refused where the objects of two tenants are too much together: never the one whose own are
// ordinary.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "daemon/model/parse.h"
#include "daemon/policy/check_packets.h"
#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/policy_words.h"

namespace sluice::policy {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

std::string address(std::uint32_t i) { return Address::from_v4(0xcb000000U + 2 * i).to_string() + "/32"; }
std::string other_address(std::uint32_t i) {
  return Address::from_v4(0x64000000U + 2 * i).to_string() + "/32";
}

NetworkPolicy named(const std::string& name, NetworkPolicy policy) {
  policy.name = name;
  return policy;
}

// One rule of 0.0.0.0/0 except one address, for each port.
Rules world_except(std::uint32_t first, int count) {
  Rules rules;
  for (int i = 0; i < count; ++i)
    rules.push_back(
        {{block("0.0.0.0/0", {other_address(first + static_cast<std::uint32_t>(i))})}, {tcp(1000 + i)}});
  return rules;
}

// Of small_cluster(): the hostile tenant is shop. Pods that are added are on this node, too.
class PolicyCharges : public testing::Test {
 protected:
  void add_local(const std::string& ns, const std::string& name) {
    model::Pod pod;
    pod.ns = ns;
    pod.name = name;
    pod.labels = {{"pod", name}};
    const auto id = static_cast<std::uint32_t>(100 + cluster.endpoints.size());
    pod.ips = {Address::from_v4(0x0a000a00U + id)};
    cluster.endpoints[id] = {id, ns, name};
    add_pod(cluster, pod);
  }
  std::set<std::string> refused_namespaces(const std::vector<NetworkPolicy>& policies) {
    set_policies(cluster, policies);
    ruleset = compiler.compile(cluster, kEverything);
    EXPECT_LE(ruleset->rows.size(), limits.rows);
    EXPECT_LE(ruleset->blocks.size(), limits.prefixes);
    const auto flows = check_flows(cluster, 1);
    const auto expected = evaluate_all(cluster, flows, ruleset->refused);
    for (std::size_t i = 0; i < flows.size(); ++i) EXPECT_EQ(model_verdict(*ruleset, flows[i]), expected[i]);
    std::set<std::string> namespaces;
    for (const auto& [name, why] : ruleset->refused) namespaces.insert(name.substr(0, name.find('/')));
    return namespaces;
  }
  using Names = std::set<std::string>;

  Cluster cluster = small_cluster();
  Limits limits;
  Compiler compiler;
  std::shared_ptr<const Ruleset> ruleset;
};

// In one policy, and in many: each of them by itself says next to nothing.
TEST_F(PolicyCharges, WhoHasManyListsOfTheWorldPaysForWhatTheyHoldOfOthersLists) {
  const auto of_bank = [](std::uint32_t cidrs) {
    PolicyRule list{{}, {tcp(443)}};
    for (std::uint32_t i = 0; i < cidrs; ++i) list.peers.push_back(block(address(i)));
    return egress("bank", "", {list});
  };
  NetworkPolicy wide = ingress("shop", "", {});
  for (int i = 0; i < 256; ++i) {
    wide.ingress.push_back({{block("0.0.0.0/0")}, {tcp(1000 + i)}});
    for (std::uint32_t bit = 0; bit < 8; ++bit)
      if ((i >> bit) % 2 != 0) wide.ingress.back().peers.push_back(block(other_address(bit)));
  }
  EXPECT_EQ(refused_namespaces({wide, of_bank(8000)}), Names{"shop"});
  EXPECT_EQ(refused_namespaces({of_bank(8000)}), Names{});
  EXPECT_EQ(refused_namespaces({wide, of_bank(8000)}), Names{"shop"}) << "the one that came later";

  std::vector<NetworkPolicy> policies{of_bank(2100)};
  for (std::uint32_t i = 0; i < 1000; ++i)
    policies.push_back(named(fmt::format("wide{}", i),
                             ingress("shop", "", {{{block("0.0.0.0/0"), block(other_address(i))}, {}}})));
  EXPECT_EQ(refused_namespaces(policies), Names{"shop"});
}

TEST_F(PolicyCharges, WhoNamesManyAddressesPaysForWhatTheyAreInOfOthersLists) {
  std::vector<NetworkPolicy> policies;
  for (int tenant = 0; tenant < 20; ++tenant) {
    const auto ns = fmt::format("team{}", tenant);
    add_local(ns, "web");
    policies.push_back(
        named("web", ingress(ns, "", world_except(static_cast<std::uint32_t>(5 * tenant), 4))));
  }
  PolicyRule flood{{}, {tcp(443)}};
  for (std::uint32_t i = 0; i < 30000; ++i) flood.peers.push_back(block(address(i)));
  policies.push_back(egress("shop", "", {flood}));
  EXPECT_EQ(refused_namespaces(policies), Names{"shop"});
  policies.pop_back();
  EXPECT_EQ(refused_namespaces(policies), Names{});
}

TEST_F(PolicyCharges, WhatNamespacesNameInCommonIsSharedByThem) {
  const auto list = [](const std::string& ns, std::uint32_t cidrs, auto address_of) {
    PolicyRule rule{{}, {tcp(443)}};
    for (std::uint32_t i = 0; i < cidrs; ++i) rule.peers.push_back(block(address_of(i)));
    return egress(ns, "", {rule});
  };
  add_local("lab", "web");
  EXPECT_EQ(refused_namespaces({list("bank", 20000, address), list("lab", 20000, address),
                                list("shop", 15000, other_address)}),
            Names{"shop"});
  EXPECT_EQ(refused_namespaces({list("bank", 20000, address), list("shop", 15000, other_address)}),
            Names{"bank"});
}

TEST_F(PolicyCharges, APortNameStandsForOneNumberOfAPod) {
  nlohmann::json spec{{"containers", nlohmann::json::array()}};
  for (int i = 0; i < 12000; ++i)
    spec["containers"].push_back({{"ports", {{{"name", "http"}, {"containerPort", 10000 + i}}}}});
  const auto parsed = model::parse_object({{"metadata", {{"namespace", "shop"}, {"name", "hostile"}}},
                                           {"spec", spec},
                                           {"status", {{"podIP", "10.0.9.9"}}}},
                                          model::Kind::kPod);
  ASSERT_TRUE(parsed) << parsed.error().message;
  add_pod(cluster, std::get<model::Pod>(parsed->object));
  EXPECT_EQ(refused_namespaces({egress("bank", "", {{{namespaces("")}, {tcp("http")}}})}), Names{});
  const auto verdict = [&](const char* text) {
    const Flow asked = flow(cluster, text);
    EXPECT_EQ(model_verdict(*ruleset, asked), evaluate(cluster, asked, ruleset->refused)) << text;
    return model_verdict(*ruleset, asked);
  };
  EXPECT_EQ(verdict("bank/vault > shop/hostile tcp/10000"), SLUICE_DROP_NONE);
  EXPECT_EQ(verdict("bank/vault > shop/hostile tcp/10001"), SLUICE_DROP_POLICY_EGRESS);
  EXPECT_EQ(verdict("bank/vault > bank/front tcp/9090"), SLUICE_DROP_NONE);
}

}  // namespace
}  // namespace sluice::policy
