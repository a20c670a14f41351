"""A UDP echo server of each peer: `python -m tests.benchmarks.udp_servers PEER` prints its port and serves.

Each server is written as the manual of the peer recommends, and takes datagrams of up to 64 KB.
"""

from __future__ import annotations

import socket
import sys

from .echo_servers import HOST, READ_BYTES, print_port


def with_minisched() -> None:
    from minisched import OpenDatagram, RecvFrom, SendTo, run

    def main():
        with (yield OpenDatagram((HOST, 0))) as sock:
            print_port(sock.address[1])
            while True:
                data, sender = yield RecvFrom(sock)
                yield SendTo(sock, data, sender)

    run(main())


def with_bare_epoll() -> None:
    """A limit: the smallest Python server on epoll."""
    import select

    sock = bound()
    sock.setblocking(False)
    poll = select.epoll()
    poll.register(sock, select.EPOLLIN)
    while True:
        _ = poll.poll()
        data, sender = sock.recvfrom(READ_BYTES)
        _ = sock.sendto(data, sender)


def with_asyncio_protocol() -> None:
    import asyncio

    asyncio.run(asyncio_protocol())


def with_uvloop_protocol() -> None:
    import uvloop

    uvloop.run(asyncio_protocol())


async def asyncio_protocol() -> None:
    import asyncio

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            print_port(transport.get_extra_info("sockname")[1])

        def datagram_received(self, data, addr):
            self.transport.sendto(data, addr)

    loop = asyncio.get_running_loop()
    _ = await loop.create_datagram_endpoint(Echo, (HOST, 0))
    await loop.create_future()


def with_trio() -> None:
    import trio

    async def main():
        sock = trio.socket.from_stdlib_socket(bound())
        while True:
            data, sender = await sock.recvfrom(READ_BYTES)
            _ = await sock.sendto(data, sender)

    trio.run(main)


def with_curio() -> None:
    import curio

    async def main():
        sock = curio.io.Socket(bound())
        while True:
            data, sender = await sock.recvfrom(READ_BYTES)
            _ = await sock.sendto(data, sender)

    curio.run(main)


def with_gevent() -> None:
    import gevent.socket

    sock = gevent.socket.socket(fileno=bound().detach())
    while True:
        data, sender = sock.recvfrom(READ_BYTES)
        _ = sock.sendto(data, sender)


def with_threads() -> None:
    """One thread: with blocking calls, a second one would have nothing to do."""
    sock = bound()
    while True:
        data, sender = sock.recvfrom(READ_BYTES)
        _ = sock.sendto(data, sender)


def bound() -> socket.socket:
    """Return a socket at a free port after printing that."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    print_port(sock.getsockname()[1])
    return sock


if __name__ == "__main__":
    globals()[f"with_{sys.argv[1]}"]()
