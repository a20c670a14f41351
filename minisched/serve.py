"""Serving: a listener, and a task for each connection.

Theory of operation. One task accepts; each connection is a child of it, which closes its socket
when the handler ends. A handler that fails is logged, with its peer, and forgotten: the others
never notice. To stop a server is to cancel it; its handlers are cancelled with it.

Invariants:
1. An accepted connection is closed, whatever becomes of its handler.
2. The listener is closed, and its Unix path gone, before `serve` ends.

Not here: sockets; limits on connections and on their idleness.
"""

from __future__ import annotations

from .sockets import BACKLOG, Accept, Listen, Socket
from .tasks import Spawn, awaitable

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
        if ready is not None:
            ready(listener)
        number = 0
        while True:
            conn = yield Accept(listener)
            number += 1
            yield Spawn(connection(handler, conn), f"{getattr(handler, '__name__', 'handler')}-{number}")


@awaitable
def connection(handler: Handler, conn: Socket) -> Generator[Any, Any, None]:
    """Run the handler of one connection; close the connection; log a failure."""
    with conn:
        try:
            yield from handler(conn)  # pyright: ignore[reportGeneralTypeIssues] (a coroutine: `awaitable` allows it)
        except Exception as error:
            log_failure(handler, conn, error)


def log_failure(handler: Handler, conn: Socket, error: Exception) -> None:
    """Log what a handler raised. A connection that the other side broke off is no failure of ours: one line."""
    import logging  # only here: it would be a quarter of the package's time to import

    log = logging.getLogger("minisched")
    name = getattr(handler, "__name__", "handler")
    if isinstance(error, ConnectionError):
        log.info("%s of %s: %s", name, conn.peer or "a Unix peer", error)
    else:
        log.error("%s of %s failed", name, conn.peer or "a Unix peer", exc_info=error)
