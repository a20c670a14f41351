"""Datagram sockets of a simulated network, whose datagrams get lost, come twice and overtake each other.

Invariant: a datagram arrives whole or not at all.

Not here: the chances of that (`network`); streams (`sockets`).
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from functools import partial

from ...errors import DatagramTruncated
from ...io.filelike import CLOSED
from ...io.poller import READ
from .sockets import SimFile, ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...io.filelike import Bytes
    from ...net.addresses import Address
    from .network import End, SimNet

MAX_DATAGRAM_BYTES = 65507  # as UDP over IPv4


class SimDatagramSocket(SimFile):
    """A socket for datagrams, of which RecvFrom, SendTo, Read and Write receive and send one each."""

    type = socket.SOCK_DGRAM

    def __init__(self, net: SimNet, local: Address | None, remote: Address | None) -> None:
        super().__init__(net)
        self.inbox: deque[tuple[bytes, End]] = deque()
        self.bytes = 0  # in the inbox
        self.peer = None if remote is None else net.end_of(remote)
        self.address = net.register(net.datagram_sockets, local, self)

    @property
    def label(self) -> str:
        """A short name for messages and traces."""
        return "closed datagram socket" if self.file_state is CLOSED else "datagram socket"

    def try_receive(self, size: int) -> tuple[bytes, End]:
        """Return the next datagram and its sender; raise BlockingIOError if there is none."""
        self.check()
        if not self.inbox:
            raise BlockingIOError
        data, sender = self.inbox.popleft()
        self.bytes -= len(data)
        if len(data) > size:
            raise DatagramTruncated(data[:size], sender)
        return data, sender

    def try_send(self, data: Bytes, address: Address | None) -> int:
        """Send a datagram to an address, or to the peer."""
        self.check()
        if len(data) > MAX_DATAGRAM_BYTES:
            raise OSError(errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: {len(data):,} bytes")
        if address is None and self.peer is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        target: End = self.peer if address is None else self.net.end_of(address)
        net, content = self.net, f"datagram of {len(data)} bytes"
        for fate in ("", "again") if net.random.random() < net.duplicates else ("",):
            packet = net.note(self.address, target, content)
            packet.fate = fate
            if net.random.random() < net.loss or net.is_cut(*ends(self.address, target)):
                packet.fate = "lost"
            else:
                packet.arrives = net.after(*ends(self.address, target), partial(self._arrive, bytes(data), target))
        return len(data)

    def try_read(self, size: int) -> bytes:
        """Return the next datagram."""
        return self.try_receive(size)[0]

    def try_write(self, data: Bytes) -> int:
        """Send a datagram to the peer."""
        return self.try_send(data, None)

    def _arrive(self, data: bytes, target: End) -> None:
        there = self.net.datagram_sockets.get(target)
        if there is None:
            if self.peer is not None and self.file_state is not CLOSED:
                self.fail(errno.ECONNREFUSED)
        elif (there.peer is None or there.peer == self.address) and there.bytes + len(data) <= self.net.buffer_bytes:
            there.inbox.append((data, self.address))
            there.bytes += len(data)
            there.became_ready(READ)

    def forget(self) -> None:
        """Free the address."""
        del self.net.datagram_sockets[self.address]
