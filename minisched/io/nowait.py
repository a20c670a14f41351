"""Reads and writes that never wait, for a descriptor in whatever mode it is.

Theory of operation. A descriptor that is shared with another process may be in blocking mode, and has to stay so,
since the mode is shared too. A poll that says "ready" does not make a read safe: another task or process with the
same pipe may take the bytes in between, and the read would then hold up the event loop. So the operating system is
asked not to wait for this one call. There are four ways, and the first that applies is used:

1. `preadv` and `pwritev` with RWF_NOWAIT. Linux has it for pipes, sockets and eventfds.
2. `recv` and `send` with MSG_DONTWAIT, for a socket.
3. A plain read or write, if the descriptor is in non-blocking mode.
4. A FIFO or a terminal is opened again, by its name in /proc, for this call. The new open file has a mode of its own,
   which is non-blocking.

Everything else is polled for zero seconds immediately before the call, and a write has at most as many bytes as then
fit. In one process nothing comes between the poll and the call, unless another thread uses the same file.

Invariants:
1. No call changes the mode of an open file that it was given.
2. A call that would wait raises BlockingIOError. Two windows remain, each of some microseconds. The first is between
   that poll and the call: another process takes the bytes, or the room. This concerns systems other than Linux, and
   on Linux the files without any of the four ways: the controlling end of a pseudo-terminal, FIFOs and terminals that
   this process may not open, inotify, and other devices. The second is between the question for the mode in
   way 3 and the call: another process sets the file to blocking mode, and takes the bytes.
3. Regular files, directories and disks are used plainly: the operating system does not count their delay as waiting.

Decision: FIFOs and terminals are opened again for each call.
Because: two processes that wait for one FIFO wake at the same moment, so that the window after a poll is often hit.
Rejected: setting non-blocking mode for the call, which every process that shares the file would see; opening the
controlling end of a pseudo-terminal again, which makes another pseudo-terminal; opening other devices again, where
each opening may be another instance, as it is of a network tunnel; keeping the new open file for later calls, because a
borrowed descriptor can be closed and reused without notice.

Not here: waiting until the file is ready (`nonblocking`); the objects that Read and Write accept (`borrowed`); regular
files that `Open` has opened, whose reads try `read_nowait` and then a thread (`bridges/regular_files`).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .filelike import Bytes

NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # 0: the operating system has no such flag
DONTWAIT: int = getattr(socket, "MSG_DONTWAIT", 0)
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe takes without blocking once it is ready
MAX_READ_BYTES = 1 << 20  # of one read with RWF_NOWAIT, whose buffer is cleared first: the largest pipe has as many
UNSUPPORTED_ERRNOS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ESPIPE)  # of RWF_NOWAIT
TERMINAL_BYTES = 256  # a terminal takes as many without blocking once it is ready
CONTROLLING_END = os.makedev(5, 2) if hasattr(os, "makedev") else None  # the device number of /dev/ptmx on Linux


def read_now(fd: int, size: int, mode: int) -> bytes:
    """Return the bytes of a descriptor, b"" at the end; raise BlockingIOError if there are none yet.

    Args:
        fd: the descriptor.
        size: the most bytes to return.
        mode: its `st_mode`, as `os.fstat` reports it.
    """
    if waits_never(mode):
        return os.read(fd, size)
    data = read_nowait(fd, size, -1)
    if data is not None:
        return data
    if stat.S_ISSOCK(mode):
        with duplicate(fd) as sock:
            return sock.recv(size, DONTWAIT)
    return call_now(fd, mode, os.O_RDONLY, lambda number, _: os.read(number, size))


def read_nowait(fd: int, size: int, offset: int) -> bytes | None:
    """Return what a read with RWF_NOWAIT returns; None if there is no such read, of the system or of this file.

    Raises BlockingIOError if the read would wait: for a pipe, or for the disk.

    Args:
        fd: the descriptor.
        size: the most bytes to return. No more than MAX_READ_BYTES are returned.
        offset: where to read; -1 reads at the position of the open file, as pipes need it.
    """
    if not NOWAIT:
        return None
    buffer = bytearray(min(size, MAX_READ_BYTES))
    try:
        count = os.preadv(fd, [buffer], offset, NOWAIT)
    except OSError as error:
        if error.errno in UNSUPPORTED_ERRNOS:
            return None
        raise
    return bytes(memoryview(buffer)[:count])


def write_now(fd: int, data: Bytes, mode: int) -> int:
    """Write what fits and return how many bytes that was; raise BlockingIOError if nothing fits."""
    if waits_never(mode):
        return os.write(fd, data)
    if NOWAIT:
        try:
            return os.pwritev(fd, [data], -1, NOWAIT)
        except OSError as error:
            if error.errno not in UNSUPPORTED_ERRNOS:
                raise
    if stat.S_ISSOCK(mode):
        with duplicate(fd) as sock:
            return sock.send(data, DONTWAIT)
    return call_now(fd, mode, os.O_WRONLY, lambda number, safe: os.write(number, data if safe else piece(number, data)))


def waits_never(mode: int) -> bool:
    """Return whether the operating system counts such a file as always ready."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode)


def duplicate(fd: int) -> socket.socket:
    """Return a socket object for a duplicate of `fd`, to be closed; the mode stays, even with a default timeout."""
    kind = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)  # `recv` and `send` need not know the real kind
    number = os.dup(fd)
    try:
        return socket.socket(socket.AF_INET, kind, 0, number)
    except BaseException:
        os.close(number)
        raise


def call_now(fd: int, mode: int, access: int, call: Callable[[int, bool], Any]) -> Any:
    """Return `call(number, safe)`: `number` does not block if `safe`, and else was reported as ready just before."""
    if not os.get_blocking(fd):
        return call(fd, True)
    again = reopened(fd, mode, access)
    if again is None:
        require_ready(fd, access)
        return call(fd, False)
    try:
        return call(again, True)
    finally:
        os.close(again)


def reopened(fd: int, mode: int, access: int) -> int | None:
    """Return a new descriptor of the same FIFO or terminal, in non-blocking mode; None if that is not possible."""
    if sys.platform != "linux" or not (stat.S_ISFIFO(mode) or is_terminal(fd, mode)):
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # no /proc, no permission, no descriptor left, or a FIFO without a reader
        return None


def is_terminal(fd: int, mode: int) -> bool:
    """Return whether `fd` is a terminal that can be opened again, which a controlling end can't."""
    return stat.S_ISCHR(mode) and os.isatty(fd) and os.fstat(fd).st_rdev != CONTROLLING_END


def require_ready(fd: int, access: int) -> None:
    """Raise BlockingIOError if a poll of zero seconds does not report the descriptor."""
    if not hasattr(select, "poll"):
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLPRI if access == os.O_RDONLY else select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def piece(fd: int, data: Bytes) -> Bytes:
    """Return the start of `data` that fits into a file which a poll has just reported as writable."""
    if not os.isatty(fd):
        return data[:PIPE_BUF]
    start = data[:TERMINAL_BYTES]
    if os.fstat(fd).st_rdev == CONTROLLING_END:  # the system does not process these bytes
        return start
    length = 0
    for byte in start:
        if byte < ord(" "):
            break
        length += 1
    return start[: max(length, 1)]  # a control character may need more room: it goes alone
