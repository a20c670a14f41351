"""Serve at TCP addresses, at a Unix path, or at listeners that are already open.

Theory of operation. One task accepts at each listener and starts a task for each connection. Cancelling a server
stops it in two steps. First it closes its listeners; the handlers are shielded from that cancellation and have
`grace` seconds to finish. Then the handlers that are still running are cancelled and named in the log. SIGTERM and
SIGHUP cancel main, as Ctrl-C does; a second signal stops the program at once.

Invariants:
1. A stopping server closes its listeners, and removes their Unix paths, before it waits for anything. A listener that
   cannot be closed keeps neither the others open nor the server from stopping.
2. `serve` ends only after all of its handlers have ended.

Decision: SIGHUP stops a server as SIGTERM does, unless the program handles or ignores it. Because: it arrives when the
terminal is closed, and by default it would end the process without any cleanup, so that a Unix path is left. A program
that reloads its configuration by it keeps its own handler, or the task that yields `WaitSignal(signal.SIGHUP)` gets it.
Rejected: leaving it to each program, since none thinks of it.

Decision: `serve(handler, host, port)`, `serve_unix(handler, path)` and `serve_listeners(handler, *listeners)` are three
functions. Because: a host and a path are both texts, so in `serve(handler, "localhost")` one would pass for the other;
and each has options that the others have not. Rejected: `serve(handler, *addresses)`, as `serve_workers` has it, which
breaks every program with a server and saves some 30 lines.

Not here: the handlers and the limits (`connections`); a view of a running server (`status`); several processes
(`workers`).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from ..bridges.interrupt import Interrupts
from ..bridges.wakeup import Wakeup
from ..kernel import Syscall
from ..kernel.tracebacks import text_of
from ..net.binding import BACKLOG_CONNECTIONS
from ..net.listening import Listen, ListenAll
from ..sync.events import Event
from ..tasks.gather import gather
from ..tasks.scopes import Shield
from ..tasks.tasks import Join, Spawn, awaitable
from .connections import GRACE_SECONDS, IDLE_SECONDS, Connections
from .log import log
from .status import log_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from ssl import SSLContext
    from typing import Any

    from ..kernel import Kernel, Task
    from ..net.sockets import Socket
    from .connections import Handler

    Ready = Callable[[Socket], object]


@awaitable
def serve(
    handler: Handler,
    host: str | Sequence[str],
    port: int,
    *,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE_SECONDS,
    grace: float | None = GRACE_SECONDS,
    backlog: int = BACKLOG_CONNECTIONS,
    reuse_port: bool = False,
    nodelay: bool = True,
    status_signal: int | None = None,
    tls: SSLContext | None = None,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve TCP at `(host, port)` until cancelled: each connection runs `handler(conn)` as a task.

    The server closes a connection after its handler and the handler's children have ended. An exception of a handler
    is logged (logger `minisched`, with the peer's address) and does not stop the server; a lost connection is logged
    in one line at level INFO. Of equal failures, 20 in a minute are logged, and the others are counted: see
    `minisched.serving.log`. An exception that is not an Exception, such as GeneratorExit, stops the server: the other
    handlers are cancelled, and `serve` raises it in a group. SystemExit and KeyboardInterrupt end the run.

    A cancellation (also by Ctrl-C, SIGTERM or SIGHUP, which cancel main) closes the listeners at once, and gives the
    handlers `grace` seconds to finish. Handlers that are still running are then cancelled and named in the log. A
    handler of the program's own for a signal stays in place, and so does an ignored SIGHUP (`nohup`).

    Args:
        handler: a generator function or an `async def`; the connection is its only argument.
        host: a host name or address, or several of them; "" for every address of this machine. The server listens at
            all addresses of a name that this machine has. At `::` it takes IPv6 connections only. Names are resolved
            as by `Resolve`, before anything is opened.
        port: the TCP port; 0 lets the operating system choose one (see `ready`), for all addresses the same if it can.
        max_connections: the limit of handlers; further clients wait to be accepted. None: 10,000, or what the hard
            limit of open files allows, if that is less (the soft limit is raised to it).
        idle_timeout: a handler that waits for its connection while no byte moves is cancelled after this many seconds
            (at most a quarter later); None for no timeout.
        grace: seconds that handlers have to finish when the server is cancelled; None for no limit.
        backlog: connections that the operating system queues before they are accepted.
        reuse_port: let other processes listen at the same port (SO_REUSEPORT).
        nodelay: send small writes at once (TCP_NODELAY); False lets TCP collect them.
        status_signal: a signal, such as `signal.SIGUSR1`, at which `server_status` is logged at level WARNING; None for
            no such signal. Only a run in the main thread receives signals.
        tls: a context with a certificate: the handler gets a `TlsConnection`, after a handshake of 30 seconds at most.
            A handshake that fails is logged in one line at level INFO.
        ready: called once for each listener, when the server accepts connections; `listener.address` has the port.
            For one listener, the `started` of `TaskGroup.start` can be passed.

    Raises:
        OSError: if an address cannot be bound.
        ValueError: for a `max_connections` below 1, an `idle_timeout` or `grace` that is negative or NaN, or a context
            `tls` for clients.
        SyscallError: `status_signal` is not a signal that can be caught, or the run is not in the main thread.
        BaseExceptionGroup: a handler raised an exception that is not an Exception.

    Example:
        >>> from minisched import Cancel, Connect, Event, Read, Spawn, Write, run, serve
        >>> def echo(conn):
        ...     while data := (yield Read(conn, 65536)):
        ...         yield Write(conn, data)
        >>> def main():
        ...     listening, addresses = Event(), []
        ...     def ready(listener):
        ...         addresses.append(listener.address)
        ...         listening.set()
        ...     server = yield Spawn(serve(echo, "127.0.0.1", 0, ready=ready), keep=True)
        ...     yield listening.wait()
        ...     with (yield Connect(addresses[0])) as conn:
        ...         yield Write(conn, b"hello")
        ...         answer = yield Read(conn, 100)
        ...     yield Cancel(server)
        ...     return answer
        >>> run(main())
        b'hello'
    """
    from contextlib import ExitStack  # imported here: `import minisched` is to stay quick

    several = isinstance(host, Iterable) and not isinstance(host, (str, bytes))  # type: ignore[redundant-expr]
    addresses: Any = [(name, port) for name in (host if several else [host])]
    connections = Connections(handler, max_connections, idle_timeout, grace, status_signal, tls)
    with ExitStack() as stack:
        listeners: list[Socket] = yield ListenAll(addresses, backlog, reuse_port=reuse_port, nodelay=nodelay)
        for listener in listeners:
            _ = stack.callback(close_listener, listener)
        yield from run_server(connections, listeners, ready)


