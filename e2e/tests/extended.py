# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' specs of [sig-network] beside those of conformance: Services, conntrack, DNS, traffic distribution."""
from lib import suite

AREAS = "Services|Networking|Conntrack|Connectivity|NoSNAT|DNS|Traffic Distribution|Service CIDRs"


def run(cluster, report):
    suite.run(cluster, report, "extended", rf"\[sig-network\] ({AREAS}) ", 65, [r"\[Conformance\]"])
