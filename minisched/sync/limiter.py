"""Capacity limiters: a number of tokens that may change while they are used.

Theory of operation. A token has a borrower: a task, or an object in whose name a task acquires it. A release, or a
higher total, hands free tokens straight to the first waiters. A lower total takes no token back: the next ones are
handed out when fewer than the new total are borrowed.

Invariants:
1. While tasks wait, as many tokens as the total, or more, are borrowed.
2. A borrower has one token at most, and a token is released by its borrower's name alone.

Decision: the token of a task that has ended without releasing it stays borrowed; the deadlock report names the task.
Because: the resource behind the token may be in use still, such as a thread whose call was abandoned. Other borrowers
release theirs, so that waiters go on. Rejected: an error for the waiters, as an abandoned `Lock` has.

Decision: `acquire`, `acquire_nowait` and `release` take a borrower. Because: one name for each verb.
Rejected: `acquire_on_behalf_of` and two more methods, as in trio.

Not here: permits without owners, and the choice between the two (`semaphore`).
"""

from __future__ import annotations

from ..errors import SyscallError, WouldBlock
from ..kernel import Selectable, Task
from ..kernel.numbers import check_count
from ..kernel.primitive import Primitive
from ..kernel.waiting import NOT_YET, resume, task_of, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from ..kernel import Kernel
    from ..kernel.waiting import Waiter


class CapacityLimiter(Primitive):
    """Limit the number of tasks that do something at once, by tokens that have borrowers.

    `with (yield limiter.acquire()):`, or `async with limiter:`, borrows one token and gives it back. Waiters get tokens
    in FIFO order. Unlike a semaphore, a limiter knows its borrowers, refuses a second token to one of them, and its
    `total_tokens` can be set at any time.

    Args:
        total_tokens: how many tokens there are: a whole number, 0 or more, or `math.inf`.
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.

    Raises:
        TypeError: if `total_tokens` is not an integer.
        ValueError: if `total_tokens` is negative or NaN; infinity is allowed.

    Example:
        >>> from minisched import CapacityLimiter, Now, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def download(limiter, name):
        ...     with (yield limiter.acquire()):
        ...         print(name, "starts at", (yield Now()))
        ...         yield Sleep(2)
        >>> def main():
        ...     limiter = CapacityLimiter(1)
        ...     for name in "abc":
        ...         yield Spawn(download(limiter, name))
        ...     yield Sleep(1)
        ...     limiter.total_tokens = 2
        >>> run(main())
        a starts at 0.0
        b starts at 1.0
        c starts at 2.0
    """

    __slots__ = ("borrowers", "total")

    def __init__(self, total_tokens: float, name: str | None = None) -> None:
        super().__init__(name)
        self.total: float = check_count("CapacityLimiter", "total_tokens", "tokens", total_tokens, endless=True)
        self.borrowers: dict[object, None] = {}  # a set in insertion order

    @property
    def total_tokens(self) -> float:
        """The number of tokens. Set it to change the limit; a higher one wakes the first waiters. O(waiters woken).

        Setting it raises the errors of the constructor, and SyscallError in another thread than the run's.

        Example:
            >>> from minisched import CapacityLimiter
            >>> limiter = CapacityLimiter(2)
            >>> limiter.total_tokens += 1
            >>> limiter
            <CapacityLimiter unused: 0 of 3 tokens borrowed, 0 waiting>
        """
        return self.total

    @total_tokens.setter
    def total_tokens(self, total_tokens: float) -> None:
        kernel = self.check_caller("total_tokens")
        self.total = check_count("CapacityLimiter", "total_tokens", "tokens", total_tokens, endless=True)
        self._hand_out(kernel)

    @property
    def borrowed_tokens(self) -> int:
        """The number of tokens that are borrowed.

        Example:
            >>> from minisched import CapacityLimiter
            >>> CapacityLimiter(2).borrowed_tokens
            0
        """
        return len(self.borrowers)

    @property
    def available_tokens(self) -> float:
        """The number of tokens that can be borrowed at once; 0 also if more than `total_tokens` are borrowed.

        Example:
            >>> from minisched import CapacityLimiter
            >>> CapacityLimiter(2).available_tokens
            2
        """
        return max(self.total - len(self.borrowers), 0)

    def acquire(self, borrower: object = None) -> Borrow:
        """Wait for a token and borrow it.

        Waiters get tokens in FIFO order; a `release` or a higher `total_tokens` wakes the task. A
        cancellation while the task is parked undoes the wait. Can be a branch of `select`.

        Args:
            borrower: a hashable object in whose name to borrow; None: the task.

        Returns:
            A token, to be used in one `with`; or ignore it and call `release`.

        Raises:
            SyscallError: if the borrower has a token already, or gets one during the wait; or if tasks of another run
                use this limiter.

        Example:
            >>> from minisched import CapacityLimiter
            >>> from minisched.testing import run
            >>> def main():
            ...     limiter = CapacityLimiter(2, name="disk")
            ...     with (yield limiter.acquire()), (yield limiter.acquire("a backup")):
            ...         return repr(limiter)
            >>> run(main())
            '<CapacityLimiter disk: 2 of 2 tokens borrowed, 0 waiting>'
        """
        return Borrow(self, borrower)

    def acquire_nowait(self, borrower: object = None) -> Token:
        """Borrow a token without waiting. A plain call.

        Args:
            borrower: as in `acquire`. None, the running task, is for tasks only.

        Returns:
            A token, to be used in one `with`; or ignore it and call `release`.

        Raises:
            WouldBlock: if no token is free.
            SyscallError: if the borrower has a token already, in another thread than the run's, or without a borrower
                outside of any task.

        Example:
            >>> from minisched import CapacityLimiter, WouldBlock
            >>> limiter = CapacityLimiter(1)
            >>> with limiter.acquire_nowait("a"):
            ...     try:
            ...         limiter.acquire_nowait("b")
            ...     except WouldBlock as error:
            ...         print(error)
            no token of <CapacityLimiter unused: 1 of 1 tokens borrowed, 0 waiting> is free: `acquire` waits for one
        """
        _ = self.check_caller("acquire_nowait")
        token = self.take(self.running_task("acquire_nowait") if borrower is None else borrower)
        if token is None:
            raise WouldBlock(f"no token of {self!r} is free: `acquire` waits for one")
        return token

    def release(self, borrower: object = None) -> None:
        """Give a token back: to the first waiter, or as a free one. A plain call.

        Args:
            borrower: whose token to give back; None: that of the running task.

        Raises:
            SyscallError: if the borrower has no token, or in another thread than the run's.

        Example:
            >>> from minisched import CapacityLimiter
            >>> from minisched.testing import run
            >>> def main():
            ...     limiter = CapacityLimiter(1)
            ...     yield limiter.acquire()
            ...     limiter.release()
            ...     return limiter.borrowed_tokens
            >>> run(main())
            0
        """
        kernel = self.check_caller("release")
        holder = (None if kernel is None else kernel.current) if borrower is None else borrower
        if holder not in self.borrowers:
            raise SyscallError(f"{self!r} was released by {described(holder)}, which has borrowed no token of it")
        del self.borrowers[holder]
        self._hand_out(kernel)

    def take(self, borrower: object) -> Token | None:
        """Lend a token to `borrower`, and return it; None if none is free."""
        if borrower in self.borrowers:
            raise self._twice(borrower)
        if len(self.borrowers) >= self.total:
            return None
        self.borrowers[borrower] = None
        return Token(self, borrower)

    def _hand_out(self, kernel: Kernel | None) -> None:
        """Lend the free tokens to the first waiters."""
        while self.waiters and len(self.borrowers) < self.total and kernel is not None:
            waiter, borrower = self.waiters.popitem(last=False)
            if borrower in self.borrowers:  # two tasks have waited in one name
                throw(kernel, waiter, self._twice(borrower))
            else:
                self.borrowers[borrower] = None
                resume(kernel, waiter, Token(self, borrower))

    def _twice(self, borrower: object) -> SyscallError:
        return SyscallError(f"{described(borrower)} has borrowed a token of {self!r} already: pass another `borrower`")

    def in_use(self) -> bool:
        return bool(self.borrowers) or super().in_use()

    def unbind(self) -> None:
        super().unbind()
        for borrower in [borrower for borrower in self.borrowers if isinstance(borrower, Task)]:  # all have ended  # pyright: ignore[reportUnknownVariableType]
            del self.borrowers[borrower]

    def state(self) -> str:
        return f"{len(self.borrowers)} of {self.total} tokens borrowed, {super().state()}"

    def __aenter__(self) -> Borrow:
        return self.acquire()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error, a task that has released its token itself releases nothing, for the reason in `Lock.__exit__`.
        if error is None or (self.kernel is not None and self.kernel.current in self.borrowers):
            self.release()


