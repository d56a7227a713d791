#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The node as a router: what pods and hosts outside are told about packets that go no further, and how what a router outside
says reaches the pod that it concerns.

    router_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from deadline import deadline  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import Fabric, Namespace, Node, run, wait_for  # noqa: E402
from traffic import Echo, bound, in_namespace, transfer, udp_reaches  # noqa: E402

BUILD = ""
POD_CIDR, GATEWAY, PORT = "10.83.56.0/24", "10.83.56.1", 7007
NODE, WORLD = "192.0.2.1", "192.0.2.99"
NARROW = 1300


def ping(namespace, *arguments):
    """What one echo request to the last argument prints."""
    return subprocess.run(namespace.enter("ping", "-n", "-c", "1", "-W", "5", *arguments), capture_output=True, text=True,
                          check=False).stdout


class RouterTest(sluice_test.SluiceTest):

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "router", POD_CIDR)
        cls.fabric = Fabric("router-fabric")
        cls.fabric.join(cls.node, NODE)
        cls.world = cls.fabric.host("router-world", WORLD)
        cls.world.ip("route", "add", POD_CIDR, "via", NODE)
        # The server promises segments that do not fit the way to it.
        cls.world.ip("route", "add", f"{NODE}/32", "dev", "up0", "advmss", "1460")
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.pod = cls.node.add_pod("x", "wide")
        cls.echo = Echo(cls.world, PORT)
        # The interface must not hide what is too large behind its segmentation.
        cls.pod.ip("link", "set", "eth0", "gso_max_segs", "1")
        for host in (cls.node, cls.world):
            host.ip("link", "set", "up0", "mtu", str(NARROW))

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        cls.node.delete_pod(cls.pod)
        cls.node.kill_daemon(signal.SIGTERM)
        cls.fabric.delete()
        cls.node.delete()

    def setUp(self):
        self.pod.ip("route", "flush", "cache")

    def test_a_stream_adapts_to_a_way_out_that_takes_less(self):
        self.assertGreater(transfer(self.pod, self.world, WORLD, 1 << 20), 0)
        self.assertIn(f"mtu {NARROW}", self.pod.ip("route", "get", WORLD))

    def test_a_ping_that_is_too_large_is_told_the_mtu(self):
        said = ping(self.pod, "-M", "do", "-s", "1400", WORLD)
        self.assertIn(f"From {GATEWAY}", said)
        self.assertIn(f"mtu = {NARROW}", said)
        self.assertIn("1 received", ping(self.pod, "-M", "do", "-s", str(NARROW - 28), WORLD), "what just fits")

    def test_datagrams_that_may_be_fragmented_are_after_the_first_one(self):
        self.assertFalse(udp_reaches(self.pod, WORLD, PORT, size=1400))
        self.assertTrue(udp_reaches(self.pod, WORLD, PORT, size=1400))

    def test_the_node_is_a_hop(self):
        self.assertIn(f"From {GATEWAY} icmp_seq=1 Time to live exceeded", ping(self.pod, "-t", "1", WORLD))
        self.assertIn(f"From {NODE} icmp_seq=1 Time to live exceeded", ping(self.world, "-t", "1", self.pod.address))
        self.assertIn("1 received", ping(self.pod, "-t", "2", WORLD))


ONE, TWO, ROUTER, CLIENT, CLIENTS_ROUTER = "192.0.2.1", "192.0.2.2", "192.0.2.99", "198.51.100.2", "198.51.100.1"
NODE_PORT, TARGET = 30080, 8080


class NarrowRouterTest(sluice_test.SluiceTest):
    """client - router, whose way to the client is narrow - node `one` - node `two` with the backend"""

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "router-one", "10.83.57.0/24")
        cls.two = Node(BUILD, "router-two", "10.83.58.0/24", folder=cls.one.folder)
        cls.nodes = {cls.one: ONE, cls.two: TWO}
        cls.fabric = Fabric("two-fabric")
        cls.fabric.join_nodes(cls.nodes)
        cls.router, cls.client = cls.fabric.host("narrow", ROUTER), Namespace("client")
        run("ip", "link", "add", "eth0", "netns", cls.client.name, "type", "veth", "peer", "name", "down0", "netns", cls.router.name)
        for host, interface, address in ((cls.client, "eth0", CLIENT), (cls.router, "down0", CLIENTS_ROUTER)):
            host.ip("addr", "add", f"{address}/24", "dev", interface)
            host.ip("link", "set", interface, "up")
        cls.router.ip("link", "set", "down0", "mtu", str(NARROW))
        cls.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        cls.client.ip("route", "add", "default", "via", CLIENTS_ROUTER)
        for node in cls.nodes:
            node.ip("route", "add", f"{CLIENT}/32", "via", ROUTER)
        cls.one.write_namespace("x")
        for node in cls.nodes:
            node.start_daemon()
        cls.near, cls.far = cls.one.add_pod("x", "near"), cls.two.add_pod("x", "far")
        for pod in (cls.near, cls.far):
            cls.one.write_pod("x", pod.pod, address=pod.address)

    @classmethod
    def tearDownClass(cls):
        for node, pod in ((cls.one, cls.near), (cls.two, cls.far)):
            node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
            node.delete()
        cls.client.delete()
        cls.fabric.delete()

    def download(self, backend, size=1 << 20):
        """The address that the backend sees the client by, once the client has all that the backend sends."""
        ports = [{"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": TARGET, "nodePort": NODE_PORT}]
        web, slices = service("web", "10.96.0.1", ports=ports), slice_of("web", backend.address)
        web["spec"]["type"], slices["ports"] = "NodePort", [{"name": "tcp", "protocol": "TCP", "port": TARGET}]
        self.one.write("service-web", web, slices)
        seen = []

        def serve():
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                seen.append(peer[0])
                with connection:
                    connection.sendall(bytes(size))

        with bound(backend, socket.SOCK_STREAM, TARGET) as listener:
            threading.Thread(target=serve, daemon=True).start()
            with wait_for("the node port", lambda: in_namespace(
                    self.client.path, lambda: socket.create_connection((ONE, NODE_PORT), 1))) as client:
                client.settimeout(deadline(20))
                left = size
                while left > 0:
                    got = len(client.recv(1 << 16))
                    self.assertGreater(got, 0, "the backend sends all before it closes")
                    left -= got
            listener.shutdown(socket.SHUT_RDWR)
        return seen[-1]

    def test_a_backend_of_the_same_node_hears_of_a_narrow_way(self):
        seen = self.download(self.near)
        self.assertIn(f"mtu {NARROW}", self.near.ip("route", "get", seen))

    def test_a_backend_of_another_node_hears_of_a_narrow_way(self):
        seen = self.download(self.far)
        self.assertIn(f"mtu {NARROW}", self.far.ip("route", "get", seen))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
