"""`cancel_everywhere`: it finds what a cancellation at some point loses, and says at which."""

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


def test_it_counts_the_runs_one_for_each_point():
    # The run itself; before and after the sleep; as it begins; in the turn of its end, on both sides.
    assert cancel_everywhere(nap) == 6


def test_main_is_cancelled_with_each_task_too():
    def main():
        yield Spawn(nap())

    # Points of main: a turn before the spawn, one after it. Of the child: those of `nap`, each also with main.
    assert cancel_everywhere(main) == 1 + 2 + 2 * 5


def test_a_coroutine_is_a_program_too():
    async def main():
        await Sleep(1)

    assert cancel_everywhere(main) == 6


def test_what_the_program_wants_to_be_true_is_asked_after_each_run():
    asked = []
    assert cancel_everywhere(lambda: (nap(), lambda: asked.append(1))) == len(asked)


def wrong(make, match, **options):
    with pytest.raises(AssertionError, match=match):
        cancel_everywhere(make, **options)


def test_an_item_that_is_taken_before_a_checkpoint_and_used_after_it_is_lost():
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

    wrong(
        make,
        r"^task 'main' was cancelled as a turn of task 'main' began \(number 1 of all turns\): AssertionError.*lost",
    )


def test_a_lock_without_with_is_never_given_back():
    def make():
        lock = Lock()

        def main():
            yield lock.acquire()
            yield Sleep(1)
            lock.release()

        def check():
            assert not lock.locked(), "kept"

        return main(), check

    wrong(make, "^task 'main' was cancelled as .*kept")


def test_who_is_never_woken_is_found():
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

    wrong(make, "task 'setter'.*Deadlock", expected=())
    assert cancel_everywhere(make, expected=(Deadlock,)) > 10


def test_an_error_of_the_program_is_found_unless_it_is_expected():
    def main():
        try:
            yield Sleep(1)
        except Cancelled:
            raise ValueError("in the cleanup") from None

    wrong(main, "in the cleanup")
    assert cancel_everywhere(main, expected=(ValueError,)) == 6


def test_an_expected_error_may_come_in_a_group():
    def child():
        try:
            yield Sleep(1)
        except Cancelled:
            raise ValueError("in the cleanup") from None

    def main():
        yield Spawn(child())

    assert cancel_everywhere(main, expected=(ValueError,)) > 6
    wrong(main, "in the cleanup", expected=(KeyError,))


def test_a_program_that_is_wrong_without_any_cancellation_is_found():
    def main():
        yield Sleep(1)
        raise ValueError("as always")

    wrong(main, r"^ValueError\('as always'\)$")


class Forgotten(Service):
    """Who waits, as an extension with a careless undo keeps it."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.waiters = OrderedDict()


class WaitCarelessly(Syscall[None]):
    __slots__ = ()

    def handle(self, kernel, task):
        waiters = kernel.service(Forgotten).waiters
        waiters[task] = None
        kernel.park(task, undo=lambda: None)


class WakeAll(Syscall[None]):
    __slots__ = ()

    def handle(self, kernel, task):
        waiters = kernel.service(Forgotten).waiters
        while waiters:
            kernel.resume(waiters.popitem(last=False)[0])


def test_a_careless_undo_is_found():
    def waiter():
        yield WaitCarelessly()

    def main():
        yield Spawn(waiter())
        yield Sleep(1)
        yield WakeAll()

    wrong(main, "SyscallError.*'waiter' was woken while it is")


def test_a_deadline_comes_in_the_turn_of_the_end_on_both_sides():
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


def test_what_is_left_behind_is_said():
    def make():
        def main():
            try:
                yield Sleep(1)
            except Cancelled:
                with (yield Shield(None)) as shield:
                    shield.asked_by.kernel.service(Timers).call_at(99, print)
                raise

        return main()

    wrong(make, "left behind: 1 timers")


def test_a_timeout_inside_is_no_matter():
    def make():
        done = []

        def main():
            with (yield MoveOnAfter(1)) as scope:
                yield Sleep(5)
            done.append(scope.cancelled)
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
        r"task 'main' was cancelled as a turn of task 'main' began \(number 0 of all turns\): KeyError\('k'\)",
        str(caught.value),
    )
