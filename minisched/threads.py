"""Other threads: work for them (InThread, Submit), and a way in from them (Portal).

Theory of operation. A call that would block goes to another thread, or to any executor; what comes
of it is a `concurrent.futures.Future`, whose end leaves word with the loop (`Wakeup.call`), which
resumes the task in its next Wait. A thread can't be stopped from outside: a cancelled task waits
for it, and is told at its next checkpoint; or it abandons the call, if that was said beforehand.
The run's own threads are daemons, LIMIT at most: one that never comes back keeps neither the run
nor the interpreter from ending.

Invariants:
1. Other threads touch nothing of the kernel: they leave word.
2. An answer that nobody waits for any more is dropped.
3. A future that a portal has given out gets an answer, even if the run ends before.

Not here: processes as such; any `concurrent.futures.Executor` will do for them, and for clusters.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread
from functools import partial

from .errors import ClosedError, SyscallError, clean
from .family import Family, failure
from .kernel import DONE, Kernel, Service, Syscall, Task
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor, Future
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar

    Given = ParamSpec("Given")
    Result = TypeVar("Result")

LIMIT = 32  # threads of a run; what is more waits in line


class Threads(Service):
    """Who waits for what other threads do, the run's own threads, and the ways in that are open."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.ident = get_ident()
        self.waiting: dict[Task, Future[Any]] = {}
        self.portals: dict[OpenPortal, None] = {}
        self.pool = Pool()
        self.over = False  # the run

    def wait_for(self, task: Task, future: Future[Any], abandon: bool) -> None:
        """Park `task` until `future` is done."""
        # First, since it may refuse. The answer comes in the next Wait, even if it is there already.
        future.add_done_callback(lambda done: self.wakeup.call(partial(self._deliver, task, done)))
        self.waiting[task] = future
        self.kernel.park(task, partial(self._abandon, task) if abandon else None)

    def _abandon(self, task: Task) -> None:
        _ = self.waiting.pop(task).cancel()  # for the case that it has not begun

    def _deliver(self, task: Task, future: Future[Any]) -> None:
        if self.waiting.get(task) is not future:
            return  # nobody waits for it any more
        del self.waiting[task]
        try:
            error = future.exception(0)  # not raised here: it would hold this frame, and the frame the future
        except BaseException as cancelled:
            error = cancelled.with_traceback(None)
        if error is None:
            self.kernel.resume(task, future.result())
        else:
            self.kernel.throw(task, throwable(error))

    def pending(self) -> int:
        return len(self.waiting) + len(self.portals)

    def tasks(self) -> Iterable[Task]:
        return self.waiting

    def close(self) -> None:
        """End the threads, those at work when they come back; what has not begun never will, and nobody can come in."""
        self.over = True
        for portal in list(self.portals):
            portal.close()
        for task in list(self.waiting):
            self._abandon(task)
        self.pool.close()


class InThread(Syscall["Any"]):
    """Call `function(*args)` in another thread, in a copy of the context; return what it returns, raise what it raises.

    A cancellation waits for its end, since a thread can't be stopped, and comes
    at the next checkpoint. `abandon=True`: it ends the wait at once; the thread
    goes on, and what it returns or raises is dropped.
    """

    __slots__ = ("abandon", "args", "function")
    world = True

    def __init__(self, function: Callable[..., Any], *args: Any, abandon: bool = False) -> None:
        self.function = function
        self.args = args
        self.abandon = abandon

    def handle(self, kernel: Kernel, task: Task) -> None:
        threads = kernel.service(Threads)
        call = partial(task.context.copy().run, checked(self.function), *self.args)
        threads.wait_for(task, threads.pool.submit(call), self.abandon)

    def __repr__(self) -> str:
        return f"InThread({named(self.function)})"


class Submit(Syscall["Any"]):
    """Submit `function(*args)` to an executor of `concurrent.futures`, or one like it; return what it returns.

    Raises what it raises, and what `submit` raises. A cancellation waits for its
    end; `abandon=True`: it ends the wait at once, and the call, if the executor
    has not begun it.
    """

    __slots__ = ("abandon", "args", "executor", "function")
    world = True

    def __init__(self, executor: Executor, function: Callable[..., Any], *args: Any, abandon: bool = False) -> None:
        self.executor = executor
        self.function = function
        self.args = args
        self.abandon = abandon

    def handle(self, kernel: Kernel, task: Task) -> None:
        future = self.executor.submit(checked(self.function), *self.args)
        kernel.service(Threads).wait_for(task, future, self.abandon)

    def __repr__(self) -> str:
        return f"Submit({type(self.executor).__name__}, {named(self.function)})"


