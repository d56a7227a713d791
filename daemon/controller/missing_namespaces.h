// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies of Namespaces that do not exist. The API server lets nobody make such a policy, but a YAML
// folder may have one, by a slip in its namespace: its author believes pods to be isolated that are not. It
// is kept as it is, and told until the Namespace appears.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/policy/cluster.h"

namespace sluice::controller {

class MissingNamespaces {
 public:
  // Once for each look at the cluster. A policy may be known an instant before its Namespace, so it counts
  // from the second look on. What is to be told now for the first time.
  [[nodiscard]] std::vector<std::string> look(const policy::Cluster& cluster);
  // All that there are.
  [[nodiscard]] std::vector<std::string> told() const;

 private:
  std::set<std::string> seen_, told_;  // "namespace/name"
};

}  // namespace sluice::controller
