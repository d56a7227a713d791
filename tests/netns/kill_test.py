#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sluiced, and of the CNI binary in ADD and DEL, at random moments under traffic, pod churn and policy changes:
nothing may be lost, let through or left behind. The released binaries.

    kill_test.py BUILD_FOLDER [--kills N] [--seed N]
"""
import argparse
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
from kubelet import NS, Kubelet  # noqa: E402
from sluice_node import sandbox  # noqa: E402

PODS = 4  # that come and go
EVERY = 5  # kills between two looks at everything


class Churn(threading.Thread):
    """Pods come, go and change their labels, policies change, CNI calls are killed; stops between two of them."""

    def __init__(self, world, chance):
        super().__init__(daemon=True)
        self.world, self.chance = world, chance
        self.quiet = threading.Lock()  # held: nothing is under way
        self.ended = False
        self.counts = {"adds": 0, "deletes": 0, "policies": 0, "peers": 0, "CNI calls killed": 0}
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.ended:
                with self.quiet:
                    self.step()
                time.sleep(0.005)
        except Exception as error:
            self.error = error

    def step(self):
        world, node = self.world, self.world.node
        step = self.chance.choice(["policy", "peer", "pod", "pod", "pod"])
        if step == "policy":
            world.write_policy()
            self.counts["policies"] += 1
        elif step == "peer":
            world.write_peer()
            self.counts["peers"] += 1
        else:
            name = f"churn{self.chance.randrange(PODS)}"
            pod = node.pods.get(f"{NS}/{name}")
            if pod:
                self.maybe_killed(world.begin_del, pod)
                world.remove(pod)
                self.counts["deletes"] += 1
            else:
                pod = world.new_pod(name)
                self.maybe_killed(world.begin_add, pod)
                world.retry_add(pod)
                self.counts["adds"] += 1

    def maybe_killed(self, begin, pod):
        if self.chance.random() < 0.5:
            return
        call = begin(pod)
        time.sleep(self.chance.random() * 0.03)
        if call.poll() is None:
            call.kill()
            self.counts["CNI calls killed"] += 1
        call.communicate()

    def end(self):
        self.ended = True
        self.join()
        return self.counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    sandbox()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    world = Kubelet(options.build, "kill", "10.83.71.0/24", faulty=False)
    world.begin_traffic()
    churn = Churn(world, random.Random(options.seed + 1))
    failures = []
    for kill in range(options.kills):
        time.sleep(chance.random() * 0.4)
        world.node.kill_daemon()
        time.sleep(chance.choice([0, 0, chance.random() * 0.2]))
        if chance.random() < 0.3:  # killed in its start already
            world.node.start_daemon(*world.OPTIONS, wait=False)
            time.sleep(chance.random() * 0.1)
            world.node.kill_daemon()
        world.start()
        if churn.error or (kill + 1) % EVERY == 0 or kill + 1 == options.kills:
            with churn.quiet:
                failures += [f"after kill {kill + 1}: {fault}" for fault in world.settle()]
                if churn.error:
                    failures.append(f"churn: {churn.error!r}")
            for fault in failures:
                print("FAILED", fault, flush=True)
            if failures:
                break
    counts = churn.end()
    ready = sorted(world.ready_ms)
    print(f"{options.kills} kills, {counts}, {len(failures)} failures; ready after a kill: median "
          f"{ready[len(ready) // 2]:.0f} ms, worst {ready[-1]:.0f} ms")
    world.close()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
