"""Work for other threads and executors, and the way in from them; each test in generator and in `async def` form."""

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
from forms import add_async_forms, in_thread
from helpers import no_file_is_left_open  # noqa: F401
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
    threads,
)
from minisched.testing import VirtualClock, check_syscall

SECONDS = 20  # after which a test has failed
setting = ContextVar("setting", default="unset")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = _thread._count()
    yield
    wait_until(lambda: _thread._count() == before)


@pytest.fixture(scope="module")
def processes():
    """Another process, that has started."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(os.getpid).result(60)
        yield pool


class Broken(Exception):
    """What a function raises."""


class BrokenOff(BaseException):
    """What ends a run at once."""


class BreakOff(Syscall[None]):
    """End the run at once, as a second Ctrl-C does."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = BrokenOff()
        raise kernel.fault


class Held:
    """An executor that does nothing by itself: the test has its futures."""

    def __init__(self):
        self.futures = []

    def submit(self, function, *args):
        self.futures.append(Future())
        return self.futures[-1]


class Asking(threading.Thread):
    """A thread that makes one call; `outcome` is what came of it."""

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
        assert not self.is_alive(), "it was never answered"
        return self.result


class Bounded(VirtualClock):
    """A virtual clock that is not content to wait for other threads for ever."""

    def __init__(self):
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, select, deadline):
        began = monotonic()
        self.waiting.set()
        super().wait(lambda seconds: select(SECONDS if seconds is None else seconds), deadline)
        assert monotonic() - began < SECONDS, "nothing came"


def run(main, clock=None):
    return run_unbounded(main, clock=clock or Bounded())


def wait_until(condition):
    """Wait for what other threads do, within a turn."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "it never came true"
        os.sched_yield()


def until(condition):
    """Let the others run until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "it never came true"
        yield


def parked(task):
    yield from until(lambda: task.state == "parked")


def caller(function, *args):
    return (yield InThread(function, *args))


def cancelling(scope, begun):
    """Cancel a scope of the task that spawned this one as soon as a thread is at work for it."""
    yield from parked((yield CurrentTask()).spawner)
    assert begun.wait(SECONDS)
    scope.cancel()


def broken():
    raise Broken("here")


