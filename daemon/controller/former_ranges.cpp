// SPDX-License-Identifier: Apache-2.0
// podCIDRs that nodes had before, this one and the others: Node objects are made anew with other ones while
// pods run. Pods keep their network until the last one of the range is gone.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/controller/controller.h"

namespace sluice::controller {

namespace {

const Prefix* range_of(const std::vector<Prefix>& cidrs, const Address& address) {
  const auto found = std::ranges::find_if(cidrs, [&](const Prefix& cidr) { return cidr.contains(address); });
  return found == cidrs.end() ? nullptr : &*found;
}

void sort_distinct(std::vector<Address>& addresses) {
  std::ranges::sort(addresses);
  const auto rest = std::ranges::unique(addresses);
  addresses.erase(rest.begin(), rest.end());
}

}  // namespace

void Controller::find_former_pods(datapath::NodeConfig& config) const {
  for (const auto& [key, attachment] : ipam_.attachments()) {
    if (range_of(config.pod_cidrs, attachment.ipv4) != nullptr) continue;
    config.former_pods.push_back(attachment.ipv4);
    if (!attachment.pod_cidr) continue;
    const auto gateway = datapath::gateway_in(*attachment.pod_cidr);
    if (range_of(config.pod_cidrs, gateway) == nullptr) config.former_gateways.push_back(gateway);
  }
  sort_distinct(config.former_pods);
  sort_distinct(config.former_gateways);
}

// Into records that do not tell them: of a daemon before this one, or lost and written again.
void Controller::record_pod_cidrs(const std::vector<Prefix>& cidrs) {
  std::vector<ipam::Attachment> changed;
  for (const auto& [key, attachment] : ipam_.attachments())
    if (!attachment.pod_cidr && range_of(cidrs, attachment.ipv4) != nullptr) changed.push_back(attachment);
  for (auto& attachment : changed) {
    attachment.pod_cidr = *range_of(cidrs, attachment.ipv4);
    if (auto done = ipam_.update(attachment); !done)
      spdlog::warn("the podCIDR of {} is not recorded: {}", attachment.ipv4.to_string(),
                   done.error().message);
  }
}

// Of the other nodes' ranges, those that the node has no more and no pod of it has an address in.
void Controller::forget_ranges() {
  if (!ranges_of_nodes_) {
    ranges_of_nodes_.emplace();
    const auto before = datapath_->remote_ranges();
    if (!before) return spdlog::error("{}", before.error().message);
    ranges_of_nodes_ = ranges_by_end(*before, state_.nodes(), options_.node_name);
  }
  if (!state_.synced()) return;  // pods may only not be known yet
  for (auto& [name, ranges] : *ranges_of_nodes_) {
    const auto node = state_.nodes().find(name);
    std::erase_if(ranges, [&](const Prefix& range) {
      const bool has = node != state_.nodes().end() &&
                       std::ranges::find(node->second.pod_cidrs, range) != node->second.pod_cidrs.end();
      return !has && !state_.has_pods_in(range, name);
    });
  }
  std::erase_if(*ranges_of_nodes_, [](const auto& entry) { return entry.second.empty(); });
}

}  // namespace sluice::controller
