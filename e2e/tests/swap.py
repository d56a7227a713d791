# SPDX-License-Identifier: Apache-2.0
"""1,000 policy updates under load, each in force on every node before the next: nothing is lost, and nothing but the
firewall is exchanged."""
import time

from lib.cluster import FIREWALL, changed_identities
from lib.live import live_generations
from lib.streams import Streams, verdict
from lib.table import block, incoming, ns_peer, outgoing, rule, sctp, tcp, udp

NAMESPACE = "swap"
UPDATES = 1000
DEADLINE = 30.0  # seconds for one update to be in force
NODE = {"client": "n1", "near": "n1", "far": "n2"}


def update(number):
    """A policy that allows the traffic and, beside it, something that no update before it has allowed: it changes what
    every pod admits, or what every pod may send."""
    address, port = number % 250, 1000 + number
    make, beside = (
        (incoming, rule([block(f"192.0.2.{address}/32")], [tcp(port, port + number % 7)])),
        (outgoing, rule([block(f"198.51.100.{address}/32")], [udp(port)])),
        (incoming, rule([block("203.0.113.0/24", f"203.0.113.{address}/32")], [sctp(port), tcp(port)])),
        (outgoing, rule([block("192.0.2.0/24")], [tcp(port), udp(port, port + 100)])),
    )[number % 4]
    return make(f"{NAMESPACE}/{make.__name__}-{number % 8}", rule([ns_peer({})]), beside)


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node)
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client, near, far = (pods[f"{NAMESPACE}/{n}"] for n in NODE)
        flows = {"udp": [(client, near), (client, far)], "tcp": [(client, near)] * 5 + [(client, far)] * 5}

        with live_generations(cluster) as live:
            apply(cluster, live, 0)
            before = {n: cluster.identities(n) for n in cluster.nodes}
            first = {n: live[n].generation() for n in cluster.nodes}
            streams = Streams(**flows)
            try:
                took = [apply(cluster, live, number) for number in range(1, UPDATES + 1)]
                verdict(report, f"{UPDATES} policy updates", streams.end())
            finally:
                streams.kill()
            swaps = {n: live[n].generation() - first[n] for n in cluster.nodes}
        took.sort()
        report.note(f"{swaps} generations in {sum(took):.0f} s; from the write's begin until in force everywhere: median "
                    f"{took[len(took) // 2] * 1000:.1f} ms, 99 % {took[len(took) * 99 // 100] * 1000:.1f} ms")
        for node in cluster.nodes:
            report.check(f"each update is a generation of its own on {node}", swaps[node] >= UPDATES, swaps)
            nothing_else_moved(report, node, before[node], cluster.identities(node))

        streams = Streams(**flows)
        try:
            time.sleep(sum(took))
            verdict(report, "control run without updates", streams.end())
        finally:
            streams.kill()
    finally:
        cluster.delete_namespaces(NAMESPACE)


def apply(cluster, live, number):
    """Writes the update and waits until it is in force on every node. The seconds that this took."""
    before = {node: live[node].generation() for node in live}
    begin = time.monotonic()
    cluster.api.put_policy(update(number))
    for node, generation in before.items():
        live[node].wait_beyond(generation, DEADLINE)
    return time.monotonic() - begin


def nothing_else_moved(report, node, before, after):
    moved = changed_identities(before, after)
    others = {name: ids for name, ids in moved.items() if name != FIREWALL}
    report.check(f"no program, link or map of {node} but the firewall's program has changed", not others, others)
    report.check(f"the firewall of {node} is another program", FIREWALL in moved, moved)
