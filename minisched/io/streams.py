"""Streams: lines, messages up to a separator, and exact numbers of bytes, over any file that Read and Write take.

Theory of operation. The half that reads has a buffer (`incoming`). The half that writes has none: `write` is the
`Write` of the file. A Write may be cancelled halfway. The stream then refuses further ones, since the peer would take
their bytes for the rest of the first.

Invariants:
1. After a write that was cut, no byte is written.

Decision: a `write_eof` after a write that was cut is refused, too. Because: the peer would take what it has for the
whole of a message that ends with the stream. Rejected: to leave that to the program, which may not know of the cut.

Decision: `write_eof` is a call. Because: TLS has to write a message, which may have to wait. A file-like says how by a
method `write_eof`, which a `FileWrapper` passes on. Rejected: a plain call, which could only begin that message.

Not here: reading (`incoming`); Read and Write (`files`).
"""

from __future__ import annotations

import os
from _thread import get_ident
from stat import S_ISSOCK

from ..errors import ClosedError, IncompleteWrite
from ..kernel.current import kernels
from ._selectors2 import WRITE
from .borrowed import BorrowedFile, BorrowedFiles
from .filelike import write_eof
from .files import PendingWrite, Write
from .incoming import LIMIT_BYTES, Incoming, opened
from .nonblocking import FileOperation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from ..kernel import Kernel, Task
    from .filelike import Bytes, FileLike


class Stream(Incoming):
    """Read lines and messages from a file, and write to it.

    The waiting methods are calls: yield or await them, also in a `select`. A task that writes and one that reads may
    use a stream at the same time. Between the two, `with stream:` or `close` closes the file. In a handler of `serve`,
    the connection counts as used whenever bytes move.

    A stream reads ahead: use it alone, and not together with a Read of the same file. `available` is the number of
    bytes that it has received and no call has taken.

    Args:
        file: a `Socket`, another file-like, a file descriptor, or any object with `fileno()` and no buffer.
        limit: the most bytes of a line or a message, unless the call has a limit of its own.

    Raises:
        ClosedError: the file is closed.
        TypeError: the object is not a file, has a buffer, or is a TLS connection; or `limit` is not an integer.
        ValueError: `limit` is less than 1.

    Example:
        >>> import socket
        >>> from minisched import Stream, run
        >>> def main(near, far):
        ...     with Stream(near) as near, Stream(far) as far:
        ...         yield near.write(b"4 one\\nhelloGET /\\r\\n\\r\\n")
        ...         yield near.write_eof()
        ...         print((yield far.readline()), (yield far.read_exactly(5)))
        ...         print((yield far.read_until(b"\\r\\n\\r\\n")), (yield far.read(100)))
        >>> run(main(*socket.socketpair()))
        b'4 one\\n' b'hello'
        b'GET /\\r\\n\\r\\n' b''
    """

    __slots__ = ("cut", "ended", "refuses")

    def __init__(self, file: FileLike | Any, limit: int = LIMIT_BYTES) -> None:
        super().__init__(file, limit)
        self.ended = False  # a `write_eof` has begun
        self.refuses = False  # writes: the stream is closed, ended or cut
        self.cut: tuple[int, int] | None = None  # the bytes that a failed write has written, and those it had

    def write(self, data: Bytes) -> StreamWrite:
        """Write all of `data`: the `Write` of the file, without a buffer.

        The last byte, an error or a close wakes the task. After a write that was cut (by a cancellation, a timeout or
        an error, when some of its bytes were out), the stream refuses the next one.

        Returns:
            The length of `data` in bytes.

        Raises:
            IncompleteWrite: an earlier write was cut. Its `written` and `size` say where.
            ClosedError: the file is closed, or `write_eof` was called before.
            BusyError, OSError, TypeError: as for `Write`; BrokenPipeError if the reader is gone.

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
            ...             return 0 < error.written < error.size
            >>> run(main(*socket.socketpair()))
            True
        """
        return StreamWrite(self, data)

    def write_eof(self) -> WriteEof:
        """Say that no more bytes come; the peer reads an end after those that were written. Reading goes on.

        Room for the message of a TLS connection, an error or a close wakes the task; a socket or a pipe never waits.
        Any other file than a socket or a file-like, such as a pipe, is closed by it.

        Raises:
            IncompleteWrite: an earlier write was cut, and the peer would take what it has for the whole.
            BusyError: another task waits to write to this file.
            ClosedError: the file is closed, now or while the task waits.
            OSError: the operating system reports an error; BrokenPipeError if the reader is gone.
            TypeError: the file-like can't say it: it has no `write_eof`.

        Example:
            >>> import socket
            >>> from minisched import Stream, run
            >>> def main(near, far):
            ...     with Stream(near) as near, Stream(far) as far:
            ...         yield near.write_eof()
            ...         yield far.write(b"your end: " + repr((yield far.read(9))).encode())
            ...         return (yield near.read(99))
            >>> run(main(*socket.socketpair()))
            b"your end: b''"
        """
        return WriteEof(self)

    def close(self) -> None:
        """Close the file, and wake the tasks that wait for it with ClosedError. A plain call.

        The bytes that were received and not taken are dropped. Closing it again does nothing. Call it in the thread of
        the run.

        Raises:
            OSError: the file descriptor is not open.

        Example:
            >>> import os
            >>> from minisched import ClosedError, Stream, run
            >>> def main():
            ...     reader, writer = map(Stream, os.pipe())
            ...     with reader, writer:
            ...         yield writer.write(b"hello")
            ...     try:
            ...         yield reader.read(5)
            ...     except ClosedError as error:
            ...         return str(error)
            >>> run(main())
            'the stream is closed'
        """
        if hasattr(self.file, "file_state"):
            _ = self.file.close()  # refuses another thread than the run's, and may be called again
        elif not self.closed:
            self.closed = True  # first: a descriptor that is closed twice may be another file by then
            close_borrowed(self.file)
        self.closed = self.refuses = True
        self.buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class StreamWrite(Write):
    """Write all of some data; made by `stream.write(data)`."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream, data: Bytes) -> None:
        self.file = stream.file
        self.data = data
        self.stream = stream

    def handle(self, kernel: Kernel, task: Task) -> int | None:
        if self.stream.refuses:
            check_writable(self.stream)
        return Write.handle(self, kernel, task)  # `super()` takes longer

    def begin(self, kernel: Kernel) -> PendingWrite:
        check_writable(self.stream)
        return super().begin(kernel)

    def pending(
        self, kernel: Kernel, file: FileLike, data: Bytes, written: int = 0, waits_for: int = WRITE
    ) -> PendingWrite:
        return PendingStreamWrite(self.stream, kernel, file, data, written, waits_for)


class PendingStreamWrite(PendingWrite):
    """A write to a stream that waits: the stream refuses further ones if this one is not completed."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream, *rest: Any) -> None:
        super().__init__(*rest)
        self.stream = stream

    def release(self) -> None:
        """Note where the write was cut; this is called at each end but a success."""
        if 0 < self.written < len(self.data):  # a file-like that has taken all bytes sends them before the next ones
            self.stream.cut = self.written, len(self.data)
            self.stream.refuses = True


