"""Semaphores: permits in FIFO order, and no permit is lost to a cancellation."""

from __future__ import annotations

import pytest
from sync_helpers import ended

from minisched import (
    Cancel,
    Join,
    Now,
    Semaphore,
    Sleep,
    Spawn,
    SyscallError,
    Watcher,
    select,
)
from minisched.testing import check_syscall, run


def holder(semaphore, log, name, seconds=0.0):
    """Hold a permit for some seconds; log the name at its start."""
    with (yield semaphore.acquire()):
        log.append(name)
        yield Sleep(seconds)


class MostAtOnce(Watcher):
    """Counts at each turn the permits in use, and keeps the maximum."""

    def __init__(self, inside):
        self.inside = inside
        self.most = 0

    def turn(self, task):
        self.most = max(self.most, len(self.inside))


def test_a_semaphore_grants_no_more_permits_than_it_has_and_in_fifo_order():
    semaphore, log, inside = Semaphore(2), [], []

    def worker(number):
        with (yield semaphore.acquire()):
            inside.append(number)
            log.append(number)
            yield Sleep(1 + number % 3)
            inside.remove(number)

    def main():
        for number in range(10):
            yield Spawn(worker(number))

    most = MostAtOnce(inside)
    run(main(), watch=[most])
    assert (most.most, semaphore.value, log) == (2, 2, list(range(10)))


def test_a_released_permit_goes_straight_to_the_first_waiter():
    semaphore, log = Semaphore(1), []

    def main():
        with (yield semaphore.acquire()):
            yield Spawn(holder(semaphore, log, "waiter"))
            yield
        assert repr(semaphore) == "<Semaphore #1: 0 waiting>"  # the permit is the waiter's already
        yield from holder(semaphore, log, "main")

    run(main())
    assert log == ["waiter", "main"] and repr(semaphore) == "<Semaphore #1: 1 permits>"


def test_any_task_may_release_a_semaphore_that_started_without_permits():
    semaphore, log = Semaphore(0), []

    def main():
        task = yield Spawn(holder(semaphore, log, "a", seconds=1))
        yield
        assert repr(semaphore) == "<Semaphore #1: 1 waiting>"
        semaphore.release()
        semaphore.release()
        assert semaphore.value == 1
        yield Join(task)

    run(main())
    assert log == ["a"] and semaphore.value == 2


@pytest.mark.parametrize("maximum", [1, 2])
def test_a_release_above_the_maximum_raises_an_error(maximum):
    semaphore = Semaphore(1, maximum, "seats")

    def main():
        with (yield semaphore.acquire()):
            pass
        for _ in range(maximum - 1):
            semaphore.release()
        with pytest.raises(SyscallError, match=rf"<Semaphore seats: {maximum} permits> was released more often than"):
            semaphore.release()
        return semaphore.value

    assert run(main()) == maximum


@pytest.mark.parametrize(("value", "maximum"), [(-1, None), (2, 1), (float("nan"), None), (1, float("nan"))])
def test_an_initial_value_below_0_or_above_the_maximum_raises_an_error(value, maximum):
    with pytest.raises(ValueError, match="permits"):
        Semaphore(value, maximum)


def test_a_fraction_of_a_permit_is_refused():
    with pytest.raises(TypeError, match=r"value is a number of permits, 0 or more, not 1.5 \(float\)"):
        Semaphore(1.5)


def test_a_permit_is_released_once_whether_its_block_fails_or_not():
    semaphore = Semaphore(1)

    def main():
        permit = yield semaphore.acquire()
        with pytest.raises(ValueError, match="v"), permit:
            raise ValueError("v")
        with pytest.raises(SyscallError, match=r"a permit of <Semaphore #1: 1 permits> is good for one `with`: acq"):
            with permit:
                pytest.fail("the permit was released")
        with (yield semaphore.acquire()) as permit:
            with pytest.raises(SyscallError, match="is good for one `with`"), permit:
                pytest.fail("the permit is in use")
        return semaphore.value

    assert run(main()) == 1


def test_async_with_acquires_a_permit_and_releases_it_after_an_error():
    semaphore, log = Semaphore(1), []

    async def worker(name):
        async with semaphore:
            log.append(name)
            await Sleep(1)
            raise ValueError(name)

    async def main():
        tasks = [await Spawn(worker(name), keep=True) for name in "ab"]
        for task in tasks:
            with pytest.raises(ValueError, match=r"[ab]"):
                await Join(task)
            log.append(await Now())

    run(main())
    assert log == ["a", "b", 1, 2] and semaphore.value == 1


@pytest.mark.parametrize("first", ["release", "cancel"])
def test_no_permit_is_lost_when_a_release_and_a_cancellation_meet_in_one_turn(first):
    semaphore, log = Semaphore(0), []

    def main():
        task = yield Spawn(holder(semaphore, log, "a", seconds=9))
        yield
        if first == "release":
            semaphore.release()
        task.kernel.cancel(task)
        if first == "cancel":
            semaphore.release()
        yield from ended(task)
        return semaphore.value, (yield Now())

    assert run(main()) == (1, 0)
    assert log == (["a"] if first == "release" else [])


def test_a_permit_skips_a_cancelled_waiter():
    semaphore, log = Semaphore(0), []

    def main():
        tasks = []
        for name in "abc":
            tasks.append((yield Spawn(holder(semaphore, log, name))))
        yield
        yield Cancel(tasks[0])
        semaphore.release()
        yield from ended(tasks[0])

    run(main())
    assert log == ["b", "c"] and semaphore.value == 1


def test_a_select_over_several_semaphores_takes_one_permit():
    one, two = Semaphore(0), Semaphore(0)

    def chooser():
        number, permit = yield select(one.acquire(), two.acquire(), two.acquire())
        with permit:
            yield
        return number

    def main():
        task = yield Spawn(chooser())
        yield
        two.release()
        one.release()
        return (yield Join(task)), one.value, two.value

    assert run(main()) == (1, 1, 1)


def waiting_at_a_semaphore():
    semaphore = Semaphore(0)
    return semaphore.acquire(), semaphore.release


def test_a_wait_for_a_permit_passes_the_conformance_test():
    check_syscall(waiting_at_a_semaphore)
