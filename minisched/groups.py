"""Groups of tasks: group, gather, race, as_completed.

Theory of operation. Each is a TaskGroup whose kind says which end of a child ends the group, and
what is made of the children's results and failures. `group` raises failures as an ExceptionGroup;
the others start a fixed crew and raise the first failure itself, with a note of each later one.

Not here: how a group waits and is cancelled (`taskgroup`); restarts (`supervision`).
"""

from __future__ import annotations

from collections import deque

from .errors import Cancelled, SyscallError, brief, check_body, without_cancelled
from .family import failure
from .kernel import Kernel, Task
from .taskgroup import NEXT, AllEnded, TaskGroup, outcome
from .tasks import awaitable, finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any, Self

    from .taskgroup import Body


class NextEnded(AllEnded):
    """Wait until a child has ended: of which the owner has not heard, or as one that ends all (`next_end`)."""

    __slots__ = ()
    group: Crew

    def handle(self, kernel: Kernel, task: Task) -> None:
        owner = self.group.entered().asked_by
        if task is not owner:
            raise SyscallError(f"the results of {self.group!r} are for task {owner.name!r}, not for {task.name!r}")
        if not self.group.ends:
            kernel.park(task, self.group.enlist(task, NEXT))


class Crew(TaskGroup):
    """A group that raises its first failure bare, with a note of each later one."""

    __slots__ = ("ends", "members")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.members: list[Task] = []
        self.ends: deque[Task] = deque()  # of which the owner has not heard, where it wants to

    @awaitable
    def start(self, bodies: tuple[Body, ...]) -> Generator[Any, Any, None]:
        """Enter the block and spawn the members."""
        for body in bodies:
            check_body(body)
        yield from self.begin()
        try:
            for body in bodies:
                self.members.append((yield self.spawn(body)))
        except BaseException as raised:  # a body was there twice, and is in use by now
            _ = yield from self.end(raised)
            raise

    @awaitable
    def next_end(self) -> Generator[Any, Any, Task | None]:
        """Wait for the next end of a member, if it is not one that ends all; return which, None if none is left."""
        while self.alive or self.ends:
            yield NextEnded(self)
            if self.ends:
                return self.ends.popleft()
        return None

    def note(self, child: Task) -> bool:
        if failure(child) is None:
            return False
        self.failed.append(child)  # being cancelled, alone, is a failure here
        return True

    def verdict(self, error: BaseException | None) -> BaseException | None:
        first = None if error is None else without_cancelled(error)
        for child in self.failures():
            later = failure(child)
            if first is None:
                first = later
            elif later is not None and later is not first:
                said = f"task {child.name!r} of the same {self.name} {outcome(child)}"
                notes = [*getattr(first, "__notes__", ()), "\n  ".join([said, *details(later)])]
                object.__setattr__(first, "__notes__", notes)  # `add_note` fails if the class is a frozen dataclass
        return error if first is None else first


class Gathering(Crew):
    """The group of a `gather` that returns exceptions."""

    __slots__ = ()

    def note(self, child: Task) -> bool:
        return False


