#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sluice first in a chain with Debian's portmap, bandwidth and tuning, called as a runtime does.

    cni_chain_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, Pod, wait_for, world_beyond  # noqa: E402
from traffic import LEAST, SIZE, Echo, bound, limits, tcp_reaches, transfer, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
PLUGINS = "/usr/lib/cni"
PORT = 8080
HOST_PORT, OTHER_HOST_PORT = 8000, 8001
NODE, WORLD = "192.0.2.1", "192.0.2.2"


class Runtime:
    """Calls a list of plugins: in order, each with the result of the one before; DEL in reverse (CNI spec 1.0, section 3)."""

    def __init__(self, node, version="1.0.0"):
        self.node, self.version = node, version
        # portmap 1.1.1 looks for the rules of an IPv4 pod in ip6tables too, unless there is none.
        self.path = os.path.join(node.home, "bin")
        os.makedirs(self.path)
        for tool in ("iptables", "nsenter"):
            os.symlink(shutil.which(tool), os.path.join(self.path, tool))
        sluice = node.config()
        self.plugins = [(os.path.join(node.build, "cni", "sluice-cni"), sluice, None),
                        (f"{PLUGINS}/portmap", {"type": "portmap", "snat": True}, "portMappings"),
                        (f"{PLUGINS}/bandwidth", {"type": "bandwidth"}, "bandwidth"),
                        (f"{PLUGINS}/tuning", {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}, None)]

    def call(self, command, plugin, pod, previous):
        binary, config, capability = plugin
        config = {**config, "cniVersion": self.version, "name": "sluice"}
        if previous:
            config["prevResult"] = previous
        if capability and capability in pod.runtime_config:
            config["runtimeConfig"] = {capability: pod.runtime_config[capability]}
        environment = {"PATH": self.path, "CNI_COMMAND": command, "CNI_PATH": PLUGINS, "CNI_IFNAME": "eth0",
                       "CNI_CONTAINERID": pod.container_id, "CNI_NETNS": pod.path,
                       "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.ns};K8S_POD_NAME={pod.pod}"}
        done = subprocess.run(self.node.enter(binary), env=environment, text=True, input=json.dumps(config),
                              capture_output=True)
        if done.returncode != 0:
            raise CniError({"msg": f"{command} of {binary}: {done.stdout}{done.stderr}"})
        return json.loads(done.stdout) if done.stdout.strip() else None

    def add(self, ns, name, labels=None, **runtime_config):
        # From this annotation the runtime has the limit.
        limited = runtime_config.get("bandwidth", {}).get("egressRate")
        self.node.write_pod(ns, name, labels, annotations={"kubernetes.io/egress-bandwidth": str(limited)} if limited else None)
        pod = Pod(self.node, ns, name)
        pod.runtime_config = runtime_config
        for plugin in self.plugins:
            pod.result = self.call("ADD", plugin, pod, pod.result)
        self.node.pods[f"{ns}/{name}"] = pod
        self.node.attached += 1
        return pod

    def check(self, pod):
        for plugin in self.plugins:
            self.call("CHECK", plugin, pod, pod.result)

    def delete(self, pod):
        for plugin in reversed(self.plugins):
            self.call("DEL", plugin, pod, pod.result)

    def remove(self, pod):
        self.delete(pod)
        self.node.pods.pop(f"{pod.ns}/{pod.pod}")
        pod.delete()
        self.node.remove(f"pod-{pod.ns}-{pod.pod}")


def ports(*mappings):
    return [{"hostPort": host, "containerPort": PORT, "protocol": protocol} for host, protocol in mappings]


class ChainTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "chain", "10.83.1.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.node.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")  # as on every Kubernetes node
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.runtime = Runtime(cls.node)

    @classmethod
    def tearDownClass(cls):
        cls.node.kill_daemon()
        cls.world.delete()
        cls.node.delete()

    def add(self, name, labels=None, **runtime_config):
        pod = self.runtime.add("x", name, labels, **runtime_config)
        self.addCleanup(lambda: pod.pod in [p.pod for p in self.node.pods.values()] and self.runtime.remove(pod))
        return pod

    def echo(self, where, port=PORT):
        echo = Echo(where, port)
        self.addCleanup(echo.close)
        return echo

    def test_add_check_and_del_of_the_whole_chain(self):
        for version in ("0.4.0", "1.0.0"):
            with self.subTest(version):
                self.runtime.version = version
                pod = self.add("whole", portMappings=ports((HOST_PORT, "tcp")),
                               bandwidth=limits("ingress", "egress"))
                self.assertEqual(version, pod.result["cniVersion"])
                self.assertEqual("eth0", next(i for i in pod.result["interfaces"] if i.get("sandbox"))["name"])
                self.assertEqual("500", pod.run("sysctl", "-n", "net.core.somaxconn").strip())
                self.runtime.check(pod)
                self.runtime.delete(pod)
                self.runtime.remove(pod)  # once more is no error
                wait_for("the links to go", lambda: not self.node.pod_links())
                self.assertEqual({"lo", "up0", "sluice_host", "sluice_net", "sluice_vxlan"}, set(self.node.links().values()))
        left = [line for line in self.node.run("iptables-save", "-t", "nat").splitlines() if re.match("-A CNI-(DN|SN)", line)]
        self.assertEqual([], left)

    def test_host_port(self):
        server = self.add("server", portMappings=ports((HOST_PORT, "tcp"), (HOST_PORT, "udp")))
        other = self.add("other")
        echo = self.echo(server)
        for reaches in (tcp_reaches, udp_reaches):
            with self.subTest(reaches.__name__):
                echo.peers.clear()
                self.assertTrue(reaches(self.world, NODE, HOST_PORT), "from outside")
                self.assertEqual([WORLD], echo.peers)
                self.assertTrue(reaches(self.node, NODE, HOST_PORT), "from the node")
                self.assertTrue(reaches(self.node, "127.0.0.1", HOST_PORT), "from the node, by loopback")
                self.assertTrue(reaches(other, NODE, HOST_PORT), "from a pod of the node")
                self.assertTrue(reaches(server, NODE, HOST_PORT), "from the pod itself")
                self.assertTrue(reaches(other, server.address, PORT), "past it")
                # The node sees a packet that leaves where it came from, and knows a shorter way.
                self.assertIn(" via 10.83.1.1 ", other.run("ip", "route", "get", NODE), "no redirect was heeded")

    def test_policy_judges_what_comes_by_host_port(self):
        server = self.add("guarded", {"app": "guarded"}, portMappings=ports((HOST_PORT, "tcp")))
        self.echo(server)
        self.assertTrue(tcp_reaches(self.world, NODE, HOST_PORT))
        before = self.node.generation()

        def policy(cidr):
            self.node.write_policy("x", "guard", {"podSelector": {"matchLabels": {"app": "guarded"}},
                                                  "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]})
            wait_for("the policy", lambda: self.node.generation() > before)
        policy("198.51.100.0/24")
        self.addCleanup(self.node.remove, "policy-x-guard")
        self.assertFalse(tcp_reaches(self.world, NODE, HOST_PORT, 0.5))
        before = self.node.generation()
        policy(f"{WORLD}/32")
        self.assertTrue(tcp_reaches(self.world, NODE, HOST_PORT))

    def test_icmp_error_of_a_host_port_comes_back(self):
        self.add("deaf", portMappings=ports((OTHER_HOST_PORT, "udp")))
        self.assertTrue(udp_is_refused(self.world, NODE, OTHER_HOST_PORT, 2))

    def test_udp_host_port_moves_to_the_next_pod(self):
        first = self.add("first", portMappings=ports((OTHER_HOST_PORT, "udp")))
        self.echo(first)
        client = bound(self.world, socket.SOCK_DGRAM, 40000)  # the same tuple throughout
        self.addCleanup(client.close)
        client.settimeout(0.2)

        def asks():
            client.sendto(b"who", (NODE, OTHER_HOST_PORT))
            try:
                return client.recv(64) == b"who"
            except (TimeoutError, ConnectionRefusedError):
                return False
        wait_for("an answer of the first pod", asks, 3)
        self.runtime.remove(first)
        for _ in range(3):
            self.assertFalse(asks())  # keeps what the node's conntrack knows of it alive
        second = self.add("second", portMappings=ports((OTHER_HOST_PORT, "udp")))
        self.assertNotEqual(first.address, second.address)
        self.echo(second)
        wait_for("an answer of the second pod", asks, 3)

    def test_ingress_limit_of_bandwidth(self):
        source, limited = self.add("source"), self.add("limited", bandwidth=limits("ingress"))

        # The daemon hears of the queueing discipline from the kernel; the plugin does not tell it.
        def in_force():
            return transfer(source, limited, limited.address, SIZE) >= LEAST
        wait_for("the limit to be in force", in_force, 20)
        self.assertTrue(in_force())
        self.runtime.check(limited)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
