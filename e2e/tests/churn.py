# SPDX-License-Identifier: Apache-2.0
"""Churn: pods and nodes come and go, labels and policies change; the daemons' memory stays flat and all is given back.

The time is an option, --churn SECONDS. Most pods are objects of nodes that do not run, so that the API server and the
daemons are busy and not the kubelets; some are real ones.
"""
import itertools
import random
import time

from lib import probe, size
from lib.api import CORE, NETWORKING, ApiError
from lib.cluster import wait_for
from lib.live import live_generations
from lib.streams import Streams, verdict
from lib.table import block, expression, incoming, labels, ns_peer, outgoing, pod_peer, rule, tcp, udp

PACE = 0.04           # seconds between changes: 20 minutes have as many as a day with one in three seconds
WARM_UP = 0.25        # of the time: allocators and tables grow to what they need
MORE_MEMORY = 1024    # KiB and 5 %: what counts as flat
SPACES = ["churn-a", "churn-b", "churn-c"]
GHOSTS = ["ghost-1", "ghost-2", "ghost-3"]
PODS_AT_ONCE, POLICIES_AT_ONCE = 150, 30
REAL_PODS_AT_ONCE, REAL_POD_EVERY = 4, 3.0
PORT = 80
WORDS = ["red", "blue", "green", "black"]


