# SPDX-License-Identifier: Apache-2.0
"""The figures: their names, which others rely on, what each is to be, and what stands beside it."""
import statistics
from dataclasses import dataclass


def median(values):
    return statistics.median(values)


def p99(values):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


@dataclass(frozen=True)
class Figure:
    name: str
    group: str           # the module of this package that measures it
    aim: float
    baseline: str        # what was measured beside it, in the same run
    baseline_unit: str
    statistic: object = median
    more_is_better: bool = False

    @property
    def unit(self):
        return {"ms": "ms", "ns": "ns", "x": "×", "mb": "MB"}[self.name.rsplit("_", 1)[1]]

    def met(self, value):
        return value >= self.aim if self.more_is_better else value <= self.aim


BARE = "bare veth pair"
FIGURES = [
    Figure("cni_add_p50_ms", "cni", 6, "ptp + host-local", "ms"),
    Figure("cni_add_p99_ms", "cni", 12, "ptp + host-local", "ms", p99),
    Figure("cni_del_p50_ms", "cni", 5, "ptp + host-local", "ms"),
    Figure("write_to_deny_p50_ms", "deny", 30, "a plain watcher sees the write", "ms"),
    Figure("write_to_deny_p99_ms", "deny", 100, "a plain watcher sees the write", "ms", p99),
    Figure("event_to_deny_p50_ms", "deny", 5, "the write until a plain watcher sees it", "ms"),
    Figure("event_to_deny_p99_ms", "deny", 30, "the write until a plain watcher sees it", "ms", p99),
    Figure("ready_after_kill_ms", "restart", 500, "the same without pods", "ms"),
    Figure("same_rr_p50_x", "paths", 1.06, BARE, "µs"),
    Figure("same_bulk_x", "paths", .95, BARE, "Gbit/s", more_is_better=True),
    Figure("same_crr_x", "paths", .93, BARE, "1/s", more_is_better=True),
    Figure("same_udp_x", "paths", .90, BARE, "1/s", more_is_better=True),
    Figure("cross_rr_p50_x", "paths", 1.36, BARE, "µs"),
    Figure("cross_bulk_x", "paths", .77, BARE, "Gbit/s", more_is_better=True),
    Figure("cross_crr_x", "paths", .74, BARE, "1/s", more_is_better=True),
    Figure("chain_established_ns", "chain", 150, "a program that only returns", "ns"),
    Figure("chain_new_ns", "chain", 350, "a program that only returns", "ns"),
    Figure("verdict_10k_x", "chain", 1.1, "10 rules", "ns"),
    Figure("service_packet_10k_x", "chain", 1.2, "10 Services", "ns"),
    Figure("service_new_10k_x", "chain", 1.2, "10 Services", "ns"),
    Figure("service_rr_x", "paths", .95, "the pod's own address", "µs", more_is_better=True),
    Figure("service_crr_x", "paths", .95, "the pod's own address", "1/s", more_is_better=True),
    Figure("service_change_ms", "services", 50, "kube-proxy, nftables", "ms"),
    Figure("generation_ms", "generation", 10, "nft -f of one chain among the same rules", "ms"),
    Figure("generation_kernel_ms", "generation", 2, "load and swap of the smallest program", "ms"),
    Figure("hostile_policy_p99_ms", "hostile", 100, "nothing written", "ms", p99),
    Figure("hostile_service_p99_ms", "hostile", 100, "nothing written", "ms", p99),
    Figure("hostile_add_p99_ms", "hostile", 20, "nothing written", "ms", p99),
    Figure("hostile_peak_mb", "hostile", 256, "nothing written", "MB", max),
    Figure("cluster_add_p99_ms", "cluster", 10, "a small cluster", "ms", p99),
    Figure("cluster_event_p99_ms", "cluster", 10, "a small cluster", "ms", p99),
    Figure("cluster_rss_mb", "cluster", 150, "a small cluster", "MB"),
    Figure("rss_idle_mb", "memory", 25, "sluicectl, the same libraries", "MB"),
    Figure("rss_10k_mb", "memory", 120, "the daemon idle", "MB"),
]
BY_NAME = {figure.name: figure for figure in FIGURES}
GROUPS = list(dict.fromkeys(figure.group for figure in FIGURES))
