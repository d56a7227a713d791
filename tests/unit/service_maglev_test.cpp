// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/service/maglev.h"
#include "daemon/service/pools.h"

namespace sluice::service {
namespace {

std::vector<Backend> backends_of(std::size_t count, std::uint32_t net = 0x0a000000) {
  std::vector<Backend> backends;
  for (std::uint32_t i = 0; i < count; ++i) backends.push_back({Address::from_v4(net + 256 + i), 8080});
  return backends;
}

std::vector<std::size_t> shares(const std::vector<std::uint16_t>& slots, std::size_t backends) {
  std::vector<std::size_t> count(backends);
  for (const auto slot : slots) ++count.at(slot);
  return count;
}

bool is_prime(std::size_t number) {
  for (std::size_t factor = 2; factor * factor <= number; ++factor) {
    if (number % factor == 0) return false;
  }
  return number > 1;
}

TEST(Maglev, SizesArePrimesWithRoomForEveryBackend) {
  EXPECT_EQ(maglev_size(0), 0U);
  EXPECT_EQ(maglev_size(1), 1U);
  for (std::size_t backends = 2; backends <= kMaxBackends; ++backends) {
    const std::size_t size = maglev_size(backends);
    ASSERT_TRUE(is_prime(size)) << backends;
    ASSERT_GE(size, backends <= 1025   ? 16 * backends
                    : backends <= 4096 ? 4 * backends
                                       : backends)
        << backends;
    ASSERT_GE(size, maglev_size(backends - 1));
  }
}

TEST(Maglev, SizesKeepToTheBudget) {
  EXPECT_LE(10000 * maglev_size(10), 1700000U);
  EXPECT_LE(maglev_size(1000), 16411U);
}

TEST(Maglev, NoBackendHasTwoSlotsMoreThanAnother) {
  for (const std::size_t count : {1, 2, 3, 5, 6, 10, 11, 100, 1000, 1025, 1026, 5000, 65535}) {
    const auto slots = maglev_table(backends_of(count));
    ASSERT_EQ(slots.size(), maglev_size(count));
    const auto share = shares(slots, count);
    const auto [least, most] = std::ranges::minmax(share);
    EXPECT_LE(most - least, 1U) << count;
    EXPECT_GE(least, 1U) << count;
    if (count > 1 && count <= 1025) {
      EXPECT_LE(static_cast<double>(most),
                static_cast<double>(slots.size()) / static_cast<double>(count) * 17 / 16)
          << count;
    }
  }
}

// All nodes of a cluster, whatever their builds, must agree on it.
TEST(Maglev, TheTableIsWrittenDown) {
  std::vector<Backend> backends = backends_of(2);
  backends.push_back({*Address::parse("fd00::1"), 53});
  std::ranges::sort(backends);
  std::string text;
  for (const auto slot : maglev_table(backends)) text += static_cast<char>('0' + slot);
  EXPECT_EQ(text, "01021121111112220002002020101021120200002212102010111120020210202210112112120020221");
}

TEST(Maglev, TheOrderOfBackendsDoesNotMatter) {
  std::mt19937 random(7);
  const auto sorted = backends_of(50);
  const auto expected = Pools().of(sorted);
  for (int i = 0; i < 20; ++i) {
    auto backends = sorted;
    backends.insert(backends.end(), sorted.begin(), sorted.begin() + i);  // repetitions
    std::ranges::shuffle(backends, random);
    ASSERT_EQ(*Pools().of(backends), *expected);
  }
}

TEST(Maglev, PortsTellBackendsApart) {
  auto backends = backends_of(5);
  for (auto& backend : backends) backend.port = 9090;
  EXPECT_NE(maglev_table(backends), maglev_table(backends_of(5)));
}

// The share of the remaining backends' slots that change hands when one backend goes, the size staying.
double disruption(std::size_t count, std::size_t clusters) {
  std::size_t others = 0;
  std::size_t moved = 0;
  for (std::uint32_t cluster = 0; cluster < clusters; ++cluster) {
    const auto before = backends_of(count, 0x0a000000 + (cluster << 16));
    const auto slots = maglev_table(before);
    const std::size_t step = std::max<std::size_t>(1, count / 10);
    for (std::size_t gone = 0; gone < count; gone += step) {
      auto after = before;
      after.erase(after.begin() + static_cast<std::ptrdiff_t>(gone));
      const auto now = maglev_table(after);
      if (now.size() != slots.size()) ADD_FAILURE() << "another size at " << count;
      for (std::size_t i = 0; i < slots.size(); ++i) {
        if (slots[i] == gone) continue;
        ++others;
        moved += after[now[i]] != before[slots[i]];
      }
    }
  }
  return static_cast<double>(moved) / static_cast<double>(others);
}

TEST(Maglev, FewSlotsMoveBetweenTheBackendsThatStay) {
  struct Case {
    std::size_t backends;
    double most;
  };
  for (const auto& [backends, most] : {Case{5, 0.08}, Case{8, 0.08}, Case{10, 0.08}, Case{20, 0.08},
                                       Case{40, 0.08}, Case{100, 0.04}, Case{300, 0.02}, Case{1000, 0.01}}) {
    const double share = disruption(backends, backends < 200 ? 20 : 2);
    RecordProperty("moved_of_" + std::to_string(backends), std::to_string(share));
    EXPECT_LE(share, most) << backends;
  }
}

TEST(Pools, TheSameBackendsAreOneObjectWhileInUse) {
  Pools pools;
  const auto first = pools.of(backends_of(3));
  EXPECT_EQ(pools.of(backends_of(3)), first);
  EXPECT_NE(pools.of(backends_of(4)), first);
  EXPECT_EQ(pools.of({})->slots.size(), 0U);
}

TEST(Pools, OfTooManyBackendsTheFirstAreUsed) {
  const auto pool = Pools().of(backends_of(kMaxBackends + 10));
  EXPECT_EQ(pool->backends, backends_of(kMaxBackends));
}

// Longer than the time between two sweeps, most contents used once.
TEST(Pools, ForgettingContentsOutOfUseLosesNoneInUse) {
  Pools pools;
  const auto kept = pools.of(backends_of(3));
  for (std::size_t i = 0; i < 1000; ++i) (void)pools.of(backends_of(1, static_cast<std::uint32_t>(i) << 8));
  EXPECT_EQ(pools.of(backends_of(3)), kept);
}

}  // namespace
}  // namespace sluice::service
