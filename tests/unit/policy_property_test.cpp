// SPDX-License-Identifier: Apache-2.0
// Compiler against evaluator on random clusters and sequences of changes, through a model of the firewall
// program.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "daemon/policy/check_packets.h"
#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/random_cluster.h"

namespace sluice::policy {
namespace {

std::string text(const Flow& flow) {
  return fmt::format("{} (endpoint {}) -> {} (endpoint {}) protocol {} port {}", flow.source.to_string(),
                     flow.source_endpoint, flow.destination.to_string(), flow.destination_endpoint,
                     flow.protocol, flow.destination_port);
}

std::string in_words(const Cluster& cluster, const Flow& flow) {
  std::string words;
  for (const std::uint32_t endpoint : {flow.source_endpoint, flow.destination_endpoint}) {
    for (const auto& rule : effective_policy(cluster, endpoint).rules)
      words += fmt::format("\nendpoint {}: {} {}: {}", endpoint, rule.policy, rule.direction, rule.text);
  }
  return words;
}

// What the numbers stood for whenever they were seen: a number must never stand for anything else.
class NumbersSeen {
 public:
  void check(const Ruleset& ruleset) {
    std::set<std::uint32_t> classes{0, SLUICE_NO_CLASS};
    std::set<std::uint32_t> tables;
    std::set<std::uint32_t> port_tables;
    ruleset.peers.for_each([&](const Address&, std::uint32_t peer_class) { classes.insert(peer_class); });
    for (const auto& [prefix, peer_class] : ruleset.blocks) classes.insert(peer_class);
    for (const auto& [id, policy] : ruleset.endpoints) {
      tables.insert(policy.table.begin(), policy.table.end());
      port_tables.insert(policy.ports.begin(), policy.ports.end());
      for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
        if (policy.table[direction] == 0) continue;
        const auto& runs = policy.port_runs[direction];
        same(ports_of_table_, policy.table[direction], std::pair(policy.ports[direction], runs));
        EXPECT_LE(runs.size(), SLUICE_PORT_RUNS);
        with_runs_ += !runs.empty();
        with_port_table_ += policy.ports[direction] != 0;
      }
      with_class_ += policy.peer_class.has_value();
    }
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::map<std::uint32_t, Row>> rows;
    for (const std::uint32_t table : tables) {
      for (const std::uint32_t peer_class : classes) rows[{table, peer_class}];
    }
    for (const auto& [key, row] : ruleset.rows) {
      EXPECT_NE(row, Row{}) << "an empty row";
      EXPECT_TRUE(tables.contains(key.table)) << "a row of table " << key.table << ", which nobody uses";
      EXPECT_TRUE(classes.contains(key.peer_class))
          << "a row of class " << key.peer_class << ", which nobody has";
      rows[{key.table, key.peer_class}][key.page] = row;
    }
    for (const auto& [key, pages] : rows) same(rows_, key, pages);

    std::map<std::uint32_t, std::map<PortKey, std::uint32_t>> ports;
    for (const auto& [key, port_class] : ruleset.port_classes) {
      EXPECT_TRUE(port_tables.contains(key.table)) << "port table " << key.table << ", which nobody uses";
      ports[key.table][key] = port_class;
    }
    for (const std::uint32_t table : port_tables) same(ports_, table, ports[table]);
  }

  // The generators must not drift to where one of the ways to find a class is never taken.
  void expect_every_way(std::size_t times) const {
    EXPECT_GE(with_runs_, times);
    EXPECT_GE(with_port_table_, times);
    EXPECT_GE(with_class_, times);
  }

 private:
  template <typename Key, typename Value>
  static void same(std::map<Key, Value>& seen, const Key& key, const Value& now) {
    const auto [it, added] = seen.try_emplace(key, now);
    EXPECT_EQ(it->second, now) << "a number stands for something else than before";
  }

