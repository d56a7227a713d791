# SPDX-License-Identifier: Apache-2.0
"""ADD and DEL, from the start of the plugin's process to its exit, in turns with the reference plugins."""
import json
import os
import tempfile
import time

from sluice_node import Namespace, Node, Pod
from traffic import in_namespace

SANDBOX = True
ROUNDS = 300
PODS = 20  # attached before, and all the while
REFERENCE = "/usr/lib/cni"  # Debian's containernetworking-plugins


class Plugin:
    """A CNI binary as a runtime calls it, and the times that it took."""

    def __init__(self, binary, host, config):
        self.binary, self.host = binary, host
        self.name = config["name"]
        self.config = tempfile.TemporaryFile()
        self.config.write(json.dumps(config).encode())
        self.answer = tempfile.TemporaryFile()
        self.times = {"ADD": [], "DEL": []}

    def call(self, command, pod, args=""):
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": pod.container_id,
                       "CNI_NETNS": pod.path, "CNI_IFNAME": "eth0", "CNI_PATH": os.path.dirname(self.binary),
                       **({"CNI_ARGS": args} if args else {})}
        self.config.seek(0)
        self.answer.truncate(0)
        self.answer.seek(0)
        files = [(os.POSIX_SPAWN_DUP2, self.config.fileno(), 0), (os.POSIX_SPAWN_DUP2, self.answer.fileno(), 1)]

        def spawn():
            begin = time.monotonic_ns()
            pid = os.posix_spawn(self.binary, [self.binary], environment, file_actions=files)
            _, status = os.waitpid(pid, 0)
            return (time.monotonic_ns() - begin) / 1e6, status
        took, status = in_namespace(self.host.path, spawn)
        if status != 0:
            self.answer.seek(0)
            raise RuntimeError(f"{self.binary} {command}: {self.answer.read().decode()}")
        self.times[command].append(took)


def reference(name, host, subnet):
    return Plugin(os.path.join(REFERENCE, name), host, {
        "cniVersion": "1.0.0", "name": name, "type": name, "ipMasq": False, "isGateway": True,
        "ipam": {"type": "host-local", "subnet": subnet, "dataDir": f"/run/{name}"}})


def node_of(options, name, pod_cidr, attach):
    node = Node(options.build, name, pod_cidr)
    node.begin(f"--attach={attach}")
    # Half of the pods that come are isolated, so that ADD has rules to make live.
    node.write_policy("x", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                                   "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]})
    for i in range(PODS):
        node.add_pod("x", f"stays{i}", {"app": "web" if i % 2 else "other"})
    return node


def take_turns(plugins, rounds):
    nodes = [plugin.host for plugin in plugins if isinstance(plugin.host, Node)]
    for i in range(rounds):
        for node in nodes:
            node.write_pod("x", f"p{i}", {"app": "web" if i % 2 else "other"})
            node.settle()  # as in a cluster, the daemon knows the pod before the runtime starts it
        for plugin in plugins if i % 2 else reversed(plugins):
            pod = Pod(plugin.host, "x", f"p{i}", netns=f"p{i}-{plugin.name}")
            args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=p{i}" if plugin.host in nodes else ""
            plugin.call("ADD", pod, args)
            plugin.call("DEL", pod, args)
            pod.delete()
        for node in nodes:
            node.remove(f"pod-x-p{i}")


def measure(record, options):
    if not os.path.exists(os.path.join(REFERENCE, "ptp")):
        raise SystemExit("the reference plugins are missing: scripts/setup --bench")
    nodes = [node_of(options, "one", "10.83.0.0/22", "auto"), node_of(options, "two", "10.86.0.0/22", "tcx")]
    other = Namespace("other")
    mine, tcx = (Plugin(os.path.join(options.build, "cni", "sluice-cni"), node, node.config(name=node.name))
                 for node in nodes)
    ptp, bridge = reference("ptp", other, "10.84.0.0/22"), reference("bridge", other, "10.85.0.0/22")
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    take_turns([mine, ptp, bridge], rounds)
    nodes[0].wait_moved()  # which holds up others, too
    take_turns([tcx], rounds // 5)  # apart: attaching and removing tcx links holds up whoever changes interfaces meanwhile
    record.put("cni_add_p50_ms", mine.times["ADD"], ptp.times["ADD"])
    record.put("cni_add_p99_ms", mine.times["ADD"], ptp.times["ADD"])
    record.put("cni_del_p50_ms", mine.times["DEL"], ptp.times["DEL"])
    record.row("ADD, Sluice with --attach=tcx", "ms", tcx.times["ADD"])
    record.row("ADD, bridge + host-local", "ms", bridge.times["ADD"])
    record.row("DEL, bridge + host-local", "ms", bridge.times["DEL"])
    record.conditions = f"{rounds} pods one by one, {PODS} others attached, half of them under a NetworkPolicy"
