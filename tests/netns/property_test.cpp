// SPDX-License-Identifier: Apache-2.0
// The firewall program in the kernel against the evaluator, on random clusters: through new generations, each
// of which has to pass its check, and through changes made in place; always asking the program that is live.
#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <cstring>
#include <map>
#include <vector>

#include "daemon/policy/compiler.h"
#include "daemon/policy/evaluator.h"
#include "tests/netns/node_fixture.h"
#include "tests/unit/random_cluster.h"

namespace sluice::test {

namespace {

using policy::Flow;

constexpr std::uint64_t kClusters = 40;
constexpr int kSteps = 30;
constexpr std::size_t kFlows = 100;
constexpr std::uint16_t kClientPort = 40001;

// Every connection is asked for by the packet that opens it, or by a reply: the verdict is the same.
sluice_probe probe_of(const Flow& flow, bool reply) {
  const bool ports =
      flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP || flow.protocol == IPPROTO_SCTP;
  const __be16 client_be = htons(ports ? kClientPort : 0);
  const __be16 server_be = htons(flow.destination_port);
  sluice_probe probe{};
  probe.src = (reply ? flow.destination : flow.source).abi();
  probe.dst = (reply ? flow.source : flow.destination).abi();
  probe.sport_be = reply ? server_be : client_be;
  probe.dport_be = reply ? client_be : server_be;
  probe.src_endpoint = reply ? flow.destination_endpoint : flow.source_endpoint;
  probe.dst_endpoint = reply ? flow.source_endpoint : flow.destination_endpoint;
  probe.proto = flow.protocol;
  probe.reply = reply ? 1 : 0;
  return probe;
}

class FirewallProperty : public NodeTest {
 protected:
  void SetUp() override {
    NodeTest::SetUp();
    probe_ = Fd(bpf_obj_get((sandbox_.bpffs() + "/sluice/v1/progs/probe").c_str()));
    ASSERT_TRUE(probe_) << std::strerror(errno);
  }

  // What the live program says; -1: nothing.
  [[nodiscard]] int ask(sluice_probe probe) const {
    probe.module = SLUICE_MODULE_FIREWALL;
    std::array<std::uint8_t, 14 + sizeof probe> packet{};
    std::memcpy(packet.data() + 14, &probe, sizeof probe);
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = packet.data();
    options.data_size_in = packet.size();
    options.repeat = 1;
    if (bpf_prog_test_run_opts(probe_.get(), &options) != 0 || options.retval < SLUICE_PROBE_RESULT)
      return -1;
    return static_cast<int>(options.retval - SLUICE_PROBE_RESULT);
  }

  // Makes the cluster's rules live, and compares the program that is live then with the evaluator.
  void step(policy::RandomCluster& random, const std::vector<Flow>& flows) {
    const auto expected = policy::evaluate_all(random.cluster(), flows);
    datapath::CheckPackets check;
    for (std::size_t i = 0; i < flows.size(); ++i)
      check.push_back({probe_of(flows[i], i % 4 == 3), expected[i]});
    const auto applied = must(datapath_->apply(compiler_->compile(random.cluster(), random.take_changes()),
                                               "random change", [&] { return check; }));
    ++(applied.generation ? generations_ : in_place_);
    for (const auto& packet : check) {
      ASSERT_EQ(ask(packet.probe), packet.expected)
          << Address::from_abi(packet.probe.src).to_string() << " (endpoint " << packet.probe.src_endpoint
          << ") -> " << Address::from_abi(packet.probe.dst).to_string() << " (endpoint "
          << packet.probe.dst_endpoint << ") protocol " << int{packet.probe.proto} << " ports "
          << ntohs(packet.probe.sport_be) << " " << ntohs(packet.probe.dport_be)
          << (packet.probe.reply != 0 ? ", a reply" : "")
          << (applied.generation ? ", new generation" : ", in place");
      ++pairs_;
      ++verdicts_[packet.expected];
    }
    // The node itself is no peer: its own traffic passes whatever the rules.
    auto own_node = check.front().probe;
    own_node.own_node = 1;
    ASSERT_EQ(ask(own_node), SLUICE_DROP_NONE);
  }

  Fd probe_;
  std::unique_ptr<policy::Compiler> compiler_;
  std::size_t generations_ = 0, in_place_ = 0, pairs_ = 0;
  std::map<sluice_drop_reason, std::size_t> verdicts_;
};

TEST_F(FirewallProperty, TheProgramJudgesAsTheEvaluatorThroughGenerationsAndChangesInPlace) {
  std::uint32_t first_endpoint = 1;
  for (std::uint64_t seed = 1; seed <= kClusters; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    // A new compiler on used maps: what a restart of the daemon is.
    const auto numbers = must(datapath_->first_numbers());
    compiler_ = std::make_unique<policy::Compiler>(
        policy::Compiler::FirstNumbers{numbers.table, numbers.port_table, numbers.peer_class});
    policy::RandomCluster random(seed, first_endpoint);
    for (int i = 0; i < kSteps; ++i) {
      SCOPED_TRACE(fmt::format("step {}", i));
      if (i != 0) random.change();
      std::vector<Flow> flows(kFlows);
      for (auto& flow : flows) flow = random.flow();
      step(random, flows);
      if (HasFatalFailure()) return;
      if (i % 10 == 9) {
        datapath_->collect();
        expect_no_differences();
      }
    }
    first_endpoint = 1 + static_cast<std::uint32_t>(seed % 8) * 400;
  }
  RecordProperty("pairs", static_cast<int>(pairs_));
  RecordProperty("generations", static_cast<int>(generations_));
  RecordProperty("in_place", static_cast<int>(in_place_));
  EXPECT_GE(pairs_, 100000U);
  EXPECT_GE(generations_, 200U);
  EXPECT_GE(in_place_, 200U);
  for (const auto reason : {SLUICE_DROP_NONE, SLUICE_DROP_POLICY_EGRESS, SLUICE_DROP_POLICY_INGRESS})
    EXPECT_GE(verdicts_[reason], pairs_ / 10) << "verdict " << reason;
}

// A check that expects the wrong verdict must keep the candidate out: the live rules stay as they were.
TEST_F(FirewallProperty, AGenerationThatFailsItsCheckDoesNotGoLive) {
  compiler_ = std::make_unique<policy::Compiler>();
  policy::RandomCluster random(11);
  const auto random_flows = [&] {
    std::vector<Flow> flows(kFlows);
    for (auto& flow : flows) flow = random.flow();
    return flows;
  };
  const auto ask_all = [&](const std::vector<Flow>& flows) {
    std::vector<int> verdicts;
    for (const auto& flow : flows) verdicts.push_back(ask(probe_of(flow, false)));
    return verdicts;
  };
  step(random, random_flows());
  std::size_t refused = 0;
  for (int i = 0; i < 30; ++i) {
    random.change();
    const auto flows = random_flows();
    const auto before = ask_all(flows);
    const auto right = policy::evaluate(random.cluster(), flows.front());
    const auto wrong = right == SLUICE_DROP_NONE ? SLUICE_DROP_POLICY_EGRESS : SLUICE_DROP_NONE;
    const datapath::CheckPackets check{{probe_of(flows.front(), false), wrong}};
    const auto applied = datapath_->apply(compiler_->compile(random.cluster(), random.take_changes()),
                                          "wrong on purpose", [&] { return check; });
    if (applied) continue;  // made in place: no generation, no check
    ++refused;
    EXPECT_EQ(ask_all(flows), before);
  }
  EXPECT_GE(refused, 5U);
  step(random, random_flows());  // and the right check lets it in
}

}  // namespace

}  // namespace sluice::test
