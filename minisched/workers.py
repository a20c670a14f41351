"""Several processes that serve at the same listeners, forked before there is any kernel.

Theory of operation. The first process opens the listeners, forks the workers and then only waits for
signals, which it has blocked, so that none is lost between two looks. Each worker is a run of its
own. One that dies is replaced; one that died within a second of its start, only after a pause, so
that what is broken does not spin. SIGTERM and Ctrl-C are passed on to all, as SIGTERM, and the second as the
second: so each worker stops in two steps, as a server does. A worker whose first process is gone,
however that came about, sees the end of a pipe and stops, too.

Invariants:
1. No kernel exists when a process is forked; no worker forks.
2. When `serve_workers` ends, no worker lives.

Not here: what a worker does (`serve`).
"""

from __future__ import annotations

import os
import signal
import sys
from time import monotonic

from .errors import SyscallError
from .files import WaitReadable
from .loop import busy, run
from .network import BACKLOG, listen
from .serve import run_server
from .server import GRACE, IDLE, Server, log
from .tasks import Spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .network import Address, Socket
    from .server import Handler

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
AT_ONCE = 1.0  # seconds; a worker that dies sooner is replaced after as long a pause


def serve_workers(
    handler: Handler,
    *addresses: Address,
    workers: int,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE,
    grace: float | None = GRACE,
    backlog: int = BACKLOG,
    ready: Callable[[Socket], object] | None = None,
) -> None:
    """Serve at `(host, port)` or a Unix path, or several, in so many processes, until Ctrl-C or SIGTERM.

    A plain call, in place of `run(serve(...))`, in the main thread; the limits hold for each worker. A worker that
    dies is logged and replaced. Raises OSError if an address can't be had, and KeyboardInterrupt or SystemExit(143)
    when it was stopped. For POSIX only.
    """
    from contextlib import ExitStack  # only here: it is slow to import

    if busy():
        raise SyscallError("serve_workers forks, and a kernel can't be forked: call it in place of `run(serve(...))`")
    if workers < 1 or not addresses:
        raise ValueError(f"serve_workers takes 1 address or more and 1 worker or more, not {addresses} and {workers}")
    server = Server(handler, max_connections, idle_timeout, grace)  # each worker has its copy
    with ExitStack() as listening:
        listeners = [listening.enter_context(listen(address, backlog)) for address in addresses]
        for listener in listeners if ready is not None else ():
            _ = ready(listener)  # pyright: ignore[reportOptionalCall]
        ignored = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored one never comes
        staff = Staff(lambda: run_server(server, listeners, None), listening.close)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            staff.keep(workers, before)
        finally:
            staff.kill()
            _ = signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _ = signal.signal(signal.SIGCHLD, ignored or signal.SIG_DFL)
    if staff.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + staff.stopped_by)


class Staff:
    """The workers that live, and since when."""

    def __init__(self, make: Callable[[], Generator[Any, Any, object]], stop_listening: Callable[[], object]) -> None:
        self.make = make
        self.stop_listening = stop_listening
        self.born: dict[int, float] = {}  # by process
        self.stopped_by = 0  # which signal
        self.late: list[float] = []  # when those will be replaced that died at once
        self.lifeline = os.pipe()  # the workers see its end when this process is gone

    def keep(self, workers: int, mask: set[int]) -> None:
        """Keep so many workers alive until a signal comes, and then wait for their ends."""
        for _ in range(workers):
            self.fork(mask)
        while self.born or not self.stopped_by:
            signum = self.next_signal()
            if signum == signal.SIGCHLD:
                self.bury(mask)
            elif signum is not None:
                self.stop(signum)
            while self.late and self.late[0] <= monotonic() and not self.stopped_by:
                _ = self.late.pop(0)
                self.replace(mask)

    def next_signal(self) -> int | None:
        """Wait for a signal, or until a worker is to be replaced (None)."""
        if not self.late or self.stopped_by:
            return signal.sigwait(SIGNALS)
        came = signal.sigtimedwait(SIGNALS, max(self.late[0] - monotonic(), 0))
        return None if came is None else came.si_signo

    def fork(self, mask: set[int]) -> None:
        """Start a worker."""
        flush()
        pid = os.fork()
        if pid == 0:
            work(self.make, self.lifeline, mask)
        self.born[pid] = monotonic()

    def replace(self, mask: set[int]) -> None:
        """Start a worker in place of another; after a pause, if that can't be done now."""
        try:
            self.fork(mask)
        except OSError as error:
            log().error("can't start a worker: %s; trying again in %g s", error.strerror, AT_ONCE)
            self.late.append(monotonic() + AT_ONCE)

    def bury(self, mask: set[int]) -> None:
        """Replace the workers that have died."""
        for pid in list(self.born):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            lived = monotonic() - self.born.pop(pid)
            if self.stopped_by:
                continue
            how = how_it_ended(os.waitstatus_to_exitcode(status))
            log().error("worker %d %s after %.1f s, and is replaced", pid, how, lived)
            if lived < AT_ONCE:
                self.late.append(monotonic() + AT_ONCE)
            else:
                self.replace(mask)

    def stop(self, signum: int) -> None:
        """Listen no more, and tell all workers to stop; a second time, at once."""
        self.stopped_by = self.stopped_by or signum
        _ = self.stop_listening()  # else clients could connect, whom no worker would serve
        self.tell(signal.SIGTERM)

    def kill(self) -> None:
        """Leave nobody behind, whatever has happened."""
        self.tell(signal.SIGKILL)
        for pid in self.born:
            _ = os.waitpid(pid, 0)
        self.born.clear()
        for fd in self.lifeline:
            os.close(fd)

    def tell(self, signum: int) -> None:
        """Send a signal to each worker."""
        for pid in self.born:
            os.kill(pid, signum)  # it is there, since it was not waited for yet


def work(make: Callable[[], Generator[Any, Any, object]], lifeline: tuple[int, int], mask: set[int]) -> None:
    """Be a worker; does not return."""
    status = 1
    try:
        _ = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for all: the first process passes it on
        _ = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _ = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(lifeline[1])
        run(body(make, lifeline[0]))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        try:
            flush()
        finally:  # whatever happens: beyond this is the first process's program
            os._exit(status)


def body(make: Callable[[], Generator[Any, Any, object]], lifeline: int) -> Generator[Any, Any, None]:
    """Serve, and stop when the first process is gone."""
    _ = yield Spawn(watch_over(lifeline), "lifeline", daemon=True)
    yield from make()


def watch_over(lifeline: int) -> Generator[Any, Any, None]:
    """End the run at the end of the pipe."""
    yield WaitReadable(lifeline)
    log().error("the first process is gone: worker %d stops", os.getpid())
    raise SystemExit(1)


def how_it_ended(code: int) -> str:
    """Say with which exit code a process has ended."""
    if code >= 0:
        return f"ended with status {code}"
    return f"was ended by signal {-code} ({signal.strsignal(-code)})"


def flush() -> None:
    """Write out what was printed: two processes would have it in their buffers, or none."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _ = stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none, it is closed, or nobody reads it
