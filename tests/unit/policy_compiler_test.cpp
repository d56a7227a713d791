// SPDX-License-Identifier: Apache-2.0
// What the compiler promises about its numbers: what keeps them, what changes them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/policy_words.h"

namespace sluice::policy {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace)

constexpr std::uint32_t kFront = 1;
constexpr std::uint32_t kCart = 2;
constexpr std::uint32_t kVault = 3;

class CompilerTest : public testing::Test {
 protected:
  std::shared_ptr<const Ruleset> compile(const std::vector<NetworkPolicy>& policies) {
    set_policies(cluster, policies);
    return compiler.compile(cluster, kEverything);
  }
  void relabel(const std::string& key, const model::Labels& labels) {
    model::Pod pod = *cluster.pods.at(key);
    pod.labels = labels;
    add_pod(cluster, pod);
  }
  [[nodiscard]] std::uint32_t class_of(const Ruleset& ruleset, const std::string& pod) const {
    return *ruleset.peers.find(cluster.pods.at(pod)->ips.front());
  }

  Cluster cluster = small_cluster();
  Compiler compiler;
};

TEST_F(CompilerTest, WithoutPoliciesEveryPeerIsKnownAndInClassZero) {
  const auto ruleset = compile({});
  EXPECT_EQ(ruleset->peers.size(), 7U) << "all but the pod with host network and the finished one";
  ruleset->peers.for_each([](const Address& address, std::uint32_t peer_class) {
    EXPECT_EQ(peer_class, 0U) << address.to_string();
  });
  EXPECT_EQ(ruleset->endpoints.size(), 4U);
  for (const auto& [id, policy] : ruleset->endpoints) {
    EndpointPolicy open;
    if (!cluster.endpoints.at(id).pod.empty()) open.peer_class = 0;
    EXPECT_EQ(policy, open) << id;
  }
  EXPECT_TRUE(ruleset->rows.empty());
  EXPECT_TRUE(ruleset->blocks.empty());
  EXPECT_TRUE(ruleset->port_classes.empty());
}

// Nobody can say which policies select a pod whose object was never seen.
TEST_F(CompilerTest, APodThatIsNotKnownIsClosedAndAContainerThatIsNoPodIsOpen) {
  cluster.endpoints[7] = {7, "shop", "never-seen"};
  for (const auto& policies :
       {std::vector<NetworkPolicy>(), std::vector<NetworkPolicy>{ingress("shop", "", {{{}, {}}})}}) {
    const auto ruleset = compile(policies);
    for (const std::uint16_t port : std::vector<std::uint16_t>{1, 80, 65535}) {
      const Address peer = *Address::parse("10.0.1.1");
      const Address unknown = *Address::parse("10.0.0.7");
      const Flow out{unknown, peer, 6, port, 7, 0};
      const Flow in{peer, unknown, 6, port, 0, 7};
      EXPECT_EQ(evaluate(cluster, out), SLUICE_DROP_POLICY_EGRESS);
      EXPECT_EQ(evaluate(cluster, in), SLUICE_DROP_POLICY_INGRESS);
      EXPECT_EQ(model_verdict(*ruleset, out), SLUICE_DROP_POLICY_EGRESS);
      EXPECT_EQ(model_verdict(*ruleset, in), SLUICE_DROP_POLICY_INGRESS);
    }
    EXPECT_EQ(evaluate(cluster, flow(cluster, "box > bank/front tcp/1")), SLUICE_DROP_NONE);
    const auto shown = effective_policy(cluster, 7);
    EXPECT_TRUE(shown.isolated_ingress && shown.isolated_egress && shown.rules.empty());
  }
}

TEST_F(CompilerTest, NothingChangedIsTheSameRuleset) {
  const auto before = compile({ingress("shop", "", {{{pods("")}, {tcp(80)}}})});
  EXPECT_EQ(compiler.compile(cluster, kEverything), before);
}

TEST_F(CompilerTest, PoliciesThatSelectNoPodOfThisNodeLeaveNoTrace) {
  const auto without = compile({});
  const auto with = compile({ingress("lab", "", {{{pods("app=front"), block("192.0.2.0/24")}, {tcp(80)}}})});
  EXPECT_EQ(with->peers, without->peers);
  EXPECT_TRUE(with->blocks.empty());
  EXPECT_TRUE(with->rows.empty());
}

