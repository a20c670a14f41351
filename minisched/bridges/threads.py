"""Calls in other threads: InThread, Submit, and answers that come as a future.

Theory of operation. A call that would block the loop is made in another thread, or by any executor. Its result is a
`concurrent.futures.Future`. When the future is done, its callback schedules a call in the loop (`Wakeup.call`), which
resumes the task in its next Wait phase. A thread can't be stopped from outside. A cancelled task therefore waits until
its call is done, and gets the Cancelled at its next checkpoint; or it abandons the call, if the syscall allows that
(`abandon=True`).

Invariants:
1. Other threads touch nothing of the kernel: they only schedule calls.
2. The result of an abandoned call is dropped.
3. Every outcome of a call wakes the task that waits for it.

Not here: calls from other threads into the run (`portal`); the threads themselves (`thread_pool`); processes, for
which `Submit` takes any executor.
"""

from __future__ import annotations

import warnings
from _thread import get_ident
from abc import abstractmethod
from functools import partial

from ..errors import Cancelled, SyscallError
from ..kernel import Selectable, Service
from ..kernel.generic import Answer
from ..kernel.waiting import NOT_YET, resume, task_of, throw
from .thread_pool import Pool
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future
    from typing import Any, TypeVar, TypeVarTuple

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter
    from .portal import OpenPortal
    from .request import Request

    Given = TypeVarTuple("Given")
    Result = TypeVar("Result")

STALLED = (
    "all {0} threads of the run wait for requests through a portal, and one of the requests needs {1!r} of task {2!r}, "
    "which waits for a thread: make such calls by Submit, in an executor of their own"
)


