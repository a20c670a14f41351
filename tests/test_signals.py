"""Waiting for signals, and what they do before and afterwards; each test in generator and in `async def` form."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic

import pytest
from forms import add_async_forms, in_thread
from helpers import no_file_is_left_open  # noqa: F401
from helpers import run as run_unbounded
from programs import started

from minisched import (
    Cancel,
    Cancelled,
    CurrentTask,
    Deadlock,
    Event,
    InThread,
    Join,
    MoveOnAfter,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    WaitSignal,
    gather,
)
from minisched.signals import Signals
from minisched.testing import VirtualClock, check_syscall

SECONDS = 20  # after which a test has failed
FIRST, SECOND, HARMLESS = signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH
CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@pytest.fixture(autouse=True)
def signals_are_as_they_were():
    before = handlers()
    assert before[signal.SIGINT] is signal.default_int_handler
    yield
    assert handlers() == before


@pytest.fixture
def heard():
    """What comes of the first signal when nobody waits for it."""
    heard = []
    before = signal.signal(FIRST, lambda *args: heard.append("outside"))
    yield heard
    signal.signal(FIRST, before)


def handlers():
    return {signum: signal.getsignal(signum) for signum in CATCHABLE}


class BrokenOff(BaseException):
    """What ends a run at once."""


class BreakOff(Syscall[None]):
    """End the run at once, as a second Ctrl-C does."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = BrokenOff()
        raise kernel.fault


class Bounded(VirtualClock):
    """A virtual clock that is not content to wait for a signal for ever."""

    def wait(self, select, deadline):
        began = monotonic()
        super().wait(lambda seconds: select(SECONDS if seconds is None else seconds), deadline)
        assert monotonic() - began < SECONDS, "nothing came"


def run(main):
    return run_unbounded(main, clock=Bounded())


def send(signum):
    """Send a signal to this process, which has been handled when this returns."""
    os.kill(os.getpid(), signum)


