// SPDX-License-Identifier: Apache-2.0
// Internal to the stage: which endpoints of a Service's port may be used from this node.
// Source: KEP-1669 (terminating endpoints), KEP-2433 and KEP-3015 (hints), KEP-2086 (internalTrafficPolicy).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/service/ownership.h"
#include "daemon/service/table.h"

namespace sluice::service {

using Slices = std::vector<std::shared_ptr<const model::EndpointSlice>>;

// The node that the table is for.
struct NodeView {
  std::string name;
  std::string zone;                // label topology.kubernetes.io/zone; empty: not known
  std::vector<Address> addresses;  // where node ports are served
  Surroundings around = {};        // what no Service may take
  bool operator==(const NodeView&) const = default;
};

struct Usable {
  std::vector<Backend> cluster;  // traffic policy Cluster; empty only if nobody is usable anywhere
  std::vector<Backend> local;    // traffic policy Local
  // UDP: all that serve, wherever they are and whether or not they get new connections. Sorted, distinct.
  std::vector<Backend> serving;
};

enum class Family : std::uint8_t { kIpv4, kIpv6 };
[[nodiscard]] inline Family family_of(const Address& address) {
  return address.is_v4() ? Family::kIpv4 : Family::kIpv6;
}

// Ready endpoints, and if there are none, those that serve while they terminate; decided for each policy by
// itself.
[[nodiscard]] Usable usable_endpoints(const model::ServicePort& port, Family family, const Slices& slices,
                                      const NodeView& node);

// How many of this node are ready, by address, whatever their ports.
[[nodiscard]] unsigned ready_endpoints_here(const Slices& slices, const NodeView& node);

}  // namespace sluice::service
