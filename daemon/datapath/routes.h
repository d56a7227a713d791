// SPDX-License-Identifier: Apache-2.0
// Lists of the kernel's routes, compared in the time that sorting takes: there are as many as nodes or Services.
#pragma once

#include <algorithm>
#include <iterator>
#include <tuple>
#include <vector>

#include "common/netlink.h"

namespace sluice::datapath {

inline bool route_before(const Route& a, const Route& b) {
  const auto parts = [](const Route& route) {
    return std::tie(route.table, route.destination, route.link_index, route.source, route.gateway,
                    route.unreachable, route.protocol);
  };
  return parts(a) < parts(b);
}

// Those of `from` that are not among `these`; both are sorted by route_before().
inline std::vector<Route> without(const std::vector<Route>& from, const std::vector<Route>& these) {
  std::vector<Route> left;
  std::ranges::set_difference(from, these, std::back_inserter(left), route_before);
  return left;
}

}  // namespace sluice::datapath