def lines_of(error):
    """Return the names of the functions in a traceback, without what `await` brings with it."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.name != "__iter__"]


# InThread: what comes of a call.


def test_a_function_is_called_in_another_thread_and_its_result_is_the_answer():
    def work(*numbers):
        return sum(numbers), _thread.get_ident()

    def main():
        return (yield InThread(work, 3, 4))

    result, ident = run(main())
    assert result == 7 and ident != _thread.get_ident()


def test_its_error_is_raised_itself_with_the_lines_that_raised_it_and_no_others():
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


def test_an_error_of_a_function_that_is_not_written_in_python():
    def main():
        with pytest.raises(ZeroDivisionError):
            yield InThread(divmod, 1, 0)
        return "goes on"

    assert run(main()) == "goes on"


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit])
def test_an_error_that_means_something_to_a_generator_comes_in_another(kind):
    def work():
        raise kind("from the function")

    def main():
        with pytest.raises(RuntimeError, match=f"the function raised {kind.__name__}") as caught:
            yield InThread(work)
        return caught.value.__cause__

    assert repr(run(main())) == f"{kind.__name__}('from the function')"


def test_an_exit_in_another_thread_is_the_exit_of_the_program():
    def main():
        yield InThread(sys.exit, 3)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value.code == 3


def test_the_context_goes_with_the_call_as_a_copy():
    def work():
        before = setting.get()
        setting.set("the thread's")
        return before

    def main():
        setting.set("the task's")
        return (yield InThread(work)), (yield InThread(setting.get)), setting.get()

    assert run(main()) == ("the task's",) * 3


@pytest.mark.parametrize("thing", [7, None, "os.getpid"])
def test_what_is_no_function_is_refused(thing):
    def main():
        with pytest.raises(SyscallError, match=re.escape(f"not {thing!r}: InThread(f, x)")):
            yield InThread(thing)
        with pytest.raises(SyscallError, match=re.escape(f"not {thing!r}: InThread(f, x)")):
            yield Submit(Held(), thing)

    run(main())


def test_two_tasks_may_yield_the_same_call():
    call = InThread(object)

    def asking():
        return (yield call)

    first, second = run(gather(asking(), asking()))
    assert first is not second


def test_a_call_says_what_it_is():
    assert repr(InThread(math.factorial, 3)) == "InThread(factorial)"
    assert repr(InThread(Asking.outcome)) == "InThread(Asking.outcome)"
    assert repr(InThread(7)) == "InThread(7)"
    with ThreadPoolExecutor(1) as executor:
        assert repr(Submit(executor, math.factorial, 3)) == "Submit(ThreadPoolExecutor, factorial)"


def test_a_run_in_another_thread_has_threads_too():
    def main():
        return (yield InThread(_thread.get_ident)), _thread.get_ident()

    inner, outer = in_thread(run, main())
    assert len({inner, outer, _thread.get_ident()}) == 3


# InThread: the threads.


def test_other_tasks_go_on_meanwhile():
    def opening(gate):
        for _ in range(100):
            yield
        gate.set()

    def main():
        gate = threading.Event()
        yield Spawn(opening(gate))
        return (yield InThread(gate.wait, SECONDS))

    assert run(main()) is True


def test_more_calls_than_the_limit_wait_in_line(monkeypatch):
    monkeypatch.setattr(threads, "LIMIT", 2)
    at_work, counts, both = [], [], threading.Barrier(2, timeout=SECONDS)

    def work(number):
        at_work.append(number)
        counts.append(len(at_work))
        both.wait()  # never less than two at once, or it breaks
        at_work.remove(number)
        return number * number

    assert run(gather(*(caller(work, number) for number in range(6)))) == [0, 1, 4, 9, 16, 25]
    assert max(counts) == 2


def test_calls_begin_in_the_order_of_asking(monkeypatch):
    monkeypatch.setattr(threads, "LIMIT", 1)
    begun = []
    run(gather(*(caller(begun.append, number) for number in range(50))))
    assert begun == list(range(50))


def test_one_call_after_the_other_is_done_by_one_thread(monkeypatch):
    made = []

    def start(*args):
        made.append(args)
        return _thread.start_new_thread(*args)

    def main():
        for _ in range(50):
            yield InThread(int)
            with pytest.raises(Broken):
                yield InThread(broken)

    monkeypatch.setattr(threads, "start_new_thread", start)
    run(main())
    assert len(made) == 1


def test_the_threads_end_with_the_run():
    before = _thread._count()

    def main():
        gate = threading.Barrier(3, timeout=SECONDS)
        yield from gather(caller(gate.wait), caller(gate.wait), caller(gate.wait))
        assert _thread._count() == before + 3

    run(main())
    wait_until(lambda: _thread._count() == before)


def test_no_thread_to_be_had_is_an_error_and_the_call_is_never_made(monkeypatch):
    made = []

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(threads, "start_new_thread", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                yield InThread(made.append, "first")
        yield InThread(made.append, "second")
        yield InThread(made.append, "third")

    run(main())
    assert made == ["second", "third"]


def test_no_second_thread_to_be_had_leaves_the_work_to_the_first(monkeypatch):
    gate, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        return gate.wait(SECONDS)

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    def main():
        first = yield Spawn(caller(work))
        assert begun.wait(SECONDS)
        monkeypatch.setattr(threads, "start_new_thread", refuse)
        second = yield Spawn(caller(str, "done too"))
        yield from parked(second)
        gate.set()
        return (yield Join(first)), (yield Join(second))

    assert run(main()) == (True, "done too")


def test_an_idle_thread_holds_nothing_of_what_it_has_done():
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
def without_the_collector():
    gc.disable()
    yield
    gc.enable()


def test_an_error_from_elsewhere_is_no_cycle(without_the_collector):
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


def test_a_cancelled_task_waits_for_its_thread_and_is_told_at_its_next_checkpoint():
    gate, log = threading.Event(), []

    def worker():
        log.append((yield InThread(gate.wait, SECONDS)))
        try:
            yield
        except Cancelled:
            log.append("told")
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
    assert log == ["opened", True, "told"]


def test_a_timeout_waits_for_the_thread_and_its_answer_is_not_lost():
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
def test_an_abandoned_call_ends_the_wait_and_what_comes_of_it_later_wakes_nobody(monkeypatch, outcome):
    monkeypatch.setattr(threads, "LIMIT", 1)
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
        assert scope.cancelled and not gate.is_set()
        gate.set()
        return (yield InThread(str, "next"))  # by the same thread: so the other answer comes first

    assert run(main()) == "next"


def test_a_call_that_is_abandoned_before_it_began_is_never_made(monkeypatch):
    monkeypatch.setattr(threads, "LIMIT", 1)
    gate, made = threading.Event(), []

    def main():
        first = yield Spawn(caller(gate.wait, SECONDS))
        yield from parked(first)
        with (yield MoveOnAfter(1)) as scope:
            yield InThread(made.append, "abandoned", abandon=True)
        assert scope.cancelled
        gate.set()
        yield InThread(made.append, "next")
        monkeypatch.setattr(threads, "LIMIT", 2)
        yield InThread(made.append, "and next")
        assert _thread._count() == before + 1  # the one is free: what was not done keeps none busy

    before = _thread._count()
    run(main())
    assert made == ["next", "and next"]


@pytest.mark.parametrize("abandon", [False, True])
def test_a_call_in_another_thread_passes_the_battery(abandon):
    def make():
        gate = threading.Event()
        return InThread(gate.wait, SECONDS, abandon=abandon), gate.set, gate.set

    check_syscall(make, cancellable=abandon)


# InThread: the run.


def test_a_thread_that_nobody_waits_for_any_more_is_a_deadlock():
    gate, begun = threading.Event(), threading.Event()

    def work():
        begun.set()
        gate.wait(SECONDS)

    def main():
        scope = yield CancelScope()
        yield Spawn(cancelling(scope, begun))
        with scope:
            yield InThread(work, abandon=True)  # until then, it is none
        yield Event().wait()

    try:
        with pytest.raises(Deadlock):
            run(main())
    finally:
        gate.set()


def test_what_has_not_begun_when_the_run_is_broken_off_never_does(monkeypatch):
    monkeypatch.setattr(threads, "LIMIT", 1)
    gate, begun, made, held = threading.Event(), threading.Event(), [], Held()
    before = _thread._count()

    def work(name):
        made.append(name)
        begun.set()
        gate.wait(SECONDS)

    def submitting():
        yield Submit(held, int)

    def main():
        yield Spawn(caller(work, "first"))
        assert begun.wait(SECONDS)
        yield Spawn(caller(work, "second"))
        yield Spawn(submitting())
        yield BreakOff()

    with pytest.raises(BrokenOff):
        run(main())
    gate.set()
    wait_until(lambda: _thread._count() == before)
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


def test_a_thread_that_never_comes_back_keeps_no_program_from_ending():
    result = finished("-c", ABANDONED)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


INTERRUPTED = """
import threading
from minisched import Event, InThread, Spawn, run

