// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/policies.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

namespace sluice::policy {

namespace {

bool selects(const CompiledPolicy& policy, const Identity& identity) {
  return policy.source->ns == identity.ns && policy.source->pod_selector.matches(identity.labels);
}

}  // namespace

void Policies::set(const std::string& key, const std::shared_ptr<const model::NetworkPolicy>& now) {
  const auto known = policies_.find(key);
  if (known != policies_.end() ? known->second->source == now : now == nullptr) return;
  if (known != policies_.end()) {
    CompiledPolicy& before = *known->second;
    if (const auto locals = locals_.find(before.source->ns); before.selected > 0 && locals != locals_.end())
      for (const auto& [local, endpoints] : locals->second) std::erase(local->selected_by, &before);
    rules_changed_ |= before.selected > 0;
    if (before.counted) count(before, -1);
    in_force_.erase(key);
    touched_.erase(before.serial);
    policies_.erase(known);
  }
  if (now == nullptr) return;
  auto made = std::make_unique<CompiledPolicy>();
  made->source = now;
  made->serial = next_serial_++;
  select(*made);
  policies_.emplace(key, std::move(made));
}

// Serials count up: the lists of those that have selected an identity stay in their order.
void Policies::select(CompiledPolicy& policy) {
  const auto locals = locals_.find(policy.source->ns);
  if (locals == locals_.end()) return;
  for (const auto& [local, endpoints] : locals->second) {
    if (!selects(policy, *local)) continue;
    local->selected_by.push_back(&policy);
    ++policy.selected;
  }
  if (policy.selected == 0) return;
  touched_.emplace(policy.serial, &policy);
  rules_changed_ = true;
}

void Policies::hold(Identity& identity) {
  if (locals_[identity.ns][&identity]++ > 0) return;
  const auto first = identity.ns + "/";
  for (auto it = policies_.lower_bound(first); it != policies_.end() && it->first.starts_with(first); ++it) {
    CompiledPolicy& policy = *it->second;
    if (!selects(policy, identity)) continue;
    identity.selected_by.push_back(&policy);
    ++policy.selected;
    touched_.emplace(policy.serial, &policy);
  }
  std::ranges::sort(identity.selected_by, {}, &CompiledPolicy::serial);
}

void Policies::drop(Identity& identity) {
  const auto home = locals_.find(identity.ns);
  const auto local = home->second.find(&identity);
  if (--local->second > 0) return;
  home->second.erase(local);
  if (home->second.empty()) locals_.erase(home);
  for (const auto* selected_by : std::exchange(identity.selected_by, {})) {
    CompiledPolicy& policy = *policies_.at(selected_by->source->ns + "/" + selected_by->source->name);
    --policy.selected;
    touched_.emplace(policy.serial, &policy);
  }
}

void Policies::count(const CompiledPolicy& policy, int by) {
  for (const auto& rules : policy.rules) {
    for (const auto& rule : rules) {
      for (const AtomId peer : rule.peers) {
        if (peer == kEveryone) continue;
        atom_uses_[peer] += static_cast<std::uint32_t>(by);
        touched_atoms_.insert(peer);
      }
    }
  }
  for (const auto& use : policy.name_uses[SLUICE_EGRESS]) {
    counted_name_uses_[use] += static_cast<std::uint32_t>(by);
    touched_name_uses_.insert(use);
  }
}

void Policies::settle(AtomId atom, const Atoms& atoms, InForce& changes) {
  const auto uses = atom_uses_.find(atom);
  const bool now = uses->second > 0;
  if (!now) atom_uses_.erase(uses);
  if (!std::holds_alternative<PodPredicate>(atoms.content(atom))) return;  // blocks: see has_room()
  const auto place = std::ranges::lower_bound(predicates_, atom);
  if ((place != predicates_.end() && *place == atom) == now) return;
  if (now)
    predicates_.insert(place, atom);
  else
    predicates_.erase(place);
  (now ? changes.added_predicates : changes.removed_predicates).push_back(atom);
}

void Policies::settle(const NameUse& use, InForce& changes) {
  const auto& [peer, name] = use;
  const auto counted = counted_name_uses_.find(use);
  const bool now = counted->second > 0;
  if (!now) counted_name_uses_.erase(counted);
  AtomSet& named_by = name_uses_[name];
  const auto place = std::ranges::lower_bound(named_by, peer);
  const bool before = place != named_by.end() && *place == peer;
  if (now && !before) named_by.insert(place, peer);
  if (!now && before) named_by.erase(place);
  if (named_by.empty()) name_uses_.erase(name);
  if (now != before) changes.name_uses.push_back(use);
}

void Policies::enter_and_leave(Atoms& atoms) {
  for (const auto& [serial, policy] : std::exchange(touched_, {})) {
    const bool now = policy->selected > 0;
    if (now == policy->in_force) continue;
    const auto key = policy->source->ns + "/" + policy->source->name;
    if (now) {
      policy->enter(atoms, limits_);
      entered_ += policy->demand.prefixes;
      in_force_.emplace(key, policy);
    } else {
      if (std::exchange(policy->counted, false)) count(*policy, -1);
      policy->leave();
      in_force_.erase(key);
    }
  }
}

bool Policies::exceeds(const Usage& usage, std::uint64_t most, const std::string& what) {
  if (!refusals_.exceeds(usage, most, what)) return false;
  refused_more_ = true;
  return true;
}

AtomsByNamespace Policies::peers_by_namespace() const {
  std::map<std::string_view, std::set<AtomId>> sets;
  for (const auto& [key, policy] : in_force_) {
    if (policy->refused) continue;
    for (const auto& rules : policy->rules)
      for (const auto& rule : rules) sets[policy->source->ns].insert(rule.peers.begin(), rule.peers.end());
  }
  AtomsByNamespace peers;
  for (auto& [ns, set] : sets) {
    set.erase(kEveryone);
    peers.emplace(ns, AtomSet(set.begin(), set.end()));
  }
  return peers;
}

std::map<std::string_view, std::set<PortName>> Policies::names_by_namespace() const {
  std::map<std::string_view, std::set<PortName>> names;
  for (const auto& [key, policy] : in_force_) {
    if (policy->refused) continue;
    for (const auto& [peer, name] : policy->name_uses[SLUICE_EGRESS]) names[policy->source->ns].insert(name);
  }
  return names;
}

bool Policies::has_room(const Atoms& atoms, InForce& changes) {
  AtomSet removed, added;
  for (const AtomId atom : touched_atoms_) {
    if (!is_list(atom, atoms)) continue;
    const bool now = atom_uses_.at(atom) > 0;
    if (std::ranges::binary_search(lists_, atom) != now) (now ? added : removed).push_back(atom);
  }
  if (removed.empty() && added.empty()) return true;
  const auto cost = blocks_.change(removed, added, atoms, {limits_.prefixes, limits_.memberships});
  if (cost.prefixes <= limits_.prefixes && cost.memberships <= limits_.memberships) {
    changes.blocks = true;
    AtomSet kept;
    std::ranges::set_difference(lists_, removed, std::back_inserter(kept));
    lists_.clear();
    std::ranges::merge(kept, added, std::back_inserter(lists_));
    return true;
  }
  AtomsByNamespace lists = peers_by_namespace();
  for (auto& [ns, peers] : lists) std::erase_if(peers, [&](AtomId atom) { return !is_list(atom, atoms); });
  if (cost.prefixes > limits_.prefixes) {
    Usage usage = charge_prefixes(lists, atoms, limits_);
    usage.total = cost.prefixes;  // there may be one more: see BlockIndex
    return !refusals_.exceeds(usage, limits_.prefixes, "CIDRs and exceptions");
  }
  return !refusals_.exceeds(charge_memberships(lists, atoms, limits_), limits_.memberships,
                            "CIDRs and exceptions, each as often as lists of blocks hold it");
}

Policies::InForce Policies::update(Atoms& atoms) {
  InForce changes;
  const bool policies_changed = std::exchange(rules_changed_, false);
  const bool refused_more = std::exchange(refused_more_, false);
  if (!policies_changed && !refused_more && touched_.empty()) return changes;
  changes.rules = true;
  if (policies_changed) refusals_.forget();
  enter_and_leave(atoms);
  std::vector<CompiledPolicy*> in_force;
  for (const auto& [key, policy] : in_force_) in_force.push_back(policy);
  do {
    refusals_.mark(in_force);
    for (auto* policy : in_force) {
      if (policy->counted != policy->refused) continue;
      policy->counted = !policy->refused;
      count(*policy, policy->counted ? 1 : -1);
    }
  } while (!has_room(atoms, changes));
  for (const AtomId atom : std::exchange(touched_atoms_, {})) settle(atom, atoms, changes);
  for (const auto& use : std::exchange(touched_name_uses_, {})) settle(use, changes);
  return changes;
}

}  // namespace sluice::policy
