"""Locks: one owner at a time, FIFO order, and no lock is lost to a cancellation."""

from __future__ import annotations

import gc
import re

import pytest
from forms import in_thread
from sync_helpers import Abort, AbortRun, contender, result_or_error

from minisched import (
    Cancel,
    Condition,
    CurrentTask,
    Deadlock,
    Join,
    Lock,
    Now,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    Timers,
    select,
)
from minisched.kernel.lifecycle import Lifecycle
from minisched.kernel.primitive import Primitives
from minisched.testing import check_syscall, run


def refused(call, sentence):
    """Yield a call that raises a SyscallError; return the time."""
    with pytest.raises(SyscallError, match=sentence):
        yield call
    return (yield Now())


# The owner.


def test_one_task_at_a_time_owns_a_lock_in_fifo_order():
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
    assert log == ["a owns it", "b owns it", "1", "c owns it", "2", "d owns it", "3", "4"]


def test_a_release_makes_the_first_waiter_the_owner_before_its_turn():
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


def test_a_task_that_asks_between_a_release_and_the_waiters_turn_does_not_jump_the_queue():
    lock, log = Lock(), []

    def intruder():
        yield  # so that its acquire comes in the turn after the release
        yield from contender(lock, log, "intruder")

    def main():
        with (yield lock.acquire()):
            yield Spawn(contender(lock, log, "waiter"))
            yield
            yield Spawn(intruder())
        log.append("released")
        yield from contender(lock, log, "again")

    run(main())
    assert log == ["released", "waiter owns it", "again owns it", "intruder owns it"]


@pytest.mark.parametrize("ending", ["returns", "fails", "is cancelled"])
def test_the_with_releases_the_lock_however_its_block_ends(ending):
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
        return log == ([] if ending == "is cancelled" else ["next owns it"]), (yield from result_or_error(task))

    released_by_then, result = run(main())
    kinds = {"returns": str, "fails": ValueError, "is cancelled": TaskCancelled}
    assert (released_by_then, type(result)) == (True, kinds[ending])
    assert log == ["next owns it"] and not lock.locked()


@pytest.mark.parametrize("kind", [Lock, Condition])
def test_async_with_acquires_the_lock_and_releases_it_after_an_error(kind):
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


def test_a_waiter_in_a_select_becomes_the_owner():
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


def test_a_task_that_waits_twice_for_a_lock_in_one_select_acquires_it_once():
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


# Misuse.


def test_only_the_owner_releases_a_lock_and_only_once():
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


def test_code_outside_of_any_task_does_not_release_a_lock():
    with pytest.raises(SyscallError, match="<Lock unused: free> was released by code outside of any task"):
        Lock().release()

    lock, errors = Lock(), []

    def release():
        with pytest.raises(SyscallError) as caught:
            lock.release()
        errors.append(str(caught.value).partition(":")[2].partition(" was released by code outside of any task")[0])

    def main():
        timers = (yield CurrentTask()).kernel.service(Timers)
        timers.call_at(1, release)
        timers.call_at(3, release)
        with (yield lock.acquire()):
            yield Sleep(2)
        yield Sleep(2)

    run(main())
    assert errors == [" held by task 'main', 0 waiting>", " free>"]


def test_an_owner_that_acquires_its_lock_again_gets_an_error():
    lock = Lock()

    def main():
        with (yield lock.acquire()):
            with pytest.raises(SyscallError, match=r"task 'main' owns <Lock #1: .*> already and would wait for itself"):
                yield lock.acquire()
            with pytest.raises(SyscallError, match="already and would wait for itself"):
                yield select(Sleep(1), lock.acquire())
            assert lock.locked()

    run(main())
    assert not lock.locked()


