#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pods that send, and are sent to, from before their interface exists: what their policy denies gets through not once,
and what it allows is not lost once ADD has returned.

    add_race_test.py BUILD_FOLDER [unittest options]
    SLUICE_RACE_PODS=200 add_race_test.py BUILD_FOLDER     # 12 unless told
"""
import collections
import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
from sluice_node import Node, Pod, wait_for  # noqa: E402
from sluice_test import SluiceTest, main  # noqa: E402
from traffic import bound  # noqa: E402

BUILD = ""
PODS = int(os.environ.get("SLUICE_RACE_PODS", "12"))
AT_ONCE = 2
OUT_PORT, IN_PORT = 7001, 7002
NUMBERED = struct.Struct("!IQ")  # pod, packet
TIGHT = 500  # packets sent without a pause once the first is accepted
PAUSE = 0.001
SO_RCVBUFFORCE = 33
BUFFER = 64 << 20


def pod_process(number, target):
    """Inside of the pod: sends to the target without end, and counts what arrives, until standard input ends."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    listener.bind(("0.0.0.0", IN_PORT))
    listener.setblocking(False)
    refused, accepted, at_return, arrived = 0, 0, None, []
    ended = False
    while not ended:
        try:
            sender.sendto(NUMBERED.pack(number, accepted), (target, OUT_PORT))
            accepted += 1
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EINVAL):
                raise
            refused += 1
            if refused == 1:
                print("sending", flush=True)
        if select.select([sys.stdin], [], [], PAUSE if accepted > TIGHT else 0)[0]:
            if os.read(0, 64):
                at_return = accepted
            else:
                ended = True
    try:
        while True:
            arrived.append(NUMBERED.unpack(listener.recv(64))[1])
    except BlockingIOError:
        pass
    print(json.dumps({"refused": refused, "accepted": accepted, "atReturn": at_return, "arrived": arrived}))


class Sink:
    """Counts what reaches a pod, by sender."""

    def __init__(self, pod):
        self.socket = bound(pod, socket.SOCK_DGRAM, OUT_PORT)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.socket.settimeout(0.1)
        self.seen = collections.defaultdict(set)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.receive, daemon=True)
        self.thread.start()

    def receive(self):
        while True:
            try:
                pod, packet = NUMBERED.unpack(self.socket.recv(64))
                self.seen[pod].add(packet)
            except TimeoutError:
                if self.ended.is_set():
                    return

    def end(self):
        self.ended.set()
        self.thread.join()
        self.socket.close()


class Prober:
    """Sends to addresses that are pods' only later: the frames go out, whoever owns the addresses."""

    def __init__(self, pod, addresses):
        for address in addresses:
            mac = "02:53:" + ":".join(f"{int(part):02x}" for part in address.split("."))
            pod.ip("neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
        self.socket = bound(pod, socket.SOCK_DGRAM, 0)
        self.addresses = addresses
        self.sent = dict.fromkeys(addresses, 0)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.send, daemon=True)
        self.thread.start()

    def send(self):
        while not self.ended.is_set():
            for address in self.addresses:
                self.socket.sendto(NUMBERED.pack(0, self.sent[address]), (address, IN_PORT))
                self.sent[address] += 1
            time.sleep(PAUSE)

    def end(self):
        self.ended.set()
        self.thread.join()
        self.socket.close()


