"""Threads, signals and the end of a run: the faults that were reported of them."""

from __future__ import annotations

import contextvars
import gc
import itertools
import os
import signal
import socket
import sys
import threading
import tracemalloc  # noqa: F401  (pytest imports it in a hook, in the middle of which another hook would need it)
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import sleep

import pytest
from helpers import Ask, no_file_is_left_open, open_numbers, until  # noqa: F401

import minisched
from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    Event,
    InThread,
    Join,
    MoveOnAfter,
    Portal,
    Read,
    Service,
    Shield,
    Sleep,
    Spawn,
    Submit,
    Syscall,
    SyscallError,
    WaitSignal,
    current_kernel,
)
from minisched.bridges import interrupt, thread_pool
from minisched.bridges.sleeping import SleepingQueue
from minisched.loop import busy

PACKAGE = str(Path(minisched.__file__).parent)
RUN = minisched.run.__code__


def run(body):
    """Run in real time, without instruments."""
    return minisched.run(body, debug=False)


def ended(body):
    """Run; return what `run` raised, or None."""
    try:
        run(body)
    except BaseException as error:
        return error


# The state of the process around a run.


def state():
    """Return all that a run must leave as it was: signal handlers, the wake-up fd, hooks, files."""
    wakeup_fd = signal.set_wakeup_fd(-1)
    if wakeup_fd != -1:
        signal.set_wakeup_fd(wakeup_fd)
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)]
    return handlers, wakeup_fd, sys.get_asyncgen_hooks(), open_numbers(), busy()


class Pressed:
    """Has `handle(signum, frame)` called at given events of the package's code, counted from the beginning of `run`."""

    def __init__(self, event, numbers, handle):
        self.event = event
        self.numbers = set(numbers)
        self.handle = handle
        self.count = 0

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.previous)

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return self.trace if frame.f_code.co_filename == __file__ else None
        # Between two lines of `run` itself there is no instruction at which Python would call a signal handler.
        if event == self.event and frame.f_code is not RUN:
            self.count += 1
            if self.count in self.numbers:
                self.handle(frame)
        return self.trace


def press(frame):
    """Do what Python does when a SIGINT arrives: call the handler that is installed."""
    signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)


async def numbers():
    try:
        yield 1
        yield 2
    finally:
        pass


async def first_number(kept):
    kept.append(numbers())
    return await anext(kept[0])


def program(closed):
    """Use what a run may leave behind: the wake-up, a signal handler, the hooks, files, timers, children."""
    kept = []

    def waits():
        ours, other = socket.socketpair()
        with ours, other:
            yield Read(ours, 1)

    def main():
        try:
            yield Spawn(waits())
            yield Spawn(first_number(kept))
            with (yield MoveOnAfter(0.001)):
                yield WaitSignal(signal.SIGUSR1)
            with (yield MoveOnAfter(0.0)):
                yield Event().wait()
            raise ValueError
        finally:
            closed.append("main")

    return main()


def kept_state(event, times, gap, first, handle):
    """Run the program with `times` events; return the number of events, what `run` raised, and what it left."""
    before, closed, body = state(), [], None
    with Pressed(event, range(first, first + times * gap, gap), handle) as pressed:
        body = program(closed)
        error = ended(body)
    del body
    for one in itertools.chain([error], getattr(error, "exceptions", ())):
        while one is not None:  # the frames of a program's block hold its files
            one.__traceback__ = None
            one = one.__context__
    after = state()
    if after != before:
        gc.collect()  # a selector is in a cycle
        after = state()
    left = [] if after == before else [before, after]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if busy():
        minisched.loop._thread.busy = ""
    return pressed.count, error, left


def each_place(event, times, gap, stride, handle):
    """Return what each run raised and left behind, with the signals at each place of the program."""
    found, first = [], 1
    while True:
        count, error, left = kept_state(event, times, gap, first, handle)
        if count < first:
            return found
        found.append((first, error, left))
        first += stride


