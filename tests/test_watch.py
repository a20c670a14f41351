"""What a watcher is told, and the golden traces: each is a program beside the exact lines that its run prints."""

from __future__ import annotations

import os
import socket

import pytest

from minisched import Cancel, Cancelled, Join, Read, Sleep, Spawn, Syscall, TextTrace, Watcher, Write, run, testing
from minisched.kernel import Scope
from minisched.watch import Watchers, short


def round_robin():
    """Three tasks take turns; each new one runs before the one that spawned it goes on."""

    def child(name):
        for _ in range(2):
            yield

    for name in "abc":
        yield Spawn(child(name), name)


def sleep_and_join():
    """One waits for time, the other for the first one."""

    def worker(seconds):
        yield Sleep(seconds)
        return seconds * 10

    first = yield Spawn(worker(2), "slow")
    second = yield Spawn(worker(1), "fast")
    return (yield Join(first)) + (yield Join(second))


def cancel_and_clean_up():
    """A cancelled sleeper cleans up, and its joiner is told what became of it."""

    def victim():
        try:
            yield Sleep(60)
        finally:
            print("cleanup")

    task = yield Spawn(victim(), "victim")
    yield Sleep(1)
    yield Cancel(task, "enough")
    yield Join(task)


def a_result_wins_over_a_cancellation():
    """The sleeper was woken when it is cancelled: it gets its result, and Cancelled at the next checkpoint."""

    def sleeper():
        yield Sleep(1)
        yield Sleep(1)

    def canceller(box):
        yield Sleep(1)  # the same deadline, asked for earlier: woken first
        yield Cancel(box[0])

    box = []
    yield Spawn(canceller(box), "canceller")
    box.append((yield Spawn(sleeper(), "sleeper")))


def a_failure_is_the_parents():
    """A child fails: its parent is cancelled, takes the other child along, and ends with a group."""

    def child(seconds):
        yield Sleep(seconds)
        raise ValueError("no luck")

    yield Spawn(child(1), "bad")
    yield Spawn(child(9), "good")
    yield Sleep(5)


def a_daemon_ends_with_its_parent():
    """Main has nothing else to wait for: the daemon is cancelled."""

    def ticker():
        while True:
            yield Sleep(1)

    yield Spawn(ticker(), "ticker", daemon=True)
    yield Sleep(2)


def a_missing_from():
    """What is yielded has to be a syscall."""

    def helper():
        yield

    yield helper()


def deadlock():
    """Two tasks join each other."""

    def joiner(box, which):
        yield Sleep(1)
        yield Join(box[which])

    box = []
    box.append((yield Spawn(joiner(box, 1), "left")))
    box.append((yield Spawn(joiner(box, 0), "right")))


def main_of(program):
    main = program()
    main.__name__ = "main"
    return main


@pytest.mark.parametrize(
    "program",
    [
        round_robin,
        sleep_and_join,
        cancel_and_clean_up,
        a_result_wins_over_a_cancellation,
        a_failure_is_the_parents,
        a_daemon_ends_with_its_parent,
        a_missing_from,
    ],
)
def test_a_golden_trace(program, golden):
    golden(f"{program.__doc__}\n\n{testing.trace(main_of(program))}", program.__name__)


def test_the_trace_of_a_deadlock_ends_with_the_report():
    text = testing.trace(deadlock())
    assert "raised Deadlock: 3 parked" not in text and "raised Deadlock: 2 parked, none ready" in text
    assert text.endswith("a cycle: 0.0 left -> 0.1 right -> 0.0 left")


def test_the_trace_of_files_has_no_numbers_that_change():
    here, there = socket.socketpair()
    with here, there:

        def main():
            yield Write(there, b"ping")
            return (yield Read(here, 100))

        text = testing.trace(main())
    assert "-> Write(socket, 4 bytes)" in text and "-> Read(socket, 100)" in text
    assert "<- b'ping'" in text


