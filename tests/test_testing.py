"""The tools for tests: virtual time, golden traces, and that the battery catches each kind of wrong syscall."""

from __future__ import annotations

import doctest
import socket

import pytest

from minisched import CurrentTask, Now, Pause, Read, Service, Sleep, Spawn, Syscall, Timers, battery, testing
from minisched.testing import Checker, VirtualClock, check_syscall, golden, run


def test_virtual_time_jumps_and_a_century_takes_no_time():
    def main():
        yield Sleep(100 * 365 * 86400)
        return (yield Now())

    assert run(main(), clock=VirtualClock(5.0)) == 5.0 + 100 * 365 * 86400


def test_in_virtual_time_files_are_looked_at_before_each_jump():
    here, there = socket.socketpair()

    def sender():
        yield Sleep(1)
        there.send(b"x")

    def main():
        yield Spawn(sender())
        data = yield Read(here, 1)
        return data, (yield Now())

    with here, there:
        assert run(main()) == (b"x", 1)


def test_the_invariants_are_asserted_before_each_turn_and_sampled_with_many_tasks(monkeypatch):
    checks = []
    monkeypatch.setattr("minisched.kernel.Kernel.check", lambda kernel: checks.append(kernel))

    def child():
        yield Sleep(1)

    def main():
        for _ in range(3000):
            yield Spawn(child())

    checker = Checker()
    testing.run_in_real_time(main(), clock=VirtualClock(), watch=[checker], debug=False)
    assert 1000 <= len(checks) <= 3100 < 6000 <= checker.turns and checker.live == 0


def test_a_broken_invariant_ends_the_run():
    def main():
        task = yield CurrentTask()
        yield Spawn(child(task))
        yield

    def child(task):
        task.kernel.ready.append(task)
        yield

    with pytest.raises(AssertionError, match="main running> is misplaced"):
        run(main())


def test_a_golden_text_that_differs_shows_the_difference_and_can_be_updated(tmp_path, monkeypatch):
    path = tmp_path / "trace.txt"
    golden("one\ntwo\n", path, update=True)
    golden("one\ntwo", path)
    with pytest.raises(AssertionError, match=r"(?s)not the golden one any more.*-two\n\+three"):
        golden("one\nthree", path)
    monkeypatch.setenv("MINISCHED_UPDATE_GOLDEN", "1")
    golden("one\nthree", path)
    assert path.read_text() == "one\nthree\n"


def test_the_trace_of_a_program_that_fails_ends_with_its_error():
    def main():
        yield
        raise ValueError("v")

    assert testing.trace(main()).splitlines()[-1] == "raised ValueError: v"


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(testing).failed == doctest.testmod(battery).failed == 0


# The battery. Each wrong syscall breaks one rule of an event's wait.


class Event:
    def __init__(self):
        self.waiters = {}

    def set(self):
        for task in list(self.waiters):
            self.waiters.pop(task, None)
            task.kernel.resume(task, "set")


class WaitFor(Syscall[str]):
    __slots__ = ("event",)

    def __init__(self, event):
        self.event = event

    def handle(self, kernel, task):
        self.event.waiters[task] = None
        kernel.park(task, self.undo(task))

    def undo(self, task):
        return lambda: self.event.waiters.pop(task)

    def __repr__(self):
        return type(self).__name__


class ForgetsUndo(WaitFor):
    def undo(self, task):
        return lambda: None


class CanNotBeUndone(WaitFor):
    def undo(self, task):
        return None


class UndoFails(WaitFor):
    def undo(self, task):
        return lambda: self.event.waiters.pop("nobody")


class NeverWoken(WaitFor):
    def handle(self, kernel, task):
        kernel.park(task, lambda: None)


class WokenTwice(WaitFor):
    def handle(self, kernel, task):
        self.event.waiters[task] = None
        self.event.waiters[Again(task)] = None
        kernel.park(task, self.event.waiters.clear)


class Again:
    def __init__(self, task):
        self.kernel, self.resume = self, task.kernel.resume
        self.task = task

    def __getattribute__(self, name):
        if name == "kernel":
            task = object.__getattribute__(self, "task")
            task.kernel.resume(task)
        return object.__getattribute__(self, name)


class NoCheckpoint(WaitFor):
    checkpoint = False


class AnswersAtOnce(WaitFor):
    def handle(self, kernel, task):
        return "at once"


class Fails(WaitFor):
    def handle(self, kernel, task):
        raise OSError("broken")


