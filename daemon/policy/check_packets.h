// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemon/policy/cluster.h"
#include "daemon/policy/evaluator.h"

namespace sluice::policy {

inline constexpr std::size_t kCheckFlows = 64;

// At most `most` flows at which a wrong generation would show: for isolated endpoints, peers that a rule in
// force means or just misses (pods, both sides of a block's borders, addresses outside) at the borders of its
// ports. The cost does not grow with the number of pods. Another seed gives other flows and other
// endpoints; the same gives the same.
[[nodiscard]] std::vector<Flow> check_flows(const Cluster& cluster, std::uint64_t seed,
                                            std::size_t most = kCheckFlows);

}  // namespace sluice::policy
