"""The limits of a server, each in virtual time: how many, how long, and what it does at their bounds."""

from __future__ import annotations

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
from minisched.server import FEW

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"
LIMIT = 8.0  # seconds that a wait may bring nothing
BIG = bytes(4_000_000)  # more than any socket holds


# How many


class Most(Watcher):
    """Remembers how many handlers there were at most."""

    most = 0

    def start(self, kernel):
        self.kernel = kernel

    def turn(self, task):
        self.most = max(self.most, len(handlers(self.kernel)))


@pytest.mark.parametrize("hosts", [[LOCAL], [LOCAL] * 3], ids=["one listener", "three"])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_there_are_never_more_handlers_than_allowed_and_who_waits_is_served_later(hosts, limit):
    most, served = Most(), []

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
            here = [client for client in clients if answered(client)]
            assert len(here) == min(limit, len(clients))
            for leaves in here[: limit // 2 + 1]:  # some or all of them
                clients.remove(leaves)
                leaves.close()
            yield settled()
        assert len(served) == 20
        yield from stopped(server)

    run(main(), watch=[most])
    assert most.most == limit


def answered(client):
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


class Polls(Watcher):
    """Counts the looks at files."""

    polls = 0

    def poll(self, timeout, events):
        self.polls += 1


def test_who_waits_for_room_makes_no_work(path):
    polls = Polls()

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, max_connections=1, ready=ready))
        clients = [client_of(path) for _ in range(50)]
        yield settled()
        before = polls.polls
        for _ in range(100):
            yield Sleep(1)
        assert polls.polls - before < 120, "it was woken for those that wait"
        assert len((yield Ask(handlers))) == 1
        for client in clients:
            client.close()
        yield from stopped(server)

    run(main(), watch=[polls])


def test_the_limit_is_the_number_of_files_where_that_is_less(monkeypatch):
    from minisched import server

    for files, connections in [(None, 10_000), (100_000, 10_000), (1024, 960), (64, 1), (8, 1)]:
        monkeypatch.setattr(server, "allowed_files", lambda files=files: files)
        assert server.allowed_connections(None) == connections


def test_a_limit_of_files_that_is_too_low_is_said(monkeypatch, said):
    from minisched import server

    monkeypatch.setattr(server, "allowed_files", lambda: 1024)
    assert server.allowed_connections(960) == 960
    assert said() == []
    assert server.allowed_connections(1000) == 1000
    assert said() == [
        "max_connections is 1000, but this process may open only 1024 files: raise the limit (ulimit -Hn)"
    ]


# How long without anything


def served(handler, talk, path, **options):
    """Serve one client, which `talk(sock)` is, and which leaves when that ends; return when the handler was cut."""
    cut = []

    def noting(conn):
        try:
            yield from handler(conn)
        except Cancelled as cancelled:
            cut.append(((yield Now()), cancelled.reason))
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(noting, path, ready=ready, **options))
        with (yield Connect(path)) as conn:
            yield from talk(conn)
        while (yield Ask(handlers)):
            yield
        yield from stopped(server)

    run(main())
    return cut


def says_nothing(conn):
    yield Sleep(10 * LIMIT)


def writes_much(conn):
    yield Write(conn, BIG)


def test_a_handler_that_reads_in_vain_is_cut_when_its_time_is_over_or_a_quarter_later(path, said):
    ((when, reason),) = served(echo, says_nothing, path, idle_timeout=LIMIT)
    assert LIMIT <= when <= 1.25 * LIMIT + 0.01
    assert reason == "its connection was idle for 8 s"
    assert said() == ["noting-1 of a Unix peer: idle for 8 s"]


def test_a_handler_that_writes_to_a_peer_that_does_not_read_is_cut(path, said):
    ((when, _),) = served(writes_much, says_nothing, path, idle_timeout=LIMIT)
    assert LIMIT <= when <= 1.25 * LIMIT + 0.01
    assert said() == ["noting-1 of a Unix peer: idle for 8 s"]


def test_a_handler_that_sleeps_is_not_idle(path):
    def handler(conn):
        yield Sleep(5 * LIMIT)

    assert served(handler, says_nothing, path, idle_timeout=LIMIT) == []


def test_a_handler_that_has_closed_its_connection_is_not_idle(path):
    def handler(conn):
        conn.close()
        yield Sleep(5 * LIMIT)

    assert served(handler, says_nothing, path, idle_timeout=LIMIT) == []


def test_each_byte_that_comes_starts_the_count_again(path):
    def talk(conn):
        for _ in range(10):
            yield Sleep(0.9 * LIMIT)
            yield Write(conn, b"x")
        yield Sleep(10 * LIMIT)

    ((when, _),) = served(echo, talk, path, idle_timeout=LIMIT)
    assert 10 * LIMIT <= when <= 9 * LIMIT + 1.25 * LIMIT + 0.1


