# SPDX-License-Identifier: Apache-2.0
"""The NetworkPolicy cases. Pods a, b, c stand in each of the namespaces x, y, z, labelled pod=<name>; namespaces are
labelled ns=<name>, x and y also team=red. `web` is a container port of x/* (TCP 80), y/a (TCP 80) and y/b (TCP 81), not
of y/c; `dns` is UDP 80 of z/*. Beside the pods, the nodes n1 and n2 and the host cp ask, and the host out answers.
Where a case says `any n2`, the address that another node uses towards a pod decides, which is not this table's matter."""
from lib.table import (Case, Step, block, case, expression, incoming, labels, ns_peer, outgoing, pod_peer, policy, rule,
                       sctp, tcp, udp)

A, B = labels(pod="a"), labels(pod="b")
X, Y, Z = labels(ns="x"), labels(ns="y"), labels(ns="z")
NO_IN_X = "deny * > x/*"
TO_A, FROM_A = "deny * > x/a", "deny x/a > *"


def to_a(*rules):
    """Ingress rules for x/a."""
    return incoming("x/p", *rules, pods=A)


def from_a(*rules):
    return outgoing("x/p", *rules, pods=A)


SELECTORS = [
    case("no policy", expect=[]),
    case("default deny ingress, policyTypes left out", policy("x/deny"), expect=[NO_IN_X]),
    case("default deny ingress by an empty list", policy("x/deny", ingress=[]), expect=[NO_IN_X]),
    case("default deny egress", policy("x/deny", types=["Egress"]), expect=["deny x/* > *"]),
    case("default deny both ways", policy("x/deny", types=["Ingress", "Egress"]), expect=[NO_IN_X, "deny x/* > *"]),
    case("an empty rule allows all ingress", incoming("x/p", rule()), expect=[]),
    case("an empty rule allows all egress", outgoing("x/p", rule()), expect=[]),
    case("allow all outweighs deny all", policy("x/deny"), incoming("x/p", rule()), expect=[]),
    case("from pods of the namespace", to_a(rule([pod_peer(B)])), expect=[TO_A, "allow x/b > x/a"]),
    case("from a namespace", to_a(rule([ns_peer(Y)])), expect=[TO_A, "allow y/* > x/a"]),
    case("from all namespaces: pods only", to_a(rule([ns_peer({})])), expect=[TO_A, "allow pods > x/a"]),
    case("from all pods of the namespace", to_a(rule([pod_peer({})])), expect=[TO_A, "allow x/* > x/a"]),
    case("namespace and pod selector in one peer", to_a(rule([ns_peer(Y, B)])), expect=[TO_A, "allow y/b > x/a"]),
    case("namespace or pod selector in two peers", to_a(rule([ns_peer(Y), pod_peer(B)])),
         expect=[TO_A, "allow y/*,x/b > x/a"]),
    case("matchExpressions In", to_a(rule([pod_peer(expression("pod", "In", "b", "c"))])),
         expect=[TO_A, "allow x/b,x/c > x/a"]),
    case("matchExpressions NotIn", to_a(rule([pod_peer(expression("pod", "NotIn", "b"))])),
         expect=[TO_A, "allow x/c > x/a"]),
    case("matchExpressions Exists", to_a(rule([ns_peer(expression("team", "Exists"))])),
         expect=[TO_A, "allow x/*,y/* > x/a"]),
    case("matchExpressions DoesNotExist", to_a(rule([ns_peer(expression("team", "DoesNotExist"))])),
         expect=[TO_A, "allow z/* > x/a"]),
    case("NotIn matches where the label is absent", to_a(rule([ns_peer(expression("team", "NotIn", "red"))])),
         expect=[TO_A, "allow z/* > x/a"]),
    case("expressions for namespace and pod", to_a(rule([ns_peer(expression("ns", "NotIn", "x"),
                                                                 expression("pod", "In", "a"))])),
         expect=[TO_A, "allow y/a,z/a > x/a"]),
    case("all labels of a selector must match", to_a(rule([pod_peer(labels(pod="b", role="none"))])), expect=[TO_A]),
    case("a namespace by its name", to_a(rule([ns_peer(labels(**{"kubernetes.io/metadata.name": "z"}))])),
         expect=[TO_A, "allow z/* > x/a"]),
    case("the policy selects by expression", policy("x/p", expression("pod", "In", "a", "b")),
         expect=["deny * > x/a,x/b"]),
    case("a policy selects in its own namespace only", policy("y/p", A), expect=["deny * > y/a"]),
    case("a policy that selects no pod", policy("x/p", labels(pod="none")), expect=[]),
    case("a peer that matches nobody", to_a(rule([pod_peer(labels(pod="none"))])), expect=[TO_A]),
]

