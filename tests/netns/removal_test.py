#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`sluiced --remove`: a node is afterwards as it was before Sluice came, and Sluice can come again.

    removal_test.py BUILD_FOLDER [unittest options]
"""
import ctypes
import json
import os
import platform
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from service_test import PORT, TARGET, service, slice_of  # noqa: E402
from sluice_node import CniError, Node, Pod, run, wait_for, world_beyond  # noqa: E402
from traffic import Echo, tcp_reaches  # noqa: E402

BUILD = ""
NODE, WORLD = "192.0.2.1", "192.0.2.2"
CLUSTER_IP = "10.96.0.7"


def tree(folder):
    return sorted(os.path.join(path, name) for path, folders, files in os.walk(folder) for name in folders + files)


NEXT_ID = {"prog": 11, "map": 12, "link": 31}  # commands of bpf(2)


def exists(kind, number):
    """Is there a kernel object of that id? Opens none: to open and close a program array that is being freed makes some
    kernels keep it for ever."""
    asked = ctypes.create_string_buffer(struct.pack("=III", number - 1, 0, 0), 12)
    number_of_bpf = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    found = ctypes.CDLL(None, use_errno=True).syscall(number_of_bpf, NEXT_ID[kind], asked, len(asked)) == 0
    return found and struct.unpack("=III", asked.raw)[1] == number


class RemovalTest(sluice_test.SluiceTest):
    """By tcx. The node has another one beside it, two pods and a Service; its processes use the Service at the socket."""
    ATTACH = "tcx"

    def setUp(self):
        self.node = Node(BUILD, "removed", "10.83.31.0/24")
        self.world = world_beyond(self.node, NODE, WORLD)
        self.node.ip("route", "add", "198.51.100.0/24", "via", WORLD, "proto", "static")
        self.node.ip("rule", "add", "priority", "900", "from", "198.51.100.7", "lookup", "main")
        self.node.write_node(address=NODE)
        self.node.write_node("other", "10.83.32.0/24", WORLD)
        self.node.write_namespace("x")
        wait_for("the node's IPv6 addresses to be settled", lambda: "tentative" not in self.node.ip("addr"))
        self.before = self.snapshot()
        self.echoes = []

    def tearDown(self):
        for echo in self.echoes:
            echo.close()
        if self.node in Node.running():
            self.node.kill_daemon(signal.SIGTERM)
        for pod in self.node.pods.values():
            pod.delete()
        self.world.delete()
        self.node.delete()

    def snapshot(self):
        """All that Sluice may change on a node."""
        links = json.loads(self.node.ip("-d", "-j", "link"))
        return {
            "links": links,
            "addresses": json.loads(self.node.ip("-j", "addr")),
            "routes": sorted(self.node.ip("-d", "route", "show", "table", "all").splitlines()),
            "rules": json.loads(self.node.ip("-d", "-j", "rule")),
            "qdiscs": json.loads(self.node.run("tc", "-d", "-j", "qdisc")),
            "filters": {link["ifname"]: self.node.run("tc", "filter", "show", "dev", link["ifname"], "ingress") for link in links},
            "pins": tree(self.node.bpffs),
            "files": [path for name in ("run", "state") for path in [f"{self.node.home}/{name}"] if os.path.exists(path)],
        }

    def start(self):
        """Until pods and the node use the Service."""
        self.node.start_daemon(f"--attach={self.ATTACH}")
        web, guest = self.node.add_pod("x", "web"), self.node.add_pod("x", "guest")
        self.node.write("svc", service("web", CLUSTER_IP), slice_of("web", web.address))
        self.node.settle()
        self.echoes.append(Echo(web, TARGET))
        for client in (guest, self.node):
            wait_for("the Service to answer", lambda c=client: tcp_reaches(c, CLUSTER_IP, PORT))
        return web, guest

    def remove(self, bpffs=None):
        """Exit code and log of sluiced --remove."""
        done = subprocess.run(self.node.enter(
            self.node.binary, "--remove", f"--bpffs={bpffs or self.node.bpffs}", f"--run-dir={self.node.home}/run",
            f"--state-dir={self.node.home}/state"), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def stop(self, *pods):
        """The daemon; the runtime deletes a pod while it is down."""
        self.node.kill_daemon(signal.SIGTERM)
        self.node.cni("DEL", pods[-1].container_id, pods[-1].path)
        self.assertTrue(tree(f"{self.node.home}/state"), "a queued deletion")

    def forget(self, *pods):
        """Pods whose network was removed."""
        self.echoes.pop().close()
        for pod in pods:
            pod.delete()
            self.node.pods.pop(f"{pod.ns}/{pod.pod}")
            self.node.remove(f"pod-{pod.ns}-{pod.pod}")

    def ids(self):
        """Of what the kernel keeps for Sluice: (kind, number)."""
        modules = self.node.get("/v1/modules")
        found = {("prog", m["programID"]) for m in modules["modules"]} | {("map", m["id"]) for m in modules["maps"]}
        for folder in ("links", "sockets"):
            for pin in tree(f"{self.node.bpffs}/sluice/v1/{folder}"):
                found.add(("link", json.loads(run("bpftool", "-j", "link", "show", "pinned", pin))["id"]))
        return found

    def assert_clean(self):
        def same():
            now = self.snapshot()
            return all(now[what] == self.before[what] for what in now)
        try:
            wait_for("the node to be as before", same, 5, 0.1)
        except TimeoutError:
            now = self.snapshot()
            for what, value in self.before.items():
                self.assertEqual(value, now[what], what)

    def pin_as_another_build(self):
        """A layout of pins that this build does not know, with what may be in one."""
        pins, other = f"{self.node.bpffs}/sluice/v1", f"{self.node.bpffs}/sluice/v7"
        os.makedirs(f"{other}/unknown/deep")
        os.makedirs(f"{other}/sockets")
        run("bpftool", "link", "pin", "pinned", f"{pins}/sockets/connect4", f"{other}/sockets/connect4")
        run("bpftool", "prog", "pin", "pinned", f"{pins}/progs/entry_pod", f"{other}/unknown/deep/program")
        run("bpftool", "map", "pin", "pinned", f"{pins}/endpoints", f"{other}/endpoints")

    def test_nothing_stays(self):
        pods = self.start()
        ids = self.ids()
        self.assertTrue(any(kind == "link" for kind, _ in ids))
        running = self.snapshot()
        for what in ("links", "addresses", "routes", "rules", "pins", "files"):
            self.assertNotEqual(self.before[what], running[what], f"the snapshot sees {what}")

        code, log = self.remove()
        self.assertEqual(1, code, log)
        self.assertIn("in use", log)
        self.assertEqual(running, self.snapshot(), "refused: a daemon runs")

        self.stop(*pods)
        self.pin_as_another_build()
        code, log = self.remove()
        self.assertEqual(0, code, log)
        for name in ("device sluice_net", "device sluice_vxlan", "rule 8300", "in table 254", "/v7/sockets with 1 pins", "attachments", "deletions"):
            self.assertIn(name, log)
        self.assert_clean()
        wait_for("programs, maps and links to be gone", lambda: not [each for each in ids if exists(*each)], 30, 0.2)

        code, log = self.remove()
        self.assertEqual(0, code, log)
        self.assertIn("nothing to remove", log)

        self.forget(*pods)
        self.start()

    def test_cni_calls_beside_it_leave_nothing(self):
        """As of a runtime that had read the configuration before it went."""
        pods = self.start()
        self.node.kill_daemon(signal.SIGTERM)
        self.node.write_pod("x", "late")
        late = Pod(self.node, "x", "late")
        self.addCleanup(late.delete)
        before = set(self.node.pod_links())
        call = self.node.start_cni("ADD", late.container_id, late.path, args="K8S_POD_NAMESPACE=x;K8S_POD_NAME=late")
        wait_for("ADD to have made its link", lambda: set(self.node.pod_links()) - before)
        call.send_signal(signal.SIGSTOP)
        code, log = self.remove()
        self.assertEqual(1, code, log)
        self.assertIn("a CNI call", log)
        self.assertTrue(self.node.pod_links(), "nothing was removed")
        call.send_signal(signal.SIGCONT)
        self.assertEqual(0, self.remove()[0], "it waits for ADD to give up")
        self.assertEqual(1, call.wait())
        self.assert_clean()
        # Later ones.
        self.node.cni("DEL", pods[0].container_id, pods[0].path)
        self.assert_clean()
        with self.assertRaises(CniError) as refused:
            self.node.cni("ADD", late.container_id, late.path)
        self.assertEqual(11, refused.exception.code)
        self.assert_clean()
        self.forget(*pods)

    def test_one_failure_does_not_keep_the_rest(self):
        state = f"{self.node.home}/state"
        os.makedirs(state)
        run("mount", "--bind", state, state)  # as in a container: the folder itself cannot go
        self.addCleanup(run, "umount", state)
        self.before = self.snapshot()
        pods = self.start()
        self.stop(*pods)
        code, log = self.remove(bpffs="/run")
        self.assertEqual(1, code, log)
        self.assertIn("/run is no BPF file system", log)
        left = self.snapshot()
        for what in ("addresses", "routes", "rules", "files"):
            self.assertEqual(self.before[what], left[what], what)
        self.assertNotEqual(self.before["pins"], left["pins"])
        code, log = self.remove()
        self.assertEqual(0, code, log)
        self.assert_clean()
        self.assertEqual([], tree(state))
        self.forget(*pods)


class ClsactRemovalTest(RemovalTest):
    ATTACH = "clsact"

    def test_what_others_have_stays(self):
        pods = self.start()  # for a program that somebody else attaches, with the same number as ours
        os.mkdir(f"{self.node.bpffs}/theirs")
        run("bpftool", "prog", "pin", "pinned", f"{self.node.bpffs}/sluice/v1/progs/entry_uplink", f"{self.node.bpffs}/theirs/monitor")
        self.stop(*pods)
        self.assertEqual(0, self.remove()[0])
        self.forget(*pods)
        self.node.ip("link", "add", "theirs0", "type", "veth", "peer", "name", "theirs1")
        for device, number in (("theirs0", "0x53"), ("up0", "0x99")):
            self.node.run("tc", "qdisc", "add", "dev", device, "clsact")
            self.node.run("tc", "filter", "add", "dev", device, "ingress", "prio", "1" if device == "theirs0" else "7", "handle", number,
                          "bpf", "da", "object-pinned", f"{self.node.bpffs}/theirs/monitor")
        os.makedirs(f"{self.node.home}/run")
        with open(f"{self.node.home}/run/theirs", "w", encoding="utf-8") as file:
            file.write("theirs")
        self.before = self.snapshot()
        pods = self.start()
        self.assertIn("entry_uplink", self.snapshot()["filters"]["up0"])
        self.stop(*pods)
        code, log = self.remove()
        self.assertEqual(0, code, log)
        self.assert_clean()
        self.assertEqual([f"{self.node.home}/run/theirs"], tree(f"{self.node.home}/run"))
        self.forget(*pods)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
