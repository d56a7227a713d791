// SPDX-License-Identifier: Apache-2.0
// Whose pod a sandbox is, and whose an address is: one rule for both, for the peers and for the endpoints.
#include <algorithm>
#include <tuple>
#include <utility>

#include "daemon/controller/cluster_state.h"

namespace sluice::controller {

namespace {

bool is_peer(const model::Pod& pod) { return !pod.host_network && !pod.finished; }

// Of two objects that say they have one address: the live one, then the younger one, then by name.
bool goes_first(const model::Pod& a, const model::Pod& b) {
  if (a.terminating != b.terminating) return b.terminating;
  if (a.created != b.created) return a.created > b.created;
  return std::tie(a.ns, a.name) < std::tie(b.ns, b.name);
}

// What the record of an attachment keeps of its pod (daemon/ipam/record.cpp).
bool same_record(const model::Pod& a, const model::Pod& b) {
  const auto parts = [](const model::Pod& pod) {
    return std::tie(pod.uid, pod.static_uid, pod.labels, pod.ports, pod.created, pod.egress_limited,
                    pod.masquerade, pod.finished);
  };
  return parts(a) == parts(b);
}

std::shared_ptr<const model::Pod> with(const std::shared_ptr<const model::Pod>& pod, std::vector<Address> ips,
                                       const std::string& name) {
  if (pod->ips == ips && pod->name == name) return pod;
  auto copy = std::make_shared<model::Pod>(*pod);
  copy->ips = std::move(ips);
  copy->name = name;
  return copy;
}

}  // namespace

void ClusterState::claim(const std::string& key, bool claims) {
  const auto known = told(key);
  if (!known || !is_peer(*known)) return;
  for (const auto& address : known->ips) {
    if (claims) {
      claims_.emplace(address, known.get());
      continue;
    }
    const auto [first, last] = claims_.equal_range(address);
    const auto own =
        std::find_if(first, last, [&](const auto& entry) { return entry.second == known.get(); });
    if (own != last) claims_.erase(own);
  }
}

ClusterState::PodPointer ClusterState::told(const std::string& key) const {
  const auto found = pods_.find(model::NamespacedName::of(key));
  return found == pods_.end() ? nullptr : *found;
}

void ClusterState::put_pod(std::shared_ptr<const model::Pod> pod, const std::string& key) {
  std::set<std::string> rivals;
  collect_rivals(key, rivals);
  claim(key, false);
  if (const auto before = pods_.find(model::NamespacedName::of(key)); before != pods_.end())
    pods_.erase(before);
  if (pod) {
    pods_.insert(std::move(pod));
    claim(key, true);
  }
  refresh_pod(key);
  rivals.erase(key);
  for (const auto& rival : rivals) refresh_one(rival);
}

void ClusterState::collect_rivals(const std::string& key, std::set<std::string>& rivals) const {
  const auto add = [&](const Address& address) {
    const auto [first, last] = claims_.equal_range(address);
    for (auto i = first; i != last; ++i) rivals.insert(key_of(*i->second));
  };
  if (const auto pod = told(key)) std::ranges::for_each(pod->ips, add);
  if (const auto held = sandboxes_of_.find(key); held != sandboxes_of_.end())
    for (const auto endpoint : held->second) add(sandboxes_.at(endpoint).ipv4);
}

void ClusterState::refresh_pod(const std::string& key) {
  refresh_one(key);
  std::set<std::string> rivals;
  collect_rivals(key, rivals);
  rivals.erase(key);
  for (const auto& rival : rivals) refresh_one(rival);
}

bool ClusterState::is_attached(const std::string& key, const model::Pod& pod) const {
  const auto held = sandboxes_of_.find(key);
  return held != sandboxes_of_.end() &&
         std::ranges::any_of(held->second, [&](auto id) { return pod.has_uid(sandboxes_.at(id).uid); });
}

// By what the object says. Attachments go before every object.
bool ClusterState::owns(const std::string& key, const Address& address) const {
  const auto here = [&](const Prefix& cidr) { return cidr.contains(address); };
  if (std::ranges::any_of(pod_cidrs_, here) || std::ranges::any_of(service_ranges_, here)) return false;
  if (held_.contains(address)) return false;
  const auto pod = told(key);
  const auto [first, last] = claims_.equal_range(address);
  return std::none_of(first, last, [&](const auto& entry) {
    const auto& other = *entry.second;
    return &other != pod.get() && goes_first(other, *pod) && !is_attached(key_of(other), other);
  });
}

void ClusterState::refresh_one(const std::string& key) {
  const auto pod_told = told(key);
  std::map<std::string, std::pair<std::shared_ptr<const model::Pod>, std::vector<Address>>> made;
  bool attached = false;
  if (const auto held = sandboxes_of_.find(key); held != sandboxes_of_.end()) {
    for (const auto id : held->second) {
      auto& sandbox = sandboxes_.at(id);
      auto& endpoint = cluster_.endpoints.at(id);
      const bool current = pod_told && pod_told->has_uid(sandbox.uid);
      if (current) {
        attached = true;
        if (sandbox.uid.empty()) sandbox.uid = pod_told->uid;
        if (!sandbox.last || !same_record(*sandbox.last, *pod_told)) to_record_.insert(id);
        sandbox.last = pod_told;
      }
      endpoint.earlier_uid = current ? std::string() : sandbox.uid;
      policy_changes_.endpoints.insert(id);
      // Never seen: not in the cluster's pods, which closes it.
      if (!sandbox.last) continue;
      auto& [pod, ips] = made[endpoint.key()];
      pod = sandbox.last;
      ips.push_back(sandbox.ipv4);
    }
  }
  if (pod_told && !attached) {
    auto ips = pod_told->ips;
    if (is_peer(*pod_told)) std::erase_if(ips, [&](const Address& address) { return !owns(key, address); });
    made[key] = {pod_told, std::move(ips)};
  }
  const auto before = made_of(key);
  std::set<std::string> names;
  for (auto& [name, pod] : made) {
    names.insert(name);
    set_pod(name, with(pod.first, std::move(pod.second), name.substr(name.find('/') + 1)));
  }
  for (const auto& name : before)
    if (!names.contains(name)) set_pod(name, nullptr);
  if (names.empty() || names == std::set<std::string>{key})
    made_of_.erase(key);
  else
    made_of_[key] = std::move(names);
}

std::set<std::string> ClusterState::made_of(const std::string& key) const {
  if (const auto several = made_of_.find(key); several != made_of_.end()) return several->second;
  return cluster_.pods.contains(key) ? std::set<std::string>{key} : std::set<std::string>{};
}

void ClusterState::set_pod(const std::string& name, std::shared_ptr<const model::Pod> pod) {
  if (!pod) {
    if (cluster_.pods.erase(name) == 0) return;
    policy_changes_.pods.insert(name);
    return tell("Pod " + name + " deleted");
  }
  auto& slot = cluster_.pods[name];
  if (slot && *slot == *pod) return;
  slot = std::move(pod);
  policy_changes_.pods.insert(name);
  tell("Pod " + name + " changed");
}

void ClusterState::attach(std::uint32_t endpoint, Sandbox sandbox) {
  detach(endpoint);
  cluster_.endpoints[endpoint] = {endpoint, sandbox.ns, sandbox.pod, {}};
  policy_changes_.endpoints.insert(endpoint);
  tell("endpoint " + std::to_string(endpoint) + " attached");
  if (sandbox.uid.empty() && sandbox.last) sandbox.uid = sandbox.last->uid;
  const auto key = sandbox.ns + "/" + sandbox.pod;
  const auto address = sandbox.ipv4;
  if (!sandbox.pod.empty()) sandboxes_of_[key].insert(endpoint);
  sandboxes_[endpoint] = std::move(sandbox);
  held_.emplace(address, endpoint);
  if (sandboxes_of_.contains(key)) return refresh_pod(key);
  const auto [first, last] = claims_.equal_range(address);
  for (auto i = first; i != last; ++i) refresh_one(key_of(*i->second));
}

void ClusterState::detach(std::uint32_t endpoint) {
  const auto found = sandboxes_.find(endpoint);
  if (found == sandboxes_.end()) return;
  const auto key = found->second.ns + "/" + found->second.pod;
  std::set<std::string> rivals{key};
  collect_rivals(key, rivals);
  const auto [first, last] = claims_.equal_range(found->second.ipv4);
  for (auto i = first; i != last; ++i) rivals.insert(key_of(*i->second));
  const auto [first_held, last_held] = held_.equal_range(found->second.ipv4);
  held_.erase(
      std::find_if(first_held, last_held, [&](const auto& entry) { return entry.second == endpoint; }));
  sandboxes_.erase(found);
  cluster_.endpoints.erase(endpoint);
  to_record_.erase(endpoint);
  policy_changes_.endpoints.insert(endpoint);
  tell("endpoint " + std::to_string(endpoint) + " detached");
  if (const auto held = sandboxes_of_.find(key); held != sandboxes_of_.end()) {
    held->second.erase(endpoint);
    if (held->second.empty()) sandboxes_of_.erase(held);
  }
  for (const auto& rival : rivals) refresh_one(rival);
}

void ClusterState::set_pod_cidrs(const std::vector<Prefix>& cidrs) {
  if (pod_cidrs_ == cidrs) return;
  pod_cidrs_ = cidrs;
  for (const auto& pod : pods_) refresh_one(key_of(*pod));
}

void ClusterState::refresh_service_ranges() {
  std::set<Prefix> ranges;
  for (const auto& [name, range] : service_cidrs_) ranges.insert(range.cidrs.begin(), range.cidrs.end());
  if (std::ranges::equal(ranges, service_ranges_)) return;
  service_ranges_.assign(ranges.begin(), ranges.end());
  nodes_changed_ = true;
  for (const auto& pod : pods_) refresh_one(key_of(*pod));
}

std::shared_ptr<const model::Pod> ClusterState::last_known(std::uint32_t endpoint) const {
  const auto found = sandboxes_.find(endpoint);
  return found == sandboxes_.end() ? nullptr : found->second.last;
}

const model::Pod* ClusterState::pod(const std::string& ns, const std::string& name) const {
  const auto found = pods_.find(model::NamespacedName{ns, name});
  return found == pods_.end() ? nullptr : found->get();
}

const model::Pod* ClusterState::peer_at(const Address& address) const {
  std::set<std::string> candidates;
  const auto [first, last] = claims_.equal_range(address);
  for (auto i = first; i != last; ++i) candidates.merge(made_of(key_of(*i->second)));
  const auto [first_held, last_held] = held_.equal_range(address);
  for (auto i = first_held; i != last_held; ++i) candidates.insert(cluster_.endpoints.at(i->second).key());
  for (const auto& key : candidates) {
    const auto found = cluster_.pods.find(key);
    if (found == cluster_.pods.end() || !is_peer(*found->second)) continue;
    if (std::ranges::find(found->second->ips, address) != found->second->ips.end())
      return found->second.get();
  }
  return nullptr;
}

bool ClusterState::has_pods_in(const Prefix& range, const std::string& node) const {
  return std::ranges::any_of(claims_, [&](const auto& claim) {
    const auto& pod = *claim.second;
    return range.contains(claim.first) && (pod.node_name.empty() || pod.node_name == node);
  });
}

const model::Pod* ClusterState::pod_at(const Address& address, const std::string& node) const {
  const model::Pod* best = nullptr;
  std::size_t living = 0;
  const auto [first, last] = claims_.equal_range(address);
  for (auto i = first; i != last; ++i) {
    const auto& pod = *i->second;
    if (!pod.node_name.empty() && pod.node_name != node) continue;
    living += pod.terminating ? 0 : 1;
    if (best == nullptr || goes_first(pod, *best)) best = &pod;
  }
  return living > 1 ? nullptr : best;
}

}  // namespace sluice::controller
