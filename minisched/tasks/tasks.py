"""Tasks: the syscalls Spawn, Join, JoinAll, Cancel, CurrentTask and Pause.

Theory of operation. These syscalls are a thin layer over the kernel's verbs. Spawn makes a child of the task that
yields it. A parent ends only after its children, so a failure always has a task to go to: the parent, or with
`keep=True` the task that joins the child. Join and JoinAll park until the lifecycle service wakes them.

Invariants:
1. A child runs its first turn before its parent goes on after the Spawn.
2. No task waits for its own end: a Join of the task itself, or of an ancestor, is refused.
3. A task of another run is refused.

Not here: the end of a task (`kernel/lifecycle.py`); several tasks at once (`taskgroup`, `gather`); scopes (`scopes`).
"""

from __future__ import annotations

from functools import partial

from ..errors import SyscallError
from ..kernel import Selectable, Syscall, Task
from ..kernel.generic import Answer
from ..kernel.lifecycle import Lifecycle, task_cancelled
from ..kernel.tree import DONE
from ..kernel.waiting import NOT_YET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from typing import Any, ParamSpec

    from ..kernel import Kernel
    from ..kernel.waiting import Waiter

    Given = ParamSpec("Given")
    Body = Generator[Any, Any, Answer] | Coroutine[Any, Any, Answer]

    class Call(Generator[Any, Any, Answer], Awaitable[Answer]):
        """The type that a function of this package returns: `yield from` it, `await` it or spawn it."""

    def awaitable(function: Callable[Given, Generator[Any, Any, Answer]]) -> Callable[Given, Call[Answer]]:
        """Make the generators that `function` returns awaitable, too."""
        ...
else:
    from types import coroutine as awaitable


class Spawn(Syscall[Task[Answer]]):
    """Start a child task; return it.

    The child runs its first turn before this task goes on. It belongs to this task, which ends only after its children.
    If the child fails, this task is cancelled, and ends with an ExceptionGroup that has the failure. The call is not a
    checkpoint: a cancelled task may still spawn, and its child is then cancelled at its first checkpoint.

    Args:
        gen: a generator or coroutine that has not been started.
        name: for reports and traces; by default the name of the function.
        keep: keep a failure for a Join of the child, and do not cancel this task. A failure that is never joined is
            raised when this task ends.
        daemon: do not wait for the child: cancel it when the body of this task and its other children have ended.

    Returns:
        The new task.

    Raises:
        SyscallError: if `gen` is not a fresh generator or coroutine.

    Example:
        >>> from minisched import Join, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def double(number):
        ...     yield Sleep(1)
        ...     return 2 * number
        >>> def main():
        ...     task = yield Spawn(double(21))
        ...     return (yield Join(task))
        >>> run(main())
        42
    """

    __slots__ = ("gen", "name", "keep", "daemon")
    checkpoint = False

    def __init__(
        self,
        gen: Body[Answer],
        name: str | None = None,
        keep: bool = False,
        daemon: bool = False,
    ) -> None:
        self.gen = gen
        self.name = name
        self.keep = keep
        self.daemon = daemon

    def handle(self, kernel: Kernel, task: Task) -> Task[Answer]:
        return kernel.spawn(self.gen, self.name, task, self.keep, self.daemon)

    def __repr__(self) -> str:
        return f"Spawn({self.name or getattr(self.gen, '__name__', self.gen)})"


class Join(Selectable[Answer]):
    """Wait until a task and its children have ended; return the result of the task.

    The end of the joined task and of its children wakes the task. A task may be joined several times, and by several
    tasks. A cancellation ends the wait; the joined task goes on.

    Good to know: each Join raises the same exception, and sets its traceback back to that of the joined task, so that
    it does not grow. A Join in an `except` block that handles this very exception removes the frames of the first Join
    from it. A program that keeps a failed task keeps the frames in that traceback, and their local variables.

    Args:
        task: the task to wait for, as returned by Spawn.

    Returns:
        The result of the task's body.

    Raises:
        TaskCancelled: if the task was cancelled.
        BaseException: the exception of the task, the same object at each Join. Spawn the task with `keep=True` to
            handle a failure; otherwise the failure cancels the parent first.
        SyscallError: for the task itself, an ancestor, a task of another run, or anything that is not a task.

    Example:
        >>> from minisched import Join, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def divide(number, by):
        ...     yield Sleep(1)
        ...     return number / by
        >>> def main():
        ...     task = yield Spawn(divide(1, 0), keep=True)
        ...     try:
        ...         yield Join(task)
        ...     except ZeroDivisionError as error:
        ...         return str(error)
        >>> run(main())
        'division by zero'
    """

    __slots__ = ("task",)

    def __init__(self, task: Task[Answer]) -> None:
        self.task = task

    def try_now(self, kernel: Kernel, task: Task) -> Answer:
        joined = self.task
        if type(joined) is not Task or joined.kernel is not kernel:
            raise wrong_task(joined, "Join")
        if joined.state is not DONE:
            self._check(task)
            return NOT_YET
        if joined.failure is not None:
            raise kernel.service(Lifecycle).take_failure_for_join(joined)
        if joined.cancelled_caught:
            raise task_cancelled(joined)
        return joined.result

    def _check(self, task: Task) -> None:
        """Raise SyscallError if the joined task is `task` itself, or an ancestor, which waits for the end of `task`.

        O(1) for a child, which is what most tasks join, however deep the two are nested; otherwise O(ancestors).
        """
        ancestor: Task | None = task
        below: Task | None = self.task
        while ancestor is not None:
            if ancestor is self.task:
                joined = "itself" if ancestor is task else f"{ancestor.name!r}, which waits for its end"
                raise SyscallError(f"task {task.name!r} joined {joined}: that would wait for ever")
            ancestor = ancestor.spawner
            below = None if below is None else below.spawner
            if below is task:
                return

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return kernel.service(Lifecycle).add_joiner(self.task, waiter)

    def blockers(self) -> Iterable[Task]:
        """Return the joined task, for the report of a deadlock."""
        return (self.task,)

    def __repr__(self) -> str:
        return f"Join({self.task.name})"


