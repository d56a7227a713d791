// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/devices.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "daemon/datapath/routes.h"

namespace sluice::datapath {

namespace {

Result<std::optional<Link>> find_link(NetlinkSocket& netlink, const char* name) {
  auto link = netlink.link(name);
  if (link) return *link;
  if (link.error().code == ENODEV) return std::nullopt;
  return tl::unexpected(link.error());
}

Result<void> expect_kind(const Link& link, const char* kind) {
  if (link.kind == kind) return {};
  return failure("interface {} exists and is no {} device: rename or remove it, the name is Sluice's",
                 link.name, kind);
}

Mac mac_of(const sluice_config& config) {
  std::array<std::uint8_t, 6> bytes{};
  std::copy(std::begin(config.gateway_mac), std::end(config.gateway_mac), bytes.begin());
  return Mac(bytes);
}

Result<Link> veth_pair(NetlinkSocket& netlink, const Address& gateway, const sluice_config& before) {
  auto found = find_link(netlink, kHostDevice);
  if (!found) return tl::unexpected(found.error());
  if (*found) {
    if (auto good = expect_kind(**found, "veth"); !good) return tl::unexpected(good.error());
    if (static_cast<std::uint32_t>((*found)->index) == before.host_ifindex) {
      if ((*found)->mac == mac_of(before)) return **found;
      LinkChange change;
      change.mac = mac_of(before);
      if (auto done = netlink.change_link((*found)->index, change); !done)
        return tl::unexpected(done.error());
      return netlink.link(kHostDevice);
    }
    if ((*found)->up) return **found;
    // Else not finished: the daemon that made it was killed before it had set the address.
  } else if (auto made = netlink.add_veth(kHostDevice, kNetDevice, -1); !made) {
    return tl::unexpected(made.error());
  }
  auto link = netlink.link(kHostDevice);
  if (!link) return link;
  // Derived from the address as pods' are: made anew after a reboot, it is the same again to its neighbours.
  LinkChange change;
  change.mac = Mac::of_pod(gateway);
  if (auto done = netlink.change_link(link->index, change); !done) return tl::unexpected(done.error());
  return netlink.link(kHostDevice);
}

// Receivers drop tunnel packets from masquerade ports, which the node's ip_local_port_range may reach into.
constexpr PortRange kTunnelSourcePorts{SLUICE_TUNNEL_PORT_MIN, SLUICE_TUNNEL_PORT_MAX};

Result<Link> vxlan(NetlinkSocket& netlink, std::uint16_t port) {
  auto found = find_link(netlink, kVxlanDevice);
  if (!found) return tl::unexpected(found.error());
  if (*found) {
    if (auto good = expect_kind(**found, "vxlan"); !good) return tl::unexpected(good.error());
    if ((*found)->vxlan_port == port && (*found)->vxlan_source_ports == kTunnelSourcePorts) return **found;
    if (auto gone = netlink.delete_link(kVxlanDevice); !gone) return tl::unexpected(gone.error());
  }
  if (auto made = netlink.add_vxlan_external(kVxlanDevice, port, kTunnelSourcePorts); !made) {
    if (made.error().code == EEXIST)
      return failure(
          "{}: another VXLAN device of this node (an earlier network plugin's?) has UDP port {}; remove it, "
          "or choose another port for Sluice on all nodes",
          made.error().message, port);
    return tl::unexpected(made.error());
  }
  return netlink.link(kVxlanDevice);
}

// Of sluice_host: by these pods know the node.
std::vector<Address> gateways(const NodeConfig& config, const Address& gateway) {
  std::vector<Address> all{gateway};
  all.insert(all.end(), config.former_gateways.begin(), config.former_gateways.end());
  return all;
}

Result<void> keep_only_addresses(NetlinkSocket& netlink, int index, const std::vector<Address>& wanted) {
  for (const auto& address : wanted)
    if (auto done = netlink.add_address({index, address, 32}); !done) return done;
  auto addresses = netlink.addresses();
  if (!addresses) return tl::unexpected(addresses.error());
  for (const auto& each : *addresses) {
    if (each.index != index || !each.address.is_v4() ||
        std::ranges::find(wanted, each.address) != wanted.end())
      continue;
    if (auto done = netlink.delete_address(each); !done && done.error().code != EADDRNOTAVAIL) return done;
  }
  return {};
}

std::vector<Route> wanted_routes(const NodeConfig& config, const Devices& devices, const Address& gateway) {
  std::vector<Route> routes;
  const auto add = [&](const Prefix& prefix, const Address& source) {
    if (!prefix.is_v4()) return;
    Route route;
    route.destination = prefix;
    route.source = source;
    route.link_index = static_cast<int>(devices.host_ifindex);
    route.protocol = kSluiceRouteProtocol;
    routes.push_back(route);
  };
  for (const auto& prefix : config.pod_cidrs) add(prefix, gateway);
  for (const auto& address : config.former_pods) add(Prefix::host(address), gateway);
  for (const auto& remote : config.remotes)
    for (const auto& prefix : remote.pod_cidrs) add(prefix, gateway);
  // A UDP server that is bound to no address answers by the one that its route names: it must be the
  // backend's.
  add(Prefix::host(local_snat_of(gateway)), config.node_ipv4.value_or(gateway));
  std::ranges::sort(routes, route_before);
  const auto same = [](const Route& a, const Route& b) { return !route_before(a, b); };
  routes.erase(std::unique(routes.begin(), routes.end(), same), routes.end());
  return routes;
}

struct RouteDifferences {
  std::vector<Route> missing, stale;
};

// Between the routes of ours in the main table and those that are wanted.
Result<RouteDifferences> compare_routes(NetlinkSocket& netlink, const std::vector<Route>& wanted) {
  auto present = netlink.routes();
  if (!present) return tl::unexpected(present.error());
  std::erase_if(*present, [](const Route& route) { return route.protocol != kSluiceRouteProtocol; });
  std::ranges::sort(*present, route_before);
  return RouteDifferences{without(wanted, *present), without(*present, wanted)};
}

Result<void> set_routes(NetlinkSocket& netlink, const std::vector<Route>& wanted) {
  const auto differences = compare_routes(netlink, wanted);
  if (!differences) return tl::unexpected(differences.error());
  for (const auto& route : differences->missing)
    if (auto done = netlink.replace_route(route); !done) return done;
  for (const auto& route : differences->stale)
    // ESRCH: replaced just now by one to the same destination.
    if (auto done = netlink.delete_route(route); !done && done.error().code != ESRCH) return done;
  return {};
}

// What start_devices() sets.
struct Expected {
  const char* name;
  std::uint32_t ifindex;  // as it was made
  bool forwards;
  bool arp;
};

void audit_link(const std::vector<Link>& links, const Expected& expected, unsigned mtu,
                std::vector<std::string>& differences) {
  const auto tell = [&](const std::string& what) {
    differences.push_back(fmt::format("interface {} {}", expected.name, what));
  };
  const auto link = std::ranges::find(links, expected.name, &Link::name);
  if (link == links.end()) return tell("is missing");
  if (static_cast<std::uint32_t>(link->index) != expected.ifindex) return tell("is another one");
  if (!link->up) tell("is down");
  if (link->mtu != mtu) tell(fmt::format("has MTU {} instead of {}", link->mtu, mtu));
  if (link->arp != expected.arp) tell(link->arp ? "asks by ARP" : "does not ask by ARP");
  if (expected.forwards && !link->ipv4_forwarding) tell("does not forward IPv4 (net.ipv4.conf)");
}

}  // namespace

Result<Address> gateway_of(const NodeConfig& config) {
  const auto cidr = std::find_if(config.pod_cidrs.begin(), config.pod_cidrs.end(),
                                 [](const Prefix& prefix) { return prefix.is_v4(); });
  if (cidr == config.pod_cidrs.end())
    return failure("the node has no IPv4 podCIDR (IPv6 alone is not built yet)");
  if (cidr->length() > 30)
    return failure("podCIDR {} has no room for a gateway and a pod", cidr->to_string());
  return gateway_in(*cidr);
}

Address local_snat_of(const Address& gateway) { return Address::from_v4(gateway.v4() - 1); }

Result<Devices> make_devices(NetlinkSocket& netlink, const NodeConfig& config, const sluice_config& before,
                             std::uint16_t vxlan_port) {
  auto gateway = gateway_of(config);
  if (!gateway) return tl::unexpected(gateway.error());
  Devices devices;
  auto host = veth_pair(netlink, *gateway, before);
  if (!host) return tl::unexpected(host.error());
  auto net = netlink.link(kNetDevice);
  if (!net) return tl::unexpected(net.error());
  if (net->index != host->peer_index)
    return failure("{} and {} are no pair: remove both, they are made again", kHostDevice, kNetDevice);
  auto overlay = vxlan(netlink, vxlan_port);
  if (!overlay) return tl::unexpected(overlay.error());
  devices.host_ifindex = static_cast<std::uint32_t>(host->index);
  devices.net_ifindex = static_cast<std::uint32_t>(net->index);
  devices.vxlan_ifindex = static_cast<std::uint32_t>(overlay->index);
  devices.gateway_mac = host->mac;
  return devices;
}

Result<void> start_devices(NetlinkSocket& netlink, const NodeConfig& config, const Devices& devices) {
  auto gateway = gateway_of(config);
  if (!gateway) return tl::unexpected(gateway.error());
  LinkChange change;
  change.mtu = config.pod_mtu;
  change.ipv6_addresses = false;
  change.up = true;
  if (auto done = netlink.change_link(static_cast<int>(devices.vxlan_ifindex), change); !done) return done;
  // bpf_fib_lookup and the stack ask the interface that a packet came in by whether it forwards.
  change.ipv4_forwarding = true;
  if (auto done = netlink.change_link(static_cast<int>(devices.net_ifindex), change); !done) return done;
  // Without ARP the stack addresses every frame to the interface's own MAC, which is the gateway's: the
  // router's.
  change.arp = false;
  const int host = static_cast<int>(devices.host_ifindex);
  if (auto done = netlink.change_link(host, change); !done) return done;
  if (auto done = keep_only_addresses(netlink, host, gateways(config, *gateway)); !done) return done;
  return set_routes(netlink, wanted_routes(config, devices, *gateway));
}

Result<void> audit_devices(NetlinkSocket& netlink, const NodeConfig& config, const sluice_config& made,
                           std::uint16_t vxlan_port, std::vector<std::string>& differences) {
  const auto gateway = gateway_of(config);
  const auto links = netlink.links();
  const auto addresses = netlink.addresses();
  if (!gateway) return tl::unexpected(gateway.error());
  if (!links) return tl::unexpected(links.error());
  if (!addresses) return tl::unexpected(addresses.error());
  audit_link(*links, {kHostDevice, made.host_ifindex, true, false}, config.pod_mtu, differences);
  audit_link(*links, {kNetDevice, made.net_ifindex, true, true}, config.pod_mtu, differences);
  audit_link(*links, {kVxlanDevice, made.vxlan_ifindex, false, true}, config.pod_mtu, differences);
  for (const auto& link : *links) {
    const auto ifindex = static_cast<std::uint32_t>(link.index);
    if (ifindex == made.host_ifindex && link.mac != mac_of(made))
      differences.push_back(fmt::format("interface {} has MAC address {} instead of {}", link.name,
                                        link.mac.to_string(), mac_of(made).to_string()));
    if (ifindex == made.vxlan_ifindex &&
        (link.vxlan_port != vxlan_port || link.vxlan_source_ports != kTunnelSourcePorts))
      differences.push_back(fmt::format("interface {} has other ports", link.name));
  }
  for (const auto& wanted : config.uplinks) {
    const auto uplink = std::ranges::find(*links, wanted.name, &Link::name);
    if (uplink == links->end())
      differences.push_back(fmt::format("interface {} (an uplink) is missing", wanted.name));
    else if (static_cast<std::uint32_t>(uplink->index) != wanted.ifindex)
      differences.push_back(fmt::format("interface {} (an uplink) is another one", wanted.name));
  }
  auto missing = gateways(config, *gateway);
  for (const auto& each : *addresses) {
    if (static_cast<std::uint32_t>(each.index) != made.host_ifindex || !each.address.is_v4()) continue;
    if (std::erase(missing, each.address) == 0)
      differences.push_back(
          fmt::format("interface {} has address {}, too", kHostDevice, each.address.to_string()));
  }
  for (const auto& address : missing)
    differences.push_back(
        fmt::format("interface {} has lost its address {}", kHostDevice, address.to_string()));
  Devices devices;
  devices.host_ifindex = made.host_ifindex;
  const auto routes = compare_routes(netlink, wanted_routes(config, devices, *gateway));
  if (!routes) return tl::unexpected(routes.error());
  for (const auto& route : routes->missing)
    differences.push_back(
        fmt::format("route to {} by {} is missing", route.destination.to_string(), kHostDevice));
  for (const auto& route : routes->stale)
    differences.push_back(fmt::format("route to {} (protocol {}) is not Sluice's",
                                      route.destination.to_string(), kSluiceRouteProtocol));
  return {};
}

}  // namespace sluice::datapath
