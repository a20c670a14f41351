"""Borrowed files, which the scheduler does not own: file descriptors, plain sockets, pipes, anything with `fileno()`.

Theory of operation. A borrowed file is wrapped for one call, so that Read and Write find the methods of a file-like.
The wrapper does not own the file: it neither changes the mode of the file nor closes it. A file in blocking mode is
read and written by calls that do not wait (`nowait`).

Invariants:
1. No operation on a borrowed file blocks, but for the windows of `nowait`, and none changes its mode.
2. A borrowed descriptor is registered with the poller for one wait only.

Not here: the syscalls (`files`); calls that do not wait (`nowait`); descriptors that
were closed without notice (`stale`).
"""

from __future__ import annotations

import errno
import io
import os
import socket

from ..errors import ClosedError
from ..kernel import Service
from .filelike import describe
from .nowait import DONTWAIT, duplicate, read_now, require_ready, write_now
from .poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel import Kernel
    from .filelike import Bytes, FileLike, PendingOperation


class BorrowedFile:
    """The file-like that wraps a borrowed file during one call."""

    __slots__ = ("fd", "file", "file_state", "mode", "sock")
    short_read_means_empty = False  # another task or process may read and write the same file

    def __init__(self, kernel: Kernel, file: Any) -> None:
        self.fd = descriptor_of(file)
        self.file = file  # kept alive while a task waits for it
        self.mode = os.fstat(self.fd).st_mode
        self.sock = socket_of(file)
        self.file_state = kernel.service(Poller).borrow(self.fd)

    @property
    def label(self) -> str:
        """A short name, for messages and traces."""
        return describe(self.file)

    def watch(self, kernel: Kernel, direction: int, waiter: PendingOperation) -> None:
        kernel.service(Poller).add_waiter(self.file_state, direction, waiter)

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        kernel.service(Poller).remove_waiter(self.file_state, direction)

    def try_read(self, size: int) -> bytes:
        if self.sock is None:
            return read_now(self.fd, size, self.mode)
        if self.sock.gettimeout():
            require_ready(self.fd, os.O_RDONLY)
        return self.sock.recv(size, DONTWAIT)

    def try_write(self, data: Bytes) -> int:
        if self.sock is None:
            return write_now(self.fd, data, self.mode)
        if self.sock.gettimeout():
            require_ready(self.fd, os.O_WRONLY)
        return self.sock.send(data, DONTWAIT)

    def write_eof(self) -> None:
        """Say that no more bytes come; the file is a socket."""
        if isinstance(self.file, socket.socket):
            return shut_down(self.file)
        with duplicate(self.fd) as sock:
            return shut_down(sock)

    def close(self) -> None:
        self.unregister()
        self.close_descriptor()

    def unregister(self) -> None:
        """Let the poller forget the descriptor; a task that waits for it gets ClosedError."""
        poller = self.file_state.poller
        state = poller and poller.registered.get(self.fd)
        if poller is not None and state is not None:
            poller.drop(state)

    def close_descriptor(self) -> None:
        """Close the file itself."""
        if isinstance(self.file, int):
            os.close(self.file)
        else:
            self.file.close()


def shut_down(sock: socket.socket) -> None:
    """Say on a connected socket that no more bytes come; BrokenPipeError, as a write raises it, if the peer is gone."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None


def without_tls(file: Any, call: str) -> Any:
    """Return `file`; raise TypeError for a TLS connection of the `ssl` module, or of a library that is made like it."""
    if hasattr(file, "do_handshake"):
        raise TypeError(
            f"{call} can't use {type(file).__name__}, which decrypts bytes that no poll reports: "
            "make it from a Socket by start_tls(sock, context), which takes the same context"
        )
    return file


def descriptor_of(file: Any) -> int:
    """Return the file descriptor of `file`; raise TypeError, which says what to pass instead, or ClosedError."""
    if isinstance(file, (io.BufferedIOBase, io.TextIOBase)):
        raise TypeError(
            f"{file!r} has a buffer, which would be bypassed: pass its fileno(), or open it with buffering=0"
        )
    if hasattr(file, "try_read"):
        raise TypeError(
            f"{file!r} has a try_read, but no file_state: a file-like has one, FileState() of minisched.io.filelike"
        )
    try:
        fd: int = file if isinstance(file, int) else file.fileno()
    except AttributeError:
        raise TypeError(
            f"{file!r} is not a file: it has neither fileno() nor a file_state, and is not a file descriptor"
        ) from None
    except ValueError:
        fd = -1
    if fd < 0:
        raise ClosedError(f"{file!r} is closed")
    return fd


def socket_of(file: Any) -> socket.socket | None:
    """Return `file` if it is a socket that is used by its methods; None if by its descriptor.

    The `recv` of a socket with a timeout waits before it passes MSG_DONTWAIT on, so such a socket is used by its
    descriptor. A class with a `recv` of its own is always used by its methods, and polled first if it has a timeout.
    """
    if not isinstance(file, socket.socket):
        return None
    own_methods = type(file).recv is not socket.socket.recv or type(file).send is not socket.socket.send
    return file if own_methods or not file.gettimeout() else None


class BorrowedFiles(Service):
    """Wraps the borrowed files of a run: replaceable, as by a world that records what is read from them."""

    def wrap(self, file: Any) -> BorrowedFile:
        """Return the file-like for one call.

        Raises TypeError, ClosedError or OSError if `file` is not an open file.
        """
        return BorrowedFile(self.kernel, file)


def as_file(kernel: Kernel, file: Any) -> FileLike:
    """Return `file` itself if it is a file-like; otherwise wrap it."""
    return file if hasattr(file, "file_state") else kernel.service(BorrowedFiles).wrap(file)
