"""Locks and conditions: whose turn it is, whatever is cancelled; each test in generator and in `async def` form."""

from __future__ import annotations

import gc
import re

import pytest
from forms import add_async_forms, in_thread

from minisched import (
    Cancel,
    Cancelled,
    Condition,
    CurrentTask,
    Deadlock,
    Join,
    Lock,
    MoveOnAfter,
    Now,
    Shield,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    Timers,
    select,
)
from minisched.family import Family
from minisched.locks import Notified
from minisched.testing import check_syscall, run


class BrokenOff(BaseException):
    """What ends a run at once."""


class BreakOff(Syscall[None]):
    """End the run at once, as a second Ctrl-C does: every body is closed where it is."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = BrokenOff()
        raise kernel.fault


def contender(lock, log, name, seconds=0.0):
    """Have the lock for a while; log when that began, and how it ended."""
    with (yield lock.acquire()):
        log.append(f"{name} has it")
        try:
            yield Sleep(seconds)
        except Cancelled:
            log.append(f"{name} is cancelled")
            raise


def joined(task):
    """Return what Join raises, or the result."""
    try:
        return (yield Join(task))
    except Exception as error:
        return error


def refused(call, sentence):
    """Yield a call that raises a SyscallError; return when."""
    with pytest.raises(SyscallError, match=sentence):
        yield call
    return (yield Now())


# Whose turn it is.


def test_a_lock_is_had_by_one_task_at_a_time_in_the_order_of_asking():
    lock, log = Lock(), []

    def main():
        tasks = []
        for name in "abcd":
            tasks.append((yield Spawn(contender(lock, log, name, seconds=1))))
        for number, task in enumerate(tasks, 1):
            yield Join(task)
            log.append(f"{yield Now():g}")
            assert number < 4 or not lock.locked()

    run(main())
    assert log == ["a has it", "b has it", "1", "c has it", "2", "d has it", "3", "4"]


def test_a_released_lock_belongs_to_the_first_who_waits_before_that_one_has_run():
    lock = Lock()

    def main():
        yield lock.acquire()
        waiter = yield Spawn(contender(lock, [], "b"))
        yield
        lock.release()
        assert lock.owner is waiter and waiter.state == "ready"
        yield Join(waiter)
        assert lock.owner is None and not lock.locked()

    run(main())


def test_who_asks_between_a_release_and_the_turn_of_the_one_who_was_woken_comes_later():
    lock, log = Lock(), []

    def barger():
        yield  # so that its request comes in the turn after the release
        yield from contender(lock, log, "barger")

    def main():
        with (yield lock.acquire()):
            yield Spawn(contender(lock, log, "waiter"))
            yield
            yield Spawn(barger())
        log.append("released")
        yield from contender(lock, log, "again")

    run(main())
    assert log == ["released", "waiter has it", "again has it", "barger has it"]


@pytest.mark.parametrize("ending", ["returns", "fails", "is cancelled"])
def test_the_with_gives_the_lock_back_however_it_ends(ending):
    lock, log = Lock(), []

    def owner():
        with (yield lock.acquire()) as same:
            assert same is lock
            yield Sleep(1)
            if ending == "fails":
                raise ValueError("v")
            yield Sleep(0 if ending == "returns" else 10)
        return "returned"

    def main():
        task = yield Spawn(owner(), keep=True)
        yield Spawn(contender(lock, log, "next"))
        yield Sleep(2)
        yield Cancel(task)
        return log == ([] if ending == "is cancelled" else ["next has it"]), (yield from joined(task))

    in_time, result = run(main())
    kinds = {"returns": str, "fails": ValueError, "is cancelled": TaskCancelled}
    assert (in_time, type(result)) == (True, kinds[ending])
    assert log == ["next has it"] and not lock.locked()


@pytest.mark.parametrize("kind", [Lock, Condition])
def test_async_with_waits_for_the_lock_and_gives_it_back_on_an_error_too(kind):
    thing, log = kind(), []
    lock = thing if kind is Lock else thing.lock

    async def owner(name):
        async with thing as same:
            assert same is lock and lock.locked()
            log.append(name)
            await Sleep(1)
            raise ValueError(name)

    async def main():
        tasks = [await Spawn(owner(name), keep=True) for name in "ab"]
        for name, task in zip("ab", tasks, strict=True):
            with pytest.raises(ValueError, match=name):
                await Join(task)
            log.append(await Now())

    run(main())
    assert log == ["a", "b", 1, 2] and not lock.locked()


def test_a_lock_of_a_task_that_waits_for_several_things_goes_to_it():
    lock, log = Lock(), []

    def chooser():
        number, same = yield select(Sleep(5), lock.acquire())
        with same:
            log.append((number, same is lock, lock.owner is (yield CurrentTask())))

    def main():
        with (yield lock.acquire()):
            yield Spawn(chooser())
            yield Sleep(1)
        yield Sleep(0)

    run(main())
    assert log == [(1, True, True)] and not lock.locked()


def test_a_lock_goes_once_to_a_task_that_waits_for_it_twice():
    lock, log = Lock(), []

    def chooser():
        number, same = yield select(lock.acquire(), lock.acquire())
        with same:
            log.append((number, repr(lock)))

    def main():
        with (yield lock.acquire()):
            yield Spawn(chooser(), "chooser")
            yield
        with (yield lock.acquire()):
            pass

    run(main())
    assert log == [(0, "<Lock #1: held by task 'chooser', 1 waiting>")] and not lock.locked()


# What is refused.


def test_only_the_owner_releases_and_only_once():
    lock = Lock("till")

    def other():
        with pytest.raises(SyscallError, match="<Lock till: held by task 'main', 0 waiting> was released by task 'oth"):
            lock.release()
        yield

    def main():
        yield lock.acquire()
        yield Join((yield Spawn(other())))
        lock.release()
        with pytest.raises(SyscallError, match="<Lock till: free> was released by task 'main': only its owner can"):
            lock.release()

    run(main())


def test_a_lock_that_nobody_has_is_released_by_nobody():
    with pytest.raises(SyscallError, match="<Lock unused: free> was released by nobody"):
        Lock().release()

    lock, errors = Lock(), []

    def release():
        with pytest.raises(SyscallError) as caught:
            lock.release()
        errors.append(str(caught.value).partition(":")[2].partition(" was released by nobody")[0])

    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        timers.call_at(1, release)
        timers.call_at(3, release)
        with (yield lock.acquire()):
            yield Sleep(2)
        yield Sleep(2)

    run(main())
    assert errors == [" held by task 'main', 0 waiting>", " free>"]


def test_the_owner_does_not_wait_for_itself():
    lock = Lock()

    def main():
        with (yield lock.acquire()):
            with pytest.raises(SyscallError, match=r"task 'main' has <Lock #1: .*> already: it would wait for itself"):
                yield lock.acquire()
            with pytest.raises(SyscallError, match="it would wait for itself"):
                yield select(Sleep(1), lock.acquire())
            assert lock.locked()

    run(main())
    assert not lock.locked()


def test_a_with_that_does_not_wait_for_the_lock_says_how_to():
    lock = Lock()
    sentence = r"`with lock:` does not wait for it: `with \(yield lock.acquire\(\)\):`, or `async with lock:`"

    def other():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("it belongs to main")
        yield

    def main():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("it is free")
        yield lock.acquire()
        yield Join((yield Spawn(other())))
        with lock:
            pass
        (yield CurrentTask()).kernel.service(Timers).call_at(1, between_turns)
        yield Sleep(2)

    def between_turns():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("it is nobody's turn")

    with pytest.raises(SyscallError, match=sentence), lock:
        pytest.fail("nobody runs")
    run(main())
    assert not lock.locked()


def test_an_error_passes_a_with_whose_lock_was_given_back_in_it():
    lock = Lock()

    def main():
        with (yield lock.acquire()):
            lock.release()
            raise ValueError("the one to be seen")

    def no_error():
        with (yield lock.acquire()):
            lock.release()

    with pytest.raises(ValueError, match="the one to be seen"):
        run(main())
    with pytest.raises(SyscallError, match="only its owner can do that, once"):
        run(no_error())


# Cancellation.


def test_acquire_passes_the_battery():
    def make():
        lock = Lock()
        yield Spawn(contender(lock, [], "holder", seconds=1))
        return lock.acquire()

    check_syscall(make)


def test_a_lock_handed_to_a_task_that_is_cancelled_in_the_same_turn_is_owned_and_given_back():
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b", seconds=5))
        last = yield Spawn(contender(lock, log, "c"))
        yield
        lock.release()
        task.kernel.cancel(task)
        assert isinstance((yield from joined(task)), TaskCancelled)
        yield Join(last)

    run(main())
    assert log == ["b has it", "b is cancelled", "c has it"] and not lock.locked()


def test_a_waiter_that_is_cancelled_before_the_hand_over_is_passed_over():
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b"))
        last = yield Spawn(contender(lock, log, "c"))
        yield
        task.kernel.cancel(task)
        lock.release()
        assert lock.owner is last
        assert isinstance((yield from joined(task)), TaskCancelled)
        yield Join(last)

    run(main())
    assert log == ["c has it"] and not lock.locked()


def test_when_all_who_waited_are_cancelled_the_lock_becomes_free():
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        tasks = []
        for name in "bc":
            tasks.append((yield Spawn(contender(lock, log, name))))
        yield
        for task in tasks:
            yield Cancel(task)
        assert repr(lock) == "<Lock #1: held by task 'main', 0 waiting>"
        lock.release()
        yield from contender(lock, log, "main")

    run(main())
    assert log == ["main has it"] and not lock.locked()


# The owner's end.


def returns(lock):
    yield lock.acquire()
    yield Sleep(1)


def returns_before_its_child(lock):
    yield lock.acquire()
    yield Spawn(sleeping(100))
    yield Sleep(1)


def fails(lock):
    yield from returns(lock)
    raise ValueError("v")


def sleeping(seconds):
    yield Sleep(seconds)


@pytest.mark.parametrize(("body", "state"), [(returns, "done"), (returns_before_its_child, "ending"), (fails, "done")])
def test_who_waits_for_a_lock_whose_owner_ends_without_releasing_it_is_told(body, state):
    lock = Lock("till")
    sentence = r"lock 'till' is held by task 'careless', which has ended without releasing it: use `with \(yield lock\."
    calls = [lock.acquire(), select(Sleep(50), lock.acquire()), lock.acquire()]

    def main():
        owner = yield Spawn(body(lock), "careless", keep=True)
        tasks = []
        for call in calls:
            tasks.append((yield Spawn(refused(call, sentence))))
        for task in tasks:
            assert (yield Join(task)) == 1
        assert owner.state == state
        assert repr(lock) == "<Lock till: held by task 'careless', which has ended, 0 waiting>"
        for call in calls:  # who comes later is told, too
            assert (yield from refused(call, sentence)) == 1
        yield from joined(owner)
        for call in calls:
            yield from refused(call, sentence)

    run(main())


def test_they_are_told_in_the_order_of_their_coming():
    lock, log = Lock(), []

    def waiting(name):
        yield from refused(lock.acquire(), "has ended without releasing it")
        log.append(name)

    def main():
        yield Spawn(returns(lock))
        for name in "abc":
            yield Spawn(waiting(name))

    run(main())
    assert log == [*"abc"]


def test_a_task_that_gave_its_lock_back_may_end_while_others_wait_for_it():
    lock, log = Lock(), []

    def main():
        yield Spawn(contender(lock, log, "a", seconds=1))
        yield Spawn(contender(lock, log, "b", seconds=1))
        yield Spawn(contender(lock, log, "c", seconds=1))

    run(main())
    assert log == ["a has it", "b has it", "c has it"]


def test_of_two_locks_of_a_task_that_ends_only_the_one_it_kept_is_abandoned():
    kept, given_back, log = Lock("kept"), Lock("given back"), []

    def careless():
        yield kept.acquire()
        with (yield given_back.acquire()):
            yield Sleep(1)

    def main():
        yield Spawn(careless())
        yield Spawn(contender(given_back, log, "b"))
        abandoned = yield Spawn(contender(kept, log, "c"), keep=True)
        log.append(str((yield from joined(abandoned))).partition(",")[0])

    run(main())
    assert sorted(log) == ["b has it", "lock 'kept' is held by task 'careless'"]


def test_who_waited_before_the_careless_owner_had_the_lock_is_told_of_its_end_too():
    lock, log = Lock("till"), []

    def main():
        yield Spawn(contender(lock, log, "a", seconds=1))
        yield Spawn(returns(lock), "careless")
        third = yield Spawn(contender(lock, log, "c"), keep=True)
        log.append(str((yield from joined(third))).partition(",")[0])
        log.append((yield Now()))

    run(main())
    assert log == ["a has it", "lock 'till' is held by task 'careless'", 2]


def test_nothing_is_kept_of_a_lock_that_was_given_back():
    locks, log = [Lock() for _ in range(3)], []

    def main():
        family = (yield CurrentTask()).kernel.service(Family)
        for lock in locks:
            yield lock.acquire()
            for name in "ab":
                yield Spawn(contender(lock, log, name, seconds=1))
        yield Sleep(1)
        assert len(family.at_body_end) == 1
        for lock in locks:
            lock.release()
        yield Sleep(5)
        return dict(family.at_body_end)

    assert run(main()) == {} and len(log) == 6


def test_a_cycle_of_locks_is_a_deadlock_that_is_reported():
    one, two = Lock("one"), Lock("two")

    def both(first, second):
        with (yield first.acquire()):
            yield Sleep(1)
            with (yield second.acquire()):
                pytest.fail("it waits for ever")

    def main():
        yield Spawn(both(one, two), "a")
        yield Spawn(both(two, one), "b")

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert re.search("a cycle: [0-9. ]*a -> [0-9. ]*b -> [0-9. ]*a$", str(caught.value))
    assert "0.0 a waits in Acquire(<Lock two: held by task 'b', 1 waiting>)" in str(caught.value)
    assert not one.locked() and not two.locked()


def test_an_acquire_that_was_made_before_the_lock_became_free_waits_for_nobody():
    assert list(Lock().acquire().blockers()) == []


# Runs and threads.


def test_a_lock_can_be_used_in_a_second_run_and_keeps_nothing_of_the_first():
    lock, log = Lock(), []

    def main():
        yield Spawn(contender(lock, log, "a"))
        yield Spawn(contender(lock, log, "b"))
        yield

    for _ in range(2):
        run(main())
        assert lock.kernel is None
    assert log == ["a has it", "b has it"] * 2 and repr(lock) == "<Lock #1: free>"


def test_a_lock_that_was_kept_to_the_end_of_a_run_says_so_in_the_next():
    lock = Lock("till")

    def careless():
        yield lock.acquire()

    def main():
        yield lock.acquire()

    run(careless())
    with pytest.raises(SyscallError, match="lock 'till' is held by task 'careless', which has ended without releasing"):
        run(main())


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_lock_of_a_run_that_was_broken_off_is_free_in_the_next(handed_over):
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b"))
        yield
        if handed_over:
            lock.release()
            assert lock.owner is task
        yield BreakOff()

    def again():
        yield from contender(lock, log, "again")

    with pytest.raises(BrokenOff):
        run(main())
    run(again())
    assert log == ["again has it"] and not lock.locked()


@pytest.mark.parametrize("waiters", [0, 1])
def test_a_lock_in_use_in_another_run_is_refused(waiters):
    lock, log = Lock(), []

    def other():
        with pytest.raises(SyscallError, match=rf"<Lock #1: held by task 'main', {waiters} waiting> is in use in"):
            yield lock.acquire()
        return "refused"

    def main():
        with (yield lock.acquire()):
            for _ in range(waiters):
                yield Spawn(contender(lock, log, "a"))
                yield
            assert in_thread(lambda: run(other())) == "refused"
        yield from contender(lock, log, "main")

    run(main())
    assert log == ["a has it"] * waiters + ["main has it"]


def test_a_lock_that_nobody_has_goes_to_the_run_that_asks_for_it():
    lock, log = Lock(), []

    def main():
        yield from contender(lock, log, "a")
        in_thread(lambda: run(contender(lock, log, "other")))
        yield from contender(lock, log, "b")

    run(main())
    assert log == ["a has it", "other has it", "b has it"]


def test_calls_from_another_thread_are_refused():
    condition = Condition()
    lock = condition.lock

    def waiter():
        with (yield condition.acquire()):
            yield from condition.wait()

    def main():
        task = yield Spawn(waiter())
        yield
        with (yield lock.acquire()):
            for call, verb in (lock.release, "release of <Lock"), (condition.notify, "notify of <Condition"):
                error = in_thread(call)
                assert isinstance(error, SyscallError) and str(error).startswith(verb)
                assert "in another thread than its run's" in str(error)
            assert lock.owner is (yield CurrentTask()) and task.state == "parked"
            condition.notify()

    run(main())
    assert not lock.locked()


def test_a_lock_that_is_dropped_is_collected_and_no_longer_known():
    def main():
        yield Lock().acquire()
        gc.collect()
        kernel = (yield CurrentTask()).kernel
        return [list(getattr(service, "known", ())) for service in kernel.services.values()]

    assert not any(run(main()))


# Conditions.


def notifying(condition, count=1, seconds=0.0):
    """Notify after a while."""
    yield Sleep(seconds)
    with (yield condition.acquire()):
        condition.notify(count)


def waiter(condition, log, name):
    """Wait to be notified; log what came of it, and whether the lock is owned then."""
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


def test_wait_gives_the_lock_back_and_has_it_again_afterwards():
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


@pytest.mark.parametrize(("count", "woken"), [(0, ""), (1, "a"), (2, "ab"), (3, "abc"), (9, "abc"), (-1, "")])
def test_notify_wakes_so_many_in_the_order_of_their_coming(count, woken):
    condition, log = Condition(), []

    def main():
        for name in "abc":
            yield Spawn(waiter(condition, log, name), daemon=True)
        yield from notifying(condition, count, seconds=1)
        yield Sleep(1)
        log.append("end")

    run(main())
    assert log[: log.index("end")] == [said for name in woken for said in (f"{name} notified", True)]


def test_notify_all_wakes_all_and_each_has_the_lock_in_turn():
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


def test_wait_for_looks_at_each_notification_and_returns_what_the_predicate_did():
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


def test_two_conditions_may_share_a_lock_and_each_has_its_own_line():
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


def test_to_wait_and_to_notify_the_lock_is_needed():
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


def test_notify_is_heard_by_nobody_if_nobody_waits():
    condition = Condition()

    def main():
        yield from notifying(condition)
        with (yield MoveOnAfter(1)) as scope:
            yield from waiter(condition, [], "late")
        return scope.cancelled

    assert run(main()) is True


def test_a_wait_that_is_cancelled_has_the_lock_again_before_it_raises():
    condition, log = Condition(), []

    def main():
        task = yield Spawn(waiter(condition, log, "a"))
        yield
        with (yield condition.acquire()):
            yield Cancel(task)
            yield Sleep(3)
            assert log == [] and repr(condition.lock) == "<Lock #1: held by task 'main', 1 waiting>"
        error = yield from joined(task)
        return type(error), (yield Now())

    assert run(main()) == (TaskCancelled, 3)
    assert log == ["a cancelled", True] and not condition.lock.locked()


def test_a_wait_that_was_cancelled_before_it_began_never_gave_the_lock_back():
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
        return scope.cancelled

    assert run(main()) is True
    assert log == ["cancelled"] and not condition.lock.locked()


def test_a_notification_is_not_lost_when_the_notified_is_cancelled_after_it():
    condition, log = Condition(), []

    def main():
        first = yield Spawn(waiter(condition, log, "a"))
        yield Spawn(waiter(condition, log, "b"), daemon=True)
        yield
        with (yield condition.acquire()):
            condition.notify()
            first.kernel.cancel(first)
        yield from joined(first)
        yield Sleep(1)
        log.append("end")

    run(main())
    assert log[: log.index("end")] == ["a notified", True]  # it has it, and can act on it


def test_a_notification_goes_to_the_next_when_the_first_is_cancelled_before_it():
    condition, log = Condition(), []

    def main():
        first = yield Spawn(waiter(condition, log, "a"))
        second = yield Spawn(waiter(condition, log, "b"))
        yield
        with (yield condition.acquire()):
            first.kernel.cancel(first)
            condition.notify()
        yield from joined(first)
        yield Join(second)

    run(main())
    assert log == ["a cancelled", True, "b notified", True]


def test_a_cancellation_while_the_lock_is_waited_for_again_comes_after_it():
    condition, log = Condition(), []

    def main():
        task = yield Spawn(waiter(condition, log, "a"))
        yield
        with (yield condition.acquire()):
            condition.notify()
            yield Sleep(1)
            yield Cancel(task)
            yield Sleep(1)
        return (yield from joined(task)), (yield Now())

    assert run(main()) == (None, 2) and log == ["a notified", True]  # its body has no checkpoint after that


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_wait_whose_lock_is_never_given_back_says_so_and_nothing_else(cancelled):
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
        error = yield from joined(task)
        assert isinstance(error, SyscallError)
        return str(error).partition(",")[0], error.__context__

    assert run(main()) == ("lock 'news' is held by task 'careless'", None)


def test_a_cancelled_wait_whose_lock_is_never_given_back_fails_with_that():
    condition = Condition(name="news")

    def main():
        task = yield Spawn(waiter(condition, [], "a"), keep=True)
        yield
        yield Join((yield Spawn(keeping())))
        yield Cancel(task)
        error = yield from joined(task)
        return str(error).partition(",")[0], type(error.__context__)

    def keeping():
        yield condition.acquire()

    assert run(main()) == ("lock 'news' is held by task 'keeping'", Cancelled)


@pytest.mark.parametrize("moment", ["waiting", "waiting while another has the lock", "notified"])
def test_a_wait_that_is_broken_off_makes_no_noise(moment):
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
        yield BreakOff()

    def again():
        yield Spawn(waiter(condition, log, "again"))
        yield from notifying(condition, seconds=1)

    with pytest.raises(BrokenOff) as caught:
        run(main())
    assert not hasattr(caught.value, "__notes__") and log == [False, False]
    run(again())
    assert log == [False, False, "again notified", True] and not condition.lock.locked()


def test_a_body_that_is_closed_between_turns_while_its_condition_had_the_lock_makes_no_noise():
    condition, log = Condition(), []

    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        yield Spawn(notifying(condition, seconds=1))
        body, answer = waiter(condition, log, "a"), None
        while not isinstance(call := body.send(answer), Notified):
            answer = yield call
        yield call
        timers.call_at(5, body.close)
        yield Sleep(9)
        return condition.lock.locked()

    assert run(main()) is False and log == [False]


add_async_forms(globals())