def told():
    try:
        yield Event().wait()
    finally:
        print("told", flush=True)

def work():
    print("at work", flush=True)
    threading.Event().wait()

def main():
    yield Spawn(told())
    yield InThread(work)

run(main())
"""


def test_the_first_ctrl_c_waits_for_a_thread_and_the_second_does_not():
    with started("-c", INTERRUPTED) as program:
        program.expect("at work")
        program.process.send_signal(signal.SIGINT)
        program.expect("told")
        assert program.process.poll() is None
        assert program.interrupt() == -signal.SIGINT
        assert program.errors().rstrip().endswith("KeyboardInterrupt")


# Submit.


def test_a_thread_pools_result_and_error():
    def main(executor):
        try:
            yield Submit(executor, broken)
        except Broken as error:
            lines = lines_of(error)
        return (yield Submit(executor, divmod, 17, 5)), lines[0], lines[-1]

    with ThreadPoolExecutor(1) as executor:
        assert run(main(executor)) == ((3, 2), "main", "broken")


def test_a_process_pools_result_and_error(processes):
    def submitting(number):
        return (yield Submit(processes, math.factorial, number))

    def main():
        with pytest.raises(ZeroDivisionError) as caught:
            yield Submit(processes, divmod, 1, 0)
        assert "ZeroDivisionError" in str(caught.value.__cause__)  # the traceback that it had there
        with pytest.raises((PicklingError, AttributeError), match="<lambda>"):
            yield Submit(processes, lambda: None)
        assert (yield Submit(processes, os.getpid)) != os.getpid()
        return (yield from gather(*(submitting(number) for number in (3, 5, 200))))

    assert run(main()) == [6, 120, math.factorial(200)]


def test_a_process_that_dies_is_an_error(processes):
    def main(executor):
        with pytest.raises(BrokenProcessPool):
            yield Submit(executor, os._exit, 1)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        run(main(executor))


def test_what_submit_raises_is_raised():
    def main():
        with pytest.raises(RuntimeError, match="after shutdown"):
            yield Submit(executor, int)
        with pytest.raises(AttributeError, match="submit"):
            yield Submit(None, int)
        return "goes on"

    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert run(main()) == "goes on"


def test_what_is_no_future_is_refused_and_nothing_is_left_of_it():
    class Wrong:
        def submit(self, function):
            return function()

    def main():
        with pytest.raises(AttributeError, match="add_done_callback"):
            yield Submit(Wrong(), int)
        yield Event().wait()

    with pytest.raises(Deadlock):  # had it been left, that would be a hang
        run(main())


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_a_future_that_is_done_before_anybody_looks(outcome):
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


def test_a_future_that_another_cancels_is_an_error_and_no_cancellation():
    held = Held()

    def asking():
        try:
            yield Submit(held, int)
        except CancelledError as error:
            yield
            return error

    def main():
        task = yield Spawn(asking())
        yield from parked(task)
        held.futures[0].cancel()
        return (yield Join(task))

    error = run(main())
    assert lines_of(error) == ["asking"]


def test_an_answer_and_then_a_cancellation_in_the_same_turn():
    held, log = Held(), []

    def asking():
        log.append((yield Submit(held, int, abandon=True)))
        yield

    def main():
        task = yield Spawn(asking(), keep=True)
        yield from parked(task)
        held.futures[0].set_result("the answer")
        yield from until(lambda: task.state == "ready")
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)

    run(main())
    assert log == ["the answer"]


@pytest.mark.parametrize("begun", [False, True])
def test_an_abandoned_call_is_cancelled_if_the_executor_has_not_begun_it(begun):
    held = Held()

    def main():
        with (yield MoveOnAfter(1)) as scope:
            yield Submit(held, int, abandon=True)
        return scope.cancelled

    class Beginning(Held):
        def submit(self, function):
            future = super().submit(function)
            assert future.set_running_or_notify_cancel()
            return future

    held = Beginning() if begun else Held()
    assert run(main())
    assert held.futures[0].cancelled() is not begun
    if begun:
        held.futures[0].set_result("after the run")  # nobody minds


@pytest.mark.parametrize("abandon", [False, True])
def test_a_submitted_call_passes_the_battery(abandon):
    def make():
        held = Held()

        def complete():
            for future in held.futures:
                if not future.done():
                    future.set_result("done")

        return Submit(held, int, abandon=abandon), complete

    check_syscall(make, cancellable=abandon)


# Portal: calls.


def test_a_call_through_the_portal_is_made_in_the_runs_thread_between_two_turns():
    def look(kernel, *, word):
        return _thread.get_ident(), kernel.current, word

    def main():
        task = yield CurrentTask()
        with (yield Portal()) as portal:
            return (yield InThread(lambda: portal.call(look, task.kernel, word="keyword")))

    assert run(main()) == (_thread.get_ident(), None, "keyword")


def test_the_error_of_a_call_is_raised_where_it_was_asked_for():
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
    assert (lines[0], lines[-1]) == ("ask", "fail") and not {"_come_to", "run_calls", "_wait"} & {*lines}


def test_a_call_in_the_runs_own_thread_is_refused():
    def main():
        with (yield Portal()) as portal:
            with pytest.raises(SyscallError, match="just call the function"):
                portal.call(int)

    run(main())


def test_many_threads_at_once_are_all_answered_in_the_runs_thread():
    heard = []

    def note(*what):
        heard.append(_thread.get_ident())
        return what

    def ask(portal, name):
        return [portal.call(note, name, number) for number in range(200)]

    def main():
        with (yield Portal()) as portal:
            return (yield from gather(*(caller(ask, portal, name) for name in range(8))))

    assert run(main()) == [[(name, number) for number in range(200)] for name in range(8)]
    assert len(heard) == 1600 and {*heard} == {_thread.get_ident()}


def test_an_open_portal_is_no_deadlock_and_a_closed_one_is():
    clock, log = Bounded(), []

    def ask(portal, event):
        assert clock.waiting.wait(SECONDS)  # else what it asks would be a reason not to call it one
        portal.call(event.set)

    def main():
        event = Event()
        with (yield Portal()) as portal:
            thread = Asking(ask, portal, event)
            yield event.wait()
        log.append(thread.outcome())
        yield Event().wait()

    with pytest.raises(Deadlock):
        run(main(), clock)
    assert log == [None]


def test_to_ask_for_a_portal_is_no_checkpoint():
    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            with (yield Portal()):
                pass
            return "no checkpoint"

    assert run(main()) == "no checkpoint"


# Portal: tasks.


def test_a_task_through_the_portal_is_a_child_of_the_one_that_opened_it():
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


def test_the_failure_of_such_a_task_is_its_futures_and_nobody_elses():
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


def test_what_was_spawned_goes_on_when_the_portal_is_closed_and_is_waited_for():
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
def test_what_makes_no_task_is_an_error_of_the_future(make, kind):
    def main():
        with (yield Portal()) as portal:
            future = yield InThread(portal.spawn, make)
            return (yield InThread(future.exception, SECONDS))

    assert isinstance(run(main()), kind)


def test_a_future_that_is_cancelled_before_its_task_is_made_has_none():
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


def test_a_portal_that_is_not_open_is_closed():
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
    with pytest.raises(ClosedError, match="is over"):
        portal.__enter__()


def test_who_waits_for_an_answer_when_the_portal_closes_gets_an_error(caplog):
    made = []

    def main():
        with (yield Portal()) as portal:
            thread, future, cancelled = Asking(portal.call, made.append, 1), portal.spawn(int), portal.spawn(int)
            assert cancelled.cancel()
            wait_until(lambda: len(portal.given) == 3)
        yield Sleep(1)  # what was left for the loop to do is not done
        return thread.outcome(), future.exception(0), cancelled

    call, spawn, cancelled = run(main())
    assert isinstance(call, ClosedError) and isinstance(spawn, ClosedError) and cancelled.cancelled()
    assert made == [] and caplog.records == []


@pytest.mark.parametrize("broken_off", [False, True])
def test_who_waits_for_an_answer_when_the_run_ends_gets_an_error(broken_off):
    asked = []

    def main():
        portal = yield Portal()
        portal.__enter__()  # and nobody leaves it
        asked.append(Asking(portal.call, int))
        wait_until(lambda: portal.given)
        if broken_off:
            yield BreakOff()

    try:
        run(main())
    except BrokenOff:
        assert broken_off
    assert isinstance(asked[0].outcome(), ClosedError)


def test_a_task_that_is_broken_off_has_no_result():
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


def test_a_call_may_close_the_portal_that_it_came_through():
    def main():
        with (yield Portal()) as portal:
            assert (yield InThread(portal.call, portal.close)) is None
            return (yield InThread(caught, portal.call, int))

    def caught(function, *args):
        with pytest.raises(ClosedError):
            function(*args)

    run(main())


def test_threads_that_ask_while_the_portal_closes_are_answered_or_refused():
    heard, enough = [], Event()

    def ask(portal, name):
        for number in range(1_000_000):
            try:
                assert portal.call(answer, name, number) == number
            except ClosedError:
                return number  # of those before it, none is lost

    def answer(name, number):
        heard.append(name)
        if len(heard) > 200:
            enough.set()
        return number

    def main():
        with (yield Portal()) as portal:
            asking = [Asking(ask, portal, name) for name in range(4)]
            yield enough.wait()
        return [thread.outcome() for thread in asking]

    assert run(main()) == [heard.count(name) for name in range(4)]


def test_a_second_ctrl_c_in_the_midst_of_an_answer_leaves_nobody_waiting():
    class Interrupted:
        """A lock; the signal comes as it is given back."""

        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise KeyboardInterrupt

    def main():
        with (yield Portal()) as portal:
            thread, lock = Asking(portal.call, int), portal.lock
            wait_until(lambda: portal.given)
            portal.lock = Interrupted()
            yield from until(lambda: not portal.given)
            portal.lock = lock
            return thread.outcome()

    assert isinstance(run(main()), KeyboardInterrupt)


def test_a_second_ctrl_c_as_an_answer_is_told_takes_nothing_back():
    def interrupted(future):
        raise KeyboardInterrupt

    def main():
        with (yield Portal()) as portal:
            thread = Asking(portal.call, int)
            wait_until(lambda: portal.given)
            next(iter(portal.given)).add_done_callback(interrupted)
            yield from until(lambda: not portal.given)
            return thread.outcome()

    assert run(main()) == 0


HELD_UP = """
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

def told():
    try:
        yield Event().wait()
    finally:
        print("told", flush=True)

def main():
    with (yield Portal()) as portal:
        yield Spawn(told())
        yield InThread(work, portal)

run(main())
"""


def test_a_thread_that_asks_for_ever_keeps_no_program_from_ending():
    with started("-c", HELD_UP) as program:
        program.expect("asked")
        program.process.send_signal(signal.SIGINT)
        program.expect("told")
        assert program.interrupt() == -signal.SIGINT
        assert "ClosedError" in program.said


add_async_forms(globals())
