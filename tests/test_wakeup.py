"""The wake-up of the loop by other threads and signals, when its socket pair is made, and Ctrl-C."""

from __future__ import annotations

import errno
import gc
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading

import pytest
from helpers import Ask, Recording, no_file_is_left_open, open_numbers, pair, parked, run, until  # noqa: F401

import minisched
from minisched import (
    CancelScope,
    CurrentTask,
    Deadlock,
    Event,
    Join,
    MoveOnAfter,
    Portal,
    Queue,
    Read,
    Sleep,
    Spawn,
    Syscall,
    TaskCancelled,
    WaitSignal,
    Write,
    gather,
)
from minisched.bridges import wakeup as wakeup_module
from minisched.bridges.interrupt import Interrupts
from minisched.bridges.wakeup import READ_BYTES, Wakeup, run_pending_handlers
from minisched.io import _selectors2, poller
from minisched.io._selectors2 import READ
from minisched.io.poller import Poller
from minisched.testing import VirtualClock


@pytest.fixture(autouse=True)
def signals_are_as_they_were():
    handler, fd = signal.getsignal(signal.SIGINT), wakeup_fd()
    assert handler is signal.default_int_handler
    yield
    assert (signal.getsignal(signal.SIGINT), wakeup_fd()) == (handler, fd)


def wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


class InThread(Syscall[object]):
    """Run a function in a thread; return its result, and the thread that delivered it."""

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
        self.wakeup.open()
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
    """Return the wake-up of the run, its pair opened."""

    def question(kernel):
        kernel.service(Wakeup).open()
        return kernel.service(Wakeup)

    return Ask(question)


def the_interrupts():
    return Ask(lambda kernel: kernel.service(Interrupts))


# Other threads


def test_a_call_from_another_thread_ends_the_wait_and_runs_in_the_runs_thread():
    def main():
        return (yield InThread(threading.current_thread))

    worker, deliverer = run(main())
    assert worker is not deliverer
    assert deliverer is threading.current_thread()


def test_concurrent_calls_all_run_and_those_of_each_thread_in_order():
    def many(wakeup, heard, name):
        for number in range(200):
            wakeup.call(lambda number=number: heard.append((name, number)))

    def main():
        wakeup, heard = (yield the_wakeup()), []
        workers = []
        for name in range(4):
            workers.append((yield Spawn(one(wakeup, heard, name))))
        for worker in workers:
            yield Join(worker)
        yield from until(lambda: len(heard) == 800)
        return heard

    def one(wakeup, heard, name):
        yield InThread(lambda: many(wakeup, heard, name))

    heard = run(main())
    for name in range(4):
        assert [number for caller, number in heard if caller == name] == list(range(200))


def test_a_call_that_schedules_another_does_so_for_the_next_wait():
    def main():
        wakeup, heard = (yield the_wakeup()), []

        def again():
            heard.append("once")
            wakeup.call(lambda: heard.append("twice"))

        wakeup.call(again)
        wakeup.run_calls(1)
        assert heard == ["once"]
        yield from until(lambda: len(heard) == 2)
        return heard

    assert run(main()) == ["once", "twice"]


def test_a_call_is_made_although_the_pair_is_full_of_wake_ups():
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
            wakeup.receiver.recv(1)  # the pair was emptied
        return heard

    assert run(main()) == ["called"]


def test_as_many_wake_ups_as_one_receive_can_take_lose_no_call():
    def main():
        wakeup = yield the_wakeup()
        assert wakeup.receiver.recv(READ_BYTES) == b"\0"  # the byte with which the pair is opened
        heard = []
        wakeup.sender.send(bytes(READ_BYTES - 1))
        wakeup.call(lambda: heard.append("called"))
        yield Ask(lambda kernel: kernel.service(Poller).select(1.0))
        with pytest.raises(BlockingIOError):
            wakeup.receiver.recv(1)  # the pair was emptied
        wakeup.kernel.service(Poller).dispatch(wakeup.file_state, READ)  # an event without a byte does no harm
        yield from until(lambda: heard)
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


def test_a_write_by_a_thread_wakes_a_reading_task():
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


def test_the_second_ctrl_c_does_not_wait_for_a_task_that_cleans_up_for_ever():
    def main():
        try:
            interrupt()
            yield Sleep(3600)
        finally:
            while True:
                interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_the_second_ctrl_c_does_not_wait_for_a_task_that_swallows_it():
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


def test_the_second_ctrl_c_stops_a_task_that_spins():
    def main():
        interrupts = yield the_interrupts()
        me = threading.main_thread().ident

        def press_twice():
            signal.pthread_kill(me, signal.SIGINT)
            while not interrupts.count:
                os.sched_yield()
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


def test_the_programs_own_handler_of_ctrl_c_is_kept():
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


def test_a_handler_of_ctrl_c_that_is_set_during_the_run_is_kept():
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


