"""The exceptions of minisched, each with the party at fault.

| exception | raised when | at fault |
|---|---|---|
| Cancelled | the task's scope was cancelled; raised at a checkpoint | none: clean up and let it pass |
| TaskCancelled | a task that was joined, or main, had been cancelled | the canceller |
| TimedOut | a `Timeout` expired | the world, or a timeout that is too short |
| Deadlock | no task can ever run again; raised by `run` | the program |
| SyscallError | a rule was broken: something wrong was yielded, spawned, resumed | the program, an extension |
| BusyError | two tasks wait for the same direction of one file | the program |
| ClosedError | the file was closed, perhaps while a task waited for it | the program |
| WouldBlock | a plain call (`put_nowait`, `get_nowait`) would have had to wait | none: yield the call that waits |
| LimitExceeded | a limit that the caller set was exceeded | usually the peer |
| IncompleteRead | a stream ended within a message, or before one | usually the peer |
| IncompleteWrite | a write to a stream comes after one that was cut | none: close the stream |
| DatagramTruncated | a datagram was larger than asked for | the peer, or a size that is too small |
| Lagged | a subscriber was too slow and missed items | the subscriber |
| TlsError | a TLS handshake failed, or the peer broke the protocol | usually the peer |
| TlsTruncated | a TLS connection ended without the peer's close_notify | the peer, or an attacker |
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Task


def bytes_written(done: object) -> int:
    """Return the progress `done` of a call as a number of bytes: 0 if the call was not a `Write`."""
    return done if isinstance(done, int) else 0


class Cancelled(BaseException):
    """Raised at a checkpoint of a task whose scope was cancelled.

    Cancelled is a BaseException, so that `except Exception` lets it pass. Catch it only to clean up, and raise it
    again: the scope that was cancelled catches it.

    Decision: `done` carries the value that the wait's undo returned. Because: a `Write` can then report how many bytes
    it has written (`written`), and the kernel knows nothing of bytes. Rejected: a field for bytes, set through a
    second hook.

    Args:
        reason: the canceller's reason, or None.
        by: the task that cancelled; None for a deadline or the event loop. Once the Cancelled is only a cause or a
            context of a task's failure, `by` is None, and `reason` has the name.
        done: the progress of a call of many steps, as its undo returned it.

    Example:
        >>> from minisched import Cancel, Cancelled, Sleep, Spawn, run
        >>> def worker():
        ...     try:
        ...         yield Sleep(60)
        ...     except Cancelled as error:
        ...         print(error)
        ...         raise
        >>> def main():
        ...     task = yield Spawn(worker())
        ...     yield
        ...     yield Cancel(task, "no time")
        >>> run(main())
        no time (by task 'main')
    """

    __slots__ = ("by", "done", "reason")  # so that a Cancelled has no dict of its own, when many are raised

    def __init__(self, reason: str | None = None, by: Task | None = None, done: object = None) -> None:
        self.reason = reason  # BaseException.__new__ has set `args`; calling its __init__ too would double the time
        self.by = by
        self.done = done

    @property
    def written(self) -> int:
        """The number of bytes that the cancelled `Write` had written."""
        return bytes_written(self.done)

    def __str__(self) -> str:
        reason = self.reason or "cancelled"
        return reason if self.by is None else f"{reason} (by task {self.by.name!r})"


class TaskCancelled(Exception):
    """Raised by `Join` of a task that was cancelled, and by `run` if main was. The task is `task`.

    This is another type than `Cancelled`, since "my child was cancelled" does not mean "I was cancelled".

    Example:
        >>> from minisched import Cancel, Join, Sleep, Spawn, TaskCancelled, run
        >>> def main():
        ...     task = yield Spawn(iter_sleep())
        ...     yield Cancel(task, "no time")
        ...     try:
        ...         yield Join(task)
        ...     except TaskCancelled as error:
        ...         print(error)
        >>> def iter_sleep():
        ...     yield Sleep(60)
        >>> run(main())
        task 'iter_sleep' was cancelled: no time
    """

    __slots__ = ("reason", "task")

    def __init__(self, task: Task, reason: str | None = None) -> None:
        self.task = task  # `args` is set already, as for Cancelled
        self.reason = reason

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"task {self.task.name!r} was cancelled{reason}"


class TimedOut(TimeoutError):
    """Raised by the block of a `Timeout` that expired; `scope` is that timeout's scope.

    The operating system raises TimeoutError too; this subclass and `scope` distinguish them. `done` and `written` are
    those of the Cancelled that the timeout raised in its block: how far the interrupted call came.

    Example:
        >>> from minisched import Sleep, TimedOut, Timeout
        >>> from minisched.testing import run
        >>> def main():
        ...     try:
        ...         with (yield Timeout(1)):
        ...             yield Sleep(60)
        ...     except TimedOut as error:
        ...         print(error)
        >>> run(main())
        task 'main' timed out: 1 s have passed
    """

    scope: object = None
    done: object = None

    @property
    def written(self) -> int:
        """The number of bytes that the interrupted `Write` had written."""
        return bytes_written(self.done)


class Deadlock(Exception):
    """Raised by `run` if no task is ready, no deadline is set, and nothing outside the program can wake a task.

    The text is the report: every parked task, the call it waits in, and the lines of its stack. Main is cancelled
    first, so that cleanup runs.

    Example:
        >>> from minisched import Deadlock, Event, run
        >>> def main():
        ...     yield Event("never").wait()
        >>> try:
        ...     run(main())
        ... except Deadlock as error:
        ...     print(str(error).splitlines()[0])
        1 parked, none ready, no deadline, and nothing outside can wake any of them
    """


class SyscallError(Exception):
    """Raised if a rule of the kernel is broken. The text names the rule and the fix.

    Example:
        >>> from minisched import SyscallError, run
        >>> def main():
        ...     try:
        ...         yield 5
        ...     except SyscallError as error:
        ...         print(str(error).partition(";")[0])
        >>> run(main())
        task 'main' yielded 5, which is not a syscall
    """


class BusyError(Exception):
    """Raised if another task already waits for the same direction of a file.

    Example:
        >>> import socket
        >>> from minisched import BusyError, Cancel, Read, Spawn, run
        >>> def reader(sock):
        ...     yield Read(sock, 1)
        >>> def main(sock):
        ...     first = yield Spawn(reader(sock))
        ...     yield
        ...     try:
        ...         yield Read(sock, 1)
        ...     except BusyError:
        ...         print("one reader at a time")
        ...     yield Cancel(first)
        >>> ours, theirs = socket.socketpair()
        >>> with ours, theirs:
        ...     run(main(ours))
        one reader at a time
    """


class ClosedError(Exception):
    """Raised if a file, queue or portal was closed before a task used it, or while the task waited for it.

    Example:
        >>> from minisched import ClosedError, Queue, run
        >>> def main():
        ...     queue = Queue()
        ...     queue.close()
        ...     try:
        ...         yield queue.get()
        ...     except ClosedError:
        ...         print("closed")
        >>> run(main())
        closed
    """


class WouldBlock(Exception):
    """Raised by a plain call that would have to wait. Yield the waiting form in its place, such as `queue.get()`.

    Example:
        >>> from minisched import Queue, WouldBlock
        >>> try:
        ...     Queue().get_nowait()
        ... except WouldBlock:
        ...     print("empty")
        empty
    """


class LimitExceeded(Exception):
    """Raised if a limit that the caller set was exceeded: of restarts in `supervise`, of bytes in a line of a `Stream`.

    `available` is the number of bytes that can still be read from the stream; 0 for another limit.

    Example:
        >>> from minisched import LimitExceeded, supervise
        >>> from minisched.testing import run
        >>> def failing():
        ...     yield
        ...     raise OSError("broken")
        >>> try:
        ...     run(supervise(failing, restarts=0))
        ... except LimitExceeded as error:
        ...     print(error)
        task 'failing' failed, and there were 0 restarts within 5 s
    """

    def __init__(self, text: str = "", available: int = 0) -> None:
        super().__init__(text)
        self.available = available


class Lagged(LimitExceeded):
    """Raised to a subscriber of a broadcast that was too slow: it missed `count` items. The next `get` has an item.

    Example:
        >>> from minisched import Broadcast, Lagged, run
        >>> def main():
        ...     news = Broadcast(size=1)
        ...     with news.subscribe() as subscription:
        ...         for item in "abc":
        ...             news.publish(item)
        ...         try:
        ...             yield subscription.get()
        ...         except Lagged as error:
        ...             print(error.count, "missed; next:", (yield subscription.get()))
        >>> run(main())
        2 missed; next: c
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} items came and went unseen: read faster, or let the broadcast keep more")
        self.count = count


