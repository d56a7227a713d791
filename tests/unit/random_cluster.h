// SPDX-License-Identifier: Apache-2.0
// Random clusters, changes to them and flows, for property tests. The universe is small, so that selectors,
// blocks, ports and flows meet often; the same seed gives the same sequence.
#pragma once

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "daemon/policy/evaluator.h"

namespace sluice::policy {

// The keys under which the two clusters have something else.
inline Changes changes_between(const Cluster& before, const Cluster& after) {
  const auto keys = [](const auto& one, const auto& other, auto& changed) {
    for (const auto& [key, value] : one) {
      const auto found = other.find(key);
      if (found == other.end() || !(found->second == value)) changed.insert(key);
    }
  };
  Changes changes;
  const auto both = [&](const auto& one, const auto& other) {
    keys(one.namespaces, other.namespaces, changes.namespaces);
    keys(one.pods, other.pods, changes.pods);
    keys(one.policies, other.policies, changes.policies);
    keys(one.endpoints, other.endpoints, changes.endpoints);
  };
  both(before, after);
  both(after, before);
  return changes;
}

class RandomCluster {
 public:
  explicit RandomCluster(std::uint64_t seed, std::uint32_t first_endpoint = 1)
      : random_(seed), next_endpoint_(first_endpoint) {
    for (const char* ns : {"a", "b", "c"}) put_namespace(ns);
    for (int i = 0; i < 14; ++i) put_pod();
    for (int i = 0; i < 5; ++i) add_endpoint();
    for (int i = 0; i < 6; ++i) put_policy();
  }

  [[nodiscard]] const Cluster& cluster() const { return cluster_; }
  // Since the last call.
  [[nodiscard]] Changes take_changes() {
    auto changes = changes_between(told_, cluster_);
    told_ = cluster_;
    return changes;
  }

  // Changes that a cluster goes through: one to three of them.
  void change() {
    for (int i = 1 + below(3); i > 0; --i) {
      switch (below(11)) {
        case 0:
        case 1:
        case 2:
          put_policy();
          break;
        case 3:
          remove_one(cluster_.policies, 3);
          break;
        case 4:
        case 5:
          put_pod();
          break;
        case 6:
          remove_one(cluster_.pods, 8);
          break;
        case 7:
          relabel_pod();
          break;
        case 8:
          put_namespace(random_namespace());
          break;
        case 9:
          if (cluster_.namespaces.size() > 2) cluster_.namespaces.erase(random_namespace());
          break;
        default:
          change_endpoints();
      }
    }
  }

  // A connection between two of: pods, local endpoints, addresses at the borders of blocks, addresses
  // outside.
  [[nodiscard]] Flow flow() {
    static constexpr std::array<std::uint8_t, 8> kProtocols{6, 6, 6, 17, 17, 132, 1, 47};
    Flow flow;
    flow.protocol = kProtocols[static_cast<std::size_t>(below(8))];
    if (flow.protocol != 1 && flow.protocol != 47)
      flow.destination_port = static_cast<std::uint16_t>(std::clamp(random_port() + below(3) - 1, 0, 65535));
    const int ends = below(4);  // 0: both local; 1, 2: one of them; 3: any
    end(ends < 2 || below(3) == 0, flow.source, flow.source_endpoint);
    end(ends == 0 || ends == 2 || below(3) == 0, flow.destination, flow.destination_endpoint);
    return flow;
  }

  [[nodiscard]] int below(int bound) {
    return static_cast<int>(random_() % static_cast<std::uint64_t>(bound));
  }

 private:
  template <typename Container>
  [[nodiscard]] auto& any(Container& container) {
    return *std::next(container.begin(), below(static_cast<int>(container.size())));
  }
  template <typename Map>
  void remove_one(Map& map, std::size_t keep) {
    if (map.size() > keep) map.erase(std::next(map.begin(), below(static_cast<int>(map.size()))));
  }

  [[nodiscard]] std::string random_namespace() { return std::string(1, static_cast<char>('a' + below(4))); }

  [[nodiscard]] model::Labels random_labels() {
    model::Labels labels;
    if (below(5) != 0) labels.set("app", std::string(1, static_cast<char>('x' + below(3))));
    if (below(2) != 0) labels.set("tier", std::to_string(below(2)));
    return labels;
  }