class WriteEof(FileOperation[None]):
    """Say that no more bytes come; made by `stream.write_eof()`."""

    __slots__ = ("stream",)
    direction = WRITE

    def __init__(self, stream: Stream) -> None:
        self.file = stream.file
        self.stream = stream

    def open(self, kernel: Kernel) -> FileLike:
        check_not_cut(self.stream)
        return opened(self.stream, kernel)

    def try_once(self, file: FileLike) -> None:
        if isinstance(file, BorrowedFile) and not S_ISSOCK(file.mode):
            return self.stream.close()
        try:
            write_eof(file)
        except BlockingIOError:
            self.stream.ended = self.stream.refuses = True  # a part of the message of a TLS connection may be out
            raise
        self.stream.ended = self.stream.refuses = True
        return None


def check_writable(stream: Stream) -> None:
    """Raise an error if nothing may be written any more."""
    if stream.closed or stream.ended:
        raise ClosedError(f"the stream is closed{'' if stream.closed else ' for writing: its write_eof was called'}")
    check_not_cut(stream)


def check_not_cut(stream: Stream) -> None:
    """Raise IncompleteWrite if a write was cut."""
    if stream.cut is not None:
        written, size = stream.cut
        raise IncompleteWrite(
            f"a write to the stream was cut after {written} of {size} bytes, and the peer would take any more for "
            "the rest of it: close the stream",
            written,
            size,
        )


def close_borrowed(file: Any) -> None:
    """Close a file that is not a file-like, and wake its waiters in the run of this thread, if there is one."""
    kernel = kernels.get(get_ident())
    try:
        if kernel is not None:
            kernel.service(BorrowedFiles).wrap(file).close()
        elif isinstance(file, int):
            os.close(file)
        else:
            file.close()
    except ClosedError:
        pass
