"""Serve in several processes at the same listeners: a prefork server.

Theory of operation. The arbiter is the process that calls `serve_workers`. It opens the listeners, forks the workers,
and then only waits: for signals, for the ends of workers, and for what it has to do later (`agenda`). Each worker is a
run of its own. The arbiter replaces a worker that ends. If one ends within FAST_DEATH_SECONDS of its start, a pause
comes first, which grows while that goes on, so that a broken worker is not restarted in a tight loop.

The first signal, or an exception in the arbiter, closes the listeners and reaches all workers as SIGTERM. A second
signal reaches them as a second SIGTERM: each worker stops in two steps, as any server does. A worker that has not
ended by its deadline is killed. A pipe shows the workers that the arbiter is gone: its read end becomes readable, and
they stop.

Invariants:
1. There is no kernel in a process that forks, and no worker forks.
2. When `serve_workers` ends, none of its workers is alive, except one that the operating system can't kill. That one
   is logged.
3. Signal handlers, the signal mask, the wake-up fd and the open files are then as before, whatever has failed.
4. No log handler and no listener that fails, no other thread, and no other reaper of children ends the arbiter.

Decision: `serve_workers` is a plain call in place of `run(serve(...))`. Because: a kernel's selector and wake-up
pipe must not be shared by two processes, so all forks come first. Rejected: an option of `serve`, which is only
called when a kernel exists or is about to.

Decision: workers that fail at their start are replaced for ever, with a pause that doubles up to
MAX_RESPAWN_PAUSE_SECONDS. Because: the reason may be one that passes, such as a database that starts later, and two
starts in a minute cost nothing. Rejected: to give up after some failures, which turns a short fault into a long one; a
constant pause, which fills the log.

Decision: a thread in each worker ends the worker some seconds after its grace, when the arbiter was killed. Because: a
handler that computes never lets the run see the pipe, and its worker would keep the address in use. Rejected:
PR_SET_PDEATHSIG by ctypes. As SIGKILL it leaves no grace, and any other signal is not seen by a C call either.

Not here: the server in each worker (`serve`); the handlers of signals (`stop_signals`); exit statuses (`processes`).
"""

from __future__ import annotations

import os
import signal
import sys
from _thread import start_new_thread
from functools import partial
from time import monotonic, sleep

from ..errors import SyscallError
from ..io.files import WaitReadable
from ..kernel.numbers import check_count
from ..loop import busy, run
from ..net.addresses import unix_path
from ..net.binding import BACKLOG_CONNECTIONS, listen, listen_all
from ..tasks.tasks import Spawn
from .connections import GRACE_SECONDS, IDLE_SECONDS, Connections, logger
from .processes import Orphans, Process, exit_status, flush, fork
from .serve import run_server
from .stop_signals import MAX_POLL_SECONDS, StopSignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from ssl import SSLContext
    from typing import Any

    from ..net.addresses import Address
    from ..net.sockets import Socket
    from .connections import Handler

FAST_DEATH_SECONDS = 1.0  # a worker that died sooner is replaced after a pause
RESPAWN_PAUSE_SECONDS = 1.0  # before a worker that died fast is replaced, or a failed fork is retried
MAX_RESPAWN_PAUSE_SECONDS = 30.0  # the pause doubles up to this, from the third failure in a row
AFTER_GRACE_SECONDS = 5.0  # after `grace`, for the cleanup of the handlers, before a worker is killed
SECOND_SIGNAL_SECONDS = 2.0  # after a second signal, for the same
SIGNAL_INTERVAL_SECONDS = 0.1  # between two SIGTERMs to a worker: two at once would count as one
KILL_SECONDS = 5.0  # a worker that SIGKILL has not ended by then is in a call of the kernel that does not end
CHECK_SECONDS = 1.0  # between two checks of the workers, where no file reports their ends
LOG_SECONDS = 0.2  # for the last line of a worker whose arbiter is gone


