#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sluiced ends at random moments and starts again, while objects appear, vanish, turn unusable, and change UID, node,
address and labels: no packet passes that neither the state before nor the state after admits, and none is dropped that
both admit.

    restarts_test.py BUILD_FOLDER [unittest options]     SLUICE_RESTARTS: how many, default 25; SLUICE_SEED: to repeat one
"""
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from rules_model import Sandbox, World, to_kubernetes  # noqa: E402
from sluice_node import Node, Pod, wait_for, world_beyond  # noqa: E402
from traffic import bound  # noqa: E402

BUILD = ""
RESTARTS = int(os.environ.get("SLUICE_RESTARTS", 25))
SEED = int(os.environ.get("SLUICE_SEED", time.time()))
PORT = 8000
OUTSIDE = ["198.51.100.1", "198.51.100.2"]
TEAMS = ["red", "blue", "green"]
PODS = [("x", "a"), ("x", "b"), ("y", "c"), ("y", "d")]
STRANGERS = [("x", "p"), ("x", "q"), ("y", "r")]  # Pod objects of other nodes
PAUSE = 0.02  # seconds between two rounds of datagrams
FLOWS = 8  # source ports of a pair, used in turns
# A datagram that was sent so shortly before a change may be judged after it.
GRACE = 0.05


class Probes:
    """Datagrams between all pairs, all the time. Each notes in which phases of the test it was sent."""

    def __init__(self, places):
        """`places`: {address: namespace}. `phases`: (pairs that may, pairs that must arrive, since when)."""
        self.phases = []
        self.sent, self.seen = {}, set()
        self.count = 0
        self.receivers = [bound(places[address], socket.SOCK_DGRAM, PORT, address) for address in places]
        self.flows = [(a, b, [bound(places[a], socket.SOCK_DGRAM, 0, a) for _ in range(FLOWS)])
                      for a in places for b in places if places[a] is not places[b]]
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self._send, self._receive)]

    def begin(self, may, must):
        self.phases.append((may, must, time.monotonic()))
        if not self.threads[0].ident:
            for thread in self.threads:
                thread.start()

    def _send(self):
        turn = 0
        while not self.ended.wait(PAUSE):
            turn += 1
            for a, b, sockets in self.flows:
                number, first = self.count, len(self.phases) - 1
                # One source port is always used, the others in turns.
                flow = sockets[0 if turn % 2 else turn // 2 % FLOWS]
                flow.sendto(struct.pack("!Q", number), (b, PORT))
                self.sent[number] = (a, b, first, len(self.phases) - 1, time.monotonic())
                self.count += 1

    def _receive(self):
        while not self.ended.is_set():
            for ready in select.select(self.receivers, [], [], 0.1)[0]:
                self.seen.add(struct.unpack("!Q", ready.recv(64))[0])

    def judge(self):
        """(datagrams judged, what went wrong in words); forgets them."""
        until = self.count
        wait_for("the datagrams", lambda: self.count > until)
        numbers = [n for n in self.sent if n < until]
        verdicts = {n: self._allowed(*self.sent[n]) for n in numbers}
        try:
            wait_for("what is allowed", lambda: all(n in self.seen for n in numbers if verdicts[n][1]), 2)
        except TimeoutError:
            pass
        wrong = []
        for n in numbers:
            may, must = verdicts[n]
            if n in self.seen and not may or n not in self.seen and must:
                a, b, first, last, _ = self.sent[n]
                wrong.append(f"{a} to {b} {'let through' if not may else 'dropped'} in phases {first} to {last}")
        for n in numbers:
            del self.sent[n]
            self.seen.discard(n)
        return len(numbers), wrong

    def _allowed(self, a, b, first, last, sent):
        if last + 1 < len(self.phases) and self.phases[last + 1][2] < sent + GRACE:
            last += 1
        phases = self.phases[first:last + 1]
        return any((a, b) in p[0] for p in phases), all((a, b) in p[1] for p in phases)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        for s in (*self.receivers, *(s for _, _, sockets in self.flows for s in sockets)):
            s.close()


class RestartsTest(sluice_test.SluiceTest):
    def setUp(self):
        self.chance = random.Random(SEED)
        self.node = Node(BUILD, "restarts", "10.83.75.0/24")
        self.world = world_beyond(self.node, "192.0.2.1", "192.0.2.2")
        self.world.ip("route", "add", self.node.pod_cidr, "via", "192.0.2.1")
        self.node.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.2")
        for address in OUTSIDE:
            self.world.ip("addr", "add", f"{address}/32", "dev", "lo")
        self.node.write_node(address="192.0.2.1")
        self.node.start_daemon()
        self.folder = {}
        for ns in "xy":
            self.write(self.some_namespace(ns))
            for name in ("deny", "team"):
                self.write(self.some_policy(ns, name))
        for ns, pod in PODS:
            self.write(self.some_pod(ns, pod, f"{ns}-{pod}-0"))
        self.sandboxes, self.pods = [], []
        for ns, name in PODS:
            pod = Pod(self.node, ns, name)
            uid = f"{ns}-{name}-0"
            pod.result = self.node.cni("ADD", pod.container_id, pod.path, args=(
                f"IgnoreUnknown=1;K8S_POD_NAMESPACE={ns};K8S_POD_NAME={name};K8S_POD_UID={uid}"))
            self.node.pods[f"{ns}/{name}"] = pod
            self.pods.append(pod)
            self.sandboxes.append(Sandbox(ns, name, uid, pod.address))
        self.worlds = {World({}, {}).seeing(self.folder, self.sandboxes, restarted=False)}
        self.probes = Probes({**{p.address: p for p in self.pods}, **{address: self.world for address in OUTSIDE}})
        self.settled()

    def tearDown(self):
        self.probes.end()
        for pod in self.pods:
            self.node.cni("DEL", pod.container_id, pod.path)
            pod.delete()
        self.node.kill_daemon(signal.SIGTERM)
        self.node.delete()
        self.world.delete()

    # ---- objects
    def some_namespace(self, ns):
        return {"kind": "namespace", "name": ns, "usable": True, "trusted": self.chance.random() < 0.5}

    def some_policy(self, ns, name):
        told = {"kind": "policy", "ns": ns, "name": name, "usable": self.chance.random() < 0.8}
        if name == "deny":
            return {**told, "team": None, "directions": ["ingress", "egress"], "peers": []}
        rules = [("same namespace", self.chance.choice(TEAMS)), ("trusted namespace", self.chance.choice(TEAMS)),
                 ("same namespace", None), ("block", self.chance.choice(OUTSIDE))]
        return {**told, "team": self.chance.choice([None, *TEAMS]), "peers": self.chance.sample(rules, 2),
                "directions": self.chance.choice([["ingress"], ["egress"], ["ingress", "egress"]])}

    def some_pod(self, ns, name, uid):
        near = [s.address for s in getattr(self, "sandboxes", [])]
        return {"kind": "pod", "ns": ns, "name": name, "uid": uid, "usable": self.chance.random() < 0.85 or not near,
                "team": self.chance.choice(TEAMS), "ips": self.chance.sample([*OUTSIDE, *near], self.chance.choice([1, 1, 2])),
                "created": self.chance.randrange(3600), "terminating": self.chance.random() < 0.3,
                "node": self.chance.choice(["restarts", "elsewhere"])}

    def some_change(self):
        """(file, object or None): what somebody does to one object."""
        kind = self.chance.choice(["attached", "attached", "stranger", "stranger", "policy", "policy", "namespace"])
        ns = self.chance.choice("xy")
        if kind == "namespace":
            told = self.some_namespace(ns)
        elif kind == "policy":
            told = self.some_policy(ns, self.chance.choice(["deny", "team", "more"]))
        else:
            ns, name = self.chance.choice(PODS if kind == "attached" else STRANGERS)
            told = self.some_pod(ns, name, f"{ns}-{name}-{self.chance.choice([0, 0, 1, 2])}")
        return self.file_of(told), None if self.chance.random() < 0.25 else told

    @staticmethod
    def file_of(told):
        return "-".join(told[part] for part in ("kind", "ns", "name") if part in told)

    def write(self, told):
        self.folder[self.file_of(told)] = told
        self.node.write(self.file_of(told), to_kubernetes(told))

    def change(self):
        """One object changes. What the daemon, whether it lives or starts, makes of it joins what may be in force."""
        file, told = self.some_change()
        self.folder.pop(file, None)
        if told:
            self.folder[file] = told
        self.worlds |= self.after_a_look()
        self.phase()
        if told:
            self.write(told)
        elif os.path.exists(os.path.join(self.node.folder, file + ".yaml")):
            self.node.remove(file)
        self.done.append(f"{file}: {told or 'removed'}")

    def after_a_look(self):
        return {w.seeing(self.folder, self.sandboxes, restarted) for w in self.worlds for restarted in (False, True)}

    # ---- what may be in force
    def phase(self):
        admitted = [w.admitted(self.sandboxes, OUTSIDE) for w in self.worlds]
        self.probes.begin(set.union(*admitted), set.intersection(*admitted))

    def settled(self):
        self.node.settle()
        self.worlds = self.after_a_look()
        self.phase()

    # ---- the daemon
    def end_daemon(self):
        self.node.kill_daemon(self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))

    def restart(self):
        if self.chance.random() < 0.3:  # ended in its start already
            self.node.start_daemon(wait=False)
            time.sleep(self.chance.random() * 0.1)
            self.end_daemon()
            self.restarts += 1
        if self.chance.random() < 0.1:
            self.start_with_an_unreadable_file()
        else:
            self.node.start_daemon()
        self.restarts += 1

    def start_with_an_unreadable_file(self):
        """Nothing of the folder is used until it is corrected."""
        with open(os.path.join(self.node.folder, "broken.yaml"), "w") as file:
            file.write("spec: {\n")
        self.node.start_daemon(wait=False)
        wait_for("the reason", lambda: "broken.yaml" in self.node.get("/v1/status")["notReadyReason"])
        time.sleep(0.05)
        self.node.remove("broken")
        self.node.wait_ready()

    def test_no_packet_passes_that_neither_state_admits(self):
        self.restarts, judged, begin = 0, 0, time.monotonic()
        while self.restarts < RESTARTS:
            self.done = []
            for _ in range(self.chance.randrange(3)):
                self.change()
                time.sleep(self.chance.random() * 0.08)
            self.end_daemon()
            for _ in range(self.chance.randrange(4)):
                self.change()
            self.restart()
            self.settled()
            time.sleep(3 * PAUSE)  # some datagrams in this state
            count, wrong = self.probes.judge()
            judged += count
            self.assertFalse(wrong, f"seed {SEED}, restart {self.restarts}, {len(wrong)} of {count} datagrams: {wrong[:5]}\n"
                             + "\n".join(self.done))
        print(f"\nseed {SEED}: {self.restarts} restarts, {judged} datagrams, {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
