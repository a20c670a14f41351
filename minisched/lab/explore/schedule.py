"""Schedules: one run of a program, in which a function chooses the task of each turn.

A schedule is written as its differences from round robin: `rr 12:0.2` runs task 0.2 at turn 12, in place of the first
of the ready queue. All runs are in virtual time.

Invariants:
1. The same schedule gives the same run; a program that depends on something else is reported as such (`search`).
2. A run of MAX_TURNS turns is aborted, and counted as such: it is neither a failure nor a success.

Decision: a difference names the turn and the path of the task. Because: it is short, and a person can read it.
Rejected: the random seed alone, which means nothing without this version of the portfolio; a list of all choices.

Not here: the choice of schedules (`search`, `exhaustive`).
"""

from __future__ import annotations

from functools import partial

from ...errors import SyscallError
from ...loop import run
from ...tasks.clocks import VirtualClock
from ...tasks.timers import Timers
from ..leftovers import parts
from ..report import label, path_of
from .tracking import TrackedTimers, noting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ...kernel import Task
    from ...kernel.watcher import Watcher
    from ..leftovers import Made
    from .footprints import Footprints

    Choose = Callable[[list[Task], int], int]  # the ready tasks and the number of the turn -> an index

MAX_TURNS = 10_000  # of a run: a longer one is aborted


class BadSchedule(ValueError):
    """A schedule that is malformed, or that does not fit the program. The text names the turn.

    Example:
        >>> from minisched.lab import BadSchedule, explore
        >>> def main():
        ...     yield
        >>> try:
        ...     explore(main, schedule="rr 7:0.1")
        ... except BadSchedule as error:
        ...     print(error)
        the schedule runs task 0.1 at turn 7, and the program has ended after 2
    """


class Outcome:
    """The outcome of one run: its error, or None; its turns; and its differences from round robin."""

    def __init__(self, error: BaseException | None, queue: ChoosingQueue) -> None:
        self.error = error
        self.turns = queue.turns
        self.differences = queue.differences

    def same_as(self, other: Outcome) -> bool:
        """Return whether both runs have failed with an exception of the same class."""
        return kind_of(self.error) == kind_of(other.error)


def kind_of(error: BaseException | None) -> str:
    """Return the name of an error's class: each run may make the class again."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


class Aborted(SyscallError):
    """A run that has taken MAX_TURNS turns."""


class ChoosingQueue:
    """A ready queue in which a function chooses the task of each turn; tasks are in the order of their arrival."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.tasks: list[Task] = []
        self.stopped: BaseException | None = None  # raised by `choose`: it ends the run
        self.turns = 0
        self.differences: list[tuple[int, str]] = []  # turns in which the first task did not run, and the one that did

    def append(self, task: Task) -> None:
        """Add a task that has become ready."""
        self.tasks.append(task)

    def popleft(self) -> Task:
        """Return the task that runs next."""
        self.turns += 1
        if self.turns > MAX_TURNS:
            kernel = self.tasks[0].kernel
            kernel.fault = kernel.fault or Aborted(f"more than {MAX_TURNS:,} turns")
        try:
            index = self.choose(self.tasks, self.turns)
        except BaseException as error:
            self.stopped = error
            raise
        task = self.tasks.pop(index)
        if index:
            self.differences.append((self.turns, path_of(task)))
        return task

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


def one_run(
    program: Callable[[], Made],
    choose: Choose,
    expected: tuple[type[BaseException], ...] = (),
    watch: Sequence[Watcher] = (),
    footprints: Footprints | None = None,
) -> Outcome:
    """Run the program once, and note its footprints, if they are wanted."""
    queue, error = ChoosingQueue(choose), None
    timers = partial(Timers if footprints is None else TrackedTimers, clock=VirtualClock())
    with noting(footprints) as watchers:
        main, check, given = parts(program())
        services: dict[Any, Any] = {**given, Timers: timers}
        try:
            _ = run(main, ready=queue, services=services, watch=[*watchers, *watch], debug=False)
            if check is not None:
                _ = check()
        except expected:
            pass
        except BaseException as failure:
            if isinstance(failure, (KeyboardInterrupt, SystemExit)):
                raise
            error = failure
    if queue.stopped is not None:
        raise queue.stopped
    return Outcome(error, queue)


def round_robin(tasks: list[Task], turn: int) -> int:
    """Choose the task that has waited longest."""
    return 0


class Schedule:
    """A schedule as text: round robin, except for some turns."""

    def __init__(self, text: str, *, strict: bool = True) -> None:
        word, *parts = text.split() or [""]
        if word != "rr":
            raise BadSchedule(f"a schedule begins with rr, and this is {text!r}")
        self.differences: dict[int, str] = {}
        for part in parts:
            turn, colon, path = part.partition(":")
            if not (turn.isascii() and turn.isdigit() and colon and path):
                raise BadSchedule(f"{part!r} in the schedule is not of the form TURN:PATH, such as 12:0.2")
            self.differences[int(turn)] = path
        self.strict = strict  # a task that is not ready at its turn is an error; otherwise the turn is round robin's
        self.problem: BadSchedule | None = None

    def choose(self, tasks: list[Task], turn: int) -> int:
        """Choose the task that the schedule names."""
        wanted = self.differences.get(turn)
        for index, task in enumerate(tasks if wanted is not None else ()):
            if path_of(task) == wanted:
                return index
        if wanted is not None and self.strict and self.problem is None:
            ready = ", ".join(map(label, tasks))
            self.problem = BadSchedule(f"the schedule runs task {wanted} at turn {turn}, and ready are {ready}")
        return 0

    def check(self, outcome: Outcome) -> None:
        """Raise BadSchedule if the schedule does not fit the run."""
        if self.problem is not None:
            raise self.problem
        for turn, path in self.differences.items():
            if turn > outcome.turns:
                raise BadSchedule(
                    f"the schedule runs task {path} at turn {turn}, and the program has ended after {outcome.turns}"
                )


def text_of(differences: Sequence[tuple[int, str]]) -> str:
    """Return a schedule as text."""
    return " ".join(["rr", *(f"{turn}:{path}" for turn, path in differences)])
