"""TaskGroup and group: child tasks that a block waits for, and that end the block when they fail.

Theory of operation. This is structured concurrency as trio's nursery has it. A group has a scope, which its owner has
entered, and children, which are inside the scope. The owner leaves the block when all children have ended.

    block        --------------------------------> error or None
    children     ----------> failure   <- the scope is cancelled: the block and the other children get Cancelled
                 ---------------------> Cancelled
    `end`                               --> waits for the rest, swallows the Cancelled, raises the failures

`child_ended` runs at the end of each child. `record_outcome` decides whether this end ends the group, and if so the
scope is cancelled. The owner then waits for the remaining children. This last wait cannot be cancelled, because no
task outlives its parent; it takes as long as the cleanup of the children. `error_to_raise` finally builds the
exception that the block raises. The kinds of group in `gather` and `supervision` override these two methods.

Invariants:
1. When the block of a group has been left, its children and their descendants have ended, unless it was closed where
   it cannot wait.
2. No failure is lost: the block raises it, alone, in a group, or in a note. When the block is closed and cannot wait,
   it cancels the children, and their failures go to the owner task, like those of its other children.
3. Of an ended child, a group keeps only the result or failure that it will return or raise.

Not here: a task's own children, which need no block, and why they have an engine of their own (`kernel/lifecycle.py`);
`gather`, `race` and `as_completed` (`gather`); restarts (`supervision`).
"""

from __future__ import annotations

from ..errors import Cancelled, SyscallError
from ..kernel import Syscall, Task
from ..kernel.generic import Answer
from ..kernel.lifecycle import Lifecycle, can_wait, failure
from ..kernel.primitive import Primitive
from ..kernel.scoping import adopt
from ..kernel.tracebacks import group_of, one_line, set_context, without_cancelled
from ..kernel.waiting import task_of
from .scopes import CancelScope
from .starting import Start, StartTask
from .tasks import awaitable, finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType
    from typing import Any, Self

    from ..kernel import Kernel
    from .scopes import CancelContext
    from .tasks import Body

# Stored with an owner that wakes at the next end of a child; any other owner wakes at the last end.
AT_NEXT_END = "at the next end"


