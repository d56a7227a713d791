// SPDX-License-Identifier: Apache-2.0
// By which interfaces packets leave the node, and under which addresses: from what the kernel has, without
// asking it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/netlink.h"
#include "daemon/datapath/datapath.h"

namespace sluice::controller {

// What the kernel has.
struct Surface {
  std::vector<Link> links;
  std::vector<LinkAddress> addresses;
  std::vector<Route> routes;  // of the main table
};

struct FoundUplinks {
  std::vector<datapath::NodeConfig::Uplink> all;  // by name
  std::vector<std::string>
      underlay;      // those by which packets to other nodes leave; empty: the node is cut off
  unsigned mtu = 0;  // the smallest of the underlay's; 0: there is none
};

// An uplink is every interface that has an address outside of loopback, or that routes by a gateway lead out
// by; but not Sluice's own, nor what no packet comes in by (dummy). What leaves by it masqueraded has, of
// these the first:
// 1. the InternalIP, if it is the interface's;
// 2. the source that its route by a gateway names (ip-route(8), `src`), if the node has that address;
// 3. the InternalIP, if it is no uplink's: where it is lo's, say, and a route by a gateway leads out by the
// interface,
//    since then routers know the way to it; and if the interface was named (--uplink);
// 4. the interface's own address: of several the one in the gateway's subnet; else the InternalIP.
// The underlay is `named` (--uplink), else the uplink that has the InternalIP, else those of case 3.
// No uplink at all: the node has no InternalIP, or no interface has it and none was named.
[[nodiscard]] FoundUplinks find_uplinks(const std::optional<Address>& internal_ip, const std::string& named,
                                        const Surface& surface);

}  // namespace sluice::controller
