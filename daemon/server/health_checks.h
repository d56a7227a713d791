// SPDX-License-Identifier: Apache-2.0
// Answers the load balancers that ask, at a Service's healthCheckNodePort, whether this node has endpoints of
// it. Source: Kubernetes, Service API, spec.healthCheckNodePort (externalTrafficPolicy Local); the answer is
// as kube-proxy's: 200 if there are some, 503 if not, for any path.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/service/table.h"

namespace sluice::server {

class HealthChecks {
 public:
  HealthChecks();
  HealthChecks(const HealthChecks&) = delete;
  HealthChecks& operator=(const HealthChecks&) = delete;
  ~HealthChecks();  // no port answers any more

  // By TCP port, of every address of the node. All others are closed. What could not be opened is told, and
  // tried again by the next call.
  [[nodiscard]] std::vector<std::string> set(const service::HealthChecks& checks);
  // Whether the datapath has what the Services say; else every answer is 503.
  void set_healthy(bool healthy);

 private:
  class Running;
  bool healthy_ = true;
  std::unique_ptr<Running> running_;  // none while there are no checks
};

}  // namespace sluice::server
