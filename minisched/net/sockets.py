"""Sockets: those of the standard library, in non-blocking mode, as a file-like.

Theory of operation. A `Socket` has the five methods of a file-like. It is unregistered from the poller before its
descriptor is closed: so its waiters are woken, and a later file with the same descriptor is not mistaken for it.

Invariants:
1. A connection that was accepted but not returned to the task is closed.
2. A socket that the poller of a run watches is closed in the thread of that run only.

Not here: the calls that open sockets (`listening`, `dialing`); reading and writing (`files`); TLS (`tls`); datagrams
(`datagrams`).
"""

from __future__ import annotations

import errno
import os
import socket

from ..errors import ClosedError, SyscallError
from ..io.borrowed import shut_down
from ..io.filelike import CLOSED, FileState, PromiseOfTryRead
from ..io.poller import Poller
from ..kernel.primitive import check_caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ..io.filelike import PendingOperation
    from ..kernel import Kernel
    from .unix_paths import BoundPath

UNDER_WAY: tuple[int, ...] = (
    errno.EINPROGRESS,
    errno.EALREADY,
    errno.EINTR,
    *([errno.EWOULDBLOCK] if os.name == "nt" else []),
)


def blocking(name: str, instead: str) -> Callable[..., NoReturn]:
    """Return a method that refuses a blocking call and names the syscall to yield instead."""

    def method(self: Socket, *args: object, **keywords: object) -> NoReturn:
        raise SyscallError(f"Socket.{name}() would hold up every task: use {instead}")

    method.__name__ = name
    return method


