# SPDX-License-Identifier: Apache-2.0
"""The way out: helm uninstall takes all of Sluice's off every node, another plugin can follow, Sluice can come again (docs/uninstall.md)."""
import contextlib
import json
import os
import shutil
import signal

from lib.cluster import CACHE, wait_for
from lib.footprint import differences, footprint
from tests.cni_list import MESH, OTHER_LIST, NodeFiles

NAMESPACE = "after"
TIME_LIMIT = 20
OTHER = "10-bridge.conflist"
# Each prints what is there of Sluice; nothing else of the node has these names.
OURS = {
    "pins": "ls -d /sys/fs/bpf/sluice 2>/dev/null",
    "files of CNI": "ls /etc/cni/net.d/05-sluice.conflist /opt/cni/bin/sluice-cni 2>/dev/null",
    "interfaces": "ip -br link | grep -E '^(sluice_|slu[0-9a-f]{11})'",
    "rules": "ip rule | grep -E '^830[01]:'",
    "routes": "ip route show table all proto 83",
    "records": "ls /run/sluice/attachments /var/lib/cni/sluice/deletions 2>/dev/null",
}


def ours_on(cluster, node):
    found = {what: cluster.script("on", node, "sh", "-c", f"{command} || true").strip() for what, command in OURS.items()}
    return {what: text for what, text in found.items() if text}


def uninstall(cluster, *more):
    return cluster.script("helm", "uninstall", "sluice", "-n", "kube-system", "--wait", "--timeout", "280s", *more)


def check_bare(cluster, report, what):
    for node in cluster.nodes:
        left = ours_on(cluster, node)
        report.check(f"{what}: nothing of Sluice's is left on {node}", not left, left)
        if cluster.bare:
            changed = differences(cluster.bare[node], footprint(cluster, node))
            report.check(f"{what}: {node} is as it was before Sluice came", not changed, json.dumps(changed, indent=1))


def pods_start(cluster, report, what):
    cluster.create_namespace(NAMESPACE)
    try:
        for node in cluster.nodes:
            cluster.create_pod(NAMESPACE, f"on-{node}", node)
        cluster.ready_pods(NAMESPACE, len(cluster.nodes), 120)
        report.check(what, True)
    finally:
        cluster.delete_namespaces(NAMESPACE)


@contextlib.contextmanager
def another_plugin(cluster):
    """The plugins bridge and host-local, as if an administrator had gone over to them."""
    folders = [os.path.join(cluster.run_dir, node) for node in cluster.nodes]
    for number, folder in enumerate(folders, 1):
        for plugin in ("bridge", "host-local"):
            shutil.copy(os.path.join(CACHE, "cluster", "cni", plugin), os.path.join(folder, "cni-bin"))
        with open(os.path.join(folder, "cni-net", OTHER), "w", encoding="utf-8") as file:
            json.dump({"cniVersion": "1.0.0", "name": "bridge", "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": f"10.99.{number}.0/24"}]]}}]}, file)
    try:
        yield
    finally:
        for node, folder in zip(cluster.nodes, folders, strict=True):
            for path in ("cni-bin/bridge", "cni-bin/host-local", f"cni-net/{OTHER}"):
                os.unlink(os.path.join(folder, path))
            shutil.rmtree(os.path.join(folder, "cni-state", "networks"), ignore_errors=True)
            cluster.script("on", node, "ip", "link", "del", "cni0", check=False)
            cluster.script("on", node, "sysctl", "-qw", "net.ipv4.ip_forward=0")  # `bridge` has set it


def a_node_that_cannot_be_reached(cluster, report):
    """Its kubelet stands still: uninstalling fails and names it, the other nodes are done, and a next try needs it alone."""
    alive, dead = cluster.nodes
    cluster.helm_upgrade("--set", f"removal.timeLimitSeconds={TIME_LIMIT}")
    with open(os.path.join(cluster.run_dir, "pid", f"kubelet{dead[1:]}"), encoding="utf-8") as file:
        kubelet = int(file.read())
    os.kill(kubelet, signal.SIGSTOP)
    try:
        wait_for(f"{dead} to be unreachable", lambda: "node.kubernetes.io/unreachable" in cluster.kubectl("get", "node", dead, "-o", "jsonpath={.spec.taints}"), 150, 1)
        try:
            uninstall(cluster)
            report.check("uninstalling fails while a node cannot be reached", False)
        except RuntimeError as error:
            told = str(error) + cluster.kubectl("-n", "kube-system", "logs", "job/sluice-removal", check=False)
            report.check("uninstalling fails and names the node that cannot be reached",
                         f"not removed from 1 of 2 nodes within {TIME_LIMIT} s: {dead} (" in told, told)
        left = ours_on(cluster, alive)
        report.check("the other node is done", not left, left)
    finally:
        os.kill(kubelet, signal.SIGCONT)
    uninstall(cluster)
    check_bare(cluster, report, "once the node is back")


def with_files_of_others(cluster, report):
    """A service mesh has chained a plugin to Sluice's list, and another network's list was there before."""
    node = next(iter(cluster.nodes))
    place = NodeFiles(cluster, node)
    place.add_plugin(MESH)
    place.write("00-other.conflist", OTHER_LIST)
    wait_for("the other list to be put aside", lambda: not os.path.exists(place.path("00-other.conflist")), 20)
    report.check("the plugin is still chained", place.types() == ["sluice-cni", MESH["type"]], place.types())
    uninstall(cluster)
    told = cluster.script("on", node, "sh", "-c", "cat /etc/cni/net.d/00-other.conflist")
    report.check("another network's list is back once Sluice is gone", json.loads(told) == OTHER_LIST, told)
    place.forget("00-other.conflist")
    check_bare(cluster, report, "with files of others")


def run(cluster, report):
    with_files_of_others(cluster, report)
    a_node_that_cannot_be_reached(cluster, report)
    for number in range(1, report.options.rounds + 1):
        cluster.helm_upgrade()
        wait_for("every daemon to be ready", cluster.daemons_ready, 60)
        for node in cluster.nodes:
            report.check(f"round {number}: Sluice is on {node}", len(ours_on(cluster, node)) == len(OURS), ours_on(cluster, node))
        pods_start(cluster, report, f"round {number}: installed again, new pods start")
        uninstall(cluster)
        check_bare(cluster, report, f"round {number}")
        hooks = cluster.kubectl("-n", "kube-system", "get", "serviceaccounts,roles,rolebindings,daemonsets,jobs", "-o", "name").split()
        report.check(f"round {number}: no object of the chart is left", not [each for each in hooks if "sluice" in each], hooks)
        with another_plugin(cluster):
            pods_start(cluster, report, f"round {number}: pods of another plugin start")
    cluster.helm_upgrade()
    wait_for("every daemon to be ready", cluster.daemons_ready, 60)
