# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicies over real traffic: every pair of nine pods, same-node and cross-node, nodes and hosts outside."""
import itertools
import json
import re
import time

from lib import probe
from lib.accounts import unaccounted
from lib.api import CORE, NETWORKING
from lib.cluster import wait_for
from lib.table import verdict
from tests.policy_table import CASES

NODE = {"x/a": "n1", "x/b": "n2", "x/c": "n1", "y/a": "n2", "y/b": "n1", "y/c": "n2", "z/a": "n1", "z/b": "n2", "z/c": "n1"}
WEB = {"x/a": 80, "x/b": 80, "x/c": 80, "y/a": 80, "y/b": 81}
NAMESPACES = {"x": {"ns": "x", "team": "red"}, "y": {"ns": "y", "team": "red"}, "z": {"ns": "z"}}
PORTS = [(protocol, port) for protocol in ("tcp", "udp", "sctp") for port in (80, 81)]
DEADLINE = 15.0  # seconds for a change to take effect everywhere
# Seconds for an answer that is expected (a lost SYN is sent again after one second), and for one that should not come.
PATIENCE = (0.6, 0.3)  # while waiting for a change
SURE = (2.5, 0.6)      # in the final look


def make_pods(cluster):
    for name, given in NAMESPACES.items():
        cluster.create_namespace(name, given)
    for place, node in NODE.items():
        namespace, name = place.split("/")
        ports = [{"name": "web", "protocol": "TCP", "containerPort": WEB[place]}] if place in WEB else []
        if namespace == "z":
            ports = [{"name": "dns", "protocol": "UDP", "containerPort": 80}]
        cluster.create_pod(namespace, name, node, {"pod": name}, {"ports": ports})
    hosts = {}
    for namespace in NAMESPACES:
        hosts.update(cluster.ready_pods(namespace, 3))
    return hosts


class Table:
    def __init__(self, cluster, pods, servers):
        self.cluster, self.pods = cluster, pods
        tcp, udp = [p for n, p in PORTS if n == "tcp"], [p for n, p in PORTS if n == "udp"]
        for pod in pods.values():
            servers.add(pod, tcp, udp, [p for n, p in PORTS if n == "sctp"])
        servers.add(cluster.out, tcp, udp)
        self.words = {f"{{{name}}}": pod.address for name, pod in pods.items()}
        for node in cluster.nodes:
            self.words[f"{{cidr {node}}}"] = cluster.api.get(f"{CORE}/nodes/{node}")["spec"]["podCIDR"]

    def questions(self, expect, only=None):
        """Attempts with the verdict that is expected of each."""
        asked = []
        outside = [*self.cluster.nodes.values(), self.cluster.cp]
        pairs = [*itertools.product(self.pods.values(), [*self.pods.values(), self.cluster.out]),
                 *itertools.product(outside, self.pods.values())]
        for (source, target), (protocol, port) in itertools.product(pairs, PORTS):
            if protocol == "sctp" and (source in outside or target is self.cluster.out or source is target):
                continue
            want = verdict(expect, source, target, f"{protocol}{port}")
            if want != "any" and (only is None or (source, target, protocol, port) in only):
                asked.append((probe.Attempt(source, protocol, target.address, port), target, want))
        return asked

    def wrong(self, expect, patience, only=None):
        """(source, target, protocol, port) -> what was expected, of every pair that behaves otherwise."""
        asked = self.questions(expect, only)
        probe.run([a for a, _, _ in asked], patience[0], {a for a, _, want in asked if want == "allow"}, patience[1])
        return {(a.source, target, a.protocol, a.port): want for a, target, want in asked
                if (a.answer is not None) != (want == "allow")}

    def settle(self, expect):
        """Waits until everything is as expected, then looks once more, with patience. What is still wrong."""
        end = time.monotonic() + DEADLINE
        wrong = self.wrong(expect, PATIENCE)
        while wrong and time.monotonic() < end:
            wrong = self.wrong(expect, SURE, wrong)
        if wrong:
            return wrong, f"{DEADLINE:.0f} s after the change"
        # Says more than the above: it was right before, so what is wrong now came through in between.
        return self.wrong(expect, SURE), "after it had been right"

    def act(self, action):
        api = self.cluster.api
        if isinstance(action, dict):
            text = json.dumps(action)
            for word, value in self.words.items():
                text = text.replace(word, value)
            assert not re.search(r"\{(cidr )?\w+(/\w+)?\}", text), text
            api.put_policy(json.loads(text))
        elif action[0] == "delete":
            namespace, name = action[1].split("/")
            api.delete(f"{NETWORKING}/namespaces/{namespace}/networkpolicies/{name}")
        else:
            namespace, _, pod = action[1].partition("/")
            api.patch(f"{CORE}/namespaces/{namespace}" + (f"/pods/{pod}" if pod else ""),
                      {"metadata": {"labels": action[2]}})

    def clear(self):
        for namespace in NAMESPACES:
            for item in self.cluster.api.items(f"{NETWORKING}/namespaces/{namespace}/networkpolicies"):
                self.act(("delete", f"{namespace}/{item['metadata']['name']}"))


def describe(wrong, when):
    lines = [f"{s} > {t} {protocol}{port} (should be: {want})" for (s, t, protocol, port), want in wrong.items()]
    return f"{when}, {len(lines)} of all pairs: " + "; ".join(lines[:6]) + ("; …" if len(lines) > 6 else "")


def run(cluster, report):
    servers = probe.Servers()
    try:
        table = Table(cluster, make_pods(cluster), servers)
        report.note(f"{len(CASES)} cases, {len(table.questions([]))} questions each")
        for case in CASES:
            wrong, when = {}, ""
            for step in case.steps:
                for action in step.actions:
                    table.act(action)
                wrong, when = table.settle(step.expect)
                if wrong:
                    break
            lost = unaccounted(cluster)
            report.check(case.name, not wrong and not lost, describe(wrong, when) if wrong else f"unaccounted: {lost}")
            table.clear()
        wait_for("the policies to be gone", lambda: not table.wrong([], SURE), 30)
    finally:
        servers.close()
        cluster.delete_namespaces(*NAMESPACES)
