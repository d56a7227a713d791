# SPDX-License-Identifier: Apache-2.0
"""Pods against a bare veth pair, in short rounds that take turns; both ends of every load on one CPU."""
import os
import socket
import subprocess

from measure import load
from sluice_node import Namespace, Node, connect_nodes, run, wait_for
from traffic import in_namespace

SANDBOX = True
ROUNDS = 40
SECONDS = 0.2  # of one load of one contender in one round
LABEL = {"limit": "the limit: redirect_peer by one program, no modules", "bridge": "a Linux bridge", "nodes": "the nodes themselves, without VXLAN",
         "vxlan": "a VXLAN device alone"}
CLUSTER_IP = "10.96.0.9"
FIELD = {"rr": "p50_us", "bulk": "gbit_per_second", "crr": "per_second", "udp": "per_second"}


class Contender:
    """A client that drives a server at the other end of one kind of path."""

    def __init__(self, build, client, host, address):
        """`host`: none, if what serves there does already."""
        self.server = host and load.server(build, host.path)
        self.client = load.Load(build, client.path, "drive", address)

    def measure(self, kind):
        return self.client.ask(f"{kind} {SECONDS}")[FIELD[kind]]


def policies(node, pods):
    """What both ends are under: a policy that isolates them in both directions and admits the traffic."""
    peer = {"podSelector": {"matchLabels": {"app": "bench"}}}
    ports = [{"protocol": "TCP", "port": 9000, "endPort": 9002}, {"protocol": "UDP", "port": 9003}]
    node.write_policy("x", "bench", {
        "podSelector": {"matchLabels": {"app": "bench"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [peer], "ports": ports}], "egress": [{"to": [peer], "ports": ports}]})
    for pod, address in pods:
        node.write_pod("x", pod, {"app": "bench"}, address=address)


