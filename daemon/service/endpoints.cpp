// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/endpoints.h"

#include <algorithm>
#include <set>

namespace sluice::service {

namespace {

struct Candidate {
  Backend backend;
  const model::Endpoint* endpoint = nullptr;
};

bool has_any_port(const model::EndpointSlice& slice, const model::ServicePort& port) {
  return std::ranges::any_of(slice.ports, [&](const model::EndpointPort& offered) {
    return offered.name == port.name && offered.protocol == port.protocol;
  });
}

std::vector<Candidate> candidates_of(const model::ServicePort& port, Family family, const Slices& slices) {
  std::vector<Candidate> candidates;
  for (const auto& slice : slices) {
    if (!has_any_port(*slice, port)) continue;
    for (const auto& endpoint : slice->endpoints) {
      // The API gives addresses after the first no meaning.
      if (endpoint.addresses.empty() || family_of(endpoint.addresses.front()) != family) continue;
      for (const auto& offered : slice->ports) {
        if (offered.name != port.name || offered.protocol != port.protocol) continue;
        const std::uint16_t number = offered.port.value_or(0);
        if (number != 0) candidates.push_back({{endpoint.addresses.front(), number}, &endpoint});
      }
    }
  }
  return candidates;
}

template <typename Predicate>
std::vector<Backend> backends_if(const std::vector<Candidate>& candidates, const Predicate& predicate) {
  std::vector<Backend> backends;
  for (const auto& candidate : candidates) {
    if (predicate(*candidate.endpoint)) backends.push_back(candidate.backend);
  }
  return backends;
}

template <typename Predicate>
std::vector<Backend> ready_or_terminating(const std::vector<Candidate>& candidates, const Predicate& counts) {
  auto backends = backends_if(
      candidates, [&](const model::Endpoint& endpoint) { return endpoint.ready && counts(endpoint); });
  if (!backends.empty()) return backends;
  return backends_if(candidates, [&](const model::Endpoint& endpoint) {
    return endpoint.serving && endpoint.terminating && counts(endpoint);
  });
}

bool contains(const std::vector<std::string>& sorted, const std::string& name) {
  return !name.empty() && std::ranges::binary_search(sorted, name);
}

// Ready endpoints with hints for this node, or else for its zone. Hints count only if every ready endpoint
// has them: while a controller writes them, or after it stopped, those without would get no traffic at all.
std::vector<Backend> hinted(const std::vector<Candidate>& candidates, const NodeView& node) {
  using Hints = std::vector<std::string> model::Endpoint::*;
  const auto by = [&](Hints hints, const std::string& name) -> std::vector<Backend> {
    const auto lacks = [&](const Candidate& candidate) {
      return candidate.endpoint->ready && (candidate.endpoint->*hints).empty();
    };
    if (std::ranges::any_of(candidates, lacks)) return {};
    return backends_if(candidates, [&](const model::Endpoint& endpoint) {
      return endpoint.ready && contains(endpoint.*hints, name);
    });
  };
  auto backends = by(&model::Endpoint::hint_nodes, node.name);
  return backends.empty() ? by(&model::Endpoint::hint_zones, node.zone) : backends;
}

bool is_here(const model::Endpoint& endpoint, const NodeView& node) {
  return !node.name.empty() && endpoint.node_name == node.name;
}

}  // namespace

Usable usable_endpoints(const model::ServicePort& port, Family family, const Slices& slices,
                        const NodeView& node) {
  const auto candidates = candidates_of(port, family, slices);
  Usable usable;
  usable.cluster = hinted(candidates, node);
  if (usable.cluster.empty())
    usable.cluster = ready_or_terminating(candidates, [](const model::Endpoint&) { return true; });
  usable.local = ready_or_terminating(
      candidates, [&](const model::Endpoint& endpoint) { return is_here(endpoint, node); });
  if (port.protocol == model::Protocol::kUdp) {
    usable.serving =
        backends_if(candidates, [](const model::Endpoint& endpoint) { return endpoint.serving; });
    std::ranges::sort(usable.serving);
    const auto repeated = std::ranges::unique(usable.serving);
    usable.serving.erase(repeated.begin(), repeated.end());
  }
  return usable;
}

unsigned ready_endpoints_here(const Slices& slices, const NodeView& node) {
  std::set<Address> addresses;
  for (const auto& slice : slices)
    for (const auto& endpoint : slice->endpoints)
      if (endpoint.ready && is_here(endpoint, node) && !endpoint.addresses.empty())
        addresses.insert(endpoint.addresses.front());
  return static_cast<unsigned>(addresses.size());
}

}  // namespace sluice::service
