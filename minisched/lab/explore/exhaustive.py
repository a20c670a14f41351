"""Exhaustive exploration: one run for each order of turns that matters.

Theory of operation. Two runs are *equal* if one becomes the other by exchanging neighbouring turns that do not
conflict (`footprints`): all their tasks see the same. A class of equal runs is a *trace*, after A. Mazurkiewicz (1977).
The search is depth first. A *frame* stands for a turn: the ready tasks, the one that runs, and those that have to run
there in other runs.

A run begins with one choice in each frame. When a turn conflicts with an earlier one, and nothing in between orders
the two, they race: the search adds all tasks that were ready at the earlier turn to the choices there. This is the
coarse form of dynamic partial-order reduction (C. Flanagan and P. Godefroid, POPL 2005). *Sleep sets* (P. Godefroid,
1996) drop runs that are equal to earlier ones: a task whose turn was tried in a frame sleeps in the later choices of
this frame, until a turn conflicts with it. A run in which all ready tasks sleep is cut short.

Which pairs in conflict do not race? Two turns of one task. A turn and the one that has made its task ready. And an end
of a child and the consequence of the last end, which comes after all of them (`footprints`). Another turn that races
with the consequence may come before it in two ways: before the last end, or before another one, which then is the last
one. So the search adds choices at each of them.

`check_reduction` runs a small program with all choices, with sleep sets alone, and as above, and compares the traces.
So a touch that is missing in the footprints of some primitive is found.

An act (`acts`) belongs to the turn before it. All of its outcomes are tried, but for cancellations: one that is
possible after several turns is tried after each of them that touches the task, its descendants, or what it waits for.
After another turn, it would do the same as before that turn.

Invariants:
1. When the search ends, it has had a run of each trace of the program.
2. A run that begins as an earlier one has the same footprints up to there; otherwise the program is refused.

Decision: a race adds all ready tasks. Because: fewer would do (source sets, wake-up trees), but a mistake there loses
runs in silence, and sleep sets end most of the others early. Rejected: optimal reduction.

Not here: the acts themselves (`acts`); plain variables.
"""

from __future__ import annotations

from ...errors import SyscallError
from ..report import path_of
from .acts import CANCEL
from .footprints import END, Event, Footprints, merge
from .schedule import Aborted, Chooser, Outcome, one_run
from .tracking import tracked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Any

    from ...kernel import Task
    from ..leftovers import Made

    Trace = frozenset[tuple[Any, Any]]

ALL, SLEEP_SETS, RACES = "all choices", "sleep sets", "races"  # reductions
EXHAUSTIVE_RUNS = 20_000  # of a search, unless the caller wants others


class CutShort(BaseException):
    """Ends a run that is equal to an earlier one. Not an Exception: no `except` of the program should handle it."""


class Act:
    """An act: the outcomes that have to be tried, as indices of its labels; the first one is in force."""

    __slots__ = ("labels", "outcomes")

    def __init__(self, labels: list[str], outcomes: list[int]) -> None:
        self.labels = labels
        self.outcomes = outcomes


class Frame:
    """A turn: the choice that was made there, and those that are left."""

    __slots__ = ("acts", "choices", "epoch", "events", "first", "masks", "ready", "sleep", "slept", "task", "tried")

    def __init__(self, ready: list[str], sleep: dict[str, list[Event]]) -> None:
        self.ready = ready  # paths of the ready tasks, in the order of the queue
        self.sleep = sleep  # the events of a task that sleeps
        self.slept = len(sleep)  # before any choice was made here
        self.task = ""  # the one that runs
        self.choices: set[str] = set()  # all that have to run, in one run or another
        self.events: list[Event] = []  # of the turn; empty until it has ended
        self.tried: list[Event] = []  # of the turns of this task in all runs that differ by acts
        self.acts: list[Act] = []
        self.masks: list[int] = []  # for each event, the bits of those that come before it in every order
        self.first = 0  # the number of the first event among those of the run
        self.epoch = 0


