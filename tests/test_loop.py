"""`run`: its phases, its ends, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
from collections import deque

import pytest

from minisched import (
    Accept,
    Cancel,
    Cancelled,
    Connect,
    CurrentTask,
    Deadlock,
    Join,
    Listen,
    Pause,
    Read,
    Service,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    Timers,
    Watcher,
    run,
    testing,
)
from minisched._selectors2 import default_selector
from minisched.errors import TaskCancelled
from minisched.kernel import Scope
from minisched.loop import BATCH, SLOW, UNSEEN, forked, load
from minisched.poller import Poller
from minisched.scopes import enter
from minisched.wakeup import Wakeup


class Park(Syscall[None]):
    """Waits for ever, on the kernel's own account."""

    __slots__ = ("undo",)

    def __init__(self, undo=lambda: None):
        self.undo = undo

    def handle(self, kernel, task):
        kernel.park(task, self.undo)


def answer():
    yield
    return 42


def test_run_returns_the_result_of_a_generator_or_a_coroutine():
    async def coroutine():
        return await Join(await Spawn(answer()))

    assert (run(answer()), run(coroutine())) == (42, 42)


def test_run_twice_in_a_process_each_with_its_own_kernel():
    def main():
        return (yield CurrentTask()).kernel

    assert run(main()) is not run(main())


def test_run_inside_run_is_refused_with_a_sentence():
    def main():
        yield
        with pytest.raises(SyscallError, match="run inside run: a task spawns another task"):
            run(answer())
        with pytest.raises(SyscallError, match="run inside run"):
            run(7)
        return "fine"

    assert (run(main()), run(answer())) == ("fine", 42)


