# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the policy table: policies in few words, and expectations written out by hand.

An expectation is a list of lines "deny|allow|any SOURCES > DESTINATIONS [PORTS]", the later line winning; what no line
names is allowed. SOURCES and DESTINATIONS are comma-separated patterns over the hosts (`pods` stands for every pod),
PORTS over tcp80, tcp81, udp80, udp81, sctp80, sctp81. `any` leaves a pair open. Two things hold whatever is written:
a pod reaches itself, and a pod's own node reaches the pod.
"""
import fnmatch


class Step:
    """Actions, in order, and what is expected after them. An action is a policy, or ("delete", "ns/policy"),
    ("label", "ns/pod" | "ns", {key: value or None})."""

    def __init__(self, *actions, expect):
        self.actions, self.expect = actions, [parse(line) for line in expect]


class Case:
    def __init__(self, name, *steps):
        self.name, self.steps = name, steps


def case(name, *policies, expect):
    return Case(name, Step(*policies, expect=expect))


def parse(line):
    words = line.replace(">", " ").split()
    verdict, sources, destinations = words[:3]
    assert verdict in ("deny", "allow", "any"), line
    return verdict, sources.split(","), destinations.split(","), words[3:] or ["*"]


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, p) or (p == "pods" and "/" in name) for p in patterns)


def verdict(expect, source, destination, port):
    """"allow", "deny" or "any" for the hosts and a port such as "tcp80"."""
    if source is destination or ("/" in destination.name and source.name == destination.node):
        return "allow"
    found = "allow"
    for word, sources, destinations, ports in expect:
        if matches(source.name, sources) and matches(destination.name, destinations) and matches(port, ports):
            found = word
    return found


# ---- policies
def policy(place, pods=None, ingress=None, egress=None, types=None):
    """`place` is "namespace/name"; `pods` the podSelector (default: all)."""
    namespace, name = place.split("/")
    spec = {"podSelector": pods or {}}
    for key, value in (("ingress", ingress), ("egress", egress), ("policyTypes", types)):
        if value is not None:
            spec[key] = value
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec}


def rule(peers=None, ports=None):
    """One rule, for either direction: incoming() and outgoing() name its peers as the API does."""
    return {**({"peers": peers} if peers is not None else {}), **({"ports": ports} if ports is not None else {})}


def incoming(place, *rules, pods=None, types=None):
    return policy(place, pods, ingress=[direct(r, "from") for r in rules], types=types)


def outgoing(place, *rules, pods=None, types=("Egress",)):
    return policy(place, pods, egress=[direct(r, "to") for r in rules], types=list(types) if types else None)


def direct(given, key):
    return {**({key: given["peers"]} if "peers" in given else {}),
            **({"ports": given["ports"]} if "ports" in given else {})}


def labels(**pairs):
    return {"matchLabels": pairs}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def pod_peer(selector):
    return {"podSelector": selector}


def ns_peer(selector, pods=None):
    return {"namespaceSelector": selector, **({"podSelector": pods} if pods is not None else {})}


def block(cidr, *excepts):
    """Addresses may name a host: "{x/a}/32", "{cidr n1}"."""
    return {"ipBlock": {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}}


def tcp(port, end=None):
    return port_of("TCP", port, end)


def udp(port, end=None):
    return port_of("UDP", port, end)


def sctp(port, end=None):
    return port_of("SCTP", port, end)


def port_of(protocol, port, end):
    return {"protocol": protocol, **({"port": port} if port is not None else {}),
            **({"endPort": end} if end is not None else {})}
