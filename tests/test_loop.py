"""`run`: its phases and its pace, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
from collections import deque
from typing import ClassVar

import pytest
from helpers import Recording

import minisched
from minisched import (
    Accept,
    Cancel,
    Cancelled,
    Connect,
    CurrentTask,
    Deadlock,
    Event,
    Join,
    Listen,
    Names,
    Now,
    Pause,
    Read,
    Service,
    Sleep,
    Spawn,
    Syscall,
    SyscallError,
    Timers,
    Watcher,
    current_kernel,
    run,
    testing,
)
from minisched.bridges.wakeup import Wakeup
from minisched.errors import TaskCancelled
from minisched.io.poller import Poller
from minisched.kernel import Scope
from minisched.kernel.lifecycle import Lifecycle
from minisched.kernel.scoping import enter
from minisched.loop import Loop, forked, load, only_in_this_thread
from minisched.pace import BATCH_BUDGET_SECONDS, BATCH_TURNS, MAX_POLL_DELAY_SECONDS, Pace


class Park(Syscall[None]):
    """Park for ever; nothing outside can wake the task."""

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


def test_a_clock_that_only_polls_notices_an_interrupt():
    class Polling(testing.VirtualClock):
        def wait(self, select, deadline):
            signal.raise_signal(signal.SIGINT)
            if not select(0.0):
                super().wait(select, deadline)

    clock = Polling()

    def main():
        yield Sleep(100)

    with pytest.raises(KeyboardInterrupt):
        run(main(), clock=clock)
    assert clock.now() == 0


def test_a_deadlock_is_reported_even_if_its_report_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "minisched.lab", None)
    monkeypatch.delattr(minisched, "lab", raising=False)
    cleaned = []

    def main():
        try:
            yield Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(Deadlock, match="no task can ever be ready again; the report cannot be imported"):
        run(main(), debug=False)
    assert cleaned


def test_two_runs_in_a_process_each_have_their_own_kernel():
    def main():
        return (yield CurrentTask()).kernel

    assert run(main()) is not run(main())


def test_a_run_inside_a_run_is_refused():
    def main():
        yield
        with pytest.raises(SyscallError, match="run inside run: a task spawns another task"):
            run(answer())
        with pytest.raises(SyscallError, match="run inside run"):
            run(7)
        return "fine"

    assert (run(main()), run(answer())) == ("fine", 42)


def test_runs_in_two_threads_at_once_each_have_their_own_kernel():
    barrier, results = threading.Barrier(2, timeout=20), []

    def main():
        barrier.wait()  # both runs have begun
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


def test_a_function_in_place_of_a_task_is_refused_with_advice():
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


def test_a_given_ready_queue_decides_the_order_of_turns():
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
    """A task that waits for a file for ever, so that there is a file to poll."""
    ours, theirs = socket.socketpair()

    def wait():
        yield Read(ours, 1)

    with ours, theirs:
        yield lambda: Spawn(wait(), daemon=True)


def test_a_task_that_is_always_ready_lets_the_loop_poll_after_each_batch(watched_file):
    phases = Phases()

    def main():
        yield watched_file()
        phases.log.clear()
        for _ in range(500):
            yield

    testing.run(main(), watch=[phases])
    gaps = "".join("t" if event == "turn" else "|" for event in phases.log).strip("|").split("|")
    assert [len(gap) for gap in gaps][1:-1] == [BATCH_TURNS] * 7


def test_a_slow_batch_is_followed_by_a_smaller_one_and_a_fast_one_by_a_larger_one(watched_file):
    phases = Phases()

    class Slow:
        time = 0.0
        step = 2 * BATCH_BUDGET_SECONDS

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


class Gaps(Watcher):
    """Counts the turns between two polls; each turn takes `seconds` of `clock`'s time."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds
        self.counts = [0]

    def turn(self, task):
        self.clock.time += self.seconds
        self.counts[-1] += 1

    def poll(self, timeout, events):
        self.counts.append(0)


class TurnClock:
    """A clock that only turns advance."""

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


def test_each_ready_task_has_a_turn_before_files_are_polled_again(watched_file):
    gaps = Gaps(TurnClock(), seconds=0.0)
    run(crowd(watched_file), clock=gaps.clock, watch=[gaps], debug=False)
    assert all(401 <= turns < 401 + BATCH_TURNS for turns in gaps.counts[-4:-1])


