"""An echo server of each peer: `python -m tests.benchmarks.echo_servers PEER [halves]` prints its port and serves.

Each server is written as the manual of the peer recommends, and reads up to 64 KB at once. With `halves`, it answers in
two writes, as a server does that sends a header and a body. Of the sockets of each peer, TCP_NODELAY is as the peer
sets it.
"""

from __future__ import annotations

import resource
import socket
import sys
import tempfile

READ_BYTES = 65536
HOST = "127.0.0.1"
BACKLOG = 1024
MAX_CONNECTIONS = 12_000  # of minisched; the other servers have no bound


def with_minisched(halves: bool = False) -> None:
    from minisched import Read, Write, run, serve

    def echo(conn):
        while data := (yield Read(conn, READ_BYTES)):
            yield Write(conn, data)

    def echo_halves(conn):
        while data := (yield Read(conn, READ_BYTES)):
            yield Write(conn, data[: len(data) // 2])
            yield Write(conn, data[len(data) // 2 :])

    handler = echo_halves if halves else echo
    run(
        serve(handler, HOST, 0, max_connections=MAX_CONNECTIONS, ready=lambda listener: print_port(listener.address[1]))
    )


def with_minisched_recorded() -> None:
    from minisched import Read, Write, serve
    from minisched.lab import record

    def echo(conn):
        while data := (yield Read(conn, READ_BYTES)):
            yield Write(conn, data)

    server = serve(echo, HOST, 0, ready=lambda listener: print_port(listener.address[1]))
    with tempfile.NamedTemporaryFile() as file:
        record(server, file.name)


def with_bare_epoll() -> None:
    """A limit: the smallest Python server on epoll."""
    import select

    listener = listening()
    listener.setblocking(False)
    conns = {}
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                conn, _ = listener.accept()
                conn.setblocking(False)
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                conns[conn.fileno()] = conn
                poll.register(conn, select.EPOLLIN)
                continue
            conn = conns[fd]
            try:
                data = conn.recv(READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                del conns[fd]
                conn.close()
                continue
            sent = conn.send(data)
            while sent < len(data):
                _ = select.select((), (conn,), ())  # the client reads, so this is short
                sent += conn.send(data[sent:])


def with_bare_tasks() -> None:
    """A limit: the smallest server with tasks and with syscalls that are objects."""
    from .peers.bare_tasks import Loop, Read, Write

    def echo(conn):
        while data := (yield Read(conn, READ_BYTES)):
            yield Write(conn, data)

    Loop().serve(listening(), echo)


def with_asyncio_streams(halves: bool = False) -> None:
    import asyncio

    asyncio.run(asyncio_streams(halves))


def with_uvloop_streams(halves: bool = False) -> None:
    import uvloop

    uvloop.run(asyncio_streams(halves))


async def asyncio_streams(halves: bool = False) -> None:
    import asyncio

    async def echo(reader, writer):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def echo_halves(reader, writer):
        while data := await reader.read(READ_BYTES):
            writer.write(data[: len(data) // 2])
            await writer.drain()
            writer.write(data[len(data) // 2 :])
            await writer.drain()
        writer.close()

    await serve_forever(await asyncio.start_server(echo_halves if halves else echo, HOST, 0, backlog=BACKLOG))


def with_asyncio_protocol(halves: bool = False) -> None:
    import asyncio

    asyncio.run(asyncio_protocol(halves))


def with_uvloop_protocol(halves: bool = False) -> None:
    import uvloop

    uvloop.run(asyncio_protocol(halves))


async def asyncio_protocol(halves: bool = False) -> None:
    import asyncio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    class EchoHalves(Echo):
        def data_received(self, data):
            self.transport.write(data[: len(data) // 2])
            self.transport.write(data[len(data) // 2 :])

    loop = asyncio.get_running_loop()
    await serve_forever(await loop.create_server(EchoHalves if halves else Echo, HOST, 0, backlog=BACKLOG))


async def serve_forever(server) -> None:
    """Serve with a listener that asyncio has opened: without TCP_NODELAY, if the listener were `listening()`."""
    print_port(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def with_trio(halves: bool = False) -> None:
    import trio

    async def echo(stream):
        while data := await stream.receive_some(READ_BYTES):
            await stream.send_all(data)

    async def echo_halves(stream):
        while data := await stream.receive_some(READ_BYTES):
            await stream.send_all(data[: len(data) // 2])
            await stream.send_all(data[len(data) // 2 :])

    async def main():
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening()))
        await trio.serve_listeners(echo_halves if halves else echo, [listener])

    trio.run(main)


def with_curio() -> None:
    import curio

    async def echo(client, address):
        while data := await client.recv(READ_BYTES):
            await client.sendall(data)

    curio.run(curio.network.run_server, curio.io.Socket(listening()), echo)


def with_gevent() -> None:
    import gevent.server

    def echo(conn, address):
        while data := conn.recv(READ_BYTES):
            conn.sendall(data)

    listener = gevent.socket.socket(fileno=listening().detach())
    gevent.server.StreamServer(listener, echo).serve_forever()


def with_threads(halves: bool = False) -> None:
    from threading import Thread

    def echo(conn):
        with conn:
            while data := conn.recv(READ_BYTES):
                conn.sendall(data)

    def echo_halves(conn):
        with conn:
            while data := conn.recv(READ_BYTES):
                conn.sendall(data[: len(data) // 2])
                conn.sendall(data[len(data) // 2 :])

    listener = listening()
    while True:
        conn, _ = listener.accept()
        Thread(target=echo_halves if halves else echo, args=(conn,), daemon=True).start()


def listening() -> socket.socket:
    """Return a listening socket after printing its port."""
    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    print_port(listener.getsockname()[1])
    return listener


def print_port(port: int) -> None:
    """Print the port of the server."""
    print(port, flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    globals()[f"with_{sys.argv[1]}"](*[True] * (sys.argv[2:] == ["halves"]))