class Token:
    """One token of a capacity limiter, which a `with` gives back."""

    __slots__ = ("borrower", "limiter", "used")

    def __init__(self, limiter: CapacityLimiter, borrower: object) -> None:
        self.limiter = limiter
        self.borrower = borrower
        self.used = False  # True once a `with` has entered it

    def __enter__(self) -> Self:
        if self.used:
            raise SyscallError(f"a token of {self.limiter!r} is good for one `with`: acquire another")
        self.used = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        borrower, self.borrower = self.borrower, None  # a local name of the token would hold the task, and its failure
        if error is None or borrower in self.limiter.borrowers:
            self.limiter.release(borrower)


class Borrow(Selectable[Token]):
    """Wait for a token and borrow it; made by `limiter.acquire()`."""

    __slots__ = ("borrower", "limiter")

    def __init__(self, limiter: CapacityLimiter, borrower: object) -> None:
        self.limiter = limiter
        self.borrower = borrower

    def try_now(self, kernel: Kernel, task: Task) -> Token:
        self.limiter.bind(kernel)
        return self.limiter.take(task if self.borrower is None else self.borrower) or NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.limiter.add_waiter(waiter, task_of(waiter) if self.borrower is None else self.borrower)

    def blockers(self) -> Iterable[Task]:
        """Return the tasks that this call waits for: those that have borrowed a token. For deadlock reports."""
        return [borrower for borrower in self.limiter.borrowers if isinstance(borrower, Task)]  # pyright: ignore[reportUnknownVariableType]


def described(borrower: object) -> str:
    """Return a description of a borrower for a message."""
    if borrower is None:
        return "code outside of any task"
    return f"task {borrower.name!r}" if isinstance(borrower, Task) else repr(borrower)
