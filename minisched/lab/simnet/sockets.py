"""Sockets of a simulated network: file-likes in memory, whose bytes are packets with a latency.

Theory of operation. A stream socket has an *inbox*, the bytes that have arrived and were not read, and the *window* of
its peer: how many bytes it may still send. A write takes from the window, and a read of the peer gives back, a latency
later, as the acknowledgements of TCP do. The packets of one direction arrive in order: none before the one that was
sent before.

A Connect is a packet to the listener's address, and its answer one back. A listener whose backlog is full, and a
partition, answer nothing: the packet is sent again every RETRY_SECONDS, and the Connect fails after CONNECT_SECONDS. A
close is a packet, too. Bytes that reach a closed socket are answered by a reset.

Invariants:
1. A byte that the window has taken is in a packet, in the inbox of the peer, or lost with the connection.
2. A waiter is woken once.

Decision: a simulated socket is a Primitive. Because: the explorer then sees its touches, and reports see its waiters.
Rejected: a hook of its own in the explorer.

Not here: hosts, latency, partitions (`network`); datagrams (`datagrams`).
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from functools import partial

from ...errors import BusyError, ClosedError
from ...io.filelike import CLOSED, FileState, event_of
from ...io.poller import READ, WRITE
from ...kernel.primitive import Primitive
from ...net.addresses import with_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ...io.filelike import Bytes, PendingOperation
    from ...kernel import Kernel
    from ...net.addresses import Address
    from .network import End, SimNet

RETRY_SECONDS = 1.0  # between two packets of a Connect that has no answer, as on Linux at first
CONNECT_SECONDS = 127.0  # after which a Connect fails, as on Linux


class SimFile(Primitive):
    """The common base of simulated sockets: the waiters of both directions."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0
    peer: Any = None
    address: Any = None

    def __init__(self, net: SimNet) -> None:
        super().__init__()
        self.net = net
        self.file_state = FileState()
        self.error: OSError | None = None  # raised once, by the next operation

    @property
    def label(self) -> str:
        """A short name for messages and traces."""
        return "closed socket" if self.file_state is CLOSED else "listener" if self.peer is None else "socket"

    def state(self) -> str:
        return f"{self.address} to {self.peer}"

    def waiting(self) -> Iterable[Any]:
        """Return the operations that wait for this socket."""
        if self.file_state is CLOSED:
            return []
        return [operation for operation in (self.file_state.reader, self.file_state.writer) if operation is not None]

    def unbind(self) -> None:
        """Let this socket belong to no run."""
        self.kernel = None

    def watch(self, kernel: Kernel, direction: int, operation: PendingOperation) -> None:
        """Register an operation, until the socket is ready for `direction`."""
        state = self.file_state
        if state is CLOSED:
            raise ClosedError("the socket is closed")
        of: int = getattr(operation, "direction", direction)  # that of the operation, which may wait for the other one
        if state.waiter_for(of) is not None:
            raise BusyError(f"another task waits for {self.label} already")
        self.bind(kernel)
        if of == READ:
            state.reader = operation
        else:
            state.writer = operation

    def unwatch(self, kernel: Kernel, direction: int) -> None:
        """Remove the operation that waits for `direction`."""
        if self.file_state is not CLOSED:
            _ = self._taken(self.file_state.given_up(direction))

    def _taken(self, direction: int) -> PendingOperation | None:
        """Take the operation that waits for `direction` out."""
        state = self.file_state
        if state is CLOSED:
            return None
        if direction == READ:
            operation, state.reader = state.reader, None
        else:
            operation, state.writer = state.writer, None
        return operation

    def became_ready(self, *directions: int) -> None:
        """Wake the operations that wait for these directions."""
        if self.file_state is not CLOSED:
            self.file_state.drained, self.file_state.used = False, True
        events = sum(directions)
        for direction in (READ, WRITE):
            operation = None if self.file_state is CLOSED else self.file_state.waiter_for(direction)
            if operation is not None and events & event_of(operation, direction):
                _ = self._taken(direction)
                operation.ready()

    def is_waited_for(self) -> bool:
        """Return whether a task waits to read or to write."""
        return bool(self.waiting())

    def fail(self, number: int) -> None:
        """Let the next operation raise an error of the operating system."""
        self.error = OSError(number, os.strerror(number))
        self.became_ready(READ, WRITE)

    def check(self) -> None:
        """Raise the error that has arrived."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the socket; the tasks that wait for it get ClosedError. Closing it again does nothing."""
        waiting, state = list(self.waiting()), self.file_state
        if state is CLOSED:
            return
        _ = self.check_caller("close")
        self.file_state = CLOSED
        self.forget()
        state.reader = state.writer = None
        for operation in waiting:
            operation.closed()

    def forget(self) -> None:
        """Tell the network that this socket is closed."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Methods of `socket.socket` that programs call.

    def fileno(self) -> int:
        """Return -1: there is no descriptor."""
        return -1

    def setsockopt(self, *options: Any) -> None:
        """Do nothing: the options of the operating system have no effect here."""

    def getsockopt(self, *options: Any) -> int:
        """Return 0."""
        return 0

    def getsockname(self) -> Any:
        """Return this side's address."""
        return self.address

    def getpeername(self) -> Any:
        """Return the peer's address; raise OSError if there is none."""
        if self.peer is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.peer


