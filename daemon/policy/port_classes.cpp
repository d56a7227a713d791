// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/port_classes.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <memory>

namespace sluice::policy {

namespace {

using Members = std::vector<std::uint32_t>;  // groups, sorted

struct Run {  // ports first … last of one protocol have one class, 0 too
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  std::uint32_t port_class = 0;
};

constexpr std::uint32_t kPorts = 65536;

// The fewest longest-match prefixes that give every port its class (Draves et al., "Constructing optimal IP
// routing tables", 1999): upwards, what each half could inherit at no cost; downwards, a prefix where that is
// not inherited.
class PrefixTree {
 public:
  explicit PrefixTree(const std::vector<Run>& runs) : runs_(runs), root_(build(0, 0)) {}

  void emit(std::uint8_t protocol, std::vector<PortPrefix>& prefixes) const {
    emit(*root_, PortPrefix{protocol, 0, 0, 0}, prefixes);
  }

 private:
  struct Node {
    std::vector<std::uint32_t> candidates;  // sorted
    std::array<std::unique_ptr<Node>, 2> half;
  };

  [[nodiscard]] std::unique_ptr<Node> build(std::uint32_t first, unsigned bits) const {
    const std::uint32_t size = kPorts >> bits;
    const auto run = std::ranges::lower_bound(runs_, first, {}, &Run::last);
    auto node = std::make_unique<Node>();
    if (run->last >= first + size - 1) {
      node->candidates = {run->port_class};
      return node;
    }
    node->half = {build(first, bits + 1), build(first + size / 2, bits + 1)};
    const auto& [left, right] = node->half;
    std::ranges::set_intersection(left->candidates, right->candidates, std::back_inserter(node->candidates));
    if (node->candidates.empty())
      std::ranges::set_union(left->candidates, right->candidates, std::back_inserter(node->candidates));
    return node;
  }

  // `at.port_class` is what the node inherits.
  static void emit(const Node& node, PortPrefix at, std::vector<PortPrefix>& prefixes) {
    if (!std::ranges::binary_search(node.candidates, at.port_class)) {
      at.port_class = node.candidates.front();
      prefixes.push_back(at);
    }
    if (!node.half[0]) return;
    ++at.bits;
    emit(*node.half[0], at, prefixes);
    at.port = static_cast<std::uint16_t>(at.port | (kPorts >> at.bits));
    emit(*node.half[1], at, prefixes);
  }

  const std::vector<Run>& runs_;
  std::unique_ptr<Node> root_;
};

using Edges = std::map<std::uint32_t, std::vector<std::pair<std::uint32_t, int>>>;  // port -> group, ±1

// Cuts 0 … 65535 at every edge; `class_of` gives a set of groups its number.
template <typename ClassOf>
std::vector<Run> runs_between(const Edges& edges, ClassOf&& class_of) {
  std::vector<Run> runs;
  std::map<std::uint32_t, int> active;
  const auto add = [&](std::uint32_t first, std::uint32_t last) {
    Members members;
    for (const auto& [group, depth] : active) members.push_back(group);
    const std::uint32_t port_class = class_of(members);
    if (!runs.empty() && runs.back().port_class == port_class) {
      runs.back().last = last;
    } else {
      runs.push_back({first, last, port_class});
    }
  };
  std::uint32_t first = 0;
  for (const auto& [port, changes] : edges) {
    if (port > first) add(first, port - 1);
    first = port;
    for (const auto& [group, change] : changes) {
      if ((active[group] += change) == 0) active.erase(group);
    }
  }
  if (first < kPorts) add(first, kPorts - 1);
  return runs;
}

}  // namespace

std::uint64_t classification_cost(const std::vector<std::vector<PortSpan>>& groups) {
  std::map<std::uint32_t, std::int64_t> changes;  // by protocol and port
  for (const auto& group : groups) {
    for (const auto& span : group) {
      const std::uint32_t protocol = span.protocol * (kPorts + 1);
      ++changes[protocol + span.first];
      --changes[protocol + span.last + 1];
    }
  }
  std::uint64_t cost = 0;
  std::int64_t active = 0;
  for (const auto& [port, change] : changes) cost += static_cast<std::uint64_t>(active += change);
  return cost;
}

PortClasses classify_ports(const std::vector<std::vector<PortSpan>>& groups) {
  std::map<std::uint8_t, Edges> edges;  // by protocol
  for (std::uint32_t group = 0; group < groups.size(); ++group) {
    for (const auto& span : groups[group]) {
      edges[span.protocol][span.first].emplace_back(group, 1);
      edges[span.protocol][span.last + 1U].emplace_back(group, -1);
    }
  }

  PortClasses result;
  result.of_group.resize(groups.size());
  std::map<Members, std::uint32_t> classes{{Members(), 0}};
  // Numbered as they are met, by protocol and port: equal divisions of the ports get equal numbers.
  const auto class_of = [&](const Members& members) {
    const auto [it, added] = classes.try_emplace(members, result.count);
    if (added) {
      ++result.count;
      for (const std::uint32_t group : members) result.of_group[group].push_back(it->second);
    }
    return it->second;
  };
  for (const auto& [protocol, protocol_edges] : edges) {
    const auto runs = runs_between(protocol_edges, class_of);
    PrefixTree(runs).emit(protocol, result.prefixes);
    for (const auto& run : runs) {
      if (run.port_class == 0) continue;
      result.runs.push_back({protocol, static_cast<std::uint16_t>(run.first),
                             static_cast<std::uint16_t>(run.last), run.port_class});
    }
  }
  return result;
}

}  // namespace sluice::policy
