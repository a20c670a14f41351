"""Warn of generators and syscalls that a program creates but never runs (`run(debug=True)`).

Theory of operation. The statement `sleep_a_bit()` creates a generator and drops it silently; `queue.put(1)` without its
`yield` drops a syscall. Two searches find such statements. They share one list of places, so that each is named once.

- Syscalls, when they are dropped. While a debug run lasts, `Syscall` has a finalizer. Python drops the value of an
  expression statement by the instruction POP_TOP, and the frame that runs this instruction has the place. So any
  expression whose value is a syscall is found, in any function, with or without annotations.
- Generators, in the source. When a task yields, the source of each function along its `yield from` chain is read,
  once for each function. A statement that is only a call is resolved in the function's names, without running code. If
  it calls a generator function, a function annotated to return a generator, or a class of syscalls, it has no effect.

Each gets a RuntimeWarning with the file and line. Python does the same for a coroutine that was never awaited.

Decision: a dropped syscall is found by a finalizer that debug runs add to `Syscall`. Because: methods such as
`queue.put` are plain functions, and only their result shows that the statement has no effect. Rejected: reading the
annotations of methods, which a program may not have; a permanent finalizer, which all runs would pay for.

Decision: generators are found in the source. Because: Python offers no hook for a generator that is dropped before it
has started. Rejected: a trace function, which takes the place of a debugger's.

Decision: only debug runs check whether a spawned generator has ended already or is in two tasks. Because: the check
creates the generator's frame object, which costs several hundred bytes for each task.

Not here: a generator or syscall that is bound to a name and then forgotten; a type checker finds that
(`reportUnusedCallResult`).
"""

from __future__ import annotations

import ast
import inspect
import sys
import warnings
from _thread import allocate_lock
from contextlib import suppress
from functools import lru_cache, partial
from opcode import opmap, opname
from types import (
    BuiltinFunctionType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)

from ..kernel import Service, Syscall
from ..kernel.numbers import check_seconds
from ..kernel.watcher import Watcher
from ..tasks.select_calls import Select
from ..tasks.timers import Sleep
from .handling import Handling
from .slow_turns import SlowTurns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

    from ..kernel import Kernel, Task

    Place = tuple[str, int, int]  # file, line, column

GENERATOR_FLAGS = 0x20 | 0x100  # inspect.CO_GENERATOR, CO_ITERABLE_COROUTINE
ASYNC_FLAGS = 0x80 | 0x200  # inspect.CO_COROUTINE, CO_ASYNC_GENERATOR
POP_TOP = opmap["POP_TOP"]  # the instruction that drops the value of an expression statement
MAX_NAME_CHARACTERS = 60  # of an expression in a warning; a longer one is shortened
MAX_PARSED_FUNCTIONS = (
    1000  # functions whose statements a process keeps: parsing takes most of the time of short debug runs
)
FINALIZER = "__del__"  # the name under which `Syscall` has `finalize`, while a debug run lasts
# Methods of containers and generators: they return a call that the program has stored, or that a generator yielded.
REMOVALS = frozenset({"pop", "popitem", "popleft", "send", "throw", "__next__"})
IN_C = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType)

installing = allocate_lock()
watching: list[Dropped] = []  # those of all debug runs, in all threads
handled: set[int] = set()  # the `id` of each living syscall that a task has yielded


def watchers() -> list[Watcher]:
    """Return the watchers of this package that `run(debug=True)` installs."""
    return [Debug(), Handling(), SlowTurns()]


def checked_sleep(cls: type[Sleep], seconds: Any, /) -> Sleep:
    """Return `Sleep(seconds)`; refuse a str and a bool, which `float` converts. `Sleep.__new__` in debug runs."""
    if type(seconds) is not float and type(seconds) is not int:
        seconds = check_seconds("Sleep", "seconds", seconds)
    return float.__new__(cls, seconds)