@pytest.fixture
def quick_collections(monkeypatch):
    monkeypatch.setattr(
        interrupt, "STUCK_SECONDS", float("inf"), raising=False
    )  # a loaded machine may stop a run at any line
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def check_ctrl_c(times, gap, stride):
    found = each_place("line", times, gap, stride, press)
    assert len(found) > 10
    for first, error, left in found:
        assert left == [], first
        assert isinstance(error, KeyboardInterrupt) or (isinstance(error, ValueError) and first > 100), (first, error)


@pytest.mark.parametrize(("times", "gap"), [(3, 1), (4, 7)])
def test_three_or_more_ctrl_c_leave_signals_hooks_and_files_as_they_were(times, gap, quick_collections):
    """load-faults F14: three Ctrl-C or more left files, a handler and the wake-up fd behind."""
    check_ctrl_c(times, gap, 11)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "gap"), [(3, 1), (3, 5), (4, 1), (4, 7), (5, 2), (6, 1), (6, 40), (30, 1)])
def test_three_or_more_ctrl_c_at_each_line_leave_all_as_it_was(times, gap, quick_collections):
    """load-faults F14, at each line of the package."""
    check_ctrl_c(times, gap, 1)


def test_ctrl_c_that_arrives_while_the_run_is_closed_is_raised_and_every_service_is_closed(monkeypatch):
    """load-faults F14: the interrupts are counted while the run is closed, and raised once at its end."""
    log = []
    monkeypatch.setattr(interrupt, "STUCK_SECONDS", 0.0)  # no line counts as blocked while the run is closed

    class First(Service):
        def close(self):
            log.append("first")

    class Second(Service):
        def close(self):
            for _ in range(3):
                press(None)  # no frame: as if the package itself was interrupted
            log.append("second")

    def main():
        yield Ask(lambda kernel: (kernel.service(First), kernel.service(Second)))
        raise ValueError("of main")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main())
    assert log == ["second", "first"]
    assert repr(caught.value.__cause__) == "ValueError('of main')"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_third_ctrl_c_ends_a_service_of_the_programs_that_never_closes():
    """load-faults F14: user code at the end of a run can still be interrupted, and no other step is lost."""
    log = []

    class Other(Service):
        def close(self):
            log.append("other")

    class Stuck(Service):
        def close(self):
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            log.append("the end of a close that is stuck")

    def main():
        yield Ask(lambda kernel: (kernel.service(Other), kernel.service(Stuck)))

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == ["other"]


def test_a_third_ctrl_c_ends_a_blocking_line_of_the_package_once_the_loop_is_stuck(monkeypatch):
    """load-faults F14: a function in C that the loop calls and that never returns is ended by the third Ctrl-C."""
    reached = []

    def main():
        kernel = yield Ask(lambda kernel: kernel)
        interrupts = kernel.service(interrupt.Interrupts)
        kernel.service(minisched.Timers).call_at(0.0, partial(presses, interrupts))
        yield Sleep(3600)

    def presses(interrupts):
        frame = sys._getframe(1)  # a line of the package
        for seconds in (0.0, 0.0, 0.5):
            monkeypatch.setattr(interrupt.MonotonicClock, "now", lambda seconds=seconds: 100.0 + seconds)
            interrupts._on_signal(signal.SIGINT, frame)
            reached.append(seconds)
        monkeypatch.setattr(interrupt.MonotonicClock, "now", lambda: 101.0)
        interrupts._on_signal(signal.SIGINT, frame)
        reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        minisched.run(main(), debug=False, clock=minisched.testing.VirtualClock())
    assert reached == [0.0, 0.0, 0.5]


# Signal handlers of the program's.


class Alarm(Exception):
    pass


def ring(*_):
    raise Alarm


def ring_at(frame):
    signal.getsignal(signal.SIGALRM)(signal.SIGALRM, frame)


@pytest.fixture
def ringing():
    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


