#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services on one node and on two: the built daemon and CNI binary, real traffic, no cluster and no kube-proxy.

    service_test.py BUILD_FOLDER [unittest options]
"""
import http.client
import json
import os
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from deadline import deadline  # noqa: E402
from sluice_node import Fabric, Namespace, Node, run, wait_for, world_beyond  # noqa: E402
from traffic import Echo, TcpStream, in_namespace, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
PORT, TARGET, NODE_PORT = 80, 8080, 30080
NODE, WORLD = "192.0.2.1", "192.0.2.2"


def service(name, address, balancers=(), **spec):
    ports = spec.pop("ports", None) or [{"name": p.lower(), "protocol": p, "port": PORT, "targetPort": TARGET} for p in ("TCP", "UDP")]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "x"},
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports, **spec},
            "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in balancers]}}}


def slice_of(name, *endpoints):
    """`endpoints`: addresses, or dicts as in the API."""
    listed = [e if isinstance(e, dict) else {"addresses": [e], "conditions": {"ready": True}} for e in endpoints]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "x", "labels": {"kubernetes.io/service-name": name}}, "endpoints": listed,
            "ports": [{"name": p.lower(), "protocol": p, "port": TARGET} for p in ("TCP", "UDP")]}


def outcome(namespace, address, port, seconds=2.0, source_port=0):
    """What becomes of a new TCP connection: "answered", "refused", "silent", "forbidden" (EPERM)."""
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.settimeout(deadline(seconds))
            try:
                if source_port:  # a reset at the end: no TIME_WAIT in the way of the next one
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.bind(("0.0.0.0", source_port))
                s.connect((address, port))
                s.sendall(b"sluice")
                return "answered" if s.recv(16) == b"sluice" else "closed"
            except ConnectionRefusedError:
                return "refused"
            except PermissionError:
                return "forbidden"
            except TimeoutError:
                return "silent"
    return in_namespace(namespace.path, attempt)


class ServiceTest(sluice_test.SluiceTest):
    """Pods a and b, which serve, and c, which does not; a world beyond the uplink."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "services", "10.83.1.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.world.ip("route", "add", "10.96.0.0/16", "via", NODE)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.a, cls.b, cls.c = (cls.node.add_pod("x", name, {"app": name}) for name in "abc")
        cls.echoes = {where: Echo(where, TARGET) for where in (cls.a, cls.b, cls.world)}

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        cls.world.delete()
        cls.node.delete()

    def serve(self, name, address, *endpoints, **spec):
        known = os.path.exists(os.path.join(self.node.folder, f"service-{name}.yaml"))
        self.node.write(f"service-{name}", service(name, address, **spec), slice_of(name, *endpoints))
        if not known:
            self.addCleanup(self.unserve, name)
        self.node.settle()

    def unserve(self, name):
        self.node.remove(f"service-{name}")
        self.node.settle()

    def peers(self, where):
        return self.echoes[where].peers

    # ---- pods
    def test_pods_reach_a_service_and_see_its_address(self):
        self.serve("web", "10.96.0.1", self.b.address)
        for client in (self.a, self.c):
            self.assertEqual("answered", outcome(client, "10.96.0.1", PORT))
            self.assertTrue(udp_reaches(client, "10.96.0.1", PORT))
        self.assertEqual(self.c.address, self.peers(self.b)[-1], "the backend sees the client's own address")

    def test_connections_spread_over_the_backends(self):
        self.serve("web", "10.96.0.1", self.a.address, self.b.address)
        before = [len(self.peers(where)) for where in (self.a, self.b)]
        for _ in range(100):
            self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        a, b = (len(self.peers(where)) - n for where, n in zip((self.a, self.b), before))
        self.assertEqual(100, a + b)
        self.assertGreater(min(a, b), 20, (a, b))

    def test_connections_are_counted_by_backend(self):
        self.serve("web", "10.96.0.1", self.b.address)
        for _ in range(2):
            stream = TcpStream(self.c, "10.96.0.1", PORT)
            self.addCleanup(stream.end)
        wait_for("two connections to be counted", lambda: [2] == [
            b["connections"] for s in self.node.get("/v1/services")["services"] if s["service"] == "x/web:tcp" for b in s["backends"]], 15)
        self.assertIn(f'sluice_service_connections{{service="x/web:tcp",backend="{self.b.address}:{TARGET}"}} 2', self.node.metrics())

    def test_a_pod_reaches_itself_by_its_service(self):
        self.serve("web", "10.96.0.1", self.a.address)
        self.assertEqual("answered", outcome(self.a, "10.96.0.1", PORT))
        self.assertTrue(udp_reaches(self.a, "10.96.0.1", PORT))

    def test_a_service_of_the_world(self):
        self.serve("outside", "10.96.0.2", WORLD)
        self.assertEqual("answered", outcome(self.a, "10.96.0.2", PORT))
        self.assertEqual(NODE, self.peers(self.world)[-1], "masqueraded")

    def test_a_service_of_the_node_itself(self):
        echo = Echo(self.node, TARGET)
        self.addCleanup(echo.close)
        self.serve("host", "10.96.0.3", NODE)
        self.assertEqual("answered", outcome(self.a, "10.96.0.3", PORT))
        self.assertTrue(udp_reaches(self.a, "10.96.0.3", PORT))

    def test_a_load_balancer_is_told_whether_the_node_has_endpoints(self):
        def ask():
            def attempt():
                connection = http.client.HTTPConnection(NODE, 32000, timeout=deadline(2))
                try:
                    connection.request("GET", "/healthz")
                    answer = connection.getresponse()
                    return answer.status, json.loads(answer.read())["localEndpoints"]
                except ConnectionRefusedError:
                    return None
                finally:
                    connection.close()
            return in_namespace(self.world.path, attempt)

        def endpoint(address, node, ready=True):
            return {"addresses": [address], "nodeName": node, "conditions": {"ready": ready, "serving": True, "terminating": not ready}}

        balanced = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
        self.serve("web", "10.96.0.1", endpoint(self.a.address, self.node.name), **balanced)
        self.assertEqual((200, 1), ask())
        self.serve("web", "10.96.0.1", endpoint(self.a.address, self.node.name, False), **balanced)
        self.assertEqual((503, 0), ask(), "it terminates, and is served as long as balancers come")
        self.serve("web", "10.96.0.1", endpoint("10.83.2.2", "elsewhere"), **balanced)
        self.assertEqual((503, 0), ask())
        self.serve("web", "10.96.0.1", endpoint(self.a.address, self.node.name))
        self.assertIsNone(ask())

    def test_without_a_backend_the_client_is_told_at_once(self):
        self.serve("web", "10.96.0.1")
        begin = time.monotonic()
        self.assertEqual("refused", outcome(self.a, "10.96.0.1", PORT))
        self.assertTrue(udp_is_refused(self.a, "10.96.0.1", PORT, 1))
        self.assertLess(time.monotonic() - begin, 1.5)
        self.serve("web", "10.96.0.1", self.b.address)
        self.assertEqual("answered", outcome(self.a, "10.96.0.1", PORT))

    def test_only_ready_backends_are_chosen_and_those_that_end_if_nothing_else_is_left(self):
        ending = {"addresses": [self.a.address], "conditions": {"ready": False, "serving": True, "terminating": True}}
        self.serve("web", "10.96.0.1", ending, self.b.address)
        before = len(self.peers(self.a))
        for _ in range(20):
            self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        self.assertEqual(before, len(self.peers(self.a)))
        self.serve("web", "10.96.0.1", ending)
        self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        self.assertEqual(before + 1, len(self.peers(self.a)))

    def test_a_client_keeps_its_backend(self):
        affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
        self.serve("web", "10.96.0.1", self.a.address, self.b.address, **affinity)
        before = {where: len(self.peers(where)) for where in (self.a, self.b)}
        for n in range(30):
            if n == 15:  # the next daemon knows of it, too
                self.node.kill_daemon()
                self.node.start_daemon()
            self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        served = {where: len(self.peers(where)) - count for where, count in before.items()}
        self.assertEqual([0, 30], sorted(served.values()))
        kept, other = sorted(served, key=served.get, reverse=True)
        self.serve("web", "10.96.0.1", other.address, **affinity)
        self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        self.serve("web", "10.96.0.1", kept.address, other.address, **affinity)
        before = len(self.peers(other))
        for _ in range(10):
            self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        self.assertEqual(before + 10, len(self.peers(other)), "the last one counts")
        self.assertEqual([], self.node.get("/v1/status")["audit"])

    def test_policy_sees_the_backend(self):
        self.serve("web", "10.96.0.1", self.b.address)
        before = self.node.generation()
        self.node.write_policy("x", "web", {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "c"}}}], "ports": [{"port": TARGET}]}]})
        self.addCleanup(self.node.remove, "policy-x-web")
        wait_for("the policy to be live", lambda: self.node.generation() > before)
        self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))
        self.assertEqual("silent", outcome(self.a, "10.96.0.1", PORT, 0.5))

    def test_an_established_connection_outlives_changes(self):
        self.serve("web", "10.96.0.1", self.b.address)
        stream = TcpStream(self.c, "10.96.0.1", PORT)
        self.serve("web", "10.96.0.1", self.a.address)
        before = self.node.generation()
        self.node.write_policy("x", "swap", {"podSelector": {"matchLabels": {"app": "c"}}, "policyTypes": ["Ingress"]})
        self.addCleanup(self.node.remove, "policy-x-swap")
        wait_for("the firewall to be swapped", lambda: self.node.generation() > before)
        self.node.kill_daemon()
        time.sleep(0.2)
        self.node.start_daemon()
        rounds = stream.rounds
        wait_for("the connection to go on", lambda: stream.rounds > rounds + 5, 3)
        stream.end()
        self.assertEqual(0, stream.resets)
        self.assertEqual("answered", outcome(self.c, "10.96.0.1", PORT))

    def test_a_restart_changes_nothing_in_the_kernel(self):
        self.serve("web", "10.96.0.1", self.a.address, self.b.address, externalIPs=["10.96.77.78"])
        self.serve("empty", "10.96.0.6")

        def dump(name):
            return sorted(run("bpftool", "map", "dump", "pinned", f"{self.node.bpffs}/sluice/v1/{name}").splitlines())
        before = dump("services")
        self.node.kill_daemon()
        self.node.start_daemon()
        self.node.settle()
        self.assertEqual(before, dump("services"), "the slots are taken over")
        self.assertEqual([], self.node.get("/v1/status")["audit"])
        # What was deleted while no daemon ran is taken away by the next.
        self.node.kill_daemon()
        self.node.remove("service-empty")
        self.node.start_daemon()
        self.node.settle()
        self.assertLess(len(dump("services")), len(before))
        self.assertEqual([], self.node.get("/v1/status")["audit"])
        self.node.write("service-empty", service("empty", "10.96.0.6"))

    def test_the_same_source_port_directly_and_by_the_service(self):
        self.serve("web", "10.96.0.1", self.b.address)
        for n in range(300):
            port = 40000 + n % 3
            for address, number in (("10.96.0.1", PORT), (self.b.address, TARGET)):
                self.assertEqual("answered", outcome(self.c, address, number, 3, port), (n, address))

    def test_both_at_once_from_one_source_port(self):
        self.serve("web", "10.96.0.1", self.b.address)

        def attempt():
            sockets = []
            try:
                for target in (("10.96.0.1", PORT), (self.b.address, TARGET)):
                    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    sockets.append(s)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    s.settimeout(deadline(3))
                    s.bind(("0.0.0.0", 41000))
                    s.connect(target)
                answers = []
                for n, s in enumerate(sockets):
                    s.sendall(b"%d" % n)
                for s in sockets:
                    answers.append(s.recv(16))
                return answers
            finally:
                for s in sockets:
                    s.close()
        self.assertEqual([b"0", b"1"], in_namespace(self.c.path, attempt))

    # ---- from outside
    def test_node_port(self):
        ports = [{"name": "tcp", "protocol": "TCP", "port": PORT, "nodePort": NODE_PORT},
                 {"name": "udp", "protocol": "UDP", "port": PORT, "nodePort": NODE_PORT}]
        for policy, seen in (("Cluster", NODE), ("Local", WORLD)):
            with self.subTest(policy):
                here = {"addresses": [self.b.address], "conditions": {"ready": True}, "nodeName": self.node.name}
                self.serve("np", "10.96.0.4", here, type="NodePort", ports=ports, externalTrafficPolicy=policy)
                self.assertEqual("answered", outcome(self.world, NODE, NODE_PORT))
                self.assertEqual(seen, self.peers(self.b)[-1])
                self.assertTrue(udp_reaches(self.world, NODE, NODE_PORT))
                self.assertEqual("answered", outcome(self.a, NODE, NODE_PORT), "a pod, too")

    def test_cluster_addresses_are_not_served_outside(self):
        self.serve("web", "10.96.0.1", self.b.address)
        self.assertNotEqual("answered", outcome(self.world, "10.96.0.1", PORT, 0.5))

    def test_external_address(self):
        self.serve("ext", "10.96.0.5", self.b.address, externalIPs=["10.96.77.77"])
        self.assertEqual("answered", outcome(self.world, "10.96.77.77", PORT))
        self.assertEqual("answered", outcome(self.a, "10.96.77.77", PORT))

    def test_source_ranges_of_a_load_balancer(self):
        address = "10.96.88.88"

        def serve(*ranges):
            self.serve("lb", "10.96.0.5", self.b.address, balancers=[address], type="LoadBalancer", loadBalancerSourceRanges=ranges)

        serve(f"{WORLD}/32", "198.51.100.0/24")
        self.assertEqual("answered", outcome(self.world, address, PORT))
        self.assertEqual("silent", outcome(self.c, address, PORT, 0.5), "pods are sources as others")
        self.assertEqual("answered", outcome(self.c, "10.96.0.5", PORT), "the cluster IP has no ranges")
        serve(f"{self.c.address}/32")
        self.assertEqual("silent", outcome(self.world, address, PORT, 0.5))
        self.assertEqual("answered", outcome(self.c, address, PORT))
        self.assertEqual([], self.node.get("/v1/status")["audit"])
        self.node.kill_daemon()
        self.node.start_daemon()
        self.node.settle()
        self.assertEqual("silent", outcome(self.world, address, PORT, 0.5))
        self.assertEqual("answered", outcome(self.c, address, PORT))
        serve()
        self.assertEqual("answered", outcome(self.world, address, PORT))
        self.assertEqual([], self.node.get("/v1/status")["audit"])

    def test_what_is_malformed_is_told_and_changes_nothing(self):
        self.serve("web", "10.96.0.1", self.b.address)
        broken = service("web", "10.96.0.1")
        broken["spec"]["ports"][0]["port"] = 70000
        self.node.write("service-web", broken, slice_of("web", self.b.address))
        wait_for("the error to be told", lambda: any("70000" in text for text in self.node.get("/v1/status")["rejected"]))
        self.assertEqual("answered", outcome(self.a, "10.96.0.1", PORT))


