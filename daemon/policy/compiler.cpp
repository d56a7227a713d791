// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/compiler.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "daemon/policy/compiler_state.h"

namespace sluice::policy {

namespace {

// Of a map with pointers as values; nullptr: it has no such key.
template <typename Value>
std::shared_ptr<const Value> at(const std::map<std::string, std::shared_ptr<const Value>>& map,
                                const std::string& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : found->second;
}

}  // namespace

void Compiler::State::follow(const Cluster& cluster, const Changes& changes) {
  for (const auto& name : changes.namespaces) {
    const auto ns = cluster.namespaces.find(name);
    peers.identities().set_namespace(name, ns == cluster.namespaces.end() ? nullptr : &ns->second);
  }
  for (const auto& key : changes.policies) policies.set(key, at(cluster.policies, key));
  std::set<std::uint32_t> concerned = changes.endpoints;
  for (const auto& key : changes.pods) {
    peers.set_pod(key, at(cluster.pods, key));
    if (const auto here = endpoints_of.find(key); here != endpoints_of.end())
      concerned.insert(here->second.begin(), here->second.end());
  }
  for (const auto id : concerned) endpoints_changed |= follow_endpoint(cluster, id);
}

void Compiler::State::follow_all(const Cluster& cluster) {
  Changes rest;  // what is known and no longer there, and the endpoints, of which there are few
  peers.identities().for_each_namespace([&](const std::string& name) {
    if (!cluster.namespaces.contains(name)) rest.namespaces.insert(name);
  });
  peers.for_each_key([&](const std::string& key) {
    if (!cluster.pods.contains(key)) rest.pods.insert(key);
  });
  policies.for_each_key([&](const std::string& key) {
    if (!cluster.policies.contains(key)) rest.policies.insert(key);
  });
  for (const auto& [id, endpoint] : endpoints) rest.endpoints.insert(id);
  for (const auto& [id, endpoint] : cluster.endpoints) rest.endpoints.insert(id);
  for (const auto& [name, ns] : cluster.namespaces) peers.identities().set_namespace(name, &ns);
  for (const auto& [key, policy] : cluster.policies) policies.set(key, policy);
  for (const auto& [key, pod] : cluster.pods) peers.set_pod(key, pod);
  follow(cluster, rest);
}

bool Compiler::State::follow_endpoint(const Cluster& cluster, std::uint32_t id) {
  const auto now = cluster.endpoints.find(id);
  const auto known = endpoints.find(id);
  if (now == cluster.endpoints.end()) {
    if (known != endpoints.end()) forget_endpoint(known);
    return known != endpoints.end();
  }
  KnownEndpoint endpoint{now->second.key(), at(cluster.pods, now->second.key()), nullptr,
                         !now->second.pod.empty()};
  if (known != endpoints.end() && known->second.key == endpoint.key && known->second.pod == endpoint.pod)
    return false;
  if (endpoint.pod) {
    endpoint.identity = peers.identities().of(*endpoint.pod);
    policies.hold(*endpoint.identity);
  }
  if (known != endpoints.end()) forget_endpoint(known);
  endpoints_of[endpoint.key].insert(id);
  endpoints.emplace(id, std::move(endpoint));
  return true;
}

void Compiler::State::forget_endpoint(std::map<std::uint32_t, KnownEndpoint>::iterator endpoint) {
  auto& [id, known] = *endpoint;
  const auto others = endpoints_of.find(known.key);
  others->second.erase(id);
  if (others->second.empty()) endpoints_of.erase(others);
  if (known.identity) {
    policies.drop(*known.identity);
    peers.identities().release(std::move(known.identity));
  }
  endpoints.erase(endpoint);
}

// True: the rules of an endpoint may be others now, or classes are in use that were not.
bool Compiler::State::follow_in_force() {
  const auto changes = policies.update(atoms);
  peers.identities().change_predicates(changes.removed_predicates, changes.added_predicates, atoms);
  if (changes.blocks) peers.follow_blocks();
  if (!changes.name_uses.empty()) peers.set_name_uses(policies.name_uses(), changes.name_uses);
  const bool classes = peers.update();
  return changes.rules || changes.blocks || !changes.name_uses.empty() || classes;
}

Compiler::Compiler() : Compiler(FirstNumbers()) {}
Compiler::Compiler(const FirstNumbers& first, const Limits& limits)
    : state_(std::make_unique<State>(first, limits)) {}
Compiler::~Compiler() = default;

std::shared_ptr<const Ruleset> Compiler::compile(const Cluster& cluster, const Changes& changes) {
  State& state = *state_;
  if (changes.everything || !state.last)
    state.follow_all(cluster);
  else
    state.follow(cluster, changes);
  bool rules_changed = std::exchange(state.endpoints_changed, false) || !state.last;
  for (;;) {
    rules_changed |= state.follow_in_force();
    if (!rules_changed && state.peers.map() == state.last->peers) return state.last;
    if (auto ruleset = state.make_ruleset(rules_changed)) return state.last = std::move(ruleset);
    rules_changed = true;  // without the policies that are refused now
  }
}

}  // namespace sluice::policy