def test_the_programs_own_wake_up_fd_is_restored():
    first, second = socket.socketpair()
    with first, second:
        first.setblocking(False)
        before = signal.set_wakeup_fd(first.fileno())
        try:
            during = []
            run(looks(during))
            assert wakeup_fd() == first.fileno() != during[0]
        finally:
            signal.set_wakeup_fd(before)


def looks(during):
    yield the_wakeup()
    during.append(wakeup_fd())


def test_a_run_in_another_thread_works_and_leaves_the_signals_alone():
    results = []

    def main():
        ours, plain = pair()
        with ours, plain:
            wakeup = yield the_wakeup()
            results.append((signal.getsignal(signal.SIGINT), (yield the_interrupts())._restores, wakeup.previous_fds))
            task = yield Spawn(one_read(ours))
            yield from parked(task)
            yield Write(plain, b"x")
            return (yield Join(task))

    def one_read(sock):
        return (yield Read(sock, 100))

    thread = threading.Thread(target=lambda: results.append(run(main())))
    thread.start()
    thread.join()
    assert results == [(signal.default_int_handler, [], []), b"x"]


def test_another_signal_runs_the_programs_handler_and_ends_nothing():
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


@pytest.mark.slow
def test_a_program_that_is_interrupted_cleans_up_and_shows_a_keyboard_interrupt():
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


def test_a_cancellation_of_main_is_not_reported_as_a_keyboard_interrupt():
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


def test_ctrl_c_in_a_run_that_would_be_a_deadlock_is_a_keyboard_interrupt():
    def main():
        interrupt()
        yield Sleep(float("inf"))

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_a_scheduled_call_is_made_before_a_deadlock_is_raised():
    def main():
        wakeup = yield Ask(lambda kernel: kernel.service(Wakeup))
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


def test_a_deadlock_is_raised_although_the_pair_was_closed_outside_the_scheduler():
    def main():
        wakeup = yield the_wakeup()
        yield Ask(lambda kernel: kernel.service(Poller).drop(wakeup.file_state))
        yield Sleep(float("inf"))

    with pytest.raises(Deadlock):
        run(main())


# When the pair and the selector are made


async def numbers(log):
    try:
        yield 1
        yield 2
    finally:
        log.append(threading.current_thread())


async def iterates(log):
    async for _ in numbers(log):
        break
    gc.collect()
    await Sleep(1)


def gives_up(event):
    with (yield MoveOnAfter(2)):
        yield event.wait()


def gives(queue):
    yield Sleep(3)
    yield queue.put(7)


def everything_virtual(log):
    """Use all that needs no operating system."""
    event, queue = Event(), Queue(1)
    yield Spawn(iterates(log))
    yield Spawn(gives(queue))
    yield from gather(gives_up(event), gives_up(event))
    with (yield CancelScope()) as scope:
        scope.cancel()
        yield
    log.append((yield queue.get()))
    wakeup = yield Ask(lambda kernel: kernel.service(Wakeup))
    wakeup.call(lambda: log.append("called"))
    yield Sleep(1)
    log.append(open_numbers())


def refused(*args, **keywords):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def no_files(monkeypatch):
    """Let every socket pair and every selector fail, as when no descriptor is left."""
    monkeypatch.setattr(socket, "socketpair", refused)
    for name in ("DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector"):
        for module in (selectors, _selectors2.load()):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refused)
    for name in ("epoll", "poll", "kqueue"):
        if hasattr(select, name):
            monkeypatch.setattr(select, name, refused)
    monkeypatch.setattr(poller, "default_selector", refused)


def test_a_run_in_virtual_time_makes_no_file_descriptor():
    before, log = open_numbers(), []
    # In a debug run, the garbage collection is a slow turn, for which the watchdog reads files.
    minisched.run(everything_virtual(log), clock=VirtualClock(), debug=False)
    assert log[:-1] == [threading.current_thread(), 7, "called"]
    assert {*log[-1]} <= {*before}  # garbage of an earlier test may have held one of them


def test_a_run_in_virtual_time_works_where_no_descriptor_can_be_made(no_files):
    log = []
    minisched.run(everything_virtual(log), clock=VirtualClock())
    assert log[:-1] == [threading.current_thread(), 7, "called"]


def test_a_deadlock_in_virtual_time_needs_no_descriptor(no_files):
    def main():
        yield Event().wait()

    with pytest.raises(Deadlock):
        run(main())


def test_ctrl_c_in_virtual_time_needs_no_descriptor_and_no_time(no_files):
    clock = VirtualClock()

    def main():
        interrupt()
        yield Sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        run(main(), clock=clock)
    assert clock.now() == 0


def test_a_clock_is_not_asked_to_wait_while_a_ctrl_c_is_pending(no_files):
    class Hasty(VirtualClock):  # jumps before it polls, as a clock of one's own may
        def wait(self, select, deadline):
            if deadline is not None:
                self.time = deadline
            select(0.0)

    clock = Hasty()

    def main():
        interrupt()
        yield Sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        run(main(), clock=clock)
    assert clock.now() == 0


def test_a_busy_run_in_real_time_makes_no_descriptor_and_ctrl_c_works(no_files):
    turns = []

    def main():
        while True:
            turns.append(None)
            if len(turns) == 1000:
                interrupt()
            yield

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main())
    assert 1000 <= len(turns) < 2000


