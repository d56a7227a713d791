// SPDX-License-Identifier: Apache-2.0
// Who may claim which address and port. One rule for cluster IPs, node ports, hostPorts, load balancer
// addresses and external IPs, since whoever gets a frontend gets its packets from every pod and process of
// the node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/address.h"
#include "common/local_ports.h"
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
  std::vector<Prefix> pod_ranges;      // podCIDRs of all nodes
  std::vector<Prefix> service_ranges;  // ServiceCIDRs, of which the API server alone gives addresses
  std::set<Address> other_nodes;       // addresses of the other nodes
  std::set<Frontend> api_servers;  // where the API server listens: endpoints of Service default/kubernetes
  std::vector<ReservedPorts> reserved;  // of this node
  bool external_ips = true;             // may a Service have external IPs?
  bool operator==(const Surroundings&) const = default;
};

struct NodeView;

// It is in a ServiceCIDR: nobody but a Service has it, and that as its cluster IP.
[[nodiscard]] bool is_service_address(const Surroundings& around, const Address& address);

// Why the claim is refused; none: it may be made.
[[nodiscard]] std::optional<std::string> refusal(Origin origin, const Frontend& frontend,
                                                 const NodeView& node);

// The ports that the node's own connections take.
[[nodiscard]] std::vector<ReservedPorts> ephemeral_ports(const LocalPorts& local);

// Where the daemon itself reaches the API server is nobody's. On loopback, where a proxy of the node leads
// there, that is the port on each of the node's addresses, since these are served on loopback, too. A host
// name says nothing.
void protect_api_server(const std::string& host, std::uint16_t port, std::set<Frontend>& api_servers,
                        std::vector<ReservedPorts>& reserved);

// Which Services, by "namespace/name", have an address as their cluster IP. It is theirs on every port: what
// they serve none on leads nowhere, and not to the author of another Service.
class ClusterIps {
 public:
  void change(const std::string& key, const std::vector<Address>& before, const std::vector<Address>& now);
  // None: it is nobody else's than `key`'s.
  [[nodiscard]] const std::string* another_owner(const Address& address, const std::string& key) const;

 private:
  std::map<Address, std::set<std::string>> owners_;
};

// Frontends that one Service, and the Services of one namespace, may have on a node; the hostPorts of one
// pod, and of the pods of one namespace. The kernel's table holds SLUICE_MAX_SERVICES, so that no tenant
// fills it for the others.
inline constexpr std::size_t kMostFrontendsOfService = 4096;
inline constexpr std::size_t kMostFrontendsOfPod = 1024;
inline constexpr std::size_t kMostFrontendsOfNamespace = 32768;
// Slots of backends that one Service may have: of a Service's ports each may need a table of its own.
inline constexpr std::size_t kMostSlotsOfService = SLUICE_MAX_SERVICE_SLOTS / 4;

}  // namespace sluice::service
