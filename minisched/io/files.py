"""Reading, writing and closing: sockets, pipes, file descriptors, and anything that behaves like one.

Theory of operation. `Read` and `Write` try first: most of the time the bytes are there, or there is room. An operation
that would block becomes a `PendingIO`, which waits for the file and tries again. The bytes are taken from the
operating system in the same step that delivers them to the task, so a cancelled Read loses nothing. A file that is not
a file-like is wrapped for one call (`borrowed`).

Invariants:
1. While a task waits for one direction of a file, another task that uses it gets BusyError before anything is tried.
2. A cancelled Read has taken nothing. A cancelled Write reports how many bytes it has written (`Cancelled.written`).

Decision: a read that came back short marks the file as *drained*. The next Read of a file-like that has a true
`short_read_means_empty` then waits before it tries; a Socket has it.
Because: the try would most often only raise BlockingIOError. A message of an echo server takes 2.0 system calls in
place of 2.3 to 2.8 (`python -m tests.benchmarks echo_100x1KB`).
Rejected: the same for every file-like. One that decrypts or unpacks returns a record at a time and holds the rest
itself, so that its task would wait for an event that never comes.

Not here: the wait (`nonblocking`); opening files, which needs a thread (`bridges/opening`); buffers.
"""

from __future__ import annotations

from ..errors import ClosedError
from ..kernel import Syscall
from ..kernel.numbers import check_count
from ._selectors2 import READ, WRITE
from .borrowed import BorrowedFiles, as_file, without_tls
from .filelike import describe
from .nonblocking import FileOperation, PendingIO, busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel import Kernel, Task
    from .filelike import Bytes, FileLike


LARGEST_READ_BYTES = 2**30  # of one Read; the system call allocates as much, and above sys.maxsize it fails


