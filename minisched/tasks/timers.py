"""Timers: calls at a deadline, and the syscalls Sleep, SleepUntil and Now.

Theory of operation. A timer is its deadline, a float, with a callback. Timers are kept in a *calendar queue*: R. Brown,
"Calendar queues: a fast O(1) priority queue implementation for the simulation event set problem", CACM 31 (10), 1988.
Time is cut into buckets of 1/128 s. A bucket is an unsorted list, found by its number, and is sorted as a whole, once,
when it becomes the earliest. Calendar queues and *timing wheels* (G. Varghese and A. Lauck, "Hashed and hierarchical
timing wheels", SOSP 1987) keep the buckets in an array that wraps around; here they stand in a sorted dict, so that a
timer may be years away and no empty bucket is visited.

A timer passes three stages. A new timer is appended to `incoming`; most timeouts are cancelled there. Before the loop
waits, and when it fires timers, the incoming timers are distributed to the buckets. When the earliest bucket is needed,
its timers are sorted into `current`, and fire from there.

Cancelling a timer only removes its callback. The empty timer is dropped when it is distributed or due, or by a sweep.
A sweep visits all timers whenever their number has doubled since the last sweep. So a sweep costs O(1) for each new
timer, and cancelled timers take at most as much room as living ones did.

Decision: timers are sorted one bucket at a time.
Because: `list.sort` compares floats in C, and keeps timers with equal deadlines in order of arrival.
Rejected: a binary heap (`heapq`), as in asyncio. Each push and pop compares O(log timers) pairs, and equal deadlines
need a sequence number to stay in order.

Invariants:
1. Until it fires or is dropped, a timer is in exactly one of `incoming`, a bucket, and `current`.
2. All timers in `current` are due before any timer in a bucket.
3. Timers fire in the order of their deadlines; timers with equal deadlines fire in order of arrival. No step reorders
   equal ones.

Not here: the clock (`clocks`); scopes with a deadline (`scopes`); the wait for the next deadline (`loop`).
"""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from itertools import chain
from math import floor, inf
from operator import neg

from ..kernel import Selectable, Service, Syscall, Task
from ..kernel.numbers import MAX_SECONDS, check_seconds, check_time
from ..kernel.waiting import NOT_YET
from .clocks import MonotonicClock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    from ..kernel import Kernel
    from ..kernel.waiting import Waiter
    from .clocks import Clock

BUCKETS_PER_SECOND = 128  # a bucket holds the timers of about 8 ms
MIN_SORTED_TIMERS = 16  # for each late timer: it then gets its place by a search, without sorting all of them
MIN_SWEEP_TIMERS = 128  # with fewer timers, a sweep does not pay


class Timer(float):
    """A deadline with a callback. Calling the timer cancels it, so that a timer is its own undo. O(1)."""

    __slots__ = ("callback",)
    callback: Any  # the task to resume, or a function to call; None after the timer has fired or was cancelled

    def cancel(self) -> None:
        """Cancel the timer; do nothing if it has fired or was cancelled before."""
        self.callback = None

    __call__ = cancel

    def __repr__(self) -> str:
        if not isinstance(self.callback, Task):
            return f"Timer({float(self)!r})"
        return f"Sleep({max(self - self.callback.kernel.service(Timers).now(), 0):.6g} s left)"  # pyright: ignore[reportUnknownMemberType]