class TaskGroup(Primitive):
    """Child tasks that a block waits for: `async with TaskGroup() as group:`.

    The block is left when all children have ended. If a child fails, the other children and the block are cancelled,
    and the `async with` raises an ExceptionGroup: first the block's own error, if any, then the failures of the
    children, in the order in which they ended. A cancellation of the owner cancels the block and the children, and is
    raised when they have ended. Generators have no `async with`: there, use `group`.

    Args:
        name: for reports; by default the number of the group in the run.

    Example:
        >>> from minisched import Sleep, TaskGroup
        >>> from minisched.testing import run
        >>> async def worker(name, seconds):
        ...     await Sleep(seconds)
        ...     print(name, "is ready")
        >>> async def main():
        ...     async with TaskGroup() as group:
        ...         await group.spawn(worker("slow", 2))
        ...         await group.spawn(worker("quick", 1))
        ...     print("both have ended")
        >>> run(main())
        quick is ready
        slow is ready
        both have ended
    """

    __slots__ = ("alive", "cut_short", "failed", "scope")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.alive: dict[Task, Start | None] = {}  # a child, and the start that it has not answered yet
        self.failed: list[Task] = []
        self.cut_short = False  # True once a child has ended by a cancellation
        self.scope: CancelContext | None = None

    def spawn(self, body: Body[Answer], name: str | None = None) -> SpawnIn[Answer]:
        """Return a call that starts a task in the group: `task = yield group.spawn(body)`.

        Any task of the run may spawn in the group, until the block is left. The new task is a child of the owner, and
        is cancelled with the group. The call is not a checkpoint.

        Args:
            body: a fresh generator or coroutine.
            name: for reports and traces; by default the name of the function.

        Raises:
            SyscallError: before the block is entered and after it was left, at the `yield`.
        """
        return SpawnIn(self, body, name)

    @awaitable
    def start(self, function: Callable[..., Body], *args: Any, name: str | None = None) -> Generator[Any, Any, Any]:
        """Start a task in the group, and wait until it says that it has started; return the value that it passes.

        Calls `function(started, *args)`. The task, or code that it calls, calls `started(value)`; as a callback, too,
        such as the `ready` of `serve`. Until then, the task belongs to the caller: a failure is raised here, and does
        not end the group; a cancellation of the caller cancels the task, and is raised when it has ended. Afterwards
        it is a child of the group, as if it had been spawned. Call it by `yield from`, or `await` it.

        Args:
            function: a generator function or an `async def`, whose first argument is `started`, a plain call.
            args: its other arguments.
            name: for reports and traces; by default the name of the function.

        Returns:
            The value that was passed to `started`; None without one.

        Raises:
            BaseException: the failure of the task before it has started.
            TaskCancelled: if the task alone, or the group of another task, was cancelled before it has started.
            SyscallError: if the task ends without a call of `started`; before the block is entered and after it was
                left. `started` raises it for a second call.

        Example:
            >>> from minisched import Sleep, group
            >>> from minisched.testing import run
            >>> def server(started, port):
            ...     yield Sleep(2)
            ...     started(f"listening at {port}")
            ...     yield Sleep(60)
            >>> def main():
            ...     def body(team):
            ...         print((yield from team.start(server, 80)))
            ...         team.cancel()
            ...     yield from group(body)
            >>> run(main())
            listening at 80
        """
        check_function(function, "start")
        start = Start(self, function, args, name)
        try:
            return (yield StartTask(start))
        except Cancelled:
            yield from start.cancel_child()
            raise
        except GeneratorExit:  # the caller is being closed, and cannot wait
            start.close()
            raise
        finally:
            del start  # this frame is in the traceback of a failure: leave no cycle

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the children and the block; the block then ends without an error.

        This is a plain call, in the run's thread only: nothing is yielded.

        Args:
            reason: why, for `Cancelled.reason` and its text.

        Raises:
            SyscallError: before the block is entered, after it was left, and in another thread than the run's.
        """
        self.entered().cancel(reason)

    def entered(self) -> CancelContext:
        """Return the scope of the block; raise SyscallError before the block is entered and after it was left."""
        if self.scope is None:
            raise SyscallError(
                f"{self!r} has not been entered yet: write `async with`, or in a generator `group(body)`, `for_each`"
            )
        if self.scope.parent is None:
            raise SyscallError(f"{self!r} has ended: its block was left")
        return self.scope

    @awaitable
    def begin(self) -> Generator[Any, Any, None]:
        """Enter the block, as its owner."""
        scope: CancelContext = yield CancelScope()
        if self.scope is not None:
            raise SyscallError(f"{self!r} was entered before: make another one")
        self.bind(scope.owner.kernel)
        self.scope = scope.__enter__()

    @awaitable
    def end(self, error: BaseException | None) -> Generator[Any, Any, BaseException | None]:
        """Wait for all children, and leave the block, which raised `error`; return the exception to raise, or None.

        Which Cancelled does the block swallow? One that its scope, or a scope outside, had sent when the block raised
        it. Any other one passes, since nothing inside the block can have sent it.

        A GeneratorExit closes the block. The children are cancelled. The block waits for them where it can: in an async
        generator that `aclose` closes. Elsewhere they end as children of the owner task.
        """
        scope = self.entered()
        owner = scope.owner
        passing = error is not None and scope.effective is None and without_cancelled(error) is None
        closing = isinstance(error, GeneratorExit) and not can_wait(owner, error)
        if error is not None:
            self.cancel_rest(f"the block of {self!r} raised {one_line(error)}")
        if not closing:
            try:
                error = yield from self.all_ended(error)
                if isinstance(error, GeneratorExit):  # a request, and no failure
                    error = self.error_to_raise(None) or error
                else:
                    error = self.error_to_raise(error)
            except GeneratorExit as closed:
                error, closing = closed, True
                self.cancel_rest(f"the block of {self!r} was closed")
        if closing:
            self.pass_failures_to(owner)
        passing = passing and error is not None and without_cancelled(error) is None  # no child has failed
        try:
            swallowed = scope.__exit__(None, None if passing else error, None)
        except SyscallError as broken:  # a scope inside the block was not left
            raise broken from error
        finally:
            self.forget()
        return None if swallowed else error

    def cancel_rest(self, reason: str) -> None:
        """Cancel what is left of the group. Without effect between turns, where the owner cannot leave the block."""
        owner = self.entered().owner
        if owner.kernel.current is owner:
            owner.kernel.cancel(self.entered(), reason, owner)

    def forget(self) -> None:
        """Drop the children whose failures the block raises: the program may keep the group."""
        self.failed.clear()

    @awaitable
    def all_ended(self, error: BaseException | None) -> Generator[Any, Any, BaseException | None]:
        """Wait until all children have ended; return the error of the block, which may be a Cancelled from this wait.

        Which cancellations does the block raise? A cancellation that arrives during the wait is delivered here, at
        the checkpoint AllEnded, and the children get it as well, since they are inside the scope. If one of them is cut
        short by it, the Cancelled is raised: the result of the block would be incomplete. If all of them return
        nevertheless, nothing was lost, and the block returns its results; the owner gets the Cancelled at its next
        checkpoint. This is the rule of all syscalls: a result that has happened wins over a cancellation.
        """
        cancellation: Cancelled | None = None
        # A child that was cut short is a reason for one AllEnded, too: it raises the Cancelled that cut it short.
        waits = error is None and (bool(self.alive) or self.cut_short)
        while waits:
            try:
                yield AllEnded(self)
                waits = bool(self.alive)
            except Cancelled as cancelled:
                # This frame holds the Cancelled, and is in its traceback: leave no cycle.
                cancellation, waits = cancelled.with_traceback(None), False
        while self.alive:  # in a loop: another task may spawn in the group before the owner's turn
            yield CancelledEnded(self)
        return cancellation if cancellation is not None and self.cut_short else error

    def pass_failures_to(self, owner: Task) -> None:
        """Make the failures part of the owner's failure, like the failures of its other children."""
        for child in self.failures():
            if child.failure is not None:
                owner.kernel.service(Lifecycle).failed.setdefault(owner, {})[child] = None

    def spawn_child(self, spawner: Task, body: Body, name: str | None) -> Task:
        """Spawn a child for a task, which may be another one than the owner."""
        owner = self.entered().owner
        _ = self.check_caller("spawn")
        child = owner.kernel.spawn(body, name, owner, keep=True)
        if spawner is not owner:
            child.context = spawner.context.copy()  # as for Spawn, the spawner's, and not the parent's
        self.child_started(child)
        return child

    def child_started(self, child: Task) -> None:
        """Register a new child, and move it under the group's scope."""
        self.alive[child] = None
        adopt(self.entered(), child)
        child.kernel.service(Lifecycle).on_done[child] = self.child_ended

    def child_ended(self, child: Task) -> bool:
        """Record the end of a child, as its `on_done`; cancel or wake. Return whether the group takes the failure."""
        start = self.alive.pop(child)
        taken = start is not None and start.child_ended(child)  # `start` raises the failure
        self.cut_short = self.cut_short or child.cancelled_caught
        scope, kernel = self.scope, child.kernel
        if scope is None or scope.parent is None:
            return taken  # the owner was closed and has left the block: the failure goes to the owner task
        ends = not taken and (scope.effective is None or not child.cancelled_caught) and self.record_outcome(child)
        if ends and scope.requested is None:  # of many failures, only the first makes a sentence
            kernel.cancel(scope, f"task {child.name!r} of its group {outcome(child)}", child)
        if self.waiters and (not self.alive or next(iter(self.waiters.values())) is AT_NEXT_END):
            kernel.resume(task_of(self.waiters.popitem()[0]))
        return True

    def record_outcome(self, child: Task) -> bool:
        """Record how a child has ended; return whether its end ends the group.

        The method is not called for a child that was cancelled together with the group.
        """
        if child.failure is None:
            return False
        self.failed.append(child)
        return True

    def failures(self) -> list[Task]:
        """Return the children whose failures the block raises."""
        return self.failed

    def error_to_raise(self, error: BaseException | None) -> BaseException | None:
        """Return the exception that the block raises; `error` is the block's own."""
        own = None if error is None else without_cancelled(error)
        errors = [] if own is None else [own]
        errors += [child.failure for child in self.failures() if child.failure is not None and child.failure is not own]
        return group_of(f"failures in {self!r}", errors) if errors else error

    def state(self) -> str:
        return f"{len(self.alive)} tasks alive"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        raised = context = None
        try:
            raised = await self.end(error)
            if raised is None or raised is error:
                return raised is not error
            context = raised.__context__
            raise raised
        finally:
            if raised is not None and raised is not error:
                set_context(raised, context)  # `raise` has made the block's error the context
            del raised, error, trace, context  # this frame is in the traceback: leave no cycle


