"""Events and barriers: tasks that wait for one moment.

Theory of operation. Waiting is a syscall. Setting an event, or arriving last at a barrier, wakes all waiters within
that turn, in FIFO order. The event has then happened for a woken task: a later `clear`, a next round of the barrier,
or a cancellation in the same turn does not revoke that.

Invariants:
1. A task waits for an event only while the event is not set.
2. A barrier for N parties has at most N - 1 waiters.

Not here: the wait queue and its undo (`kernel/primitive.py`); primitives with an owner (`locks`).
"""

from __future__ import annotations

from ..errors import SyscallError
from ..kernel import Selectable
from ..kernel.numbers import check_count
from ..kernel.primitive import Primitive
from ..kernel.waiting import NOT_YET, resume, task_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter


class Event(Primitive):
    """Let tasks wait until something has happened.

    An event starts unset. `set` wakes all waiters, and every later `wait` returns at once, until
    `clear`. The plain calls `set`, `clear` and `is_set` never wait.

    Args:
        name: shown in traces and deadlock reports; by default a number that the run assigns.

    Example:
        >>> from minisched import Event, Now, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def waiter(event):
        ...     yield event.wait()
        ...     print("set at", (yield Now()))
        >>> def main():
        ...     event = Event()
        ...     yield Spawn(waiter(event))
        ...     yield Sleep(2)
        ...     event.set()
        >>> run(main())
        set at 2.0
    """

    __slots__ = ("happened",)

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.happened = False

    def wait(self) -> EventWait:
        """Wait until the event is set.

        Returns at once if the event is set already. `set` wakes the task. A cancellation while the
        task is parked undoes the wait. Can be a branch of `select`.

        Raises:
            SyscallError: if tasks of another run wait for this event.

        Example:
            >>> from minisched import Event, Sleep, select
            >>> from minisched.testing import run
            >>> def main():
            ...     number, _ = yield select(Event().wait(), Sleep(5))
            ...     return ["set", "too late"][number]
            >>> run(main())
            'too late'
        """
        return EventWait(self)

    def is_set(self) -> bool:
        """Return whether the event is set.

        Example:
            >>> from minisched import Event
            >>> Event().is_set()
            False
        """
        return self.happened

    def set(self) -> None:
        """Set the event and wake all waiters in FIFO order.

        Later calls of `wait` return at once, until `clear`. Setting a set event does nothing.
        A plain call, O(waiters).

        Raises:
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Event
            >>> event = Event("started")
            >>> event.set()
            >>> event
            <Event started: set>
        """
        kernel = self.check_caller("set")
        self.happened = True
        while self.waiters and kernel is not None:
            resume(kernel, self.waiters.popitem(last=False)[0])

    def clear(self) -> None:
        """Unset the event, so that later calls of `wait` wait for the next `set`.

        Tasks that `set` has woken already go on, also if they have not had a turn since. A plain call.

        Raises:
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Event
            >>> event = Event()
            >>> event.set()
            >>> event.clear()
            >>> event.is_set()
            False
        """
        _ = self.check_caller("clear")
        self.happened = False

    def state(self) -> str:
        return "set" if self.happened else super().state()


class EventWait(Selectable[None]):
    """Wait until an event is set; made by `event.wait()`."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event

    def try_now(self, kernel: Kernel, task: Task) -> None:
        self.event.bind(kernel)
        return None if self.event.happened else NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.event.add_waiter(waiter)


class Barrier(Primitive):
    """Make tasks wait for each other until `parties` of them have arrived.

    The last to arrive wakes the others, and the barrier is ready for the next round.

    Args:
        parties: how many tasks have to arrive; 1 or more.
        name: shown in traces and deadlock reports; by default a number that the run assigns.

    Raises:
        TypeError: if `parties` is not an integer.
        ValueError: if `parties` is less than 1, or infinite or NaN.

    Example:
        >>> from minisched import Barrier, Now, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def runner(barrier, seconds):
        ...     yield Sleep(seconds)
        ...     number = yield barrier.wait()
        ...     print("arrived as", number, "started at", (yield Now()))
        >>> def main():
        ...     barrier = Barrier(2)
        ...     yield Spawn(runner(barrier, 1))
        ...     yield Spawn(runner(barrier, 3))
        >>> run(main())
        arrived as 0 started at 3.0
        arrived as 1 started at 3.0
    """

    __slots__ = ("parties",)

    def __init__(self, parties: int, name: str | None = None) -> None:
        super().__init__(name)
        self.parties: int = check_count("Barrier", "parties", "tasks", parties, least=1)

    def wait(self) -> BarrierWait:
        """Arrive at the barrier and wait for the other parties.

        The last arrival wakes the task. A cancellation of the parked task takes its arrival back, so
        that another task has to arrive in its place. Can be one branch of a `select`, which counts as
        an arrival until another branch wins. The last arrival costs O(parties).

        Returns:
            The number of tasks that arrived earlier in this round: 0 for the first, `parties - 1`
            for the last.

        Raises:
            SyscallError: if one `select` has two waits at this barrier, or tasks of another run
                wait at it.

        Example:
            >>> from minisched import Barrier
            >>> from minisched.testing import run
            >>> def main():
            ...     return (yield Barrier(1).wait())
            >>> run(main())
            0
        """
        return BarrierWait(self)

    def state(self) -> str:
        return f"{len(self.waiters)} of {self.parties} waiting"


class BarrierWait(Selectable[int]):
    """Arrive at a barrier and wait for the others; made by `barrier.wait()`."""

    __slots__ = ("barrier",)

    def __init__(self, barrier: Barrier) -> None:
        self.barrier = barrier

    def try_now(self, kernel: Kernel, task: Task) -> int:
        barrier = self.barrier
        barrier.bind(kernel)
        if len(barrier.waiters) + 1 < barrier.parties:
            return NOT_YET
        for number in range(barrier.parties - 1):
            resume(kernel, barrier.waiters.popitem(last=False)[0], number)
        return barrier.parties - 1

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        # Two branches of one `select` would count as two arrivals. They are added in one turn, so
        # that no other waiter comes between them: comparing with the last waiter is enough.
        task, last = task_of(waiter), next(reversed(self.barrier.waiters), None)
        if last is not None and task_of(last) is task:
            raise SyscallError(
                f"task {task.name!r} waits twice at {self.barrier!r} in one select, but a task arrives there once"
            )
        return self.barrier.add_waiter(waiter)