class AddRace(SluiceTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "race", "10.83.0.0/22")
        cls.node.write_node()
        cls.node.write_namespace("x")
        cls.node.write_policy("x", "silent", {"podSelector": {"matchLabels": {"kind": "denied"}},
                                              "policyTypes": ["Ingress", "Egress"]})
        both = {"podSelector": {"matchLabels": {"kind": "allowed"}}, "policyTypes": ["Ingress", "Egress"]}
        friend = [{"podSelector": {"matchLabels": {"kind": "friend"}}}]
        cls.node.write_policy("x", "friends", {
            **both, "egress": [{"to": friend, "ports": [{"protocol": "UDP", "port": OUT_PORT}]}],
            "ingress": [{"from": friend, "ports": [{"protocol": "UDP", "port": IN_PORT}]}]})
        cls.node.start_daemon()
        cls.friend = cls.node.add_pod("x", "friend", {"kind": "friend"})

    @classmethod
    def tearDownClass(cls):
        cls.node.delete_pod(cls.friend)
        cls.node.kill_daemon()
        cls.node.delete()

    def start_pod(self, number):
        kind = "denied" if number % 2 else "allowed"
        self.node.write_pod("x", f"p{number}", {"kind": kind})
        pod = Pod(self.node, "x", f"p{number}")
        pod.number, pod.kind = number, kind
        pod.process = pod.start(sys.executable, "-B", os.path.realpath(__file__), "--pod", str(number), self.friend.address,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual("sending\n", pod.process.stdout.readline())
        return pod

    def race(self, numbers):
        """Packets accepted and arrived of each pod, as sent and as received by it."""
        first = struct.unpack("!I", socket.inet_aton(self.last_address))[0] + 1
        addresses = [socket.inet_ntoa(struct.pack("!I", first + i)) for i in range(len(numbers))]
        pods = [self.start_pod(number) for number in numbers]
        prober = Prober(self.friend, addresses)
        time.sleep(0.05)  # all are at it
        for pod, address in zip(pods, addresses):
            self.node.attach(pod)
            pod.probed = prober.sent[address] + 1  # one may be on its way
            pod.process.stdin.write("returned\n")
            pod.process.stdin.flush()
            self.assertEqual(address, pod.address, "addresses are given out in turn")
            time.sleep(0.02)
        time.sleep(0.1)
        prober.end()
        self.last_address = addresses[-1]
        for pod in pods:
            output, _ = pod.process.communicate(timeout=60)
            pod.counts = json.loads(output)
            pod.sent_to = prober.sent[pod.address]
            self.node.delete_pod(pod)
        return pods

    def test_from_the_first_instruction(self):
        sink = Sink(self.friend)
        self.last_address = self.friend.address
        pods = []
        for begin in range(0, PODS, AT_ONCE):
            pods += self.race(range(begin, min(begin + AT_ONCE, PODS)))
        wait_for("the last packets", lambda: all(
            len(sink.seen[p.number]) >= p.counts["accepted"] for p in pods if p.kind == "allowed"), 2)
        sink.end()
        totals = collections.Counter()
        for pod in pods:
            counts, out = pod.counts, sink.seen.get(pod.number, set())
            after_return = set(range(counts["atReturn"], counts["accepted"]))
            probes = set(range(pod.probed, pod.sent_to))
            with self.subTest(pod.pod, kind=pod.kind):
                # It did send before there was an interface, before ADD returned and after.
                self.assertGreater(counts["refused"], 0)
                self.assertGreater(len(after_return), 0)
                self.assertGreater(len(probes), 0)
                if pod.kind == "denied":
                    self.assertEqual(set(), out, "left the pod")
                    self.assertEqual([], counts["arrived"], "reached the pod")
                else:
                    self.assertEqual(set(), set(range(counts["accepted"])) - out, "accepted, but not delivered")
                    self.assertEqual(set(), probes - set(counts["arrived"]), "sent to the pod, but not delivered")
            totals.update({f"{pod.kind} pods": 1, f"{pod.kind}: refused without an interface": counts["refused"],
                           f"{pod.kind}: accepted before ADD returned": counts["atReturn"],
                           f"{pod.kind}: accepted": counts["accepted"], f"{pod.kind}: left the pod": len(out),
                           f"{pod.kind}: sent to it after ADD": len(probes),
                           f"{pod.kind}: of these arrived": len(probes & set(counts["arrived"])),
                           f"{pod.kind}: reached the pod": len(counts["arrived"])})
        print(json.dumps(totals, indent=2), file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pod"]:
        pod_process(int(sys.argv[2]), sys.argv[3])
        sys.exit()
    main(sys.modules[__name__])
