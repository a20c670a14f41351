"""Serving: a listener, and a task for each connection.

Theory of operation. One task accepts; each connection's handler is a child of it. When that has
ended, its children too, the connection is closed; a failure is logged, with the task's name and
the peer, and forgotten: the others never notice. To stop a server is to cancel it; its handlers
are cancelled with it. SIGTERM cancels main, as Ctrl-C does.

Invariants:
1. An accepted connection is closed, whatever becomes of its handler.
2. The listener is closed, and its Unix path gone, before `serve` ends.

Not here: sockets; limits on connections and on their idleness.
"""

from __future__ import annotations

import signal

from .family import Family
from .kernel import Kernel, Syscall, Task
from .network import BACKLOG, Socket
from .sockets import Accept, Listen
from .tasks import awaitable
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

    Handler = Callable[[Socket], Generator[Any, Any, object] | Coroutine[Any, Any, object]]
    Ready = Callable[[Socket], object]


@awaitable
def serve(
    handler: Handler, host: str, port: int, *, backlog: int = BACKLOG, ready: Ready | None = None
) -> Generator[Any, Any, None]:
    """Serve TCP at `(host, port)` until cancelled: `handler(conn)` runs as a task for each connection.

    Port 0 lets the operating system choose; `ready(listener)` is called once
    connections are taken, and can tell by `listener.address`. Raises OSError
    if the port can't be had. A handler's failure is logged and forgotten.
    """
    yield from serve_listener(handler, (yield Listen((host, port), backlog)), ready)


@awaitable
def serve_unix(
    handler: Handler, path: str, *, backlog: int = BACKLOG, ready: Ready | None = None
) -> Generator[Any, Any, None]:
    """Serve at a Unix path, as `serve` does; the path must not exist, and is removed at the end."""
    yield from serve_listener(handler, (yield Listen(path, backlog)), ready)


@awaitable
def serve_listener(handler: Handler, listener: Socket, ready: Ready | None = None) -> Generator[Any, Any, None]:
    """Serve at a listener, which is closed at the end."""
    with listener:
        yield TakeSigterm()
        if ready is not None:
            _ = ready(listener)
        number = 0
        while True:
            try:
                conn = yield Accept(listener)
            except ConnectionAbortedError:
                continue  # gone before it was accepted
            number += 1
            yield Handle(handler, conn, f"{getattr(handler, '__name__', 'handler')}-{number}")


class TakeSigterm(Syscall[None]):
    """Let SIGTERM end the run as Ctrl-C does: main is cancelled, and `run` raises SystemExit(143)."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        kernel.service(Wakeup).take(signal.SIGTERM, signal.SIG_DFL)


class Handle(Syscall[None]):
    """Start the handler of a connection, which is closed when the handler and its children have ended."""

    __slots__ = ("conn", "handler", "name")
    checkpoint = False

    def __init__(self, handler: Handler, conn: Socket, name: str) -> None:
        self.handler = handler
        self.conn = conn
        self.name = name

    def handle(self, kernel: Kernel, task: Task) -> None:
        try:
            handling = kernel.spawn(self.handler(self.conn), self.name, task)
        except Exception as error:  # the handler makes no task
            self.conn.close()
            log_failure(self.name, self.conn, error)
        else:
            kernel.service(Family).at_end[handling] = self.ended

    def ended(self, task: Task) -> bool:
        """Close the connection; log a failure, which is then forgotten."""
        self.conn.close()
        if isinstance(task.failure, Exception):
            log_failure(self.name, self.conn, task.failure)
            return True
        return False

    def __repr__(self) -> str:
        return f"Handle({self.name})"


def log_failure(name: str, conn: Socket, error: Exception) -> None:
    """Log what a handler raised. A connection that the other side broke off is no failure of ours: one line."""
    import logging  # only here: it would be a quarter of the package's time to import

    log = logging.getLogger("minisched")
    if isinstance(error, ConnectionError):
        log.info("%s of %s: %s", name, conn.peer or "a Unix peer", error)
    else:
        log.error("%s of %s failed", name, conn.peer or "a Unix peer", exc_info=error)
