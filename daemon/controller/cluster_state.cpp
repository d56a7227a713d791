// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/cluster_state.h"

#include <algorithm>
#include <utility>

namespace sluice::controller {

namespace {

constexpr std::size_t kMostTold = 1000;

std::string name_of(const std::string& ns, const std::string& name) { return ns + "/" + name; }

std::vector<std::string> keys_of(const auto& map) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

model::ObjectKey key_from(model::Kind kind, const std::string& name) {
  const auto slash = name.find('/');
  if (slash == std::string::npos) return {kind, "", name};
  return {kind, name.substr(0, slash), name.substr(slash + 1)};
}

}  // namespace

void ClusterState::apply(Event event) {
  if (auto* object = std::get_if<model::Object>(&event)) return put(std::move(*object));
  if (auto* key = std::get_if<model::ObjectKey>(&event)) return erase(*key);

  for (auto& [kind, objects] : std::get<source::FullState>(event)) replace(kind, std::move(objects));
}

void ClusterState::replace(model::Kind kind, std::vector<model::Object> objects) {
  std::vector<std::string> known;
  switch (kind) {
    case model::Kind::kNode:
      known = keys_of(nodes_);
      break;
    case model::Kind::kNamespace:
      known = keys_of(cluster_.namespaces);
      break;
    case model::Kind::kPod:
      for (const auto& pod : pods_) known.push_back(key_of(*pod));
      break;
    case model::Kind::kNetworkPolicy:
      known = keys_of(cluster_.policies);
      break;
    case model::Kind::kService:
      known = keys_of(services_);
      break;
    case model::Kind::kEndpointSlice:
      known = keys_of(service_of_);
      break;
    case model::Kind::kServiceCidr:
      known = keys_of(service_cidrs_);
      break;
  }
  std::set<model::ObjectKey> gone;
  for (const auto& name : known) gone.insert(key_from(kind, name));
  for (auto& object : objects) {
    gone.erase(model::key_of(object));
    put(std::move(object));
  }
  for (const auto& key : gone) erase(key);
  synced_ |= 1u << static_cast<unsigned>(kind);
}

void ClusterState::put(model::Object object) {
  const auto what = model::to_string(model::key_of(object));
  if (auto* node = std::get_if<model::Node>(&object)) {
    auto& known = nodes_[node->name];
    if (known == *node) return;
    known = std::move(*node);
    nodes_changed_ = true;
  } else if (auto* ns = std::get_if<model::Namespace>(&object)) {
    auto& known = cluster_.namespaces[ns->name];
    if (known == *ns) return;
    policy_changes_.namespaces.insert(ns->name);
    known = std::move(*ns);
    tell(what + " changed");
  } else if (auto* pod = std::get_if<model::Pod>(&object)) {
    const auto key = name_of(pod->ns, pod->name);
    if (const auto known = told(key); known && *known == *pod) return;
    labels_.share(pod->labels);
    ports_.share(pod->ports);
    put_pod(std::make_shared<const model::Pod>(std::move(*pod)), key);
  } else if (auto* policy = std::get_if<model::NetworkPolicy>(&object)) {
    const auto key = name_of(policy->ns, policy->name);
    auto& known = cluster_.policies[key];
    if (known && *known == *policy) return;
    known = std::make_shared<const model::NetworkPolicy>(std::move(*policy));
    policy_changes_.policies.insert(key);
    tell(what + " changed");
  } else if (auto* service = std::get_if<model::Service>(&object)) {
    const auto key = name_of(service->ns, service->name);
    auto& known = services_[key];
    if (known && *known == *service) return;
    known = std::make_shared<const model::Service>(std::move(*service));
    service_changes_.insert(key);
  } else if (auto* slice = std::get_if<model::EndpointSlice>(&object)) {
    put_slice(std::move(*slice));
  } else if (auto* range = std::get_if<model::ServiceCidr>(&object)) {
    service_cidrs_[range->name] = std::move(*range);
    refresh_service_ranges();
  }
}

void ClusterState::put_slice(model::EndpointSlice slice) {
  const auto name = name_of(slice.ns, slice.name);
  const auto service = slice.service.empty() ? std::string() : name_of(slice.ns, slice.service);
  if (const auto before = service_of_.find(name); before != service_of_.end() && before->second != service)
    erase_slice(name);
  service_of_[name] = service;
  if (service.empty()) return;
  auto& known = slices_of_[service][name];
  if (known && *known == slice) return;
  known = std::make_shared<const model::EndpointSlice>(std::move(slice));
  service_changes_.insert(service);
}

void ClusterState::erase_slice(const std::string& name) {
  const auto found = service_of_.find(name);
  if (found == service_of_.end()) return;
  if (const auto slices = slices_of_.find(found->second); slices != slices_of_.end()) {
    slices->second.erase(name);
    if (slices->second.empty()) slices_of_.erase(slices);
    service_changes_.insert(found->second);
  }
  service_of_.erase(found);
}

void ClusterState::erase(const model::ObjectKey& key) {
  const auto name = name_of(key.ns, key.name);
  bool changed = false;
  switch (key.kind) {
    case model::Kind::kNode:
      if (nodes_.erase(key.name) > 0) nodes_changed_ = true;
      return;
    case model::Kind::kNamespace:
      changed = cluster_.namespaces.erase(key.name) > 0;
      policy_changes_.namespaces.insert(key.name);
      break;
    case model::Kind::kNetworkPolicy:
      changed = cluster_.policies.erase(name) > 0;
      policy_changes_.policies.insert(name);
      break;
    case model::Kind::kPod:
      if (told(name)) put_pod(nullptr, name);
      return;
    case model::Kind::kService:
      if (services_.erase(name) > 0) service_changes_.insert(name);
      return;
    case model::Kind::kEndpointSlice:
      erase_slice(name);
      return;
    case model::Kind::kServiceCidr:
      service_cidrs_.erase(key.name);
      refresh_service_ranges();
      return;
  }
  if (changed) tell(model::to_string(key) + " deleted");
}

// Nobody reads a list of a hundred thousand.
void ClusterState::tell(std::string change) {
  if (changes_.size() < kMostTold) changes_.push_back(std::move(change));
}

std::vector<std::string> ClusterState::take_changes() { return std::exchange(changes_, {}); }

bool ClusterState::take_nodes_changed() { return std::exchange(nodes_changed_, false); }

bool ClusterState::knows(std::initializer_list<model::Kind> kinds) const {
  return std::ranges::all_of(
      kinds, [this](model::Kind kind) { return (synced_ & 1u << static_cast<unsigned>(kind)) != 0; });
}

const ClusterState::Slices& ClusterState::slices_of(const std::string& service) const {
  static const Slices none;
  const auto found = slices_of_.find(service);
  return found == slices_of_.end() ? none : found->second;
}

std::set<std::string> ClusterState::take_service_changes() { return std::exchange(service_changes_, {}); }

}  // namespace sluice::controller
