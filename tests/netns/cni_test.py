#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The CNI binary against a fake daemon, in network namespaces of its own. Usage: cni_test.py BINARY [unittest arguments]

The process moves to a new network namespace, which is the host's for the test. A pod is a process that sleeps in another.
Needs root and iproute2.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
BINARY = ""

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
ANSWER = {
    "address": "10.244.1.5/24",
    "gateway": "10.244.1.1",
    "mac": "02:53:0a:f4:01:05",
    "mtu": 1450,
    "hostMac": "02:53:00:00:00:01",
}


def new_network_namespace():
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def ip(*arguments, netns=None):
    """Parsed output of ip -j."""
    enter = ["nsenter", "--net=" + netns] if netns else []
    done = subprocess.run(enter + ["ip", "-j", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else []


def link_names(netns=None):
    return [link["ifname"] for link in ip("link", "show", netns=netns)]


def link_of(name, netns=None):
    return next((link for link in ip("-d", "address", "show", netns=netns) if link["ifname"] == name), None)


class Pod:
    """A network namespace, kept by a process that sleeps in it."""

    def __init__(self):
        self.process = subprocess.Popen(["sleep", "infinity"], preexec_fn=new_network_namespace)
        self.netns = f"/proc/{self.process.pid}/ns/net"

    def end(self):
        self.process.kill()
        self.process.wait()


class FakeDaemon:
    """Speaks the API of daemon/server/api.h, or fails in the ways of `fail_at`: {path: way}."""

    def __init__(self, path):
        self.path = path
        self.attached = {}
        self.requests = []
        self.fail_at = {}
        self.answer = dict(ANSWER)
        self.pod_was_up = []
        self.released = []
        self.asked = threading.Event()
        self.ended = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def end(self):
        self.ended.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def paths(self):
        return [path for path, _ in self.requests]

    def serve(self):
        while not self.ended.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.threads.append(threading.Thread(target=self.serve_one, args=(connection,)))
            self.threads[-1].start()

    def serve_one(self, connection):
        with connection, contextlib.suppress(ConnectionError):
            self.answer_one(connection)

    def answer_one(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, body = data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length"))
        while len(body) < length:
            body += connection.recv(65536)
        path = lines[0].split()[1]
        request = json.loads(body) if body else None
        self.requests.append((path, request))
        self.asked.set()
        way = self.fail_at.get(path)
        if way == "hang":
            self.ended.wait(30)
        elif way == "hang up":
            pass
        elif way == "garbage":
            connection.sendall(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        elif way == "half":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"address\":")
        elif way == "no json":
            self.reply(connection, 200, b"<html>")
        elif way == "plain 500":
            self.reply(connection, 500, b"oops")
        elif isinstance(way, tuple):
            self.reply(connection, *way)
        else:
            status, answer = self.act(path, request)
            self.reply(connection, status, answer)

    @staticmethod
    def reply(connection, status, answer):
        if not isinstance(answer, bytes):
            answer = json.dumps(answer).encode()
        connection.sendall(b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                           % (status, len(answer), answer))

    def act(self, path, request):
        key = (request["containerID"], request["ifname"]) if request and "containerID" in request else None
        if path == "/v1/cni/add":
            if key in self.attached:
                return 409, {"code": 101, "msg": "exists", "details": ""}
            self.pod_was_up += [link_of(request["ifname"], request["netns"])["operstate"] == "UP",
                                "UP" in link_of(request["ifname"], request["netns"])["flags"]]
            ip("link", "set", request["hostIfname"], "up")
            self.attached[key] = dict(self.answer, hostIfname=request["hostIfname"])
            return 200, self.attached[key]
        if path == "/v1/cni/del":
            self.attached.pop(key, None)
            return 200, {}
        if path == "/v1/cni/check":
            if key in self.attached:
                return 200, self.attached[key]
            return 404, {"code": 3, "msg": "no such attachment", "details": ""}
        if path == "/v1/cni/gc":
            return 200, {"released": self.released}
        return 200, {}


class CniTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-cni-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = self.folder + "/sluice.sock"
        self.container = "c" + os.urandom(8).hex()
        self.pod = Pod()
        self.addCleanup(self.pod.end)
        self.daemon = None
        self.start_daemon()
        self.addCleanup(self.end_daemon)
        self.addCleanup(self.delete_veths)

    def start_daemon(self):
        self.daemon = FakeDaemon(self.socket)

    def end_daemon(self):
        if self.daemon:
            self.daemon.end()
            self.daemon = None

    @staticmethod
    def delete_veths():
        for name in link_names():
            if name.startswith("slu"):
                ip("link", "delete", name)

    def start(self, command, config=None, version="1.1.0", **variables):
        environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": self.container, "CNI_NETNS": self.pod.netns,
                       "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
                       "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",
                       **variables}
        text = json.dumps({"cniVersion": version, "name": "sluice", "type": "sluice", "socket": self.socket,
                           "stateDir": self.folder + "/state", **(config or {})})
        process = subprocess.Popen([BINARY], env={k: v for k, v in environment.items() if v is not None},
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process):
        output, errors = process.communicate(timeout=60)
        self.assertIn(process.returncode, (0, 1), errors)
        return process.returncode, json.loads(output) if output else None

    def run_cni(self, command, config=None, version="1.1.0", **variables):
        return self.finish(self.start(command, config, version, **variables))

    def succeed(self, *arguments, **keywords):
        status, output = self.run_cni(*arguments, **keywords)
        self.assertEqual(0, status, output)
        return output

    def fail_with(self, code, *arguments, **keywords):
        status, output = self.run_cni(*arguments, **keywords)
        self.assertEqual(1, status, output)
        self.assertEqual(code, output["code"], output)
        self.assertTrue(output["msg"])
        return output

    def assert_nothing_left(self):
        self.assertEqual(["lo"], link_names())
        self.assertEqual(["lo"], link_names(self.pod.netns))


class Add(CniTest):
    def test_result_has_the_format_of_each_version(self):
        for version in VERSIONS:
            with self.subTest(version):
                result = self.succeed("ADD", version=version)
                host, pod = result.pop("interfaces")
                self.assertEqual({"name": self.daemon.attached[(self.container, "eth0")]["hostIfname"],
                                  "mac": ANSWER["hostMac"]}, host)
                expected = {"name": "eth0", "mac": ANSWER["mac"], "sandbox": self.pod.netns}
                if version == "1.1.0":
                    expected["mtu"] = 1450
                self.assertEqual(expected, pod)
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
                          "network": "sluice", "podNamespace": "default", "podName": "web-0", "podUID": "u-1"}, request)
        self.assertEqual([False, False], self.daemon.pod_was_up)

    def test_two_interfaces_of_one_pod_have_links_of_their_own(self):
        self.succeed("ADD")
        self.succeed("ADD", CNI_IFNAME="net1")
        self.assertEqual(3, len(link_names()))
        self.succeed("DEL", CNI_IFNAME="net1")
        self.assertIn("eth0", link_names(self.pod.netns))
        self.assertNotIn("net1", link_names(self.pod.netns))

    def test_without_kubernetes(self):
        self.succeed("ADD", CNI_ARGS=None)
        self.assertEqual("", self.daemon.requests[0][1]["podName"])

    def test_second_add_fails_and_leaves_the_first_alone(self):
        self.succeed("ADD")
        before = link_of("eth0", self.pod.netns)
        self.fail_with(101, "ADD")
        self.assertEqual(before, link_of("eth0", self.pod.netns))
        self.assertNotIn("/v1/cni/del", self.daemon.paths())

    def test_second_add_fails_if_the_daemon_cannot_say_what_the_link_is(self):
        self.succeed("ADD")
        self.daemon.fail_at["/v1/cni/check"] = "hang up"
        self.fail_with(11, "ADD")
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
        self.assertEqual([], self.daemon.requests)
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
        self.assertFalse(os.path.exists(self.folder + "/state"))

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

    def test_link_is_gone_before_the_address_is_given_back(self):
        self.succeed("ADD")
        seen = []
        act = self.daemon.act
        self.daemon.act = lambda path, request: (seen.extend(link_names()), act(path, request))[1]
        self.succeed("DEL")
        self.assertEqual(["lo"], seen)

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
                shutil.rmtree(self.folder + "/state")

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
    def test_deletes_what_the_daemon_released(self):
        self.succeed("ADD")
        self.succeed("ADD", CNI_IFNAME="net1")
        keep, stale = (self.daemon.attached[(self.container, name)]["hostIfname"] for name in ("eth0", "net1"))
        ip("link", "add", "other", "type", "veth", "peer", "name", "peer")
        self.addCleanup(ip, "link", "delete", "other")
        self.daemon.released = [{"containerID": "gone", "ifname": "eth0", "hostIfname": "slu0123456789a"},
                                {"containerID": "old", "ifname": "eth0", "hostIfname": ""},
                                {"containerID": "bad", "ifname": "eth0", "hostIfname": "other"},
                                {"containerID": self.container, "ifname": "net1", "hostIfname": stale}]
        valid = [{"containerID": self.container, "ifname": "eth0"}]
        self.assertIsNone(self.succeed("GC", {"cni.dev/valid-attachments": valid}))
        self.assertEqual(("/v1/cni/gc", {"network": "sluice", "attachments": valid}), self.daemon.requests[-1])
        self.assertEqual({"lo", "other", "peer", keep}, set(link_names()))

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
        self.daemon.fail_at["/v1/cni/gc"] = (200, {"released": "all"})
        self.fail_with(100, "GC", {"cni.dev/valid-attachments": []})


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
        with open(BINARY, "rb") as file:
            elf = file.read()
        self.assertEqual(b"\x7fELF\x02\x01", elf[:6])
        offset, = struct.unpack_from("<Q", elf, 32)
        size, count = struct.unpack_from("<HH", elf, 54)
        types = [struct.unpack_from("<I", elf, offset + i * size)[0] for i in range(count)]
        self.assertIn(1, types)  # PT_LOAD
        self.assertNotIn(2, types)  # PT_DYNAMIC
        self.assertNotIn(3, types)  # PT_INTERP


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    new_network_namespace()
    unittest.main()
