"""Listening, accepting and connecting."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from helpers import (  # noqa: F401
    Ask,
    Recording,
    no_file_is_left_open,
    open_numbers,
    open_wakeup,
    pair,
    parked,
    run,
    until,
    watched,
)

from minisched import (
    Accept,
    BusyError,
    Cancel,
    Close,
    ClosedError,
    Connect,
    InThread,
    Join,
    Listen,
    Network,
    OpenDatagram,
    Poller,
    Read,
    Socket,
    Spawn,
    SyscallError,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    Write,
)
from minisched.io._selectors2 import WRITE
from minisched.io.filelike import CLOSED
from minisched.net.datagram_sockets import DatagramSocket
from minisched.testing import check_syscall

LOCAL = ("127.0.0.1", 0)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def path():
    """Return a short path that does not exist, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


def accept_one(listener):
    with (yield Accept(listener)) as conn:
        yield Write(conn, (yield Read(conn, 100)))
        return conn.peer, conn.address


def echo_over(listener):
    """Echo a word through a listener; return (address, peer) of the accepted and of the connecting side."""
    server = yield Spawn(accept_one(listener))
    with (yield Connect(listener.address[:2] if isinstance(listener.address, tuple) else listener.address)) as conn:
        yield Write(conn, b"word")
        assert (yield Read(conn, 100)) == b"word"
        peer, address = yield Join(server)
        return (address, peer), (conn.address, conn.peer)


