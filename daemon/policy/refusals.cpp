// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/refusals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <utility>

namespace sluice::policy {

// Why the policy is refused by itself, whatever else there is; empty: it is not.
std::string Refusals::asks_too_much(const Demand& demand) const {
  struct Part {
    std::uint64_t asked, most;
    const char* what;
  };
  const std::array parts{
      Part{demand.peer_ports, limits_.peer_ports, "ports, each as often as there are peers for it"},
      Part{demand.named_ports, limits_.named_ports, "named ports, each as often as there are peers for it"},
      Part{demand.prefixes, limits_.prefixes, "CIDRs and exceptions"},
      Part{demand.memberships, limits_.memberships,
           "CIDRs and exceptions, each as often as lists of blocks hold it"}};
  for (const auto& part : parts)
    if (part.asked > part.most)
      return fmt::format("it has more than {} {}", part.most, part.what);
  return "";
}

void Refusals::forget() {
  without_room_.clear();
  next_count_.clear();
}

void Refusals::mark(const std::vector<CompiledPolicy*>& in_force) {
  in_force_ = in_force;
  reasons_.clear();
  for (auto* policy : in_force_) {
    policy->refused = false;
    if (auto why = asks_too_much(policy->demand); !why.empty()) {
      refuse(*policy, std::move(why));
    } else if (const auto found = without_room_.find(policy->serial); found != without_room_.end()) {
      refuse(*policy, found->second);
    }
  }
}

bool Refusals::exceeds(const Usage& usage, std::uint64_t most, const std::string& what) {
  if (usage.total <= most) return false;
  const auto greatest =
      std::ranges::max_element(usage.by_namespace, {}, [](const auto& each) { return each.second; });
  const std::string ns(greatest->first);
  std::size_t& count = next_count_.try_emplace(ns + " " + what, 1).first->second;
  std::size_t left = count;
  for (auto* policy : std::views::reverse(in_force_)) {
    if (left == 0) break;
    if (policy->source->ns != ns || policy->refused) continue;
    const auto why =
        fmt::format("this node has room for {} {}, and the policies ask for more; namespace {} asks for most",
                    most, what, ns);
    without_room_.emplace(policy->serial, why);
    --left;
  }
  count *= 2;
  return true;
}

void Refusals::refuse(CompiledPolicy& policy, std::string why) {
  policy.refused = true;
  reasons_.emplace(policy.source->ns + "/" + policy.source->name, std::move(why));
}

}  // namespace sluice::policy
