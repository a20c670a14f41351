"""Explain a schedule that fails: the run as lanes, the two lines whose order matters, and when it was too late.

Theory of operation. The run is repeated, which costs nothing but time: a schedule always gives the same run.

*The two lines.* At the last difference from round robin, some task has run in place of another one. Of the turns until
the other one had its next turn, the first that conflicts with that turn is shown (`footprints`). If there is none, the
last two turns in conflict are shown, if possible two that both write.

*Too late.* From which turn on does each order of the rest fail? A prefix of the schedule is followed by random orders,
SAMPLES times. If all of them fail after a prefix, they do so after a longer one, too: so the turn is found by
bisection. This is an estimate, as each sample is.

Not here: how the schedule was found (`explore`) and shrunk.
"""

from __future__ import annotations

from random import Random

from ..report import path_of
from ..timeline import Timeline, plain
from .footprints import WRITE, Footprints
from .schedule import Schedule, one_run
from .tracking import tracked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...kernel import Task
    from ..leftovers import Made
    from .footprints import Event

    Expected = tuple[type[BaseException], ...]

SAMPLES = 20  # random orders after a prefix


class Chosen(Schedule):
    """A schedule that keeps the paths of the ready tasks, and of the one that runs, for each turn."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.turns: list[tuple[list[str], str]] = []

    def choose(self, tasks: list[Task], turn: int) -> int:
        index = super().choose(tasks, turn)
        self.turns.append(([path_of(task) for task in tasks], path_of(tasks[index])))
        return index


class Begun(Schedule):
    """A schedule up to a turn, and then random choices."""

    def __init__(self, text: str, turns: int, random: Random) -> None:
        super().__init__(text)
        self.turns = turns
        self.random = random

    def choose(self, tasks: list[Task], turn: int) -> int:
        return super().choose(tasks, turn) if turn <= self.turns else self.random.randrange(len(tasks))


def lanes(program: Callable[[], Made], schedule: str) -> list[str]:
    """Return the lines of a timeline of the run: a column for each task, a row for each turn."""
    lines: list[str] = []
    timeline = Timeline(lambda number, row: lines.append(plain(number, row)))
    _ = one_run(program, Schedule(schedule), watch=[timeline])
    timeline.finish()
    return lines


def two_lines(program: Callable[[], Made], schedule: str) -> str | None:
    """Return a sentence that names two lines of the program whose order makes the run fail; None if none is seen."""
    chosen, footprints = Chosen(schedule), Footprints(lines=True)
    with tracked():
        _ = one_run(program, chosen, footprints=footprints)
    footprints.end_turn()
    turns = range(len(chosen.turns))
    for number in reversed(turns):
        ready, task = chosen.turns[number]
        if task != ready[0]:
            later = next((turn for turn in turns[number + 1 :] if chosen.turns[turn][1] == ready[0]), None)
            if later is not None and (sentence := between(chosen, footprints, turns[number:later], later)) is not None:
                return sentence
    for writes in (True, False):  # round robin fails, or a task that was passed over has no further turn
        for later in reversed(turns):
            if (sentence := between(chosen, footprints, reversed(turns[:later]), later, writes=writes)) is not None:
                return sentence
    return None


def between(
    chosen: Chosen, footprints: Footprints, turns: Iterable[int], later: int, *, writes: bool = False
) -> str | None:
    """Return the sentence for the first of some turns of other tasks that conflicts with a later turn.

    `writes`: only if both of them write.
    """
    task = chosen.turns[later][1]
    for earlier in turns:
        if chosen.turns[earlier][1] == task:
            continue
        for name in names_in_conflict(footprints.steps[earlier], footprints.steps[later], writes):
            first, second = (footprints.places.get((turn, name)) for turn in (earlier, later))
            if first is not None and second is not None:
                return (
                    f"{name}: task {chosen.turns[earlier][1]} at {first[0]}:{first[1]} comes before "
                    f"task {task} at {second[0]}:{second[1]}"
                )
    return None


def names_in_conflict(events: list[Event], others: list[Event], writes: bool) -> list[str]:
    """Return the names for which the order of two turns matters, without those of tasks and deadlines."""
    names = {
        name
        for event in events
        for other in others
        for name in event.clashes(other)
        if not writes or event.footprint[name] == other.footprint[name] == WRITE
    }
    return sorted(name for name in names if not name.startswith(("task ", "children of ", "time ")))


def too_late(program: Callable[[], Made], schedule: str, expected: Expected) -> str:
    """Return a sentence that says from which turn on each order fails."""
    turns = one_run(program, Schedule(schedule), expected).turns
    random = Random(0)

    def failures(prefix: int) -> int:
        return sum(after(program, schedule, prefix, random, expected) for _ in range(SAMPLES))

    low, high = -1, turns  # all orders after `high` turns fail, and not all after `low`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if failures(middle) == SAMPLES else (middle, high)
    if high == 0:
        return f"too late from the beginning on: all of {SAMPLES} random orders fail"
    return (
        f"too late after turn {high}: all of {SAMPLES} random orders of the rest fail; after turn {high - 1}, "
        f"{failures(high - 1)} do"
    )


def after(program: Callable[[], Made], schedule: str, prefix: int, random: Random, expected: Expected) -> bool:
    """Return whether a run fails that has the first turns of a schedule, and then random ones."""
    return one_run(program, Begun(schedule, prefix, random), expected).error is not None
