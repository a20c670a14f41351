"""Explore the schedules of a program: run it many times, each time with its turns in another order.

Theory of operation. Round robin is one schedule. A program that is right needs no particular one: whichever ready task
runs next, it gives its result. `explore` runs a program in virtual time with a ready queue that chooses
(`run(ready=)`), until a run fails. The first run is round robin. The others are a portfolio, in turn: a *random*
choice at each turn, and *PCT* (probabilistic concurrency testing: Burckhardt and others, ASPLOS 2010). PCT gives each
task a random priority, always runs the ready task with the highest one, and lowers that of the running task at some
random turns. It finds a failure that needs d orders of turns, among n tasks and k turns, in one of n * k ** (d - 1)
runs on average, or sooner. Each finds failures that the other seldom finds.

A schedule is written as its differences from round robin: `rr 12:0.2` runs task 0.2 at turn 12, in place of the first
of the ready queue. A schedule that fails is run again, to see that it fails in the same way. Then it is shrunk by
delta debugging (Zeller and Hildebrandt, 2002): differences are left out, as many as possible, as long as the run still
fails.

Invariants:
1. The same schedule gives the same run; a program that depends on something else is reported as such.
2. A run of MAX_TURNS turns is aborted, and counted as such: it is neither a failure nor a success.

Decision: a difference names the turn and the path of the task. Because: it is short, and a person can read it.
Rejected: the random seed alone, which means nothing without this version of the portfolio; a list of all choices.

Not here: faults (`faults`); all schedules, in place of some.
"""

from __future__ import annotations

from random import Random

from ..errors import SyscallError
from ..loop import run
from ..tasks.clocks import VirtualClock
from .report import label
from .timeline import Timeline, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..kernel import Task
    from ..kernel.watcher import Watcher
    from .leftovers import Made

    Choose = Callable[[list[Task], int], int]  # the ready tasks and the number of the turn -> an index

RUNS = 1000  # of a portfolio, unless the caller wants others
MAX_TURNS = 10_000  # of a run: a longer one is aborted
CHANGES = 2  # turns at which PCT changes a priority: it finds failures that need three orders of turns


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


class Exploration:
    """The result of `explore`.

    Attributes:
        runs: the number of runs, the aborted ones included, and those to shrink a schedule not.
        aborted: the number of runs that were aborted after MAX_TURNS turns.
        schedule: the schedule that fails, as short as it was found; None if no run has failed.
        error: the exception of that run.
        seed: the seed of the portfolio.

    Example:
        >>> from minisched.lab import explore
        >>> def main():
        ...     yield
        >>> print(explore(main, runs=10))
        no run of 10 has failed (portfolio of random and PCT, seed 0); this is not a proof
    """

    def __init__(self, program: Callable[[], Made], seed: int) -> None:
        self.program = program
        self.seed = seed
        self.runs = self.aborted = 0
        self.schedule: str | None = None
        self.error: BaseException | None = None

    def __str__(self) -> str:
        aborted = f", {self.aborted} of them aborted after {MAX_TURNS:,} turns" if self.aborted else ""
        portfolio = f"portfolio of random and PCT, seed {self.seed}"
        if self.schedule is None:
            return f"no run of {self.runs} has failed{aborted} ({portfolio}); this is not a proof"
        lines = [f"run {self.runs} fails{aborted} ({portfolio}): {type(self.error).__name__}: {self.error}"]
        return "\n".join([*lines, f"schedule: {self.schedule}", "", *self.lanes()])

    def lanes(self) -> list[str]:
        """Return the lines of a timeline of the failing run: a column for each task, a row for each turn."""
        lines: list[str] = []
        if self.schedule is not None:
            timeline = Timeline(lambda number, row: lines.append(plain(number, row)))
            _ = one_run(self.program, Schedule(self.schedule).choose, watch=[timeline])
            timeline.finish()
        return lines

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
    runs: int = RUNS,
    seed: int = 0,
    schedule: str | None = None,
    expected: tuple[type[BaseException], ...] = (),
) -> Exploration:
    """Run a program in many schedules, until a run fails; return what was found.

    A run fails if it raises an exception, such as Deadlock, or if its `check()` does. All runs are in virtual time.

    Args:
        program: called for each run; returns a fresh generator or coroutine, or a pair of it and a function `check()`,
            which is called after the run and raises if the result is wrong.
        runs: how many schedules are tried at most.
        seed: of the random choices; the same seed gives the same schedules.
        schedule: run this one only, such as "rr 12:0.2".
        expected: exceptions that do not count as a failure.

    Returns:
        An Exploration: print it.

    Raises:
        BadSchedule: the schedule is malformed, or does not fit the program.
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
    found = Exploration(program, seed)
    if schedule is not None:
        given = Schedule(schedule)
        outcome = found_by(found, given.choose, expected)
        given.check(outcome)
        if outcome.error is not None:
            found.schedule, found.error = schedule, outcome.error
        return found
    first = found_by(found, round_robin, expected)
    outcome, portfolio = first, choosers(seed, first.turns)
    while outcome.error is None and found.runs < runs:
        outcome = found_by(found, next(portfolio), expected)
    if outcome.error is not None:
        found.schedule, found.error = shrink(program, outcome, expected)
    return found


class Outcome:
    """The outcome of one run: its error, or None; its turns; and its differences from round robin."""

    def __init__(self, error: BaseException | None, queue: ChoosingQueue) -> None:
        self.error = error
        self.turns = queue.turns
        self.differences = queue.differences

    def same_as(self, other: Outcome) -> bool:
        """Return whether both runs have failed with an exception of the same class."""
        return type(self.error) is type(other.error)


class Aborted(SyscallError):
    """A run that has taken MAX_TURNS turns."""


class ChoosingQueue:
    """A ready queue in which a function chooses the task of each turn; tasks are in the order of their arrival."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.tasks: list[Task] = []
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
        index = self.choose(self.tasks, self.turns)
        task = self.tasks.pop(index)
        if index:
            self.differences.append((self.turns, path_of(task)))
        return task

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


