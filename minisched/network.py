"""Sockets, and the replaceable service that they come from.

Theory of operation. A `Socket` is Python's own, never blocking, which tells the poller before its
number is given back to the operating system: so whoever waits for it is woken, and nobody is
taken for it later. Sockets are made in one place, the `Network` service, which can be replaced:
put another in `kernel.services[Network]`.

An address is `(host, port)` for TCP or a path (str, bytes or Path) for a Unix socket.

Invariants:
1. A socket that is made and not handed over is closed.
2. Only a Unix path that this listener made is unlinked.

Not here: the syscalls (`sockets`); TLS; datagrams. A host's name is looked up in place: a name
server that is slow to answer holds up every task, so a client that cares passes a number.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial

from .entries import CLOSED, Entry
from .errors import ClosedError, SyscallError
from .kernel import Kernel, Service
from .poller import READ, Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from .entries import Waiter

    Address = tuple[str, int] | str | bytes | os.PathLike[str]

BACKLOG = 1024
UNDER_WAY: tuple[int, ...] = (
    errno.EINPROGRESS,
    errno.EALREADY,
    errno.EINTR,
    *([errno.EWOULDBLOCK] if os.name == "nt" else []),
)


def blocking(name: str, instead: str) -> Callable[..., NoReturn]:
    """Return the method that says what to yield in place of a blocking one."""

    def method(self: Socket, *args: object, **keywords: object) -> NoReturn:
        raise SyscallError(f"Socket.{name}() would hold up every task: use {instead}")

    method.__name__ = name
    return method


class Socket(socket.socket):
    """A socket that tasks wait for: `yield Read(sock, size)`, `yield Write(sock, data)`, `with sock:`.

    Its blocking methods raise an error that says what to yield instead.
    """

    __slots__ = ("bound", "entry", "peer")

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, peer: Any = None
    ) -> None:
        super().__init__(family, type, proto, fileno)
        self.setblocking(False)
        self.peer = peer  # the other side's address, None for a listener
        self.bound: tuple[str, int, int, int] | None = None  # a Unix path that was made, by whom, and which file it is
        self.entry = Entry(self.fileno())

    try_read = socket.socket.recv
    try_write = socket.socket.send

    recv = blocking("recv", "`yield Read(sock, size)`")  # type: ignore[assignment]
    recv_into = recvfrom = recvmsg = blocking("recv...", "`yield Read(sock, size)`")  # type: ignore[assignment]
    send = blocking("send", "`yield Write(sock, data)`")  # type: ignore[assignment]
    sendall = sendmsg = sendto = sendfile = blocking("send...", "`yield Write(sock, data)`")  # type: ignore[assignment]
    accept = blocking("accept", "`yield Accept(listener)`")  # type: ignore[assignment]
    connect = connect_ex = blocking("connect", "`yield Connect(address)`")  # type: ignore[assignment]
    makefile = blocking("makefile", "`yield Read(sock, size)` and `yield Write(sock, data)`")  # type: ignore[assignment]

    def setblocking(self, flag: bool) -> None:
        """Refuse what would hold up every task."""
        if flag:
            raise SyscallError("a Socket never blocks: for a limit in time, cancel the task that waits for it")
        super().setblocking(False)

    def settimeout(self, value: float | None) -> None:
        """Refuse what would hold up every task."""
        self.setblocking(value != 0)

    @property
    def address(self) -> Any:
        """This side's address: (host, port, ...) or a path."""
        return self.getsockname()

    @property
    def label(self) -> str:
        """A name for messages and traces, without the numbers that change from run to run."""
        if self.fileno() < 0:
            return "closed socket"
        return "listener" if self.peer is None else "socket"

    def try_accept(self) -> Socket:
        """Return the next connection, or raise BlockingIOError."""
        ours: Any = self  # the method is private, and how `accept` itself makes its sockets
        fd, peer = ours._accept()
        try:
            return Socket(self.family, self.type, self.proto, fileno=fd, peer=peer)
        except BaseException:
            os.close(fd)
            raise

    def try_connect(self, address: Any) -> Socket:
        """Return this socket once it is connected to `address`, or raise BlockingIOError."""
        if self.peer is None:
            self.peer = address
            error = super().connect_ex(address)
        else:
            error = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error in UNDER_WAY:
            raise BlockingIOError(error, os.strerror(error))
        if error == errno.EAGAIN:  # a Unix socket's word for a full backlog, whose end no readiness tells
            raise ConnectionRefusedError(error, "the listener's backlog is full", str(address))
        if error:
            raise OSError(error, os.strerror(error), str(address))
        return self

    def watch(self, kernel: Kernel, direction: int, waiter: Waiter) -> None:
        """Have `waiter` told when this socket is ready, until `unwatch`."""
        entry = self.entry
        poller = entry.poller
        if poller is None or poller.kernel is not kernel:
            poller = self._enter(kernel)
            entry = self.entry
        if direction == READ and entry.reader is None and entry.events & READ:  # as the poller has it: see `Read`
            entry.reader = waiter
            poller.waiting += 1
        else:
            poller.wait(entry, direction, waiter)

    def _enter(self, kernel: Kernel) -> Poller:
        """Become known to a run's poller; return it."""
        known = self.entry
        if known is CLOSED or self.fileno() < 0:
            raise ClosedError("the socket is closed")
        poller = kernel.service(Poller)
        if known.poller is None:
            known.poller = poller
        else:  # it is another run's
            self.entry = poller.entry(self.fileno(), lasting=True)
            self.entry.short, self.entry.active = known.short, known.active
        return poller

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """End a task's wait for this direction."""
        if self.entry.poller is not None:
            self.entry.poller.forget(self.entry, direction)

    def close(self) -> None:
        """Close the socket; a task that waits for it gets ClosedError."""
        try:
            self._leave()
        finally:  # a third Ctrl-C may have come in between
            super().close()
        if self.bound is not None:
            path, process, *file = self.bound
            self.bound = None
            if process == os.getpid():  # a forked one closes its copy
                unlink_own(path, tuple(file))

    def detach(self) -> int:
        """Give the number away, unwatched; a task that waits for it gets ClosedError."""
        self._leave()
        self.bound = None  # a Unix path goes with it
        return super().detach()

    def is_waited_for(self) -> bool:
        """Return whether a task waits for the other side."""
        return self.entry is not CLOSED and self.entry.wanted() != 0

    def _leave(self) -> None:
        entry, self.entry = self.entry, CLOSED
        if entry.poller is not None:
            entry.poller.drop(entry)


