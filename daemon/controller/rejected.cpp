// SPDX-License-Identifier: Apache-2.0
// What objects ask for and do not get, beside what the source could not read: counted for /metrics.
#include <spdlog/spdlog.h>

#include "daemon/controller/controller.h"

namespace sluice::controller {

void Controller::watch_rejected() {
  if (state_.synced())
    for (const auto& news : missing_namespaces_.look(state_.cluster())) spdlog::warn("{}", news);
  const auto policies = missing_namespaces_.told().size();
  std::optional<std::size_t> claims;
  // Counting them takes a look at every frontend.
  if (const auto revision = service_compiler_.revision(); revision != claims_counted_) {
    claims = service_compiler_.rejected().size();
    claims_counted_ = revision;
  }
  const std::lock_guard lock(mutex_);
  policies_without_namespace_ = policies;
  if (claims) claims_rejected_ = *claims;
}

}  // namespace sluice::controller
