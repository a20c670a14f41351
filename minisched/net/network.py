"""The network of a run: Listen, Accept, Connect, and the replaceable Network service.

Theory of operation. All sockets that the program opens by an address come from one service, `Network`. To replace the
network, as a test does, call `run(main, services={Network: ...})`.

A method of the network that needs the addresses of a name raises NotKnownYet (`names`). The call then waits for the
look-up, and asks the network again. So a network of a program's own receives the address that a task has passed.

Invariants:
1. A socket that was created but not returned to the task is closed.
2. No method of the network waits for a look-up.

Not here: opening listeners (`listening`); the attempts of a Connect (`dialing`); datagrams (`datagrams`); the forms of
an address (`addresses`); names (`names`); the sockets (`sockets`); all addresses of a host at once (`connecting`).
"""

from __future__ import annotations

import socket
from functools import partial

from ..io._selectors2 import WRITE
from ..io.nonblocking import FileOperation
from ..kernel import Service
from ..kernel.waiting import NOT_YET
from .addresses import resolve, unix_path
from .datagram_sockets import open_datagram
from .dialing import Dialing, DialingByName
from .listening import BACKLOG_CONNECTIONS, listen, listen_all
from .names import ByName, Names, NotKnownYet
from .sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..kernel import Kernel, Task
    from .addresses import Address, HostAddress
    from .datagram_sockets import DatagramSocket
    from .dialing import Attempt


class Network(Service):
    """The service that makes sockets for Listen, Connect and OpenDatagram. Subclass it to replace the network.

    Example:
        A network in which every address leads to one local listener:

        >>> from minisched import Accept, Connect, CurrentTask, Listen, Network, run
        >>> class Redirected(Network):
        ...     def dial(self, address):
        ...         return super().dial(self.target)
        >>> def main():
        ...     network = (yield CurrentTask()).kernel.service(Network)
        ...     with (yield Listen(("127.0.0.1", 0))) as listener:
        ...         network.target = listener.address
        ...         with (yield Connect(("example.org", 80))) as sock, (yield Accept(listener)):
        ...             return sock.peer == listener.address
        >>> run(main(), services={Network: Redirected})
        True
    """

    def find(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the addresses of a host, from the service Names; raise NotKnownYet if that needs a look-up."""
        return self.kernel.service(Names).find(host, port, family, type, flags)

    def listen(self, address: Address, backlog: int, **options: Any) -> Socket:
        """Return a listening socket; the options are the keywords of `Listen`, which describes it."""
        return listen(address, backlog, find=self.find, **options)

    def listen_all(self, addresses: Sequence[Address], backlog: int, **options: Any) -> list[Socket]:
        """Return listeners for a server: `listen` at every address of every host, in order."""
        return listen_all(addresses, partial(self.listen, backlog=backlog, **options), self.find)

    def open_datagram(self, local: Address | None, remote: Address | None, **options: Any) -> DatagramSocket:
        """Return a datagram socket; the arguments are those of `OpenDatagram`, which describes them."""
        return open_datagram(local, remote, **options)

    def dial(self, address: Address) -> list[Attempt]:
        """Return the attempts that Connect makes, in order.

        Returns:
            Pairs of a function that makes an unconnected Socket, and the address for its `try_connect`.
        """
        path = unix_path(address)
        if path is not None:
            return [(partial(Socket, socket.AF_UNIX, socket.SOCK_STREAM), path)]
        results = resolve(address, 0, self.find)
        return [(partial(Socket, family, kind, proto), target) for family, kind, proto, _, target in results]


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


class Connect(FileOperation[Socket]):
    """Connect to `address`.

    The connection or its refusal wakes the task. A host name is resolved first, in a thread. If it has several
    addresses, they are tried in order until one answers; `open_connection` tries them at once. A cancelled Connect has
    closed its socket, and leaves the look-up. The caller closes the Socket that it gets, or uses it in a `with`.

    Args:
        address: `(host, port)` for TCP, or what `getsockname` of a TCP socket returns; a path (str, bytes or Path) for
            a Unix socket.
        nodelay: send small writes at once (TCP_NODELAY). False lets TCP collect them (Nagle's algorithm).

    Returns:
        The connected Socket; its `peer` is the remote address.

    Raises:
        OSError: the connection failed, for example with ConnectionRefusedError, or the host is unknown; for several
            addresses, the error of the last. The text names the address.
        TypeError, ValueError: the address is malformed.

    Example:
        >>> from minisched import Connect, Listen, run
        >>> def main():
        ...     with (yield Listen(("127.0.0.1", 0))) as listener:
        ...         address = listener.address
        ...     try:
        ...         yield Connect(address)
        ...     except ConnectionRefusedError:
        ...         return "nobody listens there any more"
        >>> run(main())
        'nobody listens there any more'
    """

    __slots__ = ("address", "nodelay")
    direction = WRITE

    def __init__(self, address: Address, *, nodelay: bool = True) -> None:
        self.address = address
        self.nodelay = nodelay

    def try_now(self, kernel: Kernel, task: Task) -> Any:
        """Return NOT_YET: the listener notices an attempt, so `select` makes it only if no other call is done."""
        return NOT_YET

    def open(self, kernel: Kernel) -> Dialing:
        dial = partial(kernel.service(Network).dial, self.address)
        try:
            return Dialing(dial(), self.nodelay)
        except NotKnownYet:
            return DialingByName(dial, self.nodelay)

    def try_once(self, file: Dialing) -> Socket:
        return file.connected()

    def release(self, file: Dialing) -> None:
        """Close the socket of an attempt that has not succeeded."""
        file.close()

    def __repr__(self) -> str:
        return f"Connect({self.address!r})"
