"""Servers: faults that others reported and that load found, and their siblings. One failure never ends the others."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from math import inf

import pytest
import servers
from helpers import Ask, no_file_is_left_open, run, until  # noqa: F401
from servers import begun, client_of, echo, handlers, received, reset, settled, stopped

import minisched
from minisched import (
    Cancel,
    Cancelled,
    Connect,
    FileOperation,
    Join,
    Listen,
    Read,
    Shield,
    Sleep,
    Socket,
    Spawn,
    TaskCancelled,
    WaitReadable,
    WaitSignal,
    WaitWritable,
    Write,
    serve,
    serve_listeners,
    serve_unix,
    server_status,
)
from minisched.serving import connections as connections_module
from minisched.serving import log as log_module
from minisched.serving.connections import ACCEPT_BATCH_CONNECTIONS, PAUSE_SECONDS, connection_limit
from minisched.serving.log import MAX_KINDS, REPEAT_SECONDS, TRACEBACKS_PER_KIND, FailureCounts, describe_failure, log

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"
IDLE_SECONDS = 8.0
LOGGER = logging.getLogger("minisched")


def is_served(address):
    """Assert that a server answers at an address."""
    with client_of(address) as client:
        client.sendall(b"still there?")
        yield settled()
        assert received(client, 12) == b"still there?"


def words(actions):
    """Return a handler that reads a word and calls the action of that name; it echoes any other word."""

    def handler(conn):
        while data := (yield Read(conn, 100)):
            result = actions.get(data.decode(), lambda conn: None)(conn)
            if result is not None:
                yield from result
            yield Write(conn, data)

    return handler


def bystander(path, *actions):
    """Let one client after the other cause its action, beside a client that is served before and after each."""

    def main(handler):
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, ready=ready))
        with client_of(path) as other:
            for word in actions:
                with client_of(path) as client:
                    client.sendall(word.encode())
                    yield settled()
                other.sendall(b"still there?")
                yield settled()
                assert received(other, 12) == b"still there?", word
            yield from is_served(path)
        yield settled()
        assert (yield Ask(handlers)) == []
        yield from stopped(server)

    return main


class Raises(logging.Handler):
    """A log handler with a bug: those of the standard library catch their errors, and many others do not."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.records = []

    def emit(self, record):
        self.records.append(record)
        raise self.error


@pytest.fixture
def broken_log():
    """Return a function that gives the logger a handler, or a filter, that raises."""
    added = []

    def add(error, as_filter=False):
        handler = Raises(error)
        if as_filter:
            LOGGER.addFilter(handler.emit)
        else:
            LOGGER.addHandler(handler)
        added.append(handler)
        return handler

    yield add
    for handler in added:
        LOGGER.removeHandler(handler)
        LOGGER.filters.clear()


# A listener or a connection that cannot be closed.


class Unclosable(OSError):
    pass


def unclosable(monkeypatch):
    """Let each close of a listener close it, and then raise an OSError."""
    close = Socket.close

    def raising(sock):
        is_listener = sock.fileno() >= 0 and sock.peer is None
        close(sock)
        if is_listener:
            raise Unclosable(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Socket, "close", raising)


@pytest.mark.parametrize("number", [1, 3])
def test_a_listener_that_cannot_be_closed_does_not_keep_its_server_from_stopping(number, monkeypatch, caplog):
    """world 1, load-faults F1: a Unix path that can't be removed: the server never stops."""
    unclosable(monkeypatch)

    def main():
        server, listeners = yield from begun(
            lambda ready: serve(echo, [LOCAL] * number, 0, ready=ready), listeners=number
        )
        with client_of(listeners[0].address):
            yield settled()
            yield from stopped(server)
        assert [listener.fileno() for listener in listeners] == [-1] * number

    run(main())
    failures = [text for text in caplog.messages if "closing a listener failed" in text]
    assert failures == ["closing a listener failed: [Errno 13] Permission denied"] * number


def test_a_server_without_the_right_to_remove_its_path_ends_at_one_signal(path):
    """world 1, load-faults F1: the same with a real directory, which is replaced by a file while the server runs."""
    folder = os.path.join(os.path.dirname(path), "folder")
    os.mkdir(folder)
    moved = folder + ".moved"

    def ready(listener):
        os.rename(folder, moved)
        with open(folder, "w"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        minisched.run(serve_unix(echo, os.path.join(folder, "s"), ready=ready))
    assert caught.value.code == 143


def test_a_listener_whose_descriptor_was_closed_elsewhere_does_not_keep_its_server_from_stopping(caplog):
    """world 44: os.close(listener.fileno()) while the server runs; neither Cancel nor SIGTERM ended it."""

    def main():
        server, (listener,) = yield from begun(lambda ready: serve(echo, LOCAL, 0, ready=ready))
        yield settled()
        os.close(listener.fileno())
        yield from stopped(server)

    run(main())
    assert any("Bad file descriptor" in text for text in caplog.messages)


def test_a_connection_whose_descriptor_was_closed_elsewhere_is_logged_and_the_others_go_on(path, said):
    """world 44: a second owner closes the number of a connection, and its handler returns: the run ended with EBADF."""

    def close_twice(conn):
        socket.socket(fileno=conn.fileno()).close()
        return iter(())

    def handler(conn):
        data = yield Read(conn, 100)
        if data == b"bad":
            close_twice(conn)
            return
        yield Write(conn, data)
        yield from words({})(conn)

    run(bystander(path, "bad", "bad")(handler))
    assert said() == [
        f"handler-{number} of a Unix peer: closing its connection failed: [Errno 9] Bad file descriptor"
        for number in (2, 3)
    ]


def test_a_close_that_fails_frees_the_place_of_its_connection(path, monkeypatch, said):
    """world 44, its sibling: with max_connections, a close that raised left the next client waiting for ever."""
    close = Socket.close

    def raising(sock):
        close(sock)
        if sock.peer is not None:
            raise RuntimeError("not an OSError")

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, max_connections=1, ready=ready))
        monkeypatch.setattr(Socket, "close", raising)
        for _ in range(3):
            yield from is_served(path)
        monkeypatch.undo()
        yield settled()
        yield from stopped(server)

    run(main())
    assert len(said()) >= 2


