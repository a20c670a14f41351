"""What serves: the handlers of a server, their connections, and its limits.

Theory of operation. A group holds the handlers, one task for each connection; its owner is shielded
from the server's cancellation, so that they have `grace` seconds to come to their ends. When a
handler has ended, its children too, its connection is closed; a failure is logged, with the task's
name and the peer, and forgotten: the others never notice.

Invariants:
1. An accepted connection is closed, whatever becomes of its handler.
2. There are never more than `max_connections` handlers; the next connections wait to be accepted.
3. Where no files are left, that is said once, and tried again after a pause; nothing spins.

Not here: listening, and what stops a server (`serve`).
"""

from __future__ import annotations

import errno
from math import inf

from .attempts import attempt
from .kernel import Kernel, Syscall, Task
from .network import Socket
from .poller import READ
from .scopes import MoveOnAfter, Shield
from .sync import Event
from .taskgroup import AllEnded, TaskGroup
from .tasks import Cancel, Spawn
from .timers import Now, Sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

    Handler = Callable[[Socket], Generator[Any, Any, object] | Coroutine[Any, Any, object]]

CONNECTIONS = 10_000  # at most, unless something else is asked for
IDLE = 600.0  # seconds, after which a connection is cut
GRACE = 3.0  # seconds, for handlers to come to their ends
PAUSE = 1.0  # seconds, when no files are left
AT_ONCE = 61  # connections accepted in one turn, as there are turns between two looks at files
FEW = 5  # connections that a line of the log names
OTHER_FILES = 64  # kept free when files are fewer than connections might be
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
GONE = (  # what Linux says of a connection that was lost before it was accepted; the next one may be fine
    *(errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
LOST = (errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)  # while connected


class Server(TaskGroup):
    """The handlers of a server, their connections, and its limits."""

    __slots__ = (
        "connections", "exhausted", "grace", "handler", "idle_timeout", "made", "max_connections",
        "begun", "room", "stopping",
    )  # fmt: skip

    def __init__(
        self, handler: Handler, max_connections: int | None, idle_timeout: float | None, grace: float | None
    ) -> None:
        super().__init__("server")
        self.handler = handler
        self.max_connections = allowed_connections(max_connections)
        self.idle_timeout = checked("idle_timeout", idle_timeout)
        if self.idle_timeout == 0:
            raise ValueError("idle_timeout is more than 0 seconds, or None for no limit: at 0, every wait is idle")
        self.grace = checked("grace", grace)
        self.connections: dict[Task, Connection] = {}
        self.made = 0
        self.begun, self.room, self.stopping = Event(), Event(), Event()
        self.exhausted = False  # it has been said that no files are left
        _ = log()  # imported now: that takes files, of which none may be left when there is something to say

    def accept(self, listener: Socket) -> Generator[Any, Any, None]:
        """Take connections at a listener, for ever."""
        while True:
            if len(self.alive) >= self.max_connections:
                self.room.clear()
                yield self.room.wait()
            try:
                yield Admit(self, listener)
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self.say_exhausted(error)
                yield Sleep(PAUSE)

    def admit(self, conn: Socket) -> None:
        """Start the handler of a connection."""
        self.made += 1
        owner = self.entered().asked_by
        name = f"{getattr(self.handler, '__name__', 'handler')}-{self.made}"
        try:
            child = owner.kernel.spawn(self.handler(conn), name, owner, keep=True)
        except Exception as error:  # the handler makes no task
            conn.close()
            log_failure(name, conn, error)
        else:
            self.started(child)
            self.connections[child] = Connection(conn)

    def ended(self, child: Task) -> bool:
        """Close a handler's connection; its failure has been logged, and is forgotten."""
        try:
            return super().ended(child)
        finally:
            self.connections.pop(child).conn.close()
            self.room.set()

    def note(self, child: Task) -> bool:
        if not isinstance(child.failure, Exception):
            return super().note(child)
        log_failure(child.name, self.connections[child].conn, child.failure)
        return False

    def hold(self) -> Generator[Any, Any, None]:
        """Be the task that the handlers are children of, from the first connection to the end of the last handler."""
        with (yield Shield(None)):
            yield from self.begin()
            self.begun.set()
            if self.idle_timeout is not None:
                _ = yield Spawn(self.cut_the_idle(self.idle_timeout), "the idle are cut", daemon=True)
            yield self.stopping.wait()
            if self.alive and self.grace != 0:
                for_how_long = "any time" if self.grace is None else f"{self.grace:g} s"
                said = "the server stops; %s may take %s to end (a second signal stops at once)"
                log().warning(said, counted(len(self.alive)), for_how_long)
            with (yield MoveOnAfter(self.grace)):
                yield AllEnded(self)
            if self.alive:
                self.say_who_is_cut()
                self.cancel("the server has stopped")
            error = yield from self.end(None)
        if error is not None:
            raise error

    def cut_the_idle(self, limit: float) -> Generator[Any, Any, None]:
        """Cancel the handlers of connections that have been idle for so long, or up to a quarter longer."""
        while True:
            yield Sleep(limit / 8)
            now = yield Now()
            for task, connection in list(self.connections.items()):
                if connection.idle_for(now) >= limit and task in self.connections:
                    log().info("%s of %s: idle for %g s", task.name, peer_of(connection.conn), limit)
                    yield Cancel(task, f"its connection was idle for {limit:g} s")

    def say_exhausted(self, error: OSError) -> None:
        """Log that no files are left, once for as long as that lasts."""
        if not self.exhausted:
            self.exhausted = True
            said = "can't accept, with %s: %s; trying again each %g s"
            log().error(said, counted(len(self.connections)), error.strerror, PAUSE)

    def say_who_is_cut(self) -> None:
        """Log whose handlers had not come to their ends when the server stopped."""
        who = [f"{task.name} of {peer_of(one.conn)}" for task, one in self.connections.items()]
        more = f" and {len(who) - FEW} more" if len(who) > FEW else ""
        said = "the server has stopped; after %g s of grace it cut %s: %s%s"
        log().warning(said, self.grace, counted(len(who)), ", ".join(who[:FEW]), more)


class Connection:
    """A connection that is being served, and since when nothing has come or gone that is waited for."""

    __slots__ = ("conn", "since")

    def __init__(self, conn: Socket) -> None:
        self.conn = conn
        self.since = inf

    def idle_for(self, now: float) -> float:
        """Return for how long it has been idle, as far as can be told from when this was asked."""
        if self.conn.entry.active or not self.conn.is_waited_for():
            self.conn.entry.active, self.since = False, inf
        else:
            self.since = min(self.since, now)
        return now - self.since


class Admit(Syscall[None]):
    """Wait for connections, and start a handler for each, as many as there is room for."""

    __slots__ = ("listener", "server")
    world = True

    def __init__(self, server: Server, listener: Socket) -> None:
        self.server = server
        self.listener = listener

    def handle(self, kernel: Kernel, task: Task) -> None:
        attempt(kernel, task, self.listener, READ, self.admit, wait_first=self.listener.entry.short)

    def admit(self) -> None:
        """Accept what there is; BlockingIOError if there is nothing."""
        server, listener = self.server, self.listener
        listener.entry.short = False
        room = min(AT_ONCE, server.max_connections - len(server.alive))
        for number in range(room):
            try:
                conn = listener.try_accept()
            except BlockingIOError:
                listener.entry.short = True  # the next one waits first
                server.exhausted = False  # all who waited are in
                if number:
                    return
                raise
            except OSError as error:
                if error.errno in GONE or isinstance(error, ConnectionAbortedError):
                    continue
                raise
            server.admit(conn)

    def __repr__(self) -> str:
        return f"Admit({self.server!r})"


def allowed_connections(wanted: int | None) -> int:
    """Return how many connections there may be; raise the limit of open files to what it may be; say if that is low."""
    if wanted is not None and wanted < 1:
        raise ValueError(f"max_connections is 1 or more, or None, not {wanted!r}")
    files = allowed_files()
    if wanted is None:
        wanted = CONNECTIONS if files is None else max(min(CONNECTIONS, files - OTHER_FILES), 1)
    elif files is not None and files < wanted + OTHER_FILES:
        said = "max_connections is %d, but this process may open only %d files: raise the limit (ulimit -Hn)"
        log().warning(said, wanted, files)
    return wanted


def allowed_files() -> int | None:
    """Raise the soft limit of open files to the hard one; return what it is now, None if there is none."""
    try:
        import resource
    except ImportError:
        return None  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass  # macOS refuses "unlimited": what it is will have to do
    return None if soft == resource.RLIM_INFINITY else soft


def checked(what: str, seconds: float | None) -> float | None:
    """Return a number of seconds; ValueError for what is none."""
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"{what} is a number of seconds, 0 or more, or None for no limit, not {seconds!r}")
    return seconds


def log_failure(name: str, conn: Socket, error: Exception) -> None:
    """Log what a handler raised. A connection that the other side broke off is no failure of ours: one line."""
    broken_off = [one for one in leaves(error) if isinstance(one, ConnectionError) or errno_of(one) in LOST]
    if len(broken_off) == len(leaves(error)):  # it may be its children's
        log().info("%s of %s: %s", name, peer_of(conn), broken_off[0])
    else:
        log().error("%s of %s failed", name, peer_of(conn), exc_info=error)


def counted(connections: int) -> str:
    """Say how many connections there are."""
    return "1 connection" if connections == 1 else f"{connections} connections"


def leaves(error: BaseException) -> list[BaseException]:
    """Return what is in a group, and in its groups; of another error, itself."""
    group: Any = error
    found: Any = group.exceptions if isinstance(error, BaseExceptionGroup) else None
    return [error] if found is None else [leaf for one in found for leaf in leaves(one)]


def errno_of(error: BaseException) -> int | None:
    """Return the operating system's number of an error."""
    return getattr(error, "errno", None)


def peer_of(conn: Socket) -> object:
    """Return a name of the other side."""
    return conn.peer or "a Unix peer"


def log() -> Any:
    """Return the logger."""
    import logging  # only here: it would be a quarter of the package's time to import

    return logging.getLogger("minisched")
