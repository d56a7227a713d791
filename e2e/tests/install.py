# SPDX-License-Identifier: Apache-2.0
"""A fresh cluster: nodes Ready, 40 pods with probes, everyone reaches everyone, masquerade to a host outside."""
import itertools
import os
import socket

from lib import probe
from lib.api import CORE
from lib.cluster import CP_ADDRESS, OUT_ADDRESS, wait_for
from traffic import in_namespace

NAMESPACE = "matrix"
PODS_A_NODE = 20
HTTP, UDP = 8080, 8081
SERVER = {
    "args": ["netexec", f"--http-port={HTTP}", f"--udp-port={UDP}"],
    # 40 programs start at once: only what is up is watched.
    "startupProbe": {"tcpSocket": {"port": HTTP}, "periodSeconds": 1, "failureThreshold": 240, "timeoutSeconds": 5},
    "readinessProbe": {"httpGet": {"path": "/healthz", "port": HTTP}, "periodSeconds": 1, "timeoutSeconds": 5},
    "livenessProbe": {"tcpSocket": {"port": HTTP}, "periodSeconds": 2, "timeoutSeconds": 5},
}


def run(cluster, report):
    def nodes_ready():
        return all(any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
                   for node in cluster.api.items(f"{CORE}/nodes"))
    try:
        wait_for("the nodes to be Ready", nodes_ready, 30)
        report.check("the nodes are Ready", True)
    except TimeoutError as error:
        report.check("the nodes are Ready", False, error)

    cluster.create_namespace(NAMESPACE)
    servers = probe.Servers()
    try:
        pods = start_pods(cluster, report)
        matrix(report, pods)
        masquerade(cluster, report, pods, servers)
        sizes(report, pods, servers)
        audit(cluster, report)
        restarts = {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["restartCount"]
                    for p in cluster.api.items(f"{CORE}/namespaces/{NAMESPACE}/pods")}
        report.check("the kubelets' probes reach every pod: none was restarted", not any(restarts.values()), restarts)
    finally:
        servers.close()
        cluster.delete_namespaces(NAMESPACE)
    given_back(cluster, report)


def start_pods(cluster, report):
    for number, node in itertools.product(range(PODS_A_NODE), cluster.nodes):
        cluster.create_pod(NAMESPACE, f"{node}-{number}", node, container=SERVER)
    count = PODS_A_NODE * len(cluster.nodes)
    pods = cluster.ready_pods(NAMESPACE, count, 240)
    report.check(f"{count} pods become Ready", True)
    report.check("every pod has an address of its own", len({p.address for p in pods.values()}) == count)
    return list(pods.values())


def matrix(report, pods):
    for protocol, port in (("tcp", HTTP), ("udp", UDP)):
        asked = [(source, target, probe.Attempt(source, protocol, target.address, port))
                 for source, target in itertools.product(pods, pods)]
        probe.run([a for _, _, a in asked], 15)
        bad = [f"{s} > {t}: {a.failure}" for s, t, a in asked if a.answer is None]
        report.check(f"every pod reaches every pod over {protocol.upper()} ({len(asked)} pairs)", not bad,
                     f"{len(bad)} do not: {bad[:5]}")
        if protocol == "udp":
            hidden = [f"{s} > {t}: {a.answer}" for s, t, a in asked
                      if a.answer and a.answer.decode().split(":")[0] != s.address]
            report.check("a pod sees another pod's own address", not hidden, hidden[:5])


def masquerade(cluster, report, pods, servers):
    servers.add(cluster.out, tcp=[80], udp=[80])
    for protocol in ("tcp", "udp"):
        asked = [(pod, probe.Attempt(pod, protocol, OUT_ADDRESS, 80)) for pod in pods]
        probe.run([a for _, a in asked], 10)
        bad = [f"{p}: {a.failure or a.answer}" for p, a in asked
               if a.answer != cluster.nodes[p.node].address.encode()]
        report.check(f"a host outside, without a route to pods, sees the node's address over {protocol.upper()}",
                     not bad, f"{len(bad)} of {len(asked)}: {bad[:5]}")

    def api_server(pod):
        return in_namespace(pod.path, lambda: socket.create_connection((CP_ADDRESS, 6443), timeout=5).close() or True)
    for pod in first_of_each_node(pods):
        report.check(f"{pod} reaches the API server", attempt(lambda p=pod: api_server(p)))


def first_of_each_node(pods):
    return list({pod.node: pod for pod in reversed(pods)}.values())


def attempt(function):
    try:
        return function()
    except OSError:
        return False


def sizes(report, pods, servers):
    """Large datagrams are fragmented and arrive whole; a stream arrives unchanged."""
    one, other = first_of_each_node(pods)[:2]
    neighbour = next(p for p in pods if p.node == one.node and p is not one)
    for target in (other, neighbour):
        servers.add(target, tcp=[9000], udp=[9000])
        data = os.urandom(1 << 20)

        def stream(target=target, data=data):
            with socket.create_connection((target.address, 9000), timeout=10) as s:
                got = b""
                for start in range(0, len(data), 32768):
                    s.sendall(data[start:start + 32768])
                    want = min(start + 32768, len(data))
                    while len(got) < want:
                        got += s.recv(65536) or b"\0" * len(data)
                return got == data

        def datagram(target=target, data=data):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(1)
                for _ in range(3):
                    try:
                        s.sendto(data[:9000], (target.address, 9000))
                        return s.recv(65536) == data[:9000]
                    except TimeoutError:
                        continue
            return False
        way = "on its node" if target is neighbour else "on the other node"
        report.check(f"1 MiB over TCP to a pod {way} and back", attempt(lambda: in_namespace(one.path, stream)))
        report.check(f"9,000 bytes over UDP to a pod {way} and back", attempt(lambda: in_namespace(one.path, datagram)))


def audit(cluster, report):
    for node in cluster.nodes:
        found = cluster.sluicectl(node, "status")
        report.check(f"the daemon of {node} finds nothing amiss", found["ready"] and not found["audit"], found)


def given_back(cluster, report):
    """All pods are gone: no endpoint and no interface of a pod is left."""
    for node in cluster.nodes:
        def none_left(node=node):
            return all(e["namespace"] != NAMESPACE for e in cluster.sluicectl(node, "endpoints")["endpoints"])
        try:
            good = wait_for("the endpoints to go", none_left, 30)
        except TimeoutError as error:
            good = False
            report.note(str(error))
        report.check(f"the endpoints of deleted pods are gone from {node}", good)
