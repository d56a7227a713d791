// SPDX-License-Identifier: Apache-2.0
// One object of the Kubernetes API, as JSON, read as every kind. What is accepted is what the model allows,
// and reading it twice gives the same.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "daemon/model/parse.h"

namespace sluice::model {
namespace {

void check(bool good) {
  if (!good) std::abort();
}

bool within(const PolicyRule& rule) {
  return std::ranges::all_of(rule.ports,
                             [](const PolicyPort& port) {
                               const auto* number = std::get_if<std::uint16_t>(&port.port);
                               return !port.end_port || (number != nullptr && *number <= *port.end_port);
                             }) &&
         std::ranges::all_of(rule.peers, [](const PolicyPeer& peer) {
           return !peer.ip_block || std::ranges::all_of(peer.ip_block->except, [&](const Prefix& except) {
             return peer.ip_block->cidr.contains(except) && peer.ip_block->cidr != except;
           });
         });
}

void check(const Service& service) {
  check(std::ranges::all_of(service.ports, [&](const ServicePort& port) {
    return port.port != 0 && (!port.name.empty() || service.ports.size() == 1);
  }));
  check(!service.affinity_seconds || (*service.affinity_seconds >= 1 && *service.affinity_seconds <= 86'400));
  for (const auto* addresses : {&service.cluster_ips, &service.external_ips, &service.load_balancer_ips})
    check(std::ranges::none_of(*addresses, &Address::is_none));
}

void check(const EndpointSlice& slice) {
  check(std::ranges::all_of(slice.ports, [](const EndpointPort& port) { return port.port != 0; }));
  check(std::ranges::all_of(slice.endpoints, [&](const Endpoint& endpoint) {
    return !endpoint.addresses.empty() && std::ranges::none_of(endpoint.addresses, &Address::is_none) &&
           std::ranges::is_sorted(endpoint.hint_zones) && std::ranges::is_sorted(endpoint.hint_nodes);
  }));
}

void check(const Object& object) {
  const auto key = key_of(object);
  check(!key.name.empty() && to_string(key).size() < 600);
  if (const auto* policy = std::get_if<NetworkPolicy>(&object)) {
    check(policy->isolates_ingress || policy->isolates_egress);
    check(std::ranges::all_of(policy->ingress, within) && std::ranges::all_of(policy->egress, within));
    check(policy->isolates_ingress || policy->ingress.empty());
    check(policy->isolates_egress || policy->egress.empty());
    (void)policy->pod_selector.to_string();
    (void)policy->pod_selector.matches({{"app", "web"}});
  }
  if (const auto* pod = std::get_if<Pod>(&object))
    check(std::ranges::all_of(pod->ports,
                              [](const auto& port) { return port.port != 0 && !port.name.empty(); }));
  if (const auto* service = std::get_if<Service>(&object)) check(*service);
  if (const auto* slice = std::get_if<EndpointSlice>(&object)) check(*slice);
}

// Ranges that are given are never left out: none would be everybody.
void check_ranges(const nlohmann::json& json, const Service& service) {
  const nlohmann::json::json_pointer path("/spec/loadBalancerSourceRanges");
  const auto type = json.value(nlohmann::json::json_pointer("/spec/type"), nlohmann::json());
  if (type == "ExternalName" || !json.contains(path) || !json.at(path).is_array()) return;
  check(service.source_ranges.size() == json.at(path).size());
}

void read(const nlohmann::json& json, const Value& object, Kind kind) {
  const auto parsed = parse_object(object, kind);
  if (!parsed) {
    const auto& message = parsed.error().message;
    check(message.starts_with(to_string(kind)) && message.size() < 2000);
    check(std::ranges::all_of(message, [](char c) { return c >= ' ' && c <= '~'; }));
    return;
  }
  check(parsed->object);
  check(parse_object(Tree(json).root(), kind)->object == parsed->object);
  if (const auto* service = std::get_if<Service>(&parsed->object)) check_ranges(json, *service);
}

}  // namespace
}  // namespace sluice::model

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::model;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto tree = Tree::parse(text, size);
  sluice::model::check(tree.has_value() != json.is_discarded());
  if (!tree) return 0;
  for (std::size_t kind = 0; kind < kKinds; ++kind) read(json, tree->root(), static_cast<Kind>(kind));
  if (const auto any = parse_object(tree->root()); any && *any) sluice::model::check((*any)->object);
  return 0;
}
