"""Tests of the timers and clocks: order, ties, cancelled timers; Sleep, SleepUntil, Now."""

from __future__ import annotations

import doctest
import math
from importlib import import_module
from random import Random

import pytest

from minisched import Cancel, Cancelled, Deadlock, Join, Now, Sleep, SleepUntil, Spawn
from minisched import run as run_in_real_time
from minisched.kernel import Kernel
from minisched.kernel.lifecycle import Lifecycle
from minisched.tasks.clocks import MAX_WAIT_SECONDS, MonotonicClock
from minisched.tasks.timers import MIN_SWEEP_TIMERS, Timers
from minisched.testing import VirtualClock, check_syscall, run


@pytest.fixture
def timers():
    return Timers(Kernel(Lifecycle), VirtualClock())


def test_timers_fire_in_the_order_of_their_deadlines(timers):
    fired = []
    for deadline in (3, 1, 2):
        timers.call_at(deadline, lambda deadline=deadline: fired.append(deadline))
    timers.clock.time = 2
    timers.fire()
    assert (fired, timers.next_deadline()) == ([1, 2], 3)


def test_timers_with_the_same_deadline_fire_in_order_of_arrival(timers):
    fired = []
    for number in range(4):
        timers.call_at(1, lambda number=number: fired.append(number))
        if number == 1:
            assert timers.next_deadline() == 1  # sorts the first two timers
    timers.clock.time = 1
    timers.fire()
    assert fired == [0, 1, 2, 3]


@pytest.mark.parametrize("sort_first", [False, True])
def test_a_timer_does_not_fire_before_its_deadline(timers, sort_first):
    timers.call_at(1, lambda: pytest.fail("early"))
    if sort_first:
        assert timers.next_deadline() == 1
    timers.clock.time = math.nextafter(1, 0)
    timers.fire()
    assert timers.next_deadline() == 1


@pytest.mark.parametrize("sort_first", [False, True])
def test_a_cancelled_timer_never_fires_and_leaves_nothing(timers, sort_first):
    timer = timers.call_at(1, lambda: pytest.fail("cancelled"))
    if sort_first:
        timers.next_deadline()
    timer()
    timer()
    timers.clock.time = 5
    timers.fire()
    assert (timers.alive(), timers.next_deadline()) == ([], None)
    assert timers.scheduled == 0


def test_a_timer_cancelled_before_the_loop_waits_is_never_put_into_a_bucket(timers):
    timers.call_at(1, lambda: None)
    timers.call_at(2, lambda: pytest.fail("cancelled")).cancel()
    assert timers.next_deadline() == 1
    assert (timers.scheduled, timers.incoming) == (1, [])


def test_a_due_timer_can_cancel_another_due_timer(timers):
    second = []
    timers.call_at(1, lambda: second[0]())
    second.append(timers.call_at(1, lambda: pytest.fail("cancelled")))
    timers.clock.time = 1
    timers.fire()
    assert timers.alive() == []


def test_a_timer_made_while_timers_fire_waits_for_the_next_fire(timers):
    fired = []
    timers.call_at(1, lambda: timers.call_at(1, lambda: fired.append("again")))
    timers.clock.time = 1
    timers.fire()
    assert fired == []
    timers.fire()
    assert fired == ["again"]


def test_after_a_callback_raised_the_other_timers_fire_next_time_in_order(timers):
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


def test_cancelled_timers_are_swept_out(timers):
    fired = []
    kept = [timers.call_at(100 + number, lambda number=number: fired.append(number)) for number in range(10)]
    for _ in range(10 * MIN_SWEEP_TIMERS):
        timer = timers.call_at(500, lambda: pytest.fail("cancelled"))
        timers.next_deadline()
        timer()
        assert timers.scheduled <= MIN_SWEEP_TIMERS
    assert timers.next_deadline() == 100
    assert timers.alive() == kept
    timers.clock.time = 1000
    timers.fire()
    assert fired == list(range(10))
    assert (timers.scheduled, len(timers.buckets)) == (0, 0)


def test_many_living_timers_are_swept_each_time_their_number_has_doubled(timers, monkeypatch):
    sweeps = []
    sweep = timers._sweep
    monkeypatch.setattr(timers, "_sweep", lambda: sweeps.append(timers.scheduled) or sweep())
    for number in range(9 * MIN_SWEEP_TIMERS):
        timers.call_at(number, lambda: None)
        timers.next_deadline()
    assert sweeps == [
        MIN_SWEEP_TIMERS + 1,
        2 * MIN_SWEEP_TIMERS + 3,
        4 * MIN_SWEEP_TIMERS + 7,
        8 * MIN_SWEEP_TIMERS + 15,
    ]


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


def test_sleeping_tasks_wake_at_their_deadlines_in_order():
    log = []

    def sleeper(seconds):
        yield Sleep(seconds)
        log.append((seconds, (yield Now())))

    def main():
        for seconds in (0.3, 0.1, 0.2):
            yield Spawn(sleeper(seconds))

    run(main())
    assert log == [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]


def test_sleep_until_takes_a_point_in_time_and_a_past_one_only_lets_others_run():
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
def test_a_negative_number_and_nan_are_refused(call):
    def main():
        with pytest.raises(ValueError, match=rf"{type(call).__name__}: .* is a .* (in|of) seconds"):
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


