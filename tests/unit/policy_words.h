// SPDX-License-Identifier: Apache-2.0
// Short words for NetworkPolicies, pods and flows, so that a case of a table reads as a sentence.
#pragma once

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/policy/cluster.h"
#include "daemon/policy/evaluator.h"

namespace sluice::policy::words {

using model::NetworkPolicy;
using model::PolicyPeer;
using model::PolicyPort;
using model::PolicyRule;
using model::Protocol;

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

// "app=front; tier in a|b; env notin test; team; !old"; "" selects everything.
inline model::LabelSelector selector(const std::string& text) {
  using Operator = model::Requirement::Operator;
  model::LabelSelector result;
  for (auto term : split(text, ';')) {
    term.erase(0, term.find_first_not_of(' '));
    if (const auto in = term.find(" in "); in != std::string::npos) {
      result.match_expressions.push_back(
          {term.substr(0, in), Operator::kIn, split(term.substr(in + 4), '|')});
    } else if (const auto notin = term.find(" notin "); notin != std::string::npos) {
      result.match_expressions.push_back(
          {term.substr(0, notin), Operator::kNotIn, split(term.substr(notin + 7), '|')});
    } else if (const auto equals = term.find('='); equals != std::string::npos) {
      result.match_labels.set(term.substr(0, equals), term.substr(equals + 1));
    } else if (term.starts_with('!')) {
      result.match_expressions.push_back({term.substr(1), Operator::kDoesNotExist, {}});
    } else {
      result.match_expressions.push_back({term, Operator::kExists, {}});
    }
  }
  return result;
}

inline PolicyPeer pods(const std::string& text) { return {selector(text), {}, {}}; }
inline PolicyPeer namespaces(const std::string& text) { return {{}, selector(text), {}}; }
inline PolicyPeer pods_in(const std::string& pods_text, const std::string& namespaces_text) {
  return {selector(pods_text), selector(namespaces_text), {}};
}
inline PolicyPeer block(const std::string& cidr, const std::vector<std::string>& excepts = {}) {
  model::IpBlock result{*Prefix::parse(cidr), {}};
  for (const auto& except : excepts) result.except.push_back(*Prefix::parse(except));
  return {{}, {}, result};
}

inline PolicyPort tcp() { return {Protocol::kTcp, {}, {}}; }
inline PolicyPort udp() { return {Protocol::kUdp, {}, {}}; }
inline PolicyPort port(Protocol protocol, int number) {
  return {protocol, static_cast<std::uint16_t>(number), {}};
}
inline PolicyPort tcp(int number) { return port(Protocol::kTcp, number); }
inline PolicyPort udp(int number) { return port(Protocol::kUdp, number); }
inline PolicyPort sctp(int number) { return port(Protocol::kSctp, number); }
inline PolicyPort tcp(int first, int last) {
  return {Protocol::kTcp, static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last)};
}
inline PolicyPort tcp(const char* name) { return {Protocol::kTcp, std::string(name), {}}; }
inline PolicyPort udp(const char* name) { return {Protocol::kUdp, std::string(name), {}}; }

using Rules = std::vector<PolicyRule>;

inline NetworkPolicy policy(const std::string& ns, const std::string& selected) {
  NetworkPolicy result;
  result.ns = ns;
  result.pod_selector = selector(selected);
  return result;
}
inline NetworkPolicy ingress(const std::string& ns, const std::string& selected, Rules rules) {
  NetworkPolicy result = policy(ns, selected);
  result.isolates_ingress = true;
  result.ingress = std::move(rules);
  return result;
}
inline NetworkPolicy egress(const std::string& ns, const std::string& selected, Rules rules) {
  NetworkPolicy result = policy(ns, selected);
  result.isolates_egress = true;
  result.egress = std::move(rules);
  return result;
}

inline void add_pod(Cluster& cluster, model::Pod pod) {
  const std::string key = pod.ns + "/" + pod.name;
  cluster.pods[key] = std::make_shared<const model::Pod>(std::move(pod));
}

inline void set_policies(Cluster& cluster, const std::vector<NetworkPolicy>& policies) {
  cluster.policies.clear();
  for (auto each : policies) {
    if (each.name.empty()) each.name = "policy" + std::to_string(cluster.policies.size());
    const std::string key = each.ns + "/" + each.name;
    cluster.policies[key] = std::make_shared<const NetworkPolicy>(std::move(each));
  }
}

