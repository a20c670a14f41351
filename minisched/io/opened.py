"""Files that the scheduler has opened and owns, and those of them that the poller watches.

Theory of operation. `Open` returns an `OpenedFile`, a file-like that owns its descriptor. There are two kinds. A
FIFO, a terminal or another device is a `PolledFile`, which is read and written when the poller reports it. A regular
file is always ready, and still may wait for the disk: it is a `RegularFile` of `bridges/regular_files`.

Invariants:
1. A descriptor is closed once, by `close`. A file that is dropped without that gets Python's ResourceWarning.
2. A PolledFile is unregistered from the poller before its descriptor is closed.
3. The first read of a FIFO waits for a byte, or for the end of the first writer: without that wait, a FIFO that no
   process has opened for writing yet would seem to be at its end.

Not here: opening, and regular files (`bridges/regular_files`); descriptors that the program has opened (`borrowed`).
"""

from __future__ import annotations

import os
import stat

from .filelike import CLOSED, FileState
from .nowait import read_now, write_now
from .poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Any, Self

    from ..kernel import Kernel
    from .filelike import Bytes, PendingOperation


class OpenedFile:
    """A file that `Open` has opened: the base of regular files and all others.

    Attributes:
        name: the path that was passed to Open.
        mode: the mode, as the built-in `open` shows it, such as "rb+".
        closed: whether the file is closed.
    """

    def __init__(self, raw: FileIO) -> None:
        self.raw = raw
        self.fd = raw.fileno()
        self.name: Any = raw.name
        self.mode = raw.mode
        self.closed = False
        self.file_state = FileState(self.fd)

    def fileno(self) -> int:
        """Return the file descriptor; -1 if the file is closed."""
        return -1 if self.closed else self.fd

    @property
    def label(self) -> str:
        """A short name for messages and traces: without the folder, which may change from run to run."""
        return f"{'closed ' if self.closed else ''}file {os.path.basename(os.fsdecode(self.name))!r}"

    def close(self) -> None:
        """Close the file; the tasks that wait for it get ClosedError. Closing it again does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'closed' if self.closed else self.mode}>"


class PolledFile(OpenedFile):
    """A FIFO, a terminal or another device that `Open` has opened."""

    short_read_means_empty = True  # the poll is level-triggered: it reports all that is left

    def __init__(self, raw: FileIO, kind: int) -> None:
        """Make the file-like; `kind` is the `st_mode` of the file."""
        super().__init__(raw)
        self.kind = kind
        self.file_state.drained = stat.S_ISFIFO(self.kind)

    def try_read(self, size: int) -> bytes:
        return read_now(self.fd, size, self.kind)

    def try_write(self, data: Bytes) -> int:
        return write_now(self.fd, data, self.kind)

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation) -> None:
        """Register `operation` with the poller of this run, for one wait."""
        poller, state = kernel.service(Poller), self.file_state
        if state.poller is not poller:  # the first wait in this run
            self.file_state = self.borrow_from(poller)
            self.file_state.drained, self.file_state.used = state.drained, state.used
        poller.add_waiter(self.file_state, direction, operation)

    def borrow_from(self, poller: Poller) -> FileState:
        """Return the state for the waits of a run."""
        return poller.borrow(self.fd)

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        kernel.service(Poller).remove_waiter(self.file_state, direction)

    def close(self) -> None:
        state, self.file_state, self.closed = self.file_state, CLOSED, True
        if state.poller is not None:
            state.poller.drop(state)
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the file itself."""
        self.raw.close()