def fails(kind, call, text):
    """Yield `call` and assert that it raises `kind` with `text` in its message."""
    with pytest.raises(kind) as caught:
        yield call
    assert text in str(caught.value)


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")),
    ],
)
def test_an_echo_over_tcp_and_the_addresses_of_both_sides(host):
    def main():
        with (yield Listen((host, 0))) as listener:
            assert listener.peer is None
            accepted, connected = yield from echo_over(listener)
            assert accepted == (connected[1], connected[0])
            assert accepted[0] == listener.address

    run(main())


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_an_echo_over_a_unix_path(path, form):
    def main():
        with (yield Listen(form(path))) as listener:
            assert listener.address == path
            task = yield Spawn(accept_one(listener))
            with (yield Connect(form(path))) as conn:
                yield Write(conn, b"word")
                assert (yield Read(conn, 100)) == b"word"
                assert conn.peer == path
            peer, address = yield Join(task)
            assert not peer
            assert address == path

    run(main())
    assert not os.path.exists(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has abstract names")
def test_an_echo_over_an_abstract_unix_name():
    def main():
        with (yield Listen(f"\0minisched-{os.getpid()}")) as listener:
            yield from echo_over(listener)

    run(main())


@pytest.mark.parametrize("call", [Listen, Connect])
@pytest.mark.parametrize(
    ("address", "kind", "text"),
    [
        (80, TypeError, "an address is (host, port), as in ('127.0.0.1', 80), or a path, not 80"),
        (None, TypeError, "an address is (host, port), as in ('127.0.0.1', 80), or a path, not None"),
        (
            ("127.0.0.1",),
            TypeError,
            "an address is (host, port), as in ('127.0.0.1', 80), or a path, not ('127.0.0.1',)",
        ),
        (
            ("127.0.0.1", "80"),
            TypeError,
            "an address is (host, port), as in ('127.0.0.1', 80), or a path, not ('127.0.0.1', '80')",
        ),
        ((b"127.0.0.1", 80), TypeError, "an address is (host, port), as in ('127.0.0.1', 80), or a path"),
        (
            ("127.0.0.1", True),
            TypeError,
            "an address is (host, port), as in ('127.0.0.1', 80), or a path, not ('127.0.0.1', True)",
        ),
        (("127.0.0.1", 65536), ValueError, "port 65536 is out of range: a port is a number from 0 to 65535"),
        (("127.0.0.1", -1), ValueError, "port -1 is out of range"),
        (("nobody.invalid", 80), OSError, "'nobody.invalid'"),
        ("/" + "long" * 100, OSError, "AF_UNIX path too long"),
        ("/nowhere/at/all", FileNotFoundError, "'/nowhere/at/all'"),
    ],
)
def test_a_wrong_address_raises_one_clear_error(call, address, kind, text, monkeypatch):
    def no_such_host(*args, **keywords):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if kind is OSError and isinstance(address, tuple):
        monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    run(fails(kind, call(address), text))


# Listening


def test_the_error_for_a_port_in_use_names_it():
    def main():
        with (yield Listen(LOCAL)) as listener:
            host, port = listener.address
            yield from fails(OSError, Listen((host, port)), f"Address already in use: '{host}:{port}'")

    run(main())


def test_listeners_can_share_a_port_if_all_set_reuse_port():
    def main():
        with (yield Listen(LOCAL, reuse_port=True)) as one, (yield Listen(one.address, reuse_port=True)) as other:
            assert one.address == other.address

    run(main())


def test_the_error_for_an_existing_path_names_it_and_the_file_is_untouched(path):
    def main():
        yield from fails(OSError, Listen(path), f"Address already in use: '{path}'")

    with open(path, "w") as file:
        file.write("precious")
    run(main())
    with open(path) as file:
        assert file.read() == "precious"
    os.unlink(path)


def test_a_listener_does_not_unlink_another_file_at_its_path(path):
    def main():
        with (yield Listen(path)):
            os.unlink(path)
            with open(path, "w") as file:
                file.write("precious")

    run(main())
    with open(path) as file:
        assert file.read() == "precious"


def test_a_listener_whose_path_is_removed_closes_without_error(path):
    def main():
        with (yield Listen(path)):
            os.unlink(path)

    run(main())


def test_a_detached_listener_leaves_its_path(path):
    def main():
        listener = yield Listen(path)
        fd = listener.detach()
        listener.close()
        assert os.path.exists(path)
        os.close(fd)

    run(main())


def test_a_listener_that_fails_removes_its_path(path, monkeypatch):
    def refuse(self, backlog):
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(Socket, "listen", refuse, raising=False)
    run(fails(OSError, Listen(path), f"No buffer space available: '{path}'"))
    run(fails(OSError, Listen(LOCAL), "No buffer space available: '127.0.0.1:0'"))
    assert not os.path.exists(path)


def test_listen_connect_and_accept_are_awaitable():
    async def main():
        with await Listen(LOCAL) as listener, await Connect(listener.address) as near, await Accept(listener) as far:
            return near.peer == listener.address, far.peer == near.address

    assert run(main()) == (True, True)


# Accepting


def test_an_accepted_socket_never_blocks_and_is_not_inherited(path):
    def main(address):
        with (yield Listen(address)) as listener:
            with (yield Connect(listener.address)) as conn, (yield Accept(listener)) as accepted:
                for sock in (listener, conn, accepted):
                    assert not sock.get_inheritable()
                    assert not os.get_blocking(sock.fileno())
                    assert type(sock) is Socket

    run(main(LOCAL))
    run(main(path))


def test_waiting_connections_are_accepted_at_once_and_in_order(path):
    def main():
        with (yield Listen(path)) as listener:
            with (yield Connect(path)) as one, (yield Connect(path)) as two:
                yield Write(one, b"one")
                yield Write(two, b"two")
                with (yield Accept(listener)) as first, (yield Accept(listener)) as second:
                    return (yield Read(first, 100)), (yield Read(second, 100))

    assert run(main()) == (b"one", b"two")


def test_a_cancelled_accept_leaves_the_connection_in_the_backlog(path):
    def main():
        with (yield Listen(path)) as listener:
            task = yield Spawn(accept_one(listener), keep=True)
            yield from parked(task)
            with (yield Connect(path)) as conn:
                yield Cancel(task)
                with pytest.raises(TaskCancelled):
                    yield Join(task)
                yield Write(conn, b"word")
                with (yield Accept(listener)) as accepted:
                    return (yield Read(accepted, 100))

    assert run(main()) == b"word"


def test_a_second_accept_gets_busy_error_and_close_wakes_the_first():
    def main():
        with (yield Listen(LOCAL)) as listener:
            task = yield Spawn(accept_one(listener), "acceptor", keep=True)
            yield from parked(task)
            yield from fails(BusyError, Accept(listener), "another task waits to read listener")
            yield Close(listener)
            yield from fails(ClosedError, Join(task), "listener was closed while task 'acceptor' waited for it")
            yield from fails(ClosedError, Accept(listener), "the socket is closed")

    run(main())


def test_accept_refuses_a_plain_socket_and_says_what_it_takes():
    def main():
        with socket.socket() as plain:
            yield from fails(TypeError, Accept(plain), "Accept takes what `yield Listen(...)` returns, a listener, not")

    run(main())
    ours, plain = pair()
    with ours, plain:
        assert repr(Accept(ours)) == "Accept(socket)"
    assert repr(Accept(7)) == "Accept(file 7)"


def test_an_accepted_connection_is_closed_if_no_socket_can_be_made_of_it(monkeypatch):
    class Refusing(Socket):
        def try_accept(self):
            monkeypatch.setattr("minisched.net.sockets.Socket", refuse)
            try:
                return super().try_accept()
            finally:
                monkeypatch.undo()

    def refuse(*args, **keywords):
        raise MemoryError

    def main():
        with Refusing(socket.AF_INET, socket.SOCK_STREAM) as listener, socket.socket() as client:
            listener.bind(LOCAL)
            listener.listen()
            client.setblocking(False)
            client.connect_ex(listener.address)
            with pytest.raises(MemoryError):
                yield Accept(listener)

    run(main())


# Connecting


def test_the_error_for_a_refused_connection_names_the_address():
    def main():
        with (yield Listen(LOCAL)) as listener:
            address = listener.address
        yield from fails(ConnectionRefusedError, Connect(address), f'Connection refused: "{address}"')

    run(main())


def test_the_error_for_a_unix_path_without_a_listener_names_it(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    run(fails(ConnectionRefusedError, Connect(path), f"Connection refused: '{path}'"))
    os.unlink(path)


def test_a_full_backlog_of_a_unix_listener_refuses_the_connection(path):
    def main():
        conns = []
        with (yield Listen(path, 0)):
            with pytest.raises(ConnectionRefusedError, match="backlog is full"):
                for _ in range(100):
                    conns.append((yield Connect(path)))
            for conn in conns:
                assert conn.getpeername() == path
                conn.close()

    run(main())


class FakeNetwork(Network):
    """A network in which every host has the `addresses` of the test: pairs as `Network.dial` returns."""

    addresses = ()

    def dial(self, address):
        return list(self.addresses)


def use(*addresses):
    """Return a syscall that replaces the network by a `FakeNetwork` with these addresses."""

    def put(kernel):
        kernel.services[Network] = given = FakeNetwork(kernel)
        given.addresses = addresses

    return Ask(put)


def tcp():
    return Socket(socket.AF_INET, socket.SOCK_STREAM)


def no_socket():
    raise OSError(errno.EAFNOSUPPORT, "Address family not supported")


class Slow(Socket):
    """A socket whose connect is in progress while its buffers are full."""

    made = ()
    fails = None

    def __init__(self, *args, **keywords):
        ours, self.other = socket.socketpair()
        super().__init__(fileno=ours.detach())
        Slow.made = (*Slow.made, self)
        self.other.setblocking(False)
        for size in (1000, 1):
            try:
                while True:
                    self.try_write(bytes(size))
            except BlockingIOError:
                pass

    def try_connect(self, address):
        self.try_write(b"x")  # BlockingIOError
        if self.fails is not None:
            raise self.fails
        self.peer = address
        return self

    def finish(self, fails=None):
        self.fails = fails
        try:
            while self.other.recv(65536):
                pass
        except BlockingIOError:
            pass

    def close(self):
        super().close()
        self.other.close()


@pytest.fixture
def slow():
    Slow.made = ()
    return Slow


def connecting():
    """Connect to an address of the fake network; return the type and the peer of the socket."""
    with (yield Connect("given")) as sock:
        return type(sock), sock.peer


def unused_address():
    with socket.socket() as sock:
        sock.bind(LOCAL)
        return sock.getsockname()


def test_the_second_address_is_tried_when_the_first_refuses():
    def main():
        with (yield Listen(LOCAL)) as listener:
            yield use((tcp, unused_address()), (no_socket, None), (tcp, listener.address))
            assert (yield from connecting()) == (Socket, listener.address)

    run(main())


def test_the_second_address_is_tried_when_the_first_fails_after_a_wait(slow):
    def main():
        yield use((slow, "first"), (no_socket, None), (slow, "second"))
        task = yield Spawn(connecting())
        yield from parked(task)
        slow.made[0].finish(fails=OSError("no route"))
        yield from until(lambda: len(slow.made) == 2)
        yield from parked(task)
        slow.made[1].finish()
        assert (yield Join(task)) == (slow, "second")

    run(main())


def test_the_error_of_the_last_address_is_raised(slow):
    def main():
        yield use((tcp, unused_address()), (no_socket, None))
        with pytest.raises(OSError, match="Address family not supported"):
            yield Connect("given")
        yield use((slow, "first"), (no_socket, None))
        task = yield Spawn(connecting(), keep=True)
        yield from parked(task)
        slow.made[0].finish(fails=OSError("no route"))
        with pytest.raises(OSError, match="Address family not supported"):
            yield Join(task)
        yield use((slow, "only"))
        task = yield Spawn(connecting(), keep=True)
        yield from parked(task)
        slow.made[1].finish(fails=OSError("no route"))
        with pytest.raises(OSError, match="no route"):
            yield Join(task)

    run(main())


def test_a_connect_goes_on_after_a_spurious_wake_up(slow):
    def main():
        yield use((slow, "there"))
        task = yield Spawn(connecting())
        yield from parked(task)
        poller = yield Ask(lambda kernel: kernel.service(Poller))
        poller.dispatch(poller.registered[slow.made[0].fileno()], WRITE)
        yield from parked(task)
        slow.made[0].finish()
        assert (yield Join(task)) == (slow, "there")

    run(main())


def test_a_cancelled_connect_closes_its_socket(slow):
    def main():
        yield use((slow, "there"))
        task = yield Spawn(connecting(), keep=True)
        yield from parked(task)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        assert slow.made[0].fileno() < 0
        assert (yield Ask(watched)) == []

    run(main())


def test_a_connect_whose_socket_is_closed_gets_closed_error(slow):
    def main():
        yield use((slow, "there"))
        task = yield Spawn(connecting(), keep=True)
        yield from parked(task)
        slow.made[0].close()
        yield from fails(ClosedError, Join(task), "was closed while task 'connecting' waited for it")

    run(main())


@pytest.mark.parametrize("later", [False, True])
def test_a_connect_that_can_not_wait_closes_its_socket(slow, later):
    recording = Recording()

    def main():
        if not later:
            recording.errors["register"] = OSError("no more of these")
        yield use((slow, "there"))
        task = yield Spawn(connecting(), keep=True)
        if later:
            yield from parked(task)
            poller = yield Ask(lambda kernel: kernel.service(Poller))
            entry = poller.registered[slow.made[0].fileno()]
            dialing, entry.writer, entry.events = entry.writer, None, 0
            recording.errors["register"] = OSError("no more of these")
            dialing.ready()
        yield from fails(OSError, Join(task), "no more of these")
        assert slow.made[0].fileno() < 0

    run(main(), selector=recording)


def test_the_next_address_is_tried_when_the_selector_refuses_the_first_socket(slow):
    recording = Recording()

    def main():
        with (yield Listen(LOCAL)) as listener:
            yield use((slow, "there"), (tcp, listener.address))
            recording.errors["register"] = OSError("no more of these")
            assert (yield from connecting()) == (Socket, listener.address)
        assert slow.made[0].fileno() < 0

    run(main(), selector=recording)


# The class Socket


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        (lambda sock: sock.recv(5), "Socket.recv() would hold up every task: use `yield Read(sock, size)`"),
        (lambda sock: sock.recv_into(bytearray(5)), "use `yield Read(sock, size)`"),
        (lambda sock: sock.recvfrom(5), "use `yield RecvFrom(sock, size)`"),
        (lambda sock: sock.send(b"x"), "Socket.send() would hold up every task: use `yield Write(sock, data)`"),
        (lambda sock: sock.sendall(b"x"), "use `yield Write(sock, data)`"),
        (lambda sock: sock.sendfile(None), "use `yield Write(sock, data)`"),
        (lambda sock: sock.accept(), "Socket.accept() would hold up every task: use `yield Accept(listener)`"),
        (lambda sock: sock.connect("x"), "Socket.connect() would hold up every task: use `yield Connect(address)`"),
        (lambda sock: sock.connect_ex("x"), "use `yield Connect(address)`"),
        (lambda sock: sock.makefile(), "use `yield Read(sock, size)` and `yield Write(sock, data)`"),
    ],
)
def test_a_blocking_method_names_the_syscall_to_yield_instead(call, instead):
    ours, plain = pair()
    with ours, plain, pytest.raises(SyscallError) as caught:
        call(ours)
    assert instead in str(caught.value)


