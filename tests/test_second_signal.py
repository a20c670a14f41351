"""The second Ctrl-C, which stops a server at once, at each line of the package at which it can arrive."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from pathlib import Path

import pytest
from helpers import Ask, no_file_is_left_open, pair  # noqa: F401
from servers import begun, client_of, echo, settled

import minisched
from minisched import Cancel, Poller, Queue, Read, Sleep, Syscall, serve
from minisched.bridges.interrupt import Interrupts
from minisched.bridges.wakeup import Wakeup
from minisched.testing import VirtualClock

PACKAGE = str(Path(minisched.__file__).parent)


class AtLine:
    """Makes a signal arrive just before the `number`-th line of the package that runs from here on."""

    def __init__(self, number, kernel):
        self.lines_left = number
        self.kernel = kernel
        self.where = None

    def __enter__(self):
        frame = sys._getframe()
        sys.settrace(self.trace)
        while (frame := frame.f_back) is not None:  # frames that are running already
            frame.f_trace = self.trace(frame, "call", None)

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.lines_left -= 1
            if self.lines_left == 0:
                sys.settrace(None)
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self.kernel.service(Wakeup).wake()
                self.kernel.service(Interrupts)._on_signal(signal.SIGINT, frame)
        return self.trace


def interrupted_at(number):
    """Run a server with the second Ctrl-C at one line; return where, what `run` raised, and unraisable errors."""
    points, noise = [], []

    def main():
        _, (listener,) = yield from begun(lambda ready: serve(echo, "127.0.0.1", 0, grace=3600, ready=ready))
        kernel = yield Ask(lambda kernel: kernel)
        interrupts = kernel.service(Interrupts)
        with client_of(listener.address) as client:
            client.sendall(b"one")
            yield settled()
            interrupts.count = 1
            (server,) = yield Ask(lambda kernel: [task for task in kernel.tasks() if task.name == "server"])
            yield Cancel(server)
            points.append(AtLine(number, kernel))
            with points[0]:
                yield settled()
                client.sendall(b"two")
                yield settled()
                client.close()
                yield settled()

    previous = sys.gettrace()
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: noise.append(str(unraisable.exc_value))
    try:
        minisched.run(main(), clock=VirtualClock(), debug=False)
        raised = "nothing"
    except BaseException as error:
        raised = repr(error)
    finally:
        sys.settrace(previous)
        gc.collect()
        sys.unraisablehook = hook
    return points[0].where, raised, noise


def test_an_error_that_follows_from_the_third_ctrl_c_does_not_hide_it(monkeypatch):
    add_waiter = Poller.add_waiter

    def main():
        interrupts = yield Ask(lambda kernel: kernel.service(Interrupts))
        ours, plain = pair()

        def broken_off(poller, state, *rest):
            add_waiter(poller, state, *rest)
            interrupts.count = 2
            interrupts._on_signal(signal.SIGINT, sys._getframe())

        monkeypatch.setattr(Poller, "add_waiter", broken_off)
        with ours, plain:
            yield Read(ours, 1)  # its waiter is left behind, and is called at the end of the `with`

    with pytest.raises(KeyboardInterrupt) as caught:
        minisched.run(main())
    assert caught.value.__cause__ is None


def press(times):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


class Presses(Syscall[None]):
    """A syscall whose `handle` is interrupted, and records whether it reached its end."""

    __slots__ = ("reached", "times")

    def __init__(self, times, reached):
        self.times = times
        self.reached = reached

    def handle(self, kernel, task):
        press(self.times)
        self.reached.append("the end of the handler")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("times", "ends"), [(2, ["the end of the handler"]), (3, [])])
def test_the_second_ctrl_c_lets_a_handler_finish_and_the_third_does_not(times, ends, debug):
    reached = []

    def main():
        yield Presses(times, reached)
        while True:
            yield

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main(), debug=debug)
    assert reached == ends


def test_the_second_ctrl_c_lets_a_function_that_the_package_calls_finish():
    reached = []

    def work(item):
        press(2)
        reached.append(item)

    def main():
        queue = Queue()
        queue.put_nowait("the first")
        yield from queue.for_each(work)

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main())
    assert reached == ["the first"]


@pytest.mark.parametrize("thrown", ["Cancelled", "an error"])
def test_the_second_ctrl_c_is_raised_in_a_body_that_handles_an_error(thrown):
    reached = []

    def main():
        try:
            if thrown == "Cancelled":
                press(1)
            yield Sleep(3600 if thrown == "Cancelled" else -1)
        finally:
            press(1 if thrown == "Cancelled" else 2)
            reached.append("the end of the cleanup")

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main())
    assert reached == []


def test_the_third_ctrl_c_ends_a_cleanup_at_the_end_of_the_run():
    reached = []

    def main():
        try:
            yield Presses(2, reached)
            yield Sleep(3600)
        finally:
            press(1)
            reached.append("the end of the cleanup")

    with pytest.raises(KeyboardInterrupt) as caught:
        minisched.run(main())
    assert reached == ["the end of the handler"]
    assert caught.value.__notes__ == ["task 'main' raised KeyboardInterrupt() when it was closed"]


@pytest.fixture(scope="module")
def at_each_line():
    """Return, for each line, where the second signal arrived, what `run` raised, and the unraisable errors."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()  # the collection after each trial would take minutes with the objects that exist already
    trials, number = [], 1
    try:
        while (trial := interrupted_at(number))[0] is not None:
            trials.append(trial)
            number += 1
    finally:
        gc.unfreeze()
        logging.disable(logging.NOTSET)
    return trials


@pytest.mark.slow
def test_at_each_line_the_second_ctrl_c_raises_keyboard_interrupt_and_nothing_else(at_each_line):
    assert len(at_each_line) > 500
    assert [trial for trial in at_each_line if trial[1] != "KeyboardInterrupt()"] == []


@pytest.mark.slow
def test_at_each_line_the_second_ctrl_c_leaves_nothing_open_and_no_unraisable_error(at_each_line):
    assert [trial for trial in at_each_line if trial[2]] == []
