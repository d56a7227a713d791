#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Node object is made anew with another podCIDR while pods run.

    pod_cidr_test.py BUILD_FOLDER [unittest options]
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import outcome, service, slice_of  # noqa: E402
from sluice_node import Node, wait_for, world_beyond  # noqa: E402
from traffic import Echo, TcpStream, tcp_reaches, udp_reaches  # noqa: E402

BUILD = ""
PORT, NODE_PORT = 8080, 31080
NODE, WORLD = "192.0.2.1", "192.0.2.2"
BEFORE, AFTER = "10.83.1.0/24", "10.84.1.0/24"


class PodCidrTest(sluice_test.NodeAndWorldTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "moved", BEFORE)
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon("--housekeeping-interval=0.5")
        cls.a, cls.b = (cls.node.add_pod("x", name, {"app": name}) for name in "ab")
        cls.node.write("service", service("b", "10.96.0.7", type="NodePort", ports=[
            {"name": "tcp", "protocol": "TCP", "port": 80, "nodePort": NODE_PORT}]), slice_of("b", cls.b.address))
        cls.node.settle()
        cls.echoes = [Echo(where, PORT) for where in (cls.a, cls.b, cls.world, cls.node)]

    def move(self, pod_cidr):
        self.node.write_node(pod_cidr=pod_cidr, address=NODE)
        self.node.settle()
        wait_for("the podCIDR", lambda: f"{pod_cidr} dev sluice_host" in self.node.ip("route"))

    def forget_neighbours(self, *pods):
        for pod in pods:
            pod.ip("neigh", "flush", "all")

    def check_everything(self, *pods):
        self.forget_neighbours(*pods)
        for pod in pods:
            for other in pods:
                if other is not pod:
                    self.assertTrue(tcp_reaches(pod, other.address, PORT), f"{pod.pod} to {other.pod}")
                    self.assertTrue(udp_reaches(pod, other.address, PORT), f"{pod.pod} to {other.pod}")
            self.assertTrue(tcp_reaches(pod, WORLD, PORT), f"{pod.pod} to the world")
            self.assertTrue(tcp_reaches(pod, NODE, PORT), f"{pod.pod} to the node")
            self.assertTrue(tcp_reaches(pod, pod.result["ips"][0]["gateway"], PORT), f"{pod.pod} to its gateway")
            self.assertTrue(tcp_reaches(self.node, pod.address, PORT), f"the node to {pod.pod}")
            self.assertTrue(tcp_reaches(pod, "10.96.0.7", 80), f"{pod.pod} to a Service")
            self.node.cni("CHECK", pod.container_id, pod.path, config=self.node.config(prevResult=pod.result))
        self.assertEqual("answered", outcome(self.world, NODE, NODE_PORT))
        self.assertEqual("answered", outcome(self.node, "10.96.0.7", 80))
        self.assertEqual([], self.node.get("/v1/status")["audit"])

    def test_pods_of_before_go_on(self):
        self.check_everything(self.a, self.b)
        streams = [TcpStream(self.a, address, PORT) for address in (self.b.address, WORLD, NODE)]
        self.move(AFTER)
        self.check_everything(self.a, self.b)
        new = self.node.add_pod("x", "new")
        self.echoes.append(Echo(new, PORT))
        self.assertTrue(new.address.startswith("10.84.1."), new.address)
        self.check_everything(self.a, self.b, new)
        self.node.kill_daemon()
        self.node.start_daemon("--housekeeping-interval=0.5")
        self.node.settle()
        self.check_everything(self.a, self.b, new)
        self.assertEqual([0] * 3, [stream.end()["resets"] for stream in streams])
        self.node.write_policy("x", "b", {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"],
                                          "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]})
        self.node.settle()
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.assertFalse(tcp_reaches(new, self.b.address, PORT, 0.3), "its rules hold for new pods")
        # A pod's address of before must not be had from outside either.
        self.world.ip("addr", "add", f"{self.b.address}/32", "dev", "lo")
        self.world.ip("route", "add", new.address, "via", NODE, "src", self.b.address)
        self.assertFalse(udp_reaches(self.world, new.address, PORT, 0.3))
        self.assertGreater(self.node.get("/v1/status")["packets"]["drops"].get("SOURCE_IP", 0), 0)
        self.node.delete_pod(self.b)
        wait_for("its route to go", lambda b=self.b: f"{b.address} dev sluice_host" not in self.node.ip("route"))
        self.assertTrue(tcp_reaches(self.a, new.address, PORT))
        self.node.delete_pod(self.a)
        wait_for("all of the podCIDR of before to go",
                 lambda: "10.83.1." not in self.node.ip("route") + self.node.ip("addr", "show", "dev", "sluice_host"))
        self.assertEqual([], self.node.get("/v1/status")["audit"])


class OtherNodeTest(sluice_test.NodePairTest):
    """Node one's podCIDR becomes another one: its pods of before, and those of node two."""

    @classmethod
    def setUpClass(cls):
        cls.make_nodes(BUILD)
        (cls.a,), (cls.b,) = cls.add_pods(cls.one, "a"), cls.add_pods(cls.two, "b")
        cls.echoes = [Echo(where, PORT) for where in (cls.a, cls.b, cls.two)]
        wait_for("the other node's pod", lambda: tcp_reaches(cls.a, cls.b.address, PORT, 0.3))

    def ways(self):
        """By which node two sends to pods of node one."""
        return {way for way in self.two.ip("route").split() if way.startswith(("10.83.11.", "10.84.11."))}

    def check_pairs(self, *pods):
        for pod in pods:
            self.assertTrue(tcp_reaches(pod, self.b.address, PORT), f"{pod.pod} to the other node's pod")
            self.assertTrue(udp_reaches(self.b, pod.address, PORT), f"the other node's pod to {pod.pod}")
            self.assertTrue(tcp_reaches(self.two, pod.address, PORT), f"the other node to {pod.pod}")
            self.assertTrue(tcp_reaches(pod, "192.0.2.12", PORT), f"{pod.pod} to the other node")

    def test_pods_of_before_and_another_node(self):
        stream = TcpStream(self.b, self.a.address, PORT)
        self.check_pairs(self.a)
        self.one.remove("node-one")
        wait_for("the Node object to be gone", lambda: not self.ways())
        self.one.write_node(pod_cidr="10.84.11.0/24", address="192.0.2.11")
        wait_for("both podCIDRs", lambda: self.ways() == {"10.83.11.0/24", "10.84.11.0/24"})
        wait_for("its own", lambda: "10.84.11.0/24 dev sluice_host" in self.one.ip("route"))
        new, = self.add_pods(self.one, "new")
        self.echoes.append(Echo(new, PORT))
        self.check_pairs(self.a, new)
        rounds = stream.rounds
        wait_for("the connection of before to go on", lambda: stream.rounds > rounds + 3)
        for node in (self.one, self.two):
            node.kill_daemon()
            node.start_daemon("--housekeeping-interval=0.5")
        self.check_pairs(self.a, new)
        self.assertEqual(0, stream.end()["resets"])
        self.one.delete_pod(self.a)
        wait_for("the podCIDR of before to be forgotten", lambda: self.ways() == {"10.84.11.0/24"})
        self.check_pairs(new)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
