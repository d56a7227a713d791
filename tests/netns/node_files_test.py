#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the runtime reads on the node: sluiced writes it, keeps it beside others who write there, and takes it away.

    node_files_test.py BUILD_FOLDER [unittest options]
"""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import Node, run, wait_for  # noqa: E402

BUILD = ""
LIST = "05-sluice.conflist"
OTHER = {"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}
# What the chart gives the daemon, without and with what opens folders of another user.
CAPABILITIES = "-all,+net_admin,+bpf,+perfmon,+sys_resource"


class NodeFilesTest(sluice_test.SluiceTest):
    def setUp(self):
        self.node = Node(BUILD, "files", "10.83.51.0/24")
        self.net, self.bin = f"{self.node.home}/net.d", f"{self.node.home}/bin"
        for folder in (self.net, self.bin):
            os.mkdir(folder)
        own = self.node.config()
        own = {"cniVersion": own.pop("cniVersion"), "name": own.pop("name"), "plugins": [own]}
        self.write(f"{self.node.home}/list", own)
        self.node.write_node()
        self.node.write_namespace("x")

    def tearDown(self):
        if self.node in Node.running():
            self.node.kill_daemon(signal.SIGTERM)
        for pod in self.node.pods.values():
            pod.delete()
        self.node.delete()

    # ---- files
    @staticmethod
    def write(path, content):
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        os.rename(path + ".new", path)

    def text(self, name=LIST):
        with open(f"{self.net}/{name}", encoding="utf-8") as file:
            return file.read()

    def types(self):
        return [plugin["type"] for plugin in json.loads(self.text())["plugins"]]

    def wrote(self):
        with open(self.node.log, encoding="utf-8") as file:
            return file.read().count(f"wrote {self.net}/{LIST}\n")

    # ---- the daemon
    def start(self, exclusive="on", wait=True):
        self.node.start_daemon(f"--cni-conflist={self.node.home}/list", f"--cni-plugin={self.node.sluice_cni}",
                               f"--cni-conf-dir={self.net}", f"--cni-bin-dir={self.bin}", f"--cni-exclusive={exclusive}", wait=wait)

    def restart(self, **how):
        self.node.kill_daemon(signal.SIGTERM)
        self.start(**how)

    def not_ready(self, *told):
        """Until the daemon says so, for this reason."""
        return wait_for(f"the daemon to be not ready: {told}", lambda: all(
            each in self.node.get("/v1/status")["notReadyReason"] for each in told))

    def put_back(self):
        return self.node.get("/v1/status")["putBack"]

    # ---- the tests
    def test_pods_start_by_what_was_written(self):
        self.start()
        self.assertEqual([LIST], os.listdir(self.net))
        self.assertEqual(["loopback", "sluice-cni"], sorted(os.listdir(self.bin)))
        self.node.sluice_cni = f"{self.bin}/sluice-cni"
        listed = json.loads(self.text())
        pod = self.node.add_pod("x", "web", config={**listed["plugins"][0], "name": listed["name"], "cniVersion": listed["cniVersion"]})
        self.node.delete_pod(pod)

    def test_what_somebody_changes_comes_back_and_is_told(self):
        self.start()
        for number, (path, change) in enumerate({
                f"{self.net}/{LIST}": os.unlink, f"{self.bin}/sluice-cni": os.unlink, f"{self.bin}/loopback": os.unlink,
                f"{self.net}/./{LIST}": lambda path: self.write(path, '{"plugins": ['),
                f"{self.bin}/./sluice-cni": lambda path: self.write(path, "another")}.items(), 1):
            with self.subTest(path=path):
                change(path)
                wait_for("it to be told", lambda n=number: self.put_back()["total"] == n)
                self.assertIn("is missing or not as Sluice wrote it", self.put_back()["last"][-1])
                self.assertIn(f"sluice_put_back_total {number}", self.node.metrics())
                self.assertEqual(["sluice-cni"], self.types())
                with open(self.node.sluice_cni, "rb") as wanted, open(f"{self.bin}/sluice-cni", "rb") as there:
                    self.assertEqual(wanted.read(), there.read())
                self.assertTrue(os.access(f"{self.bin}/loopback", os.X_OK))
                self.node.wait_ready()

    def test_a_mesh_that_writes_twice_a_second_is_left_alone(self):
        self.start()
        for number in range(12):
            listed = json.loads(self.text())
            listed["plugins"] = [each for each in listed["plugins"] if each["type"] != "istio-cni"]
            listed["plugins"].append({"type": "istio-cni", "number": number})
            text = json.dumps(listed, indent=number)  # in a layout of its own
            self.write(f"{self.net}/{LIST}", text)
            time.sleep(0.5)
            self.assertEqual(text, self.text())
        self.assertEqual(1, self.wrote(), "the list as it was when Sluice came")
        self.assertEqual(0, self.put_back()["total"])

    def test_a_meshs_plugin_stays_over_a_restart_and_an_upgrade(self):
        self.start()
        listed = json.loads(self.text())
        listed["plugins"] += [{"type": "istio-cni", "theirs": 1}, {"type": "linkerd-cni"}]
        self.write(f"{self.net}/{LIST}", listed)
        self.restart()
        self.assertEqual(["sluice-cni", "istio-cni", "linkerd-cni"], self.types())
        with open(f"{self.node.home}/list", encoding="utf-8") as file:
            own = json.load(file)
        own["plugins"][0]["capabilities"] = {"bandwidth": True}
        own["plugins"].append({"type": "tuning"})
        self.write(f"{self.node.home}/list", own)
        self.restart()
        self.assertEqual([own["plugins"][0], own["plugins"][1], {"type": "istio-cni", "theirs": 1}, {"type": "linkerd-cni"}],
                         json.loads(self.text())["plugins"])

    def test_another_list_is_put_aside_until_sluice_goes(self):
        self.write(f"{self.net}/00-other.conflist", OTHER)
        self.start()
        self.assertEqual(["00-other.conflist.before-sluice", LIST], sorted(os.listdir(self.net)))
        self.write(f"{self.net}/10-late.conf", {"cniVersion": "1.0.0", "name": "late", "type": "bridge"})
        wait_for("a later one to be put aside", lambda: not os.path.exists(f"{self.net}/10-late.conf"))
        self.node.kill_daemon(signal.SIGTERM)
        done = subprocess.run(self.node.enter(
            self.node.binary, "--remove", f"--bpffs={self.node.bpffs}", f"--run-dir={self.node.home}/run",
            f"--state-dir={self.node.home}/state", f"--cni-conf-dir={self.net}", f"--cni-bin-dir={self.bin}"),
            capture_output=True, text=True, check=False)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertEqual(["00-other.conflist", "10-late.conf"], sorted(os.listdir(self.net)))
        self.assertEqual(OTHER, json.loads(self.text("00-other.conflist")))
        self.assertEqual([], os.listdir(self.bin))

    def test_without_exclusive_a_list_before_ours_is_told(self):
        self.write(f"{self.net}/00-other.conflist", OTHER)
        self.write(f"{self.net}/10-late.conflist", OTHER)
        self.start()  # puts both aside
        self.node.kill_daemon(signal.SIGTERM)
        self.start(exclusive="off", wait=False)
        self.not_ready(f"{self.net}/00-other.conflist stands before {LIST}", "cni.exclusive")
        self.assertEqual(["00-other.conflist", LIST, "10-late.conflist"], sorted(os.listdir(self.net)))
        self.write(f"{self.net}/00-other.conflist", {"type": "multus", "clusterNetwork": "/host/etc/cni/net.d/" + LIST})
        self.node.wait_ready()

    def test_a_folder_that_cannot_be_written(self):
        for folder in (self.net, self.bin):
            with self.subTest(folder=folder):
                run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder)
                self.start(wait=False)
                self.not_ready(folder, "Read-only file system")
                run("mount", "-o", "remount,rw", folder)
                self.node.wait_ready()
                self.assertEqual(["sluice-cni"], self.types())
                # Where nothing is to be written, nothing is wrong.
                run("mount", "-o", "remount,ro", folder)
                self.restart()
                self.node.kill_daemon(signal.SIGTERM)
                run("umount", folder)

    def test_a_folder_that_is_missing(self):
        os.rmdir(self.net)
        self.start(wait=False)
        self.not_ready(self.net, "No such file or directory")
        os.mkdir(self.net)
        self.node.wait_ready()
        self.assertEqual(["sluice-cni"], self.types())

    def test_folders_of_another_user(self):
        wrapper, binary = f"{self.node.home}/confined", self.node.binary
        for folder in (self.net, self.bin):
            os.chown(folder, 1000, 1000)
        self.node.binary = wrapper
        for more, good in (("", False), (",+dac_override", True)):
            with open(wrapper, "w", encoding="utf-8") as file:
                file.write(f'#!/bin/sh\nexec setpriv --bounding-set={CAPABILITIES}{more} {binary} "$@"\n')
            os.chmod(wrapper, 0o755)
            self.start(wait=False)
            if good:
                self.node.wait_ready()
            else:
                self.not_ready(self.bin, "Permission denied")
            self.node.kill_daemon(signal.SIGTERM)
        self.assertEqual(["sluice-cni"], self.types())

    def test_symbolic_links_are_not_followed(self):
        target = f"{self.node.home}/theirs"
        self.write(target, "theirs")
        for path in (f"{self.net}/{LIST}", f"{self.bin}/sluice-cni"):
            os.symlink(target, path)
        os.symlink("/usr/lib/cni/not-in-the-container", f"{self.bin}/loopback")
        self.start()
        self.assertEqual(["sluice-cni"], self.types())
        self.assertEqual(["loopback"], [name for name in os.listdir(self.bin) if os.path.islink(f"{self.bin}/{name}")])
        with open(target, encoding="utf-8") as file:
            self.assertEqual("theirs", file.read())


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
