// SPDX-License-Identifier: Apache-2.0
// The table of connections by itself: against a plain map, by several CPUs at once, and how full it can be.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "tests/bpf/table_fixture.h"

namespace sluice::bpftest {
namespace {

class Sweep : public Table {
 protected:
  sluice_sweep wanted(std::uint32_t number);
  std::vector<bool> sweep(const std::vector<sluice_sweep>& asked);
};

TEST_F(Table, DoesAsAPlainMap) {
  Dice dice(1);
  std::map<std::uint32_t, std::pair<std::uint32_t, std::uint32_t>> plain;  // key -> mark, owner
  constexpr std::uint32_t kKeys = 3000, kOwners = 3;
  for (std::uint32_t mark = 1; mark <= 60'000; ++mark) {
    const std::uint32_t number = dice(kKeys), owner = 1 + dice(kOwners);
    const auto known = plain.find(number);
    switch (dice(5)) {
      case 0:
        ASSERT_EQ(step(kAdd, number, mark, owner), known == plain.end() ? 0 : -EEXIST);
        plain.try_emplace(number, mark, owner);
        break;
      case 1:
        ASSERT_EQ(step(kReplace, number, mark, owner), 0);
        plain.insert_or_assign(number, std::make_pair(mark, owner));
        break;
      case 2:
        ASSERT_EQ(step(kRemove, number), known != plain.end());
        plain.erase(number);
        break;
      default:
        ASSERT_EQ(step(kFind, number),
                  known == plain.end() ? -ENOENT : static_cast<int>(known->second.first));
    }
  }
  EXPECT_EQ(check_groups().size(), plain.size());
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), static_cast<std::int64_t>(plain.size()));
  for (std::uint32_t owner = 1; owner <= kOwners; ++owner)
    EXPECT_EQ(use(owner),
              std::ranges::count(plain, owner, [](const auto& each) { return each.second.second; }));
}

TEST_F(Table, TakesAsMuchAsItHasRoomForAndKeepsTakingWhenFull) {
  std::uint32_t first = 0, next = 0;
  for (; next < kConntrackMax; ++next) ASSERT_EQ(step(kAdd, next, 1), 0) << next;
  for (int turn = 0; turn < 40'000; ++turn) {
    ASSERT_EQ(step(kRemove, first++), 1);
    ASSERT_EQ(step(kAdd, next++, 1), 0) << "turn " << turn;
  }
  EXPECT_EQ(check_groups().size(), kConntrackMax);
}

TEST_F(Table, TwoKeysOfOneTagAreToldApart) {
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::uint32_t> seen;  // first set and tag
  int pairs = 0;
  for (std::uint32_t number = 0; pairs < 10; ++number) {
    ASSERT_LT(number, 1U << 20);
    const auto [other, alone] = seen.try_emplace({set_of(key(number)), tag_of(key(number))}, number);
    if (alone) continue;
    ++pairs;
    EXPECT_EQ(step(kAdd, other->second, 1), 0);
    EXPECT_EQ(step(kFind, number), -ENOENT);
    EXPECT_EQ(step(kAdd, number, 2), 0);
    check_groups();
    EXPECT_EQ(step(kFind, other->second), 1);
    EXPECT_EQ(step(kFind, number), 2);
    EXPECT_EQ(step(kRemove, other->second), 1);
    EXPECT_EQ(step(kFind, number), 2);
    EXPECT_EQ(step(kFind, other->second), -ENOENT);
    EXPECT_EQ(step(kRemove, number), 1);
    // Where the second set has no room, either, there is none for the key: a tag leads to one entry.
    EXPECT_EQ(step(kAdd, other->second, 1), 0);
    fill_sets_of(key(number));
    const auto set = set_of(key(number));
    auto group = get<sluice_ct_group>("conntrack_groups", set / SLUICE_CT_GROUP_SETS).value();
    group.tags[set % SLUICE_CT_GROUP_SETS].word[1] = 0;
    put("conntrack_groups", set / SLUICE_CT_GROUP_SETS, group);
    EXPECT_EQ(step(kAdd, number, 2), -E2BIG);
    EXPECT_EQ(step(kFind, other->second), 1);
    forget_connections();
  }
}

TEST_F(Table, AnEmptyPoolRefusesAndTakesNothing) {
  auto group = get<sluice_ct_group>("conntrack_groups", std::uint32_t{0}).value();
  group.fresh = SLUICE_CT_POOL;
  for (std::uint32_t index = 0; index < kConntrackGroups; ++index) put("conntrack_groups", index, group);
  EXPECT_EQ(step(kAdd, 1), -E2BIG);
  EXPECT_EQ(step(kReplace, 1), -E2BIG);
  EXPECT_EQ(step(kFind, 1), -ENOENT);
  EXPECT_EQ(connections(), 0U);
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), 0);
}

// What user space asks to remove, as it read it.
sluice_sweep Sweep::wanted(std::uint32_t number) {
  const auto at = way_of(key(number)).value();
  const auto group = set_of(key(number)) / SLUICE_CT_GROUP_SETS;
  const auto entry = get<sluice_ct_pool>("conntrack", group).value().pair[at.place].entry;
  return {group * SLUICE_CT_GROUP_SETS + at.set, static_cast<std::uint16_t>(at.way), 0, entry.seal,
          entry.last_seen_ns};
}

