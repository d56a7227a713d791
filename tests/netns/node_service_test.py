#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services and the node itself: its own processes as clients, at the socket and packet by packet, and as backends.

    node_service_test.py BUILD_FOLDER [unittest options]
"""
import errno
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import NODE_PORT, PORT, TARGET, outcome, service, slice_of  # noqa: E402
from sluice_node import Fabric, Namespace, Node, run, wait_for  # noqa: E402
from traffic import Echo, TcpStream, in_namespace, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
ONE, TWO, WORLD = "192.0.2.11", "192.0.2.12", "192.0.2.99"
CLUSTER_IP = "10.96.0.1"


def peer_seen(namespace, address, port, family=socket.AF_INET):
    """What a program is told of the other end of a TCP connection."""
    def attempt():
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(2)
            s.connect((address, port))
            return s.getpeername()[:2]
    return in_namespace(namespace.path, attempt)


def answerer_seen(namespace, address, port, family=socket.AF_INET, connect=False):
    """... and of the sender of a datagram's answer."""
    def attempt():
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            if connect:
                s.connect((address, port))
                s.send(b"sluice")
            else:
                s.sendto(b"sluice", (address, port))
            return s.recvfrom(16)[1][:2]
    return in_namespace(namespace.path, attempt)


def forwarded(router):
    """Packets, so far."""
    names, values = (line.split() for line in router.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Ip:"))
    return int(values[names.index("ForwDatagrams")])


class NodeServices(sluice_test.SluiceTest):
    """Node one with pod a, node two with pod b, a host outside. Node one is the client."""
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "ns-one", "10.83.21.0/24")
        cls.two = Node(BUILD, "ns-two", "10.83.22.0/24", folder=cls.one.folder)
        cls.fabric, cls.world = Fabric("ns-fabric"), Namespace("ns-world")
        addresses = {cls.one: ONE, cls.two: TWO}
        for where, address in {**addresses, cls.world: WORLD}.items():
            cls.fabric.join(where, address)
        for node, address in addresses.items():
            cls.one.write_node(node.name, node.pod_cidr, address)
        cls.one.write_namespace("x")
        for node in addresses:
            node.start_daemon(*cls.OPTIONS)
        cls.a, cls.b = cls.one.add_pod("x", "a"), cls.two.add_pod("x", "b")
        for pod in (cls.a, cls.b):
            cls.one.write_pod("x", pod.pod, address=pod.address)
        cls.echoes = {where: Echo(where, TARGET) for where in (cls.a, cls.b, cls.world, cls.one, cls.two)}

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        for node, pod in ((cls.one, cls.a), (cls.two, cls.b)):
            node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
        for namespace in (cls.one, cls.two, cls.world, cls.fabric):
            namespace.delete()

    def serve(self, *backends, **spec):
        """By {address: node}, or addresses."""
        listed = [{"addresses": [b[0]], "conditions": {"ready": True}, "nodeName": b[1].name} if isinstance(b, tuple) else b
                  for b in backends]
        known = os.path.exists(os.path.join(self.one.folder, "service-web.yaml"))
        self.one.write("service-web", service("web", CLUSTER_IP, **spec), slice_of("web", *listed))
        if not known:
            self.addCleanup(self.unserve)
        for node in (self.one, self.two):
            node.settle()

    def unserve(self):
        if os.path.exists(os.path.join(self.one.folder, "service-web.yaml")):
            self.one.remove("service-web")
        for node in (self.one, self.two):
            node.settle()

    def node_port(self, *backends, **spec):
        ports = [{"name": p.lower(), "protocol": p, "port": PORT, "nodePort": NODE_PORT} for p in ("TCP", "UDP")]
        self.serve(*backends, type="NodePort", ports=ports, **spec)

    def assert_served(self, client, address, port, by, seen=None):
        """Over TCP and UDP, each `by` that backend, which sees `seen` as the client."""
        for reaches in (lambda: outcome(client, address, port) == "answered", lambda: udp_reaches(client, address, port)):
            before = len(self.echoes[by].peers)
            self.assertTrue(reaches())
            self.assertEqual(before + 1, len(self.echoes[by].peers))
            if seen:
                self.assertEqual(seen, self.echoes[by].peers[-1])

    # ---- the node as a client
    def test_a_backend_here(self):
        self.serve((self.a.address, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.a)

    def test_a_backend_on_another_node(self):
        self.serve((self.b.address, self.two))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.b)

    def test_a_backend_that_is_another_node(self):
        self.serve((TWO, self.two))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.two, ONE)

    def test_a_backend_in_the_world(self):
        self.serve(WORLD)
        self.assert_served(self.one, CLUSTER_IP, PORT, self.world, ONE)

    def test_a_backend_that_is_the_node_itself(self):
        self.serve((ONE, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.one)

    def test_without_a_backend_the_client_is_told_at_once(self):
        self.serve()
        self.assertEqual("refused", outcome(self.one, CLUSTER_IP, PORT))
        self.assertTrue(udp_is_refused(self.one, CLUSTER_IP, PORT, 1))
        self.serve((self.a.address, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.a)

    def test_programs_see_the_service(self):
        for backend in ((self.a.address, self.one), (self.b.address, self.two), (ONE, self.one)):
            self.serve(backend)
            self.assertEqual((CLUSTER_IP, PORT), peer_seen(self.one, CLUSTER_IP, PORT))
            self.assertEqual((CLUSTER_IP, PORT), answerer_seen(self.one, CLUSTER_IP, PORT))
            self.assertEqual((CLUSTER_IP, PORT), answerer_seen(self.one, CLUSTER_IP, PORT, connect=True))

    def test_ipv6_sockets(self):
        mapped = "::ffff:" + CLUSTER_IP
        self.serve((self.b.address, self.two))
        self.assertEqual((mapped, PORT), peer_seen(self.one, mapped, PORT, socket.AF_INET6))
        for connect in (False, True):
            self.assertEqual((mapped, PORT), answerer_seen(self.one, mapped, PORT, socket.AF_INET6, connect))

    def test_the_same_source_port_directly_and_by_the_service(self):
        for backend, node in ((self.a, self.one), (self.b, self.two)):
            self.serve((backend.address, node))
            for n in range(100):
                port = 40000 + n % 3
                for address, number in ((CLUSTER_IP, PORT), (backend.address, TARGET)):
                    self.assertEqual("answered", outcome(self.one, address, number, 3, port), (n, address))

    def test_connections_spread_over_the_backends(self):
        self.serve((self.a.address, self.one), (self.b.address, self.two))
        before = [len(self.echoes[pod].peers) for pod in (self.a, self.b)]
        for _ in range(60):
            self.assertEqual("answered", outcome(self.one, CLUSTER_IP, PORT))
        a, b = (len(self.echoes[pod].peers) - n for pod, n in zip((self.a, self.b), before))
        self.assertEqual(60, a + b)
        self.assertGreater(min(a, b), 8, (a, b))

    def test_a_client_keeps_its_backend(self):
        affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
        self.serve((self.a.address, self.one), (self.b.address, self.two), **affinity)
        before = [len(self.echoes[pod].peers) for pod in (self.a, self.b)]
        for _ in range(20):
            self.assertEqual("answered", outcome(self.one, CLUSTER_IP, PORT))
        self.assertEqual([0, 20], sorted(len(self.echoes[pod].peers) - n for pod, n in zip((self.a, self.b), before)))

    def test_an_established_connection_outlives_a_restart(self):
        self.serve((self.b.address, self.two))
        stream = TcpStream(self.one, CLUSTER_IP, PORT)
        self.one.kill_daemon()
        self.one.start_daemon(*self.OPTIONS)
        rounds = stream.rounds
        wait_for("the connection to go on", lambda: stream.rounds > rounds + 5, 3)
        stream.end()
        self.assertEqual(0, stream.resets)
        self.assertEqual([], self.one.get("/v1/status")["audit"])
        self.assert_served(self.one, CLUSTER_IP, PORT, self.b)

    def test_routes_follow_the_services(self):
        self.serve((self.a.address, self.one))
        self.assertIn(CLUSTER_IP, self.one.ip("route", "show", "table", "8300"))
        self.one.ip("route", "del", CLUSTER_IP, "table", "8300")
        self.assertIn(f"the node's route to {CLUSTER_IP}/32 is missing", self.one.get("/v1/status")["audit"])
        self.assertIn(f"unreachable {CLUSTER_IP}", self.one.ip("route", "show", "table", "8301"))
        self.one.ip("route", "del", "unreachable", CLUSTER_IP, "table", "8301")
        self.assertIn(f"the unreachable route to {CLUSTER_IP}/32 is missing", self.one.get("/v1/status")["audit"])
        self.unserve()
        for table in ("8300", "8301"):
            self.assertEqual("", self.one.ip("route", "show", "table", table))
        self.serve((self.a.address, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.a)
        self.assertEqual([], self.one.get("/v1/status")["audit"])

    # ---- what no Service has
    def test_a_cluster_ip_leads_nowhere_else(self):
        """Though somebody out there has the address, and would answer."""
        self.serve((self.a.address, self.one))
        self.lead_out()
        self.world.ip("addr", "add", f"{CLUSTER_IP}/32", "dev", "lo")
        self.addCleanup(self.world.ip, "addr", "del", f"{CLUSTER_IP}/32", "dev", "lo")
        for client in (self.a, self.one):
            self.assertEqual("refused", outcome(client, CLUSTER_IP, TARGET))
            self.assertTrue(udp_is_refused(client, CLUSTER_IP, TARGET, 1))
            pinged = subprocess.run(client.enter("ping", "-n", "-c", "1", "-W", "5", CLUSTER_IP), capture_output=True, text=True,
                                    check=False).stdout
            self.assertIn(f"From {CLUSTER_IP} icmp_seq=1 Destination Port Unreachable", pinged)
            self.assert_served(client, CLUSTER_IP, PORT, self.a)

    def test_what_comes_from_outside_for_a_cluster_ip_goes_no_further(self):
        """Nor back to the router that sent it."""
        self.serve((self.a.address, self.one))
        self.lead_out()
        self.world.ip("route", "add", CLUSTER_IP, "via", ONE)
        self.addCleanup(self.world.ip, "route", "del", CLUSTER_IP, "via", ONE)
        for router in (self.one, self.world):
            router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        outside = Namespace("ns-outside")
        self.addCleanup(outside.delete)
        self.fabric.join(outside, "192.0.2.98")
        outside.ip("route", "add", CLUSTER_IP, "via", ONE)
        before = forwarded(self.world)
        for port in (PORT, TARGET):
            with self.assertRaises(OSError) as told:
                outcome(outside, CLUSTER_IP, port)
            self.assertEqual(errno.EHOSTUNREACH, told.exception.errno)
        self.assertEqual(before, forwarded(self.world))

    def test_no_address_of_a_service_range_leads_elsewhere(self):
        free, ranges = "10.96.77.7", {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"},
                                      "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112", "192.0.2.0/24"]}}
        self.serve((self.a.address, self.one))
        self.lead_out()
        self.world.ip("addr", "add", f"{free}/32", "dev", "lo")
        self.addCleanup(self.world.ip, "addr", "del", f"{free}/32", "dev", "lo")
        self.assertEqual("answered", outcome(self.a, free, TARGET), "nobody knows that it is a Service's")
        self.one.write("ranges", ranges)
        self.addCleanup(self.forget_ranges)
        self.one.settle()
        for client in (self.a, self.one):
            self.assertEqual("refused", outcome(client, free, TARGET))
            self.assert_served(client, CLUSTER_IP, PORT, self.a)
        # A range that has the node in it is wrong, and takes nothing from it.
        for client in (self.a, self.one):
            self.assertEqual("answered", outcome(client, WORLD, TARGET))
        for table in ("8300", "8301"):
            routes = self.one.ip("route", "show", "table", table)
            self.assertIn("10.96.0.0/16", routes)
            self.assertEqual(1, len(routes.splitlines()), "none for each Service")
        self.assertEqual([], self.one.get("/v1/status")["audit"])
        self.forget_ranges()
        self.assertEqual("answered", outcome(self.a, free, TARGET))
        self.assertEqual("refused", outcome(self.a, CLUSTER_IP, TARGET))
        self.assertEqual([], self.one.get("/v1/status")["audit"])

    def forget_ranges(self):
        if os.path.exists(os.path.join(self.one.folder, "ranges.yaml")):
            self.one.remove("ranges")
        self.one.settle()

    def lead_out(self):
        self.one.ip("route", "add", "default", "via", WORLD)
        self.addCleanup(self.one.ip, "route", "del", "default", "via", WORLD)

    # ---- the node as a backend
    def test_a_node_port_without_a_backend_is_refused_outside(self):
        self.node_port()
        self.assertEqual("refused", outcome(self.world, ONE, NODE_PORT))
        self.assertTrue(udp_is_refused(self.world, ONE, NODE_PORT, 1))

    def test_a_node_port_of_the_node_that_is_the_backend(self):
        for policy in ("Cluster", "Local"):
            with self.subTest(policy):
                self.node_port((ONE, self.one), externalTrafficPolicy=policy)
                self.assert_served(self.world, ONE, NODE_PORT, self.one)
                self.assert_served(self.a, ONE, NODE_PORT, self.one)
                self.assert_served(self.b, ONE, NODE_PORT, self.one)

    def test_a_node_port_of_another_node_than_the_backend(self):
        self.node_port((ONE, self.one))
        for client in (self.world, self.a, self.b):
            self.assert_served(client, TWO, NODE_PORT, self.one, TWO)

    def test_a_closed_port_of_the_node_is_told_outside(self):
        self.node_port((ONE, self.one))
        ports = [{"name": p.lower(), "protocol": p, "port": TARGET + 1} for p in ("TCP", "UDP")]
        self.one.write("service-web", *[
            {**o, "ports": ports} if o["kind"] == "EndpointSlice" else o
            for o in (service("web", CLUSTER_IP, type="NodePort",
                              ports=[{"name": p.lower(), "protocol": p, "port": PORT, "nodePort": NODE_PORT} for p in ("TCP", "UDP")]),
                      slice_of("web", {"addresses": [ONE], "conditions": {"ready": True}, "nodeName": self.one.name}))])
        self.one.settle()
        self.assertEqual("refused", outcome(self.world, ONE, NODE_PORT))
        self.assertTrue(udp_is_refused(self.world, ONE, NODE_PORT, 1))

    def test_a_pod_reaches_a_service_of_its_own_node_and_of_another(self):
        for address, node in ((ONE, self.one), (TWO, self.two)):
            self.serve((address, node))
            self.assert_served(self.a, CLUSTER_IP, PORT, node)


class SocketNodeServicesTest(NodeServices):
    """At the socket."""
    CGROUP = "/run/cgroup"
    OPTIONS = (f"--cgroup={CGROUP}",)

    @classmethod
    def setUpClass(cls):
        with open("/proc/mounts", encoding="utf-8") as mounts:
            unified = next(path for _, path, kind, *_ in map(str.split, mounts) if kind == "cgroup2")
        os.makedirs(cls.CGROUP)
        run("mount", "--bind", unified, cls.CGROUP)
        run("mount", "-o", "remount,bind,ro", cls.CGROUP)  # as the chart mounts it: hooks need no more
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        run("umount", cls.CGROUP)

    def test_a_node_port(self):
        self.node_port((self.b.address, self.two))
        for address in (ONE, TWO, "127.0.0.1"):
            self.assert_served(self.one, address, NODE_PORT, self.b)

    def test_what_the_node_serves_on_localhost_is_taken_by_node_ports_only(self):
        ports = [{"name": p.lower(), "protocol": p, "port": TARGET, "targetPort": TARGET} for p in ("TCP", "UDP")]
        for claim in ({"externalIPs": [ONE]}, {"balancers": [ONE], "type": "LoadBalancer"}):
            with self.subTest(claim):
                self.serve((self.b.address, self.two), ports=ports, **claim)
                self.assert_served(self.one, "127.0.0.1", TARGET, self.one)

    def test_source_ranges_are_the_nodes_too(self):
        balanced = {"balancers": ["10.96.88.88"], "type": "LoadBalancer"}
        self.serve((self.b.address, self.two), loadBalancerSourceRanges=[f"{WORLD}/32"], **balanced)
        self.assertEqual("forbidden", outcome(self.one, "10.96.88.88", PORT))
        self.serve((self.b.address, self.two), loadBalancerSourceRanges=[f"{ONE}/32"], **balanced)
        self.assert_served(self.one, "10.96.88.88", PORT, self.b)

    def test_no_packet_is_translated(self):
        self.serve((self.a.address, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.a, "10.83.21.1")

    def test_pods_sockets_are_left_alone(self):
        def remembered():
            return run("bpftool", "map", "dump", "pinned", f"{self.one.bpffs}/sluice/v1/socket_peers").count("key")
        self.serve((self.b.address, self.two))
        before = remembered()
        self.assert_served(self.a, CLUSTER_IP, PORT, self.b, self.a.address)
        self.assertEqual(before, remembered())
        self.assert_served(self.one, CLUSTER_IP, PORT, self.b)
        self.assertEqual(before + 2, remembered())

    def test_what_somebody_detaches_is_told_and_attached_again(self):
        pin = os.path.join(self.one.bpffs, "sluice", "v1", "sockets", "connect4")
        os.unlink(pin)
        wait_for("the hook to be attached again", lambda: os.path.exists(pin), 15)
        self.serve((self.a.address, self.one))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.a)
        with open(self.one.log, encoding="utf-8") as log:
            self.assertIn("connect4 of cgroup", log.read())


class PacketNodeServicesTest(NodeServices):
    """Packet by packet."""
    OPTIONS = ("--cgroup=none",)

    def test_the_node_is_the_client_that_backends_see(self):
        self.serve((self.b.address, self.two))
        self.assert_served(self.one, CLUSTER_IP, PORT, self.b, ONE)

    def test_both_at_once_from_one_source_port(self):
        """Packet by packet, the answers of one must not be taken for the other's."""
        self.serve((self.a.address, self.one))

        def attempt():
            sockets = []
            try:
                for target in ((self.a.address, TARGET), (CLUSTER_IP, PORT)):
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    sockets.append(s)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    s.settimeout(3)
                    s.bind(("10.83.21.1", 41000))
                    s.connect(target)
                answers = []
                for _ in range(3):
                    for n, s in enumerate(sockets):
                        s.send(b"%d" % n)
                        answers.append(s.recv(16))
                return answers
            finally:
                for s in sockets:
                    s.close()
        self.assertEqual([b"0", b"1"] * 3, in_namespace(self.one.path, attempt))

    def test_sockets_are_given_up_when_switched_off(self):
        folder = os.path.join(self.one.bpffs, "sluice", "v1", "sockets")
        self.assertEqual([], os.listdir(folder))
        self.one.kill_daemon()
        self.one.start_daemon()
        self.assertIn("connect4", os.listdir(folder))
        self.one.kill_daemon()
        self.one.start_daemon(*self.OPTIONS)
        self.assertEqual([], os.listdir(folder))


del NodeServices  # the two above are the tests


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
