"""Entering and leaving a scope of cancellation.

Theory of operation. The kernel keeps the tree of scopes and walks it when one is cancelled. A
task moves down the tree when it enters a scope and back up when it leaves; the outermost
cancelled scope in view takes the Cancelled that passes, shields bounding the view.

Invariants:
1. A task's scopes form a stack: only the innermost one can be left.
2. Leaving loses no child: those alive are handed outward, cancelled if they were.

Not here: the scopes that a task asks for by name (timeouts, shields); they add no second mechanism.
"""

from __future__ import annotations

from .errors import OUT_OF_ORDER, SyscallError, without_cancelled
from .kernel import CHILDLESS, Scope, Task


def enter(task: Task, scope: Scope) -> None:
    """Make `scope` the innermost one of the task whose turn it is."""
    if scope.task is not None:
        raise SyscallError(f"a scope is entered once, and task {scope.task.name!r} has entered this one: make another")
    scope.hang(task.scope)
    scope.task = task
    scope.cause = scope.visible()
    task.scope = scope


def leave(scope: Scope, error: BaseException | None) -> BaseException | None:
    """Leave the innermost scope with `error`; return what of it goes on, outside.

    The outermost cancelled scope in view takes Cancelled, out of a group too.
    O(children that are still alive).
    """
    task, outer = scope.task, scope.parent
    if task is None or outer is None or task.scope is not scope:
        raise SyscallError(OUT_OF_ORDER)
    task.scope = outer
    del outer.children[scope]
    scope.parent = None  # it is left for good: to cancel it does nothing any more
    own = scope.own if scope.cause is scope.own else None  # an outer cause reaches the children from there
    for child in scope.children:
        child.own = child.own or own
        child.hang(outer)
        task.kernel.spread(child)
    scope.children = CHILDLESS
    if error is None or own is None:
        return error
    rest = without_cancelled(error)
    scope.cancelled = rest is not error
    return rest
