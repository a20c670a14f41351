"""The listeners of a server, the arguments it refuses, and the errors of an accept."""

from __future__ import annotations

import errno
import os
from math import nan

import pytest
import servers
from helpers import Ask, no_file_is_left_open, open_numbers, run, until  # noqa: F401
from servers import begun, client_of, echo, handlers, received, settled, stopped

from minisched import (
    ClosedError,
    Join,
    Listen,
    Sleep,
    Socket,
    Watcher,
    serve,
    serve_listeners,
    serve_unix,
    serve_workers,
)
from minisched.net.binding import listen
from minisched.serving.connections import PAUSE_SECONDS

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"


def is_served(address):
    """Return whether a server answers at an address."""
    with client_of(address) as client:
        client.sendall(b"x")
        yield settled()
        try:
            return received(client, 1) == b"x"
        except BlockingIOError:
            return False


# Listeners


def test_each_of_several_hosts_is_served_and_reported_by_ready():
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


def test_a_host_that_cannot_be_bound_closes_the_listeners_of_the_others():
    def main():
        with (yield Listen((LOCAL, 0))) as taken:
            port = taken.address[1]
            before = open_numbers()
            with pytest.raises(OSError, match=f"{LOCAL}:{port}"):
                yield from serve(echo, ["127.0.0.2", LOCAL], port)
            assert open_numbers() == before

    run(main())


def test_two_servers_with_reuse_port_share_a_port():
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


def test_open_listeners_are_served_together_and_closed_at_the_end(path):
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


def test_closing_one_of_two_listeners_ends_the_server_and_closes_the_other(path):
    def main():
        listeners = [(yield Listen((LOCAL, 0))), (yield Listen(path))]
        server, _ = yield from begun(lambda ready: serve_listeners(echo, *listeners, ready=ready), listeners=2)
        yield settled()
        listeners[0].close()
        with pytest.raises(ClosedError):
            yield Join(server)
        assert listeners[1].fileno() == -1

    run(main())


AWAITED = {
    "serve": lambda path, ready: serve(echo, LOCAL, 0, ready=ready),
    "serve_unix": lambda path, ready: serve_unix(echo, path, ready=ready),
    "serve_listeners": lambda path, ready: serve_listeners(echo, listen(path), ready=ready),
}


@pytest.mark.parametrize("name", AWAITED)
def test_a_server_can_be_awaited_in_an_async_def(name, path):
    async def coroutine(ready):
        await AWAITED[name](path, ready)

    def main():
        server, (listener,) = yield from begun(coroutine)
        assert (yield from is_served(listener.address))
        yield from stopped(server)

    run(main())


# Refused arguments


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
def test_an_invalid_limit_is_refused_before_the_server_listens(server, option, value, path):
    def ready(listener):
        raise AssertionError("it listens")

    with pytest.raises(ValueError, match=f"{option} (is|must be) .* None"):
        SERVERS[server](path, ready=ready, **{option: value})
    assert not os.path.exists(path)


def test_a_server_without_an_address_is_refused():
    for body in (serve(echo, [], 80), serve_listeners(echo)):
        with pytest.raises(ValueError, match="at least one address or listener"):
            run(body)
    with pytest.raises(ValueError, match="at least 1 address"):
        serve_workers(echo, workers=1)


# Errors of an accept


def failing(monkeypatch, errors):
    """Make the next accepts fail with these errors; None: this one succeeds."""
    accept, left = Socket.try_accept, list(errors)

    def try_accept(listener):
        number = left.pop(0) if left else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return accept(listener)

    monkeypatch.setattr(Socket, "try_accept", try_accept)
    return left


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH"])
def test_a_connection_lost_before_its_accept_does_not_stop_the_server(name, monkeypatch, path, said):
    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        left = failing(monkeypatch, [getattr(errno, name)] * 3)
        assert (yield from is_served(path)), "the next connection was not accepted at once"
        assert left == []
        yield from stopped(server)

    run(main())
    assert said() == []


def test_an_error_of_the_listener_itself_ends_the_server(monkeypatch, path):
    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        failing(monkeypatch, [errno.EINVAL])
        with client_of(path):
            with pytest.raises(OSError, match="Invalid argument"):
                yield Join(server)

    run(main())


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_running_out_of_file_descriptors_is_logged_once_each_time(name, monkeypatch, path, said):
    number = getattr(errno, name)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        yield settled()
        for times in range(1, 3):
            failing(monkeypatch, [number, None, number, number, None, number])  # some are accepted in between
            clients = [client_of(path) for _ in range(5)]
            yield Sleep(3.5 * PAUSE_SECONDS)
            assert len(said()) == times
            yield Sleep(PAUSE_SECONDS)
            assert (yield from is_served(path))
            for client in clients:
                client.close()
        yield from stopped(server)

    run(main())
    assert said()[0] == f"can't accept (0 connections open): {os.strerror(number)}; retrying every 1 s"


def test_a_batch_of_connections_is_accepted_in_one_turn(path):
    turns = TurnsOf("server")

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready, grace=0))
        yield settled()
        before = turns.count
        clients = [client_of(path) for _ in range(120)]
        yield settled()
        assert len((yield Ask(handlers))) == len(clients)
        assert turns.count - before <= 4, "each connection took a turn"
        for client in clients:
            client.close()
        yield from stopped(server)

    run(main(), watch=[turns])


class TurnsOf(Watcher):
    """Count the turns of the task with a given name."""

    def __init__(self, name):
        self.name, self.count = name, 0

    def turn(self, task):
        self.count += task.name == self.name
