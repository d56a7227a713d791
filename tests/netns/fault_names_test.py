#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is released has no fault point; the tests' own binaries have every one between them.

    fault_names_test.py BUILD_FOLDER
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from faults_test import points  # noqa: E402

RELEASED = ("daemon/sluiced", "cni/sluice-cni", "cli/sluicectl")
FAULTY = ("tests/netns/sluiced-faulty", "tests/netns/sluice-cni-faulty")


def names_in(build, binaries):
    found = set()
    for binary in binaries:
        with open(os.path.join(build, binary), "rb") as file:
            content = file.read()
        found |= {name for name in (*points(), "SLUICE_FAULT") if name.encode() in content}
    return found


released, faulty = names_in(sys.argv[1], RELEASED), names_in(sys.argv[1], FAULTY)
missing = {*points(), "SLUICE_FAULT"} - faulty
if released or missing or not points():
    sys.exit(f"released binaries have {sorted(released)}; the faulty ones lack {sorted(missing)}")
print(f"{len(points())} points in the faulty binaries, none in {', '.join(RELEASED)}")
