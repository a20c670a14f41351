"""Opening files: Open, a call in a thread whose result is never lost.

Theory of operation. An `open` may wait for the disk, for a network, or for the other end of a FIFO. So it is a call in
a thread. A FIFO or a device is opened in non-blocking mode, which concerns this opening alone, so it holds no thread. A
FIFO that no process reads can't be opened for writing in this mode: the call tries again after a pause, by a timer. A
cancelled task leaves at once, and the thread then closes what it opens. But a mode that may create or empty a file is
an effect that the task has to know of: while its thread is at work, the wait has no undo.

Invariants:
1. A file that is opened and not delivered is closed.
2. No thread waits in `open` for the other end of a FIFO.
3. A cancelled Open has not created or emptied a file.

Not here: reading and writing the file (`regular_files`, `io/opened`); whole files (`whole_files`).
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from io import FileIO

from ..io.opened import PolledFile
from ..kernel import Service, Task
from ..kernel.waiting import resume, task_of, throw
from ..tasks.timers import Timers
from .regular_files import RegularFile, cancel_now
from .threads import FutureOperation, Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from os import PathLike
    from typing import Any

    from ..kernel import Kernel
    from ..kernel.waiting import Waiter

    Path = str | bytes | PathLike[str] | PathLike[bytes]
    Opened = tuple[FileIO, int]

FIFO_PAUSE_SECONDS = 0.02  # between two attempts to open a FIFO for writing that no process reads
NEVER_BLOCKS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # 0: the operating system has no such flags


class Open(FutureOperation[RegularFile]):  # for type checkers: the answer for a FIFO or a device is a PolledFile
    """Open a file in another thread; return an object that Read, Write, ReadAt, WriteAt, Sync and Close take.

    The end of the call wakes the task. The bytes are not decoded, and there is no buffer. `with (yield Open(path)) as
    file:` closes the file. A cancellation ends the wait at once, unless the mode may create or empty a file: then the
    task gets the file, and is cancelled at its next checkpoint. A call that loses in a `select` may have created it.

    A FIFO, a terminal or another device can be opened, too. It then is in non-blocking mode, but only this opening of
    it. A FIFO is opened for reading at once, and its first Read waits for a writer; opened for writing, the call waits
    until a process reads it.

    Args:
        path: a str, bytes or path. On Linux, "/dev/stdin" is opened again, and a file is read from its
            start; `Read(0, size)` shares the position with other processes.
        mode: as for the built-in `open`: "r", "w", "a" or "x", perhaps with "+" and "b". All are binary.

    Raises:
        TypeError: the path is not a path, such as a file descriptor, which Read and Write take as it is.
        ValueError: the mode is not valid, or asks for text.
        OSError: the file can't be opened: FileNotFoundError, IsADirectoryError, PermissionError, ...

    Example:
        >>> from minisched import Open, Read, Write, run
        >>> def main(path):
        ...     with (yield Open(path, "w")) as file:
        ...         yield Write(file, b"hello")
        ...     with (yield Open(path)) as file:
        ...         return (yield Read(file, 100))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(folder + "/greeting"))
        b'hello'
    """

    __slots__ = ("mode", "path")
    abandon = True

    def __init__(self, path: Path, mode: str = "r") -> None:
        self.path = path
        self.mode = mode

    def start(self, kernel: Kernel, task: Task) -> Future[Any]:
        return kernel.service(Files).open(checked_path(self.path), checked_mode(self.mode), open_file)

    def handle(self, kernel: Kernel, task: Task) -> None:
        kernel.park(task, None)
        Opening(kernel, task, self).begin()

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        opening = Opening(kernel, waiter, self)
        opening.begin()
        return opening.give_up


class Files(Service):
    """Opens the files of a run: replaceable, as by a world that records them.

    At the end of an aborted run, the files that are being opened are closed.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.attempts: dict[Opening, Callable[[], object]] = {}  # that are under way, with the undo of each wait

    def open(self, path: Path, mode: str, function: Callable[[Path, str], Opened | None]) -> Future[Opened | None]:
        """Call `function(path, mode)` in a thread. It returns the file and its `st_mode`."""
        return self.kernel.service(Threads).pool.submit(partial(function, path, mode))

    def made(self, raw: FileIO, kind: int) -> RegularFile | PolledFile:
        """Return the file-like for a file that a thread has opened."""
        return RegularFile(raw) if is_regular(kind) else PolledFile(raw, kind)

    def close(self) -> None:
        for opening in self.attempts:
            opening.drop_result()


