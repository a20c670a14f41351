"""A watcher that asserts the kernel's invariants before each turn."""

from __future__ import annotations

from ..bridges.one_thread import OneThread
from ..kernel.tree import PARKED, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    queued = set(kernel.ready)
    assert len(queued) == len(kernel.ready), f"queued twice: {list(kernel.ready)}"
    for task in kernel.tasks():
        assert (task in queued) == (task.state is READY and task is not kernel.current), f"{task} is misplaced"
        assert task.state is PARKED or (task.undo is None and task.call is None), f"{task} has an undo"
        scope: Scope | None = task.scope
        while scope is not None and scope is not task.parent:
            assert scope.effective is scope.effective_now(), f"{task} does not see its cancellation"
            scope = scope.parent
    for service in kernel.services.values():
        for task in service.tasks():
            assert task.state is PARKED, f"{type(service).__name__} still holds {task}"
