"""Schedules: one run of a program, in which a function chooses the task of each turn.

A schedule is written as its differences from round robin: `rr 12:0.2` runs task 0.2 at turn 12, in place of the first
of the ready queue; `acts` has the form of other choices. All runs are in virtual time.

Invariants:
1. The same schedule gives the same run; a program that depends on something else is reported as such (`search`).
2. A run of MAX_TURNS turns is aborted, and counted as such: it is neither a failure nor a success.

Decision: a difference names the turn and the path of the task. Because: it is short, and a person can read it.
Rejected: the random seed alone, which means nothing without this version of the portfolio; a list of all choices.

Not here: the choice of schedules (`search`, `exhaustive`).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial

from ...errors import SyscallError
from ...loop import run
from ...tasks.timers import Timers
from ..leftovers import consists_of, parts
from ..report import label, path_of
from .acts import KINDS, Acts, ExploredTimers, expected_with
from .tracking import noting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterator, Sequence
    from typing import Any

    from ...kernel import Task
    from ...kernel.watcher import Watcher
    from ..leftovers import Made
    from .footprints import Footprints

MAX_TURNS = 10_000  # of a run: a longer one is aborted
DIFFERENCE = re.compile(
    r"(?P<turn>[0-9]+)(:(?P<path>\S+)|(\.(?P<number>[0-9]+))?!(?P<act>(?P<kind>[a-z]+)-\S+))"
)  # of a schedule from round robin


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


class Chooser:
    """Chooses the task of each turn, and the outcome of each act: here, as round robin does, and without acts."""

    kinds: Container[str] = ()  # of the acts that the run has

    def choose(self, tasks: list[Task], turn: int) -> int:
        """Return the index of the task that runs at a turn, among those that are ready."""
        return 0

    def act(self, kind: str, labels: list[str], turn: int, number: int) -> int:
        """Return the index of the outcome of an act after a turn; `number` counts the acts of its kind there."""
        return 0


class ChoosingQueue:
    """A ready queue in which a chooser chooses the task of each turn; tasks are in the order of their arrival."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.acts = Acts(chooser, self)
        self.tasks: list[Task] = []
        self.stopped: BaseException | None = None  # raised by the chooser: it ends the run
        self.turns = 0
        self.differences: list[tuple[int, str]] = []  # turns with a choice that is not round robin's, and the choice

    def append(self, task: Task) -> None:
        """Add a task that has become ready."""
        self.tasks.append(task)

    def popleft(self) -> Task:
        """Return the task that runs next."""
        if self.stopped is not None:
            return self.tasks.pop(0)  # the run is being cleaned up
        try:
            _ = self.acts.before_turn()
            self.turns += 1
            if self.turns > MAX_TURNS:
                kernel = self.tasks[0].kernel
                kernel.fault = kernel.fault or Aborted(f"more than {MAX_TURNS:,} turns")
            index = self.chooser.choose(self.tasks, self.turns)
        except BaseException as error:
            self.stopped = error
            raise
        task = self.tasks.pop(index)
        if index:
            self.differences.append((self.turns, f":{path_of(task)}"))
        return task

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


def one_run(
    program: Callable[[], Made],
    chooser: Chooser,
    expected: tuple[type[BaseException], ...] = (),
    watch: Sequence[Watcher] = (),
    footprints: Footprints | None = None,
) -> Outcome:
    """Run the program once, and note its footprints, if they are wanted."""
    queue, error = ChoosingQueue(chooser), None
    allowed = expected_with(chooser.kinds, expected)
    with noting(footprints) as watchers:
        main, check, given, own = parts(program())
        services: dict[Any, Any] = {**given, Timers: partial(ExploredTimers, acts=queue.acts)}
        try:
            with tolerated(allowed):
                _ = run(main, ready=queue, services=services, watch=[*watchers, *own, *watch], debug=False)
            if check is not None:
                with tolerated(expected):
                    _ = check()
        except BaseException as failure:
            if isinstance(failure, (KeyboardInterrupt, SystemExit)):
                raise
            error = failure
    if queue.stopped is not None:
        raise queue.stopped
    return Outcome(error, queue)


@contextmanager
def tolerated(expected: tuple[type[BaseException], ...]) -> Generator[None]:
    """Swallow an exception of these kinds, or a group that has only such exceptions."""
    try:
        yield
    except BaseException as error:
        if not consists_of(error, expected):
            raise


class Schedule(Chooser):
    """A schedule as text: round robin, except for some turns and acts."""

    def __init__(self, text: str, *, strict: bool = True) -> None:
        word, *parts = text.split() or [""]
        if word != "rr":
            raise BadSchedule(f"a schedule begins with rr, and this is {text!r}")
        self.differences: dict[int, str] = {}
        self.acts: dict[tuple[str, int, int], str] = {}  # by kind, turn and number
        for part in parts:
            found = DIFFERENCE.fullmatch(part)
            if found is None or (found["act"] and found["kind"] not in KINDS):
                text = "is not of the form TURN:PATH or TURN!ACT, such as 12:0.2 or 12!cancel-0.1"
                raise BadSchedule(f"{part!r} in the schedule {text}")
            if found["path"]:
                self.differences[int(found["turn"])] = found["path"]
            else:
                self.acts[found["kind"], int(found["turn"]), int(found["number"] or 0)] = found["act"]
        self.kinds = {kind for kind, _, _ in self.acts}
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

    def act(self, kind: str, labels: list[str], turn: int, number: int) -> int:
        """Choose the outcome that the schedule names."""
        wanted = self.acts.get((kind, turn, number))
        if wanted is None:
            return 0
        if wanted in labels:
            return labels.index(wanted)
        if self.strict and self.problem is None:
            self.problem = BadSchedule(
                f"the schedule has {wanted} after turn {turn}, and there are {', '.join(labels)}"
            )
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
        for (_, turn, _), act in self.acts.items():
            if not any(there == turn and choice.endswith(f"!{act}") for there, choice in outcome.differences):
                raise BadSchedule(f"the schedule has {act} after turn {turn}, and the program has no such choice there")


def text_of(differences: Sequence[tuple[int, str]]) -> str:
    """Return a schedule as text."""
    return " ".join(["rr", *(f"{turn}{choice}" for turn, choice in differences)])
