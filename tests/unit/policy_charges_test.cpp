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

// Each address is in another pair of lists, so it is a class of its own.
NetworkPolicy pairs_of_lists(const std::string& ns, std::uint32_t addresses, std::size_t lists) {
  NetworkPolicy result = ingress(ns, "", {});
  for (std::size_t i = 0; i < lists; ++i) result.ingress.push_back({{}, {tcp(static_cast<int>(2000 + i))}});
  std::size_t first = 0, second = 1;
  for (std::uint32_t i = 0; i < addresses; ++i) {
    result.ingress[first].peers.push_back(block(address(i)));
    result.ingress[second].peers.push_back(block(address(i)));
    if (++second == lists) {
      if (++first == lists - 1) first = 0;
      second = first + 1;
    }
  }
  return result;
}

TEST_F(PolicyCharges, WhoTellsManyAddressesApartPaysForTheRowsOfOthersTables) {
  std::vector<NetworkPolicy> policies;
  for (int i = 0; i < 6; ++i) {
    const auto pod = fmt::format("pod{}", i);
    add_local("bank", pod);
    policies.push_back(
        named(pod, ingress("bank", "pod=" + pod, world_except(static_cast<std::uint32_t>(i), 1))));
  }
  EXPECT_EQ(refused_namespaces(policies), Names{});
  policies.push_back(pairs_of_lists("shop", 31000, 250));
  EXPECT_EQ(refused_namespaces(policies), Names{"shop"});
}

TEST_F(PolicyCharges, WhoTellsManyAddressesApartPaysForTheAdmissionsOfOthersTables) {
  add_local("bank", "web");
  for (const auto& [addresses, lists, rules] :
       {std::tuple{31000U, 125U, 20}, std::tuple{31000U, 125U, 3}, std::tuple{31000U, 250U, 20}}) {
    const auto refused = refused_namespaces({named("web", ingress("bank", "", world_except(0, rules))),
                                             pairs_of_lists("shop", addresses, lists)});
    EXPECT_FALSE(refused.contains("bank")) << lists << " " << rules;
  }
}

// The other way round: many tables beside somebody who tells some peers apart.
TEST_F(PolicyCharges, WhoHasManyTablesPaysForTheirRows) {
  std::vector<NetworkPolicy> policies{named("some", pairs_of_lists("bank", 600, 40))};
  for (int i = 0; i < 240; ++i) {
    const auto pod = fmt::format("pod{:03}", i);
    add_local("shop", pod);
    policies.push_back(
        named(pod, ingress("shop", "pod=" + pod, world_except(static_cast<std::uint32_t>(i), 1))));
  }
  EXPECT_EQ(refused_namespaces(policies), Names{"shop"});
}

// A table with many classes of ports takes as many rows for a peer as many tables do.
TEST_F(PolicyCharges, WhoHasTablesOfManyPortClassesPaysForTheirRows) {
  std::vector<NetworkPolicy> policies;
  for (std::uint32_t i = 0; i < 60; ++i) {
    const auto pod = fmt::format("pod{:02}", i);
    add_local("bank", pod);
    policies.push_back(named(pod, ingress("bank", "pod=" + pod, world_except(i, 1))));
  }
  // With the exceptions these are the 480 kinds that docs/policy-limits.md speaks of.
  policies.push_back(named("some", pairs_of_lists("bank", 419, 40)));
  EXPECT_EQ(refused_namespaces(policies), Names{});

  // Each port is admitted to other peers, so it is a class of its own.
  NetworkPolicy ports = ingress("shop", "", {});
  for (int bit = 0; bit < 14; ++bit) {
    ports.ingress.push_back({{pods(fmt::format("nobody={}", bit))}, {}});
    for (int number = 1; number < 16384; ++number)
      if ((number >> bit) % 2 != 0) ports.ingress.back().ports.push_back(tcp(number));
  }
  policies.push_back(named("ports", ports));
  for (std::uint32_t i = 0; i < 5; ++i) {
    const auto pod = fmt::format("pod{}", i);
    add_local("shop", pod);
    policies.push_back(
        named(pod, ingress("shop", "pod=" + pod, {{{block("0.0.0.0/0", {other_address(100 + i)})}, {}}})));
  }
  EXPECT_EQ(refused_namespaces(policies), Names{"shop"});
}