PORTS = [
    case("one TCP port", to_a(rule(ports=[tcp(80)])), expect=[TO_A, "allow * > x/a tcp80"]),
    case("a port without protocol is TCP", to_a(rule(ports=[{"port": 81}])), expect=[TO_A, "allow * > x/a tcp81"]),
    case("one UDP port", to_a(rule(ports=[udp(81)])), expect=[TO_A, "allow * > x/a udp81"]),
    case("one SCTP port", to_a(rule(ports=[sctp(80)])), expect=[TO_A, "allow * > x/a sctp80"]),
    case("a protocol without port", to_a(rule(ports=[udp(None)])), expect=[TO_A, "allow * > x/a udp*"]),
    case("an empty port is all of TCP", to_a(rule(ports=[{}])), expect=[TO_A, "allow * > x/a tcp*"]),
    case("ports of two protocols", to_a(rule(ports=[tcp(80), udp(81)])), expect=[TO_A, "allow * > x/a tcp80 udp81"]),
    case("endPort: a range of one", to_a(rule(ports=[tcp(80, 80)])), expect=[TO_A, "allow * > x/a tcp80"]),
    case("endPort: both borders belong to it", to_a(rule(ports=[tcp(80, 81)])), expect=[TO_A, "allow * > x/a tcp*"]),
    case("endPort: begins above 80", to_a(rule(ports=[tcp(81, 90)])), expect=[TO_A, "allow * > x/a tcp81"]),
    case("endPort: ends at 80", to_a(rule(ports=[tcp(79, 80)])), expect=[TO_A, "allow * > x/a tcp80"]),
    case("endPort: ends below 80", to_a(rule(ports=[tcp(1, 79)])), expect=[TO_A]),
    case("endPort: begins above 81", to_a(rule(ports=[udp(82, 65535)])), expect=[TO_A]),
    case("endPort: every UDP port", to_a(rule(ports=[udp(1, 65535)])), expect=[TO_A, "allow * > x/a udp*"]),
    case("endPort: overlapping ranges", to_a(rule(ports=[tcp(70, 80), tcp(80, 100)])),
         expect=[TO_A, "allow * > x/a tcp*"]),
    case("endPort: ranges of UDP and SCTP", to_a(rule(ports=[udp(80, 80), sctp(81, 99)])),
         expect=[TO_A, "allow * > x/a udp80 sctp81"]),
    case("a named port", incoming("x/p", rule(ports=[tcp("web")])), expect=[NO_IN_X, "allow * > x/* tcp80"]),
    case("a named port that differs between pods", incoming("y/p", rule(ports=[tcp("web")])),
         expect=["deny * > y/*", "allow * > y/a tcp80", "allow * > y/b tcp81"]),
    case("a named UDP port", incoming("z/p", rule(ports=[udp("dns")])),
         expect=["deny * > z/*", "allow * > z/* udp80"]),
    case("a named port of another protocol", incoming("z/p", rule(ports=[tcp("dns")])), expect=["deny * > z/*"]),
    case("named and numbered ports", incoming("y/p", rule(ports=[tcp("web"), udp(81)])),
         expect=["deny * > y/*", "allow * > y/* udp81", "allow * > y/a tcp80", "allow * > y/b tcp81"]),
    case("many ports", to_a(rule(ports=[tcp(p) for p in range(1, 162, 2)])), expect=[TO_A, "allow * > x/a tcp81"]),
    case("peers and ports together", to_a(rule([pod_peer(B), ns_peer(Z)], [tcp(80)])),
         expect=[TO_A, "allow x/b,z/* > x/a tcp80"]),
    case("two rules are a union", to_a(rule([pod_peer(B)], [tcp(80)]), rule([ns_peer(Y)], [udp(81)])),
         expect=[TO_A, "allow x/b > x/a tcp80", "allow y/* > x/a udp81"]),
    case("two policies are a union", to_a(rule([pod_peer(B)], [tcp(80)])),
         incoming("x/q", rule([ns_peer(Y)], [udp(81)]), rule([pod_peer(B)], [udp(80)])),
         expect=[NO_IN_X, "allow x/b > x/a tcp80", "allow y/* > x/* udp81", "allow x/b > x/* udp80"]),
]

