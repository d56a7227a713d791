// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/node.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/fault_point.h"
#include "common/local_ports.h"
#include "daemon/datapath/devices.h"

namespace sluice::datapath {

namespace {

bool equal(const sluice_route& a, const sluice_route& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The node's own connections must not get the ports of masqueraded ones, whose answers would be taken for
// theirs.
void warn_of_shared_ports(const Options& options) {
  const auto local = local_ports().range;
  if (local.overlaps({options.snat_port_min, options.snat_port_max}))
    spdlog::warn(
        "the masquerade ports {}-{} overlap with net.ipv4.ip_local_port_range {}-{}, of which the node's own "
        "connections take theirs: they can meet; change one of the two (--masquerade-ports, chart value "
        "`masquerade.ports`)",
        options.snat_port_min, options.snat_port_max, local.first, local.last);
}

sluice_hook hook_of(bool ethernet) { return ethernet ? SLUICE_HOOK_UPLINK : SLUICE_HOOK_BARE; }

Prefix prefix_of(const sluice_route_key& key) { return {Address::from_abi(key.addr), key.prefix_len}; }

}  // namespace

RouteTable route_table(const NodeConfig& config, const Address& gateway) {
  RouteTable table;
  for (const auto& prefix : config.non_masquerade) {
    // Pods of the cluster are reached as such, whatever a list says.
    const auto has = [&](const std::vector<Prefix>& cidrs) {
      return std::any_of(cidrs.begin(), cidrs.end(),
                         [&](const Prefix& cidr) { return cidr.contains(prefix); });
    };
    const bool of_pods =
        has(config.pod_cidrs) || std::any_of(config.remotes.begin(), config.remotes.end(),
                                             [&](const auto& remote) { return has(remote.pod_cidrs); });
    if (!of_pods) table.insert_or_assign(prefix, sluice_route{SLUICE_ROUTE_WORLD_BARE, 0});
  }
  for (const auto& remote : config.remotes) {
    const auto end = remote.tunnel_end();
    if (!end) continue;  // nothing leads there
    for (const auto& address : remote.addresses)
      table.insert_or_assign(Prefix::host(address), sluice_route{SLUICE_ROUTE_NODE, end->v4_be()});
    for (const auto& prefix : remote.pod_cidrs)
      table.insert_or_assign(prefix, sluice_route{SLUICE_ROUTE_TUNNEL, end->v4_be()});
  }
  // Later ones win: whatever another Node object claims, this node's own addresses are its own.
  for (const auto& prefix : config.pod_cidrs)
    table.insert_or_assign(prefix, sluice_route{SLUICE_ROUTE_PODS, 0});
  for (const auto& address : config.former_pods)
    table.insert_or_assign(Prefix::host(address), sluice_route{SLUICE_ROUTE_PODS, 0});
  for (const auto* addresses : {&config.node_addresses, &config.former_gateways})
    for (const auto& address : *addresses)
      table.insert_or_assign(Prefix::host(address), sluice_route{SLUICE_ROUTE_HOST, 0});
  table.insert_or_assign(Prefix::host(gateway), sluice_route{SLUICE_ROUTE_HOST, 0});
  return table;
}

Result<void> Node::configure(NetlinkSocket& netlink, const NodeConfig& config) {
  auto gateway = gateway_of(config);
  if (!gateway) return tl::unexpected(gateway.error());
  auto before = settings_.get();
  if (!before) return tl::unexpected(before.error());
  const auto hooks_before = hooks();
  if (!hooks_before) return tl::unexpected(hooks_before.error());
  auto devices = make_devices(netlink, config, *before, options_.vxlan_port);
  if (!devices) return tl::unexpected(devices.error());

  SLUICE_FAILURE_POINT("node.devices_made");
  // What the programs know comes before what sends them packets.
  auto table = route_table(config, *gateway);
  if (auto done = write_routes(table); !done) return done;
  configured_ = std::move(table);
  SLUICE_FAILURE_POINT("node.routes_written");
  const auto numbers = uplinks_.write(config, local_snat_of(*gateway));
  if (!numbers) return tl::unexpected(numbers.error());
  auto done = settings_.change([&](sluice_config& c) {
    c.node_ipv4 = config.node_ipv4.value_or(Address()).abi();
    c.gateway_ipv4 = gateway->abi();
    c.local_snat_ipv4 = local_snat_of(*gateway).abi();
    c.host_ifindex = devices->host_ifindex;
    c.net_ifindex = devices->net_ifindex;
    c.vxlan_ifindex = devices->vxlan_ifindex;
    c.uplinks = static_cast<std::uint32_t>(config.uplinks.size());
    c.node_number = numbers->node;
    c.local_number = numbers->local;
    c.ways_differ = numbers->ways_differ;
    c.vni = options_.vni;
    c.vxlan_port_be = htons(options_.vxlan_port);
    c.snat_port_min = options_.snat_port_min;
    c.snat_port_max = options_.snat_port_max;
    std::copy(devices->gateway_mac.bytes().begin(), devices->gateway_mac.bytes().end(), c.gateway_mac);
  });
  if (!done) return done;
  SLUICE_FAILURE_POINT("node.configured");
  std::vector<Hook> wanted{{devices->net_ifindex, SLUICE_HOOK_HOST},
                           {devices->vxlan_ifindex, SLUICE_HOOK_OVERLAY}};
  for (const auto& uplink : config.uplinks) wanted.push_back({uplink.ifindex, hook_of(uplink.ethernet)});
  if (done = attach_hooks(*hooks_before, wanted); !done) return done;
  SLUICE_FAILURE_POINT("node.hooks_attached");
  if (done = start_devices(netlink, config, *devices); !done) return done;
  warn_of_shared_ports(options_);
  SLUICE_FAILURE_POINT("node.devices_started");
  return {};
}

// Only what differs is written, and new routes before old ones go: the traffic of others is not touched.
Result<void> Node::write_routes(const RouteTable& wanted) const {
  auto present = maps_.routes.entries();
  if (!present) return tl::unexpected(present.error());
  RouteTable missing = wanted;
  std::vector<sluice_route_key> stale;
  for (const auto& [key, route] : *present) {
    const auto found = wanted.find(prefix_of(key));
    if (found == wanted.end())
      stale.push_back(key);
    else if (equal(found->second, route))
      missing.erase(found->first);
  }
  for (const auto& [prefix, route] : missing) {
    if (auto done = maps_.routes.update(prefix.abi(), route); !done) return done;
    SLUICE_FAILURE_POINT("node.route_added");
  }
  for (const auto& key : stale)
    if (auto done = maps_.routes.erase(key); !done) return tl::unexpected(done.error());
  return {};
}

Result<std::vector<std::pair<Prefix, Address>>> Node::remote_ranges() const {
  auto present = maps_.routes.entries();
  if (!present) return tl::unexpected(present.error());
  std::vector<std::pair<Prefix, Address>> ranges;
  for (const auto& [key, route] : *present)
    if (route.kind == SLUICE_ROUTE_TUNNEL)
      ranges.emplace_back(prefix_of(key), Address::from_v4(ntohl(route.tunnel_be)));
  return ranges;
}

Result<std::vector<Node::Hook>> Node::hooks() const {
  const auto config = settings_.get();
  if (!config) return tl::unexpected(config.error());
  const auto uplinks = uplinks_.present();
  if (!uplinks) return tl::unexpected(uplinks.error());
  std::vector<Hook> all;
  if (config->net_ifindex != 0) all.push_back({config->net_ifindex, SLUICE_HOOK_HOST});
  if (config->vxlan_ifindex != 0) all.push_back({config->vxlan_ifindex, SLUICE_HOOK_OVERLAY});
  for (const auto& uplink : *uplinks)
    all.push_back({uplink.ifindex, hook_of((uplink.flags & SLUICE_UPLINK_ETHERNET) != 0)});
  return all;
}

Result<void> Node::attach_hooks(const std::vector<Hook>& before, const std::vector<Hook>& wanted) const {
  for (const auto& [ifindex, hook] : wanted)
    if (auto done = attacher_.attach(ifindex, hook, Ingress::kShared); !done) return done;
  for (const auto& old : before) {
    if (std::ranges::find(wanted, old.ifindex, &Hook::ifindex) != wanted.end()) continue;
    if (auto done = attacher_.detach(old.ifindex); !done) return done;
    if (old.hook == SLUICE_HOOK_UPLINK || old.hook == SLUICE_HOOK_BARE)
      if (auto done = uplinks_.forget(old.ifindex); !done) return done;
  }
  return {};
}

Result<void> Node::refresh_hooks() const {
  const auto all = hooks();
  if (!all) return tl::unexpected(all.error());
  for (const auto& [ifindex, hook] : *all) {
    if (!attacher_.attached(ifindex)) continue;
    if (auto done = attacher_.refresh(ifindex, hook); !done) return tl::unexpected(done.error());
  }
  return {};
}

Result<void> Node::restore_hooks() const {
  if (!configured_) return {};
  const auto all = hooks();
  if (!all) return tl::unexpected(all.error());
  for (const auto& [ifindex, hook] : *all)
    if (auto done = attacher_.restore(ifindex, hook); !done) return done;
  return {};
}

Result<void> Node::audit_host(NetlinkSocket& netlink, const NodeConfig& config,
                              std::vector<std::string>& differences) const {
  const auto made = settings_.get();
  if (!made) return tl::unexpected(made.error());
  return audit_devices(netlink, config, *made, options_.vxlan_port, differences);
}

Result<void> Node::audit(std::vector<std::string>& differences) const {
  if (!configured_) return {};
  auto present = maps_.routes.entries();
  if (!present) return tl::unexpected(present.error());
  RouteTable missing = *configured_;
  for (const auto& [key, route] : *present) {
    const auto prefix = prefix_of(key);
    const auto found = missing.find(prefix);
    if (found == missing.end())
      differences.push_back(fmt::format("routes: {} should not be there", prefix.to_string()));
    else if (!equal(found->second, route))
      differences.push_back(fmt::format("routes: {} differs", prefix.to_string()));
    missing.erase(prefix);
  }
  for (const auto& [prefix, route] : missing)
    differences.push_back(fmt::format("routes: {} is missing", prefix.to_string()));
  const auto all = hooks();
  if (!all) return tl::unexpected(all.error());
  for (const auto& [ifindex, hook] : *all)
    if (auto good = attacher_.verify(ifindex, hook); !good)
      differences.push_back(fmt::format("hook {}: {}", hook_name(hook), good.error().message));
  return uplinks_.audit(differences);
}

}  // namespace sluice::datapath
