"""Trials of a program, and their leftovers: tasks and timers, descriptors, threads and child processes.

Theory of operation. A `Trial` is one run of a program with something in its way. It ends in the result, in an error
that the trial expects, or in a failure. After it, the services hold no task and no timer. A `Resources` is a snapshot.
The difference between two of them is what was opened in between and is still there. Threads and children may take a
moment to end, so the difference is taken again for GRACE_SECONDS before it is reported. On a system without /dev/fd or
/proc, the snapshot has no descriptors or no children.

Invariants:
1. A check changes nothing.

Not here: the obstacles (`cancel_everywhere`, `faults_everywhere`); the trial of one syscall (`check_syscall`).
"""

from __future__ import annotations

import os
import threading

from ..kernel.lifecycle import Lifecycle
from ..kernel.watcher import Watcher
from ..loop import run
from ..tasks.clocks import MonotonicClock
from ..tasks.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
    from typing import Any

    from ..kernel import Kernel, Task

    Program = Generator[Any, Any, object] | Coroutine[Any, Any, object]
    Check = Callable[[], object] | None
    Services = dict[type[Any], Callable[[Kernel], Any]]
    Made = (
        Program
        | tuple[Program, Check]
        | tuple[Program, Check, Services]
        | tuple[Program, Check, Services, Iterable[Watcher]]
    )

GRACE_SECONDS = 1.0  # for a thread or a child process to end
POLL_SECONDS = 0.005  # between two snapshots during the grace: short beside it


class Trial(Watcher):
    """One run of a program. A subclass is its watcher, which puts something in its way and says so in `injected`."""

    def __init__(self, make: Callable[[], Made], expected: tuple[type[BaseException], ...]) -> None:
        self.make = make
        self.expected = expected
        self.injected = ""  # the description of the obstacle, before that of a failure
        self.leftovers: list[str] = []

    def exit(self, task: Task) -> None:
        if task.spawner is None:  # the main task: the run ends
            self.leftovers = list(leftovers(task.kernel))

    def run_once(self, **options: Any) -> None:
        """Run the program with these options of `run`; raise AssertionError if anything is wrong."""
        program, check, services, watch = parts(self.make())
        options["watch"] = [*options.get("watch", ()), *watch]
        options["services"] = {**services, **options.get("services", {})}
        try:
            try:
                _ = run(program, **options)
            except BaseException as error:
                if not consists_of(error, self.expected):
                    raise
            if self.leftovers:
                raise AssertionError(f"the run left behind: {', '.join(self.leftovers)}")
            if check is not None:
                _ = check()
            self.check()
        except BaseException as problem:
            raise AssertionError(f"{self.injected}{problem!r}") from problem

    def check(self) -> None:
        """Check what a subclass promises besides; by default, nothing."""


def parts(made: Made) -> tuple[Any, Check, dict[Any, Any], list[Watcher]]:
    """Return the parts of what a program has made: main, a check or None, the services of the run, and its watchers."""
    given: tuple[Any, ...] = made if isinstance(made, tuple) else (made,)
    main, check, services, watch, *_ = *given, None, None, None
    return main, check, services or {}, [*(watch or ())]


class Resources:
    """The open descriptors, the threads and the child processes of this process, now."""

    def __init__(self) -> None:
        self.descriptors = open_descriptors()
        self.threads = {thread.ident: thread.name for thread in threading.enumerate()}
        self.children = child_processes()

    def left(self) -> str:
        """Return a description of what was opened since, and is still there; "" for nothing."""
        deadline = MonotonicClock.now() + GRACE_SECONDS
        while True:
            now = Resources()
            left = [
                *(f"descriptor {fd}" for fd, file in now.descriptors.items() if self.descriptors.get(fd) != file),
                *(f"thread {name!r}" for ident, name in now.threads.items() if ident not in self.threads),
                *(f"child process {child}" for child in sorted(now.children - self.children)),
            ]
            if not left or MonotonicClock.now() > deadline:
                return ", ".join(left)
            _ = threading.Event().wait(POLL_SECONDS)


def open_descriptors() -> dict[int, tuple[int, int]]:
    """Return the open descriptors, each with the device and inode of its file."""
    found: dict[int, tuple[int, int]] = {}
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        return found
    for name in names:
        try:
            status = os.fstat(int(name))
        except (OSError, ValueError):
            continue  # the one that listed the folder
        found[int(name)] = (status.st_dev, status.st_ino)
    return found


def child_processes() -> set[int]:
    """Return the process ids of the children that were not waited for."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as children:
                found.update(map(int, children.read().split()))
    except OSError:
        pass
    return found


def leftovers(kernel: Kernel) -> Iterator[str]:
    """Describe what the services of a finished run still hold."""
    for kind, service in kernel.services.items():
        yield from (f"{task} in {kind.__name__}" for task in service.tasks())
    timers = kernel.service(Timers)
    if timers.alive():
        yield f"{len(timers.alive())} timers"
    lifecycle = kernel.service(Lifecycle)
    for name in ("joiners", "joining_all", "on_body_end"):
        if getattr(lifecycle, name):
            yield f"{name} {getattr(lifecycle, name)}"


def consists_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Return whether an error is of these kinds, or a group that has only such errors."""
    if isinstance(error, kinds):
        return True
    group: Any = error
    return isinstance(error, BaseExceptionGroup) and all(consists_of(member, kinds) for member in group.exceptions)
