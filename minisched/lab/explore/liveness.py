"""Liveness: something good comes about in the end, as a bound on how long it may take.

Theory of operation. No run that ends shows that something never happens. So a bound stands for "in the end". It is in
*rounds*: a round is over when each task that was ready at its start has had a turn. An unfair schedule, which runs one
task for ever, has no second round, and does not count against the program.

Both watchers are made for each run: a program under exploration returns them after its services, and `run(watch=...)`
takes them as well.

Not here: whether a run ends at all (`MAX_TURNS` in `schedule`, and Deadlock).
"""

from __future__ import annotations

from ...kernel.numbers import check_count
from ...kernel.watcher import Watcher
from ..report import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...kernel import Kernel, Syscall, Task


class Rounds(Watcher):
    """Counts the rounds of a run."""

    def __init__(self, rounds: int) -> None:
        self.bound = check_count(type(self).__name__, "rounds", "rounds", rounds, least=1)
        self.round = 0
        self.left: set[Task] = set()  # tasks that were ready when the round began, and have not had a turn yet
        self.kernel: Kernel | None = None

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def turn(self, task: Task) -> None:
        if not self.left and self.kernel is not None:
            self.round += 1
            self.left = {*self.kernel.ready}
        self.left.discard(task)

    def exit(self, task: Task) -> None:
        self.left.discard(task)


class Eventually(Rounds):
    """A watcher that fails a run in which something does not come about within a number of rounds.

    The condition has to hold at the start of some turn in each stretch of `rounds` rounds. In an exhaustive
    exploration, it reads the attributes of a `Shared` or the state of a primitive, and each turn depends on these.

    Args:
        condition: a plain function without arguments, called before each turn.
        rounds: how many rounds it may take; in a round, each task that is ready has a turn.
        text: a sentence on the condition, for the failure.

    Raises:
        AssertionError: from the run.
        TypeError, ValueError: `rounds` is not a number of 1 or more.

    Example:
        >>> from minisched import run
        >>> from minisched.lab import Eventually
        >>> def main(state):
        ...     while len(state) < 10:
        ...         yield
        ...     state.append("late")
        >>> state = []
        >>> try:
        ...     run(main(state), watch=[Eventually(lambda: state, rounds=100, text="main has appended")])
        ... except AssertionError as error:
        ...     print(error)
        not within 100 rounds: main has appended
    """

    def __init__(self, condition: Callable[[], object], *, rounds: int, text: str = "the condition holds") -> None:
        super().__init__(rounds)
        self.condition = condition
        self.text = text
        self.since = 0  # the round in which the condition held last

    def turn(self, task: Task) -> None:
        super().turn(task)
        if self.condition():
            self.since = self.round
        elif self.round - self.since > self.bound:
            raise AssertionError(f"not within {self.bound} rounds: {self.text}")


class NoStarvation(Rounds):
    """A watcher that fails a run in which a task waits for another one longer than a number of rounds.

    Waits for time, files and threads do not count, nor do those of daemons.

    Args:
        rounds: how many rounds a wait may take; in a round, each task that is ready has a turn.

    Raises:
        AssertionError: from the run; names the task and its call.
        TypeError, ValueError: `rounds` is not a number of 1 or more.

    Example:
        >>> from minisched import Event, Spawn, run
        >>> from minisched.lab import NoStarvation
        >>> def spins(event):
        ...     for _ in range(1000):
        ...         yield
        ...     event.set()
        >>> def main():
        ...     event = Event()
        ...     yield Spawn(spins(event))
        ...     yield event.wait()
        >>> try:
        ...     run(main(), watch=[NoStarvation(rounds=100)])
        ... except AssertionError as error:
        ...     print(error)
        task 0 main has waited for more than 100 rounds in EventWait(<Event #1: 1 waiting>)
    """

    def __init__(self, *, rounds: int) -> None:
        super().__init__(rounds)
        self.waiting: dict[Task, int] = {}  # the round in which the wait of each task began

    def park(self, task: Task, call: Syscall[Any]) -> None:
        if not call.external and not task.daemon:
            self.waiting[task] = self.round

    def wake(self, task: Task, by: Task | None) -> None:
        _ = self.waiting.pop(task, None)

    def turn(self, task: Task) -> None:
        before = self.round
        super().turn(task)
        if self.round != before:
            for waiter, since in self.waiting.items():
                if self.round - since > self.bound:
                    text = f"task {label(waiter)} has waited for more than {self.bound} rounds in {waiter.call!r}"
                    raise AssertionError(text)