  [[nodiscard]] model::LabelSelector random_selector() {
    model::LabelSelector selector;
    const int kind = below(8);
    if (kind == 0) return selector;
    if (kind < 6) selector.match_labels = random_labels();
    if (kind > 3) {
      using Operator = model::Requirement::Operator;
      static constexpr std::array<Operator, 4> kOperators{Operator::kIn, Operator::kNotIn, Operator::kExists,
                                                          Operator::kDoesNotExist};
      model::Requirement requirement;
      requirement.key = below(2) != 0 ? "app" : "tier";
      requirement.op = any(kOperators);
      if (requirement.op == Operator::kIn || requirement.op == Operator::kNotIn)
        requirement.values =
            requirement.key == "app" ? std::vector<std::string>{"x", "z"} : std::vector<std::string>{"1"};
      selector.match_expressions.push_back(requirement);
    }
    return selector;
  }

  void put_namespace(const std::string& name) {
    model::Namespace ns{name, random_labels()};
    ns.labels.set("kubernetes.io/metadata.name", name);
    cluster_.namespaces[name] = ns;
  }

  void put_pod() {
    static constexpr std::array<const char*, 3> kNames{"http", "dns", "admin"};
    static constexpr std::array<std::uint16_t, 5> kNumbers{53, 80, 443, 8080, 9000};
    model::Pod pod;
    pod.ns = random_namespace();
    pod.name = "pod" + std::to_string(below(12));
    pod.labels = random_labels();
    pod.host_network = below(12) == 0;
    pod.finished = below(12) == 0;
    // Now and then two pods have one address: it must not matter which came first.
    if (below(10) != 0)
      pod.ips.push_back(Address::from_v4(0x0a000100U + static_cast<std::uint32_t>(below(256))));
    if (below(4) == 0) pod.ips.push_back(random_v6());
    model::ContainerPorts::List ports;
    for (const char* name : kNames) {
      if (below(2) != 0) ports.push_back({name, random_protocol(), any(kNumbers)});
    }
    pod.ports = std::move(ports);
    const std::string key = pod.ns + "/" + pod.name;
    cluster_.pods[key] = std::make_shared<const model::Pod>(std::move(pod));
  }

  void relabel_pod() {
    auto& [key, known] = any(cluster_.pods);
    model::Pod pod = *known;
    pod.labels = random_labels();
    known = std::make_shared<const model::Pod>(std::move(pod));
  }

  void add_endpoint() {
    LocalEndpoint endpoint;
    endpoint.id = next_endpoint_++;
    const int kind = below(12);
    if (kind == 0) {
      endpoint.ns = "a";
      endpoint.pod = "not-known-yet";
    } else if (kind > 1) {
      const auto& pod = *any(cluster_.pods).second;
      endpoint.ns = pod.ns;
      endpoint.pod = pod.name;
    }
    cluster_.endpoints[endpoint.id] = endpoint;
  }

  void change_endpoints() {
    if (below(2) != 0 || cluster_.endpoints.size() > 8) remove_one(cluster_.endpoints, 2);
    if (cluster_.endpoints.size() < 8) add_endpoint();
  }

  [[nodiscard]] model::Protocol random_protocol() {
    static constexpr std::array<model::Protocol, 4> kProtocols{model::Protocol::kTcp, model::Protocol::kTcp,
                                                               model::Protocol::kUdp, model::Protocol::kSctp};
    return any(kProtocols);
  }

  [[nodiscard]] int random_port() {
    static constexpr std::array<int, 12> kPorts{1,    53,   80,   80,   443,   1023,
                                                1024, 8080, 8090, 9000, 32768, 65535};
    return below(20) == 0 ? below(65536) : any(kPorts);
  }

  [[nodiscard]] model::PolicyPort random_policy_port() {
    static constexpr std::array<const char*, 4> kNames{"http", "dns", "admin", "nobody-has-it"};
    model::PolicyPort port;
    port.protocol = random_protocol();
    const int kind = below(8);
    if (kind < 3) {
      port.port = static_cast<std::uint16_t>(random_port());
    } else if (kind < 5) {
      const int first = random_port();
      port.port = static_cast<std::uint16_t>(first);
      port.end_port =
          static_cast<std::uint16_t>(std::clamp(random_port(), below(16) == 0 ? 0 : first, 65535));
    } else if (kind < 7) {
      port.port = std::string(any(kNames));
      if (below(16) == 0) port.end_port = 9000;  // not allowed: admits nothing
    }
    return port;
  }

