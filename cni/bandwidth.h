// SPDX-License-Identifier: Apache-2.0
// Limits of what a pod receives and sends: the capability `bandwidth` of the CNI conventions, which the
// runtime fills in from the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cni/failure.h"
#include "common/netlink.h"

namespace sluice::cni {

struct Bandwidth {
  std::optional<RateLimit> ingress;  // what the pod receives
  std::optional<RateLimit> egress;   // what it sends
};

// Of the network configuration, which may have none.
[[nodiscard]] Outcome<Bandwidth> read_bandwidth(const nlohmann::json& document);
// A burst that is smaller than a packet lets none through.
[[nodiscard]] Outcome<void> check_bursts(const Bandwidth& bandwidth, unsigned mtu);
// The error says what `link` has instead. No limit: nothing is expected.
[[nodiscard]] Result<void> verify_limit(NetlinkSocket& socket, const std::string& link,
                                        const std::optional<RateLimit>& limit);

}  // namespace sluice::cni
