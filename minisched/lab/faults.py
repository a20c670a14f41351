"""Faults of the operating system: errors, short reads and writes, false alarms, a clock that jumps, Ctrl-C.

Theory of operation. `Faults` is a world that asks the operating system (`world`), and gives another answer at chosen
questions: by a script of places, or at random with a seed. A place is the number of a question among those of its kind,
such as the third read. `faults_everywhere` runs a program once without faults, to count the questions, and then once
for each place and each fault that its kind has. All of these runs are in virtual time.

A fault is one that the operating system may give at this place, and leaves the file as the system would: after a short
read, the rest of the bytes comes with the next one.

Invariants:
1. The same script gives the same faults at the same places.
2. A trial ends: a run that takes too many turns, or waits for ever, is a failure that names the fault.

Not here: the boundary (`world`); the checks after a run (`leftovers`).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from random import Random

from ..bridges.interrupt import Interrupts
from ..tasks.clocks import MonotonicClock, VirtualClock
from ..tasks.timers import Timers
from .leftovers import Resources, Trial
from .world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..kernel import Kernel, Task
    from .leftovers import Made

    Place = tuple[str, int]  # the kind of a question, and its number among those of the kind, from 1

MAX_TURNS_RATIO = 50  # of a run with a fault to the first one: more than any retry needs
MIN_TURNS = 1000  # as many are allowed in any case
PATIENCE_SECONDS = 5.0  # of a poll without a timeout, in real time
JUMP_SECONDS = 3600.0  # of a clock that jumps: longer than the timeouts of most programs

ERRNOS = {
    "read": ["ECONNRESET", "ETIMEDOUT"],
    "write": ["EPIPE", "ECONNRESET"],
    "accept": ["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS"],
    "connect": ["ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"],
    "socket": ["EMFILE"],
    "read file": ["EIO"],
    "write file": ["EPIPE", "ENOSPC"],
    "pread": ["EIO"],
    "pwrite": ["ENOSPC", "EIO"],
    "read at": ["EIO"],
    "write at": ["ENOSPC", "EIO"],
    "fsync": ["ENOSPC", "EIO"],
    "open": ["EMFILE", "EACCES", "ENOSPC"],
    "listen": ["EADDRINUSE", "EMFILE"],
}
# Other faults by kind: "would block" is a false alarm of the poll.
OTHERS = {
    "read": ["short", "would block"],
    "write": ["short", "would block"],
    "accept": ["would block"],
    "read file": ["short", "would block"],
    "write file": ["short", "would block"],
    "pread": ["short"],
    "pwrite": ["short"],
    "cached": ["not cached"],
    "known": ["no name server"],
    "poll": ["nothing", "clock jumps", "Ctrl-C"],
}
FAULTS = {kind: [*ERRNOS.get(kind, ()), *OTHERS.get(kind, ())] for kind in {**ERRNOS, **OTHERS}}


class Faults(World):
    """A world with faults at chosen places.

    Args:
        script: the fault at each place: `{("read", 3): "ECONNRESET"}` breaks the third read. FAULTS has the names.
        seed: choose places and faults at random instead, the same ones for the same seed and program.
        rate: the share of the questions that get a fault, with `seed`; from 0 to 1.

    Attributes:
        injected: the faults that have happened, as a script.

    Raises:
        ValueError: the script has a kind or a fault that does not exist.

    Example:
        >>> from minisched import Connect, Listen, Write, run
        >>> from minisched.lab import Faults
        >>> def main():
        ...     with (yield Listen(("127.0.0.1", 0))) as listener, (yield Connect(listener.address)) as sock:
        ...         try:
        ...             yield Write(sock, b"hello")
        ...         except BrokenPipeError as error:
        ...             return str(error)
        >>> faults = Faults({("write", 1): "EPIPE"})
        >>> run(main(), services=faults.services())
        '[Errno 32] Broken pipe'
        >>> faults.injected
        {('write', 1): 'EPIPE'}
    """

    def __init__(
        self, script: Mapping[Place, str] | None = None, *, seed: int | None = None, rate: float = 0.05
    ) -> None:
        super().__init__()
        self.script = dict(script or {})
        for (kind, number), fault in self.script.items():
            if fault not in FAULTS.get(kind, ()):
                raise ValueError(
                    f"no fault {fault!r} at {kind} {number}: {kind} has {', '.join(FAULTS.get(kind, ['none']))}"
                )
        self.random = None if seed is None else Random(seed)
        self.rate = rate
        self.counts: dict[str, int] = {}  # questions by kind
        self.injected: dict[Place, str] = {}
        self.inside = False

    def ask(self, kind: str, thing: Any, do: Callable[..., Any], *args: Any) -> Any:
        """Return the answer of the operating system, or a fault."""
        if self.inside or kind not in FAULTS:
            return do(thing, *args)
        number = self.counts[kind] = self.counts.get(kind, 0) + 1
        fault = self._fault(kind, number)
        self.inside = True
        try:
            if fault is None:
                return do(thing, *args)
            self.injected[kind, number] = fault
            return self._inject(fault, thing, do, args)
        finally:
            self.inside = False

    def _fault(self, kind: str, number: int) -> str | None:
        if self.random is None:
            return self.script.get((kind, number))
        if self.random.random() >= self.rate:
            return None
        return self.random.choice([fault for fault in FAULTS[kind] if fault not in BEFORE])

    def _inject(self, fault: str, thing: Any, do: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if fault in BEFORE:
            assert self.kernel is not None
            BEFORE[fault](self.kernel)
            return do(thing, *args)
        if fault == "short":
            return do(thing, 1 if isinstance(args[0], int) else args[0][:1], *args[1:])
        if fault in ANSWERS:
            return ANSWERS[fault]
        raise error_of(fault)


def error_of(fault: str) -> OSError:
    """Return the error that the operating system reports."""
    if fault == "would block":
        return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if fault == "no name server":
        return socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    number = getattr(errno, fault)
    return OSError(number, os.strerror(number))


def jump(kernel: Kernel) -> None:
    """Let a virtual clock jump forward."""
    clock: Any = kernel.service(Timers).clock
    if hasattr(clock, "time"):
        clock.time += JUMP_SECONDS


def interrupt(kernel: Kernel) -> None:
    """Raise SIGINT, as Ctrl-C does, unless there was one: a second one would end the run at once."""
    if kernel.service(Interrupts).count == 0:
        signal.raise_signal(signal.SIGINT)


ANSWERS: dict[str, Any] = {"nothing": [], "not cached": None}  # in place of the system's
BEFORE = {"clock jumps": jump, "Ctrl-C": interrupt}  # done before the question is asked


def faults_everywhere(
    make: Callable[[], Made],
    *,
    expected: tuple[type[BaseException], ...] = (OSError,),
    kinds: tuple[str, ...] = tuple(FAULTS),
) -> int:
    """Run a program once for each place at which the operating system can fail, and each fault; return how many runs.

    The runs are in virtual time, with real sockets. After each of them, no task waits, no timer is set, and no
    descriptor, thread or child process is left. The cost is O(places x length of the program): keep it short.

    Args:
        make: called for each run; returns a fresh generator or coroutine, or a pair of it and a function `check()`,
            which is called after the run and raises if something was lost.
        expected: exceptions that the program may raise when there is a fault; they may be in groups.
        kinds: kinds of questions whose faults are tried; by default all of FAULTS.

    Raises:
        AssertionError: says which fault was injected, and what went wrong.

    Example:
        >>> from minisched import Connect, Listen, Write
        >>> from minisched.lab import faults_everywhere
        >>> def make():
        ...     def main():
        ...         with (yield Listen(("127.0.0.1", 0))) as listener, (yield Connect(listener.address)) as sock:
        ...             yield Write(sock, b"hello")
        ...     return main()
        >>> faults_everywhere(make, kinds=("listen", "write"))
        7
    """
    first = FaultTrial(make, (), Faults())
    first.execute()
    count = 1
    most = max(first.turns * MAX_TURNS_RATIO, MIN_TURNS)
    for kind in kinds:
        for number in range(1, first.faults.counts.get(kind, 0) + 1):
            for fault in FAULTS[kind]:
                interrupts = (KeyboardInterrupt,) if fault == "Ctrl-C" else ()
                trial = FaultTrial(make, (*expected, *interrupts), Faults({(kind, number): fault}), most)
                trial.execute()
                count += 1
    return count


class FaultTrial(Trial):
    """One run of a program with faults."""

    def __init__(
        self,
        make: Callable[[], Made],
        expected: tuple[type[BaseException], ...],
        faults: Faults,
        max_turns: int | None = None,
    ) -> None:
        super().__init__(make, expected)
        self.injected = ", ".join(f"{fault} at {kind} {number}" for (kind, number), fault in faults.script.items())
        self.injected = f"{self.injected or 'without a fault'}: "
        self.faults = faults
        self.max_turns = max_turns
        self.turns = 0
        self.before = Resources()

    def execute(self) -> None:
        """Run the program; raise AssertionError if anything is wrong."""
        self.run_once(services=self.faults.services() | {Timers: self._timers}, watch=[self], debug=False)

    def check(self) -> None:
        """Check that no descriptor, thread or child process is left."""
        left = self.before.left()
        if left:
            raise AssertionError(f"the run left behind: {left}")

    def _timers(self, kernel: Kernel) -> Timers:
        self.faults.kernel = kernel
        return Timers(kernel, PatientClock(self.faults))

    def turn(self, task: Task) -> None:
        self.turns += 1
        if self.max_turns is not None and self.turns > self.max_turns:
            _ = task.kernel.broken_rule(f"the program spins: {self.max_turns:,} turns are not enough")


class PatientClock(VirtualClock):
    """A virtual clock that does not wait for ever for a file that is never ready."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    def wait(self, select: Callable[[float | None], int], deadline: float | None) -> None:
        """Jump to `deadline` if no file is ready; without a deadline, wait a few seconds in real time."""
        if deadline is not None:
            return super().wait(select, deadline)
        until = MonotonicClock.now() + PATIENCE_SECONDS  # a poll that finds nothing as a fault returns before
        if not select(PATIENCE_SECONDS) and MonotonicClock.now() >= until and self.faults.kernel is not None:
            _ = self.faults.kernel.broken_rule(f"the program waits for a file for more than {PATIENCE_SECONDS:g} s")
        return None