def test_files_are_polled_every_10_ms_however_many_tasks_are_ready(watched_file):
    gaps = Gaps(TurnClock(), seconds=BATCH_BUDGET_SECONDS / 64)  # a batch is just within its budget
    run(crowd(watched_file), clock=gaps.clock, watch=[gaps], debug=False)
    assert 0 <= max(gaps.counts) - MAX_POLL_DELAY_SECONDS / gaps.seconds < BATCH_TURNS


def test_timers_are_fired_after_each_batch_also_while_there_is_no_file_to_poll():
    gaps = Gaps(TurnClock(), seconds=1e-6)

    def main():
        yield Spawn(spinner(), daemon=True)
        yield Sleep(500e-6)
        return gaps.clock.time

    assert 500e-6 <= run(main(), clock=gaps.clock, watch=[gaps], debug=False) < 500e-6 + (BATCH_TURNS + 3) * 1e-6
    assert max(gaps.counts) > 500


def test_a_task_beside_main_does_not_keep_the_run_going():
    def main():
        (yield CurrentTask()).kernel.spawn(spinner())

    testing.run(main(), debug=False)


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


# Pace.


class Time:
    """A clock for plain calls: it returns `seconds`."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_round_goes_on_until_each_ready_task_has_had_a_turn():
    pace = Pace(Time())
    assert pace.begin_round(2 * BATCH_TURNS + 1) == BATCH_TURNS
    assert pace.more(files=True)
    assert pace.begin_batch() == BATCH_TURNS
    assert pace.more(files=True)
    assert not pace.more(files=True)


def test_a_round_without_files_goes_on_until_the_delay_is_over():
    time = Time()
    pace = Pace(time)
    pace.begin_round(1)
    for _ in range(10):
        assert pace.more(files=False)
        pace.begin_batch()
    time.seconds = MAX_POLL_DELAY_SECONDS
    assert not pace.more(files=False)
    pace.begin_round(1)
    assert pace.more(files=False)


@pytest.mark.parametrize("files", [False, True])
def test_a_round_of_any_number_of_tasks_ends_after_the_delay(files):
    time = Time()
    pace = Pace(time)
    pace.begin_round(1_000_000)
    time.seconds = MAX_POLL_DELAY_SECONDS - 1e-9
    assert pace.more(files)
    time.seconds = MAX_POLL_DELAY_SECONDS
    assert not pace.more(files)


def test_the_batch_is_halved_while_it_is_slow_and_doubled_while_it_is_not():
    time, sizes = Time(), []
    pace = Pace(time)
    for slow in [True] * 7 + [False] * 8:
        pace.begin_round(1)
        time.seconds += BATCH_BUDGET_SECONDS * (1.001 if slow else 0.999)
        pace.more(files=False)
        sizes.append(pace.batch)
    assert sizes == [30, 15, 7, 3, 1, 1, 1, 2, 4, 8, 16, 32, 61, 61, 61]


def test_time_between_two_batches_does_not_count_as_slow():
    time = Time()
    pace = Pace(time)
    pace.begin_round(1_000)
    assert pace.more(files=True)
    time.seconds += BATCH_BUDGET_SECONDS * 2  # timers were fired
    pace.begin_batch()
    assert pace.more(files=True) and pace.batch == BATCH_TURNS


def test_the_constants_of_the_pace_are_those_of_the_documents():
    assert (BATCH_TURNS, BATCH_BUDGET_SECONDS, MAX_POLL_DELAY_SECONDS) == (61, 0.002, 0.01)


# Deadlock.


def test_no_ready_task_no_deadline_and_nothing_outside_is_a_deadlock_with_a_report():
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
    assert lines[1] == "  0 main waits for its children, its body has ended"
    assert lines[2].startswith("  0.0 stuck waits in Park(")
    assert "helper (" in lines[3] and "waiting (" in lines[4] and "test_loop.py:" in lines[4]
    assert log == ["cleanup"]


def test_an_error_of_the_cleanup_after_a_deadlock_is_its_cause():
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


def test_a_task_that_waits_for_a_file_is_not_a_deadlock():
    ours, plain = socket.socketpair()
    with ours, plain:
        timer = threading.Timer(0.02, lambda: plain.send(b"x"))
        timer.start()

        def main():
            return (yield Read(ours, 1))

        assert run(main()) == b"x"
        timer.join()


def test_a_service_with_something_pending_outside_is_not_a_deadlock():
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


def test_errors_of_the_cleanup_of_an_aborted_run_are_notes_of_its_error():
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


def test_a_run_that_can_not_begin_closes_its_selector():
    closed = []

    class Selector(Recording):
        def close(self):
            closed.append(self)
            super().close()

    selector = Selector()
    with pytest.raises(SyscallError, match="7"):
        run(7, selector=selector)
    assert closed == [selector]


def test_errors_between_the_steps_of_the_closing_leave_no_step_out(monkeypatch):
    """An error there is a signal handler's: it may come after each step that is repeated."""
    take = Loop._take

    def interrupted(loop, step):
        if len(errors) < 3:
            errors.append(KeyError(len(errors)))
            raise errors[-1]
        take(loop, step)

    class Closed(Service):
        def close(self):
            closed.append(self.kernel)

    def main():
        (yield CurrentTask()).kernel.service(Closed)

    errors, closed = [], []
    monkeypatch.setattr(Loop, "_take", interrupted)
    with pytest.raises(KeyError):
        run(main())
    assert len(errors) == 3 and len(closed) == 1
    assert run(answer()) == 42


