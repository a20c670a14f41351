"""Scopes of cancellation: entering and leaving them, and those that a task asks for.

Theory of operation. The kernel keeps the tree of scopes and walks it when one is cancelled. A
task moves down the tree when it enters a scope and back up when it leaves; the outermost
cancelled scope in view takes the Cancelled that passes, shields bounding the view. What
`CancelScope`, `Timeout`, `MoveOnAfter` and `Shield` answer is such a scope, to be used in a `with`;
a deadline of its own cancels it, or lifts the shield.

Invariants:
1. A task's scopes form a stack: only the innermost one can be left.
2. Leaving loses no child: those alive are handed outward, cancelled if they were.
3. A scope does nothing before it is entered and nothing after it was left.

Not here: the walk (`kernel`); what waits (groups of tasks: `groups`).
"""

from __future__ import annotations

from math import inf

from .errors import OUT_OF_ORDER, SyscallError, TimedOut, without_cancelled
from .kernel import Kernel, Scope, Syscall, Task
from .timers import Timer, Timers
from .waiting import Primitives

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self


class Block(Scope):
    """A scope in the form of a `with`, for the task that asked for it, once.

    Its time is counted from the `with`. `deadline` is when it will be over, by
    the scheduler's clock (see `Now`); it may be moved, before that and also
    before the `with`. Infinity: never, or not known yet.
    """

    __slots__ = ("_deadline", "timer", "asked_by", "expired", "seconds")

    def __init__(self, task: Task, seconds: float | None, shield: bool = False) -> None:
        # What `Scope.__init__` does, too: to call it is a tenth of a timeout.
        self.task = self.parent = self.youngest = self.older = self.younger = self.own = self.cause = None
        self.cancelled = self.expired = False
        self.shield = shield
        self.asked_by = task
        self.seconds = inf if seconds is None else seconds + 0.0  # what is no number fails here, not in the `with`
        if not self.seconds >= 0:
            raise ValueError(f"a scope takes a number of seconds, 0 or more, or None for no limit, not {seconds!r}")
        self._deadline = inf
        self.timer: Timer | None = None  # the undo of it

    @property
    def deadline(self) -> float:
        """When its time is over, in seconds of the scheduler's clock."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        if deadline != deadline:
            raise ValueError("a deadline is a time in seconds, or infinity or None for no limit, not NaN")
        self.asked_by.kernel.service(Primitives).check_thread("moving the deadline", self)
        self._deadline = inf if deadline is None else deadline + 0.0  # or it fails, and nothing has changed
        self.seconds = inf
        if self.parent is not None:
            self._set_timer(self.asked_by.kernel.service(Timers))

    def _set_timer(self, timers: Timers) -> None:
        self.forget_timer()
        if self._deadline <= timers.now():
            self.over()
        elif self._deadline != inf:
            self.timer = timers.call_at(self._deadline, self)

    def forget_timer(self) -> None:
        """Let no deadline come any more."""
        timer, self.timer = self.timer, None
        if timer is not None and timer.what is not None:
            timer.forget()

    def over(self) -> None:
        """Do what is to be done at the deadline."""
        raise NotImplementedError

    def __call__(self) -> None:
        """Be called by the timer, which needs no bound method then."""
        self.over()

    def __enter__(self) -> Self:
        task = self.asked_by
        kernel = task.kernel
        if kernel.current is not task or self.task is not None:
            raise self._not_its_turn() if kernel.current is not task else entered_twice(task)
        self.task = task  # what `enter` does: to call it, and `leave` below, would be a tenth of a timeout
        self.parent = outer = task.scope
        self.older = older = outer.youngest
        if older is not None:
            older.younger = self
        outer.youngest = task.scope = self
        if outer.cause is not None or self.own is not None:
            self.cause = self.visible()
        if self.seconds < inf or self._deadline < inf:
            timers = kernel.services[Timers]
            now = timers.now()
            deadline = now + self.seconds
            if deadline > self._deadline:
                deadline = self._deadline
            self._deadline = deadline
            if deadline <= now:
                self.over()
            else:
                timers.limit(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        task = self.asked_by
        if task.kernel.current is not task:
            raise self._not_its_turn()
        if error is None and self.youngest is None and self.younger is None and task.scope is self:
            outer: Any = self.parent  # what `leave` does, where nobody is to be handed over
            task.scope = outer
            outer.youngest = older = self.older
            if older is not None:
                older.younger = self.older = None
            self.parent = None
            timer, self.timer = self.timer, None
            if timer is not None and timer.what is not None:
                timer.forget()
            return False
        rest = leave(self, error)
        return rest is not error and self.take(rest)

    def take(self, rest: BaseException | None) -> bool:
        """Go on after a Cancelled that was taken, or raise the `rest` of a group that it was in."""
        if rest is not None:
            raise rest from rest.__cause__
        return True

    def _not_its_turn(self) -> SyscallError:
        return SyscallError(
            f"a scope was entered or left outside of the turns of task {self.asked_by.name!r}, which had asked for "
            "it: each task asks for its own, and closes the generators that have one (contextlib.aclosing)"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of task {self.asked_by.name!r}>"


class CancelBlock(Block):
    """A scope that can be cancelled, by `cancel` or by its deadline.

    `cancel_called`: it was asked to end. `cancelled`: it has taken a Cancelled,
    so what was in it was cut short; a body that comes to its end in the turn of
    the deadline was not.
    """

    __slots__ = ()

    @property
    def cancel_called(self) -> bool:
        """Whether it was asked to end."""
        return self.own is not None

    def cancel(self, reason: str | None = None) -> None:
        """Ask all that is in the scope to end. A plain call, in the run's thread only."""
        kernel = self.asked_by.kernel
        kernel.service(Primitives).check_thread("cancel", self)
        kernel.cancel(self, reason, kernel.current)

    def over(self) -> None:
        """Cancel it."""
        self.asked_by.kernel.cancel(self, "its time is over")


