#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes with several interfaces: packets leave under the address of the interface by which they leave, and are answered.

    uplinks_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import outcome, service, slice_of  # noqa: E402
from sluice_node import Namespace, Node, run, wait_for  # noqa: E402
from traffic import Echo, TcpStream, tcp_reaches, transfer, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
PORT, HOST_PORT, NODE_PORT = 8080, 31080, 31081
FAR = "198.51.100.7"  # outside, behind a router


def link(node, interface, address, host, host_interface, host_address, length=24):
    run("ip", "link", "add", interface, "netns", node.name, "type", "veth", "peer", "name", host_interface, "netns", host.name)
    for place, name, own in ((node, interface, address), (host, host_interface, host_address)):
        place.ip("addr", "add", f"{own}/{length}", "dev", name)
        place.ip("link", "set", name, "up")


class SeveralUplinks(sluice_test.SluiceTest):
    """The InternalIP on a private network, the default route by a public interface, a third one to a storage network."""
    PRIVATE, PUBLIC, STORAGE = "192.0.2.1", "203.0.113.1", "10.7.0.1"
    PEERS = {"neighbour": "192.0.2.2", "router": "203.0.113.2", "filer": "10.7.0.2"}

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "several", "10.83.8.0/24")
        cls.hosts = {name: Namespace(name) for name in cls.PEERS}
        for interface, own, name in (("private", cls.PRIVATE, "neighbour"), ("public", cls.PUBLIC, "router"),
                                     ("storage", cls.STORAGE, "filer")):
            link(cls.node, interface, own, cls.hosts[name], "eth0", cls.PEERS[name])
        for name in ("router", "filer"):
            cls.hosts[name].ip("addr", "add", f"{FAR}/32", "dev", "lo")
        cls.node.ip("route", "add", "default", "via", cls.PEERS["router"])
        cls.node.write_node(address=cls.PRIVATE)
        cls.node.write_namespace("x")
        cls.node.start_daemon("--housekeeping-interval=0.5")
        mappings = [{"hostPort": HOST_PORT, "containerPort": PORT, "protocol": p} for p in ("tcp", "udp")]
        cls.pod = cls.node.add_pod("x", "web", config=cls.node.config(runtimeConfig={"portMappings": mappings}))
        cls.node.write("service", service("web", "10.96.0.7", type="NodePort", ports=[
            {"name": "tcp", "protocol": "TCP", "port": 80, "nodePort": NODE_PORT}]), slice_of("web", cls.pod.address))
        cls.node.settle()
        cls.echoes = {name: Echo(where, PORT) for name, where in {**cls.hosts, "pod": cls.pod}.items()}

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        for host in cls.hosts.values():
            host.delete()
        cls.node.delete()

    def seen_by(self, host, address=None):
        """As whom the host sees the pod that asks it; the pod can ping the host, and hears of its errors. Its UDP server
        answers under the host's own address only."""
        reaches = tcp_reaches if address else udp_reaches
        address = address or self.PEERS[host]
        peers = self.echoes[host].peers
        before = len(peers)
        self.assertTrue(tcp_reaches(self.pod, address, PORT), f"TCP to {host}")
        self.assertTrue(reaches(self.pod, address, PORT), f"UDP to {host}")
        self.assertTrue(udp_is_refused(self.pod, address, PORT + 1, 2), f"an ICMP error of {host}")
        self.pod.run("ping", "-c", "1", "-W", "2", address)
        wait_for("both to be seen", lambda: len(peers) == before + 2)
        self.assertEqual(peers[-1], peers[-2])
        return peers[-1]


