"""Calls in other threads and executors (InThread, Submit), and calls from them into the run (Portal)."""

from __future__ import annotations

import _thread
import gc
import math
import os
import re
import signal
import sys
import threading
import traceback
import weakref
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from multiprocessing import get_context
from pickle import PicklingError
from time import monotonic

import pytest
from forms import in_thread
from helpers import PATIENCE_SECONDS, no_file_is_left_open  # noqa: F401
from helpers import run as run_unbounded
from programs import finished, started

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    ClosedError,
    CurrentTask,
    Deadlock,
    Event,
    InThread,
    Join,
    MoveOnAfter,
    Portal,
    Sleep,
    Spawn,
    Submit,
    Syscall,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    gather,
)
from minisched.bridges import thread_pool
from minisched.bridges.threads import Threads
from minisched.testing import VirtualClock, check_syscall

SECONDS = PATIENCE_SECONDS  # the timeout of a test
setting = ContextVar("setting", default="unset")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = _thread._count()
    yield
    wait_until(lambda: _thread._count() <= before)  # a thread of an earlier test may have ended, too


@pytest.fixture(scope="module")
def processes():
    """A pool of one process, which has started."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(os.getpid).result(60)
        yield pool


class Broken(Exception):
    """Raised by a function."""


class BrokenOff(BaseException):
    """Ends a run at once."""


class BreakOff(Syscall[None]):
    """End the run at once, as the second Ctrl-C does."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = BrokenOff()
        raise kernel.fault


class Held:
    """An executor that makes no call: the test sets its futures."""

    def __init__(self):
        self.futures = []

    def submit(self, function, *args):
        self.futures.append(Future())
        return self.futures[-1]


class Caller(threading.Thread):
    """A thread that makes one call; `outcome` returns its result or error."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.call = function, args
        self.start()

    def run(self):
        function, args = self.call
        try:
            self.result = function(*args)
        except BaseException as error:
            self.result = error

    def outcome(self):
        self.join(SECONDS)
        assert not self.is_alive(), "the call never returned"
        return self.result


class Bounded(VirtualClock):
    """A virtual clock that waits for other threads for SECONDS at most."""

    def __init__(self):
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, select, deadline):
        began = monotonic()
        self.waiting.set()
        super().wait(lambda seconds: select(SECONDS if seconds is None else seconds), deadline)
        assert monotonic() - began < SECONDS, "nothing ended the wait"


def run(main, clock=None):
    return run_unbounded(main, clock=clock or Bounded())


def wait_until(condition):
    """Wait within a turn until other threads have made `condition()` true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "the condition never became true"
        os.sched_yield()


def until(condition):
    """Let other tasks run until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "the condition never became true"
        yield


def parked(task):
    yield from until(lambda: task.state == "parked")


def calls(function, *args):
    return (yield InThread(function, *args))


def cancelling(scope, begun):
    """Cancel a scope of the spawner when a thread is at work for it."""
    yield from parked((yield CurrentTask()).spawner)
    assert begun.wait(SECONDS)
    scope.cancel()


def broken():
    raise Broken("here")


def lines_of(error):
    """Return the names of the functions in a traceback, without those of `await`."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.name != "__iter__"]


# InThread: results and errors.


def test_a_function_is_called_in_another_thread_and_its_result_is_the_answer():
    def work(*numbers):
        return sum(numbers), _thread.get_ident()

    def main():
        return (yield InThread(work, 3, 4))

    result, ident = run(main())
    assert result == 7 and ident != _thread.get_ident()


def test_the_error_of_a_call_is_raised_with_the_frames_of_the_user_only():
    raised = []

    def work():
        raised.append(Broken())
        raise raised[0]

    def main():
        try:
            yield InThread(work)
        except Broken as error:
            return error, lines_of(error)

    error, lines = run(main())
    assert error is raised[0] and lines == ["main", "work"]


def test_the_error_of_a_built_in_function_is_raised():
    def main():
        with pytest.raises(ZeroDivisionError):
            yield InThread(divmod, 1, 0)
        return "goes on"

    assert run(main()) == "goes on"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit])
def test_an_error_that_would_end_a_generator_is_wrapped_in_a_runtime_error(kind):
    def work():
        raise kind("from the function")

    def main():
        with pytest.raises(RuntimeError, match=f"the function raised {kind.__name__}") as caught:
            yield InThread(work)
        return caught.value.__cause__

    assert repr(run(main())) == f"{kind.__name__}('from the function')"


