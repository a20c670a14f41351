"""Semaphores: a number of permits without owners.

Theory of operation. Acquiring is a syscall, releasing a plain call. A release with waiters hands its permit straight
to the first of them. That permit is never counted as free, so that no later task can take it. Nor can a cancellation
in the same turn lose it: the waiter receives a `Permit`, and the `with` of that permit releases it.

Invariants:
1. A semaphore has free permits or waiters, never both.
2. Permits in use + free permits = the initial value + releases without an acquire.

Not here: primitives with an owner (`locks`); the wait queue and its undo (`kernel/primitive.py`).
"""

from __future__ import annotations

from ..errors import SyscallError, WouldBlock
from ..kernel import Selectable
from ..kernel.numbers import check_count
from ..kernel.primitive import Primitive
from ..kernel.waiting import NOT_YET, resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter


class Semaphore(Primitive):
    """Limit the number of tasks that do something at once, by permits.

    `with (yield semaphore.acquire()):`, or `async with semaphore:`, takes one permit and gives it
    back. Waiters receive permits in FIFO order. Permits have no owner: any task may release one.

    Args:
        value: how many permits are free at first; 0 or more.
        maximum: the most permits there may be; a release above it is an error (a bounded
            semaphore). With None, a release without an acquire adds a permit.
        name: shown in traces and deadlock reports; by default a number that the run assigns.

    Raises:
        TypeError: if `value` or `maximum` is not an integer.
        ValueError: if `value` is negative or NaN, or greater than `maximum`; infinity is allowed.

    Example:
        >>> from minisched import Now, Semaphore, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def download(semaphore, name):
        ...     with (yield semaphore.acquire()):
        ...         print(name, "starts at", (yield Now()))
        ...         yield Sleep(1)
        >>> def main():
        ...     semaphore = Semaphore(2)
        ...     for name in "abc":
        ...         yield Spawn(download(semaphore, name))
        >>> run(main())
        a starts at 0.0
        b starts at 0.0
        c starts at 1.0
    """

    __slots__ = ("maximum", "value")

    def __init__(self, value: int, maximum: int | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.value: int = check_count("Semaphore", "value", "permits", value, endless=True)
        self.maximum: int | None = None
        if maximum is not None:
            self.maximum = check_count("Semaphore", "maximum", "permits", maximum, optional=True, endless=True)
            if self.maximum is not None and self.maximum < self.value:
                raise ValueError(f"Semaphore: value is at most the maximum, {maximum!r} permits, not {value!r}")

    def acquire(self) -> AcquirePermit:
        """Wait for a permit and take it.

        Waiters receive permits in FIFO order; a `release` wakes the task. A cancellation while the
        task is parked undoes the wait. Can be a branch of `select`.

        Returns:
            A permit, to be used in one `with`; or ignore it and call `release`.

        Raises:
            SyscallError: if tasks of another run wait for this semaphore.

        Example:
            >>> from minisched import Semaphore
            >>> from minisched.testing import run
            >>> def main():
            ...     semaphore = Semaphore(1, name="seats")
            ...     with (yield semaphore.acquire()):
            ...         return semaphore.value
            >>> run(main())
            0
        """
        return AcquirePermit(self)

    def acquire_nowait(self) -> Permit:
        """Take a permit without waiting. A plain call.

        Returns:
            A permit, to be used in one `with`; or ignore it and call `release`.

        Raises:
            WouldBlock: if no permit is free.
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Semaphore, WouldBlock
            >>> seats = Semaphore(1, name="seats")
            >>> with seats.acquire_nowait():
            ...     try:
            ...         seats.acquire_nowait()
            ...     except WouldBlock as error:
            ...         print(error)
            no permit of <Semaphore seats: 0 waiting> is free: `acquire` waits for one
        """
        _ = self.check_caller("acquire_nowait")
        permit = self.take()
        if permit is None:
            raise WouldBlock(f"no permit of {self!r} is free: `acquire` waits for one")
        return permit

    def take(self) -> Permit | None:
        """Take and return a permit; None if no permit is free."""
        if self.value < 1:
            return None
        self.value -= 1
        return Permit(self)

    def release(self) -> None:
        """Give a permit to the first waiter, or make it free.

        A plain call, which any task may make.

        Raises:
            SyscallError: if all permits up to the maximum are free, or in another thread than the run's.

        Example:
            >>> from minisched import Semaphore
            >>> semaphore = Semaphore(0)
            >>> semaphore.release()
            >>> semaphore.value
            1
        """
        kernel = self.check_caller("release")
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
    """One permit of a semaphore, which a `with` gives back."""

    __slots__ = ("semaphore", "used")

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore
        self.used = False  # True once a `with` has entered it

    def __enter__(self) -> Self:
        if self.used:
            raise SyscallError(f"a permit of {self.semaphore!r} is good for one `with`: acquire another")
        self.used = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.semaphore.release()


class AcquirePermit(Selectable[Permit]):
    """Wait for a permit and take it; made by `semaphore.acquire()`."""

    __slots__ = ("semaphore",)

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore

    def try_now(self, kernel: Kernel, task: Task) -> Permit:
        self.semaphore.bind(kernel)
        return self.semaphore.take() or NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.semaphore.add_waiter(waiter)
