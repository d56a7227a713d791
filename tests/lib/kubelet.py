# SPDX-License-Identifier: Apache-2.0
"""A node under steady traffic whose daemon and CNI calls may be killed at any time: pods come and go as kubelet makes
them (what failed is deleted and made anew in another sandbox), and afterwards nothing may be left, nothing lost.
"""
import json
import os
import re
import time

from sluice_node import CniError, Node, Pod, wait_for
from traffic import Echo, TcpStream, UdpStream

PORT = 8080
# Of every pod whose ADD may be killed, so that the steps which set limits are among those where it is.
LIMITS = {"ingressRate": 10 ** 9, "ingressBurst": 10 ** 7, "egressRate": 10 ** 9, "egressBurst": 10 ** 7}
HOST_PORT = {"hostPort": 30999, "containerPort": 8080, "protocol": "tcp"}
HOOKS = {"sluice_net", "sluice_vxlan"}
NS = "x"


def select(**labels):
    return {"podSelector": {"matchLabels": labels}}


class Traffic:
    """Streams that every policy of the test allows, and pairs that every one denies: by ingress and by egress."""

    def __init__(self, a, b, c, d, e):
        self.echo = Echo(c, PORT)
        self.allowed = UdpStream(a, c, c.address, 5001, rate=300)
        self.tcp = TcpStream(b, c.address, PORT)
        self.denied = [UdpStream(d, c, c.address, 5002, rate=100), UdpStream(e, a, a.address, 5003, rate=100)]

    def faults(self):
        """What went wrong so far, in words."""
        sent = self.allowed.sent
        try:
            wait_for("the datagrams in flight", lambda: all(n in self.allowed.seen for n in range(self.checked, sent)), 2)
        except TimeoutError:
            yield f"{sum(n not in self.allowed.seen for n in range(sent))} of {sent} allowed datagrams lost"
        self.checked = sent
        if self.tcp.resets:
            yield "the allowed TCP connection was reset"
        for stream in self.denied:
            if stream.seen:
                yield f"{len(stream.seen)} of {stream.sent} denied datagrams got through"

    checked = 0

    def end(self):
        allowed, tcp = self.allowed.end(), self.tcp.end()
        denied = [stream.end() for stream in self.denied]
        self.echo.close()
        return {"sent": allowed["sent"], "lost": allowed["lost"], "max_gap_ms": allowed["max_gap_ms"],
                "tcp_rounds": tcp["rounds"], "tcp_resets": tcp["resets"], "denied_sent": sum(s["sent"] for s in denied),
                "denied_received": sum(s["sent"] - s["lost"] for s in denied)}