class Race(Crew):
    """The group of a `race`: the first end ends it."""

    __slots__ = ("winner",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.winner: Task | None = None

    def note(self, child: Task) -> bool:
        if self.winner is None and failure(child) is None:
            self.winner = child
        return super().note(child) or child is self.winner


class Completions(Crew):
    """Results in the order in which they come: `as_completed`."""

    __slots__ = ("bodies",)

    def __init__(self, bodies: tuple[Body, ...]) -> None:
        super().__init__("as_completed")
        self.bodies = bodies

    def note(self, child: Task) -> bool:
        if super().note(child):
            return True
        self.ends.append(child)
        return False

    @awaitable
    def for_each(self, work: Callable[[Any], object]) -> Generator[Any, Any, None]:
        """Call `work(result)`, a function, a generator function or an `async def`, for each result as it comes."""
        check_function(work, "for_each")
        yield from self.start(self.bodies)
        error = None
        try:
            while (child := (yield from self.next_end())) is not None:
                yield from finished(work(child.result))
        except BaseException as raised:
            error = raised
        error = yield from self.end(error)
        if error is not None:
            raise error

    async def __aenter__(self) -> Self:
        await self.start(self.bodies)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        _ = self.entered()
        child = await self.next_end()
        if child is None:
            raise StopAsyncIteration
        return child.result


@awaitable
def group(body: Callable[[TaskGroup], Any], name: str | None = None) -> Generator[Any, Any, Any]:
    """Run `body(group)`, which spawns by `yield group.spawn(...)`; wait for all; return what the body returned.

    `body` is a generator function or an `async def`. A failure of a child or of
    the body cancels the rest; all of them are raised as one ExceptionGroup.
    After `group.cancel()`, None is returned if the body was cut short. A
    cancellation from outside cancels body and children, and is raised when they
    have ended; if it cut none of them short, it waits for the next checkpoint.
    """
    check_function(body, "group")
    team, result, error = TaskGroup(name), None, None
    yield from team.begin()
    try:
        result = yield from finished(body(team))
    except BaseException as raised:
        error = raised
    error = yield from team.end(error)
    if error is not None:
        raise error
    return result


@awaitable
def gather(*bodies: Body, return_exceptions: bool = False) -> Generator[Any, Any, list[Any]]:
    """Run generators or coroutines at once; return their results, in the order of the arguments.

    The first failure (a child that was cancelled alone, too: TaskCancelled)
    cancels the rest and is raised, itself, once they have ended; later ones are
    notes of it. `return_exceptions`: none ends the others, and each is returned
    in its place. A cancellation cancels all, and drops what they returned; if
    they all return, it is the results that are returned, and it waits for the
    next checkpoint.

    Other than asyncio's, it leaves nobody running when it raises, takes fresh
    bodies and no futures, and has no result before all have ended.
    """
    team = Gathering("gather") if return_exceptions else Crew("gather")
    yield from team.start(bodies)
    error = yield from team.end(None)
    if error is not None:
        raise error
    return [child.result if failure(child) is None else failure(child) for child in team.members]


@awaitable
def race(*bodies: Body) -> Generator[Any, Any, Any]:
    """Run generators or coroutines at once; return the result of the first to end, once the others have ended, too.

    They are cancelled. If the first to end has failed, or another one fails as
    it is cancelled, that is raised, itself. What a loser returns is dropped; of
    calls, of which exactly one may happen, make a `select`. SyscallError for none.
    """
    if not bodies:
        raise SyscallError("a race needs one task or more: nobody would ever win it")
    team = Race("race")
    yield from team.start(bodies)
    error = yield from team.end(None)
    if team.winner is not None and (error is None or isinstance(error, Cancelled)):
        return team.winner.result  # it was on its way before a cancellation from outside, which comes after it
    assert error is not None
    raise error


def as_completed(*bodies: Body) -> Completions:
    """Run generators or coroutines at once, for their results in the order in which they come.

    `yield from as_completed(...).for_each(work)`; in an `async def`,
    `async with as_completed(...) as results:` and `async for result in results:`.
    The first failure cancels the rest, and the block, which raises it, itself.
    Leaving the block early cancels nobody: it waits for the rest.
    """
    return Completions(bodies)


def details(error: BaseException) -> Iterator[str]:
    """Say what a note of an error has to tell, besides its own line, since nothing else will be left of it."""
    todo = [error]
    while todo:
        one = todo.pop()
        if one is not error:
            yield brief(one)
        yield from map(str, getattr(one, "__notes__", ()))
        if one.__cause__ is not None:
            yield f"from {brief(one.__cause__)}"
        if isinstance(one, BaseExceptionGroup):
            todo.extend(reversed(one.exceptions))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def check_function(function: object, user: str) -> None:
    """Raise the error for what was to be a function; as a rule, it was called."""
    if not callable(function):
        raise SyscallError(f"{user} takes a function, which it calls itself, not {function!r}")
