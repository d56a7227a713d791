# SPDX-License-Identifier: Apache-2.0
"""The cluster that e2e/cluster makes: its hosts, its pods' network namespaces, the daemon on each node."""
import contextlib
import glob
import json
import os
import subprocess
import time

from lib.api import CORE, Api, ApiError

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(HERE)
CACHE = os.environ.get("SLUICE_CACHE") or os.path.expanduser("~/.cache/sluice")
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
OUT_ADDRESS, CP_ADDRESS = "10.10.0.200", "10.10.0.10"
CAP_SYS_RESOURCE = 24


def wait_for(what, condition, seconds=60.0, pause=0.1):
    """Polls until the condition gives something true, and returns that."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            last = error
        time.sleep(pause)
    raise TimeoutError(f"waited {seconds:.0f} s for {what} ({str(last)[-800:]})")


FIREWALL = "program firewall"  # in identities(): the one that a policy change exchanges


def changed_identities(before, after):
    """name -> (id before, id after), None where there is none."""
    return {name: (before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)}


def kube_proxy(kubeconfig, node, mode, cluster_cidr):
    """Its command line, with its defaults but for the machine's conntrack, which is not to be changed."""
    return [os.path.join(CACHE, "cluster", "bin", "kube-proxy"), f"--kubeconfig={kubeconfig}", f"--hostname-override={node}",
            f"--proxy-mode={mode}", f"--cluster-cidr={cluster_cidr}", "--conntrack-max-per-core=0", "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s"]


PINS = "/sys/fs/bpf/sluice/v1"


class Host:
    """Something with a network namespace: a host of the fabric or a pod."""

    def __init__(self, name, path, address, node=None):
        self.name, self.path, self.address, self.node = name, path, address, node

    def __repr__(self):
        return self.name


