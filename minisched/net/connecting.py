"""Connecting to a host by all of its addresses: `open_connection`, with TLS if wanted.

Theory of operation. This is "Happy Eyeballs" (RFC 8305), in the form that trio gave it: a task for each address. The
addresses are sorted so that the families alternate. The attempts begin 250 ms apart, or sooner if the one before has
failed. The first connection wins, and the group of the attempts is cancelled, which closes the sockets of the others.
So a family that is announced and does not work costs a quarter of a second, and not the minutes of a TCP timeout.

Invariants:
1. When the function has ended, no attempt goes on, and every socket is closed but the one that it returns.
2. The order of the attempts is that of the addresses, whatever their outcomes.

Decision: if no address answers, an OSError is raised that names each address; its cause is an ExceptionGroup of all
errors. It has the errno that all of them have, or none. Because: a program that handles the error of Connect handles
this one, too, and ConnectionRefusedError means that every address has refused. Rejected: raising the group, for which
each caller needs an `except*`, also for a host whose only address refuses; the error of the last address alone, as
Connect raises it, which may be the one of a family that this machine does not have.

Decision: both families come from one look-up. Because: `getaddrinfo` sorts them by what this machine can reach (RFC
6724), and that order is lost if each family has a look-up of its own. Rejected: the two look-ups of RFC 8305 with its
"resolution delay" of 50 ms, which gain something only where one of the two answers never comes.

Decision: the first TCP connection wins, before its TLS handshake. Because: a server sees one handshake for each client,
and a handshake that fails, such as for a wrong certificate, is an error of the host, not of an address. Rejected: a
race of handshakes, in which a second address could hide that the first one is an impostor.

Not here: one address after the other, in one call (`Connect` in `dialing`); look-ups (`names`); TLS itself (`tls`).
"""

from __future__ import annotations

import errno
import os
from itertools import chain, zip_longest

from ..bridges.threads import InThread
from ..kernel.numbers import check_seconds
from ..sync.events import Event
from ..tasks.select_calls import select
from ..tasks.taskgroup import group
from ..tasks.tasks import awaitable
from ..tasks.timers import Sleep
from .dialing import Connect
from .names import Resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from ssl import SSLContext
    from typing import Any, Literal, Protocol, overload

    from ..tasks.taskgroup import TaskGroup
    from ..tasks.tasks import Call
    from .addresses import HostAddress
    from .sockets import Socket
    from .tls import TlsConnection

    class Opening(Protocol):
        """The type of `open_connection`: with `tls`, the result is a TlsConnection."""

        @overload
        def __call__(
            self,
            host: str,
            port: int,
            *,
            tls: Literal[False] | None = None,
            server_hostname: None = None,
            nodelay: bool = True,
            attempt_delay: float = 0.25,
        ) -> Call[Socket]: ...
        @overload
        def __call__(
            self,
            host: str,
            port: int,
            *,
            tls: SSLContext | Literal[True],
            server_hostname: str | None = None,
            nodelay: bool = True,
            attempt_delay: float = 0.25,
        ) -> Call[TlsConnection]: ...

    def opening(function: object) -> Opening:
        """Make the generators of `open_connection` awaitable, too."""
        ...
else:
    opening = awaitable

ATTEMPT_DELAY_SECONDS = 0.25  # between the beginnings of two attempts: the recommendation of RFC 8305


@opening
def open_connection(
    host: str,
    port: int,
    *,
    tls: SSLContext | bool | None = None,
    server_hostname: str | None = None,
    nodelay: bool = True,
    attempt_delay: float = ATTEMPT_DELAY_SECONDS,
) -> Generator[Any, Any, Socket | TlsConnection]:
    """Connect to a host by the first of its addresses that answers; return the connection.

    The addresses of both families are tried in turn, each a quarter of a second after the one before, or as soon as
    that has failed ("Happy Eyeballs", RFC 8305). The first connection wins, and the others are closed. A cancellation
    ends the look-up and all attempts, and leaves nothing open. Look-up and attempts have no limit of their own: use a
    Timeout. The caller closes the connection, or uses it in a `with`.

    Args:
        host: a name, also an international one, or a numeric address.
        port: the TCP port.
        tls: an `ssl.SSLContext`, or True for the default one: make the TLS handshake on the connection.
        server_hostname: the name that the server's certificate has to have, with `tls`; by default `host`.
        nodelay: send small writes at once (TCP_NODELAY).
        attempt_delay: seconds between the beginnings of two attempts.

    Returns:
        The connected Socket; with `tls`, the TLS connection over it.

    Raises:
        OSError: the host is unknown (`socket.gaierror`), or no address answers. The text names each address, and the
            cause is an ExceptionGroup of their errors. If all have the same errno, so has this one: it is a
            ConnectionRefusedError if all have refused.
        TypeError, ValueError: an argument is malformed, or there is a `server_hostname` without `tls`.

    With `tls`, any error of the handshake is raised as it is, and the connection is closed.

    Example:
        >>> from minisched import Accept, Listen, Read, Spawn, Write, open_connection, run
        >>> def greet(listener):
        ...     with (yield Accept(listener)) as conn:
        ...         yield Write(conn, b"hello")
        >>> def main():
        ...     with (yield Listen(("localhost", 0))) as listener:
        ...         yield Spawn(greet(listener))
        ...         with (yield from open_connection("localhost", listener.address[1])) as conn:
        ...             return (yield Read(conn, 100))
        >>> run(main())
        b'hello'
    """
    delay = check_seconds("open_connection", "attempt_delay", attempt_delay)
    check_tls(tls, server_hostname)
    context: Any = (yield InThread(default_context, abandon=True)) if tls is True else tls
    found = yield Resolve(host, port)
    conn = yield from first_connection(f"host {host!r} at port {port}", alternating(found), nodelay, delay)
    if not context:
        return conn
    try:
        from .tls import start_tls  # imported here: `ssl` is slow to import

        return (yield from start_tls(conn, context, server_hostname=server_hostname or host))
    except BaseException:
        conn.close()
        raise


