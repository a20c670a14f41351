"""WaitSignal: the signals that a task receives, and their effects before and afterwards."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic

import pytest
from forms import in_thread
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
from minisched.bridges.signals import Signals
from minisched.testing import VirtualClock, check_syscall

SECONDS = 20  # the timeout of a test
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
    """The log of the program's own handler of the first signal."""
    heard = []
    before = signal.signal(FIRST, lambda *args: heard.append("outside"))
    yield heard
    signal.signal(FIRST, before)


def handlers():
    return {signum: signal.getsignal(signum) for signum in CATCHABLE}


class BrokenOff(BaseException):
    """Ends a run at once."""


class BreakOff(Syscall[None]):
    """End the run at once, as the second Ctrl-C does."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = BrokenOff()
        raise kernel.fault


class Bounded(VirtualClock):
    """A virtual clock that waits for a signal for SECONDS at most."""

    def wait(self, select, deadline):
        began = monotonic()
        super().wait(lambda seconds: select(SECONDS if seconds is None else seconds), deadline)
        assert monotonic() - began < SECONDS, "nothing ended the wait"


def run(main):
    return run_unbounded(main, clock=Bounded())


def send(signum):
    """Send a signal to this process; its handler has run when this returns."""
    os.kill(os.getpid(), signum)


def until(condition):
    """Let other tasks run until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "the condition never became true"
        yield


def parked(*tasks):
    yield from until(lambda: all(task.state == "parked" for task in tasks))


def waiting(*signums, times=1):
    """Wait for signals that many times; return those that arrived."""
    arrived = []
    for _ in range(times):
        arrived.append((yield WaitSignal(*signums)))
    return arrived


# Arrival.


def test_a_signal_ends_the_wait_for_it_in_the_next_wait_phase():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        send(FIRST)
        assert task.state == "parked"
        return (yield Join(task))

    assert run(main()) == [FIRST]


def test_a_signal_sent_by_another_thread_ends_the_poll():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        yield InThread(os.kill, os.getpid(), FIRST)
        return (yield Join(task))

    assert run(main()) == [FIRST]


def test_of_several_signals_the_one_that_arrived_is_returned():
    def main():
        task = yield Spawn(waiting(FIRST, SECOND, times=2))
        yield from parked(task)
        send(SECOND)
        yield from until(lambda: task.state != "parked")
        yield from parked(task)
        send(FIRST)
        return (yield Join(task))

    assert run(main()) == [SECOND, FIRST]


def test_several_signals_at_once_are_returned_one_by_one_in_order_of_arrival():
    def main():
        task = yield Spawn(waiting(FIRST, HARMLESS, SECOND, times=3))
        yield from parked(task)
        for signum in (SECOND, FIRST, HARMLESS):
            send(signum)
        return (yield Join(task))

    assert run(main()) == [SECOND, FIRST, HARMLESS]


def test_a_signal_between_two_waits_is_kept_once():
    def receives():
        log.append((yield WaitSignal(FIRST)))
        yield go.wait()
        log.append((yield WaitSignal(FIRST)))
        with (yield MoveOnAfter(1)) as scope:
            yield WaitSignal(FIRST)
        log.append(scope.cancelled_caught)

    def main():
        task = yield Spawn(receives())
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


def test_a_signal_is_kept_until_a_wait_for_it():
    def main():
        task = yield Spawn(receives())
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

    def receives():
        log.append((yield WaitSignal(FIRST, SECOND)))
        yield go.wait()
        log.append((yield WaitSignal(FIRST)))
        log.append((yield WaitSignal(SECOND)))

    log, go = [], Event()
    run(main())
    assert log == [SECOND, FIRST, SECOND]


def test_a_signal_during_a_wait_for_another_one_wakes_no_task():
    def main():
        task = yield Spawn(receives())
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: log)
        yield from parked(task)
        send(FIRST)
        yield Sleep(1)
        assert task.state == "parked"
        send(SECOND)
        yield Join(task)

    def receives():
        log.append((yield WaitSignal(FIRST, SECOND)))
        log.append((yield WaitSignal(SECOND)))

    log = []
    run(main())
    assert log == [FIRST, SECOND]


def test_two_tasks_that_wait_for_one_signal_both_receive_it():
    def main():
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(waiting(FIRST))))
        other = yield Spawn(waiting(SECOND))
        yield from parked(*tasks, other)
        send(FIRST)
        received = yield from gather(*(joins(task) for task in tasks))
        assert other.state == "parked"
        send(SECOND)
        return received

    def joins(task):
        return (yield Join(task))

    assert run(main()) == [[FIRST], [FIRST]]


def test_a_wait_for_a_signal_prevents_a_deadlock_and_its_end_does_not():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        yield InThread(send, FIRST)
        yield Join(task)
        yield Event().wait()

    with pytest.raises(Deadlock):
        run(main())


def test_a_run_may_wait_for_a_signal_only():
    class Sends(VirtualClock):
        def wait(self, select, deadline):
            send(FIRST)
            super().wait(select, deadline)

    assert run_unbounded(waiting(FIRST), clock=Sends()) == [FIRST]


def test_wait_signal_can_be_yielded_and_awaited(waits):
    def main():
        task = yield Spawn(waits(WaitSignal(FIRST)))
        yield from parked(task)
        send(FIRST)
        return (yield Join(task))

    assert run(main()) == FIRST


