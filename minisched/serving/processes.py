"""Worker processes and orphans: the fork of a worker, and the orphans that this process inherits.

Theory of operation. PID 1 of a container, and a subreaper, inherit the children of processes that have ended.
`Orphans` collects those.

Invariants:
1. The exit status of a child that the program itself has started is left to the program.

Decision: a child of the main thread is an orphan, a child of another thread is the program's (Linux). The
main thread inherits the orphans, and starts workers only. ORPHAN_SECONDS are for a child whose thread has ended.
Because: an orphan that nobody collects stays in the table of processes, while `waitpid(-1)` takes the exit statuses
of `subprocess` in other threads.
Rejected: to leave this to an init (`docker run --init`), which most containers lack.

Not here: the end of a child, and signals to it (`bridges/children`); the decision to start, to replace or to kill a
process (`workers`).
"""

from __future__ import annotations

import os
import signal
import sys
from math import inf

from ..bridges.children import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ORPHAN_SECONDS = 3.0  # after its end, before an orphan is collected: a child of the program is collected sooner


class Orphans:
    """The processes that this one inherits, as PID 1 or as a subreaper."""

    def __init__(self) -> None:
        self.others = main_thread_children()  # the program's own, from before
        self.ended_at: dict[int, float] = {}  # by pid: the time of the check that first saw its end
        self.inherits: bool | None = None  # this process inherits orphans; None: not known yet

    def collect(self, children: Collection[int], now: float) -> float:
        """Collect the orphans that ended ORPHAN_SECONDS ago; return the seconds until the next check, inf for none.

        Args:
            children: the pids of the children that the caller collects itself.
            now: the time in seconds, by any clock.
        """
        if self.inherits is False:
            return inf
        pids = main_thread_children()
        self.others &= pids
        ended = {pid for pid in pids - self.others - {*children} if is_zombie(pid)}
        if ended and self.inherits is None:
            self.inherits = os.getpid() == 1 or is_subreaper()
            return self.collect(children, now)
        self.ended_at = {pid: self.ended_at.get(pid, now) for pid in ended}
        for pid, since in list(self.ended_at.items()):
            if now - since >= ORPHAN_SECONDS:
                del self.ended_at[pid]
                try:
                    _ = os.waitpid(pid, os.WNOHANG)
                except OSError:
                    pass  # another part of the program has collected it
        return min(self.ended_at.values()) + ORPHAN_SECONDS - now if self.ended_at else inf


def main_thread_children() -> set[int]:
    """Return the pids of the children of the main thread; none where the system does not tell (Linux does)."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return {int(child) for child in file.read().split()}
    except OSError:
        return set()


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended, and its exit status waits to be collected (Linux)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def is_subreaper() -> bool:
    """Return whether this process inherits the orphans among its descendants (Linux)."""
    try:
        import ctypes  # imported here: slow, and missing in some builds

        answer = ctypes.c_int(0)  # for PR_GET_CHILD_SUBREAPER, which is 37
        return ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0) == 0 and answer.value != 0
    except (ImportError, OSError, AttributeError):
        return False


def fork(in_child: Callable[[], object]) -> Process:
    """Fork; run `in_child()`, which never returns, in the child, and return the child in this process.

    All signals are blocked meanwhile. So no handler of this process runs in the child before `in_child` has set its
    own, and none raises here between the fork and the record of the child.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _ = in_child()
        return Process(pid)
    finally:
        _ = signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def exit_status(end: SystemExit) -> int:
    """Return the exit status of a SystemExit; write a message that stands in its place to standard error."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def flush() -> None:
    """Flush standard output and error, so that a fork does not duplicate, and an exit does not lose, buffered text."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _ = stream.flush()
        except Exception:
            pass  # there is no such stream, it is closed, or its reader is gone
