"""Tracebacks, causes and exception groups: removing the package's own frames, chaining causes, filtering groups.

Theory of operation. A program that fails should show its own lines. Before an error reaches the program, the frames of
this package are cut out of its traceback, wherever they are. Groups may be thousands deep, so nothing here recurses.
"""

from __future__ import annotations

from ..errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

MAX_GROUP_LEVELS = 8  # with the two that a pack adds, Python prints the whole group: its limit is 10
LEVELS = "_minisched_levels"  # the attribute of a group of ours that holds how deep it is
FORGOTTEN = "_minisched_forgotten"  # the attribute of a group in which `forget_cancellers` has been
ORDINARY = "_minisched_ordinary"  # and whether it has none of SPECIAL
PYTHONS_GROUPS = (ExceptionGroup, BaseExceptionGroup)  # a class of the program's own has no marks of ours
SPECIAL = (Cancelled, KeyboardInterrupt, SystemExit)
OWN_ERRORS = "_minisched_own_errors"  # and of a packed one, how many errors it has outside of the packed groups in it
ASYNC_GENERATOR_FLAGS = 0x200  # inspect.CO_ASYNC_GENERATOR; `inspect` is slow to import
PACKAGE = __file__[: -len("kernel/tracebacks.py")]


def strip_own_frames(error: BaseException) -> BaseException:
    """Remove this package's frames from the traceback; return `error`. O(frames)."""
    first = last = first_user_frame(error.__traceback__)
    while last is not None:
        following = first_user_frame(last.tb_next)
        if following is not last.tb_next:  # setting it makes Python walk all entries that follow
            last.tb_next = following
        last = following
    return BaseException.with_traceback(error, first)  # a class may override it


def first_user_frame(trace: TracebackType | None) -> TracebackType | None:
    """Return the first entry, from `trace` on, of a frame outside this package."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    return trace


def one_line(error: BaseException) -> str:
    """Return an error's type and text as one line, without control characters; the members of a group are left out."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def safe_repr(thing: object) -> str:
    """Return the repr of an object of the program's; if its `__repr__` raises, its class and the error."""
    try:
        return repr(thing)
    except Exception as error:
        return f"<{type(thing).__name__}, whose __repr__ raised {one_line(error)}>"


def text_of(error: BaseException) -> str:
    """Return an error's text as one line, without control characters."""
    try:
        return printable(str(error))
    except BaseException:  # `__str__` is the program's own, and may raise anything
        return "<its text cannot be printed>"


def printable(text: str) -> str:
    """Return a text as part of one line: newlines, terminal escapes and all that does not print are escaped.

    Example:
        >>> printable("a\\nCRITICAL: b\\x1b[2J")
        'a\\\\nCRITICAL: b\\\\x1b[2J'
    """
    if str.isprintable(text):
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def without_cancelled(error: BaseException) -> BaseException | None:
    """Return `error` without the Cancelleds in it: the same object if it has none, None if it is one.

    `except*` wraps a bare Cancelled in a group, perhaps with other errors.
    """
    if issubclass(type(error), Cancelled):
        return None
    if find(error, Cancelled) is None:
        return error
    group: Any = error
    try:
        return group.split(Cancelled)[1]
    except BaseException:  # the groups are nested too deep for `split`, or a `derive` of the program's own raised
        rest = [leaf for leaf in leaf_errors(error) if not issubclass(type(leaf), Cancelled)]
        return BaseExceptionGroup(one_line(error), rest) if rest else None


def group_of(text: str, errors: list[BaseException]) -> BaseExceptionGroup[BaseException]:
    """Return a group of `errors`, which is at most about MAX_GROUP_LEVELS deep.

    Decision: a member that is deeper is packed: its errors come into one flat group, in the same order. Because:
    Python's `except*`, `split` and `repr` recurse, so a program could not handle the failures of tasks that are
    nested a thousand deep. Rejected: a flat group always, which does not show which task's child has failed.
    """
    shallow = [pack(error) if levels(error) >= MAX_GROUP_LEVELS else error for error in errors]
    return marked(BaseExceptionGroup(text, shallow))


def marked(group: Any) -> Any:
    """Note in a new group how deep it is, and whether `find` has to look into it: no level above looks again."""
    found = marks(group)
    found[LEVELS] = 1 + max(map(levels, members(group)))
    found[ORDINARY] = not any(find(member, *SPECIAL) is not None for member in members(group))
    return group


def marks(group: Any) -> dict[str, Any]:
    """Return the attributes of a group of ours; for a class of the program's own, an empty dict."""
    return group.__dict__ if type(group) in PYTHONS_GROUPS else {}


