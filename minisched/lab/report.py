"""Descriptions of tasks and of deadlocks, for people to read.

Theory of operation. A parked task has the call that it waits for (`task.call`). A call may have a method `blockers`,
which returns the tasks that it waits for; a task that is ending, or in JoinAll, waits for its children. The report of
a deadlock lists every task with its call and the lines of its `yield from` chain, and a cycle of tasks that wait for
each other, if there is one.

Invariants:
1. A report runs none of the program's code but `__repr__` and `blockers`; an error in one of them becomes text.
2. No recursion: chains and cycles may be thousands of tasks long.

Not here: the error messages for broken rules (`kernel.misuse`); traces (`trace`, `timeline`).
"""

from __future__ import annotations

from ..kernel import Task
from ..kernel.tracebacks import PACKAGE, one_line, safe_repr
from ..kernel.tree import DONE, ENDING, PARKED
from ..tasks.tasks import JoinAll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..kernel import Kernel

MAX_ORDINALS = 16  # of a path that is shown in full
MAX_BLOCKERS = 4  # tasks named in one line
ENDED_STATES = {ENDING: " (its body has ended)", DONE: " (has ended)"}


def label(task: Task) -> str:
    """Return a task's path in the tree and its name; the middle of a path of more than 16 ordinals is left out.

    Example:
        >>> from minisched import CurrentTask, Sleep, Spawn
        >>> from minisched.testing import run
        >>> def child():
        ...     print(label((yield CurrentTask())))
        >>> def main():
        ...     yield Spawn(child(), "first")
        ...     yield Spawn(child(), "second")
        >>> run(main())
        0.0 first
        0.1 second
    """
    path = [str(ordinal) for ordinal in task.path]
    if len(path) > MAX_ORDINALS:
        path[MAX_ORDINALS // 2 : -MAX_ORDINALS // 2] = [f"({len(path) - MAX_ORDINALS} more)"]
    return f"{'.'.join(path)} {task.name}"


def stack(task: Task) -> list[tuple[str, int, str]]:
    """Return (file, line, function) along the `yield from` chain of a task, outermost first.

    The list has the frames of this package, too. It is empty for a task that is done.

    Example:
        >>> from minisched import Sleep, Spawn
        >>> from minisched.testing import run
        >>> def nap():
        ...     yield Sleep(1)
        >>> def child():
        ...     yield from nap()
        >>> def main():
        ...     task = yield Spawn(child())
        ...     yield
        ...     return [function for file, line, function in stack(task)]
        >>> run(main())
        ['child', 'nap']
    """
    frames: list[tuple[str, int, str]] = []
    body: Any = getattr(task, "gen", None)
    while body is not None:
        frame = first_attribute(body, "gi_frame", "cr_frame", "ag_frame")
        if frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        body = first_attribute(body, "gi_yieldfrom", "cr_await", "ag_await")
    return frames


def first_attribute(body: object, *names: str) -> Any:
    """Return the first of the named attributes that `body` has, or None."""
    return next((getattr(body, name) for name in names if hasattr(body, name)), None)


def deadlock(kernel: Kernel) -> str:
    """Return the report of a deadlock: every task, what it waits for, and a cycle if there is one.

    Frames of this package are left out, as they are in tracebacks.
    """
    tasks, children = list(kernel.tasks()), children_of(kernel)
    parked = sum(task.state == PARKED for task in tasks)
    lines = [f"{parked} parked, none ready, no deadline, and nothing outside can wake any of them"]
    for task in tasks:
        lines.append(f"  {label(task)} {waits(task, children)}")
        lines += [f"    {name} ({file}:{line})" for file, line, name in stack(task) if not file.startswith(PACKAGE)]
        if getattr(task.call, "external", False):
            lines.append("    its answer comes from outside: the service that waits for it must count it in `pending`")
    ring = cycle(tasks, children)
    if ring:
        lines.append("  a cycle: " + " -> ".join(label(task) for task in [*ring, ring[0]]))
    return "\n".join(lines)


def waits(task: Task, children: dict[Task, list[Task]]) -> str:
    """Describe the call that a task waits in, and the tasks that it waits for."""
    if task.call is None:
        return "waits for its children, its body has ended"
    names = [label(blocker) + ENDED_STATES.get(blocker.state, "") for blocker in blockers(task, children)]
    rest = f" and {len(names) - MAX_BLOCKERS} more" if len(names) > MAX_BLOCKERS else ""
    call = f"{safe_repr(task.call)}{asked(task.call)[1]}"
    return f"waits in {call}{', for ' if names else ''}{', '.join(names[:MAX_BLOCKERS])}{rest}"


def blockers(task: Task, children: dict[Task, list[Task]]) -> Iterable[Task]:
    """Return the tasks that a task waits for, as far as its call knows them; `children` comes from `children_of`."""
    if task.state == ENDING or isinstance(task.call, JoinAll):
        return children.get(task, ())
    return asked(task.call)[0]


def asked(call: object) -> tuple[list[Task], str]:
    """Return what the `blockers` of a call returns, and a text if it raises, or returns anything but tasks."""
    try:
        method: Any = getattr(call, "blockers", None)
        found: list[Any] = [] if method is None else [*method()]
    except Exception as error:
        return [], f", whose `blockers` raised {one_line(error)}"
    tasks = [blocker for blocker in found if isinstance(blocker, Task)]  # pyright: ignore[reportUnknownVariableType]
    return tasks, "" if len(tasks) == len(found) else f", whose `blockers` returned {safe_repr(found)}"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def children_of(kernel: Kernel) -> dict[Task, list[Task]]:
    """Return the living children, without daemons, of each task that has some. O(tasks)."""
    children: dict[Task, list[Task]] = {}
    for task in kernel.tasks():
        if task.spawner is not None and not task.daemon:
            children.setdefault(task.spawner, []).append(task)
    return children


def cycle(tasks: Iterable[Task], children: dict[Task, list[Task]]) -> list[Task]:
    """Return tasks that wait for each other in a cycle; empty if there is none. O(tasks + blockers).

    A depth-first search with its own stack. `path` has the tasks between the start and the current one; a blocker
    that is in `path` closes a cycle. `finished` tasks, and all tasks that they wait for, are in no cycle.
    """
    finished: dict[Task, None] = {}
    for start in tasks:
        path: dict[Task, None] = {}
        todo = [(start, False)]
        while todo:
            task, leaving = todo.pop()
            if leaving:
                del path[task]
                finished[task] = None
            elif task in path:
                ring = list(path)
                return ring[ring.index(task) :]
            elif task not in finished:
                path[task] = None
                todo.append((task, True))
                todo.extend((blocker, False) for blocker in reversed([*blockers(task, children)]))
    return []


def path_of(task: Task) -> str:
    """Return the path of a task as text."""
    return ".".join(map(str, task.path))
