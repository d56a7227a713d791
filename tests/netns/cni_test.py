#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""DEL, CHECK, GC and STATUS of the CNI binary, and that it is static."""

import json
import os
import shutil
import struct
import unittest

import cni_harness
from cni_harness import VERSIONS, CniTest, ip, link_names, main, tc


class Del(CniTest):
    def deletions(self):
        folder = self.folder + "/state/deletions"
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_repeated(self):
        self.succeed("ADD")
        for _ in range(3):
            self.assertIsNone(self.succeed("DEL"))
            self.assert_nothing_left()
        self.assertEqual({}, self.daemon.attached)
        self.assertEqual([], self.deletions())

    def test_daemon_is_asked_once_and_deletes_the_link(self):
        self.succeed("ADD")
        self.daemon.requests.clear()
        self.daemon.deletes_links = False
        self.succeed("DEL")
        self.assertEqual(["/v1/cni/del"], self.daemon.paths())
        self.assertEqual(2, len(link_names()))

    def test_without_add_in_every_version(self):
        for version in VERSIONS:
            with self.subTest(version):
                self.assertIsNone(self.succeed("DEL", version=version))

    def test_namespace_gone(self):
        self.succeed("ADD")
        self.pod.end()
        self.succeed("DEL")
        self.assertEqual(["lo"], link_names())

    def test_without_namespace(self):
        self.succeed("ADD")
        self.succeed("DEL", CNI_NETNS="")
        self.assert_nothing_left()
        self.succeed("DEL", CNI_NETNS=None)

    def test_any_prev_result(self):
        for previous in (None, {}, {"ips": []}, [], "text"):
            with self.subTest(previous):
                self.succeed("DEL", {"prevResult": previous})

    def test_interface_of_another_is_left(self):
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth9", netns=self.pod.netns)
        self.succeed("DEL")
        self.assertIn("eth0", link_names(self.pod.netns))

    def test_daemon_down_queues(self):
        self.succeed("ADD")
        self.end_daemon()
        for _ in range(2):
            self.assertIsNone(self.succeed("DEL"))
            self.assert_nothing_left()
            self.assertEqual([f"{self.container}_eth0.json"], self.deletions())
        with open(f"{self.folder}/state/deletions/{self.container}_eth0.json", encoding="utf-8") as file:
            self.assertEqual({"containerID": self.container, "ifname": "eth0"}, json.load(file))

    def test_daemon_without_a_usable_answer_queues(self):
        for way in ("hang up", "garbage", "half", "no json", "plain 500"):
            with self.subTest(way):
                self.daemon.fail_at["/v1/cni/del"] = way
                self.succeed("DEL")
                self.assertEqual([f"{self.container}_eth0.json"], self.deletions())
                os.unlink(f"{self.folder}/state/deletions/{self.container}_eth0.json")

    def test_queues_nothing_where_sluice_is_not(self):
        self.succeed("ADD")
        self.end_daemon()
        shutil.rmtree(self.folder + "/state")
        self.succeed("DEL")
        self.assert_nothing_left()
        self.assertFalse(os.path.exists(self.folder + "/state"))

    def test_daemon_refuses(self):
        self.succeed("ADD")
        self.daemon.fail_at["/v1/cni/del"] = (500, {"code": 100, "msg": "no", "details": "because"})
        self.fail_with(100, "DEL")
        self.assert_nothing_left()
        self.daemon.fail_at["/v1/cni/del"] = (404, {"code": 3, "msg": "unknown", "details": ""})
        self.succeed("DEL")
        self.assertEqual([], self.deletions())

    def test_queue_cannot_be_written(self):
        self.succeed("ADD")
        self.end_daemon()
        shutil.rmtree(self.folder + "/state")
        with open(self.folder + "/state", "w", encoding="utf-8"):
            pass
        self.fail_with(5, "DEL")
        self.assert_nothing_left()