class Debug(Watcher):
    """Warn of generators and syscalls that are created and never run.

    A watcher that `run(debug=True)` installs; under pytest, `debug` is True by default. Each warning is a
    RuntimeWarning with the file and line of the statement, and is given once. It also warns of a generator that is
    spawned twice or after its end.

    Example:
        >>> import warnings
        >>> from minisched import Sleep, run
        >>> def main():
        ...     Sleep(1)
        ...     yield
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     run(main(), debug=True)
        >>> str(caught[0].message).split(" made at ")[0]
        '`Sleep()`'
    """

    def __init__(self) -> None:
        self.spawned: dict[CodeType, None] = {}
        self.seen: dict[CodeType, None] = {}
        self.unstarted: dict[Any, None] = {}  # generators of tasks that have not had a turn
        self.dropped: Dropped | None = None  # of the run, from `start` on

    def start(self, kernel: Kernel) -> None:
        self.dropped = kernel.service(Dropped)

    def spawn(self, task: Task) -> None:
        body: Any = task.gen
        name = getattr(body, "__name__", body)
        if getattr(body, "gi_frame", body) is None:
            warnings.warn(f"{name}() was spawned after it had ended: a task needs a fresh generator", RuntimeWarning, 1)
        if body in self.unstarted:
            warnings.warn(f"{name}() was spawned twice: a task needs a generator of its own", RuntimeWarning, 1)
        self.unstarted[body] = None
        code = code_of(body)
        if code is not None and code not in self.spawned:  # checked now, too: a body may end without a yield
            self.spawned[code] = None
            self._check(code, body)

    def turn(self, task: Task) -> None:
        self.unstarted.pop(task.gen, None)
        self._warn()

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self._check_chain(task, call)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self._check_chain(task, call)

    def _warn(self) -> None:
        if self.dropped is not None:
            self.dropped.warn()

    def _check_chain(self, task: Task, call: Syscall[Any] | None) -> None:
        """Check each function along the `yield from` chain that has not been checked yet."""
        handled.update(map(id, (call, *call.calls) if isinstance(call, Select) else (call,)))
        self._warn()
        body: Any = task.gen
        while body is not None:
            code = code_of(body)
            if code is not None and code not in self.seen:
                self.seen[code] = None
                self._check(code, body)
            body = getattr(body, "gi_yieldfrom", None) or getattr(body, "cr_await", None)

    def _check(self, code: CodeType, body: Any) -> None:
        """Warn of each statement in the function of `code` that creates a generator or syscall and drops it."""
        frame: FrameType | None = getattr(body, "gi_frame", None) or getattr(body, "cr_frame", None)
        if frame is None or self.dropped is None:
            return
        for statement in statements(code):
            for value in values(statement.value):
                callee = look_up(value.func, frame) if isinstance(value, ast.Call) else None
                if runs_later(callee):
                    remedy = missing(code) if isinstance(callee, type) else "`yield from` or `await`"
                    self.dropped.add(place(code, statement), named(value), remedy)
        self._warn()


class Dropped(Service):
    """The statements that dropped a generator or a syscall in a debug run, and the warnings of them."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.texts: dict[Place, str] = {}
        self.unreported: list[Place] = []
        with installing:
            watching.append(self)
            setattr(Syscall, FINALIZER, finalize)
            Sleep.__new__ = checked_sleep  # type: ignore[method-assign, assignment]

    def close(self) -> None:
        with installing:
            watching.remove(self)
            if not watching:
                delattr(Syscall, FINALIZER)
                del Sleep.__new__
                handled.clear()
        self.warn()

    def add(self, place: Place, name: str, remedy: str) -> None:
        """Remember a statement for a warning, unless it has had one."""
        if place not in self.texts:
            self.texts[place] = f"`{name}` made at {place[0]}:{place[1]} was never run; a missing {remedy}?"
            self.unreported.append(place)

    def add_instruction(self, frame: FrameType, call: Syscall[Any]) -> None:
        """Remember the statement that a frame is in, whose value is or contained `call`."""
        code = frame.f_code
        line, column = position(code, frame.f_lasti)
        statement = statement_at(code, line, column)
        if statement is None:  # there is no source
            if after_a_call(code, frame.f_lasti):
                self.add((code.co_filename, line, column or 0), f"{type(call).__name__}()", missing(code))
            return
        candidates = [value for value in values(statement.value) if not hands_out(value, frame)]
        if candidates:
            value = next((value for value in candidates if holds(value, line, column)), candidates[0])
            self.add(place(code, statement), named(value), missing(code))

    def warn(self) -> None:
        """Warn of the statements that were found since the last time, in the run's thread and outside finalizers."""
        while self.unreported:
            place = self.unreported.pop(0)
            warnings.warn_explicit(self.texts[place], RuntimeWarning, place[0], place[1])


def finalize(call: Syscall[Any]) -> None:
    """Note the statement that drops `call`, if there is one and no task has yielded the call."""
    current = inspect.currentframe()
    frame = None if current is None else current.f_back
    del current  # a frame that holds itself would be a cycle
    if id(call) in handled:
        handled.discard(id(call))
    elif frame is not None and frame.f_code.co_code[frame.f_lasti] == POP_TOP and watching:
        watching[-1].add_instruction(frame, call)


def missing(code: CodeType) -> str:
    """Return the keyword that runs a syscall in the function of `code`."""
    return "`await`" if code.co_flags & ASYNC_FLAGS else "`yield`"


def place(code: CodeType, statement: ast.Expr) -> Place:
    """Return the place of a statement."""
    return code.co_filename, statement.lineno, statement.col_offset


def named(value: ast.expr) -> str:
    """Return the name of an expression for a warning: that of the function, and `()`, if it is a call."""
    text = ast.unparse(ast.Call(value.func, [], []) if isinstance(value, ast.Call) else value)
    return text if len(text) <= MAX_NAME_CHARACTERS else f"...{text[-MAX_NAME_CHARACTERS:]}"


def code_of(body: Any) -> CodeType | None:
    """Return the code of a generator or coroutine; None for another object."""
    return getattr(body, "gi_code", None) or getattr(body, "cr_code", None)


