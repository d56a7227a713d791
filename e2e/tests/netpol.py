# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' specs of NetworkPolicy."""
from lib import suite


def run(cluster, report):
    suite.run(cluster, report, "netpol", r"\[sig-network\] Netpol ", 47)
