# SPDX-License-Identifier: Apache-2.0
"""All of a node that a network plugin may leave something in."""

COMMANDS = {
    "links": "ip -d -o link | sed 's/ numtxqueues.*//'",
    "addresses": "ip -o addr | sed 's/ valid_lft.*//'",
    "routes": "ip -4 route show table all; ip -6 route show table all | grep -v ' fe80::\\|^fe80::\\|^multicast'",
    "rules": "ip rule; ip -6 rule",
    "neighbours of its own": "ip neigh show nud permanent",
    "queueing disciplines": "tc qdisc",
    "filters": "for i in $(ls /sys/class/net); do tc filter show dev $i ingress; tc filter show dev $i egress; done",
    "programs at interfaces": "bpftool net | grep -v '^$'",
    "programs at the cgroup": "bpftool cgroup show \"$(awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts | tail -1)\"",
    "pins": "find /sys/fs/bpf -mindepth 1",
    "files of CNI": "find /etc/cni/net.d /opt/cni/bin -mindepth 1",
    "files of its own": "find /run/sluice /var/lib/cni/sluice -mindepth 1",
    "sysctls": "sysctl -a 2>/dev/null | grep '^net.ipv[46].conf\\|^net.ipv[46].ip_forward\\|^net.core' | grep -v stable_secret",
    "firewall rules": "nft list ruleset 2>/dev/null",
}


def footprint(cluster, node):
    return {what: sorted(cluster.script("on", node, "sh", "-c", f"{{ {command}; }} 2>/dev/null || true").splitlines())
            for what, command in COMMANDS.items()}


def differences(before, after):
    """{what: lines that came (+) or went (-)}"""
    found = {}
    for what in COMMANDS:
        lines = ["+ " + line for line in after[what] if line not in before[what]]
        lines += ["- " + line for line in before[what] if line not in after[what]]
        if lines:
            found[what] = lines
    return found
