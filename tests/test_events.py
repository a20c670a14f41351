"""Events and barriers: one moment wakes all waiters, and no arrival is lost to a cancellation."""

from __future__ import annotations

import pytest
from forms import in_thread
from sync_helpers import ended, logged

from minisched import (
    Barrier,
    Cancel,
    Deadlock,
    Event,
    Join,
    MoveOnAfter,
    Now,
    Sleep,
    Spawn,
    SyscallError,
    select,
)
from minisched.testing import check_syscall, run

# Events.


def test_set_wakes_all_waiters_in_fifo_order():
    event, log = Event(), []

    def main():
        tasks = []
        for name in "abc":
            tasks.append((yield Spawn(logged(event.wait(), log, name))))
        yield Sleep(1)
        assert (event.is_set(), log, repr(event)) == (False, [], "<Event #1: 3 waiting>")
        event.set()
        for task in tasks:
            yield Join(task)
        assert (event.is_set(), repr(event)) == (True, "<Event #1: set>")

    run(main())
    assert log == [("a", None), ("b", None), ("c", None)]


def test_a_wait_for_a_set_event_returns_at_once_until_clear():
    event = Event()

    def main():
        event.set()
        event.set()
        yield event.wait()
        assert (yield Now()) == 0
        event.clear()
        with (yield MoveOnAfter(1)) as scope:
            yield event.wait()
        return scope.cancelled_caught, event.is_set()

    assert run(main()) == (True, False)


def test_an_event_that_is_set_and_cleared_in_one_turn_has_woken_its_waiters():
    event, log = Event(), []

    def main():
        yield Spawn(logged(event.wait(), log, "before"))
        yield
        event.set()
        event.clear()
        yield Spawn(logged(event.wait(), log, "after"), daemon=True)
        yield Sleep(1)

    run(main())
    assert log == [("before", None)]


def test_an_event_can_be_set_outside_of_a_run_from_any_thread():
    event = Event("go")
    assert in_thread(event.set) is None and event.is_set() and repr(event) == "<Event go: set>"

    def main():
        yield event.wait()
        return "went"

    assert run(main()) == "went"
    assert in_thread(event.clear) is None  # and after it
    assert repr(event) == "<Event go: 0 waiting>" and repr(Event()) == "<Event unused: 0 waiting>"


def test_a_cancellation_removes_the_waiter_from_the_event():
    event, log = Event(), []

    def main():
        tasks = []
        for name in "ab":
            tasks.append((yield Spawn(logged(event.wait(), log, name))))
        yield
        yield Cancel(tasks[0])
        assert repr(event) == "<Event #1: 1 waiting>"
        event.set()
        yield from ended(tasks[0])

    run(main())
    assert log == [("b", None)]


def test_an_event_that_is_never_set_is_a_deadlock_and_works_in_the_next_run():
    event = Event()

    def main():
        yield event.wait()

    with pytest.raises(Deadlock, match="EventWait"):
        run(main())
    event.set()
    run(main())


# Barriers.


def arrival(barrier, log, name):
    log.append((name, (yield barrier.wait()), (yield Now())))


def test_a_barrier_opens_for_all_parties_and_returns_their_order_of_arrival():
    barrier, log = Barrier(3), []

    def main():
        for round_number in range(2):  # each opening begins a new round
            for name in "ab":
                yield Spawn(arrival(barrier, log, f"{name}{round_number}"))
            yield Sleep(1)
            assert repr(barrier) == "<Barrier #1: 2 of 3 waiting>"
            yield from arrival(barrier, log, f"c{round_number}")

    run(main())
    assert log == [("a0", 0, 1), ("b0", 1, 1), ("c0", 2, 1), ("a1", 0, 2), ("b1", 1, 2), ("c1", 2, 2)]


def test_a_second_arrival_in_the_turn_in_which_the_barrier_opens_counts_for_the_next_round():
    barrier, log = Barrier(2), []

    def runner(name):
        for _ in range(3):
            log.append(f"{name}{yield barrier.wait()}")

    def main():
        yield Spawn(runner("a"))
        yield Spawn(runner("b"))

    run(main())
    assert [sorted(log[number : number + 2]) for number in (0, 2, 4)] == [["a0", "b1"]] * 3


def test_a_barrier_for_one_party_is_always_open():
    barrier = Barrier(1)

    def main():
        return (yield barrier.wait()), (yield barrier.wait())

    assert run(main()) == (0, 0)


@pytest.mark.parametrize("parties", [0, -1])
def test_a_barrier_without_a_party_raises_an_error(parties):
    with pytest.raises(ValueError, match=f"parties is a number of tasks, 1 or more, not {parties}"):
        Barrier(parties)


def test_a_cancellation_takes_back_the_arrival_at_a_barrier():
    barrier, log = Barrier(3, "start"), []

    def main():
        first = yield Spawn(arrival(barrier, log, "a"))
        yield Spawn(arrival(barrier, log, "b"))
        yield
        yield Cancel(first)
        yield from ended(first)
        yield Spawn(arrival(barrier, log, "c"))
        yield Sleep(1)
        assert repr(barrier) == "<Barrier start: 2 of 3 waiting>"
        yield from arrival(barrier, log, "d")

    run(main())
    assert log == [("b", 0, 1), ("c", 1, 1), ("d", 2, 1)]


def test_a_task_that_is_cancelled_in_the_turn_in_which_the_barrier_opens_has_arrived():
    barrier, log = Barrier(2), []

    def main():
        task = yield Spawn(arrival(barrier, log, "a"))
        yield
        yield Spawn(arrival(barrier, log, "b"))
        assert task.state == "ready"
        yield Cancel(task)
        yield from ended(task)

    run(main())
    assert log == [("a", 0, 0), ("b", 1, 0)]


def test_a_select_arrives_once_at_a_barrier():
    barrier = Barrier(3)

    def twice():
        with pytest.raises(SyscallError, match=r"task 'twice' waits twice at <Barrier #1: 1 of 3 .*arrives there once"):
            yield select(barrier.wait(), Sleep(5), barrier.wait())
        return repr(barrier)

    def chooser():
        return (yield select(Sleep(5), barrier.wait()))

    def main():
        assert (yield Join((yield Spawn(twice())))) == "<Barrier #1: 0 of 3 waiting>"
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(chooser())))
        yield
        assert (yield barrier.wait()) == 2
        return (yield Join(tasks[0])), (yield Join(tasks[1])), (yield Now())

    assert run(main()) == ((1, 0), (1, 1), 0)


# Both.


def waiting_at_an_event():
    event = Event()
    return event.wait(), event.set


def waiting_at_a_barrier():
    barrier = Barrier(2)
    yield Spawn(arriving_later(barrier), daemon=True)
    return barrier.wait()


def arriving_later(barrier):
    yield Sleep(1)
    yield barrier.wait()


@pytest.mark.parametrize("make", [waiting_at_an_event, waiting_at_a_barrier])
def test_each_wait_passes_the_conformance_test(make):
    check_syscall(make)
