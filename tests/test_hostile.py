"""Clients that misbehave in different ways: the server goes on, and nothing of them is left behind."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import tracemalloc
from time import monotonic

import pytest
from helpers import PATIENCE_SECONDS, Ask, no_file_is_left_open, run, until  # noqa: F401
from servers import client_of, echo, handlers, held, received, reset, settled, stopped

from minisched import Read, Spawn, Watcher, Write, serve, serve_unix

SIZE = 1000  # bytes of a message
CHUNK = bytes(65536)
ROUNDS = [10, pytest.param(50, marks=pytest.mark.slow)]  # how often a client misbehaves


@pytest.fixture(params=["TCP", "Unix"])
def serving(request):
    """Return a function that starts a server of a handler, and returns its task and its address."""
    with tempfile.TemporaryDirectory() as directory:

        def start(handler):
            ready = []
            if request.param == "TCP":
                body = serve(handler, "127.0.0.1", 0, ready=ready.append)
            else:
                body = serve_unix(handler, os.path.join(directory, "sock"), ready=ready.append)
            server = yield Spawn(body, "server", keep=True)
            yield from until(lambda: ready)
            return server, ready[0].address

        yield start


def messages(conn):
    """Send back messages of a fixed size, each after it is complete."""
    while True:
        message = b""
        while len(message) < SIZE:
            more = yield Read(conn, SIZE - len(message))
            if not more:
                return
            message += more
        yield Write(conn, message)


# The clients. Each connects, misbehaves and leaves, and yields so that the server notices.


def reset_within_a_message(address):
    client = client_of(address)
    client.sendall(bytes(SIZE // 2))
    yield settled()
    reset(client)


def reset_before_it_is_accepted(address):
    reset(client_of(address))
    yield


def reset_before_the_answer_is_read(address):
    client = client_of(address)
    client.sendall(bytes(10 * SIZE))
    yield settled()
    reset(client)


def leave_at_once(address):
    client_of(address).close()
    yield


def leave_within_a_message(address):
    with client_of(address) as client:
        client.sendall(bytes(SIZE - 1))
        yield settled()


def leave_without_reading_the_answer(address):
    with client_of(address) as client:
        client.sendall(bytes(5 * SIZE))
        client.shutdown(socket.SHUT_WR)
        yield settled()


def close_the_sending_half(address):
    with client_of(address) as client:
        client.shutdown(socket.SHUT_WR)
        yield settled()
        assert client.recv(1) == b"", "the server did not close the connection"


def close_the_receiving_half(address):
    with client_of(address) as client:
        client.shutdown(socket.SHUT_RD)
        client.sendall(bytes(SIZE))
        yield settled()


KINDS = [
    reset_within_a_message,
    reset_before_it_is_accepted,
    reset_before_the_answer_is_read,
    leave_at_once,
    leave_within_a_message,
    leave_without_reading_the_answer,
    close_the_sending_half,
    close_the_receiving_half,
]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("misbehave", KINDS)
def test_a_client_that_misbehaves_causes_no_failure_and_leaves_nothing_behind(misbehave, rounds, serving, caplog):
    def main():
        server, address = yield from serving(messages)
        with client_of(address) as good:
            good.sendall(bytes(SIZE))
            yield settled()
            assert received(good, SIZE) == bytes(SIZE)
            yield settled()
            before = yield Ask(held)
            for _ in range(rounds):
                yield from misbehave(address)
            good.sendall(b"x" * SIZE)
            yield settled()
            assert received(good, SIZE) == b"x" * SIZE
            yield settled()
            assert (yield Ask(held)) == before
        yield settled()
        yield from stopped(server)

    caplog.set_level(logging.INFO, "minisched")
    run(main())
    assert {(record.levelname, record.exc_info) for record in caplog.records} <= {("INFO", None)}


def test_a_connection_reset_in_a_handlers_child_is_logged_as_one_line_of_information(caplog):
    def handler(conn):
        yield Spawn(messages(conn), "reader")
        yield Spawn(messages_out(conn), "writer")

    def messages_out(conn):
        while True:
            yield Write(conn, CHUNK)

    def main():
        ready = []
        server = yield Spawn(serve(handler, "127.0.0.1", 0, ready=ready.append), keep=True)
        yield from until(lambda: ready)
        client = client_of(ready[0].address)
        yield settled()
        reset(client)
        yield settled()
        yield from stopped(server)

    caplog.set_level(logging.INFO, "minisched")
    run(main())
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert "Connection reset by peer" in record.getMessage() or "Broken pipe" in record.getMessage()


# Slow clients


def test_a_client_that_sends_one_byte_at_a_time_is_served_and_does_not_delay_others(serving):
    def main():
        server, address = yield from serving(messages)
        with client_of(address) as slow, client_of(address) as quick:
            for byte in range(SIZE):
                with pytest.raises(BlockingIOError):
                    slow.recv(1)
                slow.sendall(bytes([byte % 256]))
                if byte % 10 == 0:
                    quick.sendall(bytes(SIZE))
                    yield settled()
                    assert received(quick, SIZE) == bytes(SIZE)
            yield settled()
            assert received(slow, SIZE) == bytes(byte % 256 for byte in range(SIZE))
        yield from stopped(server)

    run(main())


def test_a_client_that_closes_its_sending_half_receives_all_data_and_then_the_end(serving):
    def main():
        server, address = yield from serving(echo)
        with client_of(address) as client:
            client.sendall(CHUNK)
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            data = b""
            while not data.endswith(b"end"):
                yield
                try:
                    data += client.recv(65536) or b"end"
                except BlockingIOError:
                    pass
            assert data == CHUNK + b"end"
        yield from stopped(server)

    run(main())


# Clients that never read


class Largest(Watcher):
    """Record the most memory that Python has had in use at any poll."""

    most = 0

    def poll(self, timeout, events):
        self.most = max(self.most, tracemalloc.get_traced_memory()[0])


def test_a_client_that_never_reads_blocks_only_its_handler_and_costs_no_memory(serving):
    count, largest, written = 8, Largest(), []

    def handler(conn):
        if (yield Read(conn, 1)) == b"?":
            yield from messages(conn)
        number = len(written)
        written.append(0)
        while True:
            written[number] += yield Write(conn, CHUNK)

    def main():
        server, address = yield from serving(handler)
        tracemalloc.start()
        clients = [client_of(address) for _ in range(count)]
        for client in clients:
            client.sendall(b"!")
        yield settled()
        writers = yield Ask(handlers)
        assert [type(task.call) for task in writers] == [Write] * count
        before = list(written)
        start = largest.most = tracemalloc.get_traced_memory()[0]
        with client_of(address) as good:
            good.sendall(b"?")
            for _ in range(30):
                good.sendall(bytes(SIZE))
                yield settled()
                assert received(good, SIZE) == bytes(SIZE)
        assert written == before, "a handler went on although its client does not read"
        assert [type(task.call) for task in writers] == [Write] * count
        assert largest.most - start < 2 * len(CHUNK), "memory grew although no client reads"
        assert largest.most < count * 2 * len(CHUNK)
        for client in clients:
            client.close()
        yield settled()
        yield from stopped(server)

    try:
        run(main(), watch=[largest])
    finally:
        tracemalloc.stop()


def test_a_client_that_sends_without_reading_is_blocked_itself(serving):
    def main():
        server, address = yield from serving(echo)
        with client_of(address) as client:
            client.setblocking(False)
            while not (found := (yield Ask(handlers))):
                yield
            (handler,) = found
            sent, idle, end = 0, 0, monotonic() + PATIENCE_SECONDS
            while idle < 100:  # turns in a row in which nothing could be sent, and the handler waited to write
                try:
                    sent, idle = sent + client.send(CHUNK), 0
                except BlockingIOError:
                    # Bytes or an acknowledgement may be late: the handler is then blocked in its Read.
                    idle = idle + 1 if isinstance(handler.call, Write) else 0
                yield
                assert sent < 1 << 28, "the client is never blocked"
                assert monotonic() < end, "the handler is never blocked in a Write"
            assert len(handler.call.data) <= 65536, "the handler read more than one answer"
        yield from stopped(server)

    run(main())
