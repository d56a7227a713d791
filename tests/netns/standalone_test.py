#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The built daemon and CNI binary on one node and on two, without a cluster, over real traffic.

    standalone_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
from sluice_node import CniError, Namespace, Node, wait_for, world_beyond  # noqa: E402
import sluice_test  # noqa: E402
from traffic import Echo, TcpStream, UdpStream, ping, tcp_reaches, udp_is_refused, udp_reaches  # noqa: E402

BUILD = ""
PORT = 8080


def select(**labels):
    return {"podSelector": {"matchLabels": labels}}


def ingress(to, *sources, ports=None):
    """A policy spec: pods `to` (labels) admit only `sources` (peers)."""
    rule = {"from": list(sources)} if sources else {}
    if ports:
        rule["ports"] = ports
    return {"podSelector": {"matchLabels": to}, "policyTypes": ["Ingress"], "ingress": [rule] if sources or ports else []}


class NodeTest(sluice_test.SluiceTest):
    """One node with pods a, b, c; a world beyond its uplink that knows no way to pods."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, cls.__name__.lower(), "10.83.1.0/24")
        cls.world = world_beyond(cls.node, "192.0.2.1", "192.0.2.2")
        cls.node.write_node(address="192.0.2.1")
        cls.node.write_namespace("x", team="red")
        cls.node.start_daemon()
        cls.a, cls.b, cls.c = (cls.node.add_pod("x", name, {"app": name}) for name in "abc")
        cls.echoes = [Echo(where, PORT) for where in (cls.a, cls.b, cls.c, cls.world, cls.node)]

    @classmethod
    def tearDownClass(cls):
        for echo in cls.echoes:
            echo.close()
        for pod in list(cls.node.pods.values()):
            cls.node.delete_pod(pod)
        wait_for("the pods' links to go", lambda: not cls.node.pod_links())
        cls.node.kill_daemon(signal.SIGTERM)
        pins = cls.node.stale_pins()
        cls.world.delete()
        cls.node.delete()
        assert not pins, f"pins left behind, by ifindex: {pins}"

    def setUp(self):
        self.policies = []

    def tearDown(self):
        for ns, name in self.policies:
            self.node.remove(f"policy-{ns}-{name}")
        if self.policies:
            self.settle()

    def settle(self):
        """Until the folder as it is now is what is enforced: a marker policy written last has been applied."""
        stamp = self.node.generation()
        marker = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 1 + stamp % 60000}]}, {}]}
        self.node.write_policy("x", "marker", marker)
        wait_for("the marker", lambda: self.node.generation() > stamp)
        self.node.remove("policy-x-marker")
        stamp = self.node.generation()
        wait_for("the marker to go", lambda: self.node.generation() > stamp or not self.node.get(
            f"/v1/endpoints/x/a/policy")["isolatedEgress"])

    def policy(self, name, spec, ns="x", wait=True):
        before = self.node.generation()
        self.node.write_policy(ns, name, spec)
        if (ns, name) not in self.policies:
            self.policies.append((ns, name))
        if wait:
            wait_for("the policy to be live", lambda: self.node.generation() > before)

    # ---- connectivity
    def test_pods_reach_each_other(self):
        for source in (self.a, self.b, self.c):
            for target in (self.a, self.b, self.c):
                self.assertTrue(tcp_reaches(source, target.address, PORT), f"tcp {source.pod} -> {target.pod}")
                self.assertTrue(udp_reaches(source, target.address, PORT), f"udp {source.pod} -> {target.pod}")
        ping(self.a, self.b.address)

    def test_source_of_a_pod_is_seen_unchanged(self):
        echo = Echo(self.b, PORT + 1)
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT + 1))
        self.assertEqual(echo.peers, [self.a.address])
        echo.close()

    def test_node_and_pods_reach_each_other(self):
        self.assertTrue(tcp_reaches(self.node, self.a.address, PORT))
        self.assertTrue(udp_reaches(self.node, self.a.address, PORT))
        self.assertTrue(tcp_reaches(self.a, "192.0.2.1", PORT), "the node's own address")
        ping(self.a, "10.83.1.1")
        ping(self.node, self.a.address)

    def test_every_address_of_the_nodes_interfaces_is_the_nodes(self):
        """As NodeLocal DNSCache and agents of clouds have them."""
        addresses = ("169.254.20.10", "198.18.0.9")
        for address, scope in zip(addresses, ("link", "host")):
            self.node.ip("addr", "add", f"{address}/32", "dev", "lo", "scope", scope)
        try:
            for address in addresses:
                wait_for(address, lambda a=address: udp_reaches(self.a, a, PORT), 10)
                self.assertTrue(tcp_reaches(self.a, address, PORT))
        finally:
            for address in addresses:
                self.node.ip("addr", "del", f"{address}/32", "dev", "lo")

    def test_large_datagrams_are_fragmented_and_arrive(self):
        self.assertTrue(udp_reaches(self.a, self.b.address, PORT, size=9000))
        self.assertTrue(udp_reaches(self.a, "192.0.2.2", PORT, size=9000), "masqueraded")

    def test_world_is_reached_masqueraded(self):
        echo = Echo(self.world, PORT + 2)
        self.assertTrue(tcp_reaches(self.a, "192.0.2.2", PORT + 2))
        self.assertTrue(udp_reaches(self.a, "192.0.2.2", PORT + 2))
        self.assertEqual(set(echo.peers), {"192.0.2.1"})
        ping(self.a, "192.0.2.2", "-c", "2", "-i", "0.2")
        echo.close()

    def test_icmp_error_about_a_masqueraded_datagram_reaches_the_pod(self):
        self.assertTrue(udp_is_refused(self.a, "192.0.2.2", 9, 1))

    def test_world_that_knows_the_way_reaches_pods_unmasqueraded(self):
        self.world.ip("route", "add", "10.83.1.0/24", "via", "192.0.2.1")
        try:
            self.assertTrue(tcp_reaches(self.world, self.a.address, PORT))
        finally:
            self.world.ip("route", "del", "10.83.1.0/24")

    def test_a_pod_cannot_use_anothers_address(self):
        before = self.node.get("/v1/status")["packets"]["drops"].get("SOURCE_IP", 0)
        self.a.ip("addr", "add", f"{self.c.address}/32", "dev", "eth0")
        try:
            self.a.run("sh", "-c", f"ping -c 1 -W 1 -I {self.c.address} {self.b.address} || true")
        finally:
            self.a.ip("addr", "del", f"{self.c.address}/32", "dev", "eth0")
        self.assertGreater(self.node.get("/v1/status")["packets"]["drops"].get("SOURCE_IP", 0), before)

    # ---- policy
    def test_policy_admits_only_its_peers(self):
        self.policy("only-b", ingress({"app": "a"}, select(app="b")))
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))
        self.assertFalse(tcp_reaches(self.c, self.a.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.node, self.a.address, PORT), "the pod's own node is always let in")
        self.assertTrue(tcp_reaches(self.a, self.a.address, PORT), "a pod reaches itself")
        self.assertTrue(tcp_reaches(self.a, self.c.address, PORT), "egress is not isolated")

    def test_default_deny_both_ways(self):
        self.policy("deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        self.assertFalse(tcp_reaches(self.b, self.a.address, PORT, 0.3))
        self.assertFalse(tcp_reaches(self.a, "192.0.2.2", PORT, 0.3))
        self.assertTrue(tcp_reaches(self.node, self.a.address, PORT))
        self.assertTrue(tcp_reaches(self.a, "192.0.2.1", PORT), "to the own node too")

    def test_running_connection_is_judged_again(self):
        stream = TcpStream(self.b, self.a.address, PORT)
        wait_for("the stream to run", lambda: stream.rounds > 3)
        for _ in range(2):
            self.policy("established", ingress({"app": "a"}, select(app="nobody")))
            wait_for("the connection to stall", lambda: stream.stalled(0.5))
            self.policy("established", ingress({"app": "a"}, select(app="b")))
            rounds = stream.rounds
            wait_for("the connection to go on", lambda r=rounds: stream.rounds > r + 3, 20)
        self.assertEqual(stream.end()["resets"], 0)

    def test_label_of_a_peer_counts_at_once_and_for_running_connections(self):
        self.policy("tier", ingress({"app": "a"}, select(tier="front")))
        self.assertFalse(tcp_reaches(self.b, self.a.address, PORT, 0.3))
        generation = self.node.generation()
        self.node.write_pod("x", "b", {"app": "b", "tier": "front"})
        wait_for("b to be let in", lambda: tcp_reaches(self.b, self.a.address, PORT, 0.2))
        stream = TcpStream(self.b, self.a.address, PORT)
        wait_for("the stream to run", lambda: stream.rounds > 3)
        self.node.write_pod("x", "b", {"app": "b"})
        wait_for("the connection to stall", lambda: stream.stalled(0.5))
        self.assertFalse(tcp_reaches(self.b, self.a.address, PORT, 0.3))
        self.assertEqual(self.node.generation(), generation, "a peer's label swaps nothing")
        stream.end()

    def test_swaps_lose_nothing_and_move_nothing_else(self):
        allow = [select(app="a"), select(app="b")]
        self.policy("swap", ingress({"app": "c"}, *allow))
        before = self.node.identities()
        udp = UdpStream(self.a, self.c, self.c.address, 5001)
        tcp = TcpStream(self.b, self.c.address, PORT)
        swaps = 50
        for i in range(swaps):
            generation = self.node.generation()
            self.node.write_policy("x", "swap", ingress({"app": "c"}, *allow, select(app=f"extra-{i}")))
            wait_for("the generation", lambda g=generation: self.node.generation() > g)
        udp_result, tcp_result = udp.end(), tcp.end()
        after = self.node.identities()
        self.assertGreater(udp_result["sent"], 0)
        self.assertEqual((udp_result["lost"], udp_result["duplicates"], tcp_result["resets"]), (0, 0, 0))
        self.assertEqual({n for n in before if before[n] != after.get(n)}, {"program firewall"})
        self.assertNotEqual(before["program firewall"], after["program firewall"])

    def test_a_policy_that_cannot_be_read_changes_nothing(self):
        self.policy("good", ingress({"app": "a"}, select(app="b")))
        generation = self.node.generation()
        rejected = len(self.node.get("/v1/status")["rejected"])
        self.node.write_policy("x", "good", ingress({"app": "a"}, {"ipBlock": {"cidr": "10.0.0.0/99"}}))
        wait_for("the rejection", lambda: len(self.node.get("/v1/status")["rejected"]) > rejected)
        self.assertEqual(self.node.generation(), generation)
        self.assertFalse(tcp_reaches(self.c, self.a.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))

    def test_a_new_policy_that_cannot_be_used_is_closed_until_it_is_corrected(self):
        self.policy("typo", ingress({"app": "a"}, {"ipBlock": {"cidr": "10.0.0.0/99"}}))
        told = wait_for("the rejection", lambda: self.node.get("/v1/status")["rejected"])
        self.assertIn("NetworkPolicy x/typo: spec.ingress[0].from[0].ipBlock.cidr: '10.0.0.0/99' is not a CIDR", told[0])
        self.assertIn("the pods that it selects are isolated and it admits nothing", told[0])
        self.assertFalse(tcp_reaches(self.b, self.a.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.policy("typo", ingress({"app": "a"}, select(app="b")))
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))
        self.assertFalse(tcp_reaches(self.c, self.a.address, PORT, 0.3))
        self.assertEqual(self.node.get("/v1/status")["rejected"], [])

    def test_a_policy_that_asks_for_too_much_is_refused_alone(self):
        """Each of its addresses is in all lists of blocks but one. b is closed; a's new rules are in force."""
        big = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"203.0.{i // 250}.{i % 250}/32"]}}],
             "ports": [{"port": 1000 + i}]} for i in range(2500)] + [{}]}
        self.policy("big", big)
        told = self.node.get("/v1/status")["rejected"]
        self.assertEqual(len(told), 1)
        self.assertRegex(told[0], "^NetworkPolicy x/big is refused: it has more than 2000000 CIDRs ")
        self.assertIn("refused", self.node.get("/v1/endpoints/x/b/policy")["rules"][0]["text"])
        self.assertFalse(tcp_reaches(self.a, self.b.address, PORT, 0.3))
        self.policy("for-a", ingress({"app": "a"}, select(app="c")))
        self.assertFalse(tcp_reaches(self.b, self.a.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.c, self.a.address, PORT))
        self.policy("big", {**big, "ingress": [{}]})
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.assertEqual(self.node.get("/v1/status")["rejected"], [])

    def test_a_file_that_cannot_be_read_at_the_start_leaves_the_rules_as_they_are(self):
        self.policy("held", ingress({"app": "a"}, select(app="b")))
        generation = self.node.generation()
        self.node.kill_daemon(signal.SIGKILL)
        broken = os.path.join(self.node.folder, "policy-x-held.yaml")
        with open(broken, "w") as file:
            file.write("spec: {\n")
        self.node.start_daemon(wait=False)
        wait_for("the reason", lambda: "policy-x-held.yaml:2: " in self.node.get("/v1/status")["notReadyReason"])
        self.assertEqual(self.node.generation(), generation)
        self.assertFalse(tcp_reaches(self.c, self.a.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))
        self.node.write_policy("x", "held", ingress({"app": "a"}, select(app="c")))
        self.node.wait_ready()
        wait_for("the corrected policy", lambda: tcp_reaches(self.c, self.a.address, PORT, 0.3))

    # ---- the daemon is not in the path
    def test_killed_daemon_is_not_missed(self):
        self.policy("kill", ingress({"app": "c"}, select(app="a"), select(app="b")))
        before = self.node.identities()
        udp = UdpStream(self.a, self.c, self.c.address, 5002)
        tcp = TcpStream(self.b, self.c.address, PORT)
        for _ in range(3):
            self.node.kill_daemon(signal.SIGKILL)
            time.sleep(0.3)
            self.assertTrue(tcp_reaches(self.a, self.c.address, PORT), "without a daemon")
            self.node.start_daemon()
            time.sleep(0.2)
        udp_result, tcp_result = udp.end(), tcp.end()
        self.assertEqual((udp_result["lost"], udp_result["duplicates"], tcp_result["resets"]), (0, 0, 0))
        after = self.node.identities()
        self.assertEqual({n for n in before if before[n] != after.get(n)}, {"program firewall"})

    def test_del_while_the_daemon_is_down_is_carried_out_later(self):
        pod = self.node.add_pod("x", "brief", {"app": "brief"})
        used = self.node.get("/v1/status")["addresses"]["used"]
        self.node.kill_daemon()
        self.node.delete_pod(pod)
        self.node.start_daemon()
        wait_for("the address to come back", lambda: self.node.get("/v1/status")["addresses"]["used"] == used - 1, 15)

    # ---- CNI
    def test_add_twice_is_an_error_and_changes_nothing(self):
        with self.assertRaises(CniError) as caught:
            self.node.cni("ADD", self.a.container_id, self.a.path, args="K8S_POD_NAMESPACE=x;K8S_POD_NAME=a")
        self.assertNotEqual(caught.exception.code, 0)
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))

    def test_check_sees_a_lost_address(self):
        config = self.node.config(prevResult=self.a.result)
        self.node.cni("CHECK", self.a.container_id, self.a.path, config=config)
        self.a.ip("addr", "del", f"{self.a.address}/24", "dev", "eth0")
        try:
            with self.assertRaises(CniError):
                self.node.cni("CHECK", self.a.container_id, self.a.path, config=config)
        finally:
            self.a.ip("addr", "add", f"{self.a.address}/24", "dev", "eth0")
            self.a.ip("route", "replace", "default", "via", "10.83.1.1")
        self.node.cni("CHECK", self.a.container_id, self.a.path, config=config)

    def test_add_for_an_unknown_pod_is_told_to_try_again(self):
        stranger = Namespace("stranger")
        try:
            with self.assertRaises(CniError) as caught:
                self.node.cni("ADD", "stranger", stranger.path, args="K8S_POD_NAMESPACE=x;K8S_POD_NAME=nobody")
            self.assertEqual(caught.exception.code, 11)
            self.assertEqual([l["ifname"] for l in json.loads(stranger.run("ip", "-j", "link"))], ["lo"])
        finally:
            stranger.delete()

    def test_gc_gives_back_what_is_not_valid(self):
        pod = self.node.add_pod("x", "stale", {"app": "stale"})
        used = self.node.get("/v1/status")["addresses"]["used"]
        valid = [{"containerID": p.container_id, "ifname": "eth0"} for p in (self.a, self.b, self.c)]
        self.node.cni("GC", config=self.node.config(**{"cni.dev/valid-attachments": valid}))
        self.assertEqual(self.node.get("/v1/status")["addresses"]["used"], used - 1)
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.node.delete_pod(pod)

    def test_a_pod_that_went_without_del_gives_its_address_back(self):
        pod = self.node.add_pod("x", "lost", {"app": "lost"})
        used = self.node.get("/v1/status")["addresses"]["used"]
        pod.delete()
        wait_for("the address to come back", lambda: self.node.get("/v1/status")["addresses"]["used"] == used - 1, 15)
        self.node.cni("DEL", pod.container_id, "")
        self.node.pods.pop("x/lost")
        self.node.remove("pod-x-lost")


