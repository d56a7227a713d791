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

struct Identity;

// A pod as a peer of others. Once made it is not changed, but for its place in the list of its identity.
struct KnownPod {
  std::shared_ptr<const model::Pod> source;
  std::shared_ptr<Identity> identity;  // none: no peer
  mutable const KnownPod *previous = nullptr, *next = nullptr;
};

struct Identity {
  std::string ns;
  model::Labels labels;
  model::ContainerPorts ports;
  AtomSet atoms;  // the pod predicates in force that match
  // Classes by block set (BlockIndex), as far as they were asked for, under the rules of that revision; see
  // PeerPods.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> classes;
  std::uint64_t classes_revision = 0;
  const KnownPod* pods = nullptr;                  // the first of the list of those that have it
  std::vector<const CompiledPolicy*> selected_by;  // by serial; kept for the identities of pods of this node
};

class Identities {
 public:
  // The namespace as it is now; nullptr: there is none.
  void set_namespace(const std::string& name, const model::Namespace* now);
  // visit(name), for each namespace that there is.
  template <typename Visit>
  void for_each_namespace(Visit&& visit) const {
    for (const auto& [name, labels] : namespaces_) visit(name);
  }
  // Of PodPredicates, all: those in force no longer, and those from now on.
  void change_predicates(const AtomSet& removed, const AtomSet& added, const Atoms& atoms);
  // The identities that other predicates match than at the last call.
  [[nodiscard]] std::vector<Identity*> take_changed() { return std::exchange(changed_, {}); }

  [[nodiscard]] std::shared_ptr<Identity> of(const model::Pod& pod);
  // Gives one back that of() gave. It is there until the next sweep().
  void release(std::shared_ptr<Identity> identity) { released_.push_back(std::move(identity)); }
  // Forgets those that were given back and that nobody else holds. take_changed() comes before.
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
  void match(Identity& identity, const Group& group);
  void set_atoms(Identity& identity, AtomSet atoms);

  std::map<std::string, model::Labels> namespaces_;
  std::map<std::string, Group> groups_;
  std::set<std::shared_ptr<Identity>, Less> identities_;
  std::map<AtomId, const PodPredicate*> predicates_;  // in force
  std::vector<Identity*> changed_;
  std::vector<std::shared_ptr<Identity>> released_;
};

}  // namespace sluice::policy
