#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""State of Sluice's is deleted beside a daemon, which then starts again: pods that run keep their network and their rules, and
what could not be put back is named.

    lost_state_test.py BUILD_FOLDER [unittest options]
        SLUICE_PAIRS: how many pairs of losses, drawn by lot; default: all
"""
import errno
import glob
import itertools
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, run, wait_for, world_beyond  # noqa: E402
from traffic import Echo, tcp_reaches  # noqa: E402

BUILD = ""
PORT = 7777
NODE, WORLD = "192.0.2.1", "192.0.2.2"
PAIRS = int(os.environ.get("SLUICE_PAIRS", 0))


def unlink_all(pattern):
    for path in glob.glob(pattern):
        os.unlink(path)


class LostStateTest(sluice_test.NodeAndWorldTest):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "lost", "10.83.9.0/24")
        cls.world = world_beyond(cls.node, NODE, WORLD)
        cls.world.ip("route", "add", cls.node.pod_cidr, "via", NODE)
        cls.node.write_node(address=NODE)
        cls.node.write_namespace("x")
        cls.node.start_daemon()
        cls.db, cls.web, cls.guest = (cls.node.add_pod("x", name, {"app": name}) for name in ("db", "web", "guest"))
        cls.node.write_policy("x", "db", {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
                                          "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]})
        cls.node.settle()
        cls.echoes = [Echo(cls.db, PORT), Echo(cls.world, PORT)]

    @classmethod
    def losses(cls):
        home, pins = cls.node.home, f"{cls.node.bpffs}/sluice/v1"
        return {
            "the records": lambda: shutil.rmtree(f"{home}/run/attachments", ignore_errors=True),
            "the run folder": lambda: shutil.rmtree(f"{home}/run", ignore_errors=True),
            "the state folder": lambda: shutil.rmtree(f"{home}/state", ignore_errors=True),
            "the map of peers": lambda: unlink_all(f"{pins}/peers*"),
            "the map of connections": lambda: unlink_all(f"{pins}/conntrack*"),
            "the map of endpoints": lambda: unlink_all(f"{pins}/*endpoints*"),
            "the programs": lambda: unlink_all(f"{pins}/progs/*"),
            "the links": lambda: unlink_all(f"{pins}/links/*"),
            "the firewall": lambda: shutil.rmtree(f"{pins}/generations", ignore_errors=True),
            "all pins": lambda: shutil.rmtree(f"{cls.node.bpffs}/sluice", ignore_errors=True),
            "the devices": lambda: cls.node.run("ip", "link", "del", "sluice_net", check=False),
        }

    def check_accounts(self, before):
        """Counters are among what is lost."""

    def works(self):
        self.assertTrue(tcp_reaches(self.web, self.db.address, PORT), "an admitted pod")
        self.assertFalse(tcp_reaches(self.guest, self.db.address, PORT, 0.3), "a pod that no rule admits")
        self.assertTrue(tcp_reaches(self.guest, WORLD, PORT), "the world")
        self.assertTrue(tcp_reaches(self.node, self.db.address, PORT), "from the node")

    def test_pods_keep_their_network_whatever_pair_is_lost(self):
        losses = self.losses()
        pairs = list(itertools.combinations(losses, 2))
        random.shuffle(pairs)
        self.works()
        links = sorted(self.node.pod_links())
        for pair in pairs[:PAIRS or len(pairs)]:
            with self.subTest(" and ".join(pair)):
                self.node.kill_daemon()
                for loss in pair:
                    losses[loss]()
                self.node.start_daemon()
                self.node.settle()
                self.assertEqual(links, sorted(self.node.pod_links()))
                self.works()
                named = {f"{e['namespace']}/{e['pod']}" for e in self.node.get("/v1/endpoints")["endpoints"]}
                self.assertEqual({"x/db", "x/web", "x/guest"}, named)
                wait_for("the audit to be clean", lambda: not self.node.get("/v1/status")["audit"], 15)


    def test_a_del_without_the_folder_for_it_is_made_up_for(self):
        pod = self.node.add_pod("x", "short")
        self.node.kill_daemon()
        shutil.rmtree(f"{self.node.home}/state")
        self.node.delete_pod(pod)
        self.assertFalse(os.path.exists(f"{self.node.home}/state"), "a folder that Sluice took away stays away")
        self.node.start_daemon()
        wait_for("the address to be given back", lambda: self.node.get("/v1/status")["addresses"]["used"] == 3)
        self.assertFalse(glob.glob(f"{self.node.home}/run/attachments/{pod.address}-*"))
        self.assertEqual([], os.listdir(f"{self.node.home}/state/deletions"))

    def test_the_folder_of_deletions_comes_back(self):
        shutil.rmtree(f"{self.node.home}/state")
        wait_for("it to be told", lambda: any("deletions is missing" in each for each in
                                              self.node.get("/v1/status")["putBack"]["last"]))
        self.assertEqual([], os.listdir(f"{self.node.home}/state/deletions"))
        self.node.delete_pod(self.node.add_pod("x", "short"))
        with open(f"{self.node.home}/state.moved", "w", encoding="utf-8"):
            pass
        os.rename(f"{self.node.home}/state", f"{self.node.home}/aside")
        os.rename(f"{self.node.home}/state.moved", f"{self.node.home}/state")  # a file in its place
        wait_for("the daemon to be not ready", lambda: "state" in self.node.get("/v1/status")["notReadyReason"])
        os.unlink(f"{self.node.home}/state")
        self.node.wait_ready()

    def test_files_beside_a_running_daemon_come_back(self):
        run_folder = f"{self.node.home}/run"
        losses = {"the socket": (lambda: os.unlink(self.node.socket), "sluice.sock is missing"),
                  "its lock": (lambda: os.unlink(self.node.socket + ".lock"), "sluice.sock is missing"),
                  "a record": (lambda: os.unlink(glob.glob(f"{run_folder}/attachments/*.json")[0]), "1 records of attachments"),
                  "the records": (lambda: shutil.rmtree(f"{run_folder}/attachments"), "3 records of attachments"),
                  "the run folder": (lambda: shutil.rmtree(run_folder), "3 records of attachments")}
        for name, (loss, told) in losses.items():
            with self.subTest(name):
                before = self.node.get("/v1/status")["putBack"]["total"]
                loss()
                wait_for("it to come back", lambda n=before: self.node.get("/v1/status")["putBack"]["total"] > n, 15, 0.05)
                status = self.node.get("/v1/status")
                self.assertTrue(any(told in each for each in status["putBack"]["last"]), status["putBack"])
                self.assertTrue(status["ready"], status["notReadyReason"])
                self.assertEqual(3, len(glob.glob(f"{run_folder}/attachments/*.json")))
                self.node.delete_pod(self.node.add_pod("x", "short"))
        self.node.kill_daemon()
        self.node.start_daemon()
        self.works()


class FullRunFolderTest(sluice_test.SluiceTest):
    """An ADD that cannot be recorded fails for that reason, and the daemon is not ready."""

    def setUp(self):
        self.node = Node(BUILD, "full", "10.83.10.0/24")
        self.folder = f"{self.node.home}/run"
        os.mkdir(self.folder)
        run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", self.folder)
        self.node.begin()

    def tearDown(self):
        self.node.kill_daemon()
        for pod in self.node.pods.values():
            pod.delete()
        self.node.delete()

    def test_it_is_told_as_it_is(self):
        with open(f"{self.folder}/filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                self.assertEqual(errno.ENOSPC, error.errno)
        wait_for("the daemon to be not ready", lambda: "no attachment can be recorded" in self.node.get("/v1/status")["notReadyReason"])
        with self.assertRaises(CniError) as refused:
            self.node.add_pod("x", "late")  # its namespace stays
        self.assertEqual(5, refused.exception.code, refused.exception)
        self.assertIn("No space left", str(refused.exception))
        self.assertEqual([], self.node.pod_links())
        os.unlink(f"{self.folder}/filler")
        self.node.wait_ready()
        self.node.add_pod("x", "later")


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
