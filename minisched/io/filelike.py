"""The interface of files: the methods of a file-like, the state that each has, and its waiters.

Theory of operation. Read, Write and the other syscalls work on a *file-like*, an object with the five
methods of `FileLike` and a `file_state`. A `Socket` is one, and so is a file in memory that a test
makes. Each file-like keeps its own `FileState`: the task that waits to read it, the task that waits to
write it, and whether a read is worth trying. So a read or a write sees all that it needs in two fields
of one object, without a call. A *waiter* is the object that stands in the state while its task is
parked; it is called when the file becomes ready, or is closed.

Invariants:
1. A direction of a file has at most one waiter.
2. A waiter is called once, with `ready` or with `closed`, and has left the state by then.
3. The state of a closed socket is CLOSED. Both its directions are taken by CLOSED_WAITER, and nothing
   ever changes it.

Decision: the state of a file is an object of its own, which the poller fills in for files that have a
descriptor.
Because: a read or a write then finds out whether the file is busy or closed by loading two fields.
`CLOSED` has a waiter in both directions, so that closed files need no test of their own.
Rejected: a method `busy()` of the file, which is a call for each read and write; a weak reference from the state to
the file, which would then have to be notified of each event.

Not here: the selector, and which events it watches for (`poller`); trying again (`nonblocking`).
"""

from __future__ import annotations

from math import inf

from ._selectors2 import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..kernel import Kernel, Task
    from .poller import Poller

    Bytes = bytes | bytearray | memoryview

    class PendingOperation(Protocol):
        """An object that waits for one direction of a file."""

        @property
        def task(self) -> Task | None:
            """The task that waits; None for the loop's own waiter."""
            ...

        def ready(self) -> None:
            """Try again: the file is ready, or may be. The operation may register again at once."""
            ...

        def closed(self) -> None:
            """End the wait: the file was closed."""
            ...
else:
    Protocol = object  # importing `typing` is slow, and at run time a file-like needs no base class


class FileLike(Protocol):
    """The interface of a file-like: the files that Read, Write and every FileOperation use, without a wrapper.

    A file-like has these methods and a `file_state`. It need not be a subclass. One that wraps another file-like is a
    `FileWrapper`, which passes on everything but `try_read` and `try_write`. An object without a `file_state` counts
    as a file that the scheduler does not own: it is used by its descriptor.

    Attributes:
        file_state: a `FileState`: the operations that wait for this file, and whether bytes went through it. Read and
            Write maintain `used`, from which `serve` sees that a connection is not idle.
        short_read_means_empty: whether a short read says that nothing is left until `watch` reports more. The default
            is False, which is always safe: the next Read tries before it waits. True saves that try.
        write_eof: optional, a method for `Stream.write_eof`: say that no more bytes come. It raises BlockingIOError, as
            `try_write` does, until all of that is written; then, a further call does nothing.

    Example:
        A file-like in memory, of which another task can feed the bytes:

        >>> from minisched import BusyError, FileState, Read, Spawn, Join, run
        >>> class Memory:
        ...     def __init__(self):
        ...         self.data, self.file_state = b"", FileState()
        ...     def try_read(self, size):
        ...         if not self.data:
        ...             raise BlockingIOError
        ...         data, self.data = self.data[:size], self.data[size:]
        ...         return data
        ...     def watch(self, kernel, direction, operation):
        ...         self.file_state.reader = operation
        ...     def unwatch(self, kernel, direction):
        ...         self.file_state.reader = None
        ...     def feed(self, data):
        ...         self.data += data
        ...         operation, self.file_state.reader = self.file_state.reader, None
        ...         if operation is not None:
        ...             operation.ready()
        >>> def reader(file):
        ...     return (yield Read(file, 100))
        >>> def main():
        ...     file = Memory()
        ...     task = yield Spawn(reader(file))
        ...     yield
        ...     file.feed(b"hello")
        ...     return (yield Join(task))
        >>> run(main())
        b'hello'
    """

    file_state: FileState

    def try_read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end of the file; raise BlockingIOError if there are none yet.

        A `wants` attribute of the error, READ or WRITE, is the event to wait for in place of READ, as TLS needs; READ |
        WRITE waits for the first of both. Fewer bytes than `size` say nothing about the rest.
        """
        raise NotImplementedError

    def try_write(self, data: Bytes, /) -> int:
        """Write what fits and return how many bytes that was; raise BlockingIOError if nothing fits.

        A file-like that has taken bytes and still has to send them, as TLS has, raises BlockingIOError with their
        number as its attribute `characters_written`. They count as written, and `try_write` is called again with the
        rest, even if that is b"".
        """
        raise NotImplementedError

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation, /) -> None:
        """Put `operation` into `file_state.reader` or `.writer`; raise BusyError if that is taken.

        When the file becomes ready for `direction`, take the operation out and call its `ready`. `direction` is READ
        or WRITE: that of the operation, or the `wants` of its BlockingIOError. A file that is always ready raises
        NotPollable of `minisched.io.poller`: the operation is then repeated at once. Any other error is raised in the
        task.
        """
        raise NotImplementedError

    def unwatch(self, kernel: Kernel, direction: int, /) -> None:
        """Take the operation that waits for `direction` out without calling it."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file: take both operations out and call their `closed`. `file_state` may be CLOSED afterwards."""
        raise NotImplementedError


