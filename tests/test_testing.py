"""The tools for tests: virtual time, the checker, golden files; and the mistakes that `check_syscall` finds."""

from __future__ import annotations

import doctest
import importlib
import os
import socket
import subprocess
import sys
import threading

import pytest

from minisched import (
    NOT_YET,
    CancelScope,
    CurrentTask,
    Now,
    Pause,
    Read,
    Selectable,
    Service,
    Sleep,
    Spawn,
    Syscall,
    Timers,
    resume,
    testing,
)
from minisched.lab import leftovers
from minisched.testing import Checker, VirtualClock, check_syscall, golden, run


def test_a_century_of_virtual_time_takes_no_time():
    def main():
        yield Sleep(100 * 365 * 86400)
        return (yield Now())

    assert run(main(), clock=VirtualClock(5.0)) == 5.0 + 100 * 365 * 86400


def test_files_are_polled_before_each_jump_of_virtual_time():
    receiver, sender_end = socket.socketpair()

    def sender():
        yield Sleep(1)
        sender_end.send(b"x")

    def main():
        yield Spawn(sender())
        data = yield Read(receiver, 1)
        return data, (yield Now())

    with receiver, sender_end:
        assert run(main()) == (b"x", 1)


def test_the_checker_checks_each_turn_with_few_tasks_and_every_997th_with_many(monkeypatch):
    checker, checked_turns = Checker(), []
    monkeypatch.setattr("minisched.testing.checker.check", lambda kernel: checked_turns.append(checker.turns))

    def child():
        yield Sleep(1)

    def main():
        for _ in range(3000):
            yield Spawn(child())

    testing.run_in_real_time(main(), clock=VirtualClock(), watch=[checker], debug=False)
    assert checked_turns[:1000] == list(range(1, 1001))
    with_many_tasks = [turn for turn in checked_turns if 2100 < turn < 6000]
    assert with_many_tasks == [3 * 997, 4 * 997, 5 * 997, 6 * 997]
    assert checker.turns >= 6000 and checker.living_tasks == 0


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


def test_a_scope_that_does_not_see_its_cancellation_ends_the_run():
    def main():
        task = yield CurrentTask()
        with (yield CancelScope()):
            task.scope.effective = task.scope
            yield

    with pytest.raises(AssertionError, match="main running> does not see its cancellation"):
        run(main())


def test_a_text_that_differs_from_its_golden_file_shows_the_difference_and_can_update_it(tmp_path, monkeypatch):
    path = tmp_path / "trace.txt"
    golden("one\ntwo\n", path, update=True)
    golden("one\ntwo", path)
    with pytest.raises(AssertionError, match=r"(?s)differs from the golden file.*-two\n\+three"):
        golden("one\nthree", path)
    monkeypatch.setenv("MINISCHED_UPDATE_GOLDEN", "1")
    golden("one\nthree", path)
    assert path.read_text() == "one\nthree\n"


def test_the_trace_of_a_failing_program_ends_with_its_error():
    def main():
        yield
        raise ValueError("v")

    assert testing.trace(main()).splitlines()[-1] == "raised ValueError: v"


# The functions of these names shadow their modules in the package.
DOCUMENTED = [f"minisched.{name}" for name in (
    "testing", "testing.check_syscall", "testing.cancel_everywhere", "testing.checker",
    "lab", "lab.debug", "lab.report", "lab.timeline", "lab.trace", "serving.serve", "cli.new_syscall",
)]  # fmt: skip


@pytest.mark.parametrize("module", [*DOCUMENTED, pytest.param("minisched.serving.workers", marks=pytest.mark.slow)])
def test_the_examples_in_the_docstrings_are_right(module):
    importlib.import_module(module)
    result = doctest.testmod(sys.modules[module])
    assert result.failed == 0 and result.attempted > 0


# The conformance test. Each wrong syscall breaks one rule of waiting for an event.


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


class DoesNotUndo(WaitFor):
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


def test_a_correct_syscall_passes():
    check_syscall(event_of(WaitFor))
    check_syscall(event_of(CanNotBeUndone), cancellable=False)
    check_syscall(event_of(NoCheckpoint))
    check_syscall(lambda: Sleep(1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            DoesNotUndo,
            "when it is cancelled while parked, .* a rule of the kernel was broken: task 'subject' was woken",
        ),
        (CanNotBeUndone, "a cancellation did not wake it: park it with an undo, or pass cancellable=False"),
        (UndoFails, "when it is cancelled while parked, .* the undo of UndoFails in task 'subject' raised KeyError"),
        (NeverWoken, "when it completes, its task was never woken: nothing called kernel.resume or kernel.throw"),
        (WokenTwice, "when it completes, a rule of the kernel was broken: task 'subject' was woken while it is ready"),
        (AnswersAtOnce, r"its task did not park \(result\): this conformance test is for syscalls that wait"),
        (Fails, r"its task did not park \(raised OSError\('broken'\)\)"),
    ],
)
def test_the_message_explains_what_is_wrong_with_a_syscall(kind, words):
    with pytest.raises(AssertionError, match=f"^{kind.__name__}: {words}"):
        check_syscall(event_of(kind))


def test_a_wait_with_an_undo_fails_with_cancellable_false():
    with pytest.raises(AssertionError, match="saw: cancelled; expected: result, then cancelled later"):
        check_syscall(event_of(WaitFor), cancellable=False)


