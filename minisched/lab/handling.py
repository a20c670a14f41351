"""Warn of scopes that are never entered, and of handlers that change their call (`run(debug=True)`).

Theory of operation. A debug run puts a function of its own around each `handle` (`Kernel.execute`). It compares the
call before and after, and notes where the program asked for a scope or a portal. While the run lasts, these have a
finalizer. One that is dropped without having been entered gets a RuntimeWarning with the file and line. So does the
class of a call that was changed. Each place is named once.

A scope may be stored and entered later. If an error or a Cancelled is raised into the task meanwhile, or the task ends,
it may never come to the `with`, and no warning is due.

Invariants:
1. A place is named once, in the run's thread, and not in a finalizer.

Not here: calls that are never yielded (`debug`).
"""

from __future__ import annotations

import inspect
import os
import warnings
from _thread import allocate_lock

from ..kernel import Kernel, Service, Syscall
from ..kernel.blocks import HasBlock
from ..kernel.syscall import arguments
from ..kernel.tracebacks import PACKAGE, safe_repr
from ..kernel.tree import DONE, ENDING
from ..kernel.watcher import Watcher
from .report import stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel import Task

    Place = tuple[str, int]  # file, line

FINALIZER = "__del__"  # the name under which `HasBlock` has `finalize`, while a debug run lasts
AWAIT_FILE = f"{PACKAGE}kernel{os.sep}syscall.py"  # of the frames that `await call` adds
ABSENT = object()  # the value of an attribute that a call does not have

installing = allocate_lock()
handlings: dict[Kernel, Unentered] = {}  # of all debug runs, in all threads


class Handling(Watcher):
    """Warn of a scope or portal whose block is never entered, and of a handler that changes its call.

    A watcher that `run(debug=True)` installs. Each warning is a RuntimeWarning with the file and line.

    Example:
        >>> import warnings
        >>> from minisched import Timeout, run
        >>> def main():
        ...     yield Timeout(1)
        ...     yield
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     run(main(), watch=[Handling()])
        >>> str(caught[0].message).partition(" at ")[0], str(caught[0].message).partition(": ")[2]
        ('the answer of Timeout(1)', 'write `with (yield Timeout(1)):`, or in an `async def` `async with Timeout(1):`')
    """

    unentered: Unentered

    def start(self, kernel: Kernel) -> None:
        self.unentered = kernel.service(Unentered)
        if kernel.execute is None:  # otherwise another instrument has it
            kernel.execute = self.execute

    def turn(self, task: Task) -> None:
        if task.step != task.gen.send:
            errors = self.unentered.errors
            errors[task] = errors.get(task, 0) + 1
        self.unentered.warn()

    def exit(self, task: Task) -> None:
        self.unentered.ended(task)

    def execute(self, call: Syscall[Any], kernel: Kernel, task: Task) -> Any:
        """Handle a call, and note what it changes and returns."""
        before = arguments(call)
        answer = call.handle(kernel, task)
        after = arguments(call)
        changed = [name for name in before | after if before.get(name, ABSENT) is not after.get(name, ABSENT)]
        if changed:
            self.unentered.add_change(call, changed)
        if isinstance(answer, HasBlock):
            self.unentered.add_scope(answer, task, call)
        return answer


class Unentered(Service):
    """The scopes and portals of a debug run that live, and the warnings of them and of changed calls."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.scopes: dict[int, tuple[int, Place, str]] = {}  # by `id`: the errors of the owner, where, the call
        self.errors: dict[Task, int] = {}  # the number of errors that were raised into a task
        self.at_the_end: dict[Task, list[tuple[Place, str]]] = {}  # those that were dropped when the body had ended
        self.texts: dict[Place, str] = {}
        self.unreported: list[Place] = []
        with installing:
            handlings[kernel] = self
            setattr(HasBlock, FINALIZER, finalize)

    def close(self) -> None:
        with installing:
            del handlings[self.kernel]
            if not handlings:
                delattr(HasBlock, FINALIZER)
        self.warn()

    def add_scope(self, scope: HasBlock, task: Task, call: Syscall[Any]) -> None:
        """Remember where a scope was asked for."""
        place = asked_at(task)
        if place is not None:
            self.scopes[id(scope)] = self.errors.get(task, 0), place, safe_repr(call)

    def drop(self, scope: Any) -> None:
        """Remember the place of a scope that is dropped, if it should have been entered. A finalizer calls this."""
        errors, place, call = self.scopes.pop(id(scope), (0, None, ""))
        if place is None or scope.was_entered():
            return
        task: Task = scope.owner
        if self.errors.get(task, errors) != errors:
            return
        text = (
            f"the answer of {call} at {place[0]}:{place[1]} was dropped, and its block never entered: write `with "
            f"(yield {call}):`, or in an `async def` `async with {call}:`"
        )
        if task.state is ENDING:
            self.at_the_end.setdefault(task, []).append((place, text))
        elif task.state is not DONE or returned(task):
            self.add(place, text)

    def ended(self, task: Task) -> None:
        """Add the scopes that a task dropped at its end, unless it failed or was cancelled."""
        _ = self.errors.pop(task, None)
        at_the_end = self.at_the_end.pop(task, [])
        if returned(task):
            for place, text in at_the_end:
                self.add(place, text)

    def add_change(self, call: Syscall[Any], names: list[str]) -> None:
        """Remember the class of a call whose handler has changed it."""
        kind = type(call)
        code: Any = getattr(kind.handle, "__code__", None)
        place = (kind.__module__, 0) if code is None else (code.co_filename, code.co_firstlineno)
        text = " and ".join(f"`self.{name}`" for name in names)
        self.add(
            place,
            f"{kind.__name__}.handle at {place[0]}:{place[1]} has changed {text}, and several tasks may yield the same "
            "call: keep what changes in a Service, or in an object for each wait",
        )

    def add(self, place: Place, text: str) -> None:
        """Remember a text for a warning, unless its place has had one."""
        if place not in self.texts:
            self.texts[place] = text
            self.unreported.append(place)

    def warn(self) -> None:
        """Warn of what was found since the last time, in the run's thread and outside of finalizers."""
        while self.unreported:
            place = self.unreported.pop(0)
            warnings.warn_explicit(self.texts[place], RuntimeWarning, *place)


def returned(task: Task) -> bool:
    """Return whether a task that is done neither failed nor was cancelled."""
    return task.failure is None and not task.cancelled_caught


def finalize(scope: HasBlock) -> None:
    """Note that a scope or a portal is dropped. While a debug run lasts, it is the finalizer of `HasBlock`."""
    for unentered in [*handlings.values()]:
        unentered.drop(scope)


def asked_at(task: Task) -> Place | None:
    """Return the line of the program that asked for the call that is handled; None if this package did.

    The package enters what it asks for, unless it raises an error.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not Kernel.turns.__code__:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return frame.f_code.co_filename, frame.f_lineno  # by `do_now`, in this turn
        frame = frame.f_back
    places = [(file, line) for file, line, _ in stack(task) if file != AWAIT_FILE]
    return places[-1] if places and not places[-1][0].startswith(PACKAGE) else None
