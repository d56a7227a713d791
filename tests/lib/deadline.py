# SPDX-License-Identifier: Apache-2.0
"""How long the tests wait. A machine that emulates another is slower: SLUICE_DEADLINE_FACTOR multiplies each deadline."""
import os

FACTOR = float(os.environ.get("SLUICE_DEADLINE_FACTOR", "1"))


def deadline(seconds):
    return seconds * FACTOR
