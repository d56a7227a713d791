#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two nodes whose InternalIPs are on interfaces of some kind (tests/lib/wires.py), which join them: here tun devices, which
have no Ethernet headers, as those of WireGuard and PPP have none. tests/kernels/vlan_wireguard_test.py has others.

    uplink_kinds_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
import wires  # noqa: E402
from service_test import outcome, service, slice_of  # noqa: E402
from sluice_node import Node, wait_for  # noqa: E402
from traffic import Echo, TcpStream, tcp_reaches, transfer, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
PORT, HOST_PORT, NODE_PORT = 8080, 31080, 31081
ONE, TWO = "192.0.2.1", "192.0.2.2"
FAR = "198.51.100.7"  # outside: an address of node two that its Node object does not name


class UplinkKind:
    """Of a subclass that says how the nodes are joined, the interfaces' MTU, and why packets between nodes do not go past the
    stack ("": they do)."""
    join, mtu, not_direct = None, None, None

    @classmethod
    def make(cls, build):
        cls.one = Node(build, "one", "10.83.21.0/24")
        cls.two = Node(build, "two", "10.83.22.0/24", folder=cls.one.folder)
        cls.wire = cls.join(cls.one, "up0", cls.two, "up0")
        for node, address in ((cls.one, ONE), (cls.two, TWO)):
            node.ip("addr", "add", f"{address}/24", "dev", "up0")
            node.ip("link", "set", "up0", "mtu", str(cls.mtu), "up")
            for reader in (cls.one, cls.two):
                reader.write_node(node.name, node.pod_cidr, address)
        cls.one.ip("route", "add", "default", "dev", "up0")
        cls.two.ip("addr", "add", f"{FAR}/32", "dev", "lo")
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon()
        mappings = [{"hostPort": HOST_PORT, "containerPort": PORT, "protocol": p} for p in ("tcp", "udp")]
        cls.a, cls.b = (node.add_pod("x", name, config=node.config(runtimeConfig={"portMappings": mappings}))
                        for node, name in ((cls.one, "a"), (cls.two, "b")))
        for pod in (cls.a, cls.b):
            cls.one.write_pod("x", pod.pod, address=pod.address)
        cls.one.write("service", service("b", "10.96.0.7", type="NodePort", ports=[
            {"name": "tcp", "protocol": "TCP", "port": 80, "nodePort": NODE_PORT}]), slice_of("b", cls.b.address))
        for node in (cls.one, cls.two):
            node.settle()
        cls.echoes = {name: Echo(where, PORT) for name, where in
                      {"a": cls.a, "b": cls.b, "one": cls.one, "two": cls.two}.items()}
        wait_for("the other node's pod", lambda: tcp_reaches(cls.a, cls.b.address, PORT, 0.3))

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        for node in (cls.one, cls.two):
            for pod in list(node.pods.values()):
                node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
        cls.wire.close()
        cls.one.delete()
        cls.two.delete()

    def test_a_pod_reaches_what_is_outside(self):
        before = len(self.echoes["two"].peers)
        self.assertTrue(tcp_reaches(self.a, FAR, PORT))
        self.assertTrue(tcp_reaches(self.a, TWO, PORT))
        self.assertTrue(udp_reaches(self.a, TWO, PORT))
        self.assertTrue(udp_reaches(self.a, TWO, PORT, size=9000), "fragments")
        self.assertTrue(udp_is_refused(self.a, TWO, PORT + 1, 2))
        self.a.run("ping", "-c", "1", "-W", "2", TWO)
        wait_for("all to be seen", lambda: len(self.echoes["two"].peers) == before + 4)
        self.assertEqual({ONE}, set(self.echoes["two"].peers[before:]))
        transfer(self.a, self.two, FAR, 1 << 20)

    def test_host_ports_and_node_ports(self):
        for client, inside, address, server in ((self.one, self.a, TWO, "b"), (self.two, self.b, ONE, "a")):
            with self.subTest(client=client.name):
                self.assertEqual("answered", outcome(client, address, HOST_PORT))
                self.assertTrue(udp_reaches(client, address, HOST_PORT))
                self.assertEqual(ONE if client is self.one else TWO, self.echoes[server].peers[-1], "it sees the client")
                self.assertEqual("answered", outcome(inside, address, HOST_PORT))
                self.assertEqual("refused", outcome(client, address, PORT + 1), "the node's own stack has the other ports")
                self.assertEqual("answered", outcome(client, address, NODE_PORT), "by the backend's node, or by the other one")

    def test_pods_of_two_nodes(self):
        status = self.one.get("/v1/status")
        self.assertEqual(self.not_direct, status["tunnel"]["notDirectReason"])
        before = status["packets"]["direct"]["out"]
        for source, target in ((self.a, self.b), (self.b, self.a)):
            self.assertTrue(tcp_reaches(source, target.address, PORT))
            self.assertTrue(udp_reaches(source, target.address, PORT))
            self.assertTrue(udp_reaches(source, target.address, PORT, size=9000), "fragments")
            transfer(source, target, target.address, 1 << 20)
        for node, pod in ((self.one, self.b), (self.two, self.a)):
            self.assertTrue(tcp_reaches(node, pod.address, PORT))
        self.assertEqual(not self.not_direct, self.one.get("/v1/status")["packets"]["direct"]["out"] > before)

    def test_a_connection_outlives_a_restart(self):
        stream = TcpStream(self.a, TWO, PORT)
        self.one.kill_daemon()
        self.one.start_daemon()
        rounds = stream.rounds
        wait_for("the connection to go on", lambda: stream.rounds > rounds + 3)
        self.assertEqual(0, stream.end()["resets"])


class TunUplinkTest(UplinkKind, sluice_test.SluiceTest):
    join, mtu, not_direct = staticmethod(wires.tun), 1420, "no uplink is an Ethernet interface"

    @classmethod
    def setUpClass(cls):
        cls.make(BUILD)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
