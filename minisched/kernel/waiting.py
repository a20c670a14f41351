"""Waiters, and calls that can be one of several.

Theory of operation. A *waiter* is a parked task, or one branch of a task that waits for several calls at once
(`select`). Code that wakes a waiter calls `resume` or `throw` of this module and need not know which of the two it is.
A call that waits has two halves: `try_now` returns the answer if there is one, and `add_waiter` registers a waiter
where the answer will come from. The task is parked before its waiter is registered, so the answer may come at any time
from then on, even within `add_waiter`, as a connection to a local socket is made at once.

Most calls happen in one step. A Write of more bytes than the socket takes does not: a part of it is done, and can't be
undone. Its `try_now` then returns a `Begun`, or it calls `commit` while it waits: from there on, no other branch wins.

Invariants:
1. Each waiter is woken at most once; waking it, or undoing its wait, removes it from where it was registered.
2. A call that loses in a `select` has not happened.

Not here: primitives (`primitive`) and other things to wait for (rooms `sync`, `tasks`, `io`); `tasks/select_calls`.
"""

from __future__ import annotations

from abc import abstractmethod

from .generic import Answer
from .syscall import Syscall
from .tree import PARKED, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .kernel import Kernel

    class Branch(Protocol):
        """One of the calls that a task waits for at once."""

        task: Task

        def resume(self, value: Any) -> None:
            """End the task's wait with an answer."""

        def throw(self, error: BaseException) -> None:
            """End the task's wait with an error."""

        def commit(self) -> None:
            """Undo the waits of the other branches: this one has begun to happen."""

    Waiter = Task | Branch


class NotYet:
    """The type of NOT_YET, which `try_now` of a Selectable returns in place of an answer.

    Example:
        >>> from minisched import NOT_YET, Queue, run
        >>> def main():
        ...     queue = Queue()
        ...     yield queue.put("item")
        ...     kernel = queue.kernel
        ...     print(queue.get().try_now(kernel, kernel.current))
        ...     return queue.get().try_now(kernel, kernel.current)
        >>> run(main())
        item
        NOT_YET
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "NOT_YET"


NOT_YET: Any = NotYet()


class Begun:
    """The outcome of a `try_now` that has done a part of its work: `add_waiter` waits for the rest.

    Only a call that does its work in several steps needs this, as Write does, and it has a `handle` of its own. Then
    `select` waits for this call alone.
    """

    __slots__ = ("add_waiter",)

    def __init__(self, add_waiter: Callable[[Kernel, Waiter], Callable[[], object]]) -> None:
        self.add_waiter = add_waiter


class Selectable(Syscall[Answer]):
    """A call that waits, and that can be one of several (`select`). Subclass it to add your own.

    A subclass has `try_now` and `add_waiter`, and inherits `handle`.
    `in_steps`: whether a part of the call may happen in `try_now`, which then returns a Begun (default: no).

    Example:
        >>> from minisched import NOT_YET, Selectable, Sleep, Timers, select
        >>> from minisched.testing import run
        >>> class NextMinute(Selectable[None]):
        ...     def try_now(self, kernel, task):
        ...         return NOT_YET
        ...     def add_waiter(self, kernel, waiter):
        ...         timers = kernel.service(Timers)
        ...         return timers.wake_at((timers.now() // 60 + 1) * 60, waiter)
        >>> def main():
        ...     return (yield select(Sleep(90), NextMinute()))
        >>> run(main())
        (1, None)
    """

    __slots__ = ()
    in_steps = False

    @abstractmethod
    def try_now(self, kernel: Kernel, task: Task) -> Answer:
        """Return the answer, or raise it, if it is available now; otherwise return NOT_YET and change nothing."""

    @abstractmethod
    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        """Register `waiter`, so that `resume` or `throw` wakes it once; return the undo.

        The undo removes the waiter again. It is called if the task is cancelled or another branch comes first. The
        task is parked already, so this method may also wake the waiter at once; its undo is not called then.
        """

    def handle(self, kernel: Kernel, task: Task) -> Answer | None:
        answer = self.try_now(kernel, task)
        if answer is not NOT_YET:
            return answer
        kernel.park(task, None)
        undo = self.add_waiter(kernel, task)
        if task.state is PARKED:  # otherwise `add_waiter` has woken it
            task.undo = undo
        return None


def resume(kernel: Kernel, waiter: Waiter, value: Any = None) -> None:
    """Wake a waiter: the call that it waits for returns `value`.

    Call this in the run's thread; from another thread, through `Wakeup.call`. It wakes a waiter once: first remove the
    waiter from where it is registered.

    Example:
        >>> from minisched import NOT_YET, Selectable, Timers, resume
        >>> from minisched.testing import run
        >>> class Nap(Selectable[str]):
        ...     def try_now(self, kernel, task):
        ...         return NOT_YET
        ...     def add_waiter(self, kernel, waiter):
        ...         timers = kernel.service(Timers)
        ...         return timers.call_at(timers.now() + 60, lambda: resume(kernel, waiter, "a minute later")).cancel
        >>> def main():
        ...     return (yield Nap())
        >>> run(main())
        'a minute later'
    """
    if isinstance(waiter, Task):
        kernel.resume(waiter, value)
    else:
        waiter.resume(value)


def throw(kernel: Kernel, waiter: Waiter, error: BaseException) -> None:
    """Wake a waiter: the call that it waits for raises `error`.

    Everything else is as for `resume`.

    Example:
        >>> from minisched import NOT_YET, Selectable, Timers, throw
        >>> from minisched.testing import run
        >>> class Patience(Selectable[str]):
        ...     def try_now(self, kernel, task):
        ...         return NOT_YET
        ...     def add_waiter(self, kernel, waiter):
        ...         timers, error = kernel.service(Timers), ValueError("at its end")
        ...         return timers.call_at(timers.now() + 60, lambda: throw(kernel, waiter, error)).cancel
        >>> def main():
        ...     try:
        ...         yield Patience()
        ...     except ValueError as error:
        ...         return str(error)
        >>> run(main())
        'at its end'
    """
    if isinstance(waiter, Task):
        kernel.throw(waiter, error)
    else:
        waiter.throw(error)


def commit(waiter: Waiter) -> None:
    """Let the call of this waiter win: a part of it has happened. Only an undo or an answer may follow."""
    if not isinstance(waiter, Task):
        waiter.commit()


def task_of(waiter: Waiter) -> Task:
    """Return the task that waits."""
    return waiter if isinstance(waiter, Task) else waiter.task
