# SPDX-License-Identifier: Apache-2.0
"""Resident memory of the daemon on a Kubernetes API: with a small cluster, and with 10,000 pods known."""
import os
import socket
import subprocess
import time

from measure import fake_api
from sluice_node import Node, Pod
from traffic import bound

SANDBOX = True
SETTLE = 12.0  # seconds: the first collections are over
LOOKS = 5
PORT = 8001


def memory_mb(pid, field):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":")) / 1024


def daemon_memory(options, name, pods, policies, local):
    """Starts a daemon on an API with so many pods, attaches `local` of them, and looks several times."""
    node = Node(options.build, name, "10.83.0.0/22")
    listener = bound(node, socket.SOCK_STREAM, PORT, "127.0.0.1")
    lists = fake_api.objects(pods, policies, name, "10.83.0.0/22")
    fake_api.Server(listener, lists)
    node.start_daemon(source=["--source=kube", f"--kubeconfig={fake_api.kubeconfig(node.home, PORT)}"], wait=False)
    node.wait_ready(60)
    for item in lists["pods"][:local]:
        node.attach(Pod(node, item["metadata"]["namespace"], item["metadata"]["name"]))
    time.sleep(SETTLE)
    looks = []
    for _ in range(LOOKS):
        looks.append(memory_mb(node.daemon.pid, "VmRSS"))
        time.sleep(0.5)
    peak = memory_mb(node.daemon.pid, "VmHWM")
    node.kill_daemon()
    return looks, peak


def least_memory(options):
    """Of a program that has the same libraries loaded and waits: sluicectl on a socket that never answers."""
    path = "/run/silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(1)
        with subprocess.Popen([os.path.join(options.build, "cli", "sluicectl"), "--socket", path, "status"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(0.5)
            looks = [memory_mb(process.pid, "VmRSS") for _ in range(LOOKS)]
            process.kill()
    return looks


def measure(record, options):
    idle, idle_peak = daemon_memory(options, "idle", 40, 10, 20)
    record.put("rss_idle_mb", idle, least_memory(options))
    record.row("peak, idle", "MB", [idle_peak])
    if "rss_10k_mb" in options.names:
        many, many_peak = daemon_memory(options, "many", 10000, 1000, 100)
        record.put("rss_10k_mb", many, idle)
        record.row("peak, 10,000 pods", "MB", [many_peak])
    record.conditions = "idle: 40 pods, 10 policies, 20 pods attached; 10,000 pods: 1,000 policies, 100 pods attached"
