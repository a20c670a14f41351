"""Datagram sockets: opened, and used without waiting.

Theory of operation. A socket is bound to its local address, if it has one, and connected to its remote one. Nothing
here asks a name server: an address is a numeric IP address and a port, or a path. The errors of the system name the
address that they concern, and say what to change.

Invariants:
1. A socket that was opened but not returned is closed, and its path is removed.
2. Neither `receive` nor `send` waits, whatever mode the socket is in.

Decision: `receive` asks for one byte more than `size`; a datagram that fills that byte was cut, which is an error.
Because: the answer stays `(data, address)`, and no program takes a part of a message for the whole. UDP datagrams
always fit into the default size. Rejected: a flag in the result, which is easily ignored; `recvmsg` and MSG_TRUNC,
which Windows does not have.

Not here: the syscalls (`datagrams`); stream sockets (`sockets`); the files at Unix paths (`unix_paths`).
"""

from __future__ import annotations

import errno
import os
import socket
from functools import lru_cache

from ..errors import ClosedError, DatagramTruncated
from ..io.nowait import DONTWAIT, require_ready
from .addresses import HAS_ABSTRACT_NAMES, host_and_port, is_numeric, text_of, unix_path, with_address, with_rest
from .sockets import Socket
from .unix_paths import bind_path, check_mode, ids_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..io.filelike import Bytes
    from .addresses import Address

UNIX = getattr(socket, "AF_UNIX", None)
# The most bytes in a datagram: 65,535 without the headers that this number counts.
MAX_PAYLOADS_BYTES = {socket.AF_INET: 65535 - 20 - 8, socket.AF_INET6: 65535 - 8}
WANTS_ADDRESS_ERRNOS = (errno.EDESTADDRREQ, errno.ENOTCONN)  # of a `send` on a socket that is not connected
KNOWN_ADDRESSES = 1024  # addresses that are checked once, and not at each SendTo
family_of: Any = vars(socket.SocketType)["family"].__get__  # the int; `sock.family` makes an enum of it each time


class DatagramSocket(Socket):
    """A non-blocking datagram socket, which `OpenDatagram` returns.

    RecvFrom and SendTo use it. On a connected one, `Read(sock, size)` and `Write(sock, data)` work, too: each of them
    receives or sends one datagram. Closing it wakes the tasks that wait for it, and removes a Unix path that it made.

    Attributes:
        peer: the remote address; None if the socket is not connected.
        address: the local address.
    """

    __slots__ = ()

    @property
    def label(self) -> str:
        """A short name for messages and traces, without numbers, which would change from run to run."""
        return "closed datagram socket" if self.fileno() < 0 else "datagram socket"

    def try_read(self, size: int) -> bytes:  # type: ignore[override]
        """Return the next datagram; raise DatagramTruncated if it is larger than `size`."""
        return receive(self, size)[0]


def receive(sock: Any, size: int) -> tuple[bytes, Any]:
    """Return the next datagram and its sender; raise BlockingIOError if there is none, and DatagramTruncated."""
    if not isinstance(sock, socket.socket):  # of another network
        return sock.try_receive(size)
    try:
        data, address = methods_of(sock, os.O_RDONLY).recvfrom(sock, size + 1, DONTWAIT)
    except BlockingIOError:
        raise
    except OSError as error:
        raise with_peer(error, sock, None) from None
    if len(data) > size:
        raise DatagramTruncated(data[:size], address)
    return data, address


def send(sock: Any, data: Bytes, address: Any) -> int:
    """Send a datagram to an address, or to the peer; raise BlockingIOError if there is no room for it."""
    if not isinstance(sock, socket.socket):  # of another network
        return sock.try_send(data, address)
    try:
        if address is None:
            return methods_of(sock, os.O_WRONLY).send(sock, data, DONTWAIT)
        target = for_family(family_of(sock), address)
        return methods_of(sock, os.O_WRONLY).sendto(sock, data, DONTWAIT, target)
    except BlockingIOError:
        raise
    except OSError as error:
        raise explained(error, sock, len(data), address) from None


def explained(error: OSError, sock: socket.socket, size: int, address: Any) -> BaseException:
    """Return the error of a SendTo that says what to change, in place of that of the system."""
    if sock.fileno() < 0:
        return ClosedError("the datagram socket was closed while a task waited to send")
    if error.errno == errno.ENOBUFS:
        return BlockingIOError(error.errno, error.strerror)
    if error.errno == errno.EMSGSIZE:
        family = family_of(sock)
        limit = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) if family == UNIX else MAX_PAYLOADS_BYTES[family]
        reason = f"a datagram holds at most {limit:,}" if size > limit else "the system takes fewer at once"
        if family == UNIX:
            reason = f"the socket's SO_SNDBUF is {limit:,}"
        error = OSError(error.errno, f"{error.strerror}: {size:,} bytes, and {reason}")
    if error.errno in WANTS_ADDRESS_ERRNOS and address is None:
        return OSError(error.errno, f"{error.strerror}: the socket is not connected, so SendTo needs an address")
    return with_peer(error, sock, address)


