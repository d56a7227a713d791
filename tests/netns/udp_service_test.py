#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""UDP clients of Services that use the same two ports all the time: only the node can tell that a Service came, or that its
backend went. A flow goes on with its backend for as long as that one serves, and no longer.

    udp_service_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import NODE_PORT, PORT, TARGET, service, slice_of  # noqa: E402
from sluice_node import Node, world_beyond  # noqa: E402
from traffic import Echo, in_namespace  # noqa: E402

BUILD = ""
NODE, WORLD, CLUSTER_IP, LATER_IP = "192.0.2.1", "192.0.2.2", "10.96.0.1", "10.96.0.2"


def endpoint(pod, **more):
    conditions = {"ready": True, "serving": True, "terminating": False, **more.pop("conditions", {})}
    return {"addresses": [pod.address], "conditions": conditions, **more}


TERMINATES = {"ready": False, "terminating": True}
NOT_READY = {"ready": False, "serving": False}


class UdpServiceTest(sluice_test.SluiceTest):
    """Pods a and b, which serve, client c; a world beyond the uplink."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "udp", "10.83.1.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.ip("route", "add", "default", "via", WORLD)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.a, cls.b, cls.c = (cls.node.add_pod("x", name) for name in "abc")
        cls.echoes = {where: Echo(where, TARGET) for where in (cls.a, cls.b)}

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        cls.world.delete()
        cls.node.delete()

    def tearDown(self):
        if os.path.exists(os.path.join(self.node.folder, "service-dns.yaml")):
            self.node.remove("service-dns")
            self.node.settle()

    def write(self, *endpoints, **spec):
        self.node.write("service-dns", service("dns", CLUSTER_IP, **spec), slice_of("dns", *endpoints))

    def serve(self, *endpoints, **spec):
        self.write(*endpoints, **spec)
        self.node.settle()

    def flow(self, client=None, address=CLUSTER_IP, port=PORT, patience=1.0):
        """A socket of the client's that is connected to the Service."""
        def connected():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(patience)
            s.connect((address, port))
            return s
        made = in_namespace((client or self.c).path, connected)
        self.addCleanup(made.close)
        return made

    def asks(self, flow):
        """Which backend answers; None: nobody does."""
        before = {pod: len(echo.peers) for pod, echo in self.echoes.items()}
        try:
            flow.send(b"sluice")
            if flow.recv(16) != b"sluice":
                return None
        except (TimeoutError, ConnectionRefusedError):
            return None
        return "".join(pod.pod for pod, echo in self.echoes.items() if len(echo.peers) > before[pod])

    def test_goes_on_with_another_backend(self):
        self.serve(endpoint(self.a))
        flow = self.flow()
        self.assertEqual("a", self.asks(flow))
        self.serve(endpoint(self.b))
        self.assertEqual("b", self.asks(flow))
        self.serve(endpoint(self.a), endpoint(self.b, conditions=NOT_READY))
        self.assertEqual("a", self.asks(flow), "back again, where conntrack may still have the first one")

    def test_from_before_the_service_exists(self):
        flow = self.flow(patience=0.3)
        self.assertIsNone(self.asks(flow))
        self.serve(endpoint(self.a))
        self.assertEqual("a", self.asks(flow))

    def test_to_a_node_port_from_before_it_exists(self):
        self.serve(endpoint(self.b))
        flow = self.flow(address=NODE, port=NODE_PORT, patience=0.3)
        self.assertIsNone(self.asks(flow))
        ports = [{"name": "udp", "protocol": "UDP", "port": PORT, "nodePort": NODE_PORT}]
        self.serve(endpoint(self.b), type="NodePort", ports=ports)
        self.assertEqual("b", self.asks(flow))

    def test_what_changes_while_no_daemon_runs(self):
        before_it_exists = self.flow(address=LATER_IP, patience=0.3)
        self.serve(endpoint(self.a))
        flow = self.flow()
        self.assertEqual("a", self.asks(flow))
        self.assertIsNone(self.asks(before_it_exists))
        self.node.kill_daemon()
        self.write(endpoint(self.b))
        self.node.write("service-later", service("later", LATER_IP), slice_of("later", endpoint(self.a)))
        self.addCleanup(self.node.remove, "service-later")
        self.node.start_daemon()
        self.node.settle()
        self.assertEqual("b", self.asks(flow))
        self.assertEqual("a", self.asks(before_it_exists))

    def test_stays_with_a_backend_that_still_serves(self):
        both = [endpoint(self.a), endpoint(self.b)]
        self.serve(*both)
        flows = {pod: None for pod in "ab"}
        while None in flows.values():
            flow = self.flow()
            flows[self.asks(flow)] = flow
        self.serve(endpoint(self.a, conditions=TERMINATES), endpoint(self.b))
        self.assertEqual(list("ab"), [self.asks(flow) for flow in flows.values()], "it terminates and serves")
        hinted = [endpoint(pod, hints={"forNodes": [{"name": name}]}) for pod, name in ((self.a, self.node.name), (self.b, "other"))]
        self.serve(*hinted)
        self.assertEqual(list("ab"), [self.asks(flow) for flow in flows.values()], "hints are for new connections")
        self.node.kill_daemon()
        self.node.start_daemon()
        self.node.settle()
        self.assertEqual(list("ab"), [self.asks(flow) for flow in flows.values()], "to the next daemon, too")
        self.serve(endpoint(self.a, conditions=NOT_READY), endpoint(self.b))
        self.assertEqual(list("bb"), [self.asks(flow) for flow in flows.values()], "it does not serve")

    def test_an_answer_that_is_on_its_way_reaches_the_client(self):
        """What ends the flow is told of the way to the backend only."""
        self.serve(endpoint(self.a))
        flow = self.flow()
        self.assertEqual("a", self.asks(flow))
        port = flow.getsockname()[1]
        self.serve(endpoint(self.b))
        self.echoes[self.a].udp.sendto(b"late", (self.c.address, port))
        self.assertEqual(b"late", flow.recv(16))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
