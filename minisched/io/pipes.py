"""Pipes: one end of a pipe that this process owns, in non-blocking mode, as a file-like.

Theory of operation. The two ends of a pipe are two open files, each with a mode of its own. So the end that stays here
can be in non-blocking mode, while the other end, which another process has, keeps its mode. A `Pipe` stays registered
with the poller between waits, as a socket does, and is unregistered before it is closed.

Invariants:
1. A pipe that the poller watches is closed in the thread of its run only.

Not here: pipes of others, such as standard input, which are borrowed (`borrowed`); the processes at the other end.
"""

from __future__ import annotations

import os

from ..errors import ClosedError, SyscallError
from ..kernel.primitive import check_caller
from .filelike import CLOSED, PromiseOfTryRead
from .poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO
    from typing import Self

    from ..kernel import Kernel
    from .filelike import Bytes, FileState, PendingOperation


class Pipe(PromiseOfTryRead):
    """One end of a pipe, which Read and Write use, and which `close` closes. `with pipe:` does that at its end.

    Args:
        kernel: the kernel of the run that uses it.
        file: the end, opened without a buffer; the pipe owns it.
        label: its name, for messages and traces.
    """

    __slots__ = ("file", "file_state", "label")
    short_read_means_empty = True

    def __init__(self, kernel: Kernel, file: FileIO, label: str) -> None:
        os.set_blocking(file.fileno(), False)
        self.file = file
        self.label = label
        self.file_state: FileState = kernel.service(Poller).state_of(file.fileno(), persistent=True)

    def try_read(self, size: int) -> bytes:
        """Return the bytes that there are, at most `size`; b"" when the other end is closed."""
        return os.read(self.fileno(), size)

    def try_write(self, data: Bytes) -> int:
        """Write what fits; BrokenPipeError if the other end is closed."""
        return os.write(self.fileno(), data)

    def watch(self, kernel: Kernel, direction: int, waiter: PendingOperation) -> None:
        """Register `waiter` with the poller, until the pipe is ready or `unwatch` is called."""
        poller = self.file_state.poller
        if poller is None or poller.kernel is not kernel:
            raise SyscallError(f"{self.label} belongs to another run, or to one that has ended")
        poller.add_waiter(self.file_state, direction, waiter)

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Remove the waiter for this direction."""
        kernel.service(Poller).remove_waiter(self.file_state, direction)

    def fileno(self) -> int:
        """Return the file descriptor; ClosedError if the pipe is closed."""
        if self.file_state is CLOSED:
            raise ClosedError(f"{self.label} is closed")
        return self.file.fileno()

    def write_eof(self) -> None:
        """Close this end, so that the reader of the other one finds the end of the file; for `Stream.write_eof`."""
        self.close()

    @property
    def closed(self) -> bool:
        """True once the pipe is closed."""
        return self.file_state is CLOSED

    def close(self) -> None:
        """Close this end; the tasks that wait for it get ClosedError. Closing it again does nothing.

        Raises SyscallError in another thread than that of the run that uses it.
        """
        state = self.file_state
        if state.poller is not None and state.events:
            check_caller(state.poller.kernel, "close", self)
        self.file_state = CLOSED
        try:
            if state.poller is not None:
                state.poller.drop(state)
        finally:  # even if a signal handler raises in between
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Pipe {self.label}{' (closed)' if self.closed else ''}>"
