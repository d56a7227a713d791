# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' conformance specs of [sig-network], without kube-proxy, with CoreDNS."""
from lib import suite


def run(cluster, report):
    suite.run(cluster, report, "conformance", r"\[sig-network\].*\[Conformance\]", 47)
