// SPDX-License-Identifier: Apache-2.0
// The index of blocks after any history is what a cut of all lists from scratch makes.
#include "daemon/policy/blocks.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace sluice::policy {
namespace {

constexpr BlockIndex::Cost kNoLimit{1'000'000, 1'000'000};

Prefix cidr(const std::string& text) { return Prefix::parse(text).value(); }

// What there is to know, as plainly as possible.
class Naive {
 public:
  Naive(const std::set<AtomId>& lists, const Atoms& atoms) {
    for (const AtomId list : lists) {
      for (const auto& block : std::get<Blocks>(atoms.content(list)).any_of) {
        name(block.cidr);
        for (const auto& except : block.except) name(except);
      }
    }
    for (auto& [prefix, holding] : prefixes)
      for (const AtomId list : lists)
        if (holds(std::get<Blocks>(atoms.content(list)), prefix)) holding.push_back(list);
  }
  [[nodiscard]] std::uint64_t memberships() const {
    std::uint64_t count = 0;
    for (const auto& [prefix, holding] : prefixes) count += holding.size();
    return count;
  }
  std::map<Prefix, AtomSet> prefixes;

 private:
  static bool within(const Prefix& outer, const Prefix& inner) {
    return outer.is_v4() == inner.is_v4() && outer.contains(inner);
  }
  static bool holds(const Blocks& list, const Prefix& prefix) {
    return std::ranges::any_of(list.any_of, [&](const model::IpBlock& block) {
      return within(block.cidr, prefix) &&
             std::ranges::none_of(block.except, [&](const Prefix& except) { return within(except, prefix); });
    });
  }
  void name(const Prefix& prefix) {
    prefixes[prefix];
    // IPv4 addresses are in no IPv6 prefix.
    const Prefix ipv4 = cidr("0.0.0.0/0");
    if (!prefix.is_v4() && prefix.contains(ipv4)) prefixes[ipv4];
  }
};

// An index, and what its visits of changes add up to.
struct Followed {
  BlockIndex index;
  std::map<Prefix, AtomSet> seen;
  void follow() {
    index.for_each_changed([&](const Prefix& prefix, const std::uint32_t* set) {
      if (set == nullptr)
        seen.erase(prefix);
      else
        seen[prefix] = index.lists(*set);
    });
  }
};

AtomId number(std::vector<model::IpBlock> blocks, Atoms& atoms) {
  std::ranges::sort(blocks);
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return atoms.number(Blocks{std::move(blocks)});
}

// Few addresses and all kinds of lengths, so that prefixes meet and nest.
class RandomBlocks {
 public:
  explicit RandomBlocks(std::uint64_t seed) : random_(seed) {}
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  [[nodiscard]] Prefix prefix(bool v4) {
    static constexpr std::array<unsigned, 7> kLengths4{0, 1, 8, 24, 30, 31, 32};
    static constexpr std::array<unsigned, 8> kLengths6{0, 1, 8, 80, 90, 95, 127, 128};
    Address address = Address::from_v4(static_cast<std::uint32_t>((below(2) << 31) + below(8)));
    if (v4) return {address, SLUICE_V4_PREFIX_BITS + kLengths4[below(7)]};
    // Next to the IPv4-mapped addresses, on both sides of them, and far away.
    address.bytes()[10] = static_cast<std::uint8_t>(below(2) * 0xff);
    address.bytes()[11] = static_cast<std::uint8_t>(0xfe + below(2));
    if (below(2) == 0) address.bytes()[0] = 0xfd;
    const Prefix made(address, kLengths6[below(8)]);
    return made.is_v4() ? prefix(false) : made;
  }
  [[nodiscard]] std::vector<model::IpBlock> list() {
    std::vector<model::IpBlock> blocks(1 + below(4));
    for (auto& block : blocks) {
      const bool v4 = below(3) != 0;
      block.cidr = prefix(v4);
      for (auto more = below(4); more > 0; --more)
        if (const auto except = prefix(v4); block.cidr.contains(except)) block.except.push_back(except);
      std::ranges::sort(block.except);
    }
    return blocks;
  }