TEST_F(CompilerTest, PeersThatNoRuleTellsApartShareAClass) {
  const auto ruleset = compile({ingress("shop", "", {{{namespaces("env=prod")}, {tcp(80)}}})});
  EXPECT_EQ(class_of(*ruleset, "shop/front"), class_of(*ruleset, "bank/vault"));
  EXPECT_NE(class_of(*ruleset, "shop/front"), class_of(*ruleset, "lab/db"));
  EXPECT_EQ(class_of(*ruleset, "lab/db"), 0U);
}

TEST_F(CompilerTest, EndpointsThatAdmitTheSameShareATable) {
  const auto ruleset = compile({ingress("shop", "", {{{namespaces("env=prod")}, {tcp(80)}}}),
                                ingress("bank", "", {{{namespaces("env=prod")}, {tcp(80)}}})});
  const auto& front = ruleset->endpoints.at(kFront);
  EXPECT_TRUE(front.isolated_ingress);
  EXPECT_FALSE(front.isolated_egress);
  EXPECT_EQ(front, ruleset->endpoints.at(kCart));
  EXPECT_EQ(front, ruleset->endpoints.at(kVault)) << "the table is its content, not its policy";
  EXPECT_EQ(front.port_runs[SLUICE_INGRESS], (std::vector<PortRun>{{6, 80, 80, 1}}));
  EXPECT_TRUE(ruleset->port_classes.empty());
}

TEST_F(CompilerTest, ARuleForAnybodyIsTheDefaultRowOfItsTable) {
  const auto ruleset = compile({ingress("shop", "", {{{}, {tcp(80)}}, {{pods("app=front")}, {tcp(81)}}})});
  const std::uint32_t table = ruleset->endpoints.at(kCart).table[SLUICE_INGRESS];
  const std::uint32_t front = class_of(*ruleset, "shop/front");
  EXPECT_NE(front, class_of(*ruleset, "lab/db"));
  const std::map<RowKey, Row> rows{
      {{table, front, 0}, Row{0b110}},            // what anybody is admitted at, and more
      {{table, SLUICE_NO_CLASS, 0}, Row{0b010}},  // every other class, this one of port 80
  };
  EXPECT_EQ(ruleset->rows, rows);
}

TEST_F(CompilerTest, WhoIsAdmittedAtNoMoreThanAnybodyHasNoRow) {
  const auto ruleset = compile({ingress("shop", "", {{{}, {tcp(80, 90)}}, {{pods("app=front")}, {tcp(85)}}}),
                                egress("shop", "", {{{}, {}}, {{namespaces("env=prod")}, {udp(53)}}})});
  EXPECT_EQ(ruleset->rows.size(), 2U) << "a default row for each direction";
  for (const auto& [key, row] : ruleset->rows) EXPECT_EQ(key.peer_class, SLUICE_NO_CLASS);
}

// What tables × classes would be: 200 × 8,000.
TEST_F(CompilerTest, RowsAreNotMultipliedByRulesForAnybody) {
  auto policies = add_pods_that_admit_anybody(cluster, 200);
  PolicyRule blocks{{}, {tcp(443)}};
  for (std::uint32_t i = 0; i < 8000; ++i)
    blocks.peers.push_back(block(fmt::format("203.{}.{}.0/25", i / 250, i % 250)));
  policies.push_back(egress("shop", "", {blocks}));
  const auto ruleset = compile(policies);
  EXPECT_EQ(ruleset->blocks.size(), 8000U);
  EXPECT_LE(ruleset->rows.size(), 201U);
}

TEST_F(CompilerTest, ManyPortsMakeAPortTable) {
  std::vector<PolicyPort> few, many;
  for (std::uint16_t i = 0; i <= SLUICE_PORT_RUNS; ++i) {
    if (i < SLUICE_PORT_RUNS) few.push_back(tcp(80 + 2 * i));
    many.push_back(tcp(80 + 2 * i));
  }
  const auto ruleset =
      compile({ingress("shop", "", {{{pods("")}, many}}), ingress("bank", "", {{{pods("")}, few}})});
  const auto& with_table = ruleset->endpoints.at(kCart);
  EXPECT_NE(with_table.ports[SLUICE_INGRESS], 0U);
  EXPECT_TRUE(with_table.port_runs[SLUICE_INGRESS].empty());
  EXPECT_EQ(ruleset->port_classes.size(), many.size());
  const auto& with_runs = ruleset->endpoints.at(kVault);
  EXPECT_EQ(with_runs.ports[SLUICE_INGRESS], 0U);
  EXPECT_EQ(with_runs.port_runs[SLUICE_INGRESS].size(), few.size());
}

