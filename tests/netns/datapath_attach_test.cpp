// SPDX-License-Identifier: Apache-2.0
// How programs are attached, and what comes of it when somebody takes them away.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

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
  // As an administrator or another plugin might.
  void take_program(const Pod& pod) const {
    if (link_id(pod) != 0) {
      std::filesystem::remove(pin(fmt::format("links/{}", pod.endpoint().ifindex)));
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

}  // namespace

}  // namespace sluice::test
