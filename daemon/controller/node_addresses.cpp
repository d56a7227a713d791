// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/node_addresses.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

namespace sluice::controller {

namespace {

// podCIDRs that were given away: those of this node first, of the others those that they had before, then by
// name.
class GivenRanges {
 public:
  // Whose range the prefix overlaps; none: it is the node's from now on.
  std::optional<std::pair<Prefix, std::string>> give(const Prefix& range, const std::string& node) {
    const auto next = ranges_.lower_bound(range.address());
    if (next != ranges_.end() && overlap(next->second.first, range)) return next->second;
    if (next != ranges_.begin())
      if (const auto& last = std::prev(next)->second; overlap(last.first, range)) return last;
    ranges_.emplace(range.address(), std::pair(range, node));
    return std::nullopt;
  }
  static bool overlap(const Prefix& a, const Prefix& b) { return a.contains(b) || b.contains(a); }

 private:
  std::map<Address, std::pair<Prefix, std::string>> ranges_;  // none overlaps another
};

// Once all have what they have now.
void add_former(datapath::NodeConfig::Remote& remote, const std::set<Prefix>& had, const model::Node& node,
                const std::vector<Prefix>& service_ranges, GivenRanges& given) {
  for (const auto& range : had) {
    const auto of_services = [&](const Prefix& each) { return GivenRanges::overlap(each, range); };
    if (std::ranges::find(node.pod_cidrs, range) == node.pod_cidrs.end() &&
        std::ranges::none_of(service_ranges, of_services) && !given.give(range, remote.name))
      remote.pod_cidrs.push_back(range);
  }
}

}  // namespace

OtherNodes other_nodes(const std::map<std::string, model::Node>& nodes, const std::string& own,
                       const std::vector<Address>& addresses, const std::vector<Prefix>& service_ranges,
                       const std::vector<datapath::NodeConfig::Remote>& before, const FormerRanges& former) {
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
  GivenRanges given;
  if (const auto here = nodes.find(own); here != nodes.end())
    for (const auto& range : here->second.pod_cidrs) given.give(range, own);
  std::set<std::pair<std::string, Prefix>> kept;
  for (const auto& remote : before)
    if (const auto node = nodes.find(remote.name); node != nodes.end() && remote.name != own)
      for (const auto& range : remote.pod_cidrs)
        if (std::ranges::find(node->second.pod_cidrs, range) != node->second.pod_cidrs.end() &&
            !given.give(range, remote.name))
          kept.emplace(remote.name, range);
  OtherNodes others;
  for (const auto& [name, node] : nodes) {
    if (name == own || (node.pod_cidrs.empty() && !former.contains(name))) continue;
    datapath::NodeConfig::Remote remote{name, {}, {}};
    for (const auto& range : node.pod_cidrs) {
      const auto owner = kept.contains({name, range}) ? std::nullopt : given.give(range, name);
      if (owner)
        others.refused.push_back(fmt::format("Node {}: its podCIDR {} is ignored: it overlaps {} of Node {}",
                                             name, range.to_string(), owner->first.to_string(),
                                             owner->second));
      else
        remote.pod_cidrs.push_back(range);
    }
    for (const auto& address : node.addresses) {
      if (const auto why = why_not(name, address))
        others.refused.push_back(
            fmt::format("Node {}: its InternalIP {} is ignored: {}", name, address.to_string(), *why));
      else
        remote.addresses.push_back(address);
    }
    if (!remote.addresses.empty()) others.remotes.push_back(std::move(remote));
  }
  for (auto& remote : others.remotes)
    if (const auto had = former.find(remote.name); had != former.end())
      add_former(remote, had->second, nodes.at(remote.name), service_ranges, given);
  return others;
}

std::string why_unusable(const std::vector<Prefix>& pod_cidrs, const std::vector<std::string>& underlay,
                         const std::vector<Link>& links, const std::vector<LinkAddress>& addresses) {
  for (const auto& name : underlay) {
    const auto uplink = std::ranges::find(links, name, &Link::name);
    if (uplink == links.end()) continue;
    if (!uplink->ethernet && !uplink->bare)
      return fmt::format(
          "uplink {} has other headers than Ethernet's (an InfiniBand or GRE interface, say), which Sluice "
          "does not read: give the node an InternalIP of another interface, or name one (--uplink, chart "
          "value `uplink`)",
          name);
    for (const auto& each : addresses) {
      if (each.index != uplink->index || !each.address.is_v4() || each.length == 0) continue;
      const Prefix subnet(each.address, SLUICE_V4_PREFIX_BITS + each.length);
      for (const auto& range : pod_cidrs)
        if (range.contains(subnet) || subnet.contains(range))
          return fmt::format(
              "podCIDR {} overlaps {}, the subnet of uplink {}: the node would lose its way to it; give the "
              "cluster other podCIDRs (kube-controller-manager: --cluster-cidr)",
              range.to_string(), subnet.to_string(), name);
    }
  }
  return "";
}

}  // namespace sluice::controller
