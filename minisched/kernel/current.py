"""The running kernel, task and scope of a thread, for code that has no `kernel` and `task` at hand.

Theory of operation. A handler receives its kernel and task. Other code of a program, such as a logger or a plain
function deep below a task, does not. It finds them here: the loop registers its kernel for the thread that runs it.

Invariants:
1. `kernels` has a kernel from the start of its run until the last generator of the run is closed.

Not here: calls without a yield (`tasks/do_now`); context variables, which each task has of its own (`contextvars`).
"""

from __future__ import annotations

from _thread import get_ident

from ..errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel
    from .tree import Task

kernels: dict[int, Kernel] = {}  # that of the run in each thread, by the thread's identifier; `loop` keeps it


def current_kernel() -> Kernel:
    """Return the kernel of the run in this thread. A plain call.

    It may be made by a task, a handler, or a callback between two turns.

    Raises:
        SyscallError: if there is no run in this thread.

    Example:
        >>> from minisched import Timers, current_kernel
        >>> from minisched.testing import run
        >>> def log(text):  # a plain function: it yields nothing
        ...     print(f"{current_kernel().service(Timers).now():.1f} s: {text}")
        >>> def main():
        ...     yield Sleep(2)
        ...     log("two seconds later")
        >>> from minisched import Sleep
        >>> run(main())
        2.0 s: two seconds later
    """
    kernel = kernels.get(get_ident())
    if kernel is None:
        raise SyscallError("no run is in this thread: call this in a task; in another thread, use a Portal")
    return kernel


def current_task() -> Task:
    """Return the running task. A plain call; the syscall CurrentTask is the same with a yield.

    In the handler of a syscall, it returns the task that yielded the syscall.

    Raises:
        SyscallError: outside of a task: in a callback between two turns, in another thread, without a run.

    Example:
        >>> from minisched import Spawn, current_task
        >>> from minisched.testing import run
        >>> def log(text):  # a plain function: it yields nothing
        ...     print(f"{current_task().name}: {text}")
        >>> def worker():
        ...     log("at work")
        ...     yield
        >>> def main():
        ...     yield Spawn(worker(), "Ada")
        >>> run(main())
        Ada: at work
    """
    task = current_kernel().current
    if task is None:
        raise SyscallError("no task is running: this is a callback between two turns; give it the task")
    return task


def cancel_requested() -> bool:
    """Return whether the running task is cancelled: whether its next checkpoint raises Cancelled. A plain call.

    A long computation without a yield can look at it, and stop. It is True inside a scope that was cancelled, and not
    behind a shield. In a callback between two turns, and in another thread, it raises SyscallError as `current_task`
    does.

    Example:
        >>> from minisched import Cancel, CurrentTask, Shield, cancel_requested
        >>> from minisched.testing import run
        >>> def main():
        ...     before = cancel_requested()
        ...     yield Cancel((yield CurrentTask()))
        ...     with (yield Shield(1)):
        ...         shielded = cancel_requested()
        ...     print(before, shielded, cancel_requested())
        >>> from minisched import TaskCancelled
        >>> try:
        ...     run(main())
        ... except TaskCancelled:
        ...     print("cancelled")
        False False True
    """
    return current_task().scope.effective is not None