def test_python_warns_of_a_socket_that_is_dropped_without_being_closed():
    def main():
        yield
        ours, plain = pair()
        plain.close()
        del ours

    with pytest.warns(ResourceWarning, match="unclosed <minisched.net.sockets.Socket"):
        run(main())
        gc.collect()


def test_a_socket_can_be_used_in_one_run_after_the_other():
    def main(ours, plain, last):
        task = yield Spawn(one_read(ours))
        yield from parked(task)
        yield Write(plain, b"x")
        assert (yield Join(task)) == b"x"
        if last:
            ours.close()
            assert (yield Ask(watched)) == []

    def one_read(sock):
        return (yield Read(sock, 5))

    ours, plain = pair()
    with ours, plain:
        for last in (False, True):
            run(main(ours, plain, last))


def test_the_result_of_the_last_read_is_known_in_the_next_run():
    def reads(ours, plain):
        yield Write(plain, b"x")
        yield WaitReadable(ours)
        assert (yield Read(ours, 5)) == b"x"

    def looks(ours):
        yield WaitWritable(ours)

    ours, plain = pair()
    with ours, plain:
        run(reads(ours, plain))
        run(looks(ours))
        assert ours.file_state.drained and ours.file_state.used


def test_no_task_can_wait_for_a_closed_socket_whose_descriptor_is_still_open():
    def main():
        ours, plain = pair()
        with plain, socket.socket.makefile(ours, "rb"):
            ours.close()
            assert ours.fileno() >= 0
            with pytest.raises(ClosedError):
                yield WaitReadable(ours)
            ours.close()

    run(main())
    assert (CLOSED.poller, CLOSED.events) == (None, 0)


