"""What is said of a task and of a deadlock: for people, not for programs.

Theory of operation. A parked task knows the call that it waits for; the call may know its
`blockers`, the tasks that it waits for in turn. A deadlock is reported as every parked task with
its call and the lines of its `yield from` chain, and the cycle of who waits for whom, if there is one.

Not here: the sentences of misuse (`errors`, since the kernel raises them).
"""

from __future__ import annotations

from .kernel import PARKED, Kernel, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def label(task: Task) -> str:
    """Return a task's path and name: `0.2 worker`."""
    return f"{'.'.join(map(str, task.path))} {task.name}"


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


def blockers(task: Task) -> Iterable[Task]:
    """Return the tasks that a parked task waits for, as far as its call knows them."""
    known = getattr(task.call, "blockers", None)
    return known() if known is not None else ()


def cycle(tasks: Iterable[Task]) -> list[Task]:
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
                todo.extend((blocker, False) for blocker in blockers(task))
    return []


def deadlock(kernel: Kernel) -> str:
    """Return the report of a deadlock."""
    parked = [task for task in kernel.tasks() if task.place == PARKED]
    lines = [f"{len(parked)} parked, none ready, no deadline, and nothing outside can wake any of them"]
    for task in parked:
        lines.append(f"  {label(task)} waits in {task.call!r}")
        lines += [f"    {name} ({file}:{line})" for file, line, name in stack(task)]
    ring = cycle(parked)
    if ring:
        lines.append("  a cycle: " + " -> ".join(task.name for task in [*ring, ring[0]]))
    return "\n".join(lines)
