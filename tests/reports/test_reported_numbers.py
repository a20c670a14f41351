"""Numbers at the edge, in every call that takes one: huge, negative, infinite, NaN, and things of another kind."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest

from minisched import (
    Barrier,
    Broadcast,
    CancelScope,
    CapacityLimiter,
    Condition,
    CurrentTask,
    Event,
    LifoQueue,
    Listen,
    MoveOnAfter,
    Now,
    PriorityQueue,
    Queue,
    Read,
    Semaphore,
    Shield,
    Sleep,
    SleepUntil,
    Spawn,
    Timeout,
    Timers,
    run,
    select,
    serve,
    serve_listeners,
    serve_unix,
    serve_workers,
    supervise,
    testing,
)
from minisched.io.files import LARGEST_READ_BYTES
from minisched.lab.timeline import Timeline
from minisched.testing import VirtualClock


class Like:
    """A number of another package, such as numpy's."""

    def __init__(self, number):
        self.number = number

    def __float__(self):
        return float(self.number)

    def __gt__(self, other):
        return self.number > other


class IntLike:
    """An integer of another package."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


class Wrong:
    """Neither an int nor a float."""

    def __repr__(self):
        return "Wrong()"


def yielding(make):
    """Return a function that runs `yield make(number)` in virtual time."""

    def call(number):
        def main():
            return (yield make(number))

        return testing.run(main())

    return call


def deadline(number):
    """Set the deadline of a scope."""

    def main():
        with (yield CancelScope()) as scope:
            scope.deadline = number

    testing.run(main())


def call_at(number):
    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        timers.call_at(number, lambda: None)

    testing.run(main())


def wake_at(number):
    def main():
        task = yield CurrentTask()
        task.kernel.service(Timers).wake_at(number, task).cancel()

    testing.run(main())


def notify(number):
    condition = Condition()

    def main():
        with (yield condition.acquire()):
            condition.notify(number)

    testing.run(main())


def read(number):
    near, far = socket.socketpair()
    with near, far:
        far.send(b"hello")

        def main():
            return (yield Read(near, number))

        assert run(main()).startswith(b"h")


def selected_read(number):
    near, far = socket.socketpair()
    with near, far:
        far.send(b"hello")

        def main():
            return (yield select(Read(near, number)))

        assert run(main())[1].startswith(b"h")


def total_tokens(number):
    CapacityLimiter(1).total_tokens = number


def listen(number):
    def main():
        with (yield Listen(("127.0.0.1", 0), number)):
            pass

    run(main())


def returning():
    return "result"
    yield


def serving(name, function):
    """Return a function that serves with a limit, until the server listens."""

    def call(number):
        class Listening(Exception):
            pass

        def ready(listener):
            raise Listening

        try:
            function(ready, **{name: number})
        except Listening:
            pass

    return call


def handler(conn):
    yield


def serve_tcp(ready, **options):
    run(serve(handler, "127.0.0.1", 0, ready=ready, **options))


def serve_path(ready, **options):
    run(serve_unix(handler, "\0minisched test of numbers", ready=ready, **options))


def serve_open(ready, **options):
    def main():
        listener = yield Listen(("127.0.0.1", 0))
        yield from serve_listeners(handler, listener, ready=ready, **options)

    run(main())


def serve_processes(ready, **options):
    serve_workers(handler, ("127.0.0.1", 0), ready=ready, **{"workers": 1, **options})


SERVERS = [serve_tcp, serve_path, serve_open, serve_processes]


@dataclass
class Place:
    """A parameter that takes a number: the names in its error, what to call, and which values it takes."""

    names: str
    call: Callable[[Any], object]
    unit: str = "seconds"
    least: float = 0
    optional: bool = False
    endless: bool = True

    def __str__(self):
        return self.names.replace(": ", ".") + getattr(self.call, "__name__", "")


SECONDS = [
    Place("Timeout: seconds", yielding(Timeout), optional=True),
    Place("MoveOnAfter: seconds", yielding(MoveOnAfter), optional=True),
    Place("Shield: seconds", yielding(Shield), optional=True),
    Place("check_syscall: max_seconds", lambda number: testing.check_syscall(lambda: Sleep(1), max_seconds=number)),
    Place("supervise: within", lambda number: testing.run(supervise(returning, within=number))),
    *(Place("serve: idle_timeout", serving("idle_timeout", server), least=1, optional=True) for server in SERVERS),
    *(Place("serve: grace", serving("grace", server), optional=True) for server in SERVERS),
]
TIMES = [
    Place("SleepUntil: deadline", yielding(lambda number: select(SleepUntil(number), Sleep(0))), least=-inf),
    Place("MoveOnAfter: deadline", deadline, least=-inf, optional=True),
    Place("call_at: deadline", call_at, least=-inf),
    Place("wake_at: deadline", wake_at, least=-inf),
    Place("VirtualClock: start", VirtualClock, least=-inf, endless=False),
]
COUNTS = [
    Place("Queue: maxsize", Queue, "items", optional=True),
    Place("PriorityQueue: maxsize", PriorityQueue, "items", optional=True),
    Place("LifoQueue: maxsize", LifoQueue, "items", optional=True),
    Place("CapacityLimiter: total_tokens", CapacityLimiter, "tokens"),
    Place("CapacityLimiter: total_tokens", total_tokens, "tokens"),
    Place("Read: size", selected_read, "bytes", least=1, endless=False),
    Place("Semaphore: value", Semaphore, "permits"),
    Place("Semaphore: maximum", lambda number: Semaphore(0, number), "permits", optional=True),
    Place("Barrier: parties", Barrier, "tasks", least=1, endless=False),
    Place("Broadcast: size", Broadcast, "items", least=1),
    Place("notify: count", notify, "waiters"),
    Place("Read: size", read, "bytes", least=1, endless=False),
    Place("Listen: backlog", listen, "connections", endless=False),
    Place("supervise: restarts", lambda number: testing.run(supervise(returning, restarts=number)), "restarts"),
    *(
        Place("serve: max_connections", serving("max_connections", server), "connections", 1, True, False)
        for server in SERVERS
    ),
    *(
        Place("Listen: backlog", serving("backlog", server), "connections", endless=False)
        for server in (serve_tcp, serve_path, serve_processes)
    ),
    Place("serve_workers: workers", serving("workers", serve_processes), "processes", least=1, endless=False),
    Place("Timeline: most", lambda number: Timeline(print, number), "columns", endless=False),
    Place("Timeline: width", lambda number: Timeline(print, width=number), "characters", least=1, endless=False),
]
ALL = [*SECONDS, *TIMES, *COUNTS]
HUGE = [2**31, sys.maxsize, sys.maxsize + 1, 10**400]


def refused(place, number, kind):
    """Assert that a value is refused with an error that names the call, the parameter, the unit and the value."""
    with pytest.raises(kind) as caught:
        place.call(number)
    text = str(caught.value)
    assert text.startswith(f"{place.names} is a ") and place.unit in text and repr(number) in text
    if kind is TypeError:
        assert f"({type(number).__name__})" in text
    if place.optional:
        assert "None" in text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", ["1", b"1", "x", True, False, 1j, [1], Wrong(), float], ids=repr)
@pytest.mark.parametrize("place", ALL, ids=str)
def test_a_thing_of_another_kind_is_a_type_error(place, number):
    """load-faults F13: `Sleep("x")` is a ValueError, and `SleepUntil("x")` says "'>' not supported"."""
    refused(place, number, TypeError)


@pytest.mark.parametrize("place", ALL, ids=str)
def test_none_is_taken_where_it_means_no_limit_only(place):
    """concurrency, asides: a wrong kind is a TypeError that says whether None is allowed."""
    if place.optional:
        place.call(None)
    else:
        refused(place, None, TypeError)


@pytest.mark.parametrize("place", ALL, ids=str)
def test_nan_is_a_value_error(place):
    """world 40: NaN among the keys of the timers. No call takes it."""
    refused(place, nan, ValueError)
    if place not in COUNTS:
        refused(place, Decimal("NaN"), ValueError)
        refused(place, Decimal("sNaN"), ValueError)


@pytest.mark.parametrize("place", [place for place in ALL if place.least > -inf], ids=str)
def test_a_number_below_the_least_one_is_a_value_error(place):
    """load-faults F13: each limit names itself."""
    numbers = [-1, -sys.maxsize - 1, -(10**400), -inf, *([0] if place.least else [])]
    if place not in COUNTS:
        numbers += [-0.5, Decimal("-0.1"), Fraction(-1, 3)]
    for number in numbers:
        refused(place, number, ValueError)


@pytest.mark.parametrize("place", [*SECONDS, *TIMES], ids=str)
def test_seconds_are_any_real_number(place):
    """concurrency, asides: `Timeout(Decimal(1))` is a TypeError, while `Sleep` takes it."""
    for number in (1, 1.5, Decimal("1.5"), Fraction(3, 2), Like(1.5), IntLike(2)):
        place.call(number)
    if place.least < 0:
        for number in (-1, -1.5, Decimal("-1.5"), Fraction(-3, 2), Like(-1.5), -(10**300) / 10):
            place.call(number)


@pytest.mark.parametrize("place", [*SECONDS, *TIMES], ids=str)
def test_seconds_that_are_too_large_for_the_timers_mean_never(place):
    """concurrency A, load-faults F10: a finite deadline above 1.4e306 ends the whole run."""
    for number in (*HUGE, 1e300, 1e306, 1.5e306, 1e307, 1e308, sys.float_info.max, Fraction(10**400), Decimal("1e999")):
        if place.endless:
            place.call(number)
        elif number >= 1e300:
            refused(place, number, ValueError)
    if place.endless:
        place.call(inf)


@pytest.mark.parametrize("place", COUNTS, ids=str)
def test_a_count_is_an_integer(place):
    """concurrency, asides: a count of permits, items or connections has no fraction."""
    if "workers" not in place.names:
        place.call(IntLike(2))
    for number in (1.0, 1.5, Decimal(1), Fraction(1), Like(1)):
        refused(place, number, TypeError)


@pytest.mark.parametrize("place", [place for place in COUNTS if "workers" not in place.names], ids=str)
def test_a_count_may_be_as_large_as_one_likes(place):
    """load-faults F13: a limit that no machine reaches is the same as none, not an OverflowError."""
    for number in HUGE:
        place.call(number)
    if place.endless:
        place.call(inf)
    else:
        refused(place, inf, ValueError)


# Sleep is a float, for speed: `float` converts its argument.


@pytest.mark.parametrize("make", [Sleep, lambda number: select(Sleep(number))])
def test_a_sleep_refuses_negative_numbers_and_nan(make):
    """load-faults F13: the error of a Sleep names the call, the parameter, the unit and the value."""
    for number in (-1.0, -inf, nan, -1e308):
        refused(Place("Sleep: seconds", yielding(make)), number, ValueError)


# Huge deadlines.

NEVER = [1e300, 1.5e306, 1e307, 1e308, sys.float_info.max, inf]


@pytest.mark.parametrize("seconds", NEVER)
@pytest.mark.parametrize(
    "wait",
    [
        Sleep,
        SleepUntil,
        lambda seconds: select(Sleep(seconds)),
        lambda seconds: select(Event().wait(), SleepUntil(seconds)),
    ],
)
def test_a_sleep_of_a_huge_number_of_seconds_never_ends(wait, seconds):
    """concurrency A: a daemon sleeps "for ever", and the run ends with an OverflowError of the kernel."""

    def patient():
        yield wait(seconds)
        pytest.fail("it woke")

    def main():
        yield Spawn(patient(), daemon=True)
        yield Sleep(1)
        return (yield Now())

    assert testing.run(main()) == 1


@pytest.mark.parametrize("seconds", NEVER)
@pytest.mark.parametrize("kind", [Timeout, MoveOnAfter, Shield])
def test_a_scope_of_a_huge_number_of_seconds_never_expires(kind, seconds):
    """concurrency A: `Timeout(sys.float_info.max)` is a usual "never", and a block that waits in it ends the run."""

    def main():
        with (yield kind(seconds)) as scope:
            yield Sleep(1)
            scope.deadline = seconds
            yield Sleep(1)
        return (yield Now())

    assert testing.run(main()) == 2


def test_a_timer_in_the_infinite_past_fires_at_once_and_first():
    """concurrency A: `Timers.call_at(-inf, ...)` ends the run with an OverflowError, too."""
    fired = []

    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        for number in (0, -1, -1e308, -inf, -sys.float_info.max):
            timers.call_at(number, lambda number=number: fired.append(number))
        yield Sleep(1)
        timers.call_at(-inf, lambda: fired.append("late"))
        yield Sleep(1)

    testing.run(main())
    assert fired == [-1e308, -inf, -sys.float_info.max, -1, 0, "late"]  # all before -1e300 s are the same time


@pytest.mark.parametrize("start", [100.0, 0.001, -100.0, -0.0001])
def test_a_timer_is_not_late_with_a_clock_below_zero(start):
    """concurrency M: a clock that is negative makes timers up to 1/128 s late."""

    class Ticking(VirtualClock):
        def now(self):
            self.time += 0.0001
            return self.time

    def sleeper(done):
        began = yield Now()
        yield Sleep(0.001)
        done.append((yield Now()) - began)

    def main():
        done = []
        yield Spawn(sleeper(done))
        while not done:
            yield
        return done[0]

    assert 0.001 <= run(main(), clock=Ticking(start)) < 0.003


def test_a_read_of_a_huge_number_of_bytes_asks_for_a_gibibyte():
    """load-faults F13, a sibling: the system call would fail with an OverflowError or a MemoryError."""
    asked = []

    class Memory:
        def __init__(self):
            from minisched.io.filelike import FileState

            self.file_state = FileState()

        def try_read(self, size):
            asked.append(size)
            return b"x"

    def main():
        for size in (LARGEST_READ_BYTES - 1, LARGEST_READ_BYTES, LARGEST_READ_BYTES + 1, sys.maxsize + 1):
            yield Read(Memory(), size)

    run(main())
    assert asked == [LARGEST_READ_BYTES - 1, LARGEST_READ_BYTES, LARGEST_READ_BYTES, LARGEST_READ_BYTES]