class ServiceTwoNodesTest(sluice_test.SluiceTest):
    """Pod a on one node, pod b on the other; a host outside that knows both nodes."""

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "svc-one", "10.83.11.0/24")
        cls.two = Node(BUILD, "svc-two", "10.83.12.0/24", folder=cls.one.folder)
        cls.fabric, cls.world = Fabric("svc-fabric"), Namespace("svc-world")
        addresses = {cls.one: "192.0.2.11", cls.two: "192.0.2.12"}
        for where, address in {**addresses, cls.world: "192.0.2.99"}.items():
            cls.fabric.join(where, address)
        for node, address in addresses.items():
            cls.one.write_node(node.name, node.pod_cidr, address)
        cls.one.write_namespace("x")
        for node in addresses:
            node.start_daemon()
        cls.a, cls.b = cls.one.add_pod("x", "a"), cls.two.add_pod("x", "b")
        for pod in (cls.a, cls.b):
            cls.one.write_pod("x", pod.pod, address=pod.address)
        cls.echo = Echo(cls.b, TARGET)
        ports = [{"name": p.lower(), "protocol": p, "port": PORT, "nodePort": NODE_PORT} for p in ("TCP", "UDP")]
        there = {"addresses": [cls.b.address], "conditions": {"ready": True}, "nodeName": cls.two.name}
        cls.one.write("service-web", service("web", "10.96.0.1", type="NodePort", ports=ports), slice_of("web", there))
        for node in addresses:
            wait_for("the Service", lambda n=node: n.get("/v1/status")["services"]["frontends"] > 0)

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        for node, pod in ((cls.one, cls.a), (cls.two, cls.b)):
            node.delete_pod(pod)
            node.kill_daemon(signal.SIGTERM)
        for namespace in (cls.one, cls.two, cls.world, cls.fabric):
            namespace.delete()

    def test_a_backend_on_another_node(self):
        self.assertEqual("answered", outcome(self.a, "10.96.0.1", PORT))
        self.assertEqual(self.a.address, self.echo.peers[-1])
        self.assertTrue(udp_reaches(self.a, "10.96.0.1", PORT))

    def test_a_node_port_of_the_node_without_the_backend(self):
        for node, address in ((self.one, "192.0.2.11"), (self.two, "192.0.2.12")):
            self.assertEqual("answered", outcome(self.world, address, NODE_PORT), node.name)
            self.assertEqual(address, self.echo.peers[-1], "masqueraded by the node that was asked")
            self.assertTrue(udp_reaches(self.world, address, NODE_PORT), node.name)

    def test_a_pod_uses_the_other_nodes_node_port(self):
        self.assertEqual("answered", outcome(self.a, "192.0.2.12", NODE_PORT))

    def test_an_external_ip_is_no_external_address_of_another_node(self):
        public = "198.51.100.12"
        self.one.write_node(self.two.name, self.two.pod_cidr, "192.0.2.12", external=public)
        self.one.write("service-thief", service("thief", "10.96.0.9", externalIPs=[public]), slice_of("thief", self.b.address))

        def refused():
            services = self.one.get("/v1/services")
            return "x/thief" in str(services["rejected"]) and not [s for s in services["services"] if s["address"] == public]
        wait_for("the claim to be refused", refused)
        self.one.remove("service-thief")


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
