"""do_now: a call that is answered at once, without a yield.

Theory of operation. Some code runs in a task and cannot yield: a callback, a `__exit__`, a plain function of another
library. Most calls need no wait: a scope, a spawn, a put into a queue with room. `do_now` handles such a call for the
running task, in the middle of its turn. A call that waits has two halves (`Selectable`), and only the first is asked
here. Any other call has its `handle` called, and the first `park` in it ends the attempt.

Decision: the call is not a checkpoint. Because: a Cancelled is raised at a yield, where the program expects it; a plain
function, such as `queue.put_nowait`, raises none. Rejected: the checkpoint of the yielded call. `cancel_requested` is
there for code that asks.

Decision: a handler cannot use it. Because: the kernel is in the middle of another call of the same task, and a handler
has the verbs of the kernel. Rejected: nesting; a scope that is entered there would belong to a task that does not run.

Invariants:
1. A call that would have to wait has not happened, and leaves no waiter behind.

Not here: the plain calls of primitives (`queue.put_nowait`); the running task (`kernel/current`).
"""

from __future__ import annotations

from ..errors import SyscallError, WouldBlock
from ..kernel import Selectable, Syscall
from ..kernel.current import current_task
from ..kernel.misuse import not_for_do_now
from ..kernel.tracebacks import safe_repr
from ..kernel.tree import HANDLING, READY
from ..kernel.waiting import NOT_YET, Begun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ..kernel import Kernel, Task

    Answer = TypeVar("Answer")


def do_now(call: Syscall[Answer]) -> Answer:
    """Do a call at once, without a yield, and return its answer. A plain call, for the running task.

    For code in a task that cannot yield: `with do_now(Timeout(5)):`, `do_now(Spawn(body()))`, `do_now(Now())`,
    `do_now(Cancel(task))`. The turn goes on: a task that this wakes or spawns runs after the next yield. So
    `do_now(Pause())` and `do_now(Sleep(0))` have no effect. The call is not a checkpoint, whatever it is when yielded.

    Args:
        call: a syscall. A Write is refused, since a part of it may be written before it has to wait.

    Returns:
        The answer that the yielded call would have.

    Raises:
        WouldBlock: the call would have to wait. It has not happened. A call in another thread, and any other that does
            not know its answer at once, always raises this. A handler of a program's own must park before it begins
            something that its undo does not take back.
        SyscallError: outside of a task: between two turns, in another thread, in the handler of a syscall, in a task
            that is being closed; or `call` is not a syscall.

    Any error of the call is raised as it is.

    Example:
        >>> from minisched import MoveOnAfter, Now, Queue, Sleep, Spawn, WouldBlock, do_now
        >>> from minisched.testing import run
        >>> def worker():
        ...     yield Sleep(60)
        >>> def main():
        ...     with do_now(MoveOnAfter(1)) as scope:
        ...         do_now(Spawn(worker()))
        ...         yield Sleep(5)
        ...     try:
        ...         do_now(Queue().get())
        ...     except WouldBlock as error:
        ...         print(error)
        ...     return scope.cancelled_caught, do_now(Now())
        >>> run(main())
        Get(<Queue #1: 0 of inf items, 0 getting, 0 putting>) would have to wait: yield it
        (True, 1.0)
    """
    task = current_task()
    if not isinstance(call, Syscall):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_for_do_now(call)
    if task.state is not READY:
        where = "the handler of a syscall" if task.state is HANDLING else "a task that is being closed"
        raise SyscallError(f"do_now({safe_repr(call)}) in {where}: do it in the body of a task")
    if getattr(call, "in_steps", False):
        raise SyscallError(f"{safe_repr(call)} may happen in part before it has to wait: yield it")
    kernel = task.kernel
    try:
        return ask(call, kernel, task) if isinstance(call, Selectable) else handle(call, kernel, task)
    except BaseException as error:
        if kernel.ends_run(error):  # as for a yielded call: a signal handler of the program's has interrupted it
            kernel.fault = kernel.fault or error
        raise


def ask(call: Selectable[Any], kernel: Kernel, task: Task) -> Any:
    """Return the answer of a call that can tell whether it has to wait."""
    answer = call.try_now(kernel, task)
    if type(answer) is Begun:
        raise SyscallError(f"{safe_repr(call)} has happened in part: its class has to say so, by `in_steps = True`")
    if answer is NOT_YET:
        raise would_block(call)
    return answer


def handle(call: Syscall[Any], kernel: Kernel, task: Task) -> Any:
    """Return the answer of any other call; undo its wait if it parks the task."""
    parked: list[Task] = []

    def park(task: Task, undo: Callable[[], object] | None) -> None:
        parked.append(task)
        if undo is not None:
            _ = undo()
        raise would_block(call)

    own = vars(kernel)
    usual = own.get("park")  # that of an instrument
    own["park"] = park  # services have the kernel, too, and may park for the handler
    task.state = HANDLING
    try:
        answer = call.handle(kernel, task) if kernel.execute is None else kernel.execute(call, kernel, task)
    finally:
        task.state = READY
        del own["park"], park
        if usual is not None:
            own["park"] = usual
    if parked:  # the handler has swallowed the error
        raise would_block(call)
    return answer


def would_block(call: Syscall[Any]) -> WouldBlock:
    """Return the error for a call that has to wait."""
    return WouldBlock(f"{safe_repr(call)} would have to wait: yield it")
