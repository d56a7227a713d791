#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""New connections from source ports that recur, 500 a second and flow, while policies flip between allow and deny:
from the moment a deny is live not one comes through, and from the moment an allow is live not one is refused.

    recurring_ports_test.py BUILD_FOLDER [unittest options]      SLUICE_SECONDS: how long, default 15
"""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
from load import Attempts, Switch, judge  # noqa: E402
from sluice_node import Fabric, Node, wait_for  # noqa: E402
import sluice_test  # noqa: E402

BUILD = ""
SECONDS = float(os.environ.get("SLUICE_SECONDS", 15))
WINDOW = (0.12, 0.4)  # seconds between flips
FIXED = (20000, 256)  # source ports
SYSTEM = "40000 40255"  # ip_local_port_range where the system chooses
WORLD = "192.0.2.99"


def policy(name, to, **rules):
    spec = {"podSelector": {"matchLabels": to} if to else {},
            "policyTypes": [direction.capitalize() for direction in rules], **rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "x"},
            "spec": spec}


def peers(role):
    """Pods of the role, hosts outside, and node one as pods of another node see it: by its gateway's address."""
    return [{"podSelector": {"matchLabels": {"role": role}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}},
            {"ipBlock": {"cidr": "10.83.21.1/32"}}]


def ports(first, last):
    return [{"protocol": p, "port": first, "endPort": last} for p in ("TCP", "UDP", "SCTP")]


# Each admits every flow of the test, in its own way.
ALLOW = {
    "by anything": [policy("flip", {}, ingress=[{}], egress=[{}])],
    "by peers": [policy("flip", {}, ingress=[{"from": peers("client")}], egress=[{"to": peers("server")}])],
    "by peers and ports": [policy("flip", {}, ingress=[{"from": peers("client"), "ports": ports(8000, 8999)}],
                                  egress=[{"to": peers("server"), "ports": ports(8000, 8999)}])],
    "by two policies": [policy("flip", {"role": "server"}, ingress=[{"from": peers("client")}]),
                        policy("flip2", {"role": "client"}, egress=[{"to": peers("server")}])],
}
# Each admits none, nor that a server speaks to the client of its own accord: replies of UDP and SCTP would pass so.
DENY = {
    "both ways": [policy("flip", {}, ingress=[], egress=[])],
    "by other peers": [policy("flip", {}, ingress=[{"from": [{"podSelector": {"matchLabels": {"role": "nobody"}}}]}],
                              egress=[{"to": [{"podSelector": {"matchLabels": {"role": "nobody"}}}]}])],
    "by other ports": [policy("flip", {}, ingress=[{"from": peers("client"), "ports": ports(9000, 9999)}],
                              egress=[{"to": peers("server"), "ports": ports(9000, 9999)}])],
    "clients by two policies": [policy("flip", {"role": "server"}, ingress=[], egress=[]),
                                policy("flip2", {"role": "client"}, ingress=[], egress=[{"to": peers("nobody")[:1]}])],
}