def test_a_sleeping_task_keeps_its_timer_which_says_how_much_is_left_and_not_its_call():
    def sleeper(call):
        yield call

    def main():
        task = yield Spawn(sleeper(Sleep(100_000)))
        endless = yield Spawn(sleeper(Sleep(math.inf)))
        yield Sleep(2.5)
        calls = [repr(task.call), repr(endless.call)]
        for sleeping in (task, endless):
            yield Cancel(sleeping)
            calls.append(sleeping.call)
        return calls

    assert run(main()) == ["Sleep(99997.5 s left)", "Sleep(inf)", None, None]


def test_the_repr_of_a_timer_is_its_deadline():
    timer = Timers(Kernel(Lifecycle), VirtualClock()).call_at(2.5, print)
    assert repr(timer) == "Timer(2.5)"


def test_a_clock_receives_plain_floats_which_keep_no_task_alive():
    times = []

    class Watched(VirtualClock):
        def wait(self, select, deadline):
            times.append(deadline)
            return super().wait(select, deadline)

    run(sleeping(), clock=Watched())
    assert [(type(time), time) for time in times if time is not None] == [(float, 1.0)]


def sleeping():
    yield Sleep(1)


def test_a_cancelled_sleeping_task_wakes_at_once_and_its_timer_is_cancelled():
    def sleeper():
        try:
            yield Sleep(100)
        except Cancelled:
            return (yield Now())

    def main():
        task = yield Spawn(sleeper())
        yield Sleep(1)
        yield Cancel(task)
        timers = task.kernel.service(Timers)
        return (yield Join(task)), (yield Now()), timers.alive()

    assert run(main()) == (1, 1, [])


def test_a_timer_and_a_sleep_of_the_same_deadline_fire_in_order_of_arrival():
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


def test_sleep_and_sleep_until_pass_the_conformance_test():
    check_syscall(lambda: Sleep(1))
    check_syscall(lambda: SleepUntil(3))


def test_the_service_names_the_sleeping_tasks(timers):
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


def test_the_clock_never_waits_more_than_a_day_at_once():
    waits = []
    clock = MonotonicClock()
    clock.wait(waits.append, None)
    clock.wait(waits.append, clock.now() + 1e9)
    clock.wait(waits.append, clock.now() - 5)
    assert waits == [MAX_WAIT_SECONDS, MAX_WAIT_SECONDS, 0.0]


def test_the_virtual_clock_jumps_to_a_deadline_only_if_no_file_is_ready():
    clock = VirtualClock()
    timeouts = []

    def select(events):
        return lambda timeout: timeouts.append(timeout) or events

    clock.wait(select(1), 5)
    assert clock.now() == 0
    clock.wait(select(0), 5)
    assert clock.now() == 5
    clock.wait(select(0), 3)  # a deadline in the past does not set the clock back
    clock.wait(select(1), None)
    assert (clock.now(), timeouts) == (5, [0.0, 0.0, 0.0, None])


def test_a_sleep_has_its_seconds():
    assert (Sleep(2).seconds, type(Sleep(2).seconds)) == (2, float)


def test_in_real_time_a_sleep_is_never_too_short():
    clock = MonotonicClock()
    before = clock.now()

    def main():
        yield Sleep(0.02)

    run_in_real_time(main())
    assert clock.now() - before >= 0.02


def test_a_peak_of_timers_does_not_raise_the_bound_on_cancelled_ones_for_ever():
    clock = VirtualClock()
    timers = Timers(Kernel(Lifecycle), clock)
    for _ in range(40 * MIN_SWEEP_TIMERS):
        timers.call_at(1, list)
    timers.call_at(500, list)
    assert timers.next_deadline() == 1
    clock.time = 2
    timers.fire()
    for number in range(100 * MIN_SWEEP_TIMERS):
        timer = timers.call_at(1000 + number, list)
        assert timers.next_deadline() == 500
        timer.cancel()
        assert timers.scheduled <= 2 * MIN_SWEEP_TIMERS


@pytest.mark.parametrize("call", [Sleep(1), SleepUntil(1), Now()], ids=repr)
def test_each_call_can_be_awaited(call):
    async def main():
        await call
        return await Now()

    assert run(main()) == (0 if isinstance(call, Now) else 1)


@pytest.mark.parametrize(
    "name", ["clocks", "timers", "scopes", "tasks", "taskgroup", "gather", "select_calls", "supervision"]
)
def test_the_examples_in_the_docstrings_run(name):
    result = doctest.testmod(import_module(f"minisched.tasks.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.mark.parametrize("late", [1, 2, 40])
def test_late_timers_fire_in_order_among_the_timers_of_an_open_bucket(timers, late):
    fired = []
    deadlines = [1 + number // 4 * 1e-5 for number in range(64)]
    for number, deadline in enumerate(deadlines):
        timers.call_at(deadline, lambda number=number: fired.append(number))
    assert timers.next_deadline() == 1  # sorts them
    for number in range(late):
        deadline = 1 + number % 20 * 1e-5
        deadlines.append(deadline)
        timers.call_at(deadline, lambda number=64 + number: fired.append(number))
    timers.clock.time = 2
    timers.fire()
    assert fired == sorted(range(64 + late), key=deadlines.__getitem__)
