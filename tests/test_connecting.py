"""open_connection: the addresses of a host, tried 250 ms apart, until the first of them answers (RFC 8305).

The network of most tests is simulated: each address of a host has a delay and an outcome, in virtual time.
"""

from __future__ import annotations

import errno
import gc
import importlib.util
import os
import socket
import ssl
import sys
from contextlib import ExitStack
from functools import partial
from math import inf

import pytest
from helpers import Ask, left_in_cycles, nothing_is_left  # noqa: F401

import minisched
from minisched import (
    Accept,
    FileState,
    HostAddress,
    Listen,
    Names,
    Network,
    Now,
    Read,
    Spawn,
    SyscallError,
    TimedOut,
    Timeout,
    Timers,
    Write,
    open_connection,
)
from minisched.net import connecting
from minisched.net.connecting import alternating
from minisched.testing import cancel_everywhere, run

REFUSED, UNREACHABLE = errno.ECONNREFUSED, errno.ENETUNREACH


class World:
    """A host: for each address, in the order of the resolver, after how many seconds which outcome comes."""

    def __init__(self, **outcomes):
        self.outcomes = outcomes  # by address: seconds, or (seconds, errno)
        self.begun = []  # (time, address) of each attempt
        self.open = []  # the open sockets

    def main(self, **options):
        """Connect to the host; return the address that has won, and the time."""
        yield Ask(self.install)
        with (yield from open_connection("example.org", 80, **options)) as conn:
            return conn.host, (yield Now())

    def install(self, kernel):
        kernel.services[Names] = names = Simulated(kernel)
        kernel.services[Network] = network = Sockets(kernel)
        names.world = network.world = self

    def connect(self, **options):
        try:
            return run(self.main(**options))
        finally:
            assert self.open == []


class Simulated(Names):
    def known(self, host, port, *rest):
        families = {"4": socket.AF_INET, "6": socket.AF_INET6}
        return [
            HostAddress(families[name[-1]], socket.SOCK_STREAM, 6, "", (name, port)) for name in self.world.outcomes
        ]


class Sockets(Network):
    def dial(self, address):
        return [(partial(Simulation, self.kernel, self.world), address)]


class Simulation:
    """A socket whose connect ends at a time of the world."""

    label = "simulated"
    family = -1

    def __init__(self, kernel, world):
        self.world, self.timers = world, kernel.service(Timers)
        self.file_state = FileState()
        self.host = self.due = None
        world.open.append(self)

    def try_connect(self, address):
        now = self.timers.now()
        if self.due is None:
            self.host = address[0]
            outcome = self.world.outcomes[self.host]
            seconds, self.errno = outcome if isinstance(outcome, tuple) else (outcome, 0)
            self.due = now + seconds
            self.world.begun.append((now, self.host))
        if now < self.due:
            raise BlockingIOError
        if self.errno:
            raise OSError(self.errno, os.strerror(self.errno), str(address))
        return self

    def getsockname(self):
        return "this side", 0

    def watch(self, kernel, direction, operation):
        self.file_state.writer = operation
        self.timer = self.timers.call_at(self.due, self.ready)

    def ready(self):
        operation, self.file_state.writer = self.file_state.writer, None
        operation.ready()

    def unwatch(self, kernel, direction):
        self.file_state.writer = None
        self.timer.cancel()

    def close(self):
        assert self in self.world.open, "closed twice"
        self.world.open.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


# The order and the times.


def found(*names):
    families = {"4": socket.AF_INET, "6": socket.AF_INET6}
    return [HostAddress(families[name[-1]], 1, 6, "", name) for name in names]


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ("a6 b6 c6 a4 b4", "a6 a4 b6 b4 c6"),
        ("a4 b4 a6", "a4 a6 b4"),
        ("a4 a6 b6", "a4 a6 b6"),
        ("a6 a6 a4 a6 a4", "a6 a4"),
        ("a4", "a4"),
        ("b4 a4", "b4 a4"),
    ],
)
def test_the_families_alternate_and_the_first_address_stays_first(given, order):
    assert alternating(found(*given.split())) == order.split()


def test_the_attempts_begin_250_ms_apart():
    world = World(a6=inf, b6=inf, a4=inf, b4=0.1)
    assert world.connect() == ("b4", 0.85)
    assert world.begun == [(0, "a6"), (0.25, "a4"), (0.5, "b6"), (0.75, "b4")]


def test_no_second_attempt_begins_if_the_first_answers_in_time():
    world = World(a6=0.2, a4=0)
    assert world.connect() == ("a6", 0.2)
    assert world.begun == [(0, "a6")]


def test_a_failed_attempt_starts_the_next_one_at_once():
    world = World(a6=(0.1, REFUSED), b6=(0, REFUSED), a4=(0, UNREACHABLE), b4=1)
    assert world.connect() == ("b4", 1.1)
    assert world.begun == [(0, "a6"), (0.1, "a4"), (0.1, "b6"), (0.1, "b4")]