def is_or_causes(error):
    """Return whether an Alarm is the error, its cause, or a member of the group that it is."""
    return error is not None and (
        isinstance(error, Alarm)
        or is_or_causes(error.__cause__)
        or any(is_or_causes(member) for member in getattr(error, "exceptions", ()))
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a coroutine that no task has
@pytest.mark.parametrize("event", ["call", pytest.param("return", marks=pytest.mark.slow)])
def test_an_exception_of_a_signal_handler_at_any_call_is_the_result_or_its_cause(event, ringing, quick_collections):
    """world 23: an Alarm in our lines came out as a sentence that blamed an extension."""
    found = each_place(event, 1, 1, 1, ring_at)
    assert len(found) > 200
    for first, error, left in found:
        assert is_or_causes(error), (first, error)
        assert left == [], first


def test_a_signal_handler_that_raises_before_a_join_has_parked_ends_the_run_with_its_exception(ringing, monkeypatch):
    """world 23: the end of the child then woke a task that was not parked."""
    park = minisched.kernel.Kernel.park

    def rings(kernel, task, undo):
        if task.name == "main":
            ring_at(None)
        park(kernel, task, undo)

    def main():
        child = yield Spawn(iter_once())
        try:
            yield Join(child)
        except Alarm:
            log.append("at the yield")
        yield
        yield

    def iter_once():
        yield

    log = []
    monkeypatch.setattr(minisched.kernel.Kernel, "park", rings)
    with pytest.raises(Alarm):
        run(main())
    assert log == []


def test_a_handler_of_a_syscall_that_woke_its_task_and_raised_has_the_error_as_cause():
    """world 23: no sentence that blames an extension stands without the exception behind it."""

    class Both(minisched.Syscall[None]):
        def handle(self, kernel, task):
            kernel.park(task, lambda: None)
            kernel.resume(task)
            raise KeyError("why")

    def main():
        yield Both()

    with pytest.raises(SyscallError, match="then raised") as caught:
        run(main())
    assert repr(caught.value.__cause__) == "KeyError('why')"


def test_a_body_that_a_signal_handler_interrupted_after_its_yield_is_closed_in_its_task(ringing):
    """world 23: the generator was left suspended, and was closed by the garbage collector outside of its task."""
    log = []

    def main():
        task = yield minisched.CurrentTask()
        task.step = lambda sent: (step(sent), ring_at(None))
        step = task.gen.send
        try:
            with (yield MoveOnAfter(10)):
                yield Sleep(1)
        finally:
            log.append(task.kernel.current is task)

    assert isinstance(ended(main()), Alarm)
    assert log == [True]


# The wake-up fd.


@pytest.mark.parametrize("how", ["closed", "blocking"])
def test_a_run_ends_well_although_the_wake_up_fd_of_another_library_is_gone(how):
    """world 14: `run` raised EBADF in place of the result, and its socket pair stayed open."""
    theirs, other = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno())

    def main():
        yield Sleep(0.001)
        theirs.setblocking(how == "blocking")
        if how == "closed":
            theirs.close()
        yield Sleep(0.001)
        return "the result"

    try:
        assert run(main()) == "the result"
    finally:
        assert signal.set_wakeup_fd(before) == -1
        theirs.close()
        other.close()


def test_a_wake_up_fd_that_the_program_sets_during_the_run_is_kept():
    """world 14: the end of the run must not replace what the program has set in the meantime."""
    theirs, other = socket.socketpair()
    theirs.setblocking(False)

    def main():
        yield Sleep(0.001)
        signal.set_wakeup_fd(theirs.fileno())
        yield Sleep(0.001)

    with theirs, other:
        before = signal.set_wakeup_fd(-1)
        try:
            run(main())
        finally:
            assert signal.set_wakeup_fd(before) == theirs.fileno()