def event_of(kind):
    def make():
        event = Event()
        return kind(event), event.set

    return make


def test_a_right_syscall_passes():
    check_syscall(event_of(WaitFor))
    check_syscall(event_of(CanNotBeUndone), cancellable=False)
    check_syscall(event_of(NoCheckpoint))
    check_syscall(lambda: Sleep(1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            ForgetsUndo,
            "when it is cancelled while parked, .* a rule of the kernel was broken: task 'subject' was woken",
        ),
        (CanNotBeUndone, "a cancellation did not wake it: park it with an undo, or say cancellable=False"),
        (UndoFails, "when it is cancelled while parked, .* the undo of UndoFails in task 'subject' raised KeyError"),
        (NeverWoken, "when it completes, its task was never woken: nobody resumed it or threw into it"),
        (WokenTwice, "when it completes, a rule of the kernel was broken: task 'subject' was woken while it is ready"),
        (AnswersAtOnce, r"it did not park \(result\): this battery is for syscalls that wait"),
        (Fails, r"it did not park \(raised OSError\('broken'\)\)"),
    ],
)
def test_a_wrong_syscall_is_told_in_words_what_is_wrong(kind, words):
    with pytest.raises(AssertionError, match=f"^{kind.__name__}: {words}"):
        check_syscall(event_of(kind))


def test_a_wait_that_can_be_given_up_is_not_one_that_can_not():
    with pytest.raises(AssertionError, match="saw: cancelled; expected: result, then cancelled later"):
        check_syscall(event_of(WaitFor), cancellable=False)


class Keeper(Service):
    """Tells of all that it was ever given."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.kept = []

    def tasks(self):
        return self.kept


class LeftAfterItsEnd(WaitFor):
    def handle(self, kernel, task):
        kernel.service(Keeper).kept.append(task)
        super().handle(kernel, task)


class WrongUndo(Syscall[None]):
    """A timer that is not forgotten, and which its service tells of."""

    __slots__ = ()

    def handle(self, kernel, task):
        timers = kernel.service(Timers)
        timers.wake_at(timers.now() + 1, task)
        kernel.park(task, undo=lambda: None)


class DoesNotPark(WrongUndo):
    def handle(self, kernel, task):
        kernel.service(Timers).wake_at(1, task)


class ParksWithoutUndo(WrongUndo):
    def handle(self, kernel, task):
        kernel.service(Timers).wake_at(1, task)
        kernel.park(task)


class IsAGenerator(WaitFor):
    def handle(self, kernel, task):
        yield


class ChangesItself(WaitFor):
    __slots__ = ("task",)

    def handle(self, kernel, task):
        self.task = task
        super().handle(kernel, task)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (event_of(LeftAfterItsEnd), "Keeper still holds its task, which was woken: what wakes it has to forget"),
        (WrongUndo, "when it is cancelled while parked, .* Timers still holds its task, which was cancelled: the undo"),
        (DoesNotPark, r"Timers still holds its task, which is not parked: call `kernel.park\(task, undo\)`"),
        (ParksWithoutUndo, "Timers still holds its task, although `handle` raised TypeError.*missing 1 required"),
        (event_of(IsAGenerator), r"handle\(\) returned a generator: it is a plain function, which can't yield"),
        (event_of(ChangesItself), "`handle` changed the syscall itself: two tasks may yield the same one"),
        (lambda: (WaitFor(Event()), lambda: Sleep(1)), r"complete\(\) returned Sleep\(1\), which nobody ran"),
        (lambda: (WaitFor(Event()), 7), "complete is a plain call, not 7"),
    ],
)  # fmt: skip
def test_other_mistakes_of_those_who_begin_are_told_in_words_too(make, words):
    with pytest.raises(AssertionError, match=words):
        check_syscall(make)


def test_the_call_itself_in_place_of_a_function_that_makes_it():
    with pytest.raises(TypeError, match=r"takes a function that makes the call: check_syscall\(lambda: Sleep\(1\)\)"):
        check_syscall(Sleep(1))


def test_what_make_returns_has_to_be_a_syscall():
    with pytest.raises(AssertionError, match="has to return a syscall, not 7"):
        check_syscall(lambda: 7)


def test_make_may_be_a_generator_function_and_clean_up():
    cleaned = []

    def make():
        yield Pause()
        event = Event()
        return WaitFor(event), event.set, lambda: cleaned.append(event)

    check_syscall(make)
    assert len(cleaned) == 7
