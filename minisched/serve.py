"""Serving: listeners, a task for each connection, limits, and an end in two steps.

Theory of operation. One task accepts at each listener, and starts a task for each connection. To stop a server
is to cancel it. It then closes its listeners, and the handlers, which are shielded from that, have
`grace` seconds to come to their ends; who is left is cancelled, and named in the log. SIGTERM
cancels main, as Ctrl-C does; a second signal stops at once.

Invariants:
1. The listeners are closed, and their Unix paths gone, before a stopping server waits for anything.
2. `serve` ends when its handlers have ended.

Not here: the handlers and the limits (`server`); several processes (`workers`).
"""

from __future__ import annotations

import signal

from .groups import gather
from .kernel import Kernel, Syscall, Task
from .network import BACKLOG, Socket
from .scopes import Shield
from .server import GRACE, IDLE, Server
from .sockets import Listen
from .tasks import Join, Spawn, awaitable
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any

    from .server import Handler

    Ready = Callable[[Socket], object]


class TakeSigterm(Syscall[None]):
    """Let SIGTERM end the run as Ctrl-C does: main is cancelled, and `run` raises SystemExit(143)."""

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        kernel.service(Wakeup).take(signal.SIGTERM, signal.SIG_DFL)


@awaitable
def serve(
    handler: Handler,
    host: str | Sequence[str],
    port: int,
    *,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE,
    grace: float | None = GRACE,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve TCP at `(host, port)` until cancelled: `handler(conn)` runs as a task for each connection.

    `host` may be several. Port 0 lets the operating system choose;
    `ready(listener)` is called for each listener once connections are taken, and
    can tell by `listener.address`. `reuse_port`: other processes may, too.

    `max_connections`: who comes next waits to be accepted (None: 10,000, or as
    many as there may be files, whose soft limit is raised to the hard one).
    `idle_timeout`: a handler that waits for its peer, and to and from which
    nothing has gone for so many seconds, is cancelled. `grace`: when the server
    is cancelled, handlers have so many seconds to end before they are. None: no
    limit. Raises OSError if a port can't be had. What a handler raises is logged
    and forgotten.
    """
    from contextlib import ExitStack  # only here: it is slow to import

    hosts = [host] if isinstance(host, str) else list(host)
    server = Server(handler, max_connections, idle_timeout, grace)
    with ExitStack() as listeners:
        opened: list[Socket] = []
        for one in hosts:
            opened.append(listeners.enter_context((yield Listen((one, port), backlog, reuse_port=reuse_port))))
        yield from run_server(server, opened, ready)


@awaitable
def serve_unix(
    handler: Handler,
    path: str,
    *,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE,
    grace: float | None = GRACE,
    backlog: int = BACKLOG,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve at a Unix path, as `serve` does; the path must not exist, and is removed at the end."""
    server = Server(handler, max_connections, idle_timeout, grace)
    with (yield Listen(path, backlog)) as listener:
        yield from run_server(server, [listener], ready)


@awaitable
def serve_listeners(
    handler: Handler,
    *listeners: Socket,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE,
    grace: float | None = GRACE,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve at listeners that are there already, as `serve` does; they are closed at the end."""
    from contextlib import ExitStack  # only here: it is slow to import

    with ExitStack() as closing:
        for listener in listeners:
            _ = closing.enter_context(listener)
        yield from run_server(Server(handler, max_connections, idle_timeout, grace), list(listeners), ready)


def run_server(server: Server, listeners: list[Socket], ready: Ready | None) -> Generator[Any, Any, None]:
    """Accept until cancelled; then close the listeners and wait for the handlers."""
    if not listeners:
        raise ValueError("a server listens at one address or more, not at none")
    yield TakeSigterm()
    holder = yield Spawn(server.hold(), "connections")
    try:
        yield server.begun.wait()
        for listener in listeners:
            if ready is not None:
                _ = ready(listener)
        if len(listeners) == 1:
            yield from server.accept(listeners[0])
        else:
            yield from gather(*(server.accept(listener) for listener in listeners))
    except GeneratorExit:
        raise  # it is being closed, and can't wait
    except BaseException:
        for listener in listeners:
            listener.close()
        server.stopping.set()
        with (yield Shield(None)):
            yield Join(holder)
        raise
