// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "daemon/datapath/datapath.h"
#include "daemon/policy/cluster.h"
#include "daemon/policy/evaluator.h"

namespace sluice::controller {

// What a candidate generation is asked before it goes live, with the evaluator's answers.
[[nodiscard]] datapath::CheckPackets check_packets(const policy::Cluster& cluster,
                                                   const policy::PodAt& pod_at,
                                                   const policy::RefusedPolicies& refused,
                                                   std::uint64_t seed);

}  // namespace sluice::controller
