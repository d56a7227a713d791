// SPDX-License-Identifier: Apache-2.0
// The table of connections where it is crowded: what is over leaves without user space, and nothing else
// does.
#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bpf/table_fixture.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint32_t kLife =
    SLUICE_CT_UDP_NEW_S;  // of the entries that a step makes, in the seconds of its mark
constexpr std::uint32_t kCrowd = kConntrackMax / SLUICE_CT_CROWDED;
constexpr std::uint32_t kOther = 1 << 24;  // keys from here on are those of a crowd

class Reclaim : public Table {
 protected:
  // As if so many others were there.
  void claim(std::int64_t entries) { put("conntrack_use", std::uint32_t{SLUICE_CT_USE_ALL}, entries); }
  std::uint32_t hand(std::uint32_t group) { return get<sluice_ct_group>("conntrack_groups", group)->hand; }
  std::uint32_t group_of(std::uint32_t number) { return set_of(key(number)) / SLUICE_CT_GROUP_SETS; }
  // The next connection looks, whatever the last one found.
  void spare_nobody(std::uint32_t group) {
    auto changed = get<sluice_ct_group>("conntrack_groups", group).value();
    changed.spared = 0;
    put("conntrack_groups", group, changed);
  }
  bool is_there(std::uint32_t number) { return way_of(key(number)).has_value(); }
};

TEST_F(Reclaim, BelowAQuarterOfTheRoomNothingIsLookedAt) {
  ASSERT_EQ(step(kAdd, 1, 10), 0);
  claim(kCrowd);
  step(kReclaim, 1, 10 + kLife + 1);
  EXPECT_TRUE(is_there(1));
  claim(kCrowd + 1);
  step(kReclaim, 1, 10 + kLife + 1);
  EXPECT_FALSE(is_there(1));
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), kCrowd);
}

// Exactly the two sets, and of them exactly what is over.
TEST_F(Reclaim, LooksAtTheKeysFirstSetAndAtTheOneWhoseTurnItIs) {
  Dice dice(2);
  std::map<std::uint32_t, std::pair<std::uint32_t, std::uint32_t>> plain;  // key -> mark, owner
  for (std::uint32_t number = 0; plain.size() < 5 * kCrowd / 4; ++number) {
    const std::uint32_t mark = 100 + dice(2 * kLife), owner = 1 + dice(3);
    ASSERT_EQ(step(kAdd, number, mark, owner), 0);
    plain[number] = {mark, owner};
  }
  constexpr std::uint32_t kNow = 100 + 2 * kLife;
  for (std::uint32_t turn = 0; turn < 100 && use(SLUICE_CT_USE_ALL) > kCrowd; ++turn) {
    const auto number = kOther + dice(1 << 20);
    const auto first = set_of(key(number)), group = first / SLUICE_CT_GROUP_SETS;
    const std::vector<std::uint32_t> looked_at{first % SLUICE_CT_GROUP_SETS,
                                               hand(group) % SLUICE_CT_GROUP_SETS};
    std::vector<std::uint32_t> leaving;
    for (const auto& [each, made] : plain)
      if (set_of(key(each)) / SLUICE_CT_GROUP_SETS == group && kNow - made.first > kLife &&
          std::ranges::count(looked_at, way_of(key(each)).value().set))
        leaving.push_back(each);
    spare_nobody(group);
    step(kReclaim, number, kNow);
    for (const auto each : leaving) plain.erase(each);
    ASSERT_EQ(hand(group) % SLUICE_CT_GROUP_SETS, (looked_at[1] + 1) % SLUICE_CT_GROUP_SETS);
    ASSERT_EQ(connections(), plain.size()) << "turn " << turn;
    for (const auto each : leaving) ASSERT_FALSE(is_there(each));
    for (std::uint32_t owner = 1; owner <= 3; ++owner)
      ASSERT_EQ(use(owner), std::ranges::count(plain, owner, [](const auto& p) { return p.second.second; }));
    ASSERT_EQ(use(SLUICE_CT_USE_ALL), static_cast<std::int64_t>(plain.size()));
  }
  EXPECT_EQ(check_groups().size(), plain.size());
}

