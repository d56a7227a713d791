#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What STATUS answers while there is no daemon, or one that does not know all objects yet: a runtime makes the node NotReady
for an error, and its pods leave all Services.

    cni_status_test.py BUILD_FOLDER [unittest options]
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from sluice_node import CniError, Node, run, wait_for  # noqa: E402
from traffic import Echo, tcp_reaches  # noqa: E402

BUILD = ""
PORT = 8080


class StatusTest(sluice_test.SluiceTest):
    def setUp(self):
        super().setUp()
        self.node = Node(BUILD, "status", "10.83.3.0/24")
        self.addCleanup(self.node.delete)

    def start_without_api(self):
        """A daemon whose API server does not answer: it never knows all objects."""
        path = os.path.join(self.node.home, "kubeconfig")
        with open(path, "w", encoding="utf-8") as file:
            file.write("apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: [{name: u, user: {}}]\n"
                       "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
                       "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n")
        self.node.start_daemon(source=["--source=kube", f"--kubeconfig={path}"], wait=False)
        self.addCleanup(self.node.kill_daemon)
        wait_for("the daemon's socket", lambda: not self.node.get("/v1/status")["ready"])

    def start_with_pods(self):
        self.node.begin()
        pods = [self.node.add_pod("x", name, {"app": name}) for name in "ab"]
        for pod in pods:
            self.addCleanup(pod.delete)
        self.node.kill_daemon()
        return pods

    def status_code(self):
        try:
            self.node.cni("STATUS")
            return 0
        except CniError as error:
            return error.code

    def test_a_node_without_rules_is_not_available(self):
        self.assertEqual(50, self.status_code(), "there has been no daemon")
        self.start_without_api()
        self.assertEqual(50, self.status_code())

    def test_a_restart_with_rules_in_force_is_no_reason_to_be_not_ready(self):
        a, b = self.start_with_pods()
        self.assertEqual(0, self.status_code(), "no daemon")
        self.start_without_api()
        self.assertEqual(0, self.status_code())
        echo = Echo(b, PORT)
        self.addCleanup(echo.close)
        self.assertTrue(tcp_reaches(a, b.address, PORT))

    def test_pods_that_have_lost_their_rules_are_told(self):
        a, b = self.start_with_pods()
        run("umount", self.node.bpffs)
        run("mount", "-t", "bpf", "bpf", self.node.bpffs)
        self.assertEqual(50, self.status_code(), "no daemon, which alone knows of the pods")
        self.start_without_api()
        self.assertEqual(51, self.status_code())
        echo = Echo(b, PORT)
        self.addCleanup(echo.close)
        self.assertFalse(tcp_reaches(a, b.address, PORT))


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
