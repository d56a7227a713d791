#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The node as a router: what pods and hosts outside are told about packets that go no further.

    router_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import Fabric, Node  # noqa: E402
from traffic import Echo, transfer, udp_reaches  # noqa: E402

BUILD = ""
POD_CIDR, GATEWAY, PORT = "10.83.56.0/24", "10.83.56.1", 7007
NODE, WORLD = "192.0.2.1", "192.0.2.99"
NARROW = 1300


def ping(namespace, *arguments):
    """What one echo request to the last argument prints."""
    return subprocess.run(namespace.enter("ping", "-n", "-c", "1", "-W", "5", *arguments), capture_output=True, text=True,
                          check=False).stdout


class RouterTest(sluice_test.SluiceTest):

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "router", POD_CIDR)
        cls.fabric = Fabric("router-fabric")
        cls.fabric.join(cls.node, NODE)
        cls.world = cls.fabric.host("router-world", WORLD)
        cls.world.ip("route", "add", POD_CIDR, "via", NODE)
        # The server promises segments that do not fit the way to it.
        cls.world.ip("route", "add", f"{NODE}/32", "dev", "up0", "advmss", "1460")
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.pod = cls.node.add_pod("x", "wide")
        cls.echo = Echo(cls.world, PORT)
        # The interface must not hide what is too large behind its segmentation.
        cls.pod.ip("link", "set", "eth0", "gso_max_segs", "1")
        for host in (cls.node, cls.world):
            host.ip("link", "set", "up0", "mtu", str(NARROW))

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        cls.node.delete_pod(cls.pod)
        cls.node.kill_daemon(signal.SIGTERM)
        cls.fabric.delete()
        cls.node.delete()

    def setUp(self):
        self.pod.ip("route", "flush", "cache")

    def test_a_stream_adapts_to_a_way_out_that_takes_less(self):
        self.assertGreater(transfer(self.pod, self.world, WORLD, 1 << 20), 0)
        self.assertIn(f"mtu {NARROW}", self.pod.ip("route", "get", WORLD))

    def test_a_ping_that_is_too_large_is_told_the_mtu(self):
        said = ping(self.pod, "-M", "do", "-s", "1400", WORLD)
        self.assertIn(f"From {GATEWAY}", said)
        self.assertIn(f"mtu = {NARROW}", said)
        self.assertIn("1 received", ping(self.pod, "-M", "do", "-s", str(NARROW - 28), WORLD), "what just fits")

    def test_datagrams_that_may_be_fragmented_are_after_the_first_one(self):
        self.assertFalse(udp_reaches(self.pod, WORLD, PORT, size=1400))
        self.assertTrue(udp_reaches(self.pod, WORLD, PORT, size=1400))

    def test_the_node_is_a_hop(self):
        self.assertIn(f"From {GATEWAY} icmp_seq=1 Time to live exceeded", ping(self.pod, "-t", "1", WORLD))
        self.assertIn(f"From {NODE} icmp_seq=1 Time to live exceeded", ping(self.world, "-t", "1", self.pod.address))
        self.assertIn("1 received", ping(self.pod, "-t", "2", WORLD))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
