#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The CNI binary under the name `loopback`, as runtimes call it for every pod."""

import shutil

import cni_harness
from cni_harness import VERSIONS, CniTest, ip, link_of, main

V4, V6 = "127.0.0.1/8", "::1/128"


class Loopback(CniTest):
    def setUp(self):
        super().setUp()
        binary = cni_harness.BINARY
        self.addCleanup(setattr, cni_harness, "BINARY", binary)
        cni_harness.BINARY = shutil.copy(binary, self.folder + "/loopback")

    def run_cni(self, command, config=None, version="1.1.0", **variables):
        # The configuration that containerd calls it with: it knows nothing of Sluice's keys.
        config = {"name": "cni-loopback", "type": "loopback", "socket": "/nowhere", **(config or {})}
        return super().run_cni(command, config, version, **{"CNI_IFNAME": "lo", **variables})

    def is_up(self):
        return "UP" in link_of("lo", self.pod.netns)["flags"]

    def addresses(self):
        return sorted(f"{a['local']}/{a['prefixlen']}" for a in link_of("lo", self.pod.netns)["addr_info"])

    def test_add_brings_it_up_and_reports_what_it_has(self):
        self.assertFalse(self.is_up())
        result = self.succeed("ADD")
        self.assertTrue(self.is_up())
        self.assertEqual([{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": self.pod.netns}], result["interfaces"])
        reported = sorted(each["address"] for each in result["ips"])
        self.assertIn(V4, reported)
        self.assertEqual(self.addresses(), reported)
        self.assertEqual({0}, {each["interface"] for each in result["ips"]})
        self.assertEqual([], self.daemon.requests)

    def test_ipv6_is_reported_only_where_there_is_some(self):
        self.succeed("ADD")
        ip("-6", "address", "flush", "dev", "lo", netns=self.pod.netns)
        self.assertEqual([V4], [each["address"] for each in self.succeed("ADD")["ips"]])
        ip("address", "add", V6, "dev", "lo", netns=self.pod.netns)
        self.assertEqual([V4, V6], sorted(each["address"] for each in self.succeed("ADD")["ips"]))

    def test_format_of_every_version(self):
        for version in VERSIONS:
            with self.subTest(version):
                result = self.succeed("ADD", version=version)
                self.assertEqual(version, result["cniVersion"])
                families = {each["address"]: each.get("version") for each in result["ips"]}
                self.assertEqual("4" if version < "1.0.0" else None, families[V4])
                if V6 in families:
                    self.assertEqual("6" if version < "1.0.0" else None, families[V6])

    def test_format_of_the_versions_before_there_were_lists(self):
        for version in ("0.1.0", "0.2.0"):
            with self.subTest(version):
                result = self.succeed("ADD", version=version)
                self.assertEqual((version, {"ip": V4}), (result["cniVersion"], result["ip4"]))
                self.assertNotIn("interfaces", result)
                self.assertIsNone(self.succeed("DEL", version=version))
        self.assertIn("interfaces", self.succeed("ADD", version="0.3.0"))

    def test_add_passes_an_earlier_result_on(self):
        earlier = {"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.3/24"}]}
        self.assertEqual(earlier, self.succeed("ADD", {"prevResult": earlier}))
        self.assertTrue(self.is_up())

    def test_check(self):
        self.succeed("ADD")
        self.assertIsNone(self.succeed("CHECK", {"prevResult": {}}))
        ip("link", "set", "lo", "down", netns=self.pod.netns)
        error = self.fail_with(103, "CHECK", {"prevResult": {}})
        self.assertIn("lo is down", error["msg"])

    def test_del_takes_it_down_and_may_come_again(self):
        self.succeed("ADD")
        for _ in range(2):
            self.assertIsNone(self.succeed("DEL"))
            self.assertFalse(self.is_up())
        self.pod.end()
        self.assertIsNone(self.succeed("DEL"))
        self.assertIsNone(self.succeed("DEL", CNI_NETNS=""))
        self.assertEqual([], self.daemon.requests)

    def test_add_without_the_namespace_fails(self):
        self.pod.end()
        self.fail_with(5, "ADD")

    def test_the_namespace_of_the_host_is_refused(self):
        self.fail_with(5, "DEL", CNI_NETNS="/proc/self/ns/net")
        self.fail_with(5, "ADD", CNI_NETNS="/proc/self/ns/net")


if __name__ == "__main__":
    main()