class ClsactTest(sluice_test.SluiceTest):
    """The same chain by clsact, as on kernels before 6.6."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "old", "10.83.9.0/24")
        cls.node.begin("--attach=clsact")
        cls.a, cls.b = (cls.node.add_pod("x", name, {"app": name}) for name in "ab")
        cls.echo = Echo(cls.b, PORT)

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        for pod in (cls.a, cls.b):
            cls.node.delete_pod(pod)
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def test_traffic_and_policy(self):
        node, a, b = self.node, self.a, self.b
        self.assertTrue(tcp_reaches(a, b.address, PORT))
        self.assertTrue(tcp_reaches(node, b.address, PORT))
        generation = node.generation()
        node.write_policy("x", "deny", ingress({"app": "b"}))
        wait_for("the policy", lambda: node.generation() > generation)
        self.assertFalse(tcp_reaches(a, b.address, PORT, 0.3))
        node.cni("CHECK", a.container_id, a.path, config=node.config(prevResult=a.result))


class TwoNodesTest(sluice_test.NodePairTest):
    """Pod a on one node, b on the other."""

    @classmethod
    def setUpClass(cls):
        cls.make_nodes(BUILD)
        (cls.a,), (cls.b,) = cls.add_pods(cls.one, "a"), cls.add_pods(cls.two, "b")
        cls.echoes = [Echo(where, PORT) for where in (cls.a, cls.b, cls.two)]

    def test_pods_reach_each_other_across_nodes(self):
        self.assertTrue(tcp_reaches(self.a, self.b.address, PORT))
        self.assertTrue(udp_reaches(self.b, self.a.address, PORT))
        self.assertTrue(udp_reaches(self.a, self.b.address, PORT, size=9000), "fragments through the tunnel")
        ping(self.a, self.b.address)
        ping(self.a, self.b.address, "-M", "do", "-s", str(1450 - 28))

    def test_node_reaches_the_other_nodes_pods_and_pods_the_other_node(self):
        self.assertTrue(tcp_reaches(self.one, self.b.address, PORT))
        self.assertTrue(tcp_reaches(self.a, "192.0.2.12", PORT))

    def test_policy_holds_across_nodes(self):
        before = (self.one.generation(), self.two.generation())
        self.one.write_policy("x", "deny", ingress({"app": "b"}, select(app="c")))
        wait_for("the policy", lambda: self.two.generation() > before[1])
        self.assertFalse(tcp_reaches(self.a, self.b.address, PORT, 0.3))
        self.assertTrue(tcp_reaches(self.b, self.a.address, PORT))
        self.assertFalse(tcp_reaches(self.one, self.b.address, PORT, 0.3), "another node is no exception")
        self.assertTrue(tcp_reaches(self.two, self.b.address, PORT))
        self.assertEqual(self.one.generation(), before[0], "what selects no pod of a node makes no generation there")
        self.one.remove("policy-x-deny")
        wait_for("the traffic", lambda: tcp_reaches(self.a, self.b.address, PORT, 0.3))

    def test_swaps_across_nodes_lose_nothing(self):
        udp = UdpStream(self.a, self.b, self.b.address, 5001)
        for i in range(30):
            generation = self.two.generation()
            self.one.write_policy("x", "swap", ingress({"app": "b"}, select(app="a"), select(app=f"extra-{i}")))
            wait_for("the generation", lambda g=generation: self.two.generation() > g)
        result = udp.end()
        self.one.remove("policy-x-swap")
        self.assertEqual((result["lost"], result["duplicates"]), (0, 0))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
