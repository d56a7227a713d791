// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

namespace sluice::policy {

// Sorts what mostly is in order, or is made of a few parts that are: lists of blocks as people and programs
// write them. Costs little more than a look at it then, and what std::sort does otherwise.
template <typename Item, typename Projection = std::identity>
void sort_runs(std::vector<Item>& items, Projection projection = {}) {
  constexpr std::size_t kMostRuns = 64;
  std::vector<std::size_t> ends;  // of runs that are in order
  for (std::size_t begin = 0; begin < items.size() && ends.size() <= kMostRuns;) {
    const auto first = items.begin() + static_cast<std::ptrdiff_t>(begin);
    begin = static_cast<std::size_t>(std::ranges::is_sorted_until(first, items.end(), {}, projection) -
                                     items.begin());
    ends.push_back(begin);
  }
  if (ends.size() > kMostRuns) {
    std::ranges::sort(items, {}, projection);
    return;
  }
  const auto at = [&](std::size_t index) { return items.begin() + static_cast<std::ptrdiff_t>(index); };
  while (ends.size() > 1) {
    std::vector<std::size_t> merged;
    for (std::size_t i = 0; i < ends.size(); i += 2) {
      const std::size_t begin = i == 0 ? 0 : ends[i - 1];
      const std::size_t last = std::min(i + 1, ends.size() - 1);
      std::ranges::inplace_merge(at(begin), at(ends[i]), at(ends[last]), {}, projection);
      merged.push_back(ends[last]);
    }
    ends = std::move(merged);
  }
}

}  // namespace sluice::policy