def test_each_byte_that_goes_starts_the_count_again(path):
    def talk(conn):
        left = len(BIG)
        while left:
            yield Sleep(0.9 * LIMIT)
            with (yield MoveOnAfter(0.001)):
                while left:
                    left -= len((yield Read(conn, min(left, 65536))))

    assert served(writes_much, talk, path, idle_timeout=LIMIT) == []


def test_an_answer_that_takes_a_while_starts_the_count_again(path):
    def handler(conn):
        for _ in range(5):
            yield Read(conn, 1)
            yield Sleep(2 * LIMIT)
            yield Write(conn, b"!")

    def talk(conn):
        for _ in range(5):
            yield Write(conn, b"?")
            yield Read(conn, 1)
            yield Sleep(0.8 * LIMIT)

    assert served(handler, talk, path, idle_timeout=LIMIT) == []


def test_who_only_listens_is_not_idle_as_long_as_it_is_written_to(path):
    def writes(conn):
        for _ in range(10):
            yield Sleep(0.9 * LIMIT)
            yield Write(conn, b"news")

    def handler(conn):
        yield Spawn(writes(conn), daemon=True)
        yield Read(conn, 1)

    def talk(conn):
        for _ in range(10):
            yield Read(conn, 4)
        yield Sleep(0.5 * LIMIT)

    assert served(handler, talk, path, idle_timeout=LIMIT) == []


@pytest.mark.parametrize("limit", [None, inf])
def test_without_an_idle_timeout_a_handler_waits_for_ever(limit, path):
    def talk(conn):
        yield Sleep(1e6)

    assert served(echo, talk, path, idle_timeout=limit) == []


def test_who_was_idle_may_clean_up_and_is_not_told_twice(path, said):
    def handler(conn):
        try:
            yield Read(conn, 1)
        finally:
            with (yield Shield(None)):
                yield Sleep(3 * LIMIT)

    assert len(served(handler, says_nothing, path, idle_timeout=LIMIT)) == 1
    assert len(said()) == 1


# How long after the end


def stop_with(path, grace, *seconds):
    """Stop a server, each of whose handlers takes so many seconds to end; return when it had stopped, and who ended."""
    ended = []

    def handler(conn):
        mine = seconds[(yield Read(conn, 1))[0]]
        yield Sleep(mine)
        ended.append(mine)

    def main():
        server, (listener,) = yield from begun(lambda ready: serve_unix(handler, path, grace=grace, ready=ready))
        clients = [client_of(path) for _ in seconds]
        for number, client in enumerate(clients):
            client.sendall(bytes([number]))
        yield settled()
        start = yield Now()
        yield Cancel(server)
        yield settled()
        assert (listener.fileno(), os.path.exists(path)) == (-1, False), "somebody could still connect"
        with pytest.raises(TaskCancelled):
            yield Join(server)
        for client in clients:
            client.close()
        return (yield Now()) - start

    return run(main()), ended


def test_handlers_that_end_within_the_grace_are_not_cut_and_nothing_waits_for_longer(path, said):
    took, ended = stop_with(path, 5, 1, 2, 3)
    assert ended == [1, 2, 3]
    assert took == pytest.approx(3, abs=0.01)
    assert said() == []


def test_who_has_not_ended_by_then_is_cut_and_named(path, said):
    took, ended = stop_with(path, 5, 1, 30, 4, 60)
    assert ended == [1, 4]
    assert took == pytest.approx(5, abs=0.01)
    assert said() == [
        "the server has stopped; after 5 s of grace it cut 2 connections: "
        "handler-2 of a Unix peer, handler-4 of a Unix peer"
    ]


def test_no_more_than_a_few_are_named(path, said):
    _ = stop_with(path, 5, *[60] * (FEW + 3))
    (text,) = said()
    assert text.count("a Unix peer") == FEW
    assert text.endswith(" and 3 more")


def test_without_grace_all_are_cut_at_once(path, said):
    took, ended = stop_with(path, 0, 1, 2)
    assert ended == []
    assert took == pytest.approx(0, abs=0.01)
    assert "after 0 s of grace it cut 2 connections" in said()[0]


def test_with_grace_for_ever_nobody_is_cut(path, said):
    took, ended = stop_with(path, None, 1, 1e5)
    assert ended == [1, 1e5]
    assert took == pytest.approx(1e5, abs=0.01)
    assert said() == []


def test_that_a_server_waits_is_said_with_how_many_and_how_long(path, caplog):
    _ = stop_with(path, 5, 1, 2)
    assert caplog.messages == ["the server stops; 2 connections may take 5 s to end (a second signal stops at once)"]


def test_a_server_that_serves_nobody_stops_at_once_and_says_nothing(path, caplog):
    took, _ = stop_with(path, None)
    assert took == pytest.approx(0, abs=0.01)
    assert caplog.messages == []
