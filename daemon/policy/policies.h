// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/blocks.h"
#include "daemon/policy/charges.h"
#include "daemon/policy/compiled_policy.h"
#include "daemon/policy/identities.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/refusals.h"

namespace sluice::policy {

// The cluster's policies, and which of them are in force: those that select a pod of this node. Nothing else
// says anything of peers. A change costs what it concerns on this node, not what there is.
class Policies {
 public:
  Policies(const Limits& limits, BlockIndex& blocks) : limits_(limits), refusals_(limits), blocks_(blocks) {}

  // The policy under that key ("namespace/name") as it is now; nullptr: there is none.
  void set(const std::string& key, const std::shared_ptr<const model::NetworkPolicy>& now);
  template <typename Visit>
  void for_each_key(Visit&& visit) const {
    for (const auto& [key, policy] : policies_) visit(key);
  }
  // An endpoint of this node has the identity, or no longer has it.
  void hold(Identity& identity);
  void drop(Identity& identity);

  struct InForce {
    AtomSet added_predicates, removed_predicates;
    bool blocks = false;             // others than before
    std::vector<NameUse> name_uses;  // that came or went
    bool rules = false;              // of any endpoint of this node
  };
  // What is other in force than at the last call.
  [[nodiscard]] InForce update(Atoms& atoms);
  // Of egress rules: the peers that each port with a name is said of.
  [[nodiscard]] const std::map<PortName, AtomSet>& name_uses() const { return name_uses_; }
  // What the policies in force of each namespace say of peers, and the names of ports that they mean peers'
  // ports by.
  [[nodiscard]] AtomsByNamespace peers_by_namespace() const;
  [[nodiscard]] std::map<std::string_view, std::set<PortName>> names_by_namespace() const;
  // See Refusals. If it does, update() is to be called again.
  [[nodiscard]] bool exceeds(const Usage& usage, std::uint64_t most, const std::string& what);
  [[nodiscard]] const RefusedPolicies& refused() const { return refusals_.reasons(); }
  // visit(const CompiledRule&), also of policies that are refused.
  template <typename Visit>
  void for_each_rule_in_force(Visit&& visit) const {
    for (const auto& [key, policy] : in_force_)
      for (const auto& rules : policy->rules)
        for (const auto& rule : rules) visit(rule);
  }
  // Prefixes of the policies that came into force since the last call.
  [[nodiscard]] std::uint64_t take_entered() { return std::exchange(entered_, 0); }

 private:
  void select(CompiledPolicy& policy);
  void count(const CompiledPolicy& policy, int by);
  void enter_and_leave(Atoms& atoms);
  [[nodiscard]] bool has_room(const Atoms& atoms, InForce& changes);
  void settle(AtomId atom, const Atoms& atoms, InForce& changes);
  void settle(const NameUse& use, InForce& changes);

  const Limits& limits_;
  Refusals refusals_;
  BlockIndex& blocks_;
  bool refused_more_ = false;  // since the last update
  std::map<std::string, std::unique_ptr<CompiledPolicy>> policies_;
  std::map<std::string, CompiledPolicy*> in_force_;  // of policies_
  std::uint64_t entered_ = 0;
  std::map<std::string, std::map<Identity*, std::uint32_t>> locals_;  // by namespace -> number of endpoints
  std::map<std::uint32_t, CompiledPolicy*> touched_;  // by serial: may come into force, or be it no longer
  std::unordered_map<AtomId, std::uint32_t> atom_uses_;
  std::map<NameUse, std::uint32_t> counted_name_uses_;
  std::set<AtomId> touched_atoms_;
  std::set<NameUse> touched_name_uses_;
  AtomSet predicates_, lists_;  // in force; lists are in blocks_
  std::map<PortName, AtomSet> name_uses_;
  bool rules_changed_ = false;
  std::uint32_t next_serial_ = 1;
};

}  // namespace sluice::policy
