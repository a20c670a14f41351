"""Watcher: the interface of observers of a run.

Theory of operation. `run(watch=[...])` takes observers. The kernel and the event loop call a method of each as events
happen, with the objects themselves: no text is made and nothing is copied unless the observer does it. A run without
observers pays one comparison in a turn.

Not here: the line trace (`lab/trace`), the timeline (`lab/timeline`), the checker of invariants (`testing/checker`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .kernel import Kernel
    from .syscall import Syscall
    from .tree import Scope, Task


class Watcher:
    """An observer of a run. Subclass it and override the events of interest.

    A method must not raise, must not wake or cancel a task, and must not keep what it receives: a task that is done
    would stay alive. (`minisched.testing` injects cancellations from watchers, on purpose.)

    Example:
        >>> from minisched import Sleep, Watcher
        >>> from minisched.testing import run
        >>> class Parks(Watcher):
        ...     def park(self, task, call):
        ...         print(f"{task.name} waits in {call!r}")
        >>> def main():
        ...     yield Sleep(1)
        >>> run(main(), watch=[Parks()])
        main waits in Sleep(1)
    """

    def start(self, kernel: Kernel) -> None:
        """The run begins."""

    def spawn(self, task: Task) -> None:
        """A task was created; it is at the back of the ready queue."""

    def turn(self, task: Task) -> None:
        """A turn begins: the task is about to receive `task.sent`."""

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        """The call that a task yielded was answered at once, perhaps by a Cancelled. None: a bare yield."""

    def park(self, task: Task, call: Syscall[Any]) -> None:
        """The call that a task yielded has parked it."""

    def wake(self, task: Task, by: Task | None) -> None:
        """A parked task was woken, by the running task, or by the event loop (None). `task.sent` is set."""

    def cancel(self, scope: Scope) -> None:
        """A scope, or a task, was cancelled; `scope.requested` is the reason and the task that cancelled."""

    def exit(self, task: Task) -> None:
        """A task is done, and so are its children."""

    def poll(self, timeout: float | None, events: int) -> None:
        """The event loop has polled for files, for `timeout` seconds at most; the selector returned `events` events."""

    def fire(self, timers: int) -> None:
        """`timers` timers were due and have fired."""


class Watchers(Watcher):
    """Several observers as one: each event goes to each of them, in order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = list(watchers)

    def start(self, kernel: Kernel) -> None:
        for watcher in self.watchers:
            watcher.start(kernel)

    def spawn(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.spawn(task)

    def turn(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.turn(task)

    def answer(self, task: Task, call: Syscall[Any] | None) -> None:
        for watcher in self.watchers:
            watcher.answer(task, call)

    def park(self, task: Task, call: Syscall[Any]) -> None:
        for watcher in self.watchers:
            watcher.park(task, call)

    def wake(self, task: Task, by: Task | None) -> None:
        for watcher in self.watchers:
            watcher.wake(task, by)

    def cancel(self, scope: Scope) -> None:
        for watcher in self.watchers:
            watcher.cancel(scope)

    def exit(self, task: Task) -> None:
        for watcher in self.watchers:
            watcher.exit(task)

    def poll(self, timeout: float | None, events: int) -> None:
        for watcher in self.watchers:
            watcher.poll(timeout, events)

    def fire(self, timers: int) -> None:
        for watcher in self.watchers:
            watcher.fire(timers)