class Portal(Syscall["OpenPortal"]):
    """A way in for other threads, as long as a `with` is open: `with (yield Portal()) as portal:`. Not a checkpoint."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> OpenPortal:
        return OpenPortal(kernel.service(Threads), task)


class OpenPortal:
    """What other threads call: `call` and `spawn`. While it is open, the run is never a deadlock.

    What is spawned are children of the task that has opened it: it waits for them at its end.
    """

    def __init__(self, threads: Threads, owner: Task) -> None:
        self.threads = threads
        self.owner = owner
        self.lock = allocate_lock()  # held while it is asked, from any thread, whether this is open
        self.given: dict[Future[Any], None] = {}  # those without an answer yet

    def __enter__(self) -> Self:
        if self.threads.over:
            raise ClosedError("the run that this portal leads into is over")
        self.threads.portals[self] = None
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def call(self, function: Callable[Given, Result], *args: Given.args, **keywords: Given.kwargs) -> Result:
        """Call a plain function in the run's thread, between two turns; return its result or raise its error.

        Blocks the calling thread. ClosedError if the portal is closed, also
        meanwhile; SyscallError in the run's own thread, which would wait for itself.
        """
        if get_ident() == self.threads.ident:
            raise SyscallError("Portal.call is for other threads: in the run's own, just call the function")
        call = partial(function, *args, **keywords)
        return self._ask(call, lambda future, result: future.set_result(result)).result()

    def spawn(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> Future[Any]:
        """Start `function(*args)`, a generator function or an `async def`, as a task; return the future of its result.

        The future has the task's failure, too, which is then nobody else's; its
        `cancel` works until the task has been made. ClosedError if the portal is closed.
        """
        spawn = self.threads.kernel.spawn
        return self._ask(lambda: spawn(function(*args), name, self.owner, keep=True), self._follow)

    def close(self) -> None:
        """Let nobody in any more; who waits for the answer to a call gets ClosedError. What was spawned goes on."""
        with self.lock:
            _ = self.threads.portals.pop(self, None)
            given = list(self.given)
            self.given.clear()
        for future in given:
            if future.set_running_or_notify_cancel():
                future.set_exception(ClosedError("the portal was closed before it came to that"))

    def _ask(self, do: Callable[[], Any], then: Callable[[Future[Any], Any], object]) -> Future[Any]:
        """Have `then(future, do())` called in the run's thread."""
        from concurrent.futures import Future  # only here: it is slow to import

        future: Future[Any] = Future()
        with self.lock:
            if self not in self.threads.portals:
                raise ClosedError("the portal is closed")
            self.given[future] = None
        self.threads.wakeup.call(partial(self._come_to, future, do, then))
        return future

    def _come_to(self, future: Future[Any], do: Callable[[], Any], then: Callable[[Future[Any], Any], object]) -> None:
        try:
            with self.lock:
                if self.given.pop(future, self) is self:
                    return  # it was closed before
            if future.set_running_or_notify_cancel():
                _ = then(future, do())
        except BaseException as error:  # a third Ctrl-C may come at any point of this
            if not future.done():
                future.set_exception(clean(error))
        del future  # the traceback of an error holds this frame, and the future the error

    def _follow(self, future: Future[Any], task: Task) -> None:
        self.threads.kernel.service(Family).at_end[task] = partial(self._ended, future)

    def _ended(self, future: Future[Any], task: Task) -> bool:
        error = failure(task) if task.place == DONE else ClosedError("the run was broken off before the task's end")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result)
        return True


class Pool:
    """Daemon threads, made as they are needed. What `submit` is to an executor."""

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.calls: Any = None  # a queue, made on first use
        self.threads = self.busy = 0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have `call()` called in one of the threads; return the future of its result."""
        from concurrent.futures import Future  # only here: both are slow to import
        from queue import SimpleQueue

        if self.calls is None:
            self.calls = SimpleQueue()
        future: Future[Any] = Future()
        self.calls.put((future, call))
        with self.lock:
            self.busy += 1
            more = self.threads < min(self.busy, LIMIT)
            self.threads += more
        if more:
            try:
                _ = start_new_thread(self._work, (self.calls,))
            except RuntimeError:  # the system has no more of them: those that there are have to do
                self.threads -= 1
                if not self.threads:
                    _ = future.cancel()
                    raise
        return future

    def close(self) -> None:
        """Let the threads end when they have done what was submitted."""
        for _ in range(self.threads):
            self.calls.put(None)

    def _work(self, calls: Any) -> None:
        while (asked := calls.get()) is not None:
            future, call = asked
            if future.set_running_or_notify_cancel():
                self._do(future, call)
            else:
                self._done()
            del asked, future, call  # which would live on while it waits

    def _do(self, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            result = call()
        except BaseException as error:
            self._done()
            future.set_exception(clean(error))
        else:
            self._done()
            future.set_result(result)
        del future  # the traceback of an error holds this frame, and the future the error

    def _done(self) -> None:
        """Be free for what comes next, before anybody is told: no thread is made where this one will do."""
        with self.lock:
            self.busy -= 1


def checked(function: Any) -> Any:
    """Return a function; SyscallError if it is none: most likely it was called."""
    if not callable(function):
        raise SyscallError(f"a function and its arguments are called elsewhere, not {function!r}: InThread(f, x)")
    return function


def named(function: object) -> str:
    """Return a function's name."""
    return getattr(function, "__qualname__", None) or repr(function)


def throwable(error: BaseException) -> BaseException:
    """Return an error in a form that Python lets pass through a generator."""
    if isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
        wrapped = RuntimeError(f"the function raised {type(error).__name__}")
        wrapped.__cause__ = error
        return wrapped
    return error
