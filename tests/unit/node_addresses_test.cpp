// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/node_addresses.h"

#include <gmock/gmock.h>

namespace sluice::controller {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Address ip(const char* text) { return *Address::parse(text); }

model::Node node(const char* cidr, std::initializer_list<const char*> addresses) {
  model::Node made;
  made.pod_cidrs = {*Prefix::parse(cidr)};
  for (const char* address : addresses) made.addresses.push_back(ip(address));
  return made;
}

class OtherNodesTest : public testing::Test {
 protected:
  [[nodiscard]] OtherNodes told() const {
    return other_nodes(nodes, "here", {ip("192.0.2.1")}, service_ranges, before, former, former_pods);
  }
  std::map<std::string, model::Node> nodes{{"here", node("10.0.1.0/24", {"192.0.2.1"})},
                                           {"there", node("10.0.2.0/24", {"192.0.2.2"})}};
  std::vector<Prefix> service_ranges;
  std::vector<datapath::NodeConfig::Remote> before;
  FormerRanges former;
  std::vector<Address> former_pods;
};

TEST_F(OtherNodesTest, AnAddressOfItsOwnIsBelieved) {
  const auto others = told();
  ASSERT_EQ(others.remotes.size(), 1U);
  EXPECT_THAT(others.remotes[0].addresses, ElementsAre(ip("192.0.2.2")));
  EXPECT_THAT(others.refused, IsEmpty());
}

TEST_F(OtherNodesTest, APodsAddressOrThisNodesIsNot) {
  nodes["evil"] = node("10.0.3.0/24", {"10.0.2.7", "192.0.2.1", "192.0.2.3"});
  const auto others = told();
  ASSERT_EQ(others.remotes.size(), 2U);
  EXPECT_THAT(others.remotes[0].addresses, ElementsAre(ip("192.0.2.3")));
  EXPECT_THAT(
      others.refused,
      ElementsAre(
          "Node evil: its InternalIP 10.0.2.7 is ignored: it is in the podCIDR 10.0.2.0/24 of Node there",
          "Node evil: its InternalIP 192.0.2.1 is ignored: Node here has it"));
}

TEST_F(OtherNodesTest, AnAddressOfAServiceCidrIsNoNodes) {
  service_ranges = {*Prefix::parse("10.96.0.0/16")};
  nodes["evil"] = node("10.0.3.0/24", {"10.96.0.1", "192.0.2.3"});
  const auto others = told();
  ASSERT_EQ(others.remotes.size(), 2U);
  EXPECT_THAT(others.remotes[0].addresses, ElementsAre(ip("192.0.2.3")));
  EXPECT_THAT(others.refused, ElementsAre("Node evil: its InternalIP 10.96.0.1 is ignored: it is in the "
                                          "ServiceCIDR 10.96.0.0/16"));
}

TEST_F(OtherNodesTest, OfTwoWithOneAddressTheFirstKnownKeepsIt) {
  before = told().remotes;
  nodes["a-newcomer"] = node("10.0.3.0/24", {"192.0.2.2"});
  const auto others = told();
  ASSERT_EQ(others.remotes.size(), 1U);
  EXPECT_EQ(others.remotes[0].name, "there");
  EXPECT_THAT(others.refused,
              ElementsAre("Node a-newcomer: its InternalIP 192.0.2.2 is ignored: Node there has it"));
  nodes.erase("there");
  EXPECT_EQ(told().remotes.at(0).name, "a-newcomer");
}

TEST_F(OtherNodesTest, OfTwoWithOnePodCidrTheFirstKnownKeepsIt) {
  nodes["a-newcomer"] = node("10.0.0.0/16", {"192.0.2.3"});
  nodes["thief"] = node("10.0.1.0/25", {"192.0.2.4"});
  before = {{"there", {*Prefix::parse("10.0.2.0/24")}, {ip("192.0.2.2")}}};
  const auto others = told();
  ASSERT_EQ(others.remotes.size(), 3U);
  EXPECT_THAT(others.remotes[0].pod_cidrs, IsEmpty());
  EXPECT_THAT(others.remotes[1].pod_cidrs, ElementsAre(*Prefix::parse("10.0.2.0/24")));
  EXPECT_THAT(others.remotes[2].pod_cidrs, IsEmpty());
  EXPECT_THAT(
      others.refused,
      ElementsAre("Node a-newcomer: its podCIDR 10.0.0.0/16 is ignored: it overlaps 10.0.1.0/24 of Node here",
                  "Node thief: its podCIDR 10.0.1.0/25 is ignored: it overlaps 10.0.1.0/24 of Node here"));
}

TEST_F(OtherNodesTest, AFormerPodCidrIsTheNodesWhileItIsNobodyElses) {
  former = {{"there",
             {*Prefix::parse("10.0.9.0/24"), *Prefix::parse("10.0.2.0/24"), *Prefix::parse("10.0.1.0/25")}}};
  EXPECT_THAT(told().remotes.at(0).pod_cidrs,
              ElementsAre(*Prefix::parse("10.0.2.0/24"), *Prefix::parse("10.0.9.0/24")))
      << "but for what is this node's";
  nodes["later"] = node("10.0.9.0/24", {"192.0.2.3"});
  EXPECT_THAT(told().remotes.at(1).pod_cidrs, ElementsAre(*Prefix::parse("10.0.2.0/24")));
  EXPECT_THAT(told().refused, IsEmpty());
  nodes.erase("later");
  service_ranges = {*Prefix::parse("10.0.8.0/22")};
  EXPECT_THAT(told().remotes.at(0).pod_cidrs, ElementsAre(*Prefix::parse("10.0.2.0/24")));
  service_ranges.clear();
  nodes.erase("there");
  EXPECT_THAT(told().remotes, IsEmpty());
  nodes["there"] = node("10.0.2.0/24", {"192.0.2.2"});
  nodes["there"].pod_cidrs.clear();
  EXPECT_EQ(told().remotes.at(0).pod_cidrs.size(), 2U) << "made anew, it has none for a moment";
}

TEST_F(OtherNodesTest, AFormerPodsAddressIsNoNodes) {
  former = {{"there", {*Prefix::parse("10.0.2.0/24"), *Prefix::parse("10.0.9.0/24")}}};
  former_pods = {ip("10.0.8.5")};
  nodes["evil"] = node("10.0.3.0/24", {"10.0.9.7", "10.0.8.5", "10.0.2.7", "10.0.8.6", "192.0.2.3"});
  EXPECT_THAT(told().remotes.at(0).addresses, ElementsAre(ip("10.0.8.6"), ip("192.0.2.3")));
  EXPECT_THAT(
      told().refused,
      ElementsAre(
          "Node evil: its InternalIP 10.0.9.7 is ignored: it is in the former podCIDR 10.0.9.0/24 of Node "
          "there",
          "Node evil: its InternalIP 10.0.8.5 is ignored: a pod of this node has it",
          "Node evil: its InternalIP 10.0.2.7 is ignored: it is in the podCIDR 10.0.2.0/24 of Node there"));
  nodes.erase("there");
  EXPECT_THAT(told().remotes.at(0).addresses, ElementsAre(ip("10.0.8.6"), ip("192.0.2.3")))
      << "while its pods are there, also without the Node object";
}

TEST_F(OtherNodesTest, ARangeOfBeforeIsWhoseAloneNamesTheEndOfItsTunnel) {
  const auto range = *Prefix::parse("10.0.9.0/24");
  const auto found = [&](const char* end) { return ranges_by_end({{range, ip(end)}}, nodes, "here"); };
  nodes["there"].addresses.push_back(ip("192.0.2.2"));  // twice
  EXPECT_EQ(found("192.0.2.2"), (FormerRanges{{"there", {range}}}));
  EXPECT_THAT(found("192.0.2.1"), IsEmpty()) << "it is this node's";
  EXPECT_THAT(found("192.0.2.9"), IsEmpty()) << "nobody's";
  nodes["evil"] = node("10.0.3.0/24", {"192.0.2.3", "192.0.2.2"});
  EXPECT_THAT(found("192.0.2.2"), IsEmpty());
}

TEST_F(OtherNodesTest, PodsHaveAddressesOfFormerRangesToo) {
  const auto own = *Prefix::parse("10.0.1.0/24");
  const auto others = *Prefix::parse("10.0.2.0/24");
  EXPECT_THAT(ranges_of_pods(nodes, std::nullopt), ElementsAre(own, others));
  const auto formers = *Prefix::parse("10.0.9.0/24");
  former = {{"there", {formers}}};
  datapath::NodeConfig config;
  config.former_pods = {ip("10.0.8.5")};
  config.remotes = told().remotes;
  const auto pod = Prefix::host(ip("10.0.8.5"));
  EXPECT_THAT(ranges_of_pods(nodes, config), ElementsAre(own, others, pod, formers));
  nodes.erase("there");
  EXPECT_THAT(ranges_of_pods(nodes, config), ElementsAre(own, pod, others, formers)) << "not looked at again";
}

TEST(WhyUnusable, AnUplinkThatSluiceCannotReadOrWhoseSubnetPodsWouldTake) {
  const std::vector<Prefix> pods{*Prefix::parse("10.0.1.0/24")};
  Link uplink;
  uplink.index = 3;
  uplink.name = "up0";
  uplink.ethernet = true;
  std::vector<LinkAddress> addresses{{3, ip("192.0.2.1"), 24}, {4, ip("10.0.1.9"), 24}};
  EXPECT_EQ(why_unusable(pods, {"up0"}, {uplink}, addresses), "");
  EXPECT_EQ(why_unusable(pods, {"up0"}, {}, addresses), "") << "that it is missing is told elsewhere";
  addresses[0].address = ip("10.0.0.7");
  addresses[0].length = 16;
  EXPECT_THAT(why_unusable(pods, {"up0"}, {uplink}, addresses),
              HasSubstr("podCIDR 10.0.1.0/24 overlaps 10.0.0.0/16"));
  uplink.ethernet = false;
  EXPECT_THAT(why_unusable(pods, {"up0"}, {uplink}, {}),
              HasSubstr("uplink up0 has other headers than Ethernet's"));
}

}  // namespace
}  // namespace sluice::controller