def test_system_exit_in_another_thread_ends_the_run():
    def main():
        yield InThread(sys.exit, 3)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value.code == 3


def test_a_call_runs_in_a_copy_of_the_tasks_context():
    def work():
        before = setting.get()
        setting.set("the thread's")
        return before

    def main():
        setting.set("the task's")
        return (yield InThread(work)), (yield InThread(setting.get)), setting.get()

    assert run(main()) == ("the task's",) * 3


@pytest.mark.parametrize("thing", [7, None, "os.getpid"])
def test_an_argument_that_is_not_a_function_is_refused(thing):
    def main():
        with pytest.raises(SyscallError, match=re.escape(f"InThread(f, x), not {thing!r}")):
            yield InThread(thing)
        with pytest.raises(SyscallError, match=re.escape(f"InThread(f, x), not {thing!r}")):
            yield Submit(Held(), thing)

    run(main())


def test_two_tasks_may_yield_the_same_call():
    call = InThread(object)

    def submits():
        return (yield call)

    first, second = run(gather(submits(), submits()))
    assert first is not second


def test_the_repr_names_the_function():
    assert repr(InThread(math.factorial, 3)) == "InThread(factorial)"
    assert repr(InThread(Caller.outcome)) == "InThread(Caller.outcome)"
    assert repr(InThread(7)) == "InThread(7)"
    with ThreadPoolExecutor(1) as executor:
        assert repr(Submit(executor, math.factorial, 3)) == "Submit(ThreadPoolExecutor, factorial)"


def test_a_run_in_another_thread_can_use_threads():
    def main():
        return (yield InThread(_thread.get_ident)), _thread.get_ident()

    inner, outer = in_thread(run, main())
    assert len({inner, outer, _thread.get_ident()}) == 3


def test_in_thread_and_submit_can_be_yielded_and_awaited(waits):
    with ThreadPoolExecutor(1) as executor:
        assert run(waits(InThread(str, 7))) == "7"
        assert run(waits(Submit(executor, str, 8))) == "8"


# InThread: the threads.


def test_other_tasks_run_during_a_call():
    def opening(gate):
        for _ in range(100):
            yield
        gate.set()

    def main():
        gate = threading.Event()
        yield Spawn(opening(gate))
        return (yield InThread(gate.wait, SECONDS))

    assert run(main()) is True


def test_calls_beyond_the_maximum_of_threads_wait(monkeypatch):
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 2)
    at_work, counts, both = [], [], threading.Barrier(2, timeout=SECONDS)

    def work(number):
        at_work.append(number)
        counts.append(len(at_work))
        both.wait()  # breaks if fewer than two are at work
        at_work.remove(number)
        return number * number

    assert run(gather(*(calls(work, number) for number in range(6)))) == [0, 1, 4, 9, 16, 25]
    assert max(counts) == 2


def test_a_run_has_32_threads_at_most():
    assert thread_pool.MAX_THREADS == 32


def test_calls_begin_in_order_of_arrival(monkeypatch):
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)
    begun = []
    run(gather(*(calls(begun.append, number) for number in range(50))))
    assert begun == list(range(50))


def test_successive_calls_use_one_thread(monkeypatch):
    made = []

    def start(*args):
        made.append(args)
        return _thread.start_new_thread(*args)

    def main():
        for _ in range(50):
            yield InThread(int)
            with pytest.raises(Broken):
                yield InThread(broken)

    monkeypatch.setattr(thread_pool, "start_new_thread", start)
    run(main())
    assert len(made) == 1


def test_the_threads_end_when_the_run_ends():
    before = _thread._count()

    def main():
        gate = threading.Barrier(3, timeout=SECONDS)
        yield from gather(calls(gate.wait), calls(gate.wait), calls(gate.wait))
        assert _thread._count() == before + 3

    run(main())
    wait_until(lambda: _thread._count() <= before)  # a thread of an earlier test may have ended, too


