# SPDX-License-Identifier: Apache-2.0
"""A rolling update of a Deployment while clients open connections to it at a steady rate, by its ClusterIP and a node port."""
import collections
import socket
import threading
import time

from traffic import in_namespace

from lib.api import APPS, CORE
from lib.cluster import AGNHOST

NAMESPACE, HTTP, NODE_PORT = "rollout", 8080, 30880
REPLICAS = 4
RATE = 100.0  # connections a second by each of the two ways
PATIENCE = 2.0  # seconds: a SYN that is lost is sent again after one
Outcome = collections.namedtuple("Outcome", "made failed slowest_ms by_backend")


class Client:
    """Asks who serves, each time by a new connection, until it is ended."""

    def __init__(self, host, address, port):
        self.host, self.address, self.port = host, address, port
        self.ended = threading.Event()
        self.failed, self.backends, self.slowest = [], collections.Counter(), 0.0
        self.thread = threading.Thread(target=in_namespace, args=(host.path, self.run), daemon=True)
        self.thread.start()

    def ask(self):
        with socket.create_connection((self.address, self.port), timeout=PATIENCE) as s:
            s.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
            answer = b""
            while data := s.recv(4096):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(f"answered {answer[:80]}")
        return body.decode()

    def run(self):
        begin = time.monotonic()
        number = 0
        while not self.ended.is_set():
            number += 1
            time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            asked = time.monotonic()
            try:
                self.backends[self.ask()] += 1
            except OSError as error:
                self.failed.append((round(asked - begin, 2), repr(error)))
            self.slowest = max(self.slowest, time.monotonic() - asked)

    def end(self):
        self.ended.set()
        self.thread.join()
        return Outcome(sum(self.backends.values()) + len(self.failed), self.failed, self.slowest * 1000, self.backends)


def deploy(cluster):
    """What users do for updates without a failure: readiness, and a pause before a pod ends, in which nodes hear of it."""
    labels = {"app": "web"}
    cluster.create_namespace(NAMESPACE)
    cluster.api.call("POST", f"{APPS}/namespaces/{NAMESPACE}/deployments", {
        "metadata": {"name": "web"},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels},
                 "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                 "template": {"metadata": {"labels": labels}, "spec": {
                     "terminationGracePeriodSeconds": 10, "automountServiceAccountToken": False, "enableServiceLinks": False,
                     "containers": [{
                         "name": "c", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["netexec", f"--http-port={HTTP}"],
                         "readinessProbe": {"httpGet": {"path": "/healthz", "port": HTTP}, "periodSeconds": 1},
                         "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}]}}}})
    made = cluster.api.call("POST", f"{CORE}/namespaces/{NAMESPACE}/services", {
        "metadata": {"name": "web"}, "spec": {"type": "NodePort", "selector": labels, "ports": [
            {"protocol": "TCP", "port": 80, "targetPort": HTTP, "nodePort": NODE_PORT}]}})
    status(cluster)
    cluster.create_pod(NAMESPACE, "client", "n1")
    return made["spec"]["clusterIP"]


def status(cluster):
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=180s")


def measure(cluster, updates=1):
    """{way: Outcome} of that many updates, one after another, and names of the pods before and after."""
    address = deploy(cluster)
    try:
        hosts = cluster.ready_pods(NAMESPACE, REPLICAS + 1)
        before = set(hosts)
        clients = {"ClusterIP": Client(hosts[f"{NAMESPACE}/client"], address, 80),
                   "node port": Client(cluster.out, cluster.nodes["n1"].address, NODE_PORT)}
        time.sleep(2)
        for number in range(updates):
            cluster.api.patch(f"{APPS}/namespaces/{NAMESPACE}/deployments/web", {
                "spec": {"template": {"metadata": {"annotations": {"update": str(number)}}}}})
            status(cluster)
            time.sleep(4)  # the last pods end
        outcomes = {way: client.end() for way, client in clients.items()}
        after = set(cluster.ready_pods(NAMESPACE, REPLICAS + 1))
        return outcomes, before - after
    finally:
        cluster.delete_namespaces(NAMESPACE)
