"""gather, race and as_completed: a fixed set of tasks at once.

Theory of operation. Each function runs its own subclass of TaskGroup. The subclass decides which end of a child ends
the group (`record_outcome`), and which exception is raised (`error_to_raise`):

| function | class | ends at | raises |
|---|---|---|---|
| `gather` | FailFast | the first failure | the first failure itself, with a note of each later one |
| `gather(return_exceptions=True)` | CollectAll | the last end | nothing |
| `race` | Race | the first end | the failure of the first, or a later failure |
| `as_completed` | Completions | the first failure | like `gather`; results are delivered before |

Decision: a failure is raised itself, not in an ExceptionGroup, and later failures become notes of it.
Because: the caller of a function like `gather` handles the error of its children by `except ValueError`, as if it had
called them one after the other; and no failure may be lost. After MAX_NOTES, a last note has the number of the others.
Rejected: an ExceptionGroup, which is what `group` and `TaskGroup` raise, where the children differ.

Invariants:
1. A member that was cancelled alone, and not with the group, counts as failed with TaskCancelled.
2. Members are spawned before the function waits, in the order of the arguments.

Not here: how a group waits and is cancelled (`taskgroup`); restarts (`supervision`).
"""

from __future__ import annotations

from collections import deque
from itertools import count, islice

from ..errors import Cancelled, SyscallError
from ..kernel.generic import Answer, Answering
from ..kernel.lifecycle import failure
from ..kernel.misuse import check_body
from ..kernel.tracebacks import one_line, without_cancelled
from .positions import completing, gathering, racing
from .taskgroup import AT_NEXT_END, AllEnded, TaskGroup, check_function, outcome
from .tasks import awaitable, finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any, Self

    from ..kernel import Kernel, Task
    from .tasks import Body


MAX_NOTES = 100  # on one error, and lines in one note: as many as a person reads
numbers = count(1)  # of the groups, in the order in which they were made


class NextEnded(AllEnded):
    """Wait until the group has an end to report to its owner (`next_end`). The next end of a child wakes the task."""

    __slots__ = ()
    group: FailFast

    def handle(self, kernel: Kernel, task: Task) -> None:
        owner = self.group.entered().owner
        if task is not owner:
            raise SyscallError(
                f"only task {owner.name!r} receives the results of {self.group!r}, and task {task.name!r} asked for one"
            )
        if not self.group.ends:
            kernel.park(task, self.group.add_waiter(task, AT_NEXT_END))


class FailFast(TaskGroup):
    """A group of a fixed set of members that raises its first failure itself, with a note of each later one."""

    __slots__ = ("ends", "members", "number")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.number = next(numbers)
        self.members: list[Task] = []
        self.ends: deque[Task] = deque()  # ended members to report to the owner; filled by the subclasses that report

    @awaitable
    def begin_with(self, bodies: tuple[Body, ...]) -> Generator[Any, Any, None]:
        """Enter the block and spawn the members."""
        for body in bodies:
            check_body(body)
        yield from self.begin()
        try:
            for body in bodies:
                self.members.append((yield self.spawn(body)))
        except BaseException as raised:  # the same body was passed twice, and is running by now
            yield from self.end(raised)
            raise

    @awaitable
    def next_end(self) -> Generator[Any, Any, Task | None]:
        """Wait for the next member to report; return it, or None when no member is left."""
        while self.alive or self.ends:
            yield NextEnded(self)
            if self.ends:
                return self.ends.popleft()
        return None

    def forget(self) -> None:
        super().forget()
        self.ends.clear()

    def record_outcome(self, child: Task) -> bool:
        if failure(child) is None:
            return False
        self.failed.append(child)
        return True

    def error_to_raise(self, error: BaseException | None) -> BaseException | None:
        first = None if error is None else without_cancelled(error)
        later: list[Task] = []
        for child in self.failures():
            if first is None:
                first = failure(child)
            elif failure(child) is not first:
                later.append(child)
        if first is not None:
            self.add_notes(first, later)
        return error if first is None else first

    def add_notes(self, first: BaseException, later: list[Task]) -> None:
        """Replace the notes of older groups on `first` by one for each later failure, up to MAX_NOTES.

        Decision: notes that another group has added before this group began are removed. Because: a program may raise
        one and the same exception again and again, as a cache does, and each time its notes would grow. Rejected: to
        leave out notes with the same text, since their numbers and names differ.
        """
        old = getattr(first, "__notes__", ())
        kept = [note for note in old if not isinstance(note, Note) or note.group >= self.number]
        more = sum(note.failures for note in kept if isinstance(note, More))
        kept = [note for note in kept if not isinstance(note, More)]
        room = max(MAX_NOTES - sum(isinstance(note, Note) for note in kept), 0)
        notes = [Note(self.note(child), self.number) for child in later[:room]]
        if more or len(later) > room:
            notes.append(More(more + max(len(later) - room, 0), self.number))
        if notes or len(kept) < len(old):  # `add_note` fails if the class is a frozen dataclass
            object.__setattr__(first, "__notes__", [*kept, *notes])

    def note(self, child: Task) -> str:
        """Return the note on a later failure."""
        error = failure(child)
        assert error is not None  # a child that returned is not among the `failures`
        text = f"task {child.name!r} of the same {self.name} {outcome(child)}"
        return "\n  ".join([text, *islice(details(error), MAX_NOTES)])