class Opening:
    """One opening of a file: the waiter of its futures, one for each attempt."""

    __slots__ = ("attempts", "call", "files", "future", "kernel", "task", "timer", "waiter")

    def __init__(self, kernel: Kernel, waiter: Waiter, call: Open) -> None:
        self.files = kernel.service(Files)
        self.attempts = self.files.attempts
        self.future: Future[Any] | None = None  # of the attempt
        self.kernel = kernel
        self.waiter = waiter
        self.task: Task = task_of(waiter)
        self.call = call
        self.timer: Any = None  # of the pause before the next attempt

    def begin(self) -> None:
        """Let a thread try to open the file."""
        threads = self.kernel.service(Threads)
        self.attempts[self] = threads.begin(self, self._start, on_file=True)
        self._set_undo(None if set(self.call.mode) & set("wax") else self.give_up)
        threads.check_for_stall()

    def _start(self) -> Future[Any]:
        self.future = self.call.start(self.kernel, self.task)
        return self.future

    def _forget_attempt(self) -> None:
        del self.attempts[self]
        self.future = None  # its callbacks refer to this object: leave no cycle, which would keep the file open

    def _set_undo(self, undo: Callable[[], object] | None) -> None:
        if isinstance(self.waiter, Task):  # the undo of a `select` is always `give_up`
            self.waiter.undo = undo

    def resume(self, value: Opened | None) -> None:
        """Pass the file on, or try again later."""
        self._forget_attempt()
        if value is not None:
            file = self.files.made(*value)
            file.name = self.call.path
            return resume(self.kernel, self.waiter, file)
        timers = self.kernel.service(Timers)
        self.timer = timers.call_at(timers.now() + FIFO_PAUSE_SECONDS, self._begin_again)
        self._set_undo(self.give_up)
        if self.task.undo is not None and self.task.scope.effective is not None:  # cancelled during the attempt
            cancel_now(self.kernel, self.task)
        return None

    def _begin_again(self) -> None:
        self.timer = None
        try:
            self.begin()
        except Exception as error:
            throw(self.kernel, self.waiter, error)

    def throw(self, error: BaseException) -> None:
        """Pass the error on."""
        self._forget_attempt()
        throw(self.kernel, self.waiter, error)

    def commit(self) -> None:
        """Do nothing: an Open has one step."""

    def give_up(self) -> None:
        """End the wait, and let the thread close what it opens."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        else:
            _ = self.attempts.pop(self)()
            self.drop_result()

    def drop_result(self) -> None:
        """Close the file that this opening opens, as soon as it is open."""
        future, self.future = self.future, None  # no cycle, as in `_forget_attempt`
        if future is not None:
            future.add_done_callback(close_result)


def close_result(future: Future[Opened | None]) -> None:
    """Close the file that an abandoned Open has opened."""
    if not future.cancelled() and future.exception() is None and (opened := future.result()) is not None:
        opened[0].close()


def checked_path(path: Any) -> Any:
    """Return the path; raise TypeError for anything else, such as a file descriptor."""
    if isinstance(path, int):
        raise TypeError(f"Open takes a path, not the file descriptor {path}: Read and Write take that as it is")
    if not isinstance(path, (str, bytes)) and not hasattr(path, "__fspath__"):
        raise TypeError(f"Open takes a path, not {path!r} ({type(path).__name__})")
    return path


def checked_mode(mode: Any) -> str:
    """Return the mode; raise ValueError if it asks for text."""
    if not isinstance(mode, str):
        raise TypeError(f"Open takes a mode such as 'r', not {mode!r} ({type(mode).__name__})")
    if "t" in mode:
        raise ValueError(f"Open reads and writes bytes, and its mode can't be {mode!r}: decode what Read returns")
    return mode  # FileIO checks the rest


def kind_of(path: Any) -> int:
    """Return the `st_mode` of a path; 0 if there is no such file."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def is_regular(kind: int) -> bool:
    """Return whether a file with this `st_mode` is always ready: a regular file, or a disk."""
    return stat.S_ISREG(kind) or stat.S_ISBLK(kind)


def open_file(path: Any, mode: str) -> Opened | None:
    """Open a file, in a thread; return None for a FIFO that no process reads."""
    try:
        raw = FileIO(os.fsdecode(path), mode, opener=open_descriptor)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(kind_of(path)):
            return None
        raise
    return raw, os.fstat(raw.fileno()).st_mode


def open_descriptor(path: Any, flags: int) -> int:
    """Open a file; a FIFO or a device is opened without waiting for the other end, and does not become a terminal."""
    kind = kind_of(path)
    return os.open(path, flags | NEVER_BLOCKS if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) else flags, 0o666)
