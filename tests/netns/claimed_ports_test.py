#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node whose every ephemeral port is claimed by node ports and host ports: its own connections to hosts outside live on,
new ones open, and sluiced hears from the API server, by such a port itself, that the claims are gone.

    claimed_ports_test.py BUILD_FOLDER [unittest options]
"""
import os
import selectors
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "..", "bench")]
import sluice_test  # noqa: E402
from measure import fake_api  # noqa: E402
from service_test import outcome, service, slice_of  # noqa: E402
from sluice_node import Node, Pod, wait_for, world_beyond  # noqa: E402
from traffic import Echo, bound, in_namespace  # noqa: E402

BUILD = ""
NODE, WORLD = "192.0.2.1", "192.0.2.2"
API_PORT, SERVER_PORT, TARGET = 6443, 9000, 8080
FIRST, LAST = 36000, 39999  # the node's ephemeral ports
HOST_PORTS = range(39500, 40000)
SERVICES = (range(36000, 37750), range(37750, 39500))  # their node ports
CONNECTIONS = 1000


class Server:
    """Answers any number of connections and datagrams with what it got."""

    def __init__(self, namespace, port):
        self.ready = selectors.DefaultSelector()
        self.ended = False
        self.listener, self.udp = bound(namespace, socket.SOCK_STREAM, port), bound(namespace, socket.SOCK_DGRAM, port)
        for s in (self.listener, self.udp):
            self.ready.register(s, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.ended:
            for key, _ in self.ready.select(0.2):
                s = key.fileobj
                if s is self.listener:
                    self.ready.register(s.accept()[0], selectors.EVENT_READ)
                elif s is self.udp:
                    s.sendto(*s.recvfrom(64))
                else:
                    try:
                        data = s.recv(64)
                        s.sendall(data)
                    except OSError:
                        data = b""
                    if not data:
                        self.ready.unregister(s)
                        s.close()

    def close(self):
        self.ended = True
        self.thread.join()
        for key in list(self.ready.get_map().values()):
            key.fileobj.close()


class ClaimedPortsTest(sluice_test.SluiceTest):
    def setUp(self):
        self.node = Node(BUILD, "claimed", "10.83.1.0/24")
        self.world = world_beyond(self.node, NODE, WORLD)
        self.node.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={FIRST} {LAST}")
        self.api = fake_api.Server(bound(self.world, socket.SOCK_STREAM, API_PORT), {
            "nodes": [{"metadata": {"name": self.node.name, "resourceVersion": "1"}, "spec": {"podCIDRs": [self.node.pod_cidr]},
                       "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}}],
            "namespaces": [{"metadata": {"name": "x", "resourceVersion": "1"}}],
            "pods": [{"metadata": {"name": "a", "namespace": "x", "uid": "a", "resourceVersion": "1"}, "spec": {}, "status": {}}]})
        self.source = ["--source=kube", f"--kubeconfig={fake_api.kubeconfig(self.node.home, API_PORT, WORLD)}"]
        self.node.start_daemon(source=self.source)
        self.server = Server(self.world, SERVER_PORT)
        self.connections = []

    def tearDown(self):
        for s in self.connections:
            s.close()
        self.server.close()
        self.echo.close()
        self.node.cni("DEL", self.pod.container_id, self.pod.path)
        self.node.kill_daemon(signal.SIGTERM)
        self.api.shutdown()
        for namespace in (self.pod, self.node, self.world):
            namespace.delete()

    def claims(self):
        for n, ports in enumerate(SERVICES):
            told = service(f"web{n}", f"10.96.0.{n + 1}", type="NodePort", ports=[
                {"name": f"p{p}", "protocol": "TCP", "port": p, "nodePort": p, "targetPort": TARGET} for p in ports])
            slices = slice_of(f"web{n}", self.pod.address)
            slices["ports"] = [{"name": f"p{p}", "protocol": "TCP", "port": TARGET} for p in ports]
            yield told, slices

    def frontends(self):
        """How many ports of the node lead to pods."""
        return len({s["port"] for s in self.node.get("/v1/services")["services"] if s["address"] == NODE})

    def open(self, count):
        def connect():
            made = [socket.create_connection((WORLD, SERVER_PORT), 5) for _ in range(count)]
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made[-1].connect((WORLD, SERVER_PORT))
            made[-1].settimeout(5)
            return made
        made = in_namespace(self.node.path, connect)
        self.assertTrue(all(FIRST <= s.getsockname()[1] <= LAST for s in made))
        self.connections += made

    def all_live(self, when):
        for n, s in enumerate(self.connections):
            s.sendall(b"%8d" % n)
        for n, s in enumerate(self.connections):
            try:
                self.assertEqual(int(s.recv(64)), n)
            except OSError as error:
                self.fail(f"{when}: connection {n} of {len(self.connections)} from port {s.getsockname()[1]}: {error!r}")

    def test_the_nodes_own_connections_live_and_the_claims_can_be_taken_back(self):
        self.open(CONNECTIONS // 2)
        self.pod = Pod(self.node, "x", "a")
        self.node.attach(self.pod, self.node.config(runtimeConfig={"portMappings": [
            {"hostPort": p, "containerPort": TARGET, "protocol": "tcp"} for p in HOST_PORTS]}))
        self.echo = Echo(self.pod, TARGET)
        claims = list(self.claims())
        for told, slices in claims:
            self.api.push("services", told, "ADDED")
            self.api.push("endpointslices", slices, "ADDED")
            self.all_live("while claims come")
        wait_for("the claims", lambda: self.frontends() >= LAST - FIRST + 1, 30)
        served = [outcome(self.world, NODE, p) for p in range(FIRST, LAST + 1, 97) if p not in self.own_ports()]
        self.assertEqual(set(served), {"answered"}, "the claims are in force")
        self.all_live("after the claims")
        self.open(CONNECTIONS - CONNECTIONS // 2)
        self.all_live("new ones")
        for _ in range(3):  # the next daemon reaches the API server by a claimed port, too
            self.node.kill_daemon()
            self.all_live("without sluiced")
            self.node.start_daemon(source=self.source)
            time.sleep(0.5)
            self.all_live("with another sluiced")
        told, slices = claims[0]
        self.api.push("endpointslices", slices, "DELETED")
        self.api.push("services", told, "DELETED")
        wait_for("the first claims to go", lambda: self.frontends() == LAST - FIRST + 1 - len(SERVICES[0]), 20)
        self.all_live("after a claim was taken back")

    def own_ports(self):
        return {s.getsockname()[1] for s in self.connections}


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
