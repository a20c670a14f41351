"""The tree of cancellation scopes, in which each task is its own outermost scope.

Theory of operation. The parent of a scope is the scope in which it was entered; the parent of a task is the scope
in which it was spawned. `requested` is set when this very scope is cancelled. `effective` is the request of the
outermost cancelled scope among this one and those above it, up to the nearest shield. A task looks at nothing else.

Not here: entering and leaving a scope (`scoping`); turns, and the walk at a cancellation (`kernel`).
"""

from __future__ import annotations

from .generic import Answer, Answering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context
    from types import TracebackType
    from typing import Any

    from .kernel import Kernel

READY, HANDLING, PARKED, ENDING, DONE = "ready", "handling", "parked", "ending", "done"


class Scope:
    """A part of a task's life that can be cancelled as a whole. The public forms are in `tasks/scopes`.

    Decision: children are linked through their own fields. Because: a scope or a spawn then creates no second object.
    Rejected: a dict in each parent, which is larger than the scope itself and costs a hash for each spawn.

    Example:
        >>> from minisched import MoveOnAfter, run
        >>> def main():
        ...     with (yield MoveOnAfter(0)) as scope:
        ...         yield
        ...     return scope.cancelled_caught
        >>> run(main())
        True
    """

    task: Task | None  # the task that entered this scope
    parent: Scope | None
    last_child: Scope | None
    prev_sibling: Scope | None
    next_sibling: Scope | None
    shield: bool  # requests from outside do not reach the inside
    requested: tuple[str | None, Task | None] | None  # the reason, and the task that cancelled
    effective: tuple[str | None, Task | None] | None
    cancelled_caught: bool  # whether its block was cut short
    __slots__ = (*__annotations__,)

    def __init__(self, *, shield: bool = False) -> None:
        self.task = self.parent = self.last_child = self.prev_sibling = self.next_sibling = None
        self.requested = self.effective = None
        self.cancelled_caught, self.shield = False, shield

    def effective_now(self) -> tuple[str | None, Task | None] | None:
        """Return what `effective` must be."""
        parent = self.parent
        return self.requested if self.shield or parent is None or parent.effective is None else parent.effective

    def attach(self, parent: Scope) -> None:
        """Make this scope the last child of `parent`."""
        self.parent = parent
        self.prev_sibling = prev = parent.last_child
        if prev is not None:
            prev.next_sibling = self
        parent.last_child = self

    def detach(self) -> None:
        """Remove this scope from its parent's children; `parent` still names the old parent."""
        prev, following = self.prev_sibling, self.next_sibling
        if following is not None:
            following.prev_sibling, self.next_sibling = prev, None
        else:
            self.parent.last_child = prev  # pyright: ignore[reportOptionalMemberAccess]
        if prev is not None:
            prev.next_sibling, self.prev_sibling = following, None

    def children(self) -> Iterator[Scope]:
        """Return the children, the last one first."""
        child = self.last_child
        while child is not None:
            yield child
            child = child.prev_sibling

    def left(self) -> None:
        """Clean up after the scope was left. A subclass overrides this."""


class Task(Scope, Answering[Answer]):
    """A generator or coroutine, and its state: its own outermost scope. `Kernel.spawn` creates it; only read it.

    Example:
        >>> from minisched import CurrentTask, run
        >>> def main():
        ...     task = yield CurrentTask()
        ...     return task.name, task.path, task.state, task.result
        >>> run(main())
        ('main', (0,), 'ready', None)
    """

    # Set by the spawn, then constant.
    kernel: Kernel
    gen: Any  # the body: a generator or a coroutine
    context: Context
    name: str
    spawner: Task | None  # the parent task; None for main
    ordinal: int  # the position among the spawner's children, from 0
    keep: bool  # a failure waits for a Join, or for the parent's end, and does not cancel the parent
    daemon: bool  # not waited for: cancelled when the parent's body and its other children have ended
    # Written by the kernel.
    state: str  # READY (queued, or running: `kernel.current`), HANDLING (its call), PARKED, ENDING or DONE
    step: Any  # the next turn calls it with `sent`: `gen.send`, `throw_in`, `kernel.cancel_step`; None while parked
    sent: Any  # the answer that the next turn sends; `throw_in`: an error and its traceback; `cancel_step`: `done`
    undo: Callable[[], object] | None  # while parked: gives up the wait; None: the wait cannot be cancelled
    call: Any  # while parked: the syscall, or an object with the same repr, which reports show
    scope: Scope  # the innermost one; at first the task itself, a reference cycle that `lifecycle` breaks
    deliveries: tuple[object, int] | None  # the last request that met a checkpoint, and at how many it did
    # Written by `lifecycle`.
    children_spawned: int
    live_children: int  # living children that this task waits for: all but daemons
    result: Answer | Any  # the body's return value; None before, or if it raised
    failure: BaseException | None
    failure_traceback: TracebackType | None  # of a done task: each raise adds frames to the error's own

    __slots__ = (*__annotations__,)
    __init__ = object.__init__  # type: ignore[assignment]  # `Kernel.spawn` sets the fields
    shield = False

    @property
    def task(self) -> Task[Answer]:  # type: ignore[override]
        """The task that this scope belongs to: itself."""
        return self

    @property
    def state_name(self) -> str:
        """The state for messages: "running" for the running task."""
        return "running" if self.kernel.current is self and self.state in (READY, HANDLING) else self.state

    @property
    def path(self) -> tuple[int, ...]:
        """The spawner's path and the ordinal: the same in each run of a deterministic program."""
        path, task = [self.ordinal], self.spawner
        while task is not None:
            path.append(task.ordinal)
            task = task.spawner
        return tuple(reversed(path))

    def throw_in(self, sent: tuple[BaseException, Any]) -> Any:
        """Raise an error at the task's yield, with the traceback that it came with. The `step` of one turn."""
        step, self.step, box = self.gen.throw, self.gen.send, [BaseException.with_traceback(*sent)]
        del self, sent  # the frames of the error hold this one: see `minisched.loop.Loop`
        return step(box.pop())

    def __repr__(self) -> str:
        return f"<Task {'.'.join(map(str, self.path))} {self.name} {self.state_name}>"