class Network(Service):
    """Where sockets come from."""

    def listen(self, address: Address, backlog: int, *, reuse_port: bool) -> Socket:
        """Return a listening socket. OSError if it can't be had."""
        return listen(address, backlog, reuse_port=reuse_port)

    def dial(self, address: Address) -> list[tuple[Callable[[], Socket], Any]]:
        """Return what to try one after the other: how to make the socket, and where it connects to."""
        if isinstance(address, (str, bytes, os.PathLike)):
            return [(partial(Socket, socket.AF_UNIX, socket.SOCK_STREAM), os.fsdecode(address))]
        host, port = checked(address)
        found = resolve(host, port, 0)
        return [(partial(Socket, family, kind, proto), where) for family, kind, proto, _, where in found]


def listen(address: Address, backlog: int = BACKLOG, *, reuse_port: bool = False) -> Socket:
    """Return a listening socket. OSError if it can't be had."""
    if isinstance(address, (str, bytes, os.PathLike)):
        return listen_unix(os.fsdecode(address), backlog)
    host, port = checked(address)
    family, kind, proto, _, where = resolve(host, port, socket.AI_PASSIVE)[0]
    sock = Socket(family, kind, proto)
    try:
        if os.name == "posix":  # elsewhere the option lets another program take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.listen(backlog)
    except BaseException as error:
        sock.close()
        raise named(error, f"{host}:{port}") from None
    return sock


def listen_unix(path: str, backlog: int) -> Socket:
    """Return a socket that listens at a path, which must not exist."""
    sock = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if not path.startswith("\0"):  # Linux has names without a file, too
            made = os.stat(path)
            sock.bound = (path, os.getpid(), made.st_dev, made.st_ino)
        sock.listen(backlog)
    except BaseException as error:
        sock.close()
        raise named(error, path) from None
    return sock


def checked(address: object) -> tuple[str, int]:
    """Return `address` if it is (host, port)."""
    match address:
        case (str() as host, int() as port) if not isinstance(port, bool):
            if 0 <= port <= 65535:
                return host, port
            raise ValueError(f"port {port} is out of range: 0 to 65535")
        case _:
            raise TypeError(f"an address is (host, port) or a path, not {address!r}")


def resolve(host: str, port: int, flags: int) -> list[Any]:
    """Return what getaddrinfo says of a host. OSError with its name if there is no such host."""
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        raise OSError(error.errno, f"{error.strerror}: {host!r}") from None


def named(error: BaseException, address: str) -> BaseException:
    """Return an OSError with the address in its text; any other as it is."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, address)
    return error


def unlink_own(path: str, file: tuple[int, ...]) -> None:
    """Remove a Unix path, if it is still the file that we made."""
    try:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) == file:
            os.unlink(path)
    except FileNotFoundError:
        pass
