"""Locks: one owner at a time.

Theory of operation. A release hands the lock over: the first waiter is the owner at once, before its
next turn. No other task can take the lock in between. A cancellation before the hand-over undoes the
wait. A cancellation after the hand-over finds the task inside its `with`, which releases the lock.

Invariants:
1. A lock has one owner, or neither an owner nor waiters.
2. While a lock has waiters, the lifecycle service will call it when the body of its owner ends.

Decision: when the body of an owner ends and it still has the lock, each waiter gets a SyscallError
at once that names the lock and the owner.
Because: the lock will never be released, so that its waiters would wait for ever.
Rejected: naming it in the deadlock report. Beside a server, which can always be woken, there never
is a deadlock.

Not here: waiting for a change under a lock (`conditions`); primitives without an owner (`events`,
`semaphore`); the wait queue and its undo (`kernel/primitive.py`).
"""

from __future__ import annotations

from ..errors import SyscallError, WouldBlock
from ..kernel import Selectable, Task
from ..kernel.lifecycle import Lifecycle
from ..kernel.misuse import plain_with
from ..kernel.primitive import Primitive
from ..kernel.tree import DONE, ENDING
from ..kernel.waiting import NOT_YET, resume, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from ..kernel import Kernel
    from ..kernel.waiting import Waiter


class Lock(Primitive):
    """Let one task at a time do something (mutual exclusion).

    `with (yield lock.acquire()):`, or `async with lock:`, acquires and releases it. Waiters get the
    lock in FIFO order. The task that acquired it is its owner, and only the owner can release it.
    A task cannot acquire a lock twice.

    Args:
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.

    Example:
        >>> from minisched import Lock, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def worker(lock, name):
        ...     with (yield lock.acquire()):
        ...         print(name, "begins")
        ...         yield Sleep(1)
        ...         print(name, "ends")
        >>> def main():
        ...     lock = Lock()
        ...     yield Spawn(worker(lock, "a"))
        ...     yield Spawn(worker(lock, "b"))
        >>> run(main())
        a begins
        a ends
        b begins
        b ends
    """

    __slots__ = ("depth", "owner", "watches_owner")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.owner: Task | None = None
        self.depth = 1  # how often the owner of an RLock has acquired it
        self.watches_owner = False  # True if the end of the owner's body calls this lock

    def acquire(self) -> Acquire:
        """Wait for the lock and become its owner.

        Waiters get the lock in FIFO order; a `release` or the end of an owner that still has it wakes the task. A
        cancellation of the parked task undoes the wait. Can be a branch of `select`.

        Returns:
            The lock itself, for a `with` that releases it.

        Raises:
            SyscallError: if the task owns the lock already, or another run uses it. Also if the
                owner has ended without releasing the lock, or ends so during the wait.

        Example:
            >>> from minisched import Lock
            >>> from minisched.testing import run
            >>> def main():
            ...     lock = Lock("printer")
            ...     with (yield lock.acquire()):
            ...         return repr(lock)
            >>> run(main())
            "<Lock printer: held by task 'main', 0 waiting>"
        """
        return Acquire(self)

    def acquire_nowait(self) -> Self:
        """Become the owner without waiting. A plain call, for a task.

        Returns:
            The lock itself, for a `with` that releases it.

        Raises:
            WouldBlock: if another task owns the lock.
            SyscallError: if the task owns the lock already, if the owner has ended without releasing it, outside of
                any task, or if another run uses the lock.

        Example:
            >>> from minisched import Lock, Spawn, WouldBlock
            >>> from minisched.testing import run
            >>> def other(lock):
            ...     yield
            ...     try:
            ...         lock.acquire_nowait()
            ...     except WouldBlock as error:
            ...         print(error)
            >>> def main():
            ...     lock = Lock("printer")
            ...     with lock.acquire_nowait():
            ...         yield Spawn(other(lock))
            ...         yield
            >>> run(main())
            <Lock printer: held by task 'main', 0 waiting> is not free: `acquire` waits for it
        """
        if not self.try_acquire(self.running_task("acquire_nowait")):
            raise WouldBlock(f"{self!r} is not free: `acquire` waits for it")
        return self

    def locked(self) -> bool:
        """Return whether a task owns the lock.

        Example:
            >>> from minisched import Lock
            >>> Lock().locked()
            False
        """
        return self.owner is not None

    def release(self) -> None:
        """Hand the lock over to the first waiter, or make it free.

        A plain call, for the owner alone. A `with` does it.

        Raises:
            SyscallError: if the running task is not the owner.

        Example:
            >>> from minisched import Lock
            >>> from minisched.testing import run
            >>> def main():
            ...     lock = yield Lock().acquire()
            ...     lock.release()
            ...     return lock.locked()
            >>> run(main())
            False
        """
        kernel = self.check_caller("release")
        if kernel is None or self.owner is None or kernel.current is not self.owner:
            current = None if kernel is None else kernel.current
            caller = "code outside of any task" if current is None else f"task {current.name!r}"
            raise SyscallError(f"{self!r} was released by {caller}: only its owner can do that, once")
        self.hand_over(kernel)

    def _owned(self) -> bool:
        """Return whether the running task is the owner."""
        return self.owner is not None and self.owner.kernel.current is self.owner

    def try_acquire(self, task: Task) -> bool:
        """Make `task` the owner if the lock is free; return whether it was."""
        owner = self.owner
        if owner is None:
            self.owner = task
        elif owner is task:
            raise SyscallError(f"task {task.name!r} owns {self!r} already and would wait for itself")
        elif owner.state is ENDING or owner.state is DONE:
            raise self._abandoned(owner)
        return owner is None

    def hand_over(self, kernel: Kernel) -> None:
        """Make the first waiter the owner, or the lock free."""
        last, waiters = self.owner, self.waiters
        if waiters:
            waiter, _ = waiters.popitem(last=False)
            owner = self.owner = waiter if isinstance(waiter, Task) else waiter.task
            resume(kernel, waiter, self)
        else:
            owner = self.owner = None
        if self.watches_owner:
            self.watches_owner = bool(waiters)
            kernel.services[Lifecycle].move_body_end_callback(self, last, owner if waiters else None)

    def watch_owner(self, kernel: Kernel) -> None:
        """Register this lock to be called when the body of the owner ends."""
        assert self.owner is not None
        self.watches_owner = True
        kernel.services[Lifecycle].add_body_end_callback(self.owner, self)

    def __call__(self, owner: Task) -> None:
        """Wake all waiters with an error: the body of the owner has ended and nothing will release the lock."""
        while self.waiters:
            throw(owner.kernel, self.waiters.popitem(last=False)[0], self._abandoned(owner))

    def _abandoned(self, owner: Task) -> SyscallError:
        return SyscallError(
            f"lock {self.name!r} is held by task {owner.name!r}, which has ended without releasing it: "
            "use `with (yield lock.acquire()):`"
        )

    def in_use(self) -> bool:
        return self.owner is not None

    def unbind(self) -> None:
        super().unbind()
        if self.owner is not None and self.owner.state is not DONE:  # the run was aborted and closed the owner's body
            self.owner, self.watches_owner = None, False

    def state(self) -> str:
        if self.owner is None:
            return "free"
        ended = ", which has ended" if self.owner.state in (ENDING, DONE) else ""
        return f"held by task {self.owner.name!r}{ended}, {super().state()}"

    def __enter__(self) -> Self:
        if not self._owned():
            raise plain_with(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error, a task that is not the owner releases nothing. Either the body was closed while
        # its condition had released the lock, or the block itself has released it. A SyscallError from
        # here would only hide the first error.
        if error is None or self._owned():
            self.release()

    def __aenter__(self) -> Acquire:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)