def test_a_failure_of_an_earlier_attempt_does_not_start_another_one():
    world = World(a6=(0.3, REFUSED), a4=inf, b4=0)
    assert world.connect() == ("b4", 0.5)
    assert world.begun == [(0, "a6"), (0.25, "a4"), (0.5, "b4")]


def test_the_first_connection_wins_though_it_began_earlier_and_the_others_are_closed():
    world = World(a6=0.6, a4=0.5, b6=inf)
    assert world.connect() == ("a6", 0.6)
    assert len(world.begun) == 3


def test_of_two_connections_at_one_time_one_is_returned_and_the_other_closed():
    world = World(a6=0.5, a4=0.25)
    assert world.connect() in (("a6", 0.5), ("a4", 0.5))
    world = World(a6=0.25, a4=0)
    assert world.connect() in (("a6", 0.25), ("a4", 0.25))


@pytest.mark.parametrize(("delay", "times"), [(1, [0, 1, 2]), (0, [0, 0, 0]), (inf, [0])])
def test_the_delay_is_an_argument(delay, times):
    world = World(a6=5, a4=5, b6=5)
    assert world.connect(attempt_delay=delay) == ("a6", 5)
    assert [time for time, _ in world.begun] == times


def test_one_address_is_connected_to_without_a_group(monkeypatch):
    monkeypatch.setattr(connecting, "group", None)
    assert World(a4=3).connect() == ("a4", 3)


# Failures.


def test_if_all_refuse_the_error_is_a_refusal_and_names_each_address():
    world = World(a6=(0.1, REFUSED), b6=(0.1, REFUSED), a4=(5, REFUSED))
    with pytest.raises(ConnectionRefusedError) as caught:
        world.connect()
    text = str(caught.value)
    assert text.startswith(f"[Errno {REFUSED}] no address of host 'example.org' at port 80 answers: ")
    assert text.index("('a6', 80)") < text.index("('a4', 80)") < text.index("('b6', 80)")
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [error.filename for error in group.exceptions] == ["('a6', 80)", "('a4', 80)", "('b6', 80)"]


def test_different_errors_have_no_common_errno():
    with pytest.raises(OSError) as caught:
        World(a6=(0, UNREACHABLE), a4=(0, REFUSED)).connect()
    assert type(caught.value) is OSError and caught.value.errno is None
    assert "unreachable" in str(caught.value) and "refused" in str(caught.value)
    assert [error.errno for error in caught.value.__cause__.exceptions] == [UNREACHABLE, REFUSED]


def test_the_error_of_the_only_address_is_raised_as_it_is():
    with pytest.raises(ConnectionRefusedError) as caught:
        World(a4=(1, REFUSED)).connect()
    assert caught.value.filename == "('a4', 80)" and caught.value.__cause__ is None


def test_an_unknown_host_is_an_error_that_names_it():
    def main():
        with pytest.raises(socket.gaierror, match="'a\\.\\.b'"):
            yield from open_connection("a..b", 80)

    run(main())


def test_a_timeout_ends_all_attempts():
    world = World(a6=inf, a4=inf)

    def main():
        with pytest.raises(TimedOut):
            with (yield Timeout(2)):
                yield from world.main()
        return (yield Now())

    assert run(main()) == 2
    assert len(world.begun) == 2 and world.open == []


