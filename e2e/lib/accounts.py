# SPDX-License-Identifier: Apache-2.0
"""in = delivered + to the stack + out + answered + drops, on every node."""
from lib.cluster import wait_for


def unaccounted(cluster):
    """The counters of the nodes on which they do not agree. Packets on their way while the counters are read make a
    difference that is gone at the next look."""
    wrong = {}
    for node in cluster.nodes:
        def accounted(node=node):
            wrong[node] = cluster.sluicectl(node, "status")["packets"]
            return wrong[node]["unaccounted"] == 0
        try:
            wait_for("the counters to agree", accounted, 10)
            del wrong[node]
        except TimeoutError:
            pass
    return wrong
