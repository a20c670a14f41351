"""Waking the loop from outside: from signal handlers and from other threads.

Theory of operation. A socket pair: one end is always registered with the poller, so that a byte
written to the other ends the wait (and so that no selector is ever empty, which some platforms do
not bear). Python writes that byte itself when a signal arrives (`signal.set_wakeup_fd`). What is
asked for is only noted; it takes effect when the loop comes to its Wait. A second Ctrl-C does not
wait for that where a task's own lines run, which may go on for ever: it is raised there. In ours, a
step that is broken off midway would leave a file open, or a waiter behind; a third one is raised anywhere.

Not here: what Ctrl-C means (`loop`); waiting for other signals and for threads.
"""

from __future__ import annotations

import signal
import socket
from collections import deque
from functools import partial

from .errors import PACKAGE
from .kernel import HANDLING, Kernel, Service, Task
from .poller import READ, Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

# What calls a task's own lines.
CALLERS = [one.__code__ for one in (Kernel.turns, Task.throw_in, Task.cancel_in, Kernel.close_body)]


def see_to_signals() -> None:
    """Run the handlers of signals that have come, now.

    Python does that between two lines. But in a process that 3.13.0 has forked in another
    thread than the first, it is only done where Python looks for them itself, as in this call.
    """
    if hasattr(signal, "pthread_sigmask"):
        _ = signal.pthread_sigmask(signal.SIG_BLOCK, ())


class Wakeup(Service):
    """The loop's alarm clock. `wake` and `call` may be used from any thread, and in a signal handler."""

    task = None  # a waiter that is no task

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.receiver, self.sender = socket.socketpair()
        self.receiver.setblocking(False)
        self.sender.setblocking(False)
        self.calls: deque[Callable[[], object]] = deque()
        self.interrupts = self.taken = 0  # how often Ctrl-C was pressed, and how often that was looked at
        self.signum: int = signal.SIGINT
        self._restore: list[Callable[[], object]] = []
        poller = kernel.service(Poller)
        self.entry = poller.entry(self.receiver.fileno(), lasting=True)
        poller.wait(self.entry, READ, self)
        poller.silent += 1  # while tasks are ready, `calls` and `interrupts` say all

    def wake(self) -> None:
        """End the loop's wait, now or as soon as it begins."""
        try:
            _ = self.sender.send(b"\0")
        except OSError:
            pass  # it is full of wake-ups as it is, or the run is over

    def call(self, what: Callable[[], object]) -> None:
        """Have `what()` called in the kernel's thread, in the loop's next Wait."""
        self.calls.append(what)
        self.wake()

    def ready(self) -> None:
        """Take the bytes; what was asked for is done by `run_calls`."""
        signals = b""  # their numbers; a call of `wake` is a 0
        try:
            while True:
                data = self.receiver.recv(4096)
                signals = data.strip(b"\0") or signals
                if len(data) < 4096:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        self.kernel.service(Poller).wait(self.entry, READ, self)
        if signals:
            see_to_signals()

    def run_calls(self) -> None:
        """Do what other threads have asked for so far."""
        for _ in range(len(self.calls)):
            _ = self.calls.popleft()()

    def closed(self) -> None:
        """Be told that the number was closed behind our back: nothing is waited for any more."""
        self.kernel.service(Poller).silent -= 1

    def pending(self) -> int:
        """Return how much is asked for that the loop has not come to yet."""
        return len(self.calls) + self.interrupts - self.taken

    def take_signals(self) -> None:
        """Take Ctrl-C, unless the program has a handler of its own or this is not the main thread."""
        try:
            before = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        except ValueError:
            return  # another thread: signals are the main thread's
        self._restore.append(lambda: signal.set_wakeup_fd(before))
        self.take(signal.SIGINT, signal.default_int_handler)

    def take(self, signum: int, usual: Any) -> None:
        """Let a signal cancel main, as Ctrl-C does, until the run ends; not if one has a handler for it."""
        if self._restore and signal.getsignal(signum) == usual:  # the main thread's run took the signals
            _ = signal.signal(signum, self._interrupted)
            self._restore.append(partial(self._give_back, signum, usual))

    def _give_back(self, signum: int, usual: Any) -> None:
        if signal.getsignal(signum) == self._interrupted:  # else the program has set its own meanwhile
            _ = signal.signal(signum, usual)

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        self.interrupts += 1
        self.signum = signum
        if self.interrupts > 2 or (self.interrupts == 2 and self._in_body(frame)):
            raise self.interruption()

    def _in_body(self, frame: FrameType | None) -> bool:
        """Return whether a signal came in a task's own lines, or in what they call: not in ours, nor in a `handle`."""
        called = frame
        while called is not None and not called.f_code.co_filename.startswith(PACKAGE):
            called = called.f_back
        if called is None or called is frame or called.f_code not in CALLERS:
            return False
        task = self.kernel.current
        return called.f_code is not Kernel.turns.__code__ or (task is not None and task.value is not HANDLING)

    def interruption(self) -> BaseException:
        """Return what `run` raises for the signal that came: KeyboardInterrupt, or SystemExit with a shell's status."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + self.signum)

    def close(self) -> None:
        """Give the signals back, as they were."""
        while self._restore:
            _ = self._restore.pop()()
        self.receiver.close()
        self.sender.close()