def test_ctrl_c_ends_a_wait_although_the_program_has_replaced_the_wake_up_fd():
    """world 14: the loop slept on after Ctrl-C, since Python wrote its byte elsewhere."""

    def main():
        yield Sleep(0.001)
        signal.set_wakeup_fd(-1)
        yield InThread(signal.pthread_kill, minisched.loop.get_ident(), signal.SIGINT)
        yield Event().wait()

    def with_a_portal():
        with (yield minisched.Portal()):
            yield from main()

    before = signal.set_wakeup_fd(-1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(with_a_portal())
    finally:
        signal.set_wakeup_fd(before)


def test_the_pair_may_be_closed_behind_the_run():
    """world 14: a descriptor of ours that the program has closed does not fail the run."""

    def main():
        yield Sleep(0.001)
        wakeup = yield Ask(lambda kernel: kernel.service(minisched.bridges.wakeup.Wakeup))
        for end in (wakeup.receiver, wakeup.sender):
            socket.close(end.fileno())
        yield
        return "the result"

    assert run(main()) == "the result"


# Calls in other threads.


@pytest.mark.parametrize("times", range(5))
def test_a_call_that_is_abandoned_in_the_turn_of_its_submission_is_made_if_a_thread_is_free(times):
    """peer-suites 4: `InThread(f, abandon=True)`, cancelled at once, never called f."""
    called = threading.Event()

    def worker():
        yield InThread(called.set, abandon=True)

    def main():
        task = yield Spawn(worker())
        yield
        yield Cancel(task)

    run(main())
    assert called.wait(20)


def test_an_abandoned_call_that_waits_for_a_free_thread_is_not_made(monkeypatch):
    """peer-suites 4: a call in the queue, for which no thread is free, is cancelled with its task."""
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)
    gate, made = threading.Event(), []

    def first():
        yield InThread(gate.wait, 20)

    def main():
        task = yield Spawn(first())
        yield from until(lambda: task.state == "parked")
        with (yield MoveOnAfter(0.01)):
            yield InThread(made.append, "abandoned", abandon=True)
        gate.set()
        yield InThread(made.append, "next")

    run(main())
    assert made == ["next"]


class Unprintable(Exception):
    def with_traceback(self, trace):
        raise TypeError("not this way")


class NoTraceback(Exception):
    __traceback__ = property(lambda self: 1 / 0)


@pytest.mark.parametrize("kind", [Unprintable, NoTraceback])
def test_an_error_whose_methods_raise_reaches_its_task(kind):
    """concurrency, asides: the worker thread died before it reported, and the run waited for ever."""

    def work():
        raise kind("why")

    def main():
        try:
            yield InThread(work)
        except Exception as error:
            return [type(one).__name__ for one in (error, error.__cause__) if one is not None]

    assert kind.__name__ in run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, Cancelled])
def test_each_base_exception_of_a_thread_is_an_answer_to_its_task(kind):
    """concurrency, asides: each exception of a function in a thread is raised at the yield."""

    def work():
        raise kind(*(["why", None] if kind is Cancelled else ["why"]))

    def main():
        try:
            yield InThread(work)
        except RuntimeError as error:
            return type(error.__cause__)
        except BaseException as error:
            return type(error)

    assert run(main()) is kind


def test_a_cancelled_of_a_thread_is_not_taken_for_the_cancellation_of_the_task():
    """concurrency, asides: the scope that is cancelled meanwhile must not swallow the failure of the call."""
    gate = threading.Event()

    def work():
        gate.wait(20)
        raise Cancelled("another run's", None)

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            gate.set()
            with (yield Shield(None)):
                yield InThread(work)

    with pytest.raises(RuntimeError, match="the function raised Cancelled"):
        run(main())


class Odd:
    """A future whose result raises although it has no error."""

    def add_done_callback(self, callback):
        callback(self)

    def exception(self, timeout=None):
        return None

    def result(self, timeout=None):
        raise KeyError("odd")

    def cancel(self):
        return False


def test_a_future_whose_result_raises_is_an_error_of_its_task_only():
    """concurrency, asides: the error went to the loop, and ended the run."""

    class Executor:
        def submit(self, function, *args):
            return Odd()

    def main():
        try:
            yield Submit(Executor(), int)
        except KeyError as error:
            return repr(error)

    assert run(main()) == "KeyError('odd')"


