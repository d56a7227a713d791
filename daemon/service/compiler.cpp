// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/compiler.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace sluice::service {

namespace {

std::string text_of(const Frontend& frontend) {
  const std::string address = frontend.address.to_string();
  return fmt::format("{}:{}/{}", frontend.address.is_v4() ? address : "[" + address + "]", frontend.port,
                     model::to_string(frontend.protocol));
}

// Targets that are as before stay the same objects.
void keep_targets(const std::vector<Claim>& before, std::vector<Claim>& now) {
  std::unordered_map<const Target*, std::shared_ptr<const Target>> kept;
  auto old = before.begin();
  for (const auto& claim : now) {
    while (old != before.end() && old->frontend < claim.frontend) ++old;
    if (old == before.end()) break;
    if (old->frontend == claim.frontend && !kept.contains(claim.target.get()) &&
        *old->target == *claim.target)
      kept.emplace(claim.target.get(), old->target);
  }
  for (auto& claim : now) {
    if (const auto found = kept.find(claim.target.get()); found != kept.end()) claim.target = found->second;
  }
}

}  // namespace

void Compiler::update(const std::string& key, Input input) {
  if (!input.service && !input.host_ports) {
    const auto found = services_.find(key);
    if (found == services_.end()) return;
    const auto before = std::exchange(found->second.input, {});
    charge(*found);
    compile(*found);
    move_addresses(key, before.service.get(), nullptr);
    services_.erase(found);
    return;
  }
  const auto [found, added] = services_.try_emplace(key);
  if (!added && found->second.input == input) return;
  const auto before = std::exchange(found->second.input, std::move(input));
  charge(*found);
  compile(*found);
  move_addresses(key, before.service.get(), found->second.input.service.get());
}

void Compiler::compile(const std::string& key) {
  if (const auto found = services_.find(key); found != services_.end()) compile(*found);
}

void Compiler::move_addresses(const std::string& key, const model::Service* before,
                              const model::Service* now) {
  static const model::Service kNone;
  const auto &old = before != nullptr ? *before : kNone, &is = now != nullptr ? *now : kNone;
  for (const auto* addresses : {&old.external_ips, &old.load_balancer_ips})
    for (const auto& address : *addresses) {
      const auto found = claimed_outside_.find(address);
      if (found == claimed_outside_.end()) continue;
      found->second.erase(key);
      if (found->second.empty()) claimed_outside_.erase(found);
    }
  for (const auto* addresses : {&is.external_ips, &is.load_balancer_ips})
    for (const auto& address : *addresses) claimed_outside_[address].insert(key);
  if (old.cluster_ips == is.cluster_ips) return;
  cluster_ips_.change(key, old.cluster_ips, is.cluster_ips);
  std::set<std::string> concerned;
  for (const auto* addresses : {&old.cluster_ips, &is.cluster_ips})
    for (const auto& address : *addresses)
      if (const auto found = claimed_outside_.find(address); found != claimed_outside_.end())
        concerned.insert(found->second.begin(), found->second.end());
  for (const auto& each : concerned) compile(each);
}

void Compiler::set_node(NodeView node) {
  if (node == node_) return;
  node_ = std::move(node);
  for (auto& service : services_) charge(service);
  for (auto& service : services_) compile(service);
}

// Others of the namespace are compiled here if they come to fit, or do so no longer.
void Compiler::charge(Services::value_type& service) {
  auto& [key, known] = service;
  const auto asked = known.input.service      ? frontends_of(*known.input.service, node_)
                     : known.input.host_ports ? frontends_of(*known.input.host_ports, node_)
                                              : 0;
  // Too large by itself: not served, and takes nothing from the others.
  const auto most = known.input.service ? kMostFrontendsOfService : kMostFrontendsOfPod;
  const auto counts = asked > most ? 0 : asked;
  if (counts == known.frontends) return;
  const auto ns = key.substr(0, key.find('/'));
  Budget& budget = budgets_[ns];
  const bool was_full = budget.asked > kMostFrontendsOfNamespace;
  budget.asked = budget.asked - known.frontends + counts;
  known.frontends = counts;
  if (counts != 0) {
    budget.keys.insert(key);
  } else {
    budget.keys.erase(key);
    known.admitted = true;
  }
  if (was_full || budget.asked > kMostFrontendsOfNamespace) share(budget);
  if (budget.keys.empty()) budgets_.erase(ns);
}

void Compiler::share(const Budget& budget) {
  std::size_t left = kMostFrontendsOfNamespace;
  for (const auto& key : budget.keys) {
    auto& service = *services_.find(key);
    const bool fits = service.second.frontends <= left;
    if (fits) left -= service.second.frontends;
    if (service.second.admitted == fits) continue;
    service.second.admitted = fits;
    compile(service);
  }
}

void Compiler::refuse(const std::string& key, Known& known, std::vector<std::string> refused) {
  const auto whose = known.input.service ? "Service " + key : key;
  for (auto& each : refused) {
    each = whose + ": " + each;
    if (std::ranges::find(known.refused, each) == known.refused.end()) warnings_.push_back(each);
  }
  known.refused = std::move(refused);
}