def serve_workers(
    handler: Handler,
    *addresses: Address,
    workers: int,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE_SECONDS,
    grace: float | None = GRACE_SECONDS,
    backlog: int = BACKLOG_CONNECTIONS,
    nodelay: bool = True,
    mode: int | None = None,
    owner: int | str | None = None,
    status_signal: int | None = None,
    tls: SSLContext | None = None,
    ready: Callable[[Socket], object] | None = None,
) -> None:
    """Serve in `workers` processes at the same addresses, until Ctrl-C, SIGTERM or SIGHUP.

    This is a plain call in place of `run(serve(...))`, for the main thread. Each worker is a process with a run of its
    own, and the limits hold for each worker separately. A worker that dies is logged and replaced; if workers die
    within a second of their start, the pauses between them grow from 1 to 30 seconds. POSIX only.

    A signal closes the listeners, and the handlers have `grace` seconds to finish. A second signal stops the workers
    at once. A worker that does not react (in a call of C code, or stopped by SIGSTOP) is killed: 2 seconds after the
    second signal, at the third one, and at the latest 5 seconds after `grace` (unless that is None).

    Until the call ends, it handles SIGINT and SIGTERM, unless they are ignored, in place of the program's own handlers.
    It handles SIGHUP if that has its default action. Other threads of the program may wait for any child. As PID 1 of
    a container it collects the orphans that it inherits.

    Args:
        handler: a generator function or an `async def`; the connection is its only argument.
        addresses: one or more `(host, port)` pairs or Unix paths. The look-up of a name blocks: there is no run yet.
        workers: the number of processes, at least 1.
        max_connections, idle_timeout, grace, backlog, nodelay, tls: as for `serve`.
        mode, owner: of each Unix path, as for `Listen`.
        status_signal: as for `serve`, of each worker. The first process passes the signal on to all of them.
        ready: called in this process for each listener, before the workers start; `listener.address` has the port.

    Raises:
        OSError: if an address cannot be bound.
        ValueError: for no address or fewer than 1 worker, and as for `serve`.
        SyscallError: if a kernel is running in this process.
        KeyboardInterrupt: when Ctrl-C has stopped the workers.
        SystemExit: with code 143, when SIGTERM has stopped them; with code 129, when SIGHUP has.

    An exception of `ready`, of a signal handler of the program, or of the first forks is raised when the workers have
    stopped.

    Example:
        The program stops itself here: a handler sends SIGTERM to the parent of its worker.

        >>> import os, signal, socket
        >>> from minisched import Read, serve_workers
        >>> def stop(conn):
        ...     if (yield Read(conn, 4)) == b"stop":
        ...         os.kill(os.getppid(), signal.SIGTERM)
        >>> def ready(listener):
        ...     with socket.create_connection(listener.address) as client:  # it waits in the backlog
        ...         client.sendall(b"stop")
        >>> serve_workers(stop, ("127.0.0.1", 0), workers=2, ready=ready)
        Traceback (most recent call last):
        SystemExit: 143
    """
    from contextlib import ExitStack  # imported here: `import minisched` is to stay quick

    if busy():
        raise SyscallError("serve_workers forks, and a kernel can't be forked: call it in place of `run(serve(...))`")
    workers = check_count("serve_workers", "workers", "processes", workers, least=1)
    if not addresses:
        raise ValueError("serve_workers takes at least 1 address")
    connections = Connections(
        handler, max_connections, idle_timeout, grace, status_signal, tls
    )  # each worker gets a copy
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        listeners: list[Socket] = []
        _ = stack.callback(close_listeners, listeners, signals)
        for address in addresses:
            listeners += open_listeners(address, backlog, nodelay, mode, owner)
        for listener in listeners if ready is not None else ():
            signals.raising(partial(ready, listener))  # pyright: ignore[reportArgumentType]
        arbiter = Arbiter(connections, listeners, signals)
        _ = stack.callback(arbiter.close)
        if status_signal is not None:
            signals.handle(status_signal, lambda signum, frame: arbiter.send_all(signum))
        arbiter.keep(workers)
    raise signals.error()


def open_listeners(
    address: Address, backlog: int, nodelay: bool, mode: int | None, owner: int | str | None
) -> list[Socket]:
    """Return listeners at a Unix path, or at all addresses of a host."""
    if unix_path(address) is not None:
        return [listen(address, backlog, mode=mode, owner=owner)]
    return listen_all([address], partial(listen, backlog=backlog, nodelay=nodelay))