TEST_F(Reclaim, EachSetHasItsTurn) {
  std::uint32_t added = 0;
  for (; added < 2 * kCrowd; ++added) ASSERT_EQ(step(kAdd, added, 10), 0);
  // One that lives, so that the table stays crowded by its counter alone.
  ASSERT_EQ(step(kAdd, kOther, 10 + kLife), 0);
  put("conntrack_use", std::uint32_t{SLUICE_CT_USE_ALL}, std::int64_t{kConntrackMax});
  std::uint32_t of_first_group = kOther + 1;
  while (set_of(key(of_first_group)) / SLUICE_CT_GROUP_SETS != 0) ++of_first_group;
  for (std::uint32_t turn = 0; turn < SLUICE_CT_GROUP_SETS; ++turn)
    step(kReclaim, of_first_group, 10 + kLife + 1);
  for (std::uint32_t number = 0; number < added; ++number)
    ASSERT_EQ(is_there(number), set_of(key(number)) / SLUICE_CT_GROUP_SETS != 0);
  EXPECT_TRUE(is_there(kOther));
}

// Else what is over, and counts as the owner's, would refuse it new connections.
TEST_F(Reclaim, MoreSetsHaveTheirTurnWhereTheOwnerIsShort) {
  ASSERT_EQ(step(kAdd, 1, 10 + kLife, 1), 0);
  claim(kConntrackMax / 2);
  const auto looked_at = [&](std::int64_t of_owner) {
    put("conntrack_use", std::uint32_t{1}, of_owner);
    const std::uint32_t group = group_of(kOther), before = hand(group);
    spare_nobody(group);
    step(kReclaim, kOther, 10, 1);
    return hand(group) - before;
  };
  EXPECT_EQ(looked_at(kConntrackMax / 4), 1U);
  EXPECT_EQ(looked_at(kConntrackMax / 4 + 1), 3U);
}

// A table full of what lives costs few looks; what is over then is found by one of the next connections.
TEST_F(Reclaim, WhoFindsNothingSparesTheNextOnesOfTheGroup) {
  claim(kConntrackMax / 2);
  const std::uint32_t group = group_of(kOther);
  const auto looks = [&](std::uint32_t number, std::uint32_t now) {
    const auto before = hand(group);
    step(kReclaim, number, now);
    return hand(group) != before;
  };
  EXPECT_TRUE(looks(kOther, 10));
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(looks(kOther, 10)) << i;
  std::uint32_t elsewhere = kOther;
  while (group_of(elsewhere) == group) ++elsewhere;
  const auto before = hand(group_of(elsewhere));
  step(kReclaim, elsewhere, 10);
  EXPECT_NE(hand(group_of(elsewhere)), before) << "each group for itself";
  // While there is something to be found, each connection looks.
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(step(kAdd, kOther, 10), 0);
    EXPECT_TRUE(looks(kOther, 10 + kLife + 1)) << i;
    EXPECT_FALSE(is_there(kOther)) << i;
  }
}

// New ones come all the time and leave by themselves: the table stays below its half, whoever looks.
TEST_F(Reclaim, ATableLivesByItself) {
  // Two a connection, as to a Service; a third of the room lives.
  constexpr std::uint32_t kPerSecond = kConntrackMax / 3 / kLife / 2;
  std::uint32_t number = 0;
  std::int64_t most = 0;
  for (std::uint32_t now = 100; now < 100 + 8 * kLife; ++now) {
    for (std::uint32_t i = 0; i < kPerSecond; ++i) {
      step(kReclaim, number, now);
      for (int view = 0; view < 2; ++view) ASSERT_EQ(step(kAdd, number++, now, 1 + i % 2), 0);
      most = std::max(most, use(SLUICE_CT_USE_ALL));
    }
  }
  EXPECT_GT(most, kConntrackMax / 3 - 2 * kPerSecond) << "what lives is there";
  EXPECT_LT(most, kConntrackMax * 6 / 10) << "and little more";
  EXPECT_EQ(use(1) + use(2), use(SLUICE_CT_USE_ALL));
  EXPECT_EQ(check_groups().size(), static_cast<std::size_t>(use(SLUICE_CT_USE_ALL)));
}

