// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/check_packets.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>

#include "daemon/policy/prefix_map.h"

namespace sluice::policy {

namespace {

using model::NetworkPolicy;
using model::Pod;
using model::PolicyPeer;
using model::PolicyPort;
using model::PolicyRule;

constexpr std::size_t kFlowsOfSubject = 4;  // before the next endpoint has its turn
constexpr std::size_t kLookAt = 64;  // pods or namespaces, at most, in search of one that a selector means
constexpr std::size_t kTriesPerFlow = 4;

class Random {  // splitmix64
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  [[nodiscard]] std::size_t below(std::size_t bound) {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return static_cast<std::size_t>((value ^ (value >> 31)) % bound);
  }
  [[nodiscard]] bool once_in(std::size_t times) { return below(times) == 0; }
  template <typename Container>
  [[nodiscard]] const auto& of(const Container& container) {
    return container[below(container.size())];
  }

 private:
  std::uint64_t state_;
};

// The address before (step 0xff, as if -1) or after (step 1); past the family's end, the address itself.
Address neighbour(const Address& address, std::uint8_t step) {
  Address next = address;
  const std::uint8_t wraps_to = step == 1 ? 0 : 0xff;
  for (std::size_t i = 16; i-- > 0;) {
    next.bytes()[i] = static_cast<std::uint8_t>(next.bytes()[i] + step);
    if (next.bytes()[i] != wraps_to) break;
  }
  return next.is_v4() == address.is_v4() ? next : address;
}

struct Subject {
  std::uint32_t endpoint = 0;
  const Pod* pod = nullptr;
  std::array<std::vector<const NetworkPolicy*>, 2> policies;  // [sluice_direction], those that isolate
};

struct Remote {
  Address address;
  const Pod* pod = nullptr;
};

class Generator {
 public:
  Generator(const Cluster& cluster, std::uint64_t seed) : cluster_(cluster), seed_(seed), random_(seed) {
    for (const auto& [name, ns] : cluster.namespaces) namespaces_.push_back(&ns);
    for (const auto& [id, endpoint] : cluster.endpoints) {
      const auto pod = cluster.pods.find(endpoint.key());
      if (pod == cluster.pods.end() || pod->second->ips.empty()) continue;
      local_pods_.emplace_back(id, pod->second.get());
      for (const auto& address : pod->second->ips) locals_.try_emplace(address, id);
    }
  }

  [[nodiscard]] std::vector<Flow> flows(std::size_t most) {
    std::vector<Flow> result;
    const std::size_t count = local_pods_.size();
    const std::size_t subjects = (most + kFlowsOfSubject - 1) / kFlowsOfSubject;
    const std::size_t turns = count == 0 ? 0 : std::max(count, subjects);
    const std::size_t first = count == 0 ? 0 : static_cast<std::size_t>(seed_ % count) * subjects;
    for (std::size_t turn = 0; turn < turns && result.size() < most; ++turn) {
      const auto& [id, pod] = local_pods_[(first + turn) % count];
      const Subject subject = subject_of(id, *pod);
      if (subject.policies[SLUICE_INGRESS].empty() && subject.policies[SLUICE_EGRESS].empty()) continue;
      for (std::size_t i = 0; i < kFlowsOfSubject && result.size() < most; ++i) {
        for (std::size_t tries = 0; tries < kTriesPerFlow; ++tries) {
          if (const auto flow = flow_of(subject)) {
            result.push_back(*flow);
            break;
          }
        }
      }
    }
    return result;
  }

 private:
  [[nodiscard]] Subject subject_of(std::uint32_t id, const Pod& pod) const {
    Subject subject{id, &pod, {}};
    auto it = cluster_.policies.lower_bound(pod.ns + "/");
    for (; it != cluster_.policies.end() && it->second->ns == pod.ns; ++it) {
      const NetworkPolicy& policy = *it->second;
      if (!policy.pod_selector.matches(pod.labels)) continue;
      if (policy.isolates_ingress) subject.policies[SLUICE_INGRESS].push_back(&policy);
      if (policy.isolates_egress) subject.policies[SLUICE_EGRESS].push_back(&policy);
    }
    return subject;
  }

  // No value: no address of the same family was met, or the endpoint is not isolated in the direction drawn.
  [[nodiscard]] std::optional<Flow> flow_of(const Subject& subject) {
    const bool ingress = random_.once_in(2);
    const auto& policies = subject.policies[ingress ? SLUICE_INGRESS : SLUICE_EGRESS];
    if (policies.empty()) return std::nullopt;
    const NetworkPolicy& policy = *random_.of(policies);
    const auto& rules = ingress ? policy.ingress : policy.egress;
    static const PolicyRule no_rule;
    const PolicyRule& rule = rules.empty() ? no_rule : random_.of(rules);

    const Remote remote =
        rule.peers.empty() || random_.once_in(4) ? anyone() : meant_by(random_.of(rule.peers), policy.ns);
    const auto own = std::ranges::find(subject.pod->ips, remote.address.is_v4(), &Address::is_v4);
    if (own == subject.pod->ips.end()) return std::nullopt;

    const auto local = locals_.find(remote.address);
    const std::uint32_t remote_endpoint = local == locals_.end() ? 0 : local->second;
    Flow flow;
    flow.source = ingress ? remote.address : *own;
    flow.destination = ingress ? *own : remote.address;
    flow.source_endpoint = ingress ? remote_endpoint : subject.endpoint;
    flow.destination_endpoint = ingress ? subject.endpoint : remote_endpoint;
    static const PolicyPort any_port;
    choose_port(rule.ports.empty() ? any_port : random_.of(rule.ports), ingress ? subject.pod : remote.pod,
                flow);
    return flow;
  }

