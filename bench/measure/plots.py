# SPDX-License-Identifier: Apache-2.0
"""Plots of what was measured last. Run by Debian's Python, for which scripts/setup --bench installs matplotlib."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MINE, BASE, OTHER, AIM = "#1f6feb", "#6e7781", "#bf8700", "#cf222e"


def draw(folder):
    """From any Python: hands over to the one that has matplotlib."""
    subprocess.run(["/usr/bin/python3", "-m", "measure.plots", os.path.abspath(folder)], cwd=os.path.dirname(HERE), check=True)


def steps(axes, samples, color, label):
    """The share of samples that are at most x."""
    ordered = sorted(samples)
    axes.step(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], where="post", color=color, label=label)


def shares(axes, title, curves, aim):
    for samples, color, label in curves:
        steps(axes, samples, color, label)
    axes.axvline(aim, color=AIM, linestyle=":", linewidth=1, label=f"aim of the median, {aim:g} ms")
    axes.set(title=title, xlabel="ms", ylabel="share at most this", ylim=(0, 1.01))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)


def rows_of(kept):
    return {row["label"]: row["samples"] for row in kept.rows}


def cni(kept, pyplot):
    figure, (add, delete) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    rows = rows_of(kept)
    for axes, name, command, aim in ((add, "cni_add_p50_ms", "ADD", 6), (delete, "cni_del_p50_ms", "DEL", 5)):
        shares(axes, f"CNI {command}, process start to exit",
               [(kept.samples[name], MINE, "Sluice"), (kept.beside[name], BASE, "ptp + host-local"),
                (rows[f"{command}, bridge + host-local"], OTHER, "bridge + host-local")], aim)
    return figure


def deny(kept, pyplot):
    figure, (write, event) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    shares(write, "API write to first denied connection", [
        (kept.samples["write_to_deny_p50_ms"], MINE, "first denied connection"),
        (kept.beside["write_to_deny_p50_ms"], BASE, "a plain watcher sees the write")], 30)
    shares(event, "a plain watcher sees it, to first denied connection", [
        (rows_of(kept)["event to deny, same node"], MINE, "same node"),
        (rows_of(kept)["event to deny, other node"], OTHER, "other node")], 5)
    event.set_xlim(left=None)
    return figure


def paths(kept, pyplot):
    from measure.figures import BY_NAME
    rows = rows_of(kept)
    figure, all_axes = pyplot.subplots(1, 4, figsize=(14, 4))
    titles = {"rr": "request/response\nmedian latency", "bulk": "one TCP stream\nthroughput",
              "crr": "connect, request, close\nrate", "udp": "datagrams of 64 bytes\nrate"}
    for axes, kind in zip(all_axes, titles):
        stem = kind + ("_p50" if kind == "rr" else "")
        columns = [("pods,\nsame node", kept.samples.get(f"same_{stem}_x"), MINE, f"same_{stem}_x"),
                   ("Linux\nbridge", rows.get(f"{stem}, a Linux bridge / bare"), BASE, None),
                   ("pods,\nVXLAN", kept.samples.get(f"cross_{stem}_x"), MINE, f"cross_{stem}_x"),
                   ("VXLAN\nalone", rows.get(f"{stem}, a VXLAN device alone / bare"), BASE, None),
                   ("nodes,\nno VXLAN", rows.get(f"{stem}, the nodes themselves, without VXLAN / bare"), BASE, None)]
        columns = [c for c in columns if c[1]]
        boxes = axes.boxplot([c[1] for c in columns], labels=[c[0] for c in columns], widths=0.6, patch_artist=True,
                             whis=(5, 95), showfliers=False, medianprops={"color": "black"})
        for i, (box, column) in enumerate(zip(boxes["boxes"], columns)):
            box.set(facecolor=column[2], alpha=0.6)
            if column[3]:
                axes.hlines(BY_NAME[column[3]].aim, i + 0.6, i + 1.4, color=AIM, linestyle=":")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_title(titles[kind], fontsize=10)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="y", alpha=0.3)
    all_axes[0].set_ylabel("× bare veth pair")
    return figure


def generation(kept, pyplot):
    from measure.figures import median
    names = ("compile", "build", "fill", "load", "check", "swap")
    rows = rows_of(kept)
    figure, axes = pyplot.subplots(figsize=(10, 2.4))
    left = 0.0
    for i, name in enumerate(names):
        width = median(rows[f"generation: {name}"])
        axes.barh(1, width, left=left, color=pyplot.get_cmap("Blues")(0.85 - 0.12 * i), label=f"{name} {width:.2f} ms")
        left += width
    kernel = median(kept.samples["generation_kernel_ms"])
    axes.barh(0, kernel, color=BASE, label=f"of it in bpf() {kernel:.2f} ms")
    nft = median(kept.beside["generation_ms"])
    axes.barh(-1, nft, color=OTHER, label=f"nft -f, one chain replaced {nft:.2f} ms")
    axes.set(yticks=[1, 0, -1], yticklabels=["Sluice", "in the kernel", "nft"], xlabel="ms, medians",
             title="one of 1,000 policies changes, 100 endpoints")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.grid(axis="x", alpha=0.3)
    return figure


def main(folder):
    import matplotlib
    matplotlib.use("svg")
    # The same samples give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "sluice", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot
    from measure import record
    os.makedirs(folder, exist_ok=True)
    for plot in (cni, deny, paths, generation):
        kept = record.load(plot.__name__)
        if kept is None or not kept.samples:
            print(f"plots: nothing was measured of {plot.__name__}", file=sys.stderr)
            continue
        figure = plot(kept, pyplot)
        figure.savefig(os.path.join(folder, plot.__name__ + ".svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
