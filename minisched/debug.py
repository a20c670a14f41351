"""With `debug=True`: say which generators and syscalls are made and never run.

Theory of operation. `sleep_a_bit()` alone on a line makes a generator and drops it, silently; so
does `Sleep(1)` without its `yield`. As a task yields, each function along its `yield from` chain is
read once, and a statement that is nothing but a call is looked up: if it calls a generator function
or a class of syscalls, the statement can never do anything, and a RuntimeWarning says so with its
file and line (as Python itself does for a coroutine that was never awaited).

Not here: what is bound to a name and then forgotten; a type checker finds that (`reportUnusedCallResult`).
"""

from __future__ import annotations

import sys
import warnings

from .kernel import Syscall, Task
from .watch import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

GENERATOR = 0x20 | 0x100  # inspect.CO_GENERATOR, CO_ITERABLE_COROUTINE


class Debug(Watcher):
    """Looks for calls whose result is dropped and needed to be run."""

    def __init__(self) -> None:
        self.spawned: dict[CodeType, None] = {}
        self.seen: dict[CodeType, None] = {}
        self.warned: dict[tuple[CodeType, int], None] = {}
        self.unstarted: dict[Any, None] = {}  # the generators of tasks that have not begun

    def spawn(self, task: Task) -> None:
        body: Any = task.gen
        name = getattr(body, "__name__", body)
        if getattr(body, "gi_frame", body) is None:
            warnings.warn(f"{name}() was spawned, and has ended before: a task needs a fresh one", RuntimeWarning, 1)
        if body in self.unstarted:
            warnings.warn(f"{name}() was spawned twice: a task needs a generator of its own", RuntimeWarning, 1)
        self.unstarted[body] = None
        code = code_of(body)
        if code is not None and code not in self.spawned:  # in case that it never yields; later, it has more locals
            self.spawned[code] = None
            self._check(code, body)

    def turn(self, task: Task) -> None:
        self.unstarted.pop(task.gen, None)

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self._look(task)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self._look(task)

    def _look(self, task: Task) -> None:
        body: Any = task.gen
        while body is not None:
            code = code_of(body)
            if code is not None and code not in self.seen:
                self.seen[code] = None
                self._check(code, body)
            body = getattr(body, "gi_yieldfrom", None) or getattr(body, "cr_await", None)

    def _check(self, code: CodeType, body: Any) -> None:
        """Warn of each statement in the function of `code` that makes what it never runs."""
        frame: FrameType | None = getattr(body, "gi_frame", None) or getattr(body, "cr_frame", None)
        if frame is None:
            return
        for line, path in dropped_calls(code):
            made = look_up(path, frame)
            if runs_later(made) and (code, line) not in self.warned:
                self.warned[code, line] = None
                mend = "`yield`" if isinstance(made, type) else "`yield from` or `await`"
                name = ".".join(path)
                text = f"`{name}()` made at {code.co_filename}:{line} was never run; a missing {mend}?"
                warnings.warn_explicit(text, RuntimeWarning, code.co_filename, line)


def code_of(body: Any) -> CodeType | None:
    """Return the code of a generator or coroutine; None for what is neither."""
    return getattr(body, "gi_code", None) or getattr(body, "cr_code", None)


def dropped_calls(code: CodeType) -> Iterator[tuple[int, list[str]]]:
    """Return (line, dotted name) of each statement that is nothing but a call, from the source; none without it."""
    import ast  # only in debug: these are slow to import
    import inspect
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError):
        return
    first = code.co_firstlineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            path: list[str] = []
            target = node.value.func
            while isinstance(target, ast.Attribute):
                path.append(target.attr)
                target = target.value
            if isinstance(target, ast.Name):
                yield first + node.lineno - 1, [target.id, *reversed(path)]


def look_up(path: list[str], frame: FrameType) -> object:
    """Return what a dotted name stands for in a frame; None if that can't be told without running code."""
    found: Any = None
    for names in (local_names(path[0], frame), frame.f_globals, frame.f_builtins):
        if path[0] in names:
            found = names[path[0]]
            break
    for name in path[1:]:
        own: dict[str, Any] = getattr(found, "__dict__", {})
        found = own.get(name) or in_class(found, name)
    return found


def local_names(name: str, frame: FrameType) -> dict[str, Any]:
    """Return {name: value} if `name` is a local of the frame, else {}."""
    code = frame.f_code
    if name not in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
        return {}
    values = {name: frame.f_locals[name]} if name in frame.f_locals else {}
    if sys.version_info < (3, 13):
        frame.f_locals.clear()  # a copy, which the frame would keep, and all the locals alive with it
    return values


def in_class(thing: object, name: str) -> Any:
    """Return what the class of `thing`, or one it inherits from, has under `name`; no code of it is run."""
    return next((vars(kind)[name] for kind in type(thing).__mro__ if name in vars(kind)), None)


def runs_later(made: object) -> bool:
    """Return whether a call of `made` does nothing until its result is run."""
    if isinstance(made, type):
        return issubclass(made, Syscall)
    code = getattr(getattr(made, "__func__", made), "__code__", None)
    return bool(code is not None and code.co_flags & GENERATOR)
