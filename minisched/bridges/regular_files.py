"""Regular files: reads and writes at a position (Read, Write) and at an offset (ReadAt, WriteAt), and Sync.

Theory of operation. A poll says nothing about a regular file: it is always "ready", even if a read has to wait for the
disk. So a read first asks for what is in the page cache (`preadv` with RWF_NOWAIT, Linux), which costs no thread, and
only a read that would wait is made in a thread of the run's pool. So is each write. A `RegularFile` is a file-like: its
`try_read` raises BlockingIOError in place of waiting for the disk, its `watch` starts the thread, and `try_read` is
called again with the outcome. So Read and Write work as on a socket, also in `select` and below a `FileWrapper`.

Discussion. How can the counts of a cancelled task be exact, if a thread can't be stopped? A read in a thread (`pread`)
does not move the position of the file, which is a field of the object. The position moves when the bytes are
delivered, so a read that is given up has moved nothing. A write can't be taken back. So it goes out in pieces of
MAX_PIECE_BYTES, and while a piece is in its thread the wait has no undo: a cancellation or a close takes effect when
the piece is done. By then the number of bytes is known. In a `select`, a Write wins as soon as it has begun.

Invariants:
1. A descriptor is not closed while a thread uses it: the last thread closes it.
2. The position moves only in the run's thread, together with the delivery of bytes or of a count.

Decision: Read and Write share one position, so that a Read during another task's Write raises BusyError, and the other
way round; ReadAt and WriteAt have no position, and any number may be made at once.
Because: otherwise the speed of a thread would decide which bytes a Read gets. Rejected: a queue of operations.

Decision: each write takes a thread. Because: ext4 and tmpfs refuse RWF_NOWAIT for writes, and a plain write waits for
the disk as soon as too many pages are dirty. Rejected: writing small pieces in the run's thread.

Decision: `close` closes in the run's thread, unless another thread uses the file. Because: so the descriptor is free
when the block is left. Rejected: a thread for it; its error (of a network file system) would be lost.

Not here: opening (`opening`); whole files (`whole_files`); FIFOs, terminals and devices (`io/opened`).
"""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock
from functools import partial
from io import UnsupportedOperation

from ..errors import Cancelled, ClosedError
from ..io._selectors2 import READ, WRITE, NotPollable
from ..io.disk import MAX_PIECE_BYTES, append_piece, at_end, read_all, read_cached, read_piece, write_all, write_piece
from ..io.filelike import CLOSED_WAITER, describe
from ..io.files import LARGEST_READ_BYTES, WaitReadable, bytes_of
from ..io.nonblocking import busy
from ..io.nowait import MAX_READ_BYTES
from ..io.opened import OpenedFile
from ..kernel.numbers import check_count
from ..kernel.waiting import NOT_YET, commit, task_of
from .threads import FutureOperation, Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from io import FileIO
    from typing import Any, TypeVar

    from ..io.filelike import Bytes, PendingOperation
    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter

    Result = TypeVar("Result")


