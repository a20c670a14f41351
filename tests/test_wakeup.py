"""Waking the loop from other threads and by signals; Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from helpers import Ask, no_file_is_left_open, pair, parked, run, until  # noqa: F401

import minisched
from minisched import CurrentTask, Join, Read, Sleep, Spawn, Syscall, TaskCancelled, Write
from minisched.poller import READ, Poller
from minisched.wakeup import Wakeup


@pytest.fixture(autouse=True)
def signals_are_as_they_were():
    handler, number = signal.getsignal(signal.SIGINT), wakeup_number()
    assert handler is signal.default_int_handler
    yield
    assert (signal.getsignal(signal.SIGINT), wakeup_number()) == (handler, number)


def wakeup_number():
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number


class InThread(Syscall[object]):
    """Run a function in a thread; return what it returns, and the thread that took the result over."""

    __slots__ = ("function",)

    def __init__(self, function):
        self.function = function

    def handle(self, kernel, task):
        wakeup = kernel.service(Outside).wakeup

        def work():
            value = self.function()
            wakeup.call(lambda: kernel.service(Outside).end(task, value))

        kernel.park(task, None)
        kernel.service(Outside).begin(task, threading.Thread(target=work))


class Outside(minisched.Service):
    """The tasks that wait for a thread."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.threads = {}

    def begin(self, task, thread):
        self.threads[task] = thread
        thread.start()

    def end(self, task, value):
        self.threads.pop(task).join()
        self.kernel.resume(task, (value, threading.current_thread()))

    def pending(self):
        return len(self.threads)

    def tasks(self):
        return self.threads


def the_wakeup():
    return Ask(lambda kernel: kernel.service(Wakeup))


# Other threads


def test_a_call_from_another_thread_ends_the_wait_and_runs_in_the_kernels_thread():
    def main():
        return (yield InThread(threading.current_thread))

    worker, taker = run(main())
    assert worker is not taker
    assert taker is threading.current_thread()


def test_many_calls_at_once_all_run_in_order_for_each_thread():
    def many(wakeup, heard, name):
        for number in range(1000):
            wakeup.call(lambda number=number: heard.append((name, number)))

    def main():
        wakeup, heard = (yield the_wakeup()), []
        workers = []
        for name in range(4):
            workers.append((yield Spawn(one(wakeup, heard, name))))
        for worker in workers:
            yield Join(worker)
        yield from until(lambda: len(heard) == 4000)
        return heard

    def one(wakeup, heard, name):
        yield InThread(lambda: many(wakeup, heard, name))

    heard = run(main())
    for name in range(4):
        assert [number for who, number in heard if who == name] == list(range(1000))


def test_a_call_that_calls_again_is_for_the_next_wait():
    def main():
        wakeup, heard = (yield the_wakeup()), []

        def again():
            heard.append("once")
            wakeup.call(lambda: heard.append("twice"))

        wakeup.call(again)
        wakeup.run_calls()
        assert heard == ["once"]
        yield from until(lambda: len(heard) == 2)
        return heard

    assert run(main()) == ["once", "twice"]


def test_a_pipe_full_of_wake_ups_is_enough_of_them():
    def main():
        wakeup = yield the_wakeup()
        try:
            while True:
                wakeup.sender.send(bytes(100_000))
        except BlockingIOError:
            pass
        wakeup.wake()
        heard = []
        wakeup.call(lambda: heard.append("called"))
        yield from until(lambda: heard)
        yield Ask(lambda kernel: kernel.service(Poller).select(1.0))
        with pytest.raises(BlockingIOError):
            wakeup.receiver.recv(1)  # all of it was taken
        return heard

    assert run(main()) == ["called"]


def test_exactly_as_many_wake_ups_as_are_taken_at_once():
    def main():
        wakeup = yield the_wakeup()
        wakeup.sender.send(bytes(4096))
        heard = []
        wakeup.call(lambda: heard.append("called"))
        yield from until(lambda: heard)
        wakeup.sender.send(bytes(4095))
        wakeup.wake()
        yield InThread(int)
        wakeup.kernel.service(Poller).tell(wakeup.entry, READ)  # nothing is there: no harm either
        return heard

    assert run(main()) == ["called"]


def test_a_wake_up_without_a_reason_does_no_harm():
    def main():
        wakeup = yield the_wakeup()
        wakeup.wake()
        wakeup.closed()
        yield
        return "done"

    assert run(main()) == "done"


def test_a_wake_up_after_the_run_does_no_harm():
    def main():
        return (yield the_wakeup())

    wakeup = run(main())
    wakeup.wake()
    wakeup.call(lambda: None)


def test_a_wait_is_ended_by_the_thread_and_not_by_chance():
    def main():
        ours, plain = pair()
        with ours, plain:
            reader = yield Spawn(one_read(ours))
            yield InThread(lambda: plain.send(b"from a thread"))
            return (yield Join(reader))

    def one_read(sock):
        return (yield Read(sock, 100))

    assert run(main()) == b"from a thread"


# Ctrl-C


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_the_first_ctrl_c_cancels_main_which_cleans_up():
    cleaned = []

    def child(sock):
        try:
            yield Read(sock, 1)
        finally:
            cleaned.append("child")

    def main():
        ours, plain = pair()
        with ours, plain:
            try:
                task = yield Spawn(child(ours))
                yield from parked(task)
                interrupt()
                yield Read(plain.fileno(), 1)
            finally:
                cleaned.append("main")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert caught.value.__cause__ is None
    assert cleaned == ["main", "child"]


