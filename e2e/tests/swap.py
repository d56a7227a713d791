# SPDX-License-Identifier: Apache-2.0
"""1,000 policy updates under load: nothing is lost, and nothing but the firewall is exchanged."""
import time

from lib.streams import Streams, verdict
from lib.table import block, incoming, ns_peer, rule, tcp, udp

NAMESPACE = "swap"
UPDATES = 1000
PACE = 0.02  # seconds between updates, so that many of them become generations of their own
NODE = {"client": "n1", "near": "n1", "far": "n2"}


def policies(number):
    """Two policies that always allow the traffic, and something else that differs each time."""
    different = rule([block(f"192.0.2.{number % 250}/32")], [tcp(1000 + number, 1000 + number + number % 7)])
    if number % 2:
        different = rule([ns_peer({})], [udp(1 + number)])
    return (incoming(f"{NAMESPACE}/traffic", rule([ns_peer({})]), different),
            incoming(f"{NAMESPACE}/other", different, rule([ns_peer({})], [tcp(None), udp(None)])))


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node)
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client, near, far = (pods[f"{NAMESPACE}/{n}"] for n in NODE)
        udp_flows, tcp_flows = [(client, near), (client, far)], [(client, near)] * 5 + [(client, far)] * 5

        for policy in policies(0):
            cluster.api.put_policy(policy)
        time.sleep(1)
        before = {n: cluster.identities(n) for n in cluster.nodes}
        generations = {n: generation(cluster, n) for n in cluster.nodes}
        streams = Streams(udp_flows, tcp_flows)
        try:
            begin = time.monotonic()
            for number in range(1, UPDATES + 1):
                cluster.api.put_policy(policies(number)[number % 2])
                time.sleep(max(0.0, begin + number * PACE - time.monotonic()))
            seconds = time.monotonic() - begin
            time.sleep(1)
            verdict(report, f"{UPDATES} policy updates", streams.end())
        finally:
            streams.kill()
        for node in cluster.nodes:
            swaps = generation(cluster, node) - generations[node]
            report.check(f"the updates reach the datapath of {node} ({swaps} generations in {seconds:.0f} s)",
                         swaps >= UPDATES // 10, swaps)
            moved = {name: (before[node].get(name), value) for name, value in cluster.identities(node).items()
                     if before[node].get(name) != value}
            others = {name: ids for name, ids in moved.items() if not of_firewall(name)}
            report.check(f"no program, link or map of {node} but the firewall's has changed", not others, others)
            report.check(f"the firewall of {node} is another program", "program firewall" in moved, moved)

        streams = Streams(udp_flows, tcp_flows)
        try:
            time.sleep(seconds)
            verdict(report, "control run without updates", streams.end())
        finally:
            streams.kill()
    finally:
        cluster.delete_namespace(NAMESPACE)


def generation(cluster, node):
    live = cluster.sluicectl(node, "firewall")["live"]
    return live["number"] if live else 0


def of_firewall(name):
    """A generation is a program and its own arrays."""
    return name.startswith(("program firewall", "map generation", "map firewall"))
