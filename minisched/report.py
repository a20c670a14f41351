"""What is said of a task and of a deadlock: for people, not for programs.

Theory of operation. A parked task knows the call that it waits for; the call may know its
`blockers`, the tasks that it waits for in turn; a task that is ending, or in JoinAll, waits for
its children. A deadlock is reported as every task with its call and the lines of its `yield from`
chain, and the cycle of who waits for whom, if there is one.

Not here: the sentences of misuse (`errors`, since the kernel raises them).
"""

from __future__ import annotations

from .kernel import DONE, ENDING, PARKED, Kernel, Task
from .tasks import JoinAll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LONG = 16  # ordinals of a path
FEW = 4  # tasks in a line
AFTERWARDS = {ENDING: " (its body is over)", DONE: " (it has ended)"}


def label(task: Task) -> str:
    """Return a task's path and name: `0.2 worker`; of a path of hundreds, its ends."""
    path = [str(ordinal) for ordinal in task.path]
    if len(path) > LONG:
        path[LONG // 2 : -LONG // 2] = [f"({len(path) - LONG} more)"]
    return f"{'.'.join(path)} {task.name}"


def stack(task: Task) -> list[tuple[str, int, str]]:
    """Return (file, line, function) along the `yield from` chain of a task that is not done, outermost first."""
    frames: list[tuple[str, int, str]] = []
    body: Any = getattr(task, "gen", None)
    while body is not None:
        frame = first(body, "gi_frame", "cr_frame", "ag_frame")
        if frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        body = first(body, "gi_yieldfrom", "cr_await", "ag_await")
    return frames


def first(body: object, *names: str) -> Any:
    """Return the first of the attributes that `body` has; None if it has none."""
    return next((getattr(body, name) for name in names if hasattr(body, name)), None)


def blockers(task: Task, children: dict[Task, list[Task]]) -> Iterable[Task]:
    """Return the tasks that a task waits for, as far as that is known; `children` are those it has to wait for."""
    if task.place == ENDING or isinstance(task.call, JoinAll):
        return children.get(task, ())
    known = getattr(task.call, "blockers", None)
    return known() if known is not None else ()


def children_of(kernel: Kernel) -> dict[Task, list[Task]]:
    """Return the living children that each task has to wait for. O(tasks)."""
    found: dict[Task, list[Task]] = {}
    for task in kernel.tasks():
        if task.spawner is not None and not task.daemon:
            found.setdefault(task.spawner, []).append(task)
    return found


def cycle(tasks: Iterable[Task], children: dict[Task, list[Task]]) -> list[Task]:
    """Return tasks that wait for each other in a ring; empty if there are none. O(tasks + blockers)."""
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


def waits(task: Task, children: dict[Task, list[Task]]) -> str:
    """Say what a task waits for, and for whom."""
    if task.call is None:
        return "waits for its children, its body being over"
    who = [label(blocker) + AFTERWARDS.get(blocker.place, "") for blocker in blockers(task, children)]
    more = f" and {len(who) - FEW} more" if len(who) > FEW else ""
    return f"waits in {task.call!r}{', for ' if who else ''}{', '.join(who[:FEW])}{more}"


def deadlock(kernel: Kernel) -> str:
    """Return the report of a deadlock."""
    waiting, children = list(kernel.tasks()), children_of(kernel)
    parked = sum(task.place == PARKED for task in waiting)
    lines = [f"{parked} parked, none ready, no deadline, and nothing outside can wake any of them"]
    for task in waiting:
        lines.append(f"  {label(task)} {waits(task, children)}")
        lines += [f"    {name} ({file}:{line})" for file, line, name in stack(task)]
    ring = cycle(waiting, children)
    if ring:
        lines.append("  a cycle: " + " -> ".join(label(task) for task in [*ring, ring[0]]))
    return "\n".join(lines)
