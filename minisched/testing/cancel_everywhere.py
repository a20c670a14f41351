"""Run a program once for each point at which a cancellation can reach it: `minisched.testing.cancel_everywhere`.

Theory of operation. In virtual time a program makes the same run each time. A first run counts its points:

- each turn that begins (the result that is already queued is delivered; the next checkpoint raises Cancelled);
- each wait that begins (the wait is undone);
- each time at which a wait ended. A deadline is put into that same turn, once before the event that ended the wait
  and once after it.

Then the program runs once for each point, and at that point the current task is cancelled; and once more, with the
main task cancelled instead. After each run three things are checked: no task is left waiting, the services hold
nothing, and the program's own `check()` passes.

The idea is trio's (issue 77, open since 2017).

Not here: the conformance test for a single syscall (`check_syscall`).
"""

from __future__ import annotations

from ..errors import TaskCancelled
from ..lab.leftovers import Trial
from ..tasks.clocks import VirtualClock
from ..tasks.timers import Timer, Timers
from .checker import Checker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..kernel import Kernel, Syscall, Task
    from ..lab.leftovers import Made

MAIN = "main"
TURN, PARK, BEFORE, AFTER = "turn", "park", "before", "after"
POINT_TEXTS = {  # {0}: the name of the task; {1}: the number of the turn or wait, from 1
    TURN: "at the start of a turn of task {0} (turn {1} of the run)",
    PARK: "when task {0} had started to wait (wait {1} of the run)",
    BEFORE: "just before the end of a wait of task {0} (wait {1} of the run)",
    AFTER: "just after the end of a wait of task {0} (wait {1} of the run)",
}


def cancel_everywhere(make: Callable[[], Made], *, expected: tuple[type[BaseException], ...] = ()) -> int:
    """Run a program once for each point at which a cancellation can reach it; return the number of runs.

    The points are each turn, each wait that begins, and each time at which a wait ends. The runs are in virtual time,
    and each checks that no task waits for ever and that no timer or service holds anything afterwards. The cost is
    O(points x length of the program): keep the program short.

    Args:
        make: called for each run; returns a fresh generator or coroutine, or a pair of it and a function `check()`.
            `check()` is called after the run and raises if something was lost: an item, a permit, the owner of a lock.
        expected: exceptions that the program may raise, besides TaskCancelled; they may be in groups.

    Returns:
        The number of runs, including the first one without a cancellation.

    Raises:
        AssertionError: says at which point the cancellation was injected and what went wrong.

    Example:
        >>> from minisched import Queue
        >>> from minisched.testing import cancel_everywhere
        >>> def make():
        ...     queue, received = Queue(), []
        ...     queue.put_nowait("item")
        ...     def main():
        ...         received.append((yield queue.get()))
        ...     def check():
        ...         assert [*received, *queue.items] == ["item"], "the item was lost"
        ...     return main(), check
        >>> cancel_everywhere(make)
        3
    """
    first = CancelAt(make, expected)
    first.execute()
    count = 1
    for kind, number, task in first.points():
        for target in (task, MAIN) if task.spawner else (task,):
            injection = CancelAt(make, expected, kind, number, first.wait_ends.get(number), target is MAIN)
            injection.execute()
            count += 1
    return count


class CancelAt(Trial):
    """One run of the program, with a cancellation injected at one point; none without a `kind`."""

    def __init__(
        self,
        make: Callable[[], Made],
        expected: tuple[type[BaseException], ...],
        kind: str = "",
        number: int = -1,
        time: float | None = None,
        cancel_main: bool = False,
    ) -> None:
        super().__init__(make, (TaskCancelled, *expected))
        self.kind, self.number, self.time, self.cancel_main = kind, number, time, cancel_main
        self.clock = VirtualClock()
        self.timer: Timer | None = None  # of the injection
        self.turns: list[Task] = []  # the task of each turn
        self.waits: list[tuple[Task, float]] = []  # the task of each wait, and when the wait began
        self.waiting: dict[Task, int] = {}  # the number of the wait that each parked task is in
        self.wait_ends: dict[int, float] = {}  # when each wait ended, if that was later than it began

    def points(self) -> Iterator[tuple[str, int, Task]]:
        """Return the points of this run at which a cancellation can be injected: kind, number, current task."""
        yield from ((TURN, number, task) for number, task in enumerate(self.turns))
        for number, (task, _) in enumerate(self.waits):
            yield PARK, number, task
            if number in self.wait_ends:
                yield BEFORE, number, task
                yield AFTER, number, task

    def execute(self) -> None:
        """Run the program; raise AssertionError if anything is wrong."""
        self.run_once(clock=self.clock, watch=[Checker(), self], debug=True)

    # The events, which count the points and inject the cancellation.

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel
        # Timers with the same deadline fire in the order of their creation. Made before the program runs, the
        # deadline comes before any event that ends the wait; made when the wait has begun (in `park`), after it.
        if self.kind == BEFORE and self.time is not None:
            self.timer = kernel.service(Timers).call_at(self.time, self._cancel_waiter)

    def turn(self, task: Task) -> None:
        self.turns.append(task)
        if self.kind == TURN and len(self.turns) - 1 == self.number:
            self._inject(task)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        number = self.waiting[task] = len(self.waits)
        self.waits.append((task, self.clock.now()))
        if number == self.number:
            if self.kind == PARK:
                self._inject(task)
            if self.kind == AFTER and self.time is not None:
                self.timer = self.kernel.service(Timers).call_at(self.time, self._cancel_waiter)

    def wake(self, task: Task, by: Task | None) -> None:
        number = self.waiting.pop(task, None)
        if number is not None and self.clock.now() > self.waits[number][1]:
            self.wait_ends[number] = self.clock.now()

    def exit(self, task: Task) -> None:
        if task.spawner is None and self.timer is not None:
            self.timer.cancel()  # a program with files or processes may end sooner than the first time
        super().exit(task)

    def _cancel_waiter(self) -> None:
        if self.number < len(self.waits):
            self._inject(self.waits[self.number][0])

    def _inject(self, task: Task) -> None:
        target = task
        while self.cancel_main and target.spawner is not None:
            target = target.spawner
        name = MAIN if self.cancel_main else f"task {task.name!r}"
        self.injected = f"{name} was cancelled {POINT_TEXTS[self.kind].format(repr(task.name), self.number + 1)}: "
        self.kernel.cancel(target, "injected")