class Timers(Service):
    """The timers of a run; a syscall reaches them by `kernel.service(Timers)`.

    All deadlines are in seconds of the run's clock (see `Now`).

    Example:
        >>> from minisched import Sleep, Syscall, Timers
        >>> from minisched.testing import run
        >>> class CallLater(Syscall):
        ...     checkpoint = False
        ...     def __init__(self, seconds, function):
        ...         self.seconds, self.function = seconds, function
        ...     def handle(self, kernel, task):
        ...         timers = kernel.service(Timers)
        ...         return timers.call_at(timers.now() + self.seconds, self.function)
        >>> def main():
        ...     yield CallLater(1, lambda: print("one second"))
        ...     timer = yield CallLater(3, lambda: print("three seconds"))
        ...     timer.cancel()
        ...     yield Sleep(5)
        >>> run(main())
        one second
    """

    def __init__(self, kernel: Kernel, clock: Clock | None = None) -> None:
        from sortedcontainers import SortedDict  # only here: slow to import

        super().__init__(kernel)
        self.clock: Clock = clock or MonotonicClock()
        self.now = self.clock.now
        self.incoming: list[Timer] = []
        self.buckets: Any = SortedDict()  # the bucket's number -> its timers, in order of arrival
        self.earliest = inf  # the number of the earliest bucket
        self.current: list[Timer] = []  # sorted, the next timer last
        self.opened = -inf  # the number of the last bucket that was sorted into `current`
        self.scheduled = 0  # timers in `buckets` and `current`, cancelled ones included
        self.sweep_at = MIN_SWEEP_TIMERS  # the number of `scheduled` timers that starts a sweep

    def wake_at(self, deadline: float, waiter: Waiter) -> Callable[[], object]:
        """Resume `waiter` at `deadline`; return the undo, which is the timer.

        The cost is O(1) now, and later a share in sorting the bucket.
        """
        # Decision: the timer of a sleeping task holds the task, and `fire` calls `kernel.resume` itself.
        # Because: a timer that holds a task shows in reports which task sleeps, and needs no further object.
        # Rejected: a timer with `partial(kernel.resume, task)`. It would be one more object for each sleeping task, and
        # it would keep the old `resume` if a test or an instrument replaces `kernel.resume`.
        if type(deadline) is not float or not deadline > -MAX_SECONDS:  # NaN is not, either
            deadline = max(check_time("wake_at", "deadline", deadline), -MAX_SECONDS)
        return self.add(deadline, waiter if isinstance(waiter, Task) else partial(waiter.resume, None))

    def call_at(self, deadline: float, callback: Callable[[], object] | Task) -> Timer:
        """Call `callback()` at `deadline`, between two turns; return the timer, to cancel it.

        The callback runs in the run's thread and must not wait. An exception from it ends the run. An infinite
        deadline never comes, nor does one of 1e300 s or more. The cost is O(1) now, and later a share in sorting the
        bucket.

        Raises:
            TypeError, ValueError: if `deadline` is not a number, or is NaN.
        """
        return self.add(max(check_time("call_at", "deadline", deadline), -MAX_SECONDS), callback)

    def add(self, deadline: float, callback: Callable[[], object] | Task) -> Timer:
        """Do the same for a deadline that is known to be a float, and not NaN."""
        timer = Timer(deadline)
        if deadline < MAX_SECONDS:
            timer.callback = callback
            self.incoming.append(timer)
        else:
            timer.callback = None
        return timer

    def next_deadline(self) -> float | None:
        """Return the next deadline, or None."""
        if self.incoming:
            self._distribute()
        current = self.current
        while current or self.buckets:
            if not current:
                self._open_bucket()
            elif current[-1].callback is not None:
                return float(current[-1])  # a plain float: the timer would keep its task alive in the clock
            else:
                _ = self._pop()
        return None

    def fire(self) -> None:
        """Fire all timers that are due, in order."""
        if self.incoming:
            self._distribute()
        current, kernel, count = self.current, self.kernel, 0
        now = self.now() if current or self.buckets else -inf
        while current or self.earliest <= now * BUCKETS_PER_SECOND:
            if not current:
                self._open_bucket()
                continue
            if current[-1] > now:
                break
            callback = self._pop()  # removed before it runs: if it raises, the other timers still fire the next time
            if callback is not None:
                count += 1
                _ = kernel.resume(callback) if isinstance(callback, Task) else callback()  # pyright: ignore[reportUnknownArgumentType]
        if count and kernel.watch is not None:
            kernel.watch.fire(count)

    def _pop(self) -> Any:
        """Remove the next timer; return its callback, or None if the timer was cancelled."""
        timer = self.current.pop()
        callback: Any = timer.callback
        timer.callback = None
        self.scheduled -= 1
        return callback

    def _distribute(self) -> None:
        """Move the incoming timers to their buckets, and sweep if most timers are cancelled."""
        buckets = self.buckets
        late: list[Timer] = []  # timers of a bucket that has been opened: they go straight to `current`
        pending = not_cancelled(self.incoming)
        self.scheduled += len(pending)
        for timer in pending:
            number = floor(timer * BUCKETS_PER_SECOND)  # down, below 0 as well: `fire` compares so
            if number <= self.opened:
                late.append(timer)
            elif number in buckets:
                buckets[number].append(timer)
            else:
                buckets[number] = [timer]
                self.earliest = min(self.earliest, number)
        self.incoming.clear()
        if late:
            self._add_late(late)
        if self.scheduled > self.sweep_at:
            self._sweep()
        elif self.scheduled * 4 < self.sweep_at:  # a peak is over, and must not raise the bound for ever
            self.sweep_at = max(2 * self.scheduled, MIN_SWEEP_TIMERS)

    def _add_late(self, late: list[Timer]) -> None:
        """Put timers of a bucket that has been opened into their places in `current`."""
        if len(late) * MIN_SORTED_TIMERS < len(self.current):
            for timer in late:  # before those that are due at the same time: the next timer stands last
                self.current.insert(bisect_left(self.current, -timer, key=neg), timer)
        else:
            self.current.reverse()
            self.current += late
            sort(self.current)

    def _open_bucket(self) -> None:
        """Sort the timers of the earliest bucket into `current`."""
        self.opened, timers = self.buckets.popitem(0)
        self.earliest = self.buckets.peekitem(0)[0] if self.buckets else inf
        self.current += timers
        sort(self.current)

    def _sweep(self) -> None:
        """Drop all cancelled timers. O(timers)."""
        self.current[:] = not_cancelled(self.current)
        self.buckets = type(self.buckets)(
            (number, kept) for number, timers in self.buckets.items() if (kept := not_cancelled(timers))
        )
        self.earliest = self.buckets.peekitem(0)[0] if self.buckets else inf
        self.scheduled = len(self.current) + sum(map(len, self.buckets.values()))
        self.sweep_at = max(2 * self.scheduled, MIN_SWEEP_TIMERS)

    def alive(self) -> list[Timer]:
        """Return the timers that have neither fired nor been cancelled, in the order in which they will fire.

        The cost is O(timers log timers).
        """
        if self.incoming:
            self._distribute()
        return not_cancelled([*reversed(self.current), *chain.from_iterable(map(sorted, self.buckets.values()))])

    def tasks(self) -> Iterable[Task]:
        """Return the sleeping tasks."""
        return [timer.callback for timer in self.alive() if isinstance(timer.callback, Task)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def close(self) -> None:
        """Drop all timers; the run has ended."""
        for timers in (self.incoming, self.current, self.buckets):
            _ = timers.clear()
        self.earliest, self.scheduled = inf, 0


class Sleep(Selectable[None], float):
    """Sleep for a number of seconds.

    The deadline wakes the task, on time or a little later, never earlier. `Sleep(0)` lets the other ready tasks run
    once. `Sleep(math.inf)` sleeps until the task is cancelled, and so does a sleep of 1e300 s or more. A cancellation
    ends the sleep at once. The cost is O(1), and a share in sorting the timers of the same 8 ms.

    Args:
        seconds: how long to sleep, in seconds, 0 or more.

    Raises:
        TypeError: if `float` cannot convert `seconds`; in a debug run, for a str or a bool, too.
        ValueError: for a negative number or NaN.

    Example:
        >>> from minisched import Now, Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     yield Sleep(0.5)
        ...     return (yield Now())
        >>> run(main())
        0.5
    """

    # Decision: a Sleep is a float. Because: Python makes a float without a call of `__init__`. Rejected: a field, which
    # an `__init__` sets. It could refuse a str, which `float` converts, and a bool; but `syscall` takes 15 % more time.
    # So only debug runs refuse them (`lab/debug`).
    __slots__ = ()
    external = True

    if TYPE_CHECKING:

        def __new__(cls, seconds: float, /) -> Self: ...

    @property
    def seconds(self) -> float:
        """The time to sleep, in seconds."""
        return float(self)

    def handle(self, kernel: Kernel, task: Task) -> None:
        # Not needed, but a Sleep(0) is answered without another call: `syscall` takes 20 % less time.
        if not self:
            return
        if not self > 0:
            return self.try_now(kernel, task)
        timer = self.add_waiter(kernel, task)
        kernel.park(task, timer)
        # Decision: a sleeping task waits "in" its timer (`task.call`), and does not keep its Sleep.
        # Because: the timer exists anyway, its `repr` even says how much of the sleep is left, and one object less for
        # each sleeping task saves memory, and work of the garbage collector
        # (`python -m tests.benchmarks memory sleep`).
        # Rejected: keeping the Sleep, as other calls are kept. Only an endless one is kept, since its timer never
        # holds a task and could not say that it is a sleep.
        if self < MAX_SECONDS:
            task.call = timer

    def try_now(self, kernel: Kernel, task: Task) -> None:
        if self > 0:
            return NOT_YET
        if self != 0:
            _ = check_seconds("Sleep", "seconds", float(self))
        return None

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        timers = kernel.services[Timers]
        return timers.wake_at(timers.now() + self, waiter)

    def __repr__(self) -> str:
        return f"Sleep({float.__repr__(self).removesuffix('.0')})"


class SleepUntil(Selectable[None]):
    """Sleep until the run's clock shows a deadline.

    A deadline that has passed lets the other ready tasks run once. A loop with fixed deadlines does not drift, as a
    loop with `Sleep` does. The deadline wakes the task, on time or a little later; a cancellation ends the sleep at
    once.

    Args:
        deadline: when to wake, in seconds of the run's clock (see `Now`); `math.inf` sleeps until cancelled.

    Raises:
        TypeError: if `deadline` is not a number, at the `yield`.
        ValueError: for NaN.

    Example:
        >>> from minisched import Now, SleepUntil
        >>> from minisched.testing import run
        >>> def main():
        ...     start = yield Now()
        ...     for tick in range(1, 4):
        ...         yield SleepUntil(start + tick * 0.5)
        ...         print((yield Now()))
        >>> run(main())
        0.5
        1.0
        1.5
    """

    __slots__ = ("deadline",)
    external = True

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def try_now(self, kernel: Kernel, task: Task) -> None:
        deadline = check_time("SleepUntil", "deadline", self.deadline)
        return NOT_YET if deadline > kernel.service(Timers).now() else None

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return kernel.service(Timers).wake_at(self.deadline, waiter)


class Now(Syscall[float]):
    """Return the time of the run's clock, in seconds.

    Only differences between two times mean anything. The call is not a checkpoint: a cancelled task gets the time.

    Returns:
        The time in seconds, as a float.

    Example:
        >>> from minisched import Now, Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     start = yield Now()
        ...     yield Sleep(2)
        ...     return (yield Now()) - start
        >>> run(main())
        2.0
    """

    __slots__ = ()
    checkpoint = False
    external = True

    def handle(self, kernel: Kernel, task: Task) -> float:
        return kernel.service(Timers).now()


def sort(timers: list[Timer]) -> None:
    """Sort timers so that the next one is last; of equal ones, the one that arrived first."""
    timers.sort()
    timers.reverse()


def not_cancelled(timers: Iterable[Timer]) -> list[Timer]:
    """Return the timers that were not cancelled."""
    return [timer for timer in timers if timer.callback is not None]