TEST_F(CompilerTest, AnEndpointCarriesItsOwnClass) {
  const std::vector policies{
      ingress("shop", "", {{{namespaces("env=prod")}, {tcp(80)}}, {{block("10.0.0.0/8")}, {}}})};
  const auto before = compile(policies);
  EXPECT_EQ(before->endpoints.at(kCart).peer_class, class_of(*before, "shop/cart"));
  relabel("shop/cart", {{"app", "other"}});
  model::Pod pod = *cluster.pods.at("shop/cart");
  pod.ips.push_back(*Address::parse("2001:db8::7"));
  add_pod(cluster, pod);
  EXPECT_FALSE(compiler.compile(cluster, kEverything)->endpoints.at(kCart).peer_class)
      << "its addresses differ in theirs";
}

TEST_F(CompilerTest, TheSameContentComesBackUnderItsNumbers) {
  const auto open = ingress("shop", "", {{{namespaces("env=prod")}, {tcp(80), tcp(8000, 9000)}}});
  const auto before = compile({open});
  const auto changed = compile({ingress("shop", "", {{{namespaces("env=prod")}, {tcp(81)}}})});
  EXPECT_NE(changed->endpoints.at(kCart).table, before->endpoints.at(kCart).table);
  EXPECT_NE(changed->endpoints.at(kCart).port_runs, before->endpoints.at(kCart).port_runs);
  EXPECT_EQ(class_of(*changed, "bank/vault"), class_of(*before, "bank/vault"));
  const auto after = compile({open});
  EXPECT_EQ(after->endpoints, before->endpoints);
  EXPECT_EQ(after->peers, before->peers);
  EXPECT_EQ(after->rows, before->rows);
  EXPECT_EQ(after->port_classes, before->port_classes);
}

TEST_F(CompilerTest, APolicyWrittenInAnotherOrderIsTheSameContent) {
  const auto before =
      compile({ingress("shop", "", {{{pods("app=front"), pods("app=cart")}, {tcp(80), udp(53)}}})});
  const auto after = compile({ingress("shop", "",
                                      {{{pods("app=cart")}, {udp(53), tcp(80)}},
                                       {{pods("app=front")}, {udp(53)}},
                                       {{pods("app=front")}, {tcp(80)}}})});
  EXPECT_EQ(after->endpoints, before->endpoints);
  EXPECT_EQ(after->rows, before->rows);
}

TEST_F(CompilerTest, APeerThatChangesItsLabelsChangesItsClassAndNoTable) {
  const std::vector policies{
      ingress("shop", "app=cart", {{{pods_in("app=front", "")}, {tcp(80)}}, {{}, {udp(53)}}}),
      egress("shop", "app=cart", {{{pods_in("app=db", "")}, {}}})};
  const auto before = compile(policies);
  relabel("lab/db", {{"app", "front"}});
  const auto after = compiler.compile(cluster, kEverything);
  EXPECT_EQ(after->endpoints, before->endpoints);
  EXPECT_EQ(after->port_classes, before->port_classes);
  EXPECT_NE(class_of(*after, "lab/db"), class_of(*before, "lab/db"));
  EXPECT_EQ(class_of(*after, "lab/db"), class_of(*after, "lab/front"));
}

TEST_F(CompilerTest, ANewKindOfPeerOnlyAddsRows) {
  const std::vector policies{
      ingress("shop", "", {{{pods_in("app=front", "")}, {tcp(80)}}, {{pods_in("tier", "")}, {}}}),
      ingress("bank", "", {{{pods_in("team", "")}, {tcp(443)}}})};
  const auto before = compile(policies);
  relabel("lab/db", {{"app", "front"}, {"team", "new"}});
  const auto after = compiler.compile(cluster, kEverything);
  EXPECT_EQ(after->endpoints, before->endpoints);
  EXPECT_GT(after->rows.size(), before->rows.size());
  for (const auto& [key, row] : before->rows) EXPECT_EQ(after->rows.at(key), row);
}

