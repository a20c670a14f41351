"""A server of each peer that echoes lines: `python -m tests.benchmarks.line_servers PEER` prints its port and serves.

Each server reads a line, writes it, and reads the next one, as the manual of the peer recommends. trio has no lines, so
its server has those that its tutorial leaves to the reader: a buffer that is searched from where the last search ended.
A line has a limit, which is 64 KB, where the peer has a way to set one.
"""

from __future__ import annotations

import resource
import sys

from .echo_servers import BACKLOG, HOST, MAX_CONNECTIONS, READ_BYTES, listening, print_port, serve_forever

LIMIT_BYTES = 65536


def with_minisched() -> None:
    from minisched import Stream, run, serve

    def echo(conn):
        stream = Stream(conn, LIMIT_BYTES)
        while line := (yield stream.readline()):
            yield stream.write(line)

    run(serve(echo, HOST, 0, max_connections=MAX_CONNECTIONS, ready=lambda listener: print_port(listener.address[1])))


def with_asyncio_streams() -> None:
    import asyncio

    asyncio.run(asyncio_streams())


def with_uvloop_streams() -> None:
    import uvloop

    uvloop.run(asyncio_streams())


async def asyncio_streams() -> None:
    import asyncio

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    await serve_forever(await asyncio.start_server(echo, HOST, 0, limit=LIMIT_BYTES, backlog=BACKLOG))


class Lines:
    """The lines of a stream of trio."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.searched = 0

    async def readline(self) -> bytes:
        """Return the next line, or b"" at the end of the stream."""
        while (end := self.buffer.find(b"\n", self.searched) + 1) == 0:
            self.searched = len(self.buffer)
            if self.searched > LIMIT_BYTES:
                raise ValueError("a line is too long")
            data = await self.stream.receive_some(READ_BYTES)
            if not data:
                return b""
            self.buffer += data
        line = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.searched = 0
        return line


def with_trio() -> None:
    import trio

    async def echo(stream):
        lines = Lines(stream)
        while line := await lines.readline():
            await stream.send_all(line)

    async def main():
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening()))
        await trio.serve_listeners(echo, [listener])

    trio.run(main)


def with_curio() -> None:
    import curio

    async def echo(client, address):
        async with client.as_stream() as stream:
            while line := await stream.readline():
                await stream.write(line)

    curio.run(curio.network.run_server, curio.io.Socket(listening()), echo)


def with_gevent() -> None:
    import gevent.server

    def echo(conn, address):
        with conn.makefile("rb") as file:
            while line := file.readline(LIMIT_BYTES):
                conn.sendall(line)

    listener = gevent.socket.socket(fileno=listening().detach())
    gevent.server.StreamServer(listener, echo).serve_forever()


def with_threads() -> None:
    from threading import Thread

    def echo(conn):
        with conn, conn.makefile("rb") as file:
            while line := file.readline(LIMIT_BYTES):
                conn.sendall(line)

    listener = listening()
    while True:
        conn, _ = listener.accept()
        Thread(target=echo, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    globals()[f"with_{sys.argv[1]}"]()
