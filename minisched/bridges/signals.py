"""WaitSignal: tasks that wait for signals.

Theory of operation. Python calls the handler of a signal between two instructions of the main thread. The handler of
this module only schedules a call in the loop (`Wakeup.call`), which ends the loop's wait. In its next Wait phase the
loop resumes the task. A task *owns* a signal from its first `WaitSignal` for it until its body ends. A signal that
arrives between two waits of its owner is kept for the next wait. It has no other effect; otherwise it might end the
process. Several tasks may own the same signal; each of them receives it.

Invariants:
1. A signal has this module's handler while at least one task owns it, and its previous handler before and afterwards.
2. Each owner has at most one of each signal kept for it, as the operating system keeps at most one that is blocked.

Not here: Ctrl-C and SIGTERM as the end of the run (`interrupt`).
"""

from __future__ import annotations

import signal
from functools import partial

from ..errors import SyscallError
from ..kernel import Selectable, Service
from ..kernel.lifecycle import Lifecycle
from ..kernel.waiting import NOT_YET, resume, task_of
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter


class Signals(Service):
    """The owners of each signal, the signals that are kept for them, and the previous handlers."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.wakeup.open()
        self.owners: dict[int, dict[Task, None]] = {}  # by signal
        self.previous: dict[int, Any] = {}  # the handler that each of these signals had
        self.kept: dict[Task, dict[int, None]] = {}  # by owner: the signals between two waits, in order
        self.waiting: dict[Waiter, tuple[int, ...]] = {}

    def own(self, task: Task, signum: int) -> None:
        """Make the task an owner of a signal until its body ends; SyscallError if that is impossible."""
        if not isinstance(signum, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SyscallError(f"WaitSignal takes signals as separate arguments, such as signal.SIGHUP, not {signum!r}")
        owners = self.owners.get(signum, {})
        if task in owners:
            return
        if not owners:
            self._set_handler(signum)
        self.owners.setdefault(signum, {})[task] = None
        if task not in self.kept:
            self.kept[task] = {}
            self.kernel.service(Lifecycle).add_body_end_callback(task, self.disown)

    def _set_handler(self, signum: int) -> None:
        try:
            previous = signal.getsignal(signum)
        except ValueError as error:
            raise SyscallError(f"WaitSignal: {signum!r} is not a signal of this platform") from error
        self.previous[signum] = previous  # first: another signal's handler may raise between the two
        try:
            _ = signal.signal(signum, self._on_signal)
        except (ValueError, OSError) as error:
            del self.previous[signum]
            problem = "this signal can't be caught"
            if isinstance(error, ValueError):
                problem = "only a run in the main thread receives signals"
            raise SyscallError(f"WaitSignal({signal_name(signum)}): {problem}") from error

    def _on_signal(self, signum: int, frame: Any) -> None:
        """Handle a signal: schedule its delivery in the loop."""
        self.wakeup.call(partial(self._deliver, signum))

    def _deliver(self, signum: int) -> None:
        """Wake the owners that wait for this signal, and keep it for the others."""
        keepers = dict(self.owners.get(signum, {}))
        for waiter, signums in list(self.waiting.items()):
            task = task_of(waiter)
            if signum in signums and task in keepers:  # once, even if several branches of a `select` wait for it
                del keepers[task]
                del self.waiting[waiter]
                resume(self.kernel, waiter, signum)
        for task in keepers:
            self.kept[task][signum] = None

    def disown(self, task: Task) -> None:
        """End all ownerships of a task whose body has ended."""
        del self.kept[task]
        for signum, owners in list(self.owners.items()):
            _ = owners.pop(task, None)
            if not owners:
                del self.owners[signum]
                self._restore(signum)

    def _restore(self, signum: int) -> None:
        previous = self.previous[signum]
        if signal.getsignal(signum) == self._on_signal:  # otherwise the program has set a handler in the meantime
            _ = signal.signal(signum, signal.SIG_DFL if previous is None else previous)
        del self.previous[signum]

    def pending(self) -> int:
        return len(self.waiting)

    def tasks(self) -> Iterable[Task]:
        return map(task_of, self.waiting)

    def close(self) -> None:
        """Restore every handler."""
        while self.previous:
            self._restore(next(iter(self.previous)))


class WaitSignal(Selectable[int]):
    """Wait for one of the given signals; return the number of the one that arrived.

    One of the signals wakes the task. From its first WaitSignal to the end of its body, the task owns these signals:
    they have no other effect, and do not end the process. A signal that arrives between two waits is kept and ends the
    next wait at once; several of the same kind count once. When the last owner's body has ended, the previous handler
    is restored. If several tasks own a signal, each of them receives it. While a task waits for a signal, the run
    raises no Deadlock. A cancellation ends the wait and loses no signal.

    Args:
        signums: one signal or more, such as `signal.SIGHUP`.

    Raises:
        SyscallError: there are no arguments, an argument is not a signal or can't be caught (SIGKILL), or the run is
            not in the main thread, the only one in which Python handles signals.
        OSError: no file descriptor is left for the wake-up of the loop.

    Example:
        >>> import signal
        >>> from minisched import Sleep, Spawn, WaitSignal
        >>> from minisched.testing import run
        >>> def reloads():
        ...     while True:
        ...         yield WaitSignal(signal.SIGHUP)
        ...         print("read the configuration again")
        >>> def main():
        ...     yield Spawn(reloads(), daemon=True)
        ...     yield Sleep(1)
        ...     signal.raise_signal(signal.SIGHUP)  # as `kill -HUP` does
        ...     yield Sleep(1)
        >>> run(main())
        read the configuration again
    """

    __slots__ = ("signums",)
    external = True

    def __init__(self, *signums: int) -> None:
        self.signums = signums

    def try_now(self, kernel: Kernel, task: Task) -> int:
        if not self.signums:
            raise SyscallError("WaitSignal needs one signal or more, such as WaitSignal(signal.SIGHUP)")
        signals = kernel.service(Signals)
        for signum in self.signums:
            signals.own(task, signum)
        kept = signals.kept[task]
        for signum in kept:
            if signum in self.signums:
                del kept[signum]
                return signum
        return NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        waiting = kernel.service(Signals).waiting
        waiting[waiter] = self.signums
        return partial(waiting.__delitem__, waiter)

    def __repr__(self) -> str:
        return f"WaitSignal({', '.join(map(signal_name, self.signums))})"


def signal_name(signum: int) -> str:
    """Return the name of a signal, or the `repr` of any other object."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return repr(signum)