def test_a_socket_can_be_used_in_a_run_of_another_thread_and_then_in_the_first_again():
    def reads_once(ours, plain):
        task = yield Spawn(one_read(ours))
        yield from parked(task)
        yield Write(plain, b"x")
        return (yield Join(task))

    def one_read(sock):
        return (yield Read(sock, 5))

    def main(ours, plain):
        here = yield from reads_once(ours, plain)
        there = yield InThread(run, reads_once(ours, plain))
        return here, there, (yield from reads_once(ours, plain))

    ours, plain = pair()
    with ours, plain:
        assert run(main(ours, plain)) == (b"x", b"x", b"x")


# The conformance test


class Tracking(Socket):
    """A listener that keeps the sockets it makes, so that the test can close them."""

    def __init__(self):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(LOCAL)
        self.listen()
        self.made = []

    def try_accept(self):
        self.made.append(super().try_accept())
        return self.made[-1]

    def dial(self):
        self.made.append(client := socket.socket())
        client.setblocking(False)
        client.connect_ex(self.address)

    def close(self):
        super().close()
        for sock in self.made:
            sock.close()


@pytest.mark.parametrize("call", [Accept, WaitReadable])
def test_waits_on_a_listener_pass_the_conformance_test(call):
    def make():
        listener = Tracking()
        return call(listener), listener.dial, listener.close
        yield

    check_syscall(make)