TEST_F(Reclaim, LifetimesAreThoseOfAFullTable) {
  struct Row {
    const char* sentence;
    std::uint8_t proto;
    std::uint32_t progress;
    std::uint64_t idle_s;
    bool leaves;
  };
  constexpr std::uint32_t kFins = SLUICE_CT_FIN_ORIGIN | SLUICE_CT_FIN_REPLY | SLUICE_CT_CLOSED;
  constexpr std::uint32_t kBoth = SLUICE_CT_REPLIED | SLUICE_CT_ASSURED;
  constexpr std::uint32_t kDoubted = SLUICE_CT_CLOSED | SLUICE_CT_DOUBTED;
  const Row rows[] = {
      {"a SYN that nobody answers", IPPROTO_TCP, 0, SLUICE_CT_TCP_NEW_S - 1, false},
      {"for long", IPPROTO_TCP, 0, SLUICE_CT_TCP_NEW_S + 1, true},
      {"an idle connection", IPPROTO_TCP, kBoth, SLUICE_CT_TCP_ESTABLISHED_S - 1, false},
      {"for a day", IPPROTO_TCP, kBoth, SLUICE_CT_TCP_ESTABLISHED_S + 1, true},
      {"half closed", IPPROTO_TCP, kBoth | SLUICE_CT_FIN_ORIGIN, SLUICE_CT_TCP_NEW_S + 1, false},
      {"closed just now", IPPROTO_TCP, kBoth | kFins, SLUICE_CT_TCP_CLOSED_S - 1, false},
      {"no TIME_WAIT here", IPPROTO_TCP, kBoth | kFins, SLUICE_CT_TCP_CLOSED_S + 1, true},
      {"reset", IPPROTO_TCP, kBoth | SLUICE_CT_CLOSED, SLUICE_CT_TCP_CLOSED_S + 1, true},
      {"reset by somebody outside just now", IPPROTO_TCP, kBoth | kDoubted, SLUICE_CT_TCP_CLOSED_S - 1,
       false},
      {"a while ago", IPPROTO_TCP, kBoth | kDoubted, SLUICE_CT_TCP_CLOSED_S + 1, true},
      {"a datagram", IPPROTO_UDP, 0, SLUICE_CT_UDP_NEW_S - 1, false},
      {"never answered", IPPROTO_UDP, 0, SLUICE_CT_UDP_NEW_S + 1, true},
      {"an exchange of just now", IPPROTO_UDP, SLUICE_CT_REPLIED, SLUICE_CT_UDP_ANSWERED_S - 1, false},
      {"of a while ago", IPPROTO_UDP, SLUICE_CT_REPLIED, SLUICE_CT_UDP_ANSWERED_S + 1, true},
      {"more than an exchange", IPPROTO_UDP, kBoth, SLUICE_CT_UDP_LASTING_S - 1, false},
      {"long ago", IPPROTO_UDP, kBoth, SLUICE_CT_UDP_LASTING_S + 1, true},
      {"an echo", IPPROTO_ICMP, 0, SLUICE_CT_ICMP_S + 1, true},
      {"another protocol", IPPROTO_SCTP, 0, SLUICE_CT_OTHER_S - 1, false},
      {"for long", IPPROTO_SCTP, 0, SLUICE_CT_OTHER_S + 1, true},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Tuple tuple{"10.1.0.2", 4000, "10.1.0.3", 80, row.proto};
    constexpr std::uint32_t kNow = 200'000;
    Connection made;
    made.last_seen_ns = (kNow - row.idle_s) * SLUICE_NS_PER_S;
    made.progress = row.progress;
    made.owner = kPodA;
    put_connection(tuple, made);
    put("conntrack_use", kPodA, std::int64_t{1});
    claim(kCrowd + 1);
    step_on(kReclaim, key_of(tuple), kNow, 0);
    EXPECT_EQ(entry(tuple).has_value(), !row.leaves);
    EXPECT_EQ(use(kPodA), row.leaves ? 0 : 1);
    forget_connections();
  }
  // Progress that another connection's packet wrote late: nothing is known, so the longest holds.
  const Tuple tuple{"10.1.0.2", 4000, "10.1.0.3", 80, IPPROTO_TCP};
  Connection made;
  made.last_seen_ns = 1000 * SLUICE_NS_PER_S;
  made.progress = kFins;
  put_connection(tuple, made);
  change_entry(tuple, [](sluice_ct_entry& e) { e.progress ^= 1U << 31; });
  claim(kCrowd + 1);
  step_on(kReclaim, key_of(tuple), 1000 + SLUICE_CT_TCP_NEW_S + 1, 0);
  EXPECT_TRUE(entry(tuple));
}

