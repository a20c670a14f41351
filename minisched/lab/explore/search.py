"""Explore the schedules of a program: run it many times, each time with its turns in another order.

Theory of operation. Round robin is one schedule. A program that is right needs no particular one: whichever ready task
runs next, it gives its result. `explore` runs a program in virtual time with a ready queue that chooses
(`run(ready=)`), until a run fails. The first run is round robin. The others are those of a portfolio (`portfolio`), or
all that differ (`exhaustive`).

A schedule that fails is run again, to see that it fails in the same way. Then it is shrunk by delta debugging (Zeller
and Hildebrandt, 2002): differences from round robin are left out, as many as possible, as long as the run still fails.

Invariants:
1. The same schedule gives the same run; a program that depends on something else is reported as such.
2. A run of MAX_TURNS turns is aborted, and counted as such: it is neither a failure nor a success.

Not here: a schedule as text (`schedule`); faults (`lab/faults`).
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import SyscallError
from ...kernel.numbers import check_count
from ...kernel.tracebacks import safe_repr
from .acts import CANCEL, TIMER
from .checkpoint import load, save
from .exhaustive import EXHAUSTIVE_RUNS, Search
from .explain import lanes, too_late, two_lines
from .footprints import Footprints
from .portfolio import choosers, predicted
from .schedule import MAX_TURNS, Aborted, Chooser, Outcome, Schedule, one_run, text_of
from .tracking import tracked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ..leftovers import Made

    Expected = tuple[type[BaseException], ...]

RUNS = 1000  # of a portfolio, unless the caller wants others
ACTS = {CANCEL: "a cancellation", TIMER: "any order of equal deadlines"}
RESPECT = "Differences are seen in tasks, primitives, deadlines and Shared, and in no other variables."


class Exploration:
    """The result of `explore`.

    Attributes:
        runs: the number of runs, without those to shrink a schedule.
        cut_short: the number of these that an exhaustive exploration has ended, since they equal earlier ones.
        aborted: the number of these that were aborted after MAX_TURNS turns.
        schedule: the schedule that fails, as short as it was found; None if no run has failed.
        error: the exception of that run.
        seed: the seed of the portfolio.
        exhausted: whether all schedules that differ were run.
        left: an estimate of how many runs of an exhaustive exploration are left.

    Example:
        >>> from minisched.lab import explore
        >>> def main():
        ...     yield
        >>> print(explore(main, runs=10))
        no run of 10 has failed (portfolio of random, PCT and POS, seed 0); this is not a proof
    """

    def __init__(
        self,
        program: Callable[[], Made],
        seed: int,
        *,
        exhaustive: bool,
        twice: bool,
        expected: Expected,
        kinds: Collection[str] = (),
    ) -> None:
        self.program = program
        self.kinds = kinds  # of acts
        self.seed = seed
        self.exhaustive = exhaustive
        self.twice = twice
        self.expected = expected
        self.runs = self.cut_short = self.aborted = self.left = 0
        self.exhausted = False
        self.schedule: str | None = None
        self.error: BaseException | None = None

    def __str__(self) -> str:
        aborted = f", {self.aborted} of them aborted after {MAX_TURNS:,} turns" if self.aborted else ""
        acts = " and ".join(ACTS[kind] for kind in self.kinds)
        how = "exhaustive" if self.exhaustive else f"portfolio of random, PCT and POS, seed {self.seed}"
        how += f", with {acts}" if acts else ""
        if self.schedule is not None:
            lines = [f"run {self.runs} fails{aborted} ({how}): {described(self.error)}"]
            lines += [f"schedule: {self.schedule}", *self.reasons(), "", *self.lanes()]
            return "\n".join(lines)
        if self.exhausted and not self.aborted:
            return (
                f"no schedule fails: all {self.runs - self.cut_short} that differ were run"
                f"{f' ({how})' if acts else ''}, and {self.cut_short} that equal one of them were cut short. {RESPECT}"
            )
        if self.exhaustive:
            return f"no run of {self.runs} has failed{aborted} ({how}); about {self.left} are left. {RESPECT}"
        return f"no run of {self.runs} has failed{aborted} ({how}); this is not a proof"

    def reasons(self) -> list[str]:
        """Return sentences on the failing run: the two lines whose order matters, and when it was too late."""
        if self.schedule is None:
            return []
        lines = two_lines(self.program, self.schedule)
        return [*([] if lines is None else [lines]), too_late(self.program, self.schedule, self.expected)]

    def lanes(self) -> list[str]:
        """Return the lines of a timeline of the failing run: a column for each task, a row for each turn."""
        return [] if self.schedule is None else lanes(self.program, self.schedule)

    def regression(self, name: str = "program") -> str:
        """Return the text of a test for pytest that runs the failing schedule; `name` is that of the program."""
        return (
            f"def test_{name.rpartition('.')[2]}_in_the_schedule_that_failed():\n"
            f"    result = explore({name}, schedule={self.schedule!r})\n"
            f"    assert result.schedule is None, result\n"
        )


def explore(
    program: Callable[[], Made],
    *,
    runs: int | None = None,
    seed: int = 0,
    schedule: str | None = None,
    exhaustive: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    twice: bool = False,
    cancellations: bool = False,
    deadlines: bool = False,
    expected: Expected = (),
) -> Exploration:
    """Run a program in many schedules, until a run fails; return what was found.

    A run fails if it raises an exception, such as Deadlock, or if its `check()` does. All runs are in virtual time.

    An exhaustive exploration runs each schedule that differs from the others in what the tasks see of each other:
    through primitives, calls, the state of tasks, deadlines, and the attributes of a `Shared`. It sees no other plain
    variables. It suits programs of two to four tasks; of larger ones, it prints how many runs are left.

    Args:
        program: called for each run; returns a fresh generator or coroutine; or a pair of it and a function `check()`,
            which is called after the run and raises if the result is wrong, or None; or these and the services of the
            run, such as those of a `SimNet`; or these and the watchers of the run, such as `Eventually`.
        runs: how many schedules are tried at most; by default 1,000 of the portfolio, 20,000 of an exhaustive one.
        seed: of the random choices; the same seed gives the same schedules.
        schedule: run this one only, such as "rr 12:0.2".
        exhaustive: run all schedules that differ, in place of some.
        checkpoint: a file in which an exhaustive exploration keeps its state when it comes to `runs`, and with which
            it goes on at the next call. It is removed at the end.
        twice: run each schedule a second time, and compare: a program that depends on anything else is refused.
        cancellations: in each run, one task may be cancelled, at any point. A TaskCancelled is expected then.
        deadlines: timers with the same deadline may fire in any order; otherwise in the order of their creation.
        expected: exceptions that do not count as a failure. The check is made after them, too.

    Returns:
        An Exploration: print it.

    Raises:
        BadSchedule: the schedule is malformed, or does not fit the program.
        BadCheckpoint: the file is not a checkpoint, or is one of another program.
        TypeError: a checkpoint without `exhaustive`.
        OSError: the file cannot be read or written.
        SyscallError: the program is not the same in each run, so that no schedule means anything.

    Example:
        A lost update, which round robin does not show:

        >>> from minisched import gather
        >>> from minisched.lab import explore
        >>> def program():
        ...     counter = [0]
        ...     def add(late):
        ...         for _ in range(late):
        ...             yield
        ...         value = counter[0]
        ...         yield
        ...         counter[0] = value + 1
        ...     def main():
        ...         yield from gather(add(0), add(3))
        ...     def check():
        ...         assert counter == [2], f"{counter[0]} in place of 2"
        ...     return main(), check
        >>> result = explore(program)
        >>> type(result.error).__name__, explore(program, schedule=result.schedule).schedule == result.schedule
        ('AssertionError', True)
    """
    if runs is not None:
        _ = check_count("explore", "runs", "runs", runs, least=1)
    if checkpoint is not None and not exhaustive:
        raise TypeError("explore: only an exhaustive exploration has a checkpoint")
    kinds = [kind for kind, wanted in ((CANCEL, cancellations), (TIMER, deadlines)) if wanted]
    found = Exploration(program, seed, exhaustive=exhaustive, twice=twice, expected=expected, kinds=kinds)
    if schedule is not None:
        given = Schedule(schedule)
        outcome = found_by(found, given)
        given.check(outcome)
        if outcome.error is not None:
            found.schedule, found.error = schedule, outcome.error
        return found
    failed = all_schedules(found, runs or EXHAUSTIVE_RUNS, checkpoint) if exhaustive else some(found, runs or RUNS)
    if failed is not None:
        found.schedule, found.error = shrink(program, failed, expected)
    return found


def some(found: Exploration, runs: int) -> Outcome | None:
    """Run the schedules of the portfolio until one fails; return its outcome."""
    footprints = Footprints()
    with tracked():
        outcome = found_by(found, Chooser(), footprints)
    portfolio = choosers(found.seed, outcome.turns, predicted(footprints), found.kinds)
    while outcome.error is None and found.runs < runs:
        outcome = found_by(found, next(portfolio))
    return None if outcome.error is None else outcome


def all_schedules(found: Exploration, runs: int, checkpoint: str | os.PathLike[str] | None) -> Outcome | None:
    """Run all schedules that differ until one fails; return its outcome."""
    file = None if checkpoint is None else Path(checkpoint)
    search = Search(kinds=found.kinds) if file is None else load(file, found)
    stop, outcome, more = found.runs + runs, None, True
    with tracked():
        while more and found.runs < stop:
            outcome = search.run(found.program, found.expected)
            run_again(found, outcome)
            found.runs += 1
            if outcome is None:
                found.cut_short += 1
            elif isinstance(outcome.error, Aborted):
                found.aborted += 1
            elif outcome.error is not None:
                break
            outcome, more = None, search.advance()
    found.exhausted, found.left = not more, search.left(found.runs)
    if file is not None:
        save(file, search, found) if more and outcome is None else file.unlink(missing_ok=True)
    return outcome


def found_by(found: Exploration, chooser: Chooser, footprints: Footprints | None = None) -> Outcome:
    """Run the program once and count the run. An aborted run has no error."""
    outcome = one_run(found.program, chooser, found.expected, footprints=footprints)
    run_again(found, outcome)
    found.runs += 1
    if isinstance(outcome.error, Aborted):
        found.aborted += 1
        outcome.error = None
    return outcome


def run_again(found: Exploration, outcome: Outcome | None) -> None:
    """Run a schedule a second time, if that is wanted; raise SyscallError if it is another run."""
    if found.twice and outcome is not None:
        schedule = text_of(outcome.differences)
        again = one_run(found.program, Schedule(schedule, strict=False), found.expected)
        if not again.same_as(outcome) or (again.differences, again.turns) != (outcome.differences, outcome.turns):
            raise SyscallError(
                f"the program is not the same in each run: schedule {schedule} has taken {outcome.turns} turns and "
                f"{ended(outcome)}, and then {again.turns} turns and {ended(again)}. Does it depend on the time, a "
                "random number, or a value of an earlier run?"
            )


def described(error: BaseException | None) -> str:
    """Return an error's class and text, whatever its `__str__` does."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return safe_repr(error)


