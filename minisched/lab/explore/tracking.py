"""Tracking: the hooks by which a run under exploration notes what its tasks touch.

Theory of operation. `tracked` installs `__getattribute__` in the classes of things that tasks share, and `noting` says
which Footprints receive the touches. Without `noting`, a hook does nothing but one comparison.

Decision: hooks are installed once for an exploration, and not for each run. Because: from Python 3.12 on, a class that
was changed a thousand times is slow from then on. Rejected: hooks in the primitives, which each run would pay for, and
which an extender could forget.

Not here: the meaning of the touches (`footprints`).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial

from ...kernel import Kernel, Task
from ...kernel.numbers import MAX_SECONDS
from ...kernel.primitive import Primitive
from ...sync.broadcast import Broadcast
from ...tasks.gather import CollectAll, FailFast
from ...tasks.scopes import ScopeContext
from ...tasks.taskgroup import AT_NEXT_END, TaskGroup
from ...tasks.timers import Timers
from .footprints import READ, SCOPE, SLEEP, WRITE, Footprints, in_package
from .together import Shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from ...tasks.timers import Timer

TASK_FIELDS = ("state", "result", "failure", "cancelled_caught")  # that programs read of other tasks
UNTOUCHED = frozenset({"__class__", "__dict__", "__weakref__", "__repr__", "name"})  # constant, or for reports


class TrackedTimers(Timers):
    """Timers whose deadlines are in the footprints: timers that are due at once fire in the order of their creation.

    It does not matter for sleeps among each other, nor for scopes.
    """

    def add(self, deadline: float, callback: Any) -> Timer:
        if active is not None and deadline < MAX_SECONDS:
            active.touch(f"time {deadline!r}", mode_of(callback))
        return super().add(deadline, callback)


active: Footprints | None = None  # those of the run that is explored now


def mode_of(callback: object) -> str:
    """Return the mode of a touch of a deadline."""
    return SLEEP if isinstance(callback, Task) else SCOPE if isinstance(callback, ScopeContext) else WRITE


@contextmanager
def noting(footprints: Footprints | None) -> Generator[list[Footprints]]:
    """Let a run note its footprints, if there are any; yield its watchers. Use this in `tracked`."""
    global active
    before, active = active, footprints
    try:
        yield [] if footprints is None else [footprints]
    finally:
        active = before


@contextmanager
def tracked() -> Generator[None]:
    """Install what sees the touches.

    Once for an exploration, and not for each run: from Python 3.12 on, a class that was changed a thousand times is
    slow from then on.
    """
    undo: list[Callable[[], None]] = []
    try:
        for kind in (Primitive, Broadcast, Shared):
            undo += [replace(kind, "__getattribute__", touching), replace(kind, "__init__", creating(kind.__init__))]
        undo.append(replace(Shared, "__setattr__", writing))
        undo.append(replace(Shared, "__delattr__", deleting))
        undo.append(replace(ScopeContext, "__getattribute__", touching_owner))
        undo.append(replace(ScopeContext, "__init__", owned(ScopeContext.__init__)))
        undo.append(replace(ScopeContext, "deadline", moving(vars(ScopeContext)["deadline"])))
        undo.append(replace(Task, "state_name", property(looking(Task.state_name.fget))))
        undo.append(replace(Task, "__repr__", looking(Task.__repr__)))
        undo.append(replace(Kernel, "tasks", looking_at_all(Kernel.tasks)))
        undo.append(replace(TaskGroup, "child_ended", counting_end(TaskGroup.child_ended)))
        undo.append(replace(TaskGroup, "spawn_child", counting_spawn(TaskGroup.spawn_child)))
        undo += [replace(Task, field, reading(getattr(Task, field))) for field in TASK_FIELDS]
        yield
    finally:
        for step in reversed(undo):
            step()


def replace(kind: type, name: str, value: object) -> Callable[[], None]:
    """Set an attribute of a class; return the undo."""
    own, old = name in vars(kind), vars(kind).get(name)
    setattr(kind, name, value)
    return (lambda: setattr(kind, name, old)) if own else (lambda: delattr(kind, name))


def touching(thing: Any, attribute: str) -> Any:
    """Get an attribute of a primitive, or of a Shared, whose attributes are things of their own."""
    if active is not None and attribute not in UNTOUCHED:
        if type(thing) is not Shared:
            active.touch(active.name(thing))
        elif not attribute.startswith("__"):
            active.touch(f"{active.name(thing)}.{attribute}", READ)
    elif active is not None and attribute == "__dict__" and type(thing) is Shared:
        touch_all(thing, active)
    return object.__getattribute__(thing, attribute)


def touch_all(thing: Shared, footprints: Footprints) -> None:
    """Note a look at all attributes of a Shared, and at which there are."""
    footprints.touch(footprints.name(thing), READ)
    for attribute in object.__getattribute__(thing, "__dict__"):
        footprints.touch(f"{footprints.name(thing)}.{attribute}", READ)


def writing(thing: Shared, attribute: str, value: object) -> None:
    """Set an attribute of a Shared."""
    if active is not None:
        active.touch(f"{active.name(thing)}.{attribute}")
        if attribute not in object.__getattribute__(thing, "__dict__"):
            active.touch(active.name(thing))
    object.__setattr__(thing, attribute, value)


def deleting(thing: Shared, attribute: str) -> None:
    """Delete an attribute of a Shared."""
    if active is not None:
        active.touch(f"{active.name(thing)}.{attribute}")
        active.touch(active.name(thing))
    object.__delattr__(thing, attribute)


def creating(plain: Callable[..., None]) -> Callable[..., None]:
    """Return an `__init__` that names the new thing."""

    def init(thing: object, *args: Any, **keywords: Any) -> None:
        if active is not None:
            active.created(thing)
        plain(thing, *args, **keywords)

    return init


def touching_owner(scope: ScopeContext, attribute: str) -> Any:
    """Get an attribute of a scope; the program touches its owner by that."""
    if active is not None and not in_package(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
        active.touch(active.name(scope))
    return object.__getattribute__(scope, attribute)


def owned(plain: Callable[..., None]) -> Callable[..., None]:
    """Return an `__init__` that gives a scope the name of its owner, which it keeps when it was left."""

    def init(scope: ScopeContext, task: Task, *args: Any, **keywords: Any) -> None:
        if active is not None:
            active.known_as(scope, active.name(task))
        plain(scope, task, *args, **keywords)

    return init


def moving(plain: property) -> property:
    """Return a property for the deadline of a scope, which touches its owner."""

    def move(scope: ScopeContext, deadline: float | None) -> None:
        if active is not None:
            active.touch(active.name(scope))
        assert plain.fset is not None
        plain.fset(scope, deadline)

    return property(plain.fget, move)


def looking(plain: Any) -> Any:
    """Return a method that shows the state of a task: a program touches the task by it."""

    def look(task: Task) -> Any:
        if active is not None and not in_package(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
            active.touch(active.name(task), READ)
        return plain(task)

    return look


def looking_at_all(plain: Callable[[Kernel], Iterator[Task]]) -> Callable[[Kernel], Iterator[Task]]:
    """Return a `Kernel.tasks` by which a program touches all tasks, and all that have ended."""

    def tasks(kernel: Kernel) -> Iterator[Task]:
        if active is not None and not in_package(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
            for task in plain(kernel):
                active.touch(active.name(task), READ)
                active.touch(active.children_of(task), READ)
        return plain(kernel)

    return tasks


def counting_end(plain: Callable[[TaskGroup, Task], bool]) -> Callable[[TaskGroup, Task], bool]:
    """Return a `child_ended` that counts."""

    def child_ended(group: TaskGroup, child: Task) -> bool:
        if active is None or not only_counts(group, child):
            return plain(group, child)
        return active.count(group, partial(plain, group, child))

    return child_ended


def counting_spawn(plain: Callable[..., Task]) -> Callable[..., Task]:
    """Return a `spawn_child` that counts."""

    def spawn_child(group: TaskGroup, spawner: Task, body: Any, name: str | None) -> Task:
        scope = object.__getattribute__(group, "scope")
        if active is None or scope is None or object.__getattribute__(scope, "_owner") is not spawner:
            return plain(group, spawner, body, name)
        return active.count(group, partial(plain, group, spawner, body, name))

    return spawn_child


def only_counts(group: TaskGroup, child: Task) -> bool:
    """Return whether the end of a child does to its group what each end does, in any order."""
    get = object.__getattribute__
    scope, waiters = get(group, "scope"), get(group, "waiters")
    return (
        type(group).record_outcome in (TaskGroup.record_outcome, FailFast.record_outcome, CollectAll.record_outcome)
        and child.failure is None
        and (not child.cancelled_caught or (scope is not None and scope.effective is not None))
        and get(group, "alive").get(child) is None
        and AT_NEXT_END not in waiters.values()
    )


def reading(plain: Any) -> property:
    """Return a property for a field of tasks, which the program touches when it reads the field."""

    def get(task: Task) -> Any:
        if active is not None and not in_package(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
            active.touch(active.name(task), READ)
        return plain.__get__(task)

    return property(get, plain.__set__)
