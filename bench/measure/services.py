# SPDX-License-Identifier: Apache-2.0
"""10,000 Services with 10 endpoints each on a Kubernetes API: how long until all are served, how much memory that takes,
and how long until a change of one endpoint is in force. kube-proxy, as the real cluster's parts have it, beside it."""
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time

from measure import fake_api
from measure.memory import memory_mb
from measure.record import ROOT
from sluice_node import Namespace, Node, run, wait_for
from traffic import bound, in_namespace

sys.path.insert(0, os.path.join(ROOT, "e2e"))
from lib import cluster as e2e  # noqa: E402

SANDBOX = True
SERVICES, ENDPOINTS, CHANGES = 10_000, 10, 40
PAUSE = 0.25  # seconds between changes
PATIENCE = 180  # seconds until all has to be served
API_PORT = 8001
NODE_NAME, NODE_ADDRESS, POD_CIDR, CLUSTER_IP = "node0", "192.0.2.1", "10.83.0.0/24", "10.96.255.1"
ABORT = struct.pack("ii", 1, 0)


class Named:
    """Tells who connects its name, one byte."""

    def __init__(self, namespace, name):
        self.socket = bound(namespace, socket.SOCK_STREAM, 9000)
        threading.Thread(target=self.serve, args=(name,), daemon=True).start()

    def serve(self, name):
        while True:
            with self.socket.accept()[0] as connection, contextlib.suppress(OSError):
                connection.sendall(name)
                connection.recv(1)


def who(patience=0.3):
    """Who serves a new connection to the Service; none: nobody."""
    with socket.socket() as s:
        s.settimeout(patience)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        try:
            s.connect((CLUSTER_IP, 80))
            return s.recv(1)
        except OSError:
            return None


def lists(first_backend):
    """The Service that is asked comes last."""
    def cluster_ip(i):
        return f"10.{97 + i // 65536}.{i // 256 % 256}.{i % 256}"
    def addresses(i):
        return [f"10.{128 + (i * ENDPOINTS + k) // 65536}.{(i * ENDPOINTS + k) // 256 % 256}.{(i * ENDPOINTS + k) % 256}" for k in range(ENDPOINTS)]
    all_lists = fake_api.objects(0, 0, NODE_NAME, POD_CIDR)
    all_lists["nodes"] = [n for n in all_lists["nodes"][:1]]
    all_lists["nodes"][0]["status"]["addresses"] = [{"type": "InternalIP", "address": NODE_ADDRESS}]
    all_lists["services"] = [fake_api.service(i, cluster_ip(i)) for i in range(SERVICES)] + [fake_api.service(SERVICES, CLUSTER_IP)]
    all_lists["endpointslices"] = [fake_api.endpoint_slice(i, addresses(i)) for i in range(SERVICES)]
    all_lists["endpointslices"].append(fake_api.endpoint_slice(SERVICES, [first_backend]))
    return all_lists


class Contender:
    """A node with a client and two backends. serve() starts what serves the Services there and gives its process."""

    def measure(self, changes):
        api = fake_api.Server(bound(self.node, socket.SOCK_STREAM, API_PORT, "127.0.0.1"), lists(self.backends[0].address))
        for pod, name in zip(self.backends, (b"0", b"1")):
            Named(pod, name)
        begin = time.monotonic()
        process = self.serve()
        try:
            in_namespace(self.client.path, lambda: wait_for(f"the Service to be served by {self.name}", lambda: who() == b"0", PATIENCE, 0.01))
            self.load_ms = (time.monotonic() - begin) * 1000
            time.sleep(5)
            self.memory = memory_mb(process.pid, "VmRSS")
            self.change(api, 0)
            self.changes_ms = [self.change(api, n) for n in range(1, changes + 1)]
        finally:
            process.kill()
            process.wait()
            api.shutdown()
            api.server_close()
        return self

    def change(self, api, number):
        """From telling the watchers to the first new connection that goes to the other backend."""
        time.sleep(PAUSE)
        other = number % 2
        told = api.push("endpointslices", fake_api.endpoint_slice(SERVICES, [self.backends[other].address]))

        def ask():
            while time.monotonic() < told + 60:
                begin = time.monotonic()
                if who() == str(other).encode():
                    return (begin - told) * 1000
            raise TimeoutError(f"change {number} is not in force after a minute")
        return in_namespace(self.client.path, ask)


