"""The load on an echo server, where no C compiler is: as `load.c`, but slower than the servers."""

from __future__ import annotations

import selectors
import socket
import sys
from time import perf_counter

LOCAL = "127.0.0.1"


class Client:
    """A connection, and how far its message has come."""

    def __init__(self, port: int, message: bytes) -> None:
        self.sock = socket.create_connection((LOCAL, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.message = message
        self.sent = self.received = len(message)  # nothing is under way
        self.start = 0.0

    def begin(self) -> None:
        """Send the next message."""
        self.sent = self.received = 0
        self.start = perf_counter()
        self.push()

    def push(self) -> None:
        """Send what can be sent."""
        try:
            while self.sent < len(self.message):
                self.sent += self.sock.send(memoryview(self.message)[self.sent :])
        except BlockingIOError:
            pass

    def pull(self) -> bool:
        """Take what has come; return whether that was the last of a message."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server has closed a connection")
        self.received += len(data)
        self.push()
        return self.received == len(self.message)


def load(clients: list[Client], selector: selectors.BaseSelector, seconds: float) -> tuple[list[float], float]:
    """Let all send, one message after the other; return what each took, and how long it all took."""
    times: list[float] = []
    start = perf_counter()
    under_way = len(clients)
    for client in clients:
        client.begin()
    while under_way:
        for key, _ in selector.select():
            client: Client = key.data
            if not client.pull():
                continue
            now = perf_counter()
            times.append(now - client.start)
            if now < start + seconds:
                client.begin()
            else:
                under_way -= 1
    return times, perf_counter() - start


def main(port: int, connections: int, size: int) -> None:
    """Connect, and answer each line that is asked."""
    message = b"x" * size
    clients = [Client(port, message) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
    print("ready", flush=True)
    for line in sys.stdin:
        times, took = load(clients, selector, float(line))
        times.sort()
        count = len(times)
        print(count, took, times[count // 2], times[count * 99 // 100], flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
