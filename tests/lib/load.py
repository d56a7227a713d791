# SPDX-License-Identifier: Apache-2.0
"""Traffic by the tools of tests/tools, and what it says about the policies that were in force meanwhile."""
import bisect
import collections
import json
import os
import subprocess
import time

from sluice_node import wait_for

Attempt = collections.namedtuple("Attempt", "begin sent arrived answered port retransmissions")
# What is certainly in force: `allow` from `begin` (seen to be live) to `end` (before the next change is written).
Window = collections.namedtuple("Window", "allow begin end")
GRACE_NS = 50_000_000  # what is sent so shortly before a change may be judged after it, on a machine that keeps up


class Tool:
    """One of the built traffic tools, from its "ready" on."""

    def __init__(self, build, name, **options):
        arguments = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
        self.process = subprocess.Popen([os.path.join(build, "tests", "tools", f"sluice-{name}"), *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if "ready" not in self.process.stdout.readline():
            raise RuntimeError(f"sluice-{name} did not start: exit {self.process.wait()}")

    def stop(self):
        """No more traffic; finish() tells about it."""
        if self.process.stdin:
            self.process.stdin.close()
            self.process.stdin = None

    def finish(self):
        """Ends it; everything that it has to say."""
        self.stop()
        output, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"{self.process.args[0]}: exit {self.process.returncode}")
        return output

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Attempts(Tool):
    """New connections at a steady rate. `ports`: (first, count) of source ports; without, the system chooses."""

    def __init__(self, client, server, protocol, port, rate=500, ports=None, address=None):
        chosen = {"first_port": ports[0], "ports": ports[1]} if ports else {}
        super().__init__(client_build(client, server), "attempts", client=client.path, server=server.path,
                         protocol=protocol, address=address or server.address, port=port, rate=rate, **chosen)

    def end(self):
        """(totals, attempts)"""
        totals, *lines = self.finish().splitlines()
        return json.loads(totals), [Attempt(*map(int, line.split())) for line in lines]


class Flood(Tool):
    """Numbered datagrams, as many as the machine sends (or `rate` a second and flow)."""

    def __init__(self, sender, receiver, port, flows=1, rate=0, source_port=0, address=None):
        super().__init__(client_build(sender, receiver), "flood", sender=sender.path, receiver=receiver.path,
                         address=address or receiver.address, port=port, flows=flows, rate=rate, source_port=source_port)

    def counts(self):
        """{"sent", "received"} so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        return json.loads(self.finish())


def client_build(*places):
    """The build folder that the nodes of these namespaces run."""
    return next(getattr(p, "node", p).build for p in places if hasattr(getattr(p, "node", p), "build"))


class Switch:
    """Changes policies as one transaction and keeps the times between which each is certainly in force."""

    def __init__(self, *nodes):
        self.nodes = nodes
        self.windows = []
        self.current = None  # (allow, seen to be live)

    def write(self, name, *objects):
        """Writes the objects as one file; returns when their generation is live on every node. The wait is long: every
        fourth generation needs an RCU grace period, and those are slow while packets fill all processors."""
        before = [node.generation() for node in self.nodes]
        self.nodes[0].write(name, *objects)
        for node, number in zip(self.nodes, before):
            wait_for(f"the generation of {node.name}", lambda n=node, b=number: n.generation() > b, 60, 0.002)

    def to(self, allow, name, *objects):
        self.close()
        self.write(name, *objects)
        self.current = (allow, time.monotonic_ns())

    def close(self):
        if self.current:
            self.windows.append(Window(*self.current, time.monotonic_ns()))
        self.current = None


def judge(attempts, windows):
    """(counts of what became of the attempts, those that contradict what was in force: leaked or refused)

    Leaked: begun in a deny window and seen at the server, or answered, before it ended. Refused: made in an allow window
    and never answered. Attempts at a change are undecided; how long a packet may be on its way is taken from those that
    were answered.
    """
    begins = [window.begin for window in windows]
    slowest = max((a.answered - a.begin for a in attempts if a.answered), default=0)
    grace = max(GRACE_NS, 2 * slowest)
    counts = collections.Counter(attempts=len(attempts), slowest_ms=slowest // 1_000_000)
    wrong = []
    for attempt in attempts:
        counts["answered"] += attempt.answered > 0
        counts["retransmitted"] += attempt.retransmissions > 0
        number = bisect.bisect_right(begins, attempt.begin) - 1
        window = windows[number] if number >= 0 else None
        what = "undecided"
        if window and attempt.sent < window.end:
            if not window.allow:
                leaked = any(0 < t < window.end for t in (attempt.arrived, attempt.answered))
                what = "leaked" if leaked else "denied"
            elif attempt.answered:
                what = "allowed"
            elif attempt.sent < window.end - grace:
                what = "refused"
        counts[what] += 1
        if what in ("leaked", "refused"):
            wrong.append((attempt, window))
    return counts, wrong