class FileWrapper(FileLike):
    """A file-like around another one, such as a Socket. Subclass it to change what is read and written.

    It shares the state of the inner file-like, which does the waiting. So a task that reads the wrapper and one that
    reads the inner file are in each other's way, as they should be, and `serve` sees when bytes went through.

    Args:
        inner: the inner file-like.

    Example:
        >>> import socket
        >>> from minisched import FileWrapper, Read, Socket, Write, run
        >>> class Rot13(FileWrapper):
        ...     def try_read(self, size):
        ...         return bytes(map(rot13, self.inner.try_read(size)))
        >>> def rot13(byte):
        ...     return byte if not chr(byte).isalpha() else (byte & 32) + 65 + ((byte & 31) + 12) % 26
        >>> def main(near, far):
        ...     with Rot13(Socket(fileno=near.detach())) as near, far:
        ...         yield Write(far, b"uryyb")
        ...         return (yield Read(near, 100))
        >>> run(main(*socket.socketpair()))
        b'hello'
    """

    def __init__(self, inner: FileLike) -> None:
        self.inner = inner

    @property
    def file_state(self) -> FileState:  # type: ignore[override]
        """The state of the inner file-like."""
        return self.inner.file_state

    @property
    def label(self) -> str:
        """A short name, for messages and traces."""
        return f"{type(self).__name__} of {describe(self.inner)}"

    def try_read(self, size: int, /) -> bytes:
        """Read from the inner file-like."""
        return self.inner.try_read(size)

    def try_write(self, data: Bytes, /) -> int:
        """Write to the inner file-like."""
        return self.inner.try_write(data)

    def write_eof(self) -> None:
        """Say on the inner file-like that no more bytes come: see `FileLike`."""
        write_eof(self.inner)

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation, /) -> None:
        """Wait for the inner file-like."""
        self.inner.watch(kernel, direction, operation)

    def unwatch(self, kernel: Kernel, direction: int, /) -> None:
        """Give up a wait for the inner file-like."""
        self.inner.unwatch(kernel, direction)

    def close(self) -> None:
        """Close the inner file-like, which ends the waits."""
        self.inner.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FileState:
    """The state of one file: its waiters, the outcome of the last read, and its registration.

    Each file-like of your own has one, `FileState()`, or shares that of the file-like that it wraps. Only `reader`,
    `writer` and `used` concern it; `FileLike` says how.

    Example:
        >>> from minisched import FileState
        >>> state = FileState()
        >>> state.reader, state.writer, state.used
        (None, None, False)
    """

    __slots__ = (
        *("reader", "writer"),
        *("crosses", "drained", "used"),
        *("fd", "persistent", "poller"),
        *("events", "identity", "registered_in", "unclaimed"),
    )

    def __init__(self, fd: int = -1, persistent: bool = True, poller: Poller | None = None) -> None:
        # Set by `watch`, `unwatch` and `close` of the file; for a file with a descriptor, by the poller.
        self.reader: PendingOperation | None = None
        self.writer: PendingOperation | None = None

        # Set by each read, write and event; cleared by the poller (drained) and the timer for idle connections (used).
        self.drained = False  # the last read was short, or the last accept found no connection
        self.used = False  # bytes were read or written, or the file became ready, since this was last cleared

        # Set by an operation that waits for the event of the other direction, as a TLS read may have to write first.
        self.crosses = False

        # Set by the owner of the file, when it makes the state or first waits in a run.
        self.fd = fd
        self.persistent = persistent  # the descriptor stays registered between waits
        self.poller = poller  # the poller of the run in which the file was last waited for

        # Set by the poller only.
        self.events = 0  # the events that the selector watches for; 0: not registered
        self.identity: tuple[int, int] | None = None  # the file that a one-shot descriptor was when it was registered
        self.registered_in = inf  # the last poll before a persistent descriptor was registered
        self.unclaimed = 0  # events in a row that no task waited for

    def waiter_for(self, direction: int) -> PendingOperation | None:
        """Return the waiter for a direction."""
        return self.reader if direction == READ else self.writer

    def given_up(self, event: int) -> int:
        """Return the direction of the operation that waited for `event`, and has just given up."""
        for wanted in (0, event):  # 0: an operation that has given up says so
            for direction in (READ, WRITE):
                operation = self.waiter_for(direction)
                if operation is not None and event_of(operation, direction) == wanted:
                    return direction
        return event

    def wanted(self) -> int:
        """Return the events that have a waiter."""
        reader, writer = self.reader, self.writer
        events = 0 if reader is None else event_of(reader, READ)
        return events if writer is None else events | event_of(writer, WRITE)


def event_of(operation: PendingOperation, direction: int) -> int:
    """Return the event that the operation of a direction waits for: mostly that direction. 0: it has given up."""
    return getattr(operation, "waits_for", direction)


class PromiseOfTryRead:
    """A base of file-likes with `short_read_means_empty`: it is a promise of one `try_read`, and holds for no other.

    A derived class that has a `try_read` of its own does not inherit the promise; it may give it again.
    """

    __slots__ = ()
    short_read_means_empty = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "try_read" in vars(cls) and "short_read_means_empty" not in vars(cls):
            cls.short_read_means_empty = False


class ClosedWaiter:
    """The waiter in both directions of a closed file: it takes them for good, and is never called."""

    task = None

    def ready(self) -> None:
        """Do nothing."""

    closed = ready


CLOSED_WAITER = ClosedWaiter()
CLOSED = FileState()
CLOSED.reader = CLOSED.writer = CLOSED_WAITER


def write_eof(file: Any) -> None:
    """Call the `write_eof` of a file-like; raise TypeError if it has none."""
    if not hasattr(file, "write_eof"):
        raise TypeError(f"{describe(file)} has no write_eof, so only its close ends what is written")
    file.write_eof()


def describe(file: Any) -> str:
    """Return a short name of a file, for messages and traces."""
    if isinstance(file, int):
        return f"file {file}"
    return getattr(file, "label", None) or type(file).__name__
