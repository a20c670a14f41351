"""`run`: the loop that waits, fires and runs, until main and all below it have ended.

Theory of operation. Three phases, over and over. *Wait*: ask the selector for files, not waiting
at all if a task is ready, else until the next deadline; then do what signals and other threads
have asked for. *Fire*: the timers that are due. *Run*: up to 61 turns, as Go and tokio do, fewer
while they are slow. While more than 61 tasks are ready, files are asked for once a round. So
neither a flood of ready tasks nor of ready files can starve the rest.

Invariants:
1. Threads and signals take effect in Wait only.
2. When `run` ends, however it does: every generator is closed, every service too, signals and
   hooks are as they were.
3. Never a silent hang: where nothing can wake anybody, it is a Deadlock.

Not here: any service's own business.
"""

from __future__ import annotations

import os
import sys
import warnings
from _thread import _local as thread_local  # pyright: ignore[reportPrivateUsage] (`threading` is slow to import)
from _weakref import ref  # as `_thread`: what `weakref` and `threading` are made of is quick to import
from collections import deque

from . import report
from .debug import Debug
from .errors import Deadlock, SyscallError
from .family import Family, ended, failure
from .kernel import DONE, ENDING, Kernel, Task
from .poller import Poller
from .timers import Timers
from .waiting import Primitives
from .wakeup import Wakeup
from .watch import Watchers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
    from typing import Any, TypeVar

    from ._selectors2 import Selector
    from .clocks import Clock
    from .watch import Watcher

    Result = TypeVar("Result")

BATCH = 61  # turns between two looks at timers
SLOW = 0.002  # seconds that a batch should not exceed
UNSEEN = 0.01  # seconds that files may not be looked at, while there is a task that is ready and has not had a turn

FORKED = (
    "this process was forked inside a task, with the files, timers and tasks of the first: a run can't go on in both; "
    "fork before `run` (serve_workers), start programs with subprocess, or end the child with os._exit"
)
INSIDE = "run inside run: a task spawns another task (yield Spawn(...)) or yields from it"
_thread = thread_local()  # `busy`: why no run can begin in this thread


def run(
    main: Generator[Any, Any, Result] | Coroutine[Any, Any, Result],
    *,
    ready: Any = None,
    clock: Clock | None = None,
    selector: Selector | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool | None = None,
) -> Result:
    """Run a generator or coroutine, and all that it spawns, to the end; return its result.

    Raises what main raised; an ExceptionGroup if tasks below it failed;
    TaskCancelled if main was cancelled; KeyboardInterrupt after Ctrl-C and
    cleaning up (a second Ctrl-C does not wait for that); Deadlock if nobody
    can ever go on; SyscallError if a rule of the kernel was broken.

    `ready`, `clock`, `selector`: others than the usual ones (the selector is
    closed at the end). `watch`: who is told of each event. `debug`: look for
    what is made and never run (None: under pytest).
    """
    busy = getattr(_thread, "busy", "")
    if busy:
        if hasattr(main, "close"):
            main.close()
        raise SyscallError(busy)
    if debug is None:
        debug = "PYTEST_CURRENT_TEST" in os.environ
    _thread.busy = INSIDE
    try:
        loop = Loop(ready, clock, selector, [*watch, Debug()] if debug else watch)
        try:
            task = loop.run(main)
        finally:
            loop.close()
    finally:
        _thread.busy = ""
    error = loop.outcome(task)
    if error is not None:
        raise error  # here, so that no other frame of ours comes before the program's own
    return task.result


def busy() -> bool:
    """Return whether this thread is in a run."""
    return bool(getattr(_thread, "busy", ""))


def load(why: str, execute: Callable[[], object]) -> None:
    """Call `execute()`, which imports a program; a `run` in it is refused with the sentence `why`."""
    _thread.busy = why
    try:
        _ = execute()
    finally:
        _thread.busy = ""


