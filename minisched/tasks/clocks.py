"""Clocks: the time of a run, and how the loop waits for a deadline.

Theory of operation. A run has one clock. All code of the run that needs the time reads it from this clock, so the same
program runs in virtual time when a virtual clock is passed to `run(clock=...)`. The machine's clock waits in the
selector until a file is ready or the deadline comes. The virtual clock never waits for a deadline: when no task is
ready, it jumps to the next deadline.

Decision: the clock waits, by `wait(select, deadline)`; the loop does not turn the deadline into a timeout itself.
Because: a virtual clock is then a dozen lines, and it lands exactly on the deadline.
Rejected: a clock that only receives a timeout. Adding the timeout to the time would miss the deadline by a rounding
error.

Invariants:
1. No other module of the package reads the machine's clock for a run.
2. `now()` never goes backwards.

Not here: the deadlines themselves (`timers`); when the loop waits (`loop`).
"""

from __future__ import annotations

from time import monotonic

from ..kernel.numbers import check_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Clock(Protocol):
        """The interface of the clocks that `run(clock=...)` takes."""

        def now(self) -> float:
            """Return the time in seconds; only differences mean anything."""
            ...

        def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
            """Call `select(seconds)`, which waits for files, with the seconds that are left until `deadline`.

            None as the deadline means that there is none; `select(None)` waits until a file is ready.
            """
            ...


MAX_WAIT_SECONDS = 86400.0  # a day: `select` calls overflow at larger timeouts (epoll: milliseconds in a C int)


class MonotonicClock:
    """The machine's clock, which is never set back. `run` uses it by default."""

    now = staticmethod(monotonic)

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Wait for files until `deadline`, at most a day; the loop then waits again."""
        seconds = MAX_WAIT_SECONDS if deadline is None else deadline - monotonic()
        _ = select(0.0 if seconds < 0 else seconds if seconds < MAX_WAIT_SECONDS else MAX_WAIT_SECONDS)


class VirtualClock:
    """A clock that stands still while any task is ready, and then jumps to the next deadline.

    Before each jump the files are polled once, without waiting. A program that waits for a file and for a deadline
    at the same time therefore reaches its deadline, however soon the file would have been ready.
    `minisched.testing.run` uses this clock.

    Args:
        start: the time at the beginning of the run, in seconds.

    Raises:
        TypeError, ValueError: if `start` is not a number, or is infinite or NaN.

    Example:
        >>> from minisched import Now, Sleep, run
        >>> from minisched.testing import VirtualClock
        >>> def main():
        ...     yield Sleep(3600)
        ...     return (yield Now())
        >>> run(main(), clock=VirtualClock(start=100))
        3700.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self.time = check_time("VirtualClock", "start", start, finite=True)

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self.time

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Jump to `deadline` if no file is ready; without a deadline, wait for files in real time."""
        if deadline is None:
            _ = select(None)
        elif not select(0.0):
            self.time = max(self.time, deadline)
