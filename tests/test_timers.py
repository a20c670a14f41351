"""Deadlines, ties, the clock; Sleep, SleepUntil, Now."""

from __future__ import annotations

import math
from random import Random

import pytest

from minisched import Cancel, Cancelled, Deadlock, Join, Now, Sleep, SleepUntil, Spawn
from minisched import run as run_in_real_time
from minisched.clocks import DAY, MonotonicClock
from minisched.family import ended
from minisched.kernel import Kernel
from minisched.testing import VirtualClock, check_syscall, run
from minisched.timers import SWEPT, Timers


@pytest.fixture
def timers():
    return Timers(Kernel(ended), VirtualClock())


def test_timers_fire_in_the_order_of_their_deadlines(timers):
    fired = []
    for deadline in (3, 1, 2):
        timers.call_at(deadline, lambda deadline=deadline: fired.append(deadline))
    timers.clock.time = 2
    timers.fire()
    assert (fired, timers.next_deadline()) == ([1, 2], 3)


def test_the_same_deadline_is_first_come_first_served_sorted_before_or_not(timers):
    fired = []
    for number in range(4):
        timers.call_at(1, lambda number=number: fired.append(number))
        if number == 1:
            assert timers.next_deadline() == 1  # sorts the first two
    timers.clock.time = 1
    timers.fire()
    assert fired == [0, 1, 2, 3]


@pytest.mark.parametrize("looked", [False, True])
def test_what_is_not_due_does_not_fire(timers, looked):
    timers.call_at(1, lambda: pytest.fail("early"))
    if looked:
        assert timers.next_deadline() == 1
    timers.clock.time = math.nextafter(1, 0)
    timers.fire()
    assert timers.next_deadline() == 1


@pytest.mark.parametrize("sort_first", [False, True])
def test_a_forgotten_timer_never_fires_and_leaves_nothing(timers, sort_first):
    timer = timers.call_at(1, lambda: pytest.fail("forgotten"))
    if sort_first:
        timers.next_deadline()
    timer()
    timer()
    timers.clock.time = 5
    timers.fire()
    assert (timers.alive(), timers.next_deadline()) == ([], None)


def test_a_due_timer_can_forget_another_that_is_due(timers):
    second = []
    timers.call_at(1, lambda: second[0]())
    second.append(timers.call_at(1, lambda: pytest.fail("forgotten")))
    timers.clock.time = 1
    timers.fire()
    assert timers.alive() == []


def test_a_timer_made_while_others_fire_waits_for_the_next_time(timers):
    fired = []
    timers.call_at(1, lambda: timers.call_at(1, lambda: fired.append("again")))
    timers.clock.time = 1
    timers.fire()
    assert fired == []
    timers.fire()
    assert fired == ["again"]


def test_what_a_timer_raises_leaves_the_others_for_the_next_time_in_their_order(timers):
    fired = []
    for number in range(4):
        timers.call_at(1, lambda number=number: fired.append(number) if number != 1 else 1 / 0)
    timers.clock.time = 1
    with pytest.raises(ZeroDivisionError):
        timers.fire()
    assert fired == [0]
    assert len(timers.alive()) == 2
    timers.call_at(1, lambda: fired.append("one more"))
    timers.fire()
    assert fired == [0, 2, 3, "one more"]


def test_forgotten_timers_are_swept_out_when_they_are_most_of_all(timers):
    fired = []
    kept = [timers.call_at(100 + number, lambda number=number: fired.append(number)) for number in range(10)]
    for _ in range(10 * SWEPT):
        timer = timers.call_at(500, lambda: pytest.fail("forgotten"))
        timers.next_deadline()
        timer()
    assert timers.placed < 3 * SWEPT
    assert timers.next_deadline() == 100
    assert timers.alive() == kept
    timers.clock.time = 1000
    timers.fire()
    assert fired == list(range(10))
    assert (timers.forgotten, timers.placed, len(timers.slots)) == (0, 0, 0)


class Limited:
    """What has a deadline, and is over before it or not."""

    timer = None

    def __init__(self, deadline):
        self.deadline = deadline
        self.called = 0

    def __call__(self):
        self.called += 1


def test_a_limit_gets_a_timer_only_if_it_is_there_when_the_loop_waits(timers):
    over, there, moved = Limited(1), Limited(1), Limited(1)
    for limited in (over, there, moved):
        timers.limit(limited)
    over.timer = None
    moved.timer = timers.call_at(3, moved)
    assert timers.next_deadline() == 1
    assert over.timer is None
    assert timers.alive() == [there.timer, moved.timer]
    timers.clock.time = 2
    timers.fire()
    assert (over.called, there.called, moved.called) == (0, 1, 0)
    timers.clock.time = 3
    timers.fire()
    assert (over.called, there.called, moved.called) == (0, 1, 1)


def test_limits_and_timers_of_one_deadline_come_in_the_order_of_their_making(timers):
    fired = []

    class Writes(Limited):
        def __call__(self):
            fired.append("limit")

    timers.call_at(1, lambda: fired.append("first"))
    limit = Writes(1)
    timers.limit(limit)
    timers.call_at(1, lambda: fired.append("last"))
    timers.clock.time = 1
    timers.fire()
    assert fired == ["first", "limit", "last"]


