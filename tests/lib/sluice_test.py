# SPDX-License-Identifier: Apache-2.0
"""The base of every test that runs the daemon: after each test every packet must be accounted for on every node that
runs, by the datapath's own counters and, independently of them, by the kernel's statistics of the interfaces.
"""
import json
import os
import signal
import sys
import unittest

import wires
from sluice_node import Node, connect_nodes, sandbox, wait_for


def counts_redirected():
    """Does this kernel count at a pod's interface what bpf_redirect_peer() brings there? Those that do got this field with it."""
    with open("/sys/kernel/btf/vmlinux", "rb") as types:
        return b"\0pcpu_stat_type\0" in types.read()


COUNTS_REDIRECTED = counts_redirected()


class Ledger:
    """What a node's datapath has counted, and what the kernel has counted at the interfaces around it."""

    @classmethod
    def of(cls, node):
        """At a moment of quiet, so that both have seen the same packets."""
        def quiet():
            ledger = cls(node)
            return ledger if node.get("/v1/status")["packets"] == ledger.packets else None
        return wait_for(f"a moment of quiet on node {node.name}", quiet, 10, 0.02)

    def __init__(self, node):
        self.packets = node.get("/v1/status")["packets"]
        links = statistics(node)
        pods = {p.name: statistics(p).get("eth0", (0, 0, "")) for p in node.pods.values()}
        self.pods = (frozenset(pods), node.attached)
        # What carries an uplink (tests/lib/wires.py) has the same packets once more.
        self.uplinks = frozenset(links) - {"lo", "sluice_host"} - {n for n in links if n.startswith(("slu", wires.CARRIER))}
        self.wireguard = any(kind == "wireguard" for _, _, kind in links.values())
        # A deleted pod's link stays for a while.
        hosts = {i["name"] for p in node.pods.values() for i in p.result["interfaces"] if i["name"].startswith("slu")}
        self.kernel = {
            "in from pods": sum(rx for name, (rx, _, _) in links.items() if name in hosts),
            "in from the node's stack": links["sluice_net"][0],
            "in from the VXLAN device": links["sluice_vxlan"][0],
            "in from the uplink": sum(links[name][0] for name in self.uplinks),
            "out into pods": sum(rx for rx, _, _ in pods.values()) + dropped_by_queues(node),
            "out by the VXLAN device": links["sluice_vxlan"][1],
        }
        came, direct = self.packets["in"], self.packets["direct"]
        self.datapath = {
            "in from pods": came["pod"],
            "in from the node's stack": came["host"],
            "in from the VXLAN device": came["overlay"] - direct["in"],
            "in from the uplink": came["uplink"] + direct["in"],
            "out into pods": self.packets["delivered"] + self.packets["answered"],
            "out by the VXLAN device": self.packets["outTunnel"] - direct["out"],
        }

    def differences(self, before):
        """Where datapath and kernel disagree about what happened since `before`; the counters' own balance first."""
        found = {}
        if self.packets["unaccounted"] != 0:
            found["unaccounted"] = self.packets
        # A pod takes its interfaces' statistics with it.
        skipped = {"in from pods", "out into pods"} if self.pods != before.pods else set()
        if not COUNTS_REDIRECTED:
            skipped.add("out into pods")
        # WireGuard counts its keepalives, which carry no packet.
        if self.uplinks != before.uplinks or self.wireguard:
            skipped.add("in from the uplink")
        for what, count in self.kernel.items():
            ours, kernels = self.datapath[what] - before.datapath[what], count - before.kernel[what]
            if what not in skipped and ours != kernels:
                found[what] = f"the datapath counted {ours}, the kernel {kernels}"
        return found


def statistics(namespace):
    """By interface, (packets received, packets sent or refused, kind)."""
    found = {}
    for link in json.loads(namespace.run("ip", "-j", "-d", "-s", "link")):
        tx = link["stats64"]["tx"]
        found[link["ifname"]] = (link["stats64"]["rx"]["packets"], tx["packets"] + tx["errors"] + tx["dropped"],
                                 link.get("linkinfo", {}).get("info_kind", ""))
    return found


def dropped_by_queues(node):
    """Packets for pods that the queueing disciplines of their links dropped."""
    return sum(q["drops"] for q in json.loads(node.run("tc", "-s", "-j", "qdisc")) if q["dev"].startswith("slu") and q.get("root"))


class SluiceTest(unittest.TestCase):
    """Checks, after the test and all that it has to clean up, the accounts of the nodes that ran before it and still do.
    A subclass can't leave it out by forgetting to call a setUp() or tearDown()."""

    def run(self, result=None):
        before = {node: Ledger.of(node) for node in Node.running()}
        self.addCleanup(self.check_accounts, before)  # registered first: is called last
        return super().run(result)

    def check_accounts(self, before):
        for node in Node.running():
            found = {}

            # Packets on their way while the counters are read make a difference that is gone at the next look.
            def agreed(node=node, found=found):
                found.clear()
                now = Ledger(node)
                found.update(now.differences(before.get(node, now)))
                return not found
            try:
                wait_for("the accounts to agree", agreed, 5, 0.05)
            except TimeoutError:
                self.fail(f"packets of node {node.name} are not accounted for: {found}")
            self.assertEqual(node.get("/v1/status")["audit"], [], f"node {node.name}")


class NodeAndWorldTest(SluiceTest):
    """Of a subclass that makes a node, the world beyond it, and the echoes that answer in their namespaces."""

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes:
            echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        cls.world.delete()
        cls.node.delete()


class NodePairTest(SluiceTest):
    """Of a subclass that makes its pods: nodes one and two, which read one folder of objects and are joined by their uplinks.
    What answers in their namespaces is in `echoes`."""

    @classmethod
    def make_nodes(cls, build):
        cls.one = Node(build, "one", "10.83.11.0/24")
        cls.two = Node(build, "two", "10.83.12.0/24", folder=cls.one.folder)
        connect_nodes(cls.one, "192.0.2.11", cls.two, "192.0.2.12")
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon()

    @classmethod
    def add_pods(cls, node, *names):
        pods = [node.add_pod("x", name, {"app": name}) for name in names]
        # The other node learns a pod's address from its status, as kubelet reports it.
        for pod in pods:
            cls.one.write_pod("x", pod.pod, {"app": pod.pod}, address=pod.address)
        return pods

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes:
            echo.close()
        for node in (cls.one, cls.two):
            for pod in list(node.pods.values()):
                node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
        cls.one.delete()
        cls.two.delete()


def main(module):
    """The program of a test module, FILE BUILD_FOLDER [unittest options]: runs it in a sandbox, with the folder as its
    BUILD. All its tests must check the accounts."""
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        sys.exit(module.__doc__)
    for case in vars(module).values():
        if isinstance(case, type) and issubclass(case, unittest.TestCase) and not issubclass(case, SluiceTest):
            sys.exit(f"{case.__name__} must be a SluiceTest")
    module.BUILD = os.path.abspath(sys.argv[1])
    sandbox()
    unittest.main(module=module, argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
