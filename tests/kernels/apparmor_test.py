#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sluiced on a kernel with AppArmor: under what runtimes put on containers it ends and says why, unconfined it works.

    apparmor_test.py BUILD_FOLDER [unittest options]
"""
import os
import re
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from deadline import deadline  # noqa: E402
from sluice_node import Node, run  # noqa: E402
from traffic import Echo, tcp_reaches  # noqa: E402

BUILD = ""
BPFFS, PORT = "/sys/fs/bpf", 8080
NAME = "cri-containerd.apparmor.d"
# All is allowed but what containerd's default profile denies, too: to mount, and to write to most of /proc and /sys.
PROFILE = f"""
profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  signal,
  umount,
  ptrace peer={NAME},
  deny mount,
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/sys/[^k]** w,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
}}
"""


class NodeOfContainers(Node):
    """Its bpffs is where a node's is, and its daemon may have a profile as a container has."""
    confined = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.bpffs = BPFFS

    def start(self, *command, **kwargs):
        return super().start(*(["aa-exec", "-p", NAME, "--"] if self.confined else []), *command, **kwargs)


class AppArmorTest(sluice_test.SluiceTest):
    @classmethod
    def setUpClass(cls):
        run("mount", "-t", "securityfs", "securityfs", "/sys/kernel/security")
        with tempfile.NamedTemporaryFile("w", suffix=".profile") as file:
            file.write(PROFILE)
            file.flush()
            run("apparmor_parser", "--replace", "--skip-cache", file.name)
        cls.node = NodeOfContainers(BUILD, "armored", "10.83.1.0/24")
        cls.node.write_node()
        cls.node.write_namespace("x")

    @classmethod
    def tearDownClass(cls):
        cls.node.delete()

    def setUp(self):
        run("mount", "-t", "bpf", "bpf", BPFFS)
        self.addCleanup(run, "umount", BPFFS)

    def last_words_under_the_profile(self):
        self.node.confined = True
        self.addCleanup(setattr, self.node, "confined", False)
        open(self.node.log, "w").close()
        self.node.start_daemon(wait=False)
        self.addCleanup(self.node.kill_daemon)
        self.assertEqual(1, self.node.daemon.wait(deadline(30)))
        with open(self.node.log) as log:
            return log.read()

    def assert_names_the_profile(self, what, told):
        self.assertRegex(told, re.escape(what) + r"\S*: Permission denied \(perhaps by AppArmor")
        self.assertIn(f"profile {NAME};", told)
        self.assertIn("appArmorProfile.type: Unconfined", told)

    def test_under_the_runtimes_profile_it_ends_and_names_the_profile(self):
        self.assert_names_the_profile(f"make the folder {BPFFS}/sluice", self.last_words_under_the_profile())
        self.assertEqual([], os.listdir(BPFFS))

    def test_unconfined_it_pins_and_serves_pods_and_confined_afterwards_it_ends(self):
        self.node.start_daemon(wait=False)
        self.addCleanup(self.node.kill_daemon)
        self.node.wait_ready()
        with open(f"/proc/{self.node.daemon.pid}/attr/apparmor/current") as label:
            self.assertEqual("unconfined", label.read().strip())
        self.assertTrue(os.listdir(f"{BPFFS}/sluice"))
        client, server, other = (self.node.add_pod("x", name, {"app": name}) for name in ("client", "server", "other"))
        echo = Echo(server, PORT)
        try:
            self.node.write_policy("x", "server", {
                "podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]})
            self.node.settle()
            self.assertTrue(tcp_reaches(client, server.address, PORT))
            self.assertFalse(tcp_reaches(other, server.address, PORT, 1))
            self.assertEqual(0, self.node.get("/v1/status")["packets"]["unaccounted"])
        finally:
            echo.close()
            for pod in (client, server, other):
                self.node.delete_pod(pod)
            self.node.kill_daemon(signal.SIGTERM)
        self.assert_names_the_profile(f"lock {BPFFS}/sluice/", self.last_words_under_the_profile())


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
