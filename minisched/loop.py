"""`run`, and the event loop behind it: it waits, fires timers and runs tasks until main and its descendants are done.

Theory of operation. The loop repeats three phases:

- *Wait*: poll the files, waiting until the next deadline if no task is ready. Then make the calls that other threads
  and signal handlers have scheduled, and handle interrupts (Ctrl-C).
- *Fire*: the timers that are due.
- *Run*: the turns of ready tasks, in batches with due timers between them (`pace`).

The phases have no policy of their own. The clock decides when and how to wait (`clock.wait`), `Pace` decides how long
to run, and the ready queue decides the order of the tasks.

Invariants:
1. Calls from threads, signals and interrupts take effect in Wait only. They end the round that runs when they arrive.
2. However `run` ends, every generator and every service is then closed, and signal handlers and hooks are restored,
   whatever number of interrupts arrives meanwhile. An exception of a signal handler is the result, or its cause.
3. A run never hangs silently: it ends with Deadlock if no task is ready, there is no deadline, and nothing outside can
   wake a task.
4. A run needs no file descriptor before it waits for a real event (`Wakeup.open`, `Poller.selector`).

Not here: the work of the services; the size of a batch (`pace`); async generators (`bridges/asyncgens`).
"""

from __future__ import annotations

import os
import sys
from _thread import _local as thread_local  # pyright: ignore[reportPrivateUsage] (`threading` is slow to import)
from _thread import get_ident
from collections import deque
from functools import partial

from .bridges.asyncgens import AsyncGenerators
from .bridges.interrupt import Interrupts, ends_run, raised_by_signal_handler
from .bridges.one_thread import OneThread
from .bridges.wakeup import Wakeup
from .errors import Deadlock, SyscallError
from .io.poller import Poller
from .kernel import Kernel
from .kernel.current import kernels
from .kernel.lifecycle import Lifecycle, close_body, failure
from .kernel.tracebacks import caused, strip_own_frames
from .kernel.tree import DONE, ENDING
from .kernel.watcher import Watchers
from .pace import Pace
from .tasks.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
    from typing import Any, TypeVar

    from .io._selectors2 import Selector
    from .kernel import Service, Task
    from .kernel.watcher import Watcher
    from .tasks.clocks import Clock

    Result = TypeVar("Result")

FORKED = (
    "this process was forked inside a task and has copies of the parent's files, timers and tasks; a run can't go on "
    "in both processes: fork before `run` (serve_workers), start programs with subprocess, or end the child with "
    "os._exit"
)
MAX_ATTEMPTS = 3  # of a step that closes the run: an exception of a signal handler may interrupt each of them
PACKAGE_NAME = __name__.rpartition(".")[0] + "."
INSIDE = "run inside run: a task spawns another task (yield Spawn(...)) or yields from it"


_thread = thread_local()  # `busy`: the reason why no run can begin in this thread