class SpawnIn(Syscall[Task[Answer]]):
    """Start a task in a group; `group.spawn(body)` returns this call."""

    __slots__ = ("body", "group", "name")
    checkpoint = False

    def __init__(self, group: TaskGroup, body: Body[Answer], name: str | None) -> None:
        self.group = group
        self.body = body
        self.name = name

    def handle(self, kernel: Kernel, task: Task) -> Task[Answer]:
        return self.group.spawn_child(task, self.body, self.name)

    def __repr__(self) -> str:
        return f"SpawnIn({self.group!r}, {self.name or getattr(self.body, '__name__', self.body)})"


class AllEnded(Syscall[None]):
    """Wait for all children of a group. The end of the last one wakes the task; so does a cancellation."""

    __slots__ = ("group",)

    def __init__(self, group: TaskGroup) -> None:
        self.group = group

    def handle(self, kernel: Kernel, task: Task) -> None:
        if self.group.alive:
            kernel.park(task, self.group.add_waiter(task))

    def blockers(self) -> Iterable[Task]:
        """Return the children that have not ended, for the report of a deadlock."""
        return list(self.group.alive)


class CancelledEnded(AllEnded):
    """Wait for all children of a cancelled group. The end of the last one wakes the task; a cancellation does not."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        _ = self.group.add_waiter(task)
        kernel.park(task, None)


def outcome(child: Task) -> str:
    """Return a phrase that says how a child has ended."""
    error = failure(child)
    return "returned" if error is None else "was cancelled" if child.failure is None else f"failed: {one_line(error)}"


@awaitable
def group(body: Callable[[TaskGroup], Body[Answer]], name: str | None = None) -> Generator[Any, Any, Answer | Any]:
    """Run `body(group)` as the block of a TaskGroup; return its result when all children have ended.

    The body spawns children by `yield group.spawn(...)`. If a child or the body fails, the rest is cancelled, and all
    failures are raised as one ExceptionGroup. After `group.cancel()`, the result of a body that was cut short is None.
    A cancellation from outside cancels the body and the children, and is raised when they have ended; if all of them
    return nevertheless, the result is returned, and the Cancelled is raised at the next checkpoint.

    Args:
        body: a generator function or an `async def` with one parameter, the TaskGroup.
        name: the name of the group, for reports.

    Returns:
        The result of the body.

    Raises:
        BaseExceptionGroup: the failures: an ExceptionGroup if all of them are Exceptions.
        SyscallError: if `body` is not a function; most often it was called already.

    Example:
        >>> from minisched import Sleep, group
        >>> from minisched.testing import run
        >>> def worker(name, seconds):
        ...     yield Sleep(seconds)
        ...     print(name, "is ready")
        >>> def main():
        ...     def body(group):
        ...         yield group.spawn(worker("slow", 2))
        ...         yield group.spawn(worker("quick", 1))
        ...         return "spawned"
        ...     return (yield from group(body))
        >>> run(main())
        quick is ready
        slow is ready
        'spawned'
    """
    check_function(body, "group")
    children, result, error = TaskGroup(name), None, None
    yield from children.begin()
    try:
        result = yield from finished(body(children))
    except BaseException as raised:
        error = raised
    try:
        error = yield from children.end(error)
        if error is not None:
            raise error
    finally:
        del error  # this frame is in the traceback: leave no cycle
    return result


def check_function(function: object, caller: str) -> None:
    """Raise SyscallError for anything that cannot be called; most often, the user has called the function already."""
    if not callable(function):
        raise SyscallError(f"{caller} takes a function, which it calls itself, not {function!r}")