class Threads(Service):
    """The tasks that wait for a call in another thread, the run's thread pool, and the open portals."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.wakeup.open()
        self.ident = get_ident()  # the run's thread
        self.waiting: dict[Waiter, Future[Any]] = {}
        self.portals: dict[OpenPortal, None] = {}
        self.pool = Pool()
        self.blocked: dict[int, Request] = {}  # the requests that threads of the pool wait for, by thread
        self.warned = False
        self.run_ended = False

    def add_waiter(self, waiter: Waiter, future: Future[Any]) -> Callable[[], object]:
        """Wake `waiter` with the answer of `future`, in the Wait phase after it is done; return the undo."""
        # The callback is added first, since that fails if `future` is not a future. It only schedules `_deliver`. So a
        # future that is done already wakes the waiter in the next Wait phase, too, when the task is parked.
        future.add_done_callback(lambda done: self.wakeup.call(partial(self._deliver, waiter, done)))
        self.waiting[waiter] = future
        return partial(self._abandon, waiter)

    def begin(self, waiter: Waiter, start: Callable[[], Future[Any]], *, on_file: bool = False) -> Callable[[], object]:
        """Start a call, and wake `waiter` with its answer; return the undo. `start` returns the future of the call.

        `on_file`: whether the call works on a file that `Open` has opened or opens. A world that is not real (`lab`)
        calls `start` only then, and the file answers in place of the operating system.
        """
        return self.add_waiter(waiter, start())

    def _abandon(self, waiter: Waiter) -> None:
        _ = self.waiting.pop(waiter).cancel()  # has an effect only on a call that has not begun

    def _deliver(self, waiter: Waiter, future: Future[Any]) -> None:
        if self.waiting.get(waiter) is not future:
            return  # the call was abandoned
        del self.waiting[waiter]
        wake(self.kernel, waiter, *outcome_of(future))

    def check_for_stall(self) -> None:
        """Let the loop check, if all threads of the pool wait while calls wait for a thread. Any thread calls this."""
        if self.pool.busy > self.pool.threads and len(self.blocked) >= self.pool.threads:
            self.wakeup.call(self._warn_if_stalled)

    def _warn_if_stalled(self) -> None:
        """Warn once if a request that a thread of the pool waits for needs a thread of the pool."""
        if self.warned or len(self.blocked) < self.pool.threads:
            return
        if self.kernel.ready or any(portal.pending_requests for portal in self.portals):
            self.wakeup.call(self._warn_if_stalled)  # these may still change something
            return
        requests = {request.task for request in list(self.blocked.values()) if not request.done()}
        for waiter, future in self.waiting.items():
            task = task_of(waiter)
            behind = isinstance(task.call, InThread) and not (future.running() or future.done())
            if behind and not requests.isdisjoint(spawners(task)):
                self.warned = True
                warnings.warn(STALLED.format(self.pool.threads, task.call, task.name), RuntimeWarning, stacklevel=1)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
                return

    def pending(self) -> int:
        return len(self.waiting) + len(self.portals)

    def tasks(self) -> Iterable[Task]:
        return map(task_of, self.waiting)

    def close(self) -> None:
        """Close the portals, cancel the calls that have not begun, and end the threads when their calls are done."""
        self.run_ended = True
        for portal in list(self.portals):
            portal.close()
        for waiter in list(self.waiting):
            self._abandon(waiter)
        self.pool.close()


class FutureOperation(Selectable[Answer]):
    """A call whose answer comes from another thread, as a `concurrent.futures.Future`. Subclass it to add your own.

    A subclass has a `start`, which begins the work and returns its future. The end of the future wakes the task.
    The call can be yielded, and can be a branch of `select`.

    `abandon`: whether a cancellation ends the wait at once, and cancels the future. By default, a cancelled task waits
    until the future is done, gets its result, and is cancelled at its next checkpoint. A call that loses in a `select`
    is always abandoned.

    Raises:
        OSError: no file descriptor is left for the wake-up of the loop.

    The exception of the future is raised as it is.

    Example:
        >>> from concurrent.futures import Future
        >>> from threading import Timer
        >>> from minisched import FutureOperation, run
        >>> class Answered(FutureOperation[int]):
        ...     def start(self, kernel, task):
        ...         future = Future()
        ...         Timer(0.001, future.set_result, [42]).start()
        ...         return future
        >>> def main():
        ...     return (yield Answered())
        >>> run(main())
        42
    """

    __slots__ = ()
    external = True
    abandon = False
    on_file = False  # see `Threads.begin`

    @abstractmethod
    def start(self, kernel: Kernel, task: Task) -> Future[Answer]:
        """Begin the work, and return the future of its answer. It is called in the run's thread, and must not block."""

    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        undo = self.add_waiter(kernel, task)
        kernel.park(task, undo if self.abandon else None)

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        return NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        threads = kernel.service(Threads)
        undo = threads.begin(waiter, partial(self.start, kernel, task_of(waiter)), on_file=self.on_file)
        threads.check_for_stall()
        return undo


class InThread(FutureOperation[Answer]):
    """Call `function(*args)` in another thread; return its result.

    The end of the call wakes the task. The call sees a copy of its context variables. Other tasks run meanwhile. A run
    has at most 32 threads, all of them daemons; further calls wait, and begin in order of arrival. A thread can't be
    stopped: a cancelled task waits until its call is done, gets the result, and is cancelled at its next checkpoint.

    Args:
        function: a plain function, not a generator function or an `async def`.
        args: its positional arguments; `functools.partial` or a lambda passes keyword arguments.
        abandon: a cancellation ends the wait at once. The call goes on in its thread, and its result or error is
            dropped. Only a call that still waits for one of the 32 threads is never made.

    Raises:
        SyscallError: `function` can't be called.
        RuntimeError: the system can't start a thread, or the function raised StopIteration, GeneratorExit or Cancelled
            (which is its cause).
        OSError: no file descriptor is left for the wake-up of the loop.

    An exception of the function is raised as it is.

    Example:
        >>> import time
        >>> from minisched import InThread
        >>> from minisched.testing import run
        >>> def main():
        ...     yield InThread(time.sleep, 0.001)  # here, `time.sleep` alone would block all tasks
        ...     return (yield InThread(divmod, 17, 5))
        >>> run(main())
        (3, 2)
    """

    __slots__ = ("abandon", "args", "function")

    def __init__(self, function: Callable[[*Given], Answer], *args: *Given, abandon: bool = False) -> None:
        self.function = function
        self.args = args
        self.abandon = abandon

    def start(self, kernel: Kernel, task: Task) -> Future[Answer]:
        call = partial(task.context.copy().run, check_function(self.function), *self.args)
        return kernel.service(Threads).pool.submit(call)

    def __repr__(self) -> str:
        return f"InThread({function_name(self.function)})"