def test_a_call_for_which_no_thread_can_be_started_fails_and_is_never_made(monkeypatch):
    made = []

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(thread_pool, "start_new_thread", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                yield InThread(made.append, "first")
        yield InThread(made.append, "second")
        yield InThread(made.append, "third")

    run(main())
    assert made == ["second", "third"]


def test_if_no_second_thread_can_be_started_the_first_makes_both_calls(monkeypatch):
    gate, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        return gate.wait(SECONDS)

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    def main():
        first = yield Spawn(calls(work))
        assert begun.wait(SECONDS)
        monkeypatch.setattr(thread_pool, "start_new_thread", refuse)
        second = yield Spawn(calls(str, "done too"))
        yield from parked(second)
        gate.set()
        return (yield Join(first)), (yield Join(second))

    assert run(main()) == (True, "done too")


def test_an_idle_thread_holds_no_reference_to_its_last_call():
    class Thing:
        pass

    def main():
        given = Thing()
        made = yield InThread(lambda thing: Thing(), given)
        seen = weakref.ref(given), weakref.ref(made)
        del given, made
        yield from until(lambda: [ref() for ref in seen] == [None, None])

    run(main())


@pytest.fixture
def without_garbage_collection():
    gc.disable()
    yield
    gc.enable()


def test_an_error_from_another_thread_is_in_no_reference_cycle(without_garbage_collection):
    seen = []

    class Noted(Exception):
        def __init__(self):
            seen.append(weakref.ref(self))

    def work():
        raise Noted

    def asking(portal):
        with pytest.raises(Noted):
            portal.call(work)
        with pytest.raises(Noted):
            portal.spawn(work).result(SECONDS)

    def main(executor):
        for call in (InThread(work), Submit(executor, work)):
            try:
                yield call
            except Noted:
                pass
        with (yield Portal()) as portal:
            yield InThread(asking, portal)

    with ThreadPoolExecutor(1) as executor:
        run(main(executor))
    assert len(seen) == 4
    wait_until(lambda: [ref() for ref in seen] == [None] * 4)


# InThread: cancelled.


def test_a_cancelled_task_waits_for_its_call_and_is_cancelled_at_its_next_checkpoint():
    gate, log = threading.Event(), []

    def worker():
        log.append((yield InThread(gate.wait, SECONDS)))
        try:
            yield
        except Cancelled:
            log.append("cancelled")
            raise

    def main():
        task = yield Spawn(worker(), keep=True)
        yield from parked(task)
        yield Cancel(task)
        for _ in range(100):
            yield
        log.append("opened")
        gate.set()
        with pytest.raises(TaskCancelled):
            yield Join(task)

    run(main())
    assert log == ["opened", True, "cancelled"]


def test_a_timeout_waits_for_the_call_and_its_result_is_not_lost():
    gate, log = threading.Event(), []

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(1)):
                log.append((yield InThread(gate.wait, SECONDS)))
                yield Sleep(3600)

    def opening():
        yield Sleep(5)
        gate.set()

    run(gather(main(), opening()))
    assert log == [True]


@pytest.mark.parametrize("outcome", [lambda: "late", broken], ids=["returns", "raises"])
def test_an_abandoned_call_ends_the_wait_and_its_result_wakes_no_task(monkeypatch, outcome):
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)
    gate, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        gate.wait(SECONDS)
        return outcome()

    def main():
        scope = yield CancelScope()
        yield Spawn(cancelling(scope, begun))
        with scope:
            yield InThread(work, abandon=True)
        assert scope.cancelled_caught and not gate.is_set()
        gate.set()
        return (yield InThread(str, "next"))  # in the same thread, so the abandoned result comes first

    assert run(main()) == "next"


def test_a_call_that_is_abandoned_before_it_begins_is_never_made(monkeypatch):
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)
    gate, made = threading.Event(), []

    def main():
        first = yield Spawn(calls(gate.wait, SECONDS))
        yield from parked(first)
        with (yield MoveOnAfter(1)) as scope:
            yield InThread(made.append, "abandoned", abandon=True)
        assert scope.cancelled_caught
        gate.set()
        yield InThread(made.append, "next")
        pool = (yield CurrentTask()).kernel.service(Threads).pool
        pool.max_threads = 2
        yield InThread(made.append, "and next")
        assert pool.threads == 1  # which was idle: a call that is never made does not count as busy

    run(main())
    assert made == ["next", "and next"]


@pytest.mark.parametrize("abandon", [False, True])
def test_in_thread_passes_check_syscall(abandon):
    def make():
        gate = threading.Event()
        return InThread(gate.wait, SECONDS, abandon=abandon), gate.set, gate.set

    check_syscall(make, cancellable=abandon)


# InThread: the run.


