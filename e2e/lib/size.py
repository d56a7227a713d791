# SPDX-License-Identifier: Apache-2.0
"""What a node and its daemon hold: memory, descriptors, entries of maps, interfaces, files."""
import json
import os
import statistics
import subprocess
import threading
import time

from conntrack import conntrack_entries

# Their entries are what pods and policies need; the others are arrays, whose size is fixed.
MAPS = ["ifaces", "macs", "locals", "routes", "peers", "peer_blocks", "tables", "port_classes", "fragments"]


def holdings(cluster, node):
    """name -> number of everything that pods and policies come with."""
    def entries(name):
        done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{pins}/{name}"],
                              capture_output=True, text=True, check=True)
        return len(json.loads(done.stdout))
    status = cluster.sluicectl(node, "status")
    pins, root = cluster.pins(node), f"/proc/{cluster.daemon_pid(node)}/root"
    links = json.loads(cluster.script("on", node, "ip", "-j", "link"))
    return {**{f"entries of {name}": entries(name) for name in MAPS},
            "entries of conntrack": conntrack_entries(pins),
            "endpoints": status["endpoints"], "addresses": status["addresses"]["used"],
            "pinned links": len(os.listdir(f"{pins}/links")),
            "pinned generations": len(os.listdir(f"{pins}/generations")),
            "interfaces": len(links),
            "records of attachments": len(os.listdir(f"{root}/run/sluice/attachments"))}


def process_size(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
    return {"resident KiB": int(fields["RssAnon"].split()[0]), "threads": int(fields["Threads"]),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


class Sampler:
    """Looks at the size of each node's daemon again and again."""

    def __init__(self, cluster, seconds):
        self.pids = {node: cluster.daemon_pid(node) for node in cluster.nodes}
        self.samples = {node: [] for node in cluster.nodes}
        self.seconds, self.ended = seconds, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.ended.wait(self.seconds):
            for node, pid in self.pids.items():
                self.samples[node].append((time.monotonic(), process_size(pid)))

    def end(self):
        self.ended.set()
        self.thread.join()

    def course(self, node, what, parts=4):
        """Median of each part of the time."""
        values = [size[what] for _, size in self.samples[node]]
        length = len(values) // parts
        return [statistics.median(values[i * length:(i + 1) * length]) for i in range(parts)]
