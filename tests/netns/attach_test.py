#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the daemon attaches its programs to pods' links, and what it does when somebody takes one away.

    attach_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import Node, wait_for  # noqa: E402
from traffic import Echo, in_namespace, tcp_reaches  # noqa: E402

BUILD = ""
PORT = 8080
LIMIT = {"kubernetes.io/egress-bandwidth": "1G"}


class AttachTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "hooks", "10.83.3.0/24")
        cls.node.begin("--housekeeping-interval=0.2")
        cls.plain = cls.node.add_pod("x", "plain")
        cls.limited = cls.node.add_pod("x", "limited", annotations=LIMIT)
        cls.echo = Echo(cls.limited, PORT)

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        for pod in (cls.plain, cls.limited):
            cls.node.delete_pod(pod)
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def link(self, pod):
        return pod.result["interfaces"][0]["name"]

    def link_id(self, interface):
        return next(l["linkID"] for l in self.node.get("/v1/modules")["links"] if l["interface"] == interface)

    def check(self, pod):
        self.node.cni("CHECK", pod.container_id, pod.path, config=self.node.config(prevResult=pod.result))

    def test_the_links_of_pods_whose_sending_is_limited_have_room_for_an_ingress_qdisc(self):
        self.assertEqual(0, self.link_id(self.link(self.plain)), "clsact")
        for shared in (self.link(self.limited), "sluice_net", "sluice_vxlan"):
            self.assertNotEqual(0, self.link_id(shared), "tcx")
        # As the CNI plugin `bandwidth` does.
        self.node.run("tc", "qdisc", "add", "dev", self.link(self.limited), "ingress")
        self.check(self.limited)
        self.assertTrue(tcp_reaches(self.plain, self.limited.address, PORT))
        self.node.run("tc", "qdisc", "del", "dev", self.link(self.limited), "ingress")

    def test_arp_is_answered_while_the_links_egress_drops_everything(self):
        """As it does in a link's first moments, until the kernel has taken note of its carrier."""
        pod, gateway = self.plain, "10.83.3.1"
        self.node.run("tc", "qdisc", "add", "dev", self.link(pod), "root", "blackhole")
        self.addCleanup(self.node.run, "tc", "qdisc", "del", "dev", self.link(pod), "root")
        pod.ip("neigh", "flush", "dev", "eth0")
        self.assertNotIn("lladdr", pod.ip("neigh", "show", gateway))
        def datagrams():
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with in_namespace(self.node.path, datagrams) as sink, in_namespace(pod.path, datagrams) as sender:
            sink.bind((gateway, PORT))  # or the node would answer, by that egress
            sender.sendto(b"x", (gateway, PORT))
            sink.settimeout(3)
            self.assertEqual(sink.recv(8), b"x")
        wait_for("the gateway's MAC address", lambda: "lladdr" in pod.ip("neigh", "show", gateway), 3)

    def test_a_program_that_somebody_removes_is_put_back(self):
        pod = self.node.add_pod("x", "robbed")
        link = self.link(pod)

        def told():
            with open(self.node.log) as log:
                return f"program is missing on interface {link}" in log.read()
        self.assertFalse(told())
        self.node.run("tc", "qdisc", "del", "dev", link, "clsact")
        wait_for("the daemon to tell", told)
        wait_for("the audit to be empty", lambda: not self.node.get("/v1/status")["audit"])
        self.check(pod)
        self.assertTrue(tcp_reaches(pod, self.limited.address, PORT))
        self.node.delete_pod(pod)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
