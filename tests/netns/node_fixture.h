// SPDX-License-Identifier: Apache-2.0
// Three pods on one node, and rulesets written by hand.
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "daemon/policy/ruleset.h"
#include "tests/netns/pod_network.h"

namespace sluice::test {

inline constexpr std::uint16_t kWeb = 8080;
inline constexpr std::uint16_t kOther = 9090;

// The classes of the pods, as a compiler would number them.
inline constexpr std::uint32_t kClassA = 11, kClassB = 12, kClassC = 13;
inline constexpr std::uint32_t kTable = 21, kPorts = 31;

class NodeTest : public testing::Test {
 protected:
  void SetUp() override { open(); }
  // Final: no test goes without the accounts.
  void TearDown() final {
    if (datapath_) expect_all_accounted_for();
    pods_.clear();
    datapath_.reset();
  }

  [[nodiscard]] virtual datapath::Options options() const {
    datapath::Options options;
    options.bpffs = sandbox_.bpffs();
    options.conntrack_max = 1024;
    return options;
  }
  void open() {
    datapath_ = must(datapath::Datapath::open(options()));
    must(datapath_->configure(config()));
  }
  [[nodiscard]] static datapath::NodeConfig config() {
    datapath::NodeConfig config;
    config.pod_cidrs = {must(Prefix::parse("10.244.1.0/24"))};
    config.pod_mtu = 1450;
    return config;
  }
  [[nodiscard]] static Address gateway() { return must(Address::parse("10.244.1.1")); }

  Pod& add_pod(std::uint32_t id, bool shares_ingress = false) {
    auto pod = std::make_unique<Pod>(id, fmt::format("10.244.1.{}", 10 + id), "10.244.1.1", shares_ingress);
    must(datapath_->attach(pod->endpoint(), 1450));
    pods_.push_back(std::move(pod));
    return *pods_.back();
  }
  // The last one is attached by tcx where the mode allows both.
  void add_three_pods() {
    for (const std::uint32_t id : {1U, 2U, 3U}) add_pod(id, id == 3);
  }
  [[nodiscard]] Pod& a() { return *pods_.at(0); }
  [[nodiscard]] Pod& b() { return *pods_.at(1); }
  [[nodiscard]] Pod& c() { return *pods_.at(2); }

  // Everything is admitted.
  [[nodiscard]] policy::Ruleset open_rules() {
    policy::Ruleset rules;
    const std::array classes{kClassA, kClassB, kClassC};
    for (std::size_t i = 0; i < pods_.size(); ++i) {
      rules.peers.set(pods_[i]->address(), i < classes.size() ? classes[i] : 0);
      rules.endpoints[pods_[i]->endpoint().id] = {};
    }
    return rules;
  }
  // B admits A on TCP port kWeb, and nothing else.
  [[nodiscard]] policy::Ruleset web_from_a_to_b() {
    auto rules = open_rules();
    auto& policy = rules.endpoints[b().endpoint().id];
    policy.isolated_ingress = true;
    policy.table[SLUICE_INGRESS] = kTable;
    policy.ports[SLUICE_INGRESS] = kPorts;
    rules.port_classes[{kPorts, IPPROTO_TCP, kWeb, 16}] = 1;
    rules.rows[{kTable, kClassA, 0}] = {1U << 1, 0, 0, 0};
    return rules;
  }
  // B admits nothing.
  [[nodiscard]] policy::Ruleset nothing_to_b(std::uint32_t table = kTable + 1) {
    auto rules = open_rules();
    auto& policy = rules.endpoints[b().endpoint().id];
    policy.isolated_ingress = true;
    policy.table[SLUICE_INGRESS] = table;
    return rules;
  }

  datapath::Applied apply(policy::Ruleset rules, const datapath::CheckPackets& check = {}) {
    return must(try_apply(std::move(rules), check));
  }
  Result<datapath::Applied> try_apply(policy::Ruleset rules, const datapath::CheckPackets& check = {}) {
    return datapath_->apply(std::make_shared<const policy::Ruleset>(std::move(rules)), "test",
                            [check] { return check; });
  }
  [[nodiscard]] datapath::CheckPacket check_web(const Pod& from, const Pod& to,
                                                sluice_drop_reason expected) const {
    datapath::CheckPacket packet;
    packet.probe.src = from.address().abi();
    packet.probe.dst = to.address().abi();
    packet.probe.dport_be = htons(kWeb);
    packet.probe.proto = IPPROTO_TCP;
    packet.probe.src_endpoint = from.endpoint().id;
    packet.probe.dst_endpoint = to.endpoint().id;
    packet.expected = expected;
    return packet;
  }
  [[nodiscard]] std::uint64_t drops(sluice_drop_reason reason) const {
    return must(datapath_->stats()).drops[reason];
  }
  [[nodiscard]] bool connects(const Pod& from, const Pod& to, std::uint16_t port) const {
    const auto listener = listen_tcp(&to.netns(), to.address(), port);
    return static_cast<bool>(connect_tcp(&from.netns(), to.address(), port));
  }
  // Packets on their way while the CPUs' counters are read make a difference that is gone at the next look.
  void expect_all_accounted_for() const {
    for (int looks = 0; unaccounted() != 0 && looks < 20; ++looks)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(unaccounted(), 0);
  }
  [[nodiscard]] std::int64_t unaccounted() const {
    const auto stats = must(datapath_->stats());
    const auto in = std::accumulate(std::begin(stats.in), std::end(stats.in), std::uint64_t{0});
    const auto dropped = std::accumulate(std::begin(stats.drops), std::end(stats.drops), std::uint64_t{0});
    return static_cast<std::int64_t>(in - (stats.delivered + stats.to_stack + stats.out_tunnel +
                                           stats.out_uplink + stats.answered + dropped));
  }
  void expect_no_differences() const {
    for (const auto& difference : must(datapath_->audit())) ADD_FAILURE() << difference;
  }

  Sandbox sandbox_;
  std::unique_ptr<datapath::Datapath> datapath_;
  std::vector<std::unique_ptr<Pod>> pods_;
};

}  // namespace sluice::test
