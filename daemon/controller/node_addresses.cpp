// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/node_addresses.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

namespace sluice::controller {

OtherNodes other_nodes(const std::map<std::string, model::Node>& nodes, const std::string& own,
                       const std::vector<Address>& addresses, const std::vector<Prefix>& service_ranges,
                       const std::vector<datapath::NodeConfig::Remote>& before) {
  std::map<Address, std::string> owners;  // of each address, the node that has it
  for (const auto& address : addresses) owners.emplace(address, own);
  for (const auto& remote : before) {
    const auto node = nodes.find(remote.name);
    if (node == nodes.end() || remote.name == own) continue;
    for (const auto& address : remote.addresses)
      if (std::ranges::find(node->second.addresses, address) != node->second.addresses.end())
        owners.emplace(address, remote.name);
  }
  for (const auto& [name, node] : nodes)
    for (const auto& address : node.addresses) owners.emplace(address, name);

  std::map<Prefix, std::string> ranges;  // podCIDRs, and whose they are
  std::set<unsigned> lengths;
  for (const auto& [name, node] : nodes)
    for (const auto& range : node.pod_cidrs) {
      ranges.emplace(range, name);
      lengths.insert(range.bits());
    }
  const auto why_not = [&](const std::string& name, const Address& address) -> std::optional<std::string> {
    for (const auto bits : lengths)
      if (const auto range = ranges.find(Prefix(address, bits)); range != ranges.end())
        return fmt::format("it is in the podCIDR {} of Node {}", range->first.to_string(), range->second);
    for (const auto& range : service_ranges)
      if (range.contains(address)) return "it is in the ServiceCIDR " + range.to_string();
    if (const auto& owner = owners.at(address); owner != name) return fmt::format("Node {} has it", owner);
    return std::nullopt;
  };
  OtherNodes others;
  for (const auto& [name, node] : nodes) {
    if (name == own || node.pod_cidrs.empty()) continue;
    datapath::NodeConfig::Remote remote{name, node.pod_cidrs, {}};
    for (const auto& address : node.addresses) {
      if (const auto why = why_not(name, address))
        others.refused.push_back(
            fmt::format("Node {}: its InternalIP {} is ignored: {}", name, address.to_string(), *why));
      else
        remote.addresses.push_back(address);
    }
    if (!remote.addresses.empty()) others.remotes.push_back(std::move(remote));
  }
  return others;
}

}  // namespace sluice::controller