def test_an_abandoned_thread_does_not_prevent_a_deadlock():
    gate, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        gate.wait(SECONDS)

    def main():
        scope = yield CancelScope()
        yield Spawn(cancelling(scope, begun))
        with scope:
            yield InThread(work, abandon=True)  # up to here, the thread prevents a deadlock
        yield Event().wait()

    try:
        with pytest.raises(Deadlock):
            run(main())
    finally:
        gate.set()


def test_a_call_that_has_not_begun_when_the_run_is_aborted_is_never_made(monkeypatch):
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)
    gate, begun, made, held = threading.Event(), threading.Event(), [], Held()
    before = _thread._count()

    def work(name):
        made.append(name)
        begun.set()
        gate.wait(SECONDS)

    def submitting():
        yield Submit(held, int)

    def main():
        yield Spawn(calls(work, "first"))
        assert begun.wait(SECONDS)
        yield Spawn(calls(work, "second"))
        yield Spawn(submitting())
        yield BreakOff()

    with pytest.raises(BrokenOff):
        run(main())
    gate.set()
    wait_until(lambda: _thread._count() <= before)  # a thread of an earlier test may have ended, too
    assert made == ["first"]
    assert held.futures[0].cancelled()


ABANDONED = """
import threading
from minisched import Cancel, InThread, Spawn, run

def waiting():
    yield InThread(threading.Event().wait, abandon=True)

def main():
    task = yield Spawn(waiting())
    while task.state != "parked":
        yield
    yield Cancel(task)

run(main())
print("done")
"""


@pytest.mark.slow
def test_a_call_that_never_returns_does_not_keep_the_program_from_ending():
    result = finished("-c", ABANDONED)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


INTERRUPTED = """
import threading
from minisched import Event, InThread, Spawn, run

def cleans_up():
    try:
        yield Event().wait()
    finally:
        print("cleaned up", flush=True)

def work():
    print("at work", flush=True)
    threading.Event().wait()

def main():
    yield Spawn(cleans_up())
    yield InThread(work)

run(main())
"""


@pytest.mark.slow
def test_the_first_ctrl_c_waits_for_a_thread_and_the_second_does_not():
    with started("-c", INTERRUPTED) as program:
        program.expect("at work")
        program.process.send_signal(signal.SIGINT)
        program.expect("cleaned up")
        assert program.process.poll() is None
        assert program.interrupt() == -signal.SIGINT
        assert program.errors().rstrip().endswith("KeyboardInterrupt")


# Submit.


def test_the_result_and_the_error_of_a_thread_pool():
    def main(executor):
        try:
            yield Submit(executor, broken)
        except Broken as error:
            lines = lines_of(error)
        return (yield Submit(executor, divmod, 17, 5)), lines[0], lines[-1]

    with ThreadPoolExecutor(1) as executor:
        assert run(main(executor)) == ((3, 2), "main", "broken")


@pytest.mark.slow
def test_the_result_and_the_error_of_a_process_pool(processes):
    def submitting(number):
        return (yield Submit(processes, math.factorial, number))

    def main():
        with pytest.raises(ZeroDivisionError) as caught:
            yield Submit(processes, divmod, 1, 0)
        assert "ZeroDivisionError" in str(caught.value.__cause__)  # the traceback in the other process
        with pytest.raises((PicklingError, AttributeError), match="<lambda>"):
            yield Submit(processes, lambda: None)
        assert (yield Submit(processes, os.getpid)) != os.getpid()
        return (yield from gather(*(submitting(number) for number in (3, 5, 200))))

    assert run(main()) == [6, 120, math.factorial(200)]


@pytest.mark.slow
def test_a_process_that_dies_is_an_error(processes):
    def main(executor):
        with pytest.raises(BrokenProcessPool):
            yield Submit(executor, os._exit, 1)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        run(main(executor))


def test_an_error_of_submit_itself_is_raised():
    def main():
        with pytest.raises(RuntimeError, match="after shutdown"):
            yield Submit(executor, int)
        with pytest.raises(AttributeError, match="submit"):
            yield Submit(None, int)
        return "goes on"

    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert run(main()) == "goes on"