def test_a_loop_that_cannot_be_made_leaves_the_thread_free():
    with pytest.raises(TypeError, match="has no len"):
        run(answer(), watch=Watcher(), debug=False)  # not in a list
    assert run(answer()) == 42


def test_signals_and_hooks_are_as_they_were():
    before = signal.getsignal(signal.SIGINT), sys.get_asyncgen_hooks(), signal.set_wakeup_fd(-1)
    during = []

    def main():
        yield Sleep(0.001)  # a real wait
        during.extend([signal.getsignal(signal.SIGINT), sys.get_asyncgen_hooks()])

    run(main())
    assert during[0] is not before[0] and during[1] != before[1]
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


def test_an_async_generator_that_waits_in_its_cleanup_when_it_is_dropped_is_warned_about():
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
    """Spawn, fail, cancel, sleep, connect and accept, for about as many turns as given."""

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
            assert len(kernel.service(Poller).registered) <= 2  # of the wake-up and the listener

    return main()


@pytest.mark.parametrize("turns", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_turns_leave_memory_where_it_was(turns):
    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    def main():
        yield from mixed(5_000)
        before = blocks()
        yield from mixed(turns)
        return blocks() - before

    assert run(main(), debug=False) < 1000


def test_a_cancellation_of_main_raises_task_cancelled():
    def main():
        try:
            yield Cancel((yield CurrentTask()))
            yield
        except Cancelled:
            raise

    with pytest.raises(TaskCancelled, match="task 'main' was cancelled"):
        run(main())


def test_an_async_generator_that_is_still_referenced_is_closed_at_the_end_of_the_run():
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
    with pytest.raises(SyscallError, match="the program is being loaded"):
        load("the program is being loaded", lambda: run(answer()))
    assert run(answer()) == 42


# A fork.


def test_the_copy_of_a_loop_in_a_forked_process_ends_before_the_next_turn():
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
        forked()  # Python calls this in a process that was forked
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


# The run's thread.


def test_a_plain_call_in_another_thread_than_the_runs_is_refused():
    check, raised = only_in_this_thread(), []

    def call():
        try:
            check("cancel", "a thing")
        except SyscallError as error:
            raised.append(str(error))

    check("cancel", "a thing")
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    text = "cancel of 'a thing' in another thread than its run's, where it could break a turn"
    fix = "let Portal.call make the call, or in a syscall `kernel.service(Wakeup).call`"
    assert raised == [f"{text}: {fix}"]


class BreaksAfterCtrlC(Syscall):
    """Is interrupted, and then breaks a rule, which ends the run at once."""

    __slots__ = ()

    def handle(self, kernel, task):
        signal.raise_signal(signal.SIGINT)
        kernel.resume(task)


def test_a_ctrl_c_that_came_with_an_error_that_ends_the_run_is_raised_from_it():
    def main():
        yield BreaksAfterCtrlC()

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert isinstance(caught.value.__cause__, SyscallError)


class FailsToClose(Service):
    """Its end raises an error."""

    def close(self):
        raise RuntimeError("not closed")


def test_the_failure_of_main_is_the_cause_of_a_failure_to_close():
    def main():
        (yield CurrentTask()).kernel.service(FailsToClose)
        raise ValueError("main failed")

    with pytest.raises(RuntimeError, match="not closed") as caught:
        run(main())
    assert repr(caught.value.__cause__) == "ValueError('main failed')"


# Services that a program replaces.


class Recorded(Service):
    made: ClassVar[list] = []

    def __init__(self, kernel):
        super().__init__(kernel)
        self.made.append("made")

    def close(self):
        self.made.append("closed")


class Replaced(Recorded):
    pass


def service(kind):
    yield
    return current_kernel().service(kind)


def test_a_service_of_the_program_takes_the_place_of_the_one_of_its_class():
    Recorded.made.clear()
    assert type(run(service(Recorded), services={Recorded: Replaced})) is Replaced
    assert Recorded.made == ["made", "closed"]


def test_the_timers_and_the_poller_of_the_loop_can_be_replaced():
    class Order(Timers):
        pass

    class Polls(Poller):
        pass

    def main():
        yield Sleep(0.001)
        kernel = current_kernel()
        return type(kernel.service(Timers)), type(kernel.service(Poller)), type((yield Now()))

    replaced = {Timers: lambda kernel: Order(kernel, testing.VirtualClock()), Poller: Polls}
    assert run(main(), services=replaced) == (Order, Polls, float)
    assert testing.run(main(), services=replaced) == (Order, Polls, float)


def ends(made):
    try:
        yield
    finally:
        made.append("ended")


@pytest.mark.parametrize(
    ("services", "text"),
    [
        ([Recorded], "run: services is a mapping from classes of services, not [<class "),
        ({"Names": Recorded}, "run: a key of services is a class of services, not 'Names'"),
        ({int: Recorded}, "run: a key of services is a class of services, not <class 'int'>"),
        ({Recorded: 5}, "run: services[Recorded] is a function that takes the kernel, not 5"),
        ({Recorded: lambda kernel: None}, "run: services[Recorded] returned None, which is not a Service"),
        ({Lifecycle: Lifecycle}, "run: Lifecycle was made before the one in services: is it further down there?"),
        (
            {Recorded: lambda kernel: kernel.service(Names), Names: Names},
            "run: Names was made before the one in services: is it further down there?",
        ),
    ],
)
def test_wrong_services_are_refused_and_main_is_closed(services, text):
    async def main():
        raise AssertionError

    with pytest.raises(TypeError) as raised:  # without a warning that main was never awaited
        run(main(), services=services)
    assert str(raised.value).startswith(text)


def test_a_replacement_and_an_argument_for_it_are_refused():
    for argument, kind in ({"clock": testing.VirtualClock()}, Timers), ({"selector": Recording()}, Poller):
        with pytest.raises(
            TypeError, match=f"the {kind.__name__} in services takes what you pass as clock or selector"
        ):
            run(ends([]), services={kind: kind}, **argument)


def test_a_replacement_that_can_not_be_made_ends_the_run_and_the_others_are_closed():
    def fails(kernel):
        raise OSError(28, "No space left on device")

    Recorded.made.clear()
    with pytest.raises(OSError, match="No space left"):
        run(ends(Recorded.made), services={Recorded: Recorded, Names: fails})
    assert Recorded.made == ["made", "closed"]
    assert run(service(Recorded)) is not None  # and this thread may have another run


def test_a_service_that_cannot_be_closed_then_leaves_no_other_one_open():
    class Stubborn(Service):
        def close(self):
            raise OSError(5, "Input/output error")

    def fails(kernel):
        raise OSError(28, "No space left on device")

    Recorded.made.clear()
    with pytest.raises(OSError, match="No space left") as raised:
        run(ends([]), services={Recorded: Recorded, Stubborn: Stubborn, Names: fails})
    assert Recorded.made == ["made", "closed"]
    assert raised.value.__notes__ == ["Stubborn raised OSError(5, 'Input/output error') when it was closed"]