EGRESS = [
    case("to pods of the namespace", from_a(rule([pod_peer(B)])), expect=[FROM_A, "allow x/a > x/b"]),
    case("to a namespace", from_a(rule([ns_peer(Y)])), expect=[FROM_A, "allow x/a > y/*"]),
    case("to all namespaces: pods only", from_a(rule([ns_peer({})])), expect=[FROM_A, "allow x/a > pods"]),
    case("to any place, one port", from_a(rule(ports=[tcp(80)])), expect=[FROM_A, "allow x/a > * tcp80"]),
    case("to an SCTP port", from_a(rule([ns_peer(Z)], [sctp(81)])), expect=[FROM_A, "allow x/a > z/* sctp81"]),
    case("to a named port that differs between pods", from_a(rule([ns_peer(Y)], [tcp("web")])),
         expect=[FROM_A, "allow x/a > y/a tcp80", "allow x/a > y/b tcp81"]),
    case("to a range of ports", from_a(rule([ns_peer(Y, A)], [udp(81, 82)])), expect=[FROM_A, "allow x/a > y/a udp81"]),
    case("replies need no rule", policy("x/p", A, ingress=[{"from": [pod_peer(B)]}], egress=[],
                                        types=["Ingress", "Egress"]),
         expect=[TO_A, "allow x/b > x/a", FROM_A]),
]

BLOCKS = [
    case("to a block outside", from_a(rule([block("10.10.0.200/32")])), expect=[FROM_A, "allow x/a > out"]),
    case("to a block less an exception", from_a(rule([block("10.10.0.0/24", "10.10.0.200/32")])), expect=[FROM_A]),
    case("to everywhere", from_a(rule([block("0.0.0.0/0")])), expect=[]),
    case("to everywhere but the fabric", from_a(rule([block("0.0.0.0/0", "10.10.0.0/24")])),
         expect=["deny x/a > out"]),
    case("to everywhere but pods", from_a(rule([block("0.0.0.0/0", "10.244.0.0/16")])), expect=["deny x/a > pods"]),
    case("an exception of one policy is allowed by another", from_a(rule([block("0.0.0.0/0", "10.10.0.0/24")])),
         outgoing("x/q", rule([block("10.10.0.200/32")], [udp(80)])),
         expect=["deny x/* > *", "allow x/a > pods", "allow x/* > out udp80"]),
    case("from a pod's address", to_a(rule([block("{x/b}/32")])), expect=[TO_A, "allow x/b > x/a"]),
    case("from the pods' block less one pod", to_a(rule([block("10.244.0.0/16", "{y/b}/32")])),
         expect=[TO_A, "allow pods > x/a", "deny y/b > x/a", "any n2 > x/a"]),
    case("from another node's pods", to_a(rule([block("{cidr n2}")])),
         expect=[TO_A, "allow x/b,y/a,y/c,z/b > x/a", "any n2 > x/a"]),
    case("from a host outside", to_a(rule([block("10.10.0.10/32")])), expect=[TO_A, "allow cp > x/a"]),
    case("from a host outside, one port", to_a(rule([block("10.10.0.10/32")], [tcp(80)])),
         expect=[TO_A, "allow cp > x/a tcp80"]),
    case("from everywhere", to_a(rule([block("0.0.0.0/0")])), expect=[]),
    case("from everywhere but the fabric", to_a(rule([block("0.0.0.0/0", "10.10.0.0/24")])),
         expect=["deny cp > x/a", "any n2 > x/a"]),
    case("from everywhere but pods, and from one of them",
         to_a(rule([block("0.0.0.0/0", "10.244.0.0/16"), block("{y/b}/32")])),
         expect=["deny pods > x/a", "allow y/b > x/a", "any n2 > x/a"]),
    case("a block inside an exception", to_a(rule([block("0.0.0.0/0", "10.0.0.0/8"), block("10.10.0.10/32")])),
         expect=[TO_A, "allow cp > x/a"]),
    case("a block or a selector", to_a(rule([block("10.10.0.10/32"), ns_peer(Z)])),
         expect=[TO_A, "allow cp,z/* > x/a"]),
]

