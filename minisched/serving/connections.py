"""The handlers of a server: one task for each connection, and the limits of the server.

Theory of operation. `Connections` is a task group whose children are the handlers. Its owner is a task of its own,
which is shielded from the server's cancellation: so the handlers have `grace` seconds to finish after the server has
stopped accepting. When a handler and its children have ended, its connection is closed. A failure is logged, with
the names of the task and the peer, and then discarded, so one broken handler does not disturb the others.

Invariants:
1. Every accepted connection is closed, however its handler ends.
2. There are never more than `max_connections` handlers; further connections wait in the listener's backlog.
3. If accepting fails, for example since the process has no file descriptors left, that is logged once and accepting is
   retried when a handler has ended, and after a pause. So the server never spins.
4. No Exception of a handler, of a log handler, or of a `close` ends the server. Any other exception of a handler does
   so, and `serve` raises it in a group; KeyboardInterrupt and SystemExit end the run.

Decision: the group closes the connection and logs the failure in its callback for the end of a child
(`Lifecycle.on_done`). Because: the handler itself is the task, so no wrapper adds a frame to each resume; the
connection stays open while the handler's children use it; and the failures of those children are logged, too.
Rejected: a `try` around the handler (a child's failure bypassed it and ended the server); a second task that joins
each handler (twice the memory for each connection).

Decision: an error of `accept` ends the server only if it says that the listener cannot accept (LISTENER_ERRNOS).
Because: nearly all others are about one connection, and their list is not the same on each system. If
ACCEPT_BATCH_CONNECTIONS of them come in a row, the server pauses. Rejected: a list of the errors to pass over, which
lacked three of those in Linux's accept(2), and each of them ended all connections.

Not here: the log (`log`); opening listeners and stopping the server (`serve`); several processes (`workers`).
"""

from __future__ import annotations

import errno

from ..errors import IncompleteRead
from ..io.nonblocking import FileOperation
from ..kernel.lifecycle import Lifecycle
from ..kernel.misuse import check_body
from ..kernel.numbers import check_count, check_seconds
from ..kernel.tracebacks import leaf_errors, text_of
from ..sync.events import Event
from ..tasks.scopes import MoveOnAfter, Shield
from ..tasks.taskgroup import AllEnded, TaskGroup
from ..tasks.tasks import Cancel, CurrentTask, Spawn, awaitable
from ..tasks.timers import Sleep, Timers
from .log import REPEAT_SECONDS, FailureCounts, connection_count, log, logger, peer_name
from .status import Servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from ssl import SSLContext
    from typing import Any

    from ..kernel import Task
    from ..net.sockets import Socket
    from ..net.tls import TlsConnection
    from ..tasks.timers import Timer

    HandlerBody = Generator[Any, Any, object] | Coroutine[Any, Any, object]
    Handler = Callable[[Socket], HandlerBody] | Callable[[TlsConnection], HandlerBody]

MAX_CONNECTIONS = 10_000  # the default of `max_connections`, where the limit of open files allows it
IDLE_SECONDS = 600.0  # the default of `idle_timeout`
IDLE_CHECKS = 8  # per `idle_timeout`: a connection is cancelled with two checks of delay at most
GRACE_SECONDS = 3.0  # the default of `grace`
PAUSE_SECONDS = 1.0  # before accepting is retried, if no handler ends and frees a file descriptor
ACCEPT_BATCH_CONNECTIONS = 61  # connections accepted in one turn; as many as the loop runs turns in one batch
CONNECTIONS_NAMED_IN_LOG = 5  # connections that one log line names
SPARE_FILES = 64  # file descriptors kept free for the program when there are fewer of them than MAX_CONNECTIONS
FEW_CONNECTIONS = 100  # a default of max_connections below this is logged
EXHAUSTED_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# The listener cannot accept, now or later. After any other error of `accept`, the next connection may be fine.
LISTENER_ERRNOS = (errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK)
# A connection that was lost while it was open; Python has no subclass of ConnectionError for these.
DISCONNECTED_ERRNOS = (errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)


