#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whose rules and whose connections a pod has: its own alone. Not those of the pod of the same name before it, and not
those of the pod that had its address before it.

    pod_identity_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, Pod, world_beyond  # noqa: E402
from traffic import Echo, bound, tcp_reaches  # noqa: E402

BUILD = ""
NODE, WORLD = "192.0.2.1", "192.0.2.2"
PORT, THERE = 5000, 6000
TRY_AGAIN_LATER = 11


class NameTest(sluice_test.SluiceTest):
    """A pod is its UID: that of the same name may be the one before it."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "names", "10.83.1.0/24")
        cls.node.begin()
        cls.db = cls.node.add_pod("x", "db", {"app": "db"})
        cls.echo = Echo(cls.db, PORT)
        cls.node.write_policy("x", "db", {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
                                          "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "admin"}}}]}]})
        cls.node.settle()

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def write(self, uid, role):
        self.node.write("pod-x-web-0", {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]},
                                        "metadata": {"name": "web-0", "namespace": "x", "uid": uid, "labels": {"role": role}}})
        self.node.settle()

    def start_add(self, pod, uid):
        return self.node.start_cni("ADD", pod.container_id, pod.path,
                                   args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=web-0;K8S_POD_UID={uid}")

    def test_an_add_waits_for_its_own_pod_and_never_gets_the_one_before(self):
        self.write("u-1", "admin")
        pod = Pod(self.node, "x", "web-0")
        with self.assertRaises(CniError) as failed:
            self.node.cni("ADD", pod.container_id, pod.path,
                          args="IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=web-0;K8S_POD_UID=u-2")
        self.assertEqual(TRY_AGAIN_LATER, failed.exception.code)
        self.assertIn("UID u-2 is not known yet", str(failed.exception))
        self.assertNotIn("web-0", [e["pod"] for e in self.node.get("/v1/endpoints")["endpoints"]])

        call = self.start_add(pod, "u-2")
        self.write("u-2", "guest")
        output, errors = call.communicate()
        self.assertEqual(0, call.returncode, output + errors)
        pod.result = json.loads(output)
        self.node.pods["x/web-0"] = pod
        self.node.attached += 1
        self.addCleanup(self.node.delete_pod, pod)
        self.assertFalse(tcp_reaches(pod, self.db.address, PORT, 0.5), "it has the rights of the pod before it")
        self.write("u-2", "admin")
        self.assertTrue(tcp_reaches(pod, self.db.address, PORT))


class Talker:
    """Sends to one address and port without end, from a socket that the other side may have asked by."""

    def __init__(self, sender, target):
        self.sender, self.target = sender, target
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended.wait(0.02):
            try:
                self.sender.sendto(b"late", self.target)
            except OSError:  # told that nobody is there
                pass

    def end(self):
        self.ended.set()
        self.thread.join()
        self.sender.close()


def received(listener, seconds):
    listener.settimeout(seconds)
    try:
        return listener.recv(16)
    except TimeoutError:
        return None


class AddressTest(sluice_test.SluiceTest):
    """All addresses of the node but one are taken, so that the next pod has that of the pod before. It admits nobody, and
    whoever the pod before it talked to keeps on talking."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "heirs", "10.83.1.0/29")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.node.write_policy("x", "closed", {"podSelector": {"matchLabels": {"kind": "heir"}}, "policyTypes": ["Ingress"]})
        cls.peer = cls.node.add_pod("x", "peer")
        for n in range(3):
            cls.node.add_pod("x", f"other-{n}")

    @classmethod
    def tearDownClass(cls):
        cls.node.kill_daemon(signal.SIGTERM)
        cls.world.delete()
        cls.node.delete()

    def succeed_and_listen(self, where, address, between=lambda: None):
        """What reaches a pod that has the address of another one, which asked `where` and is gone."""
        first = self.node.add_pod("x", "first")
        asker = bound(first, socket.SOCK_DGRAM, PORT)
        other = bound(where, socket.SOCK_DGRAM, THERE)
        other.settimeout(5)
        asker.sendto(b"ask", (address, THERE))
        _, seen = other.recvfrom(16)
        talker = Talker(other, seen)
        self.addCleanup(talker.end)
        self.assertEqual(b"late", received(asker, 5), "answers come to who asked")
        asker.close()
        self.node.delete_pod(first)
        between()
        heir = self.node.add_pod("x", "heir", {"kind": "heir"})
        self.addCleanup(self.node.delete_pod, heir)
        self.assertEqual(first.address, heir.address)
        listener = bound(heir, socket.SOCK_DGRAM, PORT)
        self.addCleanup(listener.close)
        return received(listener, 1.5)

    def restart(self):
        self.node.kill_daemon()
        self.node.start_daemon()

    def test_answers_of_a_pod(self):
        before = self.node.get("/v1/status")["packets"]["drops"].get("POLICY_INGRESS", 0)
        self.assertIsNone(self.succeed_and_listen(self.peer, self.peer.address))
        self.assertGreater(self.node.get("/v1/status")["packets"]["drops"]["POLICY_INGRESS"], before, "they did come")

    def test_answers_from_outside_to_a_masqueraded_pod(self):
        self.assertIsNone(self.succeed_and_listen(self.world, WORLD))

    def test_answers_of_a_pod_when_another_daemon_gives_the_address(self):
        self.assertIsNone(self.succeed_and_listen(self.peer, self.peer.address, self.restart))

    def test_answers_from_outside_when_another_daemon_gives_the_address(self):
        self.assertIsNone(self.succeed_and_listen(self.world, WORLD, self.restart))

    def test_answers_after_the_daemon_has_looked_through_the_table(self):
        self.assertIsNone(self.succeed_and_listen(self.peer, self.peer.address, lambda: time.sleep(6)))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
