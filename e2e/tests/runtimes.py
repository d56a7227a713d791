# SPDX-License-Identifier: Apache-2.0
"""The network as runtimes of other versions call it: each version's own library, with the list that the chart has put on the node."""
import json
import os
import subprocess

from lib.cluster import CACHE

# The library's version, which containerd has it, and the version of the CNI specification that it then speaks.
LIBRARIES = [("v1.1.1", "containerd 1.6", "1.0.0"), ("v1.1.2", "containerd 1.7", "1.0.0"), ("v1.2.3", "containerd 2.0", "1.1.0"),
             ("v1.3.1", "containerd 2.1", "1.1.0")]
CONTAINER = "/run/netns/runtimes"


def run(cluster, report):
    node = next(iter(cluster.nodes))
    for library, runtime, spoken in LIBRARIES:
        def call(command, version=library):
            return cluster.script("on", node, "env", "CNI_PATH=/opt/cni/bin", "NETCONFPATH=/etc/cni/net.d",
                                  os.path.join(CACHE, "cluster", "bin", "cnitool-" + version), command, "sluice", CONTAINER)
        cluster.script("on", node, "ip", "netns", "add", os.path.basename(CONTAINER))
        try:
            result = json.loads(call("add"))
            report.check(f"{runtime} (libcni {library}) speaks {spoken}", result["cniVersion"] == spoken, result["cniVersion"])
            gateway = result["ips"][0]["gateway"]
            report.check(f"{runtime}: the container reaches its gateway", reaches(cluster, node, gateway))
            call("check")
            call("del")
            report.check(f"{runtime}: add, check and del", True)
        except (RuntimeError, ValueError, KeyError) as error:
            report.check(f"{runtime}: add, check and del", False, error)
        finally:
            cluster.script("on", node, "ip", "netns", "del", os.path.basename(CONTAINER))


def reaches(cluster, node, address):
    done = subprocess.run([os.path.join(os.path.dirname(os.path.dirname(__file__)), "cluster"), "on", node, "ip", "netns", "exec",
                           os.path.basename(CONTAINER), "ping", "-c", "1", "-W", "2", address], env=cluster.environment,
                          capture_output=True, check=False)
    return done.returncode == 0
