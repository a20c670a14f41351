"""The vocabulary of the benchmarks: peers, series, and the base class of a benchmark.

A *peer* is a program that is compared with minisched: another scheduler, or one of the limits. A *series*
compares the peers in one figure, where less is better. A *benchmark* measures one or more series, round by round.

Not here: the benchmarks themselves (`work`, `echo`), and the code of the peers (`peers/`, `echo_servers`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field

MINISCHED = "minisched"
IN_THREAD = "minisched InThread"
RECORDED = "minisched recorded"  # by `lab.record`
BARE_LOOP = "bare loop"
BARE_TASKS = "bare tasks"

# The package that each peer needs, or None.
PEERS = {
    MINISCHED: None,
    BARE_LOOP: None,
    BARE_TASKS: None,
    "C epoll": None,
    "bare epoll": None,
    "asyncio": None,
    "asyncio streams": None,
    "asyncio protocol": None,
    "uvloop": "uvloop",
    "uvloop streams": "uvloop",
    "uvloop protocol": "uvloop",
    "gevent": "gevent",
    "trio": "trio",
    "curio": "curio",
    "tinyio": "tinyio",
    "threads": None,
    IN_THREAD: None,
    RECORDED: None,
}

# Programs that do no more than the benchmark needs: they show how fast a scheduler could be at all.
LIMITS = (BARE_LOOP, BARE_TASKS, "C epoll", "bare epoll")

# Limits that get a table of their own, in which every peer is compared with them.
BASELINES = (BARE_LOOP, "bare epoll")

Values = dict[str, dict[str, float]]  # by series, by peer; times in seconds


@dataclass(frozen=True)
class Series:
    """One figure of each peer; `unit` is the unit in which it is shown: us, ms, bytes or syscalls."""

    name: str
    description: str
    unit: str = "us"


@dataclass(frozen=True)
class Benchmark:
    """A measurement, with the peers that can take part in it."""

    name: str
    description: str
    rounds: int
    peers: tuple[str, ...]
    series: tuple[Series, ...] = field(kw_only=True)

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        """Measure these peers and yield the values of each round."""
        raise NotImplementedError


def installed(peer: str) -> bool:
    """Return whether the package of a peer is installed, without importing it."""
    package = PEERS[peer]
    return package is None or importlib.util.find_spec(package) is not None