std::vector<std::string> Compiler::rejected() const {
  std::vector<std::string> all;
  for (const auto& [key, known] : services_)
    all.insert(all.end(), known.refused.begin(), known.refused.end());
  Conflicts conflicts;
  for (const auto& [frontend, claimants] : claimants_)
    for (std::size_t i = 1; i < claimants.size(); ++i)
      add(conflicts, claimants[i], claimants.front(), frontend);
  tell(conflicts, all);
  return all;
}

Changes Compiler::take_changes() {
  Changes changes;
  for (const auto& [frontend, before] : before_) {
    const auto now = table_.find(frontend);
    if (now == table_.end()) {
      if (before) changes.removed.push_back(frontend);
    } else if (!before || *before != *now->second) {
      changes.set.emplace_hint(changes.set.end(), *now);
    }
  }
  before_.clear();
  tell(conflicts_, warnings_);
  conflicts_.clear();
  changes.warnings.swap(warnings_);
  return changes;
}

HealthChecks Compiler::health_checks() const {
  HealthChecks checks;
  for (const auto& [port, services] : health_checks_) checks.emplace(port, services.begin()->second);
  return checks;
}

void Compiler::replace_health_check(const std::string& key, Known& known) {
  if (const auto old = health_checks_.find(known.health_check_port); old != health_checks_.end()) {
    old->second.erase(key);
    if (old->second.empty()) health_checks_.erase(old);
  }
  known.health_check_port = 0;
  if (!known.input.service) return;
  if (auto check = health_check_of(*known.input.service, known.input.slices, node_)) {
    known.health_check_port = known.input.service->health_check_node_port;
    health_checks_[known.health_check_port].insert_or_assign(key, std::move(*check));
  }
}

void Compiler::compile(Services::value_type& service) {
  auto& [key, known] = service;
  ++revision_;
  replace_health_check(key, known);
  Claims claims;
  if (!known.admitted) {
    claims.refused.push_back(
        fmt::format("it is not served: the {} of a namespace may have {} frontends, and those before it by "
                    "name leave too few",
                    known.input.service ? "Services" : "hostPorts", kMostFrontendsOfNamespace));
  } else if (known.input.service) {
    claims = claims_of(*known.input.service, known.input.slices, node_, cluster_ips_, pools_);
  } else if (known.input.host_ports) {
    claims = claims_of(*known.input.host_ports, node_, pools_);
  }
  refuse(key, known, std::move(claims.refused));
  std::vector<Claim> now = std::move(claims.list);
  const std::vector<Claim> before = std::move(known.claims);
  keep_targets(before, now);
  known.claims = std::move(now);

  auto old = before.begin();
  for (const auto& claim : known.claims) {
    for (; old != before.end() && old->frontend < claim.frontend; ++old) replace(key, old->frontend, nullptr);
    const bool had = old != before.end() && old->frontend == claim.frontend;
    if (!had || old->origin != claim.origin || old->target != claim.target)
      replace(key, claim.frontend, &claim);
    if (had) ++old;
  }
  for (; old != before.end(); ++old) replace(key, old->frontend, nullptr);
}

void Compiler::replace(const std::string& key, const Frontend& frontend, const Claim* claim) {
  const auto found = claimants_.try_emplace(frontend).first;
  Claimants& claimants = found->second;
  const Claimants before = claimants;
  std::erase_if(claimants, [&](const Claimant& claimant) { return claimant.key == &key; });
  if (claim != nullptr) {
    Claimant claimant{claim->origin, &key, claim->target};
    const auto rank = [](const Claimant& other) { return std::tie(other.origin, *other.key); };
    claimants.insert(std::ranges::upper_bound(claimants, rank(claimant), {}, rank), std::move(claimant));
  }
  warn(frontend, before, claimants);

  before_.try_emplace(frontend, before.empty() ? nullptr : before.front().target);
  if (claimants.empty()) {
    claimants_.erase(found);
    table_.erase(frontend);
  } else {
    table_.insert_or_assign(frontend, claimants.front().target);
  }
}

std::string Compiler::name_of(const Claimant& claimant) {
  return claimant.origin == Origin::kHostPort ? *claimant.key : "Service " + *claimant.key;
}

void Compiler::warn(const Frontend& frontend, const Claimants& before, const Claimants& now) {
  for (std::size_t i = 1; i < now.size(); ++i) {
    const auto was = std::ranges::find(before, now[i].key, &Claimant::key);
    // Whom another displaces did have it; so the first of `before` needs no exception.
    const bool told = was != before.end() && before.front().key == now.front().key;
    if (!told) add(conflicts_, now[i], now.front(), frontend);
  }
}

void Compiler::add(Conflicts& conflicts, const Claimant& without, const Claimant& owner,
                   const Frontend& frontend) {
  const auto [found, added] =
      conflicts.try_emplace({name_of(without), name_of(owner)}, frontend, std::size_t{0});
  if (!added) ++found->second.second;
}

void Compiler::tell(const Conflicts& conflicts, std::vector<std::string>& into) {
  for (const auto& [who, what] : conflicts) {
    const auto more = what.second == 0 ? std::string() : fmt::format(" (and {} more)", what.second);
    into.push_back(fmt::format("{}: {}{} is not served for it, {} has it", who.first, text_of(what.first),
                               more, who.second));
  }
}

}  // namespace sluice::service
