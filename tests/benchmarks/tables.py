"""`python -m tests.benchmarks.tables RESULTS.json...`: print the tables of README.md from saved results.

Each file holds the results of one version of Python, written by `python -m tests.benchmarks --save`. The tables
of goals, limits and scale are made from the first file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from . import results
from .catalogue import BARE_LOOP, BARE_TASKS, MINISCHED
from .results import Results

# The label, the series, and the peers that are compared with minisched.
RATIOS = (
    ("a bare yield", "switch", (BARE_LOOP, "uvloop", "asyncio")),
    ("a sleep of 0 s", "syscall", (BARE_LOOP, "uvloop", "asyncio")),
    ("spawn a task and join it", "spawn", ("uvloop", "asyncio")),
    ("50,000 tasks that sleep", "sleep", ("uvloop", "asyncio")),
    ("a yield within a timeout", "timeout", ("uvloop", "asyncio")),
    ("an item through a queue of size 1", "queue", ("uvloop", "asyncio")),
    ("cancel 50,000 sleeping tasks", "cancel", ("uvloop", "asyncio")),
    ("cancel a sleeping task and join it", "cancel_each", ("uvloop", "asyncio")),
    ("10,000 tasks at once that all fail", "fail", ("uvloop", "asyncio", "trio")),
    ("a function's answer from another thread", "thread", ("uvloop", "asyncio", "trio")),
    ("memory of a sleeping task", "memory", ("asyncio",)),
    ("import the package", "import", ("asyncio",)),
    ("user CPU time of an echo server", "echo_100x1KB user", ("uvloop streams", "asyncio protocol")),
    ("1 / throughput of an echo server", "echo_100x1KB time", ("uvloop streams", "asyncio streams")),
    ("CPU time of an echo server with one connection", "echo_1x100B cpu", ("uvloop protocol", "asyncio protocol")),
    ("1 / throughput with 5,000 connections", "echo_5000x64B time", ("uvloop protocol", "asyncio protocol")),
    ("median latency with 5,000 connections", "echo_5000x64B p50", ("uvloop protocol", "asyncio protocol")),
    ("median latency of two writes", "echo_1x64B_halves p50", ("uvloop streams", "asyncio streams", "trio", "threads")),
    ("1 / throughput of lines echoed", "echo_lines time", ("uvloop streams", "asyncio streams", "trio")),
    ("1 / throughput of 16 lines at once", "echo_lines_16 time", ("uvloop streams", "asyncio streams", "trio")),
    ("1 / throughput of an echo server with TLS", "echo_tls time", ("uvloop streams", "asyncio streams", "trio")),
    ("1 / throughput of datagrams echoed", "echo_udp time", ("uvloop protocol", "asyncio protocol", "trio", "curio")),
    ("4 KiB of a file in the page cache", "file_reads", ("minisched InThread", "asyncio", "trio")),
    ("run a program and read its output", "processes", ("uvloop", "asyncio", "trio")),
    ("CPU time of an echo server that is recorded", "echo_50x64B cpu", ("minisched recorded",)),
)

# The series in which another library was faster, that library, and the ratio to reach: less is a goal that was missed.
GOALS = (
    ("cancel_each", "asyncio", 3.0),
    ("echo_1x100B cpu", "asyncio protocol", 1.0),
    ("echo_5000x64B time", "uvloop protocol", 1.0),
    ("echo_1x64B_halves p50", "asyncio streams", 1.0),
    ("fail", "asyncio", 1.0),
)

# The label, the series, and the peer to which `bare tasks` and minisched are compared.
LIMITS = (
    ("a bare yield", "switch", BARE_LOOP),
    ("a sleep of 0 s", "syscall", BARE_LOOP),
    ("spawn a task and join it", "spawn", "uvloop"),
    ("memory of a sleeping task", "memory", "asyncio"),
    ("user CPU time of an echo server", "echo_100x1KB user", "bare epoll"),
)

# The label, the benchmark, the peers, the number of tasks or connections that is the unit, and the others.
SCALES = (
    ("a bare yield", "scale_switch", (MINISCHED, BARE_LOOP), 100, (100_000, 1_000_000)),
    ("a sleep", "scale_sleep", (MINISCHED, "asyncio"), 100, (100_000, 1_000_000)),
    ("cancel a sleeping task", "scale_cancel", (MINISCHED, "asyncio"), 100, (100_000, 1_000_000)),
    ("a message of an echo server", "scale_echo", (MINISCHED, "bare epoll"), 100, (1_000, 10_000)),
)


def number(value: float | None) -> str:
    """Return a ratio with two significant digits, or `-`."""
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:#.2g}"


def divided(value: float | None, by: float | None) -> float | None:
    """Return a quotient, or None if a part of it was not measured."""
    return value / by if value and by else None


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def ratios(versions: list[Results]) -> Iterator[str]:
    """Yield the table of ratios to minisched."""
    yield row("operation", "peer", *(version.python.rpartition(".")[0] for version in versions), "benchmark")
    yield "|---" * (3 + len(versions)) + "|"
    for label, name, peers in RATIOS:
        for peer in peers:
            cells = [number(version.ratio(name, peer)) for version in versions]
            yield row(label, peer, *cells, f"`{name.partition(' ')[0]}`")


def goals(version: Results) -> Iterator[str]:
    """Yield the table of goals, each with the ratio that was measured."""
    labels = {name: label for label, name, _ in RATIOS}
    yield row("operation", "peer", "goal", "measured", "benchmark")
    yield "|---" * 5 + "|"
    for name, peer, goal in GOALS:
        yield row(labels[name], peer, number(goal), number(version.ratio(name, peer)), f"`{name.partition(' ')[0]}`")


def limits(version: Results) -> Iterator[str]:
    """Yield the table that shows which part of the cost is that of the shape."""
    yield row("operation", "bare tasks / minisched", "relative to", "minisched", "bare tasks", "benchmark")
    yield "|---" * 6 + "|"
    for label, name, peer in LIMITS:
        cells = [number(version.ratio(name, one, peer)) for one in (MINISCHED, BARE_TASKS)]
        share = number(version.ratio(name, BARE_TASKS))
        yield row(label, share, peer, *cells, f"`{name.partition(' ')[0]}`")


def scales(version: Results) -> Iterator[str]:
    """Yield the table of the cost of one operation among many tasks, relative to the same among few."""
    yield row("operation", "peer", "among", "relative to", "cost", "benchmark")
    yield "|---" * 6 + "|"
    for label, name, peers, few, counts in SCALES:
        for peer in peers:
            for many in counts:
                values = [version.value(f"{name}@{count}", peer) for count in (many, few)]
                yield row(label, peer, f"{many:,}", f"{few:,}", number(divided(*values)), f"`{name}`")


def main(files: list[str]) -> None:
    """Print all tables."""
    versions = [results.load(Path(file)) for file in files]
    for table in (ratios(versions), goals(versions[0]), limits(versions[0]), scales(versions[0])):
        print(*table, sep="\n", end="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