class Submit(FutureOperation[Answer]):
    """Submit `function(*args)` to an executor; return its result.

    Use it for a pool of processes, a pool of threads that several runs share, or a cluster. The result or exception of
    the future that `executor.submit` returns wakes the task. A cancelled task waits until its call is done, gets the
    result, and is cancelled at its next checkpoint.

    Args:
        executor: a `concurrent.futures.Executor`, or any object with such a `submit`. The caller shuts it down.
        function: a plain function; for processes, one that can be pickled.
        args: its positional arguments.
        abandon: a cancellation ends the wait at once, and cancels the future. The executor decides whether the call
            has begun: a call that waits in its queue, even for a moment, is never made.

    Raises:
        SyscallError: `function` can't be called.
        OSError: no file descriptor is left for the wake-up of the loop.

    An exception of `submit` or of the function is raised as it is. If another party cancels the future, the call
    raises `concurrent.futures.CancelledError`.

    Example:
        >>> import math
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from minisched import Submit
        >>> from minisched.testing import run
        >>> def main(executor):
        ...     return (yield Submit(executor, math.factorial, 20))
        >>> with ThreadPoolExecutor() as executor:
        ...     run(main(executor))
        2432902008176640000
    """

    __slots__ = ("abandon", "args", "executor", "function")

    def __init__(
        self, executor: Executor, function: Callable[[*Given], Answer], *args: *Given, abandon: bool = False
    ) -> None:
        self.executor = executor
        self.function = function
        self.args = args
        self.abandon = abandon

    def start(self, kernel: Kernel, task: Task) -> Future[Answer]:
        return self.executor.submit(check_function(self.function), *self.args)

    def __repr__(self) -> str:
        return f"Submit({type(self.executor).__name__}, {function_name(self.function)})"


def outcome_of(future: Future[Any]) -> tuple[bool, Any]:
    """Return whether a future that is done has failed, and its exception or its result."""
    try:
        error = future.exception(0)  # not raised here: its traceback would hold this frame, which holds the future
        return (False, future.result(0)) if error is None else (True, error)
    except BaseException as cancelled:
        return True, cancelled.with_traceback(None)


def wake(kernel: Kernel, waiter: Waiter, failed: bool, value: Any) -> None:
    """Wake a waiter with the outcome of its call."""
    if failed:
        throw(kernel, waiter, throwable(value))
    else:
        resume(kernel, waiter, value)


def check_function(function: Any) -> Any:
    """Return the function; raise SyscallError if it is not callable, most likely because it was called by mistake."""
    if not callable(function):
        raise SyscallError(f"pass the function and its arguments separately, InThread(f, x), not {function!r}")
    return function


def spawners(task: Task) -> Iterator[Task]:
    """Return a task, the task that spawned it, and so on up to main."""
    above: Task | None = task
    while above is not None:
        yield above
        above = above.spawner


def function_name(function: object) -> str:
    """Return the qualified name of a function, or its `repr` if it has none."""
    return getattr(function, "__qualname__", None) or repr(function)


def throwable(error: BaseException) -> BaseException:
    """Return an error that can be thrown into a task: a RuntimeError in place of one that has a meaning there."""
    if isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit, Cancelled)):
        wrapped = RuntimeError(f"the function raised {type(error).__name__}")
        wrapped.__cause__ = error
        return wrapped
    return error