def test_mains_failure_is_the_cause_of_the_keyboard_interrupt():
    def main():
        try:
            interrupt()
            yield Sleep(3600)
        finally:
            raise ZeroDivisionError("while cleaning up")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert repr(caught.value.__cause__) == "ZeroDivisionError('while cleaning up')"


def test_ctrl_c_ends_a_wait_in_the_selector():
    def main():
        ours, plain = pair()
        with ours, plain:
            me = threading.main_thread().ident
            thread = threading.Thread(target=lambda: signal.pthread_kill(me, signal.SIGINT))
            thread.start()
            try:
                yield Read(ours, 100)
            finally:
                thread.join()

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_a_second_ctrl_c_does_not_wait_for_a_task_that_cleans_up_for_ever():
    def main():
        try:
            interrupt()
            yield Sleep(3600)
        finally:
            while True:
                interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_a_second_ctrl_c_does_not_wait_for_a_task_that_swallows_it():
    turns = []

    def main():
        while True:
            turns.append(None)
            try:
                if len(turns) <= 3:
                    interrupt()
                yield Sleep(3600)
            except (minisched.Cancelled, KeyboardInterrupt):
                pass

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert len(turns) < 100


def test_a_second_ctrl_c_stops_a_task_that_spins():
    def main():
        wakeup = yield the_wakeup()
        me = threading.main_thread().ident

        def press_twice():
            signal.pthread_kill(me, signal.SIGINT)
            while not wakeup.interrupts:
                pass
            signal.pthread_kill(me, signal.SIGINT)

        thread = threading.Thread(target=press_twice)
        thread.start()
        try:
            while True:
                pass
        finally:
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_a_handler_of_the_programs_own_is_kept():
    pressed = []
    mine = signal.signal(signal.SIGINT, lambda *args: pressed.append("mine"))

    def main():
        interrupt()
        yield
        return "done"

    try:
        before = signal.getsignal(signal.SIGINT)
        assert run(main()) == "done"
        assert signal.getsignal(signal.SIGINT) is before
        assert pressed == ["mine"]
    finally:
        signal.signal(signal.SIGINT, mine)


def test_a_handler_that_is_set_during_the_run_is_kept_too():
    def mine(*args):
        pass

    def main():
        signal.signal(signal.SIGINT, mine)
        yield

    try:
        run(main())
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_wake_up_number_of_the_programs_own_is_given_back():
    first, second = socket.socketpair()
    with first, second:
        first.setblocking(False)
        before = signal.set_wakeup_fd(first.fileno())
        try:
            run(nothing())
            assert wakeup_number() == first.fileno()
        finally:
            signal.set_wakeup_fd(before)


def nothing():
    yield


def test_a_run_in_another_thread_works_and_leaves_the_signals_alone():
    results = []

    def main():
        ours, plain = pair()
        with ours, plain:
            results.append((signal.getsignal(signal.SIGINT), (yield the_wakeup())._restore))
            task = yield Spawn(one_read(ours))
            yield from parked(task)
            yield Write(plain, b"x")
            return (yield Join(task))

    def one_read(sock):
        return (yield Read(sock, 100))

    thread = threading.Thread(target=lambda: results.append(run(main())))
    thread.start()
    thread.join()
    assert results == [(signal.default_int_handler, []), b"x"]


def test_a_signal_of_another_kind_only_wakes():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *args: heard.append("terminated"))

    def main():
        me = yield CurrentTask()
        signal.raise_signal(signal.SIGTERM)
        yield from until(lambda: heard)
        return me.name

    try:
        assert run(main()) == "main"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_program_that_is_interrupted_cleans_up_and_says_so():
    program = (
        "import os, signal\n"
        "from minisched import Read, Sleep, run\n"
        "def main():\n"
        "    try:\n"
        "        print('started', flush=True)\n"
        "        yield Sleep(3600)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "run(main())\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "started\n"
    os.kill(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=20)
    assert out == "cleaned up\n"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert started.returncode == -signal.SIGINT


def test_a_cancelled_main_is_no_keyboard_interrupt():
    def main():
        yield minisched.Cancel((yield CurrentTask()), "enough")
        yield

    with pytest.raises(TaskCancelled, match="enough"):
        run(main())


@pytest.mark.parametrize("end", ["returns", "raises"])
def test_a_ctrl_c_in_the_last_turn_is_not_lost(end):
    def main():
        yield
        interrupt()
        if end == "raises":
            raise ZeroDivisionError("too")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert repr(caught.value.__cause__) == ("None" if end == "returns" else "ZeroDivisionError('too')")


def test_a_ctrl_c_and_then_a_deadlock_is_a_ctrl_c():
    def main():
        interrupt()
        yield Sleep(float("inf"))

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_what_another_thread_has_asked_for_is_done_before_a_deadlock_is_declared():
    def main():
        wakeup = yield the_wakeup()
        task = yield Spawn(waits())
        yield
        wakeup.call(lambda: task.kernel.cancel(task))
        yield Join(task)

    def waits():
        try:
            yield Sleep(float("inf"))
        except minisched.Cancelled:
            return

    run(main())


def test_a_deadlock_is_seen_when_the_wakeup_is_closed_behind_our_back():
    def main():
        wakeup = yield the_wakeup()
        yield Ask(lambda kernel: kernel.service(Poller).drop(wakeup.entry))
        yield Sleep(float("inf"))

    with pytest.raises(minisched.Deadlock):
        run(main())
