"""Spawning, joining and cancelling tasks.

Not here: what the end of a task sets in motion (`family`); groups of tasks (`groups`); scopes.
"""

from __future__ import annotations

from functools import partial

from .errors import SyscallError
from .family import Family
from .kernel import DONE, Kernel, Syscall, Task
from .waiting import NOT_YET, Selectable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from typing import Any, ParamSpec, TypeVar

    from .waiting import Waiter

    Given = ParamSpec("Given")
    Result = TypeVar("Result", covariant=True)

    class Call(Generator[Any, Any, Result], Awaitable[Result]):
        """What a function of ours returns: `yield from` it, `await` it or spawn it."""

    def awaitable(function: Callable[Given, Generator[Any, Any, Result]]) -> Callable[Given, Call[Result]]:
        """Let the generators that `function` makes be awaited, too."""
        ...

else:
    from types import coroutine as awaitable


class Spawn(Syscall[Task]):
    """Start a task beside this one; it runs before this one goes on.

    Its failure is this task's failure, which is cancelled; with `keep=True` it
    waits for a Join instead. A `daemon` is cancelled when this task has nothing
    else to wait for. Not a checkpoint.
    """

    __slots__ = ("gen", "name", "keep", "daemon")
    checkpoint = False

    def __init__(
        self,
        gen: Generator[Any, Any, Any] | Coroutine[Any, Any, Any],
        name: str | None = None,
        keep: bool = False,
        daemon: bool = False,
    ) -> None:
        self.gen = gen
        self.name = name
        self.keep = keep
        self.daemon = daemon

    def handle(self, kernel: Kernel, task: Task) -> Task:
        return kernel.spawn(self.gen, self.name, task, self.keep, self.daemon)

    def __repr__(self) -> str:
        return f"Spawn({self.name or getattr(self.gen, '__name__', self.gen)})"


class Join(Selectable["Any"]):
    """Wait until a task and its children have ended; return its result.

    Raises what the task raised, itself, as often as it is joined; TaskCancelled
    if it was cancelled. Cancelled while parked: it waits no more, and the other
    task goes on.
    """

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task

    def handle(self, kernel: Kernel, task: Task) -> Any:
        joined = self.task  # most often it has returned: at once, since two calls more are a tenth of a spawn and join
        if type(joined) is Task and joined.place is DONE and not joined.cancelled and joined.failure is None:
            return joined.value if joined.kernel is kernel else super().handle(kernel, task)
        return super().handle(kernel, task)

    def attempt(self, kernel: Kernel, task: Task) -> Any:
        joined = self.task
        if not isinstance(joined, Task) or joined.kernel is not kernel:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_ours(joined, "Join")
        if joined.place is not DONE:
            self._check(task)
            return NOT_YET
        if joined.failure is not None or joined.cancelled:
            raise kernel.service(Family).stated(joined)
        return joined.value

    def _check(self, task: Task) -> None:
        """Raise SyscallError if `task` would wait for itself, or for one that waits for its end."""
        ancestor: Task | None = task
        while ancestor is not None:
            if ancestor is self.task:
                who = "itself" if ancestor is task else f"{ancestor.name!r}, which waits for its end"
                raise SyscallError(f"task {task.name!r} joined {who}: that would wait for ever")
            ancestor = ancestor.spawner

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return kernel.service(Family).join(self.task, waiter)

    def blockers(self) -> Iterable[Task]:
        """Return who is waited for, for the report of a deadlock."""
        return (self.task,)

    def __repr__(self) -> str:
        return f"Join({self.task.name})"


class JoinAll(Syscall[None]):
    """Wait until this task's children have ended (daemons aside), in the middle of its body."""

    __slots__ = ()

    def handle(self, kernel: Kernel, task: Task) -> None:
        if task.live:
            joining = kernel.service(Family).joining_all
            joining[task] = None
            kernel.park(task, partial(joining.pop, task))


class Cancel(Syscall[None]):
    """Cancel a task and all below it: each gets Cancelled at its checkpoint. Returns at once.

    To wait for its end, join it. A task that is done is left alone. Not a checkpoint.
    """

    __slots__ = ("task", "reason")
    checkpoint = False

    def __init__(self, task: Task, reason: str | None = None) -> None:
        self.task = task
        self.reason = reason

    def handle(self, kernel: Kernel, task: Task) -> None:
        cancelled = self.task
        if not isinstance(cancelled, Task) or cancelled.kernel is not kernel:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_ours(cancelled, "Cancel")
        kernel.cancel(cancelled, self.reason, task)

    def __repr__(self) -> str:
        return f"Cancel({self.task.name})"


class CurrentTask(Syscall[Task]):
    """Return the task that asks. Not a checkpoint."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> Task:
        return task


class Pause(Syscall[None]):
    """Let the others run; a bare `yield` is the same."""

    __slots__ = ()

    def handle(self, kernel: Kernel, task: Task) -> None:
        return None


def not_ours(task: object, verb: str) -> SyscallError:
    """Return the error for what is no task, or one of another kernel's."""
    if not isinstance(task, Task):
        return SyscallError(f"{verb} takes a task, which is what `yield Spawn(...)` returns, not {task!r}")
    return SyscallError(f"{verb}: task {task.name!r} belongs to another `run`")


@awaitable
def finished(done: Any) -> Generator[Any, Any, Any]:
    """Run what a function returned to its end, if that is a generator or a coroutine; return the result."""
    body: Generator[Any, Any, Any] | None = None
    if hasattr(done, "send"):
        body = done  # a coroutine, too: so it is seen where a task's stack is shown
    elif hasattr(done, "__await__"):
        body = done.__await__()
    return done if body is None else (yield from body)
