"""Locks, and conditions: what one task at a time has, and waiting under it.

Theory of operation. A lock that is released is handed straight to the first who waits for it, so
nobody can jump the queue between the release and the turn of the one who was woken. A cancellation
that comes before the hand-over undoes the wait; one that comes after it finds a task that owns the
lock, in a `with` that gives it back. If the owner's body ends without that, those who wait are told.

Invariants:
1. A lock has one owner, or none and no waiters.
2. A notification wakes a task that waits; it is never given to one that is being cancelled.
3. Whatever ends a condition's `wait`, the task owns the lock again (unless its generator is closed,
   or the lock's owner has ended with it).

Not here: what has no owner (`sync`).
"""

from __future__ import annotations

from .errors import Cancelled, SyscallError
from .family import Family
from .kernel import DONE, ENDING, Kernel, Syscall, Task
from .tasks import awaitable
from .waiting import NOT_YET, Primitive, Selectable, resume, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from .waiting import Waiter

    Truth = TypeVar("Truth")


class Lock(Primitive):
    """What one task at a time has: `with (yield lock.acquire()):`, or `async with lock:`."""

    __slots__ = ("owner", "watched")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.owner: Task | None = None
        self.watched = False  # whether the end of the owner's body will be told

    def acquire(self) -> Acquire:
        """Wait for the lock, first come, first served; it is to be released, or used in a `with`.

        SyscallError if the task has it already, or if its owner has ended or
        ends meanwhile. Cancelled while parked: it waits no more.
        """
        return Acquire(self)

    def locked(self) -> bool:
        """Return whether a task has it."""
        return self.owner is not None

    def release(self) -> None:
        """Give it to the first who waits. Only the owner can; SyscallError otherwise."""
        kernel = self.here("release")
        if kernel is None or self.owner is None or kernel.current is not self.owner:
            by = "nobody" if kernel is None or kernel.current is None else f"task {kernel.current.name!r}"
            raise SyscallError(f"{self!r} was released by {by}: only its owner can do that, once")
        self.hand_on(kernel)

    def _owned(self) -> bool:
        """Return whether the task whose turn it is has it."""
        return self.owner is not None and self.owner.kernel.current is self.owner

    def take(self, task: Task) -> bool:
        """Make `task` the owner, if there is none; return whether it is."""
        owner = self.owner
        if owner is None:
            self.owner = task
        elif owner is task:
            raise SyscallError(f"task {task.name!r} has {self!r} already: it would wait for itself")
        elif owner.place is ENDING or owner.place is DONE:
            raise self._abandoned(owner)
        return owner is None

    def hand_on(self, kernel: Kernel) -> None:
        """Make the first who waits the owner."""
        if self.watched:
            self._watch(False)
        if not self.waiters:
            self.owner = None
            return
        waiter, _ = self.waiters.popitem(last=False)
        self.owner = waiter if isinstance(waiter, Task) else waiter.task
        if self.waiters:
            self._watch(True)
        resume(kernel, waiter, self)

    def enlist(self, waiter: Waiter, brought: Any = None) -> Callable[[], object]:
        """Let `waiter` be the last in the line; return the undo. The end of the owner will be told."""
        if not self.watched:
            self._watch(True)
        return super().enlist(waiter, brought)

    def _watch(self, watched: bool) -> None:
        """Ask to be told if the owner ends without having released the lock; or take that back."""
        self.watched = watched
        assert self.owner is not None and self.kernel is not None
        family = self.kernel.services[Family]
        if watched:
            family.tell_body_end(self.owner, self)
        else:
            family.keep_body_end(self.owner, self)

    def __call__(self, owner: Task) -> None:
        """Be told that the owner's body is over: don't let those who wait hang."""
        while self.waiters:
            throw(owner.kernel, self.waiters.popitem(last=False)[0], self._abandoned(owner))

    def _abandoned(self, owner: Task) -> SyscallError:
        return SyscallError(
            f"lock {self.name!r} is held by task {owner.name!r}, which has ended without releasing it: "
            "use `with (yield lock.acquire()):`"
        )

    def in_use(self) -> bool:
        return self.owner is not None

    def leave_run(self) -> None:
        super().leave_run()
        if self.owner is not None and self.owner.place is not DONE:  # the run was broken off, and its bodies closed
            self.owner, self.watched = None, False

    def state(self) -> str:
        if self.owner is None:
            return "free"
        ended = ", which has ended" if self.owner.place in (ENDING, DONE) else ""
        return f"held by task {self.owner.name!r}{ended}, {super().state()}"

    def __enter__(self) -> Self:
        if not self._owned():
            raise SyscallError(
                "`with lock:` does not wait for it: `with (yield lock.acquire()):`, or `async with lock:`"
            )
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or self._owned():
            self.release()  # else the error says why it is not the owner; or it was closed while a Condition waited

    def __aenter__(self) -> Acquire:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)