def test_an_error_other_than_a_failed_connection_ends_all_attempts():
    world = World(a6=inf, a4=0)

    class Broken(Sockets):
        def dial(self, address):
            if address[0] == "a4":
                raise ZeroDivisionError
            return super().dial(address)

    def main():
        yield Ask(world.install)
        network = yield Ask(
            lambda kernel: kernel.services.update({Network: Broken(kernel)}) or kernel.services[Network]
        )
        network.world = world
        yield from open_connection("example.org", 80)

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert world.open == []


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"attempt_delay": -1}, ValueError, "attempt_delay"),
        ({"attempt_delay": "1"}, TypeError, "attempt_delay"),
        ({"tls": "yes"}, TypeError, "SSLContext"),
        ({"server_hostname": "example.org"}, ValueError, "pass tls"),
        ({"server_hostname": "example.org", "tls": False}, ValueError, "pass tls"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_happens(options, kind, text):
    world = World(a4=0)
    with pytest.raises(kind, match=text):
        world.connect(**options)
    assert world.begun == []


def test_a_failure_is_in_no_reference_cycle():
    world = World(a6=(0, REFUSED), a4=(0, REFUSED))

    def main():
        try:
            yield from world.main()
        except OSError:
            pass
        return left_in_cycles()

    gc.collect()
    gc.disable()
    try:
        assert run(main()) == []
    finally:
        gc.enable()


# Cancellation.

WORLDS = {
    "one address": {"a4": 0.1},
    "the second wins": {"a6": inf, "a4": 0.1, "b6": 0.1},
    "two win at once": {"a6": 0.5, "a4": 0.25},
    "the last wins after failures": {"a6": (0.1, REFUSED), "a4": (0, REFUSED), "b4": 0.1},
    "all fail": {"a6": (0.1, REFUSED), "a4": (0.5, UNREACHABLE)},
}


@pytest.mark.parametrize("outcomes", WORLDS.values(), ids=WORLDS)
def test_no_socket_is_left_wherever_it_is_cancelled(outcomes):
    def make():
        world = World(**outcomes)

        def check():
            assert world.open == []

        return world.main(), check

    # An attempt that is cancelled alone counts as failed.
    assert cancel_everywhere(make, expected=(OSError,)) > 5


@pytest.mark.parametrize("form", ["generator", "coroutine"])
def test_a_generator_and_a_coroutine_can_use_open_connection(form):
    def greet(listener):
        with (yield Accept(listener)) as conn:
            yield Write(conn, b"hello")

    def generator():
        with (yield Listen(("localhost", 0))) as listener:
            yield Spawn(greet(listener))
            with (yield from open_connection("localhost", listener.address[1])) as conn:
                assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                return (yield Read(conn, 10))

    async def coroutine():
        with await Listen(("localhost", 0)) as listener:
            await Spawn(greet(listener))
            with await open_connection("localhost", listener.address[1], nodelay=False) as conn:
                assert not conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                return await Read(conn, 10)

    assert minisched.run({"generator": generator, "coroutine": coroutine}[form]()) == b"hello"


def numeric(*hosts):
    """Return a resolver that knows every name as these numeric addresses."""

    class Table(Names):
        def known(self, host, port, *rest):
            names = hosts if host == "example.org" else [host]
            return [one for name in names for one in super(Table, self).known(name, port, *rest)]

    return Ask(lambda kernel: kernel.services.update({Names: Table(kernel)}))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8, and drops connections")
@pytest.mark.parametrize("first", ["refuses", "is silent"])
def test_real_sockets_pass_over_an_address_that_does_not_answer(first):
    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener, socket.socket() as silent, ExitStack() as clients:
            silent.bind(("127.0.0.2", listener.address[1]))
            if first == "is silent":
                silent.listen(0)
                for _ in range(4):  # more than the backlog takes
                    client = clients.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(silent.getsockname())
            yield numeric("127.0.0.2", "127.0.0.1")
            with (yield from open_connection("example.org", listener.address[1], attempt_delay=0.01)) as conn:
                return conn.peer == listener.address

    assert minisched.run(main())


# TLS.

needs_tls = pytest.mark.skipif(
    importlib.util.find_spec("minisched.net.tls") is None, reason="minisched/net/tls.py is not there"
)


@pytest.fixture(scope="module")
def contexts():
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def tls_server(listener, context):
    from minisched.net.tls import start_tls

    with (yield Accept(listener)) as conn:
        try:
            with (yield from start_tls(conn, context, server_side=True)) as secure:
                yield Write(secure, b"hello")
        except OSError:
            pass


def over_tls(contexts, **options):
    with (yield Listen(("localhost", 0))) as listener:
        yield Spawn(tls_server(listener, contexts[0]))
        with (yield from open_connection("localhost", listener.address[1], **options)) as conn:
            return (yield Read(conn, 10))


@needs_tls
def test_a_connection_with_tls_is_returned_after_its_handshake(contexts):
    assert minisched.run(over_tls(contexts, tls=contexts[1])) == b"hello"
    assert minisched.run(over_tls(contexts, tls=contexts[1], server_hostname="localhost")) == b"hello"


@needs_tls
@pytest.mark.parametrize("options", [{"tls": True}, {"server_hostname": "example.org"}], ids=str)
def test_a_server_without_the_right_certificate_is_refused_and_the_connection_closed(contexts, options):
    with pytest.raises(OSError, match=r"(?i)certificate|hostname"):
        minisched.run(over_tls(contexts, **{"tls": contexts[1]} | options))


def test_the_handshake_gets_the_context_and_the_name_and_its_failure_closes_the_connection(monkeypatch):
    """`minisched.net.tls` is a stand-in."""
    from types import ModuleType

    asked = []

    def start_tls(conn, context, *, server_hostname=None):
        asked.append((conn.host, context, server_hostname))
        yield
        if server_hostname == "fails":
            raise SyscallError("the handshake failed")
        return conn

    module = ModuleType("minisched.net.tls")
    module.start_tls = start_tls
    monkeypatch.setitem(sys.modules, "minisched.net.tls", module)
    monkeypatch.setattr("minisched.net.tls", module, raising=False)
    context = ssl.create_default_context()
    assert World(a4=1).connect(tls=context) == ("a4", 1)
    assert World(a4=1).connect(tls=True, server_hostname="other") == ("a4", 1)
    assert World(a4=1).connect(tls=False) == ("a4", 1)
    with pytest.raises(SyscallError, match="the handshake failed"):
        World(a4=1).connect(tls=context, server_hostname="fails")
    assert asked[0] == ("a4", context, "example.org")
    assert (asked[1][0], asked[1][2]) == ("a4", "other")
    assert isinstance(asked[1][1], ssl.SSLContext) and asked[1][1].check_hostname
    assert len(asked) == 3
