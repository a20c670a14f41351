"""Conditions: waiting under a lock, and no notification is lost to a cancellation."""

from __future__ import annotations

import pytest
from sync_helpers import Abort, AbortRun, contender, result_or_error

from minisched import (
    Cancel,
    Cancelled,
    Condition,
    CurrentTask,
    Join,
    Lock,
    MoveOnAfter,
    Now,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    Timers,
)
from minisched.sync.conditions import ConditionWait
from minisched.testing import run


def notifying(condition, count=1, seconds=0.0):
    """Notify after some seconds."""
    yield Sleep(seconds)
    with (yield condition.acquire()):
        condition.notify(count)


def waiter(condition, log, name):
    """Wait for a notification; log the outcome, and whether the task owns the lock afterwards."""
    with (yield condition.acquire()) as lock:
        me = lock.owner
        try:
            assert (yield from condition.wait()) is None
            log.append(f"{name} notified")
        except Cancelled:
            log.append(f"{name} cancelled")
            raise
        finally:
            log.append(lock.owner is me)


def test_wait_releases_the_lock_and_acquires_it_again():
    condition, log = Condition(), []

    def main():
        task = yield Spawn(waiter(condition, log, "a"))
        yield
        with (yield condition.acquire()):
            condition.notify()
            yield Sleep(1)
            assert log == [] and task.state == "parked"
        yield Join(task)

    run(main())
    assert log == ["a notified", True] and not condition.lock.locked()


@pytest.mark.parametrize(("count", "woken"), [(0, ""), (1, "a"), (2, "ab"), (3, "abc"), (9, "abc")])
def test_notify_wakes_count_waiters_in_fifo_order(count, woken):
    condition, log = Condition(), []

    def main():
        for name in "abc":
            yield Spawn(waiter(condition, log, name), daemon=True)
        yield from notifying(condition, count, seconds=1)
        yield Sleep(1)
        log.append("end")

    run(main())
    assert log[: log.index("end")] == [entry for name in woken for entry in (f"{name} notified", True)]


def test_notify_all_wakes_all_waiters_and_each_acquires_the_lock_in_turn():
    condition, log = Condition(), []

    def slow(name):
        with (yield condition.acquire()):
            yield from condition.wait()
            log.append(name)
            yield Sleep(1)
            log.append(name)

    def main():
        for name in "abc":
            yield Spawn(slow(name))
        yield
        with (yield condition.acquire()):
            condition.notify_all()

    run(main())
    assert log == [*"aabbcc"]


def test_wait_for_checks_at_each_notification_and_returns_the_predicates_result():
    condition, items, seen = Condition(), [], []

    def taker():
        with (yield condition.acquire()):
            seen.append((yield from condition.wait_for(lambda: len(items) >= 2 and items)))
            seen.append((yield from condition.wait_for(lambda: "at once")))

    def main():
        task = yield Spawn(taker())
        for number in range(2):
            yield Sleep(1)
            with (yield condition.acquire()):
                items.append(number)
                condition.notify()
        yield Join(task)
        seen.append((yield Now()))

    run(main())
    assert seen == [[0, 1], "at once", 2]


def test_two_conditions_that_share_a_lock_have_separate_wait_queues():
    lock, log = Lock(), []
    empty, full = Condition(lock), Condition(lock)

    def main():
        yield Spawn(waiter(empty, log, "empty"))
        yield Spawn(waiter(full, log, "full"))
        yield from notifying(full, seconds=1)
        yield Sleep(1)
        assert log == ["full notified", True] and repr(empty) == "<Condition #1: 1 waiting>"
        yield from notifying(empty)

    run(main())
    assert log == ["full notified", True, "empty notified", True]


def test_wait_notify_and_release_without_the_lock_raise_an_error():
    condition = Condition(name="news")

    def other():
        with pytest.raises(SyscallError, match=r"notify of <Condition .*> by a task that does not own its lock: <Lock"):
            condition.notify()
        with pytest.raises(SyscallError, match="task 'other' waits for <Condition news: 0 waiting> without its lock"):
            yield from condition.wait()
        with pytest.raises(SyscallError, match="was released by task 'other'"):
            condition.release()

    def main():
        yield from other_owner()
        with pytest.raises(SyscallError, match="does not own its lock: <Lock news: free>"):
            condition.notify_all()

    def other_owner():
        yield condition.acquire()
        yield Join((yield Spawn(other())))
        condition.release()

    with pytest.raises(SyscallError, match="does not own its lock: <Lock news: free>"):
        condition.notify()
    run(main())


def test_a_notification_without_a_waiter_has_no_effect():
    condition = Condition()

    def main():
        yield from notifying(condition)
        with (yield MoveOnAfter(1)) as scope:
            yield from waiter(condition, [], "late")
        return scope.cancelled_caught

    assert run(main()) is True


