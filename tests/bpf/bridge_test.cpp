// SPDX-License-Identifier: Apache-2.0
// Frames within the pod segment, and the ARP that they need.
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

using Bridge = World;

TEST_F(Bridge, ForwardsByMacWhenTheAddressAgrees) {
  const Frame frame{
      .from = "podA", .to = "podB", .src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 53};
  struct Row {
    const char* sentence;
    Frame frame;
    const char* outcome;
    const char* out;
  };
  const Row rows[] = {
      {"to the neighbour, as it is: no hop in between", frame, "delivered",
       "podA>podB 10.1.0.2:4000>10.1.0.3:53 udp ttl 64"},
      {"to itself", but(frame, [](Frame& f) { f.to = "podA", f.dst = "10.1.0.2"; }), "delivered",
       "podA>podA 10.1.0.2:4000>10.1.0.2:53 udp ttl 64"},
      {"to a MAC that nobody has", but(frame, [](Frame& f) { f.to = "02:00:00:00:00:77"; }),
       "dropped MAC_UNKNOWN", nullptr},
      {"to the neighbour's MAC with a remote address", but(frame, [](Frame& f) { f.dst = "10.2.0.9"; }),
       "dropped MAC_IP_MISMATCH", nullptr},
      {"to the neighbour's MAC with its own address", but(frame, [](Frame& f) { f.dst = "10.1.0.2"; }),
       "dropped MAC_IP_MISMATCH", nullptr},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Seen seen = send(SLUICE_HOOK_POD, row.frame);
    EXPECT_EQ(seen.outcome, row.outcome);
    if (row.out) {
      EXPECT_EQ(seen.out, row.out);
    }
  }
}

TEST_F(Bridge, AnswersArp) {
  const Arp ask{.sender_ip = "10.1.0.2", .target_ip = "10.1.0.1"};
  struct Row {
    const char* sentence;
    Arp arp;
    const char* outcome;
    const char* out;
  };
  const auto changed = [&](const std::function<void(Arp&)>& change) {
    Arp arp = ask;
    change(arp);
    return arp;
  };
  add_route("10.9.0.1", 32, SLUICE_ROUTE_HOST);
  const Row rows[] = {
      {"for the gateway", ask, "answered", "gateway>podA arp 2 10.1.0.1 at gateway for 10.1.0.2 at podA"},
      {"for a pod of this node", changed([](Arp& a) { a.target_ip = "10.1.0.3"; }), "answered",
       "podB>podA arp 2 10.1.0.3 at podB for 10.1.0.2 at podA"},
      {"for the gateway, by unicast", changed([](Arp& a) { a.to = "gateway"; }), "answered",
       "gateway>podA arp 2 10.1.0.1 at gateway for 10.1.0.2 at podA"},
      {"for the asker's own address: it is looking for another that has it",
       changed([](Arp& a) { a.target_ip = "10.1.0.2"; }), "dropped ARP_UNANSWERED", nullptr},
      {"for the gateway of a podCIDR that the node had before, which is the node's",
       changed([](Arp& a) { a.target_ip = "10.9.0.1"; }), "answered",
       "gateway>podA arp 2 10.9.0.1 at gateway for 10.1.0.2 at podA"},
      {"for another node's pod, which was in the segment of a podCIDR of before",
       changed([](Arp& a) { a.target_ip = "10.2.0.7"; }), "answered",
       "gateway>podA arp 2 10.2.0.7 at gateway for 10.1.0.2 at podA"},
      {"for an address without a pod", changed([](Arp& a) { a.target_ip = "10.1.0.200"; }),
       "dropped ARP_UNANSWERED", nullptr},
      {"that is a reply", changed([](Arp& a) { a.operation = 2; }), "dropped ARP_UNANSWERED", nullptr},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.sentence);
    const Seen seen = send(SLUICE_HOOK_POD, build(row.arp));
    EXPECT_EQ(seen.outcome, row.outcome);
    if (row.out) {
      EXPECT_EQ(seen.out, row.out);
    }
  }
}

}  // namespace
}  // namespace sluice::bpftest
