#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packets between nodes: past the node's stack, or by the VXLAN device.

    tunnel_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import Node, connect_nodes, wait_for  # noqa: E402
from traffic import Echo, UdpStream, bound, tcp_reaches, transfer, udp_reaches  # noqa: E402

BUILD = ""
PORT = 8080
UDP_SEGMENT = 103  # linux/udp.h
ONE, TWO = "192.0.2.21", "192.0.2.22"


class TunnelTest(sluice_test.SluiceTest):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "one", "10.83.21.0/24")
        cls.two = Node(BUILD, "two", "10.83.22.0/24", folder=cls.one.folder)
        connect_nodes(cls.one, ONE, cls.two, TWO)
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon(*cls.OPTIONS)
        cls.a, cls.b = cls.one.add_pod("x", "a", {"app": "a"}), cls.two.add_pod("x", "b", {"app": "b"})
        for pod in (cls.a, cls.b):
            cls.one.write_pod("x", pod.pod, {"app": pod.pod}, address=pod.address)
        cls.echoes = [Echo(where, PORT) for where in (cls.a, cls.b, cls.two)]
        wait_for("the other node's pod", lambda: tcp_reaches(cls.a, cls.b.address, PORT, 0.3))

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes:
            echo.close()
        for node, pod in ((cls.one, cls.a), (cls.two, cls.b)):
            node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
        cls.one.delete()
        cls.two.delete()


