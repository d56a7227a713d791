#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What DEL, GC and commands cut short leave: nothing, in the end, and nothing that passes packets meanwhile.

    cni_leftovers_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, Pod, wait_for  # noqa: E402
from traffic import Echo, udp_reaches  # noqa: E402

BUILD = ""
PORT = 8080
MANY = 10


class LeftoversTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "leftovers", "10.83.1.0/24")
        cls.node.begin()

    @classmethod
    def tearDownClass(cls):
        cls.node.kill_daemon()
        cls.node.delete()

    def pod(self, name):
        """A namespace and a Pod object, not attached."""
        self.node.write_pod("x", name)
        pod = Pod(self.node, "x", name)
        self.addCleanup(self.node.remove, f"pod-x-{name}")
        self.addCleanup(lambda: os.path.exists(pod.path) and pod.delete())
        return pod

    def delete(self, pod, **more):
        self.node.cni("DEL", pod.container_id, pod.path, **more)
        self.node.pods.pop(f"{pod.ns}/{pod.pod}", None)

    def attachments(self):
        return [name for name in os.listdir(f"{self.node.home}/run/attachments") if name != "cursor"]

    def assert_nothing_left(self, seconds=10):
        wait_for("links and pins to go", lambda: not self.node.pod_links() and not self.node.stale_pins(), seconds)
        self.assertEqual([], self.attachments())
        self.assertEqual([], self.node.get("/v1/endpoints")["endpoints"])

    def test_add_right_after_del(self):
        pod = self.pod("again")
        for turn in range(MANY):
            self.node.attach(pod)
            self.delete(pod)
            if turn % 2:  # another sandbox that was given the same namespace
                pod.container_id += "x"
        self.assert_nothing_left()

    def test_two_adds_are_an_error_and_change_nothing(self):
        pod = self.pod("twice")
        self.node.attach(pod)
        wait_for("the kernel to report the carrier", lambda: "LOWER_UP" in pod.run("ip", "link", "show", "eth0"))
        before = json.loads(pod.run("ip", "-j", "address"))
        with self.assertRaises(CniError) as error:
            self.node.attach(pod)
        self.assertEqual(101, error.exception.code)
        self.assertEqual(before, json.loads(pod.run("ip", "-j", "address")))
        self.delete(pod)
        self.assert_nothing_left()

    def test_del_again_and_with_the_namespace_gone(self):
        pod = self.pod("gone")
        self.node.attach(pod)
        pod.delete()
        for _ in range(3):
            self.delete(pod)
        self.delete(pod, config=self.node.config(prevResult={"cniVersion": "1.1.0", "ips": "broken"}))
        self.node.cni("DEL", pod.container_id, "")
        self.assert_nothing_left()

    def test_namespaces_that_go_at_the_same_time(self):
        pods = [self.pod(f"n{i}") for i in range(MANY)]
        for pod in pods:
            self.node.attach(pod)
        threads = [threading.Thread(target=pod.delete) for pod in pods]
        for pod, thread in zip(pods, threads):
            thread.start()
            self.delete(pod)
        for thread in threads:
            thread.join()
        self.assert_nothing_left()

    def test_dead_from_the_answer_on_though_the_daemon_is_killed(self):
        pods = [self.pod(f"k{i}") for i in range(MANY)]
        witness = self.pod("witness")
        for pod in (*pods, witness):
            self.node.attach(pod)
        echo = Echo(witness, PORT)
        self.addCleanup(echo.close)
        self.assertTrue(all(udp_reaches(pod, witness.address, PORT) for pod in pods))
        for pod in pods:
            self.delete(pod)
        self.node.kill_daemon(signal.SIGKILL)
        left = len(self.node.pod_links()) - 1
        self.assertGreater(left, 0, "the daemon was killed before it had deleted all")
        echo.peers.clear()
        for pod in pods:
            self.assertFalse(udp_reaches(pod, witness.address, PORT, 0.1))
        self.assertEqual([], echo.peers)
        self.node.start_daemon()
        wait_for("the links to go", lambda: len(self.node.pod_links()) == 1 and not self.node.stale_pins())
        self.assertEqual(1, len(self.attachments()))
        self.assertTrue(udp_reaches(self.node, witness.address, PORT))
        self.delete(witness)
        self.assert_nothing_left()

    def test_del_without_the_daemon_is_carried_out_later(self):
        pod = self.pod("later")
        self.node.attach(pod)
        self.node.kill_daemon(signal.SIGKILL)
        self.delete(pod)
        self.assertEqual([], self.node.pod_links())
        self.assertEqual(1, len(self.attachments()))
        self.node.start_daemon()
        wait_for("the queued release", lambda: not self.attachments())
        self.assert_nothing_left()

    def test_a_full_node_stays_ready_and_add_says_why_it_fails(self):
        """A failing STATUS makes the node NotReady, and the pods that fill it would be evicted."""
        small = Node(BUILD, "small", "10.83.2.0/30")  # network, gateway, one pod, broadcast
        self.addCleanup(small.delete)
        small.begin()
        self.addCleanup(small.kill_daemon)
        only = small.add_pod("x", "only")
        with self.assertRaisesRegex(CniError, "102: .*no address left in 10.83.2.0/30: 1 of 1 are held"):
            small.add_pod("x", "other")
        self.assertEqual({}, small.cni("STATUS"))
        small.delete_pod(only)
        small.delete_pod(small.add_pod("x", "third"))

    def test_gc_keeps_what_is_valid_and_what_is_another_networks(self):
        pods = {name: self.pod(name) for name in ("valid", "stale", "foreign")}
        for name, pod in pods.items():
            config = self.node.config(name="other" if name == "foreign" else "sluice")
            self.node.cni("ADD", pod.container_id, pod.path, config=config)
        valid = [{"containerID": pods["valid"].container_id, "ifname": "eth0"}]
        self.node.cni("GC", config=self.node.config(**{"cni.dev/valid-attachments": valid}))
        wait_for("the stale link to go", lambda: len(self.node.pod_links()) == 2)
        self.assertIn("eth0", pods["valid"].run("ip", "-o", "link"))
        self.assertNotIn("eth0", pods["stale"].run("ip", "-o", "link"))
        self.assertIn("eth0", pods["foreign"].run("ip", "-o", "link"))
        self.node.cni("GC", config=self.node.config(name="other", **{"cni.dev/valid-attachments": []}))
        wait_for("the foreign link to go", lambda: len(self.node.pod_links()) == 1)
        self.delete(pods["valid"])
        self.assert_nothing_left()

    def test_addresses_that_links_to_be_deleted_hold(self):
        """Links of deleted pods are deleted after a while; an ADD that lacks what they hold waits for it."""
        small = Node(BUILD, "small", "10.83.2.0/29")  # five pods
        small.begin()
        self.addCleanup(small.delete)
        self.addCleanup(small.kill_daemon)
        pods = [small.add_pod("x", f"p{i}") for i in range(5)]
        with self.assertRaises(CniError) as error:
            small.add_pod("x", "one-too-many")
        self.assertEqual(102, error.exception.code)
        for turn in range(MANY):
            gone = pods.pop(0)
            small.cni("DEL", gone.container_id, gone.path)  # its namespace, and its link with it, stays
            small.pods.pop(f"x/{gone.pod}")
            pods.append(small.add_pod("x", f"next{turn}"))
            self.assertEqual(gone.address, pods[-1].address)
            gone.delete()

    def test_links_of_nobody(self):
        """What an ADD leaves that was killed; one that is down may be of an ADD that is about to ask, and stays a while."""
        for name, state in (("slu00000000001", "up"), ("slu00000000002", "down")):
            self.node.ip("link", "add", name, "type", "veth", "peer", "name", f"p{name[3:]}")
            self.node.ip("link", "set", name, state)
        self.node.ip("link", "add", "slu00000000003", "type", "vxlan", "id", "5", "dstport", "4790")  # no pod's
        wait_for("the first to go", lambda: "slu00000000001" not in self.node.pod_links(), 20)
        self.assertIn("slu00000000002", self.node.pod_links())
        wait_for("the second to go", lambda: "slu00000000002" not in self.node.pod_links(), 60)
        self.assertEqual(["slu00000000003"], self.node.pod_links())
        self.node.ip("link", "delete", "slu00000000003")

    def test_check_names_what_differs(self):
        pod = self.pod("checked")
        self.node.attach(pod)
        config = self.node.config(prevResult=pod.result)
        link = pod.result["interfaces"][0]["name"]

        def check():
            try:
                self.node.cni("CHECK", pod.container_id, pod.path, config=config)
            except CniError as error:
                return error
            return None

        def checked():
            return not check()
        self.assertIsNone(check())
        for damage, repair, words in (
                (lambda: self.node.ip("link", "set", link, "down"), lambda: self.node.ip("link", "set", link, "up"),
                 f"{link} is down"),
                (lambda: pod.ip("link", "set", "eth0", "mtu", "9000"), lambda: pod.ip("link", "set", "eth0", "mtu", "1500"),
                 "MTU"),
                (lambda: self.node.take_program(link), lambda: wait_for("the program", checked),
                 f"program is missing on interface {link}")):
            for _ in range(10):  # the daemon may put it right in between
                damage()
                error = check()
                if error:
                    break
            self.assertEqual(103, error.code)
            self.assertIn(words.lower(), str(error).lower())
            repair()
            self.assertIsNone(check())
        self.delete(pod)
        self.assert_nothing_left()


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
