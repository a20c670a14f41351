"""An echo server of each peer: `python -m tests.benchmarks.echo_servers PEER` says at which port it listens.

Each is written as the peer's own manual would have it, and reads up to 64 KB at once.
"""

from __future__ import annotations

import resource
import socket
import sys

SIZE = 65536
LOCAL = "127.0.0.1"
MOST = 12_000  # connections: the others have no bound


def with_minisched() -> None:
    from minisched import Read, Write, run, serve

    def echo(conn):
        while data := (yield Read(conn, SIZE)):
            yield Write(conn, data)

    run(serve(echo, LOCAL, 0, max_connections=MOST, ready=lambda listener: say(listener.address[1])))


def with_bare_epoll() -> None:
    """The limit: epoll, and nothing else."""
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
                data = conn.recv(SIZE)
            except BlockingIOError:
                continue
            if not data:
                del conns[fd]
                conn.close()
                continue
            sent = conn.send(data)
            while sent < len(data):
                _ = select.select((), (conn,), ())  # its peer reads: this does not last
                sent += conn.send(data[sent:])


def with_bare_tasks() -> None:
    """The limit of those that have tasks and calls that are objects."""
    from .peers.bare_tasks import Loop, Read, Write

    def echo(conn):
        while data := (yield Read(conn, SIZE)):
            yield Write(conn, data)

    Loop().serve(listening(), echo)


def with_asyncio_streams() -> None:
    import asyncio

    asyncio.run(asyncio_streams())


def with_uvloop_streams() -> None:
    import uvloop

    uvloop.run(asyncio_streams())


async def asyncio_streams() -> None:
    import asyncio

    async def echo(reader, writer):
        while data := await reader.read(SIZE):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, sock=listening())
    await server.serve_forever()


def with_asyncio_protocol() -> None:
    import asyncio

    asyncio.run(asyncio_protocol())


def with_uvloop_protocol() -> None:
    import uvloop

    uvloop.run(asyncio_protocol())


async def asyncio_protocol() -> None:
    import asyncio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    server = await asyncio.get_running_loop().create_server(Echo, sock=listening())
    await server.serve_forever()


def with_trio() -> None:
    import trio

    async def echo(stream):
        while data := await stream.receive_some(SIZE):
            await stream.send_all(data)

    async def main():
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening()))
        await trio.serve_listeners(echo, [listener])

    trio.run(main)


def with_curio() -> None:
    import curio

    async def echo(client, address):
        while data := await client.recv(SIZE):
            await client.sendall(data)

    curio.run(curio.network.run_server, curio.io.Socket(listening()), echo)


def with_gevent() -> None:
    import gevent.server

    def echo(conn, address):
        while data := conn.recv(SIZE):
            conn.sendall(data)

    listener = gevent.socket.socket(fileno=listening().detach())
    gevent.server.StreamServer(listener, echo).serve_forever()


def with_threads() -> None:
    from threading import Thread

    def echo(conn):
        with conn:
            while data := conn.recv(SIZE):
                conn.sendall(data)

    listener = listening()
    while True:
        conn, _ = listener.accept()
        Thread(target=echo, args=(conn,), daemon=True).start()


def listening() -> socket.socket:
    """Return a listening socket; say at which port."""
    listener = socket.create_server((LOCAL, 0), backlog=1024)
    say(listener.getsockname()[1])
    return listener


def say(port: int) -> None:
    """Say where the server listens."""
    print(port, flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    globals()[f"with_{sys.argv[1]}"]()
