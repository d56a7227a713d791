// SPDX-License-Identifier: Apache-2.0
// spec and status of a Service, and an EndpointSlice. Checks what the API server checks, because the YAML
// folder has none to do it.
//
// Fields that are not known here are skipped over: none of those that there are makes a Service reach less.
// spec.loadBalancerSourceRanges does, so one range that cannot be read makes the object unusable: left out,
// it would open the Service to everybody if it is the only one.
#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "daemon/model/field.h"

namespace sluice::model {

namespace {

// The API server's own, or more; it sets a Service none but its size. Of an EndpointSlice's ports it takes
// 20,000.
constexpr std::size_t kPortsMost = 20'000;
constexpr std::size_t kEndpointPortsMost = 4096;  // a Service may not have as many frontends
constexpr std::size_t kEndpointsMost = 1000;
constexpr std::size_t kEndpointAddressesMost = 100;
constexpr std::size_t kHintsMost = 100;
constexpr std::size_t kServiceAddressesMost = 1000;
constexpr std::size_t kSourceRangesMost = 10'000;

constexpr std::uint32_t kAffinitySeconds = 10'800;
constexpr std::uint32_t kAffinitySecondsMost = 86'400;

bool is_unspecified(const Address& address) { return address.is_none() || address == Address::from_v4(0); }

// Unspecified, loopback, link-local: the API server takes none of these where users name addresses, since
// what is sent there would be the node's own business (127.0.0.1, 169.254.169.254).
bool is_special(const Address& address) {
  static const auto prefixes = [] {
    std::vector<Prefix> parsed;
    for (const auto* text :
         {"127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/24", "::1/128", "fe80::/10", "ff02::/16"})
      if (auto prefix = Prefix::parse(text)) parsed.push_back(*prefix);
    return parsed;
  }();
  return is_unspecified(address) ||
         std::ranges::any_of(prefixes, [&](const Prefix& prefix) { return prefix.contains(address); });
}

void refuse_special(const Field& field, const Address& address) {
  if (is_special(address))
    field.fail(fmt::format("{} is unspecified, loopback or link-local", address.to_string()));
}

// "" if absent or empty, as for the API server; an error unless one of `known`.
std::string one_of(const Field& field, std::initializer_list<std::string_view> known) {
  auto text = field.text();
  if (!text.empty() && std::ranges::find(known, text) == known.end())
    field.fail(fmt::format("'{}' is not {}", printable(text), fmt::join(known, " or ")));
  return text;
}

std::string dns_label_or_nothing(const Field& field) {
  auto name = field.text();
  if (!name.empty() && !is_dns_label(name))
    field.fail(fmt::format("'{}' is not a port name: at most 63 of a-z, 0-9 and inner '-'", printable(name)));
  return name;
}

std::vector<ServicePort> parse_service_ports(const Field& field) {
  std::vector<ServicePort> ports;
  std::set<std::string> names;
  std::set<std::pair<Protocol, std::uint16_t>> numbers;
  const auto items = field.items(kPortsMost);
  for (const auto& item : items) {
    ServicePort port;
    port.name = dns_label_or_nothing(item.at("name"));
    port.protocol = item.at("protocol").protocol().value_or(Protocol::kTcp);
    port.port = item.at("port").port_number();
    port.node_port = item.at("nodePort").optional_port_number();
    if (port.name.empty() && items.size() > 1)
      item.at("name").fail("is missing; it may be if there is one port only");
    if (!names.insert(port.name).second) item.at("name").fail(fmt::format("'{}' stands twice", port.name));
    if (!numbers.emplace(port.protocol, port.port).second)
      item.at("port").fail(fmt::format("{} stands twice for the protocol", port.port));
    ports.push_back(std::move(port));
  }
  return ports;
}

// none: headless.
std::optional<std::vector<Address>> parse_cluster_ips(const Field& spec) {
  std::vector<Address> addresses;
  // False: headless.
  const auto take = [&](const Field& field) {
    const auto text = field.text();
    if (text == "None") return false;
    if (text.empty()) return true;
    const auto address = field.address();
    if (!address) return true;
    if (is_unspecified(*address)) field.fail(fmt::format("{} is unspecified", address->to_string()));
    addresses.push_back(*address);
    return true;
  };
  const auto items = spec.at("clusterIPs").items(kServiceAddressesMost);
  if (items.empty() && !take(spec.at("clusterIP"))) return std::nullopt;
  for (const auto& item : items)
    if (!take(item)) return std::nullopt;
  return addresses;
}

std::vector<Address> parse_external_ips(const Field& field) {
  std::vector<Address> addresses;
  for (const auto& item : field.items(kServiceAddressesMost)) {
    const auto address = item.address();
    if (!address) continue;
    refuse_special(item, *address);
    addresses.push_back(*address);
  }
  return addresses;
}

std::vector<Address> parse_load_balancer_ips(const Field& field) {
  std::vector<Address> addresses;
  for (const auto& item : field.items(kServiceAddressesMost)) {
    if (item.at("ip").text().empty()) continue;  // a hostname
    const auto address = item.at("ip").address();
    if (!address) continue;
    const auto mode = item.at("ipMode");
    const auto name = mode.text();
    if (mode.present() && name != "VIP") {
      // Its packets do not come to nodes as they are. A load balancer writes it, so what it may mean one day
      // must not take the Service's other addresses away.
      if (name != "Proxy")
        mode.warn(fmt::format("'{}' is not VIP or Proxy; taken for Proxy", printable(name)));
      continue;
    }
    if (is_unspecified(*address)) item.at("ip").fail(fmt::format("{} is unspecified", address->to_string()));
    addresses.push_back(*address);
  }
  return addresses;
}

std::vector<Prefix> parse_source_ranges(const Field& field) {
  std::vector<Prefix> ranges;
  for (const auto& item : field.items(kSourceRangesMost)) {
    // The API server takes space around them: the field was once an annotation.
    if (const auto range = item.padded_cidr()) ranges.push_back(*range);
  }
  return ranges;
}

std::vector<std::string> parse_hints(const Field& field) {
  std::vector<std::string> names;
  for (const auto& item : field.items(kHintsMost)) {
    auto name = item.at("name").required_text();
    // A zone is the value of a node's label; a node's name may be longer.
    if (!is_label_value(name) && !is_dns_subdomain(name))
      item.at("name").fail(fmt::format("'{}' is not the name of a zone or node", printable(name)));
    names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Endpoint parse_endpoint(const Field& field, bool ipv4) {
  Endpoint endpoint;
  const auto addresses = field.at("addresses").items(kEndpointAddressesMost);
  for (const auto& item : addresses) {
    const auto address = item.address();
    if (!address) continue;
    if (address->is_v4() != ipv4)
      item.fail(fmt::format("{} is not of the addressType {}", address->to_string(), ipv4 ? "IPv4" : "IPv6"));
    refuse_special(item, *address);
    endpoint.addresses.push_back(*address);
  }
  if (addresses.empty()) field.at("addresses").fail("is missing");

  const auto conditions = field.at("conditions");
  endpoint.ready = conditions.at("ready").boolean(true);
  endpoint.serving = conditions.at("serving").boolean(endpoint.ready);
  endpoint.terminating = conditions.at("terminating").boolean();

  endpoint.node_name = field.at("nodeName").text();
  if (!endpoint.node_name.empty() && !is_dns_subdomain(endpoint.node_name))
    field.at("nodeName").fail(fmt::format("'{}' is not the name of a node", printable(endpoint.node_name)));
  endpoint.hint_zones = parse_hints(field.at("hints").at("forZones"));
  endpoint.hint_nodes = parse_hints(field.at("hints").at("forNodes"));
  return endpoint;
}

std::vector<EndpointPort> parse_endpoint_ports(const Field& field) {
  std::vector<EndpointPort> ports;
  std::set<std::string> names;
  for (const auto& item : field.items(kEndpointPortsMost)) {
    EndpointPort port;
    port.name = dns_label_or_nothing(item.at("name"));
    port.protocol = item.at("protocol").protocol().value_or(Protocol::kTcp);
    if (item.at("port").present()) port.port = item.at("port").port_number();
    if (!names.insert(port.name).second) item.at("name").fail(fmt::format("'{}' stands twice", port.name));
    ports.push_back(std::move(port));
  }
  return ports;
}

}  // namespace

void parse_service_body(const Field& root, Service& service) {
  const auto spec = root.at("spec");
  const auto type = one_of(spec.at("type"), {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"});
  if (type == "ExternalName") return;

  service.ports = parse_service_ports(spec.at("ports"));
  auto cluster_ips = parse_cluster_ips(spec);
  service.external_ips = parse_external_ips(spec.at("externalIPs"));
  service.load_balancer_ips = parse_load_balancer_ips(root.at("status").at("loadBalancer").at("ingress"));
  service.source_ranges = parse_source_ranges(spec.at("loadBalancerSourceRanges"));
  if (one_of(spec.at("sessionAffinity"), {"None", "ClientIP"}) == "ClientIP") {
    const auto timeout = spec.at("sessionAffinityConfig").at("clientIP").at("timeoutSeconds");
    service.affinity_seconds = timeout.present() ? timeout.number(1, kAffinitySecondsMost) : kAffinitySeconds;
  }
  service.internal_local = one_of(spec.at("internalTrafficPolicy"), {"Cluster", "Local"}) == "Local";
  service.external_local = one_of(spec.at("externalTrafficPolicy"), {"Cluster", "Local"}) == "Local";
  service.health_check_node_port = spec.at("healthCheckNodePort").optional_port_number();

  if (cluster_ips) {
    service.cluster_ips = std::move(*cluster_ips);
    return;
  }
  // Headless: not proxied at all, whatever else it says.
  service.external_ips.clear();
  service.load_balancer_ips.clear();
  service.health_check_node_port = 0;
  for (auto& port : service.ports) port.node_port = 0;
}

void parse_endpoint_slice_body(const Field& root, EndpointSlice& slice) {
  const auto type_field = root.at("addressType");
  const auto type = one_of(type_field, {"IPv4", "IPv6", "FQDN"});
  if (type.empty()) type_field.fail("is missing");
  slice.ports = parse_endpoint_ports(root.at("ports"));
  if (type == "FQDN") return;
  for (const auto& item : root.at("endpoints").items(kEndpointsMost))
    slice.endpoints.push_back(parse_endpoint(item, type == "IPv4"));
}

}  // namespace sluice::model
