# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon until the first ADD succeeds, with many pods attached and with none."""
import time

from sluice_node import CniError, Node, Pod

SANDBOX = True
ROUNDS = 30
PODS = 100


def node_with(options, name, pod_cidr, pods):
    node = Node(options.build, name, pod_cidr)
    node.write_node()
    node.write_namespace("x")
    node.write_policy("x", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                                   "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]})
    node.start_daemon()
    for i in range(pods):
        node.add_pod("x", f"p{i}", {"app": "web" if i % 2 else "other"})
    node.write_pod("x", "new", {"app": "web"})
    return node


def until_added(node):
    """The runtime's view: it starts the daemon again at once and tries ADD until that succeeds."""
    pod = Pod(node, "x", "new")
    begin = time.monotonic_ns()
    node.kill_daemon()
    node.start_daemon(wait=False)
    while True:
        try:
            node.attach(pod)
            break
        except CniError:
            time.sleep(0.002)
    took = (time.monotonic_ns() - begin) / 1e6
    node.cni("DEL", pod.container_id, pod.path)
    pod.delete()
    return took


def measure(record, options):
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    nodes = [node_with(options, "full", "10.83.0.0/22", PODS), node_with(options, "empty", "10.84.0.0/22", 0)]
    took = [[until_added(node) for node in nodes] for _ in range(rounds)]
    record.put("ready_after_kill_ms", [full for full, _ in took], [empty for _, empty in took])
    record.conditions = f"{PODS} pods attached; the daemon is started again at once and ADD is tried until it succeeds"
