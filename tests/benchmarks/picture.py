"""Draw results as a picture: the ratios of each peer as bars, and the cost of one among many as curves.

`python -m tests.benchmarks --load results.json --draw speed.svg` draws saved results without measuring again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")  # no window is opened
from matplotlib import pyplot
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import LogLocator, NullLocator

from .catalogue import BARE_LOOP, LIMITS, MINISCHED, PEERS
from .results import Results

SHOWN = ("switch", "syscall", "spawn", "fan", "sleep", "timeout", "queue", "lock", "cancel", "memory", "import")
COORDINATE = re.compile(r"(?<![\w.])\d+\.\d{2,}")
STYLES = {MINISCHED: "o-", BARE_LOOP: "+--", "bare epoll": "+--", "asyncio": "x:", "asyncio streams": "x:"}  # of curves
COLOURS = dict(zip(PEERS, pyplot.get_cmap("tab20").colors, strict=False))
WIDTH_INCHES = 8.5
ROW_INCHES = 4.2
METADATA = ("Date", "Creator", "Format", "Type")  # left out, so that equal results give equal files
SETTINGS = {
    "svg.fonttype": "none",  # text, and no outlines of glyphs: fewer lines, and a reader can search it
    "svg.hashsalt": "minisched",  # the names of clip paths, which are random otherwise
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # fonts of browsers, equally wide
}


def draw(results: Results, file: Path) -> None:
    """Write the picture to an .svg or .png file."""
    curves = sorted({name.partition("@")[0] for name in results.values if "@" in name})
    parts = [part for part, names in ((bars, bar_names(results)), (echo_bars, echo_names(results))) if names]
    rows = len(parts) + (1 if curves else 0)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = pyplot.subplots(
            rows, 1, figsize=(WIDTH_INCHES, ROW_INCHES * rows), squeeze=False, layout="constrained"
        )
        for part, axis in zip(parts, axes[:, 0], strict=False):
            part(axis, results)
        if curves:
            scale(axes[-1, 0], results, curves)
        figure.savefig(file, metadata=dict.fromkeys(METADATA) if file.suffix == ".svg" else {})
    pyplot.close(figure)
    if file.suffix == ".svg":
        _ = file.write_text(compact(file.read_text(encoding="utf-8")), encoding="utf-8")


def compact(svg: str) -> str:
    """Return the same picture in fewer lines: one for each element, coordinates with one decimal, fewer groups."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: COORDINATE.sub(lambda number: f"{float(number[0]):.1f}", tag[0]), svg)
    svg = re.sub(r"\s*\n\s*(?=[^<\s])", " ", svg)  # inside of a tag
    svg = re.sub(r' (?="[ />])', "", svg)
    changes = 1
    while changes:  # remove empty groups, and groups around one element
        svg, changes = re.subn(r"<g(?: id=[^>]*)?>\s*(<(?!g\b)[^>]*(?:/>|>[^<]*</text>)|)\s*</g>", r"\1", svg)
    return re.sub(r"\n\s*\n", "\n", svg)


def bar_names(results: Results) -> list[str]:
    return [name for name in SHOWN if name in results.values]


def echo_names(results: Results) -> list[str]:
    return [name for name in results.values if name.startswith("echo_") and name.endswith(" time")]


def bars(axis: Any, results: Results) -> None:
    """Draw the ratios of the operations inside one process."""
    names = bar_names(results)
    grouped(axis, results, names, names)
    axis.set_title(f"Time, or memory, relative to {MINISCHED} (Python {results.python})", loc="left")


def echo_bars(axis: Any, results: Results) -> None:
    """Draw the ratios of the echo servers."""
    names = echo_names(results)
    labels = [name.removeprefix("echo_").removesuffix(" time").replace("x", " x ", 1) for name in names]
    grouped(axis, results, names, labels)
    axis.set_title(f"An echo server: 1 / throughput, relative to {MINISCHED} (connections x size)", loc="left")


def grouped(axis: Any, results: Results, names: list[str], labels: list[str]) -> None:
    """Draw a group of bars for each series, a bar for each peer, on a logarithmic scale around 1."""
    ratios = results.ratios()
    peers = [peer for peer in PEERS if any(peer in ratios.get(name, {}) for name in names)]
    width = 0.8 / max(len(peers), 1)
    for number, peer in enumerate(peers):
        measured = [(place, ratios[name][peer]) for place, name in enumerate(names) if peer in ratios.get(name, {})]
        places = [place - 0.4 + number * width for place, _ in measured]
        boxes = [
            Outline([(place, 1), (place + width, 1), (place + width, ratio), (place, ratio), (place, 1)], closed=True)
            for place, (_, ratio) in zip(places, measured, strict=True)
        ]
        bars = PathPatch(  # one element for all bars of a peer, not one for each
            Outline.make_compound_path(*boxes), label=peer, facecolor=COLOURS[peer],
            hatch="///" if peer in LIMITS else None, edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        axis.add_patch(bars)
    axis.set_yscale("log")
    axis.autoscale_view()
    axis.axhline(1, color="black", linewidth=1)
    axis.set_xticks(range(len(names)), labels, rotation=20, ha="right")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter("{x:g}x")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.legend(fontsize="x-small", ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def scale(axis: Any, results: Results, curves: list[str]) -> None:
    """Draw the cost of one operation against the number of tasks or connections."""
    for name in curves:
        series = [(int(one.partition("@")[2]), one) for one in results.values if one.partition("@")[0] == name]
        for peer, style in STYLES.items():
            points = [(size, value) for size, one in series if (value := results.value(one, peer)) is not None]
            if points:
                label = f"{peer}: {name.removeprefix('scale_')}"
                axis.plot([size for size, _ in points], [value * 1e6 for _, value in points], style, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("tasks, or connections")
    axis.set_ylabel("us for each operation")
    axis.set_title("The cost of one among many", loc="left")
    axis.legend(fontsize="x-small", ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.18))
