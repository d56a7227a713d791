# SPDX-License-Identifier: Apache-2.0
"""The API server goes away and comes back, twice: running traffic loses nothing, a pod that is known gets its network
without it, a daemon that starts meanwhile says what it waits for, and what changed is told afterwards."""
import os
import signal
import time

from lib import probe
from lib.api import NETWORKING
from lib.cluster import processes_by_container, wait_for
from lib.streams import Streams, verdict
from lib.table import expression, incoming, labels, ns_peer, policy, rule

NAMESPACE = "away"
PORT = 80
NODE = {"client": "n1", "near": "n1", "far": "n2", "renewed": "n1"}
DENY = policy(f"{NAMESPACE}/deny", labels(pod="renewed"))


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    servers = probe.Servers()
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node, {"pod": name})
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client, near, far = (pods[f"{NAMESPACE}/{n}"] for n in ("client", "near", "far"))
        cluster.api.put_policy(incoming(f"{NAMESPACE}/traffic", rule([ns_peer({})]),
                                        pods=expression("pod", "NotIn", "renewed")))
        streams = Streams([(client, near), (client, far)], [(client, near), (client, far)])
        try:
            with_known_pods(cluster, report)
            renewed = cluster.ready_pods(NAMESPACE, len(NODE))[f"{NAMESPACE}/renewed"]
            servers.add(renewed, tcp=[PORT])
            report.check("its address works", wait_until(lambda: reaches(client, renewed)))
            cluster.api.put_policy(DENY)
            report.check("a policy written afterwards takes effect", wait_until(lambda: not reaches(client, renewed)))
            with_new_daemons(cluster, report, client, renewed)
            cluster.create_pod(NAMESPACE, "late", "n2")
            late = cluster.ready_pods(NAMESPACE, len(NODE) + 1)[f"{NAMESPACE}/late"]
            servers.add(late, tcp=[PORT])
            report.check("a pod made afterwards is reached", wait_until(lambda: reaches(client, late)))
            verdict(report, "twice without the API server", streams.end())
        finally:
            streams.kill()
        for node in cluster.nodes:
            found = cluster.sluicectl(node, "status")
            report.check(f"the daemon of {node} finds nothing amiss", found["ready"] and not found["audit"], found)
    finally:
        servers.close()
        cluster.delete_namespaces(NAMESPACE)


def wait_until(condition, seconds=30.0):
    try:
        return wait_for("it", condition, seconds)
    except TimeoutError:
        return False


def reaches(source, target):
    return probe.run([probe.Attempt(source, "tcp", target.address, PORT)], 1.0)[0].answer is not None


def source_of(cluster, node):
    return cluster.sluicectl(node, "status")["source"]


def with_known_pods(cluster, report):
    """The daemons stay; a sandbox of a pod that they know dies."""
    cluster.script("stop", "apiserver")
    try:
        for node in cluster.nodes:
            report.check(f"the daemon of {node} says that it lost the API server", wait_until(
                lambda n=node: not source_of(cluster, n)["connected"] and source_of(cluster, n)["lastError"]))
            report.check(f"the daemon of {node} can still attach pods", cluster.sluicectl(node, "status")["ready"])
        old = containers_of(cluster, "renewed")
        os.kill(processes_by_container()[next(iter(old))], signal.SIGKILL)
        report.check("a pod whose sandbox died gets another without the API server", wait_until(
            lambda: containers_of(cluster, "renewed") - old, 60))
    finally:
        cluster.script("start", "apiserver")
    reconnected(cluster, report)


def with_new_daemons(cluster, report, client, denied):
    """The daemons are killed too, and know nothing when they come back."""
    cluster.script("stop", "apiserver")
    try:
        before = {node: cluster.daemon_pid(node) for node in cluster.nodes}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        for node in cluster.nodes:
            def waits(n=node):
                found = cluster.sluicectl(n, "status")
                return cluster.daemon_pid(n) != before[n] and not found["ready"] and found["notReadyReason"]
            reason = wait_until(waits, 90)
            report.check(f"the new daemon of {node} says that it knows nothing yet, and why",
                         reason and "not all objects are known" in reason and "cannot connect" in reason, reason)
        report.check("the rules of before are in force", not reaches(client, denied))
        time.sleep(5)
    finally:
        cluster.script("start", "apiserver")
    reconnected(cluster, report)
    cluster.api.delete(f"{NETWORKING}/namespaces/{NAMESPACE}/networkpolicies/deny")
    report.check("a policy deleted afterwards is out of force", wait_until(lambda: reaches(client, denied)))


def reconnected(cluster, report):
    for node in cluster.nodes:
        def back(n=node):
            return source_of(cluster, n)["connected"] and cluster.sluicectl(n, "status")["ready"]
        report.check(f"the daemon of {node} is told everything again", wait_until(back, 60))


def containers_of(cluster, pod):
    """The sandboxes that the pod's node has an endpoint for."""
    return {e["containerID"] for e in cluster.sluicectl(NODE[pod], "endpoints")["endpoints"]
            if (e["namespace"], e["pod"]) == (NAMESPACE, pod)}