class Sluice(Contender):
    name = "sluiced"

    def __init__(self, options):
        self.node = Node(options.build, NODE_NAME, POD_CIDR)
        self.node.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
        self.node.ip("addr", "add", f"{NODE_ADDRESS}/24", "dev", "up0")
        self.node.ip("link", "set", "up0", "up")
        # Pods must be there before the clock starts: made by a daemon that knows nothing else.
        self.node.write_node(address=NODE_ADDRESS)
        self.node.write_namespace("x")
        self.node.start_daemon()
        self.client, *self.backends = (self.node.add_pod("x", n) for n in ("client", "b", "c"))
        self.node.kill_daemon()

    def serve(self):
        self.node.start_daemon(source=["--source=kube", f"--kubeconfig={fake_api.kubeconfig(self.node.home, API_PORT)}"], wait=False)
        return self.node.daemon


class KubeProxy(Contender):
    """On a plain node that routes between a client and two backends."""

    def __init__(self, mode):
        self.mode, self.name = mode, f"kube-proxy, {mode}"
        self.node = Namespace(f"kp-{mode}")
        self.node.ip("link", "set", "lo", "up")
        self.node.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
        self.node.ip("addr", "add", f"{NODE_ADDRESS}/24", "dev", "up0")
        self.node.ip("link", "set", "up0", "up")
        self.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.client, *self.backends = (self.pod(number) for number in (1, 2, 3))

    def pod(self, number):
        pod = Namespace(f"kp-{self.mode}-{number}")
        pod.address = f"10.83.0.{number}"
        run("ip", "link", "add", f"pod{number}", "netns", self.node.name, "type", "veth", "peer", "name", "eth0", "netns", pod.name)
        self.node.ip("addr", "add", "10.83.0.254/32", "dev", f"pod{number}")
        self.node.ip("link", "set", f"pod{number}", "up")
        self.node.ip("route", "add", f"{pod.address}/32", "dev", f"pod{number}")
        pod.ip("addr", "add", f"{pod.address}/32", "dev", "eth0")
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "add", "10.83.0.254/32", "dev", "eth0")
        pod.ip("route", "add", "default", "via", "10.83.0.254")
        return pod

    def serve(self):
        folder = f"/run/kp-{self.mode}"
        os.makedirs(folder)
        with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:
            return subprocess.Popen(
                ["nsenter", f"--net={self.node.path}", *e2e.kube_proxy(fake_api.kubeconfig(folder, API_PORT), NODE_NAME, self.mode, POD_CIDR)],
                stdout=log, stderr=subprocess.STDOUT)


def measure(record, options):
    changes = CHANGES // 5 if options.quick else CHANGES
    record.conditions = (f"{SERVICES:,} Services with {ENDPOINTS} endpoints each, one more that is asked; {changes} changes of its only endpoint, "
                         f"every {PAUSE} s; kube-proxy with its defaults")
    made = [Sluice(options).measure(changes)]
    for mode in ("nftables", "iptables"):
        if not os.path.exists(os.path.join(e2e.CACHE, "cluster", "versions")):
            record.conditions += "; kube-proxy was not there (e2e/build)"
            break
        try:
            made.append(KubeProxy(mode).measure(changes))
        except TimeoutError as error:
            record.conditions += f"; {error}"
    record.put("service_change_ms", made[0].changes_ms, made[1].changes_ms if len(made) > 1 else [])
    for each in made:
        record.row(f"10,000 Services served from the start on: {each.name}", "ms", [each.load_ms])
        record.row(f"10,000 Services, memory: {each.name}", "MB", [each.memory])
        record.row(f"10,000 Services, one endpoint changes: {each.name}", "ms", each.changes_ms)
