# SPDX-License-Identifier: Apache-2.0
"""The list of plugins on the node: what a service mesh chains to it stays, other networks' lists are put aside or told (docs/cni.md)."""
import contextlib
import json
import os
import shutil

from lib.cluster import CACHE, wait_for

NAMESPACE = "chained"
MESH = {"type": "portmap", "capabilities": {"portMappings": True}}  # in the place of istio-cni
OTHER_LIST = {"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "other"}]}
OURS = "05-sluice.conflist"


class NodeFiles:
    """What the runtime of a node reads."""

    def __init__(self, cluster, node):
        self.folder = os.path.join(cluster.run_dir, node)

    def path(self, name):
        return os.path.join(self.folder, "cni-net", name)

    def read(self):
        with open(self.path(OURS), encoding="utf-8") as file:
            return json.load(file)

    def types(self):
        return [plugin["type"] for plugin in self.read()["plugins"]]

    def write(self, name, content):
        with open(self.path(name) + ".new", "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.rename(self.path(name) + ".new", self.path(name))

    def add_plugin(self, plugin):
        """As a service mesh does."""
        shutil.copy(os.path.join(CACHE, "cluster", "cni", plugin["type"]), os.path.join(self.folder, "cni-bin"))
        chained = self.read()
        chained["plugins"].append(plugin)
        self.write(OURS, chained)

    def forget(self, *names):
        for path in (*map(self.path, names), os.path.join(self.folder, "cni-bin", MESH["type"])):
            os.unlink(path)


def upgrade(cluster, *more, replaced=None, **how):
    """Until the daemon of each of these nodes, by default of all, is another one."""
    before = {pod["metadata"]["uid"] for pod in cluster.daemon_pods()}
    cluster.helm_upgrade(*more, **how)

    def done():
        pods = [pod for pod in cluster.daemon_pods() if pod["metadata"]["uid"] not in before]
        return {pod["spec"]["nodeName"] for pod in pods} >= set(replaced or cluster.nodes)
    wait_for("the daemons to be replaced", done, 120)


def a_mesh(cluster, report, node, place):
    chained = ["sluice-cni", MESH["type"]]
    place.add_plugin(MESH)
    for pod in cluster.daemon_pods():
        if pod["spec"]["nodeName"] == node:
            cluster.kubectl("-n", "kube-system", "delete", "pod", pod["metadata"]["name"])
    wait_for("every daemon to be ready", cluster.daemons_ready, 60)
    report.check("a mesh's plugin stays over a restart", place.types() == chained, place.read())
    upgrade(cluster, "--set", "cni.bandwidth=false")
    wait_for("every daemon to be ready", cluster.daemons_ready, 60)
    ours, theirs = place.read()["plugins"]
    report.check("a mesh's plugin stays over an upgrade", theirs == MESH, theirs)
    report.check("and Sluice's own is of the upgrade", ours["capabilities"]["bandwidth"] is False, ours)
    os.unlink(place.path(OURS))
    wait_for("the list to come back", lambda: os.path.exists(place.path(OURS)), 20)
    report.check("a list that somebody deletes comes back with the mesh's plugin", place.types() == chained, place.read())
    told = cluster.sluicectl(node, "status")["putBack"]["last"]
    report.check("that is told", any(f"{OURS} is missing" in each for each in told), told)
    cluster.create_namespace(NAMESPACE)
    try:
        cluster.create_pod(NAMESPACE, "pod", node)
        report.check("a pod starts with the chained plugin", cluster.ready_pods(NAMESPACE, 1, 120))
    finally:
        cluster.delete_namespaces(NAMESPACE)
    without = place.read()
    without["plugins"].pop()
    place.write(OURS, without)


def another_list(cluster, report, node, place):
    other = place.path("00-other.conflist")
    place.write("00-other.conflist", OTHER_LIST)
    wait_for("the other list to be put aside", lambda: not os.path.exists(other), 20)
    report.check("another network's list is put aside", os.path.exists(other + ".before-sluice"))
    try:
        # A node whose daemon is not ready keeps the others from being upgraded: what helm would wait for.
        upgrade(cluster, "--set", "cni.exclusive=false", replaced=[node], wait=False)

        def told():
            status = cluster.sluicectl(node, "status")
            return "00-other.conflist stands before" in status["notReadyReason"] and status
        status = wait_for("the other list to be told", told, 60, 0.5)
        report.check("a list before Sluice's that stays is told: the daemon is not ready", not status["ready"], status)
        report.check("it is back", os.path.exists(other))
        wait_for("Kubernetes to know", lambda: not cluster.daemons_ready(), 30)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)
    wait_for("every daemon to be ready", cluster.daemons_ready, 120)
    report.check("it is ready once the list is gone", True)


def run(cluster, report):
    node = next(iter(cluster.nodes))
    place = NodeFiles(cluster, node)
    try:
        a_mesh(cluster, report, node, place)
        another_list(cluster, report, node, place)
    finally:
        place.forget()
        upgrade(cluster)
    wait_for("every daemon to be ready", cluster.daemons_ready, 60)