class Arbiter:
    """The first process: its living workers, and what it has to do later."""

    def __init__(self, connections: Connections, listeners: list[Socket], signals: StopSignals) -> None:
        self.connections = connections
        self.listeners = listeners
        self.signals = signals
        self.workers: list[Worker] = []
        self.agenda: list[tuple[float, Callable[[], object]]] = []  # by time: replacements, kills
        self.stop_steps = 0  # 1: the workers have `grace`; 2: they stop at once; 3: they were killed
        self.stop_steps_without_signal = 0  # 1 if an exception has taken the first one
        self.stopped_at = 0.0
        self.orphans = Orphans()
        self.lifeline = os.pipe()  # its read end becomes readable in the workers when this process is gone

    def keep(self, count: int) -> None:
        """Keep `count` workers alive until a signal arrives, or an exception; then wait until they have ended."""
        try:
            while len(self.workers) < count and not self.signals.arrived:
                self.start(0)
            while not self.signals.arrived:
                self.wait()
        finally:
            self.stop()
            while self.workers:
                self.wait()

    def wait(self) -> None:
        """Wait for a signal, the end of a worker or the next item of the agenda; take care of what has come."""
        now = monotonic()
        seconds = self.orphans.collect([worker.process.pid for worker in self.workers], now)
        if self.agenda:
            seconds = min(seconds, self.agenda[0][0] - now)
        watched = [worker.process.pidfd for worker in self.workers if worker.process.is_watched()]
        if len(watched) < len(self.workers) or not self.signals.pipe_works:
            seconds = min(seconds, CHECK_SECONDS)
        ready = self.signals.wait(watched, seconds)
        self.reap()
        for worker in self.workers:
            if worker.process.pidfd in ready:
                worker.process.watched = False  # a debugger has it, or its descriptor is closed: a wait would spin
        while self.agenda and self.agenda[0][0] <= monotonic():
            _, action = self.agenda.pop(0)
            _ = action()
        while 0 < self.stop_steps < len(self.signals.arrived) + self.stop_steps_without_signal:
            self.stop_faster()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Put an action on the agenda."""
        self.agenda.append((monotonic() + seconds, action))
        self.agenda.sort(key=lambda item: item[0])

    # Starting workers.

    def start(self, failures: int) -> None:
        """Start a worker, whose `failures` predecessors in a row have died fast."""
        self.signals.breakable(flush)
        self.workers.append(Worker(fork(self.run_worker), failures))

    def replace(self, failures: int, refusals: int = 0) -> None:
        """Start a worker in place of one that died; if the fork fails, try again after a pause."""
        try:
            self.start(failures)
        except Exception as error:
            pause = pause_after(refusals + 1)
            text = getattr(error, "strerror", None) or repr(error)
            self.log("can't start a worker: %s; retrying in %g s", text, pause)
            self.later(pause, partial(self.replace, failures, refusals + 1))

    def reap(self) -> None:
        """Collect the workers that have died, and replace them."""
        ended = [worker for worker in self.workers if worker.process.has_ended()]
        self.workers = [worker for worker in self.workers if worker not in ended]
        for worker in ended:
            worker.process.close()
            if not self.stop_steps and not self.signals.arrived:
                self.replace_ended(worker)

    def replace_ended(self, worker: Worker) -> None:
        """Log the end of a worker; replace it now, or after a pause if it died fast."""
        lifetime = monotonic() - worker.started_at
        self.log("worker %d %s after %.1f s; replacing it", worker.process.pid, worker.process.ending, lifetime)
        if lifetime >= FAST_DEATH_SECONDS:
            return self.replace(0)
        failures = worker.failures + 1
        pause = pause_after(failures)
        if failures > 1:
            text = "workers die at their start (%d in a row, within %g s each): the next one starts in %g s"
            self.log(text, failures, FAST_DEATH_SECONDS, pause)
        return self.later(pause, partial(self.replace, failures))

    # Stopping.

    def stop(self) -> None:
        """Close the listeners and send SIGTERM to all workers; kill those that are left some time after the grace."""
        self.stop_steps = 1
        self.stop_steps_without_signal = 0 if self.signals.arrived else 1
        self.stopped_at = monotonic()
        self.agenda.clear()
        close_listeners(self.listeners, self.signals)  # clients could connect to them and never be served
        self.send_all(signal.SIGTERM)
        if self.connections.grace is not None:
            self.later(self.connections.grace + AFTER_GRACE_SECONDS, self.kill)

    def stop_faster(self) -> None:
        """Send a second SIGTERM to all workers, and kill them soon afterwards; kill them now at the third signal."""
        self.stop_steps += 1
        if self.stop_steps == 2:
            pause = max(self.stopped_at + SIGNAL_INTERVAL_SECONDS - monotonic(), 0)
            self.later(pause, partial(self.send_all, signal.SIGTERM))
            self.later(SECOND_SIGNAL_SECONDS, self.kill)
        elif self.stop_steps == 3:
            self.kill()

    def kill(self) -> None:
        """Kill the workers that are left."""
        self.stop_steps = max(self.stop_steps, 3)
        self.agenda.clear()
        for worker in self.workers:
            self.log("worker %d does not stop; killing it", worker.process.pid)
        self.send_all(signal.SIGKILL)
        self.later(KILL_SECONDS, self.give_up)

    def give_up(self) -> None:
        """Leave the workers behind that the operating system can't kill."""
        for worker in self.workers:
            worker.process.close()
            self.log("worker %d can't be killed; leaving it behind", worker.process.pid)
        self.workers.clear()

    def send_all(self, signum: int) -> None:
        """Send a signal to each worker."""
        for worker in self.workers:
            try:
                worker.process.send(signum)
            except OSError as error:
                self.log("can't send signal %d to worker %d: %s", signum, worker.process.pid, error.strerror)

    def close(self) -> None:
        """Kill and collect the workers that a second exception has left, and close the pipe."""
        try:
            if self.workers:
                self.kill()
            while self.workers:
                self.wait()
        finally:
            for fd in self.lifeline:
                try:
                    os.close(fd)
                except OSError:
                    pass  # the program has closed it

    def log(self, text: str, *values: object) -> None:
        """Log an error; a log handler that fails or blocks does not stop this process."""
        self.signals.breakable(partial(log, text, *values))

    # In the worker.

    def run_worker(self) -> None:
        """Run one worker process until it exits; never return."""
        status = 1
        try:
            signum = self.connections.status_signal
            held = set[int]() if signum is None or signum in self.signals.mask else {signum}
            self.signals.reset_in_child(held)
            os.close(self.lifeline[1])
            for worker in self.workers:
                worker.process.close()
            run(worker_main(self.connections, self.listeners, self.lifeline[0], held))
        except SystemExit as end:
            status = exit_status(end)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            try:
                flush()
            finally:  # a worker must never return into the arbiter's program
                os._exit(status)


