#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hostPort of pods, by the capability portMappings, without the portmap plugin.

    host_port_test.py BUILD_FOLDER [unittest options]
"""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import outcome, service, slice_of  # noqa: E402
from sluice_node import CniError, Node, Pod, run, wait_for, world_beyond  # noqa: E402
from traffic import Echo, in_namespace, udp_reaches  # noqa: E402

BUILD = ""
NODE, SECOND, WORLD = "192.0.2.1", "192.0.2.3", "192.0.2.2"
TARGET, PORT = 8080, 31080


def mapping(host_port=PORT, protocol="tcp", **more):
    return {"hostPort": host_port, "containerPort": TARGET, "protocol": protocol, **more}


class HostPortTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "ports", "10.83.1.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.ip("addr", "add", f"{SECOND}/24", "dev", "up0")
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.other = cls.node.add_pod("x", "other")

    @classmethod
    def tearDownClass(cls):
        cls.node.kill_daemon(signal.SIGTERM)
        cls.world.delete()
        cls.node.delete()

    def config(self, *mappings):
        return self.node.config(runtimeConfig={"portMappings": list(mappings)})

    def pod(self, *mappings, name="web", labels=None):
        pod = self.node.add_pod("x", name, labels, config=self.config(*mappings))
        echo = Echo(pod, TARGET)

        def end():
            echo.close()
            if f"x/{name}" in self.node.pods:
                self.node.delete_pod(pod)
        self.addCleanup(end)
        return pod, echo, end

    def assert_refused(self, code, told, mappings):
        """ADD of a pod with these."""
        self.node.write_pod("x", "refused")
        pod = Pod(self.node, "x", "refused")
        try:
            with self.assertRaisesRegex(CniError, f"^{code}: .*{told}"):
                self.node.attach(pod, self.node.config(runtimeConfig={"portMappings": mappings}))
        finally:
            pod.delete()
            self.node.remove("pod-x-refused")

    def frontends(self):
        return sorted((s["address"], s["port"], s["protocol"]) for s in self.node.get("/v1/services")["services"]
                      if s["service"].startswith("hostPort of"))

    def test_from_everywhere(self):
        pod, echo, _ = self.pod(mapping(), mapping(protocol="udp"))
        for client, address, seen in ((self.world, NODE, WORLD), (self.world, SECOND, WORLD), (self.other, NODE, self.other.address),
                                      (self.node, NODE, "10.83.1.1"), (self.node, "127.0.0.1", "10.83.1.1"), (pod, NODE, NODE)):
            with self.subTest(client=client.name, address=address):
                self.assertEqual("answered", outcome(client, address, PORT))
                self.assertEqual(seen, echo.peers[-1])
                self.assertTrue(udp_reaches(client, address, PORT))
                self.assertEqual(seen, echo.peers[-1])
        self.assertEqual("refused", outcome(self.world, NODE, PORT + 1), "the node's own stack has the other ports")

    def test_only_the_protocol_that_was_asked_for(self):
        self.pod(mapping(protocol="UDP"))
        self.assertTrue(udp_reaches(self.world, NODE, PORT))
        self.assertEqual("refused", outcome(self.world, NODE, PORT))

    def test_on_one_address(self):
        _, one, _ = self.pod(mapping(hostIP=NODE), name="one")
        _, two, _ = self.pod(mapping(hostIP=SECOND), name="two")
        for address, echo in ((NODE, one), (SECOND, two)):
            for client in (self.world, self.other, self.node):
                before = len(echo.peers)
                self.assertEqual("answered", outcome(client, address, PORT))
                self.assertEqual(before + 1, len(echo.peers))
        self.assertEqual([(NODE, PORT, "TCP"), (SECOND, PORT, "TCP")], self.frontends())

    def test_for_the_node_alone(self):
        self.pod(mapping(hostIP="127.0.0.1"))
        self.assertEqual("answered", outcome(self.node, "127.0.0.1", PORT))
        for client in (self.world, self.node):
            self.assertEqual("refused", outcome(client, NODE, PORT))

    def test_policy_sees_the_client(self):
        self.pod(mapping(), labels={"app": "web"})
        self.node.write_policy("x", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": f"{WORLD}/32"}}], "ports": [{"port": TARGET}]}]})
        self.addCleanup(self.node.remove, "policy-x-web")
        self.node.settle()
        self.assertEqual("answered", outcome(self.world, NODE, PORT))
        self.assertEqual("silent", outcome(self.other, NODE, PORT, 0.5))

    def test_the_next_pod_has_the_traffic_at_once(self):
        """The same two ports all the time: only the node can tell that the pod is gone."""
        def client():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(2)
            s.connect((NODE, PORT))
            return s
        with in_namespace(self.world.path, client) as s:
            for round_ in range(3):
                _, echo, end = self.pod(mapping(protocol="udp"))
                s.send(b"sluice")
                self.assertEqual(b"sluice", s.recv(16), round_)
                self.assertEqual([WORLD], echo.peers)
                end()
                self.assertEqual([], self.frontends())
                with self.assertRaises(OSError):  # refused by the node's stack
                    s.send(b"sluice")
                    s.recv(16)

    def test_a_port_is_had_once(self):
        self.pod(mapping(), name="one")
        for taken in (mapping(), mapping(hostIP=NODE), mapping(hostIP="0.0.0.0")):
            self.assert_refused(104, "host port .* is held by x/one", [taken])
        self.pod(mapping(protocol="udp"), mapping(PORT + 1), name="two")
        self.assertEqual("answered", outcome(self.world, NODE, PORT + 1))

    def test_a_services_node_port_comes_first(self):
        _, mine, _ = self.pod(mapping(), name="one")
        _, theirs, _ = self.pod(name="two")
        ports = [{"name": "tcp", "protocol": "TCP", "port": 80, "nodePort": PORT}]
        two = self.node.pods["x/two"].address
        self.node.write("service", service("web", "10.96.0.1", type="NodePort", ports=ports), slice_of("web", two))
        self.addCleanup(self.node.settle)
        self.addCleanup(self.node.remove, "service")
        self.node.settle()
        self.assertEqual("answered", outcome(self.world, NODE, PORT))
        self.assertEqual((0, 1), (len(mine.peers), len(theirs.peers)))
        with open(self.node.log, encoding="utf-8") as log:
            self.assertRegex(log.read(), rf"hostPort of x/one .*: [0-9.]+:{PORT}/TCP .*is not served for it, Service x/web has it")

    def test_a_restart_keeps_them(self):
        self.pod(mapping())

        def dump():
            return sorted(run("bpftool", "map", "dump", "pinned", f"{self.node.bpffs}/sluice/v1/services").splitlines())
        before = dump()
        self.node.kill_daemon()
        self.assertEqual("answered", outcome(self.world, NODE, PORT), "nobody is needed for it")
        self.node.start_daemon()
        self.node.settle()
        self.assertEqual(before, dump())
        self.assertEqual("answered", outcome(self.world, NODE, PORT))

    def test_a_new_address_of_the_node(self):
        self.pod(mapping())
        self.node.ip("addr", "add", "192.0.2.9/24", "dev", "up0")
        wait_for("the address to be served", lambda: ("192.0.2.9", PORT, "TCP") in self.frontends(), 15)
        self.assertEqual("answered", outcome(self.world, "192.0.2.9", PORT))
        self.node.ip("addr", "del", "192.0.2.9/24", "dev", "up0")
        wait_for("the address to be forgotten", lambda: ("192.0.2.9", PORT, "TCP") not in self.frontends(), 15)

    def test_what_is_malformed_is_told(self):
        for wrong, told in (("x", "it must be a list"), ([1], "it is no object"), ([{"containerPort": 1}], "no 'hostPort'"),
                            ([mapping(0)], "1 to 65535"), ([mapping(65536)], "1 to 65535"), ([mapping("80")], "1 to 65535"),
                            ([mapping(protocol="icmp")], "tcp, udp or sctp"), ([mapping(hostIP="here")], "must be an IP address"),
                            ([mapping(), mapping(hostIP=NODE)], "two entries for one port")):
            with self.subTest(wrong=wrong):
                self.assert_refused(7, told, wrong)
        self.assertEqual([], self.frontends())


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