def test_the_error_of_a_with_without_an_acquire_names_the_right_forms():
    lock = Lock()
    sentence = r"`with lock:` does not wait for the lock: use `with \(yield lock.acquire\(\)\):`, or `async with lock:`"

    def other():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("main owns it")
        yield

    def main():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("the lock is free")
        yield lock.acquire()
        yield Join((yield Spawn(other())))
        with lock:
            pass
        (yield CurrentTask()).kernel.service(Timers).call_at(1, between_turns)
        yield Sleep(2)

    def between_turns():
        with pytest.raises(SyscallError, match=sentence), lock:
            pytest.fail("no task is running")

    with pytest.raises(SyscallError, match=sentence), lock:
        pytest.fail("there is no run")
    run(main())
    assert not lock.locked()


def test_an_error_passes_through_a_with_whose_lock_was_released_in_its_block():
    lock = Lock()

    def main():
        with (yield lock.acquire()):
            lock.release()
            raise ValueError("the first error")

    def no_error():
        with (yield lock.acquire()):
            lock.release()

    with pytest.raises(ValueError, match="the first error"):
        run(main())
    with pytest.raises(SyscallError, match="only its owner can do that, once"):
        run(no_error())


# Cancellation.


def test_acquire_passes_the_conformance_test():
    def make():
        lock = Lock()
        yield Spawn(contender(lock, [], "holder", seconds=1))
        return lock.acquire()

    check_syscall(make)


def test_a_new_owner_that_is_cancelled_in_the_turn_of_the_hand_over_releases_the_lock():
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b", seconds=5))
        last = yield Spawn(contender(lock, log, "c"))
        yield
        lock.release()
        task.kernel.cancel(task)
        assert isinstance((yield from result_or_error(task)), TaskCancelled)
        yield Join(last)

    run(main())
    assert log == ["b owns it", "b is cancelled", "c owns it"] and not lock.locked()


def test_a_hand_over_skips_a_waiter_that_was_cancelled_before_it():
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b"))
        last = yield Spawn(contender(lock, log, "c"))
        yield
        task.kernel.cancel(task)
        lock.release()
        assert lock.owner is last
        assert isinstance((yield from result_or_error(task)), TaskCancelled)
        yield Join(last)

    run(main())
    assert log == ["c owns it"] and not lock.locked()


def test_a_release_frees_the_lock_when_all_waiters_have_been_cancelled():
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
    assert log == ["main owns it"] and not lock.locked()


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
def test_waiters_get_an_error_when_the_owner_ends_without_a_release(body, state):
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
        for call in calls:  # later callers get the error, too
            assert (yield from refused(call, sentence)) == 1
        yield from result_or_error(owner)
        for call in calls:
            yield from refused(call, sentence)

    run(main())


def test_waiters_of_an_abandoned_lock_are_woken_in_fifo_order():
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


def test_the_end_of_a_former_owner_does_not_wake_the_waiters():
    lock, log = Lock(), []

    def main():
        yield Spawn(contender(lock, log, "a", seconds=1))
        yield Spawn(contender(lock, log, "b", seconds=1))
        yield Spawn(contender(lock, log, "c", seconds=1))

    run(main())
    assert log == ["a owns it", "b owns it", "c owns it"]


def test_only_the_lock_that_an_ended_task_kept_is_abandoned():
    kept, released, log = Lock("kept"), Lock("released"), []

    def careless():
        yield kept.acquire()
        with (yield released.acquire()):
            yield Sleep(1)

    def main():
        yield Spawn(careless())
        yield Spawn(contender(released, log, "b"))
        waiter = yield Spawn(contender(kept, log, "c"), keep=True)
        log.append(str((yield from result_or_error(waiter))).partition(",")[0])

    run(main())
    assert sorted(log) == ["b owns it", "lock 'kept' is held by task 'careless'"]


def test_waiters_from_before_the_hand_over_get_an_error_when_the_new_owner_ends():
    lock, log = Lock("till"), []

    def main():
        yield Spawn(contender(lock, log, "a", seconds=1))
        yield Spawn(returns(lock), "careless")
        third = yield Spawn(contender(lock, log, "c"), keep=True)
        log.append(str((yield from result_or_error(third))).partition(",")[0])
        log.append((yield Now()))

    run(main())
    assert log == ["a owns it", "lock 'till' is held by task 'careless'", 2]


