#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One client goes to backends in turns directly and by their Service, 500 times a second, from source ports that recur:
each attempt is answered, at once, by whom it was for, and under the client's own address. Closed by the client's reset,
or by the server, which then remembers the connection (TIME_WAIT) and must not take the next one's SYN for an old one's.

    service_load_test.py BUILD_FOLDER [unittest options]      SLUICE_SECONDS: how long, default 10
"""
import itertools
import os
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import PORT, TARGET, outcome, service, slice_of  # noqa: E402
from sluice_node import Fabric, Node, wait_for  # noqa: E402
from traffic import Echo, in_namespace  # noqa: E402

BUILD = ""
SECONDS = float(os.environ.get("SLUICE_SECONDS", 10))
RATE = 500
FIRST_PORT, PORTS = 20000, 31  # an odd number: a port goes directly the one time and by the Service the next
CLUSTER_IP = "10.96.0.1"
PATIENCE = 0.5  # seconds for an answer; a SYN that is lost is sent again after one
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closed by RST


class Whoami(Echo):
    """Answers each question with its own name, the client's address, and the question."""

    def __init__(self, namespace, name):
        self.name, self.closes = name, False
        super().__init__(namespace, TARGET)

    def answer(self, data, peer):
        return f"{self.name} {peer[0]} ".encode() + data

    def goes_on(self):
        return not self.closes


class Client:
    """Runs in the client's namespace."""

    def __init__(self, kind, targets, names, resets):
        self.kind, self.targets, self.names, self.resets = kind, targets, names, resets
        self.attempts, self.wrong, self.slowest = 0, [], 0.0

    def ask(self, target, port, question):
        with socket.socket(socket.AF_INET, self.kind) as s:
            s.settimeout(PATIENCE)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.kind == socket.SOCK_STREAM and self.resets:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            s.bind(("0.0.0.0", port))
            s.connect(target)  # an answer from another end would not come to the socket
            s.sendall(question)
            answer = s.recv(128)
            if self.kind == socket.SOCK_STREAM and not self.resets and s.recv(1):
                raise OSError("more than an answer")
            return answer.decode().split(" ", 2), s.getsockname()[0]

    def run(self):
        begin = time.monotonic()
        for number in itertools.count():
            due = begin + number / RATE
            if due > begin + SECONDS:
                return self
            time.sleep(max(0.0, due - time.monotonic()))
            target = self.targets[number % len(self.targets)]
            port = FIRST_PORT + number % PORTS
            started = time.monotonic()
            self.attempts += 1
            try:
                (name, address, question), own = self.ask(target, port, b"%d" % number)
            except OSError as error:
                self.wrong.append((number, target, port, repr(error)))
                continue
            self.slowest = max(self.slowest, time.monotonic() - started)
            if name not in self.names[target] or address != own or question != str(number):
                self.wrong.append((number, target, port, name, address, question))


class ServiceLoadTest(sluice_test.SluiceTest):
    """Two nodes; the client and one backend on node one, the other on node two."""

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "sl-one", "10.83.61.0/24")
        cls.two = Node(BUILD, "sl-two", "10.83.62.0/24", folder=cls.one.folder)
        cls.fabric = Fabric("sl-fabric")
        cls.fabric.join_nodes({cls.one: "192.0.2.61", cls.two: "192.0.2.62"})
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon()
        cls.client, cls.near = cls.one.add_pod("x", "client"), cls.one.add_pod("x", "near")
        cls.far = cls.two.add_pod("x", "far")
        for pod in (cls.client, cls.near, cls.far):
            cls.one.write_pod("x", pod.pod, address=pod.address)
        cls.servers = [Whoami(cls.near, "near"), Whoami(cls.far, "far")]
        cls.one.write("service-web", service("web", CLUSTER_IP), slice_of("web", cls.near.address, cls.far.address))
        for node in (cls.one, cls.two):
            node.settle()
        for pod in (cls.near, cls.far):
            wait_for(f"{pod.pod} to be reached", lambda p=pod: outcome(cls.client, p.address, TARGET) == "closed")

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.close()
        for pod in (cls.client, cls.near, cls.far):
            pod.node.delete_pod(pod)
        for node in (cls.one, cls.two):
            node.kill_daemon(signal.SIGTERM)
            node.delete()
        cls.fabric.delete()

    def in_turns(self, kind, what, resets=True):
        for server in self.servers:
            server.closes = not resets
        by_service, near, far = (CLUSTER_IP, PORT), (self.near.address, TARGET), (self.far.address, TARGET)
        names = {by_service: ("near", "far"), near: ("near",), far: ("far",)}
        client = in_namespace(self.client.path, Client(kind, (by_service, near, by_service, far), names, resets).run)
        print(f"\n  {what}: {client.attempts} attempts in turns, {len(client.wrong)} wrong or without an answer, "
              f"the slowest took {client.slowest * 1000:.1f} ms")
        self.assertEqual([], client.wrong[:5])
        self.assertGreater(client.attempts, SECONDS * RATE * 0.9)

    def test_tcp_that_the_client_resets(self):
        self.in_turns(socket.SOCK_STREAM, "TCP, reset by the client")

    def test_tcp_that_the_server_closes(self):
        self.in_turns(socket.SOCK_STREAM, "TCP, closed by the server", resets=False)

    def test_udp(self):
        self.in_turns(socket.SOCK_DGRAM, "UDP")


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
