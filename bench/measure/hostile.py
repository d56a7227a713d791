# SPDX-License-Identifier: Apache-2.0
"""One tenant writes the largest objects that mean most, and changes one of them every second: how long do another tenant's deny,
Service and new pod wait, and how much memory does the daemon take? Beside it the same with nothing written."""
import copy
import socket
import threading
import time

from measure import fake_api
from measure.asked import PORT, Asked, AskedNode, ask, metadata, serve
from measure.memory import memory_mb
from sluice_node import Node, Pod
from traffic import bound

SANDBOX = True
ROUNDS, CROWD = 20, 200
API_PORT = 8001
NODE_NAME, POD_CIDR, CLUSTER_IP = "hostile", "10.83.0.0/22", "10.96.255.1"
GOOD = ("client", "guarded", "b", "c")


def addresses(count, first=20 << 24):
    return [".".join(str((first + n * 3) >> shift & 255) for shift in (24, 16, 8, 0)) for n in range(1, count + 1)]


# ---- what the hostile tenant writes: kind -> objects
def policy(name, app, rules):
    return {"metadata": metadata("evil", name),
            "spec": {"podSelector": {"matchLabels": {"app": app}} if app else {}, "policyTypes": ["Ingress"], "ingress": rules}}


def blocks(items):
    return [{"ipBlock": {"cidr": f"{address}/32"}} for address in items]


def rules_for_anybody():
    """8,000 CIDRs, and 200 pods that admit anybody, each at ports of its own."""
    return {"networkpolicies": [policy("blocks", "evil0", [{"from": blocks(addresses(8000))}])] +
                               [policy(f"anybody{n}", f"evil{n}", [{"ports": [{"port": 1 + n}, {"port": 1000 + n}]}]) for n in range(CROWD)]}


