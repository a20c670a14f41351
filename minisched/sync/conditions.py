"""Conditions: waiting, under a lock, for another task's change.

Theory of operation. A condition has a wait queue of its own beside that of its lock. `wait` joins
the queue and releases the lock in one syscall, so that no notification can come in between;
`notify` wakes tasks, which then acquire the lock again.

Invariants:
1. A notification goes to a task that waits for it, never to one whose wait a cancellation has undone.
2. However `wait` ends, the task owns the lock again. The exceptions: its generator is closed, or the
   lock's owner has ended without releasing it.

Not here: the lock (`locks`).
"""

from __future__ import annotations

from ..errors import Cancelled, SyscallError
from ..kernel import Syscall
from ..kernel.numbers import check_count
from ..kernel.primitive import Primitive
from ..kernel.waiting import resume
from ..tasks.tasks import awaitable
from .locks import Acquire, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, TypeVar

    from ..kernel import Kernel, Task

    Truth = TypeVar("Truth")


class Condition(Primitive):
    """Let tasks wait, under a lock, until another task notifies them of a change.

    Only the owner of the lock may call `wait`, `wait_for` and `notify`. Acquire it by
    `with (yield condition.acquire()):`, or `async with condition:`. A notified task goes on once it
    owns the lock again. Another task may have changed the state before that, so check it in a loop,
    or use `wait_for`.

    Args:
        lock: a lock to use, perhaps shared with other conditions; by default a new one.
        name: shown in traces and deadlock reports; by default a number that the run assigns.

    Example:
        >>> from minisched import Condition, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def consumer(condition, items):
        ...     with (yield condition.acquire()):
        ...         yield from condition.wait_for(lambda: len(items) >= 2)
        ...         print(items)
        >>> def main():
        ...     condition, items = Condition(), []
        ...     yield Spawn(consumer(condition, items))
        ...     for item in "ab":
        ...         yield Sleep(1)
        ...         with (yield condition.acquire()):
        ...             items.append(item)
        ...             condition.notify()
        >>> run(main())
        ['a', 'b']
    """

    __slots__ = ("lock",)

    def __init__(self, lock: Lock | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.lock = Lock(name) if lock is None else lock

    def acquire(self) -> Acquire:
        """Wait for the condition's lock and become its owner; see `Lock.acquire`.

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition()
            ...     with (yield condition.acquire()) as lock:
            ...         return lock is condition.lock
            >>> run(main())
            True
        """
        return self.lock.acquire()

    def acquire_nowait(self) -> Lock:
        """Become the owner of the condition's lock without waiting; see `Lock.acquire_nowait`.

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition()
            ...     with condition.acquire_nowait():
            ...         condition.notify()
            ...         return condition.lock.locked()
            ...     yield
            >>> run(main())
            True
        """
        return self.lock.acquire_nowait()

    def release(self) -> None:
        """Release the condition's lock; see `Lock.release`.

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition()
            ...     yield condition.acquire()
            ...     condition.release()
            ...     return condition.lock.locked()
            >>> run(main())
            False
        """
        self.lock.release()

    @awaitable
    def wait(self) -> Generator[Any, Any, None]:
        """Release the lock, wait for a notification and acquire the lock again.

        A lock that the task has acquired several times (`RLock`) is released completely, and owned as often afterwards.
        Call it by `yield from`, or `await` it. `notify` wakes the task. A cancellation during the
        wait for the notification takes none, and acquires the lock again before it raises. After a
        notification, a cancellation waits for the next checkpoint, so that no notification is lost.

        Raises:
            SyscallError: if the task does not own the lock, or if the lock's owner ends without
                releasing it.

        Example:
            >>> from minisched import Condition, Sleep, Spawn
            >>> from minisched.testing import run
            >>> def waiter(condition):
            ...     with (yield condition.acquire()):
            ...         yield from condition.wait()
            ...         print("notified")
            >>> def main():
            ...     condition = Condition()
            ...     yield Spawn(waiter(condition))
            ...     yield Sleep(1)
            ...     with (yield condition.acquire()):
            ...         condition.notify()
            >>> run(main())
            notified
        """
        depth = self.lock.depth
        try:
            yield ConditionWait(self)
        except Cancelled:
            yield Reacquire(self.lock)
            self.lock.depth = depth
            raise
        yield Reacquire(self.lock)
        self.lock.depth = depth

    @awaitable
    def wait_for(self, predicate: Callable[[], Truth]) -> Generator[Any, Any, Truth]:
        """Wait until `predicate()` is true.

        Calls it at once, and after each notification, always with the lock. Call it by `yield from`,
        or `await` it. A cancellation acquires the lock again before it raises, as in `wait`.

        Args:
            predicate: a plain function without arguments.

        Returns:
            The first true value that `predicate()` returned.

        Raises:
            SyscallError: as `wait` does. Errors of `predicate` pass through.

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition()
            ...     with (yield condition.acquire()):
            ...         return (yield from condition.wait_for(lambda: "true already"))
            >>> run(main())
            'true already'
        """
        while not (result := predicate()):
            yield from self.wait()
        return result

    def notify(self, count: int = 1) -> None:
        """Wake the first `count` waiters, or as many as there are.

        Each waiter goes on once it has the lock. A notification without a waiter has no effect. A plain call, for the
        owner of the lock alone. O(count).

        Raises:
            SyscallError: if the running task does not own the lock.
            TypeError: if `count` is not an integer.
            ValueError: if `count` is negative or NaN; infinity is allowed.

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition(name="changed")
            ...     with (yield condition.acquire()):
            ...         condition.notify(2)
            ...         return condition
            >>> run(main())
            <Condition changed: 0 waiting>
        """
        _ = self.check_caller("notify")
        owner = self.lock.owner
        if owner is None or owner.kernel.current is not owner:
            raise SyscallError(f"notify of {self!r} by a task that does not own its lock: {self.lock!r}")
        count = check_count("notify", "count", "waiters", count, endless=True)
        for _ in range(min(count, len(self.waiters))):
            resume(owner.kernel, self.waiters.popitem(last=False)[0])

    def notify_all(self) -> None:
        """Wake all waiters; see `notify`. O(waiters).

        Example:
            >>> from minisched import Condition
            >>> from minisched.testing import run
            >>> def main():
            ...     condition = Condition()
            ...     with (yield condition.acquire()):
            ...         condition.notify_all()
            >>> run(main())
        """
        self.notify(len(self.waiters))

    def __aenter__(self) -> Acquire:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.lock.__exit__(kind, error, trace)


class ConditionWait(Syscall[None]):
    """Release a condition's lock and wait for a notification; the first half of `condition.wait()`.

    A `notify` wakes the task.
    """

    __slots__ = ("condition",)

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def handle(self, kernel: Kernel, task: Task) -> None:
        condition = self.condition
        condition.bind(kernel)
        if condition.lock.owner is not task:
            raise SyscallError(f"task {task.name!r} waits for {condition!r} without its lock: {condition.lock!r}")
        kernel.park(task, condition.add_waiter(task))
        condition.lock.hand_over(kernel)


class Reacquire(Acquire):
    """Acquire the lock again at the end of `Condition.wait`; no cancellation can end this wait.

    Decision: a cancelled `Condition.wait` waits for the lock before it raises, however long that takes.
    Because: the caller's `with` releases the lock, so that the task has to own it on every way out.
    Rejected: raising Cancelled without the lock. The `with` would then release a lock that the task does not own, and
    code in a `finally` would run without the protection that it counts on.
    """

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> Lock | None:
        # The task is the owner already if it was cancelled before `ConditionWait` released the lock.
        if self.lock.owner is task or self.lock.try_acquire(task):
            return self.lock
        _ = self.add_waiter(kernel, task)
        kernel.park(task, None)
        return None