# Activity and idleness.


def idle_cancellations(handler, talk, path):
    """Serve one client, with an idle timeout; return how often a handler was cancelled."""
    cancelled = []

    def noting(conn):
        try:
            yield from handler(conn)
        except Cancelled:
            cancelled.append(conn)
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(noting, path, idle_timeout=IDLE_SECONDS, ready=ready))
        with (yield Connect(path)) as conn:
            yield from talk(conn)
        yield settled()
        yield from stopped(server)

    run(main())
    return len(cancelled)


def slowly(conn):
    """Read a little, again and again, with pauses that are shorter than the idle timeout."""
    for _ in range(40):
        yield Sleep(0.5 * IDLE_SECONDS)
        try:
            yield Read(conn, 500_000)
        except ConnectionError:
            return


def by_wait_writable(conn):
    while True:
        try:
            while True:
                socket.socket.send(conn, bytes(65536))
        except BlockingIOError:
            yield WaitWritable(conn)
        except BrokenPipeError:
            return


def by_wait_readable(conn):
    while True:
        yield WaitReadable(conn)
        if not conn.try_read(100):
            return


class Receive(FileOperation):
    """A Read of a program's own."""

    def __init__(self, sock):
        self.file = sock

    def try_once(self, sock):
        return sock.try_read(100)


def by_an_operation_of_its_own(conn):
    while (yield Receive(conn)):
        pass


class Wrapped:
    """A file-like around a connection, with a state of its own, as for TLS."""

    def __init__(self, sock):
        self.sock = sock
        self.file_state = minisched.io.filelike.FileState()
        self.try_read = sock.try_read
        self.try_write = sock.try_write
        self.watch = sock.watch
        self.unwatch = sock.unwatch
        self.close = sock.close


def by_a_file_like_of_its_own(conn):
    wrapped = Wrapped(conn)
    while (yield Read(wrapped, 100)):
        pass


def says_a_word_now_and_then(conn):
    for _ in range(20):
        yield Sleep(0.5 * IDLE_SECONDS)
        yield Write(conn, b"x")


@pytest.mark.parametrize(
    ("handler", "talk"),
    [
        (by_wait_writable, slowly),
        (by_wait_readable, says_a_word_now_and_then),
        (by_an_operation_of_its_own, says_a_word_now_and_then),
        (by_a_file_like_of_its_own, says_a_word_now_and_then),
    ],
    ids=["WaitWritable", "WaitReadable", "FileOperation", "a file-like"],
)
def test_a_transfer_by_calls_of_a_programs_own_is_not_idle(handler, talk, path):
    """world 3: sendfile and WaitWritable, or WaitReadable and try_read: cut as idle though bytes move all the time."""
    assert idle_cancellations(handler, talk, path) == 0


@pytest.mark.parametrize(
    "handler", [by_wait_readable, by_an_operation_of_its_own, by_a_file_like_of_its_own, by_wait_writable]
)
def test_a_handler_with_calls_of_its_own_is_idle_when_no_byte_moves(handler, path):
    """world 3, in reverse: the same handlers are cancelled when the peer says and reads nothing."""

    def says_nothing(conn):
        yield Sleep(3 * IDLE_SECONDS)

    assert idle_cancellations(handler, says_nothing, path) == 1


class Jumping(minisched.testing.VirtualClock):
    """A virtual clock that can jump, as the time of a process that was stopped."""


def stopped_for(path, seconds, times, talks):
    """Let the time of a server pass at once, some times; return whether its client was cut off."""
    clock = Jumping()
    cancelled = []

    def handler(conn):
        try:
            while (yield Read(conn, 100)):
                pass
        except Cancelled:
            cancelled.append(True)
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, idle_timeout=IDLE_SECONDS, ready=ready))
        with client_of(path) as client:
            for _ in range(times):
                yield Sleep(0.3 * IDLE_SECONDS)
                clock.time += seconds
                if talks:
                    client.sendall(b"x")  # these bytes arrive while the process is stopped
            yield Sleep(0.01)
        yield settled()
        yield from stopped(server)

    run(main(), clock=clock)
    return bool(cancelled)


@pytest.mark.parametrize("gap", [2, 10, 1000])
def test_the_time_in_which_a_server_is_stopped_does_not_count_as_idle(gap, path):
    """load-faults F12, world 34: after SIGSTOP for 4 s, with idle_timeout 2, all idle clients were cut at once."""
    assert not stopped_for(path, gap * IDLE_SECONDS, times=1, talks=False)