def until(condition):
    """Let the others run until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "it never came true"
        yield


def parked(*tasks):
    yield from until(lambda: all(task.state == "parked" for task in tasks))


def waiting(*signums, times=1):
    """Wait for signals so many times; return which came."""
    came = []
    for _ in range(times):
        came.append((yield WaitSignal(*signums)))
    return came


# Which comes.


def test_a_signal_ends_the_wait_for_it_when_the_loop_comes_to_that():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        send(FIRST)
        assert task.state == "parked"
        return (yield Join(task))

    assert run(main()) == [FIRST]


def test_a_signal_from_elsewhere_ends_the_wait_in_the_selector():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        yield InThread(os.kill, os.getpid(), FIRST)
        return (yield Join(task))

    assert run(main()) == [FIRST]


def test_of_several_signals_the_one_that_came_is_the_answer():
    def main():
        task = yield Spawn(waiting(FIRST, SECOND, times=2))
        yield from parked(task)
        send(SECOND)
        yield from until(lambda: task.state != "parked")
        yield from parked(task)
        send(FIRST)
        return (yield Join(task))

    assert run(main()) == [SECOND, FIRST]


def test_several_signals_at_once_are_told_one_by_one_in_the_order_of_their_coming():
    def main():
        task = yield Spawn(waiting(FIRST, HARMLESS, SECOND, times=3))
        yield from parked(task)
        for signum in (SECOND, FIRST, HARMLESS):
            send(signum)
        return (yield Join(task))

    assert run(main()) == [SECOND, FIRST, HARMLESS]


def test_a_signal_that_comes_between_two_waits_is_kept_once():
    def taking():
        log.append((yield WaitSignal(FIRST)))
        yield go.wait()
        log.append((yield WaitSignal(FIRST)))
        with (yield MoveOnAfter(1)) as scope:
            yield WaitSignal(FIRST)
        log.append(scope.cancelled)

    def main():
        task = yield Spawn(taking())
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: log)
        yield from parked(task)
        send(FIRST)
        send(FIRST)
        yield Sleep(1)
        go.set()
        yield Join(task)

    log, go = [], Event()
    run(main())
    assert log == [FIRST, FIRST, True]


def test_a_signal_that_is_not_waited_for_now_is_kept_for_the_wait_that_is_for_it():
    def main():
        task = yield Spawn(taking())
        yield from parked(task)
        send(SECOND)
        yield from until(lambda: log)
        yield from parked(task)
        send(SECOND)
        yield Sleep(1)
        go.set()
        yield Sleep(1)
        send(FIRST)
        yield Join(task)

    def taking():
        log.append((yield WaitSignal(FIRST, SECOND)))
        yield go.wait()
        log.append((yield WaitSignal(FIRST)))
        log.append((yield WaitSignal(SECOND)))

    log, go = [], Event()
    run(main())
    assert log == [SECOND, FIRST, SECOND]


def test_a_signal_that_comes_while_another_is_waited_for_wakes_nobody():
    def main():
        task = yield Spawn(taking())
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: log)
        yield from parked(task)
        send(FIRST)
        yield Sleep(1)
        assert task.state == "parked"
        send(SECOND)
        yield Join(task)

    def taking():
        log.append((yield WaitSignal(FIRST, SECOND)))
        log.append((yield WaitSignal(SECOND)))

    log = []
    run(main())
    assert log == [FIRST, SECOND]


def test_two_tasks_that_wait_for_one_signal_are_both_told():
    def main():
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(waiting(FIRST))))
        other = yield Spawn(waiting(SECOND))
        yield from parked(*tasks, other)
        send(FIRST)
        answers = yield from gather(*(joining(task) for task in tasks))
        assert other.state == "parked"
        send(SECOND)
        return answers

    def joining(task):
        return (yield Join(task))

    assert run(main()) == [[FIRST], [FIRST]]


def test_a_signal_that_is_waited_for_is_no_deadlock_and_one_that_was_is():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        yield InThread(send, FIRST)
        yield Join(task)
        yield Event().wait()

    with pytest.raises(Deadlock):
        run(main())


def test_a_signal_may_be_all_that_a_run_waits_for():
    class Sends(VirtualClock):
        def wait(self, select, deadline):
            send(FIRST)
            super().wait(select, deadline)

    assert run_unbounded(waiting(FIRST), clock=Sends()) == [FIRST]


# Cancelled.


def test_a_cancelled_wait_loses_no_signal():
    def main():
        task = yield Spawn(giving_up())
        yield from parked(task)
        yield Sleep(5)
        send(FIRST)
        go.set()
        return (yield Join(task))

    def giving_up():
        with (yield MoveOnAfter(1)):
            yield WaitSignal(FIRST)
        yield go.wait()
        return (yield WaitSignal(FIRST))

    go = Event()
    assert run(main()) == FIRST


def test_a_signal_and_a_cancellation_in_the_same_turn():
    def asking():
        log.append((yield WaitSignal(FIRST)))
        try:
            yield
        except Cancelled:
            log.append("cancelled")
            raise

    def main():
        task = yield Spawn(asking(), keep=True)
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: task.state == "ready")
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)

    log = []
    run(main())
    assert log == [FIRST, "cancelled"]


def test_waiting_for_a_signal_passes_the_battery():
    check_syscall(lambda: (WaitSignal(FIRST, HARMLESS), lambda: send(HARMLESS)))  # one that ends no process


# What else the signal does, and when.


def test_a_signal_is_its_takers_until_the_end_of_its_body(heard):
    before = signal.getsignal(FIRST)

    def child():
        yield go.wait()

    def taking():
        yield WaitSignal(FIRST)
        yield Spawn(child())
        send(FIRST)  # kept
        assert heard == []

    def main():
        task = yield Spawn(taking())
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: task.state == "ending")
        assert signal.getsignal(FIRST) is before
        send(FIRST)
        go.set()

    go = Event()
    run(main())
    assert heard == ["outside"]


def test_a_signal_of_two_tasks_is_given_back_by_the_last(heard):
    def main():
        task = yield Spawn(waiting(FIRST, times=2))
        other = yield Spawn(waiting(FIRST))
        yield from parked(task, other)
        send(FIRST)
        yield Join(other)
        send(FIRST)
        assert heard == []
        yield Join(task)
        send(FIRST)

    run(main())
    assert heard == ["outside"]


@pytest.mark.parametrize("end", ["returns", "fails", "cancelled", "broken off"])
def test_a_signal_is_what_it_was_when_the_run_ends(heard, end):
    before = signal.getsignal(FIRST)

    def main():
        task = yield Spawn(waiting(FIRST, HARMLESS), daemon=True)
        yield from parked(task)
        assert signal.getsignal(FIRST) is not before
        if end == "fails":
            raise ZeroDivisionError
        if end == "cancelled":
            yield Cancel((yield CurrentTask()))
            yield
        if end == "broken off":
            yield BreakOff()

    try:
        run(main())
    except (ZeroDivisionError, TaskCancelled, BrokenOff):
        assert end != "returns"
    assert signal.getsignal(FIRST) is before
    send(FIRST)
    assert heard == ["outside"]


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_signal_that_was_ignored_or_left_alone_is_so_again(before):
    def main():
        task = yield Spawn(waiting(HARMLESS))
        yield from parked(task)
        send(HARMLESS)
        return (yield Join(task))

    usual = signal.signal(HARMLESS, before)
    try:
        assert run(main()) == [HARMLESS]
        assert signal.getsignal(HARMLESS) is before
    finally:
        signal.signal(HARMLESS, usual)


def test_a_handler_that_the_program_sets_meanwhile_is_kept(heard):
    def mine(*args):
        heard.append("mine")

    def main():
        task = yield Spawn(waiting(FIRST), daemon=True)
        yield from parked(task)
        signal.signal(FIRST, mine)

    run(main())
    assert signal.getsignal(FIRST) is mine
    send(FIRST)
    assert heard == ["mine"]


def test_nothing_is_held_of_a_task_that_has_ended():
    def main():
        task = yield Spawn(waiting(FIRST, SECOND))
        yield from parked(task)
        signals = task.kernel.service(Signals)
        send(SECOND)
        send(FIRST)  # it is not told of this one
        yield Join(task)
        return signals.takers, signals.before, signals.come, signals.waiting

    assert run(main()) == ({}, {}, {}, {})


def test_a_second_run_has_the_signal_too():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        send(FIRST)
        return (yield Join(task))

    assert [run(main()) for _ in range(2)] == [[FIRST]] * 2


def test_ctrl_c_that_is_waited_for_cancels_nobody_and_afterwards_it_does():
    def main():
        task = yield Spawn(waiting(signal.SIGINT, times=2))
        yield from parked(task)
        send(signal.SIGINT)
        send(signal.SIGINT)
        log.append((yield Join(task)))
        try:
            send(signal.SIGINT)
            yield Sleep(3600)
        except Cancelled:
            log.append("cancelled")
            raise

    log = []
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == [[signal.SIGINT] * 2, "cancelled"]


# Misuse.


@pytest.mark.parametrize(
    "signum, sentence",
    [
        (0, "WaitSignal: 0 is no signal"),
        (-1, "WaitSignal: -1 is no signal"),
        (10_000, "WaitSignal: 10000 is no signal"),
        (signal.SIGKILL, r"WaitSignal\(SIGKILL\): that one can't be caught"),
        ("SIGHUP", "takes signals, as signal.SIGHUP, one by one, not 'SIGHUP'"),
        ("1", "not '1'"),
        (1.5, "not 1.5"),
        ([FIRST, SECOND], r"one by one, not \["),
        (None, "not None"),
    ],
)
def test_what_is_no_signal_or_can_not_be_caught_is_refused(signum, sentence):
    def main():
        with pytest.raises(SyscallError, match=sentence):
            yield WaitSignal(signum)
        return "goes on"

    assert run(main()) == "goes on"


def test_to_wait_for_no_signal_at_all_is_refused():
    def main():
        with pytest.raises(SyscallError, match="one signal or more"):
            yield WaitSignal()

    run(main())


def test_the_run_of_another_thread_has_no_signals():
    def main():
        with pytest.raises(SyscallError, match=r"WaitSignal\(SIGUSR1\): only the main thread's run has signals"):
            yield WaitSignal(FIRST)
        with pytest.raises(SyscallError, match="WaitSignal: 0 is no signal"):
            yield WaitSignal(0)
        return threading.current_thread() is threading.main_thread()

    assert in_thread(run, main()) is False


def test_a_wait_says_what_it_is_for():
    assert repr(WaitSignal(signal.SIGHUP, signal.SIGTERM)) == "WaitSignal(SIGHUP, SIGTERM)"
    assert repr(WaitSignal(10_000)) == "WaitSignal(10000)"


# A process.


RELOADING = """
import signal
from minisched import Event, Spawn, WaitSignal, run

def reloading(go):
    yield WaitSignal(signal.SIGHUP)
    print("once", flush=True)
    yield go.wait()
    yield WaitSignal(signal.SIGHUP)
    print("twice", flush=True)

def main():
    go = Event()
    task = yield Spawn(reloading(go))
    while task.state != "parked":
        yield
    print("ready", flush=True)
    yield WaitSignal(signal.SIGUSR1)
    go.set()
    print("stopped by", (yield WaitSignal(signal.SIGTERM, signal.SIGINT)))

run(main())
"""


def test_a_hang_up_between_two_waits_does_not_end_the_process():
    with started("-c", RELOADING) as program:
        program.expect("ready")
        program.process.send_signal(signal.SIGHUP)
        program.expect("once")
        program.process.send_signal(signal.SIGHUP)
        program.process.send_signal(signal.SIGUSR1)
        program.expect("twice")
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0
        assert program.said.endswith("stopped by 15\n") and program.errors() == ""


add_async_forms(globals())