class Socket(PromiseOfTryRead, socket.socket):
    """A non-blocking socket that tasks wait for.

    Listen, Accept and Connect return one. Read and Write transfer bytes. `with sock:` or `sock.close()` closes it, and
    wakes the tasks that wait for it with ClosedError. The blocking methods of a standard socket raise a SyscallError
    that names the syscall to yield instead. All others work as usual.

    Close it in the thread of the run that uses it. In any other thread, `close` and `detach` raise a SyscallError, and
    `portal.call(sock.close)` does it.

    Args:
        family, type, proto, fileno: as for `socket.socket`; with `fileno`, the Socket owns that descriptor.
        peer: the peer's address; None for a listener.

    Attributes:
        peer: the peer's address, as the operating system reports it; None for a listener.
        address: this side's address.

    Example:
        >>> import socket
        >>> from minisched import Read, Socket, Write, run
        >>> def main():
        ...     near, far = (Socket(fileno=sock.detach(), peer="pair") for sock in socket.socketpair())
        ...     with near, far:
        ...         yield Write(near, b"hello")
        ...         return (yield Read(far, 100))
        >>> run(main())
        b'hello'
    """

    __slots__ = ("bound", "checks_nodelay", "file_state", "peer")
    short_read_means_empty = True

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, peer: Any = None
    ) -> None:
        super().__init__(family, type, proto, fileno)
        self.setblocking(False)
        self.peer = peer
        self.bound: BoundPath | None = None  # the Unix path that this socket has made
        self.checks_nodelay = False  # a listener with TCP_NODELAY, whose connections may have to be given it
        self.file_state = FileState(self.fileno())

    try_read = socket.socket.recv
    try_write = socket.socket.send

    recv = blocking("recv", "`yield Read(sock, size)`")  # type: ignore[assignment]
    recv_into = recvmsg = blocking("recv...", "`yield Read(sock, size)`")  # type: ignore[assignment]
    recvfrom = blocking("recvfrom", "`yield RecvFrom(sock, size)`")  # type: ignore[assignment]
    send = blocking("send", "`yield Write(sock, data)`")  # type: ignore[assignment]
    sendall = sendmsg = sendfile = blocking("send...", "`yield Write(sock, data)`")  # type: ignore[assignment]
    sendto = blocking("sendto", "`yield SendTo(sock, data, address)`")  # type: ignore[assignment]
    accept = blocking("accept", "`yield Accept(listener)`")  # type: ignore[assignment]
    connect = connect_ex = blocking("connect", "`yield Connect(address)`")  # type: ignore[assignment]
    makefile = blocking("makefile", "`yield Read(sock, size)` and `yield Write(sock, data)`")  # type: ignore[assignment]

    def setblocking(self, flag: bool) -> None:
        """Refuse the blocking mode with a SyscallError, since it would hold up every task."""
        if flag:
            raise SyscallError("a Socket never blocks: for a timeout, yield in a `with (yield Timeout(seconds)):`")
        super().setblocking(False)

    def settimeout(self, value: float | None) -> None:
        """Refuse a timeout with a SyscallError, since it would hold up every task; 0 is the mode that it has."""
        self.setblocking(value != 0)

    @property
    def address(self) -> Any:
        """This side's address: (host, port, ...) or a path."""
        return self.getsockname()

    @property
    def label(self) -> str:
        """A short name for messages and traces, without numbers, which would change from run to run."""
        if self.fileno() < 0:
            return "closed socket"
        return "listener" if self.peer is None else "socket"

    def try_accept(self) -> Socket:
        """Return the next connection; raise BlockingIOError if there is none yet."""
        private: Any = self  # the method that the standard library's `accept` uses
        fd, peer = private._accept()
        try:
            conn = self.make_connection(fd, peer)
        except BaseException:
            os.close(fd)
            raise
        if self.checks_nodelay:
            self._hand_on_nodelay(conn)
        return conn

    def make_connection(self, fd: int, peer: Any) -> Socket:
        """Return the socket of a connection that this listener has accepted; a subclass may return one of its own.

        If this raises, the connection is closed.
        """
        return Socket(self.family, self.type, self.proto, fileno=fd, peer=peer)

    def _hand_on_nodelay(self, conn: Socket) -> None:
        """Give a connection the listener's TCP_NODELAY. If it has that already, the system does so: check no more."""
        try:
            if conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
                self.checks_nodelay = False
            else:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # the connection is lost already, and its first read reports that

    def try_connect(self, address: Any) -> Socket:
        """Return this socket once it is connected to `address`; raise BlockingIOError until then."""
        if self.peer is None:
            self.peer = address
            error = super().connect_ex(address)
        else:
            error = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error in UNDER_WAY:
            raise BlockingIOError(error, os.strerror(error))
        if error == errno.EAGAIN:  # the backlog of a Unix listener is full, and no event would report that it is not
            raise ConnectionRefusedError(error, "the listener's backlog is full", str(address))
        if error:
            raise OSError(error, os.strerror(error), str(address))
        return self

    def watch(self, kernel: Kernel, direction: int, waiter: PendingOperation) -> None:
        """Register `waiter` with the poller of this run, until the socket is ready or `unwatch` is called."""
        poller = self.file_state.poller
        if poller is None or poller.kernel is not kernel:
            poller = self._join_run(kernel)
        poller.add_waiter(self.file_state, direction, waiter)

    def _join_run(self, kernel: Kernel) -> Poller:
        """Return the poller of a run in which no task has waited for the socket yet; set up its state there."""
        state = self.file_state
        if state is CLOSED or self.fileno() < 0:
            raise ClosedError("the socket is closed")
        poller = kernel.service(Poller)
        if state.poller is None:
            state.poller = poller
        else:  # the state belongs to another run, which may go on in another thread
            self.file_state = poller.state_of(self.fileno(), persistent=True)
            self.file_state.drained, self.file_state.used = state.drained, state.used
        return poller

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Remove the waiter for this direction."""
        if self.file_state.poller is not None:
            self.file_state.poller.remove_waiter(self.file_state, direction)

    def write_eof(self) -> None:
        """Say that no more bytes come, as `Stream.write_eof` does; BrokenPipeError if the peer is gone."""
        shut_down(self)

    def close(self) -> None:
        """Close the socket; the tasks that wait for it get ClosedError. Closing it again does nothing.

        Raises SyscallError in another thread than that of the run that uses the socket.
        """
        self._check_thread("close")
        try:
            self._unregister()
            if self.bound is not None:
                bound, self.bound = self.bound, None
                bound.remove()
        finally:  # even if a third Ctrl-C comes in between
            super().close()

    def detach(self) -> int:
        """Return the descriptor and give it up without closing it; the tasks that wait for it get ClosedError.

        Raises SyscallError in another thread than that of the run that uses the socket.
        """
        self._check_thread("detach")
        self._unregister()
        self.bound = None  # the Unix path now belongs to the descriptor's new owner
        return super().detach()

    def is_waited_for(self) -> bool:
        """Return whether a task waits to read or to write."""
        return self.file_state is not CLOSED and self.file_state.wanted() != 0

    def _check_thread(self, verb: str) -> None:
        """Raise SyscallError if the poller of a run in another thread watches the socket."""
        state = self.file_state
        if state.events and state.poller is not None:
            check_caller(state.poller.kernel, verb, self)

    def _unregister(self) -> None:
        state, self.file_state = self.file_state, CLOSED
        if state.poller is not None:
            state.poller.drop(state)