def rules_with_exceptions():
    return {"networkpolicies": [policy("except", "evil0", [
        {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{address}/32"]}}], "ports": [{"port": 1 + n}]}
        for n, address in enumerate(addresses(10000))])]}


def named_ports():
    return {"networkpolicies": [policy("names", "evil0", [{"from": blocks(addresses(4000)), "ports": [{"port": f"n{n}"} for n in range(4000)]}])]}


def large_service():
    return {"services": [{"metadata": metadata("evil", "large"),
                          "spec": {"type": "ClusterIP", "clusterIP": "10.96.9.1", "clusterIPs": ["10.96.9.1"], "externalIPs": addresses(1000),
                                   "ports": [{"name": f"p{n}", "protocol": "TCP", "port": 1 + n, "targetPort": 80} for n in range(2000)]},
                          "status": {"loadBalancer": {}}}]}


def large_policies():
    """40 policies of 1.2 MB each, with other blocks each."""
    return {"networkpolicies": [policy(f"large{n}", None, [{"from": blocks(addresses(29000, (20 + n) << 24))}]) for n in range(40)]}


INPUTS = {"8,000 CIDRs beside 200 pods whose rules admit anybody": rules_for_anybody, "10,000 rules with an exception": rules_with_exceptions,
          "4,000 ipBlocks × 4,000 named ports": named_ports, "a Service of 2,000 ports × 1,000 external IPs": large_service,
          "40 policies of 1.2 MB": large_policies}


class Writer(threading.Thread):
    """Writes all of the objects, then changes one every second, until stop(); which deletes them."""

    def __init__(self, api, objects):
        super().__init__(daemon=True)
        self.api, self.ended = api, threading.Event()
        self.objects = [(kind, item) for kind, items in objects.items() for item in items]
        self.start()

    def run(self):
        for kind, item in self.objects:
            self.api.push(kind, item)
        number = 0
        while self.objects and not self.ended.wait(1):
            kind, item = self.objects[number % len(self.objects)]
            changed = copy.deepcopy(item)
            if kind == "services":
                changed["spec"]["ports"].pop()
            else:
                changed["spec"]["ingress"][0].setdefault("ports", []).append({"port": 2000 + number % 1000})
            number += 1
            self.api.push(kind, changed)
            self.api.forget(100)

    def stop(self):
        self.ended.set()
        self.join()
        for kind, item in self.objects:
            self.api.push(kind, item, "DELETED")


class Tenants(AskedNode):
    def __init__(self, options):
        self.node = Node(options.build, NODE_NAME, POD_CIDR)
        names = [("good", name) for name in GOOD] + [("evil", f"evil{n}") for n in range(CROWD)]
        self.api = fake_api.Server(bound(self.node, socket.SOCK_STREAM, API_PORT, "127.0.0.1"), {
            "nodes": [{"metadata": {"name": NODE_NAME}, "spec": {"podCIDRs": [POD_CIDR]}, "status": {}}],
            "namespaces": [{"metadata": {"name": ns}} for ns in ("good", "evil")],
            "pods": [self.pod(ns, name) for ns, name in names],
            "services": [{"metadata": metadata("good", "web"),
                          "spec": {"type": "ClusterIP", "clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP],
                                   "ports": [{"name": "p", "protocol": "UDP", "port": 80, "targetPort": PORT}]}, "status": {"loadBalancer": {}}}]})
        self.node.start_daemon(source=["--source=kube", f"--kubeconfig={fake_api.kubeconfig(self.node.home, API_PORT)}"], wait=False)
        self.node.wait_ready(60)
        self.pods = {name: Pod(self.node, ns, name) for ns, name in names}
        for each in self.pods.values():
            self.node.attach(each)
        super().__init__(options)
        client = self.pods["client"].path
        for name in GOOD[1:]:
            self.process(serve, self.pods[name].path, name.encode())
        self.direct, self.by_service = Asked("/run/direct.log"), Asked("/run/service.log")
        self.process(ask, client, self.pods["guarded"].address, PORT, self.direct.log)
        self.process(ask, client, CLUSTER_IP, 80, self.by_service.log)

    @staticmethod
    def pod(ns, name):
        return {"metadata": metadata(ns, name, {"app": name}), "spec": {"nodeName": NODE_NAME}, "status": {}}

    def deny(self, denies):
        told = self.api.push("networkpolicies", {
            "metadata": metadata("good", "guard"),
            "spec": {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"],
                     "ingress": [] if denies else [{"from": [{"podSelector": {}}]}]}})
        return self.direct.until(told, "-" if denies else "guarded")

    def backend(self, name):
        told = self.api.push("endpointslices", {
            "metadata": {**metadata("good", "web-1"), "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "ports": [{"name": "p", "protocol": "UDP", "port": PORT}],
            "endpoints": [{"addresses": [self.pods[name].address], "conditions": {"ready": True}, "nodeName": NODE_NAME}]})
        return self.by_service.until(told, name)

    def add_pod(self):
        self.added += 1
        return self.add(self.pod("good", f"fresh{self.added}"))

    def rounds(self, count):
        """Milliseconds: of denies and allows, of changed Services, of ADDs."""
        took = {"policy": [], "service": [], "add": []}
        for number in range(count):
            took["policy"].append(self.deny(number % 2 == 0))
            took["service"].append(self.backend(GOOD[2 + number % 2]))
            took["add"].append(self.add_pod())
        return took

    def reset_peak(self):
        with open(f"/proc/{self.node.daemon.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")


def measure(record, options):
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    tenants = Tenants(options)
    try:
        tenants.rounds(2)
        tenants.reset_peak()
        alone = tenants.rounds(rounds)
        peak_alone = memory_mb(tenants.node.daemon.pid, "VmHWM")
        every = {name: [] for name in alone}
        peaks = []
        for what, make in INPUTS.items():
            tenants.reset_peak()
            writer = Writer(tenants.api, make())
            took = tenants.rounds(rounds)
            writer.stop()
            tenants.rounds(1)
            peaks.append(memory_mb(tenants.node.daemon.pid, "VmHWM"))
            for name, label in (("policy", "another's policy"), ("service", "another's Service"), ("add", "ADD of another's pod")):
                record.row(f"{what}: {label}", "ms", took[name])
                every[name] += took[name]
            record.row(f"{what}: peak", "MB", peaks[-1:])
        record.put("hostile_policy_p99_ms", every["policy"], alone["policy"])
        record.put("hostile_service_p99_ms", every["service"], alone["service"])
        record.put("hostile_add_p99_ms", every["add"], alone["add"])
        record.put("hostile_peak_mb", peaks, [peak_alone])
    finally:
        tenants.end()
    record.conditions = f"{len(INPUTS)} inputs, {rounds} rounds each; {CROWD} pods of the writing tenant; one of its objects changes every second"