TEST_F(CompilerTest, ANumberThatAPeersPortNameGetsIsANewTable) {
  const std::vector policies{egress("shop", "app=cart", {{{namespaces("")}, {tcp("http")}}})};
  const auto before = compile(policies);
  model::Pod pod = *cluster.pods.at("lab/db");
  pod.ports = {{"http", Protocol::kTcp, 9090}};
  add_pod(cluster, pod);
  const auto known_number = compiler.compile(cluster, kEverything);
  EXPECT_EQ(known_number->endpoints, before->endpoints) << "another peer had 9090 already";
  pod.ports = {{"http", Protocol::kTcp, 7070}};
  add_pod(cluster, pod);
  const auto new_number = compiler.compile(cluster, kEverything);
  EXPECT_NE(new_number->endpoints.at(kCart).table, before->endpoints.at(kCart).table);
  EXPECT_EQ(model_verdict(*new_number, flow(cluster, "shop/cart > lab/db tcp/7070")), SLUICE_DROP_NONE);
}

TEST_F(CompilerTest, NumbersBeginWhereItIsTold) {
  Compiler late({1000, 2000, 3000});
  std::vector<PolicyPort> ports;
  for (int i = 0; i <= SLUICE_PORT_RUNS; ++i) ports.push_back(tcp(2 * i + 1));
  set_policies(cluster, {ingress("shop", "", {{{pods("")}, ports}})});
  const auto ruleset = late.compile(cluster, kEverything);
  EXPECT_EQ(ruleset->endpoints.at(kCart).table[SLUICE_INGRESS], 1000U);
  EXPECT_EQ(ruleset->endpoints.at(kCart).ports[SLUICE_INGRESS], 2000U);
  EXPECT_EQ(class_of(*ruleset, "shop/cart"), 3000U);
}

TEST_F(CompilerTest, MorePortClassesThanOneRowHolds) {
  std::vector<PolicyRule> rules{{{pods("app=front")}, {}}};
  for (int i = 0; i < 300; ++i) {
    const std::string net = i < 150 ? "192.0.2." : "198.51.100.";
    rules.push_back({{block(net + std::to_string(i % 150))}, {tcp(1000 + 2 * i)}});
  }
  const auto ruleset = compile({ingress("shop", "app=cart", rules)});
  std::set<std::uint32_t> pages;
  for (const auto& [key, row] : ruleset->rows) {
    pages.insert(key.page);
    EXPECT_NE(row, Row{}) << "class " << key.peer_class << " page " << key.page;
  }
  EXPECT_EQ(pages, (std::set<std::uint32_t>{0, 1}));
  EXPECT_EQ(model_verdict(*ruleset, flow(cluster, "shop/front > shop/cart tcp/1598")), SLUICE_DROP_NONE);
  EXPECT_EQ(model_verdict(*ruleset, flow(cluster, "198.51.100.149 > shop/cart tcp/1598")), SLUICE_DROP_NONE);
  EXPECT_EQ(model_verdict(*ruleset, flow(cluster, "198.51.100.149 > shop/cart tcp/1596")),
            SLUICE_DROP_POLICY_INGRESS);
}

TEST_F(CompilerTest, WhoAdmitsEverythingToEveryoneNeedsNoPorts) {
  const auto ruleset = compile({ingress("shop", "app=cart", {{}, {{pods("")}, {tcp(80)}}})});
  EXPECT_EQ(ruleset->endpoints.at(kCart).ports[SLUICE_INGRESS], 0U);
  EXPECT_TRUE(ruleset->endpoints.at(kCart).port_runs[SLUICE_INGRESS].empty());
  EXPECT_TRUE(ruleset->port_classes.empty());
}

TEST_F(CompilerTest, OfTwoPodsWithOneAddressTheOneThatRunsHasIt) {
  model::Pod twin = *cluster.pods.at("lab/db");
  twin.name = "a-finished-one";
  twin.labels = {{"app", "front"}};
  twin.finished = true;
  add_pod(cluster, twin);
  const auto ruleset = compile({ingress("shop", "", {{{pods_in("app=front", "")}, {}}})});
  EXPECT_EQ(class_of(*ruleset, "lab/db"), 0U);
  twin.finished = false;
  add_pod(cluster, twin);
  const auto both = compiler.compile(cluster, kEverything);
  const Flow asked = flow(cluster, "lab/db > shop/cart tcp/1");
  EXPECT_EQ(model_verdict(*both, asked), evaluate(cluster, asked));
}

}  // namespace
}  // namespace sluice::policy
