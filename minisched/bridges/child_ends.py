"""The end of a child process, and the tasks that wait for it.

Theory of operation. While a task waits for the child, the poller watches its pidfd, which is ready when the child has
ended. Without a pidfd, a timer asks for the end again and again.

Invariants:
1. Several tasks may wait for one child. They are woken in the order of their arrival, each once.
2. Nothing watches a child that no task waits for.

Decision: without a pidfd, a timer asks. Because: it works in each thread, and `subprocess` does so, too. Rejected:
SIGCHLD, which only the main thread receives, and which the program may need itself; a thread that waits for each child,
and that would have to be ended.

Not here: asking for the end, and signals (`children`); the block that ends the process (`child_processes`).
"""

from __future__ import annotations

from functools import partial

from ..errors import SyscallError
from ..io._selectors2 import READ
from ..io.poller import Poller
from ..kernel import Selectable
from ..kernel.waiting import NOT_YET, resume, throw
from ..tasks.timers import Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..io.filelike import FileState
    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter
    from ..tasks.timers import Timer
    from .children import Leader

FIRST_CHECK_SECONDS = 0.001  # before the timer first asks for the end of a child; then twice as long each time
LAST_CHECK_SECONDS = 0.05  # the longest time between two checks, as in `subprocess`


class ChildEnd:
    """The end of one child: the tasks that wait for it, and what watches the child meanwhile."""

    task = None  # the poller treats this object as a waiter; the service `Children` knows the tasks

    def __init__(self, kernel: Kernel, leader: Leader, label: str) -> None:
        self.kernel = kernel
        self.leader = leader
        self.label = label
        self.waiters: dict[Waiter, None] = {}
        self.state: FileState | None = None  # of the pidfd, while the poller watches it
        self.timer: Timer | None = None
        self.seconds = FIRST_CHECK_SECONDS

    def outcome(self) -> int:
        """Return the exit status of the process, which has ended; ChildProcessError if it is unknown."""
        status = self.leader.returncode
        if status is None:
            raise ChildProcessError(
                f"{self.label} has ended with an unknown status: another part of the program has collected it "
                "(os.waitpid(-1, 0)), or ignores SIGCHLD"
            )
        return status

    def add_waiter(self, waiter: Waiter) -> Callable[[], object]:
        """Wake `waiter` at the end of the process; return the undo. OSError if the pidfd can't be polled."""
        if not self.waiters:
            self._watch()
        self.waiters[waiter] = None
        return partial(self._remove_waiter, waiter)

    def _remove_waiter(self, waiter: Waiter) -> None:
        del self.waiters[waiter]
        if not self.waiters:
            self._stop()

    def _watch(self) -> None:
        if not self.leader.is_watched():
            return self._look_later()
        poller = self.kernel.service(Poller)
        state = poller.borrow(self.leader.pidfd)
        poller.add_waiter(state, READ, self)
        self.state = state
        return None

    def _stop(self) -> None:
        """Watch no more."""
        timer, state, self.timer, self.state = self.timer, self.state, None, None
        if timer is not None:
            timer.cancel()
        if state is not None:
            self.kernel.service(Poller).remove_waiter(state, READ)

    def ready(self) -> None:
        """Wake the tasks if the child has ended. The poller calls this when the pidfd is ready."""
        self.state = None
        self._look()

    def closed(self) -> None:
        """Go on with a timer: the program has closed the pidfd. The poller calls this."""
        self.state = None
        self.leader.watched = False
        self._look()

    def _look(self) -> None:
        self.timer = None
        if self.leader.has_ended():
            self.wake()
        else:  # there is no pidfd; or a debugger has the child
            self._look_later()

    def _look_later(self) -> None:
        timers = self.kernel.service(Timers)
        self.timer = timers.call_at(timers.now() + self.seconds, self._look)
        self.seconds = min(2 * self.seconds, LAST_CHECK_SECONDS)

    def wake(self) -> None:
        """Wake the tasks that wait: the process has ended."""
        self._stop()
        while self.waiters:
            waiter = next(iter(self.waiters))
            del self.waiters[waiter]
            try:
                status = self.outcome()
            except ChildProcessError as error:
                throw(self.kernel, waiter, error)
            else:
                resume(self.kernel, waiter, status)


class WaitProcess(Selectable[int]):
    """Wait for the end of a process; `process.wait()` returns this call.

    The end of the process wakes the task.

    Raises:
        ChildProcessError: the exit status is unknown.
        SyscallError: the process belongs to another run.
    """

    __slots__ = ("end",)
    external = True

    def __init__(self, end: ChildEnd) -> None:
        self.end = end

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        if self.end.kernel is not kernel:
            raise SyscallError(f"{self.end.label} belongs to another run")
        return self.end.outcome() if self.end.leader.has_ended() else NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.end.add_waiter(waiter)

    def __repr__(self) -> str:
        return f"WaitProcess({self.end.label})"