def test_an_executor_that_returns_no_future_fails_and_leaves_nothing_pending():
    class Wrong:
        def submit(self, function):
            return function()

    def main():
        with pytest.raises(AttributeError, match="add_done_callback"):
            yield Submit(Wrong(), int)
        yield Event().wait()

    with pytest.raises(Deadlock):  # a wait that was left behind would make it a hang
        run(main())


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_a_future_that_is_done_already_gives_its_result(outcome):
    class Done:
        def submit(self, function):
            future = Future()
            if outcome == "result":
                future.set_result("at once")
            else:
                future.set_exception(Broken("at once"))
            return future

    def main():
        try:
            return (yield Submit(Done(), int))
        except Broken as error:
            return str(error)

    assert run(main()) == "at once"


def test_a_future_that_another_party_cancels_is_an_error_and_no_cancellation():
    held = Held()

    def submits():
        try:
            yield Submit(held, int)
        except CancelledError as error:
            yield
            return error

    def main():
        task = yield Spawn(submits())
        yield from parked(task)
        held.futures[0].cancel()
        return (yield Join(task))

    error = run(main())
    assert lines_of(error) == ["submits"]


def test_a_result_and_then_a_cancellation_in_the_same_turn_lose_nothing():
    held, log = Held(), []

    def submits():
        log.append((yield Submit(held, int, abandon=True)))
        yield

    def main():
        task = yield Spawn(submits(), keep=True)
        yield from parked(task)
        held.futures[0].set_result("the result")
        yield from until(lambda: task.state == "ready")
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)

    run(main())
    assert log == ["the result"]


@pytest.mark.parametrize("begun", [False, True])
def test_an_abandoned_future_is_cancelled_if_the_executor_has_not_begun_it(begun):
    held = Held()

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield Submit(held, int, abandon=True)
        return scope.cancelled_caught

    class Beginning(Held):
        def submit(self, function):
            future = super().submit(function)
            assert future.set_running_or_notify_cancel()
            return future

    held = Beginning() if begun else Held()
    assert run(main())
    assert held.futures[0].cancelled() is not begun
    if begun:
        held.futures[0].set_result("after the run")  # does no harm


@pytest.mark.parametrize("abandon", [False, True])
def test_submit_passes_check_syscall(abandon):
    def make():
        held = Held()

        def complete():
            for future in held.futures:
                if not future.done():
                    future.set_result("done")

        return Submit(held, int, abandon=abandon), complete

    check_syscall(make, cancellable=abandon)


# Portal: calls.


def test_a_portal_call_is_made_in_the_runs_thread_between_two_turns():
    def look(kernel, *, word):
        return _thread.get_ident(), kernel.current, word

    def main():
        task = yield CurrentTask()
        with (yield Portal()) as portal:
            return (yield InThread(lambda: portal.call(look, task.kernel, word="keyword")))

    assert run(main()) == (_thread.get_ident(), None, "keyword")


def test_the_error_of_a_portal_call_is_raised_in_the_calling_thread():
    raised = []

    def fail():
        raised.append(Broken())
        raise raised[0]

    def ask(portal):
        try:
            portal.call(fail)
        except Broken as error:
            return error, lines_of(error)

    def main():
        with (yield Portal()) as portal:
            return (yield InThread(ask, portal))

    error, lines = run(main())
    assert error is raised[0]
    assert (lines[0], lines[-1]) == ("ask", "fail") and not {"_run_request", "run_calls", "_wait"} & {*lines}


def test_a_portal_call_in_the_runs_own_thread_is_refused():
    def main():
        with (yield Portal()) as portal:
            with pytest.raises(SyscallError, match="just call the function"):
                portal.call(int)

    run(main())


def test_calls_of_many_threads_are_all_made_in_the_runs_thread():
    heard = []

    def note(*what):
        heard.append(_thread.get_ident())
        return what

    def ask(portal, name):
        return [portal.call(note, name, number) for number in range(50)]

    def main():
        with (yield Portal()) as portal:
            return (yield from gather(*(calls(ask, portal, name) for name in range(8))))

    assert run(main()) == [[(name, number) for number in range(50)] for name in range(8)]
    assert len(heard) == 400 and {*heard} == {_thread.get_ident()}


def test_an_open_portal_prevents_a_deadlock_and_a_closed_one_does_not():
    clock, log = Bounded(), []

    def ask(portal, event):
        assert clock.waiting.wait(SECONDS)  # so that the pending call is not what prevents the deadlock
        portal.call(event.set)

    def main():
        event = Event()
        with (yield Portal()) as portal:
            thread = Caller(ask, portal, event)
            yield event.wait()
        log.append(thread.outcome())
        yield Event().wait()

    with pytest.raises(Deadlock):
        run(main(), clock)
    assert log == [None]


