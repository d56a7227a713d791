// SPDX-License-Identifier: Apache-2.0
// Which interfaces are uplinks, and under which address packets leave by each.
#include "daemon/controller/uplinks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace sluice::controller {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

Address ip(const char* text) { return *Address::parse(text); }

class UplinksTest : public ::testing::Test {
 protected:
  UplinksTest() { add("lo", "127.0.0.1", 8); }

  // An interface, or another address of one.
  int add(const std::string& name, const char* address, unsigned length = 24, const char* kind = "") {
    auto link = std::ranges::find(surface_.links, name, &Link::name);
    if (link == surface_.links.end()) {
      Link made;
      made.index = static_cast<int>(surface_.links.size()) + 1;
      made.name = name;
      made.kind = kind;
      made.mtu = 1500;
      made.ethernet = true;
      link = surface_.links.insert(link, made);
    }
    if (address != nullptr) surface_.addresses.push_back({link->index, ip(address), length});
    return link->index;
  }
  Route& route(const char* destination, std::vector<int> links, const char* gateway = nullptr) {
    Route made;
    made.destination = *Prefix::parse(destination);
    made.links = std::move(links);
    made.by_gateway = true;
    if (gateway != nullptr) made.gateway = ip(gateway);
    surface_.routes.push_back(made);
    return surface_.routes.back();
  }
  FoundUplinks find(const char* internal_ip, const std::string& named = "") const {
    return find_uplinks(ip(internal_ip), named, surface_);
  }
  static std::map<std::string, std::string> sources(const FoundUplinks& found) {
    std::map<std::string, std::string> text;
    for (const auto& uplink : found.all) text[uplink.name] = uplink.source.to_string();
    return text;
  }

  Surface surface_;
};

TEST_F(UplinksTest, PrivateInternalIpAndPublicDefaultRoute) {
  add("private", "10.0.0.1");
  const int index = add("public", "203.0.113.9", 32);
  route("0.0.0.0/0", {index}, "172.31.1.1");
  const auto found = find("10.0.0.1");
  EXPECT_THAT(sources(found),
              UnorderedElementsAre(Pair("private", "10.0.0.1"), Pair("public", "203.0.113.9")));
  EXPECT_THAT(found.underlay, ElementsAre("private"));
}

TEST_F(UplinksTest, WhatIsNoWayOutIsNone) {
  add("eth0", "10.0.0.1");
  add("kube-ipvs0", "10.96.0.1", 32, "dummy");
  add("sluice_host", "10.83.0.1", 32, "veth");
  add("slu0123456789a", "192.0.2.9", 32, "veth");
  add("link-local", "169.254.1.1", 16);
  add("bare", nullptr);
  EXPECT_THAT(sources(find("10.0.0.1")), ElementsAre(Pair("eth0", "10.0.0.1")));
}

TEST_F(UplinksTest, AnInternalIpOfLoIsTheSourceWhereRoutersKnowIt) {
  add("lo", "10.0.0.1", 32);
  const int one = add("up0", "10.1.0.0", 31), two = add("up1", nullptr);
  add("storage", "10.7.0.1");
  surface_.links[1].mtu = 9000;
  route("0.0.0.0/0", {one, two});
  const auto found = find("10.0.0.1");
  EXPECT_THAT(sources(found), UnorderedElementsAre(Pair("up0", "10.0.0.1"), Pair("up1", "10.0.0.1"),
                                                   Pair("storage", "10.7.0.1")));
  EXPECT_THAT(found.underlay, UnorderedElementsAre("up0", "up1"));
  EXPECT_EQ(found.mtu, 1500) << "the smallest";
}

TEST_F(UplinksTest, TheRouteMayNameTheSource) {
  add("eth0", "10.0.0.1");
  const int index = add("eth1", "192.0.2.1");
  add("eth1", "192.0.2.7");
  auto& by_default = route("0.0.0.0/0", {index}, "192.0.2.254");
  by_default.source = ip("192.0.2.7");
  EXPECT_EQ(sources(find("10.0.0.1"))["eth1"], "192.0.2.7");
  by_default.source = ip("192.0.2.8");
  EXPECT_EQ(sources(find("10.0.0.1"))["eth1"], "192.0.2.1") << "no address of the node";
}

TEST_F(UplinksTest, OfSeveralAddressesTheOneInTheGatewaysSubnet) {
  add("eth0", "10.0.0.1");
  const int index = add("eth1", "192.0.2.1");
  add("eth1", "198.51.100.1");
  route("0.0.0.0/0", {index}, "198.51.100.254");
  EXPECT_EQ(sources(find("10.0.0.1"))["eth1"], "198.51.100.1");
  EXPECT_EQ(sources(find("192.0.2.1"))["eth1"], "192.0.2.1") << "the InternalIP goes before";
}

TEST_F(UplinksTest, WithoutTheInternalIpNothingIsKnownUnlessOneIsNamed) {
  add("eth0", "10.0.0.1");
  EXPECT_THAT(find("10.9.9.9").all, IsEmpty());
  EXPECT_THAT(find_uplinks(std::nullopt, "eth0", surface_).all, IsEmpty());
  const auto named = find("10.9.9.9", "eth0");
  EXPECT_THAT(sources(named), ElementsAre(Pair("eth0", "10.9.9.9")));
  EXPECT_THAT(named.underlay, ElementsAre("eth0"));
}

}  // namespace
}  // namespace sluice::controller
