"""Clients that misbehave, one kind after the other: the server goes on, and nothing of them is left."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import tracemalloc

import pytest
from helpers import Ask, no_file_is_left_open, run, until  # noqa: F401
from servers import client_of, echo, handlers, held, received, reset, settled, stopped

from minisched import Read, Spawn, Watcher, Write, serve, serve_unix

SIZE = 1000  # bytes of a message
CHUNK = bytes(65536)
ROUNDS = 50


@pytest.fixture(params=["TCP", "Unix"])
def serving(request):
    """Return how to start a server of a handler, which gives its task and its address."""
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
    """Send back messages of a fixed size, each once it is complete."""
    while True:
        message = b""
        while len(message) < SIZE:
            more = yield Read(conn, SIZE - len(message))
            if not more:
                return
            message += more
        yield Write(conn, message)


# What clients do, each with a function of its own: connect, misbehave, leave. They yield for the server to notice.


def reset_in_the_middle_of_a_message(address):
    client = client_of(address)
    client.sendall(bytes(SIZE // 2))
    yield settled()
    reset(client)


def reset_before_it_is_accepted(address):
    reset(client_of(address))
    yield


def reset_with_an_answer_on_its_way(address):
    client = client_of(address)
    client.sendall(bytes(10 * SIZE))
    yield settled()
    reset(client)


def leave_at_once(address):
    client_of(address).close()
    yield


def leave_in_the_middle_of_a_message(address):
    with client_of(address) as client:
        client.sendall(bytes(SIZE - 1))
        yield settled()


def leave_without_reading_the_answer(address):
    with client_of(address) as client:
        client.sendall(bytes(5 * SIZE))
        client.shutdown(socket.SHUT_WR)
        yield settled()


def say_nothing_more_and_stay_a_while(address):
    with client_of(address) as client:
        client.shutdown(socket.SHUT_WR)
        yield settled()
        assert client.recv(1) == b"", "it was not closed"


def read_no_more(address):
    with client_of(address) as client:
        client.shutdown(socket.SHUT_RD)
        client.sendall(bytes(SIZE))
        yield settled()


KINDS = [
    reset_in_the_middle_of_a_message,
    reset_before_it_is_accepted,
    reset_with_an_answer_on_its_way,
    leave_at_once,
    leave_in_the_middle_of_a_message,
    leave_without_reading_the_answer,
    say_nothing_more_and_stay_a_while,
    read_no_more,
]


@pytest.mark.parametrize("misbehave", KINDS)
def test_a_client_that_misbehaves_is_no_failure_and_leaves_nothing(misbehave, serving, caplog):
    def main():
        server, address = yield from serving(messages)
        with client_of(address) as good:
            good.sendall(bytes(SIZE))
            yield settled()
            assert received(good, SIZE) == bytes(SIZE)
            yield settled()
            before = yield Ask(held)
            for _ in range(ROUNDS):
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


def test_a_connection_reset_in_a_handlers_child_is_one_line_of_information_too(caplog):
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


# Slow ones


def test_a_client_that_sends_one_byte_at_a_time_is_served_and_holds_up_nobody(serving):
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


def test_a_client_that_closes_its_half_has_all_that_comes_to_it_and_then_the_end(serving):
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
    """Remembers the most memory that Python has had in use at any look at files."""

    most = 0

    def poll(self, timeout, events):
        self.most = max(self.most, tracemalloc.get_traced_memory()[0])


def test_a_client_that_never_reads_stops_its_handler_and_no_other_and_costs_no_memory(serving):
    count, largest, written = 20, Largest(), []

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
            for _ in range(100):
                good.sendall(bytes(SIZE))
                yield settled()
                assert received(good, SIZE) == bytes(SIZE)
        assert written == before, "a handler went on, though nobody reads"
        assert [type(task.call) for task in writers] == [Write] * count
        assert largest.most - start < 2 * len(CHUNK), "memory grew, though nobody reads"
        assert largest.most < count * 2 * len(CHUNK)
        for client in clients:
            client.close()
        yield settled()
        yield from stopped(server)

    try:
        run(main(), watch=[largest])
    finally:
        tracemalloc.stop()


def test_a_client_that_sends_for_ever_and_never_reads_is_held_up_itself(serving):
    def main():
        server, address = yield from serving(echo)
        with client_of(address) as client:
            client.setblocking(False)
            sent, idle = 0, 0
            while idle < 100:  # turns in a row in which nothing went
                try:
                    sent, idle = sent + client.send(CHUNK), 0
                except BlockingIOError:
                    idle += 1
                yield
                assert sent < 1 << 28, "nothing holds it up"
            (handler,) = yield Ask(handlers)
            assert isinstance(handler.call, Write)
            assert len(handler.call.data) <= 65536, "more was read than one answer"
        yield from stopped(server)

    run(main())