def check_tls(tls: object, server_hostname: str | None) -> None:
    """Raise TypeError or ValueError for a wrong `tls`, before anything is opened."""
    if not (tls is None or isinstance(tls, bool) or hasattr(tls, "wrap_bio")):
        raise TypeError(f"open_connection: tls is an ssl.SSLContext, or True for the default one, not {tls!r}")
    if server_hostname is not None and not tls:
        raise ValueError("open_connection: server_hostname is the name in the certificate: pass tls, too")


def default_context() -> SSLContext:
    """Return the context for `tls=True`, in a thread: it reads the certificates of all authorities from the disk."""
    import ssl  # imported here: slow to import

    return ssl.create_default_context()


def alternating(found: Iterable[HostAddress]) -> list[Any]:
    """Return the addresses, each once, so that the families alternate: first that of the first address."""
    families: dict[int, dict[Any, None]] = {}
    for one in found:
        families.setdefault(one.family, {})[one.address] = None
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


def first_connection(host: str, addresses: list[Any], nodelay: bool, delay: float) -> Generator[Any, Any, Socket]:
    """Return the first connection to one of the addresses; raise an OSError if all fail."""
    if len(addresses) == 1:
        return (yield Connect(addresses[0], nodelay=nodelay))
    attempts = Attempts(addresses, nodelay, delay)
    try:
        yield from group(attempts.begin, f"connect to {host}")
    except BaseException:
        attempts.close(0)
        raise
    finally:
        attempts.close(1)  # two of them may be made in one turn
    if attempts.made:
        return attempts.made[0]
    raise attempts.error(host)


class Attempts:
    """Attempts to connect to the addresses of one host: the connections that were made, and the errors."""

    def __init__(self, addresses: list[Any], nodelay: bool, delay: float) -> None:
        self.addresses = addresses
        self.nodelay = nodelay
        self.delay = delay
        self.made: list[Socket] = []
        self.errors: dict[Any, OSError] = {}  # by address; taken out at the end, as their tracebacks hold `self`

    def begin(self, team: TaskGroup) -> Generator[Any, Any, None]:
        """Begin the attempts, one after the other; the block of their group."""
        for address in self.addresses:
            failed = Event()
            _ = yield team.spawn(self.connect(team, address, failed), f"connect to {address[0]}")
            _ = yield select(failed.wait(), Sleep(self.delay))

    def connect(self, team: TaskGroup, address: Any, failed: Event) -> Generator[Any, Any, None]:
        """Connect to one address; end the other attempts, or let the next one begin."""
        try:
            sock = yield Connect(address, nodelay=self.nodelay)
        except OSError as error:
            self.errors[address] = error
        else:
            self.made.append(sock)
            team.cancel()
        finally:
            failed.set()

    def close(self, keep: int) -> None:
        """Close all connections but the first `keep`."""
        while len(self.made) > keep:
            self.made.pop().close()

    def error(self, host: str) -> OSError:
        """Return the error for a host of which no address answers."""
        errors = [self.errors.pop(address, None) or cancelled(address) for address in self.addresses]
        text = f"no address of {host} answers: {'; '.join(map(str, errors))}"
        numbers = {error.errno for error in errors}
        error = OSError(text) if len(numbers) > 1 else OSError(errors[0].errno, text)
        error.__cause__ = ExceptionGroup(f"no address of {host} answers", errors)
        return error


def cancelled(address: Any) -> OSError:
    """Return the error of an attempt whose task was cancelled alone, by some other part of the program."""
    return OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), str(address))
