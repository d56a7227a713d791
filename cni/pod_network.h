// SPDX-License-Identifier: Apache-2.0
// The two ends of a pod's link: the host's, by name, and the pod's, as the daemon wants it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cni/environment.h"
#include "cni/failure.h"
#include "common/address.h"
#include "common/netlink.h"

namespace sluice::cni {

struct PodNetwork {  // the daemon's answer to add and check
  Address address;
  unsigned length = 0;  // of its prefix, as written
  Address gateway;
  Mac mac;
  unsigned mtu = 0;
  std::string host_ifname;
  Mac host_mac;

  [[nodiscard]] std::string cidr() const;
};

[[nodiscard]] Outcome<PodNetwork> parse_pod_network(const nlohmann::json& answer);

// Both with a socket of the pod's namespace. The interface comes up when it has all but its route, which
// needs that. `egress`: limit of what the pod sends. Whether the pod's default route is by this interface: one that it
// has by another attachment stays.
[[nodiscard]] Result<bool> configure(NetlinkSocket& pod, const std::string& ifname, const PodNetwork& network,
                                     const std::optional<RateLimit>& egress);
// The first difference is the error. `with_route`: whether the default route is expected.
[[nodiscard]] Result<void> verify(NetlinkSocket& pod, const std::string& ifname, const PodNetwork& network,
                                  bool with_route);

// No error if there is none.
[[nodiscard]] Result<void> delete_if_there(NetlinkSocket& host, const std::string& ifname);

}  // namespace sluice::cni