class Connections(TaskGroup):
    """The handlers of a server as a task group, with their connections and the server's limits."""

    __slots__ = (
        "accepted_count", "connections", "failed_count", "failure_counts", "failure_timer", "grace", "handler",
        "handler_name", "handshake_failures", "has_capacity", "idle_timeout", "lost_in_a_row", "max_connections",
        "out_of_files", "started", "started_at", "status_signal", "stopping", "tls",
    )  # fmt: skip

    def __init__(
        self,
        handler: Handler,
        max_connections: int | None,
        idle_timeout: float | None,
        grace: float | None,
        status_signal: int | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        super().__init__("server")
        self.handler: Callable[[Any], HandlerBody] = handler
        self.handler_name = getattr(handler, "__name__", "handler")
        self.max_connections = connection_limit(max_connections)
        self.idle_timeout = self.grace = None  # at an `idle_timeout` of 0, any wait would be idle
        if idle_timeout is not None:
            self.idle_timeout = check_seconds("serve", "idle_timeout", idle_timeout, optional=True, above_0=True)
        if grace is not None:
            self.grace = check_seconds("serve", "grace", grace, optional=True)
        self.status_signal = status_signal
        self.tls = checked_context(tls)
        self.connections: dict[Task, Connection] = {}
        self.accepted_count = self.failed_count = 0
        self.started_at = 0.0
        self.started, self.has_capacity, self.stopping = Event(), Event(), Event()
        self.lost_in_a_row = 0  # accepts that failed since the last one that succeeded, or found no connection
        self.out_of_files = False  # the lack of file descriptors has been logged
        self.failure_counts, self.handshake_failures = FailureCounts(), FailureCounts()
        self.failure_timer: Timer | None = None  # when the failures that were only counted are logged
        _ = logger()  # imported now: an import opens files, and later there may be no file descriptor for that

    def accept(self, listener: Socket) -> Generator[Any, Any, None]:
        """Accept connections at a listener until cancelled."""
        while True:
            if len(self.alive) >= self.max_connections:
                self.has_capacity.clear()
                yield self.has_capacity.wait()
            try:
                yield AcceptMany(self, listener)
            except OSError as error:
                if error.errno in LISTENER_ERRNOS:
                    raise
                self.log_exhaustion(error)
                self.has_capacity.clear()
                with (yield MoveOnAfter(PAUSE_SECONDS)):
                    yield self.has_capacity.wait()  # a handler that ends frees a file descriptor

    def admit(self, conn: Socket) -> None:
        """Start the handler of an accepted connection."""
        self.accepted_count += 1
        name = f"{self.handler_name}-{self.accepted_count}"
        try:
            owner = self.entered().owner
            body = self.handler(conn) if self.tls is None else self.run_with_tls(conn, self.tls)
            child = owner.kernel.spawn(body, name, owner, keep=True)
        except (
            BaseException
        ) as error:  # the call of the handler failed, or returned neither a generator nor a coroutine
            self.close_connection(name, conn)
            if not isinstance(error, Exception):
                raise
            self.log_failure(name, conn, error)
        else:
            self.child_started(child)
            self.connections[child] = Connection(conn, child.kernel.service(Timers).now())

    def child_ended(self, child: Task) -> bool:
        """Close the connection of a handler that has ended."""
        try:
            return super().child_ended(child)
        finally:
            self.close_connection(child.name, self.connections.pop(child).file)
            self.has_capacity.set()

    @awaitable
    def run_with_tls(self, conn: Socket, context: SSLContext) -> Generator[Any, Any, None]:
        """Do the handshake of a connection, and run its handler with the TLS connection."""
        from ..net.tls import start_tls  # imported by `checked_context`, while there are descriptors

        task: Task = yield CurrentTask()
        try:
            tls = yield from start_tls(conn, context, server_side=True)
        except OSError as error:
            if self.is_logged(error, self.handshake_failures):
                self.log("info", "%s of %s: %s", task.name, peer_name(conn), text_of(error))
            return
        self.connections[task].file = tls  # its close sends a close_notify
        body: Any = self.handler(tls)
        check_body(body)
        yield from body

    def close_connection(self, name: str, conn: Socket | TlsConnection) -> None:
        """Close a connection; log an error of that, for example since its descriptor was closed elsewhere."""
        try:
            conn.close()
        except Exception as error:
            self.log("error", "%s of %s: closing its connection failed: %s", name, peer_name(conn), text_of(error))

    def record_outcome(self, child: Task) -> bool:
        """Log a handler's exception instead of recording it; return False, since the server goes on."""
        error = child.failure
        if not issubclass(type(error), Exception):
            return super().record_outcome(child)
        assert error is not None
        self.log_failure(child.name, self.connections[child].conn, error)
        return False

    def run_handlers(self) -> Generator[Any, Any, None]:
        """Own the handlers, as the body of their parent task, from the first connection until the last one has ended.

        The handlers are children of this task, not of the server's: the server's cancellation stops at the shield,
        and the handlers get their grace period.
        """
        with (yield Shield(None)):
            yield from self.begin()
            error = None
            try:
                yield from self.serve_until_stopped()
            except BaseException as raised:
                error = raised
            try:
                error = yield from self.end(error)
            finally:
                self.log_counted_failures()
                _ = self.kernel and self.kernel.service(Servers).running.pop(self, None)
        if error is not None:
            raise error

    def serve_until_stopped(self) -> Generator[Any, Any, None]:
        """Let the handlers run until the server stops and the grace period is over; then cancel those that are left."""
        kernel = self.entered().owner.kernel
        self.started_at = kernel.service(Timers).now()
        kernel.service(Servers).running[self] = None
        self.started.set()
        if self.idle_timeout is not None:
            _ = yield Spawn(self.cancel_idle_handlers(self.idle_timeout), "idle monitor", daemon=True)
        yield self.stopping.wait()
        if self.alive and self.grace != 0:
            duration = "any time" if self.grace is None else f"{self.grace:g} s"
            text = "the server stops; %s may take %s to finish (a second signal stops at once)"
            self.log("warning", text, connection_count(len(self.alive)), duration)
        with (yield MoveOnAfter(self.grace)):
            yield AllEnded(self)
        if self.alive:
            self.log_cancelled_handlers()
            self.cancel("the server has stopped")

    def cancel_idle_handlers(self, seconds: float) -> Generator[Any, Any, None]:
        """Cancel the handlers of connections that have been idle for `seconds`, or up to a quarter longer.

        Decision: a connection is idle while its handler is blocked on it and no byte moves. Reads and writes only
        set a flag, and one task checks all connections IDLE_CHECKS times per timeout. Because: a message then costs
        one store. Rejected: a timer for each connection, which each message would reset.

        Decision: the checks are counted, and not the seconds between them. Because: a process that is stopped for an
        hour, or computes for that long, counts the hour as one check. The loop polls before it fires timers, so that
        bytes that have arrived meanwhile count first. Rejected: a limit on the seconds of one check, which needs the
        time and says the same.
        """
        while True:
            yield Sleep(seconds / IDLE_CHECKS)
            for task, connection in list(self.connections.items()):
                if connection.count_idle_checks() > IDLE_CHECKS and task in self.connections:
                    self.log("info", "%s of %s: idle for %g s", task.name, peer_name(connection.conn), seconds)
                    yield Cancel(task, f"its connection was idle for {seconds:g} s")

    def log(self, level: str, text: str, *values: object, error: BaseException | None = None) -> None:
        """Log a line. A KeyboardInterrupt or SystemExit that a log handler raises ends the run, as that of a task."""
        try:
            log(level, text, *values, error=error)
        except (KeyboardInterrupt, SystemExit) as quits:
            if self.kernel is None:
                raise
            self.kernel.service(Lifecycle).interrupt(quits, None)

    def log_failure(self, name: str, conn: Socket, error: BaseException) -> None:
        """Log a handler's exception: one line at level INFO for a lost connection, else the traceback."""
        leaves = leaf_errors(error)  # a group, where the error came from the handler's children
        if all(map(is_lost_connection, leaves)):
            self.log("info", "%s of %s: %s", name, peer_name(conn), text_of(leaves[0]))
            return
        self.failed_count += 1
        if self.is_logged(error, self.failure_counts):
            self.log("error", "%s of %s failed", name, peer_name(conn), error=error)

    def is_logged(self, error: BaseException, counts: FailureCounts) -> bool:
        """Return whether a failure is to be logged now. Otherwise it is counted, and a later line has the count."""
        if self.failure_timer is None and self.kernel is not None:
            timers = self.kernel.service(Timers)
            self.failure_timer = timers.call_at(timers.now() + REPEAT_SECONDS, self.log_counted_failures)
        return counts.is_logged(error)

    def status_line(self, now: float) -> str:
        """Return a line about this server for `server_status`."""
        return (
            f"server up {now - self.started_at:,.0f} s{' and stopping' if self.stopping.is_set() else ''}: "
            f"{connection_count(len(self.connections))} of at most {self.max_connections:,}; "
            f"{self.accepted_count:,} accepted, {self.failed_count:,} handlers failed"
        )

    def log_counted_failures(self) -> None:
        """Log how many failures were only counted, and log the next ones again."""
        if self.failure_timer is not None:
            self.failure_timer.cancel()
            self.failure_timer = None
        for level, counts in (("error", self.failure_counts), ("info", self.handshake_failures)):
            for line in counts.begin_anew():
                self.log(level, "%s", line)

    def log_exhaustion(self, error: OSError) -> None:
        """Log that no file descriptors are left, once for each time that they run out."""
        if not self.out_of_files:
            self.out_of_files = True
            text = "can't accept (%s open): %s; retrying every %g s"
            self.log("error", text, connection_count(len(self.connections)), error.strerror, PAUSE_SECONDS)

    def log_cancelled_handlers(self) -> None:
        """Log the handlers that did not finish within the grace period."""
        names = [f"{task.name} of {peer_name(connection.conn)}" for task, connection in self.connections.items()]
        rest = f" and {len(names) - CONNECTIONS_NAMED_IN_LOG} more" if len(names) > CONNECTIONS_NAMED_IN_LOG else ""
        text = "the server has stopped; after %g s of grace it cancelled %s: %s%s"
        named = ", ".join(names[:CONNECTIONS_NAMED_IN_LOG])
        self.log("warning", text, self.grace, connection_count(len(names)), named, rest)


class Connection:
    """A connection with a handler: when it was accepted, and in how many checks in a row it was idle.

    `file` is what the handler uses, and what is closed after it: the socket `conn`, or the TLS connection over it.
    """

    __slots__ = ("accepted_at", "conn", "file", "idle_checks")

    def __init__(self, conn: Socket, accepted_at: float) -> None:
        self.conn = conn
        self.file: Socket | TlsConnection = conn
        self.accepted_at = accepted_at
        self.idle_checks = 0

    def count_idle_checks(self) -> int:
        """Check the connection now; return in how many checks in a row it was idle."""
        if self.conn.file_state.used or not self.conn.is_waited_for():
            self.conn.file_state.used, self.idle_checks = False, 0
        else:
            self.idle_checks += 1
        return self.idle_checks


class AcceptMany(FileOperation[None]):
    """Wait for connections; start a handler for each, up to ACCEPT_BATCH_CONNECTIONS and the server's limit.

    A connection, an error or a close wakes the task.

    Decision: one call accepts a batch and starts the handlers itself. Because: each yield costs a turn, so at one
    connection per yield, 200 clients wait for up to 200 rounds of the ready queue. Rejected: several accepting tasks
    for one listener, which compete for each connection.
    """

    __slots__ = ("server",)

    def __init__(self, server: Connections, listener: Socket) -> None:
        self.server = server
        self.file = listener

    def wait_first(self, file: Any) -> bool:
        return file.file_state.drained

    def try_once(self, listener: Socket) -> None:
        """Accept a batch of connections; raise BlockingIOError if there are none."""
        server = self.server
        listener.file_state.drained = False
        capacity = min(ACCEPT_BATCH_CONNECTIONS, server.max_connections - len(server.alive))
        for count in range(capacity):
            try:
                conn = listener.try_accept()
            except BlockingIOError:
                listener.file_state.drained = True  # the next call waits before it tries
                server.out_of_files = False  # the backlog is empty: there were enough file descriptors
                server.lost_in_a_row = 0
                if count:
                    return
                raise
            except OSError as error:
                if error.errno in (*EXHAUSTED_ERRNOS, *LISTENER_ERRNOS):
                    raise
                server.lost_in_a_row += 1
                if server.lost_in_a_row == ACCEPT_BATCH_CONNECTIONS:  # this may have no end: let the server pause
                    server.lost_in_a_row = 0
                    raise
            else:
                server.lost_in_a_row = 0
                server.admit(conn)

    def __repr__(self) -> str:
        return f"AcceptMany({self.server!r})"


def checked_context(context: SSLContext | None) -> SSLContext | None:
    """Return a context for TLS, after a trial: an error in it is the server's, and not that of each connection."""
    if context is not None:
        # Imported here: most servers do not use them, and later there may be no file descriptor for that.
        from ssl import MemoryBIO

        from ..net import tls, tls_errors  # noqa: F401  # pyright: ignore[reportUnusedImport]

        if not hasattr(context, "wrap_bio"):
            raise TypeError(f"serve takes tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), not {context!r}")
        try:
            _ = context.wrap_bio(MemoryBIO(), MemoryBIO(), server_side=True)
        except OSError as error:
            raise ValueError(f"serve cannot use the context of `tls`: {text_of(error)}") from None
    return context


def connection_limit(requested: int | None) -> int:
    """Return the greatest number of connections, and raise the soft limit of open files to the hard one.

    Logs a warning if the hard limit is too low for `requested`, or by default for FEW_CONNECTIONS.
    """
    if requested is not None:
        requested = check_count("serve", "max_connections", "connections", requested, least=1, optional=True)
    files = raise_open_file_limit()
    if files is None:
        return requested or MAX_CONNECTIONS
    if requested is not None:
        if files < requested + SPARE_FILES:
            text = "max_connections is %d, but this process may open only %d files: raise the limit (ulimit -Hn)"
            log("warning", text, requested, files)
        return requested
    limit = max(min(MAX_CONNECTIONS, files - SPARE_FILES), 1)
    if limit < FEW_CONNECTIONS:
        text = "the server takes %s at a time, since this process may open only %d files: raise the limit (ulimit -Hn)"
        log("warning", text, connection_count(limit), files)
    return limit


def raise_open_file_limit() -> int | None:
    """Raise the soft limit of open files to the hard one; return the new soft limit, or None without a limit."""
    try:
        import resource
    except ImportError:
        return None  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass  # macOS refuses an unlimited soft limit: the old one stays
    return None if soft == resource.RLIM_INFINITY else soft


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that the peer is gone."""
    try:
        if isinstance(error, OSError) and error.errno in DISCONNECTED_ERRNOS:
            return True
        return isinstance(error, (ConnectionError, IncompleteRead))
    except BaseException:  # `errno` or `__class__` is the program's own, and may raise anything
        return False