class Acquire(Selectable[Lock]):
    """Wait for a lock: `lock.acquire()`. The answer is the lock, which a `with` releases."""

    __slots__ = ("lock",)

    def __init__(self, lock: Lock) -> None:
        self.lock = lock

    def attempt(self, kernel: Kernel, task: Task) -> Lock:
        lock = self.lock
        if lock.kernel is not kernel:
            lock.join_run(kernel)
        return lock if lock.take(task) else NOT_YET

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.lock.enlist(waiter)

    def blockers(self) -> Iterable[Task]:
        """Return who is waited for, for the report of a deadlock."""
        return () if self.lock.owner is None else (self.lock.owner,)


class Reacquire(Acquire):
    """Wait for the lock again after a Condition: it can't be cancelled, since the task has to own it afterwards."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> Lock | None:
        if self.lock.owner is task or self.lock.take(task):
            return self.lock
        _ = self.enlist(kernel, task)
        kernel.park(task, None)
        return None


class Condition(Primitive):
    """A lock, and a line of tasks that wait, without it, to be notified that something under it has changed."""

    __slots__ = ("lock",)

    def __init__(self, lock: Lock | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.lock = Lock(name) if lock is None else lock

    def acquire(self) -> Acquire:
        """Wait for the lock."""
        return self.lock.acquire()

    def release(self) -> None:
        """Release the lock."""
        self.lock.release()

    @awaitable
    def wait(self) -> Generator[Any, Any, None]:
        """Release the lock, wait for a notification, and acquire the lock again.

        SyscallError if the task does not own the lock. Cancelled while it waits
        to be notified, it takes no notification, and acquires the lock all the
        same before it raises. A notification that has come is never lost to a
        cancellation: that waits for the next checkpoint.
        """
        try:
            yield Notified(self)
        except Cancelled:
            yield Reacquire(self.lock)
            raise
        yield Reacquire(self.lock)

    @awaitable
    def wait_for(self, predicate: Callable[[], Truth]) -> Generator[Any, Any, Truth]:
        """Wait until `predicate()` is true, looking at each notification; return what it returned.

        Raises what `predicate` raises, and what `wait` does: cancelled, the task owns the lock again.
        """
        while not (result := predicate()):
            yield from self.wait()
        return result

    def notify(self, count: int = 1) -> None:
        """Wake the first `count` who wait; each goes on once it has the lock. Only the owner of the lock can."""
        _ = self.here("notify")
        owner = self.lock.owner
        if owner is None or owner.kernel.current is not owner:
            raise SyscallError(f"notify of {self!r} by a task that does not own its lock: {self.lock!r}")
        for _ in range(min(count, len(self.waiters))):
            resume(owner.kernel, self.waiters.popitem(last=False)[0])

    def notify_all(self) -> None:
        """Wake all who wait. Only the owner of the lock can."""
        self.notify(len(self.waiters))

    def __aenter__(self) -> Acquire:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.lock.__exit__(kind, error, trace)


class Notified(Syscall[None]):
    """Release a condition's lock and wait to be notified."""

    __slots__ = ("condition",)

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def handle(self, kernel: Kernel, task: Task) -> None:
        condition = self.condition
        condition.join_run(kernel)
        if condition.lock.owner is not task:
            raise SyscallError(f"task {task.name!r} waits for {condition!r} without its lock: {condition.lock!r}")
        kernel.park(task, condition.enlist(task))
        condition.lock.hand_on(kernel)
