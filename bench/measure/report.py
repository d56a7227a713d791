# SPDX-License-Identifier: Apache-2.0
"""The table and the JSON object."""
import json

from measure import record
from measure.figures import BY_NAME, FIGURES, median


def number(value):
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def results(names):
    """name -> {value, baseline, min, max, median}; None: not measured."""
    out = {}
    records = {}
    for name in names:
        figure = BY_NAME[name]
        kept = records.setdefault(figure.group, record.load(figure.group))
        samples = kept.samples.get(name) if kept else None
        out[name] = samples and {
            "value": figure.statistic(samples), "baseline": figure.statistic(kept.beside[name]),
            "min": min(samples), "max": max(samples), "median": median(samples),
            "processor": kept.processors.get(name, "not recorded")}
    return out, records


def print_table(names):
    measured, records = results(names)
    head = ("figure", "value", "baseline", "", "min", "median", "max", "aim", "", "processor")
    lines = [head]
    for figure in (f for f in FIGURES if f.name in names):
        got = measured[figure.name]
        aim = f"{'≥' if figure.more_is_better else '≤'} {figure.aim:g}"
        if got is None:
            kept = records[figure.group]
            lines.append((figure.name, "not measured", "", kept.missing if kept else "", "", "", "", aim, "", ""))
            continue
        lines.append((figure.name, f"{number(got['value'])} {figure.unit}",
                      f"{number(got['baseline'])} {figure.baseline_unit}", figure.baseline,
                      *(number(got[k]) for k in ("min", "median", "max")), aim,
                      "met" if figure.met(got["value"]) else "MISSED", got["processor"]))
    print_columns(lines)
    rows = [(row["label"], f"{number(median(row['samples']))} {row['unit']}", number(min(row["samples"])),
             number(max(row["samples"]))) for kept in records.values() if kept for row in kept.rows]
    if rows:
        print("\nbeside them")
        print_columns([("", "median", "min", "max"), *rows])
    for group, kept in records.items():
        if kept:
            print(f"\n{group}: {kept.time}, {kept.machine}" + (f"; {kept.conditions}" if kept.conditions else ""))


def print_markdown(names):
    """The table of docs/performance.md."""
    measured, _ = results(names)
    print("| figure | value | beside it | min – median – max | aim | | processor |\n|---|---|---|---|---|---|---|")
    for figure in (f for f in FIGURES if f.name in names):
        got = measured[figure.name]
        aim = f"{'≥' if figure.more_is_better else '≤'} {figure.aim:g}"
        if got is None:
            print(f"| `{figure.name}` | not measured | {figure.baseline} | | {aim} | | |")
            continue
        spread = " – ".join(number(got[k]) for k in ("min", "median", "max"))
        print(f"| `{figure.name}` | {number(got['value'])} {figure.unit} | {figure.baseline}: {number(got['baseline'])} "
              f"{figure.baseline_unit} | {spread} | {aim} | {'met' if figure.met(got['value']) else '**missed**'} | {got['processor']} |")


def print_columns(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def write_json(names, path):
    measured, _ = results(names)
    fields = ("value", "baseline", "min", "max")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({name: {field: round(got[field], 4) if got else None for field in fields}
                   for name, got in measured.items()}, file, indent=1)
        file.write("\n")
