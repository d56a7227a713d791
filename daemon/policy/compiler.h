// SPDX-License-Identifier: Apache-2.0
// NetworkPolicies to rulesets: peer classes, tables, port classes (ARCHITECTURE.md, "The way of a policy").
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/policy/cluster.h"
#include "daemon/policy/limits.h"
#include "daemon/policy/ruleset.h"

namespace sluice::policy {

// No I/O and no clock. Keeps the numbers given out, so one compiler lives as long as the daemon.
class Compiler {
 public:
  // Numbers given out start above these: what a daemon before this one may have left in the maps.
  struct FirstNumbers {
    std::uint32_t table = 1;
    std::uint32_t port_table = 1;
    std::uint32_t peer_class = 1;
  };
  Compiler();
  explicit Compiler(const FirstNumbers& first, const Limits& limits = {});
  ~Compiler();

  // `changes` are all since the call before, and what they name is what this costs. Pods and policies are
  // compared by address: one that changed is another object. A cluster in which nothing changed that rules
  // depend on gives the very ruleset of the call before.
  [[nodiscard]] std::shared_ptr<const Ruleset> compile(const Cluster& cluster, const Changes& changes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::policy
