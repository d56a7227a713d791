// SPDX-License-Identifier: Apache-2.0
// Takes Sluice off every node of a cluster: what the chart's hook does before `helm uninstall`.
#pragma once

#include <chrono>
#include <string>

#include "common/result.h"
#include "daemon/source/kube/config.h"

namespace sluice::removal {

struct ClusterPlan {
  std::string ns;
  std::string daemons;   // the DaemonSet that runs sluiced
  std::string removers;  // the one whose pods run sluiced --remove, and are Ready when that is done
  std::chrono::milliseconds time_limit{std::chrono::minutes(4)};
  std::chrono::milliseconds pause{std::chrono::seconds(1)};  // between looks
};

// Deletes the daemons, then waits until each of the removers is Ready. An error that names the nodes that are
// left if they are not in time; Sluice is gone from the others then.
[[nodiscard]] Result<void> remove_from_cluster(const source::KubeConfig& config, const ClusterPlan& plan);

}  // namespace sluice::removal