class Note(str):
    """A note on a later failure, with the number of the group that has added it."""

    __slots__ = ("group",)
    group: int

    def __new__(cls, text: str, group: int = 0) -> Self:  # without a number when it is copied or unpickled
        note = super().__new__(cls, text)
        note.group = group
        return note


class More(Note):
    """The last note, in place of those that are too many."""

    __slots__ = ("failures",)
    failures: int

    def __new__(cls, failures: int, group: int = 0) -> Self:
        note = super().__new__(cls, f"and {failures:,} more tasks failed", group)
        note.failures = failures
        return note

    def __reduce__(self) -> tuple[type[More], tuple[int, int]]:
        return More, (self.failures, self.group)


class CollectAll(FailFast):
    """The group of `gather(return_exceptions=True)`: no failure ends it."""

    __slots__ = ()

    def record_outcome(self, child: Task) -> bool:
        return False


class Race(FailFast):
    """The group of `race`: the first end ends it."""

    __slots__ = ("winner",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.winner: Task | None = None

    def record_outcome(self, child: Task) -> bool:
        if self.winner is None and failure(child) is None:
            self.winner = child
        return super().record_outcome(child) or child is self.winner


class Completions(FailFast, Answering[Answer]):
    """The group of `as_completed`, which delivers the results in the order in which the tasks end.

    Only the task that entered the block receives results.
    """

    __slots__ = ("bodies",)

    def __init__(self, bodies: tuple[Body[Answer], ...]) -> None:
        super().__init__("as_completed")
        self.bodies = bodies

    def forget(self) -> None:
        super().forget()
        self.members.clear()  # of a `start` that failed

    def record_outcome(self, child: Task) -> bool:
        if super().record_outcome(child):
            return True
        self.ends.append(child)
        return False

    @awaitable
    def for_each(self, work: Callable[[Answer], object]) -> Generator[Any, Any, None]:
        """Call `work(result)` for each result, in the order in which the tasks end.

        If `work` fails, the remaining tasks are cancelled, and its error is raised when they have ended.

        Args:
            work: a function, a generator function or an `async def`.
        """
        check_function(work, "for_each")
        yield from self.begin_with(self.bodies)
        self.members.clear()  # each result is delivered, and dropped
        error = child = None
        try:
            while (child := (yield from self.next_end())) is not None:
                yield from finished(work(child.result))
                child = None  # drop the result before the next wait
        except BaseException as raised:
            error = raised
        try:
            error = yield from self.end(error)
            if error is not None:
                raise error
        finally:
            del error, child  # this frame is in the traceback: leave no cycle

    async def __aenter__(self) -> Self:
        await self.begin_with(self.bodies)
        self.members.clear()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        _ = self.entered()
        child = await self.next_end()
        if child is None:
            raise StopAsyncIteration
        return child.result


@gathering
def gather(*bodies: Body, return_exceptions: bool = False) -> Generator[Any, Any, list[Any]]:
    """Run generators or coroutines at once; return the list of their results.

    The first failure cancels the other tasks, and is raised itself, once they have ended; later failures become notes
    of it, at most a hundred. A task that was cancelled alone counts as failed with TaskCancelled. A cancellation of the
    caller cancels all tasks, and is raised when they have ended. If all of them return nevertheless, the results are
    returned, and the Cancelled is raised at the next checkpoint.

    Unlike asyncio's `gather`, this one leaves no task running when it raises, takes generators and coroutines but no
    futures, and returns nothing before all tasks have ended.

    Args:
        bodies: fresh generators or coroutines.
        return_exceptions: no failure cancels the other tasks; the exceptions are returned in the places of the results.

    Returns:
        The results, in the order of the arguments.

    Raises:
        BaseException: the first failure.
        SyscallError: for an argument that cannot become a task.

    Example:
        >>> from minisched import Sleep, gather
        >>> from minisched.testing import run
        >>> def double(number):
        ...     yield Sleep(1 / number)
        ...     return 2 * number
        >>> def main():
        ...     return (yield from gather(double(1), double(2), double(3)))
        >>> run(main())
        [2, 4, 6]
    """
    group = CollectAll("gather") if return_exceptions else FailFast("gather")
    yield from group.begin_with(bodies)
    error = yield from group.end(None)
    if error is not None:
        try:
            raise error
        finally:
            del error, group  # this frame is in the traceback, and the group has the task that failed: leave no cycle
    return [child.result if failure(child) is None else failure(child) for child in group.members]


@racing
def race(*bodies: Body) -> Generator[Any, Any, Any]:
    """Run generators or coroutines at once; return the result of the first to end.

    The other tasks are then cancelled, and the race waits until they have ended. If the first to end has failed, or
    another one fails while it is cancelled, that failure is raised itself. The results of the other tasks are dropped;
    if exactly one of several calls may happen, use `select`. A cancellation of the caller cancels all tasks.

    Args:
        bodies: fresh generators or coroutines, at least one.

    Returns:
        The result of the winner.

    Raises:
        BaseException: the first failure.
        SyscallError: without arguments, or for an argument that cannot become a task.

    Example:
        >>> from minisched import Now, Sleep, race
        >>> from minisched.testing import run
        >>> def answer(seconds, text):
        ...     yield Sleep(seconds)
        ...     return text
        >>> def main():
        ...     winner = yield from race(answer(2, "slow"), answer(1, "quick"))
        ...     return winner, (yield Now())
        >>> run(main())
        ('quick', 1.0)
    """
    if not bodies:
        raise SyscallError("a race needs at least one task: without any, it would never end")
    group = Race("race")
    yield from group.begin_with(bodies)
    error = yield from group.end(None)
    if group.winner is not None and (error is None or isinstance(error, Cancelled)):
        return group.winner.result  # the race was won before the cancellation: a result that has happened wins
    assert error is not None
    try:
        raise error
    finally:
        del error, group  # as in `gather`


@completing
def as_completed(*bodies: Body) -> Completions:
    """Run generators or coroutines at once; deliver their results in the order in which they end.

    In a generator, write `yield from as_completed(...).for_each(work)`. In an `async def`, write
    `async with as_completed(...) as results:` and `async for result in results:`. The first failure cancels the other
    tasks and the block, which raises that failure itself. Leaving the block early cancels no task: the block waits for
    the remaining ones. A cancellation of the caller cancels all tasks.

    Args:
        bodies: fresh generators or coroutines.

    Raises:
        SyscallError: for an argument that cannot become a task, when the block is entered.

    Example:
        >>> from minisched import Sleep, as_completed
        >>> from minisched.testing import run
        >>> def sleeper(seconds):
        ...     yield Sleep(seconds)
        ...     return seconds
        >>> def main():
        ...     yield from as_completed(sleeper(3), sleeper(1), sleeper(2)).for_each(print)
        >>> run(main())
        1
        2
        3
        >>> async def main():
        ...     async with as_completed(sleeper(3), sleeper(1)) as results:
        ...         async for seconds in results:
        ...             print(seconds)
        >>> run(main())
        1
        3
    """
    return Completions(bodies)


def details(error: BaseException) -> Iterator[str]:
    """Return the lines that follow the first one in a note on an error: its notes, causes and members.

    The error itself is dropped, so the note has to contain all of this.
    """
    pending = [error]
    while pending:
        current = pending.pop()
        if current is not error:
            yield one_line(current)
        yield from map(str, getattr(current, "__notes__", ()))
        if current.__cause__ is not None:
            yield f"from {one_line(current.__cause__)}"
        if isinstance(current, BaseExceptionGroup):
            pending.extend(reversed(current.exceptions))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
