"""Following a file that grows: a tail that goes on when the file is truncated or rotated.

Theory of operation. At the end of the file, the follower looks at the path once in an interval. If the file there is
shorter than what was read, it was truncated, and is read from its start. If it is another file, the old one was rotated
away. A program may still write to the old one for a moment, so it is read for one more interval, and then the new file
from its start. If the path has no file, the follower looks again after each interval.

Invariants:
1. Each byte is returned once, in order. A cancelled call has taken nothing from the follower.
2. A line never joins bytes from before and after a truncation or a rotation.

Decision: the follower checks the path at an interval. Because: it works on every system, and for network file systems.
Rejected: inotify, which reports nothing of what another machine writes, and still needs the interval there.

Not here: lines of a connection, or of a file to its end (streams).
"""

from __future__ import annotations

import os

from ..errors import BusyError, ClosedError, LimitExceeded
from ..io.files import Read
from ..kernel.numbers import check_count, check_seconds
from ..tasks.tasks import awaitable
from ..tasks.timers import Sleep
from .opening import Open
from .regular_files import RegularFile, identity_and_size
from .threads import InThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from .opening import Path

INTERVAL_SECONDS = 0.25  # the default of `interval`: a person does not notice it
MAX_LINE_BYTES = 65536  # the default of `limit`
READ_BYTES = 65536  # of one read


class Follower:
    """A file that is followed; `follow` returns it. `with follower:` or `follower.close()` closes the file.

    `async for line in follower:` returns lines, in an `async def`; it never ends by itself.

    Example:
        >>> import tempfile
        >>> from minisched import follow, run, write_file
        >>> async def main(path):
        ...     await write_file(path, b"one\\ntwo\\n")
        ...     with await follow(path, from_start=True) as follower:
        ...         async for line in follower:
        ...             print(line)
        ...             if line == b"two\\n":
        ...                 break
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/log"))
        b'one\\n'
        b'two\\n'
    """

    def __init__(self, path: Path, interval: float) -> None:
        self.path = path
        self.interval = interval
        self.file: Any = None  # a RegularFile; None: there is no file at the path yet
        self.identity: tuple[int, int] | None = None  # of `file`
        self.rotated = False  # another file has the path: the old one is read for one more interval
        self.buffer: bytearray = bytearray()  # bytes that were read and not returned
        self.reading = False
        self.closed = False

    @awaitable
    def read(self) -> Generator[Any, Any, bytes]:
        """Return the next bytes, as soon as there are any: `data = yield from follower.read()`.

        Raises:
            BusyError: another task reads the follower.
            ClosedError: the follower is closed.
            OSError: the file can't be opened or read. If the file does not exist, the call waits.
        """
        while not self.buffer:
            self.buffer.extend((yield from self._next()))
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    @awaitable
    def readline(self, limit: int = MAX_LINE_BYTES) -> Generator[Any, Any, bytes]:
        r"""Return the next line, with its b"\n": `line = yield from follower.readline()`.

        A line that a truncation or a rotation has cut short is returned without b"\n".

        Args:
            limit: the most bytes of a line.

        Raises:
            LimitExceeded: the line is longer than `limit`. `read` returns its start.

        Further errors are those of `read`.
        """
        most = check_count("readline", "limit", "bytes", limit, least=1)
        while True:
            length = self.buffer.find(b"\n") + 1
            if (length or len(self.buffer)) > most:
                raise LimitExceeded(f"a line of {self.path!r} has more than {most} bytes: `read` returns its start")
            if length:
                return self._take(length)
            data = yield from self._next()
            if not data and self.buffer:
                return self._take(len(self.buffer))
            self.buffer.extend(data)

    def _take(self, length: int) -> bytes:
        data = bytes(memoryview(self.buffer)[:length])
        del self.buffer[:length]
        return data

    def _next(self) -> Generator[Any, Any, bytes]:
        """Return new bytes of the file; b"" if it was truncated or rotated, so that a new line begins."""
        if self.reading:
            raise BusyError(f"another task reads the follower of {self.path!r}; one at a time")
        self.reading = True
        try:
            while True:
                if self.closed:
                    raise ClosedError(f"the follower of {self.path!r} is closed")
                if self.file is not None:
                    data = yield Read(self.file, READ_BYTES)
                    if data or (yield from self._look()):
                        return data
                elif (yield from opened(self)):
                    continue
                yield Sleep(self.interval)
        finally:
            self.reading = False

    def _look(self) -> Generator[Any, Any, bool]:
        """Check the path, at the end of the file; return whether reading goes on at the start of a file."""
        found = yield InThread(look_at, self.path)
        if found is not None and found[0] == self.identity:
            self.rotated = False
            truncated = found[1] < self.file.position
            if truncated:
                self.file.position = 0
            return truncated
        if found is None or not self.rotated:
            self.rotated = found is not None
            return False
        self.file.close()
        self.file, self.rotated = None, False
        return True

    def close(self) -> None:
        """Close the file. A task that waits for bytes gets ClosedError."""
        self.closed = True
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> bytes:
        return await self.readline()


def opened(follower: Follower) -> Generator[Any, Any, bool]:
    """Open the file of a follower, if there is one; return whether there is."""
    try:
        follower.file = file = yield Open(follower.path)
    except FileNotFoundError:
        return False
    if not isinstance(file, RegularFile):
        file.close()
        raise OSError(f"{follower.path!r} is not a regular file, which could be followed: use Read")
    follower.identity, _ = file.status()
    return True


def look_at(path: Path) -> tuple[tuple[int, int], int] | None:
    """Return the identity and the size of the file at a path; None if there is none. It is called in a thread."""
    try:
        return identity_and_size(os.stat(path))
    except FileNotFoundError:
        return None


@awaitable
def follow(
    path: Path, *, from_start: bool = False, interval: float = INTERVAL_SECONDS
) -> Generator[Any, Any, Follower]:
    """Follow a file that grows, such as a log: `with (yield from follow(path)) as follower:`.

    Its `readline` and `read` wait for what is appended, and go on when the file is truncated or rotated. A file that is
    truncated and becomes as long as before within one interval looks like one that was not truncated.

    Args:
        path: a str, bytes or path. If there is no such file yet, the follower waits for it.
        from_start: also return what is in the file already. By default, only what is appended from now on.
        interval: how often to look at the path, in seconds of the run, while nothing is appended.

    Returns:
        A `Follower`.

    Raises:
        OSError: the file can't be opened, or is not a regular file.
        TypeError, ValueError: `interval` is not a number of seconds, or the path is not a path.

    Example:
        >>> import tempfile
        >>> from minisched import Open, Write, follow, run
        >>> def main(path):
        ...     with (yield Open(path, "a")) as log, (yield from follow(path)) as follower:
        ...         yield Write(log, b"a line\\n")
        ...         return (yield from follower.readline())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/log"))
        b'a line\\n'
    """
    follower = Follower(path, check_seconds("follow", "interval", interval))
    try:
        if (yield from opened(follower)) and not from_start:
            _, follower.file.position = follower.file.status()
    except BaseException:
        follower.close()
        raise
    return follower
