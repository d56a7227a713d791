# SPDX-License-Identifier: Apache-2.0
"""The chart: lints clean, manifests/ is what it renders to, values are checked."""
import os
import subprocess

from lib.cluster import CACHE, ROOT

BAD_VALUES = ["mtu=12", "apiServer.port=0", "removal.timeLimitSeconds=0", "attach=xdp", "logLevel=verbose", "image.repository=", "unknown=1", "seccompProfile.type=None", "appArmorProfile.type=None",
              "cni.version=2.0.0", "cni.bandwidth=1M", "cni.exclusive=all", "cni.chainedPlugins[0].snat=true", "cni.chainedPlugins[0].type=bandwidth"]


def run(_cluster, report):
    def execute(*command):
        path = os.environ["PATH"] + ":" + os.path.join(CACHE, "cluster", "bin")
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
        return done.returncode == 0, done.stdout + done.stderr

    report.check("helm lint, and manifests/sluice.yaml is what the chart renders to",
                 *execute(os.path.join(ROOT, "scripts", "manifests"), "--check"))
    template = ("helm", "template", "sluice", os.path.join(ROOT, "charts", "sluice"))
    for version, field in {"1.29.4": "apparmor.security.beta.kubernetes.io/sluiced: unconfined", "1.30.0": "appArmorProfile:"}.items():
        good, text = execute(*template, "--kube-version", version)
        report.check(f"Kubernetes {version} is told of AppArmor as it knows it", good and field in text and
                     ("beta" in text) == (version < "1.30"), text[-400:] if not good else "")
    good, text = execute(*template, "--set", "cni.version=0.4.0")
    report.check("the list names no version above cni.version", good and '"cniVersions": ["0.3.1","0.4.0"]' in text and
                 '"cniVersion": "0.4.0"' in text, text[-400:] if not good else "")
    good, text = execute(*template, "--no-hooks")
    report.check("only hooks of helm uninstall remove anything", good and "remov" not in text, text[-400:])
    for value in BAD_VALUES:
        good, text = execute(*template, "--set", value)
        report.check(f"the chart refuses {value}", not good and "schema" in text, text[-400:])