TEST_F(PolicyCharges, APortNameStandsForOneNumberOfAPod) {
  nlohmann::json spec{{"containers", nlohmann::json::array()}};
  for (int i = 0; i < 12000; ++i)
    spec["containers"].push_back({{"ports", {{{"name", "http"}, {"containerPort", 10000 + i}}}}});
  const nlohmann::json pod{{"metadata", {{"namespace", "shop"}, {"name", "hostile"}}},
                           {"spec", spec},
                           {"status", {{"podIP", "10.0.9.9"}}}};
  const auto parsed = model::parse_object(model::Tree(pod).root(), model::Kind::kPod);
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

// Policies as clusters have them, and others that are made to hurt.
class RandomTenants {
  // CIDRs and exceptions that an object has room for.
  static constexpr std::uint32_t kMostOfOnePolicy = 100'000;

 public:
  explicit RandomTenants(std::uint64_t seed) : random_(seed) {}

  // A few rules of the world with exceptions, lists of up to some thousand blocks, pods, ports by name.
  NetworkPolicy honest(const std::string& ns, std::uint32_t tenant) {
    NetworkPolicy made = below(2) == 0 ? ingress(ns, "", {}) : egress(ns, "", {});
    auto& rules = made.isolates_ingress ? made.ingress : made.egress;
    for (auto more = 1 + below(3); more > 0; --more) {
      PolicyRule world{{}, {tcp(static_cast<int>(400 + below(100)))}};
      std::vector<std::string> excepts;
      for (auto i = 1 + below(4); i > 0; --i) excepts.push_back(address_of(tenant, below(3000)));
      std::ranges::sort(excepts);
      world.peers.push_back(block("0.0.0.0/0", excepts));
      rules.push_back(world);
    }
    for (auto more = below(3); more > 0; --more) {
      PolicyRule list{{}, {tcp(static_cast<int>(500 + below(100)))}};
      for (auto i = below(4) == 0 ? below(3000) : below(50); i > 0; --i)
        list.peers.push_back(block(address_of(tenant, below(3000))));
      list.peers.push_back(block("172.16.0.0/12", {"172.16.4.0/24"}));
      rules.push_back(list);
    }
    rules.push_back({{namespaces("env=prod"), pods("app=front")}, {tcp("http"), tcp(80)}});
    return made;
  }

  NetworkPolicy hostile(const std::string& ns, const std::vector<NetworkPolicy>& others) {
    NetworkPolicy made = below(2) == 0 ? ingress(ns, "", {}) : egress(ns, "", {});
    auto& rules = made.isolates_ingress ? made.ingress : made.egress;
    const auto size = [&](std::uint32_t most) { return 1 + below(below(3) != 0 ? most : most / 20); };
    switch (below(7)) {
      case 0:  // many lists of the world
        rules = world_except(below(5000), static_cast<int>(size(1200)));
        break;
      case 1: {  // many addresses, in one list, from anywhere, also within what others name
        PolicyRule flood{{}, {tcp(443)}};
        const auto tenant = below(4);
        for (auto i = size(33000); i > 0; --i) flood.peers.push_back(block(address_of(tenant, i)));
        rules.push_back(flood);
        break;
      }
      case 2:  // many that are told apart
        made = pairs_of_lists(ns, size(32000), 5 + below(300));
        break;
      case 3: {  // exceptions of many lists
        std::vector<std::string> excepts;
        const auto lists = size(400);
        for (auto i = size(kMostOfOnePolicy / lists); i > 0; --i) excepts.push_back(address(i));
        std::ranges::sort(excepts);
        for (auto i = lists; i > 0; --i)
          rules.push_back({{block("0.0.0.0/0", excepts)}, {tcp(static_cast<int>(1000 + i))}});
        for (auto& rule : rules) rule.peers.push_back(block(address_of(9, below(100000))));
        break;
      }
      case 4: {  // what somebody else has, and more at other ports
        made = others[below(static_cast<std::uint32_t>(others.size()))];
        made.ns = ns;
        auto& copied = made.isolates_ingress ? made.ingress : made.egress;
        const auto rule = copied[below(static_cast<std::uint32_t>(copied.size()))];
        const auto room = kMostOfOnePolicy / static_cast<std::uint32_t>(rule.peers.size());
        for (auto i = size(std::min(600U, room)); i > 0; --i) {
          copied.push_back(rule);
          copied.back().ports = {tcp(static_cast<int>(2000 + i))};
          copied.back().peers.push_back(block(address_of(8, i)));
        }
        break;
      }
      case 5: {  // nested
        for (auto i = size(300); i > 0; --i) {
          PolicyRule nested{{}, {tcp(static_cast<int>(3000 + i))}};
          for (unsigned length = below(8); length < 32; length += 1 + below(3))
            nested.peers.push_back(block(address_of(below(3), below(3000), length)));
          rules.push_back(nested);
        }
        break;
      }
      default:  // one table of its own for one of its pods
        made.pod_selector = selector(fmt::format("pod=pod{}", below(40)));
        rules = world_except(below(5000), static_cast<int>(1 + below(30)));
    }
    return made;
  }

  [[nodiscard]] std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(random_() % bound);
  }

 private:
  static std::string address_of(std::uint32_t tenant, std::uint32_t i, unsigned length = 32) {
    return fmt::format("{}/{}", Address::from_v4(0x14000000U + (tenant << 20) + i).to_string(), length);
  }

  std::mt19937_64 random_;
};

TEST_F(PolicyCharges, WhateverOneTenantDoesThoseWithOrdinaryPoliciesAreInForce) {
  for (int i = 0; i < 40; ++i) add_local("shop", fmt::format("pod{}", i));
  for (const char* ns : {"bank", "lab"})
    for (int i = 0; i < 3; ++i) add_local(ns, fmt::format("own{}", i));
  std::size_t rounds_with_refusals = 0;
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomTenants random(seed);
    std::vector<NetworkPolicy> policies;
    for (std::uint32_t i = 0; i < 6; ++i)
      policies.push_back(named(fmt::format("own{}", i), random.honest(i % 2 == 0 ? "bank" : "lab", i % 2)));
    const auto honest = policies;
    for (auto more = 1 + random.below(6); more > 0; --more)
      policies.push_back(named(fmt::format("hostile{}", more), random.hostile("shop", honest)));
    const auto refused = refused_namespaces(policies);
    EXPECT_FALSE(refused.contains("bank") || refused.contains("lab"))
        << fmt::format("{}", fmt::join(refused, " "));
    EXPECT_EQ(ruleset->refused, Compiler().compile(cluster, kEverything)->refused) << "whatever was before";
    rounds_with_refusals += refused.empty() ? 0 : 1;
    if (HasFailure()) return;
  }
  EXPECT_GE(rounds_with_refusals, 8U);
}

}  // namespace
}  // namespace sluice::policy
