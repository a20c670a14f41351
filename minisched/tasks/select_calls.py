"""select: wait for the first of several calls.

Theory of operation. Select first asks each call, in order, whether it can be done now (`try_now`). If none can, the
task parks, and a SelectBranch is registered with each call as its waiter (`add_waiter`). The first branch that is woken
undoes the waits of the others and wakes the task. As in Concurrent ML's `choose` (J. Reppy, 1991) and Go's `select`,
exactly one of the calls happens. Unlike those, the first call in the order of the arguments wins a tie, so that a
program runs the same way each time.

Decision: the branches are waiters; no tasks are spawned for them.
Because: a waiter that has not been woken has taken nothing, so undoing it loses nothing.
Rejected: a race of tasks, each of which makes one call. Two of them may finish in the same turn, and the second item
would be lost.

Invariants:
1. Exactly one of the calls happens, or none if the task is cancelled or a call raises.
   A Write that has sent its first byte has begun, and wins: from then on, only the end of the Write, an error or a
   cancellation ends the wait.
2. After the wait, none of its waiters is registered anywhere.

Not here: the two halves of a call, `try_now` and `add_waiter` (`kernel/waiting.py`); a race of tasks (`gather`).
"""

from __future__ import annotations

from ..errors import SyscallError
from ..kernel import Selectable, Syscall
from ..kernel.generic import Answer
from ..kernel.tree import PARKED
from ..kernel.waiting import NOT_YET, Begun
from .positions import selecting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..kernel import Kernel, Task


class Select(Syscall[Answer]):
    """Wait until one of several calls can be done, and do it; `select` returns this call."""

    __slots__ = ("calls",)

    def __init__(self, calls: tuple[Selectable[Any], ...]) -> None:
        self.calls = calls

    def handle(self, kernel: Kernel, task: Task) -> Any:
        self._check()
        for number, call in enumerate(self.calls):
            answer = call.try_now(kernel, task)
            if type(answer) is Begun:
                wait = SelectWait(kernel, task)
                kernel.park(task, wait)
                wait.winner = number
                wait.add(number, answer)
                return None
            if answer is not NOT_YET:
                return number, answer
        wait = SelectWait(kernel, task)
        kernel.park(task, wait)  # first: if an `add_waiter` raises, the kernel undoes the waits made so far
        for number, call in enumerate(self.calls):
            wait.add(number, call)
            if wait.winner is not None:
                break  # this call was done at once, or has begun
        return None

    @property
    def in_steps(self) -> bool:
        """True if a part of one of the calls may happen before it has to wait."""
        return any(getattr(call, "in_steps", False) for call in self.calls)

    def _check(self) -> None:
        """Raise SyscallError for a call that cannot be one of several, and if there are no calls."""
        for call in self.calls:
            if not isinstance(call, Selectable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SyscallError(f"select takes calls like queue.get(), Sleep(1) or Join(task), not {call!r}")
        if not self.calls:
            raise SyscallError("select needs one call or more to wait for")

    def blockers(self) -> Iterable[Task]:
        """Return the tasks that all calls wait for, if they wait for the same ones, for deadlock reports."""
        blockers = [list(getattr(call, "blockers", tuple)()) for call in self.calls]
        return blockers[0] if all(others == blockers[0] for others in blockers) else ()

    def __repr__(self) -> str:
        return f"select({', '.join(map(repr, self.calls))})"


class SelectWait:
    """The wait of a task in a `select`: the undos of its branches. Calling it undoes them all."""

    __slots__ = ("kernel", "task", "undos", "winner")

    def __init__(self, kernel: Kernel, task: Task) -> None:
        self.kernel = kernel
        self.task = task
        self.undos: dict[int, Callable[[], object]] = {}  # by the number of the branch
        self.winner: int | None = None  # the number of the branch that was woken, or has begun

    def add(self, number: int, call: Selectable[Any] | Begun) -> None:
        """Register a branch as the waiter of `call`."""
        undo = call.add_waiter(self.kernel, SelectBranch(self, number))
        if self.task.state is PARKED:  # otherwise the branch was woken at once, and there is nothing to undo
            self.undos[number] = undo

    def win(self, number: int) -> None:
        """Undo the waits of all branches but this one."""
        self.winner = number
        undos, self.undos = self.undos, {}  # each undo refers to this wait: leave no cycle to the garbage collector
        own = undos.pop(number, None)
        for undo in undos.values():
            _ = undo()
        if own is not None:
            self.undos[number] = own

    def __call__(self) -> object:
        """Undo all branches; return the progress of the call that has begun, for `Cancelled.done`."""
        undos, self.undos = self.undos, {}
        done = [undo() for undo in undos.values()]
        return done[0] if self.winner is not None and done else None


class SelectBranch:
    """One branch of a `select`: the waiter that is registered with one of the calls."""

    __slots__ = ("wait", "number", "task")

    def __init__(self, wait: SelectWait, number: int) -> None:
        self.wait = wait
        self.number = number
        self.task = wait.task

    def resume(self, value: Any) -> None:
        """End the select with this branch's answer."""
        self._end()
        self.wait.kernel.resume(self.task, (self.number, value))

    def throw(self, error: BaseException) -> None:
        """End the select with this branch's error."""
        self._end()
        self.wait.kernel.throw(self.task, error)

    def commit(self) -> None:
        """Let this branch win before it is done."""
        self.wait.win(self.number)

    def _end(self) -> None:
        self.wait.win(self.number)
        self.wait.undos = {}  # the branch was woken, so its own wait has ended


@selecting
def select(*calls: Selectable[Any]) -> Select[tuple[int, Any]]:
    """Return a call that waits for the first of several calls: `number, value = yield select(queue.get(), Sleep(1))`.

    Exactly one of the calls happens. The first call that can be done wakes the task; if some can be done at once, the
    first of them in the order of the arguments happens. A cancellation ends the wait, and none of the calls happens. In
    an `async def`, write `await select(...)`. O(calls).

    Args:
        calls: at least one call that waits, of any kind: a get or put of a queue, a sleep, a Join, a wait for an
            event, semaphore, lock or barrier, a Read, Write, Accept, Connect or WaitSignal, a call in a thread.

    Returns:
        The number of the call that happened, from 0, and its answer.

    Raises:
        BaseException: the error of the call that happened.
        SyscallError: without calls, or for a call that cannot be one of several.

    Example:
        >>> from minisched import Queue, Sleep, Spawn, select
        >>> from minisched.testing import run
        >>> def producer(queue):
        ...     yield Sleep(2)
        ...     yield queue.put("item")
        >>> def main():
        ...     queue = Queue()
        ...     yield Spawn(producer(queue))
        ...     first = yield select(queue.get(), Sleep(1))
        ...     second = yield select(queue.get(), Sleep(5))
        ...     return first, second
        >>> run(main())
        ((1, None), (0, 'item'))
    """
    return Select(calls)