@awaitable
def serve_unix(
    handler: Handler,
    path: str,
    *,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE_SECONDS,
    grace: float | None = GRACE_SECONDS,
    backlog: int = BACKLOG_CONNECTIONS,
    mode: int | None = None,
    owner: int | str | None = None,
    status_signal: int | None = None,
    tls: SSLContext | None = None,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve at a Unix path until cancelled: each connection runs `handler(conn)` as a task.

    Otherwise like `serve`. The socket file at `path` is created, and removed when the server stops listening. One that
    a dead process has left is taken over.

    Args:
        handler: a generator function or an `async def`; the connection is its only argument.
        path: the path of the socket file.
        mode, owner: as for `Listen`: the permissions of the path, such as 0o660, and its owner, such as "user:group".
        max_connections, idle_timeout, grace, backlog, status_signal, tls, ready: as for `serve`; `listener.address` is
            the path.

    Raises:
        OSError: if the path is in use or cannot be created.
        ValueError: as for `serve`.

    Example:
        >>> import os, tempfile
        >>> from minisched import Cancel, Connect, Event, Read, Spawn, Write, run, serve_unix
        >>> def greet(conn):
        ...     yield Write(conn, b"hello")
        >>> def main(path):
        ...     listening = Event()
        ...     server = serve_unix(greet, path, ready=lambda listener: listening.set())
        ...     server = yield Spawn(server, keep=True)
        ...     yield listening.wait()
        ...     with (yield Connect(path)) as conn:
        ...         answer = yield Read(conn, 100)
        ...     yield Cancel(server)
        ...     return answer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(main(os.path.join(folder, "socket")))
        b'hello'
    """
    connections = Connections(handler, max_connections, idle_timeout, grace, status_signal, tls)
    listener = yield Listen(path, backlog, mode=mode, owner=owner)
    try:
        yield from run_server(connections, [listener], ready)
    finally:
        close_listener(listener)


@awaitable
def serve_listeners(
    handler: Handler,
    *listeners: Socket,
    max_connections: int | None = None,
    idle_timeout: float | None = IDLE_SECONDS,
    grace: float | None = GRACE_SECONDS,
    status_signal: int | None = None,
    tls: SSLContext | None = None,
    ready: Ready | None = None,
) -> Generator[Any, Any, None]:
    """Serve at open listeners until cancelled: each connection runs `handler(conn)` as a task.

    Otherwise like `serve`. The server owns the listeners: it closes them when it stops, or when it fails. Use it to
    serve TCP and Unix clients at once, or to know the port before the server runs.

    Args:
        handler: a generator function or an `async def`; the connection is its only argument.
        listeners: one or more sockets that `Listen` returned. A plain socket, for example one that a supervisor has
            opened, is wrapped first: `Socket(fileno=plain.detach())`.
        max_connections, idle_timeout, grace, status_signal, tls, ready: as for `serve`; the limits hold for all
            listeners together.

    Raises:
        TypeError: for anything that is not a listener, such as a plain socket.
        ValueError: for no listener, and as for `serve`.

    Example:
        >>> from minisched import Cancel, Connect, Listen, Read, Spawn, Write, run, serve_listeners
        >>> def greet(conn):
        ...     yield Write(conn, b"hello")
        >>> def main():
        ...     listener = yield Listen(("127.0.0.1", 0))
        ...     server = yield Spawn(serve_listeners(greet, listener), keep=True)
        ...     with (yield Connect(listener.address)) as conn:
        ...         answer = yield Read(conn, 100)
        ...     yield Cancel(server)
        ...     return answer
        >>> run(main())
        b'hello'
    """
    from contextlib import ExitStack  # imported here: `import minisched` is to stay quick

    with ExitStack() as stack:
        for listener in listeners:
            _ = stack.callback(close_listener, listener)
        for listener in listeners:
            if not hasattr(listener, "try_accept"):
                raise TypeError(
                    f"serve_listeners takes what `yield Listen(...)` returns, listeners, not {listener!r}; "
                    "a plain socket is wrapped: Socket(fileno=plain.detach())"
                )
        connections = Connections(handler, max_connections, idle_timeout, grace, status_signal, tls)
        yield from run_server(connections, list(listeners), ready)


def run_server(connections: Connections, listeners: list[Socket], ready: Ready | None) -> Generator[Any, Any, None]:
    """Accept at the listeners until cancelled; then close them and wait for the handlers."""
    if not listeners:
        raise ValueError("a server needs at least one address or listener")
    yield CancelMainOnSignals()
    if connections.status_signal is not None:
        begun = Event()
        _ = yield Spawn(log_status(connections.status_signal, begun), "status", daemon=True)
        yield begun.wait()
    parent = yield Spawn(connections.run_handlers(), "connections")
    try:
        yield from accept_at(connections, listeners, ready)
    except GeneratorExit:
        raise  # the generator is being closed and cannot wait; the kernel ends the handlers
    except BaseException:
        try:
            for listener in listeners:
                close_listener(listener)
        finally:
            connections.stopping.set()
        with (yield Shield(None)):
            yield Join(parent)
        raise


def accept_at(connections: Connections, listeners: list[Socket], ready: Ready | None) -> Generator[Any, Any, None]:
    """Accept at the listeners until cancelled."""
    yield connections.started.wait()
    for listener in listeners:
        if ready is not None:
            _ = ready(listener)
    if len(listeners) == 1:
        yield from connections.accept(listeners[0])
    else:
        yield from gather(*(connections.accept(listener) for listener in listeners))


def close_listener(listener: Socket) -> None:
    """Close a listener; log an error of that, for example since its Unix path cannot be removed."""
    try:
        listener.close()
    except Exception as error:
        log("error", "closing a listener failed: %s", text_of(error))


class CancelMainOnSignals(Syscall[None]):
    """Let SIGTERM and SIGHUP cancel main, as Ctrl-C does, until the run ends; `run` then raises SystemExit(143 or 129).

    A handler that the program has installed stays in place, and so does an ignored signal. The descriptors with which
    the loop waits for signals and files are opened now, since connections may take all that are left.
    """

    __slots__ = ()
    checkpoint = False

    def handle(self, kernel: Kernel, task: Task) -> None:
        kernel.service(Wakeup).open()
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # Windows has no SIGHUP
                kernel.service(Interrupts).handle_signal(getattr(signal, name), signal.SIG_DFL)
