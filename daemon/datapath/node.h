// SPDX-License-Identifier: Apache-2.0
// The node's place in the network, in `routes`, `config` and on the hooks that are not pods'.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "common/address.h"
#include "common/netlink.h"
#include "daemon/datapath/attach.h"
#include "daemon/datapath/datapath.h"
#include "daemon/datapath/devices.h"
#include "daemon/datapath/maps.h"
#include "daemon/datapath/settings.h"
#include "daemon/datapath/uplinks.h"

namespace sluice::datapath {

using RouteTable = std::map<Prefix, sluice_route>;

// What the router needs to know of this node and the others.
[[nodiscard]] RouteTable route_table(const NodeConfig& config, const Address& gateway);

class Node {
 public:
  Node(const Maps& maps, const Settings& settings, const Attacher& attacher, const Options& options,
       Uplinks::Masqueraded connections)
      : maps_(maps),
        settings_(settings),
        attacher_(attacher),
        options_(options),
        uplinks_(maps, std::move(connections)) {}

  [[nodiscard]] Result<void> configure(NetlinkSocket& netlink, const NodeConfig& config);
  // After a start: the interfaces configured before get this build's entry programs. A hook whose interface
  // is gone is left to configure().
  [[nodiscard]] Result<void> refresh_hooks() const;
  // Later on: the same for those that have lost theirs.
  [[nodiscard]] Result<void> restore_hooks() const;
  // podCIDRs of other nodes in `routes`, and the address that they lead to.
  [[nodiscard]] Result<std::vector<std::pair<Prefix, Address>>> remote_ranges() const;
  // Differences between the node's interfaces, addresses and routes and what configure() made, in words.
  [[nodiscard]] Result<void> audit_host(NetlinkSocket& netlink, const NodeConfig& config,
                                        std::vector<std::string>& differences) const;
  // Differences between the kernel's `routes`, `uplinks` and hooks and what was configured, in words.
  [[nodiscard]] Result<void> audit(std::vector<std::string>& differences) const;

 private:
  struct Hook {
    std::uint32_t ifindex;
    sluice_hook hook;
  };
  [[nodiscard]] Result<void> write_routes(const RouteTable& wanted) const;
  // The interfaces that are configured now.
  [[nodiscard]] Result<std::vector<Hook>> hooks() const;
  [[nodiscard]] Result<void> attach_hooks(const std::vector<Hook>& before,
                                          const std::vector<Hook>& wanted) const;

  const Maps& maps_;
  const Settings& settings_;
  const Attacher& attacher_;
  const Options& options_;
  Uplinks uplinks_;
  std::optional<RouteTable> configured_;
};

}  // namespace sluice::datapath
