# SPDX-License-Identifier: Apache-2.0
"""What the modules cost a packet, by BPF_PROG_TEST_RUN: bench/chain/chain.cpp measures, this reads."""
import json
import os
import subprocess

SANDBOX = True


def measure(record, options):
    tool = os.path.join(options.build, "bench", "sluice_bench_chain")
    command = [tool, "--json"] + ["--quick"] * options.quick
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name in options.names:
        record.put(name, measured[name]["samples"], measured[name]["baseline"])
