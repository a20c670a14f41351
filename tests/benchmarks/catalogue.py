"""What is measured, and of whom.

A *benchmark* gives, round by round, the values of one or more *series*; a series compares the peers in
one figure, of which less is better: seconds, or bytes, or calls of the operating system.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field

OURS = "minisched"
LIMIT = "bare loop"
SHAPE = "bare tasks"

# What has to be installed to measure a peer. The limits do as little as can be done at all.
PEERS = {
    OURS: None,
    LIMIT: None,
    SHAPE: None,
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
}
LIMITS = (LIMIT, SHAPE, "C epoll", "bare epoll")

BOUNDS = (LIMIT, "bare epoll")  # of these, what everyone is compared with

Values = dict[str, dict[str, float]]  # by series, by peer


@dataclass(frozen=True)
class Series:
    """One figure of each peer; `unit` is us, ms, bytes or calls."""

    name: str
    what: str
    unit: str = "us"


@dataclass(frozen=True)
class Benchmark:
    """Something to measure, of those peers that can do it."""

    name: str
    what: str
    rounds: int
    peers: tuple[str, ...]
    series: tuple[Series, ...] = field(kw_only=True)

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        """Measure these peers, so many rounds; give the values of each."""
        raise NotImplementedError


def installed(peer: str) -> bool:
    """Return whether a peer is there, without importing it."""
    needed = PEERS[peer]
    return needed is None or importlib.util.find_spec(needed) is not None
