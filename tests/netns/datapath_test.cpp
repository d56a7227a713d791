// SPDX-License-Identifier: Apache-2.0
// Traffic between real pods through the programs, and transactions while it runs.
#include <bpf/bpf.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "tests/netns/node_fixture.h"

namespace sluice::test {

namespace {

using datapath::AttachMode;

class DatapathTraffic : public NodeTest, public testing::WithParamInterface<AttachMode> {
 protected:
  datapath::Options options() const override {
    auto options = NodeTest::options();
    options.attach = GetParam();
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Hooks, DatapathTraffic, testing::Values(AttachMode::kAuto, AttachMode::kClsact),
                         [](const auto& mode) {
                           return mode.param == AttachMode::kAuto ? "Auto" : "Clsact";
                         });

TEST_P(DatapathTraffic, PodsWithoutRulesInForceReachNobody) {
  add_three_pods();
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  EXPECT_GT(drops(SLUICE_DROP_TAIL_CALL_MISSING), 0U);
}

TEST_P(DatapathTraffic, PodsAndNodeReachEachOtherWhenNothingIsIsolated) {
  add_three_pods();
  apply(open_rules());
  EXPECT_TRUE(ping(&a().netns(), b().address()));
  EXPECT_TRUE(ping(&a().netns(), gateway()));
  EXPECT_TRUE(ping(nullptr, a().address()));
  EXPECT_TRUE(connects(a(), b(), kWeb));
  EXPECT_TRUE(udp_answer(&c().netns(), &a().netns(), a().address(), kOther));
  const auto listener = listen_tcp(nullptr, gateway(), kWeb);
  EXPECT_TRUE(connect_tcp(&b().netns(), gateway(), kWeb));
  const auto in_pod = listen_tcp(&c().netns(), c().address(), kWeb);
  EXPECT_TRUE(connect_tcp(nullptr, c().address(), kWeb));
  expect_no_differences();
}

TEST_P(DatapathTraffic, AnIsolatedPodAdmitsWhatItsRulesNameAndNothingElse) {
  add_three_pods();
  apply(web_from_a_to_b(),
        {check_web(a(), b(), SLUICE_DROP_NONE), check_web(c(), b(), SLUICE_DROP_POLICY_INGRESS)});
  EXPECT_TRUE(connects(a(), b(), kWeb));
  EXPECT_FALSE(connects(a(), b(), kOther));
  EXPECT_FALSE(connects(c(), b(), kWeb));
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  EXPECT_FALSE(udp_answer(&a().netns(), &b().netns(), b().address(), kWeb));
  EXPECT_TRUE(connects(b(), c(), kWeb));
  EXPECT_TRUE(ping(nullptr, b().address()));  // the node is no pod
  EXPECT_GE(drops(SLUICE_DROP_POLICY_INGRESS), 4U);
}

TEST_P(DatapathTraffic, AnEstablishedConnectionEndsWhenANewGenerationDeniesIt) {
  add_three_pods();
  apply(open_rules());
  const auto listener = listen_tcp(&b().netns(), b().address(), kWeb);
  const auto client = connect_tcp(&a().netns(), b().address(), kWeb);
  const auto server = accept_tcp(listener);
  ASSERT_TRUE(send_and_receive(client, server));
  apply(nothing_to_b());
  EXPECT_FALSE(send_and_receive(client, server));
  apply(web_from_a_to_b());
  const auto again = connect_tcp(&a().netns(), b().address(), kWeb);
  EXPECT_TRUE(send_and_receive(again, accept_tcp(listener)));
}

TEST_P(DatapathTraffic, ADetachedPodIsGone) {
  add_three_pods();
  apply(open_rules());
  must(datapath_->detach(b().endpoint().id));
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  EXPECT_GT(drops(SLUICE_DROP_ENDPOINT_GONE) + drops(SLUICE_DROP_ARP_UNANSWERED), 0U);
  EXPECT_FALSE(datapath_->verify(b().endpoint()));
  EXPECT_EQ(must(datapath_->endpoints()).size(), 2U);
  must(datapath_->detach(b().endpoint().id));  // once more is no error
  auto rules = open_rules();
  rules.peers.erase(b().address());
  rules.endpoints.erase(b().endpoint().id);
  const auto applied = apply(rules);
  EXPECT_FALSE(applied.generation);
  EXPECT_TRUE(applied.changed);
  datapath_->collect();
  expect_no_differences();
}

class Transactions : public NodeTest {
 protected:
  struct Ids {
    std::set<std::uint32_t> programs, maps;
    std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>> links;  // interface, link, program
    bool operator==(const Ids&) const = default;
  };
  // Of everything but the firewall's program.
  [[nodiscard]] Ids ids() const {
    Ids ids;
    for (const auto& module : must(datapath_->modules()))
      if (module.slot != SLUICE_MODULE_FIREWALL) ids.programs.insert(module.program_id);
    for (const auto& link : must(datapath_->links()))
      ids.links.emplace(link.ifindex, link.link_id, link.program_id);
    for (const auto& map : must(datapath_->maps())) ids.maps.insert(map.id);
    return ids;
  }
  [[nodiscard]] std::uint32_t firewall_program() const {
    for (const auto& module : must(datapath_->modules()))
      if (module.slot == SLUICE_MODULE_FIREWALL) return module.program_id;
    return 0;
  }
};

TEST_F(Transactions, ANewGenerationChangesTheFirewallAndNothingElse) {
  add_three_pods();
  EXPECT_EQ(apply(open_rules()).number, 1U);
  const auto before = ids();
  const auto firewall = firewall_program();
  ASSERT_EQ(before.programs.size(), 21U);
  ASSERT_EQ(before.links.size(), 5U);
  ASSERT_GE(before.maps.size(), 23U);
  for (std::uint32_t number = 2; number < 12; ++number) {
    const auto applied = apply(number % 2 == 0 ? web_from_a_to_b() : nothing_to_b());
    EXPECT_TRUE(applied.generation);
    EXPECT_EQ(applied.number, number);
    EXPECT_EQ(connects(a(), b(), kWeb), number % 2 == 0);
    expect_no_differences();
  }
  EXPECT_NE(firewall_program(), firewall);
  EXPECT_EQ(ids(), before);
  const auto generations = datapath_->generations();
  ASSERT_EQ(generations.size(), 11U);
  EXPECT_TRUE(generations.front().live);
  EXPECT_EQ(generations.front().number, 11U);
  EXPECT_GT(generations.front().counters.denied_ingress, 0U);
  EXPECT_FALSE(generations.back().live);
  // Each slot was used again and again; what generation 2 counted is still its own.
  EXPECT_EQ(generations[9].number, 2U);
  EXPECT_GT(generations[9].counters.allowed, 0U);
  EXPECT_EQ(generations[9].counters.denied_ingress, 0U);
}

TEST_F(Transactions, NoPacketIsLostWhileGenerationsChange) {
  add_three_pods();
  apply(web_from_a_to_b());
  const auto listener = listen_tcp(&b().netns(), b().address(), kWeb);
  const auto client = connect_tcp(&a().netns(), b().address(), kWeb);
  const auto server = accept_tcp(listener);
  ASSERT_TRUE(send_and_receive(client, server));
  const auto dropped = [&] {
    const auto stats = must(datapath_->stats());
    return std::accumulate(std::begin(stats.drops), std::end(stats.drops), std::uint64_t{0});
  };
  const auto before = dropped();
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> sent = 0;
  std::uint64_t lost = 0;
  std::thread traffic([&] {
    for (; !over; ++sent)
      if (!send_and_receive(client, server)) ++lost;
  });
  for (std::uint32_t i = 0; i < 30; ++i) {
    auto rules = web_from_a_to_b();  // what A may do stays; what C may changes
    if (i % 2 == 0) {
      auto& policy = rules.endpoints[c().endpoint().id];
      policy.isolated_egress = true;
      policy.table[SLUICE_EGRESS] = kTable + 2;
    }
    EXPECT_TRUE(apply(rules).generation);
  }
  // One that was on its way, and one that the last generation judges.
  for (const auto before_last = sent.load(); sent < before_last + 2;) std::this_thread::yield();
  over = true;
  traffic.join();
  EXPECT_EQ(lost, 0U);
  EXPECT_EQ(dropped(), before);
  EXPECT_GT(
      datapath_->generations().front().counters.rejudged + datapath_->generations().at(1).counters.rejudged,
      0U);
}

TEST_F(Transactions, TheSameRulesAgainChangeNothing) {
  add_three_pods();
  apply(web_from_a_to_b());
  const auto epoch = datapath_->generations().front().epoch;
  const auto applied = apply(web_from_a_to_b());
  EXPECT_FALSE(applied.changed);
  EXPECT_FALSE(applied.generation);
  EXPECT_EQ(datapath_->generations().front().epoch, epoch);
}

TEST_F(Transactions, APeerThatComesOrChangesIsWrittenInPlace) {
  add_three_pods();
  apply(web_from_a_to_b());
  EXPECT_FALSE(connects(c(), b(), kWeb));
  auto rules = web_from_a_to_b();
  rules.peers.set(c().address(), kClassA);
  auto& d = add_pod(4);
  rules.peers.set(d.address(), kClassC + 1);
  rules.rows[{kTable, kClassC + 1, 0}] = {1U << 1, 0, 0, 0};
  rules.endpoints[4] = {};
  const auto epoch = datapath_->generations().front().epoch;
  const auto applied = apply(rules);
  EXPECT_TRUE(applied.changed);
  EXPECT_FALSE(applied.generation);
  EXPECT_EQ(applied.number, 1U);
  EXPECT_GT(datapath_->generations().front().epoch, epoch);
  EXPECT_TRUE(connects(c(), b(), kWeb));
  EXPECT_TRUE(connects(d, b(), kWeb));
  EXPECT_TRUE(connects(b(), d, kWeb));
  expect_no_differences();

  rules = web_from_a_to_b();  // as it was, without D
  rules.peers.erase(d.address());
  rules.endpoints.erase(4);
  EXPECT_FALSE(apply(rules).generation);
  EXPECT_FALSE(connects(c(), b(), kWeb));
  EXPECT_FALSE(connects(b(), d, kWeb));
  datapath_->collect();
  expect_no_differences();
  EXPECT_EQ(must(datapath_->first_numbers()).peer_class, kClassC + 1);
}

TEST_F(Transactions, PeersThatChangeTogetherMakeAGeneration) {
  add_three_pods();
  auto rules = web_from_a_to_b();
  apply(rules);
  rules.peers.set(a().address(), kClassC);
  rules.peers.set(c().address(), kClassA);
  EXPECT_TRUE(apply(rules).generation);
  EXPECT_FALSE(connects(a(), b(), kWeb));
  EXPECT_TRUE(connects(c(), b(), kWeb));
  expect_no_differences();
}

TEST_F(Transactions, ABlockDecidesForAddressesThatAreNoPods) {
  add_three_pods();
  auto rules = web_from_a_to_b();
  rules.peers.erase(a().address());
  rules.blocks[must(Prefix::parse("10.244.1.0/24"))] = kClassA;
  rules.blocks[must(Prefix::parse("10.244.1.13/32"))] = kClassC;
  rules.peers.erase(c().address());
  apply(rules);
  EXPECT_TRUE(connects(a(), b(), kWeb));
  EXPECT_FALSE(connects(c(), b(), kWeb));
  expect_no_differences();
  // The exception goes, in place; the block around it decides.
  rules.blocks.erase(must(Prefix::parse("10.244.1.13/32")));
  EXPECT_FALSE(apply(rules).generation);
  EXPECT_TRUE(connects(c(), b(), kWeb));
  datapath_->collect();
  EXPECT_TRUE(connects(c(), b(), kWeb));
  expect_no_differences();
}

TEST_F(Transactions, ACandidateThatDisagreesWithTheDefinitionNeverComesIntoForce) {
  add_three_pods();
  apply(web_from_a_to_b());
  const auto firewall = firewall_program();
  const auto refused = try_apply(nothing_to_b(), {check_web(c(), b(), SLUICE_DROP_POLICY_INGRESS),
                                                  check_web(a(), b(), SLUICE_DROP_NONE)});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("10.244.1.11"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("POLICY_INGRESS"), std::string::npos) << refused.error().message;
  EXPECT_EQ(firewall_program(), firewall);
  EXPECT_TRUE(connects(a(), b(), kWeb));
  expect_no_differences();
  // And the next good one does.
  EXPECT_EQ(apply(nothing_to_b(), {check_web(a(), b(), SLUICE_DROP_POLICY_INGRESS)}).number, 2U);
  EXPECT_FALSE(connects(a(), b(), kWeb));
  datapath_->collect();
  expect_no_differences();
}

TEST_F(Transactions, RulesThatDoNotFitAreRefusedAndLeaveNoTrace) {
  add_three_pods();
  apply(web_from_a_to_b());
  auto in_place = web_from_a_to_b();
  for (std::uint32_t i = 0; i <= SLUICE_MAX_PORT_CLASSES; ++i)
    in_place.port_classes[{kPorts + 1 + i / 1024, IPPROTO_TCP, static_cast<std::uint16_t>(i % 1024), 16}] = 2;
  auto generation = in_place;
  generation.endpoints[a().endpoint().id].isolated_egress = true;
  for (const auto& rules : {in_place, generation}) {
    const auto refused = try_apply(rules);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("'port_classes' is full"), std::string::npos)
        << refused.error().message;
    EXPECT_TRUE(connects(a(), b(), kWeb));
    EXPECT_FALSE(connects(c(), b(), kWeb));
    expect_no_differences();
    datapath_->collect();
    EXPECT_EQ(must(datapath_->first_numbers()).port_table, kPorts + 1);
  }
  EXPECT_TRUE(apply(nothing_to_b()).generation);
}

TEST_F(Transactions, MonitorsSeeDropsWhileTheyListen) {
  add_three_pods();
  apply(nothing_to_b());
  std::mutex mutex;
  std::condition_variable seen;
  std::vector<sluice_event> events;
  auto handle = must(datapath_->monitor(SLUICE_MONITOR_DROPS, [&](const sluice_event& event) {
    const std::lock_guard lock(mutex);
    if (event.reason == SLUICE_DROP_POLICY_INGRESS) events.push_back(event);
    seen.notify_all();
  }));
  // The programs write what is listened to, and nothing else.
  const Fd config(
      bpf_obj_get(fmt::format("{}/sluice/v{}/config", sandbox_.bpffs(), SLUICE_ABI_VERSION).c_str()));
  const auto asked_of_programs = [&] {
    const std::uint32_t zero = 0;
    sluice_config now{};
    EXPECT_EQ(bpf_map_lookup_elem(config.get(), &zero, &now), 0);
    return now.monitor;
  };
  EXPECT_EQ(asked_of_programs(), SLUICE_MONITOR_DROPS);
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(seen.wait_for(lock, std::chrono::seconds(10), [&] { return !events.empty(); }));
    EXPECT_EQ(Address::from_abi(events[0].src), a().address());
    EXPECT_EQ(events[0].dst_endpoint, b().endpoint().id);
    EXPECT_EQ(events[0].kind, SLUICE_EVENT_DROP);
    events.clear();
  }
  handle.reset();
  EXPECT_EQ(asked_of_programs(), 0U);
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  const std::lock_guard lock(mutex);
  EXPECT_TRUE(events.empty());
}

}  // namespace

}  // namespace sluice::test