class RegularFile(OpenedFile):
    """A regular file, or a disk, that `Open` has opened. `Read`, `Write`, `ReadAt`, `WriteAt` and `Sync` use it.

    `with file:` or `file.close()` closes it. A task that waits for a Read of it then gets ClosedError at once; a Write
    ends after the piece that is being written. A ReadAt, WriteAt or Sync that has begun is completed.

    Attributes:
        position: where the next Read or Write begins, in bytes; a program may set it. In mode "a", each Write appends.

    Example:
        >>> from minisched import Open, Read, run
        >>> def main():
        ...     with (yield Open("/dev/null")) as null:
        ...         return (yield Read(null, 10))
        >>> run(main())
        b''
    """

    def __init__(self, raw: FileIO) -> None:
        super().__init__(raw)
        self.appends = "a" in raw.mode
        self.position: int = raw.tell()
        self.lock = allocate_lock()  # for `users` and `closed`, which threads use, too
        self.users = 0  # calls in threads that use the descriptor
        self.reading: ThreadCall | None = None  # of the Read that waits
        self.wanted_size = 0  # of the last `try_read` that would have had to wait
        self.wanted_data: memoryview | None = None  # of the last `try_write`
        self.outcome: Any = None  # of the call in a thread: a result and the new position, or an exception

    # The methods of a file-like.

    def try_read(self, size: int) -> bytes:
        """Return bytes at the position that are in memory; raise BlockingIOError if a thread has to read them."""
        if self.outcome is not None:
            return self._take_outcome()
        self._check("reading", self.raw.readable(), self.file_state.writer, WRITE)
        data = self.cached(size, self.position)
        if data is None:
            self.wanted_size = size
            raise BlockingIOError(errno.EAGAIN, f"{self.label} has to be read in a thread")
        self.position += len(data)
        return data

    def try_write(self, data: Bytes) -> int:
        """Raise BlockingIOError, since a thread has to write; return the outcome of the thread."""
        if self.outcome is not None:
            return self._take_outcome()
        self._check("writing", self.raw.writable(), self.file_state.reader, READ)
        if data:
            self.wanted_data = memoryview(data)
            raise BlockingIOError(errno.EAGAIN, f"{self.label} has to be written in a thread")
        return 0

    def _check(self, doing: str, possible: bool, other: PendingOperation | None, direction: int) -> None:
        """Raise an error if the mode forbids the operation, or if it would move the position of another one."""
        if other is not None:
            raise busy(self, direction)
        if not possible:
            raise UnsupportedOperation(f"{self.label} is not open for {doing}: its mode is {self.mode!r}")

    def _take_outcome(self) -> Any:
        outcome, self.outcome = self.outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        result, self.position = outcome
        return result

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation) -> None:
        """Let a thread do what the last try would have had to wait for, and let `operation` try again then."""
        size, self.wanted_size = self.wanted_size, 0
        data, self.wanted_data = self.wanted_data, None
        if not (size or data) or isinstance(getattr(operation, "call", None), WaitReadable):
            raise NotPollable(errno.EPERM, f"{self.label} is always ready")
        for taken in (READ, WRITE):
            if self.file_state.waiter_for(taken) is not None:
                raise busy(self, taken)
        call = ThreadCall(self, direction, operation, data)
        if direction == READ:
            start = partial(self.in_thread, kernel, read_piece, size, self.position)
            call.undo = kernel.service(Threads).begin(call, start, on_file=True)
            self.file_state.reader, self.reading = operation, call
            return
        assert data is not None
        if call.task.scope.effective is not None:  # the task was cancelled while the last piece was in its thread
            cancel_now(kernel, call.task)
            return
        piece = data[:MAX_PIECE_BYTES]
        work = (append_piece, piece) if self.appends else (write_piece, piece, self.position)
        _ = kernel.service(Threads).begin(call, partial(self.in_thread, kernel, *work), on_file=True)
        self.file_state.writer = operation
        cannot_be_undone(call.waiter)

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Give up a Read. A Write that is given up is between two pieces, and has nothing in a thread."""
        if direction == READ and self.reading is not None:
            reading, self.reading = self.reading, None
            self.file_state.reader = None
            reading.give_up()

    def close(self) -> None:
        """Close the file, as soon as no thread uses it. Closing it again does nothing."""
        with self.lock:
            closes, self.closed = not self.closed and not self.users, True
        state, reading = self.file_state, self.reading
        self.reading = None
        state.reader = state.writer = CLOSED_WAITER
        self.close_descriptor(closes)
        if reading is not None:
            reading.give_up()
            reading.operation.closed()

    def close_descriptor(self, now: bool) -> None:
        """Close the descriptor `now`, or let the last thread do that."""
        if now:
            self.raw.close()

    def cached(self, size: int, offset: int) -> bytes | None:
        """Return bytes that are in memory; None if a thread has to read them."""
        return read_cached(self.fd, size, offset)

    def ends_at(self, offset: int) -> bool:
        """Return whether the file ends at `offset` or before."""
        return at_end(self.fd, offset)

    def status(self) -> tuple[tuple[int, int], int]:
        """Return the device and inode, and the size in bytes."""
        return identity_and_size(os.fstat(self.fd))

    def in_thread(self, kernel: Kernel, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Call `function(fd, *args)`, of `io/disk`, in a thread of the run's pool, and keep the descriptor open."""
        pool = kernel.service(Threads).pool
        with self.lock:
            if self.closed:
                raise ClosedError(f"the {self.label.removeprefix('closed ')} is closed")
            self.users += 1
        try:
            future = pool.submit(partial(function, self.fd, *args))
        except BaseException:
            self._give_back()
            raise
        future.add_done_callback(self._give_back)
        return future

    def _give_back(self, future: object = None) -> None:
        with self.lock:
            self.users -= 1
            closes = self.closed and not self.users
        if closes:
            self.raw.close()