class Worker:
    """A worker process, as the arbiter sees it."""

    def __init__(self, process: Process, failures: int) -> None:
        self.process = process
        self.failures = failures  # its predecessors that died fast, in a row
        self.started_at = monotonic()


def pause_after(failures: int) -> float:
    """Return the seconds until the next try, after a number of failures in a row."""
    doublings = min(max(failures - 2, 0), 60)  # 2**60 is more than any limit, and not too large for a float
    return min(RESPAWN_PAUSE_SECONDS * 2.0**doublings, max(MAX_RESPAWN_PAUSE_SECONDS, RESPAWN_PAUSE_SECONDS))


def close_listeners(listeners: list[Socket], signals: StopSignals) -> None:
    """Close all listeners; log the failures, such as a Unix path that can't be removed."""
    for listener in listeners:
        try:
            listener.close()
        except Exception as error:
            signals.breakable(partial(log, "can't close a listener: %s", error))


def worker_main(
    connections: Connections, listeners: list[Socket], lifeline: int, held: set[int]
) -> Generator[Any, Any, None]:
    """Serve, and stop when the arbiter is gone; unblock the signals `held` when the server handles them."""
    if connections.grace is not None:
        try:
            _ = start_new_thread(end_after_grace, (lifeline, connections.grace, listeners))
        except RuntimeError as error:
            log("worker %d might outlive its arbiter: %s", os.getpid(), error)
    _ = yield Spawn(watch_lifeline(lifeline, listeners), "lifeline", daemon=True)
    yield from run_server(connections, listeners, lambda listener: signal.pthread_sigmask(signal.SIG_UNBLOCK, held))


def watch_lifeline(lifeline: int, listeners: list[Socket]) -> Generator[Any, Any, None]:
    """End the run when the other end of the pipe is closed."""
    yield WaitReadable(lifeline)
    remove_paths(listeners)
    log("the arbiter process is gone: worker %d stops", os.getpid())
    raise SystemExit(1)


def end_after_grace(lifeline: int, grace: float, listeners: list[Socket]) -> None:
    """End this worker if it lives on after its arbiter, and its grace, have ended; the body of a thread."""
    try:
        _ = os.read(lifeline, 1)  # returns when the other end is closed
    except OSError:
        return  # the program has closed the descriptor
    remove_paths(listeners)
    end = monotonic() + grace + AFTER_GRACE_SECONDS
    while (seconds := end - monotonic()) > 0:
        sleep(min(seconds, MAX_POLL_SECONDS))
    try:
        _ = start_new_thread(log, ("the arbiter process is gone: worker %d does not stop, and is ended", os.getpid()))
        sleep(LOG_SECONDS)  # a log handler may block
    finally:
        os._exit(1)


def remove_paths(listeners: list[Socket]) -> None:
    """Remove the Unix paths of an arbiter that is gone."""
    for listener in listeners:
        if listener.bound is not None:
            listener.bound.process = os.getpid()
            listener.bound.remove()


def log(text: str, *values: object) -> None:
    """Log an error; if a log handler fails, write the text to standard error instead."""
    try:
        logger().error(text, *values)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        try:
            print(text % values, f"(the log failed: {error!r})", file=sys.stderr)
        except Exception:
            pass  # there is no such stream, it is closed, or its reader is gone
