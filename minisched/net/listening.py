"""Listening: Listen opens a listener, and Accept waits for its next connection.

Theory of operation. The service `Network` makes the sockets. If the host is a name, a Listen first waits for the
look-up (`names`). An Accept is an operation on the listener, as a Read is on a connection: it is tried, and waits for
the poll only if no connection has come.

Invariants:
1. A listener that is opened and not delivered is closed, and its path removed.
2. A cancelled Accept has accepted nothing.

Not here: how a listener is bound (`binding`); a loop that accepts and starts handlers (`serving`).
"""

from __future__ import annotations

from ..io.nonblocking import FileOperation
from .binding import BACKLOG_CONNECTIONS
from .names import ByName
from .network import Network
from .sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..kernel import Kernel
    from .addresses import Address


class Listen(ByName[Socket]):
    """Open a listening socket at `address`.

    The call waits only if `host` is a name. The end of its look-up wakes the task. A cancelled Listen has opened
    nothing. The listener closes like any Socket, in a `with` or by `close`. Of the addresses of a host, it listens at
    the first that this machine has (`serve` listens at all of them). At an IPv6 address it takes IPv6 connections only,
    also at `::`.

    The path of a Unix listener is removed when the listener is closed. A path that a dead process has left is taken
    over; a file of any other kind, and a path at which another socket is open, are in use.

    Args:
        address: `(host, port)` for TCP, host "" for all addresses of this machine, port 0 for any free port; a path
            (str, bytes or Path) for a Unix socket.
        backlog: how many connections may wait for an Accept.
        reuse_port: let several processes listen at the same port; each of them has to set it.
        nodelay: send small writes on accepted connections at once (TCP_NODELAY); False lets TCP collect them.
        mode: the permissions of a Unix path, such as 0o660, before any client can connect; None: as the umask has it.
        owner: the owner of a Unix path, also before that: a user id, "user", "user:group" or ":group".

    Returns:
        A Socket; its `address` is where it listens.

    Raises:
        OSError: the port or the path is in use, is not permitted, or does not exist. The text names it.
        TypeError, ValueError: the address, the mode or the owner is malformed.

    Example:
        >>> from minisched import Listen, run
        >>> def main():
        ...     with (yield Listen(("127.0.0.1", 0))) as listener:
        ...         host, port = listener.address
        ...         return host, port > 0
        >>> run(main())
        ('127.0.0.1', True)
    """

    __slots__ = ("address", "backlog", "mode", "nodelay", "owner", "reuse_port")

    def __init__(
        self,
        address: Address,
        backlog: int = BACKLOG_CONNECTIONS,
        *,
        reuse_port: bool = False,
        nodelay: bool = True,
        mode: int | None = None,
        owner: int | str | None = None,
    ) -> None:
        self.address = address
        self.backlog = backlog
        self.reuse_port = reuse_port
        self.nodelay = nodelay
        self.mode = mode
        self.owner = owner

    def answer(self, kernel: Kernel) -> Socket:
        return kernel.service(Network).listen(
            self.address,
            self.backlog,
            reuse_port=self.reuse_port,
            nodelay=self.nodelay,
            mode=self.mode,
            owner=self.owner,
        )

    def __repr__(self) -> str:
        return f"Listen({self.address!r})"


class ListenAll(ByName["list[Socket]"]):
    """Open listening sockets at every address of several hosts; `serve` uses it.

    The call waits only if a host is a name. The end of the last look-up wakes the task. Before that, nothing is opened.

    Args:
        addresses: as for `Listen`. With port 0, all listeners get the same port, where that is possible.
        backlog, nodelay, reuse_port: as for `Listen`.

    Returns:
        The Sockets, in the order of the hosts and of their addresses.

    Raises:
        OSError, TypeError, ValueError: as for `Listen`; no listener is left open then.
    """

    __slots__ = ("addresses", "backlog", "options")

    def __init__(self, addresses: Sequence[Address], backlog: int = BACKLOG_CONNECTIONS, **options: Any) -> None:
        self.addresses = addresses
        self.backlog = backlog
        self.options = options

    def answer(self, kernel: Kernel) -> list[Socket]:
        return kernel.service(Network).listen_all(self.addresses, self.backlog, **self.options)

    def __repr__(self) -> str:
        return f"Listen({', '.join(map(repr, self.addresses))})"


class Accept(FileOperation[Socket]):
    """Wait for the next connection to a listener.

    A connection, an error or a close wakes the task. A cancelled Accept has accepted nothing: the connection stays in
    the backlog for the next Accept. The caller closes the Socket that it gets, or uses it in a `with`. `serve` does all
    this in a loop.

    Args:
        listener: a Socket that `Listen` returned.

    Returns:
        The connection, a Socket; its `peer` is the remote address.

    Raises:
        BusyError: another task waits for this listener.
        ClosedError: the listener is closed, now or while the task waits.
        OSError: the operating system reports an error, such as too many open files.
        TypeError: `listener` is not a Socket.

    Example:
        >>> from minisched import Accept, Connect, Listen, Read, Write, run
        >>> def main():
        ...     with (yield Listen(("127.0.0.1", 0))) as listener:
        ...         with (yield Connect(listener.address)) as near, (yield Accept(listener)) as far:
        ...             yield Write(near, b"hello")
        ...             return far.peer == near.address, (yield Read(far, 100))
        >>> run(main())
        (True, b'hello')
    """

    __slots__ = ()

    def __init__(self, listener: Socket) -> None:
        self.file = listener

    def open(self, kernel: Kernel) -> Socket:
        if not hasattr(self.file, "try_accept"):
            raise TypeError(f"Accept takes what `yield Listen(...)` returns, a listener, not {self.file!r}")
        return self.file

    def try_once(self, file: Socket) -> Socket:
        return file.try_accept()
