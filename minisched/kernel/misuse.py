"""The sentences of misuse: each names the task, what went wrong, and the fix.

Decision: a broken rule is found where it shows, not where it costs. Because: telling a fresh generator from one that
has ended, or that another task runs, needs its frame object, several hundred bytes for each task. Rejected: looking at
every spawn; only `debug=True` does (`lab/debug`).

Not here: the exceptions (`errors`).
"""

from __future__ import annotations

from types import CoroutineType, GeneratorType

from ..errors import SyscallError
from .tracebacks import safe_repr, strip_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .tree import Task

NOT_PARKED = (
    "task {0!r} was woken while it is {1}, not parked: wake a parked task once, and let its undo "
    "remove it from where else it would be woken"
)
PARKED_WRONGLY = "park: task {0!r} is {1}; a handler parks its own task, once"
CHILDLESS = "task {0!r} is done: it can have no more children"
OUT_OF_ORDER = (
    "a scope was left out of order: leave scopes in the reverse order of entering them, and don't "
    "`yield` across a `with` in a generator that is used as an iterator"
)
KERNEL_ARGS = 3  # of a Cancelled that the kernel makes: the reason, by and done; a program that makes one passes fewer
LEFT_BEFORE = (
    "task {0!r} raised the Cancelled of a scope that it had left before: raise no old Cancelled again, and don't "
    "`yield` across a `with` in a generator that is used as an iterator, whose timeout would cancel the loop around it"
)
SWALLOWED = (
    "task {0!r} swallowed {1} Cancelleds of one cancellation and was closed: let Cancelled pass, "
    "or raise it again after cleaning up"
)


OTHER_LIBRARY = (
    "calls of asyncio or trio need their own event loop; here, await Sleep(1), gather(...) and the like, and call "
    "such a library by InThread(asyncio.run, ...)"
)
OTHER_LIBRARIES_SAY = ("no running event loop", "must be called from async context")  # asyncio, trio
GENERATOR_FLAGS = 0x20 | 0x80 | 0x200  # a code object of a generator, a coroutine, an async generator
PLAIN_METHODS = ("handle", "try_now", "add_waiter", "try_once", "open", "release")


def lost_answer(call: object, task: Task, answer: object) -> str:
    """Return the text for a handler that has parked its task and returned an answer, too."""
    return (
        f"{safe_repr(call)} parked task {task.name!r} and returned {safe_repr(answer)}, which would be lost: return "
        "the answer, or park the task and pass the answer to `resume`"
    )


def woke_and_raised(call: object, task: Task, error: BaseException) -> str:
    """Return the text for a handler that has woken its task, then raised."""
    return f"{safe_repr(call)} woke task {task.name!r}, then raised {safe_repr(error)}: it can do one"


def broken_undo(task: Task, error: BaseException) -> str:
    """Return the text for an undo that has raised."""
    return f"the undo of {safe_repr(task.call)} in task {task.name!r} raised {safe_repr(error)}"


CONTEXTS = {  # by class: the object, the thing that its block waits for, and the form for generators
    "Lock": ("lock", "the lock", "with (yield lock.acquire()):"),
    "Semaphore": ("semaphore", "a permit", "with (yield semaphore.acquire()):"),
    "CapacityLimiter": ("limiter", "a token", "with (yield limiter.acquire()):"),
    "Condition": ("condition", "the lock", "with (yield condition.acquire()):"),
    "Completions": ("as_completed(...)", "the tasks", "yield from as_completed(...).for_each(work)"),
    "TaskGroup": ("TaskGroup(...)", "the children", "yield from group(body)"),
}


def check_methods(kind: type) -> None:
    """Raise SyscallError if a method that the kernel calls is a generator function or an `async def`."""
    for name in PLAIN_METHODS:
        code = getattr(vars(kind).get(name), "__code__", None)
        if code is not None and code.co_flags & GENERATOR_FLAGS:
            raise SyscallError(
                f"{kind.__name__}.{name} has a `yield`, or is an `async def`, and would never run: it is a plain "
                "function. To wait, park the task; a series of calls is a generator function, not a syscall"
            )


def add_hint(error: BaseException) -> None:
    """Add a note to the error of a function of asyncio or trio that does not find its event loop."""
    if type(error) is RuntimeError and str(error) in OTHER_LIBRARIES_SAY:
        error.add_note(OTHER_LIBRARY)


def not_a_context(call: object) -> SyscallError:
    """Return the error for a `with` on a syscall that was not yielded."""
    name = type(call).__name__
    return SyscallError(
        f"`with {name}(...)` lacks a yield, so nothing has happened yet: write `with (yield {name}(...)):`, or in an "
        f"`async def` `async with {name}(...):`"
    )


