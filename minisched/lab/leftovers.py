"""Leftovers of a trial: tasks and timers in the services, and descriptors, threads and child processes.

Theory of operation. A `Resources` is a snapshot. The difference between two of them is what was opened in between and
is still there. Threads and children may take a moment to end, so the difference is taken again for GRACE_SECONDS
before it is reported. On a system without /dev/fd or /proc, the snapshot has no descriptors or no children.

Invariants:
1. A check changes nothing.

Not here: the trials (`check_syscall`, `cancel_everywhere`, `faults_everywhere`).
"""

from __future__ import annotations

import os
import threading

from ..kernel.lifecycle import Lifecycle
from ..tasks.clocks import MonotonicClock
from ..tasks.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..kernel import Kernel

GRACE_SECONDS = 1.0  # for a thread or a child process to end
POLL_SECONDS = 0.005  # between two snapshots during the grace: short beside it


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
