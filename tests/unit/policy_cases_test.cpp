// SPDX-License-Identifier: Apache-2.0
// NetworkPolicy v1 case by case: what the specification says, asked of the evaluator, and of the compiled
// rules too.
#include <gtest/gtest.h>

#include "daemon/policy/compiler.h"
#include "tests/unit/datapath_model.h"
#include "tests/unit/policy_words.h"

namespace sluice::policy {
namespace {

using namespace words;  // NOLINT(google-build-using-namespace): the words are for such tables

constexpr auto kAllowed = SLUICE_DROP_NONE;
constexpr auto kIngress = SLUICE_DROP_POLICY_INGRESS;
constexpr auto kEgress = SLUICE_DROP_POLICY_EGRESS;

struct Case {
  const char* says;
  std::vector<NetworkPolicy> policies;
  const char* flow;
  sluice_drop_reason verdict;
};

void run(const std::vector<Case>& cases) {
  Compiler compiler;  // one for all: cases must not leave anything behind
  for (const auto& each : cases) {
    SCOPED_TRACE(std::string(each.says) + ": " + each.flow);
    Cluster cluster = small_cluster();
    set_policies(cluster, each.policies);
    const Flow asked = flow(cluster, each.flow);
    EXPECT_EQ(evaluate(cluster, asked), each.verdict) << "evaluator";
    EXPECT_EQ(model_verdict(*compiler.compile(cluster, kEverything), asked), each.verdict)
        << "compiled rules";
  }
}

TEST(PolicyCases, Isolation) {
  const auto deny_in = ingress("shop", "", {});
  const auto deny_out = egress("shop", "", {});
  run({
      {"no policy: everything is admitted", {}, "shop/front > shop/cart tcp/80", kAllowed},
      {"no policy: every protocol is admitted", {}, "203.0.113.7 > shop/cart icmp", kAllowed},
      {"a policy without rules denies ingress", {deny_in}, "bank/front > shop/cart tcp/80", kIngress},
      {"a policy without rules denies ICMP as well", {deny_in}, "bank/front > shop/cart icmp", kIngress},
      {"ingress isolation leaves egress alone", {deny_in}, "shop/cart > bank/front tcp/80", kAllowed},
      {"egress isolation denies egress", {deny_out}, "shop/cart > bank/front tcp/80", kEgress},
      {"egress isolation leaves ingress alone", {deny_out}, "bank/front > shop/cart tcp/80", kAllowed},
      {"a policy is for its own namespace", {deny_in}, "shop/front > bank/vault tcp/80", kAllowed},
      {"a policy is for the pods it selects",
       {ingress("shop", "app=front", {})},
       "lab/db > shop/cart tcp/80",
       kAllowed},
      {"egress is asked before ingress", {deny_in, deny_out}, "shop/front > shop/cart tcp/80", kEgress},
      {"egress of one pod does not admit ingress of another",
       {deny_in, egress("shop", "app=front", {{}})},
       "shop/front > shop/cart tcp/80",
       kIngress},
      {"a pod reaches itself whatever the policies",
       {deny_in, deny_out},
       "shop/cart > shop/cart tcp/80",
       kAllowed},
      {"a container that is no pod is not isolated",
       {deny_in, deny_out},
       "bank/front > box tcp/80",
       kAllowed},
      {"a container that is no pod is no peer",
       {ingress("shop", "", {{{pods("")}, {}}})},
       "box > shop/cart tcp/80",
       kIngress},
      {"policies add up: what either admits is admitted",
       {ingress("shop", "", {{{pods("app=front")}, {tcp(80)}}}),
        ingress("shop", "", {{{pods("app=db")}, {}}})},
       "shop/front > shop/cart tcp/80",
       kAllowed},
      {"policies add up: what neither admits is denied",
       {ingress("shop", "", {{{pods("app=front")}, {tcp(80)}}}),
        ingress("shop", "", {{{pods("app=db")}, {}}})},
       "shop/front > shop/cart tcp/81",
       kIngress},
      {"a deny-all beside an allow takes nothing away",
       {deny_in, ingress("shop", "", {{}})},
       "lab/db > shop/cart udp/7",
       kAllowed},
  });
  NetworkPolicy rules_without_type = ingress("shop", "", {{}});
  rules_without_type.isolates_ingress = false;
  rules_without_type.isolates_egress = true;
  run({{"rules of a direction that policyTypes leaves out do not isolate",
        {rules_without_type},
        "lab/db > shop/cart tcp/80",
        kAllowed},
       {"nor do they admit anything there",
        {rules_without_type, deny_in},
        "lab/db > shop/cart tcp/80",
        kIngress},
       {"while the direction it names is isolated",
        {rules_without_type},
        "shop/cart > lab/db tcp/80",
        kEgress}});
}

TEST(PolicyCases, PeersBySelector) {
  const auto from = [](const PolicyPeer& peer) {
    return std::vector{ingress("shop", "app=cart", {{{peer}, {}}})};
  };
  run({
      {"podSelector: a pod of the policy's namespace", from(pods("app=front")),
       "shop/front > shop/cart tcp/1", kAllowed},
      {"podSelector: not the same labels elsewhere", from(pods("app=front")), "bank/front > shop/cart tcp/1",
       kIngress},
      {"empty podSelector: every pod of the namespace", from(pods("")), "shop/front > shop/cart udp/1",
       kAllowed},
      {"empty podSelector: no pod elsewhere", from(pods("")), "bank/front > shop/cart tcp/1", kIngress},
      {"empty podSelector: nobody outside", from(pods("")), "203.0.113.7 > shop/cart tcp/1", kIngress},
      {"namespaceSelector: every pod there", from(namespaces("env=test")), "lab/db > shop/cart tcp/1",
       kAllowed},
      {"namespaceSelector: no pod elsewhere", from(namespaces("env=test")), "bank/front > shop/cart tcp/1",
       kIngress},
      {"empty namespaceSelector: pods everywhere", from(namespaces("")), "bank/front > shop/cart tcp/1",
       kAllowed},
      {"empty namespaceSelector: nobody outside", from(namespaces("")), "203.0.113.7 > shop/cart tcp/1",
       kIngress},
      {"a namespace by its name", from(namespaces("kubernetes.io/metadata.name=bank")),
       "bank/front > shop/cart tcp/1", kAllowed},
      {"a namespace not known yet has its name", from(namespaces("kubernetes.io/metadata.name=ghost")),
       "ghost/front > shop/cart tcp/1", kAllowed},
      {"a namespace not known yet has no other label", from(namespaces("env")),
       "ghost/front > shop/cart tcp/1", kIngress},
      {"both selectors in one peer: both must match", from(pods_in("app=front", "env=prod")),
       "bank/front > shop/cart tcp/1", kAllowed},
      {"both selectors in one peer: namespace alone is not enough", from(pods_in("app=front", "env=test")),
       "lab/db > shop/cart tcp/1", kIngress},
      {"both selectors in one peer: pod alone is not enough", from(pods_in("app=front", "env=test")),
       "bank/front > shop/cart tcp/1", kIngress},
      {"two peers of one rule: either is enough",
       {ingress("shop", "app=cart", {{{pods("app=front"), namespaces("env=test")}, {}}})},
       "lab/db > shop/cart tcp/1",
       kAllowed},
      {"In: one of the values", from(pods_in("app in db|vault", "")), "lab/db > shop/cart tcp/1", kAllowed},
      {"In: none of the values", from(pods_in("app in db|vault", "")), "lab/front > shop/cart tcp/1",
       kIngress},
      {"NotIn: another value", from(pods_in("app notin db", "")), "lab/front > shop/cart tcp/1", kAllowed},
      {"NotIn: the label is absent", from(pods_in("tier notin back", "")), "lab/db > shop/cart tcp/1",
       kAllowed},
      {"NotIn: the value is listed", from(pods_in("tier notin back", "")), "lab/front > shop/cart tcp/1",
       kIngress},
      {"Exists: the label is there", from(pods_in("tier", "")), "lab/front > shop/cart tcp/1", kAllowed},
      {"Exists: the label is absent", from(pods_in("tier", "")), "lab/db > shop/cart tcp/1", kIngress},
      {"DoesNotExist: the label is absent", from(pods_in("!tier", "")), "lab/db > shop/cart tcp/1", kAllowed},
      {"DoesNotExist: the label is there", from(pods_in("!tier", "")), "lab/front > shop/cart tcp/1",
       kIngress},
      {"labels and expressions: all must match", from(pods_in("app=front; !tier", "team")),
       "bank/front > shop/cart tcp/1", kAllowed},
      {"no peers: everyone, outside too",
       {ingress("shop", "", {{{}, {tcp(80)}}})},
       "203.0.113.7 > shop/cart tcp/80",
       kAllowed},
      {"a peer that was not understood admits nobody", from(PolicyPeer{}), "shop/front > shop/cart tcp/1",
       kIngress},
      {"a pod with host network is no peer by selector", from(pods("app=front")),
       "shop/host > shop/cart tcp/1", kIngress},
      {"a finished pod is no peer", from(pods("app=front")), "shop/done > shop/cart tcp/1", kIngress},
      {"egress: to the pods selected",
       {egress("shop", "app=cart", {{{pods_in("app=db", "env=test")}, {}}})},
       "shop/cart > lab/db tcp/5432",
       kAllowed},
      {"egress: to no others",
       {egress("shop", "app=cart", {{{pods_in("app=db", "env=test")}, {}}})},
       "shop/cart > lab/front tcp/5432",
       kEgress},
  });
}

TEST(PolicyCases, IpBlocks) {
  const auto from = [](const PolicyPeer& peer) {
    return std::vector{ingress("shop", "app=cart", {{{peer}, {}}})};
  };
  const auto to = [](const PolicyPeer& peer) {
    return std::vector{egress("shop", "app=cart", {{{peer}, {}}})};
  };
  const auto ten = block("10.0.0.0/8", {"10.0.2.0/24"});
  run({
      {"an address in the block", from(block("203.0.113.0/24")), "203.0.113.255 > shop/cart tcp/1", kAllowed},
      {"the address after the block", from(block("203.0.113.0/24")), "203.0.114.0 > shop/cart tcp/1",
       kIngress},
      {"the address before the block", from(block("203.0.113.0/24")), "203.0.112.255 > shop/cart tcp/1",
       kIngress},
      {"a block of one address", from(block("203.0.113.7/32")), "203.0.113.7 > shop/cart tcp/1", kAllowed},
      {"a block holds pods' addresses too", from(ten), "bank/front > shop/cart tcp/1", kAllowed},
      {"except takes pods' addresses out", from(ten), "lab/db > shop/cart tcp/1", kIngress},
      {"except's last address is out", from(ten), "10.0.2.255 > shop/cart tcp/1", kIngress},
      {"the address after except is in", from(ten), "10.0.3.0 > shop/cart tcp/1", kAllowed},
      {"what one block excepts, another peer may admit",
       {ingress("shop", "app=cart", {{{ten, block("10.0.2.2/32")}, {}}})},
       "lab/db > shop/cart tcp/1",
       kAllowed},
      {"what a block excepts, a selector may admit",
       {ingress("shop", "app=cart", {{{ten}, {}}, {{namespaces("env=test")}, {}}})},
       "lab/db > shop/cart tcp/1",
       kAllowed},
      {"host network is an address like any other", from(block("192.168.0.0/16")),
       "shop/host > shop/cart tcp/1", kAllowed},
      {"a finished pod's address is an address like any other", from(block("10.0.4.0/24")),
       "shop/done > shop/cart tcp/1", kAllowed},
      {"0.0.0.0/0 is all of IPv4", from(block("0.0.0.0/0")), "203.0.113.7 > shop/cart tcp/1", kAllowed},
      {"0.0.0.0/0 is nothing of IPv6", to(block("0.0.0.0/0")), "shop/cart > 2001:db8::1 tcp/1", kEgress},
      {"::/0 is all of IPv6", to(block("::/0")), "shop/cart > 2001:db8::1 tcp/1", kAllowed},
      {"::/0 is nothing of IPv4", to(block("::/0")), "shop/cart > 203.0.113.7 tcp/1", kEgress},
      {"::/0 is no pod's IPv4 address", to(block("::/0")), "shop/cart > bank/front tcp/1", kEgress},
      {"except in IPv6", to(block("2001:db8::/32", {"2001:db8:1::/48"})), "shop/cart > 2001:db8:1::5 tcp/1",
       kEgress},
      {"a block beside a selector in one peer is not allowed and admits nobody",
       from(PolicyPeer{selector(""), {}, block("0.0.0.0/0").ip_block}), "shop/front > shop/cart tcp/1",
       kIngress},
      {"egress to outside", to(block("203.0.113.0/24")), "shop/cart > 203.0.113.7 udp/53", kAllowed},
      {"egress to elsewhere outside", to(block("203.0.113.0/24")), "shop/cart > 192.0.2.1 udp/53", kEgress},
  });
}

TEST(PolicyCases, Ports) {
  const auto at = [](std::vector<PolicyPort> ports) {
    return std::vector{ingress("shop", "app=cart", {{{}, std::move(ports)}})};
  };
  run({
      {"the port of the protocol", at({tcp(80)}), "lab/db > shop/cart tcp/80", kAllowed},
      {"the port of another protocol", at({tcp(80)}), "lab/db > shop/cart udp/80", kIngress},
      {"another port", at({tcp(80)}), "lab/db > shop/cart tcp/81", kIngress},
      {"rule with ports: no ICMP", at({tcp(80)}), "lab/db > shop/cart icmp", kIngress},
      {"rule without ports: ICMP too", at({}), "lab/db > shop/cart icmp", kAllowed},
      {"rule without ports: any port", at({}), "lab/db > shop/cart sctp/65535", kAllowed},
      {"UDP", at({udp(53)}), "lab/db > shop/cart udp/53", kAllowed},
      {"SCTP", at({sctp(3868)}), "lab/db > shop/cart sctp/3868", kAllowed},
      {"protocol only: each of its ports", at({udp()}), "lab/db > shop/cart udp/65535", kAllowed},
      {"protocol only: no other protocol", at({udp()}), "lab/db > shop/cart tcp/53", kIngress},
      {"endPort: the first", at({tcp(8000, 8010)}), "lab/db > shop/cart tcp/8000", kAllowed},
      {"endPort: the last", at({tcp(8000, 8010)}), "lab/db > shop/cart tcp/8010", kAllowed},
      {"endPort: before the first", at({tcp(8000, 8010)}), "lab/db > shop/cart tcp/7999", kIngress},
      {"endPort: after the last", at({tcp(8000, 8010)}), "lab/db > shop/cart tcp/8011", kIngress},
      {"endPort: to the very last port", at({tcp(1, 65535)}), "lab/db > shop/cart tcp/65535", kAllowed},
      {"endPort below port: nothing", at({tcp(90, 80)}), "lab/db > shop/cart tcp/85", kIngress},
      {"ranges that overlap", at({tcp(80, 90), tcp(85, 95)}), "lab/db > shop/cart tcp/95", kAllowed},
      {"peers and ports of one rule belong together",
       {ingress("shop", "app=cart",
                {{{pods("app=front")}, {tcp(80)}}, {{namespaces("env=test")}, {tcp(90)}}})},
       "lab/db > shop/cart tcp/80",
       kIngress},
      {"ingress name: the destination pod's number", at({tcp("http")}), "lab/db > shop/cart tcp/8081",
       kAllowed},
      {"ingress name: not the source pod's number", at({tcp("http")}), "bank/front > shop/cart tcp/9090",
       kIngress},
      {"ingress name: of the entry's protocol", at({udp("dns")}), "lab/db > shop/cart udp/5353", kAllowed},
      {"ingress name: not of another protocol", at({udp("dns")}), "lab/db > shop/cart udp/53", kIngress},
      {"ingress name that the pod does not have: nothing", at({tcp("metrics")}), "lab/db > shop/cart tcp/80",
       kIngress},
  });
  const auto to = [](const PolicyPeer& peer) {
    return std::vector{egress("shop", "app=cart", {{{peer}, {tcp("http")}}})};
  };
  const std::vector everyone{egress("shop", "app=cart", {{{}, {tcp("http")}}})};
  run({
      {"egress name: each peer's own number", to(namespaces("")), "shop/cart > bank/front tcp/9090",
       kAllowed},
      {"egress name: each peer's own number, another", to(namespaces("")), "shop/cart > bank/vault tcp/8443",
       kAllowed},
      {"egress name: not another peer's number", to(namespaces("")), "shop/cart > bank/front tcp/8443",
       kEgress},
      {"egress name: only peers of the rule", to(pods("")), "shop/cart > bank/front tcp/9090", kEgress},
      {"egress name: a peer without such a port", to(namespaces("")), "shop/cart > lab/db tcp/9090", kEgress},
      {"egress name to everyone: pods have it", everyone, "shop/cart > shop/front tcp/8080", kAllowed},
      {"egress name to everyone: outside has no names", everyone, "shop/cart > 203.0.113.7 tcp/8080",
       kEgress},
      {"egress name to a block: a pod in it has it", to(block("10.0.1.0/24")),
       "shop/cart > bank/front tcp/9090", kAllowed},
      {"egress name to a block: another address has not", to(block("10.0.1.0/24")),
       "shop/cart > 10.0.1.2 tcp/9090", kEgress},
      {"egress name: host network has no names", to(block("0.0.0.0/0")), "shop/cart > shop/host tcp/8080",
       kEgress},
  });
}

}  // namespace
}  // namespace sluice::policy
