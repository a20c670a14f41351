"""The ready queue while the loop waits for files: no other thread can put a task into it.

Theory of operation. A handler whose answer comes from a thread may call `kernel.resume` there. The task is then in the
ready queue of a loop that waits, and nothing ends that wait: the run sleeps on, silently. So while a poll may
wait, the kernel's queue is one that refuses a task from another thread. A signal handler runs in the thread of the
run, and wakes tasks as before.

Invariants:
1. A wake-up or a spawn in another thread, while the loop waits, ends the run with a SyscallError.

Decision: the queue is exchanged for each poll that may wait. Because: this costs two stores for a poll, and nothing for
a wake-up, and it finds the case that hangs. Rejected: a check of the thread in `resume`, `throw`, `cancel` and `spawn`,
2 % of the instructions of `queue`. Debug runs and tests do that, too (`one_thread`), since a verb in another thread is
also wrong while the loop runs.

Not here: the plain calls of primitives, which are always checked (`kernel/primitive`).
"""

from __future__ import annotations

from ..errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..kernel import Kernel, Task


class SleepingQueue:
    """Stands for the ready queue of a loop that waits: `Poller` exchanges the two. `wake` ends the wait."""

    def __init__(self, kernel: Kernel, wake: Callable[[], object]) -> None:
        self.kernel = kernel
        self.wake = wake
        self.queue: Any = ()  # the kernel's own, while the loop waits

    def append(self, task: Task) -> None:
        """Append a task that was woken or spawned, as a signal handler may; in another thread, end the run."""
        check_thread(self.kernel, "wake-up", task, self.wake)
        self.queue.append(task)

    def popleft(self) -> Task:
        """Return the next task, as a forked process does that empties the queue."""
        return self.queue.popleft()

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.queue)


def check_thread(kernel: Kernel, verb: str, thing: object, wake: Callable[[], object]) -> None:
    """Raise SyscallError in another thread than the run's, and end the run with the same error."""
    if kernel.check_caller is None:
        return
    try:
        kernel.check_caller(verb, thing)
    except SyscallError as error:
        kernel.fault = kernel.fault or error
        _ = wake()
        raise
