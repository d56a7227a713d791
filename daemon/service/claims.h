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
#include "daemon/service/ownership.h"
#include "daemon/service/pools.h"

namespace sluice::service {

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

struct Claims {
  std::vector<Claim> list;           // by frontend, each once
  std::vector<std::string> refused;  // what may not be claimed, one sentence for each address and reason
};
[[nodiscard]] Claims claims_of(const model::Service& service, const Slices& slices, const NodeView& node,
                               const ClusterIps& cluster_ips, Pools& pools);
[[nodiscard]] Claims claims_of(const HostPorts& host_ports, const NodeView& node, Pools& pools);

// How many frontends the Service asks for, in no more time than it takes to count its fields.
[[nodiscard]] std::size_t frontends_of(const model::Service& service, const NodeView& node);
[[nodiscard]] std::size_t frontends_of(const HostPorts& host_ports, const NodeView& node);
// Why the Service is too large to be served at all; none: it is not.
[[nodiscard]] std::optional<std::string> too_large(const model::Service& service, const Slices& slices,
                                                   const NodeView& node);

// None: the Service has no healthCheckNodePort that counts (externalTrafficPolicy Local only).
[[nodiscard]] std::optional<HealthCheck> health_check_of(const model::Service& service, const Slices& slices,
                                                         const NodeView& node);

}  // namespace sluice::service
