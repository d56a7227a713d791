#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules and code of the firewall are replaced at the highest UDP rate that the machine gives: no packet is lost in the
datapath, none is judged by a mix of two sets of rules, and nothing but the firewall changes.

    swap_load_test.py BUILD_FOLDER [unittest options]
Environment: SLUICE_SWAPS, SLUICE_REPLACEMENTS, SLUICE_FLIPS: how many; the defaults take half a minute.
"""
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
from load import Attempts, Flood, Switch  # noqa: E402
from sluice_node import Node, wait_for  # noqa: E402
from service_test import service, slice_of  # noqa: E402
import sluice_test  # noqa: E402

BUILD = ""
RATE = int(os.environ.get("SLUICE_RATE", "20000"))  # packets a second and flow; 0: as many as the machine sends
SWAPS = int(os.environ.get("SLUICE_SWAPS", 200))
REPLACEMENTS = int(os.environ.get("SLUICE_REPLACEMENTS", 10))
FLIPS = int(os.environ.get("SLUICE_FLIPS", 100))
CLUSTER_IP = "10.96.0.9"
PEERS = 300  # pods of other nodes, whose classes change with every swap
OTHER_BUILD = os.path.join("tests", "tools", "other_build", "sluiced-other-build")


def policy(name, to, **rules):
    """`to` and the rules' peers: the label `pod` of pods."""
    def each(direction, names):
        key = "from" if direction == "ingress" else "to"
        return [{key: [{"podSelector": {"matchLabels": {"pod": n}}} for n in names]}] if names else []
    spec = {"podSelector": {"matchLabels": {"pod": to}}, "policyTypes": [d.capitalize() for d in rules],
            **{direction: each(direction, names) for direction, names in rules.items()}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "x"},
            "spec": spec}


