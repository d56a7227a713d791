#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client connects to one backend directly and by its Service in turns, as fast as it can and from ports that recur, 62 s
and 64 s apart: when the backend's timers of TIME_WAIT end. No SYN meets a connection that the backend still remembers:
none is repeated, and none is dropped for its timestamp. Takes minutes, so it runs by name only.

    time_wait_test.py BUILD_FOLDER [unittest options]      SLUICE_ROUNDS: how many, default 5
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import Node  # noqa: E402

BUILD = ""
ROUNDS = int(os.environ.get("SLUICE_ROUNDS", 5))
APART = (62, 64)  # seconds
SECONDS = 2  # of load each time
SHORT_PORT = 9002  # of the load generator: the server closes after an answer
PORTS = "32768 40959"
COUNTERS = ("TCPSynRetrans", "PAWSEstab", "PAWSTimewait", "TCPTimeouts", "TCPACKSkippedTimeWait")


def netstat(namespace):
    lines = namespace.run("cat", "/proc/net/netstat").splitlines()
    names, values = [line.split()[1:] for line in lines if line.startswith("TcpExt")]
    known = dict(zip(names, map(int, values)))
    return {name: known[name] for name in COUNTERS if name in known}


class Load:
    """The load generator as client or server in a pod."""

    def __init__(self, pod, *arguments):
        self.process = pod.start(pod.node.tool_path("bench", "sluice_bench_load"), "-1", *arguments,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class TimeWaitTest(sluice_test.SluiceTest):
    def setUp(self):
        self.node = Node(BUILD, "timewait", "10.83.91.0/24")
        self.node.begin()
        self.pods, self.loads = {}, []
        for n, apart in enumerate(APART):
            client, backend = (self.node.add_pod("x", f"{name}{apart}") for name in ("client", "backend"))
            client.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={PORTS}")
            server = Load(backend, "serve")
            server.process.stdout.readline()
            address = f"10.96.0.{n + 1}"
            ports = [{"name": "tcp", "protocol": "TCP", "port": SHORT_PORT}]
            slices = slice_of(f"web{apart}", backend.address)
            slices["ports"] = ports
            self.node.write(f"service{apart}", service(f"web{apart}", address, ports=ports), slices)
            ways = {"directly": Load(client, "drive", backend.address), "by the Service": Load(client, "drive", address)}
            self.pods[apart] = client, backend, ways
            self.loads += [server, *ways.values()]
        self.node.settle()

    def tearDown(self):
        for load in reversed(self.loads):
            load.end()
        for pod in list(self.node.pods.values()):
            self.node.delete_pod(pod)
        self.node.kill_daemon(signal.SIGTERM)
        self.node.delete()

    def rounds(self, apart, results):
        client, backend, ways = self.pods[apart]
        for turn in range(ROUNDS):
            for way, load in ways.items():
                before = netstat(client), netstat(backend)
                rate = load.ask(f"crr {SECONDS}")["per_second"]
                grown = [{name: now[name] - then[name] for name in now} for now, then in
                         zip((netstat(client), netstat(backend)), before)]
                results.append((apart, turn, way, rate, *grown))
                print(f"  {apart} s apart, round {turn + 1}, {way}: {rate:.0f}/s, client {grown[0]}, backend {grown[1]}", flush=True)
                time.sleep(apart - SECONDS)

    def test_no_syn_meets_a_connection_that_the_backend_remembers(self):
        results = []
        threads = [threading.Thread(target=self.rounds, args=(apart, results)) for apart in APART]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(results), 2 * ROUNDS * len(APART))
        self.assertEqual([], [r for r in results if r[4]["TCPSynRetrans"] or r[5].get("PAWSTimewait")])


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
