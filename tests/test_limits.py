"""The limits of a server, in virtual time: max_connections, idle_timeout and grace."""

from __future__ import annotations

import inspect
import os
import socket
from math import inf

import pytest
import servers
from helpers import Ask, no_file_is_left_open, open_numbers, parked, run, until  # noqa: F401
from servers import begun, client_of, echo, handlers, settled, stopped

from minisched import (
    Cancel,
    Cancelled,
    Connect,
    Join,
    MoveOnAfter,
    Now,
    Read,
    Shield,
    Sleep,
    Spawn,
    TaskCancelled,
    Watcher,
    Write,
    serve,
    serve_unix,
)
from minisched.serving import connections as serving
from minisched.serving.connections import CONNECTIONS_NAMED_IN_LOG, GRACE_SECONDS

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"
IDLE_SECONDS = 8.0  # the idle_timeout of the servers under test
BIG = bytes(4_000_000)  # more than the buffers of any socket hold


# max_connections


class MostHandlers(Watcher):
    """Record the greatest number of handlers."""

    most = 0

    def start(self, kernel):
        self.kernel = kernel

    def turn(self, task):
        self.most = max(self.most, len(handlers(self.kernel)))


@pytest.mark.parametrize("hosts", [[LOCAL], [LOCAL] * 3], ids=["one listener", "three"])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_there_are_never_more_handlers_than_max_connections_and_waiting_clients_are_served_later(hosts, limit):
    most, served = MostHandlers(), []

    def handler(conn):
        served.append((yield Read(conn, 1)))
        yield Write(conn, b"!")
        yield Read(conn, 1)

    def main():
        server, listeners = yield from begun(
            lambda ready: serve(handler, hosts, 0, max_connections=limit, ready=ready), listeners=len(hosts)
        )
        clients = []
        for number in range(20):
            clients.append(client_of(listeners[number % len(hosts)].address))
            clients[-1].sendall(b"?")
        yield settled()
        assert len(served) == limit
        while clients:
            answered = [client for client in clients if has_answer(client)]
            assert len(answered) == min(limit, len(clients))
            for leaving in answered[: limit // 2 + 1]:  # some or all of them
                clients.remove(leaving)
                leaving.close()
            yield settled()
        assert len(served) == 20
        yield from stopped(server)

    run(main(), watch=[most])
    assert most.most == limit


def has_answer(client):
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


class Polls(Watcher):
    """Count the polls."""

    polls = 0

    def poll(self, timeout, events):
        self.polls += 1


def test_clients_that_wait_for_capacity_cause_no_polls(path):
    polls = Polls()

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, max_connections=1, ready=ready))
        clients = [client_of(path) for _ in range(50)]
        yield settled()
        before = polls.polls
        for _ in range(100):
            yield Sleep(1)
        assert polls.polls - before < 120, "waiting clients wake the server"
        assert len((yield Ask(handlers))) == 1
        for client in clients:
            client.close()
        yield from stopped(server)

    run(main(), watch=[polls])


def test_the_default_of_max_connections_is_bounded_by_the_limit_of_open_files(monkeypatch):
    for files, connections in [(None, 10_000), (100_000, 10_000), (1024, 960), (64, 1), (8, 1)]:
        monkeypatch.setattr(serving, "raise_open_file_limit", lambda files=files: files)
        assert serving.connection_limit(None) == connections


def test_a_limit_of_open_files_below_max_connections_is_logged(monkeypatch, said):
    monkeypatch.setattr(serving, "raise_open_file_limit", lambda: 1024)
    assert serving.connection_limit(960) == 960
    assert said() == []
    assert serving.connection_limit(1000) == 1000
    assert said() == [
        "max_connections is 1000, but this process may open only 1024 files: raise the limit (ulimit -Hn)"
    ]


# idle_timeout