def with_peer(error: OSError, sock: socket.socket, address: Any) -> BaseException:
    """Return the error with the address that it concerns: the given one, or the peer; as it is if there is none."""
    try:
        address = sock.getpeername() if address is None else address
    except OSError:
        return error
    return with_address(error, name_of(address))


def methods_of(sock: socket.socket, access: int) -> type[socket.socket]:
    """Return the class whose methods don't wait; a plain socket with a timeout is polled first, as its methods wait."""
    if isinstance(sock, Socket):
        return socket.socket
    if sock.gettimeout():
        require_ready(sock.fileno(), access)
    return type(sock)


def for_datagrams(file: Any, call: str, instead: str) -> socket.socket:
    """Return the socket; raise TypeError for any other object, and for a stream socket.

    A socket of another network (`Network.open_datagram`) has the methods `try_receive(size)`, which returns a datagram
    and its sender, and `try_send(data, address)`, which returns the length of the data. Both raise BlockingIOError.
    """
    if isinstance(file, DatagramSocket) or hasattr(file, "try_receive"):
        return file
    if not isinstance(file, socket.socket):
        raise TypeError(f"{call} takes a socket, such as `yield OpenDatagram(...)` returns, not {file!r}")
    if file.type == socket.SOCK_STREAM:
        raise TypeError(f"{call} is for datagrams, and this is a stream socket: use {instead}")
    return file


def open_datagram(
    local: Address | None,
    remote: Address | None,
    *,
    reuse_port: bool = False,
    mode: int | None = None,
    owner: int | str | None = None,
    make: Callable[..., DatagramSocket] = DatagramSocket,
) -> DatagramSocket:
    """Return a datagram socket, which `make` makes; OpenDatagram describes the others. An OSError names the address."""
    check_mode(mode)
    ids = ids_of(owner)
    families = {family_at(address) for address in (local, remote) if address is not None}
    if len(families) != 1:
        given = f"not {local!r} and {remote!r}, which are of two kinds" if families else "or both: there is none"
        raise ValueError(f"OpenDatagram takes a local or a remote address, {given}")
    (family,) = families
    if family != UNIX and (mode is not None or owner is not None):
        raise ValueError(f"mode and owner are those of a Unix path, and {local or remote!r} is an IP address")
    concerned = remote if local is None else local
    try:
        sock = make(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bind_local(sock, family, local, mode, ids)
            if remote is not None:
                concerned = remote
                socket.socket.connect(sock, for_family(family, remote))
                sock.peer = sock.getpeername()
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise with_address(error, name_of(concerned)) from None
    return sock


def bind_local(
    sock: DatagramSocket, family: int, local: Address | None, mode: int | None, ids: tuple[int, int]
) -> None:
    """Bind the socket to its local address, if it has one. A Unix path has no permissions before it has its mode."""
    if family != UNIX:
        return None if local is None else sock.bind(for_family(family, local))
    if local is not None:
        return bind_path(sock, for_family(family, local), mode, ids, early=True)
    return sock.bind("") if HAS_ABSTRACT_NAMES else None


def family_at(address: Any) -> int:
    """Return the family of an address; raise an error that names a malformed one."""
    if unix_path(address) is not None:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host_and_port(address)[0] else socket.AF_INET


def name_of(address: Any) -> str:
    """Return an address as text, for messages."""
    return text_of(address) if isinstance(address, tuple) and isinstance(address[0], str) else str(address)  # pyright: ignore[reportUnknownArgumentType]


@lru_cache(KNOWN_ADDRESSES)
def for_family(family: int, address: Any) -> Any:
    """Return an address as a socket of a family takes it; raise TypeError or ValueError if the socket can't use it."""
    if family == UNIX:
        path = unix_path(address)
        if path is None:
            raise TypeError(f"the address of a Unix socket is a path, not {address!r}")
        return path
    if family not in MAX_PAYLOADS_BYTES:
        return address  # of a protocol that only the system knows
    host, port, rest = host_and_port(address)
    if not is_numeric(host):
        return with_interface(address, host, port, rest)
    if family_at(address) != family:
        kinds = ("IPv4", "IPv6") if family == socket.AF_INET else ("IPv6", "IPv4")
        raise ValueError(f"the socket is one of {kinds[0]}, and {host!r} is an address of {kinds[1]}")
    if rest and family == socket.AF_INET:
        raise ValueError(f"an address of IPv4 is (ip, port), not {address!r}")
    return (host, port, *rest)


def with_interface(address: Any, host: str, port: int, rest: list[int]) -> Any:
    """Return the address of a host whose text ends with an interface; raise ValueError for a name."""
    try:
        if "%" in host and "\0" not in host:
            numeric = socket.AI_NUMERICHOST  # no name server is asked
            (result, *_) = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_DGRAM, flags=numeric)
            return with_rest(result, rest)[4] if rest else result[4]
    except OSError:
        pass
    raise ValueError(
        f"{host!r} in {address!r} is not an IP address; look a name up first, by `yield Resolve(host, port)`, and "
        'write "0.0.0.0" or "::" for all addresses of this machine'
    )
