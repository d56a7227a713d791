# SPDX-License-Identifier: Apache-2.0
"""What the tests of the CNI binary stand on: namespaces, a fake daemon, running the binary.

Needs root and iproute2. The process moves to a new network namespace, which is the host's for the test; a pod is a process
that sleeps in another.
"""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
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


def parsed(netns, *command):
    """The JSON that the command prints in the namespace; none: an empty list."""
    enter = ["nsenter", "--net=" + netns] if netns else []
    done = subprocess.run(enter + list(command), check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else []


def ip(*arguments, netns=None):
    return parsed(netns, "ip", "-j", *arguments)


def tc(netns, *arguments):
    return parsed(netns, "tc", "-j", *arguments)


def link_names(netns=None):
    return [link["ifname"] for link in ip("link", "show", netns=netns)]


def link_of(name, netns=None):
    return next((link for link in ip("-d", "address", "show", netns=netns) if link["ifname"] == name), None)


def root_of(name, netns=None):
    """(kind, bytes a second, bytes of a burst, microseconds that a packet may wait) of the link's queueing discipline."""
    qdiscs = tc(netns, "qdisc", "show", "dev", name, "root")
    options = qdiscs[0].get("options", {}) if qdiscs else {}
    return qdiscs[0]["kind"] if qdiscs else None, options.get("rate"), options.get("burst"), options.get("lat")


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
        self.queue_was_there = None
        self.deletes_links = True
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
            self.queue_was_there = root_of(request["hostIfname"])[0] == "tbf"
            ip("link", "set", request["hostIfname"], "up")
            self.attached[key] = dict(self.answer, hostIfname=request["hostIfname"])
            return 200, self.attached[key]
        if path == "/v1/cni/del":
            attached = self.attached.pop(key, None)
            if attached and self.deletes_links and attached["hostIfname"] in link_names():
                ip("link", "delete", attached["hostIfname"])
            return 200, {}
        if path == "/v1/cni/check":
            if key in self.attached:
                return 200, self.attached[key]
            return 404, {"code": 3, "msg": "no such attachment", "details": ""}
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
        os.makedirs(self.folder + "/state/deletions", exist_ok=True)
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


def main():
    """Arguments: the binary, then those of unittest."""
    global BINARY
    BINARY = os.path.abspath(sys.argv.pop(1))
    new_network_namespace()
    unittest.main()
