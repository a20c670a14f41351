"""A second Ctrl-C, which stops a server at once, at each line of the package that it can come at."""

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
from minisched.testing import VirtualClock
from minisched.wakeup import Wakeup

PACKAGE = str(Path(minisched.__file__).parent)


class AtLine:
    """Lets a signal come at the `number`-th line that is run from here on, as the interpreter does: between two."""

    def __init__(self, number, wakeup):
        self.left = number
        self.wakeup = wakeup
        self.where = None

    def __enter__(self):
        frame = sys._getframe()
        sys.settrace(self.trace)
        while (frame := frame.f_back) is not None:  # those that run already
            frame.f_trace = self.trace(frame, "call", None)

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self.wakeup.wake()
                self.wakeup._interrupted(signal.SIGINT, frame)
        return self.trace


def interrupted_at(number):
    """Run a server that talks to a client after the first Ctrl-C, until the second one; return what happened."""
    points, noise = [], []

    def main():
        _, (listener,) = yield from begun(lambda ready: serve(echo, "127.0.0.1", 0, grace=3600, ready=ready))
        wakeup = yield Ask(lambda kernel: kernel.service(Wakeup))
        with client_of(listener.address) as client:
            client.sendall(b"one")
            yield settled()
            wakeup.interrupts = wakeup.taken = 1
            (server,) = yield Ask(lambda kernel: [task for task in kernel.tasks() if task.name == "server"])
            yield Cancel(server)
            points.append(AtLine(number, wakeup))
            with points[0]:
                yield settled()
                client.sendall(b"two")
                yield settled()
                client.close()
                yield settled()

    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: noise.append(str(unraisable.exc_value))
    try:
        minisched.run(main(), clock=VirtualClock(), debug=False)
        raised = "nothing"
    except BaseException as error:
        raised = repr(error)
    finally:
        sys.settrace(None)
        gc.collect()
        sys.unraisablehook = hook
    return points[0].where, raised, noise


def test_what_goes_wrong_in_what_a_third_one_broke_off_does_not_hide_it(monkeypatch):
    wait = Poller.wait

    def main():
        wakeup = yield Ask(lambda kernel: kernel.service(Wakeup))
        ours, plain = pair()

        def broken_off(poller, entry, *rest):
            wait(poller, entry, *rest)
            wakeup.interrupts = 2
            wakeup._interrupted(signal.SIGINT, sys._getframe())

        monkeypatch.setattr(Poller, "wait", broken_off)
        with ours, plain:
            yield Read(ours, 1)  # its waiter is left behind, and told at the end of the `with`

    with pytest.raises(KeyboardInterrupt) as caught:
        minisched.run(main())
    assert caught.value.__cause__ is None


def press(times):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


class Presses(Syscall[None]):
    """A `handle` that is interrupted, and says whether it came to its end."""

    __slots__ = ("reached", "times")

    def __init__(self, times, reached):
        self.times = times
        self.reached = reached

    def handle(self, kernel, task):
        press(self.times)
        self.reached.append("the end of the handler")


@pytest.mark.parametrize(("times", "ends"), [(2, ["the end of the handler"]), (3, [])])
def test_a_second_one_lets_a_handler_come_to_its_end_and_a_third_one_does_not(times, ends):
    reached = []

    def main():
        yield Presses(times, reached)
        while True:
            yield

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main())
    assert reached == ends


def test_a_second_one_lets_what_ours_has_called_come_to_its_end():
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
def test_a_second_one_is_raised_in_the_lines_that_handle_an_error(thrown):
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


def test_one_more_ends_a_cleanup_that_the_end_of_the_run_waits_for():
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
    """Return where the second signal came, what `run` raised then, and what could not be raised."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()  # what was there before: it is collected after each of these lines, which would take minutes
    found, number = [], 1
    while (one := interrupted_at(number))[0] is not None:
        found.append(one)
        number += 1
    gc.unfreeze()
    logging.disable(logging.NOTSET)
    return found


@pytest.mark.slow
def test_at_each_line_a_second_ctrl_c_is_a_keyboard_interrupt_and_nothing_else(at_each_line):
    assert len(at_each_line) > 500
    assert [one for one in at_each_line if one[1] != "KeyboardInterrupt()"] == []


@pytest.mark.slow
def test_at_each_line_it_leaves_nothing_open_and_nothing_unsaid(at_each_line):
    assert [one for one in at_each_line if one[2]] == []