# Cancellation.


def test_a_cancelled_wait_loses_no_signal():
    def main():
        task = yield Spawn(gives_up())
        yield from parked(task)
        yield Sleep(5)
        send(FIRST)
        go.set()
        return (yield Join(task))

    def gives_up():
        with (yield MoveOnAfter(1)):
            yield WaitSignal(FIRST)
        yield go.wait()
        return (yield WaitSignal(FIRST))

    go = Event()
    assert run(main()) == FIRST


def test_a_signal_and_then_a_cancellation_in_the_same_turn_lose_nothing():
    def waits_twice():
        log.append((yield WaitSignal(FIRST)))
        try:
            yield
        except Cancelled:
            log.append("cancelled")
            raise

    def main():
        task = yield Spawn(waits_twice(), keep=True)
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: task.state == "ready")
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)

    log = []
    run(main())
    assert log == [FIRST, "cancelled"]


def test_wait_signal_passes_check_syscall():
    check_syscall(
        lambda: (WaitSignal(FIRST, HARMLESS), lambda: send(HARMLESS))
    )  # a signal that ends no process by default


# Ownership.


def test_a_task_owns_its_signals_until_its_body_ends(heard):
    before = signal.getsignal(FIRST)

    def child():
        yield go.wait()

    def receives():
        yield WaitSignal(FIRST)
        yield Spawn(child())
        send(FIRST)  # kept
        assert heard == []

    def main():
        task = yield Spawn(receives())
        yield from parked(task)
        send(FIRST)
        yield from until(lambda: task.state == "ending")
        assert signal.getsignal(FIRST) is before
        send(FIRST)
        go.set()

    go = Event()
    run(main())
    assert heard == ["outside"]


def test_the_handler_is_restored_when_the_body_of_the_last_owner_has_ended(heard):
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
def test_the_handler_is_restored_when_the_run_ends(heard, end):
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
def test_the_default_and_the_ignoring_handler_are_restored(before):
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


def test_a_handler_that_the_program_sets_during_the_run_is_kept(heard):
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


def test_nothing_refers_to_a_task_that_has_ended():
    def main():
        task = yield Spawn(waiting(FIRST, SECOND))
        yield from parked(task)
        signals = task.kernel.service(Signals)
        send(SECOND)
        send(FIRST)  # the task ends before it waits for this one
        yield Join(task)
        return signals.owners, signals.previous, signals.kept, signals.waiting

    assert run(main()) == ({}, {}, {}, {})


def test_a_second_run_receives_the_signal_too():
    def main():
        task = yield Spawn(waiting(FIRST))
        yield from parked(task)
        send(FIRST)
        return (yield Join(task))

    assert [run(main()) for _ in range(2)] == [[FIRST]] * 2


def test_ctrl_c_with_an_owner_cancels_nothing_and_afterwards_cancels_main():
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
        (0, "WaitSignal: 0 is not a signal"),
        (-1, "WaitSignal: -1 is not a signal"),
        (10_000, "WaitSignal: 10000 is not a signal"),
        (signal.SIGKILL, r"WaitSignal\(SIGKILL\): this signal can't be caught"),
        ("SIGHUP", "takes signals as separate arguments, such as signal.SIGHUP, not 'SIGHUP'"),
        ("1", "not '1'"),
        (1.5, "not 1.5"),
        ([FIRST, SECOND], r"as separate arguments, .* not \["),
        (None, "not None"),
    ],
)
def test_an_argument_that_is_not_a_signal_or_cannot_be_caught_is_refused(signum, sentence):
    def main():
        with pytest.raises(SyscallError, match=sentence):
            yield WaitSignal(signum)
        return "goes on"

    assert run(main()) == "goes on"


def test_a_wait_without_signals_is_refused():
    def main():
        with pytest.raises(SyscallError, match="needs one signal or more"):
            yield WaitSignal()

    run(main())


def test_a_run_in_another_thread_receives_no_signals():
    def main():
        with pytest.raises(
            SyscallError, match=r"WaitSignal\(SIGUSR1\): only a run in the main thread receives signals"
        ):
            yield WaitSignal(FIRST)
        with pytest.raises(SyscallError, match="WaitSignal: 0 is not a signal"):
            yield WaitSignal(0)
        return threading.current_thread() is threading.main_thread()

    assert in_thread(run, main()) is False


def test_the_repr_names_the_signals():
    assert repr(WaitSignal(signal.SIGHUP, signal.SIGTERM)) == "WaitSignal(SIGHUP, SIGTERM)"
    assert repr(WaitSignal(10_000)) == "WaitSignal(10000)"


# A process.


RELOADING = """
import signal
from minisched import Event, Spawn, WaitSignal, run

def reloads(go):
    yield WaitSignal(signal.SIGHUP)
    print("once", flush=True)
    yield go.wait()
    yield WaitSignal(signal.SIGHUP)
    print("twice", flush=True)

def main():
    go = Event()
    task = yield Spawn(reloads(go))
    while task.state != "parked":
        yield
    print("ready", flush=True)
    yield WaitSignal(signal.SIGUSR1)
    go.set()
    print("stopped by", (yield WaitSignal(signal.SIGTERM, signal.SIGINT)))

run(main())
"""


@pytest.mark.slow
def test_a_sighup_between_two_waits_does_not_end_the_process():
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
