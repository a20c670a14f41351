"""The wake-up of the event loop: how another thread, or a signal, ends its wait.

Theory of operation. `call(function)` may be used in any thread and in a signal handler: it appends the
function to a deque, and the loop calls it in its next Wait phase. A loop that waits for files is woken by a
*socket pair*. One end is registered with the poller, so that a byte written to the other end makes the
poll return. Python itself writes such a byte when a signal arrives (`signal.set_wakeup_fd`).

When is the pair made? Only `open` makes it, and the loop calls `open` just before its first poll that can wait. A run
that never waits for a real event, like most runs in virtual time, therefore needs no file descriptor, and works where
there are no sockets. Until then a call is only stored: a loop that does not wait reaches its next Wait phase by
itself. The danger is a call from another thread at the very moment of `open`. Such a call can't be lost, because each
side writes first and then reads the other's variable: `call` appends, then checks whether the pair exists; `open`
stores the pair, then writes a byte into it. That first byte makes the wait that follows return at once. So the loop
checks once more for everything that came before the pair existed: calls, interrupts, and tasks that a signal handler
of the program has woken.

Invariants:
1. Calls take effect in the loop's Wait phase only, in order of arrival.
2. Once the pair is open, a call or a signal ends the wait that it meets, or the next one.
3. After the run, the previous wake-up fd of the signal module is restored, and both sockets are closed.

Decision: the pair is made late, on demand.
Because: a run in virtual time is then pure computation; it works in a browser's Python, and a test that runs thousands
of programs saves thousands of pairs.
Rejected: a pair in each run, as in trio and asyncio; a run could then fail before its first turn, for lack of file
descriptors.

Not here: the effect of Ctrl-C (`interrupt`); tasks that wait for a signal (`signals`) or a thread (`threads`).
"""

from __future__ import annotations

import signal
import socket
from collections import deque
from functools import partial

from ..io._selectors2 import READ
from ..io.poller import Poller
from ..kernel import Service
from .sleeping import SleepingQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..io.filelike import FileState
    from ..kernel import Kernel

READ_BYTES = 4096  # read at once from the pair: one wake-up is one byte


