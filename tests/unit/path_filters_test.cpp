// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/path_filters.h"

#include <gmock/gmock.h>

#include <map>

namespace sluice::controller {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string told(const std::map<std::string, unsigned>& filters) {
  std::vector<datapath::NodeConfig::Uplink> uplinks(2);
  uplinks[0].name = "eth0";
  uplinks[1].name = "eth1.83";
  return strict_filters(uplinks, [&](const std::string& name) { return filters.at(name); });
}

TEST(StrictFilters, TheLargerOfTheInterfacesAndTheOneForAllCounts) {
  EXPECT_EQ(told({{"all", 0}, {"eth0", 0}, {"eth1.83", 2}}), "");
  EXPECT_EQ(told({{"all", 2}, {"eth0", 1}, {"eth1.83", 1}}), "");
  EXPECT_THAT(told({{"all", 0}, {"eth0", 2}, {"eth1.83", 1}}), HasSubstr("strict on eth1.83: "));
  const auto both = told({{"all", 1}, {"eth0", 0}, {"eth1.83", 1}});
  EXPECT_THAT(both, HasSubstr("strict on eth0, eth1.83: "));
  EXPECT_THAT(both, HasSubstr("sysctl -w net/ipv4/conf/eth0/rp_filter=2 net/ipv4/conf/eth1.83/rp_filter=2"));
  EXPECT_THAT(told({{"all", 1}, {"eth0", 2}, {"eth1.83", 0}}), Not(HasSubstr("eth0")));
}

TEST(StrictFilters, OneUplinkHasNoOtherWay) {
  std::vector<datapath::NodeConfig::Uplink> one(1);
  EXPECT_EQ(strict_filters(one, [](const std::string&) { return 1U; }), "");
}

}  // namespace
}  // namespace sluice::controller
