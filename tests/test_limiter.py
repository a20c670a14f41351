"""Capacity limiters: borrowers, a total that changes, FIFO order, and no token is lost to a cancellation."""

from __future__ import annotations

from math import inf, nan

import pytest
from forms import in_thread
from sync_helpers import Abort, AbortRun, result_or_error

from minisched import (
    Cancel,
    CapacityLimiter,
    Deadlock,
    Join,
    Lock,
    MoveOnAfter,
    Now,
    Shield,
    Sleep,
    Spawn,
    SyscallError,
    TaskCancelled,
    WouldBlock,
    select,
)
from minisched.testing import check_syscall, run


def holder(limiter, log, name, seconds=0.0):
    """Hold a token for some seconds; log the name and the time at its start."""
    with (yield limiter.acquire()):
        log.append((name, (yield Now())))
        yield Sleep(seconds)


def spawned(limiter, log, names, seconds):
    for name in names:
        yield Spawn(holder(limiter, log, name, seconds))
    yield Sleep(0.5)


# The total.


def test_tokens_go_to_waiters_in_fifo_order():
    log = []
    run(spawned(CapacityLimiter(2), log, "abcde", 1))
    assert log == [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 2)]


def test_a_higher_total_wakes_as_many_waiters():
    limiter, log = CapacityLimiter(1), []

    def main():
        yield from spawned(limiter, log, "abcd", 10)
        limiter.total_tokens = 3
        assert (limiter.borrowed_tokens, limiter.available_tokens, len(limiter.waiters)) == (3, 0, 1)

    run(main())
    assert log == [("a", 0), ("b", 0.5), ("c", 0.5), ("d", 10)]


def test_a_lower_total_takes_no_token_back_and_holds_the_next_ones():
    limiter, log = CapacityLimiter(3), []

    def main():
        yield from spawned(limiter, log, "abcd", 2)
        limiter.total_tokens = 1
        assert (limiter.borrowed_tokens, limiter.available_tokens, limiter.total_tokens) == (3, 0, 1)

    run(main())
    assert log == [("a", 0), ("b", 0), ("c", 0), ("d", 2)] and limiter.available_tokens == 1


def test_a_total_of_zero_holds_all_tasks_until_it_is_raised():
    limiter, log = CapacityLimiter(0), []

    def main():
        yield from spawned(limiter, log, "ab", 1)
        assert log == []
        limiter.total_tokens = inf
        assert limiter.available_tokens == inf

    run(main())
    assert log == [("a", 0.5), ("b", 0.5)]


@pytest.mark.parametrize("total", [-1, "1", nan, -inf])
def test_a_total_that_is_not_a_number_of_tokens_is_refused(total):
    with pytest.raises((TypeError, ValueError), match="total_tokens is a number of tokens, 0 or more"):
        CapacityLimiter(total)
    limiter = CapacityLimiter(2)
    with pytest.raises((TypeError, ValueError), match="total_tokens is a number of tokens, 0 or more"):
        limiter.total_tokens = total
    assert limiter.total_tokens == 2


# Borrowers.


def test_a_borrower_has_one_token_at_most():
    limiter = CapacityLimiter(2, "disk")

    def main():
        with (yield limiter.acquire()):
            with pytest.raises(SyscallError, match="task 'main' has borrowed a token of <CapacityLimiter disk: 1 of 2"):
                yield limiter.acquire()
            with pytest.raises(SyscallError, match="task 'main' has borrowed"):
                limiter.acquire_nowait()
            with (yield limiter.acquire("backup")), pytest.raises(SyscallError, match="'backup' has borrowed"):
                limiter.acquire_nowait("backup")
        return limiter.borrowed_tokens

    assert run(main()) == 0


def test_two_tasks_that_wait_in_one_name_get_a_token_and_an_error():
    limiter = CapacityLimiter(0)

    def borrower():
        yield limiter.acquire("name")
        return "token"

    def main():
        tasks = [(yield Spawn(borrower(), keep=True)), (yield Spawn(borrower(), keep=True))]
        yield Sleep(1)
        limiter.total_tokens = 5
        return (yield from result_or_error(tasks[0])), str((yield from result_or_error(tasks[1])))

    first, second = run(main())
    assert first == "token" and second.startswith("'name' has borrowed a token")
    assert limiter.borrowed_tokens == 1


def test_a_token_is_released_in_its_borrowers_name_alone():
    limiter = CapacityLimiter(2)

    def other():
        with pytest.raises(SyscallError, match="was released by task 'other', which has borrowed no token"):
            limiter.release()
        yield

    def main():
        yield limiter.acquire()
        yield limiter.acquire("name")
        yield Join((yield Spawn(other())))
        limiter.release("name")
        with pytest.raises(SyscallError, match="was released by 'name'"):
            limiter.release("name")
        limiter.release()
        return limiter.borrowed_tokens

    assert run(main()) == 0
    with pytest.raises(SyscallError, match="was released by code outside of any task"):
        limiter.release()


