// SPDX-License-Identifier: Apache-2.0
// How programs are attached, and what comes of it when somebody takes them away.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>

#include "tests/netns/node_fixture.h"

namespace sluice::test {

namespace {

class Attachments : public NodeTest {
 protected:
  [[nodiscard]] datapath::Options options() const override {
    auto options = NodeTest::options();
    options.attach = mode_;
    return options;
  }
  [[nodiscard]] std::uint32_t link_id(const Pod& pod) const {
    for (const auto& link : must(datapath_->links()))
      if (link.ifindex == pod.endpoint().ifindex) return link.link_id;
    ADD_FAILURE() << pod.endpoint().ifname << " has no program";
    return 0;
  }
  [[nodiscard]] static bpf_tc_hook hook_of(const Pod& pod) {
    bpf_tc_hook hook{};
    hook.sz = sizeof hook;
    hook.ifindex = static_cast<int>(pod.endpoint().ifindex);
    hook.attach_point = BPF_TC_INGRESS;
    return hook;
  }
  [[nodiscard]] static std::uint32_t programs_by_tcx(const Pod& pod) {
    constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);  // newer than these headers
    std::uint32_t flags = 0;
    std::uint32_t count = 0;
    EXPECT_EQ(
        bpf_prog_query(static_cast<int>(pod.endpoint().ifindex), kTcxIngress, 0, &flags, nullptr, &count), 0);
    return count;
  }
  // As an administrator or another plugin might.
  void take_program(const Pod& pod) const {
    if (link_id(pod) != 0) {
      std::filesystem::remove(link_pin(pod));
      // The kernel takes it off the interface a moment later, and has no room for its program meanwhile.
      for (int looks = 0; programs_by_tcx(pod) != 0 && looks < 1000; ++looks)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      return;
    }
    auto hook = hook_of(pod);
    hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);  // the qdisc
    ASSERT_EQ(bpf_tc_hook_destroy(&hook), 0);
  }
  [[nodiscard]] std::string pin(const std::string& name) const {
    return fmt::format("{}/sluice/v{}/{}", sandbox_.bpffs(), SLUICE_ABI_VERSION, name);
  }
  // Interface -> link, program.
  [[nodiscard]] std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> attached() const {
    std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> found;
    for (const auto& link : must(datapath_->links())) found[link.name] = {link.link_id, link.program_id};
    return found;
  }

  // Until then a pod's own link may drop what it sends, and no answer says nothing.
  void wait_for_carriers() {
    for (int tries = 0; !ping(&a().netns(), c().address()) && tries < 10; ++tries) {
    }
  }
  void move(const Pod& pod) {
    const auto link = must(datapath_->begin_move(pod.endpoint().ifindex));
    must(datapath_->finish_move(pod.endpoint().ifindex, link));
  }
  [[nodiscard]] std::string link_pin(const Pod& pod) const {
    return pin(fmt::format("links/{}", pod.endpoint().ifindex));
  }
  [[nodiscard]] static bool has_clsact(const Pod& pod) {
    const auto qdiscs = must(must(NetlinkSocket::make()).qdiscs());
    return std::any_of(qdiscs.begin(), qdiscs.end(), [&](const Qdisc& each) {
      return static_cast<std::uint32_t>(each.link_index) == pod.endpoint().ifindex && each.kind == "clsact";
    });
  }
  [[nodiscard]] static std::size_t filters(const Pod& pod) {
    const auto all = must(must(NetlinkSocket::make()).filters(static_cast<int>(pod.endpoint().ifindex)));
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [](const Filter& each) { return each.handle != 0; }));
  }
  // Somebody else's filter, which leaves every packet to those after it.
  static void add_filter(const Pod& pod, bpf_tc_attach_point side, std::uint32_t priority) {
    const std::array<bpf_insn, 2> code{
        {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, TC_ACT_UNSPEC}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}}};
    const Fd program(
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "pass", "GPL", code.data(), code.size(), nullptr));
    ASSERT_TRUE(program);
    auto hook = hook_of(pod);
    hook.attach_point = side;
    bpf_tc_opts options{};
    options.sz = sizeof options;
    options.handle = 1;
    options.priority = priority;
    options.prog_fd = program.get();
    ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  }

  datapath::AttachMode mode_ = datapath::AttachMode::kAuto;
};