class Search(Chooser):
    """A depth-first search over the schedules of a program."""

    def __init__(self, reduction: str = RACES, kinds: Container[str] = ()) -> None:
        self.reduction = reduction
        self.kinds = kinds
        self.frames: list[Frame] = []
        self.before = Frame([], {})  # for the acts before the first turn
        self.depth = 0  # the turns of this run so far
        self.acts = 0  # those since the last turn
        self.known = 0  # frames whose turns were run before, with the same choices
        self.footprints = Footprints()
        self.exhausted = False
        self.consequences: dict[str, dict[str, str]] = {}  # touches of a consequence, by the name of its count

    def run(self, program: Callable[[], Made], expected: tuple[type[BaseException], ...] = ()) -> Outcome | None:
        """Run the next schedule; return None if it is equal to an earlier one. Then call `advance`."""
        self.depth, self.acts, self.footprints = 0, 0, Footprints()
        try:
            outcome = one_run(program, self, expected, footprints=self.footprints)
        except CutShort:
            return None
        self._end_turn()
        del self.frames[self.depth :]
        return outcome

    def choose(self, tasks: list[Task], turn: int) -> int:
        """Choose the task of this turn. The ready queue calls this."""
        self._end_turn()
        ready = [path_of(task) for task in tasks]
        if self.depth == len(self.frames):
            self._new_frame(ready)
        frame = self.frames[self.depth]
        if frame.ready != ready:
            raise not_the_same(turn, f"ready were {', '.join(frame.ready)}, and now {', '.join(ready)}")
        self.depth += 1
        self.acts = 0
        return ready.index(frame.task)

    def act(self, kind: str, labels: list[str], turn: int, number: int) -> int:
        """Choose the outcome of an act after the last turn."""
        acts = self.frames[self.depth - 1].acts if self.depth else self.before.acts
        if self.acts == len(acts):
            acts.append(Act(labels, self._outcomes(kind, labels)))
        act = acts[self.acts]
        if act.labels != labels:
            raise not_the_same(turn, f"the choice was {', '.join(act.labels)}, and now {', '.join(labels)}")
        self.acts += 1
        return act.outcomes[0]

    def _outcomes(self, kind: str, labels: list[str]) -> list[int]:
        """Return the outcomes of an act that have to be tried."""
        if kind != CANCEL or not self.depth:
            return [*range(len(labels))]
        touched = {name for event in self.footprints.steps[-1] for name in event.footprint}
        near = self.footprints.near(touched)
        return [number for number, label in enumerate(labels) if not number or label.removeprefix(f"{CANCEL}-") in near]

    def _new_frame(self, ready: list[str]) -> None:
        sleep: dict[str, list[Event]] = {}
        if self.frames and self.reduction != ALL:
            before = self.frames[-1]
            sleep = {
                path: self._later(events, before.events)
                for path, events in before.sleep.items()
                if not conflict(events, before.events)
            }
        awake = [path for path in ready if path not in sleep]
        if not awake:
            raise CutShort
        frame = Frame(ready, sleep)
        frame.task = awake[0]
        frame.choices = {awake[0]} if self.reduction == RACES else {*ready}
        self.frames.append(frame)

    def _later(self, events: list[Event], turn: list[Event]) -> list[Event]:
        """Return the events of a sleeping task's turn as they may be after another turn.

        If both count for the same, that of the sleeping task may be the last end now, and have the consequence. Its
        touches are known from earlier runs, in which another end was the last: the tasks that sleep have run before.
        """
        names = {name for event in turn for name, mode in event.footprint.items() if mode == END}
        todo = [name for event in events for name, mode in event.footprint.items() if mode == END and name in names]
        if not todo:
            return events
        footprint: dict[str, str] = {}
        while todo:
            for name, mode in self.consequences.get(todo.pop(), {}).items():
                if mode == END and name not in footprint:
                    todo.append(name)
                merge(footprint, name, mode)
        return [*events, Event(footprint)]

    def _end_turn(self) -> None:
        """Note the events of the turn that has just ended, and the races that it takes part in."""
        if self.depth == 0:
            return
        number = self.depth - 1
        self.footprints.end_turn()
        frame, events, epoch = self.frames[number], self.footprints.steps[number], self.footprints.epochs[number]
        del frame.acts[self.acts :]
        if number < self.known:
            if frame.events != events:
                raise not_the_same(number + 1, f"the touches were {touched(frame.events)}, and now {touched(events)}")
            return
        self.known = self.depth
        frame.events, frame.epoch = events, epoch
        frame.tried = [*frame.tried, *events]
        before = self.frames[number - 1] if number else None
        frame.first = before.first + len(before.events) if before is not None else 0
        frame.masks = []
        for event in events:
            frame.masks.append(self._mask(number, event))
            if event.trigger is not None:
                known = self.consequences.setdefault(event.trigger, {})
                for name, mode in event.footprint.items():
                    if name != event.trigger:
                        merge(known, name, mode)

    def _mask(self, number: int, event: Event) -> int:
        """Return the bits of the events that come before one of the last turn, and of itself; note its races."""
        frame = self.frames[number]
        mask = 0
        for own, mask_there in zip(frame.events, frame.masks, strict=False):
            mask |= mask_there if own.conflicts(event) else 0
        index = number - 1
        while index >= 0 and (earlier := self.frames[index]).epoch == frame.epoch:
            for place in range(len(earlier.events) - 1, -1, -1):
                if not mask >> (earlier.first + place) & 1 and earlier.events[place].conflicts(event):
                    mask |= earlier.masks[place]
                    if self.reduction == RACES:
                        self._race(index, earlier.events[place], number, event)
            index -= 1
        return mask | 1 << (frame.first + len(frame.masks))

    def _race(self, index: int, earlier: Event, number: int, later: Event) -> None:
        """Add choices, so that two events in conflict also come in the other order, if that is possible."""
        task, frame = self.frames[number].task, self.frames[index]
        if frame.task == task or earlier.counts_for(later):
            return
        made_ready = task not in frame.ready and task in self.frames[index + 1].ready
        if not made_ready:
            frame.choices.update(frame.ready)
        elif f"task {task}" in earlier.footprint:
            return
        if earlier.trigger is not None:  # the other order comes about, too, if another end is the last one
            for before in self.frames[:index]:
                if before.epoch == frame.epoch and any(event.counts_for(earlier) for event in before.events):
                    before.choices.update(before.ready)

    def advance(self) -> bool:
        """Go to the next schedule; return False if there is none."""
        while self.frames:
            frame = self.frames[-1]
            self.known = len(self.frames) - 1
            if next_outcome(frame.acts):
                return True
            frame.sleep[frame.task] = [] if self.reduction == ALL else frame.tried
            left = [path for path in frame.ready if path in frame.choices and path not in frame.sleep]
            if left:
                frame.task, frame.tried = left[0], []
                return True
            _ = self.frames.pop()
        self.known = 0
        self.exhausted = not next_outcome(self.before.acts)
        return not self.exhausted

    def left(self, runs: int) -> int:
        """Return an estimate of the runs that are left after some, as if each choice led to equally many."""
        done, weight = 0.0, 1.0
        for frame in (self.before, *self.frames):
            choices = len(frame.choices | frame.sleep.keys()) - frame.slept
            weight /= max(choices, 1)
            done += weight * (len(frame.sleep) - frame.slept)
            for act in frame.acts:
                weight /= len(act.labels)
                done += weight * (len(act.labels) - len(act.outcomes))
        return 0 if self.exhausted else max(round(runs / done) - runs, 1) if done else 1

    def trace(self) -> Trace:
        """Return the trace of the run: the pairs of events in conflict, in their order, and the epoch of each event."""
        counts: dict[str, int] = {}
        labels: list[tuple[Event, int, tuple[str, int]]] = []
        pairs: set[tuple[Any, Any]] = set()
        for frame in self.frames:
            for event in frame.events:
                name = frame.task if event.trigger is None else f"the last end for {event.trigger}"
                counts[name] = counts.get(name, 0) + 1
                label = name, counts[name]
                pairs.add((label, frame.epoch))
                pairs.update(
                    (there, label) for other, epoch, there in labels if epoch == frame.epoch and other.conflicts(event)
                )
                labels.append((event, frame.epoch, label))
        return frozenset(pairs)