def test_a_cancelled_wait_acquires_the_lock_again_before_it_raises():
    condition, log = Condition(), []

    def main():
        task = yield Spawn(waiter(condition, log, "a"))
        yield
        with (yield condition.acquire()):
            yield Cancel(task)
            yield Sleep(3)
            assert log == [] and repr(condition.lock) == "<Lock #1: held by task 'main', 1 waiting>"
        error = yield from result_or_error(task)
        return type(error), (yield Now())

    assert run(main()) == (TaskCancelled, 3)
    assert log == ["a cancelled", True] and not condition.lock.locked()


def test_a_wait_that_is_cancelled_before_it_parks_does_not_release_the_lock():
    condition, log = Condition(), []

    def main():
        with (yield MoveOnAfter(0)) as scope:
            with (yield Shield(None)):
                yield condition.acquire()
            with condition.lock:
                yield Spawn(contender(condition.lock, log, "b"))
                try:
                    yield from condition.wait()
                finally:
                    log.append("cancelled")
        return scope.cancelled_caught

    assert run(main()) is True
    assert log == ["cancelled"] and not condition.lock.locked()


def test_a_waiter_that_is_cancelled_after_its_notification_keeps_the_notification():
    condition, log = Condition(), []

    def main():
        first = yield Spawn(waiter(condition, log, "a"))
        yield Spawn(waiter(condition, log, "b"), daemon=True)
        yield
        with (yield condition.acquire()):
            condition.notify()
            first.kernel.cancel(first)
        yield from result_or_error(first)
        yield Sleep(1)
        log.append("end")

    run(main())
    assert log[: log.index("end")] == ["a notified", True]  # the waiter received it and can act on it


def test_a_notification_skips_a_waiter_that_was_cancelled_before_it():
    condition, log = Condition(), []

    def main():
        first = yield Spawn(waiter(condition, log, "a"))
        second = yield Spawn(waiter(condition, log, "b"))
        yield
        with (yield condition.acquire()):
            first.kernel.cancel(first)
            condition.notify()
        yield from result_or_error(first)
        yield Join(second)

    run(main())
    assert log == ["a cancelled", True, "b notified", True]


def test_a_cancellation_during_the_reacquire_waits_for_the_next_checkpoint():
    condition, log = Condition(), []

    def main():
        task = yield Spawn(waiter(condition, log, "a"))
        yield
        with (yield condition.acquire()):
            condition.notify()
            yield Sleep(1)
            yield Cancel(task)
            yield Sleep(1)
        return (yield from result_or_error(task)), (yield Now())

    assert run(main()) == (None, 2) and log == ["a notified", True]  # its body has no checkpoint after the reacquire


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_notified_wait_whose_lock_is_never_released_raises_that_error_alone(cancelled):
    condition = Condition(name="news")

    def careless():
        yield condition.acquire()
        condition.notify()
        yield Sleep(2)

    def main():
        task = yield Spawn(waiter(condition, [], "a"), keep=True)
        yield
        yield Spawn(careless())
        yield Sleep(1)
        if cancelled:
            yield Cancel(task)
        error = yield from result_or_error(task)
        assert isinstance(error, SyscallError)
        return str(error).partition(",")[0], error.__context__

    assert run(main()) == ("lock 'news' is held by task 'careless'", None)


def test_a_cancelled_wait_whose_lock_is_never_released_fails_with_that_error():
    condition = Condition(name="news")

    def main():
        task = yield Spawn(waiter(condition, [], "a"), keep=True)
        yield
        yield Join((yield Spawn(keeping())))
        yield Cancel(task)
        error = yield from result_or_error(task)
        return str(error).partition(",")[0], type(error.__context__)

    def keeping():
        yield condition.acquire()

    assert run(main()) == ("lock 'news' is held by task 'keeping'", Cancelled)


@pytest.mark.parametrize("moment", ["waiting", "waiting while another task owns the lock", "notified"])
def test_a_run_that_is_aborted_during_a_wait_raises_no_further_error(moment):
    condition, log = Condition(), []

    def main():
        yield Spawn(waiter(condition, log, "a"))
        yield Spawn(waiter(condition, log, "b"))
        yield Sleep(1)
        if moment != "waiting":
            yield condition.acquire()
        if moment == "notified":
            condition.notify()
            yield Sleep(1)
        yield AbortRun()

    def again():
        yield Spawn(waiter(condition, log, "again"))
        yield from notifying(condition, seconds=1)

    with pytest.raises(Abort) as caught:
        run(main())
    assert not hasattr(caught.value, "__notes__") and log == [False, False]
    run(again())
    assert log == [False, False, "again notified", True] and not condition.lock.locked()


def test_closing_a_waiting_body_between_turns_raises_no_error_and_leaves_the_lock_free():
    condition, log = Condition(), []

    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        yield Spawn(notifying(condition, seconds=1))
        body, answer = waiter(condition, log, "a"), None
        while not isinstance(call := body.send(answer), ConditionWait):
            answer = yield call
        yield call
        timers.call_at(5, body.close)
        yield Sleep(9)
        return condition.lock.locked()

    assert run(main()) is False and log == [False]
