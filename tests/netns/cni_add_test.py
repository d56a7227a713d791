#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ADD of the CNI binary, and that whatever goes wrong in it is undone."""

import json
import os
import shutil
import signal
import socket
import time

from cni_harness import ANSWER, VERSIONS, CniTest, ip, link_names, link_of, main, root_of


class Add(CniTest):
    def test_result_has_the_format_of_each_version(self):
        for version in VERSIONS:
            with self.subTest(version):
                result = self.succeed("ADD", version=version)
                mtu = {"mtu": 1450} if version == "1.1.0" else {}
                self.assertEqual([{"name": self.daemon.attached[(self.container, "eth0")]["hostIfname"],
                                   "mac": ANSWER["hostMac"], **mtu},
                                  {"name": "eth0", "mac": ANSWER["mac"], "sandbox": self.pod.netns, **mtu}],
                                 result.pop("interfaces"))
                address = {"address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 1}
                if version in ("0.3.1", "0.4.0"):
                    address["version"] = "4"
                self.assertEqual({"cniVersion": version, "ips": [address],
                                  "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}], "dns": {}}, result)
                self.succeed("DEL", version=version)
                self.assert_nothing_left()

    def test_pod_is_configured_as_the_daemon_says(self):
        self.succeed("ADD")
        link = link_of("eth0", self.pod.netns)
        self.assertEqual(ANSWER["mac"], link["address"])
        self.assertEqual(1450, link["mtu"])
        self.assertIn("UP", link["flags"])
        self.assertEqual([("inet", "10.244.1.5", 24)],
                         [(each["family"], each["local"], each["prefixlen"]) for each in link["addr_info"]])
        self.assertIn("UP", link_of("lo", self.pod.netns)["flags"])
        self.assertEqual([("default", "10.244.1.1", "eth0"), ("10.244.1.0/24", None, "eth0")],
                         [(each["dst"], each.get("gateway"), each["dev"])
                          for each in ip("route", "show", netns=self.pod.netns)])

    def test_daemon_is_asked_once_while_the_pod_is_down(self):
        self.succeed("ADD")
        (path, request), = self.daemon.requests
        self.assertEqual("/v1/cni/add", path)
        self.assertRegex(request.pop("hostIfname"), "^slu[0-9a-f]{11}$")
        self.assertEqual({"containerID": self.container, "ifname": "eth0", "netns": self.pod.netns,
                          "network": "sluice", "podNamespace": "default", "podName": "web-0", "podUID": "u-1", "hostPorts": []}, request)
        self.assertEqual([False, False], self.daemon.pod_was_up)

    def test_limits_are_set_at_both_ends(self):
        limits = {"ingressRate": 8_000_000, "ingressBurst": 160_000, "egressRate": 16_000_000, "egressBurst": 320_000}
        self.succeed("ADD", {"runtimeConfig": {"bandwidth": limits}})
        host, = (name for name in link_names() if name.startswith("slu"))
        self.assertEqual(("tbf", 1_000_000, 20_000, 25_000), root_of(host))
        self.assertEqual(("tbf", 2_000_000, 40_000, 25_000), root_of("eth0", self.pod.netns))
        self.assertTrue(self.daemon.queue_was_there)
        self.succeed("DEL")
        self.succeed("ADD", {"runtimeConfig": {"bandwidth": {"ingressRate": 0, "ingressBurst": 0}}})
        self.assertEqual("noqueue", root_of("eth0", self.pod.netns)[0])
        self.assertFalse(self.daemon.queue_was_there)

    def test_limits_that_let_nothing_through_are_refused_and_leave_nothing(self):
        for limit in ("ingress", "egress"):
            error = self.fail_with(7, "ADD", {"runtimeConfig": {"bandwidth": {limit + "Rate": 1_000_000, limit + "Burst": 8_000}}})
            self.assertIn(f"'{limit}Burst' is 8000 bits, less than one packet", error["msg"])
            self.assert_nothing_left()
            self.assertEqual({}, self.daemon.attached)

    def test_two_interfaces_of_one_pod_have_links_of_their_own(self):
        self.succeed("ADD")
        self.succeed("ADD", CNI_IFNAME="net1")
        self.assertEqual(3, len(link_names()))
        self.succeed("DEL", CNI_IFNAME="net1")
        self.assertIn("eth0", link_names(self.pod.netns))
        self.assertNotIn("net1", link_names(self.pod.netns))

    def test_a_second_attachment_leaves_the_first_ones_default_route(self):
        self.succeed("ADD")
        self.daemon.answer = dict(ANSWER, address="10.244.1.6/24", mac="02:53:0a:f4:01:06")
        result = self.succeed("ADD", CNI_IFNAME="net1")
        self.assertEqual([], result["routes"])

        def default_routes():
            return [(each["gateway"], each["dev"]) for each in ip("route", "show", netns=self.pod.netns) if each["dst"] == "default"]
        self.assertEqual([("10.244.1.1", "eth0")], default_routes())
        self.succeed("CHECK", {"prevResult": result}, CNI_IFNAME="net1")
        self.succeed("DEL", CNI_IFNAME="net1")
        self.assertEqual([("10.244.1.1", "eth0")], default_routes())

    def test_without_kubernetes(self):
        self.succeed("ADD", CNI_ARGS=None)
        self.assertEqual("", self.daemon.requests[0][1]["podName"])

    def test_a_container_of_a_runtime_without_namespaces_is_no_pod(self):
        self.succeed("ADD", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=box;K8S_POD_UID=u-1")
        request = self.daemon.requests[0][1]
        self.assertEqual(("", "", ""), (request["podNamespace"], request["podName"], request["podUID"]))

    def test_the_configuration_names_the_namespace_of_pods_without_one(self):
        self.succeed("ADD", {"podNamespace": "batch"}, CNI_ARGS="K8S_POD_NAME=box")
        self.succeed("ADD", {"podNamespace": "batch"}, CNI_IFNAME="net1")
        self.succeed("ADD", {"podNamespace": "batch"}, CNI_IFNAME="net2", CNI_ARGS=None)
        self.assertEqual([("batch", "box"), ("default", "web-0"), ("", "")],
                         [(r["podNamespace"], r["podName"]) for path, r in self.daemon.requests if path == "/v1/cni/add"])
        self.assertIn("podNamespace", self.fail_with(7, "ADD", {"podNamespace": 7}, CNI_IFNAME="net3")["msg"])

    def test_second_add_fails_and_leaves_the_first_alone(self):
        self.succeed("ADD")
        before = link_of("eth0", self.pod.netns)
        self.fail_with(101, "ADD")
        self.assertEqual(before, link_of("eth0", self.pod.netns))
        self.assertNotIn("/v1/cni/del", self.daemon.paths())

    def test_second_add_fails_if_the_daemon_cannot_say_what_the_link_is(self):
        self.succeed("ADD")
        for way, code in (("hang up", 11), ((503, {"code": 11, "msg": "starting"}), 11),
                          ((500, {"code": 103, "msg": "damaged"}), 101)):
            self.daemon.fail_at["/v1/cni/check"] = way
            self.fail_with(code, "ADD")
        self.assertIn("eth0", link_names(self.pod.netns))

    def test_link_left_by_a_killed_add_is_replaced(self):
        self.daemon.fail_at["/v1/cni/add"] = "hang"
        process = self.start("ADD")
        self.assertTrue(self.daemon.asked.wait(30))
        process.kill()
        process.communicate()
        self.assertEqual(2, len(link_names()))
        self.end_daemon()
        self.start_daemon()
        self.succeed("ADD")
        self.assertEqual(2, len(link_names()))
        self.assertEqual(["/v1/cni/check", "/v1/cni/add"], self.daemon.paths())

    def test_existing_interface_in_the_pod_is_an_error(self):
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth9", netns=self.pod.netns)
        self.fail_with(101, "ADD")
        self.assertEqual(["lo"], link_names())
        self.assertEqual(["/v1/cni/check"], self.daemon.paths())
        self.assertIn("eth0", link_names(self.pod.netns))

    def test_must_be_first_in_the_chain(self):
        self.fail_with(7, "ADD", {"prevResult": {"cniVersion": "1.1.0"}})
        self.assert_nothing_left()
        self.succeed("ADD", {"prevResult": None})

    def test_bad_namespaces(self):
        for path in ("/proc/self/ns/net", "/proc/self/ns/mnt", "/nonexistent", self.folder, "/dev/null"):
            with self.subTest(path):
                self.assertIn("CNI_NETNS", self.fail_with(4, "ADD", CNI_NETNS=path)["msg"])
        self.assert_nothing_left()

    def test_waits_for_a_daemon_that_is_being_replaced(self):
        self.end_daemon()
        process = self.start("ADD")
        time.sleep(0.3)
        self.start_daemon()
        status, output = self.finish(process)
        self.assertEqual(0, status, output)

    def test_waits_while_a_dead_socket_is_left(self):
        self.end_daemon()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.socket)
        process = self.start("ADD")
        time.sleep(0.3)
        os.unlink(self.socket)
        self.start_daemon()
        status, output = self.finish(process)
        self.assertEqual(0, status, output)

    def test_queued_release_of_the_same_attachment_is_done_first(self):
        self.end_daemon()
        self.succeed("DEL")
        self.start_daemon()
        self.succeed("ADD")
        self.assertEqual(["/v1/cni/del", "/v1/cni/add"], self.daemon.paths())
        self.assertEqual([], os.listdir(self.folder + "/state/deletions"))


class RollBack(CniTest):
    def test_daemon_refuses(self):
        for code in (3, 11, 100, 101, 102):
            with self.subTest(code):
                self.daemon.requests.clear()
                self.daemon.fail_at["/v1/cni/add"] = (500, {"code": code, "msg": "no", "details": "because"})
                error = self.fail_with(code, "ADD")
                self.assertEqual({"cniVersion": "1.1.0", "code": code, "msg": "no", "details": "because"}, error)
                self.assert_nothing_left()
                self.assertEqual(["/v1/cni/add"], self.daemon.paths())  # nothing to give back

    def test_daemon_gives_no_usable_answer(self):
        for way in ("hang up", "garbage", "half", "no json", "plain 500"):
            with self.subTest(way):
                self.daemon.requests.clear()
                self.daemon.fail_at["/v1/cni/add"] = way
                status, error = self.run_cni("ADD")
                self.assertEqual(1, status)
                self.assertIn(error["code"], (11, 100))
                self.assert_nothing_left()
                self.assertEqual(["/v1/cni/add", "/v1/cni/del"], self.daemon.paths())

    def test_daemon_answers_what_cannot_be(self):
        cases = {"no address": {"address": None}, "address without sense": {"address": "10.244.1"},
                 "IPv6": {"address": "fd00::5/64"}, "prefix too long": {"address": "10.244.1.5/33"},
                 "gateway outside": {"gateway": "10.9.0.1"}, "no MAC": {"mac": ""}, "no host MAC": {"hostMac": "x"},
                 "MTU as text": {"mtu": "1450"}, "MTU of 0": {"mtu": 0}, "negative MTU": {"mtu": -1},
                 "huge MTU": {"mtu": 2**32 + 1500}, "MAC that the kernel refuses": {"mac": "01:00:00:00:00:00"}}
        for name, change in cases.items():
            with self.subTest(name):
                self.daemon.requests.clear()
                self.daemon.answer = dict(ANSWER, **change)
                self.fail_with(100, "ADD")
                self.assert_nothing_left()
                self.assertEqual(["/v1/cni/add", "/v1/cni/del"], self.daemon.paths())
                self.assertEqual({}, self.daemon.attached)

    def test_daemon_dies_during_add(self):
        self.daemon.fail_at["/v1/cni/add"] = "hang"
        process = self.start("ADD")
        self.assertTrue(self.daemon.asked.wait(30))
        self.end_daemon()
        status, error = self.finish(process)
        self.assertEqual((1, 11), (status, error["code"]))
        self.assert_nothing_left()
        # The daemon may have done it before it died: the next one gives it back.
        self.assertEqual([f"{self.container}_eth0.json"], os.listdir(self.folder + "/state/deletions"))

    def test_no_daemon_at_all(self):
        self.end_daemon()
        self.assertIn("sluiced", self.fail_with(11, "ADD")["msg"])
        self.assert_nothing_left()
        self.assertEqual([], os.listdir(self.folder + "/state/deletions"))

    def test_sluice_is_not_on_the_node(self):
        self.end_daemon()
        shutil.rmtree(self.folder + "/state")
        self.assertIn("no sluiced has started", self.fail_with(11, "ADD")["msg"])
        self.assert_nothing_left()
        self.assertFalse(os.path.exists(self.folder + "/state"))

    def test_waits_for_the_first_daemon_to_start(self):
        self.end_daemon()
        shutil.rmtree(self.folder + "/state")
        process = self.start("ADD")
        time.sleep(0.3)
        self.assert_nothing_left()
        self.start_daemon()
        status, output = self.finish(process)
        self.assertEqual(0, status, output)

    def test_signal_ends_waiting_for_the_first_daemon(self):
        self.end_daemon()
        shutil.rmtree(self.folder + "/state")
        process = self.start("ADD")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        status, error = self.finish(process)
        self.assertEqual((1, 11, "interrupted by a signal"), (status, error["code"], error["msg"]))

    def test_signal_undoes(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                self.daemon.requests.clear()
                self.daemon.asked.clear()
                self.daemon.fail_at["/v1/cni/add"] = "hang"
                process = self.start("ADD")
                self.assertTrue(self.daemon.asked.wait(30))
                self.assertEqual(2, len(link_names()))
                process.send_signal(number)
                status, error = self.finish(process)
                self.assertEqual((1, 11), (status, error["code"]))
                self.assert_nothing_left()
                self.assertEqual(["/v1/cni/add", "/v1/cni/del"], self.daemon.paths())

    def test_after_a_failure_the_next_add_succeeds(self):
        self.daemon.fail_at["/v1/cni/add"] = "half"
        self.run_cni("ADD")
        self.daemon.fail_at.clear()
        self.succeed("ADD")


if __name__ == "__main__":
    main()