def test_an_executor_that_was_shut_down_is_an_error_of_its_task():
    """concurrency, asides: of the kind of answers that never come."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    def main():
        with pytest.raises(RuntimeError, match="after shutdown"):
            yield Submit(executor, int)
        return "went on"

    assert run(main()) == "went on"


# Portals.


def test_a_request_sees_the_context_variables_of_the_calling_thread():
    """world 21: `call` saw an empty context, and `spawn` the owner's."""
    var = contextvars.ContextVar("var", default="nothing")
    seen = []

    def make():  # the function itself is called in the thread's context, too
        seen.append(var.get())
        return task()

    def task():
        yield
        seen.append(var.get())
        var.set("changed by the task")

    def thread(portal):
        var.set("thread")
        seen.append(portal.call(var.get))
        portal.call(var.set, "changed by the call")
        portal.spawn(make).result()
        seen.append(var.get())

    def main():
        var.set("owner")
        with (yield Portal()) as portal:
            yield InThread(thread, portal)
        seen.append(var.get())

    run(main())
    assert seen == ["thread", "thread", "thread", "thread", "owner"]


def test_the_runs_own_thread_cannot_wait_for_a_request():
    """world 27: of the same kind: a thread that waits for itself."""

    def child():
        yield

    def main():
        with (yield Portal()) as portal:
            future = portal.spawn(child)
            with pytest.raises(SyscallError, match="would wait for itself"):
                future.result()
            with pytest.raises(SyscallError, match="would wait for itself"):
                future.exception()
            yield from until(future.done)
            return future.result()

    assert run(main()) is None


@pytest.mark.parametrize("threads", [1, 3])
def test_a_pool_whose_threads_all_wait_for_one_that_cannot_begin_is_warned_about(threads, monkeypatch):
    """world 27: 40 calls that wait for a task that needs a call, too, hung silently."""
    monkeypatch.setattr(thread_pool, "MAX_THREADS", threads)

    def needs_a_thread():
        yield InThread(int)

    def asks(portal):
        portal.spawn(needs_a_thread).result()

    def caller(portal):
        yield InThread(asks, portal)

    def main():
        with (yield Portal()) as portal:
            for _ in range(threads + 1):
                yield Spawn(caller(portal))
            yield Event().wait()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match=rf"all {threads} threads .* needs InThread\(int\) of") as caught:
            run(main())
    assert "of task 'needs_a_thread'" in str(caught.value) and "Submit" in str(caught.value)


def test_a_pool_whose_threads_all_wait_for_requests_that_need_no_thread_is_not_warned_about(monkeypatch):
    """world 27: a busy pool alone is not a reason to warn."""
    monkeypatch.setattr(thread_pool, "MAX_THREADS", 1)

    def quick():
        for _ in range(20):
            yield

    def asks(portal):
        portal.call(int)
        portal.spawn(quick).result()
        return "asked"

    def caller(portal):
        return (yield InThread(asks, portal))

    def main():
        with (yield Portal()) as portal:
            tasks = []
            for _ in range(5):
                tasks.append((yield Spawn(caller(portal))))
            answers = []
            for task in tasks:
                answers.append((yield Join(task)))
            return answers

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(main()) == ["asked"] * 5


def test_an_exception_of_a_signal_handler_during_a_request_ends_the_run_and_answers_the_thread(ringing):
    """world 23: the exception went to the calling thread alone."""
    raised, answered = [], threading.Event()

    def thread(portal):
        try:
            portal.call(ring_at, None)
        except Exception as error:
            raised.append(type(error))
            answered.set()

    def main():
        with (yield Portal()) as portal:
            yield InThread(thread, portal)
            yield Event().wait()

    with pytest.raises(Alarm):
        run(main())
    assert answered.wait(20) and raised == [Alarm]


# The kernel's verbs in another thread.


class FromThread(Syscall[object]):
    """A syscall whose thread uses a verb of the kernel directly."""

    external = True

    def __init__(self, verb):
        self.verb = verb

    def handle(self, kernel, task):
        kernel.service(Waits).count = 1
        kernel.park(task, lambda: None)
        threading.Thread(target=self.work, args=(kernel, task)).start()

    def work(self, kernel, task):
        try:
            {
                "resume": partial(kernel.resume, task),
                "throw": partial(kernel.throw, task, KeyError()),
                "cancel": partial(kernel.cancel, task),
                "spawn": lambda: kernel.spawn(endless(), None, task),
            }[self.verb]()
        except SyscallError:
            pass  # as the callback of a future does: it logs the error, and nobody sees it


def endless():
    yield Event().wait()


