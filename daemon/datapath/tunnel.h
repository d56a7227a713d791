// SPDX-License-Identifier: Apache-2.0
// Who writes the tunnel's headers on packets to other nodes, and takes them off what comes from there: the
// modules, at the uplink, or the VXLAN device. The modules go past the node's stack: where the stack has
// something to do with the packets, it must be the device.
#pragma once

#include <string>
#include <vector>

#include "common/address.h"
#include "common/netlink.h"
#include "common/result.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/settings.h"

namespace sluice::datapath {

class Tunnel {
 public:
  Tunnel(const Settings& settings, const Options& options) : settings_(settings), options_(options) {}

  // After the node's devices were made.
  [[nodiscard]] Result<void> configure(NetlinkSocket& netlink, const NodeConfig& config);
  // To be called after the node's IPsec policies or routes have changed. On an error it is the device.
  [[nodiscard]] Result<void> refresh(NetlinkSocket& netlink);
  [[nodiscard]] const TunnelStatus& status() const { return status_; }

 private:
  [[nodiscard]] bool narrower_than_its_uplink(const Route& route) const;
  [[nodiscard]] Result<std::string> reason_for_device(NetlinkSocket& netlink) const;

  const Settings& settings_;
  const Options& options_;
  std::vector<Address> ends_;  // of other nodes
  std::vector<NodeConfig::Uplink> uplinks_;
  TunnelStatus status_;
};

}  // namespace sluice::datapath
