"""Cancellation scopes: CancelScope, Timeout, MoveOnAfter and Shield.

Theory of operation. The kernel keeps a tree of scopes, and walks it when a scope is cancelled. A task moves down the
tree when it enters a scope, and back up when it leaves the scope. The syscalls here return a scope that the task enters
and leaves by a `with` statement. The Cancelled of a cancellation is raised at a checkpoint inside the scope, and passes
outwards through the `with` statements. The outermost cancelled scope that is visible from the task, through no shield,
swallows it. A deadline is a timer that calls the scope's `expire`, which cancels the scope, or lifts the shield.

Invariants:
1. An entered scope with a finite deadline that has not come has exactly one timer; any other scope has none.
2. A scope that was left holds no task.

Not here: the walk (`kernel`); the tree (`tree`); `enter` and `leave` (`scoping`); groups of tasks (`taskgroup`).
"""

from __future__ import annotations

from math import inf

from ..errors import Cancelled, SyscallError, TimedOut
from ..kernel import Scope, Syscall
from ..kernel.blocks import HasBlock
from ..kernel.misuse import OUT_OF_ORDER, entered_twice
from ..kernel.numbers import check_seconds, check_time
from ..kernel.primitive import check_caller
from ..kernel.scoping import leave
from ..kernel.tracebacks import find, set_context
from .timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from ..kernel import Kernel, Task
    from .timers import Timer

LONG_SECONDS = 10**9  # an int, since Python compares two ints sooner; longer times are checked by `check_seconds`
LEFT: Any = object()  # the task of a scope that was left
LEFT_ALREADY = "a scope is entered once, and this one was left: make another"


class FormerOwner:
    """Stands for the task that has left a scope."""

    __slots__ = ("kernel",)
    name = "that has left the scope"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel


class ScopeContext(HasBlock, Scope):
    """A scope as a context manager, which the task that asked for it enters once. Its `seconds` count from then on.

    Decision: a scope that was left does not hold its task. Because: the task may end with an error that has the scope,
    as `TimedOut.scope` or by a local name (`as scope`): task, failure, frame, scope, task would be a cycle. Rejected: a
    weak reference to the task, which costs more than 3 % of `timeout`.
    """

    __slots__ = ("_deadline", "_owner", "expired", "kernel", "seconds", "timer")
    maker = "MoveOnAfter"  # the call that returns such a scope, for errors

    def __init__(self, task: Task, seconds: Any, shield: bool = False) -> None:
        Scope.__init__(self, shield=shield)  # not `super()`, which costs 5 % of `python -m tests.benchmarks timeout`
        self.kernel = task.kernel
        self._owner = task  # LEFT once the scope was left
        if (type(seconds) is int or type(seconds) is float) and 0 <= seconds <= LONG_SECONDS:
            self.seconds: float = seconds
        else:
            self.seconds = inf if seconds is None else check_seconds(self.maker, "seconds", seconds, optional=True)
        self._deadline = inf
        self.timer: Timer | None = None
        self.expired = False  # the deadline cancelled the scope; only TimeoutContext sets it

    @property
    def owner(self) -> Task:
        """The task that asked for the scope; a FormerOwner once the scope was left."""
        return FormerOwner(self.kernel) if self._owner is LEFT else self._owner  # type: ignore[return-value]

    @property
    def deadline(self) -> float:
        """The time at which the scope expires, in seconds of the run's clock (see `Now`); infinity: never.

        Entering the `with` statement sets the deadline of a scope with a number of seconds. A task may move it at any
        time; before the entry, it replaces the seconds. None and infinity mean that there is no deadline.
        """
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        check_caller(self.kernel, "moving the deadline", self)
        self._deadline = inf if deadline is None else check_time(self.maker, "deadline", deadline, optional=True)
        self.seconds = inf
        if self.parent is not None:
            self.left()
            self._start_timer(self.kernel.service(Timers))

    def _start_timer(self, timers: Timers) -> None:
        """Expire at the deadline, which may have passed."""
        if self._deadline <= timers.now():
            self.expire()
        elif self._deadline < inf:
            self.timer = timers.add(self._deadline, self)

    def left(self) -> None:
        """Cancel the timer of the deadline."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def expire(self) -> None:
        """Handle the deadline. A subclass implements this."""
        raise NotImplementedError

    def __call__(self) -> None:
        """Expire. The scope itself is the callback of its timer, which saves a bound method for each timeout."""
        self.expire()

    # Why are these two methods so long? Their plain forms are:
    #
    #     def __enter__(self):                                 def __exit__(self, kind, error, trace):
    #         enter(self.owner, self)                              rest = leave(self, error)
    #         if self.seconds < inf or self._deadline < inf:       return rest is not error and self.swallow(rest)
    #             ... set `_deadline`; `_start_timer`
    #         return self
    #
    # A timeout around each message of a connection is the most frequent use of a scope, and nearly always ends long
    # before its deadline, without an error and without children. So the links are set in place here, and the general
    # `leave` runs only when there is something to do besides: an error, a child, a cancellation, a scope that is not
    # the innermost one. Rejected: a second kind of timer, made when the loop next waits, for another 4 % of `timeout`.

    def __enter__(self) -> Self:
        task = self._owner
        kernel = self.kernel
        if kernel.current is not task:
            raise self._wrong_task(LEFT_ALREADY)
        if self.task is not None:
            raise entered_twice(task)
        # Copy for speed of `kernel.scoping.enter`: gains 16 % of `timeout`.
        self.task = task
        self.parent = outer = task.scope
        self.prev_sibling = sibling = outer.last_child
        if sibling is not None:
            sibling.next_sibling = self
        outer.last_child = task.scope = self
        if outer.effective is not None or self.requested is not None:
            self.effective = self.effective_now()
        if self.seconds < inf or self._deadline < inf:
            timers = kernel.services[Timers]
            now = timers.now()
            deadline = now + self.seconds
            if deadline > self._deadline:
                deadline = self._deadline
            self._deadline = deadline
            if deadline <= now:
                self.expire()
            else:
                self.timer = timers.add(deadline, self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        task = self._owner
        if self.kernel.current is not task:
            raise self._wrong_task(OUT_OF_ORDER)
        fast = error is None and self.last_child is None and self.next_sibling is None and self.effective is None
        if fast and task.scope is self:
            # Copy for speed of `kernel.scoping.leave` and `left`: gains 24 % of `timeout`.
            outer: Any = self.parent
            task.scope = outer
            outer.last_child = sibling = self.prev_sibling
            if sibling is not None:
                sibling.next_sibling = self.prev_sibling = None
            self.parent = None
            self.task = self._owner = LEFT
            timer = self.timer
            if timer is not None:
                timer.cancel()
                self.timer = None
            return False
        rest = leave(self, error)
        try:
            return error is not None and rest is not error and self.swallow(rest, error)
        finally:
            self.task = self._owner = LEFT
            del task, error, trace, rest  # an exception raised here has this frame in its traceback: leave no cycle

    def swallow(self, rest: BaseException | None, error: BaseException) -> bool:
        """Continue after the Cancelled in `error` was swallowed; raise the `rest` of a group that it was part of."""
        if rest is None:
            return True
        context = rest.__context__
        try:
            raise rest
        finally:
            set_context(rest, context)  # `raise` has made the whole group the context
            del error, rest

    def _wrong_task(self, if_left: str) -> SyscallError:
        if self._owner is LEFT:
            return SyscallError(if_left)
        return SyscallError(
            f"a scope of task {self._owner.name!r} was entered or left by another task, or between turns: each task "
            "asks for its own, and closes the generators that hold one (contextlib.aclosing)"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'that was left' if self._owner is LEFT else f'of task {self.owner.name!r}'}>"


class CancelContext(ScopeContext):
    """A scope that can be cancelled, by `cancel` or by its deadline. `CancelScope` and `MoveOnAfter` return it.

    `cancelled_caught` says whether the scope swallowed a Cancelled, so that the block was cut short. A block that
    finishes in the turn of the deadline was cancelled (`cancel_called`), but not cut short.
    """

    __slots__ = ()
    if TYPE_CHECKING:

        def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool: ...

    @property
    def cancel_called(self) -> bool:
        """True if the scope was cancelled, by `cancel` or by its deadline."""
        return self.requested is not None

    def cancel(self, reason: str | None = None) -> None:
        """Cancel all tasks inside the scope, the owner's block included.

        A plain call, in the run's thread only. Each task inside gets Cancelled at its next checkpoint, and the owner
        goes on after the `with` statement. A second call, or a call after the scope was left, changes nothing. A scope
        that is cancelled before its `with` is cancelled from the first checkpoint on. O(scopes and tasks inside).

        Args:
            reason: why, for `Cancelled.reason` and its text.

        Raises:
            SyscallError: in another thread than the run's.
        """
        kernel = self.kernel
        check_caller(kernel, "cancel", self)
        if self._owner is not LEFT:
            kernel.cancel(self, reason, kernel.current)

    def expire(self) -> None:
        """Cancel the scope."""
        self.kernel.cancel(self, "its deadline has passed")


class TimeoutContext(CancelContext):
    """A scope whose `with` statement raises TimedOut when the deadline cut it short. `Timeout` returns it."""

    __slots__ = ()
    maker = "Timeout"
    if TYPE_CHECKING:

        def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None: ...  # type: ignore[override]  # as in trio: a block that always returns ends the function

    def expire(self) -> None:
        """Cancel the scope, and note that the deadline did it, unless another cancellation came first."""
        self.expired = self.expired or self.requested is None  # a deadline that was moved may expire a second time
        super().expire()

    def swallow(self, rest: BaseException | None, error: BaseException) -> bool:
        """Raise TimedOut in place of the swallowed Cancelled if the deadline caused it."""
        if self.expired and rest is not None:
            rest.add_note(f"{self._cause()}, too")
        elif self.expired:
            timed_out = TimedOut(self._cause())
            timed_out.scope = self
            timed_out.done = getattr(find(error, Cancelled), "done", None)
            context = error.__context__
            try:
                raise timed_out from None
            finally:
                set_context(timed_out, context)  # not the Cancelled, whose traceback has the frames of the block
                del error, timed_out
        try:
            return super().swallow(rest, error)
        finally:
            del error, rest

    def _cause(self) -> str:
        limit = "its deadline has passed" if self.seconds == inf else f"{self.seconds:g} s have passed"
        return f"task {self.owner.name!r} timed out: {limit}"


class ShieldContext(ScopeContext):
    """A scope that hides cancellations from outside until it is left or its deadline passes. `Shield` returns it."""

    __slots__ = ()
    maker = "Shield"

    def expire(self) -> None:
        """Lift the shield: let the cancellations outside through."""
        self.shield = False
        self.kernel.propagate(self)


class CancelScope(Syscall[CancelContext]):
    """Return a scope that can be cancelled: `with (yield CancelScope()) as scope:`.

    `scope.cancel()` cancels everything inside the `with` statement, children that were spawned there included. The
    task then goes on after it. `scope.cancel_called` and `scope.cancelled_caught` say whether that happened;
    `scope.deadline` may be set. The call is not a checkpoint. In an `async def`, write `async with CancelScope():`.

    Returns:
        The scope, for one `with` statement of this task; a second one, or one of another task, raises SyscallError.

    Example:
        >>> from minisched import CancelScope, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def button(scope):
        ...     yield Sleep(1)
        ...     scope.cancel("the user clicked")
        >>> def main():
        ...     with (yield CancelScope()) as scope:
        ...         yield Spawn(button(scope))
        ...         yield Sleep(60)
        ...     return scope.cancelled_caught
        >>> run(main())
        True
    """

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> CancelContext:
        return CancelContext(task, None)


class MoveOnAfter(Syscall[CancelContext]):
    """Return a scope that is cancelled after a number of seconds: `with (yield MoveOnAfter(5)) as scope:`.

    The time counts from the entry into the `with` statement. When it has elapsed, everything inside is cancelled and
    the task goes on after the `with`. A block without a checkpoint is never cut short. The call is not a checkpoint.

    Args:
        seconds: how long the block may take; 0 cancels it at its first checkpoint, None or `math.inf` never.

    Returns:
        The scope: `scope.cancelled_caught` says whether the block was cut short, and `scope.deadline` may be moved.

    Raises:
        TypeError, ValueError: for anything but a number of 0 or more, at the `yield`.

    Example:
        >>> from minisched import MoveOnAfter, Now, Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     with (yield MoveOnAfter(2)) as scope:
        ...         yield Sleep(60)
        ...     return scope.cancelled_caught, (yield Now())
        >>> run(main())
        (True, 2.0)
    """

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> CancelContext:
        return CancelContext(task, self.seconds)


class Timeout(Syscall[TimeoutContext]):
    """Return a scope whose block may take a number of seconds: `with (yield Timeout(5)):`.

    The time counts from the entry into the `with` statement. When it has elapsed, everything inside is cancelled, and
    the `with` statement raises TimedOut. A block that still returns, or raises an error of its own, does not time out.
    The call itself is not a checkpoint. In an `async def`, write `async with Timeout(5):`.

    Args:
        seconds: how long the block may take; 0 cancels it at its first checkpoint, None or `math.inf` never.

    Returns:
        The scope; its `deadline` may be moved.

    Raises:
        TypeError, ValueError: for anything but a number of 0 or more, at the `yield`.
        TimedOut: by the `with` statement; its `scope` is this scope. If the block raised other errors in a group with
            the Cancelled, the rest of the group is raised, with a note that the block timed out, too.

    Example:
        >>> from minisched import Sleep, TimedOut, Timeout
        >>> from minisched.testing import run
        >>> def main():
        ...     try:
        ...         with (yield Timeout(2)):
        ...             yield Sleep(60)
        ...     except TimedOut as error:
        ...         return str(error)
        >>> run(main())
        "task 'main' timed out: 2 s have passed"
    """

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> TimeoutContext:
        return TimeoutContext(task, self.seconds)


class Shield(Syscall[ShieldContext]):
    """Return a scope that hides cancellations from outside: `with (yield Shield(5)):`, for cleaning up.

    Inside, a cancelled task can wait again. When the block is left, or its deadline passes, the hidden cancellation
    arrives at the next checkpoint. The shield cancels nothing itself and swallows no Cancelled. It does not hide
    cancellations of scopes inside it. The call is not a checkpoint.

    Args:
        seconds: after how long the shield is lifted, from the `with` on; None or `math.inf`: when the block is left.

    Returns:
        The scope; its `deadline` may be moved.

    Raises:
        TypeError, ValueError: for anything but a number of 0 or more, at the `yield`.

    Example:
        >>> from minisched import MoveOnAfter, Now, Shield, Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     with (yield MoveOnAfter(1)):
        ...         try:
        ...             yield Sleep(60)
        ...         finally:
        ...             with (yield Shield(5)):
        ...                 yield Sleep(2)
        ...                 print("cleaned up at", (yield Now()))
        >>> run(main())
        cleaned up at 3.0
    """

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> ShieldContext:
        return ShieldContext(task, self.seconds, shield=True)
