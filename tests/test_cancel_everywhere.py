"""`cancel_everywhere`: it finds what a cancellation loses, and reports at which point."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest

from minisched import (
    Cancelled,
    Deadlock,
    Event,
    Lock,
    MoveOnAfter,
    Queue,
    Service,
    Shield,
    Sleep,
    Spawn,
    Syscall,
    Timers,
    gather,
)
from minisched.testing import cancel_everywhere


def nap():
    yield Sleep(1)


def test_the_result_is_the_number_of_runs_one_for_each_point():
    # Without a cancellation; in the turns before and after the sleep; when it begins; just before and after it ends.
    assert cancel_everywhere(nap) == 6


def test_for_each_point_of_a_child_main_is_cancelled_too():
    def main():
        yield Spawn(nap())

    # Points of main: the turns before and after the spawn. Of the child: those of `nap`, each also with main.
    assert cancel_everywhere(main) == 1 + 2 + 2 * 5


def test_a_coroutine_can_be_the_program():
    async def main():
        await Sleep(1)

    assert cancel_everywhere(main) == 6


def test_check_is_called_after_each_run():
    calls = []
    assert cancel_everywhere(lambda: (nap(), lambda: calls.append(1))) == len(calls)


def assert_found(make, match, **options):
    with pytest.raises(AssertionError, match=match):
        cancel_everywhere(make, **options)


def test_an_item_lost_between_get_and_the_next_checkpoint_is_found():
    def make():
        queue, got = Queue(), []

        def main():
            queue.put_nowait("item")
            item = yield queue.get()
            yield
            got.append(item)

        def check():
            assert [*queue.items, *got] == ["item"], "lost"

        return main(), check

    assert_found(
        make,
        r"^task 'main' was cancelled at the start of a turn of task 'main' \(turn 2 of the run\): AssertionError.*lost",
    )


def test_a_lock_that_is_never_released_is_found():
    def make():
        lock = Lock()

        def main():
            yield lock.acquire()
            yield Sleep(1)
            lock.release()

        def check():
            assert not lock.locked(), "kept"

        return main(), check

    assert_found(make, "^task 'main' was cancelled (at|when|just) .*kept")


def test_a_task_that_is_never_woken_is_found():
    def make():
        event = Event()

        def setter():
            yield Sleep(1)
            event.set()

        def waiter():
            yield event.wait()

        return gather_all(waiter(), setter())

    def gather_all(*bodies):
        for body in bodies:
            yield Spawn(body)

    assert_found(make, "task 'setter'.*Deadlock", expected=())
    assert cancel_everywhere(make, expected=(Deadlock,)) > 10


def test_an_error_is_found_unless_it_is_expected():
    def main():
        try:
            yield Sleep(1)
        except Cancelled:
            raise ValueError("in the cleanup") from None

    assert_found(main, "in the cleanup")
    assert cancel_everywhere(main, expected=(ValueError,)) == 6


def test_an_expected_error_may_be_in_a_group():
    def child():
        try:
            yield Sleep(1)
        except Cancelled:
            raise ValueError("in the cleanup") from None

    def main():
        yield Spawn(child())

    assert cancel_everywhere(main, expected=(ValueError,)) > 6
    assert_found(main, "in the cleanup", expected=(KeyError,))


def test_a_failure_without_any_cancellation_is_found():
    def main():
        yield Sleep(1)
        raise ValueError("as always")

    assert_found(main, r"^ValueError\('as always'\)$")


class Waiters(Service):
    """The waiters of an extension whose undo does nothing; it does not report them as its tasks."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.waiters = OrderedDict()


class WaitCarelessly(Syscall[None]):
    __slots__ = ()

    def handle(self, kernel, task):
        waiters = kernel.service(Waiters).waiters
        waiters[task] = None
        kernel.park(task, undo=lambda: None)


class WakeAll(Syscall[None]):
    __slots__ = ()

    def handle(self, kernel, task):
        waiters = kernel.service(Waiters).waiters
        while waiters:
            kernel.resume(waiters.popitem(last=False)[0])


def test_an_undo_that_does_nothing_is_found():
    def waiter():
        yield WaitCarelessly()

    def main():
        yield Spawn(waiter())
        yield Sleep(1)
        yield WakeAll()

    assert_found(main, "SyscallError.*'waiter' was woken while it is")


def test_a_deadline_expires_just_before_and_just_after_the_end_of_a_wait():
    moments = set()

    def make():
        log = []

        def main():
            try:
                yield Sleep(1)
                log.append("slept")
                yield
                log.append("went on")
            except Cancelled:
                log.append("cancelled")
                raise

        return main(), lambda: moments.add(tuple(log))

    cancel_everywhere(make)
    assert moments == {("slept", "went on"), ("cancelled",), ("slept", "cancelled")}


def test_a_timer_left_behind_is_found():
    def make():
        def main():
            try:
                yield Sleep(1)
            except Cancelled:
                with (yield Shield(None)) as shield:
                    shield.owner.kernel.service(Timers).call_at(99, print)
                raise

        return main()

    assert_found(make, "left behind: 1 timers")


def test_a_program_with_a_timeout_of_its_own_passes():
    def make():
        done = []

        def main():
            with (yield MoveOnAfter(1)) as scope:
                yield Sleep(5)
            done.append(scope.cancelled_caught)
            yield from gather(nap(), nap())

        return main()

    assert cancel_everywhere(make) > 30


def test_the_message_names_the_point_once():
    def main():
        try:
            yield Sleep(1)
        except Cancelled:
            raise KeyError("k") from None

    with pytest.raises(AssertionError) as caught:
        cancel_everywhere(main)
    assert re.fullmatch(
        r"task 'main' was cancelled at the start of a turn of task 'main' \(turn 1 of the run\): KeyError\('k'\)",
        str(caught.value),
    )


def test_a_program_that_ends_sooner_than_in_the_first_run_has_left_no_timer():
    seconds = [2, *[1] * 20]

    def make():
        def main():
            yield Sleep(seconds.pop(0))

        return main()

    assert cancel_everywhere(make) > 4