// By clsact (a) and by tcx (c).
TEST_F(Attachments, ProgramsThatSomebodyTookAwayAreMissedAndPutBack) {
  add_three_pods();
  apply(nothing_to_b());
  EXPECT_EQ(link_id(a()), 0U);
  EXPECT_NE(link_id(c()), 0U);
  ASSERT_FALSE(connects(a(), b(), kWeb));
  for (auto* pod : {&a(), &c()}) {
    take_program(*pod);
    const auto differences = must(datapath_->audit());
    ASSERT_EQ(differences.size(), 1U);
    EXPECT_NE(differences[0].find("missing on interface " + pod->endpoint().ifname), std::string::npos)
        << differences[0];
    EXPECT_FALSE(datapath_->verify(pod->endpoint()));
    must(datapath_->restore_programs());
    expect_no_differences();
    EXPECT_TRUE(datapath_->verify(pod->endpoint()));
    EXPECT_NE(link_id(*pod), 0U) << "somebody else uses the interface's ingress";
  }
  EXPECT_FALSE(connects(a(), b(), kWeb));
  EXPECT_TRUE(ping(&a().netns(), c().address()));
  const auto before = attached();
  must(datapath_->restore_programs());
  EXPECT_EQ(attached(), before);
}

TEST_F(Attachments, AProgramOfSomebodyElseInOursPlaceIsNamedAndReplaced) {
  add_three_pods();
  apply(open_rules());
  const auto hook = hook_of(a());
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = 0x53;
  options.priority = 1;
  options.flags = BPF_TC_F_REPLACE;
  const Fd other(bpf_obj_get(pin("progs/deliver").c_str()));
  options.prog_fd = other.get();
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  const auto differences = must(datapath_->audit());
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_NE(differences[0].find("entry_pod"), std::string::npos) << differences[0];
  must(datapath_->restore_programs());
  expect_no_differences();
  EXPECT_EQ(link_id(a()), 0U) << "replaced in place";
}

// A daemon that is told another way leaves what it finds as it is.
TEST_F(Attachments, WhatIsAttachedStaysAsItIsAttached) {
  add_three_pods();
  apply(open_rules());
  const auto before = attached();
  for (const auto mode : {datapath::AttachMode::kTcx, datapath::AttachMode::kClsact}) {
    mode_ = mode;
    datapath_.reset();
    open();
    EXPECT_EQ(attached(), before);
    expect_no_differences();
    auto& pod = add_pod(mode == datapath::AttachMode::kTcx ? 4 : 5);
    EXPECT_EQ(link_id(pod) != 0, mode == datapath::AttachMode::kTcx);
    EXPECT_TRUE(ping(&a().netns(), c().address()));
    const auto endpoint = pod.endpoint();
    must(datapath_->detach(endpoint.id));
    pods_.pop_back();
    must(datapath_->interface_gone(endpoint.ifindex));
  }
}

TEST_F(Attachments, LinksByClsactAreMovedToTcxAndHaveAProgramAllTheWhile) {
  add_three_pods();
  apply(nothing_to_b());
  wait_for_carriers();
  const auto ifindex = a().endpoint().ifindex;
  EXPECT_EQ(datapath_->links_to_move(), (std::vector{ifindex, b().endpoint().ifindex}));
  {
    const auto link = must(datapath_->begin_move(ifindex));
    EXPECT_EQ(link_id(a()), 0U) << "not before it is finished";
    expect_no_differences();
    must(datapath_->restore_programs());
    EXPECT_TRUE(ping(&a().netns(), c().address()));
    EXPECT_FALSE(datapath_->begin_move(ifindex)) << "the same program twice";
    EXPECT_TRUE(has_clsact(a()));
    must(datapath_->finish_move(ifindex, link));
  }
  EXPECT_NE(link_id(a()), 0U);
  EXPECT_FALSE(has_clsact(a()));
  EXPECT_TRUE(datapath_->verify(a().endpoint()));
  expect_no_differences();
  EXPECT_TRUE(ping(&a().netns(), c().address()));
  EXPECT_FALSE(connects(a(), b(), kWeb));
  EXPECT_EQ(datapath_->links_to_move(), std::vector{b().endpoint().ifindex});
}

