#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the daemon attaches its programs to pods' links, how it moves them from clsact to tcx when there is time, and what
it does when somebody takes one away.

    attach_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from load import Flood  # noqa: E402
from sluice_node import Node, wait_for  # noqa: E402
from traffic import Echo, in_namespace, tcp_reaches  # noqa: E402

BUILD = ""
PORT = 8080
RATE = 20000  # packets a second and flow
LIMIT = {"kubernetes.io/egress-bandwidth": "1G"}


class LinksTest(sluice_test.SluiceTest):
    def link(self, pod):
        return pod.result["interfaces"][0]["name"]

    def link_id(self, interface):
        return next(l["linkID"] for l in self.node.get("/v1/modules")["links"] if l["interface"] == interface)

    def by_clsact(self):
        return {q["dev"] for q in json.loads(self.node.run("tc", "-j", "qdisc")) if q["kind"] == "clsact"}

    def check(self, pod):
        self.node.cni("CHECK", pod.container_id, pod.path, config=self.node.config(prevResult=pod.result))

    def logged(self, text):
        with open(self.node.log) as log:
            return text in log.read()


class AttachTest(LinksTest):
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

    def test_the_links_of_pods_whose_sending_is_limited_have_room_for_an_ingress_qdisc(self):
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
        told = f"program is missing on interface {self.link(pod)}"
        self.assertFalse(self.logged(told))
        self.node.take_program(self.link(pod))
        wait_for("the daemon to tell", lambda: self.logged(told))
        wait_for("the audit to be empty", lambda: not self.node.get("/v1/status")["audit"])
        self.check(pod)
        self.assertTrue(tcp_reaches(pod, self.limited.address, PORT))
        self.node.delete_pod(pod)


class MoveTest(LinksTest):
    """Links are moved as housekeeping finds them, so that it is the test that says when."""
    LATER, NOW = "--housekeeping-interval=3600", "--housekeeping-interval=0.2"

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "moves", "10.83.4.0/24")
        cls.node.begin(cls.LATER)

    @classmethod
    def tearDownClass(cls):
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def restart(self, option):
        self.node.kill_daemon(signal.SIGTERM)
        self.node.start_daemon(option)

    def pods(self, *names):
        """By clsact, until restart(NOW)."""
        made = [self.node.add_pod("x", name) for name in names]
        self.addCleanup(self.restart, self.LATER)
        for pod in made:
            self.addCleanup(self.node.delete_pod, pod)
            self.assertEqual(0, self.link_id(self.link(pod)))
        self.assertEqual({self.link(pod) for pod in made}, self.by_clsact())
        self.assertEqual("tcx, clsact", self.node.get("/v1/status")["attach"])
        return made

    def assert_moved(self, *pods):
        self.assertEqual("tcx", self.node.get("/v1/status")["attach"])
        self.assertEqual(set(), self.by_clsact())
        for pod in pods:
            self.assertNotEqual(0, self.link_id(self.link(pod)))
            self.check(pod)
            self.assertFalse(self.logged(f"program is missing on interface {self.link(pod)}"))

    def test_links_are_moved_in_a_pause(self):
        pods = self.pods("one", "two", "three")
        self.restart(self.NOW)
        late = self.node.add_pod("x", "late")
        self.addCleanup(self.node.delete_pod, late)
        self.node.wait_moved()
        self.assert_moved(*pods, late)

    def test_nothing_is_lost_by_a_move_under_load(self):
        a, b = self.pods("a", "b")

        def dropped():
            return sum(json.loads(p.run("ip", "-j", "-s", "link", "show", "eth0"))[0]["stats64"]["tx"]["dropped"] for p in (a, b))
        outside, packets = dropped(), self.node.get("/v1/status")["packets"]
        floods = [Flood(*pair, 7000, flows=2, rate=RATE) for pair in ((a, b), (b, a))]
        for flood in floods:
            self.addCleanup(flood.kill)
        self.restart(self.NOW)
        self.node.wait_moved()
        results = [flood.end() for flood in floods]
        now = self.node.get("/v1/status")["packets"]
        outside = dropped() - outside + sum(r["socket_drops"] for r in results)
        sent, received = (sum(r[what] for r in results) for what in ("sent", "received"))
        print(f"\n  {sent} sent, {sent - received} lost, of these {outside} at a socket or before the datapath, longest pause "
              f"{max(r['max_gap_ms'] for r in results):.1f} ms")
        self.assertEqual((sent - received - outside, sum(r["duplicates"] for r in results)), (0, 0), results)
        self.assertEqual(now["drops"], packets["drops"])
        self.assertGreater(received, 0)
        self.assert_moved(a, b)

    def test_nothing_stays_of_pods_that_go_meanwhile(self):
        pods = [self.node.add_pod("x", f"gone{i}") for i in range(10)]
        self.restart(self.NOW)
        self.addCleanup(self.restart, self.LATER)
        wait_for("the first to be moved", lambda: len(self.by_clsact()) < len(pods))
        for pod in pods[:6]:
            pod.delete()  # DEL comes too late
            time.sleep(0.02)
        for pod in pods[6:]:
            self.node.cni("DEL", pod.container_id, pod.path)
            pod.delete()
        for pod in pods:
            self.node.cni("DEL", pod.container_id, "")
            self.node.pods.pop(f"x/{pod.pod}")
            self.node.remove(f"pod-x-{pod.pod}")
        wait_for("links and pins to go", lambda: not self.node.pod_links() and not self.node.stale_pins())
        self.assertEqual([], self.node.get("/v1/endpoints")["endpoints"])


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