class JoinAll(Syscall[None]):
    """Wait until all children of this task have ended, daemons excepted.

    At its end, a task waits for its children anyway; JoinAll is the same wait in the middle of the body. The results
    are not returned: use `gather` for them. The end of the last child wakes the task. A failure of a child cancels the
    wait, unless the child was spawned with `keep=True`. A cancellation ends the wait.

    Example:
        >>> from minisched import JoinAll, Now, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def sleeper(seconds):
        ...     yield Sleep(seconds)
        >>> def main():
        ...     for seconds in (1, 3, 2):
        ...         yield Spawn(sleeper(seconds))
        ...     yield JoinAll()
        ...     return (yield Now())
        >>> run(main())
        3.0
    """

    __slots__ = ()

    def handle(self, kernel: Kernel, task: Task) -> None:
        if task.live_children:
            joining = kernel.service(Lifecycle).joining_all
            joining[task] = None
            kernel.park(task, partial(joining.pop, task))


class Cancel(Syscall[None]):
    """Cancel a task and all its descendants, without waiting until they have ended.

    Each of the tasks gets Cancelled at its current or next checkpoint. To wait for the end of the task, join it
    afterwards. A task that is done, or was cancelled before, is not affected. A task may cancel itself. The call is not
    a checkpoint. O(scopes and tasks below).

    Args:
        task: the task to cancel.
        reason: why, for `Cancelled.reason` and its text.

    Raises:
        SyscallError: for a task of another run, or anything that is not a task.

    Example:
        >>> from minisched import Cancel, Join, Sleep, Spawn, TaskCancelled
        >>> from minisched.testing import run
        >>> def sleeper():
        ...     yield Sleep(60)
        >>> def main():
        ...     task = yield Spawn(sleeper())
        ...     yield Cancel(task, "too late")
        ...     try:
        ...         yield Join(task)
        ...     except TaskCancelled as error:
        ...         return str(error)
        >>> run(main())
        "task 'sleeper' was cancelled: too late"
    """

    __slots__ = ("task", "reason")
    checkpoint = False

    def __init__(self, task: Task, reason: str | None = None) -> None:
        self.task = task
        self.reason = reason

    def handle(self, kernel: Kernel, task: Task) -> None:
        cancelled = self.task
        if type(cancelled) is not Task or cancelled.kernel is not kernel:
            raise wrong_task(cancelled, "Cancel")
        kernel.cancel(cancelled, self.reason, task)

    def __repr__(self) -> str:
        return f"Cancel({self.task.name})"


class CurrentTask(Syscall[Task]):
    """Return the task that yields the call. The call is not a checkpoint.

    Example:
        >>> from minisched import CurrentTask
        >>> from minisched.testing import run
        >>> def main():
        ...     task = yield CurrentTask()
        ...     return task.name, task.path
        >>> run(main())
        ('main', (0,))
    """

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> Task:
        return task


class Pause(Syscall[None]):
    """Let the other ready tasks run once, as a bare `yield` does.

    Pause exists for `async def`, which has no bare `yield`: there, `await Pause()` is the only way to end a turn
    without waiting for anything. In a generator, write a bare `yield`. A cancelled task gets Cancelled.

    Example:
        >>> from minisched import Pause, Spawn
        >>> from minisched.testing import run
        >>> async def worker(name):
        ...     for step in (1, 2):
        ...         print(name, step)
        ...         await Pause()
        >>> async def main():
        ...     await Spawn(worker("a"))
        ...     await Spawn(worker("b"))
        >>> run(main())
        a 1
        a 2
        b 1
        b 2
    """

    __slots__ = ()

    def handle(self, kernel: Kernel, task: Task) -> None:
        return None


def wrong_task(task: object, verb: str) -> SyscallError:
    """Return the error for a thing that is not a task, or a task of another run."""
    if not isinstance(task, Task):
        return SyscallError(f"{verb} takes a task, which is what `yield Spawn(...)` returns, not {task!r}")
    return SyscallError(f"{verb}: task {task.name!r} belongs to another `run`")


@awaitable
def finished(returned: Any) -> Generator[Any, Any, Any]:
    """Run what a function `returned`, if it is a generator or a coroutine; return the result.

    A user may pass a plain function, a generator function or an `async def`: this hides the difference.
    """
    body: Generator[Any, Any, Any] | None = None
    if hasattr(returned, "send"):
        body = returned  # a coroutine as well: run directly, its frame shows in the task's stack
    elif hasattr(returned, "__await__"):
        body = returned.__await__()
    return returned if body is None else (yield from body)
