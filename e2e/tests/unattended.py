# SPDX-License-Identifier: Apache-2.0
"""Half an hour without the daemon of a node under new connections all the time, beside a node that has its daemon.

The time is an option, --away SECONDS.
"""
import multiprocessing
import time

from conntrack import conntrack_entries, conntrack_uses
from segments import open_and_reset
from traffic import in_namespace

from lib import probe
from lib.api import APPS, CORE
from lib.cluster import wait_for
from lib.streams import Streams, verdict

NAMESPACE = "unattended"
AWAY, CONTROL = "n1", "n2"
RATE = 2000                        # new connections a second on each node, half of them to a Service
SERVICE_PORTS, TARGET, CLOSED_PORT = 64, 8080, 9000
LOOK_EVERY, ATTEMPTS = 5, 10       # seconds; connections that must be answered, to the Service and to the pod
REFUSED = ("CT_FULL", "CT_BUDGET", "CT_BUSY")
DAEMON_SET = f"{APPS}/namespaces/kube-system/daemonsets/sluice"


class Load:
    """Opens connections in a pod of the node, in a process of its own."""

    def __init__(self, client, targets, until):
        self.made = multiprocessing.Value("Q")
        self.process = multiprocessing.Process(target=self.run, args=(client, targets, until), daemon=True)
        self.process.start()

    def run(self, client, targets, until):
        self.made.value = in_namespace(client.path, lambda: open_and_reset(client.address, targets, RATE, until))


def place_daemons(cluster, names):
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]}
    cluster.api.patch(DAEMON_SET, {"spec": {"template": {"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}} if names else None}}}})
    wait_for(f"the daemons to be on {names or 'every node'}", lambda: cluster.daemons_ready(names), 120)


def create_service(cluster, node):
    """Its cluster IP; the backend is the node's own server."""
    ports = [{"name": f"p{n}", "protocol": "TCP", "port": 80 + n, "targetPort": TARGET} for n in range(SERVICE_PORTS)]
    made = cluster.api.call("POST", f"{CORE}/namespaces/{NAMESPACE}/services", {
        "metadata": {"name": node}, "spec": {"selector": {"server": node}, "ports": ports}})
    return made["spec"]["clusterIP"]


def served(cluster, node, address):
    services = [s for s in cluster.sluicectl(node, "service", "list")["services"] if s["address"] == address]
    return len(services) == SERVICE_PORTS and all(s["backends"] for s in services)


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    servers = probe.Servers()
    try:
        for node in (AWAY, CONTROL):
            for name in ("client", "asking", "server"):
                cluster.create_pod(NAMESPACE, f"{name}-{node}", node, {name: node})
        pods = cluster.ready_pods(NAMESPACE, 6)
        by_node = {node: {name: pods[f"{NAMESPACE}/{name}-{node}"] for name in ("client", "asking", "server")}
                   for node in (AWAY, CONTROL)}
        addresses = {node: create_service(cluster, node) for node in by_node}
        for node, own in by_node.items():
            servers.add(own["server"], tcp=[TARGET])
            wait_for(f"the Service on {node}", lambda n=node: served(cluster, n, addresses[n]))
        half_an_hour(cluster, report, by_node, addresses)
    finally:
        servers.close()
        cluster.delete_namespaces(NAMESPACE)


def half_an_hour(cluster, report, by_node, addresses):
    before = {node: cluster.sluicectl(node, "status")["packets"]["drops"] for node in by_node}
    streams = Streams(tcp=[(own["asking"], own["server"]) for own in by_node.values()])
    loads, failed, asked, most = {}, {node: [] for node in by_node}, {node: 0 for node in by_node}, {node: 0 for node in by_node}
    try:
        place_daemons(cluster, [CONTROL])
        until = time.monotonic() + report.options.away
        for node, own in by_node.items():
            loads[node] = Load(own["client"], [(addresses[node], 80, SERVICE_PORTS),
                                               (own["server"].address, CLOSED_PORT, SERVICE_PORTS)], until)
        while time.monotonic() < until:
            for node, own in by_node.items():
                attempts = [probe.Attempt(own["asking"], "tcp", address, port) for _ in range(ATTEMPTS)
                            for address, port in ((addresses[node], 80), (own["server"].address, TARGET))]
                probe.run(attempts, 10)
                asked[node] += len(attempts)
                failed[node] += [str(a.failure) for a in attempts if a.answer is None]
                most[node] = max(most[node], conntrack_uses(cluster.pins(node))[1])
            time.sleep(LOOK_EVERY)
        for load in loads.values():
            load.process.join()
        for node in by_node:
            report.check(f"{node}: every owner's counter is the number of its entries, right afterwards", agree(cluster, node))
        node = cluster.api.get(f"{CORE}/nodes/{AWAY}")
        status = {c["type"]: c["status"] for c in node["status"]["conditions"]}.get("Ready")
        report.check(f"{AWAY} is still ready, so that its pods stay and serve", status == "True", status)
        place_daemons(cluster, None)
        verdict(report, "connections from before", streams.end())
    except BaseException:
        for load in loads.values():
            load.process.kill()
        streams.kill()
        place_daemons(cluster, None)
        raise
    for node in by_node:
        after = cluster.sluicectl(node, "status")["packets"]["drops"]
        refused = {reason: after.get(reason, 0) - before[node].get(reason, 0) for reason in REFUSED
                   if after.get(reason, 0) != before[node].get(reason, 0)}
        kind = "without its daemon" if node == AWAY else "with its daemon, beside it"
        report.note(f"{node}, {kind}: {loads[node].made.value} connections in {report.options.away:.0f} s, refused: "
                    f"{refused or 'none'}; at most {most[node]} entries in use; {asked[node]} more had to be answered, "
                    f"{len(failed[node])} were not")
        report.check(f"{node}, {kind}: the load ran", loads[node].made.value > 0.9 * RATE * report.options.away)
        report.check(f"{node}, {kind}: no connection is refused", not refused and not failed[node], (refused, failed[node][:5]))


def agree(cluster, node):
    folder = cluster.pins(node)

    def same():
        uses, every = conntrack_uses(folder)
        return every == sum(uses.values()) == conntrack_entries(folder)
    try:
        return wait_for("counters and entries to agree", same, 60, 0.5)
    except TimeoutError:
        return False
