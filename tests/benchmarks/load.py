"""The load on an echo server, for machines without a C compiler.

The protocol is that of `load.c`. This program is slower than the servers that it measures.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

LOCAL = "127.0.0.1"
PATTERN_BYTES = 9973  # after which the pattern repeats; a prime, so that connections have different messages


class Client:
    """A connection, and the number of bytes of its message that were sent and received."""

    def __init__(self, port: int, message: bytes, udp: bool = False) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.sock.connect((LOCAL, port))
        if not udp:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.message = message
        self.sent = self.received = len(message)  # no message is in flight
        self.start = 0.0

    def begin(self) -> None:
        """Send the next message."""
        self.sent = self.received = 0
        self.start = perf_counter()
        self.push()

    def push(self) -> None:
        """Send until the socket would block."""
        try:
            while self.sent < len(self.message):
                self.sent += self.sock.send(memoryview(self.message)[self.sent :])
        except BlockingIOError:
            pass

    def pull(self) -> bool:
        """Receive data; return whether the message is complete."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        if data != self.message[self.received : self.received + len(data)]:
            raise ConnectionError("the echo differs from the message")
        self.received += len(data)
        self.push()
        return self.received == len(self.message)


def load(clients: list[Client], selector: selectors.BaseSelector, seconds: float) -> tuple[list[float], float]:
    """Let each client send one message after the other; return the seconds of each message, and of the whole."""
    times: list[float] = []
    start = perf_counter()
    in_flight = len(clients)
    for client in clients:
        client.begin()
    while in_flight:
        for key, _ in selector.select():
            client: Client = key.data
            if not client.pull():
                continue
            now = perf_counter()
            times.append(now - client.start)
            if now < start + seconds:
                client.begin()
            else:
                in_flight -= 1
    return times, perf_counter() - start


def in_lines(message: bytes, line: int) -> bytes:
    """Return a message in which each `line` bytes are a line; 0: the message itself."""
    if not line:
        return message
    changed = bytearray(message.replace(b"\n", b" "))
    changed[line - 1 :: line] = b"\n" * len(changed[line - 1 :: line])
    return bytes(changed)


def main(port: int, connections: int, size: int, line: int = 0, kind: Callable[[int, bytes], Client] = Client) -> None:
    """Connect the clients, and answer each line of standard input."""
    pattern = bytes(i * i % PATTERN_BYTES % 256 for i in range(size + PATTERN_BYTES))
    starts = (i % PATTERN_BYTES for i in range(connections))
    clients = [kind(port, in_lines(pattern[start : start + size], line)) for start in starts]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
    print("ready", flush=True)
    for line in sys.stdin:
        times, total = load(clients, selector, float(line))
        times.sort()
        count = len(times)
        print(count, total, times[count // 2], times[count * 99 // 100], flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), kind=partial(Client, udp=True) if sys.argv[5:] == ["udp"] else Client)
