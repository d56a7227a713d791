// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/service_routes.h"

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "common/fault_point.h"

namespace sluice::datapath {

namespace {

// Before the main table, behind the one of the node's own addresses.
constexpr LocalRule kRule{.priority = 8300, .table = 8300};

auto order(const Route& route) { return std::tie(route.destination, route.link_index, route.source); }
bool before(const Route& a, const Route& b) { return order(a) < order(b); }

Result<std::vector<Route>> present(NetlinkSocket& netlink) {
  return netlink.routes(kRule.table).map([](std::vector<Route> routes) {
    std::ranges::sort(routes, before);
    return routes;
  });
}

Result<void> ensure_rule(NetlinkSocket& netlink) {
  const auto rules = netlink.rules();
  if (!rules) return tl::unexpected(rules.error());
  if (std::ranges::find(*rules, kRule) != rules->end()) return {};
  return netlink.add_rule(kRule);
}

std::vector<Route> without(const std::vector<Route>& from, const std::vector<Route>& these) {
  std::vector<Route> left;
  std::ranges::set_difference(from, these, std::back_inserter(left), before);
  return left;
}

}  // namespace

Result<void> ServiceRoutes::apply(NetlinkSocket& netlink, const service::Table& table) {
  std::vector<Address> addresses;
  for (const auto& [frontend, target] : table)
    // Others lead to the node even without a Service: they are not for us to take from whoever has them.
    if (frontend.address.is_v4() && !target->from_outside &&
        (addresses.empty() || addresses.back() != frontend.address))
      addresses.push_back(frontend.address);
  if (known_ && addresses == addresses_) return {};
  addresses_ = std::move(addresses);
  known_ = true;
  return write(netlink);
}

Result<void> ServiceRoutes::refresh(NetlinkSocket& netlink) {
  return known_ ? write(netlink) : Result<void>();
}

Result<std::vector<Route>> ServiceRoutes::wanted() const {
  const auto config = settings_.get();
  if (!config) return tl::unexpected(config.error());
  std::vector<Route> routes;
  if (config->host_ifindex == 0) return routes;  // refresh() comes when there is one
  Route route;
  route.source = Address::from_abi(config->gateway_ipv4);
  route.link_index = static_cast<int>(config->host_ifindex);
  route.protocol = kSluiceRouteProtocol;
  route.table = kRule.table;
  for (const auto& address : addresses_) {
    route.destination = Prefix::host(address);
    routes.push_back(route);
  }
  return routes;
}

Result<void> ServiceRoutes::write(NetlinkSocket& netlink) {
  auto routes = wanted();
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
    if (auto done = ensure_rule(netlink); !done) return done;
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

Result<void> ServiceRoutes::audit(NetlinkSocket& netlink, std::vector<std::string>& differences) const {
  if (!known_) return {};
  const auto routes = wanted();
  if (!routes) return tl::unexpected(routes.error());
  const auto found = present(netlink);
  if (!found) return tl::unexpected(found.error());
  for (const auto& route : without(*routes, *found))
    differences.push_back(fmt::format("the node's route to {} is missing", route.destination.to_string()));
  for (const auto& route : without(*found, *routes))
    differences.push_back(
        fmt::format("the node's route to {} should not be there", route.destination.to_string()));
  const auto rules = netlink.rules();
  if (!rules) return tl::unexpected(rules.error());
  if (!routes->empty() && std::ranges::find(*rules, kRule) == rules->end())
    differences.push_back(fmt::format("the routing rule {} for cluster IPs is missing", kRule.priority));
  return {};
}

}  // namespace sluice::datapath
