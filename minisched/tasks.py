"""Spawning, joining and cancelling tasks, and what happens when a task ends.

Theory of operation. The kernel says that a task's body is over (`Family.ended`). The task is then
*ending*: it waits for its children, next for its daemons, which it cancels, and only then is it
done. A failure cancels the children first. A done task tells its parent and its joiners, which may
end the parent in turn: `settle` climbs in a loop, so that a chain of any length can end.

Invariants:
1. Nothing outlives its parent: a task is done only when it has no children left.
2. No failure is lost: it is the parent's, unless `keep=True` and somebody has joined the task.
3. No failure is kept for ever: what was joined, or has ended with its parent, is forgotten.

Not here: groups of tasks (`gather`, `race`); scopes.
"""

from __future__ import annotations

from functools import partial

from .errors import SyscallError, TaskCancelled, brief, find, without_cancelled
from .kernel import DONE, ENDING, Kernel, Service, Syscall, Task
from .scopes import leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from typing import Any, ParamSpec, TypeVar

    Given = ParamSpec("Given")
    Result = TypeVar("Result", covariant=True)

    class Call(Generator[Any, Any, Result], Awaitable[Result]):
        """What a function of ours returns: `yield from` it, `await` it or spawn it."""

    def awaitable(function: Callable[Given, Generator[Any, Any, Result]]) -> Callable[Given, Call[Result]]:
        """Let the generators that `function` makes be awaited, too."""
        ...

else:
    from types import coroutine as awaitable  # noqa: F401 (for other modules)


class Family(Service):
    """Who waits for whose end, and what an end sets in motion.

    `at_end[task](task)` is called when the task is done, its children too; it
    returns whether it has dealt with the failure, which is then nobody else's.
    `quit` is the KeyboardInterrupt or SystemExit that a task raised: it ends the run.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.joiners: dict[Task, dict[Task, None]] = {}  # by the task they wait for
        self.joining_all: dict[Task, None] = {}
        self.at_end: dict[Task, Callable[[Task], bool]] = {}
        self.quit: BaseException | None = None

    def tasks(self) -> Iterable[Task]:
        """Return the tasks parked in Join and JoinAll."""
        yield from self.joining_all
        for joiners in self.joiners.values():
            yield from joiners

    def ended(self, task: Task, error: BaseException | None) -> None:
        """Take note of the end of a body; `error` is what it raised, None if it returned."""
        while task.scope is not task:  # a scope that was entered without `with`
            error = leave(task.scope, error)
        quits = error and find(error, KeyboardInterrupt, SystemExit)
        if quits is not None:
            self.interrupt(quits, task)
            if quits is error:  # else it is in a group, with others that must not be lost
                error, task.cancelled = None, True
        if error is not None:
            task.failure = self._own_failure(task, error)
        if task.children and (task.cancelled or task.failure is not None):
            self.kernel.cancel(task, f"its parent {task.name!r} did not return", task)
        self.settle(task)

    def interrupt(self, error: BaseException, by: Task | None) -> None:
        """Cancel main for a KeyboardInterrupt or SystemExit, which `run` then raises."""
        if self.quit is None:
            self.quit = error
        elif self.quit is not error:
            self.quit.add_note(f"{'nobody' if by is None else f'task {by.name!r}'} raised {error!r}, too")
        for main in list(self.kernel.root.children or ()):
            self.kernel.cancel(main, type(error).__name__, by)

    def _own_failure(self, task: Task, error: BaseException) -> BaseException | None:
        """Return what of a body's `error` is a failure; Cancelled is none, if the task was cancelled."""
        rest = without_cancelled(error)
        if rest is error:
            return error
        error.__traceback__ = None  # of no use to anybody: most of the cost of ending many tasks at once
        if task.cause is None:
            stray = SyscallError(f"task {task.name!r} raised a Cancelled that no scope had sent it")
            stray.__cause__ = error
            return stray
        task.cancelled = True
        return rest

    def settle(self, task: Task) -> None:
        """Retire a task that waits for nobody any more; and its parent, if that was all it waited for; and so on."""
        while task.place == ENDING and task.live == 0:
            if task.children:  # daemons: they are told, and the last of them comes back here
                self.kernel.cancel(task, f"its parent {task.name!r} has ended", task)
                return
            self._finish(task)
            parent = task.spawner
            if parent is None:
                return
            if parent.live == 0 and parent in self.joining_all:
                del self.joining_all[parent]
                self.kernel.resume(parent)
            task = parent

    def _finish(self, task: Task) -> None:
        """Take a task out of the tree that waits for nobody; tell its parent, then its joiners."""
        if task.failed:
            task.failure = self._group(task, list(task.failed))
            task.failed = None
        self._retire(task)
        dealt_with = task in self.at_end and self.at_end.pop(task)(task)
        if task.failure is not None:
            task.trace = task.failure.__traceback__
            if not dealt_with and not (task.keep and task in self.joiners):
                self._tell_parent(task, task.failure)
        for joiner in self.joiners.pop(task, ()):  # looked up now: the cancellation took some away
            error = failure(task)
            if error is not None:
                self.kernel.throw(joiner, error)
            else:
                self.kernel.resume(joiner, task.result)

    def _tell_parent(self, task: Task, error: BaseException) -> None:
        parent = task.spawner
        if parent is not None:
            parent.failed = parent.failed or {}
            parent.failed[task] = None
            if not task.keep:
                self.kernel.cancel(parent, f"its child {task.name!r} failed: {brief(error)}", task)

    def _group(self, task: Task, failed: list[Task]) -> BaseException:
        """Return a task's own failure and its children's as one group, in this order."""
        errors = [child.failure for child in failed if child.failure is not None and child.failure is not task.failure]
        if task.failure is None:
            return BaseExceptionGroup(f"children of task {task.name!r} failed", errors)
        return BaseExceptionGroup(f"task {task.name!r} failed, and children of it", [task.failure, *errors])

    def _retire(self, task: Task) -> None:
        assert task.parent is not None and not task.children
        del task.parent.children[task]
        if task.spawner is not None and not task.daemon:
            task.spawner.live -= 1
        task.place = DONE
        task.cancelled = task.cancelled and task.failure is None
        if self.kernel.watch is not None:
            self.kernel.watch.exit(task)
        del task.task, task.scope, task.gen, task.context  # leaves no cycle to the collector

    def close(self) -> None:
        """Call the `at_end` of what never ended: the run was broken off."""
        while self.at_end:
            task, at_end = self.at_end.popitem()
            _ = at_end(task)

    def forget(self, task: Task, joiner: Task) -> None:
        """Undo a Join."""
        joiners = self.joiners[task]
        del joiners[joiner]
        if not joiners:
            del self.joiners[task]


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
        *,
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


