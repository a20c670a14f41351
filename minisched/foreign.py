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

from .errors import BusyError, ClosedError
from .kernel import Kernel
from .poller import Entry, Poller, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .poller import Waiter

    Bytes = bytes | bytearray | memoryview

    class File(Protocol):
        """What a file-like of ours offers. `short`: the last read took all there was; `active`: bytes came or went.

        `busy` says whether another task waits for a direction. `watch` raises
        BusyError then; else it calls `waiter.ready()` once, as soon as it is
        worth trying again, unless `unwatch` comes first, or `waiter.closed()`.
        """

        short: bool
        active: bool

        def try_read(self, size: int, /) -> bytes: ...
        def try_write(self, data: Bytes, /) -> int: ...
        def busy(self, kernel: Kernel, direction: int, /) -> bool: ...
        def watch(self, kernel: Kernel, direction: int, waiter: Waiter, /) -> None: ...
        def unwatch(self, kernel: Kernel, direction: int, /) -> None: ...
        def close(self) -> None: ...


DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)  # a pipe that is ready takes so much without blocking


class Foreign:
    """A file that is not ours, for the time of one call: a number, or anything with `fileno()`."""

    __slots__ = ("active", "blocking", "entry", "fd", "file", "short")

    def __init__(self, file: Any) -> None:
        if isinstance(file, (io.BufferedIOBase, io.TextIOBase)):
            raise TypeError(
                f"{file!r} has a buffer, which would be bypassed: pass its fileno(), or open it with buffering=0"
            )
        try:
            self.fd: int = file if isinstance(file, int) else file.fileno()
        except AttributeError:
            raise TypeError(f"{file!r} is not a file: no try_read, no fileno(), not a number") from None
        except ValueError:
            raise ClosedError(f"{file!r} is closed") from None
        if self.fd < 0:
            raise ClosedError(f"{file!r} is closed")
        self.entry: Entry  # while it is waited for
        self.file = file  # kept alive for as long as it is waited for
        timeout = file.gettimeout() if isinstance(file, socket.socket) else None  # Python waits so long in `recv`
        self.blocking = os.get_blocking(self.fd) or bool(timeout)
        self.short = self.blocking  # then no attempt may be made before the file is ready

    def busy(self, kernel: Kernel, direction: int) -> bool:
        poller = kernel.service(Poller)
        entry = poller.entries.get(self.fd)
        if entry is not None and entry.file is not None and entry.file != identity(self.fd):
            poller.drop(entry)  # it was closed behind our back, and the number is this file's now
            return False
        return entry is not None and bool(entry.wanted() & direction)

    def watch(self, kernel: Kernel, direction: int, waiter: Waiter) -> None:
        poller = kernel.service(Poller)
        if self.busy(kernel, direction):
            raise BusyError(f"another task waits for file {self.fd} already")
        self.entry = poller.entry(self.fd)
        poller.wait(self.entry, direction, waiter)

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


def as_file(file: Any) -> File:
    """Return `file` if it is one of ours, else wrap it. TypeError, ClosedError or OSError if it is no open file."""
    return file if hasattr(file, "try_read") else Foreign(file)


def describe(file: Any) -> str:
    """Return a short name of a file, for messages and traces."""
    if isinstance(file, Foreign):
        file = file.file
    if isinstance(file, int):
        return f"file {file}"
    return getattr(file, "label", None) or type(file).__name__
