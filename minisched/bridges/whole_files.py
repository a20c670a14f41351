"""Whole files: read_file, and write_file, which replaces a file at once or not at all.

Theory of operation. `write_file` writes a temporary file in the same folder, lets the disk have it (`fsync`), and
renames it to the path. A reader of the path therefore finds the old bytes or the new ones, and so does the system after
a crash. Each step is a call that waits for its thread, so a cancelled task knows what has happened: before the rename
nothing, after it everything.

Invariants:
1. Until the rename, the old file is whole; after it, the new one. No other process sees a part of the data.
2. However write_file ends, its temporary file is gone. If the run is aborted while a thread still makes that file, the
   thread removes it. Only a process that is killed leaves one, a hidden file whose name ends in ".tmp".

Decision: a symbolic link is followed, and the file that it points to is replaced. Because: the program named the link
to reach the file. Rejected: replacing the link, after which two files have to be kept in step.

Not here: single reads and writes (`regular_files`); files that grow (`follow`).
"""

from __future__ import annotations

import errno
import os
import stat
from _thread import allocate_lock
from io import FileIO

from ..errors import LimitExceeded
from ..io.disk import MAX_PIECE_BYTES
from ..io.files import Read, Write, bytes_of
from ..kernel.numbers import check_count
from ..tasks.tasks import awaitable
from .opening import Files, Open, checked_path
from .regular_files import Sync
from .threads import InThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future
    from typing import Any

    from ..io.filelike import Bytes
    from ..kernel import Kernel, Task
    from .opening import Opened, Path
    from .regular_files import RegularFile

NAME_CHARACTERS = 50  # of the file's own name in that of its temporary file, which may have 255 bytes


class Temporary:
    """The temporary file that takes the place of another one in the end. `make` and `replace` are called in threads."""

    def __init__(self, path: Path) -> None:
        self.target: str = os.fsdecode(checked_path(path))
        self.name = ""
        self.file: RegularFile | None = None  # once it is delivered
        self.lock = allocate_lock()  # for the following two, at the end of a run that is aborted
        self.made = False
        self.given_up = False

    def make(self, path: Path, mode: str) -> Opened:
        """Create the file, with the mode and the owner of the one that it will replace."""
        self.target = os.path.realpath(self.target)
        old = self._old_file()
        folder, name = os.path.split(self.target)
        self.name = os.path.join(folder, f".{name[:NAME_CHARACTERS]}.{os.urandom(8).hex()}.tmp")
        permissions = 0o666 if old is None else stat.S_IMODE(old.st_mode)
        raw = FileIO(self.name, "x", opener=lambda path, flags: os.open(path, flags, permissions & 0o777))
        try:
            if old is not None:
                copy_owner_and_mode(raw.fileno(), old)
            kind = os.fstat(raw.fileno()).st_mode
        except BaseException:
            raw.close()
            os.unlink(self.name)
            raise
        with self.lock:
            self.made = True
            if self.given_up:
                self._remove()
        return raw, kind

    def _old_file(self) -> os.stat_result | None:
        """Return what the system knows of the file to be replaced; None if there is none."""
        try:
            old = os.stat(self.target)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.target)
        if not stat.S_ISREG(old.st_mode):
            raise OSError(errno.EINVAL, "write_file replaces regular files only: use Open and Write", self.target)
        return old

    def replace(self) -> None:
        """Give the file the path, and let the disk have that, too."""
        os.replace(self.name, self.target)
        try:
            folder = os.open(os.path.dirname(self.target), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            pass  # the system has no fsync of folders: a crash leaves the old file or the new one, both whole

    def clean_up(self) -> None:
        """Close the file and remove it, unless it has got the path. A plain call, for a task that can't wait."""
        if self.file is not None:
            self.file.close()
        with self.lock:
            self.given_up = True
            if self.made:
                self._remove()

    def _remove(self) -> None:
        try:
            os.unlink(self.name)
        except FileNotFoundError:
            pass  # the file has got the path


class OpenTemporary(Open):
    """Create a temporary file, as Open would."""

    __slots__ = ("temporary",)

    def __init__(self, temporary: Temporary) -> None:
        super().__init__(temporary.target, "x")
        self.temporary = temporary

    def start(self, kernel: Kernel, task: Task) -> Future[Any]:
        return kernel.service(Files).open(self.path, self.mode, self.temporary.make)

    def __repr__(self) -> str:
        return f"OpenTemporary({self.path!r})"


def copy_owner_and_mode(fd: int, old: os.stat_result) -> None:
    """Give a file the owner of another one, if this process may do that, and its mode."""
    if not hasattr(os, "fchmod"):
        return
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:
            pass  # then the file belongs to this process's user, as each file that it makes
    os.fchmod(fd, stat.S_IMODE(old.st_mode))


@awaitable
def read_file(path: Path, *, limit: int | None = None) -> Generator[Any, Any, bytes]:
    """Return all bytes of a file: `data = yield from read_file(path)`, or `await read_file(path)`.

    A cancellation ends the wait at once, and the file is closed. O(bytes); the memory is twice the file's at most.

    Args:
        path: a str, bytes or path; a FIFO or a device is read to its end, too.
        limit: the most bytes to read; None for no limit.

    Raises:
        LimitExceeded: the file is larger than `limit`.
        OSError: the file can't be opened or read.
        TypeError, ValueError: `limit` is not a number of bytes, or the path is not a path.

    Example:
        >>> import os
        >>> from minisched import read_file, run
        >>> def main():
        ...     return len((yield from read_file(os.__file__)))
        >>> run(main()) == os.path.getsize(os.__file__)
        True
    """
    most = None if limit is None else check_count("read_file", "limit", "bytes", limit, optional=True)
    pieces, size = list[bytes](), 0
    with (yield Open(path)) as file:
        while piece := (yield Read(file, MAX_PIECE_BYTES)):
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                raise LimitExceeded(f"{file.label} has more than {most} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@awaitable
def write_file(path: Path, data: Bytes) -> Generator[Any, Any, None]:
    """Replace a file by one that holds `data`, atomically: `yield from write_file(path, data)`.

    The new bytes go to a temporary file in the same folder, which is then renamed. A reader sees the old file or the
    new one, also after a crash. The mode of an old file is kept, and its owner where this process may set it. Any
    error, and a cancellation before the rename, leaves the old file as it was, and no temporary file. A cancelled task
    may have to wait for one step: a piece of 1 MiB, or the fsync. An `async def` awaits the call.

    Args:
        path: a str, bytes or path. A symbolic link is followed. Other hard links to the old file keep its bytes.
        data: bytes, or another object with a buffer.

    Raises:
        OSError: the folder does not exist or can't be written, the disk is full, or the path is not a regular file.
        TypeError: `data` has no buffer (encode a str first), or the path is not a path.

    Example:
        >>> import tempfile
        >>> from minisched import read_file, run, write_file
        >>> def main(path):
        ...     yield from write_file(path, b"colour = blue")
        ...     return (yield from read_file(path))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/settings"))
        b'colour = blue'
    """
    contents = bytes_of(data)
    temporary = Temporary(path)
    try:
        temporary.file = file = yield OpenTemporary(temporary)
        yield Write(file, contents)
        yield Sync(file)
        file.close()
        yield InThread(temporary.replace)
    finally:
        temporary.clean_up()