class Kubelet:
    OPTIONS = ("--housekeeping-interval=0.5",)

    def __init__(self, build, name, pod_cidr, faulty, fault=None):
        self.node = Node(build, name, pod_cidr)
        if faulty:
            self.node.binary = os.path.join(build, "tests", "netns", "sluiced-faulty")
            self.node.sluice_cni = os.path.join(build, "tests", "netns", "sluice-cni-faulty")
        self.node.write_node()
        self.node.write_namespace(NS)
        self.last, self.last_limited = None, False
        self.ready_ms = []
        self.serial = 0
        self.traffic = None
        self.start(fault)

    def begin_traffic(self):
        # c admits a and b and whoever is labelled "extra"; e may send to b alone.
        self.write_policy()
        self.node.write_policy(NS, "egress", {"podSelector": {"matchLabels": {"app": "e"}}, "policyTypes": ["Egress"],
                                              "egress": [{"to": [select(app="b")]}]})
        pods = [self.node.add_pod(NS, name, {"app": name}) for name in "abcde"]
        wait_for("the policies", lambda: len(self.node.get(f"/v1/endpoints/{NS}/e/policy")["rules"]) == 1)
        self.traffic = Traffic(*pods)

    def write_policy(self):
        """Always another one, and always to the same effect for the streams."""
        self.serial += 1
        cidr = f"198.51.{self.serial // 256 % 256}.{self.serial % 256}/32"
        self.node.write_policy(NS, "ingress", {
            "podSelector": {"matchLabels": {"app": "c"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [select(app="a"), select(app="b"), select(extra="yes"), {"ipBlock": {"cidr": cidr}}]},
                        {"from": [select(app="more")], "ports": [{"port": 1024 + self.serial % 60000, "endPort": 65000}]}]})

    def write_peer(self):
        """A pod of another node that changes its class: written in place."""
        self.serial += 1
        labels = {"extra": "yes"} if self.serial % 2 else {"app": "more", "serial": str(self.serial)}
        self.node.write_pod(NS, "peer", labels, address="10.99.0.1")
        return self.serial

    def write_service(self, address="10.96.0.1"):
        """Another backend each time."""
        self.serial += 1
        metadata = {"name": "service", "namespace": NS}
        self.node.write("service", {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]}}, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "service"}}, "ports": [{"port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [f"10.99.1.{1 + (self.serial + n) % 200}"]} for n in range(3)]})

    # ---- the daemon
    def start(self, fault=None):
        begin = time.monotonic()
        self.node.start_daemon(*self.OPTIONS, wait=False, fault=fault)
        if fault is None:
            self.node.wait_ready(20)
            self.ready_ms.append((time.monotonic() - begin) * 1000)

    def start_armed(self, fault):
        """Starts the daemon anew; it may be killed by its fault before it is ready."""
        self.node.kill_daemon()
        self.start(fault)
        wait_for("sluiced to be ready or dead", lambda: self.node.daemon.poll() is not None or
                 self.node.get("/v1/status")["ready"], 20, 0.002)

    def died(self, seconds=0.01):
        """Is the daemon killed within that time?"""
        try:
            wait_for("sluiced to end", lambda: self.node.daemon.poll() is not None, seconds, 0.002)
        except TimeoutError:
            return False
        return self.node.daemon.returncode == -9

    # ---- pods
    def new_pod(self, pod="new", limited=None):
        """`limited`: with an annotation by which it is attached by tcx at once; None: in turns with and without."""
        limited = not self.last_limited if limited is None else limited
        self.last_limited = limited
        self.node.write_pod(NS, pod, {"app": pod}, annotations={"kubernetes.io/egress-bandwidth": "1G"} if limited else {})
        self.last = Pod(self.node, NS, pod)
        self.last.limited = limited
        return self.last

    def begin_add(self, pod, fault=None):
        return self.node.start_cni("ADD", pod.container_id, pod.path, fault=fault,
                                   config=self.node.config(runtimeConfig={"bandwidth": LIMITS, "portMappings": [HOST_PORT]}),
                                   args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.ns};K8S_POD_NAME={pod.pod}")

    def begin_del(self, pod, fault=None):
        return self.node.start_cni("DEL", pod.container_id, pod.path, fault=fault)

    def delete_sandbox(self, pod):
        """DEL until it succeeds, as kubelet calls it."""
        def done():
            try:
                self.node.cni("DEL", pod.container_id, pod.path)
            except CniError:
                return False
            return True
        wait_for("DEL to succeed", done, 20, 0.05)

    def retry_add(self, pod):
        """DEL, then ADD in a new sandbox, until that succeeds."""
        def done():
            self.delete_sandbox(pod)
            pod.delete()
            pod.renew()
            try:
                self.node.attach(pod)
            except CniError:
                return False
            return True
        wait_for("ADD to succeed", done, 30, 0.05)

    def remove(self, pod):
        self.delete_sandbox(pod)
        pod.delete()
        self.node.pods.pop(f"{pod.ns}/{pod.pod}", None)
        self.node.remove(f"pod-{pod.ns}-{pod.pod}")

    def recover(self):
        """After a failure: the daemon runs and the last pod is gone, so that the next case starts as every other."""
        try:
            if self.node.daemon.poll() is not None:
                self.start()
            if self.last and os.path.exists(self.last.path):
                self.remove(self.last)
            return self.settle()
        except (TimeoutError, RuntimeError) as error:
            return [f"and no recovery: {error!r}"]

    # ---- what must hold after everything
    def leftovers(self):
        """What is there and should not be, or the other way round; in words."""
        node, status = self.node, self.node.get("/v1/status")
        yield from status["audit"]
        if status["packets"]["unaccounted"]:
            yield f"unaccounted packets: {status['packets']}"
        addresses = {p.address for p in node.pods.values()}
        files = os.listdir(f"{node.home}/run/attachments")
        if {f.split("-")[0] for f in files if f != "cursor"} != addresses or len(files) != len(addresses) + 1:
            yield f"attachments {sorted(files)} for pods {sorted(addresses)}"
        if status["addresses"]["used"] != len(addresses) or status["endpoints"] != len(addresses):
            yield f"{status['addresses']['used']} addresses, {status['endpoints']} endpoints for {len(addresses)} pods"
        host_ports = [s for s in node.get("/v1/services")["services"] if s["service"].startswith("hostPort")]
        if {b["address"] for s in host_ports for b in s["backends"]} - addresses:
            yield f"host ports {host_ports} for pods {sorted(addresses)}"
        queued = os.listdir(f"{node.home}/state/deletions") if os.path.isdir(f"{node.home}/state/deletions") else []
        if queued:
            yield f"queued deletions {queued}"
        links = {l["ifname"]: l["ifindex"] for l in json.loads(node.run("ip", "-j", "link"))}
        ours = {i["name"] for p in node.pods.values() for i in p.result["interfaces"] if not i.get("sandbox")}
        if {n for n in links if re.fullmatch("slu[0-9a-f]{11}", n)} != ours:
            yield f"interfaces {sorted(links)}, of pods {sorted(ours)}"
        pins = f"{node.bpffs}/sluice/v1"
        # Each is attached in one of two ways, and by clsact only before it is moved.
        by_tcx = {i["name"] for p in node.pods.values() if p.limited for i in p.result["interfaces"] if not i.get("sandbox")}
        by_clsact = {q["dev"] for q in json.loads(node.run("tc", "-j", "qdisc")) if q["kind"] == "clsact"}
        if by_clsact & (by_tcx | HOOKS) or not by_clsact <= ours:
            yield f"by clsact {sorted(by_clsact)}"
        wanted = {str(links[n]) for n in (ours | HOOKS) - by_clsact if n in links}
        if set(os.listdir(f"{pins}/links")) != wanted:
            yield f"pinned links {os.listdir(f'{pins}/links')}, wanted {sorted(wanted)}"
        if os.listdir(f"{pins}/generations") != [str(status["firewall"]["generation"])]:
            yield f"pinned generations {os.listdir(f'{pins}/generations')}, live {status['firewall']['generation']}"
        fresh = [f for _, _, names in os.walk(pins) for f in names if f.endswith("-new")]
        if fresh:
            yield f"temporary pins {fresh}"
        routes = node.run("ip", "route", "show", "proto", "83").split("\n")
        own = (f"{node.pod_cidr} dev sluice_host", f"{node.pod_cidr.split('/')[0]} dev sluice_host")
        if [r for r in routes if r.strip() and not r.startswith(own)]:
            yield f"routes {routes}"

    def settle(self):
        """The faults found once everything had its time to come to rest."""
        found = []

        def clean():
            found[:] = self.leftovers()
            return not found
        try:
            wait_for("nothing to be left", clean, 8, 0.02)
        except TimeoutError as error:
            found = found or [str(error)]
        return found + (list(self.traffic.faults()) if self.traffic else [])

    def close(self):
        if self.traffic:
            print("traffic", json.dumps(self.traffic.end()))
        for pod in list(self.node.pods.values()):
            self.remove(pod)
        self.node.kill_daemon()
        self.node.delete()