  [[nodiscard]] Remote anyone() {
    static const std::array<Address, 3> outside{Address::from_v4(0xc0000201), Address::from_v4(0xcb007107),
                                                Address::from_v4(0x0a000001)};
    if (!namespaces_.empty() && !random_.once_in(4)) {
      if (const Pod* pod = pod_in(random_.of(namespaces_)->name, model::LabelSelector()))
        return {random_.of(pod->ips), pod};
    }
    return {random_.of(outside), nullptr};
  }

  [[nodiscard]] Remote meant_by(const PolicyPeer& peer, const std::string& policy_ns) {
    if (peer.ip_block) return {border_of(*peer.ip_block), nullptr};
    const model::LabelSelector pods = peer.pod_selector ? *peer.pod_selector : model::LabelSelector();
    const std::string* ns = &policy_ns;
    if (peer.namespace_selector) {
      if (namespaces_.empty()) return anyone();
      const std::size_t first = random_.below(namespaces_.size());
      for (std::size_t i = 0; i < std::min(kLookAt, namespaces_.size()); ++i) {
        const auto* candidate = namespaces_[(first + i) % namespaces_.size()];
        if (!peer.namespace_selector->matches(candidate->labels)) continue;
        ns = &candidate->name;
        break;
      }
    }
    const Pod* pod = pod_in(*ns, pods);
    return pod == nullptr ? anyone() : Remote{random_.of(pod->ips), pod};
  }

  // A pod of the namespace that the selector matches; the search begins somewhere in the namespace.
  [[nodiscard]] const Pod* pod_in(const std::string& ns, const model::LabelSelector& selector) {
    static constexpr std::string_view kFirst = "-05abcdefghijklmnopqrstuvwxyz";
    const auto& pods = cluster_.pods;
    auto it = pods.lower_bound(ns + "/" + kFirst[random_.below(kFirst.size())]);
    for (std::size_t looked = 0; looked < kLookAt; ++looked, ++it) {
      if (it == pods.end() || it->second->ns != ns) it = pods.lower_bound(ns + "/");
      if (it == pods.end() || it->second->ns != ns) return nullptr;
      const Pod& pod = *it->second;
      if (!pod.host_network && !pod.finished && !pod.ips.empty() && selector.matches(pod.labels)) return &pod;
    }
    return nullptr;
  }

  [[nodiscard]] Address border_of(const model::IpBlock& block) {
    const std::size_t which = random_.below(block.except.size() + 1);
    const Prefix& prefix = which == 0 ? block.cidr : block.except[which - 1];
    const Address& first = prefix.address();
    const Address last = last_of(prefix);
    switch (random_.below(4)) {
      case 0:
        return first;
      case 1:
        return last;
      case 2:
        return neighbour(first, 0xff);
      default:
        return neighbour(last, 1);
    }
  }

  void choose_port(const PolicyPort& port, const Pod* destination, Flow& flow) {
    static constexpr std::array<std::uint8_t, 5> kProtocols{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP,
                                                            IPPROTO_ICMP, IPPROTO_GRE};
    flow.protocol = random_.once_in(8) ? random_.of(kProtocols) : static_cast<std::uint8_t>(port.protocol);
    if (flow.protocol == IPPROTO_ICMP || flow.protocol == IPPROTO_GRE) return;
    std::uint16_t number = static_cast<std::uint16_t>(random_.below(65535) + 1);
    if (const auto* exact = std::get_if<std::uint16_t>(&port.port)) {
      number = port.end_port && random_.once_in(2) ? *port.end_port : *exact;
    } else if (std::holds_alternative<std::string>(port.port) && destination != nullptr &&
               !destination->ports.empty()) {
      number = random_.of(destination->ports).port;
    }
    // The port itself as often as both its neighbours.
    static constexpr std::array<int, 4> kSteps{0, 0, -1, 1};
    flow.destination_port = static_cast<std::uint16_t>(std::clamp(number + random_.of(kSteps), 1, 65535));
  }

  const Cluster& cluster_;
  std::uint64_t seed_;
  Random random_;
  std::vector<const model::Namespace*> namespaces_;
  std::vector<std::pair<std::uint32_t, const Pod*>> local_pods_;
  std::unordered_map<Address, std::uint32_t> locals_;
};

}  // namespace

std::vector<Flow> check_flows(const Cluster& cluster, std::uint64_t seed, std::size_t most) {
  return Generator(cluster, seed).flows(most);
}

}  // namespace sluice::policy