def served(handler, talk, path, **options):
    """Serve one client that runs `talk(conn)` and then leaves; return (time, reason) of each cancellation."""
    cancellations = []

    def noting(conn):
        try:
            yield from handler(conn)
        except Cancelled as cancelled:
            cancellations.append(((yield Now()), cancelled.reason))
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(noting, path, ready=ready, **options))
        with (yield Connect(path)) as conn:
            yield from talk(conn)
        while (yield Ask(handlers)):
            yield
        yield from stopped(server)

    run(main())
    return cancellations


def says_nothing(conn):
    yield Sleep(10 * IDLE_SECONDS)


def writes_much(conn):
    yield Write(conn, BIG)


def test_a_handler_blocked_in_a_read_is_cancelled_after_the_idle_timeout_or_at_most_a_quarter_later(path, said):
    ((when, reason),) = served(echo, says_nothing, path, idle_timeout=IDLE_SECONDS)
    assert IDLE_SECONDS <= when <= 1.25 * IDLE_SECONDS + 0.01
    assert reason == "its connection was idle for 8 s"
    assert said() == ["noting-1 of a Unix peer: idle for 8 s"]


def test_a_handler_blocked_in_a_write_is_cancelled_after_the_idle_timeout(path, said):
    ((when, _),) = served(writes_much, says_nothing, path, idle_timeout=IDLE_SECONDS)
    assert IDLE_SECONDS <= when <= 1.25 * IDLE_SECONDS + 0.01
    assert said() == ["noting-1 of a Unix peer: idle for 8 s"]


def test_a_handler_that_sleeps_is_not_idle(path):
    def handler(conn):
        yield Sleep(5 * IDLE_SECONDS)

    assert served(handler, says_nothing, path, idle_timeout=IDLE_SECONDS) == []


def test_a_handler_that_has_closed_its_connection_is_not_idle(path):
    def handler(conn):
        conn.close()
        yield Sleep(5 * IDLE_SECONDS)

    assert served(handler, says_nothing, path, idle_timeout=IDLE_SECONDS) == []


def test_each_received_byte_restarts_the_idle_timeout(path):
    def talk(conn):
        for _ in range(10):
            yield Sleep(0.9 * IDLE_SECONDS)
            yield Write(conn, b"x")
        yield Sleep(10 * IDLE_SECONDS)

    ((when, _),) = served(echo, talk, path, idle_timeout=IDLE_SECONDS)
    assert 10 * IDLE_SECONDS <= when <= 9 * IDLE_SECONDS + 1.25 * IDLE_SECONDS + 0.1


def test_each_sent_byte_restarts_the_idle_timeout(path):
    def talk(conn):
        left = len(BIG)
        while left:
            yield Sleep(0.9 * IDLE_SECONDS)
            with (yield MoveOnAfter(0.001)):
                while left:
                    left -= len((yield Read(conn, min(left, 65536))))

    assert served(writes_much, talk, path, idle_timeout=IDLE_SECONDS) == []


def test_the_time_in_which_a_handler_works_is_not_idle_time(path):
    def handler(conn):
        for _ in range(5):
            yield Read(conn, 1)
            yield Sleep(2 * IDLE_SECONDS)
            yield Write(conn, b"!")

    def talk(conn):
        for _ in range(5):
            yield Write(conn, b"?")
            yield Read(conn, 1)
            yield Sleep(0.8 * IDLE_SECONDS)

    assert served(handler, talk, path, idle_timeout=IDLE_SECONDS) == []


def test_a_handler_that_only_reads_is_not_idle_while_its_child_writes(path):
    def writes(conn):
        for _ in range(10):
            yield Sleep(0.9 * IDLE_SECONDS)
            yield Write(conn, b"news")

    def handler(conn):
        yield Spawn(writes(conn), daemon=True)
        yield Read(conn, 1)

    def talk(conn):
        for _ in range(10):
            yield Read(conn, 4)
        yield Sleep(0.5 * IDLE_SECONDS)

    assert served(handler, talk, path, idle_timeout=IDLE_SECONDS) == []


