"""What an observer is told, and the first two: a trace, one aligned line for each event; a checker.

A watcher is told of each event as it happens, with the objects themselves: no text is made, and
nothing is copied, unless it wants that. One that is not installed costs nothing (`run(watch=...)`).
It must not keep what it is given, raise, or wake anybody.
"""

from __future__ import annotations

from types import GeneratorType

from .errors import Cancelled, brief
from .kernel import DONE, Kernel, Scope, Syscall, Task
from .report import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

FEW = 1000  # tasks: with more, the invariants are asserted now and then
NOW_AND_THEN = 997  # turns; a prime, so as not to beat in time with the program


class Watcher:
    """Subclass it and take what you want to know."""

    def start(self, kernel: Kernel) -> None:
        """The run begins."""

    def spawn(self, task: Task) -> None:
        """A task was made; it is at the back of the queue."""

    def turn(self, task: Task) -> None:
        """A turn begins: the task is about to be given `task.value`."""

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        """What the task yielded (None: a bare yield) was answered at once, perhaps by a Cancelled in its place."""

    def park(self, task: Task, call: Syscall[Any]) -> None:
        """What the task yielded has parked it."""

    def wake(self, task: Task, by: Task | None) -> None:
        """A parked task was woken; `by` is whose turn it was, None for the loop. With what, its `turn` tells."""

    def cancel(self, scope: Scope) -> None:
        """A scope, or a task, was cancelled; `scope.own` says why and by whom."""

    def exit(self, task: Task) -> None:
        """A task is done, its children too."""

    def poll(self, timeout: float | None, events: int) -> None:
        """The selector was asked, with a bound of `timeout` seconds, and told of so many events."""

    def fire(self, timers: int) -> None:
        """So many timers were due."""


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = list(watchers)

    def start(self, kernel: Kernel) -> None:
        for watcher in self.watchers:
            watcher.start(kernel)

    def spawn(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.spawn(task)

    def turn(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.turn(task)

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        for watcher in self.watchers:
            watcher.answer(task, call)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        for watcher in self.watchers:
            watcher.park(task, call)

    def wake(self, task: Task, by: Task | None) -> None:
        for watcher in self.watchers:
            watcher.wake(task, by)

    def cancel(self, scope: Scope) -> None:
        for watcher in self.watchers:
            watcher.cancel(scope)

    def exit(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.exit(task)

    def poll(self, timeout: float | None, events: int) -> None:
        for watcher in self.watchers:
            watcher.poll(timeout, events)

    def fire(self, timers: int) -> None:
        for watcher in self.watchers:
            watcher.fire(timers)


class Checker(Watcher):
    """Asserts the kernel's invariants before each turn."""

    def __init__(self) -> None:
        self.turns = self.live = 0

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def spawn(self, task: Task) -> None:
        self.live += 1

    def exit(self, task: Task) -> None:
        self.live -= 1

    def turn(self, task: Task) -> None:
        self.turns += 1
        if self.live <= FEW or self.turns % NOW_AND_THEN == 0:
            self.kernel.check()


class TextTrace(Watcher):
    """Print what happens: the turn, the task, what it was given, what it yielded and what came of that.

    A line is one event. `print_line` takes it (default: print to standard error).
    """

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self.print_line = print_line
        self.number = 0
        self.given = ""

    def _line(self, who: Task | None, what: str) -> None:
        name = label(who) if who is not None else "-"
        self.print_line(f"{self.number:>5}  {name:<14}  {what}".rstrip())

    def spawn(self, task: Task) -> None:
        self._line(task.spawner, f"spawned {label(task)}")

    def turn(self, task: Task) -> None:
        self.number += 1
        self._line(task, f"<- {answered(task)}")

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self._line(task, f"-> {short(call)}" if call is not None else "-> (yield)")

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self._line(task, f"-> {call!r} parked")

    def wake(self, task: Task, by: Task | None) -> None:
        self._line(by, f"woke {label(task)}")

    def cancel(self, scope: Scope) -> None:
        reason, by = scope.own or (None, None)
        what = (
            label(scope) if isinstance(scope, Task) else f"a scope of {label(scope.task) if scope.task else 'nobody'}"
        )
        self._line(by, f"cancelled {what}" + (f": {reason}" if reason else ""))

    def exit(self, task: Task) -> None:
        self._line(task, f"ended: {ending(task)}")


def answered(task: Task) -> str:
    """Return what a task is about to be given."""
    if task.step == task.throw_in:
        return f"raise {short(task.value[0])}"
    if task.step in (Task.cancel_in, task.cancel_in):
        return f"raise {short(Cancelled(*(task.scope.cause or (None, None))))}"
    return short(task.value)


def ending(task: Task) -> str:
    """Return how a task that is done has ended."""
    assert task.place == DONE
    if task.failure is not None:
        return f"raised {short(task.failure)}"
    return "cancelled" if task.cancelled else f"returned {short(task.result)}"


def short(value: object) -> str:
    """Return a short text for a value; the same in every run, for those that a trace often shows."""
    if isinstance(value, Task):
        return f"task {label(value)}"
    if isinstance(value, Scope):
        return "a scope"
    named = getattr(value, "label", None)
    if isinstance(value, BaseException):
        text = brief(value)
    elif isinstance(value, GeneratorType):
        text = f"generator {value.__name__}()"
    else:
        text = named if isinstance(named, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
