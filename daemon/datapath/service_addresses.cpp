// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/service_addresses.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/fault_point.h"
#include "daemon/datapath/devices.h"
#include "daemon/datapath/routes.h"

namespace sluice::datapath {

namespace {

// Before the main table, behind the one of the node's own addresses.
const Rule kOwnRule{.priority = 8300, .table = 8300, .interface = kLoopbackDevice};
// What comes by sluice_host has been through the modules: `deliver` asks the FIB for the way of each packet
// as one that came there, and need not look into this table.
const Rule kForwardedRule{.priority = 8301, .table = 8301, .interface = kHostDevice, .others = true};
const std::array<Rule, 2> kRules{kOwnRule, kForwardedRule};

Result<std::vector<Route>> present(NetlinkSocket& netlink) {
  std::vector<Route> all;
  for (const auto& rule : kRules) {
    auto routes = netlink.routes(rule.table);
    if (!routes) return tl::unexpected(routes.error());
    all.insert(all.end(), routes->begin(), routes->end());
  }
  std::ranges::sort(all, route_before);
  return all;
}

Result<void> ensure_rules(NetlinkSocket& netlink) {
  const auto rules = netlink.rules();
  if (!rules) return tl::unexpected(rules.error());
  for (const auto& rule : kRules)
    if (std::ranges::find(*rules, rule) == rules->end())
      if (auto done = netlink.add_rule(rule); !done) return done;
  return {};
}

std::vector<Prefix> without(const std::vector<Prefix>& from, const std::vector<Prefix>& these) {
  std::vector<Prefix> left;
  std::ranges::set_difference(from, these, std::back_inserter(left));
  return left;
}

std::string name_of(const Route& route) {
  return fmt::format("the {} to {}", route.unreachable ? "unreachable route" : "node's route",
                     route.destination.to_string());
}

}  // namespace

Result<void> ServiceAddresses::apply(NetlinkSocket& netlink, const service::Table& table,
                                     const std::vector<Prefix>& ranges) {
  std::vector<Prefix> hosts;
  for (const auto& [frontend, target] : table) {
    // Others lead to the node even without a Service: they are not for us to take from whoever has them.
    if (!frontend.address.is_v4() || target->from_outside) continue;
    const auto address = Prefix::host(frontend.address);
    if (hosts.empty() || hosts.back() != address) hosts.push_back(address);
  }
  if (known_ && hosts == hosts_ && ranges == ranges_) return {};
  hosts_ = std::move(hosts);
  ranges_ = ranges;
  known_ = true;
  return refresh(netlink);
}

Result<void> ServiceAddresses::refresh(NetlinkSocket& netlink) {
  if (!known_) return {};
  auto now = addresses();
  if (!now) return tl::unexpected(now.error());
  addresses_ = std::move(*now);
  return write_map().and_then([&] { return write_routes(netlink); });
}

Result<std::vector<Prefix>> ServiceAddresses::addresses() const {
  const auto config = settings_.get();
  if (!config) return tl::unexpected(config.error());
  const auto node = Address::from_abi(config->node_ipv4);
  std::vector<Prefix> all;
  // A range that has the node's own network in it would lead the node away from it: it is believed as far as
  // there are Services.
  std::ranges::copy_if(ranges_, std::back_inserter(all),
                       [&](const Prefix& range) { return range.is_v4() && !range.contains(node); });
  std::vector<Prefix> rest;
  std::ranges::copy_if(hosts_, std::back_inserter(rest), [&](const Prefix& host) {
    return std::ranges::none_of(all, [&](const Prefix& range) { return range.contains(host.address()); });
  });
  all.insert(all.end(), rest.begin(), rest.end());
  std::ranges::sort(all);
  return all;
}

Result<std::vector<Prefix>> ServiceAddresses::marked() const {
  std::vector<Prefix> all;
  auto done = maps_.service_addresses.visit([&](const sluice_route_key& key, std::uint32_t) -> Result<void> {
    all.emplace_back(Address::from_abi(key.addr), key.prefix_len);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  std::ranges::sort(all);
  return all;
}

Result<void> ServiceAddresses::write_map() {
  auto found = marked_ ? Result<std::vector<Prefix>>(std::move(*marked_)) : marked();
  marked_.reset();  // until all is written
  if (!found) return tl::unexpected(found.error());
  for (const auto& address : without(addresses_, *found)) {
    if (auto done = maps_.service_addresses.update(address.abi(), 0); !done) return done;
    SLUICE_FAILURE_POINT("service.address_marked");
  }
  for (const auto& address : without(*found, addresses_))
    if (auto done = maps_.service_addresses.erase(address.abi()); !done) return tl::unexpected(done.error());
  marked_ = addresses_;
  return {};
}

Result<std::vector<Route>> ServiceAddresses::wanted_routes() const {
  const auto config = settings_.get();
  if (!config) return tl::unexpected(config.error());
  std::vector<Route> routes;
  if (config->host_ifindex == 0) return routes;  // refresh() comes when there is one
  Route own;
  own.source = Address::from_abi(config->gateway_ipv4);
  own.link_index = static_cast<int>(config->host_ifindex);
  own.protocol = kSluiceRouteProtocol;
  own.table = kOwnRule.table;
  Route forwarded;
  forwarded.unreachable = true;
  forwarded.protocol = kSluiceRouteProtocol;
  forwarded.table = kForwardedRule.table;
  for (auto* route : {&own, &forwarded}) {
    for (const auto& address : addresses_) {
      route->destination = address;
      routes.push_back(*route);
    }
  }
  return routes;
}

Result<void> ServiceAddresses::write_routes(NetlinkSocket& netlink) {
  auto routes = wanted_routes();
  if (!routes) return tl::unexpected(routes.error());
  // What is there is asked of the kernel once, for what an earlier daemon left, and after a failure.
  if (written_.empty()) {
    auto found = present(netlink);
    if (!found) return tl::unexpected(found.error());
    written_ = std::move(*found);
  }
  const auto missing = without(*routes, written_);
  const auto stale = without(written_, *routes);
  written_.clear();
  if (!routes->empty())
    if (auto done = ensure_rules(netlink); !done) return done;
  for (const auto& route : missing) {
    if (auto done = netlink.replace_route(route); !done) return done;
    SLUICE_FAILURE_POINT("service.route_added");
  }
  for (const auto& route : stale) {
    // ESRCH: gone with its interface, or replaced just now.
    if (auto done = netlink.delete_route(route); !done && done.error().code != ESRCH) return done;
  }
  written_ = std::move(*routes);
  return {};
}

Result<void> ServiceAddresses::audit(NetlinkSocket& netlink, std::vector<std::string>& differences) const {
  if (!known_) return {};
  const auto in_map = marked();
  if (!in_map) return tl::unexpected(in_map.error());
  for (const auto& address : without(addresses_, *in_map))
    differences.push_back(fmt::format("service_addresses: {} is missing", address.to_string()));
  for (const auto& address : without(*in_map, addresses_))
    differences.push_back(fmt::format("service_addresses: {} should not be there", address.to_string()));
  const auto routes = wanted_routes();
  if (!routes) return tl::unexpected(routes.error());
  const auto found = present(netlink);
  if (!found) return tl::unexpected(found.error());
  for (const auto& route : without(*routes, *found)) differences.push_back(name_of(route) + " is missing");
  for (const auto& route : without(*found, *routes))
    differences.push_back(name_of(route) + " should not be there");
  const auto rules = netlink.rules();
  if (!rules) return tl::unexpected(rules.error());
  for (const auto& rule : kRules)
    if (!routes->empty() && std::ranges::find(*rules, rule) == rules->end())
      differences.push_back(fmt::format("the routing rule {} for cluster IPs is missing", rule.priority));
  return {};
}

}  // namespace sluice::datapath