class UplinksTest(SeveralUplinks):
    def test_pods_reach_what_is_outside_under_the_address_of_the_way(self):
        for host, address, seen in (("neighbour", None, self.PRIVATE), ("router", None, self.PUBLIC), ("router", FAR, self.PUBLIC),
                                    ("filer", None, self.STORAGE)):
            with self.subTest(host=host, address=address):
                self.assertEqual(seen, self.seen_by(host, address))

    def test_large_datagrams(self):
        for host, address in self.PEERS.items():
            self.assertTrue(udp_reaches(self.pod, address, PORT, size=9000), f"fragments to {host} and back")

    def test_host_ports_and_node_ports_by_every_interface(self):
        for host, own in (("neighbour", self.PRIVATE), ("router", self.PUBLIC), ("filer", self.STORAGE)):
            for port in (HOST_PORT, NODE_PORT):
                with self.subTest(host=host, port=port):
                    self.assertEqual("answered", outcome(self.hosts[host], own, port))
            self.assertTrue(udp_reaches(self.hosts[host], own, HOST_PORT))
            self.assertEqual("refused", outcome(self.hosts[host], own, PORT + 1), "the node's own stack has the other ports")
            self.assertEqual(self.echoes["pod"].peers[-1], self.PEERS[host], "a host port does not hide the client")

    def test_no_interface_lets_a_forged_source_in(self):
        """Policies must not be evaded by the address of a pod or of the node, whichever interface the packet comes by."""
        filer = self.hosts["filer"]
        filer.ip("addr", "add", "10.83.8.77/32", "dev", "lo")
        self.addCleanup(filer.ip, "addr", "del", "10.83.8.77/32", "dev", "lo")
        filer.ip("route", "add", self.pod.address, "via", self.STORAGE, "src", "10.83.8.77")
        self.addCleanup(filer.ip, "route", "del", self.pod.address)
        before = self.node.get("/v1/status")["packets"]["drops"].get("SOURCE_IP", 0)
        self.assertFalse(udp_reaches(filer, self.pod.address, PORT, 0.3))
        self.assertGreater(self.node.get("/v1/status")["packets"]["drops"].get("SOURCE_IP", 0), before)

    def test_another_way_while_connections_live(self):
        """A new connection goes out under the new way's address; that of before keeps its own, and its ports."""
        stream = TcpStream(self.pod, FAR, PORT)
        try:
            wait_for("the first answer", lambda: stream.rounds > 3)
            self.assertEqual(self.PUBLIC, self.echoes["router"].peers[-1])
            self.node.ip("route", "add", f"{FAR}/32", "via", self.PEERS["filer"])
            try:
                for _ in range(5):
                    self.assertEqual(self.STORAGE, self.seen_by("filer", FAR))
            finally:
                self.node.ip("route", "del", f"{FAR}/32")
            rounds = stream.rounds
            wait_for("the connection of before to go on", lambda: stream.rounds > rounds + 3)
        finally:
            result = stream.end()
        self.assertEqual(0, result["resets"])

    def test_each_address_has_its_own_masquerade_ports(self):
        self.node.kill_daemon(signal.SIGTERM)
        self.node.start_daemon("--housekeeping-interval=0.5", "--masquerade-ports=61000-61003")
        self.node.settle()
        streams = [TcpStream(self.pod, FAR, PORT) for _ in range(4)]
        try:
            wait_for("four connections", lambda: all(s.rounds > 1 for s in streams))
            self.assertFalse(tcp_reaches(self.pod, FAR, PORT, 0.5), "there are four ports to one destination")
            self.node.ip("route", "add", f"{FAR}/32", "via", self.PEERS["filer"])
            try:
                before = len(self.echoes["filer"].peers)
                more = [TcpStream(self.pod, FAR, PORT) for _ in range(4)]
                streams += more
                wait_for("four more", lambda: all(s.rounds > 1 for s in more))
                self.assertEqual([self.STORAGE] * 4, self.echoes["filer"].peers[before:])
            finally:
                self.node.ip("route", "del", f"{FAR}/32")
            rounds = [s.rounds for s in streams[:4]]
            wait_for("those of before to go on", lambda: all(s.rounds > r for s, r in zip(streams, rounds)))
        finally:
            results = [s.end() for s in streams]
            self.node.kill_daemon(signal.SIGTERM)
            self.node.start_daemon("--housekeeping-interval=0.5")
            self.node.settle()
        self.assertEqual([0] * 4, [r["resets"] for r in results[:4]])

    def test_the_nodes_ports_are_its_own_on_every_address(self):
        """Rules of ownership: neither an external IP nor a load balancer's address takes what is the node's."""
        self.node.write("thief", service("thief", "10.96.0.8", externalIPs=[self.STORAGE]), slice_of("thief", self.pod.address))
        self.node.write("balanced", service("balanced", "10.96.0.9", [self.STORAGE], type="LoadBalancer", ports=[
            {"name": "tcp", "protocol": "TCP", "port": 61000, "nodePort": 31099}]), slice_of("balanced", self.pod.address))
        try:
            self.node.settle()
            services = self.node.get("/v1/services")
            frontends = {(s["address"], s["port"]) for s in services["services"]}
            for refused in ((self.STORAGE, 80), (self.STORAGE, 61000)):
                self.assertNotIn(refused, frontends)
            for name in ("thief", "balanced"):
                self.assertIn(f"x/{name}", str(services["rejected"]))
        finally:
            self.node.remove("thief")
            self.node.remove("balanced")
            self.node.settle()

    def test_no_daemon_is_needed(self):
        self.node.kill_daemon()
        try:
            for host in self.PEERS:
                self.assertTrue(tcp_reaches(self.pod, self.PEERS[host], PORT))
        finally:
            self.node.start_daemon("--housekeeping-interval=0.5")
        self.node.settle()
        self.assertEqual(self.STORAGE, self.seen_by("filer"))


