// SPDX-License-Identifier: Apache-2.0
// What administrators read (effective_policy), and the flows by which a generation is checked (check_flows).
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "daemon/policy/check_packets.h"
#include "tests/unit/policy_words.h"
#include "tests/unit/random_cluster.h"

namespace sluice::policy {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

std::vector<std::string> lines(const EffectivePolicy& effective) {
  std::vector<std::string> result;
  for (const auto& rule : effective.rules)
    result.push_back(rule.direction + " " + rule.policy + ": " + rule.text);
  return result;
}

TEST(EffectivePolicy, SaysWhatIsAdmitted) {
  Cluster cluster = small_cluster();
  set_policies(cluster,
               {ingress("shop", "app=cart",
                        {{{pods("app=front"), pods_in("", "env=prod")}, {tcp(80), tcp(8000, 8080), udp()}},
                         {{namespaces(""), pods_in("app=db", "env in test|dev")}, {tcp("http")}}}),
                egress("shop", "", {{{block("10.0.0.0/8", {"10.1.0.0/16"})}, {}}, {{}, {udp(53)}}}),
                ingress("shop", "app=front", {})});
  const auto cart = effective_policy(cluster, 2);
  EXPECT_TRUE(cart.isolated_ingress);
  EXPECT_TRUE(cart.isolated_egress);
  EXPECT_THAT(lines(cart),
              testing::ElementsAre(
                  "ingress shop/policy0: from pods app=front in namespace shop or all pods in namespaces "
                  "env=prod to TCP 80, TCP 8000-8080, every UDP port",
                  "ingress shop/policy0: from all pods in all namespaces or pods app=db in namespaces env in "
                  "(test,dev) to TCP port \"http\"",
                  "egress shop/policy1: to addresses 10.0.0.0/8 except 10.1.0.0/16 at every port",
                  "egress shop/policy1: to everyone at UDP 53"));
  const auto front = effective_policy(cluster, 1);
  EXPECT_TRUE(front.isolated_ingress);
  EXPECT_EQ(front.rules.size(), 2U) << "a policy without rules isolates and admits nothing";
}

TEST(EffectivePolicy, OfAContainerThatIsNoPodOrUnknownIsNone) {
  Cluster cluster = small_cluster();
  set_policies(cluster, {ingress("shop", "", {})});
  for (const std::uint32_t endpoint : {9U, 77U}) {
    const auto none = effective_policy(cluster, endpoint);
    EXPECT_FALSE(none.isolated_ingress || none.isolated_egress) << endpoint;
    EXPECT_TRUE(none.rules.empty()) << endpoint;
  }
}

TEST(CheckFlows, AreFewAndTheSameForTheSameSeed) {
  const RandomCluster random(3);
  std::set<std::string> seeds;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto flows = check_flows(random.cluster(), seed);
    EXPECT_LE(flows.size(), kCheckFlows);
    std::string text;
    for (const auto& each : flows) text += each.source.to_string() + each.destination.to_string();
    std::string again;
    for (const auto& each : check_flows(random.cluster(), seed))
      again += each.source.to_string() + each.destination.to_string();
    EXPECT_EQ(text, again);
    seeds.insert(text);
  }
  EXPECT_GT(seeds.size(), 15U) << "seeds must differ in what they check";
}

TEST(CheckFlows, WithNobodyIsolatedThereIsNothingToCheck) {
  EXPECT_TRUE(check_flows(small_cluster(), 1).empty());
  EXPECT_TRUE(check_flows(Cluster(), 1).empty());
}

// A wrong rule shows only if flows on both sides of it are asked.
TEST(CheckFlows, MeetBothSidesOfBordersOnEveryIsolatedEndpoint) {
  Cluster cluster = small_cluster();
  set_policies(cluster,
               {ingress("shop", "", {{{pods("app=front"), block("203.0.113.0/24")}, {tcp(8000, 8010)}}}),
                egress("bank", "", {{{namespaces("env=test")}, {udp(53)}}})});
  std::set<std::string> sources;
  std::map<std::uint32_t, std::set<sluice_drop_reason>> verdicts;  // by isolated endpoint
  std::set<int> ports;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    for (const auto& each : check_flows(cluster, seed)) {
      const auto verdict = evaluate(cluster, each);
      if (each.destination_endpoint == 1 || each.destination_endpoint == 2) {
        sources.insert(each.source.to_string());
        ports.insert(each.destination_port);
        verdicts[each.destination_endpoint].insert(verdict);
      }
      if (each.source_endpoint == 3) verdicts[3].insert(verdict);
    }
  }
  for (const char* border : {"203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"})
    EXPECT_TRUE(sources.contains(border)) << border;
  for (const int border : {7999, 8000, 8010, 8011}) EXPECT_TRUE(ports.contains(border)) << border;
  for (const std::uint32_t endpoint : {1U, 2U, 3U})
    EXPECT_GE(verdicts[endpoint].size(), 2U) << "endpoint " << endpoint << ": admitted and denied";
}

}  // namespace
}  // namespace sluice::policy
