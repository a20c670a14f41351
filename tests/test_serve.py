"""`serve` and `serve_unix`: handlers, their failures, and how a server stops."""

from __future__ import annotations

import logging
import os
import signal
import tempfile

import pytest
from helpers import Ask, Recording, no_file_is_left_open, open_numbers, open_wakeup, parked, run, until, watched  # noqa: F401

from minisched import (
    Cancel,
    Cancelled,
    ClosedError,
    Connect,
    Join,
    Listen,
    Read,
    Socket,
    Spawn,
    Syscall,
    SyscallError,
    TaskCancelled,
    Watcher,
    Write,
    serve,
    serve_unix,
)

LOCAL = ("127.0.0.1", 0)


@pytest.fixture
def path():
    """Return a short path, in a directory of its own, that does not exist."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


def echo(conn):
    while data := (yield Read(conn, 65536)):
        yield Write(conn, data)


async def echo_async(conn):
    while data := await Read(conn, 65536):
        await Write(conn, data)


def started(handler, *, path=None, **keywords):
    """Start a server; return its task and its listener."""
    ready = []
    if path is None:
        body = serve(handler, *LOCAL, ready=ready.append, **keywords)
    else:
        body = serve_unix(handler, path, ready=ready.append, **keywords)
    server = yield Spawn(body, "server", keep=True)
    yield from until(lambda: ready)
    return server, ready[0]


def stopped(server):
    """Stop a server; wait for its end."""
    yield Cancel(server)
    with pytest.raises(TaskCancelled):
        yield Join(server)


def ask_server(address, words):
    """Send each word to a server; return the answers."""
    answers = []
    with (yield Connect(address)) as conn:
        for word in words:
            yield Write(conn, word)
            answers.append((yield Read(conn, 100)))
    return answers


def task_names():
    return Ask(lambda kernel: [task.name for task in kernel.tasks()])


def until_no_handlers(server):
    """Run the other tasks until the server has no handlers."""
    while any("-" in name for name in (yield task_names())) or server.state != "parked":
        yield


@pytest.mark.parametrize("handler", [echo, echo_async])
def test_a_handler_is_a_generator_function_or_an_async_def(handler):
    def main():
        server, listener = yield from started(handler)
        assert listener.address[1] != 0
        answers = yield from ask_server(listener.address, [b"one", b"two"])
        yield from stopped(server)
        return answers

    assert run(main()) == [b"one", b"two"]


@pytest.mark.parametrize("handler", [echo, echo_async])
def test_a_unix_path_is_served_and_removed_at_the_end(handler, path):
    def main():
        server, listener = yield from started(handler, path=path)
        assert listener.address == path
        answers = yield from ask_server(path, [b"one", b"two"])
        yield from stopped(server)
        assert not os.path.exists(path)
        return answers

    assert run(main()) == [b"one", b"two"]


def test_serve_can_be_spawned_and_a_handler_can_end_the_program(path):
    def stop(conn):
        yield Read(conn, 100)
        raise SystemExit(3)

    def main():
        yield Spawn(serve_unix(stop, path))
        yield from until(lambda: os.path.exists(path))
        yield from ask_server(path, [b"stop"])

    with pytest.raises(SystemExit, match="3"):
        run(main())
    assert not os.path.exists(path)


def test_connections_are_served_concurrently():
    def main():
        server, listener = yield from started(echo)
        conns = []
        for _ in range(10):
            conns.append((yield Connect(listener.address)))
        for number, conn in enumerate(conns):
            yield Write(conn, b"%d" % number)
        answers = []
        for conn in reversed(conns):
            answers.append((yield Read(conn, 100)))
            conn.close()
        yield from stopped(server)
        return answers

    assert run(main()) == [b"%d" % number for number in reversed(range(10))]


def test_a_failing_handler_is_logged_and_its_connection_closed_and_the_others_go_on(caplog):
    def handler(conn):
        data = yield Read(conn, 100)
        if data == b"fail":
            raise ZeroDivisionError("on purpose")
        yield Write(conn, data)
        yield Read(conn, 100)

    def main():
        server, listener = yield from started(handler)
        with (yield Connect(listener.address)) as good:
            with (yield Connect(listener.address)) as bad:
                peer = bad.address
                yield Write(bad, b"fail")
                assert (yield Read(bad, 100)) == b""
            yield Write(good, b"fine")
            assert (yield Read(good, 100)) == b"fine"
        yield from until_no_handlers(server)
        yield from stopped(server)
        return peer

    caplog.set_level(logging.INFO, "minisched")
    peer = run(main())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("minisched", "ERROR")
    assert record.getMessage() == f"handler-2 of {peer[0]}:{peer[1]} failed"
    assert repr(record.exc_info[1]) == "ZeroDivisionError('on purpose')"


def test_a_handler_that_returns_no_generator_is_logged(caplog, path):
    class Nothing:
        def __call__(self, conn):
            return None

    def main():
        server, _ = yield from started(Nothing(), path=path)
        with (yield Connect(path)) as conn:
            assert (yield Read(conn, 100)) == b""
        yield from stopped(server)

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["handler-1 of a Unix peer failed"]


def test_a_connection_reset_by_the_peer_is_logged_as_one_line_of_information(caplog):
    def handler(conn):
        yield Read(conn, 100)
        raise ConnectionResetError("Connection reset by peer")

    def main():
        server, listener = yield from started(handler)
        with (yield Connect(listener.address)) as conn:
            peer = conn.address
            yield Write(conn, b"x")
            assert (yield Read(conn, 100)) == b""
        yield from stopped(server)
        return peer

    caplog.set_level(logging.INFO, "minisched")
    peer = run(main())
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage() == f"handler-1 of {peer[0]}:{peer[1]}: Connection reset by peer"


def test_cancelling_a_server_closes_its_listener_and_its_connections():
    ended = []

    def handler(conn):
        try:
            yield Write(conn, b"hello")
            yield Read(conn, 100)
        except Cancelled:
            ended.append(conn.fileno() >= 0)  # still open: a handler can clean up
            raise

    def main():
        yield Ask(open_wakeup)
        before = open_numbers()
        server, listener = yield from started(handler)
        address = listener.address
        conns = []
        for _ in range(3):
            conns.append((yield Connect(address)))
            assert (yield Read(conns[-1], 100)) == b"hello"
        yield from stopped(server)
        assert listener.fileno() < 0
        assert ended == [True] * 3
        for conn in conns:
            assert (yield Read(conn, 100)) == b""
            conn.close()
        with pytest.raises(ConnectionRefusedError):
            yield Connect(address)
        assert open_numbers() == before
        assert (yield Ask(watched)) == []
        return (yield task_names())

    assert run(main()) == ["main"]


def test_a_connection_accepted_in_the_turn_of_the_cancellation_is_served_and_closed():
    class CancelAsItAccepts(Watcher):
        server = None

        def wake(self, task, by):
            if task is self.server:
                task.kernel.cancel(task, "as it accepts")

    watcher = CancelAsItAccepts()

    def main():
        server, listener = yield from started(echo, grace=0)
        yield from parked(server)
        watcher.server = server
        with (yield Connect(listener.address)) as conn:
            with pytest.raises(TaskCancelled, match="as it accepts"):
                yield Join(server)
            assert (yield Read(conn, 100)) == b""

    run(main(), watch=[watcher])


def test_a_listener_that_is_closed_ends_its_server():
    def main():
        server, listener = yield from started(echo)
        yield from parked(server)
        listener.close()
        with pytest.raises(ClosedError):
            yield Join(server)

    run(main())


def test_a_port_in_use_is_the_servers_failure():
    def main():
        with (yield Listen(LOCAL)) as listener:
            yield from serve(echo, *listener.address)

    with pytest.raises(OSError, match="Address already in use"):
        run(main())


def test_an_error_in_ready_closes_the_listener(path):
    def refuse(listener):
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        run(serve_unix(echo, path, ready=refuse))
    assert not os.path.exists(path)


def test_two_hundred_connections_in_a_row_leave_nothing_behind():
    def main():
        server, listener = yield from started(echo)
        yield from ask_server(listener.address, [b"first"])
        yield from until_no_handlers(server)
        before = open_numbers(), (yield Ask(watched)), (yield task_names())
        for number in range(200):
            word = b"%d" % number
            assert (yield from ask_server(listener.address, [word])) == [word]
        yield from until_no_handlers(server)
        assert (open_numbers(), (yield Ask(watched)), (yield task_names())) == before
        yield from stopped(server)

    run(main())


def test_handlers_are_named_and_numbered():
    def main():
        server, listener = yield from started(echo, backlog=5)
        with (yield Connect(listener.address)) as one, (yield Connect(listener.address)) as two:
            for conn in (one, two):
                yield Write(conn, b"x")
                yield Read(conn, 100)
            names = yield task_names()
        yield from stopped(server)
        return names

    assert run(main()) == ["main", "server", "connections", "idle monitor", "echo-1", "echo-2"]


def test_a_failing_child_of_a_handler_fails_the_handler_and_not_the_server(caplog):
    def child():
        yield
        raise ZeroDivisionError("in a child")

    def handler(conn):
        yield Spawn(child())
        yield Read(conn, 1)

    def main():
        server, listener = yield from started(handler)
        for _ in range(2):
            with (yield Connect(listener.address)) as conn:
                assert (yield Read(conn, 1)) == b""
        yield from stopped(server)

    run(main())
    assert [record.exc_info[0] for record in caplog.records] == [ExceptionGroup] * 2


def test_a_connection_is_closed_after_the_handlers_children_have_ended():
    def child(conn):
        yield Write(conn, (yield Read(conn, 100)).upper())

    def handler(conn):
        yield Spawn(child(conn))

    def main():
        server, listener = yield from started(handler)
        with (yield Connect(listener.address)) as conn:
            yield Write(conn, b"late")
            assert (yield Read(conn, 100)) == b"LATE"
            assert (yield Read(conn, 100)) == b""
        yield from stopped(server)

    run(main())


def test_an_aborted_run_closes_its_connections():
    class BreaksARule(Syscall[None]):
        __slots__ = ()

        def handle(self, kernel, task):
            kernel.resume(task)

    kept = []

    def handler(conn):
        kept.append(conn)
        yield Read(conn, 1)

    def main():
        _, listener = yield from started(handler)
        with (yield Connect(listener.address)):
            yield from until(lambda: kept)
            yield BreaksARule()

    with pytest.raises(SyscallError, match="was woken while it is running"):
        run(main())
    assert kept[0].fileno() == -1


def test_a_connection_aborted_before_its_accept_does_not_stop_the_server(monkeypatch):
    accept, aborted = Socket.try_accept, []

    def abort_first(listener):
        conn = accept(listener)
        if not aborted:
            aborted.append(conn.close())
            raise ConnectionAbortedError("gone")
        return conn

    monkeypatch.setattr(Socket, "try_accept", abort_first)

    def main():
        server, listener = yield from started(echo)
        with (yield Connect(listener.address)), (yield Connect(listener.address)) as conn:
            yield Write(conn, b"x")
            assert (yield Read(conn, 1)) == b"x"
        yield from stopped(server)

    run(main())
    assert aborted


def test_sigterm_stops_a_server_and_its_old_handler_is_restored(path):
    log = []

    def handler(conn):
        try:
            yield Read(conn, 1)
        finally:
            log.append("cleanup")

    def main():
        _, listener = yield from started(handler, path=path)
        with (yield Connect(listener.address)) as conn:
            yield Write(conn, b"")
            yield from until(lambda: signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            yield Read(conn, 1)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert (caught.value.code, log, os.path.exists(path)) == (143, ["cleanup"], False)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "reset"),
        OSError(110, "timed out"),
        ExceptionGroup("a", [ExceptionGroup("b", [ConnectionResetError(104, "reset")])]),
    ],
    ids=["a reset", "a timeout", "a reset in nested groups"],
)
def test_a_lost_connection_is_logged_as_one_line_whichever_error_reports_it(error, path, caplog):
    def handler(conn):
        yield
        raise error

    def main():
        server, _ = yield from started(handler, path=path)
        with (yield Connect(path)) as conn:
            assert (yield Read(conn, 1)) == b""
        yield from stopped(server)

    caplog.set_level(logging.INFO, "minisched")
    run(main())
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)
