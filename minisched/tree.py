"""The tree: scopes that hang under each other, and tasks, each its own outermost scope.

Theory of operation. A scope knows what asks it to end (`own`), and the outermost such cause that it
can see (`cause`), which is all that a task looks at. Children are a list that is linked through
themselves, so that to enter a scope, or to spawn, makes no other object, and costs the same among
100,000. A task is mostly fields: who may write them stands beside each.

Not here: what walks the tree and what turns are (`kernel`); entering and leaving a scope (`scopes`).
"""

from __future__ import annotations

from .errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context
    from typing import Any

    from .kernel import Kernel

READY, RUNNING, PARKED, ENDING, DONE = "ready", "running", "parked", "ending", "done"
HANDLING = object()  # in place of a task's `value` while the call that it has yielded is handled


class Scope:
    """A part of a task's life that can be cancelled; inert until it is entered (`scopes`).

    Children are a list linked through themselves: to enter a scope makes no object but the scope.
    """

    __slots__ = ("cancelled", "cause", "older", "own", "parent", "shield", "task", "younger", "youngest")

    def __init__(self, *, shield: bool = False) -> None:
        self.task: Task | None = None  # whose life
        self.parent: Scope | None = None
        self.youngest: Scope | None = None  # of the children
        self.older: Scope | None = None  # of the same parent, the next
        self.younger: Scope | None = None
        self.shield = shield  # nothing outside is seen from inside
        self.own: tuple[str | None, Task | None] | None = None  # asked to end: the reason, and by whom
        self.cause: tuple[str | None, Task | None] | None = None  # the outermost `own` in view
        self.cancelled = False  # it took a Cancelled, so what it held was cut short

    def hang(self, parent: Scope) -> None:
        """Become the youngest child of `parent`."""
        self.parent = parent
        self.older = older = parent.youngest
        if older is not None:
            older.younger = self
        parent.youngest = self

    def unhang(self) -> None:
        """Be nobody's child any more; `parent` still says whose it was."""
        older, younger = self.older, self.younger
        if younger is not None:
            younger.older, self.younger = older, None
        else:
            self.parent.youngest = older  # pyright: ignore[reportOptionalMemberAccess]
        if older is not None:
            older.younger, self.older = younger, None

    def children(self) -> Iterator[Scope]:
        """Return the children, the youngest first."""
        child = self.youngest
        while child is not None:
            yield child
            child = child.older

    def visible(self) -> tuple[str | None, Task | None] | None:
        """Return what `cause` has to be."""
        parent = self.parent
        return self.own if parent is None or parent.cause is None or self.shield else parent.cause


class Task(Scope):
    """A generator and where it stands. A task is its own outermost scope."""

    # Fixed at the spawn.
    kernel: Kernel
    gen: Any
    context: Context
    name: str
    spawner: Task | None
    ordinal: int  # which child of the spawner's, from 0
    keep: bool
    daemon: bool
    # The kernel's.
    place: str  # ready as long as it runs; `state` knows better
    step: Any  # what the next turn calls: `gen.send`, or `throw_in`, `cancel_in`; None while parked: 72 bytes less
    value: Any  # what `step` is given; at the end: the result, or the traceback of the failure
    undo: Callable[[], object] | None
    call: Any  # what it waits for, while parked: the call, unless its handler puts here what says the same
    scope: Scope  # the innermost one: at first itself, a cycle which `family` breaks
    told: tuple[object, int] | None  # of which cancellation, and how often
    # Of its end: `family`.
    spawned: int  # children so far
    live: int  # living children that it waits for
    failure: BaseException | None

    __slots__ = (*__annotations__,)
    __init__ = object.__init__  # type: ignore[assignment]  # who makes a task sets the fields: `Kernel.spawn`
    shield = False

    @property
    def task(self) -> Task:  # type: ignore[override]
        """Whose life: its own."""
        return self

    @property
    def result(self) -> Any:
        """What the body returned; None before it is done, or if it failed."""
        return self.value if self.failure is None and self.place in (ENDING, DONE) else None

    @property
    def state(self) -> str:
        """One of ready, running, parked, ending, done."""
        return RUNNING if self.kernel.current is self else self.place

    @property
    def path(self) -> tuple[int, ...]:
        """The spawner's path and which child it is: the same in each run of a program."""
        path, task = [self.ordinal], self.spawner
        while task is not None:
            path.append(task.ordinal)
            task = task.spawner
        return tuple(reversed(path))

    def throw_in(self, thrown: tuple[BaseException, Any]) -> Any:
        """Raise an error at the task's yield, with the traceback it came with: the `step` for one turn."""
        self.step = self.gen.send
        return self.gen.throw(thrown[0].with_traceback(thrown[1]))

    def cancel_in(self, done: object = None) -> Any:
        """Raise Cancelled at the task's yield: a `step` for one turn. Made then: 100,000 at once took twice that."""
        cause = self.scope.cause or (None, None)
        self.told = (cause, self.told[1] + 1 if self.told is not None and self.told[0] is cause else 1)
        self.step = self.gen.send
        return self.gen.throw(Cancelled(*cause, done))

    def __repr__(self) -> str:
        return f"<Task {'.'.join(map(str, self.path))} {self.name} {self.state}>"