  std::map<std::uint32_t, std::pair<std::uint32_t, std::vector<PortRun>>> ports_of_table_;
  std::size_t with_runs_ = 0, with_port_table_ = 0, with_class_ = 0;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::map<std::uint32_t, Row>> rows_;
  std::map<std::uint32_t, std::map<PortKey, std::uint32_t>> ports_;
};

struct Tally {
  std::size_t pairs = 0;
  std::map<sluice_drop_reason, std::size_t> verdicts;
};

void compare(const Cluster& cluster, const Ruleset& ruleset, const std::vector<Flow>& flows, Tally& tally) {
  const auto expected = evaluate_all(cluster, flows);
  for (std::size_t i = 0; i < flows.size(); ++i) {
    ASSERT_EQ(model_verdict(ruleset, flows[i]), expected[i]) << text(flows[i]) << in_words(cluster, flows[i]);
    ASSERT_EQ(ruleset.class_of(flows[i].source), model_peer_class(ruleset, flows[i].source));
    ++tally.pairs;
    ++tally.verdicts[expected[i]];
  }
}

std::vector<Flow> random_flows(RandomCluster& random, std::size_t count) {
  std::vector<Flow> flows(count);
  for (auto& flow : flows) flow = random.flow();
  return flows;
}

TEST(PolicyProperty, CompiledRulesJudgeAsTheEvaluatorThroughSequencesOfChanges) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    RandomCluster random(seed);
    Compiler compiler({static_cast<std::uint32_t>(seed), 7, static_cast<std::uint32_t>(100 * seed)});
    NumbersSeen numbers;
    for (int step = 0; step < 25; ++step) {
      SCOPED_TRACE(fmt::format("step {}", step));
      if (step != 0) random.change();
      const auto ruleset = compiler.compile(random.cluster(), random.take_changes());
      numbers.check(*ruleset);
      compare(random.cluster(), *ruleset, random_flows(random, 50), tally);
      compare(random.cluster(), *ruleset, check_flows(random.cluster(), seed), tally);
      if (HasFailure()) return;
    }
  }
  RecordProperty("pairs", static_cast<int>(tally.pairs));
  EXPECT_GE(tally.pairs, 100000U);
  // The generators must not drift to where every verdict is the same.
  for (const auto reason : {SLUICE_DROP_NONE, SLUICE_DROP_POLICY_EGRESS, SLUICE_DROP_POLICY_INGRESS})
    EXPECT_GE(tally.verdicts[reason], tally.pairs / 10) << "verdict " << reason;
}

// Long enough for contents that nobody uses to be forgotten, and to come back under new numbers.
TEST(PolicyProperty, NumbersKeepTheirMeaningThroughALongLife) {
  Tally tally;
  RandomCluster random(83);
  Compiler compiler;
  NumbersSeen numbers;
  for (int step = 0; step < 3000 && !HasFailure(); ++step) {
    random.change();
    const auto ruleset = compiler.compile(random.cluster(), random.take_changes());
    numbers.check(*ruleset);
    compare(random.cluster(), *ruleset, random_flows(random, 5), tally);
  }
  numbers.expect_every_way(1000);
}

TEST(PolicyProperty, ACompilerWithAPastJudgesAsANewOne) {
  RandomCluster random(5);
  Compiler old;
  for (int step = 0; step < 60; ++step) {
    random.change();
    const auto grown = old.compile(random.cluster(), random.take_changes());
    const auto fresh = Compiler().compile(random.cluster(), kEverything);
    EXPECT_EQ(grown->peers.size(), fresh->peers.size());
    EXPECT_EQ(grown->blocks.size(), fresh->blocks.size());
    EXPECT_EQ(grown->rows.size(), fresh->rows.size());
    EXPECT_EQ(grown->port_classes.size(), fresh->port_classes.size());
    for (int i = 0; i < 50; ++i) {
      const Flow flow = random.flow();
      ASSERT_EQ(model_verdict(*grown, flow), model_verdict(*fresh, flow)) << text(flow);
    }
  }
}

}  // namespace
}  // namespace sluice::policy
