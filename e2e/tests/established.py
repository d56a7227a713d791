# SPDX-License-Identifier: Apache-2.0
"""A running connection follows the policy: deny, allow, deny again."""
import time

from lib.api import NETWORKING
from lib.cluster import wait_for
from lib.streams import Streams
from lib.table import policy

NAMESPACE = "established"
NODE = {"client": "n1", "near": "n1", "far": "n2"}
QUIET = 1.0  # seconds without any progress that count as stopped


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    try:
        for name, node in NODE.items():
            cluster.create_pod(NAMESPACE, name, node, {"pod": name})
        pods = cluster.ready_pods(NAMESPACE, len(NODE))
        client = pods[f"{NAMESPACE}/client"]
        for direction in ("Ingress", "Egress"):
            streams = Streams(tcp=[(client, pods[f"{NAMESPACE}/near"]), (client, pods[f"{NAMESPACE}/far"])])
            try:
                sequence(cluster, report, streams, direction)
                result = streams.end()
                report.check(f"{direction}: no connection was reset", not any(t["resets"] for t in result["tcp"]),
                             result)
            finally:
                streams.kill()
    finally:
        cluster.delete_namespaces(NAMESPACE)


def sequence(cluster, report, streams, direction):
    deny = policy(f"{NAMESPACE}/deny", types=[direction])

    def stopped():
        before = streams.progress()
        time.sleep(QUIET)
        return streams.progress() == before

    def running():
        before = streams.progress()
        time.sleep(0.2)
        return all(a > b for a, b in zip(streams.progress(), before))

    for stage in ("first deny", "allow", "second deny", "second allow"):
        if "deny" in stage:
            cluster.api.put_policy(deny)
        else:
            cluster.api.delete(f"{NETWORKING}/namespaces/{NAMESPACE}/networkpolicies/deny")
        what = "stops" if "deny" in stage else "goes on"
        try:
            # A stopped connection sends again at growing intervals: it needs as long again to notice.
            good = wait_for(stage, stopped if "deny" in stage else running, 20)
        except TimeoutError:
            good = False
        report.check(f"{direction}, {stage}: the connection {what}", good, streams.progress())