@pytest.mark.parametrize("limit", [None, inf])
def test_without_an_idle_timeout_a_handler_waits_for_ever(limit, path):
    def talk(conn):
        yield Sleep(1e6)

    assert served(echo, talk, path, idle_timeout=limit) == []


def test_an_idle_handler_may_clean_up_and_is_cancelled_only_once(path, said):
    def handler(conn):
        try:
            yield Read(conn, 1)
        finally:
            with (yield Shield(None)):
                yield Sleep(3 * IDLE_SECONDS)

    assert len(served(handler, says_nothing, path, idle_timeout=IDLE_SECONDS)) == 1
    assert len(said()) == 1


# grace


def stop_with(path, grace, *seconds):
    """Stop a server whose handlers take `seconds` each to finish; return how long that took, and which finished."""
    finished = []

    def handler(conn):
        duration = seconds[(yield Read(conn, 1))[0]]
        yield Sleep(duration)
        finished.append(duration)

    def main():
        server, (listener,) = yield from begun(lambda ready: serve_unix(handler, path, grace=grace, ready=ready))
        clients = [client_of(path) for _ in seconds]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]))
        yield settled()
        start = yield Now()
        yield Cancel(server)
        yield settled()
        assert (listener.fileno(), os.path.exists(path)) == (-1, False), "a client could still connect"
        with pytest.raises(TaskCancelled):
            yield Join(server)
        for client in clients:
            client.close()
        return (yield Now()) - start

    return run(main()), finished


def test_handlers_that_finish_within_the_grace_period_are_not_cancelled_and_the_server_waits_no_longer(path, said):
    took, finished = stop_with(path, 5, 1, 2, 3)
    assert finished == [1, 2, 3]
    assert took == pytest.approx(3, abs=0.01)
    assert said() == []


def test_handlers_still_running_after_the_grace_period_are_cancelled_and_named(path, said):
    took, finished = stop_with(path, 5, 1, 30, 4, 60)
    assert finished == [1, 4]
    assert took == pytest.approx(5, abs=0.01)
    assert said() == [
        "the server has stopped; after 5 s of grace it cancelled 2 connections: "
        "handler-2 of a Unix peer, handler-4 of a Unix peer"
    ]


def test_at_most_five_cancelled_handlers_are_named(path, said):
    _ = stop_with(path, 5, *[60] * (CONNECTIONS_NAMED_IN_LOG + 3))
    (text,) = said()
    assert text.count("a Unix peer") == CONNECTIONS_NAMED_IN_LOG == 5
    assert text.endswith(" and 3 more")


def test_without_grace_all_handlers_are_cancelled_at_once(path, said):
    took, finished = stop_with(path, 0, 1, 2)
    assert finished == []
    assert took == pytest.approx(0, abs=0.01)
    assert "after 0 s of grace it cancelled 2 connections" in said()[0]


def test_with_unlimited_grace_no_handler_is_cancelled(path, said):
    took, finished = stop_with(path, None, 1, 1e5)
    assert finished == [1, 1e5]
    assert took == pytest.approx(1e5, abs=0.01)
    assert said() == []


def test_a_stopping_server_logs_how_many_connections_it_waits_for_and_how_long(path, caplog):
    _ = stop_with(path, 5, 1, 2)
    assert caplog.messages == ["the server stops; 2 connections may take 5 s to finish (a second signal stops at once)"]


def test_a_server_without_connections_stops_at_once_and_logs_nothing(path, caplog):
    took, _ = stop_with(path, None)
    assert took == pytest.approx(0, abs=0.01)
    assert caplog.messages == []


def test_the_default_grace_period_is_three_seconds(path, said):
    took, finished = stop_with(path, GRACE_SECONDS, 2, 4)
    assert finished == [2]
    assert took == GRACE_SECONDS == 3 == inspect.signature(serve).parameters["grace"].default
