// SPDX-License-Identifier: Apache-2.0
// Masquerade ports where they are short: who yields one, to whom.
#include <fmt/format.h>

#include <map>
#include <set>

#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

constexpr std::uint32_t kPodC = 3;
constexpr std::uint16_t kFirst = SLUICE_SNAT_PORT_MIN;

class ShortPorts : public World {
 protected:
  struct Pod {
    const char* mac;
    const char* address;
    std::uint32_t id;
  };
  static constexpr Pod kA{"podA", "10.1.0.2", kPodA}, kB{"podB", "10.1.0.3", kPodB},
      kC{"02:00:00:00:00:44", "10.1.0.4", kPodC};

  void SetUp() override {
    World::SetUp();
    add_endpoint(kPodC, kC.address, kC.mac, interfaces().stranger);
    set_policy(kPodC, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  }
  void have_ports(std::uint16_t count) {
    change_config([&](sluice_config& c) { c.snat_port_max = static_cast<__u16>(kFirst + count - 1); });
  }
  std::string send_out(const Pod& pod, std::uint16_t source, std::uint8_t proto = IPPROTO_TCP,
                       const char* flags = "S") {
    const Frame frame{.from = pod.mac,
                      .src = pod.address,
                      .dst = "198.51.100.7",
                      .proto = proto,
                      .sport = source,
                      .dport = 443,
                      .flags = flags};
    if (pod.id != kPodC) return send(SLUICE_HOOK_POD, frame).outcome;
    return send_on(interfaces().stranger, build(frame)).outcome;
  }
  // The server's answer to what came from `port`: what became of it.
  Seen send_back(std::uint16_t port, std::uint8_t proto = IPPROTO_TCP, const char* flags = "SA") {
    return send(SLUICE_HOOK_UPLINK, Frame{.from = "02:00:00:00:00:99",
                                          .to = "uplink",
                                          .src = "198.51.100.7",
                                          .dst = "192.0.2.1",
                                          .proto = proto,
                                          .sport = 443,
                                          .dport = port,
                                          .flags = flags});
  }
  // 0: there is no such connection.
  std::uint16_t port_of(const Pod& pod, std::uint16_t source, std::uint8_t proto = IPPROTO_TCP) {
    const auto found = connection({pod.address, source, "198.51.100.7", 443, proto});
    return found ? ntohs(found->nat.snat_port_be) : std::uint16_t{0};
  }
  std::uint16_t establish(const Pod& pod, std::uint16_t source) {
    EXPECT_EQ(send_out(pod, source), "out_uplink");
    const auto port = port_of(pod, source);
    EXPECT_EQ(send_back(port).outcome, "delivered");
    EXPECT_EQ(send_out(pod, source, IPPROTO_TCP, "A"), "out_uplink");
    return port;
  }
  // SYNs that nobody answers, until all ports are taken.
  std::uint16_t flood(const Pod& pod) {
    std::uint16_t taken = 0;
    for (std::uint16_t source = 10'000, refused = 0; refused < 50; ++source) {
      const auto outcome = send_out(pod, source);
      EXPECT_TRUE(outcome == "out_uplink" || outcome == "dropped SNAT_PORTS_EXHAUSTED") << outcome;
      ++(outcome == "out_uplink" ? taken : refused);
    }
    return taken;
  }
  // As if so much time had passed for all connections.
  void age_all(std::uint64_t ns) {
    for (std::uint32_t index = 0; index < kConntrackGroups; ++index) {
      auto pool = get<sluice_ct_pool>("conntrack", index).value();
      for (auto& pair : pool.pair) pair.entry.last_seen_ns -= ns;
      put("conntrack", index, pool);
    }
  }
  void expect_right_counters() {
    std::int64_t every = 0;
    for (const auto owner : {kPodA, kPodB, kPodC, kNobody})
      every += get<std::int64_t>("conntrack_use", owner).value();
    EXPECT_EQ(every, connections());
    EXPECT_EQ(get<std::int64_t>("conntrack_use", std::uint32_t{SLUICE_CT_USE_ALL}), every);
  }
  static constexpr std::uint32_t kNobody = SLUICE_MAX_ENDPOINTS;
};

TEST_F(ShortPorts, OneFloodTakesNoneFromOthers) {
  have_ports(500);
  EXPECT_GE(flood(kA), 490);
  std::set<std::uint16_t> ports;
  for (std::uint16_t source = 1; source <= 20; ++source) {
    ASSERT_EQ(send_out(kB, source), "out_uplink") << source;
    ports.insert(port_of(kB, source));
    EXPECT_EQ(send_back(port_of(kB, source)).out.find("gateway>podB 198.51.100.7:443>10.1.0.3"), 0U);
  }
  EXPECT_EQ(ports.size(), 20U);
  EXPECT_EQ(send_out(kA, 1), "dropped SNAT_PORTS_EXHAUSTED") << "none is taken back";
  expect_right_counters();
}

TEST_F(ShortPorts, ConnectionsThatWereNeverEstablishedGoFirst) {
  have_ports(200);
  std::map<std::uint16_t, std::uint16_t> established;
  for (std::uint16_t source = 1; source <= 50; ++source) established[source] = establish(kA, source);
  flood(kA);
  for (std::uint16_t source = 1; source <= 30; ++source)
    ASSERT_EQ(send_out(kB, source), "out_uplink") << source;
  for (const auto& [source, port] : established) {
    ASSERT_EQ(port_of(kA, source), port);
    EXPECT_EQ(send_back(port, IPPROTO_TCP, "A").out.find("gateway>podA"), 0U);
  }
  expect_right_counters();
}

TEST_F(ShortPorts, WhoHoldsAllByEstablishedOnesYieldsToo) {
  have_ports(200);
  for (std::uint16_t source = 1; source <= 200; ++source)
    if (send_out(kA, source) == "out_uplink") {
      EXPECT_EQ(send_back(port_of(kA, source)).outcome, "delivered");
      EXPECT_EQ(send_out(kA, source, IPPROTO_TCP, "A"), "out_uplink");
    }
  flood(kA);
  for (std::uint16_t source = 1; source <= 10; ++source)
    ASSERT_EQ(send_out(kC, source), "out_uplink") << source;
  expect_right_counters();
}

TEST_F(ShortPorts, AModestPodsConnectionsAreItsOwn) {
  constexpr std::uint16_t kModest = SLUICE_SNAT_MODEST / 2;  // a connection and its view are two entries
  have_ports(kModest);
  std::map<std::uint16_t, std::uint16_t> held;
  for (std::uint16_t source = 1; held.size() < kModest && source < 1000; ++source)
    if (send_out(kB, source) == "out_uplink") held[source] = port_of(kB, source);
  ASSERT_EQ(held.size(), kModest);
  for (std::uint16_t source = 1; source <= 50; ++source)
    ASSERT_EQ(send_out(kC, source), "dropped SNAT_PORTS_EXHAUSTED");
  for (const auto& [source, port] : held) ASSERT_EQ(port_of(kB, source), port);
  expect_right_counters();
}

// A flood of A's, B with some: who asks takes A's alone.
TEST_F(ShortPorts, WhoHasLittleLosesNothingToWhoAsks) {
  have_ports(300);
  std::map<std::uint16_t, std::uint16_t> held;
  for (std::uint16_t source = 1; source <= 60; ++source) held[source] = establish(kB, source);
  flood(kA);
  for (std::uint16_t source = 1; source <= 40; ++source)
    ASSERT_EQ(send_out(kC, source), "out_uplink") << source;
  for (const auto& [source, port] : held) {
    ASSERT_EQ(port_of(kB, source), port);
    EXPECT_EQ(send_back(port, IPPROTO_TCP, "A").out.find("gateway>podB"), 0U);
  }
  expect_right_counters();
}

TEST_F(ShortPorts, WhatLostItsPortSendsNothingUnderIt) {
  have_ports(1);
  ASSERT_EQ(send_out(kA, 1000, IPPROTO_UDP), "out_uplink");
  ASSERT_EQ(send_back(kFirst, IPPROTO_UDP).out.find("gateway>podA"), 0U);
  age_all(SLUICE_CT_UDP_ANSWERED_S / 2 * SLUICE_NS_PER_S);
  EXPECT_EQ(send_out(kB, 1000, IPPROTO_UDP), "dropped SNAT_PORTS_EXHAUSTED") << "too soon";
  age_all(SLUICE_CT_UDP_ANSWERED_S * SLUICE_NS_PER_S);
  ASSERT_EQ(send_out(kB, 1000, IPPROTO_UDP), "out_uplink");
  EXPECT_EQ(port_of(kA, 1000, IPPROTO_UDP), 0) << "the exchange is over";
  EXPECT_EQ(send_out(kA, 1000, IPPROTO_UDP), "dropped SNAT_PORTS_EXHAUSTED") << "and not sent under B's port";
  EXPECT_EQ(send_back(kFirst, IPPROTO_UDP).out.find("gateway>podB"), 0U);
  expect_right_counters();
}

TEST_F(ShortPorts, WhatLastsKeepsItsPort) {
  have_ports(1);
  ASSERT_EQ(send_out(kA, 1000, IPPROTO_UDP), "out_uplink");
  ASSERT_EQ(send_back(kFirst, IPPROTO_UDP).outcome, "delivered");
  age_all(2 * SLUICE_NS_PER_S);
  ASSERT_EQ(send_out(kA, 1000, IPPROTO_UDP), "out_uplink");
  for (const auto seconds : {SLUICE_CT_UDP_NEW_S + 1, SLUICE_CT_UDP_LASTING_S / 3}) {
    age_all(static_cast<std::uint64_t>(seconds) * SLUICE_NS_PER_S);
    EXPECT_EQ(send_out(kB, 1000, IPPROTO_UDP), "dropped SNAT_PORTS_EXHAUSTED");
  }
  age_all(SLUICE_CT_UDP_LASTING_S / 2 * SLUICE_NS_PER_S);
  EXPECT_EQ(send_out(kB, 1000, IPPROTO_UDP), "out_uplink");
}

// As of one DNS server: 250 questions a second and 4,536 ports, a twelfth of both, for a minute.
TEST_F(ShortPorts, ExchangesLoseNothing) {
  constexpr std::uint16_t kPerSecond = 250 / 12,
                          kPorts = (SLUICE_SNAT_PORT_MAX - SLUICE_SNAT_PORT_MIN + 1) / 12;
  have_ports(kPorts);
  std::uint16_t source = 1000;
  for (int second = 0; second < 60; ++second) {
    for (int i = 0; i < kPerSecond; ++i, ++source) {
      ASSERT_EQ(send_out(kA, source, IPPROTO_UDP), "out_uplink") << "second " << second;
      const Seen back = send_back(port_of(kA, source, IPPROTO_UDP), IPPROTO_UDP);
      ASSERT_NE(back.out.find(fmt::format(">10.1.0.2:{} ", source)), std::string::npos) << back.out;
    }
    age_all(SLUICE_NS_PER_S);
  }
  EXPECT_GT(source - 1000, 2 * kPorts);
  expect_right_counters();
}

// The search goes by steps of any width, so whichever port is free it is found.
TEST_F(ShortPorts, TheLastPortOfAFewIsFound) {
  constexpr std::uint16_t kPorts = SLUICE_SNAT_TRIES / 2;
  have_ports(kPorts);
  for (std::uint16_t source = 1; source <= kPorts; ++source)
    ASSERT_EQ(send_out(kA, source), "out_uplink") << source;
  EXPECT_EQ(send_out(kA, 1000), "dropped SNAT_PORTS_EXHAUSTED");
}

}  // namespace
}  // namespace sluice::bpftest