def test_bytes_that_arrive_while_a_server_is_stopped_are_seen_before_it_looks_for_idle_connections(path):
    """world 34, load-faults F12: stopped again and again, with a client that talks meanwhile."""
    assert not stopped_for(path, 2 * IDLE_SECONDS, times=30, talks=True)


def test_a_handler_that_computes_for_long_makes_no_other_connection_idle(path):
    """load-faults F12: a handler that computes for longer than the idle timeout, while clients of others wrote."""
    clock, served = Jumping(), []

    def handler(conn):
        while data := (yield Read(conn, 100)):
            served.append(data)
            if data == b"compute":
                clock.time += 10 * IDLE_SECONDS

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, idle_timeout=IDLE_SECONDS, ready=ready))
        with client_of(path) as computing, client_of(path) as talking:
            yield Sleep(0.95 * IDLE_SECONDS)
            computing.sendall(b"compute")
            talking.sendall(b"one")
            yield Sleep(0.01)
            talking.sendall(b"two")
            yield settled()
        yield from stopped(server)

    run(main(), clock=clock)
    assert served[-1] == b"two"


# Exceptions of handlers.


class Odd(BaseException):
    pass


def raised_by_a_server(path, error):
    """Serve two clients; the handler of one raises `error`. Return what the server raises."""
    cancelled = []

    def raises(conn):
        try:
            if (yield Read(conn, 100)) == b"raise":
                raise error
            yield Sleep(inf)
        except Cancelled:
            cancelled.append(True)
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(raises, path, ready=ready))
        with client_of(path) as other, client_of(path) as client:
            other.sendall(b"other")
            yield settled()
            client.sendall(b"raise")
            return (yield from outcome_of(server))

    raised = run(main())
    assert cancelled == [True]
    assert not os.path.exists(path)
    return raised


def outcome_of(task):
    """Return what a task raises."""
    try:
        yield Join(task)
    except BaseException as raised:
        return raised


def errors_in(error):
    """Return the errors in nested groups."""
    return (
        [leaf for member in error.exceptions for leaf in errors_in(member)] if hasattr(error, "exceptions") else [error]
    )


@pytest.mark.parametrize(
    "error",
    [Odd("this is why"), GeneratorExit("this is why"), BaseExceptionGroup("a", [Odd("this is why")])],
    ids=["a BaseException", "GeneratorExit", "a group"],
)
def test_an_exception_of_a_handler_that_is_not_an_exception_is_in_the_group_that_the_server_raises(error, path):
    """world 4, load-faults F9: the exception of a handler was nowhere, in its place "a scope was left out of order"."""
    assert [str(leaf) for leaf in errors_in(raised_by_a_server(path, error))] == ["this is why"]


def test_such_an_exception_of_the_call_of_a_handler_is_raised_and_its_connection_closed(path):
    """world 4, its sibling: the handler is an ordinary function, and its call raises."""

    def raises(conn):
        raise Odd("this is why")

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(raises, path, ready=ready))
        with client_of(path):
            return (yield from outcome_of(server))

    assert [str(leaf) for leaf in errors_in(run(main()))] == ["this is why"]


def test_such_an_exception_while_the_server_stops_is_raised_too(path):
    """world 4, its sibling: the handler raises in its grace period."""

    def handler(conn):
        yield Sleep(1)
        raise Odd("late")

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, ready=ready))
        with client_of(path):
            yield Sleep(0.5)
            yield Cancel(server)
            with pytest.raises(BaseExceptionGroup) as caught:
                yield Join(server)
        return errors_in(caught.value)

    assert [str(leaf) for leaf in run(main())] == ["late"]


def nested(error, levels):
    for number in range(levels):
        error = ExceptionGroup(f"level {number}", [error])
    return error


def property_that_raises(self):
    raise RuntimeError("a property of the program's own")


def raises_odd(*_):
    raise Odd("from a method of an exception")


BAD = property(property_that_raises)


class BadText(Exception):
    __str__ = __repr__ = property_that_raises


class BadRuntimeError(RuntimeError):
    __str__ = BAD
    add_note = BAD


class WorseText(Exception):
    __str__ = __repr__ = raises_odd


class BadErrno(OSError):
    errno = BAD


class WorseErrno(OSError):
    errno = property(raises_odd)


class BadNotes(Exception):
    __notes__ = BAD


class BadTraceback(Exception):
    def with_traceback(self, trace):
        raise RuntimeError("no traceback for you")


class BadDerive(ExceptionGroup):
    def derive(self, excs):
        raise RuntimeError("no derived group")


class BadMembers(ExceptionGroup):
    exceptions = BAD


class BadCause(Exception):
    __cause__ = BAD


class BadContext(Exception):
    __context__ = BAD


class BadClass(Exception):
    __class__ = BAD


def a_child_that_fails(depth):
    if depth == 0:
        raise ValueError("deepest")
    yield Spawn(a_child_that_fails(depth - 1))
    yield Sleep(inf)


def in_children(depth):
    yield from a_child_that_fails(depth)


def leaves_a_cancelled_group(make):
    """End cancelled, with a group that has the Cancelled and another error in it."""
    yield Spawn(a_child_that_fails(0))
    try:
        yield Sleep(inf)
    except Cancelled:
        raise make("a", [ExceptionGroup("b", [ValueError("c")])]) from None