class ChangingUplinksTest(SeveralUplinks):
    def check_accounts(self, before):
        """Interfaces that go take their counters along, and one without its hook counts what nobody else does."""
        self.assertEqual([], self.node.get("/v1/status")["audit"])

    def test_a_hook_that_somebody_takes_comes_back(self):
        pins = os.path.join(self.node.bpffs, "sluice", "v1", "links")
        index = {name: i for i, name in self.node.links().items()}["storage"]
        os.unlink(os.path.join(pins, str(index)))
        wait_for("the hook", lambda: os.path.exists(os.path.join(pins, str(index))))
        self.assertEqual(self.STORAGE, self.seen_by("filer"))

    def test_a_strict_reverse_path_filter_is_told(self):
        self.node.run("sysctl", "-qw", "net.ipv4.conf.storage.rp_filter=1")
        self.addCleanup(self.node.run, "sysctl", "-qw", "net.ipv4.conf.storage.rp_filter=0")

        def told():
            with open(self.node.log, encoding="utf-8") as log:
                return [line for line in log if "reverse path filters are strict on storage: " in line]
        wait_for("the warning", told)
        self.assertEqual(1, len(told()))
        self.assertIn("sysctl -w net/ipv4/conf/storage/rp_filter=2", told()[0])

    def test_an_address_gets_no_number_that_a_connection_has(self):
        """All 255 numbers are given, and a connection goes on under an address that the node has no more."""
        pin = os.path.join(self.node.bpffs, "sluice", "v1", "masquerade_addresses")

        def addresses():
            return {int.from_bytes(octets(entry["key"]), "little"): octets(entry["value"])
                    for entry in json.loads(self.node.run("bpftool", "-j", "map", "dump", "pinned", pin))}

        def octets(digits):
            return bytes(int(each, 16) for each in digits)
        own, other = socket.inet_aton(self.STORAGE), socket.inet_aton("10.7.0.77")
        number, mapped = next((n, value[:-4]) for n, value in addresses().items() if value[-4:] == own)
        mac = json.loads(self.node.ip("-j", "link", "show", "dev", "storage"))[0]["address"]
        self.hosts["filer"].ip("neigh", "replace", self.STORAGE, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        stream = TcpStream(self.pod, self.PEERS["filer"], PORT)
        try:
            wait_for("the first answer", lambda: stream.rounds > 3)
            for n, value in addresses().items():
                if n > 0 and not any(value):
                    self.node.run("bpftool", "map", "update", "pinned", pin, "key", *map(str, n.to_bytes(4, "little")),
                                  "value", *map(str, mapped + bytes([198, 18, 0, n])))
            self.node.ip("addr", "add", "10.7.0.77/24", "dev", "storage")
            self.node.ip("addr", "del", f"{self.STORAGE}/24", "dev", "storage")
            self.node.ip("addr", "replace", "10.7.0.77/24", "dev", "storage")
            wait_for("its number", lambda: any(value[-4:] == other for value in addresses().values()))
            self.assertEqual(own, addresses()[number][-4:])
            rounds = stream.rounds
            wait_for("the connection to go on", lambda: stream.rounds > rounds + 3)
            self.assertTrue(tcp_reaches(self.pod, self.PEERS["filer"], PORT))
            self.assertEqual("10.7.0.77", self.echoes["filer"].peers[-1])
        finally:
            result = stream.end()
            self.node.ip("addr", "add", f"{self.STORAGE}/24", "dev", "storage")
            self.node.ip("addr", "del", "10.7.0.77/24", "dev", "storage")
            self.node.ip("addr", "replace", f"{self.STORAGE}/24", "dev", "storage")
        self.assertEqual(0, result["resets"])
        wait_for("the address of before", lambda: tcp_reaches(self.pod, self.PEERS["filer"], PORT, 0.3) and
                 self.echoes["filer"].peers[-1] == self.STORAGE)

    def test_an_interface_comes_changes_its_address_and_goes(self):
        late = Namespace("late")
        self.addCleanup(late.delete)
        link(self.node, "late", "10.9.0.1", late, "eth0", "10.9.0.2")
        self.PEERS["late"], self.echoes["late"] = "10.9.0.2", Echo(late, PORT)
        self.addCleanup(self.PEERS.pop, "late")
        self.addCleanup(lambda: self.echoes.pop("late").close())

        def uplink_is(source):
            with open(self.node.log, encoding="utf-8") as log:
                return f"late ({source})" in [line for line in log if "configured:" in line][-1]
        wait_for("the uplink", lambda: uplink_is("10.9.0.1"))
        self.assertEqual("10.9.0.1", self.seen_by("late"))
        wait_for("its node port", lambda: outcome(late, "10.9.0.1", NODE_PORT) == "answered")
        self.node.ip("addr", "add", "10.9.0.77/24", "dev", "late")
        self.node.ip("addr", "del", "10.9.0.1/24", "dev", "late")
        self.node.ip("addr", "replace", "10.9.0.77/24", "dev", "late")
        wait_for("the other address", lambda: uplink_is("10.9.0.77"))
        self.assertEqual("10.9.0.77", self.seen_by("late"))
        self.node.ip("link", "del", "late")
        wait_for("it to be known as gone", lambda: not self.node.get("/v1/status")["audit"] and not self.node.stale_pins())
        self.assertEqual(self.STORAGE, self.seen_by("filer"), "the others go on")


class RoutedHostsTest(sluice_test.SluiceTest):
    """Two nodes whose InternalIP is lo's: routers know the way to it, by two uplinks each (BGP to the host)."""
    ONE, TWO = "192.0.2.1", "192.0.2.2"

    @classmethod
    def setUpClass(cls):
        cls.one = Node(BUILD, "one", "10.83.21.0/24")
        cls.two = Node(BUILD, "two", "10.83.22.0/24", folder=cls.one.folder)
        cls.router = Namespace("router")
        cls.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        cls.router.ip("addr", "add", f"{FAR}/32", "dev", "lo")
        for number, (node, address) in enumerate(((cls.one, cls.ONE), (cls.two, cls.TWO))):
            node.ip("addr", "add", f"{address}/32", "dev", "lo")
            hops, back = [], []
            for way in (0, 1):
                here, there = f"10.1.{number}.{2 * way}", f"10.1.{number}.{2 * way + 1}"
                link(node, f"up{way}", here, cls.router, f"{node.name}-{way}", there, 31)
                hops += ["nexthop", "via", there, "dev", f"up{way}"]
                back += ["nexthop", "via", here, "dev", f"{node.name}-{way}"]
            node.ip("route", "add", "default", *hops)
            cls.router.ip("route", "add", f"{address}/32", *back)
        for node in (cls.one, cls.two):
            for other, address in ((cls.one, cls.ONE), (cls.two, cls.TWO)):
                node.write_node(other.name, other.pod_cidr, address)
        cls.one.write_namespace("x")
        for node in (cls.one, cls.two):
            node.start_daemon("--housekeeping-interval=0.5")
        cls.a, cls.b = cls.one.add_pod("x", "a"), cls.two.add_pod(
            "x", "b", config=cls.two.config(runtimeConfig={"portMappings": [
                {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}]}))
        for pod in (cls.a, cls.b):
            cls.one.write_pod("x", pod.pod, address=pod.address)
        cls.echoes = {name: Echo(where, PORT) for name, where in
                      {"a": cls.a, "b": cls.b, "router": cls.router, "two": cls.two}.items()}
        wait_for("the other node's pod", lambda: tcp_reaches(cls.a, cls.b.address, PORT, 0.3))

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes.values():
            echo.close()
        for node in (cls.one, cls.two):
            node.kill_daemon(signal.SIGTERM)
        cls.router.delete()
        cls.one.delete()
        cls.two.delete()

    def test_the_world_sees_the_internal_ip_by_either_way(self):
        before = len(self.echoes["router"].peers)
        addresses = [FAR] + [f"203.0.113.{n}" for n in range(1, 9)]  # some go by one way, some by the other
        for address in addresses[1:]:
            self.router.ip("addr", "add", f"{address}/32", "dev", "lo")
        for address in addresses:
            self.assertTrue(tcp_reaches(self.a, address, PORT), address)
        self.assertEqual({self.ONE}, set(self.echoes["router"].peers[before:]))

    def test_pods_of_two_nodes_past_the_stack(self):
        status = self.one.get("/v1/status")
        self.assertEqual(status["tunnel"], {"direct": True, "notDirectReason": ""})
        before = status["packets"]["direct"]["out"]
        for _ in range(20):  # flows by either way
            self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
            self.assertTrue(udp_reaches(self.b, self.a.address, PORT))
        transfer(self.a, self.b, self.b.address, 8 << 20)
        self.assertGreater(self.one.get("/v1/status")["packets"]["direct"]["out"], before + 100)

    def test_a_pod_and_another_node(self):
        before = len(self.echoes["two"].peers)
        self.assertTrue(tcp_reaches(self.a, self.TWO, PORT))
        self.assertEqual([self.ONE], self.echoes["two"].peers[before:])

    def test_host_port(self):
        for client in (self.router, self.a, self.one):
            self.assertEqual("answered", outcome(client, self.TWO, HOST_PORT), client.name)

    def test_one_way_goes(self):
        stream = TcpStream(self.a, self.b.address, PORT)
        self.addCleanup(stream.end)
        self.one.ip("link", "set", "up0", "down")
        try:
            self.router.ip("route", "replace", f"{self.ONE}/32", "via", "10.1.0.2")
            wait_for("the other node's pod", lambda: tcp_reaches(self.a, self.b.address, PORT, 0.3))
            self.assertTrue(tcp_reaches(self.a, FAR, PORT))
            rounds = stream.rounds
            wait_for("the connection to go on", lambda: stream.rounds > rounds + 3)
        finally:
            self.one.ip("link", "set", "up0", "up")
            self.one.ip("route", "replace", "default", "nexthop", "via", "10.1.0.1", "dev", "up0", "nexthop", "via", "10.1.0.3", "dev", "up1")
            self.router.ip("route", "replace", f"{self.ONE}/32", "nexthop", "via", "10.1.0.0", "dev", "one-0", "nexthop", "via",
                           "10.1.0.2", "dev", "one-1")
        wait_for("both ways", lambda: tcp_reaches(self.a, self.b.address, PORT, 0.3))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
