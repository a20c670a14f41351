"""Starting a task of a group: the starter waits until the task says that it has started.

Theory of operation. `group.start(function)` calls `function(started)` and spawns the result in the group. The starter
is parked until the new task, or code that it has called, calls `started(value)`. From then on the task is a child of
the group like any other. Before that, it belongs to the starter as well: its failure is raised by `start`, and does not
end the group; a cancellation of the starter cancels it, and `start` waits until it has ended.

Invariants:
1. `start` returns only if the task has called `started`; it raises only when the task has ended, or when the starter is
   closed and cannot wait.
2. No failure is lost: `start` raises it, or the group does.

Decision: the function receives a plain call, `started`. Because: the call works in helpers, in callbacks and in plain
functions: `group.start(lambda started: serve(handler, host, port, ready=started))`. Rejected: a syscall `Started()`,
which only the new task itself could yield, and which means nothing in a task that was spawned in another way; an Event
that the starter makes, as until now, which never happens if the task fails first; trio's keyword `task_status`, which
each function between the starter and the task would have to pass on.

Not here: the group (`taskgroup`).
"""

from __future__ import annotations

from ..errors import SyscallError
from ..kernel import Syscall, Task
from ..kernel.lifecycle import failure
from ..kernel.primitive import check_caller
from ..kernel.tree import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    from ..kernel import Kernel
    from .taskgroup import TaskGroup


class Start:
    """The start of one task in a group: its state, while the starter waits and until the task has called `started`."""

    __slots__ = ("args", "cancelled", "child", "function", "group", "kernel", "name", "starter", "task")

    def __init__(self, group: TaskGroup, function: Callable[..., Any], args: tuple[Any, ...], name: str | None) -> None:
        self.group = group
        self.function = function
        self.args = args
        self.name = name
        self.kernel: Kernel | None = None  # once the child exists
        self.task: Task | None = None  # the starter
        self.child: Task | None = None
        self.starter: Task | None = None  # the starter while it waits
        self.cancelled = False  # the starter was cancelled, and waits for the end of the child

    def begin(self, kernel: Kernel, task: Task) -> Callable[[], object]:
        """Spawn the task, and let `task` be the starter, which then waits; return the undo of its wait."""
        _ = self.group.entered()  # before the function is called
        self.task = task
        self.child = self.group.spawn_child(task, self.function(self.started, *self.args), self.name)
        self.group.alive[self.child] = self
        self.kernel = kernel
        self.starter = task
        return self.undo

    def undo(self) -> None:
        """Give up the wait; `cancel_child` follows."""
        self.starter = None
        self.cancelled = True

    def started(self, value: object = None) -> None:
        """Let `start` return `value`. The function receives this method as `started`.

        A plain call, in the run's thread only. It has no effect once the starter has been cancelled.

        Raises:
            SyscallError: for a second call, for a call before the task exists or after it has ended, and in another
                thread than the run's.
        """
        child = self.child
        if self.kernel is None:
            raise SyscallError(f"`started` of {self!r} was called before its task exists: call it in the task")
        check_caller(self.kernel, "started", self)
        if child is None or self.group.alive.get(child) is not self:
            raise SyscallError(f"{self!r}: `started` was called a second time, or after the end of its task")
        if self.starter is not None and not self.cancelled:
            self.group.alive[child] = None
            child.kernel.resume(self.starter, value)
            self.starter = self.child = self.task = None  # the child's frames may have `started`: leave no cycle

    def cancel_child(self) -> Generator[Any, Any, None]:
        """Cancel the child, which has not started, and wait until it has ended."""
        child, task = self.child, self.task
        if child is None or task is None or not self.cancelled:
            return  # the Cancelled came before the task was spawned, or is the failure of the task
        child.kernel.cancel(child, f"task {task.name!r}, which starts it, was cancelled", task)
        try:
            while child.state is not DONE:
                yield StartCancelled(self)
        finally:
            self.starter = None  # a starter that is closed here is not woken by the end of the child

    def close(self) -> None:
        """Cancel the child, which becomes the group's, since the starter is being closed."""
        child, task = self.child, self.task
        waited, self.starter = self.starter is not None or self.cancelled, None
        if child is not None and task is not None and waited and child.kernel.current is task:
            child.kernel.cancel(child, f"task {task.name!r}, which starts it, was closed", task)

    def child_ended(self, child: Task) -> bool:
        """Wake the starter of a child that has ended before it called `started`.

        Returns whether `start` raises the failure. That of a cancelled start is the group's.
        """
        starter, self.starter = self.starter, None
        self.child = None  # its failure has a frame that has `started`: leave no cycle
        if starter is None:
            return False
        if self.cancelled:
            child.kernel.resume(starter)
            return False
        text = f"task {child.name!r} ended before it called `started`: call it, with or without a value"
        child.kernel.throw(starter, failure(child) or SyscallError(text))
        return True

    def blockers(self) -> Iterable[Task]:
        """Return the new task, for the report of a deadlock."""
        return () if self.child is None else (self.child,)

    def __repr__(self) -> str:
        return f"StartTask({self.group!r}, {self.name or getattr(self.function, '__name__', self.function)})"


class StartTask(Syscall["Any"]):
    """Start a task in a group, and wait until it calls `started`; `group.start` yields this call.

    The call of `started` or the end of the new task wakes the task.
    """

    __slots__ = ("start",)

    def __init__(self, start: Start) -> None:
        self.start = start

    def handle(self, kernel: Kernel, task: Task) -> None:
        kernel.park(task, self.start.begin(kernel, task))

    def blockers(self) -> Iterable[Task]:
        """Return the new task, for the report of a deadlock."""
        return self.start.blockers()

    def __repr__(self) -> str:
        return repr(self.start)


class StartCancelled(StartTask):
    """Wait for the new task of a cancelled start. The end of that one wakes the task; a cancellation does not."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        self.start.starter = task
        kernel.park(task, None)

    def __repr__(self) -> str:
        return f"StartCancelled({self.start!r})"
