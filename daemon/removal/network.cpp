// SPDX-License-Identifier: Apache-2.0
#include "daemon/removal/network.h"

#include <array>
#include <cerrno>

#include "common/host_link.h"
#include "daemon/datapath/attach.h"
#include "daemon/datapath/devices.h"

namespace sluice::removal {

namespace {

// Deletes the links that are ours.
template <typename IsOurs>
void remove_links(NetlinkSocket& netlink, Report& report, const std::string& what, IsOurs is_ours) {
  const auto links = netlink.links();
  if (!links) return report.failed(links.error());
  for (const auto& link : *links) {
    if (!is_ours(link)) continue;
    const auto done = netlink.delete_link(link.index);
    // The other end of a pair goes with the first.
    if (done || done.error().code != ENODEV) report.add(done, what + " " + link.name);
  }
}

struct Device {
  const char* name;
  const char* kind;
};
constexpr std::array<Device, 3> kDevices{
    {{datapath::kHostDevice, "veth"}, {datapath::kNetDevice, "veth"}, {datapath::kVxlanDevice, "vxlan"}}};

}  // namespace

void remove_pod_links(NetlinkSocket& netlink, Report& report) {
  remove_links(netlink, report, "the link of a pod,",
               [](const Link& link) { return link.kind == "veth" && is_host_link_name(link.name); });
}

void remove_devices(NetlinkSocket& netlink, Report& report) {
  remove_links(netlink, report, "the device", [](const Link& link) {
    for (const auto& [name, kind] : kDevices)
      if (link.name == name && link.kind == kind) return true;
    return false;
  });
}

void remove_filters(NetlinkSocket& netlink, Report& report) {
  const auto links = netlink.links();
  if (!links) return report.failed(links.error());
  for (const auto& link : *links) {
    const auto removed = datapath::remove_own_filter(netlink, static_cast<std::uint32_t>(link.index));
    if (!removed)
      report.failed(removed.error());
    else if (*removed)
      report.removed("the filter of interface " + link.name);
  }
}

void remove_rules_and_routes(NetlinkSocket& netlink, Report& report) {
  if (const auto rules = netlink.rules(); rules) {
    for (const auto& rule : *rules)
      report.add(netlink.delete_rule(rule),
                 fmt::format("the routing rule {} (table {})", rule.priority, rule.table));
  } else {
    report.failed(rules.error());
  }
  const auto routes = netlink.routes(kAllTables);
  if (!routes) return report.failed(routes.error());
  for (const auto& route : *routes)
    if (route.protocol == kSluiceRouteProtocol)
      report.add(netlink.delete_route(route),
                 fmt::format("the route to {} in table {}", route.destination.to_string(), route.table));
}

}  // namespace sluice::removal