class DirectTest(TunnelTest):
    OPTIONS = ("--housekeeping-interval=0.5",)

    def tunnel(self, node=None):
        return (node or self.one).get("/v1/status")["tunnel"]

    def packets(self, node):
        """(direct, by the device) of those that the node received from and sent to the other."""
        packets = node.get("/v1/status")["packets"]
        direct = packets["direct"]
        return ((direct["in"], packets["in"]["overlay"] - direct["in"]),
                (direct["out"], packets["outTunnel"] - direct["out"]))

    def changes(self, node, work):
        before = self.packets(node)
        work()
        return [[now - then for now, then in zip(*way)] for way in zip(self.packets(node), before)]

    def test_small_packets_go_past_the_stack(self):
        self.assertEqual(self.tunnel(), {"direct": True, "notDirectReason": ""})

        def talk():
            for _ in range(20):
                self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
                self.assertTrue(udp_reaches(self.a, self.b.address, PORT))
                self.assertTrue(tcp_reaches(self.one, self.b.address, PORT))
            self.a.run("ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(1450 - 28), self.b.address)
        for node in (self.one, self.two):
            (came, came_by_device), (went, went_by_device) = self.changes(node, talk)
            self.assertEqual((came_by_device, went_by_device), (0, 0))
            self.assertGreater(came, 100)
            self.assertGreater(went, 100)

    def test_large_streams_arrive_either_way(self):
        """Merged packets are sent directly and received by the device; fragments of datagrams go as any packets."""
        for source, target in ((self.a, self.b), (self.b, self.a)):
            sender, receiver = (self.one, self.two) if source is self.a else (self.two, self.one)
            before = self.packets(receiver)
            _, (went, went_by_device) = self.changes(sender, lambda s=source, t=target: transfer(s, t, t.address, 64 << 20))
            self.assertEqual(went_by_device, 0)
            self.assertGreater(went, (64 << 20) // 65536 - 1)
            self.assertGreater(self.packets(receiver)[0][1] - before[0][1], 0, "merged packets, by the device")
        self.assertTrue(udp_reaches(self.a, self.b.address, PORT, size=9000), "fragments")

    def test_datagrams_that_the_interface_cuts_arrive(self):
        """UDP_SEGMENT: one packet on the whole way, which is sent directly and received by the device."""
        receiver, sender = bound(self.b, socket.SOCK_DGRAM, 5002), bound(self.a, socket.SOCK_DGRAM, 0)
        with receiver, sender:
            receiver.settimeout(5)
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
            datagrams = [bytes([n]) * 1200 for n in range(20)]

            def send():
                sender.sendto(b"".join(datagrams), (self.b.address, 5002))
                self.assertEqual([receiver.recv(2000) for _ in datagrams], datagrams)
            _, sent = self.changes(self.one, send)
            self.assertEqual(sent, [1, 0])

    def test_what_does_not_fit_the_path_is_the_devices(self):
        """A route with a smaller MTU, which only the stack knows of."""
        def ping():
            self.a.run("ping", "-c", "3", "-i", "0.01", "-W", "1", "-s", "1200", self.b.address)
        self.one.ip("route", "add", f"{TWO}/32", "dev", "up0", "src", ONE, "mtu", "1000")
        wait_for("the device", lambda: not self.tunnel()["direct"])
        self.assertIn(f"route to node {TWO} has an MTU of its own, 1000", self.tunnel()["notDirectReason"])
        _, sent = self.changes(self.one, ping)
        self.assertEqual(sent, [0, 3])
        self.one.ip("route", "del", f"{TWO}/32")
        wait_for("the direct way", lambda: self.tunnel()["direct"])
        _, sent = self.changes(self.one, ping)
        self.assertEqual(sent, [3, 0])

    def test_ipsec_policies_are_not_gone_past(self):
        """From the moment that the node has one, of whatever kind, all is the stack's again; and nothing is lost."""
        udp = UdpStream(self.a, self.b, self.b.address, 5001)
        self.addCleanup(udp.end)
        for _ in range(5):
            self.one.ip("xfrm", "policy", "add", "src", "198.51.100.0/24", "dst", "203.0.113.0/24", "dir", "out",
                        "tmpl", "proto", "esp", "mode", "transport")
            wait_for("the device", lambda: not self.tunnel()["direct"])
            self.assertIn("IPsec", self.tunnel()["notDirectReason"])
            self.assertIn("\nsluice_tunnel_direct 0\n", self.one.metrics())
            _, (direct, by_device) = self.packets(self.one)
            wait_for("packets by the device", lambda n=by_device: self.packets(self.one)[1][1] > n + 10)
            self.assertEqual(self.packets(self.one)[1][0], direct)
            self.one.ip("xfrm", "policy", "deleteall")
            wait_for("the direct way", lambda: self.tunnel()["direct"])
        self.assertIn("\nsluice_tunnel_direct 1\n", self.one.metrics())
        result = udp.end()
        self.assertEqual((result["lost"], result["duplicates"]), (0, 0))

    def test_a_policy_that_blocks_the_tunnel_blocks_it(self):
        for direction, here, there in (("out", ONE, TWO), ("in", TWO, ONE)):
            self.one.ip("xfrm", "policy", "add", "src", here, "dst", there, "dir", direction, "action", "block")
            wait_for("the device", lambda: not self.tunnel()["direct"])
            self.assertFalse(udp_reaches(self.a, self.b.address, PORT, 0.3), direction)
            self.one.ip("xfrm", "policy", "deleteall")
            wait_for("the direct way", lambda: self.tunnel()["direct"])
            self.assertTrue(udp_reaches(self.a, self.b.address, PORT), direction)

    def test_policies_are_found_at_the_start(self):
        self.one.kill_daemon()
        self.one.ip("xfrm", "policy", "add", "src", ONE, "dst", TWO, "dir", "out", "action", "allow")
        self.one.start_daemon(*self.OPTIONS)
        wait_for("the device", lambda: "IPsec" in self.tunnel()["notDirectReason"])
        self.one.ip("xfrm", "policy", "deleteall")
        wait_for("the direct way", lambda: self.tunnel()["direct"])


class OffTest(TunnelTest):
    OPTIONS = ("--tunnel-direct=off",)

    def test_all_goes_by_the_device(self):
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.assertTrue(udp_reaches(self.b, self.a.address, PORT, size=9000))
        transfer(self.a, self.b, self.b.address, 8 << 20)
        for node in (self.one, self.two):
            status = node.get("/v1/status")
            self.assertEqual(status["packets"]["direct"], {"in": 0, "out": 0})
            self.assertIn("--tunnel-direct=off", status["tunnel"]["notDirectReason"])
            self.assertGreater(status["packets"]["outTunnel"], 0)

    def test_packets_bear_the_address_that_the_other_node_knows(self):
        """Whichever of the uplink's addresses the node's routes prefer."""
        other = "192.0.2.121"
        self.one.ip("addr", "add", f"{other}/32", "dev", "up0")
        self.addCleanup(self.one.ip, "addr", "del", f"{other}/32", "dev", "up0")
        self.one.ip("route", "add", f"{TWO}/32", "dev", "up0", "src", other)
        self.assertIn(f"src {other}", self.one.ip("route", "get", TWO))
        self.assertTrue(udp_reaches(self.a, self.b.address, PORT))

    def test_one_end_alone_may_be_switched(self):
        self.two.kill_daemon()
        self.two.start_daemon()
        wait_for("the direct way", lambda: self.two.get("/v1/status")["tunnel"]["direct"])
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        transfer(self.b, self.a, self.a.address, 8 << 20)
        self.two.kill_daemon()
        self.two.start_daemon(*self.OPTIONS)
        wait_for("the device", lambda: not self.two.get("/v1/status")["tunnel"]["direct"])
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