// Adds `count` pods of this node to namespace lab. The policies: each has its own, which admits anybody at
// one port.
inline std::vector<NetworkPolicy> add_pods_that_admit_anybody(Cluster& cluster, std::uint32_t count) {
  std::vector<NetworkPolicy> policies;
  for (std::uint32_t i = 0; i < count; ++i) {
    model::Pod pod;
    pod.ns = "lab";
    pod.name = "pod" + std::to_string(i);
    pod.labels = {{"number", std::to_string(i)}};
    pod.ips = {Address::from_v4(0x0a000a00U + i)};
    cluster.endpoints[100 + i] = {100 + i, pod.ns, pod.name};
    add_pod(cluster, pod);
    policies.push_back(
        ingress("lab", "number=" + std::to_string(i), {{{}, {tcp(static_cast<int>(1000 + i))}}}));
  }
  return policies;
}

// Pods of this node: shop/front (endpoint 1), shop/cart (2), bank/vault (3), and 9, a container that is no
// pod. Elsewhere: bank/front, lab/front, lab/db, ghost/front (namespace not known yet), host (host network),
// done (finished).
inline Cluster small_cluster() {
  const auto at = [](const char* address) { return std::vector<Address>{*Address::parse(address)}; };
  const auto ns = [](const char* name, model::Labels labels) {
    labels.set("kubernetes.io/metadata.name", name);
    return model::Namespace{name, std::move(labels)};
  };
  Cluster cluster;
  cluster.namespaces = {{"shop", ns("shop", {{"env", "prod"}})},
                        {"bank", ns("bank", {{"env", "prod"}, {"team", "money"}})},
                        {"lab", ns("lab", {{"env", "test"}})}};
  const auto add = [&](const char* space, const char* name, const char* address, model::Labels labels,
                       std::vector<model::ContainerPort> ports = {}) {
    model::Pod pod;
    pod.ns = space;
    pod.name = name;
    pod.labels = std::move(labels);
    pod.ips = at(address);
    pod.ports = std::move(ports);
    pod.host_network = pod.name == "host";
    pod.finished = pod.name == "done";
    add_pod(cluster, std::move(pod));
  };
  add("shop", "front", "10.0.0.1", {{"app", "front"}}, {{"http", Protocol::kTcp, 8080}});
  add("shop", "cart", "10.0.0.2", {{"app", "cart"}, {"tier", "back"}},
      {{"http", Protocol::kTcp, 8081}, {"dns", Protocol::kTcp, 53}, {"dns", Protocol::kUdp, 5353}});
  add("bank", "vault", "10.0.0.3", {{"app", "vault"}}, {{"http", Protocol::kTcp, 8443}});
  add("bank", "front", "10.0.1.1", {{"app", "front"}}, {{"http", Protocol::kTcp, 9090}});
  add("lab", "front", "10.0.2.1", {{"app", "front"}, {"tier", "back"}});
  add("lab", "db", "10.0.2.2", {{"app", "db"}});
  add("ghost", "front", "10.0.3.1", {{"app", "front"}});
  add("shop", "host", "192.168.0.5", {{"app", "front"}}, {{"http", Protocol::kTcp, 8080}});
  add("shop", "done", "10.0.4.1", {{"app", "front"}});
  cluster.endpoints = {
      {1, {1, "shop", "front"}}, {2, {2, "shop", "cart"}}, {3, {3, "bank", "vault"}}, {9, {9, "", ""}}};
  return cluster;
}

// "shop/front > shop/cart tcp/80": ends are pods, "box" (endpoint 9) or addresses.
inline Flow flow(const Cluster& cluster, const std::string& text) {
  const auto end = [&](const std::string& name, Address& address, std::uint32_t& endpoint) {
    if (name == "box") {
      address = *Address::parse("10.0.0.9");
      endpoint = 9;
      return;
    }
    const auto found = cluster.pods.find(name);
    address = found == cluster.pods.end() ? *Address::parse(name) : found->second->ips.front();
    for (const auto& [id, local] : cluster.endpoints) {
      if (local.ns + "/" + local.pod == name) endpoint = id;
    }
  };
  const auto parts = split(text, ' ');
  const auto protocol_and_port = split(parts.at(3), '/');
  Flow result;
  end(parts.at(0), result.source, result.source_endpoint);
  end(parts.at(2), result.destination, result.destination_endpoint);
  const std::string& protocol = protocol_and_port.at(0);
  result.protocol = protocol == "tcp" ? 6 : protocol == "udp" ? 17 : protocol == "sctp" ? 132 : 1;
  if (protocol_and_port.size() > 1)
    result.destination_port = static_cast<std::uint16_t>(std::stoi(protocol_and_port[1]));
  return result;
}

}  // namespace sluice::policy::words
