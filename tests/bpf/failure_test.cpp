// SPDX-License-Identifier: Apache-2.0
// Fail closed: what is missing drops and is counted.
#include <unistd.h>

#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

using FailClosed = World;

TEST_F(FailClosed, AnEmptySlotDrops) {
  const Frame routed{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 80};
  const Frame bridged = but(routed, [](Frame& f) { f.to = "podB"; });
  struct Row {
    const char* sentence;
    sluice_module slot;
    Frame frame;
  };
  const Row rows[] = {
      {"nat, which entry calls", SLUICE_MODULE_NAT, routed},
      {"the router, which nat calls", SLUICE_MODULE_ROUTER, routed},
      {"the bridge, which nat calls", SLUICE_MODULE_BRIDGE, bridged},
      {"the firewall, which the router calls", SLUICE_MODULE_FIREWALL, routed},
      {"the firewall, which the bridge calls", SLUICE_MODULE_FIREWALL, bridged},
      {"nat_commit, which the firewall calls", SLUICE_MODULE_NAT_COMMIT, routed},
      {"deliver, which nat_commit calls", SLUICE_MODULE_DELIVER, routed},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    forget_connections();
    ASSERT_EQ(send(SLUICE_HOOK_POD, row.frame).outcome, "delivered") << "with it";
    forget_connections();
    const std::uint32_t id = *get<std::uint32_t>("modules", static_cast<std::uint32_t>(row.slot));
    clear_slot(row.slot);
    EXPECT_EQ(send(SLUICE_HOOK_POD, row.frame).outcome, "dropped TAIL_CALL_MISSING") << "without it";
    const int fd = bpf_prog_get_fd_by_id(id);
    ASSERT_GE(fd, 0);
    set_slot(row.slot, fd);
    close(fd);
  }
}

TEST_F(FailClosed, TheBridgeIsNeededForArpToo) {
  clear_slot(SLUICE_MODULE_BRIDGE);
  EXPECT_EQ(send(SLUICE_HOOK_POD, build(Arp{.sender_ip = "10.1.0.2", .target_ip = "10.1.0.1"})).outcome,
            "dropped TAIL_CALL_MISSING");
}

TEST_F(FailClosed, WithoutAFirewallEstablishedConnectionsGoOn) {
  const Frame frame{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "delivered");
  clear_slot(SLUICE_MODULE_FIREWALL);
  EXPECT_EQ(send(SLUICE_HOOK_POD, frame).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(frame, [](Frame& f) { f.sport = 4001; })).outcome,
            "dropped TAIL_CALL_MISSING");
}

TEST_F(FailClosed, EveryModuleCountsWhatItSees) {
  const Frame routed{.src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 80};
  EXPECT_EQ(send(SLUICE_HOOK_POD, routed).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(routed, [](Frame& f) { f.to = "podB"; })).outcome, "delivered");
  const sluice_stats seen = stats();
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_ENTRY], 2U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_NAT], 2U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_ROUTER], 1U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_BRIDGE], 1U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_FIREWALL], 1U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_NAT_COMMIT], 1U);
  EXPECT_EQ(seen.module_packets[SLUICE_MODULE_DELIVER], 2U);
}

}  // namespace
}  // namespace sluice::bpftest
