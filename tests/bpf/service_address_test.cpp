// SPDX-License-Identifier: Apache-2.0
// The address of a Service leads to the ports that the Service has, and nowhere else.
#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

class ServiceAddress : public Service {
 protected:
  void SetUp() override {
    Service::SetUp();
    serve(kService, kPort, {{"10.1.0.3"}});
    claim(kService, 32);
  }
  // All of the prefix belongs to Services.
  void claim(const std::string& ipv4, unsigned length) {
    sluice_route_key key{};
    key.prefix_len = SLUICE_V4_PREFIX_BITS + length;
    key.addr = address(ipv4);
    put("service_addresses", key, std::uint32_t{0});
  }
  static Frame to_port(std::uint16_t port, std::uint8_t proto, const std::string& flags = "S") {
    return but(out(proto, flags), [&](Frame& f) { f.dport = port; });
  }
};

TEST_F(ServiceAddress, APodIsToldThatAnotherPortIsNobodys) {
  for (const std::uint8_t proto : {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP}) {
    EXPECT_EQ(send(SLUICE_HOOK_POD, to_port(kPort, proto)).outcome,
              proto == IPPROTO_SCTP ? "dropped SERVICE_UNSUPPORTED" : "delivered");
    const Seen seen = send(SLUICE_HOOK_POD, to_port(kPort + 1, proto));
    EXPECT_EQ(seen.outcome, "answered");
    EXPECT_EQ(seen.out.find("gateway>podA 10.96.0.10>10.1.0.2 icmp 3 about [10.1.0.2:4000>10.96.0.10:81"), 0U)
        << seen.out;
  }
  EXPECT_EQ(connections(), 4U) << "those to the Service's own port, each with its front";
}

TEST_F(ServiceAddress, NoProtocolLeaves) {
  const Seen ping = send(SLUICE_HOOK_POD, to_port(0, IPPROTO_ICMP));
  EXPECT_EQ(ping.outcome, "answered");
  EXPECT_EQ(ping.out.find("gateway>podA 10.96.0.10>10.1.0.2 icmp 3 about [10.1.0.2>10.96.0.10 echo"), 0U)
      << ping.out;
  EXPECT_EQ(send(SLUICE_HOOK_POD, to_port(0, IPPROTO_GRE)).outcome, "answered");
  EXPECT_EQ(connections(), 0U);
}

TEST_F(ServiceAddress, WhatMustNotBeAnsweredIsDropped) {
  EXPECT_EQ(send(SLUICE_HOOK_POD, to_port(kPort + 1, IPPROTO_TCP, "R")).outcome, "dropped SERVICE_PORT");
}

TEST_F(ServiceAddress, TheNodesStackIsTold) {
  Frame asked = to_port(kPort + 1, IPPROTO_UDP);
  asked.from = "gateway";
  asked.src = "10.1.0.1";
  const Seen seen = send(SLUICE_HOOK_HOST, asked);
  EXPECT_EQ(seen.outcome, "to_stack");
  EXPECT_NE(seen.out.find("10.96.0.10>10.1.0.1 icmp 3"), std::string::npos) << seen.out;
}

TEST_F(ServiceAddress, OthersAreTheWorlds) {
  EXPECT_EQ(
      send(SLUICE_HOOK_POD, but(to_port(kPort, IPPROTO_UDP), [](Frame& f) { f.dst = "10.96.0.11"; })).outcome,
      "out_uplink");
  claim("10.96.0.0", 12);
  EXPECT_EQ(
      send(SLUICE_HOOK_POD, but(to_port(kPort, IPPROTO_UDP), [](Frame& f) { f.dst = "10.96.0.12"; })).outcome,
      "answered")
      << "in a range of Services, and no Service's";
}

// A range that somebody gave wrongly takes no address from whom it belongs to.
TEST_F(ServiceAddress, WhatThePodsAndNodesHaveStaysTheirs) {
  claim("0.0.0.0", 0);
  const auto to = [](const char* destination) {
    return but(to_port(53, IPPROTO_UDP), [&](Frame& f) { f.dst = destination; });
  };
  EXPECT_EQ(send(SLUICE_HOOK_POD, to("10.1.0.3")).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, to("192.0.2.1")).outcome, "to_stack");
  EXPECT_EQ(send(SLUICE_HOOK_POD, to("10.2.0.9")).outcome, "out_tunnel");
  EXPECT_EQ(send(SLUICE_HOOK_POD, to("198.51.100.7")).outcome, "answered");
}

}  // namespace
}  // namespace sluice::bpftest