class Wakeup(Service):
    """The service for calls from other threads and signal handlers: the calls, and the socket pair that wakes the loop.

    An extension whose answer comes from another thread lets that thread use `call`. Its service has a method
    `Service.pending`, which returns how many tasks wait for such an answer. Without it, the loop takes their wait for
    a Deadlock.

    Example:
        >>> from threading import Timer
        >>> from minisched import NOT_YET, Selectable, Service, Wakeup, resume, run
        >>> class Answers(Service):
        ...     def __init__(self, kernel):
        ...         super().__init__(kernel)
        ...         self.waiting = {}
        ...     def pending(self):
        ...         return len(self.waiting)
        ...     def deliver(self, waiter):
        ...         if self.waiting.pop(waiter, None) is not None:
        ...             resume(self.kernel, waiter, 42)
        >>> class Ask(Selectable[int]):
        ...     def try_now(self, kernel, task):
        ...         return NOT_YET
        ...     def add_waiter(self, kernel, waiter):
        ...         answers, wakeup = kernel.service(Answers), kernel.service(Wakeup)
        ...         wakeup.open()  # now, since it fails if no descriptor is left
        ...         answers.waiting[waiter] = True
        ...         Timer(0.001, wakeup.call, [lambda: answers.deliver(waiter)]).start()
        ...         return lambda: answers.waiting.pop(waiter)
        >>> def main():
        ...     return (yield Ask())
        >>> run(main())
        42
    """

    task = None  # the poller treats this object as a waiter, for which no task waits

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.calls: deque[Callable[[], object]] = deque()
        self.interrupted = False  # an interrupt has arrived that the loop has not handled (`interrupt`)
        self.unseen = False  # a call or an interrupt has arrived since `take`: all that the loop looks at
        self.receiver: socket.socket | None = None
        self.sender: socket.socket | None = None  # set last: a thread that sees it may send
        self.file_state: FileState | None = None  # the receiver's
        self.wakeup_fd = -1  # the sender's, as long as it is the signal module's
        self.previous_fds: list[int] = []  # the signal module's wake-up fd before the run; empty: nothing to restore

    def call(self, function: Callable[[], object]) -> None:
        """Schedule `function()` in the run's thread, in the loop's next Wait phase. Any thread may call this."""
        self.calls.append(function)
        self.unseen = True
        self.wake()

    def interrupt(self) -> None:
        """Let the loop handle an interrupt in its next Wait phase. A signal handler calls this."""
        self.interrupted = self.unseen = True
        self.wake()

    def wake(self) -> None:
        """End the loop's wait, now or as soon as it begins. Any thread may call this."""
        if self.sender is not None:
            try:
                _ = self.sender.send(b"\0")
            except OSError:
                pass  # the pair is full of wake-ups already, or the run has ended

    def open(self) -> None:
        """Make the socket pair, if there is none yet, with one byte in it; OSError if there is no descriptor left."""
        if self.sender is not None:
            return
        receiver, sender = socket.socketpair()
        try:
            receiver.setblocking(False)
            sender.setblocking(False)
            poller = self.kernel.service(Poller)
            self.file_state = poller.state_of(receiver.fileno(), persistent=True)
            poller.add_waiter(self.file_state, READ, self)
        except BaseException:
            receiver.close()
            sender.close()
            raise
        poller.asleep = SleepingQueue(self.kernel, self.wake)
        poller.internal_waiters += 1  # while tasks are ready, the loop reads `calls`, and need not poll for this
        self.receiver, self.sender = receiver, sender
        try:
            set_fd = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)
            self.wakeup_fd = sender.fileno()
            self.previous_fds.extend(map(set_fd, [self.wakeup_fd]))  # one call, in which no signal handler can raise
        except (AttributeError, ValueError):
            pass  # the platform has no wake-up fd, or this is not the main thread, which handles the signals
        self.wake()
        run_pending_handlers()  # of signals that arrived before there was a wake-up fd, and have written no byte

    def ready(self) -> None:
        """Empty the pair; the poller calls this. `run_calls` does the rest."""
        assert self.receiver is not None and self.file_state is not None
        signums = b""  # Python writes the number of a signal; `wake` writes a 0
        try:
            while True:
                data = self.receiver.recv(READ_BYTES)
                signums = data.strip(b"\0") or signums
                if len(data) < READ_BYTES:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        self.kernel.service(Poller).add_waiter(self.file_state, READ, self)
        if signums:
            run_pending_handlers()

    def take(self) -> tuple[int, bool]:
        """Return how many calls there are to make, and whether there is an interrupt to handle; the loop does both."""
        self.unseen = False  # first: a call that arrives from now on is seen in the next Wait phase, if not in this one
        interrupted, self.interrupted = self.interrupted, False
        return len(self.calls), interrupted

    def run_calls(self, count: int) -> None:
        """Make the first `count` calls; those that they schedule are made in the next Wait phase."""
        for _ in range(count):
            _ = self.calls.popleft()()

    def closed(self) -> None:
        """Stop counting the pair as a waiter: the program has closed its descriptor. The poller calls this."""
        self.kernel.service(Poller).internal_waiters -= 1

    def close(self) -> None:
        """Restore the wake-up fd and close the pair. May be called again, as in a forked process."""
        try:
            if self.previous_fds:
                restore_wakeup_fd(self.previous_fds[0], self.wakeup_fd)
                self.previous_fds.clear()
        finally:
            for end in (self.receiver, self.sender):
                if end is not None:
                    close_end(end)


def restore_wakeup_fd(previous: int, ours: int) -> None:
    """Set the wake-up fd to `previous`, unless the program has set another one than `ours` during the run."""
    fd = previous
    try:
        current = signal.set_wakeup_fd(-1)
        fd = previous if current == ours else current
    finally:
        try:
            _ = signal.set_wakeup_fd(fd)
        except (OSError, ValueError):
            pass  # its owner has closed it, or made it blocking, in the meantime: then there is none


def close_end(end: socket.socket) -> None:
    """Close one end of the pair, unless the program has closed its descriptor."""
    try:
        end.close()
    except OSError:
        pass


def run_pending_handlers() -> None:
    """Run the Python handlers of signals that have arrived, now.

    The interpreter runs them between two instructions. But in a process that Python 3.13.0 has forked in another
    thread than the first, it runs them only inside calls that check for signals themselves, as this one does.
    """
    if hasattr(signal, "pthread_sigmask"):
        _ = signal.pthread_sigmask(signal.SIG_BLOCK, ())
