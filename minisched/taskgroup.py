"""TaskGroup: children that a block waits for, and that end it when they fail.

Theory of operation. A group is a scope that its owner is in, and children that hang under it. The
owner's block ends when all children have ended. An end that ends the group, such as a failure,
cancels the scope: the owner, if it waits, is told by a Cancelled which the scope takes. It then
waits for the rest, and that can't be given up, since nothing outlives its parent; it takes as long
as their cleanup. What became of the children is then put together, as each kind of group has it.

Invariants:
1. When a group's block is left, its children have ended, their children too.
2. No failure is lost: it is raised, or in the group or a note of what is. Those of a block that is
   closed are its task's.
3. What is kept of a child that has ended is what will be returned or raised, and no more.

Not here: a task's own children, whose failure is its failure (`family`); the kinds (`groups`).
"""

from __future__ import annotations

from .errors import Cancelled, SyscallError, brief, without_cancelled
from .family import Family, failure
from .kernel import Kernel, Syscall, Task
from .scopes import CancelBlock, CancelScope, adopt
from .tasks import awaitable
from .waiting import Primitive, task_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable
    from types import TracebackType
    from typing import Any, Self

    Body = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]

EVERY, NEXT = "every", "next"  # what ends an owner's wait: no child is left, or one has ended


class TaskGroup(Primitive):
    """Children that a block waits for: `async with TaskGroup() as group:`; in a generator, `group(body)`.

    A child that fails cancels the others and the block. The block raises an
    ExceptionGroup of its own error, if any, and the children's, in the order of
    their ends. `cancel` ends it quietly.
    """

    __slots__ = ("alive", "cut_short", "failed", "scope")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.alive: dict[Task, None] = {}
        self.failed: list[Task] = []
        self.cut_short = False  # a child was cancelled
        self.scope: CancelBlock | None = None

    def spawn(self, body: Body, name: str | None = None) -> SpawnIn:
        """Start a task in the group, and answer it. Any task may, until the block is left. Not a checkpoint."""
        return SpawnIn(self, body, name)

    def cancel(self, reason: str | None = None) -> None:
        """Cancel the children and the block, which then ends without an error. A plain call."""
        self.entered().cancel(reason)

    def entered(self) -> CancelBlock:
        """Return the scope; SyscallError before and after the block."""
        if self.scope is None:
            raise SyscallError(f"{self!r} is not in use yet: `async with` it (a generator: `group(body)`, `for_each`)")
        if self.scope.parent is None:
            raise SyscallError(f"{self!r} is not in use any more: its block has been left")
        return self.scope

    @awaitable
    def begin(self) -> Generator[Any, Any, None]:
        """Enter the block."""
        scope: CancelBlock = yield CancelScope()
        if self.scope is not None:
            raise SyscallError(f"{self!r} has had its block: make another")
        self.join_run(scope.asked_by.kernel)
        self.scope = scope.__enter__()

    @awaitable
    def end(self, error: BaseException | None) -> Generator[Any, Any, BaseException | None]:
        """Leave the block, which raised `error`, once all children have ended; return what is to be raised."""
        scope = self.entered()
        owner = scope.asked_by
        if not isinstance(error, GeneratorExit):
            if error is not None:
                owner.kernel.cancel(scope, f"the block of {self!r} raised {brief(error)}", owner)
            try:
                error = self.verdict((yield from self.all_ended(error)))
            except GeneratorExit as closing:
                error = closing
        if isinstance(error, GeneratorExit):  # it is being closed, and can't wait
            self.hand_over(owner)
        try:
            taken = scope.__exit__(None, error, None)
        except SyscallError as broken:  # a scope in the block was not left
            raise broken from error
        return None if taken else error

    @awaitable
    def all_ended(self, error: BaseException | None) -> Generator[Any, Any, BaseException | None]:
        """Wait until all children have ended; return the error of the block.

        A cancellation that comes meanwhile, and after which all of them return,
        has cut nothing short: it waits for the next checkpoint, as it does where
        a result is on its way.
        """
        told: Cancelled | None = None
        waits = error is None and (bool(self.alive) or self.cut_short)  # it is to see what cut them short
        while waits:
            try:
                yield AllEnded(self)
                waits = bool(self.alive)
            except Cancelled as cancelled:
                told, waits = cancelled, False
        while self.alive:  # again, if somebody has spawned another before this task's turn
            yield CancelledEnded(self)
        return told if told is not None and self.cut_short else error

    def hand_over(self, owner: Task) -> None:
        """Let the failures be the owner's, as those of its other children are."""
        for child in self.failures():
            if child.failure is not None:
                owner.kernel.service(Family).failed.setdefault(owner, {})[child] = None

    def started(self, child: Task) -> None:
        """Take note of a new child."""
        self.alive[child] = None
        adopt(self.entered(), child)
        child.kernel.service(Family).at_end[child] = self.ended

    def ended(self, child: Task) -> bool:
        """Take note of the end of a child; cancel the others, or wake the owner, if that follows from it."""
        del self.alive[child]
        self.cut_short = self.cut_short or child.cancelled
        scope, kernel = self.scope, child.kernel
        if scope is None or scope.parent is None:
            return False  # the owner was closed and has left: the failure is its failure
        if (scope.cause is None or not child.cancelled) and self.note(child):
            kernel.cancel(scope, f"task {child.name!r} of its group {outcome(child)}", child)
        if self.waiters and (not self.alive or next(iter(self.waiters.values())) is NEXT):
            kernel.resume(task_of(self.waiters.popitem()[0]))
        return True

    def note(self, child: Task) -> bool:
        """Take note of how a child has ended (not: cancelled with the others); return whether that ends the group."""
        if child.failure is None:
            return False
        self.failed.append(child)
        return True

    def failures(self) -> list[Task]:
        """Return the children whose failures are to be raised."""
        return self.failed

    def verdict(self, error: BaseException | None) -> BaseException | None:
        """Return what the block raises; `error` is what was raised in it."""
        own = None if error is None else without_cancelled(error)
        errors = [] if own is None else [own]
        errors += [child.failure for child in self.failures() if child.failure is not None and child.failure is not own]
        return BaseExceptionGroup(f"failures in {self!r}", errors) if errors else error

    def state(self) -> str:
        return f"{len(self.alive)} tasks alive"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        rest = await self.end(error)
        if rest is None or rest is error:
            return rest is not error
        context = rest.__context__
        try:
            raise rest
        finally:
            # Its own, and not what the block is being left with; the class may be a frozen dataclass.
            object.__setattr__(rest, "__context__", context)


