"""Reading from streams: the bytes that were received and not taken, and the calls that take them.

Theory of operation. A stream has one buffer: the bytes that were received and that no call has taken. A call first
checks the buffer. If that is not enough, it reads from the file into the buffer, and waits for the file as a Read
does. It takes its bytes out of the buffer in the step that delivers them to the task. A search for a separator goes on
where the last one has ended. So each byte is searched once, also if the bytes come one at a time, and if a call in a
`select` or in a timeout is made again and again.

Invariants:
1. A read that raises has taken nothing, whatever it raises: the bytes stay in the buffer, and the next read has them.
2. The buffer never has more than the bytes that the call was allowed to return and READ_BYTES.

Decision: the bytes before an unexpected end, and those of a line that is too long, stay readable; the error has their
number. Because: all errors follow one rule, which is that of a cancellation; and an error that is kept or logged holds
no data of a peer. Rejected: the bytes in the error, as in asyncio, which drops the line that is too long.

Decision: `readline` returns the last line also without a newline, and b"" at the end; `read_until` raises. Because:
the first is what files of Python do, so that a loop is `while line := (yield stream.readline()):`. The second is for
protocols, in which a line without its end was cut. Rejected: a `for_each`, as queues have it: their end is an
exception, and that of a stream is not.

Decision: `limit` counts the separator, and the error comes as soon as `limit` bytes have come without it. Because: the
outcome does not depend on the pieces in which the bytes arrive. Rejected: a limit that is tested after each read.

Not here: writing, and the end of a stream (`streams`); the wait (`nonblocking`); text, which the program decodes.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from stat import S_ISFIFO, S_ISSOCK

from ..errors import ClosedError, IncompleteRead, LimitExceeded
from ..kernel.misuse import not_iterable
from ..kernel.numbers import check_count
from ..kernel.waiting import NOT_YET
from ._selectors2 import READ
from .borrowed import BorrowedFile, descriptor_of, without_tls
from .filelike import CLOSED, PromiseOfTryRead, describe
from .files import LARGEST_READ_BYTES, usable
from .nonblocking import FileOperation, PendingCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

    from ..kernel import Kernel, Task
    from .filelike import Bytes, FileLike

LIMIT_BYTES = 65536  # the default of a stream's `limit`: as in asyncio, and more than any line of a text protocol
READ_BYTES = 65536  # read at once from the file; a larger buffer takes longer to allocate
READS_IN_A_TURN = 16  # of one call, a MiB: then the other tasks have their turns, if a poll reports the rest
NEWLINE = b"\n"


class Incoming:
    """The half of a stream that reads, which `Stream` describes."""

    __slots__ = ("__weakref__", "buffer", "closed", "file", "limit", "searched", "separator")

    def __init__(self, file: FileLike | Any, limit: int = LIMIT_BYTES) -> None:
        if not hasattr(file, "file_state"):
            _ = descriptor_of(without_tls(file, "Stream"))
        self.file = file
        self.limit: int = check_count("Stream", "limit", "bytes", limit, least=1)
        self.closed = False
        self.buffer = bytearray()  # received, and not taken
        self.separator = NEWLINE  # that of the last search
        self.searched = 0  # no such separator begins before this index of the buffer

    def read(self, size: int) -> ReadSome:
        """Read up to `size` bytes, as soon as there are any.

        Bytes, the end of the stream, an error or a close wakes the task. A cancelled read has taken nothing.

        Returns:
            The bytes: those that were received already, or else what the file has. b"" at the end of the stream.

        Raises:
            BusyError: another task waits to read this file.
            ClosedError: the file is closed, now or while the task waits.
            OSError: the operating system reports an error, such as a broken connection.
            TypeError, ValueError: `size` is not an integer, or less than 1.

        Example:
            >>> import socket
            >>> from minisched import Stream, run
            >>> def main(near, far):
            ...     with Stream(near) as near, Stream(far) as far:
            ...         yield near.write(b"hello")
            ...         return (yield far.read(4)), (yield far.read(4))
            >>> run(main(*socket.socketpair()))
            (b'hell', b'o')
        """
        return ReadSome(self, check_count("read", "size", "bytes", size, least=1))

    def read_exactly(self, size: int) -> ReadExactly:
        """Read `size` bytes, 0 or more.

        The last byte, the end of the stream, an error or a close wakes the task. A cancelled read has taken nothing.
        The stream keeps the bytes until all have come, so a size that the peer has sent needs a limit first.

        Returns:
            The bytes, `size` of them.

        Raises:
            IncompleteRead: the stream ended before. Its `available` is the number of bytes that came; they stay
                readable.
            BusyError, ClosedError, OSError, TypeError, ValueError: as for `read`.

        Example:
            >>> import socket
            >>> from minisched import IncompleteRead, Stream, run
            >>> def main(near, far):
            ...     with Stream(near) as near, Stream(far) as far:
            ...         yield near.write(b"abcdef")
            ...         yield near.write_eof()
            ...         print((yield far.read_exactly(4)))
            ...         try:
            ...             yield far.read_exactly(4)
            ...         except IncompleteRead as error:
            ...             print(error)
            ...             print((yield far.read(error.available)))
            >>> run(main(*socket.socketpair()))
            b'abcd'
            the stream ended after 2 of 4 bytes, which can still be read
            b'ef'
        """
        return ReadExactly(self, check_count("read_exactly", "size", "bytes", size))

    def read_until(self, separator: Bytes, limit: int | None = None) -> ReadUntil:
        """Read up to and including the next `separator`.

        The separator, the end of the stream, an error or a close wakes the task, and so do `limit` bytes. A cancelled
        read has taken nothing. O(bytes), also if they come one at a time.

        Args:
            separator: one byte or more.
            limit: the most bytes to return, with the separator; None for the limit of the stream.

        Returns:
            The bytes; they end with the separator.

        Raises:
            LimitExceeded: `limit` bytes came without a separator in them. They stay readable; `available` is the
                number of all that are.
            IncompleteRead: the stream ended before. Its `available` is the number of bytes that came, 0 for an end
                between two messages; they stay readable.
            BusyError, ClosedError, OSError: as for `read`.
            TypeError, ValueError: the separator is not bytes, or is empty; or `limit` is not an integer, or is less
                than the length of the separator.

        Example:
            >>> import socket
            >>> from minisched import Stream, run
            >>> def main(near, far):
            ...     with Stream(near) as near, Stream(far) as far:
            ...         yield near.write(b"one--two--")
            ...         return (yield far.read_until(b"--")), (yield far.read_until(b"--", limit=5))
            >>> run(main(*socket.socketpair()))
            (b'one--', b'two--')
        """
        separator = check_separator(separator)
        if limit is not None:
            limit = check_count("read_until", "limit", "bytes", limit, least=len(separator), optional=True)
        return ReadUntil(self, separator, limit or self.limit)

    def readline(self, limit: int | None = None) -> ReadLine:
        r"""Read a line: up to and including the next b"\n".

        A newline, the end of the stream, an error or a close wakes the task, and so do `limit` bytes. A cancelled read
        has taken nothing.

        Args:
            limit: the most bytes to return, with the newline; None for the limit of the stream.

        Returns:
            The line with its newline, which only the last line of a stream may lack. b"" at the end of the stream.

        Raises:
            LimitExceeded: `limit` bytes came without a newline in them. They stay readable; `available` is the number
                of all that are.
            BusyError, ClosedError, OSError, TypeError, ValueError: as for `read`.

        Example:
            In an `async def`, `async for line in stream` is the same loop:

            >>> import socket
            >>> from minisched import Stream, run
            >>> def main(near, far):
            ...     with Stream(near) as near, Stream(far) as far:
            ...         yield near.write(b"one\ntwo\nthree")
            ...         yield near.write_eof()
            ...         while line := (yield far.readline()):
            ...             print(line)
            >>> run(main(*socket.socketpair()))
            b'one\n'
            b'two\n'
            b'three'
        """
        if limit is not None:
            limit = check_count("readline", "limit", "bytes", limit, least=1, optional=True)
        return ReadLine(self, NEWLINE, limit or self.limit)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __iter__(self) -> NoReturn:
        raise not_iterable(self)

    @property
    def available(self) -> int:
        """The number of bytes that were received, and that no call has taken: `read` returns them at once."""
        return len(self.buffer)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.available} bytes available"
        return f"<{type(self).__name__} of {describe(self.file)}: {state}>"


class StreamRead(FileOperation[bytes]):
    """A call that reads from a stream."""

    __slots__ = ("stream",)
    stream: Incoming

    def open(self, kernel: Kernel) -> FileLike:
        return opened(self.stream, kernel)

    def handle(self, kernel: Kernel, task: Task) -> bytes | None:
        # Copy for speed of `FileOperation.handle`: gains about 25 % of the user CPU instructions of `echo_lines_16`. It
        # makes no PendingCall for bytes that are available.
        file = self.stream.file
        state = getattr(file, "file_state", CLOSED)
        if state.reader is not None or self.stream.closed:  # or it is not a file-like
            return FileOperation.handle(self, kernel, task)
        try:
            return self.try_once(file)
        except BlockingIOError as error:
            pending = PendingCall(kernel, file, self, file)
            pending.waits_for = getattr(error, "wants", READ)
            state.crosses = state.crosses or pending.waits_for != READ
        kernel.park(task, pending)
        return pending.wait(task)


class ReadSome(StreamRead):
    """Read the available bytes; made by `stream.read(size)`."""

    __slots__ = ("size",)

    def __init__(self, stream: Incoming, size: int) -> None:
        self.file = stream.file
        self.stream = stream
        self.size = size

    def try_once(self, file: FileLike) -> bytes:
        stream = self.stream
        return take_out(stream, self.size) if stream.buffer else receive(file, min(self.size, LARGEST_READ_BYTES))


class ReadWhole(StreamRead):
    """A call that takes a whole line or message out of the buffer, and reads more while that is not enough."""

    __slots__ = ()

    def try_once(self, file: FileLike) -> bytes:
        stream = self.stream
        reads = 0
        while (taken := self.take(stream)) is NOT_YET:
            if reads == READS_IN_A_TURN and polls_the_rest(file):
                file.file_state.drained = False
                raise BlockingIOError  # the next poll reports what has come meanwhile
            received = receive(file, READ_BYTES)
            if not received:
                return self.at_end(stream)
            stream.buffer += received
            reads += 1
        return taken

    @abstractmethod
    def take(self, stream: Incoming) -> bytes:
        """Take the result out of the buffer and return it; return NOT_YET if it is not complete."""

    @abstractmethod
    def at_end(self, stream: Incoming) -> bytes:
        """Return the result, or raise an error, if the stream ends with an incomplete one in the buffer."""


class ReadExactly(ReadWhole):
    """Read a number of bytes; made by `stream.read_exactly(size)`."""

    __slots__ = ("size",)

    def __init__(self, stream: Incoming, size: int) -> None:
        self.file = stream.file
        self.stream = stream
        self.size = size

    def take(self, stream: Incoming) -> bytes:
        return take_out(stream, self.size) if len(stream.buffer) >= self.size else NOT_YET

    def at_end(self, stream: Incoming) -> bytes:
        available = len(stream.buffer)
        raise IncompleteRead(
            f"the stream ended after {available} of {self.size} bytes, which can still be read", available
        )


class ReadUntil(ReadWhole):
    """Read up to a separator; made by `stream.read_until(separator)`."""

    __slots__ = ("limit", "separator")

    def __init__(self, stream: Incoming, separator: bytes, limit: int) -> None:
        self.file = stream.file
        self.stream = stream
        self.separator = separator
        self.limit = limit

    def take(self, stream: Incoming) -> bytes:
        buffer, separator = stream.buffer, self.separator
        if stream.separator != separator:
            stream.separator, stream.searched = separator, 0
        found = buffer.find(separator, stream.searched, self.limit)
        if found >= 0:
            end = found + len(separator)
            taken = bytes(buffer[:end])  # a slice of a line costs half of what a memoryview costs
            del buffer[:end]
            stream.searched = 0
            return taken
        if len(buffer) >= self.limit:
            raise LimitExceeded(
                f"{self.limit} bytes came without {separator!r}; {len(buffer)} bytes can still be read", len(buffer)
            )
        stream.searched = max(0, len(buffer) + 1 - len(separator))  # the beginning of a separator may be there already
        return NOT_YET

    def at_end(self, stream: Incoming) -> bytes:
        available = len(stream.buffer)
        raise IncompleteRead(
            f"the stream ended after {available} bytes without {self.separator!r}, which can still be read", available
        )


class ReadLine(ReadUntil):
    """Read a line; made by `stream.readline()`."""

    __slots__ = ()

    def at_end(self, stream: Incoming) -> bytes:
        return take_out(stream, len(stream.buffer))


def opened(stream: Incoming, kernel: Kernel) -> FileLike:
    """Return the file as a file-like; ClosedError if the stream is closed."""
    if stream.closed:
        raise ClosedError("the stream is closed")
    return usable(kernel, stream.file, "Stream")


def receive(file: FileLike, size: int) -> bytes:
    """Return up to `size` bytes of the file, b"" at its end; raise BlockingIOError if there are none yet."""
    state = file.file_state
    if state.drained and getattr(file, "short_read_means_empty", False):
        state.drained = False  # the next try comes after the event
        raise BlockingIOError
    data = file.try_read(size)
    state.used = True
    state.drained = len(data) < size
    return data


def take_out(stream: Incoming, size: int) -> bytes:
    """Take the first bytes out of the buffer, up to `size`."""
    buffer = stream.buffer
    stream.searched = 0
    if size >= len(buffer):
        stream.buffer = bytearray()
        return bytes(buffer)
    taken = bytes(memoryview(buffer)[:size])
    del buffer[:size]  # O(1): a bytearray moves its beginning
    return taken


def polls_the_rest(file: FileLike) -> bool:
    """Return whether a poll reports the bytes that a read has left. A file-like may hold some itself.

    A regular file or a device can't be polled.
    """
    if isinstance(file, BorrowedFile):
        return S_ISFIFO(file.mode) or (S_ISSOCK(file.mode) and type(file.file) in (int, socket.socket))
    return isinstance(file, PromiseOfTryRead) and file.short_read_means_empty


def check_separator(separator: Bytes) -> bytes:
    """Return a separator as bytes; TypeError or ValueError if it is none."""
    if not isinstance(separator, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"read_until: separator is bytes, not {separator!r} ({type(separator).__name__})")
    if not len(separator):
        raise ValueError("read_until: separator is one byte or more, and this one is empty")
    return bytes(separator)
