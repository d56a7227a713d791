// SPDX-License-Identifier: Apache-2.0
#include "daemon/datapath/ranges.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace sluice::datapath {
namespace {

TEST(Ranges, GivesWhatIsFreeAndNothingElse) {
  constexpr std::uint32_t kFirst = 1, kEnd = 200;
  std::mt19937 random(1);
  Ranges ranges(kFirst, kEnd);
  std::set<std::uint32_t> taken;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> held;
  const auto longest_gap = [&] {
    std::uint32_t longest = 0, now = 0;
    for (auto number = kFirst; number < kEnd; ++number) {
      now = taken.contains(number) ? 0 : now + 1;
      longest = std::max(longest, now);
    }
    return longest;
  };
  for (int step = 0; step < 20'000; ++step) {
    const auto what = random() % 3;
    if (what == 0 && !held.empty()) {
      const auto at = random() % held.size();
      const auto [first, count] = held[at];
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
      for (auto number = first; number < first + count; ++number) taken.erase(number);
      ranges.release(first, count);
    } else if (what == 1) {
      const auto number = static_cast<std::uint32_t>(random() % (kEnd + 5));
      const bool free = number >= kFirst && number < kEnd && !taken.contains(number);
      ASSERT_EQ(ranges.reserve(number), free) << number;
      if (free) taken.insert(number), held.emplace_back(number, 1);
    } else {
      const auto count = static_cast<std::uint32_t>(1 + random() % 12);
      const auto first = ranges.allocate(count);
      ASSERT_EQ(first.has_value(), count <= longest_gap()) << count;
      if (!first) continue;
      ASSERT_GE(*first, kFirst);
      ASSERT_LE(*first + count, kEnd);
      for (auto number = *first; number < *first + count; ++number) ASSERT_TRUE(taken.insert(number).second);
      held.emplace_back(*first, count);
    }
  }
}

}  // namespace
}  // namespace sluice::datapath
