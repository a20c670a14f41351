"""Acts: choices that are not the task of a turn, such as a cancellation between two turns.

Theory of operation. A turn is a choice among the ready tasks. Other things may happen in more than one way, too, and an
exploration includes them when it is asked to:

- "cancel": before a turn, and while no task is ready, any one task may be cancelled, once in a run.
- "timer": of several timers with the same deadline, any one may fire first. Sleeping tasks keep their order among each
  other, since the order of their turns is a choice already.

A chooser is asked for each act, and gets the labels of its outcomes. The first one is what happens otherwise: nothing,
or the timer that was made first. In a schedule, an act stands at the turn before it: `12!cancel-0.1` cancels task 0.1
after turn 12, and `12.1!timer-2` lets the third timer fire at the second such act there.

Not here: the choosers (`portfolio`, `exhaustive`, and `schedule`, where the turns are chosen, too).
"""

from __future__ import annotations

from ...errors import TaskCancelled
from ...kernel import Task
from ...kernel.tree import DONE, ENDING
from ...tasks.clocks import VirtualClock
from ..report import path_of
from .tracking import TrackedTimers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Any

    from ...kernel import Kernel
    from .schedule import Chooser, ChoosingQueue

CANCEL, TIMER = "cancel", "timer"
KINDS = (CANCEL, TIMER)
NOTHING = "-"


class Acts:
    """The acts of one run: asks the chooser, and notes the outcomes that are not the usual ones."""

    def __init__(self, chooser: Chooser, queue: ChoosingQueue) -> None:
        self.chooser = chooser
        self.queue = queue
        self.kernel: Kernel | None = None
        self.turn = -1  # of the last act
        self.counts: dict[str, int] = {}  # of the acts since that turn, by kind
        self.may_cancel = CANCEL in chooser.kinds

    def choose(self, kind: str, labels: list[str]) -> int:
        """Return the outcome of an act, as an index."""
        turn = self.queue.turns
        if turn != self.turn:
            self.turn, self.counts = turn, {}
        number = self.counts.get(kind, 0)
        self.counts[kind] = number + 1
        try:
            index = self.chooser.act(kind, labels, turn, number)
        except BaseException as error:
            self.queue.stopped = error
            raise
        if index:
            self.queue.differences.append((turn, f"{f'.{number}' if number else ''}!{labels[index]}"))
        return index

    def before_turn(self) -> bool:
        """Cancel a task, if that is chosen; return whether one was cancelled."""
        kernel = self.kernel
        if not self.may_cancel or kernel is None:
            return False
        tasks = [task for task in kernel.tasks() if task.state not in (ENDING, DONE) and task.requested is None]
        index = self.choose(CANCEL, [NOTHING, *(f"{CANCEL}-{path_of(task)}" for task in tasks)])
        if not index:
            return False
        self.may_cancel = False
        current, kernel.current = kernel.current, None
        kernel.cancel(tasks[index - 1], "explored")
        kernel.current = current
        return True


class ExploredClock(VirtualClock):
    """A virtual clock that lets an act come before its jump."""

    def __init__(self, acts: Acts) -> None:
        super().__init__()
        self.acts = acts

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Jump to `deadline`, unless an act makes a task ready."""
        if deadline is None or not self.acts.before_turn():
            super().wait(select, deadline)


class ExploredTimers(TrackedTimers):
    """Timers whose order is an act, where their deadlines are equal."""

    def __init__(self, kernel: Kernel, acts: Acts) -> None:
        acts.kernel = kernel
        super().__init__(kernel, ExploredClock(acts))
        self.acts = acts
        self.chooses = TIMER in acts.chooser.kinds

    def _pop(self) -> Any:
        if self.chooses and self.current[-1].callback is not None:
            self._choose()
        return super()._pop()

    def _choose(self) -> None:
        """Put the timer that is chosen to the end of `current`, where the next one stands."""
        current, deadline = self.current, float(self.current[-1])
        places: list[int] = []
        asleep = False
        for place in range(len(current) - 1, -1, -1):
            if float(current[place]) != deadline:
                break
            callback = current[place].callback
            if callback is None or (asleep and isinstance(callback, Task)):
                continue
            asleep = asleep or isinstance(callback, Task)
            places.append(place)
        if len(places) > 1:
            index = self.acts.choose(TIMER, [f"{TIMER}-{number}" for number in range(len(places))])
            current.append(current.pop(places[index]))


def expected_with(kinds: Container[str], expected: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    """Return the exceptions that a run may end with: one in which a task is cancelled may end with TaskCancelled."""
    return (*expected, TaskCancelled) if CANCEL in kinds else expected
