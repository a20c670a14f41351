"""A cancellation injected at every point of a program: `minisched.testing.cancel_everywhere`.

Theory of operation. In virtual time a program is the same in each run. A first run counts its
points: each turn that begins (the result on its way is delivered, the next checkpoint is told), each
wait that begins (it is undone), and the time at which each wait ended (a deadline comes in that
very turn, before what ended the wait, or after it). Then there is one run for each point, in which
the task that is there is cancelled, and one in which main is. What is looked at: that nobody is left
waiting, that nothing is left behind, and what the program itself wants to be true.

The idea is trio's (issue 77, open since 2017).

Not here: the battery for a single syscall (`battery`).
"""

from __future__ import annotations

from .clocks import VirtualClock
from .errors import TaskCancelled
from .family import Family
from .kernel import Kernel, Syscall, Task
from .loop import run
from .timers import Timers
from .watch import Checker, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from typing import Any

    Program = Generator[Any, Any, object] | Coroutine[Any, Any, object]
    Made = Program | tuple[Program, Callable[[], object]]

MAIN = "main"
TURN, PARK, BEFORE, AFTER = "turn", "park", "before", "after"
WORDS = {
    TURN: "as a turn of task {0} began (number {1} of all turns)",
    PARK: "as task {0} began to wait (number {1} of all waits)",
    BEFORE: "just before a wait of task {0} would have ended (number {1} of all waits)",
    AFTER: "just after a wait of task {0} had ended (number {1} of all waits)",
}


def cancel_everywhere(make: Callable[[], Made], *, expected: tuple[type[BaseException], ...] = ()) -> int:
    """Run a program once for each point at which a cancellation can meet it; return how many runs that took.

    `make()` returns a fresh generator or coroutine, or that and a function
    `check()`, called after each run, which raises if something was lost: items
    in are items out, permits are what they were, no lock has an owner. What the
    program may raise, besides TaskCancelled: `expected` (in groups, too).

    Raises AssertionError, which says at which point what went wrong.

    >>> from minisched import Sleep
    >>> def nap():
    ...     yield Sleep(1)
    >>> cancel_everywhere(nap)
    6
    """
    first = Injection(make, expected)
    first.execute()
    count = 1
    for kind, number, task in first.points():
        for target in (task, MAIN) if task.spawner else (task,):
            injection = Injection(make, expected, kind, number, first.ended.get(number), target is MAIN)
            injection.execute()
            count += 1
    return count


class Injection(Watcher):
    """One run, and the cancellation that is injected at one point of it."""

    def __init__(
        self,
        make: Callable[[], Made],
        expected: tuple[type[BaseException], ...],
        kind: str = "",
        number: int = -1,
        at: float | None = None,
        whole: bool = False,
    ) -> None:
        self.make = make
        self.expected = (TaskCancelled, *expected)
        self.kind, self.number, self.at, self.whole = kind, number, at, whole
        self.clock = VirtualClock()
        self.turns: list[Task] = []  # whose each was
        self.waits: list[tuple[Task, float]] = []  # whose each was, and when it began
        self.waiting: dict[Task, int] = {}  # which wait each is in
        self.ended: dict[int, float] = {}  # when each wait was over, if that was not at once
        self.where = ""  # it was cancelled
        self.left: list[str] = []

    def points(self) -> Iterator[tuple[str, int, Task]]:
        """Return where, and into which task, a cancellation can be injected into a run like this one."""
        yield from ((TURN, number, task) for number, task in enumerate(self.turns))
        for number, (task, _) in enumerate(self.waits):
            yield PARK, number, task
            if number in self.ended:
                yield BEFORE, number, task
                yield AFTER, number, task

    def execute(self) -> None:
        """Run the program; AssertionError if anything is wrong."""
        made = self.make()
        program, check = made if isinstance(made, tuple) else (made, None)
        try:
            try:
                _ = run(program, clock=self.clock, watch=[Checker(), self], debug=True)
            except BaseException as error:
                if not only(error, self.expected):
                    raise
            assert not self.left, f"left behind: {', '.join(self.left)}"
            if check is not None:
                _ = check()
        except BaseException as problem:
            raise AssertionError(f"{self.where}{problem!r}") from problem

    # What it is told of, and what it does then.

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel
        if self.kind == BEFORE and self.at is not None:
            _ = kernel.service(Timers).call_at(self.at, self._deadline)

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
            if self.kind == AFTER and self.at is not None:
                _ = self.kernel.service(Timers).call_at(self.at, self._deadline)

    def wake(self, task: Task, by: Task | None) -> None:
        number = self.waiting.pop(task, None)
        if number is not None and self.clock.now() > self.waits[number][1]:
            self.ended[number] = self.clock.now()

    def exit(self, task: Task) -> None:
        if task.spawner is None:  # main: the run is over
            self.left = list(leftovers(self.kernel))

    def _deadline(self) -> None:
        if self.number < len(self.waits):
            self._inject(self.waits[self.number][0])

    def _inject(self, task: Task) -> None:
        target = task
        while self.whole and target.spawner is not None:
            target = target.spawner
        who = MAIN if self.whole else f"task {task.name!r}"
        self.where = f"{who} was cancelled {WORDS[self.kind].format(repr(task.name), self.number)}: "
        self.kernel.cancel(target, "injected")


def leftovers(kernel: Kernel) -> Iterator[str]:
    """Say what a run that is over has left behind."""
    for kind, service in kernel.services.items():
        yield from (f"{task} in {kind.__name__}" for task in service.tasks())
    timers = kernel.service(Timers)
    if timers.alive():
        yield f"{len(timers.alive())} timers"
    family = kernel.service(Family)
    for name in ("joiners", "joining_all", "at_body_end"):
        if getattr(family, name):
            yield f"{name} {getattr(family, name)}"


def only(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of these kinds, or a group of such errors."""
    if isinstance(error, kinds):
        return True
    group: Any = error
    return isinstance(error, BaseExceptionGroup) and all(only(one, kinds) for one in group.exceptions)
