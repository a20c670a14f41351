"""Portal: calls from other threads into the run.

Theory of operation. A thread schedules a request in the loop (`Wakeup.call`), and waits for a future that the loop
sets. A request is a plain call, made between two turns, or the spawn of a task.

Invariants:
1. A future that a portal has returned is always set in the end, also when the portal is closed or the run ends.

Not here: calls that a task makes in another thread (`threads`); the future of a request (`request`).
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from contextvars import copy_context
from functools import partial

from ..errors import ClosedError, SyscallError
from ..kernel import Syscall
from ..kernel.blocks import HasBlock
from ..kernel.lifecycle import Lifecycle, failure
from ..kernel.tree import DONE
from .interrupt import raised_by_signal_handler
from .thread_pool import fail
from .threads import Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from concurrent.futures import Future
    from contextvars import Context
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar, TypeVarTuple

    from ..kernel import Kernel, Task
    from .request import Request

    Given = TypeVarTuple("Given")
    Params = ParamSpec("Params")
    Result = TypeVar("Result")


class Portal(Syscall["OpenPortal"]):
    """Return a portal, through which other threads call functions and spawn tasks in this run.

    The portal is open inside its `with` block only: `with (yield Portal()) as portal:`. While it is open, the run
    raises no Deadlock, since a thread may still wake a task. The call is not a checkpoint. See `OpenPortal.call` and
    `OpenPortal.spawn`.

    Returns:
        An `OpenPortal`. Its `with` raises ClosedError if the run has ended.

    Raises:
        OSError: no file descriptor is left for the wake-up of the loop.

    Example:
        >>> import threading
        >>> from minisched import Portal, Queue
        >>> from minisched.testing import run
        >>> def main():
        ...     queue = Queue()
        ...     with (yield Portal()) as portal:
        ...         thread = threading.Thread(target=portal.call, args=(queue.put_nowait, "from a thread"))
        ...         thread.start()
        ...         item = yield queue.get()
        ...     thread.join()
        ...     return item
        >>> run(main())
        'from a thread'
    """

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> OpenPortal:
        return OpenPortal(kernel.service(Threads), task)


class OpenPortal(HasBlock):
    """A portal into a run, for other threads: the result of `yield Portal()`.

    Tasks that are spawned through it are children of the task that opened it, which waits for them at its end.

    Example:
        >>> from minisched import InThread, Portal, Sleep
        >>> from minisched.testing import run
        >>> def double(number):
        ...     yield Sleep(60)
        ...     return number * 2
        >>> def in_thread(portal):  # a program of plain, blocking code
        ...     portal.call(print, "called in the run's thread")
        ...     return portal.spawn(double, 21).result()
        >>> def main():
        ...     with (yield Portal()) as portal:
        ...         return (yield InThread(in_thread, portal))
        >>> run(main())
        called in the run's thread
        42
    """

    def __init__(self, threads: Threads, owner: Task) -> None:
        self.threads = threads
        self.owner: Task | None = owner  # None once the portal is closed: a local name of it would hold the task
        self.entered = False
        self.lock = allocate_lock()  # held to check that the portal is open, and add a request, in one step
        self.pending_requests: dict[Future[Any], None] = {}  # the requests that the loop has not begun

    def __enter__(self) -> Self:
        if self.threads.run_ended:
            raise ClosedError("the run that this portal leads into has ended")
        if self.owner is None:  # entered once more
            self.owner = self.threads.kernel.current
        self.threads.portals[self] = None
        self.entered = True
        return self

    def was_entered(self) -> bool:
        return self.entered

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def call(self, function: Callable[Params, Result], *args: Params.args, **keywords: Params.kwargs) -> Result:
        """Call a plain function in the run's thread, between two turns; return its result.

        The calling thread is blocked until then. `call(event.set)` and `call(queue.put_nowait, item)` wake tasks. The
        function sees a copy of the calling thread's context variables.

        Args:
            function: called in the loop's next Wait phase, outside of any task. It must not block.
            args: its positional arguments.
            keywords: its keyword arguments.

        Raises:
            ClosedError: the portal is closed, or was closed before the loop reached the call.
            SyscallError: the caller is in the run's own thread, which would wait for itself.

        An exception of the function is raised as it is.
        """
        if get_ident() == self.threads.ident and not self.threads.run_ended:
            raise SyscallError("Portal.call is for other threads: in the run's own thread, just call the function")
        call = partial(copy_context().run, function, *args, **keywords)
        return self._submit(call, lambda future, result: future.set_result(result)).result()

    def spawn(
        self,
        function: Callable[[*Given], Generator[Any, Any, Result] | Coroutine[Any, Any, Result]],
        *args: *Given,
        name: str | None = None,
    ) -> Future[Result]:
        """Spawn `function(*args)` as a task of the run; return the future of its result at once.

        A failure of the task is raised by the future, and is not passed to the task's parent. If the task is
        cancelled, the future raises TaskCancelled. Closing the portal does not end the task. The task has a copy of
        the calling thread's context variables.

        Args:
            function: a generator function or an `async def`; it is called in the run's thread.
            args: its positional arguments.
            name: the name of the task; the function's by default.

        Returns:
            A `concurrent.futures.Future`. Its `cancel` has an effect only until the loop starts the task. It raises
            ClosedError if the portal is closed before that, or if the run is aborted before the task is done. Its
            `result` raises SyscallError in the run's own thread, which would wait for itself.

        Raises:
            ClosedError: the portal is closed.
        """
        return self._submit(partial(self._spawn, copy_context(), partial(function, *args), name), self._follow)

    def _spawn(self, context: Context, make_body: Callable[[], Any], name: str | None) -> Task:
        task = self.threads.kernel.spawn(context.run(make_body), name, self.owner, keep=True)
        task.context = context
        return task

    def close(self) -> None:
        """Close the portal, as the end of its `with` does; requests that have not begun get ClosedError."""
        with self.lock:
            _ = self.threads.portals.pop(self, None)
            pending_requests = list(self.pending_requests)
            self.pending_requests.clear()
        self.owner = None
        for future in pending_requests:
            if future.set_running_or_notify_cancel():
                future.set_exception(ClosedError("the portal was closed before the loop came to this request"))

    def _submit(self, make: Callable[[], Any], answer: Callable[[Request, Any], object]) -> Future[Any]:
        """Schedule `answer(future, make())` in the run's thread."""
        from .request import Request  # imported here since `concurrent.futures` is slow to import

        future = Request(self.threads)
        with self.lock:
            if self not in self.threads.portals:
                raise ClosedError("the portal is closed")
            self.pending_requests[future] = None
        self.threads.wakeup.call(partial(self._run_request, future, make, answer))
        return future

    def _run_request(self, future: Request, make: Callable[[], Any], answer: Callable[[Request, Any], object]) -> None:
        try:
            with self.lock:
                if self.pending_requests.pop(future, self) is self:
                    return  # the portal was closed, and the future has its ClosedError
            if future.set_running_or_notify_cancel():
                _ = answer(future, make())
        except BaseException as error:
            if not future.done():
                fail(future, error)
            if raised_by_signal_handler(error):
                raise
        del future  # a cycle: the traceback of an error holds this frame, and the future holds the error

    def _follow(self, future: Request, task: Task) -> None:
        """Set `future` when the task is done."""
        future.task = task
        self.threads.kernel.service(Lifecycle).on_done[task] = partial(self._on_done, future)

    def _on_done(self, future: Request, task: Task) -> bool:
        """Set `future`; return True: the failure is handled."""
        future.task = None
        error = failure(task) if task.state == DONE else ClosedError("the run was aborted before the task was done")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result)
        return True
