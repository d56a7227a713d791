# SPDX-License-Identifier: Apache-2.0
"""What is run on each kernel, by tests/kernels/run in the guest: stages.py BUILD_FOLDER STAGE[:PART:PART]...

A stage writes OUT/STAGE.log and one line of OUT/results: a JSON object with its name, what passed and failed, what is lacking
(tests that found this kernel unable to do what they are about, by name, with the reason), and its seconds.
"""
import glob
import json
import os
import re
import subprocess
import sys
import time

OUT = "/out"
ENVIRONMENT = {
    "SLUICE_DEADLINE_FACTOR": "10",  # a guest is so much slower, also where something else runs beside it
    "SLUICE_FORGED": "1000",  # packets
}
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# Of the netns tier, what shows that the functions work, by class. The rest is about load, faults and time: on the machine's
# own kernel.
NETNS = {
    "NodeTest": "standalone_test.py", "TwoNodesTest": "standalone_test.py",
    "ServiceTest": "service_test.py", "ServiceTwoNodesTest": "service_test.py",
}


def run(log, *command):
    """(exit status, output)"""
    print("$", *command, file=log, flush=True)
    begin = log.tell()
    done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT,
                          env={**ENVIRONMENT, **os.environ})
    log.seek(begin)
    return done.returncode, log.read()


def verifier(build, log, parts):
    status, output = run(log, f"{build}/tests/kernels/sluice-verifier", *sorted(glob.glob(f"{build}/bpf/*.bpf.o")))
    told = re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    programs = re.findall(r"^(?:passed|FAILED) +(\w+) +(\d+) instructions", output, re.M)
    most = max(programs, key=lambda program: int(program[1]), default=None)
    return {"passed": int(told[1]) if told else 0, "failed": int(told[2]) if told else 1, "good": status == 0,
            "failures": re.findall(r"^FAILED +(\w+)", output, re.M), "programs": {n: int(c) for n, c in programs},
            "most": f"{most[0]} {int(most[1]):,}" if most else ""}


def demo(build, log, parts):
    status, output = run(log, sys.executable, "-B", f"{TOP}/scripts/demo", "--built", build, "--changes", "20", "--json")
    last = output.strip().splitlines()[-1] if output.strip() else ""
    told = json.loads(last) if last.startswith("{") else {}
    return {"passed": int(status == 0), "failed": int(status != 0), "failures": [] if status == 0 else [f"exit {status}"],
            "sent": told.get("sent"), "lost": told.get("lost")}


def bpf(build, log, parts):
    """parts: these of the suites. Without those that fill Sluice's own table with thousands of connections, which ask nothing of a
    kernel and take minutes where it is emulated."""
    program, report = f"{build}/tests/bpf/sluice_bpf_tests", f"{OUT}/bpf.json"
    chosen = f"--gtest_filter={':'.join(f'{part}.*' for part in parts) or '-Crowd.*:Reclaim.*'}"
    status, output = run(log, program, f"--gtest_output=json:{report}", chosen)
    if not os.path.exists(report):  # it was killed
        return {"passed": 0, "failed": 1, "failures": [f"exit status {status}"]}
    with open(report) as file:
        tests = {f"{test['classname']}.{test['name']}": test for suite in json.load(file)["testsuites"] for test in suite["testsuite"]
                 if test["status"] == "RUN"}
    failures = [name for name, test in tests.items() if "failures" in test]
    # The report does not have the reasons.
    reasons = dict(re.findall(r"^\[ RUN      \] (\S+)\n(?:(?!\[ RUN)[^\n]*\n)*?[^\n]*: Skipped\n([^\n]*)", output, re.M))
    lacking = {name: reasons[name] for name, test in tests.items() if test["result"] == "SKIPPED"}
    return {"passed": len(tests) - len(failures) - len(lacking), "failed": len(failures), "failures": failures,
            "lacking": lacking, "good": status == 0 and len(tests) > 0}


def unittests(build, log, file, *names):
    status, output = run(log, sys.executable, "-B", f"{TOP}/tests/{file}", build, *names)
    ran = re.search(r"^Ran (\d+) tests? in", output, re.M)
    failures = re.findall(r"^(?:FAIL|ERROR): (.+)$", output, re.M)
    lacking = dict(re.findall(r"^(\w+ \(\S+\))(?:\n[^\n]*)? \.\.\. skipped '(.*)'$", output, re.M))
    passed = (int(ran[1]) if ran else 0) - len(failures) - len(lacking)
    if not failures and (status != 0 or passed + len(lacking) == 0):
        failures = [f"{' '.join((file, *names))}: exit status {status}"]
    return {"passed": max(0, passed), "failed": len(failures), "failures": failures, "lacking": lacking}


def netns(build, log, parts):
    """parts: these of the classes."""
    total = {"passed": 0, "failed": 0, "failures": [], "lacking": {}}
    for name in parts or NETNS:
        begin = time.monotonic()
        one = unittests(build, log, f"netns/{NETNS[name]}", name)
        print(f"{name}: {one['passed']} passed, {one['failed']} failed, {time.monotonic() - begin:.0f} s", file=log, flush=True)
        total = {what: before | one[what] if what == "lacking" else before + one[what] for what, before in total.items()}
    return total


def sctp(build, log, parts):
    return unittests(build, log, "kernels/sctp_test.py", *parts)


def apparmor(build, log, parts):
    return unittests(build, log, "kernels/apparmor_test.py", *parts)


def uplinks(build, log, parts):
    return unittests(build, log, "kernels/vlan_wireguard_test.py", *parts)


def main():
    build = os.path.realpath(sys.argv[1])
    for stage, *parts in (argument.split(":") for argument in sys.argv[2:]):
        begin = time.monotonic()
        with open(f"{OUT}/{stage}.log", "a+", errors="replace") as log:
            result = globals()[stage](build, log, parts)
        if not result.pop("good", True) and not result["failed"]:
            result["failed"], result["failures"] = 1, ["exit status"]
        with open(f"{OUT}/results", "a") as results:
            print(json.dumps({"stage": stage, "seconds": round(time.monotonic() - begin), **result}), file=results)


if __name__ == "__main__":
    main()
