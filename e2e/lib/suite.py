# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own end-to-end specs (e2e.test) against the cluster, by ginkgo; each spec is a check."""
import collections
import contextlib
import os
import re
import subprocess
import xml.etree.ElementTree

from lib.cluster import CACHE, HERE, wait_for

PARTS = os.path.join(CACHE, "cluster", "bin")
PROCESSES = 4  # specs at a time: most of their time they wait
LIMIT = "40m"
# What cannot be run here, and why.
LEFT_OUT = {
    r"SCTPConnectivity": "the machines' kernels have no SCTP sockets (CONFIG_IP_SCTP)",
    r"Feature:IPv6DualStack|\[Feature:Networking-IPv6\]": "IPv6 is not built yet",
    r"LoadBalancer|load balancer|Provider:|Networking-Performance|GKE|\[Feature:NEG\]": "there is no cloud",
    r"Internet|\[Feature:Networking-IPv4\]": "there is no Internet",
    r"kube-proxy|KubeProxy": "there is no kube-proxy whose own endpoints could be asked",
    r"configurable pod resolv\.conf": "its DNS server is the agnhost image's CoreDNS, which is not built from the module",
    r"\[Serial\]|\[Disruptive\]": "takes the cluster for itself; those of this tier do the like: daemon_down, api_away, churn",
    r"\[Slow\]": "minutes each, for the sake of timeouts",
    r"evicted": "evicts pods by filling the machine's own disk",
}
# Where e2e.test was built, in its messages and the names that it lists.
BUILT_AT = re.compile(r"\S*/pkg/mod/")
Spec = collections.namedtuple("Spec", "name outcome detail seconds")


def install_dns(cluster):
    """CoreDNS at the address that kubelets tell pods."""
    cluster.kubectl("apply", "-f", os.path.join(HERE, "coredns.yaml"))
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    wait_for("every node to serve DNS", lambda: all(
        [s for s in cluster.sluicectl(node, "service", "list")["services"]
         if s["service"].startswith("kube-system/kube-dns:") and s["backends"]] for node in cluster.nodes), 60)


def specs(focus):
    """Names of those that the focus (a regular expression) chooses."""
    listed = subprocess.run([os.path.join(PARTS, "e2e.test"), "--list-tests"], capture_output=True, text=True, check=False).stdout
    names = {line[line.index("[sig-"):] for line in listed.splitlines() if line.startswith("    ") and "[sig-" in line}
    return sorted(name for name in names if re.search(focus, name))


def why_not(name):
    return next((reason for pattern, reason in LEFT_OUT.items() if re.search(pattern, name)), None)


def ginkgo(cluster, name, focus, skip):
    folder = os.path.join(cluster.run_dir, "suite")
    os.makedirs(folder, exist_ok=True)
    report = os.path.join(folder, name + ".xml")
    command = [
        "nsenter", f"--net={cluster.cp.path}", os.path.join(PARTS, "ginkgo"), f"--procs={PROCESSES}", "--no-color",
        "--silence-skips", f"--timeout={LIMIT}", f"--output-dir={folder}", f"--junit-report={name}.xml", f"--focus={focus}",
        f"--skip={'|'.join([*LEFT_OUT, *skip])}", os.path.join(PARTS, "e2e.test"), "--", "--provider=skeleton",
        f"--kubeconfig={os.path.join(cluster.run_dir, 'admin.kubeconfig')}", f"--kubectl-path={os.path.join(PARTS, 'kubectl')}",
        f"--num-nodes={len(cluster.nodes)}", "--minStartupPods=0", "--allowed-not-ready-nodes=0", "--dump-logs-on-failure=false"]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(report)  # of an earlier run
    with open(os.path.join(cluster.run_dir, "log", f"suite-{name}.log"), "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False,
                       env={**os.environ, "PATH": f"{PARTS}:{os.environ['PATH']}"})
    return report


def results(report):
    """Of the specs that were run, or began to be and then skipped themselves."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "")
        if not name.startswith("[It] "):
            continue
        skipped = case.find("skipped")
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if skipped is not None:
            message = skipped.get("message") or "skipped"
            if message != "skipped":
                yield Spec(name[5:], "skipped", message.removeprefix("skipped - ").splitlines()[0], 0)
        else:
            yield Spec(name[5:], "failed" if bad is not None else "passed",
                       "" if bad is None else BUILT_AT.sub("", f"{bad.get('message') or ''} {bad.text or ''}")[:1500],
                       float(case.get("time")))


def await_namespaces(cluster):
    """Until those of the specs are gone: their packets would be in the air when the accounts are read."""
    wait_for("the specs' namespaces to be gone", lambda: not cluster.kubectl(
        "get", "namespaces", "-l", "e2e-framework", "-o", "name").strip(), 600)  # pods may take minutes to end


def run(cluster, report, name, focus, least, skip=()):
    """`least`: how many specs must have been run, so that a focus that chooses nothing does not pass. `skip`: patterns of
    specs that are another group's."""
    for spec in specs(focus):
        if any(re.search(pattern, spec) for pattern in skip):
            continue
        if reason := why_not(spec):
            report.note(f"left out, {reason}: {spec}")
    install_dns(cluster)
    path = ginkgo(cluster, name, focus, skip)
    if not report.check(f"{name}: the specs run to their end", os.path.exists(path), f"see log/suite-{name}.log"):
        return
    await_namespaces(cluster)
    found = list(results(path))
    for spec in sorted(found):
        if spec.outcome == "skipped":
            report.note(f"skips itself, {spec.detail}: {spec.name}")
        else:
            report.check(f"{spec.name} ({spec.seconds:.0f} s)", spec.outcome == "passed", spec.detail)
    ran = sum(spec.outcome != "skipped" for spec in found)
    report.check(f"{name}: {ran} specs run", ran >= least, f"at least {least} should have been")
