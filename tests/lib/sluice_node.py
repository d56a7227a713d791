# SPDX-License-Identifier: Apache-2.0
"""Sluice without a cluster, for the netns tests, the benchmarks and the demo: nodes and pods are network
namespaces, objects are YAML files, and pods are attached by calling the CNI binary as a runtime does.

Everything lives in private mount, network and process namespaces (sandbox()), so that it is gone with the
process, however that ends.
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from deadline import deadline


def sandbox():
    """Starts this program again in namespaces of its own, unless it is in them already."""
    if os.environ.pop("SLUICE_SANDBOX", None):
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        os.makedirs("/run/netns")
        run("ip", "link", "set", "lo", "up")
        return
    if os.geteuid() != 0:
        sys.exit("this needs root: it makes network namespaces and loads eBPF programs")
    os.environ["SLUICE_SANDBOX"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                          "--propagation", "private", sys.executable, *sys.argv])


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what, condition, seconds=10.0, pause=0.01):
    """Polls until the condition gives something true, and returns that. Of a look that took longer than a second, one
    counts: while a virtual machine stands still, nothing that is waited for can happen."""
    left, last = deadline(seconds), None
    while left > 0:
        begin = time.monotonic()
        try:
            value = condition()
            if value:
                return value
        except (OSError, RuntimeError, KeyError, http.client.HTTPException) as error:
            last = error
        time.sleep(pause)
        left -= min(time.monotonic() - begin, 1)
    raise TimeoutError(f"waited {deadline(seconds):g} s for {what}" + (f" ({last})" if last else ""))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("sluiced", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class CniError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('msg')} {error.get('details', '')}")
        self.code = error.get("code")


class Namespace:
    """A network namespace with a name; a host, a node or a pod."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.path = f"/run/netns/{name}"
        self.ip("link", "set", "lo", "up")

    def enter(self, *command):
        return ["nsenter", f"--net={self.path}", *command]

    def run(self, *command, **kwargs):
        return run(*self.enter(*command), **kwargs)

    def start(self, *command, **kwargs):
        return subprocess.Popen(self.enter(*command), text=True, **kwargs)

    def ip(self, *arguments):
        return run("ip", "-n", self.name, *arguments)

    def delete(self):
        run("ip", "netns", "del", self.name)


def world_beyond(node, node_address, address):
    """A host behind the node's uplink, up0: the namespace `world`, by its eth0 in the same /24."""
    world = Namespace("world")
    run("ip", "link", "add", "up0", "netns", node.name, "type", "veth", "peer", "name", "eth0", "netns", world.name)
    for place, interface, own in ((node, "up0", node_address), (world, "eth0", address)):
        place.ip("addr", "add", f"{own}/24", "dev", interface)
        place.ip("link", "set", interface, "up")
    return world


class Pod(Namespace):
    limited = False  # has an annotation for the plugin `bandwidth`: its link is attached by tcx from the start

    def __init__(self, node, ns, pod, netns=None):
        self.node, self.ns, self.pod = node, ns, pod
        self.name = netns or f"{node.name}-{ns}-{pod}"
        self.renew()

    def renew(self):
        """Another sandbox: a new namespace, a new container id."""
        super().__init__(self.name)
        self.container_id = f"{self.name}-{time.monotonic_ns():x}"
        self.result = None

    @property
    def address(self):
        return self.result["ips"][0]["address"].split("/")[0]


