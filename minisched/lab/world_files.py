"""Files of a world: those that `Open` has opened, and those that the program has opened (descriptors, pipes).

Theory of operation. Each question about a file goes through `World.ask`: for the bytes of a read, for the number of
bytes that were written, for a descriptor that was closed without notice. A file that `Open` opens has a number. All
files that the program has opened share one, since a descriptor may be another number in a replay; the answers give the
recorded one.

A call of a thread on a file has two lines in a recording: the question "pread" with its arguments, and later the
answer of the thread, as that of any thread. In a world that is not real, no thread is started and no file is opened.

Invariants:
1. The bytes that a program writes to a file are compared in a replay, as those for a socket are.
2. A path is compared by its last component: the folder of a test is another one each time.

Not here: sockets (`world_sockets`); threads and the poller (`world`).
"""

from __future__ import annotations

import os

from ..bridges.opening import Files, is_regular
from ..bridges.regular_files import RegularFile
from ..io.borrowed import BorrowedFile, BorrowedFiles, descriptor_of, socket_of
from ..io.opened import PolledFile
from ..io.poller import Poller
from .world import BORROWED, FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from io import FileIO
    from typing import Any

    from ..io.filelike import Bytes, FileState
    from ..kernel import Kernel
    from .world import World

# The kind of the question for each function of `io/disk` that is called in a thread.
KINDS = {
    "read_piece": "pread",
    "write_piece": "pwrite",
    "append_piece": "pwrite",
    "read_all": "read at",
    "write_all": "write at",
    "fsync": "fsync",
}


class WorldBorrowedFile(BorrowedFile):
    """The file-like that wraps a borrowed file during one call, and asks the world."""

    __slots__ = ("number", "own_fd", "world")

    def __init__(self, kernel: Kernel, file: Any, world: World) -> None:
        self.world, self.number, self.file = world, BORROWED, file
        self.own_fd = descriptor_of(file)
        self.sock = socket_of(file)
        self.fd, self.mode = world.ask("borrow", self, WorldBorrowedFile.look)
        self.file_state = borrow_any(kernel.service(Poller), self.fd)

    def look(self) -> tuple[int, int]:
        """Return the descriptor and its `st_mode`."""
        return self.own_fd, os.fstat(self.own_fd).st_mode

    def try_read(self, size: int) -> bytes:
        return self.world.ask("read file", self, BorrowedFile.try_read, size)

    def try_write(self, data: Bytes) -> int:
        return self.world.ask("write file", self, BorrowedFile.try_write, data)

    def write_eof(self) -> None:
        return self.world.ask("write_eof", self, BorrowedFile.write_eof)

    def close(self) -> None:
        self.unregister()
        try:
            self.world.ask("close", self, BorrowedFile.close_descriptor)
        finally:
            if not self.world.real:  # the program has opened it in the replay, too
                self.close_descriptor()


class WorldBorrowedFiles(BorrowedFiles):
    """Wraps borrowed files so that they ask the world."""

    def __init__(self, kernel: Kernel, world: World) -> None:
        super().__init__(kernel)
        self.world = world

    def wrap(self, file: Any) -> BorrowedFile:
        return WorldBorrowedFile(self.kernel, file, self.world)


class WorldRegularFile(RegularFile):
    """A regular file that asks the world."""

    def __init__(self, raw: FileIO, world: World) -> None:
        super().__init__(raw)
        self.world, self.number = world, world.next_number()

    def cached(self, size: int, offset: int) -> bytes | None:
        return self.world.ask("cached", self, RegularFile.cached, size, offset)

    def ends_at(self, offset: int) -> bool:
        return self.world.ask("ends at", self, RegularFile.ends_at, offset)

    def status(self) -> tuple[tuple[int, int], int]:
        return self.world.ask("status", self, RegularFile.status)

    def in_thread(self, kernel: Kernel, function: Callable[..., Any], *args: Any) -> Future[Any]:
        def submit(file: RegularFile, *args: Any) -> Future[Any]:
            return RegularFile.in_thread(file, kernel, function, *args)

        return self.world.future(KINDS[function.__name__], self, submit, *args)

    def close_descriptor(self, now: bool) -> None:
        """Close the descriptor, by a question that comes in any case."""

        def close(file: RegularFile) -> None:
            RegularFile.close_descriptor(file, now)

        self.world.ask("close", self, close)


class WorldPolledFile(PolledFile):
    """A FIFO, a terminal or another device that asks the world."""

    def __init__(self, raw: FileIO, kind: int, world: World) -> None:
        super().__init__(raw, kind)
        self.world, self.number = world, world.next_number()

    def try_read(self, size: int) -> bytes:
        return self.world.ask("read file", self, PolledFile.try_read, size)

    def try_write(self, data: Bytes) -> int:
        return self.world.ask("write file", self, PolledFile.try_write, data)

    def borrow_from(self, poller: Poller) -> FileState:
        """Return the state for the waits of a run."""
        return borrow_any(poller, self.fd)

    def close_descriptor(self) -> None:
        """Close the file itself."""
        self.world.ask("close", self, PolledFile.close_descriptor)


def borrow_any(poller: Poller, fd: int) -> FileState:
    """Return the state for one wait on a descriptor whose questions go through the world."""
    return Poller.borrow(poller, fd)


class WorldFiles(Files):
    """Opens files through the world."""

    number = FILES

    def __init__(self, kernel: Kernel, world: World) -> None:
        super().__init__(kernel)
        self.world = world

    def open(self, path: Any, mode: str, function: Callable[[Any, str], Any]) -> Future[Any]:
        def submit(files: WorldFiles, name: str, mode: str) -> Future[Any]:
            return Files.open(files, path, mode, function)

        return self.world.future("open", self, submit, os.path.basename(os.fsdecode(path)), mode)

    def made(self, raw: FileIO, kind: int) -> RegularFile | PolledFile:
        return WorldRegularFile(raw, self.world) if is_regular(kind) else WorldPolledFile(raw, kind, self.world)
