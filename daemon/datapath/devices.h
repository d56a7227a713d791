// SPDX-License-Identifier: Apache-2.0
// The node's own interfaces for pods: sluice_host and sluice_net (a veth pair, the stack's side and ours),
// sluice_vxlan, and the host's addresses and routes on them. Level-triggered: what is there already stays.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "common/netlink.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"

namespace sluice::datapath {

inline constexpr const char* kHostDevice = "sluice_host";
inline constexpr const char* kNetDevice = "sluice_net";
inline constexpr const char* kVxlanDevice = "sluice_vxlan";

struct Devices {
  std::uint32_t host_ifindex = 0;
  std::uint32_t net_ifindex = 0;
  std::uint32_t vxlan_ifindex = 0;
  Mac gateway_mac;  // of sluice_host
};

// The first address after the network's of the node's first IPv4 podCIDR.
[[nodiscard]] Result<Address> gateway_of(const NodeConfig& config);

// The address by which the node's own backends are masqueraded to: the podCIDR's own.
[[nodiscard]] Address local_snat_of(const Address& gateway);

// Makes or finds them. What carries packets is still down. `before`: what was made last, whose gateway keeps
// its MAC address, since pods remember it.
[[nodiscard]] Result<Devices> make_devices(NetlinkSocket& netlink, const NodeConfig& config,
                                           const sluice_config& before, std::uint16_t vxlan_port);
// Up, with the gateway's address and the routes to pods; removes addresses and routes of ours that are no
// longer wanted.
[[nodiscard]] Result<void> start_devices(NetlinkSocket& netlink, const NodeConfig& config,
                                         const Devices& devices);

// How the node's interfaces, addresses and routes differ from what these two made, `made`, in words.
[[nodiscard]] Result<void> audit_devices(NetlinkSocket& netlink, const NodeConfig& config,
                                         const sluice_config& made, std::uint16_t vxlan_port,
                                         std::vector<std::string>& differences);

}  // namespace sluice::datapath
