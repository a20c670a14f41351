"""A watcher that asserts the kernel's invariants before each turn."""

from __future__ import annotations

from ..bridges.one_thread import OneThread
from ..kernel.tree import PARKED, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..kernel import Kernel, Scope, Task

MAX_TASKS_FULLY_CHECKED = 1000  # with more living tasks, only some turns are checked: a check costs O(tasks)
CHECK_INTERVAL_TURNS = 997  # between two checks with many tasks; a prime, so as not to fall into step with the program


class Checker(OneThread):
    """Assert the kernel's invariants before each turn, and that no other thread uses the kernel's verbs.

    A watcher that `minisched.testing.run` installs; give it to `minisched.run(watch=[...])` to check a run in real
    time. A check costs O(tasks), so with more than 1,000 living tasks only every 997th turn is checked.

    Raises:
        AssertionError: from the run, when an invariant does not hold; the message names the task and the service.

    Example:
        >>> from minisched import Sleep, run
        >>> def main():
        ...     yield Sleep(0)
        ...     return "every invariant held"
        >>> run(main(), watch=[Checker()])
        'every invariant held'
    """

    def __init__(self) -> None:
        self.turns = self.living_tasks = 0

    def spawn(self, task: Task) -> None:
        super().spawn(task)
        self.living_tasks += 1

    def exit(self, task: Task) -> None:
        self.living_tasks -= 1

    def turn(self, task: Task) -> None:
        self.turns += 1
        if self.living_tasks <= MAX_TASKS_FULLY_CHECKED or self.turns % CHECK_INTERVAL_TURNS == 0:
            check(self.kernel)


def check(kernel: Kernel) -> None:
    """Assert the kernel's invariants (they stand at the top of `kernel/kernel.py`). O(tasks)."""
    for violation in violations(kernel):
        raise AssertionError(violation)  # no `assert`: pytest would rewrite it, and -O leave it out


def violations(kernel: Kernel) -> Iterator[str]:
    """Describe each violation of an invariant."""
    queued = set(kernel.ready)
    if len(queued) != len(kernel.ready):
        yield f"queued twice: {list(kernel.ready)}"
    for task in kernel.tasks():
        if (task in queued) != (task.state is READY and task is not kernel.current):
            yield f"{task} is misplaced"
        if task.state is not PARKED and not (task.undo is None and task.call is None):
            yield f"{task} has an undo"
        if not all(scope.effective is scope.effective_now() for scope in scopes_of(task)):
            yield f"{task} does not see its cancellation"
    for service in kernel.services.values():
        yield from (f"{type(service).__name__} still holds {task}" for task in service.tasks() if task.state != PARKED)


def scopes_of(task: Task) -> Iterator[Scope]:
    """Yield the scopes of a task, from the innermost to the task itself."""
    scope: Scope | None = task.scope
    while scope is not None and scope is not task.parent:
        yield scope
        scope = scope.parent
