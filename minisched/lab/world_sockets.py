"""Sockets of a world: each question to the operating system goes through `World.ask`.

Theory of operation. A `WorldSocket` is a Socket whose methods ask the world. In a world that is not real, it has the
number of a descriptor and the properties that were recorded, and no socket of the operating system.

Invariants:
1. A socket has the same number in a recording and in its replay: they are counted in the order in which they are made.

Not here: files (`world_files`); the other services (`world`); datagrams and TLS, which a world refuses.
"""

from __future__ import annotations

import socket
from functools import partial

from ..io.filelike import FileState
from ..net.names import Names
from ..net.network import Network
from ..net.sockets import Socket
from .world import NAMES, NETWORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Kernel
    from ..net.addresses import Address, HostAddress
    from ..net.datagram_sockets import DatagramSocket
    from .world import World


def asking(kind: str, name: str = "") -> Callable[..., Any]:
    """Return a method that asks the world what the method `name` of a Socket returns; by default, that named `kind`."""
    method = getattr(Socket, name or kind)

    def asks(self: WorldSocket, *args: Any) -> Any:
        return self.world.ask(kind, self, method, *args)

    asks.__name__ = name or kind
    return asks


class WorldSocket(Socket):
    """A Socket that asks the world."""

    __slots__ = ("number", "properties", "world")

    def __init__(
        self,
        world: World,
        family: int = -1,
        kind: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        peer: Any = None,
        recorded: list[int] | None = None,
    ) -> None:
        """Make a socket; with `recorded`, one with these properties and no socket of the operating system."""
        self.properties = [-1] * 4  # the descriptor, family, type and protocol
        if recorded is None:
            super().__init__(family, kind, proto, fileno, peer)
            self.properties = [super().fileno(), int(super().family), int(super().type), super().proto]
        else:
            self.peer, self.bound, self.checks_nodelay = peer, None, False
            self._io_refs, self._closed = 0, False  # as `__init__` of the standard library's socket sets them
            self.properties = recorded
        self.file_state = FileState(self.properties[0])
        self.world = world
        self.number = world.next_number()

    family = property(lambda self: socket.AddressFamily(self.properties[1]))  # type: ignore[assignment]
    type = property(lambda self: socket.SocketKind(self.properties[2]))  # type: ignore[assignment]
    proto = property(lambda self: self.properties[3])  # type: ignore[assignment]

    try_read = asking("read", "try_read")
    try_write = asking("write", "try_write")
    bind = asking("bind")
    listen = asking("listen")
    shutdown = asking("shutdown")
    getsockopt = asking("getsockopt")
    setsockopt = asking("setsockopt")
    getsockname = asking("getsockname")
    getpeername = asking("getpeername")
    write_eof = asking("write_eof")
    short_read_means_empty = True

    def fileno(self) -> int:
        """Return the descriptor; -1 once the socket is closed."""
        return self.properties[0]

    def try_accept(self) -> WorldSocket:
        """Return the next connection; raise BlockingIOError if there is none yet."""
        return self.world.ask("accept", self, Socket.try_accept)

    def make_connection(self, fd: int, peer: Any) -> WorldSocket:
        """Return the socket of a connection."""
        return WorldSocket(self.world, *self.properties[1:], fileno=fd, peer=peer)

    def try_connect(self, address: Any) -> WorldSocket:
        """Return this socket once it is connected to `address`; raise BlockingIOError until then."""
        _ = self.world.ask("connect", self, connect, address)
        self.peer = address
        return self

    def close(self) -> None:
        """Close the socket; the tasks that wait for it get ClosedError."""
        self._check_thread("close")
        if self.properties[0] >= 0:
            self.world.ask("close", self, nothing)
        try:
            super().close()
        finally:
            self._forget_descriptor()

    def _forget_descriptor(self) -> None:
        self.properties = [-1, *self.properties[1:]]

    def detach(self) -> int:
        """Refuse to give the descriptor up, unless it may go past the world: its new owner would not ask."""
        if not self.world.whole:
            fd = super().detach()
            self._forget_descriptor()
            return fd
        self.world.refuse(f"{self!r} is detached, so its bytes can't be recorded from now on")

    def __repr__(self) -> str:
        return f"<{self.label} {self.number}>"


def connect(sock: WorldSocket, address: Any) -> None:
    """Go on to connect."""
    _ = Socket.try_connect(sock, address)


def nothing(sock: WorldSocket) -> None:
    """Do nothing: the question only says that something happens here."""


class WorldNetwork(Network):
    """A network whose sockets ask the world."""

    number = NETWORK

    def __init__(self, kernel: Kernel, world: World) -> None:
        super().__init__(kernel)
        self.world = world
        self.socket = partial(self.world.ask, "socket", self, make_socket)  # type: ignore[assignment]

    def listen(self, address: Address, backlog: int, **options: Any) -> Socket:
        """Return a listening socket."""
        return self.world.ask("listen", self, listen, address, backlog, options)

    def open_datagram(self, local: Address | None, remote: Address | None, **options: Any) -> DatagramSocket:
        """Refuse a datagram socket, unless it may go past the world."""
        if not self.world.whole:
            return super().open_datagram(local, remote, **options)
        self.world.refuse("datagrams can't be recorded")


class WorldNames(Names):
    """The addresses of hosts that need no look-up, asked through the world. A look-up is a call in a thread."""

    number = NAMES

    def __init__(self, kernel: Kernel, world: World) -> None:
        super().__init__(kernel)
        self.world = world

    def known(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the addresses of a host that needs no wait; [] for any other."""
        return self.world.ask("known", self, Names.known, host, port, family, type, flags)


def make_socket(network: WorldNetwork, family: int, kind: int, proto: int = 0) -> WorldSocket:
    """Return a new socket."""
    return WorldSocket(network.world, family, kind, proto)


def listen(network: WorldNetwork, address: Address, backlog: int, options: dict[str, Any]) -> Socket:
    """Return a listening socket of the operating system."""
    return Network.listen(network, address, backlog, **options)