class RecurringPortsTest(sluice_test.SluiceTest):
    """Two nodes and a world on one fabric; clients on node one, servers on both."""

    options = ()

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "one", "10.83.21.0/24")
        cls.two = Node(BUILD, "two", "10.83.22.0/24", folder=cls.one.folder)
        cls.nodes = (cls.one, cls.two)
        cls.fabric = Fabric("fabric")
        cls.world = cls.fabric.host("world", WORLD)
        cls.fabric.join_nodes({cls.one: "192.0.2.21", cls.two: "192.0.2.22"})
        cls.one.write_namespace("x")
        for node in cls.nodes:
            node.start_daemon(*cls.options)
        cls.client = cls.one.add_pod("x", "client", {"role": "client"})
        cls.near = cls.one.add_pod("x", "near", {"role": "server"})
        cls.far = cls.two.add_pod("x", "far", {"role": "server"})
        for pod in (cls.client, cls.near, cls.far):
            role = "client" if pod is cls.client else "server"
            cls.one.write_pod("x", pod.pod, {"role": role}, address=pod.address)
        for place in (cls.client, cls.one):
            place.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={SYSTEM}")

    @classmethod
    def tearDownClass(cls):
        for pod in (cls.client, cls.near, cls.far):
            pod.node.delete_pod(pod)
        for node in cls.nodes:
            node.kill_daemon(signal.SIGTERM)
            node.delete()
        cls.fabric.delete()

    def flows(self):
        """name -> the arguments of Attempts"""
        return {
            "same node, TCP, system's ports": (self.client, self.near, "tcp", 8001),
            "same node, TCP, fixed ports": (self.client, self.near, "tcp", 8002, 500, FIXED),
            "same node, UDP, fixed ports": (self.client, self.near, "udp", 8003, 500, (30000, 64)),
            "same node, SCTP, fixed ports": (self.client, self.near, "sctp", 8004, 500, (30000, 64)),
            "across nodes, TCP, system's ports": (self.client, self.far, "tcp", 8001),
            "across nodes, UDP, fixed ports": (self.client, self.far, "udp", 8003, 500, (31000, 64)),
            "across nodes, SCTP, fixed ports": (self.client, self.far, "sctp", 8004, 500, (31000, 64)),
            "node to pod of the other node, TCP": (self.one, self.far, "tcp", 8005),
            "pod to the world, TCP, fixed ports": (self.client, self.world, "tcp", 8001, 500, FIXED, WORLD),
        }

    def generation_is_consistent(self, allow):
        """By the generation's own counters, since it went live: it never denied, or never allowed."""
        for node in self.nodes:
            counters = node.get("/v1/firewall")["live"]["counters"]
            denied = counters["deniedIngress"] + counters["deniedEgress"]
            self.assertEqual(denied if allow else counters["allowed"], 0, (node.name, allow, counters))

    def test_a_flip_holds_from_the_moment_it_is_live(self):
        switch = Switch(*self.nodes)
        switch.to(True, "flip", *ALLOW["by peers"])
        wait_for("the tunnel", lambda: udp_reaches_server(self), 10)
        seed = random.randrange(1 << 32)
        choose = random.Random(seed)
        tools = {name: Attempts(*arguments) for name, arguments in self.flows().items()}
        own = Attempts(self.one, self.near, "udp", 8006, 100, (32000, 64))
        try:
            end = time.monotonic() + SECONDS
            allow = True
            while time.monotonic() < end:
                allow = not allow
                switch.to(allow, "flip", *choose.choice(list((ALLOW if allow else DENY).values())))
                time.sleep(choose.uniform(*WINDOW))
                self.generation_is_consistent(allow)
            switch.close()
            for tool in (*tools.values(), own):
                tool.stop()
            results = {name: tool.end() for name, tool in tools.items()}
            own_totals, own_attempts = own.end()
        finally:
            for tool in (*tools.values(), own):
                tool.kill()
        print(f"\n{len(switch.windows)} flips, seed {seed}")
        for name, (totals, attempts) in results.items():
            counts, wrong = judge(attempts, switch.windows)
            print(f"  {name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()) +
                  f" ({totals['without_port']} without a port)")
            with self.subTest(name):
                self.assertEqual((counts["leaked"], counts["refused"], totals["socket_drops"]), (0, 0, 0),
                                 wrong[:3])
                self.assertGreater(min(counts["allowed"], counts["denied"]), 0)
        self.assertTrue(own_attempts and all(a.answered for a in own_attempts), "a pod's own node is always let in")
        self.assertEqual(own_totals["socket_drops"], 0)


def udp_reaches_server(test):
    tool = Attempts(test.client, test.far, "udp", 8003, 100, (31000, 4))
    time.sleep(0.1)
    return any(a.answered for a in tool.end()[1])


class ClsactRecurringPortsTest(RecurringPortsTest):
    """The same by clsact, as on kernels before 6.6."""

    options = ("--attach=clsact",)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