def test_random_timers_fire_like_a_sorted_list(timers):
    random, expected, fired, kept = Random(7), [], [], []
    for number in range(500):
        deadline = random.randrange(20)
        timer = timers.call_at(deadline, lambda key=(deadline, number): fired.append(key))
        if random.random() < 0.5:
            kept.append(timer)
            expected.append((deadline, number))
        else:
            timer()
        if random.random() < 0.1:
            timers.next_deadline()
    for time in range(20):
        timers.clock.time = time
        timers.fire()
        assert all(deadline <= time for deadline, _ in fired)
    assert fired == sorted(expected)


def test_sleepers_wake_in_the_order_of_their_deadlines_and_at_them():
    log = []

    def sleeper(seconds):
        yield Sleep(seconds)
        log.append((seconds, (yield Now())))

    def main():
        for seconds in (0.3, 0.1, 0.2):
            yield Spawn(sleeper(seconds))

    run(main())
    assert log == [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]


def test_sleep_until_is_absolute_and_a_past_deadline_only_lets_others_run():
    def main():
        yield SleepUntil(5)
        before = yield Now()
        yield SleepUntil(4)
        return before, (yield Now())

    assert run(main()) == (5, 5)


def test_sleep_zero_is_one_turn():
    order = []

    def child(name):
        for _ in range(2):
            order.append(name)
            yield Sleep(0)

    def main():
        yield Spawn(child("a"))
        yield Spawn(child("b"))

    run(main())
    assert order == ["a", "a", "b", "b"]


@pytest.mark.parametrize("call", [Sleep(-1), Sleep(math.nan), SleepUntil(math.nan)])
def test_what_is_no_time_is_refused(call):
    def main():
        with pytest.raises(ValueError, match=rf"{type(call).__name__} takes a"):
            yield call

    run(main())


def test_an_endless_sleep_can_be_cancelled_and_alone_it_is_a_deadlock():
    def main():
        task = yield Spawn(endless())
        yield Sleep(1)
        yield Cancel(task)

    def endless():
        yield Sleep(math.inf)

    run(main())
    with pytest.raises(Deadlock, match=r"waits in Sleep\(inf\)"):
        run(endless())


def test_what_a_sleeping_task_waits_for_says_how_long_and_need_not_keep_the_call():
    def sleeper(call):
        yield call

    def main():
        task = yield Spawn(sleeper(Sleep(100_000)))
        endless = yield Spawn(sleeper(Sleep(math.inf)))
        yield Sleep(2.5)
        said = [repr(task.call), repr(endless.call)]
        for one in (task, endless):
            yield Cancel(one)
            said.append(one.call)
        return said

    assert run(main()) == ["Sleep(99997.5 s left)", "Sleep(inf)", None, None]


def test_a_timer_says_when():
    timer = Timers(Kernel(ended), VirtualClock()).call_at(2.5, print)
    assert repr(timer) == "Timer(2.5)"


def test_a_clock_is_told_numbers_which_hold_no_task():
    times = []

    class Watched(VirtualClock):
        def wait(self, select, deadline):
            times.append(deadline)
            return super().wait(select, deadline)

    run(sleeping(), clock=Watched())
    assert [(type(time), time) for time in times if time is not None] == [(float, 1.0)]


def sleeping():
    yield Sleep(1)


def test_a_cancelled_sleeper_wakes_at_once_and_forgets_its_deadline():
    def sleeper():
        try:
            yield Sleep(100)
        except Cancelled:
            return (yield Now())

    def main():
        task = yield Spawn(sleeper())
        yield Sleep(1)
        yield Cancel(task)
        return (yield Join(task)), (yield Now())

    assert run(main()) == (1, 1)


def test_a_deadline_and_a_sleep_that_end_in_the_same_turn_are_first_come_first_served():
    log = []

    def sleeper(name):
        try:
            yield Sleep(2)
            log.append(f"{name} slept")
            yield
        except Cancelled:
            log.append(f"{name} cancelled")

    def main():
        early = yield Spawn(sleeper("early"))
        yield
        timers = early.kernel.service(Timers)
        timers.call_at(2, lambda: [early.kernel.cancel(task) for task in (early, late)])
        late = yield Spawn(sleeper("late"))
        yield Sleep(5)

    run(main())
    assert log == ["early slept", "late cancelled", "early cancelled"]


def test_the_battery():
    check_syscall(lambda: Sleep(1))
    check_syscall(lambda: SleepUntil(3))


def test_tasks_says_who_sleeps(timers):
    kernel = timers.kernel
    kernel.services[Timers] = timers

    def body(seconds):
        yield Sleep(seconds)

    one, two = kernel.spawn(body(1)), kernel.spawn(body(2))
    timers.call_at(1, print)
    kernel.turns(5)
    timers.next_deadline()
    three = kernel.spawn(body(3))
    kernel.turns(5)
    assert list(timers.tasks()) == [one, two, three]
    timers.close()
    assert list(timers.tasks()) == []


def test_the_clock_never_asks_a_selector_for_more_than_a_day():
    asked = []
    clock = MonotonicClock()
    clock.wait(asked.append, None)
    clock.wait(asked.append, clock.now() + 1e9)
    clock.wait(asked.append, clock.now() - 5)
    assert asked == [DAY, DAY, 0.0]


def test_in_real_time_a_sleep_is_not_shorter_than_asked():
    clock = MonotonicClock()
    before = clock.now()

    def main():
        yield Sleep(0.02)

    run_in_real_time(main())
    assert clock.now() - before >= 0.02