class Reduction:
    """The result of `check_reduction`: how many runs and traces each search had, and whether the traces are the same.

    Attributes:
        runs: the number of complete runs, by the name of the search.
        cut_short: the number of runs that were cut short.
        traces: the traces.
        complete: False if a search came to the bound on its runs.

    Example:
        >>> from minisched.lab import check_reduction, together
        >>> def child():
        ...     yield
        >>> def main():
        ...     yield from together(child(), child())
        >>> result = check_reduction(main)
        >>> result.runs, result.agrees
        ({'all choices': 30, 'sleep sets': 1, 'races': 1}, True)
    """

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.cut_short: dict[str, int] = {}
        self.traces: dict[str, set[Trace]] = {}
        self.complete: dict[str, bool] = {}

    @property
    def agrees(self) -> bool | None:
        """Whether all searches have had the same traces; None if one of them did not end."""
        if not all(self.complete.values()):
            return None
        first, *others = self.traces.values()
        return all(traces == first for traces in others)

    def __str__(self) -> str:
        verdict = {True: "the traces agree", False: "the traces DIFFER", None: "not compared: a search did not end"}
        return "\n".join(
            [
                f"{name:<12} {self.runs[name]:>6} runs {self.cut_short[name]:>6} cut short {len(traces):>6} traces"
                f"{'' if self.complete[name] else '  (did not end)'}"
                for name, traces in self.traces.items()
            ]
            + [verdict[self.agrees]]
        )