def serve(node, pod):
    """A Service with the pod alone behind it."""
    ports = [{"name": f"{p.lower()}{n}", "protocol": p, "port": n} for p, n in (("TCP", 9000), ("TCP", 9001), ("TCP", 9002), ("UDP", 9003))]
    node.write("service-bench", {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench", "namespace": "x"},
        "spec": {"type": "ClusterIP", "clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP], "ports": ports}}, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "bench", "namespace": "x", "labels": {"kubernetes.io/service-name": "bench"}},
        "endpoints": [{"addresses": [pod.address]}], "ports": ports})
    node.settle()


def bare_pair(mtu):
    """Two namespaces and the veth pair between them."""
    ends = [Namespace("bare-a"), Namespace("bare-b")]
    run("ip", "link", "add", "eth0", "netns", "bare-a", "type", "veth", "peer", "name", "eth0", "netns", "bare-b")
    for i, end in enumerate(ends):
        end.ip("addr", "add", f"10.99.0.{i + 1}/24", "dev", "eth0")
        end.ip("link", "set", "eth0", "mtu", str(mtu), "up")
    return ends


def bridged_pair(mtu):
    """What the `bridge` plugin makes: two namespaces on a Linux bridge in a third."""
    middle = Namespace("bridged")
    ends = [Namespace("bridged-a"), Namespace("bridged-b")]
    middle.ip("link", "add", "br0", "type", "bridge")
    middle.ip("link", "set", "br0", "up")
    for i, end in enumerate(ends):
        run("ip", "link", "add", f"v{i}", "netns", "bridged", "type", "veth", "peer", "name", "eth0", "netns", end.name)
        middle.ip("link", "set", f"v{i}", "master", "br0", "mtu", str(mtu), "up")
        end.ip("addr", "add", f"10.98.0.{i + 1}/24", "dev", "eth0")
        end.ip("link", "set", "eth0", "mtu", str(mtu), "up")
    return ends


def limit_pair(build, mtu):
    """Two namespaces whose packets one program hands over in a third, as Sluice does between two pods; nothing else."""
    middle = Namespace("limit")
    ends = [Namespace("limit-a"), Namespace("limit-b")]
    for i, end in enumerate(ends):
        run("ip", "link", "add", f"v{i}", "netns", "limit", "type", "veth", "peer", "name", "eth0", "netns", end.name)
        middle.ip("link", "set", f"v{i}", "mtu", str(mtu), "up")
        end.ip("addr", "add", f"10.96.1.{i + 1}/24", "dev", "eth0")
        end.ip("link", "set", "eth0", "mtu", str(mtu), "up")
    program = middle.start(os.path.join(build, "bench", "sluice_bench_limit"), "v0", "v1", stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)
    if program.stdout.readline() != "ready\n":
        raise RuntimeError("the program of the limit could not be attached")
    return ends


def tunnelled_pair():
    """Two namespaces on a VXLAN device over a veth pair and nothing else: what the kernel's encapsulation alone costs."""
    ends = [Namespace("vxlan-a"), Namespace("vxlan-b")]
    run("ip", "link", "add", "up0", "netns", "vxlan-a", "type", "veth", "peer", "name", "up0", "netns", "vxlan-b")
    for i, end in enumerate(ends):
        end.ip("addr", "add", f"192.0.2.{i + 1}/24", "dev", "up0")
        end.ip("link", "set", "up0", "up")
        end.ip("link", "add", "vx0", "type", "vxlan", "id", "9", "dstport", "4789", "local", f"192.0.2.{i + 1}",
               "remote", f"192.0.2.{2 - i}", "noudpcsum")
        end.ip("addr", "add", f"10.97.0.{i + 1}/24", "dev", "vx0")
        end.ip("link", "set", "vx0", "up")
    return ends


def mtu_of(pod):
    return int(pod.run("cat", "/sys/class/net/eth0/mtu"))


def two_nodes(options):
    one, two = Node(options.build, "one", "10.83.1.0/24"), Node(options.build, "two", "10.83.2.0/24")
    connect_nodes(one, "192.0.2.1", two, "192.0.2.2")
    for node in (one, two):
        node.write_namespace("x")
        node.start_daemon()
    a, b, client = (one.add_pod("x", name, {"app": "bench"}) for name in ("a", "b", "client"))
    c = two.add_pod("x", "c", {"app": "bench"})
    policies(one, [("c", c.address)])
    policies(two, [("a", a.address), ("b", b.address), ("client", client.address)])
    for node, pod in ((one, "a"), (two, "c")):
        wait_for("the policy", lambda: node.get(f"/v1/endpoints/x/{pod}/policy")["isolatedEgress"])
        node.wait_moved()
    return one, two, a, b, c, client


def contenders(options):
    one, two, a, b, c, client = two_nodes(options)
    serve(one, b)
    bare_a, bare_b = bare_pair(mtu_of(a))
    bridged_a, bridged_b = bridged_pair(mtu_of(a))
    ends = {"bare": (bare_a, bare_b, "10.99.0.2"), "same": (a, b, b.address), "cross": (a, c, c.address),
            "vxlan": (*tunnelled_pair(), "10.97.0.2"),
            "limit": (*limit_pair(options.build, mtu_of(a)), "10.96.1.2"),
            "bridge": (bridged_a, bridged_b, "10.98.0.2"), "nodes": (one, two, "192.0.2.2")}
    made = {name: Contender(options.build, *where) for name, where in ends.items()}
    for pod, address in ((a, b.address), (a, c.address), (client, CLUSTER_IP)):
        wait_for(f"{address} to be reached", lambda: connects(pod, address))
    # A client of its own: a pod that goes both ways from the same ports has to give some of its connections another one.
    made["service"] = Contender(options.build, client, None, CLUSTER_IP)
    return made


def connects(client, address):
    def attempt():
        with socket.create_connection((address, 9000), timeout=1):
            return True
    return in_namespace(client.path, attempt)


def measure(record, options):
    load.keep_off()
    wanted = [name.removesuffix("_x").removesuffix("_p50") for name in options.names]
    kinds = list(dict.fromkeys(name.split("_")[1] for name in wanted))
    all_contenders = contenders(options)
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    for kind in kinds:
        mine = [w.split("_")[0] for w in wanted if w.endswith("_" + kind)]
        takes = list(dict.fromkeys(["bare", *mine, *(["same"] if "service" in mine else []), "limit", "bridge"]))
        if "cross" in takes:
            takes += ["nodes", "vxlan"]
        got = {name: [] for name in takes}
        for name in takes:
            all_contenders[name].measure(kind)  # warms caches and the neighbour tables
        for i in range(rounds):
            for name in takes if i % 2 == 0 else reversed(takes):
                got[name].append(all_contenders[name].measure(kind))
        figure = kind + "_p50" if kind == "rr" else kind
        for name in takes[1:]:
            ratios = [one / bare for one, bare in zip(got[name], got["bare"])]
            if name == "service":  # how much of the direct way's speed is left
                slower = [direct / by_service for direct, by_service in zip(got["same"], got["service"])]
                record.put(f"service_{kind}_x", slower if kind == "rr" else [1 / s for s in slower], got["same"])
            elif name in mine:
                record.put(f"{name}_{figure}_x", ratios, got["bare"])
            elif name in LABEL:
                record.row(f"{figure}, {LABEL[name]} / bare", "×", ratios)
    record.conditions = (f"{rounds} rounds of {SECONDS} s in turns, both ends on CPU {load.CPU}; pods isolated in both "
                         "directions by a policy that admits the load; same MTU on every pair")