def statements(code: CodeType) -> tuple[ast.Expr, ...]:
    """Return the expression statements of a function, with the line numbers of its file; () if there is no source."""
    return parsed(code, code.co_filename)


@lru_cache(MAX_PARSED_FUNCTIONS)
def parsed(code: CodeType, file: str) -> tuple[ast.Expr, ...]:
    """Return the statements, parsed once in a process; `file` distinguishes equal functions of two files."""
    try:
        source = inspect.getsource(code)
        indented = source[:1].isspace()
        tree = ast.parse(f"if 1:\n{source}" if indented else source)
    except (OSError, SyntaxError, TypeError):
        return ()
    _ = ast.increment_lineno(tree, code.co_firstlineno - 1 - indented)
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Expr))


def position(code: CodeType, offset: int) -> tuple[int, int | None]:
    """Return the line and column of the last instruction up to `offset` that has them; None for an unknown column."""
    places = [(line, column) for line, _, column, _ in code.co_positions()][: offset // 2 + 1]
    return next(((line, column) for line, column in reversed(places) if line is not None), (code.co_firstlineno, None))


def statement_at(code: CodeType, line: int, column: int | None) -> ast.Expr | None:
    """Return the innermost expression statement at a place; None if there is no source."""
    found = [statement for statement in statements(code) if holds(statement, line, column)]
    return max(found, key=lambda statement: (statement.lineno, statement.col_offset), default=None)


def holds(node: ast.expr | ast.Expr, line: int, column: int | None) -> bool:
    """Return whether a node of the source extends over a place, or over a line if the column is None."""
    end = node.end_lineno or 0, node.end_col_offset or 0
    if column is None:
        return node.lineno <= line <= end[0]
    return (node.lineno, node.col_offset) <= (line, column) < end


def values(node: ast.expr) -> Iterator[ast.expr]:
    """Return the expressions whose value an expression statement drops, without those that run what they make."""
    if isinstance(node, ast.IfExp):
        yield from values(node.body)
        yield from values(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from values(value)
    elif not isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await, ast.Name, ast.Constant)):
        yield node


def after_a_call(code: CodeType, offset: int) -> bool:
    """Return whether the instruction before that at `offset` is a call."""
    before = [code.co_code[position] for position in range(0, offset, 2)]
    return next((opname[op].startswith("CALL") for op in reversed(before) if opname[op] != "CACHE"), False)


def hands_out(value: ast.expr, frame: FrameType) -> bool:
    """Return whether an expression makes no call, but takes one that exists out of a container or a generator.

    That is so for each function that is not written in Python, such as `next` and the methods of a list.
    """
    if not isinstance(value, ast.Call):
        return False
    callee = look_up(value.func, frame)
    if callee is None:  # unknown without running code: the name has to do
        return isinstance(value.func, ast.Attribute) and value.func.attr in REMOVALS
    return isinstance(callee, IN_C)


def look_up(target: ast.expr, frame: FrameType) -> object:
    """Return the object that a dotted name refers to in a frame; None if that is unknown without running code."""
    path: list[str] = []
    while isinstance(target, ast.Attribute):
        path.append(target.attr)
        target = target.value
    if not isinstance(target, ast.Name):
        return None
    value: Any = None
    for names in (local_names(target.id, frame), frame.f_globals, frame.f_builtins):
        if target.id in names:
            value = names[target.id]
            break
    for name in reversed(path):
        attributes: dict[str, Any] = getattr(value, "__dict__", {})
        found = attributes.get(name) or in_class(value, name)
        if isinstance(found, MemberDescriptorType):  # a slot
            slot, found = found, None
            with suppress(AttributeError):
                found = slot.__get__(value)
        value = found
    return value


def local_names(name: str, frame: FrameType) -> dict[str, Any]:
    """Return {name: value} if `name` is a local of the frame, else {}."""
    code = frame.f_code
    if name not in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
        return {}
    values = {name: frame.f_locals[name]} if name in frame.f_locals else {}
    if sys.version_info < (3, 13):
        frame.f_locals.clear()  # a copy that the frame keeps: it would keep the locals alive
    return values


def in_class(thing: object, name: str) -> Any:
    """Return the attribute `name` of the class of `thing` or of a base class, without running code of the class."""
    return next((vars(kind)[name] for kind in type(thing).__mro__ if name in vars(kind)), None)


def runs_later(callee: object) -> bool:
    """Return whether a call of `callee` does nothing until its result is run."""
    while isinstance(callee, partial):
        callee = callee.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(callee, type):
        return issubclass(callee, Syscall)
    function: Any = getattr(callee, "__func__", callee)
    code = getattr(function, "__code__", None)
    if code is None:
        function = in_class(callee, "__call__")
        code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & GENERATOR_FLAGS or returns_generator(function))


def returns_generator(function: Any) -> bool:
    """Return whether a function, which is not a generator function, is annotated to return a generator."""
    annotation = function.__annotations__.get("return", "")
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return text.partition("[")[0].rpartition(".")[2] == "Generator" and not function.__code__.co_flags & ASYNC_FLAGS
