"""The results as a picture: what each peer takes beside minisched, and how the cost grows with the number of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")  # nothing is shown on a screen
from matplotlib import pyplot

from .catalogue import LIMIT, LIMITS, OURS, PEERS
from .results import Results

SHOWN = ("switch", "syscall", "spawn", "fan", "sleep", "timeout", "queue", "lock", "cancel", "memory", "import")
STYLES = {OURS: "o-", LIMIT: "+--", "bare epoll": "+--", "asyncio": "x:", "asyncio streams": "x:"}  # of the curves
COLOURS = dict(zip(PEERS, pyplot.get_cmap("tab20").colors, strict=False))
WIDTH = 8.5  # inches


def draw(results: Results, file: Path) -> None:
    """Write the picture, as .svg or .png."""
    curves = sorted({name.partition("@")[0] for name in results.values if "@" in name})
    parts = [part for part, there in ((bars, bar_names(results)), (echo_bars, echo_names(results))) if there]
    rows = len(parts) + (1 if curves else 0)
    matplotlib.rcParams["svg.hashsalt"] = "minisched"  # the same picture from the same results
    figure, axes = pyplot.subplots(rows, 1, figsize=(WIDTH, 4.2 * rows), squeeze=False, layout="constrained")
    for part, axis in zip(parts, axes[:, 0], strict=False):
        part(axis, results)
    if curves:
        scale(axes[-1, 0], results, curves)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})
    pyplot.close(figure)


def bar_names(results: Results) -> list[str]:
    return [name for name in SHOWN if name in results.values]


def echo_names(results: Results) -> list[str]:
    return [name for name in results.values if name.startswith("echo_") and name.endswith(" time")]


def bars(axis: Any, results: Results) -> None:
    """Draw how many times as long as minisched each peer takes."""
    names = bar_names(results)
    grouped(axis, results, names, names)
    axis.set_title(f"How many times as long, or as much memory, as {OURS} (Python {results.python})", loc="left")


def echo_bars(axis: Any, results: Results) -> None:
    """Draw the same of a message through an echo server."""
    names = echo_names(results)
    labels = [name.removeprefix("echo_").removesuffix(" time").replace("x", " x ", 1) for name in names]
    grouped(axis, results, names, labels)
    axis.set_title(
        f"An echo server: time of a message beside {OURS}, of the throughput (connections x size)", loc="left"
    )


def grouped(axis: Any, results: Results, names: list[str], labels: list[str]) -> None:
    """Draw a group of bars for each series, a bar for each peer, on a logarithmic scale around 1."""
    ratios = results.ratios()
    peers = [peer for peer in PEERS if any(peer in ratios.get(name, {}) for name in names)]
    width = 0.8 / max(len(peers), 1)
    for number, peer in enumerate(peers):
        there = [(place, ratios[name][peer]) for place, name in enumerate(names) if peer in ratios.get(name, {})]
        places = [place - 0.4 + (number + 0.5) * width for place, _ in there]
        axis.bar(
            places, [ratio - 1 for _, ratio in there], width, bottom=1, label=peer, color=COLOURS[peer],
            hatch="///" if peer in LIMITS else None, edgecolor="white", linewidth=0.3,
        )  # fmt: skip
    axis.set_yscale("log")
    axis.axhline(1, color="black", linewidth=1)
    axis.set_xticks(range(len(names)), labels, rotation=20, ha="right")
    for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}x" if f"{value:e}"[0] in "12357" else "")  # the others lie too close
    axis.legend(fontsize="x-small", ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def scale(axis: Any, results: Results, curves: list[str]) -> None:
    """Draw how the cost of one operation grows with the number of tasks or connections."""
    for name in curves:
        points = [(int(one.partition("@")[2]), one) for one in results.values if one.partition("@")[0] == name]
        for peer, style in STYLES.items():
            there = [(size, value) for size, one in points if (value := results.value(one, peer)) is not None]
            if there:
                label = f"{peer}: {name.removeprefix('scale_')}"
                axis.plot([size for size, _ in there], [value * 1e6 for _, value in there], style, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("tasks, or connections")
    axis.set_ylabel("us for each operation")
    axis.set_title("The cost of one among many", loc="left")
    axis.legend(fontsize="x-small", ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.18))
