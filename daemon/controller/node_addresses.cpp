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

bool has_range(const model::Node& node, const Prefix& range) {
  return std::ranges::find(node.pod_cidrs, range) != node.pod_cidrs.end();
}

// In which range of pods an address is.
class PodRanges {
 public:
  PodRanges(const std::map<std::string, model::Node>& nodes, const FormerRanges& former) {
    for (const auto& [name, node] : nodes)
      for (const auto& range : node.pod_cidrs) add(range, "podCIDR", name);
    for (const auto& [name, ranges] : former)
      for (const auto& range : ranges) add(range, "former podCIDR", name);
  }
  [[nodiscard]] std::optional<std::string> told(const Address& address) const {
    for (const auto bits : lengths_)
      if (const auto found = ranges_.find(Prefix(address, bits)); found != ranges_.end())
        return fmt::format("it is in the {} {} of Node {}", found->second.first, found->first.to_string(),
                           found->second.second);
    return std::nullopt;
  }

 private:
  void add(const Prefix& range, const char* what, const std::string& node) {
    ranges_.emplace(range, std::pair(what, node));
    lengths_.insert(range.bits());
  }

  std::map<Prefix, std::pair<const char*, std::string>> ranges_;
  std::set<unsigned> lengths_;
};

// Once all have what they have now.
void add_former(datapath::NodeConfig::Remote& remote, const std::set<Prefix>& had, const model::Node& node,
                const std::vector<Prefix>& service_ranges, GivenRanges& given) {
  for (const auto& range : had) {
    const auto of_services = [&](const Prefix& each) { return GivenRanges::overlap(each, range); };
    if (!has_range(node, range) && std::ranges::none_of(service_ranges, of_services) &&
        !given.give(range, remote.name))
      remote.pod_cidrs.push_back(range);
  }
}

}  // namespace

OtherNodes other_nodes(const std::map<std::string, model::Node>& nodes, const std::string& own,
                       const std::vector<Address>& addresses, const std::vector<Prefix>& service_ranges,
                       const std::vector<datapath::NodeConfig::Remote>& before, const FormerRanges& former,
                       const std::vector<Address>& former_pods) {
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

  const PodRanges ranges(nodes, former);
  const auto why_not = [&](const std::string& name, const Address& address) -> std::optional<std::string> {
    if (auto told = ranges.told(address)) return told;
    if (std::ranges::find(former_pods, address) != former_pods.end()) return "a pod of this node has it";
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
        if (has_range(node->second, range) && !given.give(range, remote.name))
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

FormerRanges ranges_by_end(const std::vector<std::pair<Prefix, Address>>& ranges,
                           const std::map<std::string, model::Node>& nodes, const std::string& own) {
  std::map<Address, std::set<std::string>> named_by;
  for (const auto& [name, node] : nodes)
    for (const auto& address : node.addresses) named_by[address].insert(name);
  FormerRanges found;
  for (const auto& [range, end] : ranges)
    if (const auto named = named_by.find(end);
        named != named_by.end() && named->second.size() == 1 && *named->second.begin() != own)
      found[*named->second.begin()].insert(range);
  return found;
}

std::vector<Prefix> ranges_of_pods(const std::map<std::string, model::Node>& nodes,
                                   const std::optional<datapath::NodeConfig>& config) {
  std::vector<Prefix> ranges;
  for (const auto& [name, node] : nodes)
    ranges.insert(ranges.end(), node.pod_cidrs.begin(), node.pod_cidrs.end());
  if (!config) return ranges;
  for (const auto& address : config->former_pods) ranges.push_back(Prefix::host(address));
  for (const auto& remote : config->remotes) {
    const auto node = nodes.find(remote.name);
    for (const auto& range : remote.pod_cidrs)
      if (node == nodes.end() || !has_range(node->second, range)) ranges.push_back(range);
  }
  return ranges;
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
