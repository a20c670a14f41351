"""Every exception of minisched, with whose fault it is.

| exception | raised when | whose fault |
|---|---|---|
| Cancelled | the task's scope was cancelled; raised at a checkpoint | nobody's: clean up and let it pass |
| TaskCancelled | a task that was joined, or main, had been cancelled | whoever cancelled it |
| TimedOut | a `Timeout` ran out | the world, or a limit set too low |
| Deadlock | nobody can ever go on; raised by `run` | the program's |
| SyscallError | a rule was broken: something wrong was yielded, spawned, resumed | the program's, an extension's |
| BusyError | two tasks wait for the same direction of one file | the program's |
| ClosedError | the file was closed, perhaps while a task waited for it | the program's |
| WouldBlock | a plain call (`put_nowait`, `get_nowait`) would have had to wait | nobody's: yield the call that waits |
| LimitExceeded | a bound that was asked for was passed | the other side's, as a rule |
| Missed | a subscriber was so slow that items passed it by: how many | the subscriber's |
"""

from __future__ import annotations

from types import CoroutineType, GeneratorType

PACKAGE = __file__.removesuffix("errors.py")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .kernel import Task


class Cancelled(BaseException):
    """Raised at a checkpoint of a task whose scope was cancelled.

    It is a BaseException, so that `except Exception` lets it pass. Catch it
    only to clean up, and raise it again: the scope that was cancelled takes it.

    `reason` is what the canceller gave, `by` the task that cancelled (None for
    a deadline or the loop), `done` how far a call of many steps had come.
    """

    def __init__(self, reason: str | None = None, by: Task | None = None, done: object = None) -> None:
        self.reason = reason  # `__new__` has set `args`: to call the base class takes as long as all the rest
        self.by = by
        self.done = done

    @property
    def written(self) -> int:
        """How many bytes the `Write` that was cancelled had written."""
        return self.done if isinstance(self.done, int) else 0

    def __str__(self) -> str:
        said = self.reason or "cancelled"
        return said if self.by is None else f"{said} (by task {self.by.name!r})"


class TaskCancelled(Exception):
    """The task that was joined had been cancelled; it is `task`.

    Another type than `Cancelled`: "my child was cancelled" is not "I was".
    """

    def __init__(self, task: Task, reason: str | None = None) -> None:
        super().__init__(task, reason)
        self.task = task
        self.reason = reason

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"task {self.task.name!r} was cancelled{why}"


class TimedOut(TimeoutError):
    """A `Timeout` ran out; `scope` says which (the OS raises TimeoutError too)."""

    scope: object = None


class Deadlock(Exception):
    """Nothing is ready, no deadline is set and nothing outside can wake a task.

    The text is the report: every parked task, what it waits for and where.
    """


class SyscallError(Exception):
    """A rule of the kernel was broken; the text says which and what to do instead."""


class BusyError(Exception):
    """Another task waits for the same direction of this file already."""


class ClosedError(Exception):
    """The file was closed before, or while, a task waited for it."""


class WouldBlock(Exception):
    """A plain call could not do without waiting what it was asked for; there is one that waits, to be yielded."""


class LimitExceeded(Exception):
    """A bound that the caller set was passed: a line too long, restarts too many."""


