# SPDX-License-Identifier: Apache-2.0
"""The load generator (bench/load.cpp) inside namespaces."""
import json
import os
import subprocess

CPU = max(os.sched_getaffinity(0))  # of both ends of all loads; the benchmark itself keeps to the others


def keep_off():
    """This process, and what it starts without pinning it, leaves the loads' CPU alone."""
    others = os.sched_getaffinity(0) - {CPU}
    if others:
        os.sched_setaffinity(0, others)


class Load:
    """A server or a client inside the namespace at `path`."""

    def __init__(self, build, path, *arguments, cpu=CPU):
        tool = os.path.join(build, "bench", "sluice_bench_load")
        self.process = subprocess.Popen(["nsenter", f"--net={path}", tool, str(cpu), *map(str, arguments)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"the load generator ended with {self.process.wait()}")
        return text

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def server(build, path, **more):
    load = Load(build, path, "serve", **more)
    load.line()
    return load