def test_a_release_removes_the_body_end_callback():
    locks, log = [Lock() for _ in range(3)], []

    def main():
        lifecycle = (yield CurrentTask()).kernel.service(Lifecycle)
        for lock in locks:
            yield lock.acquire()
            for name in "ab":
                yield Spawn(contender(lock, log, name, seconds=1))
        yield Sleep(1)
        assert len(lifecycle.on_body_end) == 1
        for lock in locks:
            lock.release()
        yield Sleep(5)
        return dict(lifecycle.on_body_end)

    assert run(main()) == {} and len(log) == 6


def test_the_end_of_a_former_owner_does_not_concern_the_waiters_of_the_next_one():
    lock, log = Lock(), []

    def former():
        yield from contender(lock, log, "former")
        yield Sleep(2)

    def main():
        lock_held = yield lock.acquire()
        yield Spawn(former())
        yield
        lock_held.release()
        yield Sleep(1)
        yield Spawn(contender(lock, log, "owner", seconds=5))
        yield Spawn(contender(lock, log, "waiter"))

    run(main())
    assert log == ["former owns it", "owner owns it", "waiter owns it"]


def test_a_cycle_of_locks_is_reported_as_a_deadlock():
    one, two = Lock("one"), Lock("two")

    def both(first, second):
        with (yield first.acquire()):
            yield Sleep(1)
            with (yield second.acquire()):
                pytest.fail("the cycle was broken")

    def main():
        yield Spawn(both(one, two), "a")
        yield Spawn(both(two, one), "b")

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert re.search("a cycle: [0-9. ]*a -> [0-9. ]*b -> [0-9. ]*a$", str(caught.value))
    assert "0.0 a waits in Acquire(<Lock two: held by task 'b', 1 waiting>)" in str(caught.value)
    assert not one.locked() and not two.locked()


def test_an_acquire_of_a_free_lock_has_no_blockers():
    assert list(Lock().acquire().blockers()) == []


# Runs and threads.


def test_a_lock_can_be_used_in_a_second_run_and_keeps_no_state_of_the_first():
    lock, log = Lock(), []

    def main():
        yield Spawn(contender(lock, log, "a"))
        yield Spawn(contender(lock, log, "b"))
        yield

    for _ in range(2):
        run(main())
        assert lock.kernel is None
    assert log == ["a owns it", "b owns it"] * 2 and repr(lock) == "<Lock #1: free>"


def test_a_lock_that_a_task_of_an_earlier_run_kept_raises_an_error():
    lock = Lock("till")

    def careless():
        yield lock.acquire()

    def main():
        yield lock.acquire()

    run(careless())
    with pytest.raises(SyscallError, match="lock 'till' is held by task 'careless', which has ended without releasing"):
        run(main())


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_lock_of_an_aborted_run_is_free_in_the_next(handed_over):
    lock, log = Lock(), []

    def main():
        yield lock.acquire()
        task = yield Spawn(contender(lock, log, "b"))
        yield
        if handed_over:
            lock.release()
            assert lock.owner is task
        yield AbortRun()

    def again():
        yield from contender(lock, log, "again")

    with pytest.raises(Abort):
        run(main())
    run(again())
    assert log == ["again owns it"] and not lock.locked()


@pytest.mark.parametrize("waiters", [0, 1])
def test_a_lock_that_another_run_uses_raises_an_error(waiters):
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
    assert log == ["a owns it"] * waiters + ["main owns it"]


def test_a_free_lock_can_move_to_another_run():
    lock, log = Lock(), []

    def main():
        yield from contender(lock, log, "a")
        in_thread(lambda: run(contender(lock, log, "other")))
        yield from contender(lock, log, "b")

    run(main())
    assert log == ["a owns it", "other owns it", "b owns it"]


def test_release_and_notify_from_another_thread_raise_an_error():
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


def test_the_garbage_collector_frees_a_dropped_lock():
    def main():
        lock = yield Lock().acquire()
        primitives = (yield CurrentTask()).kernel.service(Primitives)
        before = len(primitives.references)
        del lock
        gc.collect()
        return before, len(primitives.references)

    assert run(main()) == (1, 0)