class Recorder(Watcher):
    def __init__(self):
        self.events = []

    def start(self, kernel):
        self.events.append(("start", kernel is not None))

    def spawn(self, task):
        self.events.append(("spawn", task.name))

    def turn(self, task):
        self.events.append(("turn", task.name))

    def answer(self, task, call):
        self.events.append(("answer", task.name, call))

    def park(self, task, call):
        self.events.append(("park", task.name, type(call)))

    def wake(self, task, by):
        self.events.append(("wake", task.name, by and by.name))

    def cancel(self, scope):
        self.events.append(("cancel", scope.name, scope.own[0]))

    def exit(self, task):
        self.events.append(("exit", task.name))

    def poll(self, timeout, events):
        self.events.append(("poll", events))

    def fire(self, timers):
        self.events.append(("fire", timers))


def sample():
    def child():
        yield Sleep(1)
        try:
            yield Sleep(100)
        except Cancelled:
            yield

    task = yield Spawn(child())
    yield Sleep(2)
    yield Cancel(task, "why")


def test_a_watcher_is_told_of_each_event_and_several_are_told_the_same():
    one, two = Recorder(), Recorder()
    testing.run(sample(), watch=[one, two])
    assert one.events == two.events
    kinds = [event for event in one.events if event[0] != "poll"]
    assert kinds[:7] == [
        ("start", True),
        ("spawn", "sample"),
        ("turn", "sample"),
        ("spawn", "child"),
        ("answer", "sample", kinds[4][2]),
        ("turn", "child"),
        ("park", "child", Sleep),
    ]
    for event in [("wake", "child", None), ("wake", "child", "sample"), ("fire", 1), ("exit", "child"),
                  ("cancel", "child", "why"), ("answer", "child", None)]:  # fmt: skip
        assert event in kinds
    assert [event for event in kinds if event[0] == "exit"] == [("exit", "child"), ("exit", "sample")]


def test_a_watcher_that_takes_nothing_may_be_installed():
    run(sample_without_time(), watch=[Watcher(), Watcher()])
    Watchers([Watcher()]).cancel(Scope())


def sample_without_time():
    task = yield Spawn(sleeper())
    yield
    yield Cancel(task)


def sleeper():
    yield Sleep(100)


def test_the_trace_of_a_scope_names_its_task():
    lines = []
    trace = TextTrace(lines.append)
    scope = Scope()
    scope.own = ("late", None)
    trace.cancel(scope)
    assert lines == ["    0  -               cancelled a scope of nobody: late"]


def test_the_trace_says_cancelled_whether_or_not_the_undo_has_something_to_say():
    class Waits(Syscall):
        def __init__(self, done):
            self.done = done

        def handle(self, kernel, task):
            kernel.park(task, lambda: self.done)

    def waiter(done):
        yield Waits(done)

    def main():
        for done in (None, "half of it"):
            task = yield Spawn(waiter(done))
            yield
            yield Cancel(task, "enough")

    assert testing.trace(main()).count("<- raise Cancelled: enough") == 2


def test_long_values_are_cut_and_tasks_are_named():
    assert short("x" * 100) == "'" + "x" * 56 + "..."
    assert short(7) == "7"


def test_a_watcher_that_can_not_start_leaves_nothing_open():
    class Broken(Watcher):
        def start(self, kernel):
            raise ValueError("not today")

    def main():
        yield

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(ValueError, match="not today"):
        run(main(), watch=[Broken()])
    assert len(os.listdir("/dev/fd")) == before


class Off(Syscall):
    """Take the watch away."""

    def handle(self, kernel, task):
        kernel.watch = None


def test_a_watch_that_is_taken_away_is_told_of_no_more_than_what_is_under_way():
    class Turns(Watcher):
        seen = 0

        def turn(self, task):
            self.seen += 1

    def main():
        yield Off()
        for _ in range(1000):
            yield
        return "done"

    turns = Turns()
    assert run(main(), watch=[turns]) == "done"
    assert 1 <= turns.seen < 100


def test_an_error_of_a_watch_ends_the_run_whatever_it_is():
    class Limited(Watcher):
        def __init__(self):
            self.turns = iter(range(3))

        def turn(self, task):
            next(self.turns)

    def main():
        for _ in range(10):
            yield

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(main(), watch=[Limited()])