def ended(outcome: Outcome) -> str:
    """Return how a run has ended, for a sentence."""
    return "returned" if outcome.error is None else f"raised {safe_repr(outcome.error)}"


# Shrinking.


def shrink(
    program: Callable[[], Made], failed: Outcome, expected: tuple[type[BaseException], ...]
) -> tuple[str, BaseException | None]:
    """Return a schedule that fails in the same way, with as few differences from round robin as were found."""

    def fails(differences: Sequence[tuple[int, str]]) -> Outcome | None:
        outcome = one_run(program, Schedule(text_of(differences), strict=False), expected)
        return outcome if outcome.same_as(failed) else None

    best = fails(failed.differences)
    if best is None or best.differences != failed.differences:
        schedule = text_of(failed.differences)
        raise SyscallError(
            f"the program is not the same in each run: schedule {schedule} has failed with {safe_repr(failed.error)}, "
            "and not when it was run again. Does it depend on the time, a random number, or a value of an earlier run?"
        )
    size = max(len(best.differences) // 2, 1)
    while best.differences:
        kept = best.differences
        smaller: Outcome | None = None
        for start in range(0, len(kept), size):
            smaller = fails([*kept[:start], *kept[start + size :]])
            if smaller is not None and len(smaller.differences) < len(kept):
                break
            smaller = None
        if smaller is not None:
            best, size = smaller, max(min(size, len(smaller.differences) // 2), 1)
        elif size == 1:
            break
        else:
            size //= 2
    return text_of(best.differences), best.error
