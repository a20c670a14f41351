"""Listening, accepting and connecting: TCP and Unix sockets.

Theory of operation. Accept and Connect are attempts as Read and Write are (`files`): tried first,
and again each time the socket is ready. What they return has left the operating system only when
it is on its way to the task: a cancelled Accept loses no connection.

Not here: where sockets come from (`network`); serving (`serve`).
"""

from __future__ import annotations

from .attempts import attempt
from .errors import ClosedError
from .foreign import describe
from .kernel import Kernel, Syscall, Task
from .network import BACKLOG, Network, Socket
from .poller import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .network import Address


class Listen(Syscall[Socket]):
    """Return a socket that listens at `address`; `backlog` connections wait for an Accept.

    Raises OSError (the port or path is taken, not ours, or not there).
    `reuse_port` lets several processes listen at one port.
    """

    __slots__ = ("address", "backlog", "reuse_port")
    world = True

    def __init__(self, address: Address, backlog: int = BACKLOG, *, reuse_port: bool = False) -> None:
        self.address = address
        self.backlog = backlog
        self.reuse_port = reuse_port

    def handle(self, kernel: Kernel, task: Task) -> Socket:
        return kernel.service(Network).listen(self.address, self.backlog, reuse_port=self.reuse_port)


class Accept(Syscall[Socket]):
    """Wait for a connection and return its Socket; close it, or use it in a `with`.

    Raises OSError, BusyError, ClosedError. Cancelled, it has accepted nothing.
    """

    __slots__ = ("listener",)
    world = True

    def __init__(self, listener: Socket) -> None:
        self.listener = listener

    def handle(self, kernel: Kernel, task: Task) -> Socket | None:
        accept = getattr(self.listener, "try_accept", None)
        if accept is None:
            raise TypeError(f"Accept takes what `yield Listen(...)` returns, a listener, not {self.listener!r}")
        return attempt(kernel, task, self.listener, READ, accept)

    def __repr__(self) -> str:
        return f"Accept({describe(self.listener)})"


class Connect(Syscall[Socket]):
    """Connect to `address` and return the Socket; close it, or use it in a `with`.

    A host with several addresses is tried in their order. Raises OSError of
    the last one tried. Cancelled, it has closed what it had begun.
    """

    __slots__ = ("address",)
    world = True

    def __init__(self, address: Address) -> None:
        self.address = address

    def handle(self, kernel: Kernel, task: Task) -> Socket | None:
        return Dialing(kernel, task, kernel.service(Network).dial(self.address)).start()


class Dialing:
    """The addresses of a host, tried one after the other; the waiter and the undo of Connect."""

    __slots__ = ("kernel", "rest", "sock", "task", "where")

    def __init__(self, kernel: Kernel, task: Task, rest: list[tuple[Callable[[], Socket], Any]]) -> None:
        self.kernel = kernel
        self.task = task
        self.rest = rest[::-1]
        self.sock: Socket
        self.where: Any

    def start(self) -> Socket | None:
        """Return the connected socket, or park the task."""
        sock = self.next()
        if sock is None:
            self.kernel.park(self.task, self)
        return sock

    def next(self) -> Socket | None:
        """Try on until a socket is connected, or one has to be waited for (None); raise the last error."""
        while True:
            make, self.where = self.rest.pop()
            try:
                self.sock = make()
                return self.attempt()
            except OSError:
                if not self.rest:
                    raise

    def attempt(self) -> Socket | None:
        """Return the socket if it is connected, None if it has to be waited for; close it if it fails."""
        try:
            try:
                return self.sock.try_connect(self.where)
            except BlockingIOError:
                self.sock.watch(self.kernel, WRITE, self)
                return None
        except BaseException:
            self.sock.close()
            raise

    def ready(self) -> None:
        """See what became of it."""
        try:
            try:
                connected = self.attempt()
            except OSError:
                if not self.rest:
                    raise
                connected = self.next()
        except BaseException as error:
            self.kernel.throw(self.task, error)
        else:
            if connected is not None:
                self.kernel.resume(self.task, connected)

    def closed(self) -> None:
        """End the wait: nobody else has this socket, but its number was closed."""
        self.sock.close()
        self.kernel.throw(self.task, ClosedError("the socket was closed while it was being connected"))

    def __call__(self) -> None:
        """Undo the wait."""
        self.sock.unwatch(self.kernel, WRITE)
        self.sock.close()
