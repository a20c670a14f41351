"""Solutions of the exercises in demos/stages/README.md."""

from __future__ import annotations

import re
import socket
from collections import deque

import pytest
import test_trace
from programs import ROOT

from minisched import Join, Read, Service, Spawn, Syscall, SyscallError, Timers
from minisched import run as run_in_real_time
from minisched.kernel import Kernel
from minisched.testing import check_syscall, run

TEXT = (
    (ROOT / "demos" / "stages" / "README.md")
    .read_text(encoding="utf-8")
    .partition("## Exercises")[2]
    .partition("\n## ")[0]
)


def test_this_file_has_a_solution_for_each_exercise():
    assert re.findall(r"^(\d)\.", TEXT, re.MULTILINE) == ["1", "2", "3", "4", "5"]


# 1. The front of the queue instead of its back: a task that is answered at once continues at once; the others starve.


class Impatient(deque):
    """A ready queue that appends to its front."""

    def append(self, task):
        self.appendleft(task)


def test_1_appending_to_the_front_of_the_queue_starves_other_tasks():
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


# 2. The youngest task first: the order of events on the clock stays the same, and the order of turns does not.


class Youngest(deque):
    popleft = deque.pop


@pytest.mark.parametrize(
    ("program", "changes"),
    [
        (test_trace.round_robin, True),
        (test_trace.a_missing_from, False),
        (test_trace.a_daemon_ends_with_its_parent, True),
    ],
)
def test_2_with_the_youngest_task_first_some_traces_change(program, changes):
    def traced(ready):
        lines = []
        try:
            run(test_trace.main_of(program), ready=ready, watch=[test_trace.TextTrace(lines.append)])
        except SyscallError:
            pass
        return lines

    assert (traced(Youngest()) != traced(None)) == changes


# 3. A kernel that does not call the undo.


def test_3_check_syscall_detects_that_the_undo_was_not_called(monkeypatch):
    from minisched import Sleep

    def undo_nothing(self, task):
        task.undo = None

    check_syscall(lambda: Sleep(1))
    monkeypatch.setattr(Kernel, "undo_wait", undo_nothing)
    with pytest.raises(AssertionError, match=r"Sleep\(1\): .*the undo given to `kernel\.park` does not undo the wait"):
        check_syscall(lambda: Sleep(1))


# 4. `Every(seconds)`: a service stores when each task is due.


class Beats(Service):
    """The next deadline of each task, by task and period."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.due = {}


class Every(Syscall[None]):
    """Wait for the next beat. The rate does not drift, however long the task works between two beats."""

    __slots__ = ("seconds",)

    def __init__(self, seconds):
        self.seconds = seconds

    def handle(self, kernel, task):
        due, timers = kernel.service(Beats).due, kernel.service(Timers)
        key = task.path, self.seconds
        due[key] = due.get(key, timers.now()) + self.seconds
        kernel.park(task, undo=timers.wake_at(due[key], task))


def test_4_every_does_not_drift_and_passes_check_syscall():
    from minisched import Now, Sleep

    def main():
        times, beat = [], Every(10)
        for busy in (1, 7, 12, 0):
            yield beat
            times.append((yield Now()))
            yield Sleep(busy)
        return times

    assert run(main()) == [10, 20, 30, 42]  # twelve seconds are longer than a beat, so the next beat is late
    check_syscall(lambda: Every(1))


# 5. Joining an ancestor. Next to a daemon that reads a socket, such a deadlock would never be detected.


def test_5_joining_an_ancestor_is_refused_even_where_no_deadlock_can_be_detected():
    def daemon(conn):
        yield Read(conn, 1)

    def child(parent):
        yield Join(parent)

    def main(conn):
        from minisched import CurrentTask

        yield Spawn(daemon(conn), daemon=True)
        yield Spawn(child((yield CurrentTask())))

    near, far = socket.socketpair()
    with near, far, pytest.raises(ExceptionGroup) as raised:
        near.setblocking(False)
        run_in_real_time(main(near))
    assert "joined 'main', which waits for its end" in str(raised.value.exceptions[0])