 private:
  std::mt19937_64 random_;
};

void expect_lookups(const BlockIndex& index, const Naive& expected, RandomBlocks& random) {
  for (const auto& [known, holding] : expected.prefixes) {
    for (const auto& address :
         {known.address(), random.prefix(true).address(), random.prefix(false).address()}) {
      const Prefix* longest = nullptr;
      for (const auto& [prefix, lists] : expected.prefixes) {
        if (prefix.is_v4() != address.is_v4() || !prefix.contains(address)) continue;
        if (longest == nullptr || prefix.bits() > longest->bits()) longest = &prefix;
      }
      const Prefix* found = index.longest(address);
      ASSERT_EQ(found == nullptr ? Prefix() : *found, longest == nullptr ? Prefix() : *longest)
          << address.to_string();
      ASSERT_EQ(index.lists(index.set_of(address)),
                longest == nullptr ? AtomSet() : expected.prefixes.at(*longest));
    }
  }
}

TEST(BlockIndex, ARandomHistoryLeavesWhatACutFromScratchMakes) {
  std::size_t too_much = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    RandomBlocks random(seed);
    Atoms atoms(kEveryone + 1);
    Followed followed;
    std::set<AtomId> in_force;
    for (int step = 0; step < 40; ++step) {
      SCOPED_TRACE(fmt::format("seed {}, step {}", seed, step));
      std::set<AtomId> removed, added, next = in_force;
      for (const AtomId known : in_force)
        if (random.below(4) == 0) removed.insert(known);
      for (auto more = random.below(4); more > 0; --more)
        if (const AtomId made = number(random.list(), atoms); !in_force.contains(made)) added.insert(made);
      for (const AtomId gone : removed) next.erase(gone);
      next.insert(added.begin(), added.end());
      const Naive expected(next, atoms);

      const auto most =
          random.below(2) == 0 ? kNoLimit : BlockIndex::Cost{random.below(24), random.below(60)};
      const auto cost =
          followed.index.change({removed.begin(), removed.end()}, {added.begin(), added.end()}, atoms, most);
      const bool fits =
          expected.prefixes.size() <= most.prefixes && expected.memberships() <= most.memberships;
      ASSERT_EQ(cost.prefixes <= most.prefixes && cost.memberships <= most.memberships, fits);
      if (fits) {
        ASSERT_EQ(cost.prefixes, expected.prefixes.size());
        ASSERT_EQ(cost.memberships, expected.memberships());
        in_force = next;
      } else {
        ++too_much;
      }
      if (random.below(3) == 0) continue;  // changes add up
      followed.follow();
      const Naive now(in_force, atoms);
      ASSERT_EQ(followed.seen, now.prefixes);
      ASSERT_NO_FATAL_FAILURE(expect_lookups(followed.index, now, random));
    }
  }
  EXPECT_GT(too_much, 1000U);
}

TEST(BlockIndex, AChangeVisitsWhatItChangesAlone) {
  Atoms atoms(kEveryone + 1);
  Followed followed;
  auto& [index, seen] = followed;
  const AtomId world = number({{cidr("0.0.0.0/0"), {cidr("10.0.0.0/8")}}}, atoms);
  const AtomId hosts = number({{cidr("192.0.2.1/32"), {}}, {cidr("10.1.0.0/16"), {}}}, atoms);
  const AtomId more = number({{cidr("198.51.100.0/24"), {}}, {cidr("fd00::/8"), {}}}, atoms);
  static_cast<void>(index.change({}, {world, hosts}, atoms, kNoLimit));
  followed.follow();
  const auto before = seen;
  std::set<Prefix> visited;
  const auto visit = [&](const Prefix& prefix, const std::uint32_t*) { visited.insert(prefix); };
  static_cast<void>(index.change({}, {more}, atoms, kNoLimit));
  index.for_each_changed(visit);
  EXPECT_EQ(visited, (std::set{cidr("198.51.100.0/24"), cidr("fd00::/8")}));
  visited.clear();
  static_cast<void>(index.change({more}, {}, atoms, kNoLimit));
  index.for_each_changed(visit);
  EXPECT_EQ(visited, (std::set{cidr("198.51.100.0/24"), cidr("fd00::/8")}));
  // What is too much is no change.
  const auto cost = index.change({hosts}, {more}, atoms, {3, 100});
  EXPECT_GT(cost.prefixes, 3U);
  followed.follow();
  EXPECT_EQ(seen, before);
}

TEST(BlockIndex, ChangesThatAreTooMuchLeaveNothingToVisit) {
  Atoms atoms(kEveryone + 1);
  BlockIndex index;
  const AtomId first = number({{cidr("0.0.0.0/0"), {cidr("10.0.0.0/8")}}}, atoms);
  const AtomId second = number({{cidr("192.0.2.0/24"), {}}}, atoms);
  const AtomId more = number({{cidr("198.51.100.0/24"), {}}, {cidr("::/0"), {cidr("fd00::/8")}}}, atoms);
  std::vector<Prefix> visited;
  const auto visit = [&](const Prefix& prefix, const std::uint32_t*) { visited.push_back(prefix); };
  static_cast<void>(index.change({}, {first}, atoms, kNoLimit));
  index.for_each_changed(visit);
  visited.clear();
  for (int i = 0; i < 3; ++i) {
    EXPECT_GT(index.change({first}, {more}, atoms, {2, 100}).prefixes, 2U);
    EXPECT_GT(index.change({}, {more}, atoms, {100, 2}).memberships, 2U);
  }
  index.for_each_changed(visit);
  EXPECT_EQ(visited, std::vector<Prefix>());

  // What changed before them is visited all the same.
  static_cast<void>(index.change({}, {second}, atoms, kNoLimit));
  static_cast<void>(index.change({second}, {}, atoms, kNoLimit));
  static_cast<void>(index.change({}, {second}, atoms, {100, 2}));
  index.for_each_changed(visit);
  EXPECT_EQ(visited, std::vector{cidr("192.0.2.0/24")});
}

}  // namespace
}  // namespace sluice::policy
