// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/tunnel.h"

#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include "common/ipsec.h"

namespace sluice::datapath {

// Empty: there is none.
Result<std::string> Tunnel::reason_for_device(NetlinkSocket& netlink) const {
  if (!options_.tunnel_direct) return "--tunnel-direct=off (chart value `tunnel.direct`)";
  auto config = settings_.get();
  if (!config) return tl::unexpected(config.error());
  if (config->uplink_ifindex == 0) return "no uplink";
  auto uplink = netlink.link(static_cast<int>(config->uplink_ifindex));
  if (!uplink) return tl::unexpected(uplink.error());
  if (!uplink->ethernet) return "uplink " + uplink->name + " is no Ethernet interface";
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
  if (now != status_) {
    if (now.direct)
      spdlog::info("packets to other nodes go out by the uplink directly");
    else
      spdlog::warn("packets to other nodes go by the VXLAN device and the node's stack, which is slower: {}",
                   now.why_not);
  }
  status_ = now;
  return reason ? Result<void>{} : tl::unexpected(reason.error());
}

}  // namespace sluice::datapath
