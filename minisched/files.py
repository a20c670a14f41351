"""Reading, writing and closing: sockets, pipes, file numbers, and whatever behaves like one.

Theory of operation. A file-like of ours has `try_read(size)`, which returns bytes (b"" at the end)
or raises BlockingIOError, `try_write(data)`, which returns a count, and says how to wait (`foreign`
has the protocol). Read and Write try first; what would block becomes an `Attempt`, the waiter, which
tries again when it is told. So the bytes have left the operating system only when they are on their
way to the task: a cancelled Read loses nothing.

Anything else with a `fileno()`, or a number, is wrapped for the one call (`foreign`).

Invariants:
1. A second task that waits for the same direction of a file gets BusyError, before it tries.
2. A read or write that was cancelled has taken nothing, or says what (`Cancelled.written`).

Not here: what waits (`attempts`); opening regular files, which needs a thread; buffers.
"""

from __future__ import annotations

from .attempts import Attempt, busy
from .errors import BusyError, ClosedError
from .foreign import Foreign, as_file, describe
from .kernel import Kernel, Syscall, Task
from .poller import READ, WRITE, Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .foreign import Bytes, File


class Read(Syscall[bytes]):
    """Read up to `size` bytes, as soon as there are any; b"" at the end.

    Raises OSError, BusyError if another task reads this file, ClosedError if
    it is closed meanwhile. Cancelled while it waits, it has taken nothing.
    """

    __slots__ = ("file", "size")
    world = True

    def __init__(self, file: File | Any, size: int) -> None:
        self.file = file
        self.size = size

    def handle(self, kernel: Kernel, task: Task) -> bytes | None:
        file, size = self.file, self.size
        if size < 1:
            raise ValueError(f"Read takes a size of 1 byte or more, not {size}: b'' means the end")
        try:
            entry = file.entry
        except AttributeError:  # it is none of ours
            file = Foreign(kernel, file)
            entry = file.entry
        if entry.reader is not None:
            raise busy(file, READ)
        waits = READ
        if not entry.short:
            try:
                data = file.try_read(size)
            except BlockingIOError as error:
                waits = getattr(error, "wants", READ)
            else:
                entry.short = len(data) < size
                entry.active = True
                return data
        reading = Reading()  # pyright: ignore[reportCallIssue]
        reading.task, reading.file = task, file
        reading.size, reading.waits = size, waits
        try:  # as `wait` has it: that, `Reading.ready` and `Socket.watch` save an echo server 6 % of its instructions
            _ = file.watch(kernel, waits, reading)
        except (BusyError, PermissionError):
            return reading.wait()
        kernel.park(task, reading)
        return None

    def __repr__(self) -> str:
        return f"Read({describe(self.file)}, {self.size})"


class Write(Syscall[int]):
    """Write all of `data`; return its length in bytes, once the operating system has them all.

    Raises OSError, BusyError, ClosedError as Read does. It takes many steps:
    cancelled midway, `Cancelled.written` says how many bytes went out.
    """

    __slots__ = ("data", "file")
    world = True

    def __init__(self, file: File | Any, data: Bytes) -> None:
        self.file = file
        self.data = data

    def handle(self, kernel: Kernel, task: Task) -> int | None:
        file, data = self.file, self.data
        if type(data) is not bytes:
            try:
                data = memoryview(data).cast("B")
            except TypeError:
                raise TypeError(f"Write takes bytes, not {type(data).__name__}; a str is encoded first") from None
        try:
            entry = file.entry
        except AttributeError:  # it is none of ours
            file = Foreign(kernel, file)
            entry = file.entry
            if file.blocking:
                return Writing(task, file, data).wait()
        if entry.writer is not None:
            raise busy(file, WRITE)
        try:
            written = file.try_write(data)
        except BlockingIOError as error:
            return Writing(task, file, data, waits=getattr(error, "wants", WRITE)).wait()
        entry.active = True
        if written == len(data):  # most often it is all, and there is nothing to be kept
            return written
        return Writing(task, file, data, written).wait()

    def __repr__(self) -> str:
        try:
            what = f"{memoryview(self.data).nbytes} bytes"
        except TypeError:
            what = type(self.data).__name__
        return f"Write({describe(self.file)}, {what})"


