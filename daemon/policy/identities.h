// SPDX-License-Identifier: Apache-2.0
// Which pod predicates match which pods. Pods that no predicate can tell apart share an identity, so that the
// work grows with the kinds of pods, not with the pods.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/policy/atom.h"
#include "daemon/policy/cluster.h"
#include "daemon/policy/compiled_policy.h"

namespace sluice::policy {

struct Identity {
  std::string ns;
  model::Labels labels;
  std::vector<model::ContainerPort> ports;
  AtomSet atoms;  // the pod predicates in force that match
  // Classes by block set (BlockIndex), as far as they were asked for; see Compiler.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> classes;
  std::vector<const CompiledPolicy*> selected_by;  // by serial; kept for the identities of pods of this node
};

class Identities {
 public:
  // Takes over the namespaces' labels; true if any changed.
  bool follow(const std::map<std::string, model::Namespace>& namespaces);
  // The predicates in force; `atoms` (sorted) are all PodPredicates.
  void set_predicates(const AtomSet& in_force, const Atoms& atoms);

  [[nodiscard]] std::shared_ptr<Identity> of(const model::Pod& pod);
  // Forgets identities that nobody holds any more.
  void sweep();
  template <typename Visit>
  void for_each(Visit&& visit) {
    for (const auto& identity : identities_) visit(*identity);
  }

 private:
  struct Less {
    using is_transparent = void;
    template <typename Left, typename Right>
    bool operator()(const Left& left, const Right& right) const;
  };
  struct Candidate {
    AtomId atom = 0;
    const model::LabelSelector* pods = nullptr;
  };
  struct Group {  // a namespace
    model::Labels labels;
    std::vector<Candidate> candidates;  // the predicates in force that select this namespace
    std::vector<Identity*> identities;
  };

  [[nodiscard]] model::Labels namespace_labels(const std::string& ns) const;
  [[nodiscard]] Group& group(const std::string& ns);
  void choose_candidates(const std::string& ns, Group& group) const;
  static void match(Identity& identity, const Group& group);
  static void set_atoms(Identity& identity, AtomSet atoms);

  std::map<std::string, model::Namespace> namespaces_;
  std::map<std::string, Group> groups_;
  std::set<std::shared_ptr<Identity>, Less> identities_;
  std::map<AtomId, const PodPredicate*> predicates_;  // in force
};

}  // namespace sluice::policy