class TimeoutBlock(CancelBlock):
    """A scope whose `with` raises TimedOut when it was its deadline that cut it short."""

    __slots__ = ()

    def over(self) -> None:
        """Cancel it."""
        self.expired = self.expired or self.own is None  # it may come twice, if the deadline is moved
        super().over()

    def take(self, rest: BaseException | None) -> bool:
        """Raise TimedOut in place of a Cancelled that was taken, if that was the deadline's."""
        if self.expired and rest is not None:
            rest.add_note(f"{self._said()}, too")
        elif self.expired:
            timed_out = TimedOut(self._said())
            timed_out.scope = self
            raise timed_out from None
        return super().take(rest)

    def _said(self) -> str:
        limit = "its deadline has passed" if self.seconds == inf else f"{self.seconds:g} s are over"
        return f"task {self.asked_by.name!r} timed out: {limit}"


class ShieldBlock(Block):
    """A scope whose inside sees nothing of cancellations outside, until it is left or its time is over."""

    __slots__ = ()

    def over(self) -> None:
        """Let in what is outside."""
        self.shield = False
        self.asked_by.kernel.spread(self)


class CancelScope(Syscall[CancelBlock]):
    """A scope to be cancelled: `with (yield CancelScope()) as scope:`, and then `scope.cancel()`. Not a checkpoint."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> CancelBlock:
        return CancelBlock(task, None)


class MoveOnAfter(Syscall[CancelBlock]):
    """A scope that is cancelled after `seconds`, counted from its `with`, after which the task goes on.

    0 cancels at the first checkpoint, None or infinity never. ValueError for a negative number or NaN.
    Not a checkpoint.
    """

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> CancelBlock:
        return CancelBlock(task, self.seconds)


class Timeout(Syscall[TimeoutBlock]):
    """As `MoveOnAfter`, but the `with` raises TimedOut, whose `scope` is this one, if its deadline cut it short."""

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> TimeoutBlock:
        return TimeoutBlock(task, self.seconds)


class Shield(Syscall[ShieldBlock]):
    """A scope for cleaning up, which cancellations from outside reach only after `seconds`; None or infinity: never.

    It cancels nothing itself and takes no Cancelled. Not a checkpoint.
    """

    __slots__ = ("seconds",)
    checkpoint = False

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def handle(self, kernel: Kernel, task: Task) -> ShieldBlock:
        return ShieldBlock(task, self.seconds, shield=True)


def enter(task: Task, scope: Scope) -> None:
    """Make `scope` the innermost one of the task whose turn it is."""
    if scope.task is not None:
        raise entered_twice(scope.task)
    scope.hang(task.scope)
    scope.task = task
    scope.cause = scope.visible()
    task.scope = scope


def adopt(scope: Scope, child: Task) -> None:
    """Let a new task hang under `scope` in place of its spawner's innermost one."""
    if child.parent is not None and child.parent is not scope:
        child.unhang()
        child.hang(scope)
        child.kernel.spread(child)


def leave(scope: Scope, error: BaseException | None) -> BaseException | None:
    """Leave the innermost scope with `error`; return what of it goes on, outside.

    The outermost cancelled scope in view takes Cancelled, out of a group too.
    O(children that are still alive).
    """
    task, outer = scope.task, scope.parent
    if task is None or outer is None or task.scope is not scope:
        raise SyscallError(OUT_OF_ORDER)
    task.scope = outer
    scope.unhang()
    scope.parent = None  # it is left for good: to cancel it does nothing any more
    if isinstance(scope, Block):
        scope.forget_timer()
    own = scope.own if scope.cause is scope.own else None  # an outer cause reaches the children from there
    for child in reversed([*scope.children()]):
        child.own = child.own or own
        child.unhang()
        child.hang(outer)
        task.kernel.spread(child)
    if error is None or own is None:
        return error
    rest = without_cancelled(error)
    scope.cancelled = rest is not error
    return rest


def entered_twice(by: Task) -> SyscallError:
    """Return the error for a scope that is entered again."""
    return SyscallError(f"a scope is entered once, and task {by.name!r} has entered this one: make another")
