# SPDX-License-Identifier: Apache-2.0
"""The way out: the chart's value removal takes all of Sluice's off every node, and it can be installed again (docs/uninstall.md)."""
from lib.cluster import wait_for

NAMESPACE = "after"
ROUNDS = 2
# Each prints what is left; nothing else of the node has these names.
LEFT = {
    "pins": "ls -d /sys/fs/bpf/sluice 2>/dev/null",
    "files of CNI": "ls /etc/cni/net.d/05-sluice.conflist /opt/cni/bin/sluice-cni 2>/dev/null",
    "interfaces": "ip -br link | grep -E '^(sluice_|slu[0-9a-f]{11})'",
    "rules": "ip rule | grep -E '^830[01]:'",
    "routes": "ip route show table all proto 83",
    "filters": "for i in $(ls /sys/class/net); do tc filter show dev $i ingress 2>/dev/null | grep entry_; done",
    "records": "ls /run/sluice/attachments /var/lib/cni/sluice/deletions 2>/dev/null",
}


def left_on(cluster, node):
    found = {what: cluster.script("on", node, "sh", "-c", f"{command} || true").strip() for what, command in LEFT.items()}
    return {what: text for what, text in found.items() if text}


def run(cluster, report):
    for number in range(1, ROUNDS + 1):
        for node in cluster.nodes:
            report.check(f"round {number}: Sluice is on {node}", len(left_on(cluster, node)) >= 5, left_on(cluster, node))
        cluster.helm_upgrade("--set", "removal=true", "--set", "maxUnavailable=100%")
        cluster.kubectl("-n", "kube-system", "rollout", "status", "daemonset/sluice", "--timeout=180s")
        for node in cluster.nodes:
            left = left_on(cluster, node)
            report.check(f"round {number}: nothing of Sluice's is left on {node}", not left, left)
        cluster.script("helm", "uninstall", "sluice", "-n", "kube-system", "--wait", "--timeout", "120s")
        report.check(f"round {number}: helm uninstall", True)
        cluster.helm_upgrade()
        wait_for("every daemon to be ready", cluster.daemons_ready, 60)
        cluster.create_namespace(NAMESPACE)
        try:
            for node in cluster.nodes:
                cluster.create_pod(NAMESPACE, f"on-{node}", node)
            cluster.ready_pods(NAMESPACE, len(cluster.nodes), 120)
            report.check(f"round {number}: installed again, new pods start", True)
        finally:
            cluster.delete_namespaces(NAMESPACE)