class Join(Syscall["Any"]):
    """Wait until a task and its children have ended; return its result.

    Raises what the task raised, itself, as often as it is joined; TaskCancelled
    if it was cancelled. Cancelled while parked: it waits no more, and the other
    task goes on.
    """

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task

    def handle(self, kernel: Kernel, task: Task) -> Any:
        joined = own_task(kernel, self.task, "Join")
        if joined.place == DONE:
            if joined.keep and joined.spawner is not None and joined.spawner.failed:
                joined.spawner.failed.pop(joined, None)  # its failure is stated here, so no longer there
            error = failure(joined)
            if error is not None:
                raise error
            return joined.result
        ancestor: Task | None = task
        while ancestor is not None:
            if ancestor is joined:
                who = "itself" if joined is task else f"{joined.name!r}, which waits for its end"
                raise SyscallError(f"task {task.name!r} joined {who}: that would wait for ever")
            ancestor = ancestor.spawner
        family = kernel.service(Family)
        family.joiners.setdefault(joined, {})[task] = None
        kernel.park(task, partial(family.forget, joined, task))
        return None

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
        kernel.cancel(own_task(kernel, self.task, "Cancel"), self.reason, task)

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


def ended(task: Task, error: BaseException | None) -> None:
    """Be the kernel's hook for the end of a body."""
    task.kernel.service(Family).ended(task, error)


def failure(task: Task) -> BaseException | None:
    """Return what is raised to who asks for the result of a task that is done; None if it has one."""
    if task.failure is not None:
        return task.failure.with_traceback(task.trace)
    if task.cancelled:
        return TaskCancelled(task, task.cause[0] if task.cause is not None else None)
    return None


def own_task(kernel: Kernel, task: object, verb: str) -> Task:
    """Return `task` if it is one of this kernel's."""
    if not isinstance(task, Task):
        raise SyscallError(f"{verb} takes a task, which is what `yield Spawn(...)` returns, not {task!r}")
    if task.kernel is not kernel:
        raise SyscallError(f"{verb}: task {task.name!r} belongs to another `run`")
    return task
