"""Reads and writes of regular files: from the page cache, and those that may wait for the disk.

Theory of operation. Linux answers a `preadv` with RWF_NOWAIT from the page cache, and refuses it if it would have to
wait for the disk (`read_cached`). All other functions of this module may wait, and are called in threads.

Invariants:
1. No function but `append_piece` uses the position of the open file, which all of its descriptors share.
   On a system without `pread` (Windows), they do, one call at a time.

Not here: the threads, and the position of a file (`bridges/regular_files`).
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from .nowait import read_nowait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .filelike import Bytes

MAX_PIECE_BYTES = 1 << 20  # read or written in one call of a thread: a cancelled Write waits for one piece at most
seeking = allocate_lock()


def read_cached(fd: int, size: int, offset: int) -> bytes | None:
    """Return bytes that are in the page cache, b"" at the end of the file; None if the read has to wait for the disk.

    An empty answer is checked, since `preadv` with RWF_NOWAIT may return 0 before the end (Linux 5.9 and 5.10: see
    "Bugs" in its manual page).
    """
    try:
        data = read_nowait(fd, size, offset)
    except BlockingIOError:
        return None
    return data if data or (data is not None and at_end(fd, offset)) else None


def at_end(fd: int, offset: int) -> bool:
    """Return whether `offset` is the end of the file, or behind it."""
    return os.fstat(fd).st_size <= offset


def pread_by_seek(fd: int, size: int, offset: int, /) -> bytes:
    """Do the work of `os.pread` where there is none."""
    with seeking:
        _ = os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def pwrite_by_seek(fd: int, data: Bytes, offset: int, /) -> int:
    """Do the work of `os.pwrite` where there is none."""
    with seeking:
        _ = os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


pread = getattr(os, "pread", pread_by_seek)
pwrite = getattr(os, "pwrite", pwrite_by_seek)


def read_piece(fd: int, size: int, position: int) -> tuple[bytes, int]:
    """Return up to MAX_PIECE_BYTES at `position`, and the position after them."""
    data = pread(fd, min(size, MAX_PIECE_BYTES), position)
    return data, position + len(data)


def write_piece(fd: int, data: Bytes, position: int) -> tuple[int, int]:
    """Write `data` at `position`; return how many bytes were written, and the position after them."""
    count = pwrite(fd, data, position)
    return count, position + count


def append_piece(fd: int, data: Bytes) -> tuple[int, int]:
    """Append `data`; return how many bytes were written, and the position after them."""
    return os.write(fd, data), os.lseek(fd, 0, os.SEEK_CUR)


def read_all(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes at `offset`, or all that there are up to the end of the file."""
    pieces, end = list[bytes](), offset + size
    while offset < end:
        piece, offset = read_piece(fd, end - offset, offset)
        if not piece:
            break
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write_all(fd: int, data: Bytes, offset: int) -> int:
    """Write all of `data` at `offset`; return its length."""
    view, written = memoryview(data), 0
    while written < len(view):
        written += pwrite(fd, view[written:], offset + written)
    return written