class Node(Namespace):
    """One node: a namespace, a bpffs of its own, a daemon that reads a YAML folder, the CNI binary."""
    made = []

    @classmethod
    def running(cls):
        """The nodes whose daemon runs."""
        return [node for node in cls.made if node.daemon and node.daemon.poll() is None]

    def __init__(self, build, name, pod_cidr, folder=None):
        super().__init__(name)
        self.build, self.pod_cidr = os.path.abspath(build), pod_cidr
        self.sluice_cni = os.path.join(self.build, "cni", "sluice-cni")
        self.home = tempfile.mkdtemp(prefix=f"sluice-{name}-", dir="/run")
        self.folder = folder or os.path.join(self.home, "objects")
        self.bpffs = os.path.join(self.home, "bpf")
        self.socket = os.path.join(self.home, "run", "sluice.sock")
        for path in (self.folder, self.bpffs):
            os.makedirs(path, exist_ok=True)
        run("mount", "-t", "bpf", "bpf", self.bpffs)
        self.binary = os.path.join(self.build, "daemon", "sluiced")
        self.daemon = None
        self.pods = {}
        self.attached = 0  # how many there have been
        self.log = os.path.join(self.home, "sluiced.log")
        Node.made.append(self)

    def delete(self):
        Node.made.remove(self)
        super().delete()

    # ---- the daemon
    def begin(self, *options, namespace="x"):
        """The daemon, with the node's own object and a namespace known."""
        self.write_node()
        self.write_namespace(namespace)
        self.start_daemon(*options)

    def start_daemon(self, *options, source=None, wait=True, fault=None):
        """`source`: options that say where objects come from, instead of the node's folder. `fault`: for sluiced-faulty, see
        common/fault_point.h."""
        source = source or ["--source=yaml", f"--yaml-folder={self.folder}"]
        with open(self.log, "a") as log:
            self.daemon = self.start(
                self.binary, *source, f"--node-name={self.name}",
                f"--bpffs={self.bpffs}", f"--run-dir={self.home}/run", f"--state-dir={self.home}/state", *options,
                stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **({"SLUICE_FAULT": fault} if fault else {})})
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=10.0):
        def ready():
            if self.daemon.poll() is not None:
                raise SystemExit(f"sluiced ended with {self.daemon.returncode}:\n{open(self.log).read()}")
            return self.get("/v1/status")["ready"]
        wait_for("sluiced to be ready", ready, seconds, 0.002)

    def kill_daemon(self, how=signal.SIGKILL):
        self.daemon.send_signal(how)
        self.daemon.wait()

    def get(self, path):
        connection = UnixConnection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {body}")
            return body
        finally:
            connection.close()

    # ---- objects
    def write(self, name, *objects):
        """Puts the objects (dicts; JSON is YAML) into one file, atomically."""
        path = os.path.join(self.folder, name + ".yaml")
        with open(path + ".new", "w") as file:
            file.write("\n---\n".join(json.dumps(o) for o in objects) + "\n")
        os.rename(path + ".new", path)

    def metrics(self):
        connection = UnixConnection(self.socket)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def settle(self):
        """Returns when what stands in the folder is in force."""
        for _ in range(2):  # a look at the folder that is under way may have begun before the last change
            looks = self.get("/v1/status")["source"]["lists"]
            os.utime(os.path.join(self.folder, f"node-{self.name}.yaml"))
            wait_for("the folder to be read", lambda n=looks: self.get("/v1/status")["source"]["lists"] > n)
        self.get("/v1/status")  # answered before the rules are made in that turn, so the next one comes after it
        self.get("/v1/status")

    def remove(self, name):
        os.unlink(os.path.join(self.folder, name + ".yaml"))

    def write_node(self, name=None, pod_cidr=None, address=None, external=None):
        name = name or self.name
        addresses = [{"type": kind, "address": one} for kind, one in (("InternalIP", address), ("ExternalIP", external)) if one]
        self.write(f"node-{name}", {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDRs": [pod_cidr or self.pod_cidr]},
            "status": {"addresses": addresses}})

    def write_namespace(self, name, **labels):
        self.write(f"namespace-{name}", {"apiVersion": "v1", "kind": "Namespace",
                                         "metadata": {"name": name, "labels": labels}})

    def write_pod(self, ns, pod, labels=None, ports=None, address=None, annotations=None):
        """`ports`: {name: (protocol, number)}; `address`: for pods of other nodes."""
        self.write(f"pod-{ns}-{pod}", {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": ns, "labels": labels or {}, "annotations": annotations or {}},
            "spec": {"containers": [{"name": "c", "ports": [
                {"name": n, "protocol": p, "containerPort": c} for n, (p, c) in (ports or {}).items()]}]},
            "status": {"podIPs": [{"ip": address}]} if address else {}})

    def write_policy(self, ns, name, spec):
        self.write(f"policy-{ns}-{name}", {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                                           "metadata": {"name": name, "namespace": ns}, "spec": spec})

    # ---- CNI, as a runtime calls it
    def config(self, **more):
        return {"cniVersion": "1.1.0", "name": "sluice", "type": "sluice-cni", "socket": self.socket,
                "stateDir": f"{self.home}/state", "bpffs": self.bpffs, **more}

    def start_cni(self, command, container_id="", netns="", ifname="eth0", args="", config=None, fault=None):
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": os.path.join(self.build, "cni")}
        if container_id:
            environment.update(CNI_CONTAINERID=container_id, CNI_NETNS=netns, CNI_IFNAME=ifname)
        if args:
            environment["CNI_ARGS"] = args
        if fault:
            environment["SLUICE_FAULT"] = fault
        call = subprocess.Popen(self.enter(self.sluice_cni), env=environment, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        call.stdin.write(json.dumps(config or self.config()))
        call.stdin.close()
        call.stdin = None  # for communicate()
        return call

    def cni(self, command, *arguments, **kwargs):
        call = self.start_cni(command, *arguments, **kwargs)
        output, errors = call.communicate()
        if call.returncode != 0:
            try:
                raise CniError(json.loads(output))
            except ValueError:
                raise RuntimeError(f"CNI {command}: {call.returncode} {output!r} {errors}") from None
        return json.loads(output) if output.strip() else {}

    def add_pod(self, ns, pod, labels=None, ports=None, annotations=None, config=None):
        """Writes the Pod object and attaches a namespace to it."""
        self.write_pod(ns, pod, labels, ports, annotations=annotations)
        new = Pod(self, ns, pod)
        self.attach(new, config)
        return new

    def attach(self, pod, config=None):
        pod.result = self.cni("ADD", pod.container_id, pod.path, config=config,
                              args=f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.ns};K8S_POD_NAME={pod.pod}")
        self.pods[f"{pod.ns}/{pod.pod}"] = pod
        self.attached += 1

    def delete_pod(self, pod):
        self.cni("DEL", pod.container_id, pod.path)
        pod.delete()
        self.pods.pop(f"{pod.ns}/{pod.pod}", None)
        self.remove(f"pod-{pod.ns}-{pod.pod}")

    def links(self):
        """{ifindex: name} of the node's interfaces."""
        return {link["ifindex"]: link["ifname"] for link in json.loads(self.ip("-j", "link"))}

    def pod_links(self):
        return [name for name in self.links().values() if name.startswith("slu") and not name.startswith("sluice_")]

    def stale_pins(self):
        """Interfaces that something is pinned for and that are no more."""
        pins = os.listdir(os.path.join(self.bpffs, "sluice", "v1", "links"))
        return sorted(set(map(int, pins)) - set(self.links()))

    def take_program(self, interface):
        """As another plugin or an administrator might, on the link of a pod: moved to tcx already, or not yet."""
        pin = os.path.join(self.bpffs, "sluice", "v1", "links", str({n: i for i, n in self.links().items()}[interface]))
        if os.path.exists(pin):
            os.unlink(pin)
        else:
            self.run("tc", "qdisc", "del", "dev", interface, "clsact")

    def wait_moved(self):
        """Until the pods' links are attached as they stay: a few seconds after the last ADD or DEL, one after the other."""
        wait_for("the pods' links to be moved to tcx", lambda: self.get("/v1/status")["attach"] != "tcx, clsact", 60, 0.05)

    # ---- what is live
    def generation(self):
        live = self.get("/v1/firewall")["live"]
        return live["number"] if live else 0

    def stamp(self):
        live = self.get("/v1/firewall")["live"]
        return (live["number"], live["epoch"]) if live else (0, 0)

    def identities(self):
        """Ids of every program, link and map, by name, once none is about to change."""
        self.wait_moved()
        modules = self.get("/v1/modules")
        ids = {f"program {m['name']}": m["programID"] for m in modules["modules"]}
        ids.update({f"link {l['interface']}": (l["linkID"], l["programID"]) for l in modules["links"]})
        ids.update({f"map {m['name']}": m["id"] for m in modules["maps"]})
        return ids

    def tool_path(self, *parts):
        return os.path.join(self.build, *parts)


def connect_nodes(one, address_one, two, address_two):
    """Joins two nodes by a veth pair, the uplink of both; each knows the other's Node object."""
    run("ip", "link", "add", "up0", "netns", one.name, "type", "veth", "peer", "name", "up0", "netns", two.name)
    for node, address in ((one, address_one), (two, address_two)):
        node.ip("addr", "add", f"{address}/24", "dev", "up0")
        node.ip("link", "set", "up0", "up")
    for node in (one, two):
        node.write_node(one.name, one.pod_cidr, address_one)
        node.write_node(two.name, two.pod_cidr, address_two)


class Fabric(Namespace):
    """A bridge that nodes and hosts outside the cluster are plugged into."""

    def __init__(self, name):
        super().__init__(name)
        self.ip("link", "add", "fabric0", "type", "bridge")
        self.ip("link", "set", "fabric0", "up")
        self.hosts = []

    def join(self, namespace, address):
        run("ip", "link", "add", "up0", "netns", namespace.name, "type", "veth", "peer", "name", f"to-{namespace.name}",
            "netns", self.name)
        self.ip("link", "set", f"to-{namespace.name}", "master", "fabric0", "up")
        namespace.ip("addr", "add", f"{address}/24", "dev", "up0")
        namespace.ip("link", "set", "up0", "up")

    def host(self, name, address):
        new = Namespace(name)
        self.join(new, address)
        self.hosts.append(new)
        return new

    def join_nodes(self, addresses):
        """{node: address}; each knows the others' Node objects."""
        for node, address in addresses.items():
            self.join(node, address)
            for reader in addresses:
                reader.write_node(node.name, node.pod_cidr, address)

    def delete(self):
        for host in self.hosts:
            host.delete()
        super().delete()
