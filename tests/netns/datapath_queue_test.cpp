// SPDX-License-Identifier: Apache-2.0
// Links with a queueing discipline: what is for their pods goes through it.
#include "tests/netns/node_fixture.h"

namespace sluice::test {

namespace {

class Queues : public NodeTest {
 protected:
  // From here on nothing passes that goes through the discipline: every packet is larger than the bucket.
  void close_queue(const Pod& pod) {
    auto netlink = must(NetlinkSocket::make());
    must(netlink.limit_rate(static_cast<int>(pod.endpoint().ifindex),
                            {.bytes_per_s = 1000000, .burst_bytes = 20}));
  }
};

TEST_F(Queues, PacketsGoThroughThemOnceTheyAreKnown) {
  add_three_pods();
  apply(open_rules());
  ASSERT_TRUE(ping(&a().netns(), b().address()));
  close_queue(b());
  must(datapath_->refresh_queues());
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  EXPECT_FALSE(ping(nullptr, b().address()));
  EXPECT_TRUE(ping(&a().netns(), c().address()));
  must(datapath_->verify(b().endpoint()));
  expect_no_differences();
}

TEST_F(Queues, AnEndpointIsAttachedWithTheOneThatItsLinkHas) {
  add_three_pods();
  pods_.push_back(std::make_unique<Pod>(4, "10.244.1.14", "10.244.1.1"));
  const auto& late = *pods_.back();
  close_queue(late);
  must(datapath_->attach(late.endpoint(), 1450));
  apply(open_rules());
  EXPECT_FALSE(ping(&a().netns(), late.address()));
  EXPECT_TRUE(ping(&a().netns(), b().address()));
  must(datapath_->verify(late.endpoint()));
  expect_no_differences();
}

TEST_F(Queues, TheNextDaemonAdoptsThem) {
  add_three_pods();
  apply(open_rules());
  close_queue(b());
  must(datapath_->refresh_queues());
  datapath_.reset();
  open();
  expect_no_differences();
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  // The very same attachment again is no other one.
  must(datapath_->attach(b().endpoint(), 1450));
  EXPECT_FALSE(ping(&a().netns(), b().address()));
  must(datapath_->verify(b().endpoint()));
  expect_no_differences();
}

TEST(RateLimit, QueueHoldsABurstAndWhatIsSentIn25Ms) {
  EXPECT_EQ((RateLimit{1000000, 5000}.queue_bytes()), 30000U);
  EXPECT_EQ((RateLimit{999, 1}.queue_bytes()), 25U);
  EXPECT_EQ((RateLimit{1U << 31, 0xffffffffU}.queue_bytes()), 0xffffffffU)
      << "not more than the kernel's number holds";
}

TEST(RateLimit, IsReadBackAsItWasSet) {
  const Sandbox sandbox;
  auto netlink = must(NetlinkSocket::make());
  must(netlink.add_veth("one", "two", -1));
  const auto one = must(netlink.link("one"));
  EXPECT_FALSE(one.queues());
  LinkChange up;
  up.up = true;
  must(netlink.change_link(one.peer_index, up));
  EXPECT_EQ(must(netlink.link(one.peer_index)).qdisc, "noqueue");
  EXPECT_FALSE(must(netlink.link(one.peer_index)).queues());
  const auto root_of = [&](int index) {
    for (auto& qdisc : must(netlink.qdiscs()))
      if (qdisc.root && qdisc.link_index == index) return qdisc;
    return Qdisc{};
  };
  // The second rate is above what 32 bits hold.
  const RateLimit limits[] = {{125000, 20000}, {12500000000, 1000000}};
  for (const auto index : {one.index, one.peer_index}) {
    const auto& limit = limits[index == one.index ? 0 : 1];
    must(netlink.limit_rate(index, limit));
    EXPECT_TRUE(must(netlink.link(index)).queues());
    const auto root = root_of(index);
    EXPECT_TRUE(root.queues());
    EXPECT_TRUE(root.limits_to(limit));
    EXPECT_FALSE(root.limits_to({limit.bytes_per_s + 1, limit.burst_bytes}));
    EXPECT_FALSE(root.limits_to({limit.bytes_per_s, limit.burst_bytes + 1}));
    EXPECT_EQ(netlink.limit_rate(index, limit).error().code, EEXIST);
  }
}

}  // namespace

}  // namespace sluice::test