class Waits(Service):
    def __init__(self, kernel):
        super().__init__(kernel)
        self.count = 0
        kernel.service(minisched.Wakeup).open()

    def pending(self):
        return self.count


class FromThreadLater(FromThread):
    """The same, but the thread uses the verb while the loop waits."""

    def work(self, kernel, task):
        while not isinstance(kernel.ready, SleepingQueue):
            sleep(0.001)
        super().work(kernel, task)


@pytest.mark.parametrize(("call", "debug"), [(FromThread, True), (FromThreadLater, False)])
@pytest.mark.parametrize("verb", ["resume", "throw", "cancel", "spawn"])
def test_a_verb_of_the_kernel_in_another_thread_ends_a_debug_run_and_any_run_that_waits(verb, call, debug):
    """newcomer A1.1: the run slept on for ever, and said nothing."""

    def main():
        yield call(verb)

    with pytest.raises(SyscallError, match=r"in another thread than its run's.*Portal\.call.*\.call`"):
        minisched.run(main(), debug=debug)


def test_a_signal_handler_wakes_a_task_while_the_loop_waits():
    """newcomer A1.1: the sibling that is right: a signal handler runs in the thread of the run."""
    event, queues = Event(), []

    def on_signal(signum, frame):
        queues.append(type(current_kernel().ready))
        event.set()

    def main():
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with (yield MoveOnAfter(60)):
            yield event.wait()
        timer.join()
        return event.is_set()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        assert minisched.run(main(), debug=False)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert queues in ([SleepingQueue], [deque])  # nearly always the first


def test_check_syscall_explains_a_wake_up_from_another_thread():
    """newcomer A1.1: `check_syscall` never ended."""
    with pytest.raises(AssertionError, match=r"a rule of the kernel was broken: wake-up of .* in another thread than"):
        minisched.testing.check_syscall(lambda: FromThread("resume"))


def test_the_report_of_a_deadlock_hints_at_pending():
    """newcomer A1.3: "nothing outside can wake any of them" was false, and said nothing of `pending`."""

    class External(Syscall[None]):
        external = True

        def handle(self, kernel, task):
            kernel.park(task, lambda: None)

    class Internal(External):
        external = False

    def main(call):
        yield call

    with pytest.raises(minisched.Deadlock, match="must count it in `pending`"):
        run(main(External()))
    with pytest.raises(minisched.Deadlock) as caught:
        run(main(Internal()))
    assert "must count it" not in str(caught.value)


# Runs in runs, and in threads.


def test_a_run_in_a_call_of_another_runs_thread_works():
    """world 27: of the kind of runs beside each other: each thread has one run."""

    def inner():
        yield Sleep(0.001)
        return "inner"

    def main():
        return (yield InThread(run, inner()))

    assert run(main()) == "inner"


def test_a_run_inside_a_call_through_a_portal_is_refused():
    """world 27: of the same kind: the loop's thread has a run already."""

    def inner():
        yield

    def main():
        with (yield Portal()) as portal:
            with pytest.raises(SyscallError, match="run inside run"):
                yield InThread(portal.call, run, inner())
        return "went on"

    assert run(main()) == "went on"


# Async generators.


async def in_cleanup(action):
    try:
        yield 1
    finally:
        action()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_the_cleanup_of_a_dropped_generator_is_raised_by_the_run(kind):
    """load-faults F14: the exit became a warning, and the run went on."""
    log = []

    def exits():
        raise kind(3)

    async def main():
        kept.append(in_cleanup(exits))
        kept.append(in_cleanup(lambda: log.append("closed")))
        for generator in kept:
            await anext(generator)

    kept = []
    with pytest.raises(kind):
        run(main())
    assert log == ["closed"]


def test_a_warning_that_is_an_error_leaves_no_generator_open():
    """load-faults F14: the first generator that failed kept the others open."""
    log = []

    def fails():
        raise ValueError

    async def main():
        kept.append(in_cleanup(fails))
        kept.append(in_cleanup(lambda: log.append("closed")))
        for generator in kept:
            await anext(generator)

    kept = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResourceWarning, match="raised ValueError"):
            run(main())
    assert log == ["closed"]
