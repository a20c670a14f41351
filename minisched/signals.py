"""WaitSignal: signals as something that tasks wait for.

Theory of operation. Python calls a signal's handler between two instructions of the main thread;
ours only leaves word with the loop (whose wait the signal has ended), which resumes the task in its
next Wait. From its first `WaitSignal` for a signal to the end of its body, that signal is the
task's: one that comes between two waits is kept for the next, and does not do what it would have
done otherwise, which may be to end the process.

Invariant: a signal's handler is ours while a living task has waited for it, and then again what it was.

Not here: Ctrl-C and SIGTERM as the end of the run (`wakeup`, `serve`).
"""

from __future__ import annotations

import signal
from functools import partial

from .errors import SyscallError
from .family import Family
from .kernel import Kernel, Service, Syscall, Task
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Signals(Service):
    """Which signals are whose, which have come, and what their handlers were."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.takers: dict[int, dict[Task, None]] = {}  # by signal
        self.before: dict[int, Any] = {}
        self.come: dict[Task, dict[int, None]] = {}  # of what each has taken: what it was not told of, in order
        self.waiting: dict[Task, tuple[int, ...]] = {}

    def take(self, task: Task, signum: int) -> None:
        """Let a signal be the task's, too. SyscallError where that can't be."""
        if not isinstance(signum, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SyscallError(f"WaitSignal takes signals, as signal.SIGHUP, one by one, not {signum!r}")
        takers = self.takers.get(signum, {})
        if task in takers:
            return
        if not takers:
            self._catch(signum)
        self.takers.setdefault(signum, {})[task] = None
        _ = self.come.setdefault(task, {})
        self.kernel.service(Family).tell_body_end(task, self)

    def _catch(self, signum: int) -> None:
        try:
            _ = signal.getsignal(signum)
        except ValueError as error:
            raise SyscallError(f"WaitSignal: {signum!r} is no signal") from error
        try:
            self.before[signum] = signal.signal(signum, self._arrived)
        except ValueError as error:
            raise SyscallError(f"WaitSignal({name(signum)}): only the main thread's run has signals") from error
        except OSError as error:
            raise SyscallError(f"WaitSignal({name(signum)}): that one can't be caught") from error

    def _arrived(self, signum: int, frame: Any) -> None:
        """Be the handler: leave word."""
        self.wakeup.call(partial(self._deliver, signum))

    def _deliver(self, signum: int) -> None:
        for task in self.takers.get(signum, ()):
            if signum in self.waiting.get(task, ()):
                del self.waiting[task]
                self.kernel.resume(task, signum)
            else:
                self.come[task][signum] = None

    def __call__(self, task: Task) -> None:
        """Be told that the body of a task is over: give its signals back."""
        del self.come[task]
        for signum, takers in list(self.takers.items()):
            _ = takers.pop(task, None)
            if not takers:
                del self.takers[signum]
                self._restore(signum)

    def _restore(self, signum: int) -> None:
        before = self.before.pop(signum)
        if signal.getsignal(signum) == self._arrived:  # else the program has set its own meanwhile
            _ = signal.signal(signum, signal.SIG_DFL if before is None else before)

    def pending(self) -> int:
        return len(self.waiting)

    def tasks(self) -> Iterable[Task]:
        return self.waiting

    def close(self) -> None:
        """Give every signal back."""
        while self.before:
            self._restore(next(iter(self.before)))


class WaitSignal(Syscall[int]):
    """Wait for one of these signals; return which came: `yield WaitSignal(signal.SIGHUP)`.

    Until the task's body ends, these signals do nothing else; one that comes
    between two waits is kept, once. What was there before is restored then.
    SyscallError outside of the main thread, for no signal, or one that can't be
    caught. Cancelled while parked: it waits no more.
    """

    __slots__ = ("signums",)
    world = True

    def __init__(self, *signums: int) -> None:
        self.signums = signums

    def handle(self, kernel: Kernel, task: Task) -> int | None:
        if not self.signums:
            raise SyscallError("WaitSignal takes one signal or more, as signal.SIGHUP")
        signals = kernel.service(Signals)
        for signum in self.signums:
            signals.take(task, signum)
        come = signals.come[task]
        for signum in come:
            if signum in self.signums:
                del come[signum]
                return signum
        signals.waiting[task] = self.signums
        kernel.park(task, partial(signals.waiting.__delitem__, task))
        return None

    def __repr__(self) -> str:
        return f"WaitSignal({', '.join(map(name, self.signums))})"


def name(signum: int) -> str:
    """Return a signal's name, if it has one."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return repr(signum)