def check_reduction(program: Callable[[], Made], *, runs: int = EXHAUSTIVE_RUNS) -> Reduction:
    """Search all schedules of a small program in three ways, and compare the traces.

    Runs that fail are runs as others.

    Args:
        program: as for `explore`.
        runs: how many runs each search may take.

    Returns:
        A Reduction: print it. `agrees` says whether the traces are the same.

    Example:
        >>> from minisched import Lock, gather
        >>> from minisched.lab import check_reduction
        >>> def program():
        ...     lock = Lock()
        ...     def work():
        ...         with (yield lock.acquire()):
        ...             yield
        ...     def main():
        ...         yield from gather(work(), work())
        ...     return main()
        >>> print(check_reduction(program))
        all choices      74 runs      0 cut short     20 traces
        sleep sets       20 runs      6 cut short     20 traces
        races            20 runs      2 cut short     20 traces
        the traces agree
    """
    result = Reduction()
    with tracked():
        for reduction in (ALL, SLEEP_SETS, RACES):
            search, left = Search(reduction), runs
            result.runs[reduction] = result.cut_short[reduction] = 0
            traces: set[Trace] = set()
            result.traces[reduction] = traces
            more = True
            while more and left:
                left -= 1
                outcome = search.run(program)
                if outcome is None:
                    result.cut_short[reduction] += 1
                elif isinstance(outcome.error, Aborted):
                    break  # an endless run has no trace
                else:
                    result.runs[reduction] += 1
                    traces.add(search.trace())
                more = search.advance()
            result.complete[reduction] = not more
    return result


def next_outcome(acts: list[Act]) -> bool:
    """Go to the next outcome of the last act that has one; return whether there is one."""
    while acts:
        _ = acts[-1].outcomes.pop(0)
        if acts[-1].outcomes:
            return True
        _ = acts.pop()
    return False


def conflict(events: list[Event], others: list[Event]) -> bool:
    """Return whether the order of two turns matters."""
    return any(event.conflicts(other) for event in events for other in others)


def touched(events: list[Event]) -> str:
    """Return the names in some footprints, for an error."""
    return ", ".join(sorted({name for event in events for name in event.footprint}))


def not_the_same(turn: int, text: str) -> SyscallError:
    """Return the error for a program that is not the same in each run."""
    return SyscallError(
        f"the program is not the same in each run: at turn {turn}, {text}. Does it depend on the time, a random "
        "number, or a value of an earlier run?"
    )