def raising(error):
    def action(conn):
        raise error()
        yield

    return action


ODDITIES = {
    "deep": raising(lambda: nested(ValueError("deepest"), 5000)),
    "deep and lost": raising(lambda: nested(ConnectionResetError("deepest"), 5000)),
    "children": lambda conn: in_children(600),
    "text": raising(lambda: BadText("a")),
    "runtime error": raising(lambda: BadRuntimeError("a")),
    "worse text": raising(lambda: WorseText("a")),
    "errno": raising(lambda: BadErrno(5, "a")),
    "worse errno": raising(lambda: WorseErrno(5, "a")),
    "notes": raising(lambda: BadNotes("a")),
    "traceback": raising(lambda: BadTraceback("a")),
    "members": raising(lambda: BadMembers("a", [ValueError("b")])),
    "cause": raising(lambda: BadCause("a")),
    "context": raising(lambda: BadContext("a")),
    "class": raising(lambda: BadClass("a")),
    "class in a group": raising(lambda: nested(BadClass("a"), 2)),
    "derive": raising(lambda: BadDerive("a", [ValueError("b")])),
    "derive and cancelled": lambda conn: leaves_a_cancelled_group(BadDerive),
    "deep and cancelled": lambda conn: leaves_a_cancelled_group(lambda text, errors: nested(errors[0], 5000)),
    "all in a group": raising(lambda: ExceptionGroup("a", [BadNotes("b"), BadText("c"), BadErrno(5, "d")])),
    "memory": raising(MemoryError),
    "recursion": raising(RecursionError),
    "cancelled": raising(lambda: Cancelled("of its own")),
    "cancelled in a group": raising(lambda: nested(BaseExceptionGroup("a", [Cancelled(), ValueError("b")]), 0)),
    "stop": raising(StopIteration),
    "joined": raising(lambda: TaskCancelled(None, None)),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_no_exception_of_a_handler_ends_the_server_and_each_is_logged(name, path, caplog):
    """load-faults F2, F9: a failure nested 494 groups deep, or one that cannot be printed, ended the server."""
    caplog.set_level(logging.INFO, "minisched")
    run(bystander(path, name, name)(words(ODDITIES)))
    assert [record.getMessage()[:9] for record in caplog.records] == ["handler-2", "handler-3"]


printed_by_us = pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python prints such an error itself")
small_stack = pytest.mark.skipif(sys.platform == "emscripten", reason="the stack of WebAssembly is small")


@pytest.mark.parametrize("levels", [1, 11, 494, pytest.param(5000, marks=small_stack)])
def test_the_logged_text_of_a_deep_group_has_the_error_in_it(levels):
    """load-faults F2: a deep group is logged with its errors, not with "max_group_depth is 10"."""
    assert "ValueError: deepest" in describe_failure(nested(ValueError("deepest"), levels))


@printed_by_us
def test_an_error_that_cannot_be_printed_does_not_hide_the_others_of_its_group():
    """load-faults, a failure whose notes raise: the other errors of the group are logged with their tracebacks."""
    text = describe_failure(ExceptionGroup("a", [BadNotes("first"), ValueError("second")]))
    assert "BadNotes: first (its traceback cannot be printed" in text
    assert "ValueError: second" in text


@printed_by_us
def test_a_group_of_many_errors_that_cannot_be_printed_is_shortened():
    """load-faults, a sibling: 40 errors of which one cannot be printed are 15 and a number."""
    text = describe_failure(ExceptionGroup("a", [BadNotes("first"), *map(ValueError, range(39))]))
    assert "ValueError: 13" in text and "ValueError: 14" not in text and "and 25 more errors" in text


# Errors of an accept.


def failing(monkeypatch, errors):
    """Make the next accepts fail with these errors, as the operating system reports a connection that is lost."""
    accept, left = Socket.try_accept, list(errors)

    def try_accept(listener):
        if left:
            raise OSError(left[0], os.strerror(left.pop(0)))
        return accept(listener)

    monkeypatch.setattr(Socket, "try_accept", try_accept)
    return left


@pytest.mark.parametrize(
    "name",
    [
        "EPERM",
        "ENONET",
        "EOPNOTSUPP",
        "ENETDOWN",
        "EPROTO",
        "ETIMEDOUT",
        "ECONNRESET",
        "ESOCKTNOSUPPORT",
        "ENOSR",
        "EIO",
    ],
)
def test_an_error_of_accept_about_one_connection_does_not_end_the_server(name, monkeypatch, path, said):
    """world 5: of accept(2)'s list, EPERM, ENONET and EOPNOTSUPP ended the server and all connections."""
    number = getattr(errno, name, errno.EPERM)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        left = failing(monkeypatch, [number] * 3)
        yield from is_served(path)
        assert left == []
        yield from stopped(server)

    run(main())
    assert said() == []


@pytest.mark.parametrize("limit", [None, 1])
def test_an_accept_that_always_fails_is_logged_once_and_never_spins(limit, monkeypatch, path, said):
    """world 5: such errors without end: the server pauses, and later serves on."""
    tries = []
    accept = Socket.try_accept

    def try_accept(listener):
        tries.append(1)
        raise OSError(errno.EPERM, "Firewall rules forbid connection")

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, max_connections=limit, ready=ready))
        yield settled()
        monkeypatch.setattr(Socket, "try_accept", try_accept)
        with client_of(path):
            yield Sleep(10.5 * PAUSE_SECONDS)
            assert len(tries) <= 11 * ACCEPT_BATCH_CONNECTIONS
            monkeypatch.setattr(Socket, "try_accept", accept)
            yield Sleep(PAUSE_SECONDS)
        yield from is_served(path)
        yield from stopped(server)

    run(main())
    assert said() == ["can't accept (0 connections open): Firewall rules forbid connection; retrying every 1 s"]