std::vector<bool> Sweep::sweep(const std::vector<sluice_sweep>& asked) {
  Bytes data(ETH_HLEN + asked.size() * sizeof(sluice_sweep)), out;
  std::memcpy(data.data() + ETH_HLEN, asked.data(), asked.size() * sizeof(sluice_sweep));
  run_program("sweep", data, &out);
  std::vector<bool> removed;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    sluice_sweep answer{};
    std::memcpy(&answer, out.data() + ETH_HLEN + i * sizeof answer, sizeof answer);
    removed.push_back(answer.removed != 0);
  }
  return removed;
}

TEST_F(Sweep, ASweepRemovesWhatIsAsItWasRead) {
  for (std::uint32_t number = 1; number <= 5; ++number) ASSERT_EQ(step(kAdd, number, 10, 2), 0);
  const auto renewed = wanted(1), gone = wanted(2);
  ASSERT_EQ(step(kReplace, 1, 11, 2), 0);
  ASSERT_EQ(step(kRemove, 2), 1);
  auto other = wanted(3), strange = wanted(4);
  ++other.seal;
  strange.set = kConntrackGroups * SLUICE_CT_GROUP_SETS;
  EXPECT_EQ(sweep({renewed, gone, other, strange, wanted(5)}),
            (std::vector<bool>{false, false, false, false, true}));
  EXPECT_EQ(check_groups().size(), 3U);
  EXPECT_EQ(use(2), 3);
  auto whenever = renewed;
  whenever.last_seen_ns = 0;
  EXPECT_EQ(sweep({whenever}), std::vector<bool>{true});
  EXPECT_EQ(step(kFind, 1), -ENOENT);
  EXPECT_EQ(step(kFind, 3), 10);
  EXPECT_EQ(use(2), 2);
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), 2);
}

TEST_F(Sweep, ASweepTakesAsManyAsItMay) {
  std::vector<sluice_sweep> asked;
  for (std::uint32_t number = 0; number < SLUICE_SWEEP_MOST; ++number) {
    ASSERT_EQ(step(kAdd, number, 10), 0);
    asked.push_back(wanted(number));
  }
  EXPECT_EQ(sweep(asked), std::vector<bool>(SLUICE_SWEEP_MOST, true));
  EXPECT_EQ(check_groups().size(), 0U);
}

// All keys are of few sets, so that the threads meet.
TEST_F(Table, SeveralCpusLeaveItWhole) {
  std::vector<std::uint32_t> numbers;
  const auto group_of = [](std::uint32_t number) { return set_of(key(number)) / SLUICE_CT_GROUP_SETS; };
  for (std::uint32_t number = 0; numbers.size() < 600; ++number)
    if (group_of(number) == 0 && set_of(key(number)) % 16 < 2) numbers.push_back(number);
  std::array<std::vector<std::uint32_t>, 4> mine;  // keys that one thread alone changes
  for (std::size_t i = 0; i < numbers.size(); ++i) mine[i % mine.size()].push_back(numbers[i]);
  std::atomic<int> torn = 0, wrong = 0;
  const auto work = [&](std::size_t own) {
    Dice dice(own);
    std::map<std::uint32_t, std::uint32_t> plain;
    for (std::uint32_t mark = 1; mark <= 20'000; ++mark) {
      const auto number = mine[own][dice(mine[own].size())];
      const auto known = plain.find(number);
      int seen = 0;
      switch (dice(4)) {
        case 0:
          seen = step(kReplace, number, mark);
          if (seen == 0) plain[number] = mark;
          // Two of the sets may be full: there are more keys than ways.
          if (seen != 0 && (seen != -E2BIG || known != plain.end())) ++wrong;
          break;
        case 1:
          if (step(kRemove, number) != (known != plain.end())) ++wrong;
          plain.erase(number);
          break;
        case 2:
          seen = step(kFind, number);
          if (seen != (known == plain.end() ? -ENOENT : static_cast<int>(known->second))) ++wrong;
          break;
        default:  // another thread's, which may be changing it
          if (step(kFind, mine[(own + 1) % mine.size()][dice(mine[own].size())]) == -EIO) ++torn;
      }
    }
    return plain.size();
  };
  std::atomic<std::size_t> left = 0;
  {
    std::vector<std::jthread> threads;
    for (std::size_t own = 0; own < mine.size(); ++own) threads.emplace_back([&, own] { left += work(own); });
  }
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(wrong, 0);
  const auto keys = check_groups();
  EXPECT_EQ(keys.size(), left);
  EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()).size(), left) << "a key that is there twice";
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), static_cast<std::int64_t>(left));
}

TEST_F(Table, SeveralCpusMakeOneEntryOfAKey) {
  for (std::uint32_t number = 0; number < 2000; ++number) {
    std::atomic<int> made = 0, refused = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i) threads.emplace_back([&] { (step(kAdd, number) == 0 ? made : refused)++; });
    }
    ASSERT_EQ(made, 1);
    ASSERT_EQ(refused, 1);
  }
  EXPECT_EQ(check_groups().size(), 2000U);
}

}  // namespace
}  // namespace sluice::bpftest
