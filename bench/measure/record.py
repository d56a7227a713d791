# SPDX-License-Identifier: Apache-2.0
"""What a group has measured, kept in build/bench so that a table can be made of several runs."""
import json
import os
import platform
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "build", "bench")


class Record:
    """`samples`: figure -> its samples; `beside`: figure -> the baseline's; `processors`: figure -> where it was measured;
    `rows`: what else is worth a line."""

    def __init__(self):
        self.samples, self.beside, self.processors, self.rows, self.missing = {}, {}, {}, [], ""
        self.conditions = ""

    def put(self, name, samples, beside):
        self.samples[name], self.beside[name], self.processors[name] = list(samples), list(beside), processor()

    def row(self, label, unit, samples):
        self.rows.append({"label": label, "unit": unit, "samples": list(samples)})

    def save(self, group):
        """Figures measured before that were not measured this time stay."""
        os.makedirs(FOLDER, exist_ok=True)
        before = load(group)
        if before and not self.missing:
            self.samples = {**before.samples, **self.samples}
            self.beside = {**before.beside, **self.beside}
            self.processors = {**before.processors, **self.processors}
            labels = {row["label"] for row in self.rows}
            self.rows = [row for row in before.rows if row["label"] not in labels] + self.rows
        path = os.path.join(FOLDER, group + ".json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump({**self.__dict__, "machine": machine(), "time": time.strftime("%Y-%m-%d %H:%M")}, file)
        os.rename(path + ".new", path)


def load(group):
    try:
        with open(os.path.join(FOLDER, group + ".json"), encoding="utf-8") as file:
            kept = json.load(file)
    except FileNotFoundError:
        return None
    record = Record()
    record.__dict__.update(kept)
    return record


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def machine():
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return f"{os.cpu_count()} × {processor()}, Linux {platform.release().split('-')[0]}, Sluice {commit}"
