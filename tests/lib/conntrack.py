# SPDX-License-Identifier: Apache-2.0
"""The connection table as it is in the kernel, past the daemon."""
import json
import subprocess


def conntrack_entries(pins):
    """How many entries it has. `pins`: the folder of pinned maps."""
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{pins}/conntrack_groups"], capture_output=True, text=True,
                          check=True)
    words = (word for group in json.loads(done.stdout) for tags in group["formatted"]["value"]["tags"] for word in tags["word"])
    return sum(word >> shift & 0x8000 != 0 for word in words if word for shift in (0, 16, 32, 48))


def conntrack_uses(pins):
    """How many entries each owner has by its counter, of those that have any; and all of them."""
    done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{pins}/conntrack_use"], capture_output=True, text=True,
                          check=True)
    uses = {element["formatted"]["key"]: element["formatted"]["value"] for element in json.loads(done.stdout)}
    every = uses.pop(max(uses))
    return {owner: entries for owner, entries in uses.items() if entries}, every