def test_a_poll_without_files_makes_no_system_call():
    selector = Recording()

    def main():
        yield Sleep(1)
        for _ in range(200):
            yield

    run(main(), selector=selector)
    assert selector.calls == []


@pytest.mark.parametrize("clock", [None, VirtualClock], ids=["real", "virtual"])
def test_a_run_that_can_not_open_the_pair_when_it_first_waits_closes_every_generator(no_files, clock):
    log = []

    class WaitOutside(Syscall[None]):
        __slots__ = ()
        external = True

        def handle(self, kernel, task):
            kernel.service(OutsideForever).waiting += 1
            kernel.park(task, None)

    class OutsideForever(minisched.Service):
        waiting = 0

        def pending(self):
            return self.waiting

    def child():
        try:
            yield WaitOutside()
        finally:
            log.append("child")

    def main():
        try:
            yield Spawn(child())
            yield Event().wait()
        finally:
            log.append("main")

    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        minisched.run(main(), clock=clock and clock())
    assert log == ["child", "main"]


def test_a_selector_that_can_not_be_made_closes_the_pair(monkeypatch):
    monkeypatch.setattr(poller, "default_selector", refused)
    log = []

    def main():
        try:
            yield Sleep(3600)
        finally:
            log.append("main")

    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        minisched.run(main())
    assert log == ["main"]


@pytest.mark.parametrize("call", [minisched.InThread(int), WaitSignal(signal.SIGWINCH), Portal()], ids=repr)
def test_a_syscall_that_can_not_open_the_pair_raises_and_may_be_tried_again(no_files, monkeypatch, call):
    def main():
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            yield call
        monkeypatch.undo()
        return (yield minisched.InThread(int, 7))

    assert run(main()) == 7


def test_a_read_that_can_not_make_the_selector_raises_and_may_be_tried_again(monkeypatch):
    def main():
        ours, plain = pair()
        with ours, plain:
            with monkeypatch.context() as patch:
                patch.setattr(poller, "default_selector", refused)
                with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                    yield Read(ours, 100)
            task = yield Spawn(one_read(ours))
            yield from parked(task)
            yield Write(plain, b"x")
            return (yield Join(task))

    def one_read(sock):
        return (yield Read(sock, 100))

    assert run(main()) == b"x"


def test_a_call_that_meets_the_opening_of_the_pair_is_not_lost(monkeypatch):
    make, heard = socket.socketpair, []

    def main():
        wakeup = yield Ask(lambda kernel: kernel.service(Wakeup))
        event = Event()

        def meets():
            thread = threading.Thread(target=wakeup.call, args=[event.set])
            thread.start()
            thread.join()
            heard.append(wakeup.sender)
            return make()

        monkeypatch.setattr(socket, "socketpair", meets)
        with (yield MoveOnAfter(60)):
            yield event.wait()
            return "woken"

    assert minisched.run(main()) == "woken"
    assert heard == [None]


def test_a_signal_handler_that_meets_the_opening_of_the_pair_is_not_lost(monkeypatch):
    make = socket.socketpair
    event = Event()
    before = signal.signal(signal.SIGTERM, lambda *args: event.set())

    def meets():
        signal.raise_signal(signal.SIGTERM)
        return make()

    def main():
        monkeypatch.setattr(socket, "socketpair", meets)
        with (yield MoveOnAfter(60)):
            yield event.wait()
            return "woken"

    try:
        assert minisched.run(main()) == "woken"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_that_meets_the_opening_of_the_pair_is_not_lost(monkeypatch):
    make = socket.socketpair

    def meets():
        interrupt()
        return make()

    def main():
        monkeypatch.setattr(socket, "socketpair", meets)
        yield Sleep(60)

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main())


def test_the_handlers_of_signals_without_a_byte_run_when_the_pair_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(wakeup_module, "run_pending_handlers", lambda: opened.append(wakeup_fd()))

    def main():
        wakeup = yield the_wakeup()
        return wakeup.sender.fileno()

    sender = run(main())
    assert opened == [sender]  # after the wake-up fd was set


def test_a_platform_without_a_wake_up_fd_still_has_threads(monkeypatch):
    monkeypatch.delattr(signal, "set_wakeup_fd")
    monkeypatch.delattr(signal, "pthread_sigmask")

    def main():
        yield Sleep(0.001)
        return (yield minisched.InThread(int, 7))

    try:
        assert minisched.run(main()) == 7
        run_pending_handlers()
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("clock", [None, VirtualClock], ids=["real", "virtual"])
def test_an_async_generator_that_another_thread_drops_is_closed_in_the_runs_thread(clock):
    closed = []

    def drop(kept):
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()

    async def main():
        kept = [numbers(closed)]
        async for _ in kept[0]:
            break
        drop(kept)
        assert closed == []
        await Sleep(0.001)
        return list(closed)

    assert minisched.run(main(), clock=clock and clock()) == [threading.current_thread()]
