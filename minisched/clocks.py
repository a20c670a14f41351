"""Clocks: where the time comes from, and how to wait for it.

A run has one clock, which everything in it that has to do with time asks; pass another to
`run(clock=...)`, and the same program runs in other time. A clock also decides how to wait for files
until a deadline, since a virtual one does not wait at all.
"""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Clock(Protocol):
        """Where the time comes from: pass one to `run(clock=...)`."""

        def now(self) -> float:
            """Return the time in seconds; only differences mean anything."""
            ...

        def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
            """Wait for files by `select(seconds)`, until one is ready or `deadline` has come (None: never)."""
            ...


DAY = 86400.0  # seconds


class MonotonicClock:
    """The machine's clock, which no one sets back."""

    now = staticmethod(monotonic)

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Wait for files until `deadline`; a day at most, since selectors overflow."""
        _ = select(DAY if deadline is None else min(max(deadline - monotonic(), 0.0), DAY))


class VirtualClock:
    """A clock that stands still while anything can run, and then jumps to the next deadline.

    Files are looked at before each jump, but not waited for: a program that
    waits for the real world and for a deadline at once meets its deadline.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.time = start

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self.time

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Jump to `deadline`; with none, wait for files in real time."""
        if deadline is None:
            _ = select(None)
        elif not select(0.0):
            self.time = max(self.time, deadline)
