// SPDX-License-Identifier: Apache-2.0
// Who may claim which address and port. One rule for cluster IPs, node ports, hostPorts, load balancer
// addresses and external IPs, since whoever gets a frontend gets its packets from every pod and process of
// the node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/address.h"
#include "daemon/service/table.h"

namespace sluice::service {

// What an address is to the Service. Of two claims to a frontend the smaller origin has it: what the API
// server, kubelet and the load balancer's controller assign is not for the author of another Service to take
// by an external IP.
enum class Origin : std::uint8_t { kClusterIp, kNodePort, kHostPort, kLoadBalancerIp, kExternalIp };

// Ports of the node that belong to nobody but the node, on each of its addresses.
struct ReservedPorts {
  std::optional<model::Protocol> protocol;  // none: every protocol
  std::uint16_t first = 0, last = 0;
  std::string whose;  // "the VXLAN tunnel", for output
  // Of the node's own connections, whose answers the datapath tells apart: NodePorts and hostPorts may have
  // them.
  bool ephemeral = false;
  bool operator==(const ReservedPorts&) const = default;
};

// What there is besides the Services, and is not to be taken by one.
struct Surroundings {
  std::vector<Prefix> pod_ranges;  // podCIDRs of all nodes
  std::set<Address> other_nodes;   // addresses of the other nodes
  std::set<Frontend> api_servers;  // where the API server listens: endpoints of Service default/kubernetes
  std::vector<ReservedPorts> reserved;  // of this node
  bool external_ips = true;             // may a Service have external IPs?
  bool operator==(const Surroundings&) const = default;
};

struct NodeView;

// Why the claim is refused; none: it may be made.
[[nodiscard]] std::optional<std::string> refusal(Origin origin, const Frontend& frontend,
                                                 const NodeView& node);

// "32768\t60999" and "8080,9000-9010" (net.ipv4.ip_local_port_range and ip_local_reserved_ports) to the ports
// that the node's own connections take. A range that cannot be read is taken for Linux' default.
[[nodiscard]] std::vector<ReservedPorts> ephemeral_ports(std::string_view range, std::string_view reserved);

// Frontends that one Service, and the Services of one namespace, may have on a node. The kernel's table holds
// SLUICE_MAX_SERVICES, so that no tenant fills it for the others.
inline constexpr std::size_t kMostFrontendsOfService = 4096;
inline constexpr std::size_t kMostFrontendsOfNamespace = 32768;
// Slots of backends that one Service may have: of a Service's ports each may need a table of its own.
inline constexpr std::size_t kMostSlotsOfService = SLUICE_MAX_SERVICE_SLOTS / 4;

}  // namespace sluice::service
