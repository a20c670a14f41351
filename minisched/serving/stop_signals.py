"""The signals of a process that has no run: `serve_workers` waits for them, and for files, with a deadline.

Theory of operation. A signal handler only counts the signal. Python also writes a byte into a pipe
(`signal.set_wakeup_fd`), in whichever thread the operating system delivers the signal; that byte ends `wait`. While
the program's own code runs, which may block for ever, a signal is raised there (`raising`, `breakable`).

Invariants:
1. A signal that arrives after `__enter__` is counted, whichever thread receives it, and no `wait` outlasts it.
2. After `__exit__`, the handlers, the signal mask and the wake-up fd are as before, and the pipe is closed. A handler
   that the program has set in between stays.

Decision: signals are handled, not blocked and taken by `sigwait`.
Because: a mask belongs to one thread. In a program with a second thread, the signal goes to that one, and has its
default action there, while the main thread does anything but `sigwait`.
Rejected: `sigwait` with handlers besides, which needs a time limit for each wait.

Decision: SIGQUIT keeps its action.
Because: Ctrl-\\ is for a process that hangs, and wants a core dump. Then nothing can clean up in this process; its
workers remove the Unix paths (`workers`).
Rejected: SIGQUIT as a quick stop, which a process that hangs could not make.

Not here: the effect of a signal on the workers (`workers`); signals in a run (`bridges/interrupt`, `bridges/signals`).
"""

from __future__ import annotations

import os
import select
import signal
from functools import partial
from math import ceil

from ..bridges.wakeup import run_pending_handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

READ_BYTES = 4096  # read at once from the pipe: one signal is one byte
MAX_POLL_SECONDS = 86400.0  # a day: `poll` takes milliseconds in a C int


class StopSignals:
    """The signals that ask this process to stop, counted from `with` to its end. For the main thread."""

    def __init__(self) -> None:
        self.arrived: list[int] = []  # the signals so far, in order
        self.raised: BaseException | None = None  # the exception that the handler has raised last
        self.raises_from = 0  # this many signals, and each further one, raise where they arrive; 0: none does
        self.previous: dict[int, Any] = {}  # the handlers that are to be restored, by signal
        self.mask: set[int] = set()  # of the program
        self.pipe: tuple[int, ...] = ()
        self.pipe_works = True  # otherwise another part of the program has closed it
        self._restores: list[Callable[[], object]] = []

    def __enter__(self) -> StopSignals:
        try:
            self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _install(self) -> None:
        """Make the pipe, then set the handlers, then unblock the signals; note how to undo each step."""
        self.pipe = os.pipe()
        self._restores += [partial(os.close, fd) for fd in self.pipe]
        for fd in self.pipe:
            os.set_blocking(fd, False)
        previous_fd = signal.set_wakeup_fd(self.pipe[1], warn_on_full_buffer=False)
        self._restores.append(lambda: restore_wakeup_fd(previous_fd))
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) != signal.SIG_IGN:
                self.handle(signum, self._stop)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it; many programs reload by it
            self.handle(signal.SIGHUP, self._stop)
        if signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, signal.SIG_IGN):
            # Without a handler, there is no byte in the pipe. And where the signal is ignored, a child that ends
            # leaves no exit status.
            self.handle(signal.SIGCHLD, do_nothing)
        signums = {*self.previous, signal.SIGCHLD}
        self.mask = {*signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)}
        self._restores.append(lambda: signal.pthread_sigmask(signal.SIG_SETMASK, self.mask))

    def handle(self, signum: int, handler: Callable[[int, FrameType | None], object]) -> None:
        """Set a signal handler until the end; a process that is forked ignores the signal."""
        self.previous[signum] = before = signal.signal(signum, handler)
        restore = signal.SIG_DFL if before is None else before
        self._restores.append(lambda: signal.getsignal(signum) == handler and signal.signal(signum, restore))

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        """Count a signal; raise it in code that may block."""
        self.arrived.append(signum)
        if 0 < self.raises_from <= len(self.arrived):
            self.raised = self.error()
            raise self.raised

    def error(self) -> BaseException:
        """Return the exception for the first signal: KeyboardInterrupt, or SystemExit with a shell's status."""
        first = self.arrived[0]
        return KeyboardInterrupt() if first == signal.SIGINT else SystemExit(128 + first)

    def raising(self, function: Callable[[], object]) -> None:
        """Call a function of the program; a signal raises in it, also one that has arrived before."""
        self.raises_from = 1
        try:
            if self.arrived:
                raise self.error()
            _ = function()
        finally:
            self.raises_from = 0

    def breakable(self, function: Callable[[], object]) -> None:
        """Call a function that may block, such as a log handler; a second signal ends it."""
        self.raises_from = 2
        try:
            _ = function()
        except BaseException as error:
            if error is not self.raised:
                raise
        finally:
            self.raises_from = 0

    def wait(self, fds: Iterable[int], seconds: float) -> set[int]:
        """Wait for a signal, for one of the files, or for `seconds`; return the files that are ready or closed."""
        poller = select.poll()
        for fd in (*fds, *(self.pipe[:1] if self.pipe_works else ())):
            poller.register(fd, select.POLLIN)
        events = {fd for fd, _ in poller.poll(ceil(min(max(seconds, 0.0), MAX_POLL_SECONDS) * 1000))}
        if self.pipe[0] in events:
            try:
                _ = os.read(self.pipe[0], READ_BYTES)
            except BlockingIOError:
                pass
            except OSError:
                self.pipe_works = False
        run_pending_handlers()
        return events - {self.pipe[0]}

    def reset_in_child(self, held: Iterable[int] = ()) -> None:
        """Undo this in a process that was forked, except that SIGINT and SIGHUP are the first process's.

        A terminal sends them to all of its processes. The handler does nothing, and unlike SIG_IGN it does not stay
        in a program that the worker starts. The signals `held` stay blocked, and so none is lost before the worker
        has a handler for them.
        """
        _ = signal.set_wakeup_fd(-1)
        for fd in self.pipe:
            os.close(fd)
        if signal.SIGCHLD in self.previous:
            _ = signal.signal(signal.SIGCHLD, self.previous[signal.SIGCHLD])
        for signum in {signal.SIGINT, *self.previous} - {signal.SIGCHLD, signal.SIGTERM}:
            _ = signal.signal(signum, do_nothing)
        _ = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _ = signal.pthread_sigmask(signal.SIG_SETMASK, {*self.mask, *held} - {signal.SIGTERM})

    def __exit__(self, *details: object) -> None:
        """Undo each step of `_install`, the last one first; raise the first error, if any, at the end."""
        problems: list[BaseException] = []
        while self._restores:
            try:
                _ = self._restores.pop()()
            except OSError:
                pass  # the program has closed a descriptor that is not its own
            except BaseException as problem:
                problems.append(problem)
        if problems:
            raise problems[0]


def do_nothing(signum: int, frame: FrameType | None) -> None:
    """Handle a signal that has only to end a wait, or nothing at all."""


def restore_wakeup_fd(fd: int) -> None:
    """Give the wake-up fd of the signal module back, or none if it is closed."""
    try:
        _ = signal.set_wakeup_fd(fd)
    except (OSError, ValueError):
        _ = signal.set_wakeup_fd(-1)