def processes_by_container():
    """Container id -> lowest process id, from the cgroup that each process is in."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cgroup", encoding="utf-8") as file:
                groups = file.read().split()
        except OSError:
            continue
        for line in groups:
            name = line.rsplit("/", 1)[-1].removesuffix(".scope").rsplit("-", 1)[-1]
            if len(name) == 64:
                found[name] = min(int(entry), found.get(name, 1 << 30))
    return found


class Cluster:
    def __init__(self, name, nodes=2):
        self.name = name
        self.environment = {**os.environ, "CLUSTER": name, "SLUICE_CACHE": CACHE}
        self.nodes = {f"n{i}": Host(f"n{i}", f"/run/netns/{name}n{i}", f"10.10.0.{20 + i}", f"n{i}")
                      for i in range(1, nodes + 1)}
        self.cp = Host("cp", f"/run/netns/{name}cp", CP_ADDRESS)
        self.out = Host("out", f"/run/netns/{name}out", OUT_ADDRESS)
        self.run_dir = os.path.join(CACHE, "run", name)
        self.api = None
        self.bare = None  # {node: footprint} of before Sluice came; not known of a cluster that an earlier run left up

    # ---- life
    def script(self, *arguments, check=True, **kwargs):
        done = subprocess.run([os.path.join(HERE, "cluster"), *arguments], env=self.environment, text=True,
                              capture_output=True, check=False, **kwargs)
        if check and done.returncode != 0:
            raise RuntimeError(f"cluster {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self):
        self.script("up", str(len(self.nodes)))

    def connect(self):
        self.api = self.new_api()

    def new_api(self):
        return Api(self.cp.path, os.path.join(self.run_dir, "admin.kubeconfig"))

    def down(self):
        self.script("down")

    def leftovers(self):
        """What `down` should have taken away."""
        def read(path):
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
            return ""
        spaces = [host.path for host in (*self.nodes.values(), self.cp, self.out) if os.path.exists(host.path)]
        groups = glob.glob(f"/sys/fs/cgroup/**/{glob.escape(self.name)}n[0-9]*", recursive=True)
        mounts = [line for line in read("/proc/mounts").splitlines() if self.run_dir + "/" in line]
        processes = [f"{entry}: {text}" for entry in filter(str.isdigit, os.listdir("/proc"))
                     if self.run_dir + "/" in (text := read(f"/proc/{entry}/cmdline").replace("\0", " "))]
        folders = [self.run_dir] if os.path.exists(self.run_dir) else []
        return spaces + groups + mounts + processes + folders

    def kubectl(self, *arguments, **kwargs):
        return self.script("kubectl", *arguments, **kwargs)

    def helm_upgrade(self, *more, wait=True):
        return self.script(
            "helm", "upgrade", "--install", "sluice", os.path.join(ROOT, "charts", "sluice"), "-n", "kube-system",
            "--set", "image.repository=sluice", "--set", "image.tag=dev", "--set", "image.pullPolicy=Never",
            "--set", f"apiServer.host={CP_ADDRESS}", "--set", "apiServer.port=6443", *self.capabilities(), *more,
            *(("--wait", "--timeout", "180s") if wait else ()))

    @staticmethod
    def capabilities():
        """A machine without SYS_RESOURCE can give it to no container; kernels from 5.11 on need none."""
        with open("/proc/self/status", encoding="utf-8") as file:
            bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
        return () if bounding >> CAP_SYS_RESOURCE & 1 else ("--set", "capabilities={NET_ADMIN,BPF,PERFMON}")

    def install(self, archive):
        """Sluice from an archive with sluice:dev, by its chart, until every daemon is ready."""
        self.script("import", archive)
        self.helm_upgrade()
        wait_for("every daemon to be ready", self.daemons_ready, 60)

    # ---- the daemon
    def daemon_pods(self):
        return self.api.items(f"{CORE}/namespaces/kube-system/pods?labelSelector=app.kubernetes.io/name=sluice")

    def daemon_process(self, node):
        """Process id of sluiced, and how often its container was started."""
        for pod in self.daemon_pods():
            if pod["spec"]["nodeName"] == node and not pod["metadata"].get("deletionTimestamp"):
                status = pod["status"]["containerStatuses"][0]
                return processes_by_container()[status["containerID"].split("//")[1]], status["restartCount"]
        raise RuntimeError(f"no daemon on {node}")

    def daemons_ready(self, names=None):
        """On each of the nodes, all of them if none is named, and on no other one."""
        pods = self.daemon_pods()
        return (sorted(p["spec"]["nodeName"] for p in pods) == sorted(names or self.nodes) and all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
            and not p["metadata"].get("deletionTimestamp") for p in pods))

    def pins(self, node):
        """The folder of the node's pins, seen from outside of its mount namespace; it outlives daemons."""
        with open(os.path.join(self.run_dir, node, "containerd.pid"), encoding="utf-8") as file:
            return f"/proc/{file.read().strip()}/root{PINS}"

    def daemon_pid(self, node):
        """Without the API server: by its name and its network namespace."""
        space = os.stat(self.nodes[node].path).st_ino
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                    if file.read() == "sluiced\n" and os.stat(f"/proc/{entry}/ns/net").st_ino == space:
                        return int(entry)
            except OSError:
                continue
        raise RuntimeError(f"no daemon on {node}")

    def sluicectl(self, node, *arguments):
        done = subprocess.run(["nsenter", "-t", str(self.daemon_pid(node)), "--mount", "--net",
                               "/opt/sluice/bin/sluicectl", *arguments, "-o", "json"],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"sluicectl {' '.join(arguments)} on {node}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def identities(self, node):
        """Ids of every program, link and map, by name, once none is about to change: links of new pods are moved to tcx."""
        wait_for(f"the links of {node} to be moved", lambda: self.sluicectl(node, "status")["attach"] != "tcx, clsact")
        modules = self.sluicectl(node, "modules")
        ids = {f"program {m['name']}": m["programID"] for m in modules["modules"]}
        ids.update({f"link {link['interface']}": (link["linkID"], link["programID"]) for link in modules["links"]})
        ids.update({f"map {m['name']}": m["id"] for m in modules["maps"]})
        return ids

    # ---- objects
    def create_namespace(self, name, labels=None):
        self.api.call("POST", f"{CORE}/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        # Pods need the service account that the controller makes.
        wait_for(f"service account of {name}",
                 lambda: self.api.get(f"{CORE}/namespaces/{name}/serviceaccounts/default"), 30)

    def delete_namespaces(self, *names):
        """Waits until all are gone. A namespace that is not there is left alone."""
        for name in names:
            path = f"{CORE}/namespaces/{name}"
            for pod in self.api.items(f"{path}/pods"):
                self.api.delete(f"{path}/pods/{pod['metadata']['name']}", grace=0)
            self.api.delete(path)
        wait_for(f"namespaces {', '.join(names)} to go", lambda: not set(names) & {
            n["metadata"]["name"] for n in self.api.items(f"{CORE}/namespaces")}, 120)

    def create_pod(self, namespace, name, node, labels=None, container=None):
        """`container`: fields of the only container; default: one that waits."""
        self.api.call("POST", f"{CORE}/namespaces/{namespace}/pods", {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "enableServiceLinks": False,
                     "automountServiceAccountToken": False,
                     "containers": [{"name": "c", "image": AGNHOST, "imagePullPolicy": "Never", "args": ["pause"],
                                     **(container or {})}]}})

    def ready_pods(self, namespace, count, seconds=120.0):
        """Waits until that many pods are Ready; name -> Host."""
        def container(pod):
            return pod["status"]["containerStatuses"][0]["containerID"].split("//")[1]

        def ready():
            pods = self.api.items(f"{CORE}/namespaces/{namespace}/pods")
            good = [p for p in pods if any(c["type"] == "Ready" and c["status"] == "True"
                                           for c in p["status"].get("conditions", []))]
            if not len(good) == count == len(pods):
                raise RuntimeError(f"{len(pods)} pods, {len(good)} Ready; last event: {self.last_warning(namespace)}")
            processes = processes_by_container()
            # A container that ended may still be told of as Ready.
            return [(pod, processes[container(pod)]) for pod in good]
        hosts = {}
        for pod, pid in wait_for(f"{count} pods of {namespace} to be Ready", ready, seconds):
            name = f"{namespace}/{pod['metadata']['name']}"
            hosts[name] = Host(name, f"/proc/{pid}/ns/net", pod["status"]["podIP"], pod["spec"]["nodeName"])
        return hosts

    def last_warning(self, namespace):
        events = self.api.items(f"{CORE}/namespaces/{namespace}/events?fieldSelector=type=Warning")
        return max(events, key=lambda e: e.get("lastTimestamp") or "")["message"] if events else "none"
