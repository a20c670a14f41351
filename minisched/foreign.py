"""Files that are not ours: numbers, plain sockets, pipes, whatever has a `fileno()`.

Theory of operation. Such a file is wrapped for the time of one call, so that Read and Write find
what they expect of a file (`File`). A file that is in blocking mode stays so: it is waited for
first, and then read once, or written to in pieces that can't block.

Invariants:
1. No call on such a file blocks, and none changes its mode.
2. It is registered with the poller for one wait only.

Not here: the syscalls (`files`).
"""

from __future__ import annotations

import io
import os
import select
import socket

from .entries import Entry, identity
from .errors import ClosedError
from .kernel import Kernel
from .poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .entries import Waiter

    Bytes = bytes | bytearray | memoryview

    class File(Protocol):
        """What a file-like of ours offers; what has no `entry` is none.

        `watch` puts `waiter` into `entry` (`reader` or `writer`), or raises
        BusyError if there is one. It is taken out by `unwatch`, or as soon as it
        is worth trying again, and `waiter.ready()` called then; or by `close`,
        and `waiter.closed()` called; the entry of what is closed may be CLOSED.
        """

        entry: Entry

        def try_read(self, size: int, /) -> bytes: ...
        def try_write(self, data: Bytes, /) -> int: ...
        def watch(self, kernel: Kernel, direction: int, waiter: Waiter, /) -> None: ...
        def unwatch(self, kernel: Kernel, direction: int, /) -> None: ...
        def close(self) -> None: ...


DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)  # a pipe that is ready takes so much without blocking


class Foreign:
    """A file that is not ours, for the time of one call: a number, or anything with `fileno()`."""

    __slots__ = ("blocking", "entry", "fd", "file")

    def __init__(self, kernel: Kernel, file: Any) -> None:
        if isinstance(file, (io.BufferedIOBase, io.TextIOBase)):
            raise TypeError(
                f"{file!r} has a buffer, which would be bypassed: pass its fileno(), or open it with buffering=0"
            )
        if hasattr(file, "try_read"):
            raise TypeError(f"{file!r} has a try_read, but no entry: a file-like has a minisched.entries.Entry()")
        try:
            self.fd: int = file if isinstance(file, int) else file.fileno()
        except AttributeError:
            raise TypeError(f"{file!r} is not a file: no fileno(), not a number, no file-like with an entry") from None
        except ValueError:
            raise ClosedError(f"{file!r} is closed") from None
        if self.fd < 0:
            raise ClosedError(f"{file!r} is closed")
        self.file = file  # kept alive for as long as it is waited for
        timeout = file.gettimeout() if isinstance(file, socket.socket) else None  # Python waits so long in `recv`
        self.blocking = os.get_blocking(self.fd) or bool(timeout)
        self.entry = Entry(self.fd, lasting=False)  # this call's: who waits, as it is now, and its own `short`
        self.entry.short = self.blocking  # then no attempt may be made before the file is ready
        there = known(kernel, self.fd)
        if there is not None:
            self.entry.reader, self.entry.writer = there.reader, there.writer

    def watch(self, kernel: Kernel, direction: int, waiter: Waiter) -> None:
        poller = kernel.service(Poller)
        there = known(kernel, self.fd)  # now: another may have begun to wait
        if there is None or there.waiter(direction) is None:
            there = poller.entry(self.fd)
        poller.wait(there, direction, waiter)
        self.entry = there

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        kernel.service(Poller).forget(self.entry, direction)

    def try_read(self, size: int) -> bytes:
        if isinstance(self.file, socket.socket):
            return self.file.recv(size, DONTWAIT)
        return os.read(self.fd, size)

    def try_write(self, data: Bytes) -> int:
        if isinstance(self.file, socket.socket):
            return self.file.send(data, DONTWAIT)
        return os.write(self.fd, data[:PIPE_BUF] if self.blocking else data)

    def close(self) -> None:
        if isinstance(self.file, int):
            os.close(self.fd)
        else:
            self.file.close()


def known(kernel: Kernel, fd: int) -> Entry | None:
    """Return the entry by which a number is watched; None if it is not, or was for another file."""
    poller = kernel.service(Poller)
    entry = poller.entries.get(fd)
    if entry is not None and entry.file is not None and entry.file != identity(fd):
        poller.drop(entry)  # it was closed behind our back, and the number is another file's now
        return None
    return entry


def as_file(kernel: Kernel, file: Any) -> File:
    """Return `file` if it is one of ours, else wrap it. TypeError, ClosedError or OSError if it is no open file."""
    return file if hasattr(file, "entry") else Foreign(kernel, file)


def describe(file: Any) -> str:
    """Return a short name of a file, for messages and traces."""
    if isinstance(file, Foreign):
        file = file.file
    if isinstance(file, int):
        return f"file {file}"
    return getattr(file, "label", None) or type(file).__name__
