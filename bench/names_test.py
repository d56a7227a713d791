#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/run measures exactly the figures that others read, each group can be loaded, docs/performance.md has them all."""
import importlib
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "lib")]

from measure.figures import FIGURES, GROUPS  # noqa: E402

NAMES = """
    cni_add_p50_ms cni_add_p99_ms cni_del_p50_ms
    write_to_deny_p50_ms write_to_deny_p99_ms event_to_deny_p50_ms event_to_deny_p99_ms
    ready_after_kill_ms
    same_rr_p50_x same_bulk_x same_crr_x same_udp_x cross_rr_p50_x cross_bulk_x cross_crr_x
    chain_established_ns chain_new_ns verdict_10k_x
    service_packet_10k_x service_new_10k_x service_rr_x service_crr_x service_change_ms
    generation_ms generation_kernel_ms
    hostile_policy_p99_ms hostile_service_p99_ms hostile_add_p99_ms hostile_peak_mb
    cluster_add_p99_ms cluster_event_p99_ms cluster_rss_mb
    rss_idle_mb rss_10k_mb
""".split()


class NamesTest(unittest.TestCase):
    def test_list_names_the_figures(self):
        listed = subprocess.run([os.path.join(HERE, "run"), "--list"], capture_output=True, text=True, check=True)
        self.assertEqual(listed.stdout.split(), NAMES)

    def test_an_unknown_figure_is_refused(self):
        done = subprocess.run([os.path.join(HERE, "run"), "--list", "--only", "same_rr"], capture_output=True, text=True,
                              check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no figure or group same_rr", done.stderr)

    def test_every_group_can_be_measured(self):
        for group in GROUPS:
            module = importlib.import_module(f"measure.{group}")
            self.assertTrue(callable(module.measure), group)
            self.assertIsInstance(module.SANDBOX, bool, group)

    def test_every_unit_is_known(self):
        for figure in FIGURES:
            self.assertTrue(figure.unit, figure.name)


if __name__ == "__main__":
    unittest.main()
