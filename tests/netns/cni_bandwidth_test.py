#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits of what pods receive and send, by the capability `bandwidth`, with real traffic.

    cni_bandwidth_test.py BUILD_FOLDER [unittest options]
"""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, wait_for  # noqa: E402
from sluice_test import Ledger, dropped_by_queues  # noqa: E402
from traffic import BURST, LEAST, RATE, SIZE, in_namespace, limits, transfer  # noqa: E402

BUILD = ""


class BandwidthTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "bandwidth", "10.83.1.0/24")
        cls.node.begin()
        cls.free = cls.node.add_pod("x", "free")

    @classmethod
    def tearDownClass(cls):
        cls.node.delete_pod(cls.free)
        cls.node.kill_daemon()
        cls.node.delete()

    def add(self, name, *directions):
        config = self.node.config(runtimeConfig={"bandwidth": limits(*directions)})
        pod = self.node.add_pod("x", name, config=config)
        pod.config = config
        self.addCleanup(self.node.delete_pod, pod)
        return pod

    def check(self, pod):
        self.node.cni("CHECK", pod.container_id, pod.path, config={**pod.config, "prevResult": pod.result})

    def link(self, pod):
        return next(i["name"] for i in pod.result["interfaces"] if not i.get("sandbox"))

    def assert_limited(self, source, target, address):
        self.assertGreaterEqual(transfer(source, target, address, SIZE), LEAST)

    def assert_free(self, source, target, address):
        """A busy machine may be slow by itself; not every time."""
        self.assertLess(min(transfer(source, target, address, SIZE) for _ in range(3)), LEAST)

    def test_what_a_pod_receives(self):
        pod = self.add("receives", "ingress")
        self.assert_limited(self.free, pod, pod.address)
        self.assert_limited(self.node, pod, pod.address)
        self.assert_free(pod, self.free, self.free.address)
        self.check(pod)

    def test_what_a_pod_sends(self):
        pod = self.add("sends", "egress")
        self.assert_limited(pod, self.free, self.free.address)
        self.assert_limited(pod, self.node, "10.83.1.1")
        self.assert_free(self.free, pod, pod.address)
        self.check(pod)

    def test_both(self):
        pod = self.add("both", "ingress", "egress")
        self.assert_limited(self.free, pod, pod.address)
        self.assert_limited(pod, self.free, self.free.address)
        self.check(pod)

    def test_limits_outlive_the_daemon(self):
        pod = self.add("stays", "ingress")
        self.node.kill_daemon()
        self.assert_limited(self.free, pod, pod.address)
        self.node.start_daemon()
        self.assert_limited(self.free, pod, pod.address)
        self.check(pod)

    def test_a_limit_taken_away_is_reported_and_passed_by_no_more(self):
        pod = self.add("freed", "ingress")
        self.node.run("tc", "qdisc", "delete", "dev", self.link(pod), "root")
        with self.assertRaisesRegex(CniError, "103: .*has lost its limit of 8000000 bits a second"):
            self.check(pod)
        self.assert_free(self.free, pod, pod.address)
        # An administrator's own, later: the daemon hears of it.
        self.node.run("tc", "qdisc", "add", "dev", self.link(pod), "root", "tbf", "rate", str(RATE), "burst", str(BURST // 8),
                      "latency", "25ms")
        wait_for("the limit to be in force", lambda: transfer(self.free, pod, pod.address, SIZE) >= LEAST, 20)

    def test_what_the_queue_drops_is_accounted_for(self):
        pod = self.add("flooded", "ingress")
        before = Ledger.of(self.node)

        def flood():
            for _ in range(16):  # the kernel makes one socket wait for what it has in the queue
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    s.setblocking(False)
                    try:
                        for _ in range(200):
                            s.sendto(bytes(1000), (pod.address, 9))
                    except BlockingIOError:
                        pass
        wait_for("drops", lambda: in_namespace(self.free.path, flood) or dropped_by_queues(self.node))
        wait_for("the queue to run empty", lambda: not Ledger(self.node).differences(before))
        self.assertGreater(Ledger(self.node).packets["delivered"], before.packets["delivered"])


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
