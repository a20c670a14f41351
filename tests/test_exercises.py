"""The exercises of ARCHITECTURE.md can be done, and come out as they say."""

from __future__ import annotations

import re
import socket
from collections import deque

import pytest
import test_watch
from programs import ROOT

from minisched import Join, Read, Service, Spawn, Syscall, SyscallError, Timers
from minisched import run as run_in_real_time
from minisched.kernel import Kernel
from minisched.testing import check_syscall, run

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Exercises")[2].partition("\n## ")[0]


def test_each_of_them_is_done_here():
    assert re.findall(r"^(\d)\.", TEXT, re.MULTILINE) == ["1", "2", "3", "4", "5"]


# 1. To the front of the queue in place of its back: who is answered at once goes on at once, and the others starve.


class Impatient(deque):
    """A queue whose first half of the exercise is done: what comes goes to the front."""

    def append(self, task):
        self.appendleft(task)


def test_1_who_goes_to_the_front_of_the_queue_starves_the_others():
    turns = []

    def body(name):
        for _ in range(3):
            turns.append(name)
            yield

    def main():
        for name in "ab":
            yield Spawn(body(name))

    run(main(), ready=Impatient())
    assert turns == [*"bbbaaa"]
    turns.clear()
    run(main())
    assert turns == [*"aababb"]


# 2. The youngest first: what happens in the order of the clock stays; what depended on whose turn it is does not.


class Youngest(deque):
    popleft = deque.pop


@pytest.mark.parametrize(
    ("program", "changes"),
    [
        (test_watch.round_robin, True),
        (test_watch.a_missing_from, False),
        (test_watch.a_daemon_ends_with_its_parent, True),
    ],
)
def test_2_which_traces_change_with_the_youngest_first(program, changes):
    def traced(ready):
        lines = []
        try:
            run(test_watch.main_of(program), ready=ready, watch=[test_watch.TextTrace(lines.append)])
        except SyscallError:
            pass
        return lines

    assert (traced(Youngest()) != traced(None)) == changes


# 3. Without the call of the undo.


def test_3_the_battery_says_that_an_undo_was_not_called(monkeypatch):
    from minisched import Sleep

    def forget(self, task):
        task.undo = None

    check_syscall(lambda: Sleep(1))
    monkeypatch.setattr(Kernel, "forget", forget)
    with pytest.raises(
        AssertionError, match=r"Sleep\(1\): .*the undo given to `kernel\.park` does not forget the wait"
    ):
        check_syscall(lambda: Sleep(1))


# 4. `Every(seconds)`: when a task last woke is the service's to know.


class Beats(Service):
    """When each task is due next, by task and period."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.due = {}


class Every(Syscall[None]):
    """Wait for the next beat of a rate that does not drift, however long the task took."""

    __slots__ = ("seconds",)

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        due, timers = kernel.service(Beats).due, kernel.service(Timers)
        key = task.path, self.seconds
        due[key] = due.get(key, timers.now()) + self.seconds
        kernel.park(task, undo=timers.wake_at(due[key], task))


def test_4_every_does_not_drift_and_passes_the_battery():
    from minisched import Now, Sleep

    def main():
        seen, beat = [], Every(10)
        for busy in (1, 7, 12, 0):
            yield beat
            seen.append((yield Now()))
            yield Sleep(busy)
        return seen

    assert run(main()) == [10, 20, 30, 42]  # twelve seconds were more than a beat: that one comes at once
    check_syscall(lambda: Every(1))


# 5. An ancestor that is joined: beside a daemon that reads a socket, no deadlock is ever found.


def test_5_to_join_an_ancestor_is_refused_even_where_no_deadlock_could_be_found():
    def daemon(conn):
        yield Read(conn, 1)

    def child(parent):
        yield Join(parent)

    def main(conn):
        from minisched import CurrentTask

        yield Spawn(daemon(conn), daemon=True)
        yield Spawn(child((yield CurrentTask())))

    here, there = socket.socketpair()
    with here, there, pytest.raises(ExceptionGroup) as raised:
        here.setblocking(False)
        run_in_real_time(main(here))
    assert "joined 'main', which waits for its end" in str(raised.value.exceptions[0])
