"""Reading, writing and closing: sockets, pipes, file numbers, and whatever behaves like one.

Theory of operation. A file-like of ours has `try_read(size)`, which returns bytes (b"" at the end)
or raises BlockingIOError, `try_write(data)`, which returns a count, and says how to wait:
`busy(kernel, direction)` and `watch(kernel, direction, waiter)`, which calls `waiter.ready()` when
it is worth trying again, and returns the undo. Read and Write try first; what would block becomes
an `Attempt`, the waiter, which tries again each time it is told. So the bytes have left the
operating system only when they are on their way to the task: a cancelled Read loses nothing.

Anything else with a `fileno()`, or a number, is wrapped for the one call (`foreign`).

Invariants:
1. A second task that waits for the same direction of a file gets BusyError, before it tries.
2. A read or write that was cancelled has taken nothing, or says what (`Cancelled.written`).

Not here: opening regular files, which needs a thread; buffers.
"""

from __future__ import annotations

from .errors import BusyError, ClosedError
from .foreign import Foreign, as_file, describe
from .kernel import Kernel, Syscall, Task
from .poller import READ, WRITE, Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .foreign import Bytes, File

DIRECTIONS = {READ: "read", WRITE: "write"}


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
        size = self.size
        if size < 1:
            raise ValueError(f"Read takes a size of 1 byte or more, not {size}: b'' means the end")
        file = as_file(self.file)
        return attempt(kernel, task, file, READ, Reading(file, size), wait_first=file.short)

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
        data = self.data
        if not isinstance(data, bytes):
            try:
                data = memoryview(data).cast("B")
            except TypeError:
                raise TypeError(f"Write takes bytes, not {type(data).__name__}; a str is encoded first") from None
        file = as_file(self.file)
        wait_first = isinstance(file, Foreign) and file.blocking
        return attempt(kernel, task, file, WRITE, Writing(file, data), wait_first=wait_first)

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
        file = as_file(self.file)
        attempt(kernel, task, file, self.direction, Waiting())

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
        if not hasattr(file, "try_read"):
            try:
                file = Foreign(file)
            except ClosedError:
                return
            entry = kernel.service(Poller).entries.get(file.fd)
            if entry is not None:
                kernel.service(Poller).drop(entry)
        _ = file.close()

    def __repr__(self) -> str:
        return f"Close({describe(self.file)})"


def attempt(
    kernel: Kernel, task: Task, file: File, direction: int, action: Callable[[], Any], *, wait_first: bool = False
) -> Any:
    """Return what `action()` returns; if it would block, park `task` until it does not.

    The building block of a syscall on files: `action` raises BlockingIOError as
    long as it would block, with `wants` set where that is for another direction
    than `direction`. The action is never cut: it happened, or it is cancelled.
    """
    if file.busy(kernel, direction):
        raise BusyError(f"another task waits to {DIRECTIONS[direction]} {describe(file)}; one at a time")
    wants = direction
    if not wait_first:
        try:
            return action()
        except BlockingIOError as error:
            wants = getattr(error, "wants", direction)
    waiter = Attempt(kernel, task, file, direction, action)
    try:
        waiter.wait(wants)
    except PermissionError:  # epoll's word for a regular file, which is always ready
        while True:
            try:
                return action()
            except BlockingIOError:
                pass  # it writes in pieces
    kernel.park(task, waiter)


class Attempt:
    """An action that waits for its file, and the undo of that wait."""

    __slots__ = ("action", "direction", "file", "kernel", "task", "unwatch", "waits")

    def __init__(self, kernel: Kernel, task: Task, file: File, direction: int, action: Callable[[], Any]) -> None:
        self.kernel = kernel
        self.task = task
        self.file = file
        self.direction = direction
        self.action = action
        self.waits: int  # for this direction, now
        self.unwatch: Callable[[], None]

    def wait(self, direction: int) -> None:
        """Ask to be told."""
        self.unwatch = self.file.watch(self.kernel, direction, self)
        self.waits = direction

    def ready(self) -> None:
        """Try again."""
        try:
            value = self.action()
        except BlockingIOError as error:
            wants = getattr(error, "wants", self.direction)
            if wants != self.waits:
                self._turn_to(wants)
        except BaseException as error:
            self.unwatch()
            self.kernel.throw(self.task, error)
        else:
            self.unwatch()
            self.kernel.resume(self.task, value)

    def _turn_to(self, direction: int) -> None:
        """Wait for the other direction."""
        self.unwatch()
        try:
            self.wait(direction)
        except Exception as error:
            self.kernel.throw(self.task, error)

    def closed(self) -> None:
        """End the wait: the file was closed."""
        text = f"{describe(self.file)} was closed while task {self.task.name!r} waited for it"
        self.kernel.throw(self.task, ClosedError(text))

    def __call__(self) -> object:
        """Undo the wait; return how far the action came."""
        self.unwatch()
        return getattr(self.action, "written", None)


class Reading:
    """The action of a Read. A short read has emptied the file: the next one waits before it tries.

    That saves the system call that would only say so: 2.0 calls a message of an
    echo server in place of 2.3 to 2.8.
    """

    __slots__ = ("file", "size")

    def __init__(self, file: File, size: int) -> None:
        self.file = file
        self.size = size

    def __call__(self) -> bytes:
        file = self.file
        data = file.try_read(self.size)
        file.short, file.active = len(data) < self.size, True
        return data


class Writing:
    """The action of a Write: each call writes on, and it returns once all is written."""

    __slots__ = ("data", "file", "written")

    def __init__(self, file: File, data: Bytes) -> None:
        self.file = file
        self.data = data
        self.written = 0

    def __call__(self) -> int:
        rest = memoryview(self.data)[self.written :] if self.written else self.data
        self.written += self.file.try_write(rest)
        self.file.active = True
        if self.written < len(self.data):
            raise BlockingIOError  # it took less than all: it is full
        return self.written


class Waiting:
    """The action of a WaitReadable: it would block, until the file is ready."""

    __slots__ = ("tried",)

    def __init__(self) -> None:
        self.tried = False

    def __call__(self) -> None:
        if not self.tried:
            self.tried = True
            raise BlockingIOError