class Churn:
    """Random changes by the API, each counted."""

    def __init__(self, cluster, seed):
        self.cluster, self.api, self.random = cluster, cluster.api, random.Random(seed)
        self.pods, self.policies, self.real, self.serial = [], [], [], 0
        self.changes = {}
        self.next_real = time.monotonic()

    def count(self, what):
        self.changes[what] = self.changes.get(what, 0) + 1

    def next_name(self, prefix):
        self.serial += 1
        return f"{prefix}-{self.serial}"

    def some_labels(self):
        return {key: self.random.choice(WORDS) for key in ("app", "tier") if self.random.random() < 0.8}

    def step(self):
        if time.monotonic() >= self.next_real:
            self.next_real = time.monotonic() + REAL_POD_EVERY
            self.real_pod()
        self.random.choices([self.ghost_pod, self.relabel_pod, self.relabel_namespace, self.change_policy, self.ghost_node],
                            [40, 20, 3, 35, 1])[0]()

    # ---- pods
    def ghost_pod(self):
        if len(self.pods) >= PODS_AT_ONCE or (self.pods and self.random.random() < 0.4):
            namespace, name = self.pods.pop(self.random.randrange(len(self.pods)))
            self.api.delete(f"{CORE}/namespaces/{namespace}/pods/{name}", grace=0)
            return self.count("pods deleted")
        namespace, name = self.random.choice(SPACES), self.next_name("ghost")
        place = f"{CORE}/namespaces/{namespace}/pods"
        self.api.call("POST", place, {
            "metadata": {"name": name, "labels": self.some_labels()},
            "spec": {"nodeName": self.random.choice(GHOSTS), "tolerations": [{"operator": "Exists"}],
                     "automountServiceAccountToken": False,
                     "containers": [{"name": "c", "image": "none", "ports": [
                         {"name": "web", "containerPort": self.random.choice([80, 8080])}]}]}})
        address = f"10.200.{self.serial // 250 % 250}.{self.serial % 250 + 1}"
        self.api.patch(f"{place}/{name}/status",
                       {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
        self.pods.append((namespace, name))
        return self.count("pods created")

    def real_pod(self):
        if len(self.real) >= REAL_PODS_AT_ONCE:
            namespace, name = self.real.pop(0)
            self.api.delete(f"{CORE}/namespaces/{namespace}/pods/{name}", grace=0)
            self.count("real pods deleted")
        namespace, name = self.random.choice(SPACES), self.next_name("real")
        self.cluster.create_pod(namespace, name, self.random.choice(list(self.cluster.nodes)), self.some_labels())
        self.real.append((namespace, name))
        self.count("real pods created")

    def relabel_pod(self):
        if not self.pods:
            return
        namespace, name = self.random.choice(self.pods + self.real)
        fields = {"app": self.random.choice([None, *WORDS]), "tier": self.random.choice([None, *WORDS])}
        self.api.patch(f"{CORE}/namespaces/{namespace}/pods/{name}", {"metadata": {"labels": fields}})
        self.count("pods relabelled")

    def relabel_namespace(self):
        self.api.patch(f"{CORE}/namespaces/{self.random.choice(SPACES)}",
                       {"metadata": {"labels": {"team": self.random.choice([None, *WORDS])}}})
        self.count("namespaces relabelled")

    def ghost_node(self):
        """Its pods, if it has any, stay: as on a node that is being replaced."""
        name = self.random.choice(GHOSTS)
        self.api.delete(f"{CORE}/nodes/{name}")
        make_ghost(self.api, name)
        self.count("nodes replaced")

    # ---- policies
    def change_policy(self):
        if len(self.policies) >= POLICIES_AT_ONCE or (self.policies and self.random.random() < 0.3):
            namespace, name = self.policies.pop(self.random.randrange(len(self.policies)))
            self.api.delete(f"{NETWORKING}/namespaces/{namespace}/networkpolicies/{name}")
            return self.count("policies deleted")
        if self.policies and self.random.random() < 0.5:
            namespace, name = self.random.choice(self.policies)
            self.count("policies changed")
        else:
            namespace, name = self.random.choice(SPACES), self.next_name("policy")
            self.policies.append((namespace, name))
            self.count("policies created")
        return self.api.put_policy(self.some_policy(f"{namespace}/{name}"))

    def some_policy(self, place):
        pick = self.random.choice
        peers = [pick([pod_peer(labels(app=pick(WORDS))), ns_peer(labels(team=pick(WORDS))),
                       ns_peer({}, expression("tier", pick(["In", "NotIn"]), pick(WORDS))),
                       block(f"10.200.{self.random.randrange(250)}.0/24"),
                       block("0.0.0.0/0", f"10.{self.random.randrange(250)}.0.0/16")])
                 for _ in range(self.random.randint(1, 3))]
        first = self.random.randrange(1, 60000)
        ports = pick([None, [tcp("web")], [tcp(first, first + self.random.randrange(1000))], [udp(first), tcp(first)]])
        return pick([incoming, outgoing])(place, rule(peers, ports), pods=pick([{}, labels(app=pick(WORDS))]))

    def clear(self):
        for namespace, name in self.policies:
            self.api.delete(f"{NETWORKING}/namespaces/{namespace}/networkpolicies/{name}")
        for namespace, name in self.pods + self.real:
            self.api.delete(f"{CORE}/namespaces/{namespace}/pods/{name}", grace=0)
        self.pods, self.policies, self.real = [], [], []


def make_ghost(api, name):
    api.call("POST", f"{CORE}/nodes", {"metadata": {"name": name}, "spec": {"unschedulable": True}})
    address = f"10.10.0.{100 + int(name[-1])}"
    api.patch(f"{CORE}/nodes/{name}/status", {"status": {"addresses": [{"type": "InternalIP", "address": address}]}})


def run(cluster, report):
    seconds = report.options.churn
    try:
        for name in GHOSTS:
            make_ghost(cluster.api, name)
        for namespace in SPACES + ["still"]:
            cluster.create_namespace(namespace)
        for name, node in (("client", "n1"), ("near", "n1"), ("far", "n2")):
            cluster.create_pod("still", name, node)
        pods = cluster.ready_pods("still", 3)
        client, near, far = (pods[f"still/{n}"] for n in ("client", "near", "far"))
        cluster.api.put_policy(incoming("still/policy", rule([ns_peer({})])))
        settle(cluster)
        before = {node: size.holdings(cluster, node) for node in cluster.nodes}

        streams = Streams(tcp=[(client, near), (client, far)])
        sampler = size.Sampler(cluster, max(0.5, seconds / 400))
        churn = Churn(cluster, 1)
        try:
            with live_generations(cluster) as live:
                first = {node: live[node].generation() for node in live}
                churn_for(churn, seconds, client, (near, far))
                made = {node: live[node].generation() - first[node] for node in live}
            verdict(report, "connections through the churn", streams.end())
        finally:
            streams.kill()
            sampler.end()
        report.note(f"{sum(churn.changes.values())} changes in {seconds:.0f} s: {churn.changes}; generations: {made}")
        report.check("the churn reaches the firewalls", min(made.values()) >= seconds, made)
        for node in cluster.nodes:
            flat(report, node, sampler)
        churn.clear()
        given_back(cluster, report, before)
    finally:
        cluster.delete_namespaces(*SPACES, "still")
        for name in GHOSTS:
            cluster.api.delete(f"{CORE}/nodes/{name}")


def settle(cluster):
    """Two turns of each daemon's housekeeping."""
    time.sleep(11)
    wait_for("the daemons", cluster.daemons_ready, 30)


def churn_for(churn, seconds, client, targets):
    begin = time.monotonic()
    for turn in itertools.count():
        if time.monotonic() >= begin + seconds:
            return
        for number in range(20):
            time.sleep(max(0.0, begin + (20 * turn + number) * PACE - time.monotonic()))
            try:
                churn.step()
            except ApiError as error:
                if error.status not in (404, 409):  # what the controllers did meanwhile
                    raise
        # Connections that come and go, too.
        probe.run([probe.Attempt(client, "tcp", t.address, PORT) for t in targets for _ in range(10)], 0.5)


def flat(report, node, sampler):
    samples = sampler.samples[node]
    kept = len(samples) - int(len(samples) * WARM_UP)
    sampler.samples[node] = samples[-kept:]
    for what in ("resident KiB", "threads", "descriptors"):
        course = sampler.course(node, what)
        allowed = max(MORE_MEMORY, course[0] * 0.05) if what == "resident KiB" else 4
        report.note(f"{node}: {what}: {', '.join(f'{value:.0f}' for value in course)} (medians of each quarter)")
        report.check(f"{what} of the daemon of {node}: flat", course[-1] - course[0] <= allowed, course)


def given_back(cluster, report, before):
    for node in cluster.nodes:
        different = {}

        def same(n=node, different=different):
            different.clear()
            different.update({what: {"before": before[n][what], "now": count}
                              for what, count in size.holdings(cluster, n).items() if count != before[n][what]
                              # Connections of the groups before may have expired meanwhile.
                              and not (what == "entries of conntrack" and count < before[n][what])})
            return not different
        try:
            good = wait_for("everything to be given back", same, 180, 2)  # a closed connection is known for two minutes
        except TimeoutError:
            good = False
        report.check(f"maps, links, interfaces, addresses and files of {node} are back to what they were", good, different)
        status = cluster.sluicectl(node, "status")
        report.check(f"the daemon of {node} finds nothing amiss", status["ready"] and not status["audit"], status)
