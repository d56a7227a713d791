# SPDX-License-Identifier: Apache-2.0
"""Services without kube-proxy: cluster addresses, node ports, the API server's own, changes of what serves."""
from lib import probe
from lib.api import CORE
from lib.cluster import wait_for

NAMESPACE = "services"
PORT, TARGET, NODE_PORT = 80, 8080, 30080
CONNECTIONS = 40
LABELS = {"app": "web"}


def run(cluster, report):
    cluster.create_namespace(NAMESPACE)
    servers = probe.Servers()
    try:
        for node in cluster.nodes:
            cluster.create_pod(NAMESPACE, f"web-{node}", node, LABELS)
            cluster.create_pod(NAMESPACE, f"client-{node}", node)
        pods = cluster.ready_pods(NAMESPACE, 2 * len(cluster.nodes))
        web = [pod for name, pod in pods.items() if "/web-" in name]
        clients = [pod for name, pod in pods.items() if "/client-" in name]
        for pod in web:
            servers.add(pod, tcp=[TARGET], udp=[TARGET])
        address = create(cluster)
        wait_served(cluster, address, {pod.address for pod in web})
        from_pods(report, clients, web, address)
        from_outside(cluster, report)
        api_server(report, clients)
        changes(cluster, report, clients, web, address)
    finally:
        servers.close()
        cluster.delete_namespaces(NAMESPACE)
    for node in cluster.nodes:
        try:
            wait_for("the Service to be forgotten", lambda n=node: not backends(cluster, n, address), 20)
            found = cluster.sluicectl(node, "status")["audit"]
        except TimeoutError as error:
            found = error
        report.check(f"the daemon of {node} has forgotten the Service, and finds nothing amiss", not found, found)


def create(cluster):
    ports = [{"name": p.lower(), "protocol": p, "port": PORT, "targetPort": TARGET, "nodePort": NODE_PORT} for p in ("TCP", "UDP")]
    made = cluster.api.call("POST", f"{CORE}/namespaces/{NAMESPACE}/services", {
        "metadata": {"name": "web"}, "spec": {"type": "NodePort", "selector": LABELS, "ports": ports}})
    return made["spec"]["clusterIP"]


def backends(cluster, node, address):
    """Backends' addresses as the node's daemon has them; None: it knows no such Service."""
    found = [s for s in cluster.sluicectl(node, "service", "list")["services"] if s["address"] == address]
    return {b["address"] for s in found for b in s["backends"]} if found else None


def wait_served(cluster, address, wanted):
    for node in cluster.nodes:
        wait_for(f"{node} to serve {address} by {wanted or 'nobody'}", lambda n=node: backends(cluster, n, address) == wanted, 60)


def ask(sources, address, port, protocols=("tcp", "udp"), times=CONNECTIONS, seconds=10):
    return probe.run([probe.Attempt(source, protocol, address, port)
                      for source in sources for protocol in protocols for _ in range(times)], seconds)


def unanswered(asked):
    bad = [f"{a.source} {a.protocol} {a.address}: {a.failure}" for a in asked if a.answer is None]
    return f"{len(bad)} of {len(asked)}: {bad[:5]}" if bad else ""


def from_pods(report, clients, web, address):
    asked = ask(clients, address, PORT)
    report.check("pods of every node reach the cluster address over TCP and UDP", not unanswered(asked), unanswered(asked))
    hidden = [a.answer for a in asked if a.answer and a.answer != a.source.address.encode()]
    report.check("backends see the clients' own addresses", not hidden, hidden[:5])
    asked = ask(web, address, PORT, times=10)
    report.check("a backend reaches its own Service", not unanswered(asked), unanswered(asked))


def from_outside(cluster, report):
    for name, node in cluster.nodes.items():
        asked = ask([cluster.out], node.address, NODE_PORT)
        wrong = unanswered(asked) or [a.answer for a in asked if a.answer != node.address.encode()][:5]
        report.check(f"a host outside reaches the node port of {name}, which is what backends see", not wrong, wrong)


def api_server(report, clients):
    # The probe speaks no TLS: connected is what counts, and the server's end to it.
    asked = ask(clients, "10.96.0.1", 443, ("tcp",), 1, 3)
    bad = [(a.source, a.failure) for a in asked if a.failure in ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH")]
    reached = [a for a in asked if a.answer is not None or a.failure in (None, "ECONNRESET")]
    report.check("pods of every node reach the API server by its Service", not bad and len(reached) == len(asked),
                 [(str(a.source), a.answer, a.failure) for a in asked])


def changes(cluster, report, clients, web, address):
    gone, stays = web
    cluster.api.delete(f"{CORE}/namespaces/{NAMESPACE}/pods/{gone.name.split('/')[1]}", grace=0)
    wait_served(cluster, address, {stays.address})
    asked = ask(clients, address, PORT)
    report.check("without one backend all connections go to the other", not unanswered(asked), unanswered(asked))
    cluster.api.delete(f"{CORE}/namespaces/{NAMESPACE}/pods/{stays.name.split('/')[1]}", grace=0)
    wait_served(cluster, address, set())
    asked = ask(clients, address, PORT, ("tcp",), 5, 3)
    other = [(a.answer, a.failure) for a in asked if a.failure != "ECONNREFUSED"]
    report.check("without any backend connections are refused at once", not other, other[:5])