class SpawnIn(Syscall[Task]):
    """Start a task in a group: `group.spawn(body)`."""

    __slots__ = ("body", "group", "name")
    checkpoint = False

    def __init__(self, group: TaskGroup, body: Body, name: str | None) -> None:
        self.group = group
        self.body = body
        self.name = name

    def handle(self, kernel: Kernel, task: Task) -> Task:
        owner = self.group.entered().asked_by
        _ = self.group.here("spawn")
        child = owner.kernel.spawn(self.body, self.name, owner, keep=True)
        self.group.started(child)
        return child

    def __repr__(self) -> str:
        return f"SpawnIn({self.group!r}, {self.name or getattr(self.body, '__name__', self.body)})"


class AllEnded(Syscall[None]):
    """Wait until all of a group's children have ended."""

    __slots__ = ("group",)

    def __init__(self, group: TaskGroup) -> None:
        self.group = group

    def handle(self, kernel: Kernel, task: Task) -> None:
        if self.group.alive:
            kernel.park(task, self.group.enlist(task))

    def blockers(self) -> Iterable[Task]:
        """Return who is waited for, for the report of a deadlock."""
        return list(self.group.alive)


class CancelledEnded(AllEnded):
    """Wait until the children, which are cancelled, have ended: that can't be given up."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        _ = self.group.enlist(task)
        kernel.park(task, None)


def outcome(child: Task) -> str:
    """Say how a child has ended."""
    error = failure(child)
    return "returned" if error is None else "was cancelled" if child.failure is None else f"failed: {brief(error)}"
