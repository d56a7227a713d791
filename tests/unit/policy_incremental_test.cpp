// SPDX-License-Identifier: Apache-2.0
// A compiler that is told only what changed makes what one makes that sees the cluster for the first time.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <vector>

#include "daemon/policy/check_packets.h"
#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/random_cluster.h"

namespace sluice::policy {
namespace {

// Numbers of one compiler and those of another for the same: each stands for one and the same all the time.
class Pairs {
 public:
  bool match(std::uint32_t a, std::uint32_t b) {
    return there_.try_emplace(a, b).first->second == b && back_.try_emplace(b, a).first->second == a;
  }

 private:
  std::map<std::uint32_t, std::uint32_t> there_{{0, 0}}, back_{{0, 0}};
};

// Where the two are not the same but for their numbers; empty: nowhere.
std::string difference(const Ruleset& a, const Ruleset& b) {
  Pairs classes, tables, port_tables;
  std::string found;
  if (a.peers.size() != b.peers.size()) return fmt::format("{} peers, {}", a.peers.size(), b.peers.size());
  a.peers.for_each([&](const Address& address, std::uint32_t peer_class) {
    const auto* other = b.peers.find(address);
    if (other == nullptr || !classes.match(peer_class, *other)) found = "peer " + address.to_string();
  });
  if (a.blocks.size() != b.blocks.size())
    return fmt::format("{} blocks, {}", a.blocks.size(), b.blocks.size());
  for (const auto& [prefix, peer_class] : a.blocks) {
    const auto other = b.blocks.find(prefix);
    if (other == b.blocks.end() || !classes.match(peer_class, other->second))
      found = "block " + prefix.to_string();
  }
  if (a.endpoints.size() != b.endpoints.size()) return "other endpoints";
  for (const auto& [id, policy] : a.endpoints) {
    const auto other = b.endpoints.find(id);
    if (other == b.endpoints.end()) return fmt::format("endpoint {}", id);
    bool same = policy.isolated_ingress == other->second.isolated_ingress &&
                policy.isolated_egress == other->second.isolated_egress &&
                policy.peer_class.has_value() == other->second.peer_class.has_value();
    same = same && classes.match(policy.peer_class.value_or(0), other->second.peer_class.value_or(0));
    for (const int direction : {SLUICE_INGRESS, SLUICE_EGRESS}) {
      same = same && tables.match(policy.table[direction], other->second.table[direction]) &&
             port_tables.match(policy.ports[direction], other->second.ports[direction]);
    }
    if (!same) found = fmt::format("endpoint {}", id);
  }
  return found;
}

// The clusters that one seed goes through.
std::vector<Cluster> history_of(std::uint64_t seed, int steps) {
  RandomCluster random(seed);
  std::vector<Cluster> history{random.cluster()};
  for (int step = 0; step < steps; ++step) {
    random.change();
    history.push_back(random.cluster());
  }
  return history;
}

// What is wrong at the end for a compiler that sees history[first] and then only what changes.
std::string wrong_after(const std::vector<Cluster>& history, std::size_t first, std::size_t last) {
  Compiler compiler;
  auto ruleset = compiler.compile(history[first], kEverything);
  for (std::size_t i = first + 1; i <= last; ++i)
    ruleset = compiler.compile(history[i], changes_between(history[i - 1], history[i]));
  return difference(*ruleset, *Compiler().compile(history[last], kEverything));
}

std::string shown(const Changes& changes) {
  return fmt::format("namespaces [{}], pods [{}], policies [{}], endpoints [{}]",
                     fmt::join(changes.namespaces, " "), fmt::join(changes.pods, " "),
                     fmt::join(changes.policies, " "), fmt::join(changes.endpoints, " "));
}

TEST(PolicyIncremental, WhatChangesIsEnoughToKnow) {
  constexpr int kSteps = 40;
  std::size_t same_ruleset = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    const auto history = history_of(seed, kSteps);
    Compiler compiler;
    std::shared_ptr<const Ruleset> before;
    for (std::size_t step = 0; step < history.size(); ++step) {
      const auto changes = step == 0 ? kEverything : changes_between(history[step - 1], history[step]);
      const auto ruleset = compiler.compile(history[step], changes);
      same_ruleset += ruleset == before ? 1 : 0;
      before = ruleset;
      const auto wrong = difference(*ruleset, *Compiler().compile(history[step], kEverything));
      if (wrong.empty()) continue;
      // The shortest way there that still goes wrong.
      std::size_t first = step;
      while (first > 0 && wrong_after(history, first, step).empty()) --first;
      std::string way;
      for (std::size_t i = first + 1; i <= step; ++i)
        way += fmt::format("\nstep {}: {}", i, shown(changes_between(history[i - 1], history[i])));
      FAIL() << fmt::format("seed {}, seen whole at step {}, wrong at step {}: {}{}", seed, first, step,
                            wrong, way);
    }
  }
  EXPECT_GT(same_ruleset, 10U) << "what no rule of this node is about must make no other ruleset";
}

// Names beyond what changed, and names of what never was.
TEST(PolicyIncremental, ToNameMoreThanWhatChangedDoesNoHarm) {
  for (std::uint64_t seed = 200; seed < 230; ++seed) {
    RandomCluster random(seed);
    Compiler exact, generous;
    for (int step = 0; step < 20; ++step) {
      random.change();
      auto changes = random.take_changes();
      const auto expected = exact.compile(random.cluster(), changes);
      for (const auto& [key, pod] : random.cluster().pods)
        if (random.below(2) == 0) changes.pods.insert(key);
      for (const auto& [key, policy] : random.cluster().policies) changes.policies.insert(key);
      changes.namespaces.insert({"a", "never-was"});
      changes.pods.insert("never/was");
      changes.policies.insert("never/was");
      changes.endpoints.insert({1, 2, 3, 99});
      EXPECT_EQ(difference(*expected, *generous.compile(random.cluster(), changes)), "")
          << seed << " " << step;
    }
  }
}

// Long enough for numbers out of use to be forgotten, many times.
TEST(PolicyIncremental, ALongLifeLeavesNothingBehind) {
  RandomCluster random(4711);
  Compiler compiler;
  for (int step = 0; step < 4000; ++step) {
    random.change();
    const auto ruleset = compiler.compile(random.cluster(), random.take_changes());
    if (step % 40 != 0) continue;
    ASSERT_EQ(difference(*ruleset, *Compiler().compile(random.cluster(), kEverything)), "") << step;
  }
}

}  // namespace
}  // namespace sluice::policy
