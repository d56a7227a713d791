# SPDX-License-Identifier: Apache-2.0
"""What is run on each kernel, by tests/kernels/run in the guest: stages.py BUILD_FOLDER STAGE...

A stage writes OUT/STAGE.log and one line of OUT/results: a JSON object with its name, what passed and failed, and its
seconds.
"""
import glob
import json
import os
import re
import subprocess
import sys
import time

OUT = "/out"
DEADLINE_FACTOR = "20"  # a guest on a busy machine is so much slower
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def run(log, *command):
    """(exit status, output)"""
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          env={**os.environ, "SLUICE_DEADLINE_FACTOR": DEADLINE_FACTOR})
    log.write(done.stdout)
    log.flush()
    return done.returncode, done.stdout


def verifier(build, log):
    status, output = run(log, f"{build}/tests/kernels/sluice-verifier", *sorted(glob.glob(f"{build}/bpf/*.bpf.o")))
    told = re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    programs = re.findall(r"^(?:passed|FAILED) +(\w+) +(\d+) instructions", output, re.M)
    most = max(programs, key=lambda program: int(program[1]), default=None)
    return {"passed": int(told[1]) if told else 0, "failed": int(told[2]) if told else 1, "good": status == 0,
            "failures": re.findall(r"^FAILED +(\w+)", output, re.M), "programs": {n: int(c) for n, c in programs},
            "most": f"{most[0]} {int(most[1]):,}" if most else ""}


def demo(build, log):
    status, output = run(log, sys.executable, "-B", f"{TOP}/scripts/demo", "--built", build, "--changes", "20", "--json")
    last = output.strip().splitlines()[-1] if output.strip() else ""
    told = json.loads(last) if last.startswith("{") else {}
    return {"passed": int(status == 0), "failed": int(status != 0), "failures": [] if status == 0 else [f"exit {status}"],
            "sent": told.get("sent"), "lost": told.get("lost")}


def unittests(build, log, file):
    status, output = run(log, sys.executable, "-B", f"{TOP}/tests/kernels/{file}", build)
    ran = re.search(r"^Ran (\d+) tests? in", output, re.M)
    failures = re.findall(r"^(?:FAIL|ERROR): (.+)$", output, re.M)
    if status != 0 and not failures:
        failures = [f"exit {status}"]
    return {"passed": max(0, (int(ran[1]) if ran else 0) - len(failures)), "failed": len(failures), "failures": failures}


def sctp(build, log):
    return unittests(build, log, "sctp_test.py")


def apparmor(build, log):
    return unittests(build, log, "apparmor_test.py")


def main():
    build = os.path.realpath(sys.argv[1])
    for stage in sys.argv[2:]:
        begin = time.monotonic()
        with open(f"{OUT}/{stage}.log", "w") as log:
            result = globals()[stage](build, log)
        if not result.pop("good", True) and not result["failed"]:
            result["failed"], result["failures"] = 1, ["exit status"]
        with open(f"{OUT}/results", "a") as results:
            print(json.dumps({"stage": stage, "seconds": round(time.monotonic() - begin), **result}), file=results)


if __name__ == "__main__":
    main()
