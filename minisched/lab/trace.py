"""A text trace of a run: one aligned line for each event.

Theory of operation. A line has the number of the current turn, the path and name of the task that acts (`-` for the
loop), and the event: `<-` what the turn gives the task, `->` what the task yields, `woke`, `spawned`, `cancelled`,
`ended`. Values are shortened to one line, in a form that is the same in every run where that is possible. So a trace
in virtual time can be compared with a stored one (`minisched.testing.golden`).

Not here: one row for each turn (`timeline`).
"""

from __future__ import annotations

from types import GeneratorType

from ..errors import Cancelled
from ..kernel import Scope, Task
from ..kernel.tracebacks import one_line, safe_repr
from ..kernel.tree import DONE
from ..kernel.watcher import Watcher
from .report import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Syscall

MAX_VALUE_CHARACTERS = 60  # of a value in a line; a longer one is shortened


class TextTrace(Watcher):
    """Print one line for each event of a run.

    A watcher: give it to `run(watch=[...])`. A line has the number of the turn, the task, and the event; `<-` is
    what the turn gives the task, and `->` what the task yields.

    Args:
        print_line: called with each line, without a newline; for example `print` or `lines.append`.

    Example:
        >>> from minisched import Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     yield Sleep(1)
        ...     return "done"
        >>> run(main(), watch=[TextTrace(print)])
            0  -               spawned 0 main
            1  0 main          <- None
            1  0 main          -> Sleep(1) parked
            1  -               woke 0 main
            2  0 main          <- None
            2  0 main          ended: returned 'done'
        'done'
    """

    def __init__(self, print_line: Callable[[str], object]) -> None:
        self.print_line = print_line
        self.turn_number = 0

    def _line(self, actor: Task | None, event: str) -> None:
        name = label(actor) if actor is not None else "-"
        _ = self.print_line(f"{self.turn_number:>5}  {name:<14}  {event}".rstrip())

    def spawn(self, task: Task) -> None:
        self._line(task.spawner, f"spawned {label(task)}")

    def turn(self, task: Task) -> None:
        self.turn_number += 1
        self._line(task, f"<- {next_input(task)}")

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        self._line(task, f"-> {short(call)}" if call is not None else "-> (yield)")

    def park(self, task: Task, call: Syscall[Any]) -> None:
        self._line(task, f"-> {safe_repr(call)} parked")

    def wake(self, task: Task, by: Task | None) -> None:
        self._line(by, f"woke {label(task)}")

    def cancel(self, scope: Scope) -> None:
        reason, by = scope.requested or (None, None)
        if isinstance(scope, Task):
            name = label(scope)  # pyright: ignore[reportUnknownArgumentType]
        else:
            name = f"a scope of {label(scope.task) if scope.task else 'no task'}"
        self._line(by, f"cancelled {name}" + (f": {reason}" if reason else ""))

    def exit(self, task: Task) -> None:
        self._line(task, f"ended: {ending(task)}")


def next_input(task: Task) -> str:
    """Describe what a task's next turn sends or raises into it."""
    if task.step == task.throw_in:
        return f"raise {short(task.sent[0])}"
    if task.step is task.kernel.cancel_step:
        return f"raise {short(Cancelled(*(task.scope.effective or (None, None))))}"
    return short(task.sent)


def ending(task: Task) -> str:
    """Describe how a task that is done has ended."""
    assert task.state == DONE
    if task.failure is not None:
        return f"raised {short(task.failure)}"
    return "cancelled" if task.cancelled_caught else f"returned {short(task.result)}"


def short(value: object) -> str:
    """Return a text for a value of at most MAX_VALUE_CHARACTERS; the same in every run where that is possible."""
    if isinstance(value, Task):
        return f"task {label(value)}"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, Scope):
        return "a scope"
    named = getattr(value, "label", None)
    if isinstance(value, BaseException):
        text = one_line(value)
    elif isinstance(value, GeneratorType):
        text = f"generator {value.__name__}()"
    else:
        text = named if isinstance(named, str) else safe_repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."
