// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "daemon/controller/protocols.h"
#include "daemon/datapath/conntrack.h"

namespace sluice {
namespace {

constexpr std::uint64_t kGiB = 1 << 30;

TEST(ConntrackSize, GrowsWithMemoryWithinItsBounds) {
  EXPECT_EQ(datapath::conntrack_size(0), SLUICE_CONNTRACK_MIN);
  EXPECT_EQ(datapath::conntrack_size(2 * kGiB), SLUICE_CONNTRACK_MIN);
  EXPECT_EQ(datapath::conntrack_size(8 * kGiB), 262144U);
  EXPECT_EQ(datapath::conntrack_size(32 * kGiB), SLUICE_CONNTRACK_MAX);
  EXPECT_EQ(datapath::conntrack_size(~std::uint64_t{0}), SLUICE_CONNTRACK_MAX);
}

TEST(Protocols, HaveNamesOfEitherCaseAndNumbers) {
  for (const int number : {1, 6, 17, 132, 0, 47, 255}) {
    const auto proto = static_cast<std::uint8_t>(number);
    EXPECT_EQ(controller::protocol_number(controller::protocol_name(proto)), proto);
  }
  EXPECT_EQ(controller::protocol_name(6), "TCP");
  EXPECT_EQ(controller::protocol_name(47), "47");
  EXPECT_EQ(controller::protocol_number("sctp"), 132);
  for (const auto* wrong : {"", "tcpp", "-1", "256", "6x", " 6"})
    EXPECT_FALSE(controller::protocol_number(wrong)) << wrong;
}

}  // namespace
}  // namespace sluice
