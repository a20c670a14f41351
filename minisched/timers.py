"""Deadlines in a sorted container, the clock they are measured by, and Sleep.

Theory of operation. A timer is the tuple (deadline, number, what to do). New ones wait, unsorted,
in `loose`; before the loop waits they go to the sorted list all at once, so that a timeout that is
taken back within its batch never costs a search. What is due is cut off the sorted list in one
slice and becomes loose again, so that one due timer can still take back another.

Invariants:
1. A timer is in `loose` or in `queue`, until it fires or is forgotten.
2. Timers fire in the order of (deadline, number): the same deadline, first come first served.

Not here: scopes with a deadline; the wait itself (`loop`).
"""

from __future__ import annotations

from functools import partial
from math import inf
from time import monotonic

from sortedcontainers import SortedList  # pyright: ignore[reportMissingTypeStubs]

from .kernel import Kernel, Service, Syscall, Task
from .waiting import NOT_YET, Selectable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from .waiting import Waiter

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


class Timer(tuple["Any", ...]):
    """(deadline, number, what, timers), sorted as tuples are; call it to forget it: it is an undo."""

    __slots__ = ()

    def __call__(self) -> None:
        """Forget this timer; again, or after it fired, it does nothing. O(log timers) once sorted."""
        timers: Timers = self[3]
        if timers.loose.pop(self[1], None) is None:
            timers.queue.discard(self)


class Timers(Service):
    """What happens when."""

    def __init__(self, kernel: Kernel, clock: Clock | None = None) -> None:
        super().__init__(kernel)
        self.clock: Clock = clock or MonotonicClock()
        self.now = self.clock.now
        self.queue: Any = SortedList()
        self.loose: dict[int, Timer] = {}
        self.made = 0

    def wake_at(self, deadline: float, waiter: Waiter) -> Callable[[], object]:
        """Resume `waiter` at `deadline`; return the undo. O(1) now, O(log timers) once the loop waits."""
        if not isinstance(waiter, Task):
            return self.call_at(deadline, partial(waiter.resume, None))
        return self._add(deadline, waiter) if deadline < inf else forget_nothing

    def call_at(self, deadline: float, what: Callable[[], object]) -> Callable[[], object]:
        """Call `what()` at `deadline`, between turns; return the undo. Infinity never comes."""
        return self._add(deadline, what) if deadline < inf else forget_nothing

    def _add(self, deadline: float, what: object) -> Timer:
        number = self.made = self.made + 1
        timer = self.loose[number] = Timer((deadline, number, what, self))
        return timer

    def next_deadline(self) -> float | None:
        """Return the next deadline; None if there is none."""
        self._sort()
        return self.queue[0][0] if self.queue else None

    def fire(self) -> None:
        """Do what is due, in order. O(due x log timers) at most."""
        self._sort()
        queue, loose, kernel = self.queue, self.loose, self.kernel
        count = queue.bisect_right((self.now(), inf))
        if not count:
            return
        due = queue[:count]
        del queue[:count]
        loose.update((timer[1], timer) for timer in due)
        for timer in due:
            if loose.pop(timer[1], None) is None:
                continue  # another that was due has forgotten it
            what = timer[2]
            if isinstance(what, Task):
                kernel.resume(what)
            else:
                what()
        if kernel.watch is not None:
            kernel.watch.fire(count)

    def _sort(self) -> None:
        if self.loose:
            self.queue.update(self.loose.values())
            self.loose.clear()

    def tasks(self) -> Iterable[Task]:
        """Return the sleepers."""
        for timer in [*self.queue, *self.loose.values()]:
            if isinstance(timer[2], Task):
                yield timer[2]

    def close(self) -> None:
        self.queue.clear()
        self.loose.clear()


class Sleep(Selectable[None]):
    """Sleep for `seconds`; 0 lets the others run, infinity sleeps until cancelled.

    Wakes at the deadline or a little later, never earlier. ValueError for a
    negative number or NaN. A cancellation ends it at once.
    """

    __slots__ = ("seconds",)
    world = True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def attempt(self, kernel: Kernel, task: Task) -> None:
        if self.seconds > 0:
            return NOT_YET
        if self.seconds != 0:
            raise ValueError(f"Sleep takes a number of seconds, 0 or more, not {self.seconds!r}")
        return None

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        timers = kernel.service(Timers)
        return timers.wake_at(timers.now() + self.seconds, waiter)


class SleepUntil(Selectable[None]):
    """Sleep until the clock (see `Now`) shows `deadline`; one that is past lets the others run."""

    __slots__ = ("deadline",)
    world = True

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def attempt(self, kernel: Kernel, task: Task) -> None:
        if self.deadline > kernel.service(Timers).now():
            return NOT_YET
        if self.deadline != self.deadline:
            raise ValueError("SleepUntil takes a time in seconds, not NaN")
        return None

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return kernel.service(Timers).wake_at(self.deadline, waiter)


class Now(Syscall[float]):
    """Return the time of the scheduler's clock in seconds; only differences mean anything. Not a checkpoint."""

    __slots__ = ()
    checkpoint = False
    world = True

    def handle(self, kernel: Kernel, task: Task) -> float:
        return kernel.service(Timers).now()


def forget_nothing() -> None:
    """Be the undo of a wait that nobody was told of."""