class SimListener(SimFile):
    """A listener."""

    def __init__(self, net: SimNet, address: Address, backlog: int) -> None:
        super().__init__(net)
        self.backlog = max(backlog, 1)
        self.connections: deque[SimSocket] = deque()
        self.bound = None  # there is no file at a Unix path
        self.address = net.register(net.listeners, address, self)

    def try_accept(self) -> SimSocket:
        """Return the next connection; raise BlockingIOError if there is none yet."""
        self.check()
        if not self.connections:
            raise BlockingIOError
        return self.connections.popleft()

    def forget(self) -> None:
        """Stop listening; reset the connections that nobody has accepted."""
        del self.net.listeners[self.address]
        while self.connections:
            self.connections.popleft().reset()


class SimSocket(SimFile):
    """One end of a connection."""

    def __init__(self, net: SimNet) -> None:
        super().__init__(net)
        self.inbox = bytearray()
        self.window = net.buffer_bytes
        self.other: SimSocket | None = None  # None before the connection, and after a reset
        self.at_end = False  # the peer writes no more, and all its packets have arrived
        self.ended = False  # this side writes no more
        self.connecting = False
        self.far: SimSocket | None = None  # the end at the listener, before this one knows of it
        self.sent: deque[tuple[float, Callable[[], None]]] = deque()  # packets on the link, and when they are due
        self.link_free = self.last_arrival = 0.0  # when the link has sent all, and when the last packet arrives

    # Connecting.

    def try_connect(self, address: End) -> SimSocket:
        """Return this socket once it is connected to `address`; raise BlockingIOError until then."""
        if self.error is not None:
            error, self.error = self.error, None
            raise with_address(error, str(address))
        if self.other is None:
            if not self.connecting:
                self.connecting, self.peer = True, address
                self.address = self.net.register({}, None, self) if isinstance(address, tuple) else ""
                self._knock(address, self.net.now() + CONNECT_SECONDS)
            raise BlockingIOError
        return self

    def _knock(self, target: End, give_up: float) -> None:
        """Send the packet that asks for a connection; send it again if no answer comes."""
        if self.other is not None or self.file_state is CLOSED or self.error is not None:
            return
        if self.net.now() >= give_up:
            return self.fail(errno.ETIMEDOUT)
        packet = self.net.note(self.address, target, "connect")
        here, there = ends(self.address, target)
        if self.net.is_cut(here, there):
            packet.fate = "lost"
        else:
            packet.arrives = self.net.after(here, there, partial(self._knocked, target))
        return self.net.later(RETRY_SECONDS, partial(self._knock, target, give_up))

    def _knocked(self, target: End) -> None:
        """Answer at the listener's side, once."""
        if self.far is not None or self.file_state is CLOSED:
            return
        listener = self.net.listeners.get(target)
        here, there = ends(target, self.address)
        if listener is None:
            refused = partial(self._refused, target)
            self.net.note(target, self.address, "refused").arrives = self.net.after(here, there, refused)
        elif len(listener.connections) < listener.backlog:
            far = SimSocket(self.net)
            far.address, far.peer, far.other, self.far = target, self.address, self, far
            listener.connections.append(far)
            far.send("connected", 0, self._connected)
            listener.became_ready(READ)

    def _connected(self) -> None:
        """Learn that the listener has answered."""
        if self.far is not None and self.far.other is not None:
            self.other = self.far
        self.became_ready(WRITE)

    def _refused(self, target: End) -> None:
        if self.other is None and self.file_state is not CLOSED:
            self.fail(errno.ECONNREFUSED)

    # Bytes.

    def try_read(self, size: int) -> bytes:
        """Return bytes that have arrived, b"" at the end; raise BlockingIOError if there are none yet."""
        self.check()
        if not self.inbox:
            if self.at_end or self.other is None:
                return b""
            raise BlockingIOError
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        if self.other is not None:
            _ = self.net.after(*ends(self.address, self.peer), partial(self.other.acknowledged, len(data)))
        return data

    def try_write(self, data: Bytes) -> int:
        """Send what the window takes, and return how many bytes that was; raise BlockingIOError if it takes none."""
        self.check()
        if self.ended or self.other is None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        sent = bytes(data[: self.window])
        if not sent and len(data):
            raise BlockingIOError
        self.window -= len(sent)
        segment = self.net.segment_bytes
        for start in range(0, len(sent), segment):
            part = sent[start : start + segment]
            self.send(f"{len(part)} bytes", len(part), partial(self.other.arrived, part))
        return len(sent)

    def send(self, content: str, size: int, arrive: Callable[[], None]) -> None:
        """Send a packet that arrives after those that were sent before."""
        net, now = self.net, self.net.now()
        if net.bandwidth is not None:
            self.link_free = max(self.link_free, now) + size / net.bandwidth
            now = self.link_free
        self.last_arrival = max(self.last_arrival, now + net.delay())
        packet = net.note(self.address, self.peer, content)
        packet.arrives = self.last_arrival
        self.sent.append((self.last_arrival, arrive))
        net.at_time(self.last_arrival, self.deliver)

    def deliver(self) -> None:
        """Let the packets arrive that are due, in their order; a partition holds them up."""
        while self.sent and self.sent[0][0] <= self.net.now():
            if self.net.is_cut(*ends(self.address, self.peer)):
                self.net.stalled[self] = None
                return
            _, arrive = self.sent.popleft()
            arrive()

    def arrived(self, data: bytes) -> None:
        """Receive bytes; a closed socket answers with a reset."""
        if self.file_state is CLOSED:
            if self.other is not None:
                self.send("reset", 0, self.other.was_reset)
            return
        self.inbox += data
        self.became_ready(READ)

    def acknowledged(self, size: int) -> None:
        """Learn that the peer has read some bytes."""
        self.window += size
        self.became_ready(WRITE)

    def peer_ended(self) -> None:
        """Learn that the peer writes no more."""
        self.at_end = True
        self.became_ready(READ)

    # The end.

    def write_eof(self) -> None:
        """Say that no more bytes come; BrokenPipeError if the peer is gone."""
        self.check()
        if self.other is None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self.ended:
            self.ended = True
            self.send("end", 0, self.other.peer_ended)

    def reset(self) -> None:
        """Reset the connection: this side fails at once, and the other one when it learns of that."""
        if self.other is not None:
            self.send("reset", 0, self.other.was_reset)
            self.was_reset()

    def was_reset(self) -> None:
        """Learn that the connection is reset."""
        self.other = self.far = None
        if self.file_state is not CLOSED:
            self.inbox.clear()
            self.fail(errno.ECONNRESET)

    def forget(self) -> None:
        """Send the end of what was written; a reset if bytes were not read, as TCP does."""
        if self.other is None:
            if self.far is not None:  # a Connect that was given up
                self.send("reset", 0, self.far.was_reset)
            return
        if self.inbox:
            self.send("reset", 0, self.other.was_reset)
        elif not self.ended:
            self.ended = True
            self.send("end", 0, self.other.peer_ended)


def ends(source: End, target: End) -> tuple[str, str]:
    """Return the hosts of two addresses; a path is on the host of the other end."""
    there = target[0] if isinstance(target, tuple) else ""
    here = source[0] if isinstance(source, tuple) else there
    return here, there or here
