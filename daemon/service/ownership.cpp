// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/ownership.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/service/endpoints.h"

namespace sluice::service {

namespace {

constexpr std::uint16_t kFirstLocalPort = 32768, kLastLocalPort = 60999;

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

// Reads numbers until something else comes.
std::vector<std::pair<std::uint16_t, std::uint16_t>> ranges_of(std::string_view text) {
  std::vector<std::pair<std::uint16_t, std::uint16_t>> ranges;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::uint16_t first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc{}) break;
    std::uint16_t last = first;
    if (read.ptr != end && *read.ptr == '-') read = std::from_chars(read.ptr + 1, end, last);
    if (read.ec != std::errc{}) break;
    ranges.emplace_back(first, last);
    at = read.ptr;
    if (at != end && *at == ',') ++at;
  }
  return ranges;
}

}  // namespace

std::optional<std::string> refusal(Origin origin, const Frontend& frontend, const NodeView& node) {
  const auto& address = frontend.address;
  const bool of_node = is_of_node(node, address);
  switch (origin) {
    case Origin::kClusterIp:
      return std::nullopt;
    case Origin::kNodePort:
      return reserved(origin, frontend, node);
    case Origin::kHostPort:
      // On loopback only the node's own processes are concerned, and they ask for it by that address.
      if (!of_node && !is_loopback(address)) return "a hostIP must be an address of the node";
      return reserved(origin, frontend, node);
    case Origin::kLoadBalancerIp:
    case Origin::kExternalIp:
      break;
  }
  if (is_special(address)) return "it is unspecified, loopback, link-local, multicast or broadcast";
  if (std::ranges::any_of(node.around.pod_ranges,
                          [&](const Prefix& range) { return range.contains(address); }))
    return "it is in a podCIDR";
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

std::vector<ReservedPorts> ephemeral_ports(std::string_view range, std::string_view reserved) {
  std::uint32_t first = kFirstLocalPort, last = kLastLocalPort;
  std::string spaced(range);
  std::ranges::replace_if(
      spaced, [](char c) { return c == '\t' || c == ' '; }, ',');
  if (const auto ends = ranges_of(spaced); ends.size() == 2 && ends[0].first <= ends[1].first) {
    first = ends[0].first;
    last = ends[1].first;
  }
  auto kept = ranges_of(reserved);
  std::ranges::sort(kept);
  std::vector<ReservedPorts> ports;
  const auto add = [&](std::uint32_t from, std::uint32_t to) {
    if (from <= to)
      ports.push_back({std::nullopt, static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to),
                       "its own connections (net.ipv4.ip_local_port_range; a port in "
                       "net.ipv4.ip_local_reserved_ports may be claimed)",
                       true});
  };
  for (const auto& [from, to] : kept) {
    if (to < first || from > last) continue;
    if (from > first) add(first, from - 1U);
    first = to + 1U;
  }
  add(first, last);
  return ports;
}

}  // namespace sluice::service
