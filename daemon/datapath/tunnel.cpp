// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/tunnel.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/ipsec.h"

namespace sluice::datapath {

namespace {

const Route* route_to(const std::vector<Route>& routes, const Address& address) {
  const Route* best = nullptr;
  for (const auto& route : routes)
    if (route.destination.contains(address) &&
        (best == nullptr || route.destination.length() > best->destination.length()))
      best = &route;
  return best;
}

}  // namespace

bool Tunnel::narrower_than_its_uplink(const Route& route) const {
  return route.mtu != 0 && std::ranges::any_of(uplinks_, [&](const auto& uplink) {
           return static_cast<int>(uplink.ifindex) == route.link_index && route.mtu < uplink.mtu;
         });
}

Result<void> Tunnel::configure(NetlinkSocket& netlink, const NodeConfig& config) {
  ends_.clear();
  for (const auto& remote : config.remotes)
    if (const auto end = remote.tunnel_end()) ends_.push_back(*end);
  uplinks_ = config.uplinks;
  return refresh(netlink);
}

// Such as a route's MTU, which bpf_fib_lookup does not tell. Empty: there is none.
Result<std::string> Tunnel::reason_for_device(NetlinkSocket& netlink) const {
  if (!options_.tunnel_direct) return "--tunnel-direct=off (chart value `tunnel.direct`)";
  if (std::ranges::none_of(uplinks_, &NodeConfig::Uplink::ethernet))
    return uplinks_.empty() ? "no uplink" : "no uplink is an Ethernet interface";
  auto routes = netlink.routes();
  if (!routes) return tl::unexpected(routes.error());
  for (const auto& end : ends_)
    if (const auto* route = route_to(*routes, end); route != nullptr && narrower_than_its_uplink(*route))
      return fmt::format("the route to node {} has an MTU of its own, {}", end.to_string(), route->mtu);
  auto ipsec = has_ipsec_policies();
  if (!ipsec) return tl::unexpected(ipsec.error());
  if (*ipsec) return "the node has IPsec policies, which the modules would go past";
  return "";
}

Result<void> Tunnel::refresh(NetlinkSocket& netlink) {
  auto reason = reason_for_device(netlink);
  const TunnelStatus now =
      reason ? TunnelStatus{reason->empty(), *reason} : TunnelStatus{false, reason.error().message};
  const auto port = static_cast<__be16>(now.direct ? htons(options_.vxlan_port) : 0);
  if (auto done = settings_.change([&](sluice_config& config) { config.tunnel_port_be = port; }); !done)
    return done;
  if (now != status_)
    spdlog::info("packets to other nodes go {}",
                 now.direct ? "out by the uplink directly"
                            : "by the VXLAN device and the node's stack: " + now.why_not);
  status_ = now;
  return reason ? Result<void>{} : tl::unexpected(reason.error());
}

}  // namespace sluice::datapath
