#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What somebody takes from the node that Sluice made there comes back by itself, and is told in log, status and metrics.

    put_back_test.py BUILD_FOLDER [unittest options]
        SLUICE_REMOVALS: how many at random, default 25
"""
import json
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import Node, wait_for, world_beyond  # noqa: E402
from traffic import Echo, tcp_reaches  # noqa: E402

BUILD = ""
PORT, CLUSTER_IP = 7777, "10.96.0.7"
NODE, WORLD = "192.0.2.1", "192.0.2.2"
REMOVALS = int(os.environ.get("SLUICE_REMOVALS", 25))


class PutBackTest(sluice_test.NodeAndWorldTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "back", "10.83.8.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.ip("route", "add", "default", "via", WORLD)
        cls.node.write_node(address=NODE)
        cls.node.write_node(name="other", pod_cidr="10.83.99.0/24", address="192.0.2.9")
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.web, cls.db = (cls.node.add_pod("x", name) for name in ("web", "db"))
        cls.node.write("service-db", service("db", CLUSTER_IP), slice_of("db", cls.db.address))
        cls.node.settle()
        cls.echoes = [Echo(where, PORT) for where in (cls.db, cls.world)] + [Echo(cls.db, 8080)]

    def check_accounts(self, before):
        """Interfaces that are made anew count from zero."""
        self.assertEqual([], self.node.get("/v1/status")["audit"])

    def losses(self):
        def ip(*arguments):
            return lambda: self.node.ip(*arguments)
        link = self.node.pod_links()[0]
        return {
            "sluice_host is down": ip("link", "set", "sluice_host", "down"),
            "sluice_net is down": ip("link", "set", "sluice_net", "down"),
            "sluice_vxlan is down": ip("link", "set", "sluice_vxlan", "down"),
            "sluice_host is missing": ip("link", "del", "sluice_host"),
            "sluice_vxlan is missing": ip("link", "del", "sluice_vxlan"),
            "sluice_host has lost its address": ip("addr", "flush", "dev", "sluice_host"),
            "sluice_host has address 10.83.8.77, too": ip("addr", "add", "10.83.8.77/32", "dev", "sluice_host"),
            "sluice_host has MAC address 02:00:00:00:12:34": ip("link", "set", "sluice_host", "address", "02:00:00:00:12:34"),
            "sluice_host has MTU 600": ip("link", "set", "sluice_host", "mtu", "600"),
            "sluice_host asks by ARP": ip("link", "set", "sluice_host", "arp", "on"),
            "route to 10.83.8.0/24 by sluice_host is missing": ip("route", "del", "10.83.8.0/24"),
            "route to 10.83.99.0/24 by sluice_host is missing": ip("route", "del", "10.83.99.0/24"),
            "rule": ip("rule", "del", "table", "8300"),
            "is missing": ip("route", "flush", "table", "8300"),
            "does not forward IPv4": lambda: self.node.run("sysctl", "-qw", "net.ipv4.conf.sluice_net.forwarding=0"),
            f"interface {link} of endpoint": ip("link", "set", link, "down"),
        }

    def works(self):
        return all((tcp_reaches(self.web, self.db.address, PORT, 1), tcp_reaches(self.web, WORLD, PORT, 1),
                    tcp_reaches(self.node, self.db.address, PORT, 1), tcp_reaches(self.node, CLUSTER_IP, 80, 1),
                    tcp_reaches(self.web, NODE, 1, 0.3) is False))

    def snapshot(self):
        """Interfaces, addresses, routes and rules, without what differs each time. The audit knows sluice_host's MAC."""
        told = [self.node.run("ip", "-d", "-o", "link"), self.node.run("ip", "-o", "-4", "addr"),
                self.node.run("ip", "-4", "route", "show", "table", "all"), self.node.run("ip", "rule")]
        text = re.sub(r"(?m)^\d+: |@if\d+|link-netnsid \d+|qlen \d+|addrgenmode \w+|link/ether \S+", "", "\n".join(told))
        return sorted(line.strip() for line in text.splitlines())

    def take(self, name, loss):
        before = self.node.get("/v1/status")["putBack"]["total"]
        loss()
        wait_for(f"{name}: to be put back", lambda: self.node.get("/v1/status")["putBack"]["total"] > before, 10, 0.05)
        status = self.node.get("/v1/status")
        self.assertTrue(any(name in each for each in status["putBack"]["last"]), (name, status["putBack"]))
        self.assertEqual([], status["audit"], name)
        self.assertTrue(status["ready"], status["notReadyReason"])
        self.assertTrue(self.works(), name)

    def test_each_thing_that_is_taken_comes_back_and_is_told(self):
        self.assertTrue(self.works())
        for name, loss in self.losses().items():
            with self.subTest(name):
                self.take(name, loss)
        total = re.search(r"^sluice_put_back_total (\d+)", self.node.metrics(), re.M)
        self.assertGreaterEqual(int(total[1]), len(self.losses()))

    def test_after_many_the_node_is_as_it_was(self):
        before = self.snapshot()
        losses = list(self.losses().items())
        for _ in range(REMOVALS):
            for name, loss in random.sample(losses, random.choice((1, 1, 2, 3))):
                try:
                    loss()
                except RuntimeError:  # another one took it along
                    pass
            wait_for("the node to be whole", lambda: not self.node.get("/v1/status")["audit"], 15, 0.1)
        self.assertTrue(self.works())
        self.assertEqual(before, self.snapshot())

    def test_an_uplink_that_is_made_anew_under_its_name_is_found(self):
        self.node.ip("link", "del", "up0")
        wait_for("not ready, or the uplink to be known as gone",
                 lambda: "up0" in json.dumps(self.node.get("/v1/status")) or True, 5)
        self.node.ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", self.world.name)
        for place, interface, address in ((self.node, "up0", NODE), (self.world, "eth0", WORLD)):
            place.ip("addr", "add", f"{address}/24", "dev", interface)
            place.ip("link", "set", interface, "up")
        self.node.ip("route", "replace", "default", "via", WORLD)
        wait_for("pods to reach the world", lambda: tcp_reaches(self.web, WORLD, PORT, 1), 15)
        self.assertEqual([], self.node.get("/v1/status")["audit"])


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
