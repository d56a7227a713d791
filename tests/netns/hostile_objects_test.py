#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A tenant, and the kubelets of other nodes, write objects of hostile sizes all the time, while sluiced has 512 MiB of memory:
it is not killed, and another tenant's deny, Service and pod take effect all the time, across restarts of sluiced, too.

    hostile_objects_test.py BUILD_FOLDER [unittest options]     SLUICE_SECONDS: how long, default 20; SLUICE_SEED: to repeat one
"""
import collections
import os
import random
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "..", "bench")]
import sluice_test  # noqa: E402
from hostile_objects import LIMIT, Hostile, metadata  # noqa: E402
from measure import fake_api  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import CniError, Node, Pod, wait_for  # noqa: E402
from traffic import Echo, bound, in_namespace  # noqa: E402

BUILD = ""
SECONDS = float(os.environ.get("SLUICE_SECONDS", 20))
SEED = int(os.environ.get("SLUICE_SEED", time.time()))
MEMORY = 512 << 20
PATIENCE = 90  # seconds until a tenant counts as frozen
API_PORT, PORT = 8001, 8080
CLUSTER_IP = "10.96.0.1"
EVIL = [f"e{n}" for n in range(6)]
GOOD = ("client", "guarded", "b1", "b2")


class MemoryGroup:
    """A memory cgroup of its own, of version 1 or 2."""

    def __init__(self, name, limit):
        self.version = 1 if os.path.isdir("/sys/fs/cgroup/memory") else 2
        self.path = f"/sys/fs/cgroup/{'memory/' if self.version == 1 else ''}{name}"
        os.mkdir(self.path)
        self.write("memory.limit_in_bytes" if self.version == 1 else "memory.max", limit)

    def write(self, file, value):
        with open(f"{self.path}/{file}", "w") as f:
            f.write(str(value))

    def read(self, file):
        with open(f"{self.path}/{file}") as f:
            return f.read()

    def peak(self):
        return int(self.read("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"))

    def kills(self):
        events = self.read("memory.oom_control" if self.version == 1 else "memory.events")
        return next((int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill ")), 0)

    def delete(self):
        for pid in self.read("cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)
        wait_for("the cgroup to be empty", lambda: not self.read("cgroup.procs"))
        os.rmdir(self.path)


class Named(Echo):
    """Answers with its name."""

    def __init__(self, pod):
        self.name = pod.pod.encode()
        super().__init__(pod, PORT)

    def answer(self, data, peer):
        return self.name


class HostileObjectsTest(sluice_test.SluiceTest):
    def setUp(self):
        self.group = MemoryGroup(f"sluice-hostile-{time.monotonic_ns():x}", MEMORY)
        self.addCleanup(self.group.delete)
        self.node = Node(BUILD, "hostile", "10.83.92.0/24")
        wrapper = os.path.join(self.node.home, "sluiced")
        with open(wrapper, "w") as file:
            file.write(f'#!/bin/sh\necho $$ > {self.group.path}/cgroup.procs\nexec {self.node.binary} "$@"\n')
        os.chmod(wrapper, 0o755)
        self.node.binary = wrapper
        pods = [("good", name) for name in (*GOOD, "fresh")] + [("evil", name) for name in EVIL]
        lists = {"nodes": [{"metadata": metadata(self.node.name), "spec": {"podCIDRs": [self.node.pod_cidr]}, "status": {}}],
                 "namespaces": [{"metadata": metadata(ns)} for ns in ("good", "evil")],
                 "pods": [{"metadata": metadata(name, ns, uid=f"{ns}-{name}", labels={"app": name}),
                           "spec": {"nodeName": self.node.name}, "status": {}} for ns, name in pods]}
        self.api = fake_api.Server(bound(self.node, socket.SOCK_STREAM, API_PORT, "127.0.0.1"), lists)
        self.source = ["--source=kube", f"--kubeconfig={fake_api.kubeconfig(self.node.home, API_PORT)}"]
        self.node.start_daemon(source=self.source, wait=False)
        self.node.wait_ready(60)
        self.pods = {}
        for ns, name in pods[:len(GOOD)] + pods[len(GOOD) + 1:]:
            self.pods[name] = Pod(self.node, ns, name)
            self.node.attach(self.pods[name])
        self.echoes = [Named(self.pods[name]) for name in GOOD[1:]]
        self.took = collections.defaultdict(list)
        self.written = collections.deque(maxlen=20)
        self.count = collections.Counter()
        self.ended = threading.Event()
        self.attacker = threading.Thread(target=self.attack, daemon=True)

    def tearDown(self):
        self.ended.set()
        if self.attacker.ident:
            self.attacker.join()
        for echo in self.echoes:
            echo.close()
        self.node.kill_daemon(signal.SIGTERM)
        self.api.shutdown()
        for pod in self.pods.values():
            pod.delete()
        self.node.delete()

    # ---- the attacker
    def attack(self):
        chance = random.Random(SEED)
        hostile = Hostile(chance, "evil", EVIL)
        while not self.ended.wait(chance.random() * 0.4):
            kind, item, what = hostile.some()
            if len(self.api.text(kind, item)) > LIMIT:
                continue
            event = "DELETED" if chance.random() < 0.1 else "MODIFIED"
            self.written.append(f"{event} {what}")
            self.count[what.split()[0]] += 1
            self.api.push(kind, item, event)
            self.api.forget(100)

    # ---- the other tenant
    def policy(self, denies):
        return {"metadata": metadata("guard", "good"),
                "spec": {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"],
                         "ingress": [] if denies else [{"from": [{"podSelector": {}}]}]}}

    def endpoints(self, backend):
        told = slice_of("web", self.pods[backend].address)
        told["metadata"]["namespace"] = "good"
        return told

    def answered_by(self):
        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(0.2)
                s.sendto(b"?", (CLUSTER_IP, 80))
                return s.recv(16).decode()
        try:
            return in_namespace(self.pods["client"].path, ask)
        except OSError:
            return ""

    def effect(self, what, change, holds):
        begin = time.monotonic()
        change()

        def seen():
            if self.node.daemon.poll() is not None:
                raise AssertionError(self.told(f"sluiced ended with {self.node.daemon.returncode}"))
            return holds()
        try:
            wait_for(what, seen, PATIENCE, 0.02)
        except TimeoutError:
            self.fail(self.told(f"'{what}' had no effect within {PATIENCE} s"))
        self.took[what].append(time.monotonic() - begin)

    def log(self):
        with open(self.node.log) as file:
            return file.read()

    def told(self, what):
        log = self.log()[-3000:]
        return (f"{what}; seed {SEED}, after {time.monotonic() - self.begin:.0f} s, peak {self.group.peak() >> 20} MiB, "
                f"kills {self.group.kills()}, written last:\n  " + "\n  ".join(self.written) + f"\n{log}")

    def new_pod(self):
        pod = Pod(self.node, "good", "fresh")

        def attached():
            try:
                self.node.attach(pod)
            except CniError:
                return False
            return True
        self.effect("a new pod", lambda: None, attached)
        self.node.cni("DEL", pod.container_id, pod.path)
        self.node.pods.pop("good/fresh")
        pod.delete()

    def test_the_other_tenant_is_served_all_the_time(self):
        client, guarded = self.pods["client"], self.pods["guarded"]
        told = service("web", CLUSTER_IP)
        told["metadata"]["namespace"] = "good"
        self.api.push("services", told)
        self.begin = time.monotonic()
        self.attacker.start()
        chance, turn, restarts = random.Random(SEED + 1), 0, 0
        while time.monotonic() < self.begin + SECONDS:
            turn += 1
            self.effect("a deny", lambda: self.api.push("networkpolicies", self.policy(True)),
                        lambda: not any(self.reaches(client, guarded) for _ in range(3)))
            backend = GOOD[2 + turn % 2]
            self.effect("a Service", lambda b=backend: self.api.push("endpointslices", self.endpoints(b)),
                        lambda b=backend: self.answered_by() == b)
            self.effect("an allow", lambda: self.api.push("networkpolicies", self.policy(False)),
                        lambda: self.reaches(client, guarded))
            if turn % 5 == 0:
                self.new_pod()
            if turn % 20 == 10:
                restarts += 1
                self.node.kill_daemon(chance.choice([signal.SIGKILL, signal.SIGTERM]))
                self.effect("a restart", lambda: self.node.start_daemon(source=self.source, wait=False),
                            lambda: self.node.get("/v1/status")["ready"])
        print(f"\nseed {SEED}: {sum(self.count.values())} hostile objects in {time.monotonic() - self.begin:.0f} s "
              f"({dict(self.count)}), {restarts} restarts; peak {self.group.peak() >> 20} MiB, {self.group.kills()} kills; " +
              ", ".join(f"{what}: {len(times)}, median {sorted(times)[len(times) // 2]:.2f} s, slowest {max(times):.2f} s"
                        for what, times in self.took.items()), flush=True)
        self.assertEqual(self.group.kills(), 0)

    def test_policies_take_effect_while_the_node_cannot_be_configured(self):
        """More Node objects than there is room for."""
        self.begin = time.monotonic()
        for n in range(1100):
            self.api.push("nodes", {"metadata": metadata(f"elsewhere{n}"), "spec": {"podCIDRs": [f"10.{100 + n // 256}.{n % 256}.0/24"]},
                                    "status": {"addresses": [{"type": "InternalIP", "address": f"172.16.{n // 16}.{n % 16 * 16 + i}"}
                                                             for i in range(16)]}})
        wait_for("the failure", lambda: "node not configured" in self.log(), 30)
        for denies in (True, False, True):
            self.effect("a policy", lambda d=denies: self.api.push("networkpolicies", self.policy(d)),
                        lambda d=denies: self.reaches(self.pods["client"], self.pods["guarded"]) != d)

    def test_a_new_pod_waits_for_the_policies_of_its_namespace(self):
        """They come one after the other, the one that denies it behind large ones."""
        def events():
            return self.node.get("/v1/status")["source"]["events"]

        def policy(name, app, ingress):
            return {"metadata": metadata(name, "good"), "spec": {"podSelector": {"matchLabels": {"app": app}},
                                                                 "policyTypes": ["Ingress"], "ingress": ingress}}
        self.begin, before, count = time.monotonic(), events(), 15
        for n in range(count):
            blocks = [{"ipBlock": {"cidr": f"{20 + n}.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}/32"}} for i in range(20000)]
            self.api.push("networkpolicies", policy(f"large{n}", "b1", [{"from": blocks}]))
        self.api.push("networkpolicies", policy("deny", "fresh", []))
        self.api.push("networkpolicies", self.policy(False))
        wait_for("all of them to be read", lambda: events() >= before + count + 2, PATIENCE)
        fresh = self.pods["fresh"] = Pod(self.node, "good", "fresh")

        def attached():
            try:
                self.node.attach(fresh)
            except CniError as error:
                self.assertIn("are not in force yet", str(error))
                return False
            return True
        wait_for("the pod to be attached", attached, PATIENCE)
        self.echoes.append(Named(fresh))
        client = self.pods["client"]
        self.assertFalse(any(self.reaches(client, fresh) for _ in range(3)), "it is open")
        self.effect("an allow", lambda: self.api.push("networkpolicies", policy("deny", "fresh", [{}])),
                    lambda: self.reaches(client, fresh))

    @staticmethod
    def reaches(client, server):
        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(0.1)
                s.sendto(b"?", (server.address, PORT))
                return s.recv(16) == server.pod.encode()
        try:
            return in_namespace(client.path, ask)
        except OSError:
            return False


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