class Keeper(Service):
    """Keep all tasks, also those that have been woken."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.kept = []

    def tasks(self):
        return self.kept


class StaysInItsService(WaitFor):
    def handle(self, kernel, task):
        kernel.service(Keeper).kept.append(task)
        super().handle(kernel, task)


class WrongUndo(Syscall[None]):
    """A wait for a timer whose undo does not cancel the timer."""

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


class ReturnsAGenerator(WaitFor):
    def handle(self, kernel, task):
        return (None for _ in ())


class ChangesItself(WaitFor):
    __slots__ = ("task",)

    def handle(self, kernel, task):
        self.task = task
        super().handle(kernel, task)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (event_of(StaysInItsService), "Keeper still holds its task, which was woken: remove the task from the service"),
        (WrongUndo, "when it is cancelled while parked, .* Timers still holds its task, which was cancelled: the undo"),
        (DoesNotPark, r"Timers still holds its task, which is not parked: call `kernel.park\(task, undo\)`"),
        (ParksWithoutUndo, "Timers still holds its task, although `handle` raised TypeError.*missing 1 required"),
        (event_of(ReturnsAGenerator), r"handle\(\) returned a generator: it must be a plain function"),
        (event_of(ChangesItself), "`handle` changed the syscall itself: two tasks may yield the same one"),
        (lambda: (WaitFor(Event()), lambda: Sleep(1)), r"complete\(\) returned Sleep\(1\), which was never run"),
        (lambda: (WaitFor(Event()), 7), "complete must be a function to call, not 7"),
    ],
)  # fmt: skip
def test_the_message_explains_other_common_mistakes(make, words):
    with pytest.raises(AssertionError, match=words):
        check_syscall(make)


def test_a_syscall_in_place_of_a_function_is_refused():
    with pytest.raises(
        TypeError, match=r"takes a function that returns the syscall: check_syscall\(lambda: Sleep\(1\)\)"
    ):
        check_syscall(Sleep(1))


def test_make_must_return_a_syscall():
    with pytest.raises(AssertionError, match="must return a syscall, not 7"):
        check_syscall(lambda: 7)


def test_make_may_be_a_generator_function_and_return_a_clean_function():
    cleaned = []

    def make():
        yield Pause()
        event = Event()
        return WaitFor(event), event.set, lambda: cleaned.append(event)

    check_syscall(make)
    assert len(cleaned) == 7


# A syscall that leaves something behind, and one that never ends.


class Leaky(Selectable[None]):
    """Opens something at each wait, and gives it back only when it is woken."""

    __slots__ = ("what",)

    def __init__(self, what):
        self.what = what

    def try_now(self, kernel, task):
        return NOT_YET

    def add_waiter(self, kernel, waiter):
        give_back = self.what()
        timers = kernel.service(Timers)

        def woken():
            give_back()
            resume(kernel, waiter)

        return timers.call_at(timers.now() + 1, woken).cancel


def a_descriptor():
    fd = os.open(os.devnull, os.O_RDONLY)
    LEFT.append(lambda: os.close(fd))
    return lambda: (LEFT.pop(), os.close(fd))


def a_thread():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="leaked", daemon=True)
    thread.start()
    LEFT.append(lambda: (stop.set(), thread.join()))
    return lambda: LEFT.pop()()


def a_child():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    LEFT.append(lambda: child.communicate(b"\n"))
    return lambda: LEFT.pop()()


LEFT = []


@pytest.mark.parametrize(
    ("what", "words"),
    [(a_descriptor, r"descriptor \d+"), (a_thread, "thread 'leaked'"), (a_child, r".*child process \d+")],
)
def test_a_descriptor_thread_or_child_that_a_cancelled_syscall_leaves_is_named(what, words, monkeypatch):
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.05)  # nothing of this ends by itself
    try:
        with pytest.raises(AssertionError, match=rf"^Leaky\(.*when it is cancelled while parked.* it has left {words}"):
            check_syscall(lambda: Leaky(what))
    finally:
        while LEFT:
            LEFT.pop()()


class WokenFromAThread(Selectable[None]):
    """Calls the kernel in another thread, which does not end the wait of the loop."""

    __slots__ = ()

    def try_now(self, kernel, task):
        return NOT_YET

    def add_waiter(self, kernel, waiter):
        kernel.service(Outside).waiting += 1
        return lambda: None


class Outside(Service):
    waiting = 0

    def pending(self):
        return self.waiting


def test_a_syscall_that_is_never_woken_ends_the_trial_with_a_question():
    with pytest.raises(AssertionError, match=r"nothing has happened for 0.05 s of real time: is it woken from anot"):
        check_syscall(WokenFromAThread, max_seconds=0.05)


# Calls that answer at once.


class AtOnce(Syscall[int]):
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0

    def handle(self, kernel, task):
        return 7


class Counting(AtOnce):
    __slots__ = ()

    def handle(self, kernel, task):
        self.calls += 1
        return 7


class NotACheckpoint(AtOnce):
    __slots__ = ()
    checkpoint = False


class Opens(AtOnce):
    __slots__ = ()

    def handle(self, kernel, task):
        a_descriptor()


class Generates(AtOnce):
    __slots__ = ()

    def handle(self, kernel, task):
        return (None for _ in ())


class Fails(AtOnce):
    __slots__ = ()

    def handle(self, kernel, task):
        raise ValueError("on purpose")


@pytest.mark.parametrize("make", [AtOnce, NotACheckpoint, CurrentTask, Now, Pause, lambda: Sleep(0)])
def test_a_call_that_answers_at_once_passes(make):
    check_syscall(make)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Counting, "`handle` changed the syscall itself"),
        (Opens, "has left descriptor"),
        (Generates, r"handle\(\) returned a generator"),
        (Fails, r"its task saw: raised ValueError\('on purpose'\); expected: result"),
    ],
)
def test_the_mistakes_of_a_call_that_answers_at_once(make, words, monkeypatch):
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.05)  # nothing of this ends by itself
    try:
        with pytest.raises(AssertionError, match=words):
            check_syscall(make)
    finally:
        while LEFT:
            LEFT.pop()()
