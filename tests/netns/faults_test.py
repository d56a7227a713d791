#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Walks every point of common/fault_points.def under traffic: the daemon or the CNI binary is killed there, started or
called again as kubelet does, and nothing may be lost, let through or left behind. Then every step that can fail does.

    faults_test.py BUILD_FOLDER [--rounds N] [--points REGEX] [--kill-only | --fail-only]
"""
import argparse
import functools
import json
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from kubelet import NS, Kubelet  # noqa: E402
from sluice_node import CniError, run, sandbox, wait_for  # noqa: E402

DEFINITIONS = os.path.join(HERE, "..", "..", "common", "fault_points.def")
MODULES = 12
DRIVERS = []  # (pattern, function(world, point, round)): how each point is reached


def points():
    """{name: kind}, in the order of the file."""
    with open(DEFINITIONS) as file:
        return dict(re.findall(r'^X\("([\w.]+)", (KILL|FAIL)\)$', file.read(), re.MULTILINE))


def drives(pattern):
    def register(function):
        DRIVERS.append((re.compile(pattern), function))
        return function
    return register


def driver(point):
    return next((function for pattern, function in DRIVERS if pattern.fullmatch(point)), None)


class NotReached(Exception):
    pass


def expect_death(world, point):
    if not world.died(10):
        raise NotReached(f"{point}: sluiced was not killed")


def expect_killed(call, point):
    call.communicate(timeout=60)
    if call.returncode != -9:
        raise NotReached(f"{point}: sluice-cni ended with {call.returncode}")


# ---- the CNI binary is killed
@drives(r"cni\.add\.queued_release_done")
def add_after_a_queued_del(world, point, _):
    pod = world.new_pod()
    for _ in range(20):  # the daemon's own look at the queue may come first
        os.makedirs(f"{world.node.home}/state/deletions", exist_ok=True)
        with open(f"{world.node.home}/state/deletions/{pod.container_id}_eth0.json", "w") as file:
            json.dump({"containerID": pod.container_id, "ifname": "eth0"}, file)
        call = world.begin_add(pod, point)
        call.communicate(timeout=60)
        if call.returncode == -9:
            break
        world.delete_sandbox(pod)
    else:
        raise NotReached(point)
    world.retry_add(pod)
    world.remove(pod)


@drives(r"cni\.undo\..*")
def add_that_fails(world, point, _):
    world.start_armed("endpoint.mtu_set:1:error")
    pod = world.new_pod()
    expect_killed(world.begin_add(pod, point), point)
    world.retry_add(pod)
    world.remove(pod)


@drives(r"cni\.(add|pod|result|request)\..*")
def add_killed(world, point, _):
    pod = world.new_pod()
    expect_killed(world.begin_add(pod, point), point)
    world.retry_add(pod)
    world.remove(pod)


@drives(r"cni\.(del\.link_deleted|queue\..*)")
def del_killed_without_the_daemon(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    world.node.kill_daemon()
    expect_killed(world.begin_del(pod, point), point)
    world.start()
    # What is long in the making was left by the dead.
    for name in os.listdir(f"{world.node.home}/state/deletions") if os.path.isdir(f"{world.node.home}/state/deletions") else []:
        if name.endswith(".part"):
            os.utime(f"{world.node.home}/state/deletions/{name}", (time.time() - 120,) * 2)
    world.remove(pod)


@drives(r"cni\.del\..*")
def del_killed(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    expect_killed(world.begin_del(pod, point), point)
    world.remove(pod)


def begin_gc(world, stale, fault=None):
    valid = [{"containerID": p.container_id, "ifname": "eth0"} for p in world.node.pods.values() if p is not stale]
    return world.node.start_cni("GC", config=world.node.config(**{"cni.dev/valid-attachments": valid}), fault=fault)


@drives(r"cni\.gc\..*")
def gc_killed(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    expect_killed(begin_gc(world, pod, point), point)
    world.remove(pod)


# Points that only some pods' ADD comes by.
LIMITED = {"attach.qdisc_made": False, "attach.link_created": True, "pin.made": True}


# ---- the daemon is killed: in ADD, DEL, GC, and in what it makes up for
@drives(r"pin\.made")
def pin(world, point, turn):
    daemon_killed_in_add(world, f"{point}:{1 + turn % 3}", turn)


@drives(r"add\..*|attach\..*|ipam\.(part.*|re(named|corded))|endpoint\.(entry_written|.*_claimed|program_attached|mtu_set|link_up)")
def daemon_killed_in_add(world, point, turn):
    world.start_armed(point)
    pod = world.new_pod(limited=LIMITED.get(point.partition(":")[0]))
    call = world.begin_add(pod)
    expect_death(world, point)
    if turn % 2:  # it comes back only after the CNI binary has given up
        call.communicate(timeout=60)
    world.start()
    call.communicate(timeout=60)
    world.retry_add(pod)
    world.remove(pod)


@drives(r"(del|removal)\..*|ipam\.(release_begun|unlinked)|endpoint\.(.*_released|entry_cleared)")
def daemon_killed_in_del(world, point, turn):
    pod = world.new_pod()
    world.node.attach(pod)
    world.start_armed(point)
    call = world.begin_del(pod)
    expect_death(world, point)
    if turn % 2:
        call.communicate(timeout=60)
    world.start()
    call.communicate(timeout=60)
    world.remove(pod)


@drives(r"gc\..*")
def daemon_killed_in_gc(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    world.start_armed(point)
    call = begin_gc(world, pod)
    expect_death(world, point)
    world.start()
    call.communicate(timeout=60)
    begin_gc(world, pod).communicate(timeout=60)
    world.remove(pod)


@drives(r"replay\..*")
def daemon_killed_in_replay(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    world.node.kill_daemon()
    world.node.cni("DEL", pod.container_id, pod.path)
    world.start(point)
    expect_death(world, point)
    world.start()
    world.remove(pod)


@drives(r"reclaim\..*")
def daemon_killed_in_reclaim(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    world.start_armed(point)
    pod.delete()
    expect_death(world, point)
    world.start()
    pod.renew()
    world.retry_add(pod)
    world.remove(pod)


@drives(r"move\..*")
def daemon_killed_in_a_move(world, point, _):
    pod = world.new_pod(limited=False)
    world.node.attach(pod)
    world.start_armed(point)
    expect_death(world, point)
    world.start()
    world.node.cni("CHECK", pod.container_id, pod.path, config=world.node.config(prevResult=pod.result))
    world.node.wait_moved()
    world.remove(pod)


# ---- the daemon is killed: policies
@drives(r"generation\..*|rules\..*")
def killed_in_a_generation(world, point, turn):
    world.start_armed(f"{point}:{1 + turn % 2}")  # the first is that of the start
    if not world.died():
        world.write_policy()
    expect_death(world, point)
    world.start()


@drives(r"in_place\..*|map\..*")
def killed_in_a_change_in_place(world, point, turn):
    world.start_armed(f"{point}:{1 + turn % 2 if point.startswith('map') else 1}")
    for _ in range(10):
        if world.died(0.2):
            break
        world.write_peer()
    expect_death(world, point)
    world.start()


@drives(r"collect\..*")
def killed_in_collection(world, point, _):
    world.start_armed(point)
    if not world.died():
        world.write_policy()
    expect_death(world, point)
    world.start()


@drives(r"service\.(route_added|address_marked)")
def killed_in_changing_the_addresses_of_services(world, point, turn):
    world.start_armed(point)
    world.write_service(f"10.96.1.{1 + turn % 200}")
    expect_death(world, point)
    world.start()
    world.write_service()
    wait_for("the routes to follow", lambda: routes_to_services(world) == ["10.96.0.1"])


@drives(r"service\..*")
def killed_in_changing_a_service(world, point, turn):
    world.start_armed(f"{point}:{1 + turn % 2}")  # the first may be that of the start
    for _ in range(10):
        if world.died(0.2):
            break
        world.write_service()
    expect_death(world, point)
    world.start()


# ---- the daemon is killed: at its start
@drives(r"module\..*")
def killed_in_an_upgrade(world, point, turn):
    world.node.kill_daemon()
    for module in range(MODULES):  # as if another build had pinned all of them
        run("bpftool", "map", "update", "pinned", f"{world.node.bpffs}/sluice/v1/module_info", "key", "hex",
            *f"{module:02x} 00 00 00".split(), "value", *["0"] * 16)
    world.start(f"{point}:{1 + turn % 5}")
    expect_death(world, point)
    world.start()


@drives(r"sockets\..*")
def killed_in_attaching_to_the_cgroup(world, point, turn):
    world.node.kill_daemon()
    folder = f"{world.node.bpffs}/sluice/v1/sockets"
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    world.start(f"{point}:{1 + turn % 5}")
    expect_death(world, point)
    world.start()


@drives(r"adopt\.generation_(removed|published)")
def killed_in_adoption_of_an_unfinished_generation(world, point, turn):
    killed = "generation.pinned" if point.endswith("removed") else "generation.flipped"
    world.start_armed(f"{killed}:{1 + turn % 2}")
    if not world.died():
        world.write_policy()
    expect_death(world, killed)
    world.start(point)
    expect_death(world, point)
    world.start()


@drives(r"adopt\.program_refreshed")
def killed_in_refreshing_programs(world, point, turn):
    killed_in_an_upgrade(world, point, turn)


@drives(r"adopt\.attachment_healed")
def killed_in_healing(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    endpoint = world.node.get(f"/v1/endpoints/{NS}/{pod.pod}/policy")["endpoint"]["id"]
    world.node.kill_daemon()
    run("bpftool", "map", "update", "pinned", f"{world.node.bpffs}/sluice/v1/endpoints", "key", "hex",
        *endpoint.to_bytes(4, "little").hex(" ").split(), "value", *["0"] * 44)
    world.start(point)
    expect_death(world, point)
    world.start()
    world.node.cni("CHECK", pod.container_id, pod.path, config=world.node.config(prevResult=pod.result))
    world.remove(pod)


@drives(r"adopt\.attachment_released")
def killed_in_releasing(world, point, _):
    pod = world.new_pod()
    world.start_armed("add.address_allocated")
    call = world.begin_add(pod, "cni.request.sent")
    expect_death(world, "add.address_allocated")
    expect_killed(call, "cni.request.sent")
    world.start(point)
    expect_death(world, point)
    world.start()
    world.retry_add(pod)
    world.remove(pod)


@drives(r"adopt\.record_written_again")
def killed_in_writing_a_record_again(world, point, _):
    pod = world.new_pod()
    world.node.attach(pod)
    world.node.kill_daemon()
    folder = f"{world.node.home}/run/attachments"
    os.unlink(os.path.join(folder, next(f for f in os.listdir(folder) if f.startswith(pod.address + "-"))))
    world.start(point)
    expect_death(world, point)
    world.start()
    world.remove(pod)


@drives(r"node\.route_added")
def killed_in_changing_routes(world, point, turn):
    world.start_armed(point)
    world.node.write_node("other", f"10.84.{turn % 200}.0/24", "192.0.2.9")
    expect_death(world, point)
    world.start()
    world.node.remove("node-other")
    wait_for("the routes to go", lambda: "10.84." not in world.node.run("ip", "route"))


@drives(r"node\..*|adopt\..*")
def killed_at_start(world, point, _):
    world.start_armed(point)
    expect_death(world, point)
    world.start()


def routes_to_services(world):
    return [line.split()[0] for line in world.node.run("ip", "route", "show", "table", "8300").splitlines()]


# ---- a step fails
def fails(world, point):
    """Makes the step fail; returns what is wrong with how the daemon took it."""
    logged = os.path.getsize(world.node.log)

    def errors():
        with open(world.node.log) as log:
            log.seek(logged)
            return [line for line in log if "failed on purpose at " + point in line]

    if point.startswith(("generation", "rules")):
        world.start_armed(f"{point}:2:error:3")
        before, seen = world.node.generation(), set()
        world.write_policy()
        wait_for("the generation", lambda: seen.add(world.node.generation()) or before + 1 in seen)
        if not seen <= {before, before + 1} or len(errors()) != 3:
            yield f"generations {seen} after {before}, errors {errors()}"
    elif point.startswith(("in_place", "map")):
        world.start_armed(f"{point}:1:error:3")
        generation = world.node.generation()
        for _ in range(6):
            world.write_peer()
            time.sleep(0.1)
        wait_for("three failures", lambda: len(errors()) == 3)
        if world.node.generation() != generation:
            yield f"generation {world.node.generation()} after {generation}"
    elif point.startswith("collect"):
        world.start_armed(f"{point}:1:error:2")
        world.write_policy()
        wait_for("two failures", lambda: len(errors()) == 2)
    elif point.startswith("move"):
        pod = world.new_pod(limited=False)
        world.node.attach(pod)
        world.start_armed(f"{point}:1:error:3")
        wait_for("three failures", lambda: len(errors()) == 3)
        world.node.wait_moved()
        if len(errors()) != 3:
            yield f"errors {errors()}"
        world.remove(pod)
    elif point.startswith("service"):
        world.start_armed(f"{point}:1:error")
        world.write_service("10.96.1.250")
        wait_for("the route", lambda: "10.96.1.250" in routes_to_services(world))
        world.write_service()
        wait_for("the routes to follow", lambda: routes_to_services(world) == ["10.96.0.1"])
        if len(errors()) != 1:
            yield f"errors {errors()}"
    elif point.startswith("node"):
        if point == "node.route_added":
            world.start_armed(f"{point}:1:error")
            world.node.write_node("other", "10.84.250.0/24", "192.0.2.9")
            wait_for("the route", lambda: "10.84.250.0/24" in world.node.run("ip", "route"))
            world.node.remove("node-other")
            wait_for("the routes to go", lambda: "10.84." not in world.node.run("ip", "route"))
        else:
            world.start_armed(f"{point}:1:error")
        if len(errors()) != 1:
            yield f"errors {errors()}"
    else:
        yield from fails_in_cni(world, point)


def fails_in_cni(world, point):
    in_add = driver(point) is daemon_killed_in_add
    pod = world.new_pod(limited=LIMITED.get(point))
    if not in_add:
        world.node.attach(pod)
    world.start_armed(f"{point}:1:error")
    try:
        if in_add:
            world.node.attach(pod)
        else:
            world.node.cni("DEL", pod.container_id, pod.path)
        yield "the call succeeded"
    except CniError as error:
        if point not in str(error):
            yield f"the error does not say why: {error}"
    if in_add:
        world.node.attach(pod)  # the very same call again: nothing was left of the one that failed
    world.remove(pod)


# ---- the walk
def first_start_killed(build, point):
    """A node on which nothing was made before."""
    fresh = Kubelet(build, "fresh", "10.83.77.0/24", faulty=True, fault=point)
    try:
        expect_death(fresh, point)
        fresh.start()
        fresh.node.attach(fresh.new_pod())
        yield from fresh.settle()
        mac = json.loads(fresh.node.run("ip", "-j", "link", "show", "sluice_host"))[0]["address"]
        if mac != "02:53:0a:53:4d:01":
            yield f"sluice_host has the MAC address {mac}"
    finally:
        fresh.close()


def walk(world, build, options):
    wanted = {p: kind for p, kind in points().items() if re.search(options.points, p)}
    failures = []

    def attempt(what, action):
        try:
            found = list(action() or []) + world.settle()
        except (NotReached, TimeoutError, CniError, RuntimeError, SystemExit) as error:
            found = [repr(error)] + world.recover()
        for fault in found:
            print(f"FAILED {what}: {fault}", flush=True)
        failures.extend(found)
        return not found

    for point, kind in wanted.items():
        begin, good = time.monotonic(), 0
        if not driver(point):
            attempt(point, lambda: ["nothing drives it"])
            continue
        rounds = 0 if options.fail_only else options.rounds
        for turn in range(rounds):
            # With one round only, neighbours take different turns.
            action = functools.partial(driver(point), world, point, turn + list(wanted).index(point))
            good += attempt(f"{point} killed, round {turn}", action)
        if point.startswith(("node", "module")) and rounds and point != "node.route_added":
            attempt(f"{point} killed, first start", functools.partial(first_start_killed, build, point))
        failed = kind == "FAIL" and not options.kill_only
        if failed:
            failed = attempt(f"{point} fails", functools.partial(fails, world, point))
        print(f"{point}: killed {good} of {rounds}{', fails' if failed else ''}, {time.monotonic() - begin:.1f} s", flush=True)
    return failures, len(wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--points", default="")
    parser.add_argument("--kill-only", action="store_true")
    parser.add_argument("--fail-only", action="store_true")
    options = parser.parse_args()
    sandbox()
    world = Kubelet(options.build, "faults", "10.83.70.0/24", faulty=True)
    world.begin_traffic()
    failures, walked = walk(world, options.build, options)
    ready = sorted(world.ready_ms)
    world.close()
    print(f"{walked} points, {options.rounds} rounds, {len(failures)} failures; ready after a kill: "
          f"median {ready[len(ready) // 2]:.0f} ms, worst {ready[-1]:.0f} ms")
    sys.exit(1 if failures or not walked else 0)


if __name__ == "__main__":
    main()
