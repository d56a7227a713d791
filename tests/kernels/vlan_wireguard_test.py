#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The nodes of tests/netns/uplink_kinds_test.py, joined by interfaces that not every kernel has.

    vlan_wireguard_test.py BUILD_FOLDER [unittest options]
"""
import os
import sys

TESTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..")
sys.path[:0] = [os.path.join(TESTS, "lib"), os.path.join(TESTS, "netns")]
import sluice_test  # noqa: E402
import wires  # noqa: E402
from uplink_kinds_test import UplinkKind  # noqa: E402

BUILD = ""


class VlanUplinkTest(UplinkKind, sluice_test.SluiceTest):
    join, mtu, not_direct = staticmethod(wires.vlan), 1500, ""

    @classmethod
    def setUpClass(cls):
        cls.make(BUILD)


class WireguardUplinkTest(UplinkKind, sluice_test.SluiceTest):
    join, mtu, not_direct = staticmethod(wires.wireguard), 1420, "no uplink is an Ethernet interface"

    @classmethod
    def setUpClass(cls):
        cls.make(BUILD)


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
