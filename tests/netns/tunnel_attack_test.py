#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pod that speaks VXLAN itself: what it writes inside reaches neither the pods nor the stack of another node, by
whatever address of a node it is sent, and each such packet is counted.

    tunnel_attack_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import Fabric, Node, wait_for  # noqa: E402
from traffic import bound, in_namespace  # noqa: E402

BUILD = ""
ONE, TWO, TWO_MORE, WORLD = "192.0.2.21", "192.0.2.22", "192.0.2.122", "192.0.2.99"
TUNNEL_PORT, VNI, PORT, NODE_PORT = 4789, 83, 7777, 30089
CLUSTER_IP = "10.96.0.1"
COUNT = 5  # packets an attempt


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def vxlan(gateway, source, target, data):
    """The payload that a node would send: a datagram from `source` to `target`, for the gateway's MAC."""
    def header(check):
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 1, 0, 64, socket.IPPROTO_UDP, check,
                           socket.inet_aton(source), socket.inet_aton(target))
    ethernet = b"\x02\x53" + socket.inet_aton(gateway) + b"\x02\x53" + socket.inet_aton(source) + b"\x08\x00"
    udp = struct.pack("!HHHH", 5000, PORT, 8 + len(data), 0)
    return struct.pack("!II", 1 << 27, VNI << 8) + ethernet + header(checksum(header(0))) + udp + data


class TunnelAttackTest(sluice_test.SluiceTest):
    """Attacker and friend on node one; pod b on node two, which admits the friend alone; a host outside."""
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "one", "10.83.21.0/24")
        cls.two = Node(BUILD, "two", "10.83.22.0/24", folder=cls.one.folder)
        cls.fabric = Fabric("fabric")
        cls.world = cls.fabric.host("world", WORLD)
        cls.fabric.join_nodes({cls.one: ONE, cls.two: TWO})
        cls.two.ip("addr", "add", f"{TWO_MORE}/24", "dev", "up0")
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon(*cls.OPTIONS)
        cls.attacker, cls.friend = (cls.one.add_pod("x", name, {"app": name}) for name in ("attacker", "friend"))
        cls.b = cls.two.add_pod("x", "b", {"app": "b"})
        for pod in (cls.attacker, cls.friend, cls.b):
            cls.one.write_pod("x", pod.pod, {"app": pod.pod}, address=pod.address)
        cls.one.write_policy("x", "b", {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"],
                                        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]})
        # A tenant's Service whose endpoint is a node's tunnel.
        ports = [{"name": "t", "protocol": "UDP", "port": TUNNEL_PORT, "nodePort": NODE_PORT}]
        slices = slice_of("tunnel", TWO)
        slices["ports"] = [{"name": "t", "protocol": "UDP", "port": TUNNEL_PORT}]
        cls.one.write("service", service("tunnel", CLUSTER_IP, type="NodePort", ports=ports), slices)
        for node in (cls.one, cls.two):
            node.settle()
        cls.receivers = [bound(cls.b, socket.SOCK_DGRAM, PORT), bound(cls.two, socket.SOCK_DGRAM, PORT)]

    @classmethod
    def tearDownClass(cls):
        for receiver in cls.receivers:
            receiver.close()
        for pod in (cls.attacker, cls.friend, cls.b):
            pod.node.delete_pod(pod)
        for node in (cls.one, cls.two):
            node.kill_daemon(signal.SIGTERM)
            node.delete()
        cls.fabric.delete()

    def payloads(self):
        """To the pod and to the node's own stack, as if from a pod that may send there."""
        gateway = "10.83.22.1"
        return [vxlan(gateway, self.friend.address, target, b"attack") for target in (self.b.address, gateway)]

    @staticmethod
    def send(place, address, port, payloads, source_port=0):
        def go():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("0.0.0.0", source_port))
                for _ in range(COUNT):
                    for payload in payloads:
                        s.sendto(payload, (address, port))
        in_namespace(place.path, go)

    def arrived(self, receiver, seconds):
        receiver.settimeout(seconds)
        try:
            return receiver.recv(64)
        except TimeoutError:
            return None

    def dropped(self):
        """For whatever reason: what is sent to an address that nobody has gets as far as its node."""
        drops = [node.get("/v1/status")["packets"]["drops"] for node in (self.one, self.two)]
        return sum(count for d in drops for reason, count in d.items() if reason != "IPV6_UNSUPPORTED")

    def assert_repelled(self, what, place, address, port=TUNNEL_PORT, source_port=0):
        before = self.dropped()
        self.send(place, address, port, self.payloads(), source_port)
        for receiver in self.receivers:
            self.assertIsNone(self.arrived(receiver, 0.2), what)
        wait_for(f"the count of {what}: {before} + {2 * COUNT}, now {self.dropped()}",
                 lambda: self.dropped() >= before + 2 * COUNT, 2)

    def test_what_a_node_sends_arrives(self):
        """Else the other tests would show nothing."""
        self.send(self.one, TWO, TUNNEL_PORT, self.payloads(), 40000)
        for receiver in self.receivers:
            for _ in range(COUNT):
                self.assertEqual(self.arrived(receiver, 2), b"attack")

    def test_by_every_address_of_a_node(self):
        for address in (TWO, TWO_MORE, "10.83.22.1", "10.83.22.0"):
            self.assert_repelled(f"packets to {address}", self.attacker, address)

    def test_by_a_service_whose_endpoint_is_a_nodes_tunnel(self):
        self.assert_repelled("packets to the Service", self.attacker, CLUSTER_IP)
        self.assert_repelled("packets to the node port, from a pod", self.attacker, ONE, NODE_PORT)
        self.assert_repelled("packets to the node port, from outside", self.world, ONE, NODE_PORT)

    def test_from_outside(self):
        self.assert_repelled("packets of a host outside", self.world, TWO)

    def test_from_a_masquerade_port_of_a_node(self):
        """As a node would send what it masquerades, if it did not look at it."""
        self.assert_repelled("packets from a masquerade port", self.one, TWO, source_port=62000)


class UnmaskedTunnelAttackTest(TunnelAttackTest):
    """Pods keep their addresses on the way out."""
    OPTIONS = ("--masquerade=off",)


class DeviceTunnelAttackTest(TunnelAttackTest):
    OPTIONS = ("--tunnel-direct=off",)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