// All keys are of few sets, so that the threads meet. Time goes on while they do.
TEST_F(Reclaim, SeveralCpusLeaveItWhole) {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; numbers.size() < 600; ++number)
    if (set_of(key(number)) < 32) numbers.push_back(number);
  std::array<std::vector<std::uint32_t>, 4> mine;  // keys that one thread alone adds and removes
  for (std::size_t i = 0; i < numbers.size(); ++i) mine[i % mine.size()].push_back(numbers[i]);
  // A crowd elsewhere that lives.
  std::uint32_t crowd = 0;
  for (std::uint32_t number = kOther; crowd <= kCrowd; ++number)
    if (set_of(key(number)) / SLUICE_CT_GROUP_SETS != 0) crowd += step(kAdd, number, 1'000'000, 9) == 0;
  std::atomic<std::uint32_t> clock = 1000;
  std::atomic<int> wrong = 0, reclaimed = 0;
  const auto work = [&](std::size_t own) {
    Dice dice(own);
    std::map<std::uint32_t, std::uint32_t> plain;  // key -> mark
    for (int turn = 0; turn < 20'000; ++turn) {
      const auto number = mine[own][dice(mine[own].size())];
      const auto known = plain.find(number);
      // What is over may be gone; what lives is there.
      const auto may_be_gone = [&] { return known == plain.end() || clock - known->second > kLife; };
      const std::uint32_t now = clock;
      int seen = 0;
      switch (dice(5)) {
        case 0:
          seen = step(kReplace, number, now, static_cast<std::uint32_t>(own));
          if (seen == 0) plain[number] = now;
          if (seen != 0 && (seen != -E2BIG || !may_be_gone())) ++wrong;
          if (seen != 0) plain.erase(number);
          break;
        case 1:
          seen = step(kRemove, number);
          if (seen == 0 ? !may_be_gone() : known == plain.end()) ++wrong;
          plain.erase(number);
          break;
        case 2:
          seen = step(kFind, number);
          if (seen == -ENOENT ? !may_be_gone()
                              : known == plain.end() || seen != static_cast<int>(known->second))
            ++wrong;
          if (seen == -ENOENT && known != plain.end()) ++reclaimed, plain.erase(number);
          break;
        case 3:
          step(kReclaim, mine[(own + 1) % mine.size()][dice(mine[own].size())], now);
          break;
        default:
          if (dice(20) == 0) ++clock;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t own = 0; own < mine.size(); ++own) threads.emplace_back([&, own] { work(own); });
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(reclaimed, 100) << "nothing was over";
  const auto left = static_cast<std::int64_t>(check_groups().size());
  EXPECT_EQ(use(SLUICE_CT_USE_ALL), left);
  EXPECT_EQ(use(9), crowd);
  EXPECT_EQ(use(0) + use(1) + use(2) + use(3) + use(9), left);
}

}  // namespace
}  // namespace sluice::bpftest
