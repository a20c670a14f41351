"""The thread pool of a run: daemon threads, started as they are needed.

Theory of operation. `submit` puts a call into a queue, and starts a thread if all are busy and there are fewer than the
pool may have. Each thread takes calls from the queue until it takes None; `close` puts one None for each thread. A call
that finds a thread free, or starts one, has *begun*: its future can't be cancelled any more. Other calls begin when a
thread takes them.

Invariants:
1. At most `max_threads` threads; further calls wait in the queue. Calls begin in order of submission.
2. No thread is started while one is idle: a thread counts as idle before the result of its call is published.
3. A call that was submitted before `close` is made, unless its future is cancelled before it begins.
4. An idle thread holds no reference to the last call, its arguments or its result.
5. `threads` is written by the run's thread only; `busy` by any thread, under `lock`.
6. An exception of a call, of any class, is the outcome of its future, and ends no thread.

Decision: the pool is our own, and its threads are daemons.
Because: a function that never returns must keep neither the run nor the interpreter from ending; otherwise a second
Ctrl-C would not stop at once, and a call that `InThread(..., abandon=True)` has abandoned would still hold up the end.
Rejected: `concurrent.futures.ThreadPoolExecutor`, which waits for its threads when the interpreter exits.

Decision: a call that finds a free thread has begun when it is submitted. Because: it will run at once; otherwise
the speed of the thread would decide whether a call is made that is abandoned in the same turn. Rejected: making
every abandoned call, also those for which no thread was free, whose results nobody waits for.

Not here: the task that waits for a call (`threads`).
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread

from ..kernel.tracebacks import strip_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

MAX_THREADS = 32  # the largest default of ThreadPoolExecutor


class Pool:
    """Up to `max_threads` daemon threads that make calls, MAX_THREADS by default. `submit` works like an executor's."""

    def __init__(self, max_threads: int | None = None) -> None:
        self.max_threads = MAX_THREADS if max_threads is None else max_threads
        self.lock = allocate_lock()
        self.calls: Any = None  # a SimpleQueue of (future, call), made by the first `submit`
        self.threads = 0
        self.busy = 0  # calls that are submitted and not done: running or in the queue
        self.idents: dict[int, None] = {}  # of the threads

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Schedule `call()` in a thread; return the future of its result. RuntimeError if no thread can be started."""
        from concurrent.futures import Future  # imported here since both are slow to import
        from queue import SimpleQueue

        if self.calls is None:
            self.calls = SimpleQueue()
        future: Future[Any] = Future()
        with self.lock:
            self.busy += 1
            start = self.threads < min(self.busy, self.max_threads)
            self.threads += start
            begins = self.busy <= self.threads
        if start:
            try:
                _ = start_new_thread(self._work, (self.calls,))
            except RuntimeError:  # the system can start no more threads: the existing ones make the call
                begins = False
                self.threads -= 1
                if not self.threads:
                    self._count_done()
                    raise
        if begins:
            _ = future.set_running_or_notify_cancel()
        self.calls.put((future, call))
        return future

    def close(self) -> None:
        """End each thread once the calls that were submitted so far are done. Return at once."""
        for _ in range(self.threads):
            self.calls.put(None)

    def _work(self, calls: Any) -> None:
        """Make calls until the queue returns None; the body of each thread."""
        ident = get_ident()
        self.idents[ident] = None
        while (submitted := calls.get()) is not None:
            future, call = submitted
            if future.running() or future.set_running_or_notify_cancel():
                self._make_call(future, call)
            else:
                self._count_done()
            del submitted, future, call  # otherwise they would live until the next call
        del self.idents[ident]

    def _make_call(self, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            result = call()
        except BaseException as error:
            self._count_done()
            fail(future, error)
        else:
            self._count_done()
            future.set_result(result)
        del future  # a cycle: the traceback of an error holds this frame, and the future holds the error

    def _count_done(self) -> None:
        """Count this thread as idle, before its result is published, so that the next call needs no other thread."""
        with self.lock:
            self.busy -= 1


def fail(future: Future[Any], error: BaseException) -> None:
    """Set an error as the outcome of a future; the error may have methods of its own that raise."""
    try:
        error = strip_own_frames(error)
    except BaseException as problem:
        problem.__cause__ = error
        error = problem
    future.set_exception(error)
    del future  # a cycle, as above