def levels(error: Any) -> int:
    """Return how deep a group is nested: 1 for a group without groups, 0 for any other error."""
    known: int | None = marks(error).get(LEVELS)
    if known is None:  # no group, one that the program has made, or one that `except*` has split
        known, level = 0, [error]
        while level := [group for group in level if issubclass(type(group), BaseExceptionGroup)]:
            known += 1
            level = [member for group in level for member in members(group)]
    return known


def pack(group: Any) -> BaseException:
    """Return a group of all errors in a deep group; if that is a packed group and nothing else, this one.

    A packed group in it is opened only if the other errors are as many as its own. So each error is moved O(log errors)
    times while a group grows from level to level, and packed groups are O(log errors) deep.
    """
    errors = opened([group], lambda error: not is_packed(error))
    while True:
        own_errors = [marks(error).get(OWN_ERRORS, 1) for error in errors]
        half = sum(own_errors) / 2
        small = {id(error) for error, own in zip(errors, own_errors, strict=True) if is_packed(error) and own <= half}
        if not small:
            break
        errors = opened(errors, lambda error: not is_packed(error) or id(error) in small)  # noqa: B023
    if len(errors) == 1:
        return errors[0]
    packed = marked(BaseExceptionGroup("failures of tasks that are nested deeper", errors))
    marks(packed)[OWN_ERRORS] = sum(not is_packed(error) for error in errors)
    return packed


def opened(errors: list[Any], opens: Callable[[Any], bool]) -> list[Any]:
    """Return `errors` with the members of each group for which `opens(group)` is true in its place, again and again.

    A group of another class than Python's two stays, since it may have fields of its own.
    """
    found: list[Any] = []
    todo = errors[::-1]
    while todo:
        error = todo.pop()
        if type(error) in PYTHONS_GROUPS and opens(error):
            todo.extend(reversed(members(error)))
        else:
            found.append(error)
    return found


def is_packed(error: Any) -> bool:
    """Return whether `pack` has made this group."""
    return OWN_ERRORS in marks(error)


def closed_by_aclose(error: BaseException) -> bool:
    """Return whether a GeneratorExit was raised at the `yield` of an async generator, as `aclose` does.

    `close` of a generator or coroutine raises it at the `yield` or `await` of that one.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and bool(trace.tb_frame.f_code.co_flags & ASYNC_GENERATOR_FLAGS)


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Set `__context__`; not by assignment, because the class of the exception may be a frozen dataclass."""
    BaseException.__context__.__set__(error, context)  # type: ignore[attr-defined]


def forget_cancellers(error: BaseException) -> None:
    """Replace the canceller of each Cancelled in the causes and contexts of `error` by its name in the reason.

    A task may cancel another one, and end with the failure of its cleanup, which has the Cancelled as its context. With
    the canceller in it, this would be a cycle: task, failure, Cancelled, task.
    """
    todo: list[Any] = [error]
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # By the base class: the attributes of the program's own classes may raise anything.
        todo += (BaseException.__cause__.__get__(current), BaseException.__context__.__get__(current))  # type: ignore[attr-defined]
        if issubclass(type(current), Cancelled) and current.by is not None:
            current.reason, current.by = str(current), None
            current.args = (current.reason,)
        elif issubclass(type(current), BaseExceptionGroup) and FORGOTTEN not in marks(current):
            marks(current)[FORGOTTEN] = True  # the tasks above do not look at its members again
            todo += members(current)


def find(error: BaseException, *kinds: type[BaseException]) -> BaseException | None:
    """Return the first error of these classes, some of SPECIAL, in `error`, which may be a group of groups."""
    todo: list[Any] = [error]
    while todo:
        member = todo.pop()
        if issubclass(type(member), kinds):  # `isinstance` would also ask for a `__class__` of the program's own
            return member
        if issubclass(type(member), BaseExceptionGroup) and not marks(member).get(ORDINARY):
            todo.extend(reversed(members(member)))
    return None


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and in its groups, in order; for any other error, that error."""
    leaves: list[BaseException] = []
    todo = [error]
    while todo:
        member = todo.pop()
        if issubclass(type(member), BaseExceptionGroup):
            todo.extend(reversed(members(member)))
        else:
            leaves.append(member)
    return leaves


def members(group: Any) -> tuple[BaseException, ...]:
    """Return the errors and groups of a group, whatever its class has put in place of the attribute."""
    return BaseExceptionGroup.exceptions.__get__(group)  # type: ignore[attr-defined]


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    """Return `error`, with `cause` at the end of its chain of causes."""
    last, seen = error, {id(error)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    chain = cause
    while chain is not None and id(chain) not in seen:
        chain = chain.__cause__
    if cause is not None and chain is None:
        last.__cause__ = cause
    return error