class Loop:
    """One run: a kernel, and the three phases that drive it."""

    def __init__(self, ready: Any, clock: Clock | None, selector: Selector | None, watch: Sequence[Watcher]) -> None:
        self.kernel = kernel = Kernel(ended, ready)
        self.family = kernel.service(Family)
        self.timers = kernel.services[Timers] = Timers(kernel, clock)
        _ = kernel.service(Primitives)  # now: it takes note of the thread
        self.poller = kernel.services[Poller] = Poller(kernel, selector)
        try:
            self.wakeup = kernel.service(Wakeup)
        except BaseException:  # no file left for it
            self.poller.close()
            raise
        self.batch = BATCH
        self.deadlock: Deadlock | None = None
        self.hooks = sys.get_asyncgen_hooks()
        self.generators: dict[ref[AsyncGenerator[Any, Any]], None] = {}  # those that were begun
        self.dropped: deque[AsyncGenerator[Any, Any]] = deque()
        if watch:
            kernel.watch = watch[0] if len(watch) == 1 else Watchers(watch)

    def run(self, body: Any) -> Task:
        """Run main to its end; return it."""
        if self.kernel.watch is not None:
            self.kernel.watch.start(self.kernel)
        main = self.kernel.spawn(body, None)
        running[self] = None
        self.wakeup.take_signals()
        sys.set_asyncgen_hooks(self._generator_begun, self._generator_dropped)
        try:
            while main.place is not DONE:
                self._wait(main)
                self.timers.fire()
                self._run_turns(main)
        except BaseException as error:
            self._abandon(error)
            if self.wakeup.interrupts > 1 and isinstance(error, Exception):  # of what a third one broke off midway
                raise self.wakeup.interruption() from None
            raise
        return main

    def _wait(self, main: Task) -> None:
        """Wait: files, then what threads and signals have asked for."""
        if self.kernel.ready:
            _ = self.poller.select(0.0)
        else:
            deadline = self.timers.next_deadline()
            if deadline is None and not any(service.pending() for service in self.kernel.services.values()):
                return self._deadlocked(main)
            self.timers.clock.wait(self.poller.select, deadline)
        if self.poller.foreign:
            self.poller.look(self.timers.now())
        wakeup = self.wakeup
        if wakeup.calls:
            self.poller.vain = 0
            wakeup.run_calls()
        if wakeup.interrupts > wakeup.taken:
            wakeup.taken = wakeup.interrupts
            if wakeup.interrupts > 1:
                raise wakeup.interruption()
            self.family.interrupt(wakeup.interruption(), None)
        return None

    def _run_turns(self, main: Task) -> None:
        """Run: a turn of each task that is ready, for UNSEEN at most, and until somebody outside wants something.

        Files that are looked at sooner have mostly what nobody waits for yet, again and again: of 1,000
        busy connections, 16 events a message in place of one. (Go looks every 10 ms at least, too.)
        Timers are seen to after each batch of turns, which is halved while it is slow.
        """
        kernel, timers, poller, wakeup = self.kernel, self.timers, self.poller, self.wakeup
        if not kernel.ready and kernel.fault is None:
            return poller.in_vain()
        poller.vain = 0
        now = timers.now
        started = now()
        left, until = len(kernel.ready), started + UNSEEN
        while True:
            kernel.turns(self.batch)
            ended = now()
            left -= self.batch
            if ended - started > SLOW:  # 61 slow turns made timers 100 ms late
                self.batch = max(self.batch // 2, 1)
            elif self.batch < BATCH:
                self.batch = min(self.batch * 2, BATCH)
            seen = left <= 0 and len(poller.entries) > poller.silent  # else there is no file to look at
            wanted = wakeup.calls or wakeup.interrupts > wakeup.taken
            if seen or wanted or ended >= until or main.place is DONE or not kernel.ready:
                return None
            timers.fire()
            started = now()

    def _deadlocked(self, main: Task) -> None:
        """Cancel main, so that cleanup runs; a second time, there is nothing more to hope for."""
        if self.deadlock is not None:
            raise self.deadlock
        self.deadlock = Deadlock(report.deadlock(self.kernel))
        self.kernel.cancel(main, "deadlock")
        if not self.kernel.ready:
            raise self.deadlock

    def outcome(self, main: Task) -> BaseException | None:
        """Return what `run` has to raise; None if main returned."""
        error = self.family.quit or self.deadlock
        if self.family.quit is None and self.wakeup.interrupts:
            error = self.wakeup.interruption()  # it came in the last turns
        if error is None:
            return failure(main)
        if main.failure is not None:
            error.__cause__ = main.failure
        return error

    def _abandon(self, error: BaseException) -> None:
        """End the run at once: undo every wait and close every generator, children before parents."""
        tasks = list(reversed(list(self.kernel.tasks())))
        for task in tasks:  # first all waits, so that nothing is handed to who is closed next
            try:
                _ = self.kernel.forget(task)
            except SyscallError as problem:
                error.add_note(str(problem))
        for task in tasks:
            if task.place != ENDING:
                self.kernel.close_body(task, error)

    def _generator_begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.generators[ref(generator, lambda gone: self.generators.pop(gone, None))] = None

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Be told, perhaps by the collector in any thread, of an async generator that was not exhausted."""
        self.dropped.append(generator)
        self.wakeup.call(self._close_dropped)

    def _close_dropped(self) -> None:
        while self.dropped:
            generator = self.dropped.popleft()
            try:
                generator.aclose().send(None)
            except StopIteration:
                continue
            except BaseException as error:
                text = f"raised {error!r} when it was closed"
            else:
                text = "waits in its cleanup; use contextlib.aclosing, so that a task can wait there"
            name = getattr(generator, "__qualname__", generator)
            warnings.warn(
                f"async generator {name} was dropped before its end and {text}", ResourceWarning, stacklevel=1
            )

    def forked(self) -> None:
        """Be the copy of a loop in a forked process: end with a sentence, and leave the first one's files alone."""
        kernel, task = self.kernel, self.kernel.current
        self.poller.abandon()
        self.wakeup.close()  # a new run may take the signals; the first process keeps its ends of the pair
        while kernel.ready:
            _ = kernel.ready.popleft()
        kernel.ready = deque()  # what the task still yields in this turn is not done
        if task is not None:
            task.scope.cause = (FORKED, None)
        _ = kernel.misuse(FORKED)

    def close(self) -> None:
        """Close the services, the youngest first."""
        _ = running.pop(self, None)
        sys.set_asyncgen_hooks(*self.hooks)
        self.dropped.extend(generator for begun in list(self.generators) if (generator := begun()) is not None)
        problems: list[BaseException] = []
        for close in [self._close_dropped, *(service.close for service in reversed(self.kernel.services.values()))]:
            try:
                _ = close()
            except BaseException as problem:
                problems.append(problem)
        if problems:
            raise problems[0]


running: dict[Loop, None] = {}  # in whatever thread


def forked() -> None:
    """Be told in a process that was forked."""
    _thread.busy = ""  # it may begin a run of its own
    while running:
        loop, _ = running.popitem()
        loop.forked()


_ = getattr(os, "register_at_fork", dict)(after_in_child=forked)  # Windows forks nothing
