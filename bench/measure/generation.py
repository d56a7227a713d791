# SPDX-License-Identifier: Apache-2.0
"""One of 1,000 policies changes: new state of the cluster to live generation, in turns with a plain nftables engine."""
import json
import os
import subprocess
import tempfile
import time

from sluice_node import Namespace, run

SANDBOX = True
ROUNDS = 100
ENDPOINTS, POLICIES, PODS = 100, 1000, 1000
STEPS = ("compile", "build", "fill", "load", "check", "swap")


class Generations:
    """bench/generation.cpp in a node of its own."""

    def __init__(self, build, name, pods):
        self.node = Namespace(name)
        self.bpffs = f"/run/{name}-bpf"
        os.makedirs(self.bpffs)
        run("mount", "-t", "bpf", "bpf", self.bpffs)
        self.process = self.node.start(
            os.path.join(build, "bench", "sluice_bench_generation"), self.bpffs, str(ENDPOINTS), str(POLICIES), str(pods),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.line()

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"sluice_bench_generation ended with {self.process.wait()}")
        return text

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.line())


class Nft:
    """What an engine on nftables does at the least: one chain for each endpoint, one rule for each policy's rule; a
    change of a policy replaces the chain of one endpoint, in one transaction."""

    def __init__(self):
        self.node = Namespace("nft")
        self.changes = 0
        chains = "".join(f"  chain e{i} {{\n{self.rules(i)}  }}\n" for i in range(ENDPOINTS))
        jumps = "".join(f"    ip daddr 10.244.0.{i + 2} jump e{i}\n" for i in range(ENDPOINTS))
        self.apply(f"table ip netpol {{\n{chains}  chain forward {{\n    type filter hook forward priority 0;\n{jumps}  }}\n}}\n")

    @staticmethod
    def rules(endpoint, port=1000):
        return "".join(f"    ip saddr {{ 10.244.{endpoint % 8}.{i}, 10.244.{endpoint % 8}.{i + 20} }} "
                       f"tcp dport {port + i} accept\n" for i in range(POLICIES // ENDPOINTS)) + "    drop\n"

    def apply(self, text):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            begin = time.monotonic_ns()
            self.node.run("nft", "-f", file.name)
            return (time.monotonic_ns() - begin) / 1e6

    def round(self):
        self.changes += 1
        endpoint = self.changes % ENDPOINTS
        return self.apply(f"flush chain ip netpol e{endpoint}\ntable ip netpol {{\n  chain e{endpoint} {{\n"
                          f"{self.rules(endpoint, 1000 + self.changes)}  }}\n}}\n")


def measure(record, options):
    rounds = ROUNDS // 5 if options.quick else ROUNDS
    node, large, nft = Generations(options.build, "node", PODS), Generations(options.build, "large", 10 * PODS), Nft()
    got = [(node.round(), large.round(), nft.round()) for _ in range(rounds)]
    mine, more = [g[0] for g in got], [g[1] for g in got]
    record.put("generation_ms", [m["total_ms"] for m in mine], [g[2] for g in got])
    record.put("generation_kernel_ms", [m["kernel_ms"] for m in mine], [m["least_ms"] for m in mine])
    for step in STEPS:
        record.row(f"generation: {step}", "ms", [m[f"{step}_ms"] for m in mine])
    for part, what in (("load", "loading the program"), ("run", "running the check"), ("open", "opening pinned maps")):
        record.row(f"of it in the kernel: {what}", "ms", [m[f"kernel_{part}_ms"] for m in mine])
    record.row("generation: bpf() calls", "", [m["bpf_calls"] for m in mine])
    record.row(f"generation with {10 * PODS:,} pods", "ms", [m["total_ms"] for m in more])
    record.conditions = (f"{rounds} changes; {ENDPOINTS} endpoints, {POLICIES:,} policies, all of them in force here, "
                         f"{PODS:,} pods")