def path_of(task: Task) -> str:
    """Return the path of a task as text."""
    return ".".join(map(str, task.path))


def one_run(
    program: Callable[[], Made],
    choose: Choose,
    expected: tuple[type[BaseException], ...] = (),
    watch: Sequence[Watcher] = (),
) -> Outcome:
    """Run the program once."""
    made = program()
    main, check = made if isinstance(made, tuple) else (made, None)
    queue, error = ChoosingQueue(choose), None
    try:
        _ = run(main, ready=queue, clock=VirtualClock(), watch=watch, debug=False)
        if check is not None:
            _ = check()
    except expected:
        pass
    except BaseException as failure:
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            raise
        error = failure
    return Outcome(error, queue)


def found_by(found: Exploration, choose: Choose, expected: tuple[type[BaseException], ...]) -> Outcome:
    """Run the program once and count the run. An aborted run has no error."""
    outcome = one_run(found.program, choose, expected)
    found.runs += 1
    if isinstance(outcome.error, Aborted):
        found.aborted += 1
        outcome.error = None
    return outcome


# The choices.


def round_robin(tasks: list[Task], turn: int) -> int:
    """Choose the task that has waited longest."""
    return 0


def choosers(seed: int, turns: int) -> Iterator[Choose]:
    """Yield the choices of the portfolio, one for each run: random and PCT in turn."""
    random = Random(seed)
    while True:
        yield RandomChoice(Random(random.random()))
        yield Pct(Random(random.random()), turns)


class RandomChoice:
    """Choose any ready task."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def __call__(self, tasks: list[Task], turn: int) -> int:
        return self.random.randrange(len(tasks))


class Pct:
    """Choose the ready task with the highest priority; at some turns, the chosen task gets the lowest one."""

    def __init__(self, random: Random, turns: int) -> None:
        self.random = random
        self.priorities: dict[tuple[int, ...], float] = {}
        self.changes = {random.randint(1, max(turns, 1)) for _ in range(CHANGES)}
        self.lowest = 0.0

    def __call__(self, tasks: list[Task], turn: int) -> int:
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


# Shrinking.


def shrink(
    program: Callable[[], Made], failed: Outcome, expected: tuple[type[BaseException], ...]
) -> tuple[str, BaseException | None]:
    """Return a schedule that fails in the same way, with as few differences from round robin as were found."""

    def fails(differences: Sequence[tuple[int, str]]) -> Outcome | None:
        outcome = one_run(program, Schedule(text_of(differences), strict=False).choose, expected)
        return outcome if outcome.same_as(failed) else None

    best = fails(failed.differences)
    if best is None or best.differences != failed.differences:
        schedule = text_of(failed.differences)
        raise SyscallError(
            f"the program is not the same in each run: schedule {schedule} has failed with {failed.error!r}, and not "
            "when it was run again. Does it depend on the time, a random number, or a value of an earlier run?"
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