def run(
    main: Generator[Any, Any, Result] | Coroutine[Any, Any, Result],
    *,
    ready: Any = None,
    clock: Clock | None = None,
    selector: Selector | None = None,
    services: Mapping[type[Service], Callable[[Kernel], Service]] | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool | None = None,
) -> Result:
    """Run a generator or coroutine, and all tasks that it spawns, until they are done; return its result.

    Blocks the calling thread, which may have one run at a time; several threads may each have their own.
    The first Ctrl-C cancels main and waits for the cleanup of all tasks. The second one raises KeyboardInterrupt in the
    task that it meets, and a later one also in a handler or a callback of the program's. When `run` returns or raises,
    every generator is closed.

    Args:
        main: the generator or coroutine of the first task.
        ready: the ready queue, an empty object with `append(task)`, `popleft()`, `__len__` and `__iter__`;
            None: a deque, which is FIFO. The kernel calls `append` when a task becomes ready and `popleft` for
            each turn, so another order is another scheduling policy.
        clock: an object with `now()` and `wait(select, deadline)`; None: the monotonic clock of the system.
            `now` is called for deadlines and to measure batches of turns. `wait` is called when no task is
            ready: it calls `select(seconds)`, or not, and returns when a file is ready or the deadline has come
            (None: no deadline).
        selector: an empty selector, as those of `selectors`; None: the best one of the platform, made when a
            file is first registered or the loop first waits. It is closed at the end.
        services: replacements of services by class, such as `{Names: Simulated}`: each value is called with the
            kernel before main is spawned, and returns the instance that `kernel.service(Names)` returns. It replaces
            whatever the run asks of its world: `Network` (sockets), `Names`, `Threads`, `Timers`, `Poller`.
        watch: observers. `start(kernel)` of each is called before main is spawned, and its other methods at each
            event: see `Watcher`.
        debug: warn of generators and syscalls that are created but never run, of scopes that are never entered, and of
            handlers that change their call; log turns of more than 0.1 s; refuse the kernel's verbs in other threads.
            This is slow: it reads the source of each function. None: only in a test of pytest.

    Raises:
        TaskCancelled: main was cancelled.
        ExceptionGroup: tasks below main failed.
        KeyboardInterrupt: after Ctrl-C. An error of main, or one that ended the run, is its cause.
        SystemExit: a task raised it, or SIGTERM arrived while `serve` runs. An error of main is its cause.
        Deadlock: no task can ever be ready again. It lists the tasks, and what each of them waits for.
        SyscallError: a rule of the kernel was broken; or there is a run in this thread already.
        TypeError: `services` is not a mapping from classes of services to functions that return a service.
        OSError: no file descriptor was left when the loop first waited.

    Any other exception of main is raised as it is.

    Example:
        >>> from minisched import Join, Sleep, Spawn, run
        >>> def child(number):
        ...     yield Sleep(0.001)
        ...     return number * 2
        >>> def main():
        ...     task = yield Spawn(child(21))
        ...     return (yield Join(task))
        >>> run(main())
        42
    """
    if refusal := getattr(_thread, "busy", ""):
        close(None, main)
        raise SyscallError(refusal)
    if debug is None:
        debug = "PYTEST_CURRENT_TEST" in os.environ and "_pytest" in sys.modules  # not in a program that a test starts
    if debug:
        from .lab.debug import watchers  # imported here: instruments

        watch = [*watch, *watchers(), OneThread()]
    loop = None
    try:
        _thread.busy = INSIDE
        loop = Loop(ready, clock, selector, services, watch)
        loop.run(main)
    finally:
        try:
            close(loop, main)
        finally:
            _thread.busy = ""
            close(loop, main)  # does nothing, unless a signal handler of the program's raised in its first line
    assert loop is not None  # otherwise the line that makes it has raised
    task, error = loop.main, loop.outcome()
    if error is None:
        assert task is not None
        return task.result
    try:
        raise error  # here, so that no other frame of ours precedes the program's own in the traceback
    finally:
        del error, task, loop  # a cycle: the traceback of the error holds this frame


def busy() -> bool:
    """Return whether this thread is in a run."""
    return bool(getattr(_thread, "busy", ""))


def load(refusal: str, execute: Callable[[], object]) -> None:
    """Call `execute()`, which imports a program; a `run` in it raises SyscallError(refusal)."""
    _thread.busy = refusal
    try:
        _ = execute()
    finally:
        _thread.busy = ""


