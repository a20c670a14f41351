"""Dialing: Connect, its attempts one after the other, and before them the look-up of its host.

Theory of operation. A `Dialing` is the file-like that a Connect waits for. It stands for the socket of the current
attempt. An attempt is a function that makes a socket, and the address for it. A `DialingByName` stands for the look-up
first. So a Connect waits, is cancelled and wins or loses in a `select` in the same way, whatever it waits for.

Invariants:
1. At most one socket is open, and `close` closes it.
2. A socket that is its own peer is closed, and counts as refused.

Not here: the attempts that an address has (`network`); several attempts at a time (`connecting`).
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial

from ..io._selectors2 import WRITE
from ..io.filelike import FileState
from ..io.nonblocking import FileOperation, PendingIO
from ..kernel.waiting import NOT_YET, throw
from .addresses import with_address
from .names import LookUp, NotKnownYet
from .network import Network
from .sockets import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..io.filelike import PendingOperation
    from ..kernel import Kernel, Task
    from .addresses import Address
    from .network import Attempt

TCP_FAMILIES = (socket.AF_INET, socket.AF_INET6)
MAX_SELF_CONNECTIONS = 3  # attempts at one address that may connect to themselves, before it counts as refused


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


class Dialing:
    """The addresses of a host, tried one after the other: the file-like that a Connect waits for.

    It stands for the socket of the current attempt.
    """

    label = "socket"

    def __init__(self, attempts: list[Attempt], nodelay: bool = True) -> None:
        self.attempts = attempts[::-1]
        self.nodelay = nodelay
        self.sock: Socket | None = None  # None between two attempts
        self.make_socket: Callable[[], Socket] | None = None
        self.target: Any = None
        self.self_connections = 0

    @property
    def file_state(self) -> FileState:
        """The state of the current socket."""
        return NO_SOCKET if self.sock is None else self.sock.file_state

    def connected(self) -> Socket:
        """Return the connected socket; if an address fails, try the next one, and raise the error of the last."""
        while True:
            try:
                if self.sock is None:
                    self.sock = self.next_socket()
                sock = self.sock.try_connect(self.target)
                self.refuse_self(sock)
            except BlockingIOError:
                raise
            except OSError:
                self.close()
                if not self.attempts:
                    raise
            else:
                self.sock = None
                return sock

    def watch(self, kernel: Kernel, direction: int, waiter: PendingOperation) -> None:
        """Wait for the current socket; if the poller refuses it, try the next address."""
        assert self.sock is not None
        try:
            self.sock.watch(kernel, direction, waiter)
        except OSError:
            self.close()
            if not self.attempts:
                raise
            waiter.ready()

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Give up the wait for the current socket."""
        if self.sock is not None:
            self.sock.unwatch(kernel, direction)

    def close(self) -> None:
        """Close the socket of the current attempt."""
        if self.sock is not None:
            sock, self.sock = self.sock, None
            sock.close()

    def next_socket(self) -> Socket:
        """Return the socket of the next attempt. An OSError names its address."""
        self.make_socket, self.target = self.attempts.pop()
        try:
            sock = self.make_socket()
        except OSError as error:
            raise with_address(error, str(self.target)) from None
        if self.nodelay and sock.family in TCP_FAMILIES:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                sock.close()
                raise
        return sock

    def refuse_self(self, sock: Socket) -> None:
        """Raise ConnectionRefusedError if TCP has connected the socket to itself; try the address again, as Go does.

        That happens if nobody listens at a port, and the system chooses the same port for the connecting side.
        """
        if not is_own_peer(sock, self.target):
            return
        self.self_connections += 1
        if self.self_connections % MAX_SELF_CONNECTIONS and self.make_socket is not None:
            self.attempts.append((self.make_socket, self.target))
        text = f"{os.strerror(errno.ECONNREFUSED)} (the socket was connected to itself)"
        raise ConnectionRefusedError(errno.ECONNREFUSED, text, str(self.target))


class DialingByName(Dialing):
    """A Dialing that waits for the look-up of its host first; it is the waiter of the look-up."""

    def __init__(self, dial: Callable[[], list[Attempt]], nodelay: bool) -> None:
        super().__init__([], nodelay)
        self.dial: Callable[[], list[Attempt]] | None = dial  # these three are None when the look-up has ended
        self.look_up: LookUp | None = None
        self.operation: PendingIO | None = None
        self.task: Task

    def connected(self) -> Socket:
        """Return the connected socket; raise BlockingIOError while the host is not known."""
        if self.dial is not None:
            raise BlockingIOError
        return super().connected()

    def watch(self, kernel: Kernel, direction: int, waiter: PendingOperation) -> None:
        """Begin the look-up; after that, wait for the current socket."""
        if self.dial is None:
            return super().watch(kernel, direction, waiter)
        assert isinstance(waiter, PendingIO)
        self.operation, self.task = waiter, waiter.task
        self.look_up = LookUp(kernel, self, self.dial)
        return self.look_up.go_on()

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Leave the look-up, or give up the wait for the current socket."""
        look_up = self.look_up
        if look_up is None:
            return super().unwatch(kernel, direction)
        _ = self._end()
        return look_up()

    def resume(self, value: list[Attempt]) -> None:
        """Make the attempts: the host is known."""
        self.attempts = value[::-1]
        self._end().ready()

    def throw(self, error: BaseException) -> None:
        """Fail: the host is unknown. The error is not raised here, where its frames would lead back to it."""
        operation = self._end()
        operation.release()
        throw(operation.kernel, operation.waiter, error)

    def commit(self) -> None:
        """Do nothing: a look-up happens in one step."""

    def _end(self) -> PendingIO:
        """Drop the look-up, which would make a cycle, and return the operation that waits for it."""
        operation = self.operation
        assert operation is not None
        self.dial = self.look_up = self.operation = None
        return operation


NO_SOCKET = FileState()  # of a Dialing between two attempts: no operation waits for it


def is_own_peer(sock: Socket, target: Any) -> bool:
    """Return whether a socket that is connected to `target` is its own other end; only TCP does that."""
    if not isinstance(target, tuple) or sock.getsockname()[1:2] != target[1:2]:  # most ports differ
        return False
    try:
        return sock.getsockname() == sock.getpeername()
    except OSError:  # the peer has reset the connection already: the first read reports that
        return False
