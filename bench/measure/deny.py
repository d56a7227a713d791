# SPDX-License-Identifier: Apache-2.0
"""A policy is written to a real cluster's API: when is the first new connection denied?"""
import json
import os
import subprocess
import sys
import threading
import time

from measure import load
from measure.record import FOLDER, ROOT

sys.path.insert(0, os.path.join(ROOT, "e2e"))
from lib import cluster as e2e  # noqa: E402
from lib.api import NETWORKING  # noqa: E402
from lib.table import labels, incoming, pod_peer, rule  # noqa: E402

SANDBOX = False  # e2e/cluster makes its own namespaces
ROUNDS = 80
INTERVAL_US = 500  # between new connections: the resolution of the figures
NAMESPACE = "bench"
NODE = {"client": "n1", "near": "n1", "far": "n2"}
POLICIES = f"{NETWORKING}/namespaces/{NAMESPACE}/networkpolicies"


class Watcher(threading.Thread):
    """Any client's own watch of the policies; notes when the line of each resource version came."""

    def __init__(self, api):
        super().__init__(daemon=True)
        self.seen = {}
        version = api.get(POLICIES)["metadata"]["resourceVersion"]
        api.connection.request("GET", f"{POLICIES}?watch=1&resourceVersion={version}&timeoutSeconds=1200")
        api.connection.sock.settimeout(None)  # quiet for as long as nothing changes
        self.answer = api.connection.getresponse()
        self.start()

    def run(self):
        while line := self.answer.readline():
            now = time.monotonic_ns()
            self.seen[json.loads(line)["object"]["metadata"]["resourceVersion"]] = now


def front(admitted):
    """The policy in its two states: admits the client, or another pod that does not exist."""
    return incoming(f"{NAMESPACE}/front", rule([pod_peer(labels(pod=admitted))]), pods={
        "matchExpressions": [{"key": "pod", "operator": "In", "values": ["near", "far"]}]})


def one_round(cluster, watcher, client, target, build):
    cluster.api.put_policy(front("client"))
    time.sleep(0.4)
    attempts = load.Load(build, client.path, "attempts", target.address, INTERVAL_US, cpu=-1)
    time.sleep(0.1)
    begin = time.monotonic_ns()
    version = cluster.api.put_policy(front("nobody"))["metadata"]["resourceVersion"]
    time.sleep(0.4)
    attempts.process.stdin.close()
    got = json.loads(attempts.line())
    attempts.process.wait()
    outcome = list(zip(got["asked_ns"], got["answered"]))
    if not all(answered for asked, answered in outcome if asked < begin):
        raise RuntimeError("connections were denied before the policy was written")
    denied = next((asked for asked, answered in outcome if asked >= begin and not answered), None)
    if denied is None:
        raise RuntimeError("no connection was denied within 0.4 s")
    late = sum(answered for asked, answered in outcome if asked > denied)
    return {"write": (denied - begin) / 1e6, "event": (denied - watcher.seen[version]) / 1e6,
            "seen": (watcher.seen[version] - begin) / 1e6, "allowed_after": late}


def bring_up(name):
    cluster = e2e.Cluster(name)
    cluster.down()
    archive = os.path.join(FOLDER, "sluice.tar")
    subprocess.run([os.path.join(ROOT, "scripts", "image"), archive], check=True, stdout=sys.stderr)
    cluster.up()
    cluster.connect()
    cluster.install(archive)
    return cluster


def measure(record, options):
    if not os.path.exists(os.path.join(e2e.CACHE, "cluster", "versions")):
        record.missing = "the cluster's parts are missing: run e2e/build"
        print(f"deny: {record.missing}", file=sys.stderr)
        return
    cluster = e2e.Cluster(options.cluster or "bench-")
    try:
        if options.cluster:
            cluster.connect()
        else:
            cluster = bring_up("bench-")
        measure_on(cluster, record, options)
    finally:
        if not options.cluster:
            cluster.down()


def measure_on(cluster, record, options):
    cluster.create_namespace(NAMESPACE)
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node, {"pod": name})
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client, near, far = (pods[f"{NAMESPACE}/{name}"] for name in NODE)
        servers = [load.server(options.build, target.path, cpu=-1) for target in (near, far)]
        watcher = Watcher(cluster.new_api())
        rounds = ROUNDS // 5 if options.quick else ROUNDS
        got = [one_round(cluster, watcher, client, (near, far)[i % 2], options.build) for i in range(rounds)]
        for server in servers:
            server.end()
    finally:
        cluster.delete_namespaces(NAMESPACE)
    for quantile in ("p50", "p99"):
        record.put(f"write_to_deny_{quantile}_ms", [g["write"] for g in got], [g["seen"] for g in got])
        record.put(f"event_to_deny_{quantile}_ms", [g["event"] for g in got], [g["seen"] for g in got])
    for i, name in enumerate(("same node", "other node")):
        record.row(f"event to deny, {name}", "ms", [g["event"] for g in got[i::2]])
    record.row("connections allowed after the first denied one", "", [sum(g["allowed_after"] for g in got)])
    record.conditions = (f"{rounds} changes of a policy on an idle cluster of two nodes on this machine, in turns towards a "
                         f"pod of the client's node and of the other; a new connection every {INTERVAL_US} µs")
