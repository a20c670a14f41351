"""Events, semaphores and barriers, strictly first come, first served; with locks and conditions, from `locks`.

Theory of operation. To wait is a syscall; to set or to release is a plain call, in the turn of a
task. What is given up is handed straight to the first who waits, so who is woken has what it
waited for, even if a cancellation comes in the same turn.

Invariants:
1. Who waits for an event waits because it is not set.
2. A semaphore has permits left, or waiters, or neither.

Not here: queues of items (`queues`).
"""

from __future__ import annotations

from .errors import SyscallError
from .kernel import Kernel, Task
from .locks import Condition as Condition
from .locks import Lock as Lock
from .waiting import NOT_YET, Primitive, Selectable, resume, task_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from .waiting import Waiter


class Event(Primitive):
    """Something that tasks wait for, and that has happened or not."""

    __slots__ = ("happened",)

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.happened = False

    def wait(self) -> EventWait:
        """Wait until it is set; at once, if it is. Cancelled while parked: it waits no more."""
        return EventWait(self)

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self.happened

    def set(self) -> None:
        """Let all who wait go on, in the order of their coming, and who comes later, too. O(waiters)."""
        kernel = self.here("set")
        self.happened = True
        while self.waiters and kernel is not None:
            resume(kernel, self.waiters.popitem(last=False)[0])

    def clear(self) -> None:
        """Let who comes from now on wait."""
        _ = self.here("clear")
        self.happened = False

    def state(self) -> str:
        return "set" if self.happened else super().state()


class EventWait(Selectable[None]):
    """Wait for an event: `event.wait()`."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event

    def attempt(self, kernel: Kernel, task: Task) -> None:
        self.event.join_run(kernel)
        return None if self.event.happened else NOT_YET

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.event.enlist(waiter)


class Semaphore(Primitive):
    """So many permits, of which each who acquires takes one: `with (yield semaphore.acquire()):`.

    `maximum`: to release more often than to acquire is an error (a bounded
    semaphore); None: it adds permits. ValueError for a negative value.
    """

    __slots__ = ("maximum", "value")

    def __init__(self, value: int, maximum: int | None = None, name: str | None = None) -> None:
        super().__init__(name)
        if not value >= 0 or (maximum is not None and not maximum >= value):
            raise ValueError(f"a semaphore starts with 0 permits or more, up to its maximum, not {value!r}")
        self.value = value
        self.maximum = maximum

    def acquire(self) -> AcquirePermit:
        """Wait for a permit, first come, first served. Cancelled while parked: it waits no more."""
        return AcquirePermit(self)

    def release(self) -> None:
        """Give a permit to the first who waits. Any task may; SyscallError above the maximum."""
        kernel = self.here("release")
        if self.waiters and kernel is not None:
            resume(kernel, self.waiters.popitem(last=False)[0], Permit(self))
        elif self.value == self.maximum:
            raise SyscallError(f"{self!r} was released more often than it was acquired")
        else:
            self.value += 1

    def state(self) -> str:
        return f"{self.value} permits" if self.value else super().state()

    def __aenter__(self) -> AcquirePermit:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Permit:
    """One permit of a semaphore, to be given back once: by a `with`, or by the semaphore's `release`."""

    __slots__ = ("semaphore", "used")

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore
        self.used = False  # in a `with`

    def __enter__(self) -> Self:
        if self.used:
            raise SyscallError(f"a permit of {self.semaphore!r} is used in one `with`: acquire another")
        self.used = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.semaphore.release()


class AcquirePermit(Selectable[Permit]):
    """Wait for a permit: `semaphore.acquire()`."""

    __slots__ = ("semaphore",)

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore

    def attempt(self, kernel: Kernel, task: Task) -> Permit:
        self.semaphore.join_run(kernel)
        if self.semaphore.value < 1:
            return NOT_YET
        self.semaphore.value -= 1
        return Permit(self.semaphore)

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.semaphore.enlist(waiter)


class Barrier(Primitive):
    """A place where tasks wait until so many have come, again and again. ValueError for less than one."""

    __slots__ = ("parties",)

    def __init__(self, parties: int, name: str | None = None) -> None:
        super().__init__(name)
        if parties < 1:
            raise ValueError(f"a barrier is for one task or more, not {parties}")
        self.parties = parties

    def wait(self) -> BarrierWait:
        """Wait for the others; return which one to come it was, from 0. Cancelled while parked: it has not come.

        SyscallError if it is twice in one `select`.
        """
        return BarrierWait(self)

    def state(self) -> str:
        return f"{len(self.waiters)} of {self.parties} waiting"


class BarrierWait(Selectable[int]):
    """Wait at a barrier: `barrier.wait()`."""

    __slots__ = ("barrier",)

    def __init__(self, barrier: Barrier) -> None:
        self.barrier = barrier

    def attempt(self, kernel: Kernel, task: Task) -> int:
        barrier = self.barrier
        barrier.join_run(kernel)
        if len(barrier.waiters) + 1 < barrier.parties:
            return NOT_YET
        for number in range(barrier.parties - 1):
            resume(kernel, barrier.waiters.popitem(last=False)[0], number)
        return barrier.parties - 1

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        task, last = task_of(waiter), next(reversed(self.barrier.waiters), None)
        if last is not None and task_of(last) is task:
            raise SyscallError(f"task {task.name!r} is to wait twice at {self.barrier!r}, in one select: it comes once")
        return self.barrier.enlist(waiter)
