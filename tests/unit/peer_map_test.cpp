// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy/peer_map.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <tuple>
#include <vector>

namespace sluice::policy {
namespace {

using Plain = std::map<Address, std::uint32_t>;
using Difference = std::pair<std::optional<std::uint32_t>, std::optional<std::uint32_t>>;

Plain plain(const PeerMap& map) {
  Plain entries;
  map.for_each([&](const Address& address, std::uint32_t peer_class) {
    EXPECT_TRUE(entries.emplace(address, peer_class).second) << "shown twice";
  });
  return entries;
}

std::map<Address, Difference> differences(const PeerMap& before, const PeerMap& after) {
  std::map<Address, Difference> found;
  PeerMap::differences(before, after,
                       [&](const Address& address, const auto* old_class, const auto* new_class) {
                         auto& difference = found[address];
                         if (old_class != nullptr) difference.first = *old_class;
                         if (new_class != nullptr) difference.second = *new_class;
                         return true;
                       });
  return found;
}

std::map<Address, Difference> differences(const Plain& before, const Plain& after) {
  std::map<Address, Difference> found;
  for (const auto& [address, peer_class] : before) found[address].first = peer_class;
  for (const auto& [address, peer_class] : after) found[address].second = peer_class;
  std::erase_if(found, [](const auto& entry) { return entry.second.first == entry.second.second; });
  return found;
}

// Copies are kept and must stay as they were, whatever happens to the original and to copies of them.
TEST(PeerMap, CopiesAreValues) {
  std::mt19937_64 random(7);
  const auto below = [&](std::size_t bound) { return static_cast<std::uint32_t>(random() % bound); };
  PeerMap map;
  Plain expected;
  std::vector<std::pair<PeerMap, Plain>> copies;
  for (int step = 0; step < 3000; ++step) {
    const auto address = Address::from_v4(0x0a000000 + below(400));
    if (below(4) == 0) {
      map.erase(address);
      expected.erase(address);
    } else {
      const auto peer_class = below(5);
      map.set(address, peer_class);
      expected[address] = peer_class;
    }
    ASSERT_EQ(map.size(), expected.size());
    const auto* found = map.find(address);
    ASSERT_EQ(found != nullptr, expected.contains(address));
    ASSERT_TRUE(found == nullptr || *found == expected.at(address));
    if (step % 50 != 0) continue;
    if (below(3) == 0 && !copies.empty()) std::tie(map, expected) = copies[below(copies.size())];
    copies.emplace_back(map, expected);
  }
  for (const auto& [copy, content] : copies) {
    EXPECT_EQ(plain(copy), content);
    EXPECT_EQ(differences(copy, map), differences(content, expected));
    EXPECT_EQ(copy == map, content == expected);
  }
}

TEST(PeerMap, AWalkEndsWhenItIsTold) {
  PeerMap map;
  for (std::uint32_t i = 0; i < 1000; ++i) map.set(Address::from_v4(i), i);
  unsigned seen = 0;
  EXPECT_FALSE(PeerMap::differences(PeerMap(), map,
                                    [&](const auto&, const auto*, const auto*) { return ++seen < 3; }));
  EXPECT_EQ(seen, 3U);
  EXPECT_TRUE(PeerMap::differences(map, map, [](const auto&, const auto*, const auto*) { return false; }));
}

}  // namespace
}  // namespace sluice::policy