def test_without_file_descriptors_the_server_waits_for_a_handler_to_end_and_not_for_the_pause(monkeypatch, path):
    """load-faults F5: where files run out, the server served (free files) connections a second: 400 took 16.8 s."""
    accept, open_now, served = Socket.try_accept, [], []

    def try_accept(listener):
        if len(open_now) >= 5:
            raise OSError(errno.EMFILE, "Too many open files")
        open_now.append(1)
        try:
            return accept(listener)
        except BaseException:
            open_now.pop()
            raise

    def handler(conn):
        served.append((yield Read(conn, 1)))
        yield Write(conn, b"!")
        open_now.pop()  # its descriptor is free when it has ended

    monkeypatch.setattr(Socket, "try_accept", try_accept)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, ready=ready))
        clients = [client_of(path) for _ in range(200)]
        for client in clients:
            client.sendall(b"?")
        yield Sleep(0.5 * PAUSE_SECONDS)
        assert len(served) == 200
        for client in clients:
            client.close()
        yield from stopped(server)

    run(main())


LOW_LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))

def one_byte(conn):
    yield Write(conn, (yield Read(conn, 1)))

def all_have_connected(listener):
    ready(listener)
    sys.stdin.read(1)

until_interrupted(run, serve(one_byte, "127.0.0.1", 0, ready=all_have_connected, max_connections=1000))
"""


@pytest.mark.slow
def test_connections_that_wait_when_a_server_begins_do_not_take_the_descriptors_of_its_loop(monkeypatch):
    """load-faults F5, a sibling: with 400 clients in the backlog, no file was left to make the first selector with."""
    reader, writer = os.pipe()
    monkeypatch.setattr(servers, "PREFACE", servers.PREFACE + f"os.dup2({reader}, 0)\n")
    os.set_inheritable(reader, True)
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *rest, **options: popen(*rest, close_fds=False, **options))
    try:
        with servers.serving(LOW_LIMIT) as (program, address), ExitStack() as closing:
            clients = [closing.enter_context(servers.dial(address)) for _ in range(400)]
            os.write(writer, b"!")
            program.expect("can't accept")
            for client in clients:
                client.sendall(b"x")
                assert servers.received(client, 1) == b"x"
                client.close()
            assert program.interrupt() == 130
            assert program.errors() == ""
    finally:
        os.close(reader)
        os.close(writer)


# The log.


@pytest.mark.parametrize("as_filter", [False, True], ids=["a handler", "a filter"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyError("a bug"), Odd("odd"), GeneratorExit()]
)
def test_a_log_that_raises_ends_nothing_and_its_line_goes_to_standard_error(error, as_filter, path, broken_log, capsys):
    """world 12: a log handler, or a filter, that raises ended the run with all connections."""
    broken_log(error, as_filter)

    def fails(conn):
        raise ValueError("one handler's own failure")
        yield

    run(bystander(path, "fail", "fail")(words({"fail": fails})))
    errors = capsys.readouterr().err
    assert errors.count("minisched: the log failed") == 2
    assert errors.count("handler-2 of a Unix peer failed") == 1
    assert errors.count("ValueError: one handler's own failure") == 2


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_log_that_raises_ends_nothing_also_without_standard_error(stream, path, broken_log, monkeypatch):
    """world 12, load-faults "stderr closed": no place is left for the line, and the server goes on."""

    class Closed:
        def write(self, text):
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(log_module.sys, "stderr", Closed() if stream else None)
    broken_log(OSError(28, "No space left on device"))
    run(bystander(path, "fail")(words({"fail": raising(ValueError)})))


@pytest.mark.parametrize("quits", [SystemExit(3), KeyboardInterrupt()])
def test_a_log_handler_that_ends_the_program_lets_the_others_clean_up(quits, path, broken_log):
    """world 12, its sibling: SystemExit of a log handler ends the run as that of a task does, with all cleanup."""
    broken_log(quits)
    cleaned = []

    def handler(conn):
        try:
            if (yield Read(conn, 100)) == b"fail":
                raise ValueError
            yield Sleep(inf)
        except Cancelled:
            with (yield Shield(2)):
                yield Sleep(1)  # a cleanup that takes time
            cleaned.append(True)
            raise

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, grace=0, ready=ready))
        with client_of(path) as other, client_of(path) as client:
            other.sendall(b"other")
            yield settled()
            client.sendall(b"fail")
            yield Join(server)

    with pytest.raises(type(quits)) as caught:
        run(main())
    assert caught.value is quits
    assert cleaned == [True]
    assert not os.path.exists(path)


@pytest.mark.parametrize("what", ["idle", "stopping", "closing", "limit"])
def test_each_line_of_a_server_may_meet_a_log_that_raises(what, path, broken_log, capsys, monkeypatch):
    """world 12, its kind: the lines for idle and cancelled handlers, for a stop, and for limits."""
    LOGGER.setLevel(logging.INFO)
    broken_log(OSError(28, "No space left on device"))
    if what == "closing":
        unclosable(monkeypatch)
    if what == "limit":
        monkeypatch.setattr(connections_module, "raise_open_file_limit", lambda: 65)

    def main():
        server, _ = yield from begun(
            lambda ready: serve_unix(echo, path, idle_timeout=IDLE_SECONDS, grace=1, ready=ready)
        )
        with client_of(path):
            yield Sleep(2 * IDLE_SECONDS if what == "idle" else 1)
            yield from stopped(server)
            monkeypatch.undo()

    try:
        run(main())
    finally:
        LOGGER.setLevel(logging.NOTSET)
    assert "minisched: the log failed" in capsys.readouterr().err


FORGED = "x\nCRITICAL root logged in from 10.0.0.1\x1b[2J\x1b]0;pwned\x07\u202e"


def formatted(caplog):
    """Return the lines of the log as a file or a terminal gets them."""
    formatter = logging.Formatter("%(levelname)s %(message)s")
    return "\n".join(map(formatter.format, caplog.records)).split("\n")


def assert_not_forged(lines):
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("CRITICAL")]


def client_named(path, name):
    """Return a Unix client whose end is bound to a name of its own choice."""
    client = socket.socket(socket.AF_UNIX)
    client.bind(os.path.join(os.path.dirname(path), name) if not name.startswith("\0") else name)
    client.setblocking(False)
    client.connect(path)
    return client


@pytest.mark.parametrize("name", [FORGED, "\0" + FORGED], ids=["a path", "an abstract name"])
@pytest.mark.parametrize("what", ["fail", "lost", "idle", "cancelled", "status"])
def test_a_unix_peer_cannot_forge_a_line_of_the_log(what, name, path, caplog):
    """load-faults F6: the name of a Unix peer was logged as it is: a second line, and escapes for the terminal."""
    caplog.set_level(logging.INFO, "minisched")
    if "/" not in name and name.startswith("\0") and os.uname().sysname != "Linux":
        pytest.skip("only Linux has abstract names")
    actions = {"fail": raising(ValueError), "lost": raising(lambda: ConnectionResetError("gone"))}
    statuses = []

    def main():
        server, _ = yield from begun(
            lambda ready: serve_unix(words(actions), path, idle_timeout=IDLE_SECONDS, grace=1, ready=ready)
        )
        with client_named(path, name) as client:
            client.sendall(what.encode())
            yield settled()
            if what == "idle":
                yield Sleep(2 * IDLE_SECONDS)
            statuses.append((yield Ask(server_status)))
            yield from stopped(server)

    run(main())
    lines = [*formatted(caplog), *statuses[0].split("\n")]
    assert any("logged in" in line for line in lines)
    assert_not_forged(lines)


def test_a_text_of_a_peer_in_an_exception_cannot_forge_a_line_of_the_log(path, caplog):
    """load-faults F6, its kind: `raise ValueError(f"bad command {line}")`, also in a group, a cause and a note."""
    caplog.set_level(logging.INFO, "minisched")

    def fails(conn):
        error = ValueError(FORGED)
        error.add_note(FORGED)
        raise ExceptionGroup(FORGED, [error]) from KeyError(FORGED)
        yield

    def lost(conn):
        raise ConnectionAbortedError(FORGED)
        yield

    run(bystander(path, "fail", "lost")(words({"fail": fails, "lost": lost})))
    lines = formatted(caplog)
    assert sum("logged in" in line for line in lines) >= 4
    assert_not_forged(lines)
    assert all(line.startswith(("    ", "ERROR handler-", "INFO handler-")) for line in lines)


def test_the_name_and_the_call_of_a_task_cannot_forge_a_line_of_the_status():
    """load-faults F6, its kind: a program names a task after its peer."""

    class Forging(minisched.Syscall):
        def handle(self, kernel, task):
            kernel.park(task, lambda: None)

        def __repr__(self):
            return FORGED

    def waits():
        yield Forging()

    def main():
        task = yield Spawn(waits(), FORGED)
        yield
        text = yield Ask(server_status)
        yield Cancel(task)
        return text

    text = run(main())
    assert text.count("logged in") == 2
    assert_not_forged(text.split("\n"))


def test_the_failure_of_a_child_with_a_forging_text_is_one_line_in_a_cancellation():
    """load-faults F6, its kind: "its child failed: ..." is one line, since it is logged and printed."""

    def fails():
        raise ValueError(FORGED)
        yield

    def main():
        yield Spawn(fails())
        try:
            yield Sleep(1)
        except Cancelled as cancelled:
            assert str(cancelled).isprintable()
            raise

    with pytest.raises(ExceptionGroup):
        run(main())


# Failures without end.


def test_of_equal_failures_some_are_logged_and_the_others_counted(path, said):
    """load-faults F15: the tracebacks of 400 failing requests filled a pipe that nobody reads, and the server froze."""
    many = 10 * TRACEBACKS_PER_KIND

    def main():
        actions = {"fail": raising(ValueError), "other": raising(KeyError)}
        server, _ = yield from begun(lambda ready: serve_unix(words(actions), path, ready=ready))
        for number in range(many + 1):
            with client_of(path) as client:
                client.sendall(b"fail" if number else b"other")
                yield settled()
        assert len(said()) == TRACEBACKS_PER_KIND + 1
        yield Sleep(REPEAT_SECONDS)
        (counted,) = said()[TRACEBACKS_PER_KIND + 1 :]
        assert f"{many - TRACEBACKS_PER_KIND} more failures like the {TRACEBACKS_PER_KIND} logged before" in counted
        assert "ValueError" in counted and os.path.basename(__file__) in counted
        with client_of(path) as client:
            client.sendall(b"fail")
            yield settled()
        assert len(said()) == TRACEBACKS_PER_KIND + 3, "after the pause, the next failure is logged again"
        yield from stopped(server)

    run(main())
    assert len(said()) == TRACEBACKS_PER_KIND + 3


def test_a_server_that_stops_logs_the_failures_that_were_only_counted(path, said):
    """load-faults F15, a sibling: nothing is silent, also if the server stops before the minute is over."""

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(words({"fail": raising(ValueError)}), path, ready=ready))
        for _ in range(TRACEBACKS_PER_KIND + 7):
            with client_of(path) as client:
                client.sendall(b"fail")
                yield settled()
        yield from stopped(server)

    run(main())
    assert said()[-1].startswith("7 more failures like the 20 logged before: ValueError")


def test_failures_of_very_many_kinds_are_bounded_too():
    """load-faults F15, a sibling: a client that can cause failures of many kinds costs neither memory nor log."""
    counts = FailureCounts()
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(10 * MAX_KINDS)]
    logged = sum(counts.is_logged(kind()) for kind in kinds)
    assert logged == MAX_KINDS + TRACEBACKS_PER_KIND
    assert len(counts.kinds) == MAX_KINDS + 1
    assert sum(int(line.split()[0]) for line in counts.begin_anew()) == len(kinds) - logged


# Signals, limits, and listeners of others.


@pytest.mark.parametrize(("name", "status"), [("SIGHUP", 129), ("SIGTERM", 143)])
def test_sighup_stops_a_server_as_sigterm_does(name, status, path):
    """load-faults F8: SIGHUP, of a closed terminal, ended the process without cleanup and left its Unix path."""
    signum, cleaned = getattr(signal, name), []

    def handler(conn):
        try:
            yield Read(conn, 1)
        finally:
            cleaned.append(True)

    def main():
        _, _ = yield from begun(lambda ready: serve_unix(handler, path, ready=ready))
        with (yield Connect(path)) as conn:
            yield Write(conn, b"")
            os.kill(os.getpid(), signum)
            yield Read(conn, 1)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert (caught.value.code, os.path.exists(path)) == (status, False)
    assert signal.getsignal(signum) is signal.SIG_DFL


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda signum, frame: None], ids=["ignored", "a handler"])
def test_a_program_that_handles_or_ignores_sighup_keeps_it(own, path):
    """load-faults F8: nohup ignores SIGHUP, and many programs reload their configuration by it."""
    before = signal.signal(signal.SIGHUP, own)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        os.kill(os.getpid(), signal.SIGHUP)
        yield from is_served(path)
        yield from stopped(server)

    try:
        run(main())
        assert signal.getsignal(signal.SIGHUP) is own
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_task_that_waits_for_sighup_gets_it(path):
    """load-faults F8: `WaitSignal(SIGHUP)` beside a server, begun before or after it."""
    reloads = []

    def reload():
        while True:
            reloads.append((yield WaitSignal(signal.SIGHUP)))

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        yield Spawn(reload(), daemon=True)
        yield settled()
        for number in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            yield from until(lambda number=number: len(reloads) == number)
        yield from is_served(path)
        yield from stopped(server)

    run(main())


def test_a_low_limit_of_open_files_is_logged(monkeypatch, said):
    """load-faults F13: with `ulimit -n 65`, one connection at a time, and nothing was logged."""
    for files, text in [(65, "1 connection"), (100, "36 connections"), (1024, None)]:
        monkeypatch.setattr(connections_module, "raise_open_file_limit", lambda files=files: files)
        before = len(said())
        _ = connection_limit(None)
        assert said()[before:] == [
            f"the server takes {text} at a time, since this process may open only {files} files: "
            "raise the limit (ulimit -Hn)"
        ] * (text is not None)


@pytest.mark.parametrize("plain", [socket.socket, lambda: None, lambda: ("127.0.0.1", 0)])
def test_an_object_that_is_not_a_listener_is_refused_with_the_way_to_wrap_a_socket(plain):
    """world 28: a plain socket to serve_listeners: AttributeError: 'socket' object has no attribute 'entry'."""
    thing = plain()

    def main():
        listener = yield Listen((LOCAL, 0))
        with pytest.raises(TypeError, match=r"serve_listeners takes .* Socket\(fileno=plain.detach\(\)\)"):
            yield from serve_listeners(echo, listener, thing)
        assert listener.fileno() == -1, "a server that fails closes its listeners"

    try:
        run(main())
    finally:
        if hasattr(thing, "close"):
            thing.close()


def test_a_plain_socket_that_is_wrapped_is_served():
    """world 28: the way that the error names."""

    def main():
        plain = socket.create_server((LOCAL, 0))
        address = plain.getsockname()
        listener = Socket(fileno=plain.detach())
        server, _ = yield from begun(lambda ready: serve_listeners(echo, listener, ready=ready))
        yield from is_served(address)
        yield from stopped(server)

    run(main())


# The view of a running server.


def test_a_signal_logs_the_status_of_a_running_server(path, caplog):
    """newcomer A3.22: SIGUSR1 prints what a running server does."""

    def main():
        server, _ = yield from begun(
            lambda ready: serve_unix(echo, path, status_signal=signal.SIGUSR1, max_connections=7, ready=ready)
        )
        with client_of(path) as client:
            client.sendall(b"x")
            yield Sleep(61)
            for times in (1, 2):
                os.kill(os.getpid(), signal.SIGUSR1)
                yield from until(lambda times=times: len(caplog.records) == times)
        yield settled()
        yield from stopped(server)

    run(main())
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    first, second, *handler = caplog.messages[0].split("\n")
    assert first.startswith("status: 6 tasks, ")
    assert second == "server up 61 s: 1 connection of at most 7; 1 accepted, 0 handlers failed"
    assert handler[0].startswith("  echo-1 of a Unix peer, 61 s old: waits in Read(socket, 65536), at ")
    assert handler[0].endswith(" (echo)")
    assert handler[1] == "other tasks"
    assert any("server" in line and "AcceptMany" in line for line in handler)


def test_the_signal_of_the_status_is_safe_from_the_moment_at_which_the_server_listens(path, caplog):
    """newcomer A3.22: SIGUSR1 would end the process by default; `ready` sends it at once."""
    ready = []

    def send(listener):
        ready.append(listener)
        os.kill(os.getpid(), signal.SIGUSR1)

    def main():
        server = yield Spawn(serve_unix(echo, path, status_signal=signal.SIGUSR1, ready=send), keep=True)
        yield from until(lambda: ready and caplog.records)
        yield from stopped(server)

    run(main())


def test_the_status_of_very_many_connections_is_short(path):
    """newcomer A3.22: a view of 120 connections has 50 of them, and how many more there are."""

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, grace=0, ready=ready))
        clients = [client_of(path) for _ in range(120)]
        yield settled()
        text = yield Ask(server_status)
        for client in clients:
            client.close()
        yield from stopped(server)
        return text

    text = run(main())
    assert text.count(" of a Unix peer") == 50
    assert "\n  and 70 more\nother tasks\n" in text


def test_no_server_is_in_the_status_when_all_have_ended(path):
    """newcomer A3.22: a server that has ended is not listed; one that stops is named as such."""

    def handler(conn):
        yield Read(conn, 1)
        yield Sleep(1)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(handler, path, ready=ready))
        with client_of(path) as client:
            client.sendall(b"x")
            yield settled()
            yield Cancel(server)
            yield settled()
            assert "and stopping: 1 connection" in (yield Ask(server_status))
            with pytest.raises(TaskCancelled):
                yield Join(server)
        return (yield Ask(server_status))

    assert "server up" not in run(main())


@pytest.mark.slow
def test_the_first_process_passes_the_signal_of_the_status_on_to_each_worker():
    """newcomer A3.22: `kill -USR1` of a server with workers, which would end the first process by default."""
    server = "serve_workers(echo, ('127.0.0.1', 0), workers=2, status_signal=signal.SIGUSR1, ready=ready)"
    with servers.serving(f"until_interrupted(lambda: {server})") as (program, address):
        with servers.dial(address) as client:
            assert servers.asked(client, b"x") == b"x"
            for times in (1, 2):
                program.process.send_signal(signal.SIGUSR1)
                program.expect("(?s)" + r"server up .*" * 2 * times)
        assert program.interrupt() == 130
        assert program.errors() == ""
    assert program.said.count("1 connection of at most") == 2


@pytest.mark.slow
def test_a_signal_of_the_status_is_not_lost_by_a_worker_that_is_starting():
    """A sibling of newcomer A3.22: between the fork and the handler, a worker dropped the signal."""
    slow = (
        "import minisched.serving.workers, time\n"
        "real = minisched.serving.workers.run\n"
        "def slow(body):\n"
        "    say('started')\n"
        "    end = time.monotonic() + 1\n"
        "    while time.monotonic() < end and not signal.sigpending():\n"
        "        time.sleep(0.01)\n"
        "    real(body)\n"
        "minisched.serving.workers.run = slow\n"
    )
    server = "serve_workers(echo, ('127.0.0.1', 0), workers=1, status_signal=signal.SIGUSR1, ready=ready)"
    with servers.serving(f"{slow}until_interrupted(lambda: {server})") as (program, _):
        program.expect("started")
        program.process.send_signal(signal.SIGUSR1)
        program.expect("(?s)server up .*other tasks")
        assert program.interrupt() == 130


def test_a_line_of_the_log_has_the_place_in_the_package_that_logged_it(caplog):
    """world 12: the guard around the log is not the place of each line."""
    log("warning", "a line")
    assert caplog.records[0].pathname == __file__


def test_a_reset_by_a_real_client_is_not_a_failure(path, said):
    """load-faults "RST storm": 5,000 resets cost one line of information each at most, and no failure is counted."""

    def main():
        server, (listener,) = yield from begun(lambda ready: serve(echo, LOCAL, 0, ready=ready))
        for _ in range(30):
            client = client_of(listener.address)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reset(client)
        yield settled()
        assert "0 handlers failed" in (yield Ask(server_status))
        yield from is_served(listener.address)
        yield from stopped(server)

    run(main())
    assert all("reset by peer" in text for text in said())