class Read(FileOperation[bytes]):
    """Read up to `size` bytes, as soon as there are any.

    Bytes, the end of the file, an error or a close wakes the task. A cancelled Read has taken nothing. The file may
    be a `Socket`, another file-like, a file descriptor, or any object with `fileno()` and no buffer. A file in
    blocking mode keeps its mode, and still holds up no task; `minisched.io.nowait` names the exceptions.

    Args:
        file: the file to read.
        size: the most bytes to return, 1 or more. A number above 1 GiB counts as that.

    Returns:
        The bytes; b"" at the end of the file.

    Raises:
        BusyError: another task waits to read this file.
        ClosedError: the file is closed, now or while the task waits.
        OSError: the operating system reports an error, such as a broken connection.
        TypeError: the object is not a file, has a buffer, or is a TLS connection of `ssl`; or `size` is not an integer.
        ValueError: `size` is less than 1, since b"" means the end; or it is infinite or NaN.

    Example:
        >>> import os
        >>> from minisched import Close, Read, Write, run
        >>> def main():
        ...     reader, writer = os.pipe()
        ...     yield Write(writer, b"hello")
        ...     yield Close(writer)
        ...     first, rest = (yield Read(reader, 4)), (yield Read(reader, 4))
        ...     end = yield Read(reader, 4)
        ...     yield Close(reader)
        ...     return first, rest, end
        >>> run(main())
        (b'hell', b'o', b'')
    """

    __slots__ = ("size",)

    def __init__(self, file: FileLike | Any, size: int) -> None:
        self.file = file
        self.size = size

    def handle(self, kernel: Kernel, task: Task) -> bytes | None:
        file, size = self.file, self.size
        if type(size) is not int or not 0 < size <= LARGEST_READ_BYTES:
            size = min(check_count("Read", "size", "bytes", size, least=1), LARGEST_READ_BYTES)
        try:
            state = file.file_state
        except AttributeError:  # not a file-like
            file = kernel.service(BorrowedFiles).wrap(without_tls(file, "Read"))
            state = file.file_state
        if state.reader is not None:
            raise busy(file, READ)
        # Copy for speed of `PendingRead.try_once`: gains about 12 % of the user CPU instructions of `echo_100x1KB`. It
        # makes no PendingIO for bytes that are available already.
        if state.drained and getattr(file, "short_read_means_empty", False):
            waits_for = READ
        else:
            try:
                data = file.try_read(size)
            except BlockingIOError as error:
                waits_for = getattr(error, "wants", READ)
                state.crosses = state.crosses or waits_for != READ
            else:
                state.drained = len(data) < size
                state.used = True
                return data
        pending = PendingRead(kernel, file, size, waits_for)
        kernel.park(task, pending)
        return pending.wait(task)

    def begin(self, kernel: Kernel) -> PendingRead:
        size = min(check_count("Read", "size", "bytes", self.size, least=1), LARGEST_READ_BYTES)
        file = usable(kernel, self.file, "Read")
        if file.file_state.reader is not None:
            raise busy(file, READ)
        return PendingRead(kernel, file, size)

    def wait_first(self, file: FileLike) -> bool:
        return file.file_state.drained and getattr(file, "short_read_means_empty", False)

    def try_once(self, file: FileLike) -> bytes:
        """Not used: `begin` returns a PendingRead, which reads without this call."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"Read({describe(self.file)}, {self.size})"


class Write(FileOperation[int]):
    """Write all of `data`.

    The last byte, an error or a close wakes the task; the operating system takes the bytes in as many steps as it
    needs. A cancelled Write stops where it is, and `Cancelled.written` is the number of bytes that it has written. The
    file may be any that `Read` takes.

    Args:
        file: the file to write to.
        data: bytes, a bytearray, a memoryview, or another object with a buffer.

    Returns:
        The length of `data` in bytes.

    Raises:
        BusyError: another task waits to write to this file.
        ClosedError: the file is closed, now or while the task waits.
        OSError: the operating system reports an error; BrokenPipeError if the reader is gone.
        TypeError: `data` has no buffer (encode a str first), or is not contiguous; or `file` is not a file, or buffers
            its data.

    Example:
        A Write that does not fit is cut short by a timeout:

        >>> import socket
        >>> from minisched import Cancelled, MoveOnAfter, Write, run
        >>> def main(near, far):
        ...     with near, far, (yield MoveOnAfter(0.01)):
        ...         print((yield Write(near, b"hello")))
        ...         try:
        ...             yield Write(near, bytes(100_000_000))
        ...         except Cancelled as cancelled:
        ...             print(0 < cancelled.written < 100_000_000)
        ...             raise
        >>> run(main(*socket.socketpair()))
        5
        True
    """

    __slots__ = ("data",)
    direction = WRITE
    in_steps = True

    def __init__(self, file: FileLike | Any, data: Bytes) -> None:
        self.file = file
        self.data = data

    def handle(self, kernel: Kernel, task: Task) -> int | None:
        file, data = self.file, self.data
        if type(data) is not bytes:
            data = bytes_of(data)
        try:
            state = file.file_state
        except AttributeError:  # not a file-like
            file = kernel.service(BorrowedFiles).wrap(without_tls(file, "Write"))
            state = file.file_state
        if state.writer is not None:
            raise busy(file, WRITE)
        # Copy for speed of `PendingWrite.try_once`: gains about 12 % of the user CPU instructions of `echo_100x1KB`.
        # It makes no PendingWrite for bytes that fit at once, as they mostly do.
        try:
            written = file.try_write(data)
        except BlockingIOError as error:
            written, waits_for = taken(error), getattr(error, "wants", WRITE)
            state.crosses = state.crosses or waits_for != WRITE
        else:
            state.used = True
            if written == len(data):
                return written
            waits_for = WRITE
        pending = self.pending(kernel, file, data, written, waits_for)
        kernel.park(task, pending)
        return pending.wait(task)

    def begin(self, kernel: Kernel) -> PendingWrite:
        data = bytes_of(self.data)
        file = usable(kernel, self.file, "Write")
        if file.file_state.writer is not None:
            raise busy(file, WRITE)
        return self.pending(kernel, file, data)

    def pending(
        self, kernel: Kernel, file: FileLike, data: Bytes, written: int = 0, waits_for: int = WRITE
    ) -> PendingWrite:
        """Return the state of the Write while it waits."""
        return PendingWrite(kernel, file, data, written, waits_for)

    def try_once(self, file: FileLike) -> int:
        """Not used: `begin` returns a PendingWrite, which counts the bytes that are written."""
        raise NotImplementedError

    def __repr__(self) -> str:
        try:
            what = f"{memoryview(self.data).nbytes} bytes"
        except TypeError:
            what = type(self.data).__name__
        return f"Write({describe(self.file)}, {what})"


class WaitReadable(FileOperation[None]):
    """Wait until `file` can be read without blocking.

    Readiness or a close wakes the task. A file at its end or a broken connection is ready: the read then reports it. A
    regular file is always readable. The wait takes nothing from the file. Another task may read first, so the read
    itself may still block: `Read` has no such gap.

    Args:
        file: a file as for `Read`.

    Raises:
        BusyError: another task waits to read this file.
        ClosedError: the file is closed, now or while the task waits.
        OSError: the file can't be polled.
        TypeError: the object is not a file.

    Example:
        >>> import socket
        >>> from minisched import WaitReadable, run
        >>> def main(near, far):
        ...     with near, far:
        ...         far.send(b"x")
        ...         yield WaitReadable(near)
        ...         return near.recv(1)
        >>> run(main(*socket.socketpair()))
        b'x'
    """

    __slots__ = ()

    def wait_first(self, file: FileLike) -> bool:
        return True

    def open(self, kernel: Kernel) -> FileLike:
        return as_file(kernel, self.file)

    def try_once(self, file: FileLike) -> None:
        """Note that the file is ready, so that its connection does not count as idle."""
        file.file_state.used = True


class WaitWritable(WaitReadable):
    """Wait until `file` can be written to without blocking.

    Readiness or a close wakes the task. A broken connection is ready: the write then reports it. A regular file is
    always writable. The wait writes nothing.

    Args:
        file: a file as for `Write`.

    Raises:
        BusyError: another task waits to write to this file.
        ClosedError: the file is closed, now or while the task waits.
        OSError: the file can't be polled.
        TypeError: the object is not a file.

    Example:
        >>> import socket
        >>> from minisched import WaitWritable, run
        >>> def main(near, far):
        ...     with near, far:
        ...         yield WaitWritable(near)
        ...         return near.send(b"hello")
        >>> run(main(*socket.socketpair()))
        5
    """

    __slots__ = ()
    direction = WRITE


class Close(Syscall[None]):
    """Close a file, and wake the tasks that wait for it with ClosedError.

    The call is not a checkpoint: a cancelled task can close a file, too. `file.close()` and `with file:` do the same
    for a `Socket`. For a file descriptor, Close is the only way to close it that wakes its waiters at once. Closing a
    closed file does nothing.

    Args:
        file: a file as for `Read`.

    Raises:
        OSError: the file descriptor is not open. This is not ignored, since it could belong to another file by now.
        TypeError: the object is not a file.

    Example:
        >>> import os
        >>> from minisched import Close, ClosedError, Read, Spawn, Join, run
        >>> def reads(fd):
        ...     yield Read(fd, 1)
        >>> def main():
        ...     reader, writer = os.pipe()
        ...     task = yield Spawn(reads(reader), keep=True)
        ...     yield
        ...     yield Close(reader)
        ...     yield Close(writer)
        ...     try:
        ...         yield Join(task)
        ...     except ClosedError as error:
        ...         return str(error).replace(str(reader), "N")
        >>> run(main())
        "file N was closed while task 'reads' waited for it"
    """

    __slots__ = ("file",)
    checkpoint = False

    def __init__(self, file: FileLike | Any) -> None:
        self.file = file

    def handle(self, kernel: Kernel, task: Task) -> None:
        try:
            file = as_file(kernel, self.file)
        except ClosedError:
            return
        _ = file.close()

    def __repr__(self) -> str:
        return f"Close({describe(self.file)})"


def usable(kernel: Kernel, file: Any, call: str) -> FileLike:
    """Return `file`, wrapped if it is not a file-like; TypeError for a TLS connection of another library."""
    return file if hasattr(file, "file_state") else kernel.service(BorrowedFiles).wrap(without_tls(file, call))


def bytes_of(data: object, call: str = "Write") -> Bytes:
    """Return the bytes of an object with a buffer, without a copy where its format allows that."""
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{call} takes bytes, not {type(data).__name__}; a str is encoded first") from None
    if not view.c_contiguous:
        raise TypeError(
            f"{call} takes bytes that are contiguous, and this memoryview is not contiguous: pass bytes(view)"
        )
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a length of 0 in one of several dimensions, or a format with a byte order
        return view.tobytes()


def taken(error: BlockingIOError) -> int:
    """Return the number of bytes that a file has taken, and still has to send."""
    return getattr(error, "characters_written", 0)  # the attribute is missing unless it has been set


class PendingRead(PendingIO):
    """A Read that waits."""

    __slots__ = ("size",)
    direction = READ

    def __init__(self, kernel: Kernel, file: FileLike, size: int, waits_for: int = READ) -> None:
        self.kernel = kernel
        self.file = file
        self.size = size
        self.waits_for = waits_for

    def try_once(self) -> bytes:
        """Read the available bytes; a short read has drained the file."""
        file, size = self.file, self.size
        state = file.file_state
        state.used = True  # even if the bytes are gone again: the file was ready
        data = file.try_read(size)
        state.drained = len(data) < size
        return data


class PendingWrite(PendingIO):
    """A Write that waits: each try writes more, and the last one returns."""

    __slots__ = ("data", "written")
    direction = WRITE

    def __init__(self, kernel: Kernel, file: FileLike, data: Bytes, written: int = 0, waits_for: int = WRITE) -> None:
        self.kernel = kernel
        self.file = file
        self.data = data
        self.written = written
        self.waits_for = waits_for

    def try_once(self) -> int:
        """Write what fits; raise BlockingIOError if that is not all, since the file is full then."""
        self.file.file_state.used = True
        rest = memoryview(self.data)[self.written :] if self.written else self.data
        try:
            self.written += self.file.try_write(rest)
        except BlockingIOError as error:
            self.written += taken(error)
            raise
        if self.written < len(self.data):
            raise BlockingIOError
        return self.written

    def progress(self) -> int:
        """Return how many bytes were written."""
        return self.written
