"""OneThread: a watcher that refuses the kernel's verbs in another thread than the run's.

Theory of operation. A handler whose answer comes from a thread may call `kernel.resume` there. That changes the ready
queue between any two instructions of the loop. A loop that waits notices it in each run (`sleeping`). A check in each
verb would cost 2 % of `queue`, so only this watcher makes it.

Invariants:
1. A verb in another thread ends the run; it is never silent.

Not here: the plain calls of primitives, which are always checked (`kernel/primitive`).
"""

from __future__ import annotations

from ..kernel.watcher import Watcher
from .sleeping import check_thread
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import Kernel, Scope, Task


class OneThread(Watcher):
    """Refuse spawn, resume, throw and cancel of the kernel in another thread than the run's.

    `run(debug=True)` installs it, and so does `minisched.testing`. The verb raises SyscallError in the thread that
    called it, and the run ends with the same error.

    Example:
        >>> from minisched import CurrentTask, InThread, run
        >>> def main():
        ...     task = yield CurrentTask()
        ...     yield InThread(task.kernel.cancel, task)
        >>> try:
        ...     run(main(), debug=True)
        ... except Exception as error:
        ...     print(str(error).partition(",")[0])
        cancel of <Task 0 main parked> in another thread than its run's
    """

    kernel: Kernel

    def start(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def spawn(self, task: Task) -> None:
        self._check("spawn", task)

    def wake(self, task: Task, by: Task | None) -> None:
        self._check("wake-up", task)

    def cancel(self, scope: Scope) -> None:
        self._check("cancel", scope)

    def _check(self, verb: str, thing: object) -> None:
        check_thread(self.kernel, verb, thing, self.kernel.service(Wakeup).wake)