class WaitReadable(Syscall[None]):
    """Wait until `file` can be read without waiting (or is at its end, or broken)."""

    __slots__ = ("file",)
    world = True
    direction = READ

    def __init__(self, file: File | Any) -> None:
        self.file = file

    def handle(self, kernel: Kernel, task: Task) -> None:
        Waiting(task, as_file(kernel, self.file), self.direction).wait()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self.file)})"


class WaitWritable(WaitReadable):
    """Wait until `file` can be written to without waiting (or is broken)."""

    __slots__ = ()
    direction = WRITE


class Close(Syscall[None]):
    """Close a file; a task that waits for it gets ClosedError. Not a checkpoint.

    `file.close()` and `with file:` do the same for our sockets. Closing again does nothing (but a
    number that is not open is an OSError: it could have been somebody else's).
    """

    __slots__ = ("file",)
    checkpoint = False

    def __init__(self, file: File | Any) -> None:
        self.file = file

    def handle(self, kernel: Kernel, task: Task) -> None:
        file = self.file
        if not hasattr(file, "entry"):
            try:
                file = Foreign(kernel, file)
            except ClosedError:
                return
            entry = kernel.service(Poller).entries.get(file.fd)
            if entry is not None:
                kernel.service(Poller).drop(entry)
        _ = file.close()

    def __repr__(self) -> str:
        return f"Close({describe(self.file)})"


class Reading(Attempt):
    """A Read. A short one has emptied the file: the next one waits before it tries.

    That saves the system call that would only say so: 2.0 calls a message of an
    echo server in place of 2.3 to 2.8.
    """

    __slots__ = ("size",)
    direction = READ
    size: int
    # Who makes one sets the fields: to call an `__init__` takes as long as all the rest of a Read that waits.
    __init__ = object.__init__  # type: ignore[assignment]

    def action(self) -> bytes:
        """Read what there is."""
        file = self.file
        data = file.try_read(self.size)
        file.entry.short = len(data) < self.size
        file.entry.active = True
        return data

    def ready(self) -> None:
        """Try again, as the base class has it, in one call in place of two: see `Read`."""
        file, task = self.file, self.task
        try:
            data = file.try_read(self.size)
        except BlockingIOError as error:
            self._wait_again(getattr(error, "wants", READ))
        except BaseException as error:
            task.kernel.throw(task, error)
        else:
            entry = file.entry
            entry.short = len(data) < self.size
            entry.active = True
            task.kernel.resume(task, data)


class Writing(Attempt):
    """A Write: each attempt writes on, and it is done once all is written."""

    __slots__ = ("data", "written")
    direction = WRITE

    def __init__(self, task: Task, file: File, data: Bytes, written: int = 0, waits: int = WRITE) -> None:
        super().__init__(task, file)
        self.waits = waits
        self.data = data
        self.written = written

    def action(self) -> int:
        """Write what can be written; BlockingIOError if that is less than all: the file is full."""
        rest = memoryview(self.data)[self.written :] if self.written else self.data
        self.written += self.file.try_write(rest)
        self.file.entry.active = True
        if self.written < len(self.data):
            raise BlockingIOError
        return self.written

    def __call__(self) -> object:
        """Undo the wait; return how much was written."""
        self.file.unwatch(self.task.kernel, self.waits)
        return self.written


class Waiting(Attempt):
    """A WaitReadable: what is to be done is nothing, once the file is ready."""

    __slots__ = ("direction",)

    def __init__(self, task: Task, file: File, direction: int) -> None:
        self.direction = direction
        super().__init__(task, file)

    def action(self) -> None:
        """Do nothing."""
