# SPDX-License-Identifier: Apache-2.0
"""A large cluster: how long a new pod waits, how long a pod's new label takes to be in force, and how much memory the daemon
takes where 100,000 pods and 10,000 policies are known. Beside it the same in a small cluster."""
import socket
import time

from measure import fake_api
from measure.asked import PORT, Asked, AskedNode, ask, metadata, serve
from measure.memory import SETTLE, memory_mb
from sluice_node import Node, Pod
from traffic import bound

SANDBOX = True
SMALL, LARGE = (100, 10), (100_000, 10_000)  # pods of other nodes, policies
LOCAL, ROUNDS = 30, 100
POD_CIDR, API_PORT = "10.83.0.0/22", 8001


class Cluster(AskedNode):
    """One node of a cluster with so many pods and policies; `client` may speak to `guarded` while it has a label."""

    def __init__(self, options, name, pods, policies):
        self.node = Node(options.build, name, POD_CIDR)
        lists = fake_api.objects(pods, policies, name, POD_CIDR)
        # Of the apps and namespaces that the policies are about, so that each is selected by a hundredth of a fiftieth of them.
        local = [self.here({**pod, "metadata": {**pod["metadata"], "name": f"local{i}", "uid": f"local{i}"}})
                 for i, pod in enumerate(fake_api.pod(i) for i in range(LOCAL))]
        lists["pods"] += local + [self.good("client"), self.good("guarded")]
        lists["namespaces"].append({"metadata": {"name": "good"}})
        lists["networkpolicies"].append({
            "metadata": metadata("good", "guard"),
            "spec": {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"friend": "yes"}}}]}]}})
        self.api = fake_api.Server(bound(self.node, socket.SOCK_STREAM, API_PORT, "127.0.0.1"), lists)
        self.node.start_daemon(source=["--source=kube", f"--kubeconfig={fake_api.kubeconfig(self.node.home, API_PORT)}"], wait=False)
        begin = time.monotonic()
        self.node.wait_ready(300)
        self.ready_after = time.monotonic() - begin
        for item in local:
            self.node.attach(Pod(self.node, item["metadata"]["namespace"], item["metadata"]["name"]))
        self.pods = {pod: Pod(self.node, "good", pod) for pod in ("client", "guarded")}
        for pod in self.pods.values():
            self.node.attach(pod)
        super().__init__(options)
        self.asked = Asked(f"/run/{name}.log")
        self.process(serve, self.pods["guarded"].path, b"guarded")
        self.process(ask, self.pods["client"].path, self.pods["guarded"].address, PORT, self.asked.log)
        time.sleep(SETTLE)

    def here(self, pod):
        return {**pod, "spec": {**pod["spec"], "nodeName": self.node.name}, "status": {}}

    def good(self, name, **labels):
        return self.here({"metadata": metadata("good", name, {"app": name, **labels}), "spec": {}})

    def relabel(self, friend):
        told = self.api.push("pods", self.good("client", **({"friend": "yes"} if friend else {})))
        return self.asked.until(told, "guarded" if friend else "-")

    def add_pod(self):
        """Of an app that policies select, in a namespace of theirs."""
        self.added += 1
        item = fake_api.pod(self.added % LOCAL)
        item["metadata"].update(name=f"fresh{self.added}", uid=f"fresh{self.added}")
        return self.add(self.here(item))

    def round(self):
        return {"add": self.add_pod(), "event": self.relabel(self.added % 2 == 1)}


def measure(record, options):
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    small = Cluster(options, "small", *SMALL)
    large = Cluster(options, "large", *(LARGE if not options.quick else (n // 10 for n in LARGE)))
    try:
        for each in (small, large):
            each.round()
        took = {each: [] for each in (small, large)}
        for number in range(rounds):
            for each in (small, large) if number % 2 else (large, small):
                took[each].append(each.round())
        memory = [memory_mb(each.node.daemon.pid, "VmRSS") for each in (large, small)]
        for name, key in (("cluster_add_p99_ms", "add"), ("cluster_event_p99_ms", "event")):
            record.put(name, [r[key] for r in took[large]], [r[key] for r in took[small]])
        record.put("cluster_rss_mb", memory[:1], memory[1:])
        record.row("ready after", "s", [large.ready_after])
    finally:
        for each in (small, large):
            each.end()
    record.conditions = f"100,000 pods, 10,000 policies, {LOCAL + 2} pods of the node; {rounds} rounds" if not options.quick else "a tenth"
