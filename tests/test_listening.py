"""Where a server listens, what it refuses, and what may go wrong at an accept."""

from __future__ import annotations

import errno
import os
from math import nan

import pytest
import servers
from helpers import no_file_is_left_open, open_numbers, run, until  # noqa: F401
from servers import begun, client_of, echo, received, settled, stopped

from minisched import (
    ClosedError,
    Join,
    Listen,
    Sleep,
    Socket,
    serve,
    serve_listeners,
    serve_unix,
    serve_workers,
)
from minisched.server import PAUSE

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"


def is_served(address):
    """Return whether a server answers there now."""
    with client_of(address) as client:
        client.sendall(b"x")
        yield settled()
        try:
            return received(client, 1) == b"x"
        except BlockingIOError:
            return False


# Where


def test_each_of_several_hosts_is_served_and_told_of():
    def main():
        server, listeners = yield from begun(
            lambda ready: serve(echo, (LOCAL, LOCAL, LOCAL), 0, ready=ready), listeners=3
        )
        addresses = [listener.address for listener in listeners]
        assert len(set(addresses)) == 3
        for address in addresses:
            assert (yield from is_served(address))
        yield from stopped(server)
        assert [listener.fileno() for listener in listeners] == [-1] * 3

    run(main())


def test_a_host_that_can_not_be_had_closes_the_others():
    def main():
        with (yield Listen((LOCAL, 0))) as taken:
            port = taken.address[1]
            before = open_numbers()
            with pytest.raises(OSError, match=f"{LOCAL}:{port}"):
                yield from serve(echo, ["127.0.0.2", LOCAL], port)
            assert open_numbers() == before

    run(main())


def test_two_servers_share_a_port_if_both_say_so():
    def main():
        one, (listener,) = yield from begun(lambda ready: serve(echo, LOCAL, 0, reuse_port=True, ready=ready))
        port = listener.address[1]
        with pytest.raises(OSError, match="in use"):
            yield from serve(echo, LOCAL, port)
        two, _ = yield from begun(lambda ready: serve(echo, LOCAL, port, reuse_port=True, ready=ready))
        assert (yield from is_served((LOCAL, port)))
        yield from stopped(one)
        assert (yield from is_served((LOCAL, port)))
        yield from stopped(two)

    run(main())


def test_listeners_that_are_there_already_are_served_together_and_closed_at_the_end(path):
    def main():
        listeners = [(yield Listen((LOCAL, 0))), (yield Listen(path))]
        server, ready = yield from begun(lambda ready: serve_listeners(echo, *listeners, ready=ready), listeners=2)
        assert ready == listeners
        for listener in listeners:
            assert (yield from is_served(listener.address))
        yield from stopped(server)
        assert [listener.fileno() for listener in listeners] == [-1, -1]
        assert not os.path.exists(path)

    run(main())


def test_one_of_two_listeners_that_is_closed_ends_the_server_and_closes_the_other(path):
    def main():
        listeners = [(yield Listen((LOCAL, 0))), (yield Listen(path))]
        server, _ = yield from begun(lambda ready: serve_listeners(echo, *listeners, ready=ready), listeners=2)
        yield settled()
        listeners[0].close()
        with pytest.raises(ClosedError):
            yield Join(server)
        assert listeners[1].fileno() == -1

    run(main())


# What is refused


SERVERS = {
    "serve": lambda path, **options: run(serve(echo, LOCAL, 0, **options)),
    "serve_unix": lambda path, **options: run(serve_unix(echo, path, **options)),
    "serve_listeners": lambda path, **options: run(listening(path, **options)),
    "serve_workers": lambda path, **options: serve_workers(echo, path, workers=1, **options),
}


def listening(path, **options):
    with (yield Listen(path)) as listener:
        yield from serve_listeners(echo, listener, **options)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("max_connections", value) for value in (0, -1)],
        *[("idle_timeout", value) for value in (0, -1, nan)],
        *[("grace", value) for value in (-1, nan)],
    ],
)
def test_a_limit_that_is_none_is_refused_before_anything_is_served(server, option, value, path):
    def ready(listener):
        raise AssertionError("it has begun")

    with pytest.raises(ValueError, match=f"{option} is .* None"):
        SERVERS[server](path, ready=ready, **{option: value})
    assert not os.path.exists(path)


def test_a_server_at_no_address_is_refused():
    for body in (serve(echo, [], 80), serve_listeners(echo)):
        with pytest.raises(ValueError, match="one address or more, not at none"):
            run(body)
    with pytest.raises(ValueError, match="1 address or more and 1 worker or more"):
        serve_workers(echo, workers=1)


# At an accept


def failing(monkeypatch, errors):
    """Let accepts fail with these errors before they come to a connection; None: this one does not."""
    accept, left = Socket.try_accept, list(errors)

    def try_accept(listener):
        number = left.pop(0) if left else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return accept(listener)

    monkeypatch.setattr(Socket, "try_accept", try_accept)
    return left


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH"])
def test_a_connection_that_was_lost_before_it_was_accepted_ends_no_server(name, monkeypatch, path, said):
    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        left = failing(monkeypatch, [getattr(errno, name)] * 3)
        assert (yield from is_served(path)), "not at once"
        assert left == []
        yield from stopped(server)

    run(main())
    assert said() == []


def test_what_is_wrong_with_the_listener_ends_the_server(monkeypatch, path):
    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        failing(monkeypatch, [errno.EINVAL])
        with client_of(path):
            with pytest.raises(OSError, match="Invalid argument"):
                yield Join(server)

    run(main())


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_that_no_files_are_left_is_said_once_for_as_long_as_that_lasts(name, monkeypatch, path, said):
    number = getattr(errno, name)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        yield settled()
        for times in range(1, 3):
            failing(monkeypatch, [number, None, number, number, None, number])  # some are let in meanwhile
            clients = [client_of(path) for _ in range(5)]
            yield Sleep(3.5 * PAUSE)
            assert len(said()) == times
            yield Sleep(PAUSE)
            assert (yield from is_served(path))
            for client in clients:
                client.close()
        yield from stopped(server)

    run(main())
    assert said()[0] == f"can't accept, with 0 connections: {os.strerror(number)}; trying again each 1 s"
