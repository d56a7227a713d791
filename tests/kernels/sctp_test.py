#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SCTP by real sockets, which not every kernel has: policies and Services on one node and across two.

    sctp_test.py BUILD_FOLDER [unittest options]
"""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from deadline import deadline  # noqa: E402
from sluice_node import wait_for  # noqa: E402
from traffic import Echo, in_namespace, tcp_reaches  # noqa: E402

BUILD = ""
PORT, OTHER_PORT, SERVICE = 8080, 8081, "10.96.0.7"


def sctp_socket():
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)


class SctpEcho:
    """Answers each association with what it got, and remembers the clients' addresses."""

    def __init__(self, namespace, port):
        def make():
            listener = sctp_socket()
            listener.bind(("0.0.0.0", port))
            listener.listen(16)
            return listener
        self.listener, self.peers = in_namespace(namespace.path, make), []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def associate(namespace, address, port, seconds=3.0):
    def make():
        client = sctp_socket()
        client.settimeout(deadline(seconds))
        try:
            client.connect((address, port))
        except OSError:
            client.close()
            raise
        return client
    return in_namespace(namespace.path, make)


def answers(association, data=b"sluice"):
    try:
        association.sendall(data)
        return association.recv(16) == data
    except OSError:
        return False


def sctp_reaches(namespace, address, port, seconds=3.0):
    """Does a new association get its bytes back?"""
    try:
        with associate(namespace, address, port, seconds) as association:
            return answers(association)
    except OSError:
        return False


class SctpTest(sluice_test.NodePairTest):
    """Pods client, server and other on one node, far on the other."""

    @classmethod
    def setUpClass(cls):
        cls.make_nodes(BUILD)
        cls.client, cls.server, cls.other = cls.add_pods(cls.one, "client", "server", "other")
        cls.far, = cls.add_pods(cls.two, "far")
        cls.sctp = {(pod, port): SctpEcho(pod, port) for pod in (cls.server, cls.far) for port in (PORT, OTHER_PORT)}
        cls.echoes = [*cls.sctp.values(), Echo(cls.server, PORT)]

    def settle(self):
        for node in (self.one, self.two):
            os.utime(os.path.join(self.one.folder, f"node-{node.name}.yaml"))
        self.one.settle()
        self.two.settle()

    def admit(self, app, *ports):
        """The pod `app` admits the client alone, by SCTP at these ports."""
        self.one.write_policy("x", app, {
            "podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                         "ports": [{"protocol": "SCTP", "port": port} for port in ports]}]})
        self.settle()

    def release(self, app):
        self.one.remove(f"policy-x-{app}")
        self.settle()

    def test_without_a_policy_every_pod_is_reached(self):
        for source in (self.client, self.other):
            for target in (self.server, self.far):
                self.assertTrue(sctp_reaches(source, target.address, PORT), f"{source.pod} -> {target.pod}")
        self.assertTrue(sctp_reaches(self.far, self.server.address, PORT), "from the other node")
        self.assertEqual(self.client.address, self.sctp[self.far, PORT].peers[0], "the server sees the client's own address")

    def test_a_policy_admits_by_peer_port_and_protocol(self):
        for target in (self.server, self.far):
            with self.subTest(target.pod):
                self.admit(target.pod, PORT)
                self.assertTrue(sctp_reaches(self.client, target.address, PORT))
                self.assertFalse(sctp_reaches(self.other, target.address, PORT, 1), "another pod")
                self.assertFalse(sctp_reaches(self.client, target.address, OTHER_PORT, 1), "another port")
                if target is self.server:
                    self.assertFalse(tcp_reaches(self.client, target.address, PORT, 0.5), "another protocol")
                self.release(target.pod)

    def test_a_running_association_is_judged_again(self):
        self.admit("server", PORT)
        with associate(self.client, self.server.address, PORT) as association:
            self.assertTrue(answers(association, b"before"))
            self.admit("server", OTHER_PORT)
            association.settimeout(deadline(1))
            self.assertFalse(answers(association, b"denied"))
            self.admit("server", PORT)
            association.settimeout(deadline(30))
            self.assertEqual(b"denied", association.recv(16), "it was repeated until it was admitted")
        self.release("server")

    def serve(self, port, target_port):
        metadata = {"name": "sctp", "namespace": "x"}
        self.one.write("service", {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": SERVICE, "clusterIPs": [SERVICE],
                     "ports": [{"protocol": "SCTP", "port": port, "targetPort": target_port}]}}, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "sctp"}},
            "ports": [{"protocol": "SCTP", "port": target_port}],
            "endpoints": [{"addresses": [pod.address], "conditions": {"ready": True}} for pod in (self.server, self.far)]})
        self.settle()

    def test_a_service_is_served_by_its_backends(self):
        self.serve(PORT, PORT)
        try:
            before = {pod: len(self.sctp[pod, PORT].peers) for pod in (self.server, self.far)}
            for _ in range(8):
                self.assertTrue(sctp_reaches(self.client, SERVICE, PORT))
            served = {pod.pod: len(self.sctp[pod, PORT].peers) - count for pod, count in before.items()}
            self.assertEqual(8, sum(served.values()), served)
            self.assertEqual(self.client.address, self.sctp[self.server, PORT].peers[-1])
        finally:
            self.one.remove("service")
            self.settle()

    def test_a_service_with_another_target_port_is_refused_and_counted(self):
        self.serve(PORT + 2, PORT)

        def dropped():
            return self.one.get("/v1/status")["packets"]["drops"].get("SERVICE_UNSUPPORTED", 0)
        try:
            before = dropped()
            self.assertFalse(sctp_reaches(self.client, SERVICE, PORT + 2, 1))
            wait_for("the drop to be counted", lambda: dropped() > before)
        finally:
            self.one.remove("service")
            self.settle()


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
