"""The replaceable Network service, which makes the sockets of a run.

Theory of operation. All sockets that the program opens by an address come from one service, `Network`. To replace the
network, as a test does, call `run(main, services={Network: ...})`.

A method of the network that needs the addresses of a name raises NotKnownYet (`names`). The call then waits for the
look-up, and asks the network again. So a network of a program's own receives the address that a task has passed.

Invariants:
1. A socket that was created but not returned to the task is closed.
2. No method of the network waits for a look-up.

Not here: the syscalls (`listening`, `dialing`, `datagrams`); binding a listener (`binding`); the forms of an address
(`addresses`); names (`names`); the sockets (`sockets`).
"""

from __future__ import annotations

import socket
from functools import partial

from ..kernel import Service
from .addresses import resolve, unix_path
from .binding import listen, listen_all
from .datagram_sockets import DatagramSocket, open_datagram
from .names import Names
from .sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .addresses import Address, HostAddress

    Attempt = tuple[Callable[[], Socket], Any]


class Network(Service):
    """The service that makes sockets for Listen, Connect and OpenDatagram. Subclass it to replace the network.

    Attributes:
        socket: the class of listeners and of sockets that connect. It takes the arguments of Socket. Its
            `make_connection` decides the class of the connections that a listener accepts.
        datagram_socket: the class of the datagram sockets.

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

    socket: type[Socket] = Socket
    datagram_socket: type[DatagramSocket] = DatagramSocket

    def find(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the addresses of a host, from the service Names; raise NotKnownYet if that needs a look-up."""
        return self.kernel.service(Names).find(host, port, family, type, flags)

    def listen(self, address: Address, backlog: int, **options: Any) -> Socket:
        """Return a listening socket; the options are the keywords of `Listen`, which describes it."""
        return listen(address, backlog, find=self.find, make=self.socket, **options)

    def listen_all(self, addresses: Sequence[Address], backlog: int, **options: Any) -> list[Socket]:
        """Return listeners for a server: `listen` at every address of every host, in order."""
        return listen_all(addresses, partial(self.listen, backlog=backlog, **options), self.find)

    def open_datagram(self, local: Address | None, remote: Address | None, **options: Any) -> DatagramSocket:
        """Return a datagram socket; the arguments are those of `OpenDatagram`, which describes them."""
        return open_datagram(local, remote, make=self.datagram_socket, **options)

    def dial(self, address: Address) -> list[Attempt]:
        """Return the attempts that Connect makes, in order.

        Returns:
            Pairs of a function that makes an unconnected Socket, and the address for its `try_connect`.
        """
        path = unix_path(address)
        if path is not None:
            return [(partial(self.socket, socket.AF_UNIX, socket.SOCK_STREAM), path)]
        results = resolve(address, 0, self.find)
        return [(partial(self.socket, family, kind, proto), target) for family, kind, proto, _, target in results]
