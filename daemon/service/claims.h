// SPDX-License-Identifier: Apache-2.0
// Internal to the stage: the frontends that one Service asks for, whoever else asks for them too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/host_port.h"
#include "daemon/service/endpoints.h"
#include "daemon/service/pools.h"

namespace sluice::service {

// What an address is to the Service. Of two claims to a frontend the smaller origin has it: what the API
// server and the load balancer's controller assign is not for the author of another Service to take by an
// external IP.
enum class Origin : std::uint8_t { kClusterIp, kLoadBalancerIp, kExternalIp, kNodePort, kHostPort };

struct Claim {
  Frontend frontend;
  Origin origin = Origin::kClusterIp;
  std::shared_ptr<const Target> target;
};

// A pod's ports on the node.
struct HostPorts {
  std::string pod;  // "shop/web-0", for output
  Address address;
  std::vector<HostPort> ports;
  bool operator==(const HostPorts&) const = default;
};

// By frontend, each once.
[[nodiscard]] std::vector<Claim> claims_of(const model::Service& service, const Slices& slices,
                                           const NodeView& node, Pools& pools);
[[nodiscard]] std::vector<Claim> claims_of(const HostPorts& host_ports, const NodeView& node, Pools& pools);

// None: the Service has no healthCheckNodePort that counts (externalTrafficPolicy Local only).
[[nodiscard]] std::optional<HealthCheck> health_check_of(const model::Service& service, const Slices& slices,
                                                         const NodeView& node);

}  // namespace sluice::service
