"""The futures of requests through a portal, which know the threads that must not wait for them.

Theory of operation. A request is answered in the run's thread. That thread would wait for ever for one of its own
requests, so `result` refuses it there. The threads of the run's pool may wait, but if all of them do, no call of the
pool can begin. So each of them is registered while it waits, and the last one lets the loop check.

Invariants:
1. The run's own thread never waits for a request.

Not here: the requests themselves (`threads`). This module is imported by the first request.
"""

from __future__ import annotations

from _thread import get_ident
from concurrent.futures import CancelledError, Future

from ..errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel import Task
    from .threads import Threads


class Request(Future["Any"]):
    """The future of one request to the run of `threads`."""

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self._threads = threads
        self.task: Task | None = None  # spawned by this request, and not done

    def result(self, timeout: float | None = None) -> Any:
        """Return the result when the request is done, as a Future does."""
        try:
            if timeout is None:
                self._wait()
            return super().result(timeout)
        finally:
            del self  # a cycle: the traceback of the error holds this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error when the request is done, as a Future does."""
        if timeout is None:
            self._wait()
        return super().exception(timeout)

    def _wait(self) -> None:
        """Wait until the request is done; a thread of the pool is in `blocked` meanwhile."""
        if self.done():
            return
        threads, ident = self._threads, get_ident()
        if ident == threads.ident:
            raise SyscallError(
                "the run's own thread would wait for itself: in a task, spawn the other task and yield Join(task)"
            )
        if ident in threads.pool.idents:
            threads.blocked[ident] = self
            threads.check_for_stall()
        try:
            _ = super().exception()
        except CancelledError:
            pass
        finally:
            _ = threads.blocked.pop(ident, None)
