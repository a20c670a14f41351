"""A simulated network: sockets in memory and in virtual time, under unmodified servers and clients.

Theory of operation. `SimNet` has the hosts, the links between them and their troubles; `services` gives a run the
services that use it in place of the operating system. A host is a name: each gets an address of its own. A task is on
the host of the `at` block in which it was spawned; sockets that it opens have that host's address.

Bytes that are written travel as packets. A packet takes the time of the `latency`, and of its bytes at the `bandwidth`.
Packets of one direction of a connection arrive in their order, as with TCP; datagrams may overtake each other, get lost
and come twice. A receiver that does not read fills its buffer, and then the sender waits. All times are those of the
run's clock, and all chances those of one seed: so the same seed gives the same run. With a `VirtualClock`, an hour of
silence takes no time.

Between two hosts that are partitioned, streams stand still until `heal`, and datagrams are lost. A partition that is
never healed is a half-open connection: nobody learns that the peer is gone, except by an idle timeout.

Invariants:
1. Bytes arrive once and in order, or the connection is reset.
2. A closed socket wakes its waiters, and its peer reads all that was written before, and then the end.
3. No service here opens a real socket, file or thread.

Decision: the network is a Primitive. Because: its chances, ports and partitions are shared by all tasks, so that the
explorer must not exchange two turns that use them. Rejected: a finer footprint, which would miss the chances.

Decision: the parts of the simulation are a Network and a Names service, and sockets that are file-likes. Because: Read,
Write, Accept, `serve`, TLS and deadlock reports are those of any run. Rejected: a simulated operating system below
`socket.socket`, which would have to know its many options.

Not here: the disk; simulated sockets (`sockets`).
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from random import Random

from ...kernel.numbers import check_count, check_seconds
from ...kernel.primitive import Primitive
from ...net.addresses import HostAddress, host_and_port, unix_path, with_address
from ...net.names import Names
from ...net.network import Network
from ...tasks.timers import Timers
from .datagrams import SimDatagramSocket
from .page import page
from .sockets import SimListener, SimSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    from ...kernel import Kernel
    from ...net.addresses import Address

    End = tuple[str, int] | str  # an address and a port, or a path

LATENCY_SECONDS = 0.001, 0.05  # the default of `latency`: as within a continent
BUFFER_BYTES = 65536  # the default of `buffer_bytes`: those that a receiver keeps before it has read them
FIRST_FREE_PORT = 49152  # of those that the network chooses, as IANA has them
LAST_PORT = 65535  # a port is a number of 16 bits
HOSTS = 65534  # addresses in 10.0.0.0/16
MAX_PACKETS = 10_000  # that are kept for `lines`
HERE = "127.0.0.1"  # the host of a task outside of any `at` block

host: ContextVar[str] = ContextVar("host", default=HERE)  # the address of the host on which a task is


class Packet:
    """A packet that was sent, as `SimNet.lines` shows it."""

    __slots__ = ("arrives", "content", "fate", "sent", "source", "target")

    def __init__(self, sent: float, source: End, target: End, content: str) -> None:
        self.sent = sent
        self.arrives: float | None = None
        self.source = source
        self.target = target
        self.content = content
        self.fate = ""  # such as "lost"


class SimNet(Primitive):
    """A simulated network: `run(main(), clock=VirtualClock(), services=net.services())`. One for each run.

    Args:
        seed: of all chances.
        latency: the least and the most seconds that a packet takes; each takes a random time between.
        bandwidth: bytes in a second, on each direction of a connection; None: no limit.
        buffer_bytes: how many bytes a receiver keeps that it has not read; a sender then waits.
        segment_bytes: the most bytes in a packet of a stream: a longer write arrives as several short reads.
        loss: the share of the datagrams that get lost.
        duplicates: the share of the datagrams that come twice.

    Raises:
        TypeError, ValueError: an argument that is not a number in its bounds.

    Example:
        An unmodified server, and a client on another host:

        >>> from minisched import Cancel, Connect, Event, Now, Read, Spawn, Write, run, serve
        >>> from minisched.lab import SimNet
        >>> from minisched.testing import VirtualClock
        >>> net = SimNet(seed=1, latency=(0.1, 0.1))
        >>> def echo(conn):
        ...     while data := (yield Read(conn, 100)):
        ...         yield Write(conn, data)
        >>> def main():
        ...     ready = Event()
        ...     with net.at("server"):
        ...         server = yield Spawn(serve(echo, "server", 80, ready=lambda listener: ready.set()))
        ...     yield ready.wait()
        ...     with net.at("client"), (yield Connect(("server", 80))) as conn:
        ...         yield Write(conn, b"hello")
        ...         print((yield Read(conn, 100)), (yield Now()))
        ...     yield Cancel(server)
        >>> run(main(), clock=VirtualClock(), services=net.services())
        b'hello' 0.4
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: tuple[float, float] = LATENCY_SECONDS,
        bandwidth: float | None = None,
        buffer_bytes: int = BUFFER_BYTES,
        segment_bytes: int = BUFFER_BYTES,
        loss: float = 0.0,
        duplicates: float = 0.0,
    ) -> None:
        super().__init__("the network")
        least, most = (check_seconds("SimNet", "latency", seconds) for seconds in latency)
        if least > most:
            raise ValueError(f"SimNet: the least latency is {least}, and the most {most}")
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"SimNet: bandwidth is bytes in a second, more than 0, not {bandwidth!r}")
        for name, share in (("loss", loss), ("duplicates", duplicates)):
            if not 0 <= share <= 1:
                raise ValueError(f"SimNet: {name} is a share from 0 to 1, not {share!r}")
        self.random = Random(seed)
        self.latency = least, most
        self.bandwidth = bandwidth
        self.buffer_bytes = check_count("SimNet", "buffer_bytes", "bytes", buffer_bytes, least=1)
        self.segment_bytes = check_count("SimNet", "segment_bytes", "bytes", segment_bytes, least=1)
        self.loss = loss
        self.duplicates = duplicates
        self.addresses: dict[str, str] = {}  # of hosts, by their names
        self.names: dict[str, str] = {}  # of hosts, by their addresses
        self.listeners: dict[End, SimListener] = {}
        self.datagram_sockets: dict[End, SimDatagramSocket] = {}
        self.port = FIRST_FREE_PORT
        self.cut: set[frozenset[str]] = set()  # pairs of addresses between which nothing arrives
        self.held: list[tuple[str, str, Callable[[], None]]] = []  # that will arrive when their hosts are healed
        self.stalled: dict[SimSocket, None] = {}  # those with packets that a partition holds up
        self.packets: list[Packet] = []
        self.dropped = 0  # packets that are not in `packets`, which is full

    def services(self) -> dict[type[Any], Callable[[Kernel], Any]]:
        """Return the services of a run on this network, for `run(services=...)`."""
        return {Network: partial(SimNetwork, net=self), Names: partial(SimNames, net=self)}

    # Hosts, and troubles.

    @contextmanager
    def at(self, name: str) -> Generator[None]:
        """Open sockets, and spawn tasks, on the host `name`."""
        token = host.set(self.address_of(name))
        try:
            yield
        finally:
            host.reset(token)

    def address_of(self, name: str) -> str:
        """Return the address of a host; a new name is a new host. A numeric address is the host that has it."""
        if name in ("", "localhost", "0.0.0.0", "::"):
            return self.here()
        if name.replace(".", "").isdigit():
            return name
        if name not in self.addresses:
            number = len(self.addresses) + 1
            if number > HOSTS:
                raise OSError(errno.EADDRNOTAVAIL, f"a SimNet has {HOSTS:,} hosts", name)
            address = self.addresses[name] = f"10.0.{number // 256}.{number % 256}"
            self.names[address] = name
        return self.addresses[name]

    def here(self) -> str:
        """Return the address of the host on which the running task is."""
        task = None if self.kernel is None else self.kernel.current
        return host.get() if task is None else task.context.get(host, HERE)  # `handle` runs outside of the context

    def partition(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Let nothing pass between some hosts and others, until `heal`."""
        there = [self.address_of(name) for name in others]
        self.cut.update(frozenset((self.address_of(name), other)) for name in some for other in there)

    def heal(self) -> None:
        """Let everything pass again; streams go on where they stood still."""
        self.cut.clear()
        held, self.held = self.held, []
        for source, target, arrive in held:
            _ = self.after(source, target, arrive)
        stalled, self.stalled = self.stalled, {}
        for sock in stalled:
            self.later(self.delay(), sock.deliver)

    def reset(self, sock: SimSocket) -> None:
        """Reset a connection, as a router does: both sides get ECONNRESET, the other one after the latency."""
        sock.reset()

    # Packets.

    def now(self) -> float:
        """Return the time of the run."""
        assert self.kernel is not None, "the network belongs to a run"
        return self.kernel.service(Timers).now()

    def delay(self) -> float:
        """Return a random latency, in seconds."""
        return self.random.uniform(*self.latency)

    def after(self, source: str, target: str, arrive: Callable[[], None]) -> float:
        """Let a packet arrive after the latency, in no order; return the time. A partition holds it up."""
        arrival = self.now() + self.delay()
        self.at_time(arrival, partial(self._deliver, source, target, arrive))
        return arrival

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback()` after some seconds."""
        self.at_time(self.now() + seconds, callback)

    def at_time(self, time: float, callback: Callable[[], None]) -> None:
        """Call `callback()` at a time of the run."""
        assert self.kernel is not None
        _ = self.kernel.service(Timers).call_at(time, callback)

    def _deliver(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        if self.is_cut(source, target):
            self.held.append((source, target, arrive))
        else:
            arrive()

    def is_cut(self, source: str, target: str) -> bool:
        """Return whether nothing passes between two addresses."""
        return frozenset((source, target)) in self.cut

    def note(self, source: End, target: End, content: str) -> Packet:
        """Note a packet that is sent now."""
        packet = Packet(self.now(), source, target, content)
        if len(self.packets) < MAX_PACKETS:
            self.packets.append(packet)
        else:
            self.dropped += 1
        return packet

    def name_of(self, address: str) -> str:
        """Return the name of the host that has an address; the address itself if it has no name."""
        return self.names.get(address, address)

    def lines(self) -> list[str]:
        """Return a line for each packet, in the order in which they were sent."""
        lines = list(map(self.line, self.packets))
        return [*lines, f"and {self.dropped:,} more, which were not kept"] if self.dropped else lines

    def line(self, packet: Packet) -> str:
        """Return a line for a packet: when it was sent, from where and to where, its content, and its fate."""
        source, target = (
            end if isinstance(end, str) else f"{self.name_of(end[0])}:{end[1]}"
            for end in (packet.source, packet.target)
        )
        arrival = f"  at {packet.arrives:.6f}" if packet.arrives is not None else ""
        return (
            f"{packet.sent:10.6f}  {source} -> {target}  {packet.content}{arrival}{packet.fate and f'  {packet.fate}'}"
        )

    def page(self) -> str:
        """Return a page that shows the packets, as HTML: write it to a file, and open that in a browser."""
        return page(self)

    # Addresses of sockets.

    def next_port(self) -> int:
        """Return the next of the ports that the network chooses."""
        self.port = FIRST_FREE_PORT if self.port == LAST_PORT else self.port + 1
        return self.port

    def end_of(self, address: Address) -> End:
        """Return the form in which the network has an address."""
        path = unix_path(address)
        if path is not None:
            return path
        name, port, _ = host_and_port(address)
        return self.address_of(name), port

    def register(self, table: dict[Any, Any], address: Address | None, thing: Any) -> End:
        """Return the address of a socket, and register the socket there; OSError if the address is in use."""
        end = (self.here(), 0) if address is None else self.end_of(address)
        if isinstance(end, tuple) and not end[1]:
            end = next((free for _ in range(LAST_PORT) if (free := (end[0], self.next_port())) not in table), end)
        if end in table:
            error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            raise with_address(error, end if isinstance(end, str) else f"{end[0]}:{end[1]}")
        table[end] = thing
        return end


class SimNetwork(Network):
    """The sockets of a simulated network."""

    def __init__(self, kernel: Kernel, net: SimNet) -> None:
        super().__init__(kernel)
        net.bind(kernel)
        self.net = net

    def listen(self, address: Address, backlog: int, **options: Any) -> Any:
        """Return a listener; options of the operating system have no effect."""
        return SimListener(self.net, address, check_count("Listen", "backlog", "connections", backlog))

    def listen_all(self, addresses: Any, backlog: int, **options: Any) -> list[Any]:
        """Return listeners for a server."""
        listeners: list[Any] = []
        try:
            for address in addresses:
                listeners.append(self.listen(address, backlog, **options))
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        return listeners

    def dial(self, address: Address) -> list[Any]:
        """Return the one attempt of a Connect."""
        return [(partial(SimSocket, self.net), self.net.end_of(address))]

    def open_datagram(self, local: Address | None, remote: Address | None, **options: Any) -> Any:
        """Return a datagram socket."""
        return SimDatagramSocket(self.net, local, remote)


class SimNames(Names):
    """The names of hosts of a simulated network: each is known at once."""

    def __init__(self, kernel: Kernel, net: SimNet) -> None:
        super().__init__(kernel)
        self.net = net

    def known(self, host: str, port: int, family: int, type: int, flags: int) -> list[HostAddress]:
        """Return the address of a host."""
        kind = type or socket.SOCK_STREAM
        return [HostAddress(socket.AF_INET, kind, 0, "", (self.net.address_of(host), port))]