class RLock(Lock):
    """Let one task at a time do something, and acquire the lock again while it owns it (a reentrant lock).

    Like `Lock`, but the owner can acquire it any number of times without waiting. It is handed over when the owner has
    released it as often. So a method that needs the lock can call another that does. A `Condition` may use it.

    Decision: a Lock refuses what an RLock nests. Because: most often, a second acquire is a mistake, which the error
    names. Rejected: one reentrant class, which would hide it; no RLock, which leaves callers to pass a flag down.

    Args:
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.

    Example:
        >>> from minisched import RLock
        >>> from minisched.testing import run
        >>> def add(lock, items, *new):
        ...     with (yield lock.acquire()):
        ...         items.extend(new)
        >>> def replace(lock, items, *new):
        ...     with (yield lock.acquire()):
        ...         items.clear()
        ...         yield from add(lock, items, *new)
        ...         return lock.locked()
        >>> def main():
        ...     lock, items = RLock(), ["old"]
        ...     locked = yield from replace(lock, items, "new")
        ...     return items, locked, lock.locked()
        >>> run(main())
        (['new'], True, False)
    """

    __slots__ = ()

    def acquire(self) -> Acquire:
        """Wait for the lock and become its owner; the owner acquires it once more, without waiting.

        Other tasks wait as for a `Lock`; see `Lock.acquire`.

        Example:
            >>> from minisched import RLock
            >>> from minisched.testing import run
            >>> def main():
            ...     lock = RLock("printer")
            ...     with (yield lock.acquire()), (yield lock.acquire()):
            ...         return repr(lock)
            >>> run(main())
            "<RLock printer: held 2 times by task 'main', 0 waiting>"
        """
        return Acquire(self)

    def release(self) -> None:
        """Take back one acquire; the last one hands the lock over to the first waiter, or makes it free.

        A plain call, for the owner alone. A `with` does it.

        Raises:
            SyscallError: if the running task is not the owner.

        Example:
            >>> from minisched import RLock
            >>> from minisched.testing import run
            >>> def main():
            ...     lock = RLock()
            ...     yield lock.acquire()
            ...     lock.acquire_nowait()
            ...     lock.release()
            ...     return lock.locked()
            >>> run(main())
            True
        """
        _ = self.check_caller("release")
        if self.depth > 1 and self._owned():
            self.depth -= 1
        else:
            super().release()

    def try_acquire(self, task: Task) -> bool:
        """Make `task` the owner if the lock is free, or owner once more; return whether it is the owner now."""
        if self.owner is task:
            self.depth += 1
            return True
        return super().try_acquire(task)

    def hand_over(self, kernel: Kernel) -> None:
        """Make the first waiter the owner, or the lock free, however often the owner has acquired it."""
        self.depth = 1
        super().hand_over(kernel)

    def unbind(self) -> None:
        super().unbind()
        if self.owner is None:
            self.depth = 1

    def state(self) -> str:
        times = f"held {self.depth} times by" if self.depth > 1 else "held by"
        return super().state().replace("held by", times, 1)


class Acquire(Selectable[Lock]):
    """Wait for a lock and become its owner; made by `lock.acquire()`. The answer is the lock."""

    __slots__ = ("lock",)

    def __init__(self, lock: Lock) -> None:
        self.lock = lock

    def try_now(self, kernel: Kernel, task: Task) -> Lock:
        lock = self.lock
        if lock.kernel is not kernel:
            lock.bind(kernel)
        return lock if lock.try_acquire(task) else NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        lock = self.lock
        if not lock.watches_owner:
            lock.watch_owner(kernel)
        return lock.add_waiter(waiter)

    def blockers(self) -> Iterable[Task]:
        """Return the tasks that this call waits for: the owner. Deadlock reports find cycles by it."""
        return () if self.lock.owner is None else (self.lock.owner,)