def identity_and_size(status: os.stat_result) -> tuple[tuple[int, int], int]:
    """Return the device and inode of a file, and its size in bytes."""
    return (status.st_dev, status.st_ino), status.st_size


class ThreadCall:
    """The call in a thread that a Read or a Write waits for: the waiter of its future."""

    __slots__ = ("data", "direction", "file", "operation", "task", "undo", "undo_of_task", "waiter")

    def __init__(self, file: RegularFile, direction: int, operation: Any, data: memoryview | None) -> None:
        self.file = file
        self.direction = direction
        self.operation = operation
        self.data = data  # of a Write: its first piece goes out
        self.waiter: Waiter = operation.waiter
        self.task: Task = task_of(self.waiter)
        self.undo_of_task = self.task.undo
        self.undo: Callable[[], object] = nothing

    def give_up(self) -> None:
        """End the wait of a Read; the bytes of its thread are dropped."""
        undo, self.undo = self.undo, nothing  # the undo refers to this object: leave no cycle
        _ = undo()

    def resume(self, value: Any) -> None:
        """Let the operation try again, with the outcome of the thread. A Write may begin its next piece at once."""
        file, state, self.undo = self.file, self.file.file_state, nothing
        if self.direction == READ:
            state.reader = file.reading = None
        else:
            if state.writer is self.operation:  # the file is not closed
                state.writer = None
            self.task.undo = self.undo_of_task
        file.outcome = value
        if self.data is not None and not isinstance(value, BaseException):
            file.wanted_data = self.data[value[0] :]
        self.operation.ready()
        file.outcome = file.wanted_data = None

    def throw(self, error: BaseException) -> None:
        """Let the operation try again, and raise the error of the thread."""
        self.resume(error)

    def commit(self) -> None:
        """Do nothing: a Write has committed its own waiter."""


def nothing() -> None:
    """The undo of a wait that has ended."""


def cancel_now(kernel: Kernel, task: Task) -> None:
    """Wake a parked task with the Cancelled that could not reach it while its wait had no undo."""
    done = kernel.undo_wait(task)
    kernel.throw(task, Cancelled(*(task.scope.effective or (None, None)), done))


def cannot_be_undone(waiter: Waiter) -> None:
    """Let the call of this waiter win, and let a cancellation of its task wait until the call is done."""
    commit(waiter)
    task_of(waiter).undo = None


class ReadAt(FutureOperation[bytes]):
    """Read `size` bytes at `offset`, without a position.

    The end of the call wakes the task. Bytes in the page cache cost no thread on Linux. Any number of tasks may read
    one file at once. A cancellation ends the wait at once.

    Args:
        file: the answer of an Open of a regular file.
        size: the number of bytes, 1 or more. A number above 1 GiB counts as that.
        offset: the first byte, from 0.

    Returns:
        The bytes; fewer only at the end of the file, and b"" behind it.

    Raises:
        ClosedError: the file is closed.
        OSError: the operating system reports an error, or the file is not open for reading.
        TypeError: the file is not a regular file that Open has opened; or a number is not an integer.
        ValueError: `size` is less than 1, or `offset` less than 0.

    Example:
        >>> from minisched import Open, ReadAt, run
        >>> def main():
        ...     with (yield Open(__import__("os").__file__)) as file:
        ...         return (yield ReadAt(file, 2, 1))
        >>> run(main())
        b'""'
    """

    __slots__ = ("file", "offset", "size")
    abandon = True
    on_file = True

    def __init__(self, file: RegularFile | Any, size: int, offset: int) -> None:
        self.file = file
        self.size = size
        self.offset = offset

    def _checked(self) -> tuple[RegularFile, int, int]:
        file = regular("ReadAt", self.file)
        if not file.raw.readable():
            raise UnsupportedOperation(f"{file.label} is not open for reading: its mode is {file.mode!r}")
        size = check_count("ReadAt", "size", "bytes", self.size, least=1)
        return file, min(size, LARGEST_READ_BYTES), check_count("ReadAt", "offset", "bytes", self.offset)

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        file, size, offset = self._checked()
        data = file.cached(size, offset) if size <= MAX_READ_BYTES else None
        if data is None or (len(data) < size and not file.ends_at(offset + len(data))):
            return NOT_YET
        return data

    def handle(self, kernel: Kernel, task: Task) -> bytes | None:
        data = self.try_now(kernel, task)
        return super().handle(kernel, task) if data is NOT_YET else data

    def start(self, kernel: Kernel, task: Task) -> Future[bytes]:
        file, size, offset = self._checked()
        return file.in_thread(kernel, read_all, size, offset)

    def __repr__(self) -> str:
        return f"ReadAt({describe(self.file)}, {self.size}, {self.offset})"


