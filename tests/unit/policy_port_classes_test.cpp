// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/policy/port_classes.h"

namespace sluice::policy {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

std::uint32_t lookup(const PortClasses& classes, std::uint8_t protocol, std::uint32_t port) {
  std::uint32_t found = 0;
  int longest = -1;
  for (const auto& prefix : classes.prefixes) {
    const unsigned shift = 16U - prefix.bits;
    if (prefix.protocol == protocol &&
        (static_cast<std::uint32_t>(prefix.port) >> shift) == (port >> shift) && prefix.bits > longest) {
      longest = prefix.bits;
      found = prefix.port_class;
    }
  }
  return found;
}

std::uint32_t lookup_run(const PortClasses& classes, std::uint8_t protocol, std::uint32_t port) {
  std::uint32_t found = 0;
  for (const auto& run : classes.runs)
    if (run.protocol == protocol && run.first <= port && port <= run.last) found = run.port_class;
  return found;
}

TEST(PortClasses, RunsAreAsFewAsTheClassesAllow) {
  EXPECT_TRUE(classify_ports({{}, {}}).runs.empty());
  EXPECT_EQ(classify_ports({{{kTcp, 80, 80}, {kTcp, 81, 90}, {kTcp, 85, 99}, {kUdp, 0, 65535}}}).runs,
            (std::vector<PortRun>{{kTcp, 80, 99, 1}, {kUdp, 0, 65535, 1}}));
  EXPECT_EQ(classify_ports({{{kTcp, 80, 90}}, {{kTcp, 85, 85}}}).runs,
            (std::vector<PortRun>{{kTcp, 80, 84, 1}, {kTcp, 85, 85, 2}, {kTcp, 86, 90, 1}}));
}

TEST(PortClasses, NoPortsNeedNoEntries) {
  const auto classes = classify_ports({{}, {}});
  EXPECT_TRUE(classes.prefixes.empty());
  EXPECT_EQ(classes.count, 1U);
}

TEST(PortClasses, AWholeProtocolIsOneEntry) {
  EXPECT_EQ(classify_ports({{{kTcp, 0, 65535}}}).prefixes, (std::vector<PortPrefix>{{kTcp, 0, 0, 1}}));
}

TEST(PortClasses, APortWithinAWholeProtocolIsOneEntryMore) {
  EXPECT_EQ(classify_ports({{{kTcp, 0, 65535}}, {{kTcp, 80, 80}}}).prefixes,
            (std::vector<PortPrefix>{{kTcp, 0, 0, 1}, {kTcp, 80, 16, 2}}));
}

TEST(PortClasses, AllButOnePortIsTwoEntries) {
  EXPECT_EQ(classify_ports({{{kUdp, 1, 65535}}}).prefixes.size(), 2U);
}

TEST(PortClasses, PortsThatTheSameGroupsNameShareAClass) {
  const auto classes = classify_ports({{{kTcp, 80, 80}, {kUdp, 53, 53}}, {{kTcp, 443, 443}}});
  EXPECT_EQ(classes.count, 3U);
  EXPECT_EQ(lookup(classes, kTcp, 80), lookup(classes, kUdp, 53));
  EXPECT_NE(lookup(classes, kTcp, 80), lookup(classes, kTcp, 443));
  EXPECT_EQ(lookup(classes, kTcp, 53), 0U);
}

TEST(PortClasses, EveryPortHasTheClassOfTheGroupsThatNameIt) {
  std::mt19937 random(7);
  const auto number = [&](unsigned bound) { return static_cast<std::uint16_t>(random() % bound); };
  for (int round = 0; round < 40; ++round) {
    std::vector<std::vector<PortSpan>> groups(1U + number(5));
    for (auto& group : groups) {
      for (int i = number(5); i > 0; --i) {
        const std::uint16_t first = number(round % 2 == 0 ? 300 : 65536);
        const auto last =
            static_cast<std::uint16_t>(std::min(65535, first + number(round % 3 == 0 ? 65536 : 40)));
        group.push_back({number(3) == 0 ? kUdp : kTcp, first, last});
      }
    }
    const auto classes = classify_ports(groups);
    for (const std::uint8_t protocol : {kTcp, kUdp, std::uint8_t{1}}) {
      for (std::uint32_t port = 0; port < 65536; port += port < 400 ? 1 : 97) {
        const std::uint32_t port_class = lookup(classes, protocol, port);
        ASSERT_LT(port_class, classes.count);
        ASSERT_EQ(lookup_run(classes, protocol, port), port_class) << "port " << port;
        for (std::size_t group = 0; group < groups.size(); ++group) {
          const bool named = std::ranges::any_of(groups[group], [&](const PortSpan& span) {
            return span.protocol == protocol && span.first <= port && port <= span.last;
          });
          ASSERT_EQ(std::ranges::count(classes.of_group[group], port_class), named ? 1 : 0)
              << "round " << round << " protocol " << int{protocol} << " port " << port << " group " << group;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::policy