BOTH = [
    case("egress allowed, ingress denied", from_a(rule([ns_peer(Y)])), incoming("y/p", rule([ns_peer(Z)]), pods=A),
         expect=[FROM_A, "allow x/a > y/*", "deny * > y/a", "allow z/* > y/a"]),
    case("ingress allowed, egress denied", from_a(rule([ns_peer(Z)])), incoming("y/p", rule([ns_peer(X)]), pods=A),
         expect=["deny * > y/a", "allow x/* > y/a", FROM_A, "allow x/a > z/*"]),
    case("ports of both sides intersect", from_a(rule([ns_peer(Y)], [tcp(80), udp(80)])),
         incoming("y/p", rule([ns_peer(X)], [udp(80), udp(81)]), pods=A),
         expect=["deny * > y/a", "allow x/b,x/c > y/a udp*", FROM_A, "allow x/a > y/b,y/c tcp80 udp80",
                 "allow x/a > y/a udp80"]),
    case("policyTypes Ingress: the egress section is ignored", policy("x/p", A, egress=[], types=["Ingress"]),
         expect=[TO_A]),
    case("policyTypes Egress: the ingress section is ignored", policy("x/p", A, ingress=[], types=["Egress"]),
         expect=[FROM_A]),
    case("policyTypes left out: egress rules isolate both ways", outgoing("x/p", rule([ns_peer(Y)]), pods=A, types=None),
         expect=[TO_A, FROM_A, "allow x/a > y/*"]),
    case("rules of both directions", policy("x/p", A, ingress=[{"from": [ns_peer(Y)]}], egress=[{"to": [ns_peer(Z)]}],
                                            types=["Ingress", "Egress"]),
         expect=[TO_A, "allow y/* > x/a", FROM_A, "allow x/a > z/*"]),
    case("everything denied but one path", *(policy(f"{n}/deny", types=["Ingress", "Egress"]) for n in "xyz"),
         from_a(rule([ns_peer(Y, B)], [tcp(80)])), incoming("y/p", rule([ns_peer(X, A)], [tcp(80)]), pods=B),
         expect=["deny * > pods", "deny pods > *", "allow x/a > y/b tcp80"]),
]

CHANGES = [
    Case("a pod becomes a peer by its label",
         Step(to_a(rule([pod_peer(B)])), expect=[TO_A, "allow x/b > x/a"]),
         Step(("label", "x/c", {"pod": "b"}), expect=[TO_A, "allow x/b,x/c > x/a"]),
         Step(("label", "x/c", {"pod": "c"}), expect=[TO_A, "allow x/b > x/a"])),
    Case("a pod comes under a policy by its label",
         Step(policy("x/p", labels(role="db")), expect=[]),
         Step(("label", "x/a", {"role": "db"}), expect=[TO_A]),
         Step(("label", "x/a", {"role": None}), expect=[])),
    Case("a namespace becomes a peer by its label",
         Step(to_a(rule([ns_peer(labels(team="blue"))])), expect=[TO_A]),
         Step(("label", "z", {"team": "blue"}), expect=[TO_A, "allow z/* > x/a"]),
         Step(("label", "z", {"team": None}), expect=[TO_A])),
    Case("a namespace's label changes egress",
         Step(from_a(rule([ns_peer(labels(team="red"))])), expect=[FROM_A, "allow x/a > x/*,y/*"]),
         Step(("label", "y", {"team": "blue"}), expect=[FROM_A, "allow x/a > x/*"]),
         Step(("label", "y", {"team": "red"}), expect=[FROM_A, "allow x/a > x/*,y/*"])),
    Case("a policy changes its port",
         Step(to_a(rule(ports=[tcp(80)])), expect=[TO_A, "allow * > x/a tcp80"]),
         Step(to_a(rule(ports=[tcp(81)])), expect=[TO_A, "allow * > x/a tcp81"])),
    Case("a policy changes whom it selects",
         Step(policy("x/p", A), expect=[TO_A]), Step(policy("x/p", B), expect=["deny * > x/b"])),
    Case("a policy changes its direction",
         Step(policy("x/p", A), expect=[TO_A]), Step(policy("x/p", A, types=["Egress"]), expect=[FROM_A])),
    Case("policies go one by one",
         Step(to_a(rule([pod_peer(B)])), incoming("x/q", rule([ns_peer(Y)]), pods=A),
              expect=[TO_A, "allow x/b,y/* > x/a"]),
         Step(("delete", "x/p"), expect=[TO_A, "allow y/* > x/a"]),
         Step(("delete", "x/q"), expect=[])),
]

CASES = SELECTORS + PORTS + EGRESS + BLOCKS + BOTH + CHANGES
