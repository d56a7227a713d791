// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/identities.h"

#include <algorithm>
#include <tuple>

namespace sluice::policy {

namespace {

auto parts(const std::shared_ptr<Identity>& identity) {
  return std::tie(identity->ns, identity->labels, identity->ports);
}

auto parts(const model::Pod& pod) { return std::tie(pod.ns, pod.labels, pod.ports); }

bool selects(const PodPredicate& predicate, const std::string& ns, const model::Labels& namespace_labels) {
  return predicate.namespaces ? predicate.namespaces->matches(namespace_labels) : predicate.ns == ns;
}

}  // namespace

template <typename Left, typename Right>
bool Identities::Less::operator()(const Left& left, const Right& right) const {
  return parts(left) < parts(right);
}

bool Identities::follow(const std::map<std::string, model::Namespace>& namespaces) {
  if (namespaces == namespaces_) return false;
  namespaces_ = namespaces;
  for (auto& [ns, group] : groups_) {
    model::Labels labels = namespace_labels(ns);
    if (labels == group.labels) continue;
    group.labels = std::move(labels);
    choose_candidates(ns, group);
    for (Identity* identity : group.identities) match(*identity, group);
  }
  return true;
}

void Identities::set_predicates(const AtomSet& in_force, const Atoms& atoms) {
  AtomSet removed;
  std::map<AtomId, const PodPredicate*> added;
  for (const auto& [atom, predicate] : predicates_) {
    if (!std::ranges::binary_search(in_force, atom)) removed.push_back(atom);
  }
  for (const AtomId atom : in_force) {
    if (!predicates_.contains(atom)) added.emplace(atom, &std::get<PodPredicate>(atoms.content(atom)));
  }
  if (removed.empty() && added.empty()) return;
  for (const AtomId atom : removed) predicates_.erase(atom);
  predicates_.insert(added.begin(), added.end());

  const auto is_removed = [&](AtomId atom) { return std::ranges::binary_search(removed, atom); };
  for (auto& [ns, group] : groups_) {
    std::vector<Candidate> candidates;
    for (const auto& [atom, predicate] : added) {
      if (selects(*predicate, ns, group.labels)) candidates.push_back({atom, &predicate->pods});
    }
    const auto dropped =
        std::erase_if(group.candidates, [&](const Candidate& old) { return is_removed(old.atom); });
    group.candidates.insert(group.candidates.end(), candidates.begin(), candidates.end());
    if (dropped == 0 && candidates.empty()) continue;
    for (Identity* identity : group.identities) {
      AtomSet now = identity->atoms;
      std::erase_if(now, is_removed);
      for (const auto& [atom, pods] : candidates) {
        if (pods->matches(identity->labels)) now.push_back(atom);
      }
      set_atoms(*identity, std::move(now));
    }
  }
}

std::shared_ptr<Identity> Identities::of(const model::Pod& pod) {
  const auto found = identities_.lower_bound(pod);
  if (found != identities_.end() && parts(*found) == parts(pod)) return *found;
  auto identity = std::make_shared<Identity>();
  identity->ns = pod.ns;
  identity->labels = pod.labels;
  identity->ports = pod.ports;
  Group& home = group(pod.ns);
  home.identities.push_back(identity.get());
  match(*identity, home);
  return *identities_.insert(found, std::move(identity));
}

void Identities::sweep() {
  for (auto it = identities_.begin(); it != identities_.end();) {
    if (it->use_count() > 1) {
      ++it;
      continue;
    }
    std::erase(group((*it)->ns).identities, it->get());
    it = identities_.erase(it);
  }
  std::erase_if(groups_, [](const auto& entry) { return entry.second.identities.empty(); });
}

model::Labels Identities::namespace_labels(const std::string& ns) const {
  const auto known = namespaces_.find(ns);
  // The API server labels every namespace with its name; a pod may be seen before its namespace is.
  return known != namespaces_.end() ? known->second.labels
                                    : model::Labels{{"kubernetes.io/metadata.name", ns}};
}

Identities::Group& Identities::group(const std::string& ns) {
  const auto [it, added] = groups_.try_emplace(ns);
  if (added) {
    it->second.labels = namespace_labels(ns);
    choose_candidates(ns, it->second);
  }
  return it->second;
}

void Identities::choose_candidates(const std::string& ns, Group& group) const {
  group.candidates.clear();
  for (const auto& [atom, predicate] : predicates_) {
    if (selects(*predicate, ns, group.labels)) group.candidates.push_back({atom, &predicate->pods});
  }
}

void Identities::match(Identity& identity, const Group& group) {
  AtomSet atoms;
  for (const auto& [atom, pods] : group.candidates) {
    if (pods->matches(identity.labels)) atoms.push_back(atom);
  }
  set_atoms(identity, std::move(atoms));
}

void Identities::set_atoms(Identity& identity, AtomSet atoms) {
  std::ranges::sort(atoms);
  if (atoms == identity.atoms) return;
  identity.atoms = std::move(atoms);
  identity.classes.clear();
}

}  // namespace sluice::policy