  [[nodiscard]] Address random_v6() {
    Address address = *Address::parse(below(2) != 0 ? "fd00::100" : "fd00:0:0:1::100");
    address.bytes()[15] = static_cast<std::uint8_t>(below(256));
    return address;
  }

  [[nodiscard]] Prefix random_prefix() {
    if (below(4) == 0) {
      static constexpr std::array<unsigned, 5> kLengths{0, 8, 48, 64, 124};
      return Prefix(random_v6(), any(kLengths));
    }
    static constexpr std::array<unsigned, 8> kLengths{0, 8, 16, 24, 25, 28, 31, 32};
    return Prefix(random_v4(), SLUICE_V4_PREFIX_BITS + any(kLengths));
  }

  [[nodiscard]] Address random_v4() {
    static constexpr std::array<std::uint32_t, 4> kNets{0x0a000100, 0x0a000100, 0x0a000200, 0xc0000200};
    return Address::from_v4(any(kNets) + static_cast<std::uint32_t>(below(256)));
  }

  [[nodiscard]] model::PolicyPeer random_peer() {
    model::PolicyPeer peer;
    const int kind = below(16);
    if (kind == 0) return peer;  // not understood: matches nothing
    if (kind < 6 || kind == 15) {
      model::IpBlock block{random_prefix(), {}};
      for (int i = below(3); i > 0; --i) {
        const Prefix except = random_prefix();
        if (block.cidr.is_v4() == except.is_v4() && block.cidr.contains(except))
          block.except.push_back(except);
      }
      std::ranges::sort(block.except);
      peer.ip_block = block;
    }
    if (kind >= 6 && kind < 13) peer.pod_selector = random_selector();
    if (kind >= 10) peer.namespace_selector = random_selector();  // 15: with a block, which is not allowed
    return peer;
  }

  [[nodiscard]] std::vector<model::PolicyRule> random_rules() {
    std::vector<model::PolicyRule> rules(static_cast<std::size_t>(below(4)));
    for (auto& rule : rules) {
      if (below(6) != 0) rule.peers.resize(static_cast<std::size_t>(1 + below(3)));
      if (below(4) != 0) rule.ports.resize(static_cast<std::size_t>(1 + below(4)));
      for (auto& peer : rule.peers) peer = random_peer();
      for (auto& port : rule.ports) port = random_policy_port();
      // Single ports in such numbers that one row does not hold their classes.
      if (below(150) == 0) {
        for (int i = 0; i < 300; ++i)
          rule.ports.push_back({model::Protocol::kTcp, port_number(8000 + 2 * i), {}});
        rules.push_back({{}, {{model::Protocol::kTcp, port_number(8080), port_number(9000)}}});
        return rules;
      }
    }
    return rules;
  }

  [[nodiscard]] static std::uint16_t port_number(int number) { return static_cast<std::uint16_t>(number); }

  void put_policy() {
    model::NetworkPolicy policy;
    policy.ns = random_namespace();
    policy.name = "policy" + std::to_string(below(5));
    policy.pod_selector = below(3) == 0 ? model::LabelSelector() : random_selector();
    policy.isolates_ingress = below(3) != 0;
    policy.isolates_egress = below(3) != 0;
    policy.ingress = random_rules();  // without isolation too: then they must not count
    policy.egress = random_rules();
    const std::string key = policy.ns + "/" + policy.name;
    cluster_.policies[key] = std::make_shared<const model::NetworkPolicy>(std::move(policy));
  }

  void end(bool local, Address& address, std::uint32_t& id) {
    if (local) {
      const auto& endpoint = any(cluster_.endpoints).second;
      id = endpoint.id;
      const auto pod = cluster_.pods.find(endpoint.ns + "/" + endpoint.pod);
      address = pod != cluster_.pods.end() && !pod->second->ips.empty() ? any(pod->second->ips) : random_v4();
      return;
    }
    const auto& pod = *any(cluster_.pods).second;
    if (below(2) != 0 && !pod.ips.empty()) {
      address = any(pod.ips);
    } else {
      address = below(4) == 0 ? random_v6() : random_v4();
    }
  }

  std::mt19937_64 random_;
  Cluster cluster_, told_;
  std::uint32_t next_endpoint_;
};

}  // namespace sluice::policy
