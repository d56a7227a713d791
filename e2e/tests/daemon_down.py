# SPDX-License-Identifier: Apache-2.0
"""The daemon is not in the path: a minute without it, kill -9, helm upgrade; running traffic loses nothing."""
import os
import signal
import time

from lib.api import APPS, CORE
from lib.cluster import FIREWALL, changed_identities, wait_for
from lib.streams import Streams, verdict
from lib.table import incoming, ns_peer, rule

NAMESPACE = "down"
DOWN_SECONDS = 60
NODE = {"client": "n1", "near": "n1", "far": "n2", "doomed": "n1"}
DAEMON_SET = f"{APPS}/namespaces/kube-system/daemonsets/sluice"
NOWHERE = {"sluice.test/nowhere": "true"}


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node)
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client, near, far = (pods[f"{NAMESPACE}/{n}"] for n in ("client", "near", "far"))
        # Under a policy, so that the firewall has something to say all the while.
        cluster.api.put_policy(incoming(f"{NAMESPACE}/policy", rule([ns_peer({})])))
        udp, tcp = [(client, near), (client, far)], [(client, near), (client, far)]
        for name, disturb in (("a minute without the daemon", without_daemon), ("kill -9", kill_daemon),
                              ("helm upgrade", helm_upgrade)):
            streams = Streams(udp, tcp)
            try:
                disturb(cluster, report)
                verdict(report, name, streams.end())
            finally:
                streams.kill()
            audit(cluster, report, name)
    finally:
        cluster.delete_namespaces(NAMESPACE)


def without_daemon(cluster, report):
    """Takes the DaemonSet off all nodes; pods can go meanwhile, and can't come."""
    cluster.api.patch(DAEMON_SET, {"spec": {"template": {"spec": {"nodeSelector": NOWHERE}}}})
    try:
        wait_for("the daemons to go", lambda: not cluster.daemon_pods(), 60)
        begin = time.monotonic()
        place = f"{CORE}/namespaces/{NAMESPACE}/pods"
        cluster.api.delete(f"{place}/doomed", grace=0)
        cluster.create_pod(NAMESPACE, "early", "n1")
        time.sleep(max(0.0, begin + DOWN_SECONDS - time.monotonic()))
        early = cluster.api.get(f"{place}/early")
        report.check("no pod starts without the daemon", early["status"]["phase"] == "Pending", early["status"])
        # A node that is not ready loses its pods to all Services at once, and after five minutes altogether.
        ready = {node["metadata"]["name"]: condition["status"] for node in cluster.api.items(f"{CORE}/nodes")
                 for condition in node["status"].get("conditions", ()) if condition["type"] == "Ready"}
        report.check("the nodes stay ready without their daemons", all(ready.get(n) == "True" for n in cluster.nodes), ready)
    finally:
        cluster.api.patch(DAEMON_SET, {"spec": {"template": {"spec": {"nodeSelector": {k: None for k in NOWHERE}}}}})
    wait_for("the daemons to be back", cluster.daemons_ready, 60)
    names = {f"{NAMESPACE}/{n}" for n in ("client", "near", "far", "early")}
    hosts = cluster.ready_pods(NAMESPACE, len(names), 120)
    report.check("the pod that waited starts once the daemon is back", set(hosts) == names, hosts)

    def released():
        there = cluster.sluicectl("n1", "endpoints")["endpoints"]
        return all((e["namespace"], e["pod"]) != (NAMESPACE, "doomed") for e in there)
    try:
        good = wait_for("the queued deletion", released, 30)
    except TimeoutError:
        good = False
    report.check("the pod deleted meanwhile has given its address back", good)


def kill_daemon(cluster, report):
    before = {node: cluster.daemon_process(node) for node in cluster.nodes}
    for pid, _ in before.values():
        os.kill(pid, signal.SIGKILL)

    def back():
        return cluster.daemons_ready() and all(
            cluster.daemon_process(node)[1] > count for node, (_, count) in before.items())
    wait_for("the daemons to be back", back, 90)
    report.check("the daemons are back", True)


def helm_upgrade(cluster, report):
    before = {p["metadata"]["uid"] for p in cluster.daemon_pods()}
    programs = {node: cluster.identities(node) for node in cluster.nodes}
    cluster.helm_upgrade("--set", "logLevel=debug", "--set", "podAnnotations.upgraded=yes")

    # helm takes a DaemonSet for ready while maxUnavailable of it is not.
    def replaced():
        return cluster.daemons_ready() and not before & {p["metadata"]["uid"] for p in cluster.daemon_pods()}
    wait_for("helm upgrade to replace every daemon", replaced, 60)
    report.check("helm upgrade replaces every daemon", True)
    for node in cluster.nodes:
        moved = changed_identities(programs[node], cluster.identities(node))
        moved.pop(FIREWALL, None)
        report.check(f"the new daemon of {node} adopts what it finds: no id changes", not moved, moved)


def audit(cluster, report, name):
    for node in cluster.nodes:
        found = cluster.sluicectl(node, "status")
        report.check(f"{name}: the daemon of {node} finds nothing amiss", found["ready"] and not found["audit"], found)