def test_run_in_two_threads_at_once_each_its_own_kernel():
    barrier, results = threading.Barrier(2, timeout=20), []

    def main():
        barrier.wait()  # both are inside run now
        for _ in range(100):
            yield Pause()
        yield Sleep(0.001)
        task = yield CurrentTask()
        barrier.wait()
        return task.kernel

    threads = [threading.Thread(target=lambda: results.append(run(main()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 2 and results[0] is not results[1]


def test_a_function_in_place_of_a_task_is_named_with_the_mend():
    with pytest.raises(SyscallError, match=r"answer is a function, not a task: call it, answer\(...\)"):
        run(answer)


def test_run_raises_what_main_raised_and_shows_the_users_frames():
    def inner():
        yield Sleep(0)
        raise ValueError("v")

    def main():
        yield from inner()

    with pytest.raises(ValueError, match="v") as caught:
        run(main())
    frames = [entry.name for entry in caught.traceback if "minisched" not in str(entry.path.parent.name)]
    assert frames[-2:] == ["main", "inner"] and frames.count("main") == 1


def test_another_queue_can_be_given():
    class Stack(deque):
        popleft = deque.pop

    order = []

    def child(name):
        order.append(name)
        yield

    def main():
        me = yield CurrentTask()
        for name in "abc":
            me.kernel.spawn(child(name), name, me)
        yield

    run(main(), ready=Stack())
    assert order == ["c", "b", "a"]


# Phases.


class Phases(Watcher):
    def __init__(self):
        self.log = []

    def turn(self, task):
        self.log.append("turn")

    def poll(self, timeout, events):
        self.log.append("poll")

    def fire(self, timers):
        self.log.append("fire")


@pytest.fixture
def watched_file():
    """A task that waits for a file for ever: so that there is one to look at."""
    ours, theirs = socket.socketpair()

    def wait():
        yield Read(ours, 1)

    with ours, theirs:
        yield lambda: Spawn(wait(), daemon=True)


def test_a_flood_of_ready_tasks_is_interrupted_for_files_and_timers_every_61_turns(watched_file):
    phases = Phases()

    def main():
        yield watched_file()
        phases.log.clear()
        for _ in range(500):
            yield

    testing.run(main(), watch=[phases])
    gaps = "".join("t" if event == "turn" else "|" for event in phases.log).strip("|").split("|")
    assert [len(gap) for gap in gaps][1:-1] == [BATCH] * 7


def test_slow_turns_are_interrupted_sooner_and_fast_ones_later_again(watched_file):
    phases = Phases()

    class Slow:
        time = 0.0
        step = 2 * SLOW

        def now(self):
            self.time += self.step
            return self.time

        def wait(self, select, deadline):
            select(0.0)

    clock = Slow()

    def main():
        yield watched_file()
        for _ in range(200):
            yield
        clock.step = 0.0
        for _ in range(300):
            yield

    run(main(), clock=clock, watch=[phases], debug=False)
    gaps = [len(gap) for gap in "".join("t" if e == "turn" else "|" for e in phases.log).strip("|").split("|")]
    assert gaps[:7] == [61, 30, 15, 7, 3, 1, 1]
    fast = gaps.index(2)
    assert gaps[fast : fast + 7] == [2, 4, 8, 16, 32, 61, 61]


class Looks(Watcher):
    """How many turns came between two looks at files; each takes `seconds` of `clock`'s time."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds
        self.gaps = [0]

    def turn(self, task):
        self.clock.time += self.seconds
        self.gaps[-1] += 1

    def poll(self, timeout, events):
        self.gaps.append(0)


class Turned:
    """A clock that only turns move on."""

    time = 0.0

    def now(self):
        return self.time

    def wait(self, select, deadline):
        select(0.0)


def spinner():
    while True:
        yield


def crowd(*daemons):
    for daemon in daemons:
        yield daemon()
    for _ in range(400):
        yield Spawn(spinner(), daemon=True)
    for _ in range(5):
        yield


def test_of_many_ready_tasks_each_has_its_turn_before_files_are_looked_at_again(watched_file):
    looks = Looks(Turned(), seconds=0.0)
    run(crowd(watched_file), clock=looks.clock, watch=[looks], debug=False)
    assert all(401 <= turns < 401 + BATCH for turns in looks.gaps[-4:-1])


def test_files_are_looked_at_every_10_ms_however_many_tasks_are_ready(watched_file):
    looks = Looks(Turned(), seconds=SLOW / 64)  # a batch is just not slow
    run(crowd(watched_file), clock=looks.clock, watch=[looks], debug=False)
    assert 0 <= max(looks.gaps) - UNSEEN / looks.seconds < BATCH


def test_while_there_is_no_file_to_look_at_timers_are_seen_to_after_61_turns_all_the_same():
    looks = Looks(Turned(), seconds=1e-6)

    def main():
        yield Spawn(spinner(), daemon=True)
        yield Sleep(500e-6)
        return looks.clock.time

    assert 500e-6 <= run(main(), clock=looks.clock, watch=[looks], debug=False) < 500e-6 + (BATCH + 3) * 1e-6
    assert max(looks.gaps) > 500


def test_ready_tasks_do_not_starve_a_timer():
    def main():
        yield Spawn(spinner(), daemon=True)
        yield Sleep(0.01)
        return "woke"

    assert run(main()) == "woke"


def test_the_loop_waits_until_the_next_deadline():
    asked = []

    class Clock(testing.VirtualClock):
        def wait(self, select, deadline):
            asked.append(deadline)
            super().wait(select, deadline)

    def main():
        yield Sleep(10)

    run(main(), clock=Clock())
    assert asked == [10]


# Deadlock.


def test_nothing_ready_no_deadline_and_nothing_outside_is_a_deadlock_with_a_report():
    log = []

    def waiting():
        try:
            yield Park()
        finally:
            log.append("cleanup")

    def helper():
        yield from waiting()

    def main():
        yield Spawn(helper(), "stuck")

    with pytest.raises(Deadlock) as caught:
        run(main())
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 parked, none ready, no deadline, and nothing outside can wake any of them"
    assert lines[1] == "  0 main waits for its children, its body being over"
    assert lines[2].startswith("  0.0 stuck waits in Park(")
    assert "helper (" in lines[3] and "waiting (" in lines[4] and "test_loop.py:" in lines[4]
    assert log == ["cleanup"]


def test_the_failure_of_cleanup_after_a_deadlock_is_its_cause():
    def main():
        try:
            yield Park()
        finally:
            raise ValueError("cleanup")

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert repr(caught.value.__cause__) == "ValueError('cleanup')"


def test_a_deadlock_that_can_not_be_cleaned_up_ends_the_run_at_once():
    log = []

    def main():
        try:
            yield Park(undo=None)
        finally:
            log.append("closed")

    with pytest.raises(Deadlock, match="1 parked"):
        run(main())
    assert log == ["closed"]


def test_a_second_deadlock_during_cleanup_ends_the_run():
    def main():
        try:
            yield Park()
        finally:
            yield Uncancelled()

    class Uncancelled(Park):
        __slots__ = ()
        checkpoint = False

    with pytest.raises(Deadlock, match="0 main waits in Park"):
        run(main())


def test_a_task_that_waits_for_a_file_is_no_deadlock():
    here, there = socket.socketpair()
    with here, there:
        timer = threading.Timer(0.02, lambda: there.send(b"x"))
        timer.start()

        def main():
            return (yield Read(here, 1))

        assert run(main()) == b"x"
        timer.join()


def test_a_service_with_something_pending_outside_is_no_deadlock():
    class Outside(Service):
        waiting = 0

        def pending(self):
            return self.waiting

    class WaitOutside(Syscall[str]):
        __slots__ = ()

        def handle(self, kernel, task):
            outside, wakeup = kernel.service(Outside), kernel.service(Wakeup)
            outside.waiting += 1

            def done():
                outside.waiting -= 1
                kernel.resume(task, "done")

            threading.Timer(0.02, lambda: wakeup.call(done)).start()
            kernel.park(task, None)

    def main():
        return (yield WaitOutside())

    assert run(main()) == "done"


# The end.


class Broken(Syscall[None]):
    """Breaks a rule of the kernel."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.resume(task)


def test_when_a_rule_is_broken_every_wait_is_undone_and_every_generator_closed_children_first():
    log = []

    def body(name, child=None):
        try:
            if child is not None:
                yield Spawn(child)
            yield Park(lambda: log.append(f"undo {name}"))
        finally:
            log.append(f"close {name}")

    def main():
        yield Spawn(body("parent", body("child")))
        yield Spawn(ended(body("orphan")))
        for _ in range(5):
            yield
        yield Broken()

    def ended(child):
        yield Spawn(child)

    with pytest.raises(SyscallError, match="task 'main' was woken while it is running, not parked"):
        run(main())
    assert log == ["undo orphan", "undo child", "undo parent", "close orphan", "close child", "close parent"]


def test_what_goes_wrong_when_a_run_is_broken_off_is_noted_on_the_error():
    def undo():
        raise KeyError("undo")

    def stubborn():
        try:
            yield Park(undo)
        finally:
            raise KeyError("finally")

    def main():
        yield Spawn(stubborn())
        yield Pause()
        yield Broken()

    with pytest.raises(SyscallError) as caught:
        run(main())
    first, second = caught.value.__notes__
    assert "the undo of Park(" in first and "in task 'stubborn' raised KeyError('undo')" in first
    assert second == "task 'stubborn' raised KeyError('finally') when it was closed"


def test_an_error_of_a_timer_ends_the_run():
    def main():
        task = yield CurrentTask()
        from minisched import Timers

        task.kernel.service(Timers).call_at(0, lambda: 1 / 0)
        yield Sleep(10)

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert run(answer()) == 42


def test_services_are_closed_the_youngest_first_whatever_happens():
    log = []

    class One(Service):
        def close(self):
            log.append("one")

    class Two(One):
        def close(self):
            log.append("two")

    def main():
        kernel = (yield CurrentTask()).kernel
        kernel.service(One)
        kernel.service(Two)
        raise ValueError("v")

    with pytest.raises(ValueError, match="v"):
        run(main())
    assert log == ["two", "one"]


def test_a_run_that_can_not_begin_leaves_nothing_open(monkeypatch):
    closed = []

    class Selector(default_selector().__class__):
        def close(self):
            closed.append(self)
            super().close()

    def no_files():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", no_files)
    selector = Selector()
    with pytest.raises(OSError, match="Too many open files"):
        run(answer(), selector=selector)
    assert closed == [selector]


def test_signals_and_hooks_are_as_they_were():
    before = signal.getsignal(signal.SIGINT), sys.get_asyncgen_hooks(), signal.set_wakeup_fd(-1)
    seen = []

    def main():
        seen.append(signal.getsignal(signal.SIGINT))
        yield

    run(main())
    assert seen[0] is not before[0]
    assert (signal.getsignal(signal.SIGINT), sys.get_asyncgen_hooks(), signal.set_wakeup_fd(-1)) == before


# Async generators.


async def numbers(log, wait=False):
    try:
        for number in range(3):
            await Pause()
            yield number
    finally:
        if wait:
            await Pause()
        log.append("closed")


def test_an_async_generator_runs_to_its_end():
    async def main():
        return [number async for number in numbers([])]

    assert run(main()) == [0, 1, 2]


def test_an_async_generator_that_is_dropped_is_closed_by_the_loop():
    log = []

    async def main():
        async for _ in numbers(log):
            break
        gc.collect()
        await Sleep(0)
        await Sleep(0.001)
        return list(log)

    assert run(main()) == ["closed"]


def test_an_async_generator_that_wants_to_wait_when_it_is_dropped_is_warned_about():
    async def main():
        async for _ in numbers([], wait=True):
            break

    with pytest.warns(ResourceWarning, match=r"async generator numbers was dropped .* waits in its cleanup"):
        run(main())


def test_an_async_generator_that_fails_when_it_is_dropped_is_warned_about():
    async def failing():
        try:
            yield
        finally:
            raise ValueError("v")

    async def main():
        async for _ in failing():
            break

    with pytest.warns(ResourceWarning, match=r"raised ValueError\('v'\) when it was closed"):
        run(main())


# Memory.


def mixed(turns):
    """Spawn, fail, cancel, sleep, connect and accept, for about so many turns."""

    def child(number):
        yield
        if number % 3 == 0:
            raise ValueError(number)
        yield Sleep(0 if number % 3 == 1 else 100)

    def handler(conn):
        with conn:
            yield

    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener:
            for number in range(turns // 6):  # six turns and a bit each
                task = yield Spawn(child(number), keep=True)
                yield
                yield Cancel(task)
                try:
                    yield Join(task)
                except (ValueError, TaskCancelled):
                    pass
                if number % 500 == 0:
                    with (yield Connect(listener.getsockname())):
                        yield Join((yield Spawn(handler((yield Accept(listener))))))
            kernel = (yield CurrentTask()).kernel
            assert len(kernel.service(Poller).entries) <= 2  # the wake-up's, the listener's

    return main()


@pytest.mark.parametrize("turns", [200_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_millions_of_turns_leave_memory_where_it_was(turns):
    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    def main():
        yield from mixed(20_000)
        before = blocks()
        yield from mixed(turns)
        return blocks() - before

    assert run(main(), debug=False) < 1000


def test_a_cancelled_main_says_so():
    def main():
        try:
            yield Cancel((yield CurrentTask()))
            yield
        except Cancelled:
            raise

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled"):
        run(main())


def test_an_async_generator_that_somebody_still_holds_is_closed_at_the_end_of_the_run():
    log, kept = [], []

    async def main():
        kept.append(numbers(log))
        async for _ in kept[0]:
            break

    run(main())
    assert log == ["closed"]


def test_a_service_that_fails_to_close_leaves_no_other_open():
    class Bad(Service):
        def close(self):
            raise ValueError("bad")

    before = signal.getsignal(signal.SIGINT)

    def main():
        (yield CurrentTask()).kernel.service(Bad)

    with pytest.raises(ValueError, match="bad"):
        run(main())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_deadlock_in_a_shielded_cleanup_ends_the_run():
    log = []

    def main():
        try:
            yield Park()
        finally:
            enter((yield CurrentTask()), Scope(shield=True))
            try:
                yield Park()
            finally:
                log.append("closed")

    with pytest.raises(Deadlock, match="0 main waits in Park"):
        run(main())
    assert log == ["closed"]


def test_a_program_that_runs_while_it_is_loaded_is_refused():
    with pytest.raises(SyscallError, match="it is being loaded"):
        load("it is being loaded", lambda: run(answer()))
    assert run(answer()) == 42


# A fork.


def test_a_copy_of_a_loop_in_a_forked_process_ends_before_anything_else_happens():
    log = []

    def other():
        yield Sleep(1)
        log.append("other")

    def ready():
        yield
        log.append("ready")

    def main():
        yield Spawn(other())
        yield Spawn(ready())
        forked()  # what the operating system has called in the process that was forked
        yield Call(log)

    class Call(Syscall[None]):
        __slots__ = ("log",)

        def __init__(self, log):
            self.log = log

        def handle(self, kernel, task):
            self.log.append("handled")

    with pytest.raises(SyscallError, match="was forked inside a task"):
        run(main())
    assert log == []


def test_a_forked_process_may_begin_a_run_of_its_own():
    def main():
        forked()
        assert run(sleeps()) == "slept"
        yield

    def sleeps():
        yield Sleep(0)
        return "slept"

    with pytest.raises(SyscallError, match="was forked inside a task"):
        run(main())


def test_a_fork_between_two_turns_is_refused_too():
    def main():
        task = yield CurrentTask()
        task.kernel.service(Timers).call_at(0, forked)
        yield Sleep(1)

    with pytest.raises(SyscallError, match="was forked inside a task"):
        run(main())
