// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/identities.h"

#include <algorithm>
#include <tuple>
#include <utility>

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

void Identities::set_namespace(const std::string& name, const model::Namespace* now) {
  if (now == nullptr)
    namespaces_.erase(name);
  else
    namespaces_[name] = now->labels;
  const auto found = groups_.find(name);
  if (found == groups_.end()) return;
  Group& group = found->second;
  model::Labels labels = namespace_labels(name);
  if (labels == group.labels) return;
  group.labels = std::move(labels);
  choose_candidates(name, group);
  for (Identity* identity : group.identities) match(*identity, group);
}

void Identities::change_predicates(const AtomSet& removed, const AtomSet& added, const Atoms& atoms) {
  if (removed.empty() && added.empty()) return;
  struct Change {
    AtomSet removed;
    std::vector<Candidate> added;
  };
  std::map<std::string, Change> changes;  // by namespace
  // Most predicates are about the pods of one namespace.
  const auto for_each_selected = [&](const PodPredicate& predicate, const auto& visit) {
    if (!predicate.namespaces) {
      if (groups_.contains(predicate.ns)) visit(predicate.ns);
      return;
    }
    for (const auto& [ns, group] : groups_)
      if (predicate.namespaces->matches(group.labels)) visit(ns);
  };
  for (const AtomId atom : removed) {
    for_each_selected(*predicates_.at(atom),
                      [&](const std::string& ns) { changes[ns].removed.push_back(atom); });
    predicates_.erase(atom);
  }
  for (const AtomId atom : added) {
    const auto& predicate = std::get<PodPredicate>(atoms.content(atom));
    predicates_.emplace(atom, &predicate);
    for_each_selected(predicate, [&](const std::string& ns) {
      changes[ns].added.push_back({atom, &predicate.pods});
    });
  }
  for (const auto& [ns, change] : changes) {
    Group& group = groups_.at(ns);
    const auto is_removed = [&](AtomId atom) { return std::ranges::binary_search(change.removed, atom); };
    std::erase_if(group.candidates, [&](const Candidate& old) { return is_removed(old.atom); });
    group.candidates.insert(group.candidates.end(), change.added.begin(), change.added.end());
    for (Identity* identity : group.identities) {
      AtomSet now = identity->atoms;
      std::erase_if(now, is_removed);
      for (const auto& [atom, pods] : change.added) {
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
  for (auto& released : std::exchange(released_, {})) {
    const auto found = identities_.find(released);
    released.reset();
    if (found == identities_.end() || found->use_count() > 1) continue;
    const auto home = groups_.find((*found)->ns);
    std::erase(home->second.identities, found->get());
    if (home->second.identities.empty()) groups_.erase(home);
    identities_.erase(found);
  }
}

model::Labels Identities::namespace_labels(const std::string& ns) const {
  const auto known = namespaces_.find(ns);
  // The API server labels every namespace with its name; a pod may be seen before its namespace is.
  return known != namespaces_.end() ? known->second : model::Labels{{"kubernetes.io/metadata.name", ns}};
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
  changed_.push_back(&identity);
}

}  // namespace sluice::policy