class Check(CniTest):
    def setUp(self):
        super().setUp()
        self.result = self.succeed("ADD")

    def check(self, **keywords):
        return self.run_cni("CHECK", {"prevResult": self.result}, **keywords)

    def assert_wrong(self, words):
        error = self.fail_with(103, "CHECK", {"prevResult": self.result})
        self.assertIn(words, error["details"])

    def test_good_in_every_version_that_has_it(self):
        for version in VERSIONS[1:]:
            with self.subTest(version):
                self.assertEqual((0, None), self.check(version=version))

    def test_needs_prev_result(self):
        self.fail_with(7, "CHECK")
        self.fail_with(7, "CHECK", {"prevResult": "text"})

    def test_each_damage_is_named(self):
        netns = self.pod.netns
        damages = [
            (("link", "set", "eth0", "down"), "eth0 is down"),
            (("link", "set", "eth0", "address", "02:00:00:00:00:01"), "MAC"),
            (("link", "set", "eth0", "mtu", "9000"), "MTU"),
            (("address", "flush", "dev", "eth0"), "lost its address"),
            (("route", "delete", "default"), "default route"),
            (("link", "delete", "eth0"), "eth0"),
        ]
        for damage, words in damages:
            with self.subTest(words):
                ip(*damage, netns=netns)
                self.assert_wrong(words)
                self.succeed("DEL")
                self.result = self.succeed("ADD")

    def test_lost_and_changed_limits_are_named(self):
        limits = {"ingressRate": 8_000_000, "ingressBurst": 160_000, "egressRate": 16_000_000, "egressBurst": 320_000}
        config = {"runtimeConfig": {"bandwidth": limits}}
        self.succeed("DEL")
        self.result = self.succeed("ADD", config)
        config["prevResult"] = self.result
        self.succeed("CHECK", config)
        host = self.result["interfaces"][0]["name"]
        for link, netns, rate in ((host, None, 8_000_000), ("eth0", self.pod.netns, 16_000_000)):
            for change, kind in ((["replace", "root", "tbf", "rate", "1mbit", "burst", "20k", "latency", "25ms"], "tbf"),
                                 (["replace", "root", "pfifo"], "pfifo"), (["delete", "root"], "noqueue")):
                with self.subTest(link=link, kind=kind):
                    tc(netns, "qdisc", *change[:1], "dev", link, *change[1:])
                    details = self.fail_with(103, "CHECK", config)["details"]
                    self.assertEqual(f"{link} has lost its limit of {rate} bits a second: its queueing discipline is {kind}",
                                     details)
                    self.succeed("CHECK", {"prevResult": self.result})  # a runtime that asks for no limit
            self.succeed("DEL")
            config["prevResult"] = self.result = self.succeed("ADD", {"runtimeConfig": config["runtimeConfig"]})

    def test_what_later_plugins_may_change(self):
        ip("link", "set", "eth0", "mtu", "1400", netns=self.pod.netns)
        ip("route", "delete", "default", netns=self.pod.netns)
        self.result["routes"] = []
        self.assertEqual((0, None), self.check())

    def test_prev_result_of_another_attachment(self):
        good = json.dumps(self.result)
        for change, words in ((lambda r: r["ips"][0].update(address="10.244.1.6/24"), "10.244.1.5/24"),
                              (lambda r: r["interfaces"][1].update(name="eth1"), "eth0"),
                              (lambda r: r["interfaces"][1].update(sandbox=""), "eth0"),
                              (lambda r: r["interfaces"][0].update(name="slu0"), "slu"),
                              (lambda r: r.pop("interfaces"), "eth0"),
                              (lambda r: r.update(ips="none"), "10.244.1.5/24")):
            self.result = json.loads(good)
            change(self.result)
            with self.subTest(self.result):
                self.assert_wrong(words)

    def test_daemon_finds_fault(self):
        self.daemon.fail_at["/v1/cni/check"] = (500, {"code": 103, "msg": "program", "details": "not attached"})
        self.assert_wrong("not attached")
        self.daemon.fail_at["/v1/cni/check"] = "hang up"
        self.fail_with(11, "CHECK", {"prevResult": self.result})
        self.daemon.fail_at.clear()
        self.daemon.attached.clear()
        self.fail_with(3, "CHECK", {"prevResult": self.result})


class Gc(CniTest):
    def test_daemon_is_told_what_stays(self):
        valid = [{"containerID": self.container, "ifname": "eth0"}]
        self.assertIsNone(self.succeed("GC", {"cni.dev/valid-attachments": valid}))
        self.assertEqual([("/v1/cni/gc", {"network": "sluice", "attachments": valid})], self.daemon.requests)

    def test_empty_list_is_not_a_missing_one(self):
        for valid in ([], None):
            with self.subTest(valid):
                self.succeed("GC", {"cni.dev/valid-attachments": valid})
                self.assertEqual([], self.daemon.requests[-1][1]["attachments"])
        self.daemon.requests.clear()
        for config in ({}, {"cni.dev/valid-attachments": {}}, {"cni.dev/valid-attachments": [1]},
                       {"cni.dev/valid-attachments": [{"containerID": "a"}]}):
            with self.subTest(config):
                self.fail_with(7, "GC", config)
        self.assertEqual([], self.daemon.requests)

    def test_daemon_answers(self):
        self.daemon.fail_at["/v1/cni/gc"] = (500, {"code": 5, "msg": "disk", "details": "full"})
        self.fail_with(5, "GC", {"cni.dev/valid-attachments": []})
        self.daemon.fail_at["/v1/cni/gc"] = "hang up"
        self.fail_with(11, "GC", {"cni.dev/valid-attachments": []})


class Status(CniTest):
    def test_status(self):
        self.assertIsNone(self.succeed("STATUS", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None))
        self.daemon.fail_at["/v1/cni/status"] = (503, {"code": 51, "msg": "limited", "details": "why"})
        self.fail_with(51, "STATUS")
        self.daemon.fail_at["/v1/cni/status"] = "hang up"
        self.fail_with(50, "STATUS")
        self.end_daemon()
        error = self.fail_with(50, "STATUS")
        self.assertIn("sluiced", error["msg"])
        self.assertIn("pod", error["details"])


class StaticBinary(unittest.TestCase):
    def test_needs_no_loader(self):
        with open(cni_harness.BINARY, "rb") as file:
            elf = file.read()
        self.assertEqual(b"\x7fELF\x02\x01", elf[:6])
        offset, = struct.unpack_from("<Q", elf, 32)
        size, count = struct.unpack_from("<HH", elf, 54)
        types = [struct.unpack_from("<I", elf, offset + i * size)[0] for i in range(count)]
        self.assertIn(1, types)  # PT_LOAD
        self.assertNotIn(2, types)  # PT_DYNAMIC
        self.assertNotIn(3, types)  # PT_INTERP


if __name__ == "__main__":
    main()