class Loop:
    """One run: a kernel, the services that the loop itself needs, and the three phases.

    Discussion. An error's traceback has a frame of the task that raised it. From Python 3.12 on, such a frame holds
    those that have called it (`f_back`): `step` functions of the task, `Kernel.turns`, methods of this class and `run`,
    each with the local variables that it had at its end. One of these that leads to the error, such as its task, would
    make a cycle. So these functions drop such variables; `tests/reports/test_reported_endings.py` looks for cycles.
    """

    def __init__(
        self,
        ready: Any,
        clock: Clock | None,
        selector: Selector | None,
        services: Mapping[type[Service], Callable[[Kernel], Service]] | None,
        watch: Sequence[Watcher],
    ) -> None:
        self.main: Task | None = None
        self.raised: BaseException | None = None  # ended the run at once
        self.kernel = kernel = Kernel(Lifecycle, ready)
        kernel.check_caller = only_in_this_thread()
        kernel.ends_run = ends_run
        self.lifecycle = kernel.service(Lifecycle)
        self._make(services, clock, selector)
        self.timers = kernel.service(Timers)
        self.poller = kernel.service(Poller)
        self.wakeup = kernel.service(Wakeup)
        self.interrupts = kernel.service(Interrupts)
        self.asyncgens = AsyncGenerators(self.wakeup.call)
        self.pace = Pace(self.timers.now)
        self.deadlock: Deadlock | None = None
        self.problem: BaseException | None = None  # the first error of a step that closes the run
        self.steps: list[Callable[[], object]] | None = None  # those that are left
        if watch:
            kernel.watch = watch[0] if len(watch) == 1 else Watchers(watch)

    def _make(self, services: Any, clock: Clock | None, selector: Selector | None) -> None:
        """Make the services that the program replaces, and those that have an argument of `run`."""
        makers: dict[Any, Any] = {Timers: partial(Timers, clock=clock), Poller: partial(Poller, selector=selector)}
        given: dict[Any, object] = {Timers: clock, Poller: selector}
        try:
            if services is not None and not hasattr(services, "items"):
                raise TypeError(f"run: services is a mapping from classes of services, not {services!r}")
            replaced: dict[Any, Any] = dict(services or {})
            for kind, make in replaced.items():
                if given.get(kind) is not None:
                    raise TypeError(f"run: the {kind.__name__} in services takes what you pass as clock or selector")
                makers[kind] = make
            for kind, make in makers.items():
                self.kernel.services.replace(kind, make)
        except BaseException as error:
            for service in reversed([*self.kernel.services.values()]):
                try:
                    service.close()
                except Exception as problem:
                    error.add_note(f"{type(service).__name__} raised {problem!r} when it was closed")
            raise

    def run(self, body: Any) -> None:
        """Run main until it is done, or an error ends the run at once. `outcome` has the error."""
        try:
            if self.kernel.watch is not None:
                self.kernel.watch.start(self.kernel)
            self.main = self.kernel.spawn(body, None)
            running[self] = None
            kernels[get_ident()] = self.kernel
            self.interrupts.install()
            self.asyncgens.install()
            self._run_rounds()
        except BaseException as error:
            self.raised = error
        self.interrupts.closing = True

    def _run_rounds(self) -> None:
        assert self.main is not None
        while self.main.state is not DONE:  # no local variable holds main here and in `_run_turns`: see above
            self._wait()
            self.timers.fire()
            self._run_turns()

    # Wait.

    def _wait(self) -> None:
        """Wait for files, a deadline or a wake-up; then make the calls of other threads, and handle interrupts."""
        wakeup = self.wakeup
        if self.kernel.ready or wakeup.unseen:
            _ = self.poller.select(0.0)
        else:
            deadline = self.timers.next_deadline()
            if deadline is None and not any(service.pending() for service in self.kernel.services.values()):
                return self._end_deadlock()
            select = self._select_first if wakeup.sender is None else self.poller.select
            self.timers.clock.wait(select, deadline)
        if self.poller.one_shot:
            self.poller.check_stale(self.timers.now())
        if wakeup.unseen:
            self._handle_wakeup()
        return None

    def _handle_wakeup(self) -> None:
        """Make the calls that were scheduled before this phase; then handle an interrupt."""
        wakeup, interrupts = self.wakeup, self.interrupts
        calls, interrupted = wakeup.take()
        if calls:
            self.poller.empty_polls = 0
            wakeup.run_calls(calls)
        if interrupted:
            if interrupts.count > 1:
                raise interrupts.error()
            self.lifecycle.interrupt(interrupts.error(), None)

    def _select_first(self, timeout: float | None) -> int:
        """Poll the files; before the first poll that can wait, let other threads and signals end it.

        A clock may wait by itself and only poll (`select(0)`), so that the pair is never made. A call or an interrupt
        that has arrived then counts as an event, as the byte in the pair would.
        """
        if timeout != 0:
            self.wakeup.open()
        events = self.poller.select(timeout)
        return events + 1 if self.wakeup.unseen else events

    def _end_deadlock(self) -> None:
        """Cancel main, so that cleanup runs; raise the Deadlock if that made no task ready, or the second time."""
        if self.deadlock is not None:
            raise self.deadlock
        try:
            from .lab import report  # imported here: an instrument, which most runs don't need

            text = report.deadlock(self.kernel)
        except (ImportError, OSError) as error:  # no descriptor is left to import it with
            text = f"no task can ever be ready again; the report cannot be imported: {error}"
        self.deadlock = Deadlock(text)
        assert self.main is not None
        self.kernel.cancel(self.main, "deadlock")
        if not self.kernel.ready:
            raise self.deadlock

    # Run.

    def _run_turns(self) -> None:
        """Run one round: batches of turns, with due timers between them, until files are to be polled again."""
        assert self.main is not None
        kernel, timers, poller, pace, wakeup = self.kernel, self.timers, self.poller, self.pace, self.wakeup
        if not kernel.ready and kernel.fault is None:
            return poller.note_empty_poll()
        poller.empty_polls = 0
        kernel.turns(pace.begin_round(len(kernel.ready)))
        while pace.more(len(poller.registered) > poller.internal_waiters):
            if not kernel.ready or self.main.state is DONE or wakeup.unseen:
                return None
            timers.fire()
            kernel.turns(pace.begin_batch())
        return None

    # The end.

    def outcome(self) -> BaseException | None:
        """Return the exception that `run` has to raise; None if main returned.

        The first of these that applies is raised, and the others are its causes: an exit, a failure to close, an error
        that ended the run at once, a deadlock, an error of main's.
        """
        main, raised, problem = self.main, self.raised, self.problem
        self.main = self.raised = self.problem = None
        if raised is not None and raised_by_signal_handler(raised):
            raised = strip_own_frames(raised)  # own frames may hold a file that was just opened
        error = raised or self.lifecycle.quit or self.deadlock
        self.lifecycle.quit = self.deadlock = self.kernel.fault = None  # as above: the kernel is in cycles
        if self.interrupts.count and (error is None or isinstance(error, Exception)):
            error = caused(self.interrupts.error(), raised)  # the signal came in the last turns, or in the closing
        if main is not None:  # not done, if an error has ended the run at once
            error = failure(main) if error is None else caused(error, main.failure)
        if problem is None or error is None:
            return problem or error
        exits = isinstance(problem, Exception) and not isinstance(error, Exception)
        return caused(error, problem) if exits else caused(problem, error)

    def _abandon(self) -> None:
        """End the tasks that are left: undo every wait, then close every generator, children before parents."""
        error = self.raised or SyscallError("the run was aborted")
        tasks = list(reversed(list(self.kernel.tasks())))
        for task in tasks:  # all waits first, so that nothing is handed to a task that is about to be closed
            try:
                _ = self.kernel.undo_wait(task)
            except SyscallError as problem:
                error.add_note(str(problem))
        for task in tasks:
            if task.state != ENDING:
                task.state = ENDING
                close_body(task, error)

    def _forget(self) -> None:
        """Remove the kernel from those that plain calls find. The bodies, whose blocks find it, are closed by now."""
        _ = kernels.pop(get_ident(), None)

    def close(self) -> None:
        """Take each step that closes the run, whatever the others raise. `outcome` has the first error.

        Interrupts come last, since from then on Ctrl-C raises KeyboardInterrupt in any line. A signal handler of the
        program's may raise in any line, too: a step of ours that it interrupts is taken again, and this function goes
        on with the next one.
        """
        self.interrupts.closing = True
        try:
            if self.steps is None:
                _ = running.pop(self, None)
                services = [one for one in reversed(self.kernel.services.values()) if one is not self.interrupts]
                closes = [self.asyncgens.close, *(one.close for one in services), self.interrupts.close]
                self.steps = [self._abandon, self._forget, *closes]
            while self.steps:
                self._take(self.steps[0])
                del self.steps[0]
        finally:
            if self.steps != []:
                self.close()

    def _take(self, step: Callable[[], object]) -> None:
        """Take a step; an error that a step of the package raises may be a signal handler's, and not its own."""
        for _ in range(MAX_ATTEMPTS if step.__module__.startswith(PACKAGE_NAME) else 1):
            try:
                _ = step()
                return
            except BaseException as problem:
                self.problem = self.problem or problem

    def end_in_child(self) -> None:
        """End this copy of a loop, in a forked process, with a SyscallError; leave the parent's files alone."""
        kernel, task = self.kernel, self.kernel.current
        self.poller.abandon()
        self.interrupts.close()  # the child may begin a run of its own, which handles the signals
        self.wakeup.close()  # the parent keeps its ends of the pair
        while kernel.ready:
            _ = kernel.ready.popleft()
        kernel.ready = deque()  # the turn in progress has the old queue: tasks that become ready in it do not run
        if task is not None:
            task.scope.effective = (FORKED, None)
        _ = kernel.broken_rule(FORKED)


def close(loop: Loop | None, main: Any) -> None:
    """Close the loop if it was made, and otherwise the body that it would have run."""
    if loop is not None:
        loop.close()
    elif hasattr(main, "close"):
        main.close()


def only_in_this_thread() -> Callable[[str, object], None]:
    """Return a function `check(verb, thing)` that raises SyscallError in any thread but the current one."""
    ident = get_ident()

    def check(verb: str, thing: object) -> None:
        if get_ident() != ident:
            text = f"{verb} of {thing!r} in another thread than its run's, where it could break a turn"
            raise SyscallError(f"{text}: let Portal.call make the call, or in a syscall `kernel.service(Wakeup).call`")

    return check


running: dict[Loop, None] = {}  # in all threads


def forked() -> None:
    """End the copies of all loops, in a process that was just forked. Python calls this."""
    _thread.busy = ""  # the child may begin a run of its own
    kernels.clear()
    while running:
        loop, _ = running.popitem()
        loop.end_in_child()


_ = getattr(os, "register_at_fork", dict)(after_in_child=forked)  # not on Windows, which can't fork
