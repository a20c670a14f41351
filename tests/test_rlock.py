"""Reentrant locks: nesting, the last release, and conditions over them."""

from __future__ import annotations

import pytest
from forms import in_thread
from sync_helpers import Abort, AbortRun, contender

from minisched import (
    Cancel,
    Condition,
    Deadlock,
    Join,
    RLock,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    WouldBlock,
    select,
)
from minisched.testing import check_syscall, run


def test_the_owner_nests_without_waiting_and_the_last_release_hands_over():
    lock, log = RLock(), []

    def main():
        with (yield lock.acquire()) as same:
            assert same is lock
            task = yield Spawn(contender(lock, log, "next"))
            with (yield lock.acquire()), lock.acquire_nowait():
                yield Sleep(1)
                assert lock.depth == 3
            yield Sleep(1)
            assert (log, lock.depth) == ([], 1)
        yield Join(task)
        return lock.locked(), lock.depth

    assert run(main()) == (False, 1)
    assert log == ["next owns it"]


def test_the_new_owner_begins_with_one_acquire():
    lock = RLock("door")

    def other():
        with (yield lock.acquire()):
            return repr(lock)

    def main():
        yield lock.acquire()
        yield lock.acquire()
        task = yield Spawn(other())
        yield Sleep(1)
        assert repr(lock) == "<RLock door: held 2 times by task 'main', 1 waiting>"
        lock.release()
        lock.release()
        return (yield Join(task))

    assert run(main()) == "<RLock door: held by task 'other', 0 waiting>"


def test_another_task_cannot_release_or_enter_it():
    lock = RLock()

    def other():
        for misuse in lock.release, lock.__enter__:
            with pytest.raises(SyscallError):
                misuse()
        with pytest.raises(WouldBlock):
            lock.acquire_nowait()
        yield

    def main():
        with (yield lock.acquire()), (yield lock.acquire()):
            yield Join((yield Spawn(other())))
            error = in_thread(lock.release)
            assert isinstance(error, SyscallError) and "in another thread" in str(error)
            return lock.depth

    assert run(main()) == 2


def test_a_release_more_than_acquires_is_an_error():
    lock = RLock()

    def main():
        yield lock.acquire()
        lock.release()
        with pytest.raises(SyscallError, match="only its owner can do that, once"):
            lock.release()

    run(main())


def test_a_select_of_the_owner_nests():
    lock = RLock()

    def main():
        with (yield lock.acquire()):
            number, same = yield select(Sleep(1), lock.acquire())
            with same:
                return number, lock.depth

    assert run(main()) == (1, 2)
    assert not lock.locked()


def test_async_with_nests():
    lock = RLock()

    async def inner():
        async with lock:
            return lock.depth

    async def main():
        async with lock:
            return await inner(), lock.depth

    assert run(main()) == (2, 1)


def test_the_wait_passes_the_conformance_test():
    def make():
        lock = RLock()
        yield Spawn(contender(lock, [], "holder", seconds=1))
        return lock.acquire()

    check_syscall(make)


# Conditions.


def waiter(condition, log):
    with (yield condition.acquire()), (yield condition.acquire()):
        try:
            yield from condition.wait()
        finally:
            log.append(condition.lock.depth)
    log.append(condition.lock.locked())


def test_a_condition_releases_all_acquires_and_restores_them():
    condition, log = Condition(RLock()), []

    def main():
        task = yield Spawn(waiter(condition, log))
        yield Sleep(1)
        with (yield condition.acquire()):  # the waiter has released it completely
            condition.notify()
            assert condition.lock.depth == 1
        yield Join(task)

    run(main())
    assert log == [2, False]


@pytest.mark.parametrize("held", [False, True])
def test_a_cancelled_wait_restores_all_acquires(held):
    condition, log = Condition(RLock()), []

    def main():
        task = yield Spawn(waiter(condition, log), keep=True)
        yield Sleep(1)
        if held:
            with (yield condition.acquire()):
                yield Cancel(task)
                yield Sleep(1)
                assert log == []
        else:
            yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return condition.lock.locked()

    assert run(main()) is False
    assert log == [2]


def test_a_wait_that_is_cancelled_before_it_parks_keeps_all_acquires():
    condition, log = Condition(RLock()), []

    def main():
        yield Cancel((yield Spawn(waiter_that_is_cancelled(), keep=True)))

    def waiter_that_is_cancelled():
        with condition.acquire_nowait(), condition.acquire_nowait():
            try:
                yield from condition.wait()
            finally:
                log.append(condition.lock.depth)

    run(main())
    assert log == [2] and not condition.lock.locked()


# Ends and runs.


def test_an_owner_that_ends_without_all_releases_wakes_the_waiters_with_an_error():
    lock = RLock("door")

    def owner():
        with (yield lock.acquire()):
            yield lock.acquire()
            yield Sleep(1)

    def main():
        yield Spawn(owner())
        yield
        with pytest.raises(SyscallError, match="lock 'door' is held by task 'owner', which has ended"):
            yield lock.acquire()

    run(main())


def test_a_lock_of_an_aborted_run_is_free_in_the_next():
    lock = RLock()

    def main():
        yield lock.acquire()
        yield lock.acquire()
        yield AbortRun()

    def again():
        with (yield lock.acquire()):
            return lock.depth

    with pytest.raises(Abort):
        run(main())
    assert run(again()) == 1 and not lock.locked()


def test_a_deadlock_between_two_locks_is_reported_as_a_cycle():
    one, two = RLock(), RLock()

    def both(first, second):
        with (yield first.acquire()), (yield first.acquire()):
            yield Sleep(1)
            yield second.acquire()

    def main():
        yield Spawn(both(one, two), "a")
        yield Spawn(both(two, one), "b")

    with pytest.raises(Deadlock, match=r"a cycle: 0.0 a -> 0.1 b -> 0.0 a"):
        run(main())
