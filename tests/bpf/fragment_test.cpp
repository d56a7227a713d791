// SPDX-License-Identifier: Apache-2.0
// Fragments: what a first one tells the later ones, and under which identification they leave.
#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

constexpr const char* kPodCMac = "02:53:0a:01:00:04";

class Fragment : public Service {
 protected:
  struct Datagram {
    Frame first, later;
  };
  // From podA or podB, under an identification that the sender chose.
  static Datagram datagram(const std::string& from, const std::string& dst, std::uint16_t id = 9) {
    const Frame first{.from = from,
                      .src = from == "podA" ? "10.1.0.2" : "10.1.0.3",
                      .dst = dst,
                      .sport = 4000,
                      .dport = 53,
                      .id = id,
                      .more = true,
                      .payload = 1472};
    return {first, but(first, [](Frame& f) { f.more = false, f.offset = 1480, f.payload = 9; })};
  }
  static unsigned id_of(const Seen& seen) { return seen.bytes.at(18) << 8U | seen.bytes.at(19); }
  // The identification under which both leave.
  unsigned sent(const Datagram& fragments, sluice_hook hook = SLUICE_HOOK_POD) {
    const Seen first = send(hook, fragments.first), later = send(hook, fragments.later);
    EXPECT_EQ(first.outcome, later.outcome);
    for (const Seen& seen : {first, later}) {
      EXPECT_EQ(seen.outcome.find("dropped"), std::string::npos) << seen.outcome;
      EXPECT_EQ(seen.out.find("BAD"), std::string::npos) << seen.out;
    }
    EXPECT_EQ(id_of(first), id_of(later)) << "the receiver puts them together by it";
    return id_of(first);
  }
  void expect_unknown(const Datagram& fragments) {
    EXPECT_EQ(send(SLUICE_HOOK_POD, fragments.later).outcome, "dropped FRAGMENT_UNKNOWN");
  }
};

TEST_F(Fragment, AFirstOneThatIsDroppedTellsNothing) {
  const Datagram expired = datagram("podA", "198.51.100.7");
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(expired.first, [](Frame& f) { f.ttl = 1; })).outcome, "answered");
  expect_unknown(expired);

  set_policy(kPodB, {{7, 0}, {0, 0}, SLUICE_POLICY_VALID | SLUICE_POLICY_ISOLATED_INGRESS, 0, {}, {}});
  const Datagram denied = datagram("podA", "10.1.0.3");
  EXPECT_EQ(send(SLUICE_HOOK_POD, denied.first).outcome, "dropped POLICY_INGRESS");
  expect_unknown(denied);

  change_config(
      [](sluice_config& config) { config.host_ifindex = static_cast<std::uint32_t>(interfaces().stranger); });
  const Datagram unroutable = datagram("podA", "198.51.100.8");
  EXPECT_EQ(send(SLUICE_HOOK_POD, unroutable.first).outcome, "dropped NO_ROUTE");
  expect_unknown(unroutable);
}

TEST_F(Fragment, AFirstOneThatIsDroppedChangesNothing) {
  const Datagram fragments = datagram("podA", "10.1.0.3");
  EXPECT_EQ(send(SLUICE_HOOK_POD, fragments.first).outcome, "delivered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, but(fragments.first, [](Frame& f) { f.dport = 54, f.ttl = 1; })).outcome,
            "answered");
  EXPECT_EQ(send(SLUICE_HOOK_POD, fragments.later).outcome, "delivered");
  EXPECT_EQ(connections(), 1U) << "the later fragment is of the datagram that was let through";
}

TEST_F(Fragment, PodsBehindOneAddressShareNoIdentification) {
  const Datagram of_a = datagram("podA", "198.51.100.7"), of_b = datagram("podB", "198.51.100.7");
  const Seen first_a = send(SLUICE_HOOK_POD, of_a.first), first_b = send(SLUICE_HOOK_POD, of_b.first);
  EXPECT_NE(id_of(first_a), id_of(first_b));
  // Whoever guesses the other's does not get it either.
  const Datagram guess = datagram("podA", "198.51.100.7", static_cast<std::uint16_t>(id_of(first_b)));
  EXPECT_NE(sent(guess), id_of(first_b));
  EXPECT_EQ(id_of(send(SLUICE_HOOK_POD, of_a.later)), id_of(first_a));
  EXPECT_EQ(id_of(send(SLUICE_HOOK_POD, of_b.later)), id_of(first_b));
  EXPECT_EQ(sent(of_a), id_of(first_a)) << "repeated: the same datagram";
  const Datagram another = {but(of_a.first, [](Frame& f) { f.sport = 4001; }), of_a.later};
  EXPECT_NE(sent(another), id_of(first_a)) << "another datagram of this identification";
}

TEST_F(Fragment, AnIdentificationRestsUntilItsDatagramIsForgotten) {
  const unsigned id = sent(datagram("podA", "198.51.100.7"));
  sluice_fragment_key key{};
  key.src = address("192.0.2.1");
  key.dst = address("198.51.100.7");
  key.id = id;
  key.proto = IPPROTO_UDP;
  key.view = SLUICE_FRAGMENT_GIVEN;
  const auto given = get<sluice_fragment>("fragments", key);
  ASSERT_TRUE(given);
  EXPECT_GT(given->seen_ns, now_ns() - 30 * SLUICE_NS_PER_S);
}

TEST_F(Fragment, BackendsBehindOneServiceShareNoIdentification) {
  add_endpoint(3, "10.1.0.4", kPodCMac, interfaces().stranger);
  set_policy(3, {{0, 0}, {0, 0}, SLUICE_POLICY_VALID, 0, {}, {}});
  std::vector<unsigned> ids;
  for (const auto* backend : {"10.1.0.3", "10.1.0.4"}) {
    serve(kService, kPort, {{backend, 53}});
    const auto sport = static_cast<std::uint16_t>(5000 + ids.size());
    EXPECT_EQ(send(SLUICE_HOOK_POD, but(out(IPPROTO_UDP), [&](Frame& f) { f.sport = sport; })).outcome,
              "delivered");
    Frame first{.from = "podB",
                .src = backend,
                .dst = "10.1.0.2",
                .sport = 53,
                .dport = sport,
                .id = 9,
                .more = true,
                .payload = 1472};
    if (first.src == "10.1.0.4") first.from = kPodCMac;
    const Bytes later = build(but(first, [](Frame& f) { f.more = false, f.offset = 1480, f.payload = 9; }));
    const int link = first.src == "10.1.0.4" ? interfaces().stranger : interfaces().pod_b;
    const Seen seen = send_on(link, build(first));
    EXPECT_NE(seen.out.find("10.96.0.10:80>"), std::string::npos) << seen.outcome << seen.out;
    EXPECT_EQ(id_of(send_on(link, later)), id_of(seen));
    ids.push_back(id_of(seen));
  }
  EXPECT_NE(ids[0], ids[1]);
}

TEST_F(Fragment, WithoutTranslationTheSendersOwnIdentificationStays) {
  EXPECT_EQ(sent(datagram("podA", "10.1.0.3")), 9U);
  EXPECT_EQ(sent(datagram("podA", "10.2.0.9")), 9U);
}

}  // namespace
}  // namespace sluice::bpftest