class SwapLoadTest(sluice_test.SluiceTest):
    """One node with pods a and b, which flood each other."""

    options = ()

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "swap", "10.83.31.0/24")
        cls.node.write_node()
        cls.node.write_namespace("x")
        cls.node.write("peers", *({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"far-{i}", "namespace": "x",
                                                            "labels": {"pod": "far", "group": str(i % 7)}},
            "spec": {"containers": []}, "status": {"podIPs": [{"ip": f"10.84.{i // 200}.{1 + i % 200}"}]}}
            for i in range(PEERS)))
        cls.node.start_daemon(*cls.options)
        cls.a, cls.b = (cls.node.add_pod("x", name, {"pod": name}) for name in "ab")
        cls.binaries = [cls.node.binary, cls.node.tool_path(OTHER_BUILD)]

    @classmethod
    def tearDownClass(cls):
        for pod in (cls.a, cls.b):
            cls.node.delete_pod(pod)
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def setUp(self):
        self.node.settle()  # the generation of what a test before took away must not be taken for another
        self.switch = Switch(self.node)
        self.switch.write("swap", *self.rules(0))
        self.addCleanup(self.node.remove, "swap")
        self.before, self.packets = self.node.identities(), self.node.get("/v1/status")["packets"]

    @staticmethod
    def rules(number):
        """Always admit the flows between a and b, and what else they admit differs each time."""
        block = {"ipBlock": {"cidr": f"198.51.100.{number % 250}/32"}}
        group = {"podSelector": {"matchLabels": {"group": str(number % 7)}}}
        extra = {"ports": [{"protocol": "TCP", "port": 1 + number % 60000, "endPort": 1 + number % 60000 + number % 9}]}
        both = (policy("to-b", "b", ingress=["a"]), policy("from-a", "a", egress=["b"]))
        both[0]["spec"]["ingress"].append({"from": [block, group], **extra})
        both[1]["spec"]["egress"].append({"to": [group] if number % 3 else [block, group], **extra})
        return both

    def since(self):
        """What the datapath has counted since setUp()."""
        now, before = self.node.get("/v1/status")["packets"], self.packets
        drops = {r: n - before["drops"].get(r, 0) for r, n in now["drops"].items() if n != before["drops"].get(r, 0)}
        return {"from pods": now["in"]["pod"] - before["in"]["pod"], "delivered": now["delivered"] - before["delivered"],
                "answered": now["answered"] - before["answered"], "drops": drops}

    def verdict(self, what, flood):
        """Nothing was lost in the datapath; what a socket or a full backlog did not take is told apart."""
        result = flood.end()
        wait_for("the last packets", lambda: self.node.get("/v1/status")["packets"]["unaccounted"] == 0)
        link = next(l for l in json.loads(self.a.run("ip", "-j", "-s", "link")) if l["ifname"] == "eth0")
        outside = result["socket_drops"] + link["stats64"]["tx"]["dropped"] - self.dropped_before
        counted = self.since()
        print(f"\n  {what}: {result['sent'] / result['seconds']:.0f} packets/s, {result['sent']} sent, "
              f"{result['sent'] - result['received']} lost, of these {outside} at a socket or before the datapath, "
              f"{result['duplicates']} twice, longest pause {result['max_gap_ms']:.1f} ms; datapath: {counted}")
        self.assertEqual(counted["drops"], {})
        self.assertEqual(counted["from pods"], counted["delivered"] + counted["answered"])
        self.assertEqual((result["sent"] - result["received"] - outside, result["duplicates"]), (0, 0), result)
        self.assertGreater(result["received"], 0)

    def flood(self, address=None):
        link = next(l for l in json.loads(self.a.run("ip", "-j", "-s", "link")) if l["ifname"] == "eth0")
        self.dropped_before = link["stats64"]["tx"]["dropped"]
        flood = Flood(self.a, self.b, 7000, flows=3, rate=RATE, address=address)
        self.addCleanup(flood.kill)
        return flood

    def only_the_firewall_changed(self):
        after = self.node.identities()
        self.assertEqual({n for n in {*self.before, *after} if self.before.get(n) != after.get(n)}, {"program firewall"})

    def firewall_tag(self):
        return next(m["tag"] for m in self.node.get("/v1/modules")["modules"] if m["name"] == "firewall")

    def test_rules_are_swapped(self):
        first, tag = self.node.generation(), self.firewall_tag()
        flood = self.flood()
        for number in range(1, SWAPS + 1):
            self.switch.write("swap", *self.rules(number))
        self.verdict(f"{SWAPS} rule swaps", flood)
        self.assertEqual(self.node.generation() - first, SWAPS)
        self.only_the_firewall_changed()
        self.assertEqual(self.firewall_tag(), tag)

    def test_rules_are_swapped_while_a_service_is_used(self):
        """Established flows by a Service, and new connections to it, one after another from ports that recur."""
        ports = [{"name": f"{p.lower()}{n}", "protocol": p, "port": n} for p, n in
                 (("UDP", 7000), ("UDP", 7001), ("UDP", 7002), ("TCP", 8009))]
        self.node.write("service", service("b", CLUSTER_IP, ports=ports), {
            **slice_of("b", self.b.address), "ports": [{"name": p["name"], "protocol": p["protocol"], "port": p["port"]} for p in ports]})
        self.addCleanup(self.node.remove, "service")
        self.node.settle()
        first, before = self.node.generation(), self.node.identities()
        self.packets = self.node.get("/v1/status")["packets"]
        attempts = Attempts(self.a, self.b, "tcp", 8009, 200, (20000, 63), CLUSTER_IP)
        self.addCleanup(attempts.kill)
        flood = self.flood(CLUSTER_IP)
        for number in range(1, SWAPS + 1):
            self.switch.write("swap", *self.rules(number))
        totals, made = attempts.end()
        self.verdict(f"{SWAPS} rule swaps while a Service is used, {len(made)} connections to it beside", flood)
        self.assertEqual(self.node.generation() - first, SWAPS)
        self.assertEqual([a for a in made if not a.answered or a.retransmissions], [])
        self.assertEqual((bool(made), totals["socket_drops"]), (True, 0))
        self.before = before
        self.only_the_firewall_changed()

    def test_code_is_replaced(self):
        """A daemon of another build adopts everything, and makes a generation of its own firewall."""
        flood = self.flood()
        tag = self.firewall_tag()
        for number in range(1, REPLACEMENTS + 1):
            self.node.kill_daemon(random.choice([signal.SIGTERM, signal.SIGKILL]))
            self.node.binary = self.binaries[number % 2]
            self.node.start_daemon(*self.options)
            self.assertNotEqual(self.firewall_tag(), tag, "another build's code")
            tag = self.firewall_tag()
            self.only_the_firewall_changed()
        self.verdict(f"{REPLACEMENTS} replacements of the firewall's code", flood)

    # Neither ever admits a packet between a and b. A mix would: the egress of one with the ingress of the other, in
    # one direction if the egress changes late, in the other if it changes early.
    ONE = (policy("from-a", "a", egress=["b"]), policy("to-b", "b", ingress=[]),
           policy("from-b", "b", egress=[]), policy("to-a", "a", ingress=["b"]))
    OTHER = (policy("from-a", "a", egress=[]), policy("to-b", "b", ingress=["a"]),
             policy("from-b", "b", egress=["a"]), policy("to-a", "a", ingress=[]))

    def floods(self, port, rate=RATE):
        both = [Flood(self.a, self.b, port, rate=rate), Flood(self.b, self.a, port, rate=rate)]
        for flood in both:
            self.addCleanup(flood.kill)
        return both

    def test_no_packet_is_judged_by_a_mix(self):
        self.switch.write("swap", policy("to-b", "b", ingress=["a"]))
        established = self.floods(7100)
        wait_for("the connections", lambda: all(f.counts()["received"] > 100 for f in established))
        self.switch.write("swap", *self.ONE)
        fresh = self.floods(7200)
        tcp = [Attempts(self.a, self.b, "tcp", 8001, 200, (20000, 256)), Attempts(self.b, self.a, "tcp", 8001, 200,
                                                                                 (20000, 256))]
        for tool in tcp:
            self.addCleanup(tool.kill)
        time.sleep(0.5)  # what was received before, and not read yet
        at_first = [f.counts()["received"] for f in established]
        delivered, first = self.since()["delivered"], self.node.generation()
        for number in range(FLIPS):
            self.switch.write("swap", *(self.OTHER, self.ONE)[number % 2])
        self.assertEqual(self.node.generation() - first, FLIPS)
        results = [f.end() for f in (*established, *fresh)]
        counted = self.since()
        print(f"\n  {FLIPS} flips: {sum(r['sent'] / r['seconds'] for r in results):.0f} packets/s, none of which either "
              f"set of rules admits; {counted['delivered'] - delivered} admitted; {counted['drops']}")
        self.assertEqual([r["received"] for r in results], [*at_first, 0, 0])
        self.assertEqual(counted["delivered"], delivered)
        self.assertGreater(min(counted["drops"]["POLICY_EGRESS"], counted["drops"]["POLICY_INGRESS"]), FLIPS)
        for tool in tcp:
            self.assertEqual([a for a in tool.end()[1] if a.arrived or a.answered], [])

    @staticmethod
    def coloured(pods, to_b, from_a=None):
        """The pods of one colour, and policies by which b admits another, and a goes to no other."""
        peers = [[{"podSelector": {"matchLabels": {"colour": colour}}}] for colour in (to_b, from_a)]
        rules = [policy("to-b", "b", ingress=[]), policy("from-a", "a", egress=[])]
        rules[0]["spec"]["ingress"] = [{"from": peers[0]}]
        rules[1]["spec"]["egress"] = [{"to": peers[1]} if from_a else {}]
        return rules + [{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
                         "metadata": {"name": n, "namespace": "x", "labels": {"pod": n, "colour": pods}}} for n in "ab"]

    def test_labels_and_rules_change_together(self):
        self.nothing_comes_through(self.coloured("red", to_b="blue"), self.coloured("blue", to_b="red"))

    def test_labels_of_both_ends_change_together(self):
        self.nothing_comes_through(*(self.coloured(colour, to_b="red", from_a="blue") for colour in ("red", "blue")))

    def nothing_comes_through(self, one, other):
        self.switch.write("swap", *one)
        for name in "ab":
            self.node.remove(f"pod-x-{name}")  # the objects are in the file "swap" now
            self.addCleanup(self.node.write_pod, "x", name, {"pod": name})
        self.node.settle()
        flood = Flood(self.a, self.b, 7500, rate=RATE)
        self.addCleanup(flood.kill)
        wait_for("the flood", lambda: flood.counts()["sent"] > 1000)
        for number in range(FLIPS):
            self.switch.write("swap", *(other, one)[number % 2])
        result = flood.end()
        print(f"\n  {FLIPS} flips of labels and rules: {result['sent']} packets sent, {result['received']} admitted")
        self.assertEqual(result["received"], 0)

    def test_a_mix_would_be_seen(self):
        """What the test before this one is worth: either mix lets packets through."""
        for mix, admitted in ((self.ONE[:1] + self.OTHER[1:3] + self.ONE[3:], [True, True]),
                              (self.ONE[:1] + self.OTHER[1:2] + self.ONE[2:], [True, False])):
            self.switch.write("swap", *mix)
            floods = self.floods(7300 if admitted[1] else 7400, rate=1000)
            time.sleep(0.3)
            self.assertEqual([f.end()["received"] > 0 for f in floods], admitted)


class ClsactSwapLoadTest(SwapLoadTest):
    """The same by clsact, as on kernels before 6.6."""

    options = ("--attach=clsact",)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
