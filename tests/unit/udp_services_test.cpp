// SPDX-License-Identifier: Apache-2.0
// Which UDP connections are to begin anew because no Service leads them where they go.
#include "daemon/datapath/udp_services.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <memory>
#include <string>
#include <utility>

#include "tests/unit/service_words.h"

namespace sluice::datapath {
namespace {

using service::Backend;
using service::Frontend;
using service::Target;
using service::words::ip;

constexpr const char *kClient = "10.1.0.2", *kService = "10.96.0.10", *kBackend = "10.1.0.3",
                     *kOther = "10.2.0.3";

Frontend udp(const std::string& address, std::uint16_t port = 53) {
  return {ip(address), model::Protocol::kUdp, port};
}

std::shared_ptr<const service::Pool> pool(std::vector<Backend> backends) {
  auto made = std::make_shared<service::Pool>();
  made->backends = std::move(backends);
  return made;
}

Target target(std::vector<Backend> inside, std::vector<Backend> outside = {},
              std::vector<Backend> retained = {}) {
  Target made;
  made.internal = pool(std::move(inside));
  made.external = pool(std::move(outside));
  made.retained = std::move(retained);
  return made;
}

using Entry = std::pair<sluice_ct_key, sluice_ct_entry>;

struct End {
  const char* address;
  std::uint16_t port;
};

// Of a connection from `origin` to `other`.
Entry entry(End origin, End other, std::uint16_t flags = 0, std::uint8_t proto = IPPROTO_UDP) {
  Entry made{};
  const bool high = std::pair(ip(other.address), other.port) < std::pair(ip(origin.address), origin.port);
  const auto put = [&](int at, const End& end) {
    made.first.addr[at] = ip(end.address).abi();
    made.first.port_be[at] = htons(end.port);
  };
  put(high ? 1 : 0, origin);
  put(high ? 0 : 1, other);
  made.first.proto = proto;
  made.second.nat.flags = flags;
  if (high && !(flags & SLUICE_CT_FRONT)) made.second.nat.flags |= SLUICE_CT_ORIGIN_HIGH;
  return made;
}

// What the client sees of its connection to a backend by the Service.
Entry front(End client, End service, End backend) {
  auto made = entry(client, service, SLUICE_CT_FRONT);
  made.second.nat.addr = ip(backend.address).abi();
  made.second.nat.port_be = htons(backend.port);
  if (std::string(service.address) == backend.address && service.port == backend.port)
    made.first.side = SLUICE_CT_OWN_SIDE;
  return made;
}

class UdpServicesTest : public testing::Test {
 protected:
  void serve(const Frontend& frontend, Target target) {
    table[frontend] = std::make_shared<const Target>(std::move(target));
  }
  [[nodiscard]] bool ends(const Entry& entry) const {
    return UdpServices(table, unsettled).misleads(entry.first, entry.second);
  }
  service::Table table;
  std::vector<Frontend> unsettled;
  const Entry by_service = front({kClient, 4000}, {kService, 53}, {kBackend, 5353});
};

TEST_F(UdpServicesTest, AConnectionGoesOnWhileItsBackendServes) {
  serve(udp(kService), target({{ip(kBackend), 5353}}));
  EXPECT_FALSE(ends(by_service));
  serve(udp(kService), target({{ip(kOther), 5353}}, {{ip(kBackend), 5353}}));
  EXPECT_FALSE(ends(by_service)) << "served to those outside";
  serve(udp(kService), target({{ip(kOther), 5353}}, {}, {{ip(kBackend), 5353}}));
  EXPECT_FALSE(ends(by_service)) << "gets no new connections";
  serve(udp(kService), target({{ip(kOther), 5353}}));
  EXPECT_TRUE(ends(by_service));
  serve(udp(kService), target({{ip(kBackend), 53}}));
  EXPECT_TRUE(ends(by_service)) << "another port of the pod";
}

TEST_F(UdpServicesTest, WhichEndIsTheServiceDoesNotMatter) {
  const auto from_above = front({"203.0.113.9", 4000}, {kService, 53}, {kBackend, 5353});
  serve(udp(kService), target({{ip(kBackend), 5353}}));
  EXPECT_FALSE(ends(from_above));
  serve(udp(kService), target({{ip(kOther), 5353}}));
  EXPECT_TRUE(ends(from_above));
}

TEST_F(UdpServicesTest, NoConnectionOutlivesItsService) {
  EXPECT_TRUE(ends(by_service));
  serve({ip(kService), model::Protocol::kTcp, 53}, target({{ip(kBackend), 5353}}));
  EXPECT_TRUE(ends(by_service));
}

TEST_F(UdpServicesTest, AConnectionFromBeforeTheServiceBeginsAnew) {
  for (const char* client : {kClient, "203.0.113.9"}) {
    const auto before = entry({client, 4000}, {kService, 53});
    EXPECT_FALSE(ends(before)) << client;
    serve(udp(kService), target({}));
    EXPECT_TRUE(ends(before)) << client << ": also if nobody serves, and the client is to be told so";
    table.clear();
  }
}

TEST_F(UdpServicesTest, WhatComesFromAServicesAddressIsNotToIt) {
  serve(udp("192.0.2.1", 30053), target({{ip(kBackend), 5353}}));
  for (const char* other : {kClient, "203.0.113.9"})
    EXPECT_FALSE(ends(entry({"192.0.2.1", 30053}, {other, 4000}))) << other;
}

TEST_F(UdpServicesTest, OnlyTheClientsViewOfAConnectionEnds) {
  // Its backend may be a Service's address, too; the entry that has both directions stays for the answers.
  serve(udp(kBackend, 5353), target({{ip(kOther), 5353}}));
  EXPECT_FALSE(ends(entry({kClient, 4000}, {kBackend, 5353}, SLUICE_CT_SERVICE)));
  EXPECT_FALSE(ends(entry({kClient, 4000}, {kBackend, 5353}, SLUICE_CT_ALIAS)));
  EXPECT_FALSE(ends(entry({kClient, 4000}, {kBackend, 5353}, 0, IPPROTO_TCP)));
}

TEST_F(UdpServicesTest, ADirectConnectionByAnotherPortStays) {
  const auto direct = front({kClient, 4000}, {kBackend, 5353}, {kBackend, 5353});
  EXPECT_FALSE(ends(direct));
  serve(udp(kBackend, 5353), target({{ip(kOther), 5353}}));
  EXPECT_TRUE(ends(direct)) << "its destination is a Service's now, as another backend's";
}

TEST_F(UdpServicesTest, OfAFrontendThatIsUnsettledNothingEnds) {
  unsettled = {udp(kService)};
  EXPECT_FALSE(ends(by_service));
  EXPECT_FALSE(ends(entry({kClient, 4000}, {kService, 53})));
  serve(udp(kService), target({{ip(kOther), 5353}}));
  EXPECT_FALSE(ends(by_service)) << "what was in force before may be so still";
}

TEST_F(UdpServicesTest, ConntrackIsLookedThroughWhenSomethingMayEnd) {
  serve(udp(kService), target({{ip(kBackend), 5353}}));
  const UdpServices one(table);
  EXPECT_FALSE(one.ends_more_than(UdpServices(table)));
  EXPECT_TRUE(one.ends_more_than(UdpServices(service::Table{}))) << "a Service that is new";
  EXPECT_TRUE(one.ends_more_than(UdpServices(service::Table{}, {udp(kService)})));
  EXPECT_TRUE(UdpServices(service::Table{}).ends_more_than(one)) << "one that is gone";
  serve(udp(kService), target({{ip(kOther), 5353}}, {{ip(kBackend), 5353}}));
  const UdpServices two(table);
  EXPECT_FALSE(two.ends_more_than(one)) << "a backend more";
  EXPECT_TRUE(one.ends_more_than(two)) << "a backend less";
  serve(udp(kService), target({}, {}, {{ip(kBackend), 5353}, {ip(kOther), 5353}}));
  EXPECT_FALSE(UdpServices(table).ends_more_than(two));
}

}  // namespace
}  // namespace sluice::datapath
