# SPDX-License-Identifier: Apache-2.0
"""A node on the benchmarks' API server, clients of its pods that ask all the time, and pods that come."""
import contextlib
import multiprocessing
import os
import socket
import time

from measure.cni import Plugin
from sluice_node import Pod
from traffic import in_namespace

INTERVAL, TIMEOUT, PATIENCE = 0.002, 0.03, 90  # seconds: between datagrams, for an answer, for a change
PORT = 9000


def metadata(ns, name, labels=None):
    return {"name": name, "namespace": ns, "uid": f"{ns}-{name}", "labels": labels or {}}


def serve(path, name):
    with in_namespace(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("0.0.0.0", PORT))
        while True:
            server.sendto(name, server.recvfrom(64)[1])


def ask(path, address, port, log):
    """Writes a line for each datagram from a port of its own: when it was sent, and who answered."""
    with open(log, "w", buffering=1, encoding="ascii") as file:
        while True:
            with in_namespace(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
                client.settimeout(TIMEOUT)
                sent, answer = time.monotonic(), b"-"
                with contextlib.suppress(OSError):
                    client.sendto(b"?", (address, port))
                    answer = client.recv(64)
                file.write(f"{sent} {answer.decode()}\n")
            time.sleep(INTERVAL)


class Asked:
    def __init__(self, log):
        self.log = log
        with open(log, "x", encoding="ascii"):
            pass

    def until(self, told, answer):
        """Milliseconds until the first of three datagrams in a row that this one answers (`-`: nobody)."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with open(self.log, encoding="ascii") as file:
                lines = [line.split() for line in file.read().splitlines()[-3000:] if line.count(" ") == 1]
            lines = [(float(sent), who) for sent, who in lines if float(sent) > told]
            for first, second, third in zip(lines, lines[1:], lines[2:]):
                if first[1] == second[1] == third[1] == answer:
                    return (first[0] - told) * 1000
            time.sleep(0.02)
        raise TimeoutError(f"'{answer}' did not come within {PATIENCE} s")


class AskedNode:
    """`node` and `api` are the subclass's to make, before the constructor is called."""

    def __init__(self, options):
        self.plugin = Plugin(os.path.join(options.build, "cni", "sluice-cni"), self.node, self.node.config(name=self.node.name))
        self.processes, self.added = [], 0

    def process(self, target, *arguments):
        self.processes.append(multiprocessing.Process(target=target, args=arguments, daemon=True))
        self.processes[-1].start()

    def add(self, item):
        """Milliseconds that the ADD of the new pod takes; it goes again."""
        self.api.push("pods", item)
        pod = Pod(self.node, item["metadata"]["namespace"], item["metadata"]["name"])
        time.sleep(0.1)  # the scheduler and kubelet take longer
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.ns};K8S_POD_NAME={pod.pod}"
        self.plugin.call("ADD", pod, args)
        self.plugin.call("DEL", pod, args)
        self.api.push("pods", item, "DELETED")
        pod.delete()
        return self.plugin.times["ADD"][-1]

    def end(self):
        for process in self.processes:
            process.kill()
        self.node.kill_daemon()
        self.api.shutdown()