def test_connect_passes_the_conformance_test(slow):
    def make():
        yield use((partial(one_of, made := []), "there"))
        return (
            Connect("there"),
            lambda: [sock.finish() for sock in made if sock.fileno() >= 0],
            partial(close_all, made),
        )

    def one_of(made):
        made.append(slow())
        return made[-1]

    def close_all(made):
        for sock in made:
            sock.close()

    check_syscall(make)


def test_a_wait_to_write_to_a_listener_can_be_cancelled():
    def main():
        with (yield Listen(LOCAL)) as listener:
            task = yield Spawn(waits(listener), keep=True)
            yield from parked(task)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    def waits(listener):
        yield WaitWritable(listener)

    run(main())


def test_ten_connections_leave_no_descriptor_open():
    def main():
        with (yield Listen(LOCAL)) as listener:
            yield Ask(open_wakeup)
            before = open_numbers()
            for _ in range(10):
                yield from echo_over(listener)
            assert open_numbers() == before
            assert len((yield Ask(watched))) <= 1

    run(main())


def test_a_socket_can_not_be_made_to_block():
    with Socket() as sock:
        for call in (lambda: sock.setblocking(True), lambda: sock.settimeout(5), lambda: sock.settimeout(None)):
            with pytest.raises(SyscallError, match="a Socket never blocks"):
                call()
        sock.setblocking(False)
        sock.settimeout(0)
        assert sock.gettimeout() == 0


class Marked(Socket):
    """A socket of a program's own class, which gives it to its connections."""

    def make_connection(self, fd, peer):
        return Marked(self.family, self.type, self.proto, fileno=fd, peer=peer)


class MarkedDatagrams(DatagramSocket):
    """A datagram socket of a program's own class."""


class MarkedNetwork(Network):
    """A network whose sockets are of the program's own classes."""

    socket = Marked
    datagram_socket = MarkedDatagrams


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
def test_all_sockets_of_a_network_are_of_its_class(unix, tmp_path):
    def main():
        with (yield Listen(str(tmp_path / "path") if unix else LOCAL)) as listener:
            with (yield Connect(listener.address)) as near, (yield Accept(listener)) as far:
                yield Write(near, b"hello")
                return [type(sock) for sock in (listener, near, far)], (yield Read(far, 100))

    assert run(main(), services={Network: MarkedNetwork}) == ([Marked] * 3, b"hello")


def test_the_datagram_sockets_of_a_network_are_of_its_class():
    def main():
        with (yield OpenDatagram(local=LOCAL)) as sock:
            return type(sock)

    assert run(main(), services={Network: MarkedNetwork}) is MarkedDatagrams
