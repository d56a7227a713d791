# SPDX-License-Identifier: Apache-2.0
"""A rolling update of a Deployment behind a ClusterIP and a node port under 200 connections a second: none fails."""
from lib import rollout


def run(cluster, report):
    outcomes, replaced = rollout.measure(cluster)
    report.check("every pod is another one", len(replaced) == rollout.REPLICAS, replaced)
    for way, outcome in outcomes.items():
        report.note(f"{way}: {outcome.made} connections, the slowest {outcome.slowest_ms:.0f} ms, {len(outcome.by_backend)} pods")
        report.check(f"no connection by the {way} failed", outcome.made > 500 and not outcome.failed,
                     f"{len(outcome.failed)} of {outcome.made}: {outcome.failed[:5]}")
