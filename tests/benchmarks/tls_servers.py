"""An echo server of each peer with TLS: `python -m tests.benchmarks.tls_servers PEER` prints its port and serves.

The servers are those of `echo_servers`, with a context. Each process makes a new certificate of an elliptic curve, and
the clients do not verify it.
"""

from __future__ import annotations

import ssl
import sys

from .echo_servers import BACKLOG, HOST, MAX_CONNECTIONS, READ_BYTES, listening, print_port, serve_forever


def context() -> ssl.SSLContext:
    import trustme

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(made)
    return made


def with_minisched() -> None:
    from minisched import Read, Write, run, serve

    def echo(conn):
        while data := (yield Read(conn, READ_BYTES)):
            yield Write(conn, data)

    options = {"max_connections": MAX_CONNECTIONS, "ready": lambda listener: print_port(listener.address[1])}
    run(serve(echo, HOST, 0, tls=context(), **options))


def with_asyncio_streams() -> None:
    import asyncio

    asyncio.run(asyncio_streams())


def with_uvloop_streams() -> None:
    import uvloop

    uvloop.run(asyncio_streams())


async def asyncio_streams() -> None:
    import asyncio

    async def echo(reader, writer):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    await serve_forever(await asyncio.start_server(echo, HOST, 0, backlog=BACKLOG, ssl=context()))


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

    loop = asyncio.get_running_loop()
    await serve_forever(await loop.create_server(Echo, HOST, 0, backlog=BACKLOG, ssl=context()))


def with_trio() -> None:
    import trio

    async def echo(stream):
        while data := await stream.receive_some(READ_BYTES):
            await stream.send_all(data)

    async def main():
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening()))
        await trio.serve_listeners(echo, [trio.SSLListener(listener, context())])

    trio.run(main)


def with_threads() -> None:
    from threading import Thread

    def echo(plain):
        with shared.wrap_socket(plain, server_side=True) as conn:
            while data := conn.recv(READ_BYTES):
                conn.sendall(data)

    shared = context()
    listener = listening()
    while True:
        conn, _ = listener.accept()
        Thread(target=echo, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    globals()[f"with_{sys.argv[1]}"]()