class WriteAt(FutureOperation[int]):
    """Write all of `data` at `offset`, without a position, in another thread.

    The last byte or an error wakes the task. Any number of tasks may write to one file at once. A cancelled task waits
    until its data are written, gets the result, and is cancelled at its next checkpoint. As a branch of `select`, the
    call wins as soon as it has begun.

    Args:
        file: the answer of an Open of a regular file, not in mode "a".
        data: bytes, or another object with a buffer.
        offset: where the first byte goes, from 0. A gap behind the end of the file is filled with zeros.

    Returns:
        The length of `data` in bytes.

    Raises:
        ClosedError: the file is closed.
        OSError: the operating system reports an error, such as ENOSPC, when a part may be written; or the file is not
            open for writing, or appends.
        TypeError: the file is not a regular file that Open has opened; `data` has no buffer; or `offset` is not an
            integer.
        ValueError: `offset` is less than 0.

    Example:
        >>> import tempfile
        >>> from minisched import Open, ReadAt, WriteAt, run
        >>> def main(path):
        ...     with (yield Open(path, "w+")) as file:
        ...         yield WriteAt(file, b"there", 6)
        ...         yield WriteAt(file, b"hello", 0)
        ...         return (yield ReadAt(file, 100, 0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/greeting"))
        b'hello\\x00there'
    """

    __slots__ = ("data", "file", "offset")
    on_file = True

    def __init__(self, file: RegularFile | Any, data: Bytes, offset: int) -> None:
        self.file = file
        self.data = data
        self.offset = offset

    def start(self, kernel: Kernel, task: Task) -> Future[int]:
        file = regular("WriteAt", self.file)
        if file.appends or not file.raw.writable():
            raise UnsupportedOperation(f"{file.label} can't be written at an offset: its mode is {file.mode!r}")
        offset = check_count("WriteAt", "offset", "bytes", self.offset)
        return file.in_thread(kernel, write_all, bytes_of(self.data), offset)

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        undo = super().add_waiter(kernel, waiter)
        cannot_be_undone(waiter)
        return undo

    def __repr__(self) -> str:
        return f"WriteAt({describe(self.file)}, {len(memoryview(self.data))} bytes, {self.offset})"


class Sync(FutureOperation[None]):
    """Wait until the disk has what was written to a file (`fsync`), in another thread.

    The end of the call wakes the task. A cancelled task waits for it, and is cancelled at its next checkpoint.

    Args:
        file: the answer of an Open of a regular file.

    Raises:
        ClosedError: the file is closed.
        OSError: the operating system reports an error: data may be lost, also data of earlier writes.
        TypeError: the file is not a regular file that Open has opened.

    Example:
        >>> import tempfile
        >>> from minisched import Open, Sync, Write, run
        >>> def main(path):
        ...     with (yield Open(path, "x")) as file:
        ...         yield Write(file, b"entry")
        ...         yield Sync(file)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/journal"))
    """

    __slots__ = ("file",)
    on_file = True

    def __init__(self, file: RegularFile | Any) -> None:
        self.file = file

    def start(self, kernel: Kernel, task: Task) -> Future[None]:
        file = regular("Sync", self.file)
        return file.in_thread(kernel, os.fsync)

    def __repr__(self) -> str:
        return f"Sync({describe(self.file)})"


def regular(call: str, file: Any) -> RegularFile:
    """Return the file; raise TypeError if it is not a regular file that Open has opened, or ClosedError."""
    if not isinstance(file, RegularFile):
        raise TypeError(f"{call} takes a regular file that Open has opened, not {describe(file)}")
    if file.closed:
        raise ClosedError(f"the {file.label.removeprefix('closed ')} is closed")
    return file
