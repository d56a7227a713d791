// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/ownership.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/service/endpoints.h"

namespace sluice::service {

namespace {

std::vector<Prefix> parsed(std::initializer_list<const char*> texts) {
  std::vector<Prefix> prefixes;
  for (const char* text : texts)
    if (const auto prefix = Prefix::parse(text)) prefixes.push_back(*prefix);
  return prefixes;
}

bool in_any(const std::vector<Prefix>& prefixes, const Address& address) {
  return std::ranges::any_of(prefixes, [&](const Prefix& prefix) { return prefix.contains(address); });
}

bool is_loopback(const Address& address) {
  static const auto prefixes = parsed({"127.0.0.0/8", "::1/128"});
  return in_any(prefixes, address);
}

// Addresses that no Service can have: this network, loopback, link-local, multicast, broadcast.
bool is_special(const Address& address) {
  static const auto prefixes =
      parsed({"0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"});
  return address.is_none() || is_loopback(address) || in_any(prefixes, address);
}

bool is_of_node(const NodeView& node, const Address& address) {
  return std::ranges::find(node.addresses, address) != node.addresses.end();
}

std::optional<std::string> reserved(Origin origin, const Frontend& frontend, const NodeView& node) {
  if (node.around.api_servers.contains(frontend)) return "the API server listens there";
  for (const auto& ports : node.around.reserved)
    if (!(ports.ephemeral && origin != Origin::kLoadBalancerIp) && frontend.port >= ports.first &&
        frontend.port <= ports.last && (!ports.protocol || *ports.protocol == frontend.protocol))
      return "that port of a node belongs to " + ports.whose;
  return std::nullopt;
}

}  // namespace

bool is_service_address(const Surroundings& around, const Address& address) {
  return in_any(around.service_ranges, address);
}

std::optional<std::string> refusal(Origin origin, const Frontend& frontend, const NodeView& node) {
  const auto& address = frontend.address;
  if (origin == Origin::kClusterIp) return std::nullopt;
  if (is_service_address(node.around, address)) return "it is in a ServiceCIDR";
  const bool of_node = is_of_node(node, address);
  switch (origin) {
    case Origin::kNodePort:
      return reserved(origin, frontend, node);
    case Origin::kHostPort:
      // On loopback only the node's own processes are concerned, and they ask for it by that address.
      if (!of_node && !is_loopback(address)) return "a hostIP must be an address of the node";
      return reserved(origin, frontend, node);
    case Origin::kClusterIp:
    case Origin::kLoadBalancerIp:
    case Origin::kExternalIp:
      break;
  }
  if (is_special(address)) return "it is unspecified, loopback, link-local, multicast or broadcast";
  if (in_any(node.around.pod_ranges, address)) return "it is in a podCIDR";
  const bool of_a_node = of_node || node.around.other_nodes.contains(address);
  if (origin == Origin::kExternalIp) {
    if (!node.around.external_ips) return "external IPs are switched off (--external-ips)";
    if (of_a_node) return "it is the address of a node";
    const auto& servers = node.around.api_servers;
    if (std::ranges::any_of(servers, [&](const Frontend& server) { return server.address == address; }))
      return "it is the address of the API server";
    return std::nullopt;
  }
  if (of_a_node) return reserved(origin, frontend, node);
  if (node.around.api_servers.contains(frontend)) return "the API server listens there";
  return std::nullopt;
}

std::vector<ReservedPorts> ephemeral_ports(const LocalPorts& local) {
  std::vector<ReservedPorts> ports;
  for (const auto& range : local.given())
    ports.push_back({std::nullopt, range.first, range.last,
                     "its own connections (net.ipv4.ip_local_port_range; a port in "
                     "net.ipv4.ip_local_reserved_ports may be claimed)",
                     true});
  return ports;
}

void protect_api_server(const std::string& host, std::uint16_t port, std::set<Frontend>& api_servers,
                        std::vector<ReservedPorts>& reserved) {
  const auto address = Address::parse(host);
  if (host == "localhost" || (address && is_loopback(*address)))
    reserved.push_back({model::Protocol::kTcp, port, port, "the way to the API server"});
  else if (address)
    api_servers.insert({*address, model::Protocol::kTcp, port});
}

void ClusterIps::change(const std::string& key, const std::vector<Address>& before,
                        const std::vector<Address>& now) {
  for (const auto& address : before) {
    const auto found = owners_.find(address);
    if (found == owners_.end()) continue;
    found->second.erase(key);
    if (found->second.empty()) owners_.erase(found);
  }
  for (const auto& address : now) owners_[address].insert(key);
}

const std::string* ClusterIps::another_owner(const Address& address, const std::string& key) const {
  const auto found = owners_.find(address);
  if (found == owners_.end()) return nullptr;
  for (const auto& owner : found->second)
    if (owner != key) return &owner;
  return nullptr;
}

}  // namespace sluice::service
