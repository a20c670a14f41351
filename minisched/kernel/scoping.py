"""Entering and leaving scopes: how a task moves in the tree.

Theory of operation. A task moves down the tree when it enters a scope and back up when it leaves. On the way up, the
outermost scope that is cancelled catches the `Cancelled` that passes; a shield bounds that view.

Invariants:
1. The scopes of a task form a stack: only the innermost one can be left.
2. A scope that is left loses no child: each living child moves to the enclosing scope, still cancelled if it was.
3. A scope has no effect before it is entered, and none after it was left.
4. A scope that was left, and the task that has left it, keep nothing of the task that cancelled it.

Not here: scopes with a deadline, which a program asks for (`tasks/scopes`).
"""

from __future__ import annotations

from ..errors import SyscallError
from .misuse import OUT_OF_ORDER, entered_twice
from .tracebacks import without_cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .tree import Scope, Task

    Anonymous = tuple[str | None, None]  # the reason of a cancellation, without the task that cancelled


def enter(task: Task, scope: Scope) -> None:
    """Make `scope` the innermost scope of the running task."""
    if scope.task is not None:
        raise entered_twice(scope.task)
    scope.attach(task.scope)
    scope.task = task
    scope.effective = scope.effective_now()
    task.scope = scope


def leave(scope: Scope, error: BaseException | None) -> BaseException | None:
    """Leave the innermost scope with `error`; return the part of the error that goes on outside.

    The outermost scope with an effective request catches Cancelled, out of a group too. O(living children).

    Decision: a cancelled child stays cancelled when it moves outward. Because: otherwise its fate would depend on
    whether it was parked or ready in that turn. Rejected: letting it go on.
    """
    task, outer = scope.task, scope.parent
    if task is None or outer is None or task.scope is not scope:
        raise SyscallError(OUT_OF_ORDER) from error
    task.scope = outer
    scope.detach()
    scope.parent = None
    scope.left()
    requested = scope.requested if scope.effective is scope.requested else None  # an outer one reaches them anyway
    for child in reversed([*scope.children()]):
        child.requested = child.requested or requested
        adopt(outer, child)
    _ = forget_canceller(scope)
    if task.deliveries is not None and task.deliveries[0] is not outer.effective:
        task.deliveries = None
    if error is None or requested is None:
        return error
    rest = without_cancelled(error)
    scope.cancelled_caught = rest is not error
    return rest


def forget_canceller(scope: Scope, last: Anonymous = (None, None)) -> Anonymous:
    """Keep the reason of a cancellation that has ended, but not the task that cancelled, which has a result.

    Decision: all tasks that one request has cancelled share one tuple. Because: a new one for each of 50,000 tasks
    makes the garbage collector walk them all (`cancel`). Rejected: dropping the reason, which a Join reports.

    Args:
        scope: a scope that was left, or a done task.
        last: the result of the last call, to be shared.
    """
    if scope.effective is not None:
        if scope.effective[0] is not last[0]:
            last = (scope.effective[0], None)
        scope.effective = last
    if scope.requested is not None:
        if scope.requested[0] is not last[0]:
            last = (scope.requested[0], None)
        scope.requested = last
    return last


def adopt(scope: Scope, child: Any) -> None:
    """Move a task under `scope`, if it is not there."""
    if child.parent is not scope:
        child.detach()
        child.attach(scope)
        child.kernel.propagate(child)