class Missed(LimitExceeded):
    """A subscriber of a broadcast was too slow: `count` items are gone that it has not seen. The next one is there."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} items came and went unseen: read faster, or let the broadcast keep more")
        self.count = count


NOT_PARKED = (
    "task {0!r} was woken while it is {1}, not parked: wake a parked task once, and let its undo "
    "forget whoever else would wake it"
)
CHILDLESS = "task {0!r} is done: it can have no children any more"
OUT_OF_ORDER = (
    "a scope was left out of order: leave scopes in the reverse order of entering them, and don't "
    "`yield` across a `with` in a generator that is used as an iterator"
)
SWALLOWED = (
    "task {0!r} swallowed {1} Cancelleds of one cancellation and was closed: let Cancelled pass, "
    "or raise it again after cleaning up"
)


def not_a_syscall(task: Task, thing: object) -> SyscallError:
    """Return the error for a task that yielded `thing`, with the most likely mend."""
    name = getattr(thing, "__name__", type(thing).__name__)
    if isinstance(thing, GeneratorType):
        return SyscallError(
            f"task {task.name!r} yielded a generator, {name}(); a missing `from`? (yield from {name}())"
        )
    if isinstance(thing, CoroutineType):
        thing.close()
        return SyscallError(
            f"task {task.name!r} yielded a coroutine, {name}(); in a generator, `yield from` a generator"
        )
    if isinstance(thing, type):
        return SyscallError(f"task {task.name!r} yielded the class {name}; a call is missing? (yield {name}(...))")
    if isinstance(thing, type(task)):
        return SyscallError(f"task {task.name!r} yielded a task; to wait for its end, yield Join(task)")
    if callable(thing):
        return SyscallError(
            f"task {task.name!r} yielded the function {name}; a call is missing? (yield from {name}(...))"
        )
    mend = "yield a Syscall, or nothing to let others run"
    if isinstance(thing, (bytes, int)):
        mend = "was it the result of a call, as of sock.recv(10)? Ask for it instead: yield Read(sock, 10)"
    return SyscallError(f"task {task.name!r} yielded {thing!r}, which is not a syscall; {mend}")


def check_body(gen: object) -> None:
    """Raise the error for what can't become a task. An async-library's coroutine can: it fails when it yields.

    A generator that has ended, or that another task has, can't be told from a
    fresh one without making its frame, which would be half of a task's memory:
    `debug` looks for those.
    """
    kind = type(gen)
    if (kind is GeneratorType and not gen.gi_suspended and not gen.gi_running) or (  # type: ignore[attr-defined]
        kind is CoroutineType and not gen.cr_suspended and not gen.cr_running  # type: ignore[attr-defined]
    ):
        return
    name = getattr(gen, "__name__", kind.__name__)
    if kind is GeneratorType or kind is CoroutineType:
        raise SyscallError(f"{name}() has been started already; a task needs a fresh one: call {name}(...) again")
    if callable(gen):
        raise SyscallError(f"{name} is a function, not a task: call it, {name}(...)")
    if hasattr(gen, "__aiter__"):
        raise SyscallError(f"{name} is an async generator, not a task: in an `async def`, `await` in place of `yield`")
    if gen is None:
        raise SyscallError("None is not a task: the function has run already, since there is no `yield` in it")
    if hasattr(gen, "handle"):
        raise SyscallError(f"{gen!r} is a syscall, not a task: yield it, or put it in a generator function")
    raise SyscallError(f"{gen!r} is not a task: a task is what a generator function or an `async def` returns")


def clean(error: BaseException) -> BaseException:
    """Take this package's frames out of the traceback, wherever they are: what is left is the user's. O(frames)."""
    first = last = theirs(error.__traceback__)
    while last is not None:
        following = theirs(last.tb_next)
        if following is not last.tb_next:  # to set it is to walk through all that follows
            last.tb_next = following
        last = following
    return error.with_traceback(first)


def theirs(trace: TracebackType | None) -> TracebackType | None:
    """Return the first entry of a traceback, from here on, that is not this package's."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    return trace


def brief(error: BaseException) -> str:
    """Return the last line of an error's traceback; of a group, not what is in it."""
    try:
        text = str(error)
    except Exception:
        text = "<it can't be printed>"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return what is left of `error` once each `Cancelled` is taken out of it; itself, if there is none in it.

    `except*` wraps a bare Cancelled in a group, perhaps with others.
    """
    if isinstance(error, Cancelled):
        return None
    if find(error, Cancelled) is None:
        return error
    group: Any = error
    return group.split(Cancelled)[1]


def find(error: BaseException, *kinds: type[BaseException]) -> BaseException | None:
    """Return the first of these kinds in `error`, which may be a group of groups, thousands deep."""
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, kinds):
            return one
        if isinstance(one, BaseExceptionGroup):
            todo.extend(reversed(one.exceptions))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return None
