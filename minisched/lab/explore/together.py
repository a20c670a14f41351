"""Helpers of a program under exploration, which make it small and its exploration complete: `together`, `Shared`.

Theory of operation. The explorer sees what tasks do with locks, queues and other tasks, and not what they do with plain
variables. A program keeps in a `Shared` what its tasks share. `together` starts all tasks in one turn, so that no order
of starts and first turns is explored, and waits for their ends, which may come in any order.

Not here: how a touch is seen (`tracking`).
"""

from __future__ import annotations

from ...kernel import Syscall
from ...kernel.misuse import check_body
from ...tasks.tasks import JoinAll, awaitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from ...kernel import Kernel, Task
    from ...tasks.tasks import Body


class Shared:
    """A value, or several, that tasks share: a program under exploration shows by it what it reads and writes.

    Any attribute can be set. In a run that is not explored, this is a plain object. A change inside of a value is not
    seen, such as `shared.items.append(1)`: write `shared.items = [*shared.items, 1]`.

    Example:
        >>> from minisched.lab import Shared
        >>> account = Shared(balance=10)
        >>> account.balance += 5
        >>> account
        Shared(balance=15)
    """

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __repr__(self) -> str:
        return f"Shared({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class StartAll(Syscall["list[Task]"]):
    """Start several children in one turn; `together` uses this call."""

    __slots__ = ("bodies",)
    checkpoint = False

    def __init__(self, bodies: tuple[Body[Any], ...]) -> None:
        self.bodies = bodies

    def handle(self, kernel: Kernel, task: Task) -> list[Task]:
        for body in self.bodies:
            check_body(body)  # of all of them, before one is started
        return [kernel.spawn(body, None, task) for body in self.bodies]


@awaitable
def together(*bodies: Body[Any]) -> Generator[Any, Any, list[Any]]:
    """Start children in one turn, and wait for them; return their results. Call it by `yield from`, or `await` it.

    Otherwise like a Spawn of each and a JoinAll: a failure of a child cancels this task, and the wait is for all
    children, also for those that were spawned before.

    Args:
        bodies: generators or coroutines that have not been started.

    Raises:
        SyscallError: if one of them is not a fresh generator or coroutine.

    Example:
        >>> from minisched import run
        >>> from minisched.lab import together
        >>> def double(number):
        ...     yield
        ...     return 2 * number
        >>> def main():
        ...     return (yield from together(double(1), double(2)))
        >>> run(main())
        [2, 4]
    """
    tasks: list[Task] = yield StartAll(bodies)
    yield JoinAll()
    return [task.result for task in tasks]