def no_context(call: object, answer: object) -> SyscallError:
    """Return the error for an `async with` on a syscall whose answer has no block."""
    name = type(call).__name__
    return SyscallError(
        f"`async with {name}(...)` got {safe_repr(answer)}, which is not a context manager: write `await {name}(...)`"
    )


def plain_with(thing: object) -> SyscallError:
    """Return the error for a `with` on a primitive: its block has to wait, and there is no yield to do it."""
    kinds = [kind.__name__ for kind in type(thing).__mro__]
    found = next((CONTEXTS[name] for name in kinds if name in CONTEXTS), None)
    if found is None:
        return SyscallError(f"a {kinds[0]} has no block: yield one of its calls")
    name, awaited, form = found
    return SyscallError(f"`with {name}:` does not wait for {awaited}: use `{form}`, or `async with {name}:`")


def not_iterable(thing: object) -> SyscallError:
    """Return the error for a `for`, an `in` or a `yield from` on a primitive."""
    kind = type(thing).__name__
    return SyscallError(
        f"a {kind} is not iterable: yield one of its calls; `async for`, or `yield from` its `for_each`, takes items "
        "one by one, if it has some"
    )


def class_of_calls(kind: type) -> SyscallError:
    """Return the error for a `yield from` or an `await` on a class of syscalls."""
    return SyscallError(f"{kind.__name__} is a class: a call is missing? ({kind.__name__}(...))")


def not_for_do_now(thing: object) -> SyscallError:
    """Return the error for a `do_now` with anything but a syscall."""
    name = getattr(thing, "__name__", type(thing).__name__)
    if isinstance(thing, (GeneratorType, CoroutineType)):
        thing.close()
        return SyscallError(f"do_now takes a syscall; {name}() takes several turns: `yield from` or `await` it")
    if isinstance(thing, type) or callable(thing):
        return SyscallError(f"do_now takes a syscall, not {name} itself; a call is missing? (do_now({name}(...)))")
    return SyscallError(f"do_now takes a syscall, not {safe_repr(thing)}")


def entered_twice(by: Task) -> SyscallError:
    """Return the error for a scope that task `by` has entered before."""
    return SyscallError(f"a scope is entered once, and task {by.name!r} has entered this one: make another")


def cancelled_without_scope(task: Task, cancelled: Any) -> SyscallError:
    """Return the error for a task that raised a Cancelled which none of its scopes has swallowed."""
    if len(cancelled.args) < KERNEL_ARGS:
        return SyscallError(f"task {task.name!r} raised a Cancelled that no scope had sent it")
    return SyscallError(LEFT_BEFORE.format(task.name))


def yielded_no_syscall(task: Task, thing: object, error: BaseException) -> SyscallError:
    """Return the error for a task that yielded `thing`, whose handling raised `error`.

    An object with a `handle` of its own may be meant as a syscall: its error is then the cause, so that it is not lost.
    """
    misuse = not_a_syscall(task, thing)
    if hasattr(thing, "handle") and not isinstance(thing, type):
        misuse.__cause__ = strip_own_frames(error)
    return misuse


def not_a_syscall(task: Task, thing: object) -> SyscallError:
    """Return the error for a task that yielded `thing`, with the most likely fix."""
    name = getattr(thing, "__name__", type(thing).__name__)
    if isinstance(thing, GeneratorType):
        return SyscallError(
            f"task {task.name!r} yielded a generator, {name}(); a missing `from`? (yield from {name}())"
        )
    if type(thing).__module__.partition(".")[0] in ("asyncio", "_asyncio"):
        return SyscallError(f"task {task.name!r} yielded {safe_repr(thing)}, which asyncio made: {OTHER_LIBRARY}")
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
    fix = "yield a Syscall, or nothing to let others run"
    if isinstance(thing, (bytes, int)):
        fix = "was it the result of a call, as of sock.recv(10)? Ask for it instead: yield Read(sock, 10)"
    return SyscallError(f"task {task.name!r} yielded {safe_repr(thing)}, which is not a syscall; {fix}")


def check_body(gen: object) -> None:
    """Raise SyscallError, with the most likely fix, if `gen` cannot become a task.

    A coroutine of another async library passes here, and fails at its first yield.
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
        raise SyscallError(f"{safe_repr(gen)} is a syscall, not a task: yield it, or put it in a generator function")
    raise SyscallError(f"{safe_repr(gen)} is not a task: a task is what a generator function or an `async def` returns")
