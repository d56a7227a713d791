#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The connection table under pressure, and what an administrator sees of it and does with it.

    conntrack_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from conntrack import conntrack_entries  # noqa: E402
from segments import SYN, Segments  # noqa: E402
from sluice_node import Node, wait_for, world_beyond  # noqa: E402
from traffic import Echo, TcpStream, in_namespace, tcp_reaches, udp_reaches  # noqa: E402

BUILD = ""
MAX = 4096
TARGET = 8080
NODE, WORLD, SILENT = "192.0.2.1", "192.0.2.2", "192.0.2.99"


def syn_flood(namespace, targets, ports, seconds):
    """SYNs by a raw socket, which nobody of the sender's own stack waits for: from every one of the ports to each target,
    again and again for so long. How many."""
    def send():
        sent, end = 0, time.monotonic() + seconds
        with Segments(namespace.address) as segments:
            while time.monotonic() < end:
                for port in ports:
                    segments.send(port, random.choice(targets), SYN)
                    sent += 1
        return sent
    return in_namespace(namespace.path, send)


class ConntrackTest(sluice_test.NodeAndWorldTest):
    """Pods good and other, which serve and talk; flooder and a second one; a world, and an address there that never answers."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "ct", "10.83.1.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        mac = json.loads(cls.world.ip("-j", "link", "show", "eth0"))[0]["address"]
        cls.node.ip("neigh", "add", SILENT, "lladdr", mac, "dev", "up0")
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.start_daemon()
        cls.good, cls.other, cls.flooder, cls.second = (
            cls.node.add_pod("x", name) for name in ("good", "other", "flooder", "second"))
        cls.echoes = [Echo(where, TARGET) for where in (cls.good, cls.other, cls.world)]

    @classmethod
    def start_daemon(cls):
        cls.node.start_daemon(f"--conntrack-max={MAX}", "--housekeeping-interval=0.5")

    def setUp(self):
        self.ctl("conntrack", "flush", "--all")

    def ctl(self, *arguments, expect=0):
        done = subprocess.run([os.path.join(BUILD, "cli", "sluicectl"), "--socket", self.node.socket, *arguments],
                              capture_output=True, text=True, check=False)
        self.assertEqual(expect, done.returncode, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def conntrack(self):
        return self.node.get("/v1/status")["conntrack"]

    def drops(self, reason):
        return self.node.get("/v1/status")["packets"]["drops"].get(reason, 0)

    def owners(self):
        return {(use["direction"], use["pod"]): use["entries"] for use in self.conntrack()["heaviest"]}

    def log(self):
        with open(self.node.log, encoding="utf-8") as file:
            return file.read()

    def test_a_flood_of_one_pod_takes_nothing_from_others(self):
        streams = [TcpStream(self.good, self.other.address, TARGET), TcpStream(self.other, WORLD, TARGET)]
        sent = syn_flood(self.flooder, [(SILENT, port) for port in range(1, 200)], range(1024, 1024 + 2 * MAX), 4)
        self.assertGreater(sent, 2 * MAX)
        self.assertGreater(self.drops("CT_BUDGET"), 0)
        self.assertEqual(0, self.drops("CT_FULL"))
        held = self.owners()["from", "x/flooder"]
        self.assertLessEqual(held, MAX // 2 + 8)
        self.assertGreater(held, MAX // 4, "the flood was one")
        # Others open connections while the flooder has its half.
        for client, address in ((self.good, self.other.address), (self.other, WORLD), (self.second, self.good.address)):
            self.assertTrue(tcp_reaches(client, address, TARGET))
            self.assertTrue(udp_reaches(client, address, TARGET))
        for stream in streams:
            self.assertFalse(stream.stalled(1.0))
            self.assertEqual(0, stream.end()["resets"], "an established flow was lost")
        wait_for("the log to name the flooder", lambda: "x/flooder" in self.log(), 5)
        self.assertRegex(self.log(), r"dropped by those who have more conntrack entries than are free \(CT_BUDGET\)")
        self.assertIn("from x/flooder", self.ctl("status"))
        # Recovery, by hand.
        self.assertRegex(self.ctl("conntrack", "flush", "x/flooder"), r"^\d+ connections forgotten")
        self.assertNotIn(("from", "x/flooder"), self.owners())
        self.assertTrue(tcp_reaches(self.flooder, WORLD, TARGET))

    def test_many_who_flood_leave_room_too(self):
        stream = TcpStream(self.good, self.other.address, TARGET)
        for flooder in (self.flooder, self.second):
            syn_flood(flooder, [(SILENT, port) for port in range(1, 200)], range(1024, 1024 + 2 * MAX), 3)
        self.assertLess(self.conntrack()["entries"], MAX)
        self.assertTrue(tcp_reaches(self.good, WORLD, TARGET))
        self.assertEqual(0, stream.end()["resets"])

    def test_entries_of_a_pod_that_is_gone_go_with_it(self):
        syn_flood(self.flooder, [(SILENT, 9)], range(1024, 3024), 0.1)
        self.assertTrue(tcp_reaches(self.good, self.other.address, TARGET))
        self.assertGreater(self.owners()["from", "x/flooder"], 1000)
        self.node.delete_pod(self.flooder)
        wait_for("its entries to go", lambda: self.conntrack()["entries"] < 100, 5)
        self.assertGreater(self.conntrack()["entries"], 0, "others' stay")
        type(self).flooder = self.node.add_pod("x", "flooder")

    def test_counters_agree_with_the_table(self):
        for _ in range(50):
            self.assertTrue(tcp_reaches(self.good, self.other.address, TARGET))
            self.assertTrue(udp_reaches(self.other, WORLD, TARGET))
        time.sleep(1.5)  # a collection in between
        entries = conntrack_entries(f"{self.node.bpffs}/sluice/v1")
        self.assertEqual(entries, self.conntrack()["entries"])
        # A daemon that begins finds them as they are.
        self.node.kill_daemon()
        self.start_daemon()
        self.assertEqual(entries, self.conntrack()["entries"])

    def test_list_and_flush(self):
        stream = TcpStream(self.good, self.other.address, TARGET)
        self.assertTrue(udp_reaches(self.good, WORLD, TARGET))
        listed = self.ctl("conntrack", "list", "x/good")
        self.assertRegex(listed, rf"TCP +established +{self.good.address}:\d+ \(x/good\) +{self.other.address}:{TARGET} \(x/other\)")
        self.assertRegex(listed, rf"UDP +established +{self.good.address}:\d+ \(x/good\) +{WORLD}:{TARGET} +- +port 6\d+")
        self.assertEqual("No such connections.\n", self.ctl("conntrack", "list", "x/second"))
        self.assertNotIn("TCP", self.ctl("conntrack", "list", WORLD))
        self.assertNotIn("UDP", self.ctl("conntrack", "list", "--protocol", "tcp").replace("PROTOCOL", ""))
        self.assertIn("no address and no endpoint", self.ctl("conntrack", "list", "x/nobody", expect=1))
        self.assertIn("no protocol", self.ctl("conntrack", "list", "--protocol", "tcpp", expect=1))
        self.assertIn("--all", self.ctl("conntrack", "flush", expect=1))
        self.assertEqual("1 connections forgotten.\n", self.ctl("conntrack", "flush", WORLD, "--protocol", "udp"))
        # An allowed connection goes on: its next packet is judged as one that opens it.
        self.ctl("conntrack", "flush", "--all")
        self.assertFalse(stream.stalled(1.0))
        self.assertEqual(0, stream.end()["resets"])

    def test_a_flushed_connection_that_the_rules_forbid_ends(self):
        stream = TcpStream(self.good, self.other.address, TARGET)
        self.node.write_policy("x", "deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        wait_for("the deny", lambda: stream.stalled(1.0), 5)
        self.ctl("conntrack", "flush", "--all")
        self.assertTrue(stream.stalled(0.5))
        stream.end()
        self.assertEqual("No such connections.\n", self.ctl("conntrack", "list"))
        self.node.remove("policy-x-deny")
        self.node.settle()


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