def test_a_task_may_release_the_token_of_a_name_that_another_task_borrowed():
    limiter = CapacityLimiter(1)

    def main():
        yield limiter.acquire("connection 7")
        task = yield Spawn(closer())
        yield Join(task)
        return limiter.borrowed_tokens

    def closer():
        yield
        limiter.release("connection 7")

    assert run(main()) == 0


def test_a_token_is_good_for_one_with_and_may_be_released_inside_it_by_an_error():
    limiter = CapacityLimiter(1)

    def main():
        token = yield limiter.acquire()
        with token:
            pass
        with pytest.raises(SyscallError, match="is good for one `with`"), token:
            pass
        with pytest.raises(ValueError, match="first"):
            with (yield limiter.acquire()):
                limiter.release()
                raise ValueError("first")
        with pytest.raises(SyscallError, match="has borrowed no token"):
            with (yield limiter.acquire()):
                limiter.release()
        return limiter.borrowed_tokens

    assert run(main()) == 0


def test_async_with_borrows_and_gives_back():
    limiter = CapacityLimiter(1)

    async def main():
        async with limiter as token:
            assert token.limiter is limiter and limiter.borrowed_tokens == 1
            with pytest.raises(ValueError, match="first"):
                async with CapacityLimiter(1) as other:
                    other.limiter.release()
                    raise ValueError("first")
        return limiter.borrowed_tokens

    assert run(main()) == 0


# Cancellation.


def test_the_wait_passes_the_conformance_test():
    def make():
        limiter = CapacityLimiter(1)
        limiter.acquire_nowait("other")
        return limiter.acquire(), lambda: limiter.release("other") if limiter.borrowed_tokens else None

    check_syscall(make)


def test_a_token_that_is_handed_over_to_a_cancelled_task_is_given_back():
    limiter = CapacityLimiter(1)

    def main():
        with (yield limiter.acquire()):
            task = yield Spawn(holder(limiter, [], "a", 1), keep=True)
            yield Sleep(1)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return limiter.borrowed_tokens, len(limiter.waiters)

    assert run(main()) == (0, 0)


def test_a_branch_of_select_borrows_for_its_task():
    limiter = CapacityLimiter(1)

    def chooser():
        number, token = yield select(Sleep(5), limiter.acquire())
        with token:
            return number, token.borrower.name

    def main():
        with (yield limiter.acquire()):
            task = yield Spawn(chooser())
            yield Sleep(1)
        result = yield Join(task)
        with (yield limiter.acquire("x")), (yield MoveOnAfter(10)):
            assert (yield select(limiter.acquire(), Sleep(1))) == (1, None)
        return result, len(limiter.waiters), limiter.borrowed_tokens

    assert run(main()) == ((1, "chooser"), 0, 0)


# Ends, runs and threads.


def test_a_deadlock_names_the_borrowers_also_those_that_have_ended():
    limiter, lock = CapacityLimiter(2), Lock("lock")

    def forgetful():
        yield limiter.acquire()

    def owner():
        with (yield lock.acquire()):
            yield limiter.acquire()

    def main():
        yield Spawn(forgetful())
        yield limiter.acquire()
        yield Spawn(owner())
        yield Sleep(1)
        yield lock.acquire()

    with pytest.raises(Deadlock) as caught:
        run(main())
    text = str(caught.value)
    assert "0.1 owner waits in Borrow(" in text and ", for 0.0 forgetful (has ended), 0 main" in text
    assert "a cycle: 0 main -> 0.1 owner -> 0 main" in text


def test_a_limiter_of_an_aborted_run_has_its_tokens_in_the_next():
    limiter = CapacityLimiter(1)

    def main():
        yield limiter.acquire()
        yield AbortRun()

    def again():
        with (yield limiter.acquire()):
            return "borrowed"

    with pytest.raises(Abort):
        run(main())
    assert run(again()) == "borrowed"


def test_another_thread_and_another_run_are_refused():
    limiter = CapacityLimiter(1)

    def other():
        with pytest.raises(SyscallError, match="in use in another run"):
            yield limiter.acquire("b")

    def main():
        with (yield limiter.acquire()):
            for call in limiter.release, limiter.acquire_nowait, lambda: setattr(limiter, "total_tokens", 9):
                error = in_thread(call)
                assert isinstance(error, SyscallError) and "in another thread than its run's" in str(error)
            assert in_thread(lambda: run(other())) is None
            return limiter.total_tokens, limiter.borrowed_tokens

    assert run(main()) == (1, 1)


def test_acquire_nowait_needs_a_free_token_and_a_borrower():
    limiter = CapacityLimiter(1)
    with pytest.raises(SyscallError, match="outside of any task"):
        limiter.acquire_nowait()
    with limiter.acquire_nowait("plain code"), pytest.raises(WouldBlock, match="no token of"):
        limiter.acquire_nowait("more of it")
    assert limiter.borrowed_tokens == 0


def test_a_shielded_cleanup_can_borrow():
    limiter, log = CapacityLimiter(1), []

    def worker():
        try:
            yield Sleep(10)
        finally:
            with (yield Shield(5)):
                yield from holder(limiter, log, "cleanup")

    def main():
        task = yield Spawn(worker(), keep=True)
        yield Sleep(1)
        yield Cancel(task)

    run(main())
    assert log == [("cleanup", 1)]