class TlsError(ConnectionError):
    """Raised if a TLS handshake fails, or if the peer breaks the protocol later. The text says why, in plain words.

    The connection cannot be used any more. The cause (`__cause__`) is the exception of the module `ssl`.

    Args:
        text: the reason in plain words.
        reason: the name that OpenSSL has for it, such as "CERTIFICATE_VERIFY_FAILED", or None.

    Example:
        >>> from minisched import TlsError
        >>> error = TlsError("TLS with example.org: the peer does not speak TLS", "WRONG_VERSION_NUMBER")
        >>> print(error)
        TLS with example.org: the peer does not speak TLS
        >>> error.reason, isinstance(error, OSError)
        ('WRONG_VERSION_NUMBER', True)
    """

    def __init__(self, text: str, reason: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason


class TlsTruncated(TlsError):
    """Raised by a Read if a TLS connection ended without a close_notify: bytes may be missing at the end.

    Example:
        >>> from minisched import TlsError, TlsTruncated
        >>> issubclass(TlsTruncated, TlsError)
        True
    """


class IncompleteRead(EOFError):
    """Raised if a stream ended before all the bytes of a `read_exactly`, or the separator of a `read_until`, had come.

    `available` is the number of bytes that came: they can still be read. 0: the stream ended between two messages.

    Example:
        >>> import socket
        >>> from minisched import IncompleteRead, Stream, run
        >>> def main(near, far):
        ...     with Stream(near) as near, Stream(far) as far:
        ...         yield near.write(b"GET")
        ...         yield near.write_eof()
        ...         try:
        ...             yield far.read_until(b"\\r\\n")
        ...         except IncompleteRead as error:
        ...             print(error)
        >>> run(main(*socket.socketpair()))
        the stream ended after 3 bytes without b'\\r\\n', which can still be read
    """

    def __init__(self, text: str = "", available: int = 0) -> None:
        super().__init__(text)
        self.available = available


class IncompleteWrite(Exception):
    """Raised if a stream is written to after a write that was cut: by a cancellation, a timeout or an error.

    `written` is the number of bytes that the cut write has written, of `size`.

    Example:
        >>> import socket
        >>> from minisched import IncompleteWrite, MoveOnAfter, Stream, run
        >>> def main(near, far):
        ...     with Stream(near) as near, far:
        ...         with (yield MoveOnAfter(0.01)):
        ...             yield near.write(bytes(100_000_000))
        ...         try:
        ...             yield near.write(b"more")
        ...         except IncompleteWrite as error:
        ...             print(str(error).partition(" after ")[0])
        >>> run(main(*socket.socketpair()))
        a write to the stream was cut
    """

    def __init__(self, text: str = "", written: int = 0, size: int = 0) -> None:
        super().__init__(text)
        self.written = written
        self.size = size


class DatagramTruncated(LimitExceeded):
    """Raised if a datagram is larger than the size that was asked for: the system has dropped the rest of it.

    `data` has the first bytes, as many as were asked for, and `address` is the sender's.

    Example:
        >>> from minisched import DatagramTruncated
        >>> print(DatagramTruncated(b"hell", ("192.0.2.1", 53)))
        the datagram from ('192.0.2.1', 53) has more than 4 bytes, and the rest of it is lost: ask for more
    """

    def __init__(self, data: bytes, address: object) -> None:
        text = f"the datagram from {address!r} has more than {len(data):,} bytes, and the rest of it is lost"
        super().__init__(f"{text}: ask for more")
        self.data = data
        self.address = address
