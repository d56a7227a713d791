#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Under which address pods leave the cluster, by configuration and by annotation; two hosts outside that know the way.

    masquerade_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import Fabric, Namespace, Node, wait_for  # noqa: E402
from traffic import Echo, tcp_reaches, udp_reaches  # noqa: E402

BUILD = ""
POD_CIDR, PORT = "10.83.51.0/24", 7007
NODE, NEAR, FAR = "192.0.2.1", "192.0.2.2", "192.0.2.130"
ANNOTATION = "sluice.dev/masquerade"


class MasqueradeTest(sluice_test.SluiceTest):

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "masquerade", POD_CIDR)
        cls.fabric = Fabric("masq-fabric")
        cls.near, cls.far = Namespace("masq-near"), Namespace("masq-far")
        for where, address in {cls.node: NODE, cls.near: NEAR, cls.far: FAR}.items():
            cls.fabric.join(where, address)
        for host in (cls.near, cls.far):
            host.ip("route", "add", POD_CIDR, "via", NODE)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.pod = cls.node.add_pod("x", "plain")
        cls.bare = cls.node.add_pod("x", "bare", annotations={ANNOTATION: "false"})
        cls.masked = cls.node.add_pod("x", "masked", annotations={ANNOTATION: "true"})
        cls.echoes = {host: Echo(host, PORT) for host in (cls.near, cls.far)}

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        for namespace in (cls.near, cls.far, cls.fabric):
            namespace.delete()
        cls.node.delete()

    def restart(self, *options, annotation="on"):
        self.node.kill_daemon(signal.SIGTERM)
        self.node.start_daemon(f"--masquerade-annotation={annotation}", *options)
        self.node.settle()

    def seen(self, pod, address=NEAR):
        """As whom the host outside sees the pod, over TCP and UDP."""
        peers = self.echoes[self.near if address == NEAR else self.far].peers
        before = len(peers)
        self.assertTrue(tcp_reaches(pod, address, PORT))
        self.assertTrue(udp_reaches(pod, address, PORT))
        wait_for("both to be seen", lambda: len(peers) == before + 2)
        self.assertEqual(peers[-1], peers[-2])
        return peers[-1]

    def test_on_unless_the_pod_says_otherwise(self):
        self.restart()
        self.assertEqual(NODE, self.seen(self.pod))
        self.assertEqual(NODE, self.seen(self.masked))
        self.assertEqual(self.bare.address, self.seen(self.bare))
        self.node.cni("CHECK", self.bare.container_id, self.bare.path, config=self.node.config(prevResult=self.bare.result))

    def test_off_unless_the_pod_says_otherwise(self):
        self.restart("--masquerade=off")
        self.assertEqual(self.pod.address, self.seen(self.pod))
        self.assertEqual(self.bare.address, self.seen(self.bare))
        self.assertEqual(NODE, self.seen(self.masked))

    def test_the_annotation_counts_only_where_the_administrator_permits_it(self):
        self.restart(annotation="off")
        self.assertEqual(NODE, self.seen(self.bare))
        self.restart("--masquerade=off", annotation="off")
        self.assertEqual(self.masked.address, self.seen(self.masked))

    def test_an_annotation_may_change(self):
        self.restart()
        for word, wanted in (("false", self.pod.address), ("true", NODE), ("perhaps", NODE)):
            self.node.write_pod("x", "plain", annotations={ANNOTATION: word})
            self.node.settle()
            self.assertEqual(wanted, self.seen(self.pod), word)
        with open(self.node.log, encoding="utf-8") as log:
            self.assertIn("'perhaps' is not true or false", log.read())
        self.node.write_pod("x", "plain")
        self.node.settle()

    def test_destinations_that_are_exempt(self):
        self.restart("--non-masquerade-cidrs=192.0.2.128/25,10.83.51.128/25")
        self.assertEqual(NODE, self.seen(self.pod))
        for pod in (self.pod, self.masked):
            self.assertEqual(pod.address, self.seen(pod, FAR))
        self.restart()
        self.assertEqual(NODE, self.seen(self.pod, FAR))

    def test_ports(self):
        self.restart("--masquerade-ports=20000-20003")
        self.assertEqual(NODE, self.seen(self.pod))
        connections = [c for c in self.node.get("/v1/conntrack")["connections"] if c["destination"]["port"] == PORT]
        ports = {c["masqueradePort"] for c in connections if "masqueradePort" in c and c["masqueradePort"] < 61000}
        self.assertTrue(ports and ports <= set(range(20000, 20004)), ports)
        dropped = self.node.get("/v1/status")["packets"]["drops"].get("SNAT_PORTS_EXHAUSTED", 0)
        for _ in range(6):
            udp_reaches(self.pod, NEAR, PORT, seconds=0.3)
        self.assertGreater(self.node.get("/v1/status")["packets"]["drops"].get("SNAT_PORTS_EXHAUSTED", 0), dropped)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