def test_a_portal_can_be_yielded_and_awaited(waits):
    portal = run(waits(Portal()))
    assert callable(portal.call) and callable(portal.spawn)


def test_portal_is_not_a_checkpoint():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Portal()):
                pass
            return "no checkpoint"

    assert run(main()) == "no checkpoint"


# Portal: tasks.


def test_a_task_spawned_through_a_portal_is_a_child_of_the_task_that_opened_it():
    def child():
        me = yield CurrentTask()
        yield Sleep(1)
        return me.name, me.spawner, setting.get()

    def parent():
        setting.set("of the parent")
        with (yield Portal()) as portal:
            future = yield InThread(lambda: portal.spawn(child, name="visitor"))
            return (yield InThread(future.result, SECONDS))

    def main():
        task = yield Spawn(parent())
        assert (yield Join(task)) == ("visitor", task, "of the parent")

    run(main())


def test_an_async_function_can_be_spawned_through_a_portal():
    async def child(number):
        await Sleep(1)
        return number

    def main():
        with (yield Portal()) as portal:
            return (yield InThread(lambda: portal.spawn(child, 7).result(SECONDS)))

    assert run(main()) == 7


def test_the_failure_of_such_a_task_is_raised_by_its_future_only():
    def child(number):
        yield Sleep(number)
        raise Broken(number)

    def main():
        with (yield Portal()) as portal:
            future = yield InThread(portal.spawn, child, 3)
            error = yield InThread(future.exception, SECONDS)
            yield Sleep(1)
            return error

    error = run(main())
    assert repr(error) == "Broken(3)" and lines_of(error) == ["child"]


def test_a_cancellation_of_such_a_task_is_an_error_of_its_future():
    tasks = []

    def child():
        tasks.append((yield CurrentTask()))
        yield Event().wait()

    def main():
        with (yield Portal()) as portal:
            future = yield InThread(portal.spawn, child)
            yield from until(lambda: tasks)
            yield Cancel(tasks[0], "enough")
            return (yield InThread(future.exception, SECONDS))

    error = run(main())
    assert isinstance(error, TaskCancelled) and error.task is tasks[0] and error.reason == "enough"


def test_such_a_task_goes_on_when_the_portal_is_closed_and_its_parent_waits_for_it():
    closed = Event()

    def child():
        yield closed.wait()
        yield
        return "done"

    def main():
        with (yield Portal()) as portal:
            future = yield InThread(portal.spawn, child)
            yield from until(future.running)
        assert not future.done()
        closed.set()
        return future

    assert run(main()).result(0) == "done"


@pytest.mark.parametrize("make, kind", [(int, SyscallError), (broken, Broken)])
def test_a_function_that_makes_no_task_is_an_error_of_the_future(make, kind):
    def main():
        with (yield Portal()) as portal:
            future = yield InThread(portal.spawn, make)
            return (yield InThread(future.exception, SECONDS))

    assert isinstance(run(main()), kind)


def test_a_future_that_is_cancelled_before_its_task_is_made_prevents_the_task():
    log = []

    def child():
        log.append("child")
        yield

    def main():
        with (yield Portal()) as portal:
            early, late = portal.spawn(child), portal.spawn(child)
            assert early.cancel()
            yield from until(lambda: log)
            assert not late.cancel()
        return early, late

    early, late = run(main())
    assert log == ["child"] and early.cancelled() and late.result(0) is None


# Portal: the end.


def test_a_portal_is_closed_before_and_after_its_with():
    def ask(portal):
        for function in (portal.call, portal.spawn):
            with pytest.raises(ClosedError, match="the portal is closed"):
                function(int)

    def main():
        portal = yield Portal()
        yield InThread(ask, portal)
        with portal:
            assert (yield InThread(portal.call, int)) == 0
        yield InThread(ask, portal)
        return portal

    portal = run(main())
    assert in_thread(ask, portal) is None
    with pytest.raises(ClosedError, match="has ended"):
        portal.__enter__()


