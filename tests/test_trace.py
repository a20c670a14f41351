"""The events of a watcher, and golden traces: each is a program and the exact lines that its run prints."""

from __future__ import annotations

import os
import socket

import pytest
from programs import finished

from minisched import Cancel, Cancelled, Join, Read, Sleep, Spawn, Syscall, Watcher, Write, run, testing
from minisched.kernel import Scope
from minisched.kernel.watcher import Watchers
from minisched.lab.trace import TextTrace, short


def round_robin():
    """Three tasks take turns; each new task runs before the task that spawned it goes on."""

    def child(name):
        for _ in range(2):
            yield

    for name in "abc":
        yield Spawn(child(name), name)


def sleep_and_join():
    """Main joins two tasks that sleep, the slower one first."""

    def worker(seconds):
        yield Sleep(seconds)
        return seconds * 10

    first = yield Spawn(worker(2), "slow")
    second = yield Spawn(worker(1), "fast")
    return (yield Join(first)) + (yield Join(second))


def cancel_and_clean_up():
    """A cancelled sleeper cleans up, and Join raises TaskCancelled in main."""

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
    """The sleeper is cancelled after it was woken: it gets its result, and Cancelled at the next checkpoint."""

    def sleeper():
        yield Sleep(1)
        yield Sleep(1)

    def canceller(box):
        yield Sleep(1)  # the same deadline, but registered earlier: woken first
        yield Cancel(box[0])

    box = []
    yield Spawn(canceller(box), "canceller")
    box.append((yield Spawn(sleeper(), "sleeper")))


def a_failure_is_the_parents():
    """A child fails: its parent is cancelled, with the other child, and ends with a group."""

    def child(seconds):
        yield Sleep(seconds)
        raise ValueError("no luck")

    yield Spawn(child(1), "bad")
    yield Spawn(child(9), "good")
    yield Sleep(5)


def a_daemon_ends_with_its_parent():
    """Main ends: its daemon is cancelled."""

    def ticker():
        while True:
            yield Sleep(1)

    yield Spawn(ticker(), "ticker", daemon=True)
    yield Sleep(2)


def a_missing_from():
    """Main yields a generator, which is not a syscall: the `from` of a `yield from` is missing."""

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
def test_the_trace_equals_its_golden_file(program, golden):
    golden(f"{program.__doc__}\n\n{testing.trace(main_of(program))}", program.__name__)


def test_the_trace_of_a_deadlock_ends_with_the_report():
    text = testing.trace(deadlock())
    assert "raised Deadlock: 3 parked" not in text and "raised Deadlock: 2 parked, none ready" in text
    assert text.endswith("a cycle: 0.0 left -> 0.1 right -> 0.0 left")


def test_the_trace_of_files_has_no_file_descriptors():
    one, other = socket.socketpair()
    with one, other:

        def main():
            yield Write(other, b"ping")
            return (yield Read(one, 100))

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
        self.events.append(("cancel", scope.name, scope.requested[0]))

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


def test_several_watchers_receive_the_same_events():
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


def test_a_watcher_may_leave_out_every_event():
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
    scope.requested = ("late", None)
    trace.cancel(scope)
    assert lines == ["    0  -               cancelled a scope of no task: late"]


def test_the_trace_shows_cancelled_whatever_the_undo_returns():
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


def test_long_values_are_shortened():
    assert short("x" * 100) == "'" + "x" * 56 + "..."
    assert short(7) == "7"


def test_a_watcher_that_fails_to_start_leaves_no_file_open():
    class Broken(Watcher):
        def start(self, kernel):
            raise ValueError("not today")

    def main():
        yield

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(ValueError, match="not today"):
        run(main(), watch=[Broken()])
    assert len(os.listdir("/dev/fd")) == before


class RemoveWatcher(Syscall):
    """Remove the watcher of the run."""

    def handle(self, kernel, task):
        kernel.watch = None


def test_a_removed_watcher_receives_at_most_the_events_of_the_current_batch():
    class Turns(Watcher):
        seen = 0

        def turn(self, task):
            self.seen += 1

    def main():
        yield RemoveWatcher()
        for _ in range(1000):
            yield
        return "done"

    turns = Turns()
    assert run(main(), watch=[turns]) == "done"
    assert 1 <= turns.seen < 100


def test_any_error_of_a_watcher_ends_the_run():
    class Limited(Watcher):
        def __init__(self):
            self.turns = iter(range(3))

        def turn(self, task):
            next(self.turns)

    def main():
        for _ in range(10):
            yield

    with pytest.raises(StopIteration):
        run(main(), watch=[Limited()])


@pytest.mark.slow
def test_importing_the_package_imports_no_instrument():
    names = "sorted(name for name in sys.modules if name.startswith(('minisched.lab', 'minisched.testing')))"
    done = finished("-c", f"import sys, minisched, minisched.serving.workers; print({names})")
    assert (done.stdout, done.stderr) == ("[]\n", "")
