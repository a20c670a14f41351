"""Deadlines in a sorted container, and Sleep.

Theory of operation. A timer is its deadline, a float, which knows what to do then. New ones are
`loose`, and most timeouts are forgotten while they are; before the loop waits, the others go into
*slots*, of which a second has 128: lists, in a sorted dict. So a timer costs an append, and a search
only where its slot has no other. When the first slot becomes due, it is sorted, all at once, and is
then `near`. To forget a timer is to empty it: it is passed over in its time, or swept out with others
once most are empty.

Invariants:
1. A timer is in one of `loose`, a slot, and `near`, until it fires, is passed over or swept out.
2. What is `near` comes before what is in the slots.
3. Timers fire in the order of their deadlines; of the same deadline, first come first served, since
   nothing here ever changes the order of equal ones.

Not here: the clock (`clocks`); scopes with a deadline; the wait itself (`loop`).
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from math import inf

from ._lent import Later, Lent
from .clocks import MonotonicClock
from .kernel import Kernel, Service, Syscall, Task
from .waiting import NOT_YET, Selectable

with Lent(Later("traceback"), Later("textwrap", dedent=str)):
    from sortedcontainers import SortedDict  # pyright: ignore[reportMissingTypeStubs]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol, Self

    from .waiting import Waiter

    class Limited(Protocol):
        """What ends at a deadline, unless it has ended before."""

        timer: Timer | None

        @property
        def deadline(self) -> float: ...
        def __call__(self) -> None: ...

    from .clocks import Clock

SLOTS = 128  # in a second
SWEPT = 64  # fewer forgotten timers than that are not worth it


class Timer(float):
    """A deadline, and what to do then; call it to forget it: it is an undo. O(1)."""

    __slots__ = ("timers", "what")
    timers: Timers
    what: Any

    def forget(self) -> None:
        """Do nothing any more; again, or after it fired, that changes nothing."""
        if self.what is not None:
            self.what = None
            self.timers.forgotten += 1

    __call__ = forget

    def __repr__(self) -> str:
        if not isinstance(self.what, Task):
            return f"Timer({float(self)!r})"
        return f"Sleep({max(self - self.timers.now(), 0):.6g} s left)"


LOOSE = Timer()  # nobody's: the timer of what has none yet
LOOSE.what = None


class Timers(Service):
    """What happens when."""

    def __init__(self, kernel: Kernel, clock: Clock | None = None) -> None:
        super().__init__(kernel)
        self.clock: Clock = clock or MonotonicClock()
        self.now = self.clock.now
        self.loose: list[Timer | Limited] = []
        self.slots: Any = SortedDict()  # by number: a list of the timers in it, in the order of their coming
        self.first = inf  # the number of the first slot
        self.near: list[Timer] = []  # sorted, the next one last
        self.opened = -inf  # the number of the last slot that went there
        self.placed = self.forgotten = 0  # timers in `slots` and `near`; those forgotten that are still somewhere

    def wake_at(self, deadline: float, waiter: Waiter) -> Callable[[], object]:
        """Resume `waiter` at `deadline`; return the undo. O(1) now, and its share of the sorting of a slot later."""
        return self.call_at(deadline, waiter if isinstance(waiter, Task) else partial(waiter.resume, None))

    def call_at(self, deadline: float, what: Callable[[], object] | Task) -> Timer:
        """Call `what()` at `deadline`, between turns; return the undo. Infinity never comes."""
        timer = Timer(deadline)
        timer.timers = self
        if deadline < inf:
            timer.what = what
            self.loose.append(timer)
        else:
            timer.what = None
        return timer

    def limit(self, limited: Limited) -> None:
        """Call `limited()` at its deadline, unless its `timer` is None by then, or another.

        As `call_at`, for what is most often over before the loop waits, as the
        block of a timeout is: a timer is made only for what is not.
        """
        limited.timer = LOOSE
        self.loose.append(limited)

    def next_deadline(self) -> float | None:
        """Return the next deadline; None if there is none."""
        if self.loose:
            self._place()
        near = self.near
        while near or self.slots:
            if not near:
                self._open()
            elif near[-1].what is not None:
                return float(near[-1])
            else:
                _ = self._taken()
        return None

    def fire(self) -> None:
        """Do what is due, in order."""
        if self.loose:
            self._place()
        near, kernel, count = self.near, self.kernel, 0
        now = self.now() if near or self.slots else -inf
        while near or self.first <= now * SLOTS:
            if not near:
                self._open()
                continue
            if near[-1] > now:
                break
            what = self._taken()  # before it is done: what it raises leaves the others for the next time
            if what is not None:
                count += 1
                _ = kernel.resume(what) if isinstance(what, Task) else what()
        if count and kernel.watch is not None:
            kernel.watch.fire(count)

    def _taken(self) -> Any:
        """Take the next timer away; return what is to be done, None if it is forgotten."""
        timer = self.near.pop()
        what: Any = timer.what
        timer.what = None
        self.placed -= 1
        if what is None:
            self.forgotten -= 1
        return what

    def _place(self) -> None:
        """Put the loose timers into their slots; if most of all are forgotten, sweep."""
        slots = self.slots
        late: list[Timer] = []
        for loose in self.loose:
            timer = loose if isinstance(loose, Timer) else self._timer_of(loose)
            if timer.what is None:
                self.forgotten -= 1
                continue
            self.placed += 1
            number = int(timer * SLOTS)
            if number <= self.opened:
                late.append(timer)
            elif number in slots:
                slots[number].append(timer)
            else:
                slots[number] = [timer]
                self.first = min(self.first, number)
        self.loose.clear()
        if late:
            self.near.reverse()
            self.near += late
            sort(self.near)
        if self.forgotten > SWEPT and self.forgotten * 2 > self.placed:
            self._sweep()

    def _timer_of(self, limited: Limited) -> Timer:
        """Return the timer that was not made yet; `LOOSE`, which is forgotten, if that is over."""
        if limited.timer is not LOOSE:
            self.forgotten += 1
            return LOOSE
        timer = limited.timer = Timer(limited.deadline)
        timer.timers, timer.what = self, limited
        return timer

    def _open(self) -> None:
        """Sort the first slot: it is the next in which something is due."""
        self.opened, timers = self.slots.popitem(0)
        self.first = self.slots.peekitem(0)[0] if self.slots else inf
        self.near += timers
        sort(self.near)

    def _sweep(self) -> None:
        """Throw away what is forgotten. O(timers)."""
        self.near[:] = living(self.near)
        self.slots = SortedDict((number, left) for number, timers in self.slots.items() if (left := living(timers)))
        self.first = self.slots.peekitem(0)[0] if self.slots else inf
        self.placed, self.forgotten = self.placed - self.forgotten, 0

    def alive(self) -> list[Timer]:
        """Return the timers that have neither fired nor been forgotten, in their order. O(timers log timers)."""
        if self.loose:
            self._place()
        return living([*reversed(self.near), *chain.from_iterable(map(sorted, self.slots.values()))])

    def tasks(self) -> Iterable[Task]:
        """Return the sleepers."""
        return [timer.what for timer in self.alive() if isinstance(timer.what, Task)]

    def close(self) -> None:
        for timers in (self.loose, self.near, self.slots):
            _ = timers.clear()
        self.first, self.placed, self.forgotten = inf, 0, 0


class Sleep(Selectable[None], float):
    """Sleep for `seconds`; 0 lets the others run, infinity sleeps until cancelled.

    Wakes at the deadline or a little later, never earlier. ValueError for a
    negative number or NaN. A cancellation ends it at once.
    """

    # A number, since Python makes one in half the time that it takes to call an `__init__`.
    __slots__ = ()
    world = True

    if TYPE_CHECKING:

        def __new__(cls, seconds: float, /) -> Self: ...

    @property
    def seconds(self) -> float:
        """How long."""
        return float(self)

    def handle(self, kernel: Kernel, task: Task) -> None:
        # What `attempt` and `enlist` do, without three calls, which are a third of a Sleep(0).
        if not self:
            return
        if not self > 0:
            raise ValueError(f"Sleep takes a number of seconds, 0 or more, not {float(self)!r}")
        timers = kernel.services[Timers]
        timer = timers.call_at(timers.now() + self, task)
        kernel.park(task, timer)
        if self < inf:  # else the timer holds no task, and can't tell what it is for
            # The call need not be kept: with it, 50,000 sleepers take a fifth more, which is the collector's time.
            task.call = timer

    def attempt(self, kernel: Kernel, task: Task) -> None:
        return NOT_YET if self > 0 else self.handle(kernel, task)

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        timers = kernel.service(Timers)
        return timers.wake_at(timers.now() + self, waiter)

    def __repr__(self) -> str:
        return f"Sleep({float.__repr__(self).removesuffix('.0')})"


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


def sort(timers: list[Timer]) -> None:
    """Sort timers so that the next one comes last; of equal ones, that is the first."""
    timers.sort()
    timers.reverse()


def living(timers: Iterable[Timer]) -> list[Timer]:
    """Return those that are not forgotten."""
    return [timer for timer in timers if timer.what is not None]