def test_pending_requests_get_an_error_when_the_portal_closes(caplog):
    made = []

    def main():
        with (yield Portal()) as portal:
            thread, future, cancelled = Caller(portal.call, made.append, 1), portal.spawn(int), portal.spawn(int)
            assert cancelled.cancel()
            wait_until(lambda: len(portal.pending_requests) == 3)
        yield Sleep(1)  # the loop makes no request of a closed portal
        return thread.outcome(), future.exception(0), cancelled

    call, spawn, cancelled = run(main())
    assert isinstance(call, ClosedError) and isinstance(spawn, ClosedError) and cancelled.cancelled()
    assert made == [] and caplog.records == []


@pytest.mark.parametrize("broken_off", [False, True])
def test_pending_requests_get_an_error_when_the_run_ends(broken_off):
    asked = []

    def main():
        portal = yield Portal()
        portal.__enter__()  # never left
        asked.append(Caller(portal.call, int))
        wait_until(lambda: portal.pending_requests)
        if broken_off:
            yield BreakOff()

    try:
        run(main())
    except BrokenOff:
        assert broken_off
    assert isinstance(asked[0].outcome(), ClosedError)


def test_the_future_of_a_task_in_an_aborted_run_gets_an_error():
    futures = []

    def child():
        yield Event().wait()

    def main():
        with (yield Portal()) as portal:
            futures.append(portal.spawn(child))
            yield from until(futures[0].running)
            yield
            assert not futures[0].done()
            yield BreakOff()

    with pytest.raises(BrokenOff):
        run(main())
    assert isinstance(futures[0].exception(0), ClosedError)


def test_a_portal_call_may_close_its_own_portal():
    def main():
        with (yield Portal()) as portal:
            assert (yield InThread(portal.call, portal.close)) is None
            return (yield InThread(caught, portal.call, int))

    def caught(function, *args):
        with pytest.raises(ClosedError):
            function(*args)

    run(main())


def test_calls_that_meet_the_closing_of_a_portal_are_made_or_refused():
    heard, enough = [], Event()

    def ask(portal, name):
        for number in range(1_000_000):
            try:
                assert portal.call(answer, name, number) == number
            except ClosedError:
                return number  # none before it was lost

    def answer(name, number):
        heard.append(name)
        if len(heard) > 200:
            enough.set()
        return number

    def main():
        with (yield Portal()) as portal:
            callers = [Caller(ask, portal, name) for name in range(4)]
            yield enough.wait()
        return [thread.outcome() for thread in callers]

    assert run(main()) == [heard.count(name) for name in range(4)]


def test_a_ctrl_c_during_a_request_leaves_no_thread_waiting():
    class Interrupted:
        """A lock; the signal arrives when it is released."""

        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise KeyboardInterrupt

    def main():
        with (yield Portal()) as portal:
            thread, lock = Caller(portal.call, int), portal.lock
            wait_until(lambda: portal.pending_requests)
            portal.lock = Interrupted()
            yield from until(lambda: not portal.pending_requests)
            portal.lock = lock
            return thread.outcome()

    assert isinstance(run(main()), KeyboardInterrupt)


def test_a_ctrl_c_after_the_future_is_set_does_not_change_its_result():
    def interrupted(future):
        raise KeyboardInterrupt

    def main():
        with (yield Portal()) as portal:
            thread = Caller(portal.call, int)
            wait_until(lambda: portal.pending_requests)
            next(iter(portal.pending_requests)).add_done_callback(interrupted)
            yield from until(lambda: not portal.pending_requests)
            return thread.outcome()

    assert run(main()) == 0


CALLS_FOR_EVER = """
import threading
from minisched import Event, InThread, Portal, Spawn, run

def ask(portal):
    try:
        portal.call(print, "asked", flush=True)
        while True:
            portal.call(int)
    except BaseException as error:
        print(repr(error), flush=True)

def work(portal):
    threading.Thread(target=ask, args=[portal], daemon=False).start()
    threading.Event().wait()

def cleans_up():
    try:
        yield Event().wait()
    finally:
        print("cleaned up", flush=True)

def main():
    with (yield Portal()) as portal:
        yield Spawn(cleans_up())
        yield InThread(work, portal)

run(main())
"""


@pytest.mark.slow
def test_a_thread_that_calls_for_ever_does_not_keep_the_program_from_ending():
    with started("-c", CALLS_FOR_EVER) as program:
        program.expect("asked")
        program.process.send_signal(signal.SIGINT)
        program.expect("cleaned up")
        assert program.interrupt() == -signal.SIGINT
        assert "ClosedError" in program.said
