"""The portfolio of an exploration: schedules that are chosen at random, in three ways.

Theory of operation. *Random* chooses any ready task at each turn. *PCT*, probabilistic concurrency testing (Burckhardt
and others, ASPLOS 2010), gives each task a random priority, always runs the ready task with the highest one, and lowers
that of the running task at some random turns. It finds a failure that needs d orders of turns, among n tasks and k
turns, in one of n * k ** (d - 1) runs on average, or sooner. *POS*, partial-order sampling (X. Yuan, J. Yang and R. Gu,
CAV 2018), gives each turn a random priority, and a new one to those in conflict with the turn that runs: so the orders
that differ are about equally probable. Conflicts are predicted from the footprints of the run in round robin.

Each finds failures that the others seldom find, so that they take turns.

Not here: the search through all schedules (`exhaustive`).
"""

from __future__ import annotations

from random import Random

from ..report import path_of
from .acts import CANCEL
from .exhaustive import conflict
from .schedule import Chooser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from ...kernel import Task
    from .footprints import Event, Footprints

    Prediction = dict[tuple[str, int], list[Event]]

CHANGES = 2  # turns at which PCT changes a priority: it finds failures that need three orders of turns


def choosers(seed: int, turns: int, prediction: Prediction, kinds: Container[str]) -> Iterator[Chooser]:
    """Yield the choosers of the portfolio, one for each run: random, PCT and POS in turn."""
    random = Random(seed)
    while True:
        yield RandomChoice(Random(random.random()), turns, kinds)
        yield Pct(Random(random.random()), turns, kinds)
        yield Pos(Random(random.random()), turns, kinds, prediction)


def predicted(footprints: Footprints) -> Prediction:
    """Return the events of each turn of a task, by the name of the task and the number of the turn, from 0."""
    found: Prediction = {}
    counts: dict[str, int] = {}
    for events in footprints.steps:
        task = next(iter(events[0].footprint))  # the first touch of a turn is that of its task
        number = counts[task] = counts.get(task, -1) + 1
        found[task, number] = events
    return found


class RandomChoice(Chooser):
    """Choose any ready task, and any outcome of an act. A cancellation comes after a turn that is chosen first."""

    def __init__(self, random: Random, turns: int, kinds: Container[str]) -> None:
        self.random = random
        self.kinds = kinds
        self.cancels_after = random.randint(0, max(turns, 1)) if CANCEL in kinds else 0

    def choose(self, tasks: list[Task], turn: int) -> int:
        return self.random.randrange(len(tasks))

    def act(self, kind: str, labels: list[str], turn: int, number: int) -> int:
        return 0 if kind == CANCEL and turn < self.cancels_after else self.random.randrange(len(labels))


class Pct(RandomChoice):
    """Choose the ready task with the highest priority; at some turns, the chosen task gets the lowest one."""

    def __init__(self, random: Random, turns: int, kinds: Container[str]) -> None:
        super().__init__(random, turns, kinds)
        self.priorities: dict[tuple[int, ...], float] = {}
        self.changes = {random.randint(1, max(turns, 1)) for _ in range(CHANGES)}
        self.lowest = 0.0

    def choose(self, tasks: list[Task], turn: int) -> int:
        priorities = [self._priority(task) for task in tasks]
        index = priorities.index(max(priorities))
        if turn in self.changes:
            self.lowest -= 1.0
            self.priorities[tasks[index].path] = self.lowest
        return index

    def _priority(self, task: Task) -> float:
        path = task.path
        if path not in self.priorities:
            self.priorities[path] = self.random.random()
        return self.priorities[path]


class Pos(RandomChoice):
    """Choose the task whose turn has the highest priority; a turn in conflict with the last one gets a new one."""

    def __init__(self, random: Random, turns: int, kinds: Container[str], prediction: Prediction) -> None:
        super().__init__(random, turns, kinds)
        self.prediction = prediction
        self.turns: dict[str, int] = {}  # of each task, so far
        self.priorities: dict[tuple[str, int], float] = {}

    def choose(self, tasks: list[Task], turn: int) -> int:
        names = [f"task {path_of(task)}" for task in tasks]
        pending = [(name, self.turns.get(name, 0)) for name in names]
        for key in pending:
            if key not in self.priorities:
                self.priorities[key] = self.random.random()
        chosen = max(pending, key=self.priorities.__getitem__)
        self.turns[chosen[0]] = chosen[1] + 1
        events = self.prediction.get(chosen, [])
        for key in pending:
            if key != chosen and conflict(events, self.prediction.get(key, [])):
                del self.priorities[key]
        return pending.index(chosen)