TEST_F(Attachments, AMoveThatIsNotFinishedWasNone) {
  add_three_pods();
  apply(open_rules());
  const auto before = attached();
  static_cast<void>(must(datapath_->begin_move(a().endpoint().ifindex)));
  EXPECT_EQ(attached(), before);
  move(a());
  EXPECT_NE(link_id(a()), 0U);
}

TEST_F(Attachments, FiltersAndQdiscsOfOthersOutliveTheMove) {
  add_three_pods();
  apply(open_rules());
  wait_for_carriers();
  auto &before_us = add_pod(4), &among = add_pod(5);
  add_filter(a(), BPF_TC_INGRESS, 7);
  add_filter(b(), BPF_TC_EGRESS, 7);
  add_filter(among, BPF_TC_INGRESS, 1);
  // The qdisc is another's, and so is what may come onto it.
  take_program(before_us);
  auto hook = hook_of(before_us);
  ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
  mode_ = datapath::AttachMode::kClsact;
  datapath_.reset();
  open();
  must(datapath_->restore_programs());
  EXPECT_EQ(datapath_->links_to_move().size(), 0U) << "not in this mode";
  mode_ = datapath::AttachMode::kAuto;
  datapath_.reset();
  open();
  apply(open_rules());
  for (auto* pod : {&a(), &b(), &among, &before_us}) {
    const auto others = pod == &before_us ? 0U : 1U;
    EXPECT_EQ(filters(*pod), others + 1);
    move(*pod);
    EXPECT_NE(link_id(*pod), 0U);
    EXPECT_TRUE(has_clsact(*pod));
    EXPECT_EQ(filters(*pod), others);
  }
  expect_no_differences();
  EXPECT_TRUE(ping(&a().netns(), c().address()));
}

// As after kill -9 and with another build: each has a program of its own, and the filter's is the old one.
TEST_F(Attachments, TheNextDaemonFinishesAMoveThatWasCutShort) {
  add_three_pods();
  apply(open_rules());
  wait_for_carriers();
  {
    const auto link = must(datapath_->begin_move(a().endpoint().ifindex));
    ASSERT_EQ(bpf_obj_pin(link.get(), link_pin(a()).c_str()), 0);
  }
  const auto hook = hook_of(a());
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = 0x53;
  options.priority = 1;
  options.flags = BPF_TC_F_REPLACE;
  const Fd other(bpf_obj_get(pin("progs/deliver").c_str()));
  options.prog_fd = other.get();
  ASSERT_EQ(bpf_tc_attach(&hook, &options), 0);
  const auto link = link_id(a());
  EXPECT_NE(link, 0U);
  expect_no_differences();
  EXPECT_TRUE(ping(&a().netns(), c().address()));
  for (const auto mode : {datapath::AttachMode::kClsact, datapath::AttachMode::kAuto}) {
    mode_ = mode;
    datapath_.reset();
    open();
    EXPECT_EQ(link_id(a()), link);
    EXPECT_FALSE(has_clsact(a()));
  }
  expect_no_differences();
}

TEST_F(Attachments, NothingStaysPinnedForAPodThatGoesWhileItIsMoved) {
  add_three_pods();
  apply(open_rules());
  const auto detached = b().endpoint();
  {
    const auto link = must(datapath_->begin_move(detached.ifindex));
    must(datapath_->detach(detached.id));
    must(datapath_->finish_move(detached.ifindex, link));
    EXPECT_FALSE(std::filesystem::exists(link_pin(b())));
  }
  EXPECT_EQ(filters(b()), 1U) << "its program drops until the interface is gone";
  auto& pod = add_pod(4);
  const auto gone = pod.endpoint();
  const auto path = link_pin(pod);
  {
    const auto link = must(datapath_->begin_move(gone.ifindex));
    pods_.pop_back();
    must(datapath_->finish_move(gone.ifindex, link));
  }
  must(datapath_->detach(gone.id));
  must(datapath_->interface_gone(gone.ifindex));
  EXPECT_FALSE(std::filesystem::exists(path));
  const auto late = datapath_->begin_move(gone.ifindex);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ENODEV);
}

}  // namespace

}  // namespace sluice::test
