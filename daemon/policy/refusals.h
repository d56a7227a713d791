// SPDX-License-Identifier: Apache-2.0
// Which policies are refused because the rules would take too much. A policy that is refused isolates the
// pods that it selects and admits nobody; all others are in force, whoever's they are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "daemon/policy/cluster.h"
#include "daemon/policy/compiled_policy.h"
#include "daemon/policy/limits.h"

namespace sluice::policy {

// How much of one thing the rules take, and by which namespace.
struct Usage {
  std::map<std::string_view, std::uint64_t> by_namespace;
  std::uint64_t total = 0;  // what namespaces share counts once

  void add(std::string_view ns, std::uint64_t count) {
    by_namespace[ns] += count;
    total += count;
  }
};

class Refusals {
 public:
  explicit Refusals(const Limits& limits) : limits_(limits) {}

  // Policies changed: what had no room before may have some now.
  void forget();
  // Marks those of the policies (sorted by name) that are refused.
  void mark(const std::vector<CompiledPolicy*>& in_force);
  // True: `usage` is above `most`, so more policies are to be refused: the last by name of the namespace that
  // uses most, each time for one reason twice as many. They are as soon as mark() is called again.
  [[nodiscard]] bool exceeds(const Usage& usage, std::uint64_t most, const std::string& what);

  [[nodiscard]] const RefusedPolicies& reasons() const { return reasons_; }

 private:
  [[nodiscard]] std::string asks_too_much(const Demand& demand) const;
  void refuse(CompiledPolicy& policy, std::string why);

  Limits limits_;
  std::vector<CompiledPolicy*> in_force_;
  std::map<std::uint32_t, std::string> without_room_;  // by serial
  std::map<std::string, std::size_t> next_count_;      // how many to refuse at once, by namespace and reason
  RefusedPolicies reasons_;
};

}  // namespace sluice::policy
