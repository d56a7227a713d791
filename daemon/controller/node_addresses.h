// SPDX-License-Identifier: Apache-2.0
// Which of the addresses that Node objects tell are believed. A kubelet writes its own, so that one node must
// not be able to take over a pod's address, or another node's.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/netlink.h"
#include "daemon/datapath/datapath.h"
#include "daemon/model/objects.h"

namespace sluice::controller {

// By node, podCIDRs that it had and in which pods of it still have addresses.
using FormerRanges = std::map<std::string, std::set<Prefix>>;

struct OtherNodes {
  std::vector<datapath::NodeConfig::Remote> remotes;  // by name, without those that have no address left
  std::vector<std::string> refused;  // one sentence for each address or podCIDR that is not believed
};

// `own` is this node, whose `addresses` are those of its interfaces. `service_ranges` are the ServiceCIDRs.
// Of two nodes with one address or with podCIDRs that overlap the one has it that had it `before`, else the
// first by name; this node before all, and every podCIDR of now before the `former` ones. No node has the
// address of a pod: none of a podCIDR, of a former one, or of `former_pods`, which are this node's.
[[nodiscard]] OtherNodes other_nodes(const std::map<std::string, model::Node>& nodes, const std::string& own,
                                     const std::vector<Address>& addresses,
                                     const std::vector<Prefix>& service_ranges,
                                     const std::vector<datapath::NodeConfig::Remote>& before,
                                     const FormerRanges& former, const std::vector<Address>& former_pods);

// Whose the ranges are that a daemon before this one led to these ends of tunnels. A range is nobody's where
// not exactly one node names the end: a kubelet could name another node's.
[[nodiscard]] FormerRanges ranges_by_end(const std::vector<std::pair<Prefix, Address>>& ranges,
                                         const std::map<std::string, model::Node>& nodes,
                                         const std::string& own);

// Where pods have addresses: the podCIDRs of all nodes, former ones, and this node's pods of before.
[[nodiscard]] std::vector<Prefix> ranges_of_pods(const std::map<std::string, model::Node>& nodes,
                                                 const std::optional<datapath::NodeConfig>& config);

// Why the node cannot work with these interfaces to other nodes (or the one that was `named`), with the
// remedy; "": it can.
[[nodiscard]] std::string why_unusable(const std::vector<Prefix>& pod_cidrs,
                                       const std::vector<std::string>& underlay,
                                       const std::vector<Link>& links,
                                       const std::vector<LinkAddress>& addresses);

}  // namespace sluice::controller
