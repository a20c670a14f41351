"""Reports on addresses, listeners, Unix paths and connections."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import servers
from helpers import Ask, no_file_is_left_open, open_numbers, open_wakeup, pair, parked, run, until  # noqa: F401
from servers import begun, client_of, echo, received, settled, stopped

from minisched import (
    Accept,
    CancelScope,
    ClosedError,
    Connect,
    InThread,
    Join,
    Listen,
    Network,
    Portal,
    Read,
    Socket,
    Spawn,
    SyscallError,
    WaitReadable,
    Write,
    serve,
    serve_unix,
    serve_workers,
)
from minisched.net import binding, unix_paths
from minisched.net.binding import NOT_HERE_ERRNOS, listen, listen_all
from minisched.net.listening import ListenAll

path, said = servers.path, servers.said
LOCAL = "127.0.0.1"
NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
needs_abstract_names = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def error_of(call):
    """Yield a call that fails; return its error."""
    with pytest.raises((OSError, TypeError, ValueError)) as caught:
        yield call
    return caught.value


def served(address):
    """Return whether an echo comes back from an address."""
    with client_of(address) as client:
        client.sendall(b"x")
        yield settled()
        return received(client, 1) == b"x"


def hosts(monkeypatch, **names):
    """Let the resolver return these numeric addresses for these names."""
    real = socket.getaddrinfo

    def getaddrinfo(host, port, **keywords):
        found = []
        if host in names and keywords.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        for numeric in names.get(host, [host]):
            found += real(numeric, port, **keywords)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# Names of hosts.


@pytest.mark.parametrize("call", [Connect, Listen])
@pytest.mark.parametrize(
    "host", ["a" * 64 + ".example", "www..example", ".", "\udcff", "b\u00fccher..example", "127.0.0.1\0.example", "\0"]
)
def test_a_host_name_that_can_not_be_encoded_is_an_unknown_host(call, host):
    """world 10: a label that idna refuses is an OSError that names the host."""
    error = run(error_of(call((host, 80))))
    assert isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
    assert repr(host) in str(error)


def test_an_international_host_name_is_resolved(monkeypatch):
    """world 10: a name outside ASCII reaches the resolver as it is."""
    hosts(monkeypatch, **{"b\u00fccher.example": [LOCAL]})

    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            with (yield Connect(("b\u00fccher.example", listener.address[1]))) as sock:
                return sock.peer == listener.address

    assert run(main())


def test_a_resolver_that_returns_nothing_is_an_unknown_host(monkeypatch):
    """world 10: neither a Listen nor a Connect fails with an IndexError."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **keywords: [])
    for call in (Listen, Connect):
        assert "'somewhere'" in str(run(error_of(call(("somewhere", 80)))))


NO_FILES = """
import os, resource, sys
from minisched import Connect, Listen, run
call, address = {"Connect": Connect, "Listen": Listen}[sys.argv[1]], eval(sys.argv[2])
def main():
    yield
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        yield call(address)
    except OSError as error:
        print(error)
run(main())
"""


@pytest.mark.parametrize("call", ["Connect", "Listen"])
@pytest.mark.parametrize("address", [(LOCAL, 9), "/tmp/minisched-none"])
def test_without_file_descriptors_the_error_names_the_address(call, address):
    """world 26: the error names the address, and no file of the standard library."""
    command = [sys.executable, "-c", NO_FILES, call, repr(address)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    text = done.stdout
    assert "Too many open files" in text and "encodings" not in text
    assert (address if isinstance(address, str) else LOCAL) in text, text


@pytest.mark.parametrize("call", [Connect, Listen])
def test_an_error_of_the_resolver_that_names_a_file_names_the_address_instead(call, monkeypatch):
    """world 26: the codec of host names is a file, which may not be opened any more."""

    def getaddrinfo(*args, **keywords):
        raise OSError(errno.EMFILE, "Too many open files", "encodings/idna.py")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert str(run(error_of(call(("example.org", 80))))) == "[Errno 24] Too many open files: 'example.org:80'"


@pytest.mark.parametrize(("call", "address"), [(Listen, (LOCAL, 0)), (Connect, (LOCAL, 9)), (Listen, "nowhere")])
def test_a_socket_that_can_not_be_made_names_the_address(call, address, monkeypatch):
    """world 26: the error of `socket()` itself has no address."""

    def refuse(*args, **keywords):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Network, "socket", staticmethod(refuse))
    assert (address if isinstance(address, str) else LOCAL) in str(run(error_of(call(address))))


# Several addresses.


@needs_ipv6
def test_both_wildcard_addresses_are_served_at_one_port():
    """world 11: `0.0.0.0` and `::` at one port."""

    def main():
        with (yield Listen(("0.0.0.0", 0))) as four, (yield Listen(("::", four.address[1]))) as six:
            return four.address[1] == six.address[1] and six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    assert run(main())


@needs_ipv6
@pytest.mark.parametrize("host", ["", ["0.0.0.0", "::"], ["::", "0.0.0.0"]])
def test_a_server_at_every_address_is_dual_stack_at_one_port(host):
    """load-faults F13: host "" is served at all addresses, and port 0 is the same port at each."""

    def main():
        server, listeners = yield from begun(lambda ready: serve(echo, host, 0, ready=ready), listeners=2)
        yield settled()
        ports = {listener.address[1] for listener in listeners}
        assert len(ports) == 1
        for family in (LOCAL, "::1"):
            with socket.create_connection((family, *ports), timeout=20) as client:
                client.setblocking(False)
                client.sendall(b"x")
                yield settled()
                assert received(client, 1) == b"x"
        yield from stopped(server)

    run(main())


def test_a_server_listens_at_all_addresses_of_a_name_in_order(monkeypatch):
    """world 20: `serve("localhost")` serves each address of the name, once."""
    hosts(monkeypatch, localhost=["127.0.0.2", LOCAL, "127.0.0.2"])

    def main():
        server, listeners = yield from begun(lambda ready: serve(echo, "localhost", 0, ready=ready), listeners=2)
        assert [listener.address[0] for listener in listeners] == ["127.0.0.2", LOCAL]
        assert len({listener.address[1] for listener in listeners}) == 1
        for listener in listeners:
            assert (yield from served(listener.address))
        yield settled()
        assert len(listeners) == 2
        yield from stopped(server)

    run(main())


def test_an_address_that_two_hosts_share_is_listened_at_once(monkeypatch):
    """world 20: `["localhost", "127.0.0.1"]` at a port does not conflict with itself."""
    hosts(monkeypatch, localhost=["127.0.0.2", LOCAL])
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        port = sock.getsockname()[1]

    def main():
        server, listeners = yield from begun(
            lambda ready: serve(echo, ["localhost", LOCAL], port, ready=ready), listeners=2
        )
        assert [listener.address for listener in listeners] == [("127.0.0.2", port), (LOCAL, port)]
        yield from stopped(server)

    run(main())


def test_an_address_that_this_machine_does_not_have_is_passed_over(monkeypatch):
    """world 20: `localhost` is `::1` first, and there is no IPv6."""
    hosts(monkeypatch, localhost=["192.0.2.1", LOCAL])

    def main():
        with (yield Listen(("localhost", 0))) as listener:
            assert listener.address[0] == LOCAL
        server, listeners = yield from begun(lambda ready: serve(echo, "localhost", 0, ready=ready))
        assert [listener.address[0] for listener in listeners] == [LOCAL]
        yield from stopped(server)

    run(main())


@pytest.mark.parametrize("number", NOT_HERE_ERRNOS)
def test_a_host_without_any_address_of_this_machine_is_an_error(monkeypatch, number):
    """world 20: if no address is available, the error names the address, and nothing is left open."""
    hosts(monkeypatch, faraway=["192.0.2.1", "192.0.2.2"])

    def refuse(sock, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Socket, "bind", refuse, raising=False)

    def main():
        error = yield from error_of(Listen(("faraway", 80)))
        assert error.errno == number and error.filename == "faraway:80"
        with pytest.raises(OSError, match=r"192\.0\.2\.1:80"):
            yield from serve(echo, ["faraway"], 80)

    run(main())


def test_an_address_in_use_is_an_error_though_the_next_one_is_free(monkeypatch):
    """world 20: the clients of a name would reach the other server."""
    hosts(monkeypatch, localhost=[LOCAL, "127.0.0.2"])

    def main():
        with (yield Listen((LOCAL, 0))) as taken:
            port = taken.address[1]
            yield Ask(open_wakeup)  # for the threads of look-ups
            before = open_numbers()
            assert (yield from error_of(Listen(("localhost", port)))).errno == errno.EADDRINUSE
            with pytest.raises(OSError, match="in use"):
                yield from serve(echo, ["127.0.0.3", "localhost"], port)
            assert open_numbers() == before

    run(main())


class TakenPorts:
    """Opens listeners, and finds the first `taken` ports in use at the second address."""

    def __init__(self, taken):
        self.taken = taken
        self.asked = []

    def __call__(self, address):
        self.asked.append(address)
        if address[0] != LOCAL and address[1] and self.taken:
            self.taken -= 1
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return listen(address)


@pytest.mark.parametrize(("taken", "same"), [(0, True), (3, True), (binding.SAME_PORT_TRIES, False)])
def test_a_port_that_is_free_at_all_addresses_is_searched(taken, same):
    """world 20: port 0 gets the same port for all addresses where that is possible."""
    listeners = listen_all([(LOCAL, 0), ("127.0.0.2", 0)], TakenPorts(taken))
    assert [listener.address[0] for listener in listeners] == [LOCAL, "127.0.0.2"]
    assert (listeners[0].address[1] == listeners[1].address[1]) is same
    for listener in listeners:
        listener.close()


def test_a_replaced_network_opens_the_listeners_of_a_server():
    """world 20: `serve` opens each listener by `Network.listen`, which a test may replace."""
    asked = []

    class Recorded(Network):
        def listen(self, address, backlog, **options):
            asked.append((address, options))
            return super().listen(address, backlog, **options)

    def main():
        from minisched import CurrentTask

        kernel = (yield CurrentTask()).kernel
        kernel.services[Network] = Recorded(kernel)
        server, _ = yield from begun(lambda ready: serve(echo, LOCAL, 0, nodelay=False, ready=ready))
        yield from stopped(server)

    run(main())
    assert asked == [((LOCAL, 0), {"reuse_port": False, "nodelay": False})]


def test_listeners_at_a_path_and_at_a_port_are_opened_together(path):
    """world 20: a path is its own only address, and has no port to share."""

    def main():
        listeners = yield ListenAll([path, (LOCAL, 0), (LOCAL, 0), path])
        found = [listener.address for listener in listeners]
        for listener in listeners:
            listener.close()
        return found

    first, *tcp = run(main())
    assert first == path and len(set(tcp)) == 2


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), OSError("no number"), KeyboardInterrupt()]
)
def test_any_other_error_of_a_listener_is_raised_at_once(error, monkeypatch, path):
    """world 20: only a port in use is searched again; an error without a number stays as it is."""
    calls = []

    def refuse(sock, target):
        calls.append(target)
        raise error

    monkeypatch.setattr(Socket, "bind", refuse, raising=False)
    for addresses in ([(LOCAL, 0), ("127.0.0.2", 0)], [path]):
        calls.clear()
        with pytest.raises(type(error)) as caught:
            listen_all(addresses, listen)
        assert len(calls) == 1
        assert getattr(error, "errno", None) or caught.value is error


def test_listen_and_connect_show_their_address():
    """load-faults F13: the options do not hide the address in traces and reports."""
    assert repr(Listen((LOCAL, 80), mode=0o600)) == "Listen(('127.0.0.1', 80))"
    assert repr(ListenAll([(LOCAL, 80), "path"])) == "Listen(('127.0.0.1', 80), 'path')"
    assert repr(Connect((LOCAL, 80), nodelay=False)) == "Connect(('127.0.0.1', 80))"


# TCP_NODELAY.


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("host", [LOCAL, pytest.param("::1", marks=needs_ipv6)])
def test_nodelay_is_set_on_both_sides_unless_it_is_switched_off(wanted, host):
    """world 18, load-faults F3: no TCP socket waits for a delayed acknowledgement."""

    def main():
        options = {} if wanted else {"nodelay": False}
        with (yield Listen((host, 0), **options)) as listener:
            with (yield Connect(listener.address, **options)) as near, (yield Accept(listener)) as far:
                assert [bool(sock.getsockopt(*NODELAY)) for sock in (listener, near, far)] == [wanted] * 3

    run(main())


@pytest.mark.parametrize("wanted", [True, False])
def test_connections_of_a_server_have_nodelay(wanted):
    """load-faults F3: `serve` passes the option on."""
    found = []

    def handler(conn):
        yield
        found.append(bool(conn.getsockopt(*NODELAY)))

    def main():
        server, (listener,) = yield from begun(lambda ready: serve(handler, LOCAL, 0, nodelay=wanted, ready=ready))
        with client_of(listener.address):
            yield from until(lambda: found)
        yield from stopped(server)

    run(main())
    assert found == [wanted]


class CountedSocket(Socket):
    """A Socket that counts calls, and whose connections pretend not to have inherited TCP_NODELAY."""

    options = ()
    inherits = True

    def getsockopt(self, *arguments):
        CountedSocket.options += (("get", *arguments),)
        return super().getsockopt(*arguments) if self.inherits else 0

    def setsockopt(self, *arguments):
        CountedSocket.options += (("set", *arguments),)
        return super().setsockopt(*arguments)


@pytest.mark.parametrize("inherits", [True, False])
def test_only_a_system_that_does_not_inherit_nodelay_pays_for_each_accept(inherits, monkeypatch):
    """load-faults F3: one option on the listener; the first connection shows whether the system hands it on."""
    monkeypatch.setattr("minisched.net.sockets.Socket", CountedSocket)
    monkeypatch.setattr(CountedSocket, "inherits", inherits)

    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            counts = []
            for _ in range(3):
                CountedSocket.options = ()
                with socket.create_connection(listener.address), (yield Accept(listener)) as conn:
                    counts.append(len(CountedSocket.options))
                    assert socket.socket.getsockopt(conn, *NODELAY)
            return counts

    assert run(main()) == ([1, 0, 0] if inherits else [2, 2, 2])


def test_a_connection_that_is_lost_before_its_first_check_is_accepted_all_the_same(monkeypatch):
    """load-faults F3: an option of a lost connection can't be read; its first read reports the loss."""

    class Lost(Socket):
        def getsockopt(self, *arguments):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("minisched.net.sockets.Socket", Lost)

    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            with socket.create_connection(listener.address), (yield Accept(listener)) as conn:
                return type(conn), listener.checks_nodelay

    assert run(main()) == (Lost, True)


# Forms of an address.


@needs_ipv6
@pytest.mark.parametrize("cut", [2, 3, 4])
def test_the_address_of_an_ipv6_socket_is_an_address(cut):
    """world 19: addresses of four parts, as `getsockname` returns them."""

    def main():
        with (yield Listen(("::1", 0, 0, 0))) as listener:
            with (yield Connect(listener.address[:cut])) as near, (yield Accept(listener)) as far:
                assert near.peer == listener.address
                assert far.peer == near.address
                yield Write(near, b"x")
                return (yield Read(far, 5))

    assert run(main()) == b"x"


def test_a_scope_id_reaches_the_socket(monkeypatch):
    """world 19: the scope id of a link-local address is not lost; one in the text of the host stays."""
    from minisched.net.addresses import resolve

    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 7)),
        (socket.AF_INET, 1, 6, "", (LOCAL, 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **keywords: found)
    assert [result[4] for result in resolve(("fe80::1%lo", 80), 0)] == [("fe80::1", 80, 0, 7), (LOCAL, 80)]
    assert [result[4] for result in resolve(("fe80::1", 80, 5, 9), 0)] == [("fe80::1", 80, 5, 9)]
    assert [result[4] for result in resolve(("fe80::1%lo", 80, 0, 0), 0)] == [("fe80::1", 80, 0, 7)]


WRONG = [
    ((LOCAL, "80"), TypeError),
    ((LOCAL, True), TypeError),
    ((LOCAL, 80.0), TypeError),
    ((LOCAL, None), TypeError),
    ((None, 80), TypeError),
    ((b"127.0.0.1", 80), TypeError),
    ((LOCAL,), TypeError),
    ((), TypeError),
    (("::1", 80, 0, 0, 0), TypeError),
    (("::1", 80, 0, "1"), TypeError),
    (80, TypeError),
    (None, TypeError),
    (bytearray(b"x"), TypeError),
    ((LOCAL, 65536), ValueError),
    ((LOCAL, -1), ValueError),
    (("::1", 80, 2**20, 0), ValueError),
    (("::1", 80, 0, 2**32), ValueError),
    (("::1", 80, 0, -1), ValueError),
    ((LOCAL, 80, 0, 0), OSError),
    ("", ValueError),
    (b"", ValueError),
    ("127.0.0.1:80", ValueError),
    (b"localhost:80", ValueError),
    ("[::1]:80", ValueError),
    ("::1", ValueError),
    (":80", ValueError),
    ("127.0.0.1", ValueError),
    ("http://localhost:80/", ValueError),
    ("tcp://localhost", ValueError),
    ("a\0b", ValueError),
    (Path("a\0b"), ValueError),
    (b"a\0b", ValueError),
    ("\ud800", ValueError),
    ("\0\ud800", ValueError),
    ("x" * 200, OSError),
    ("\0" + "x" * 200, OSError),
    ("/nowhere/at/all", OSError),
    (Path("/nowhere/at/all"), OSError),
]


@pytest.mark.parametrize("call", [Connect, Listen])
@pytest.mark.parametrize(("address", "kind"), WRONG)
def test_a_wrong_address_raises_one_error_that_names_it_and_leaves_nothing(call, address, kind, tmp_path, monkeypatch):
    """world 10, 19, 29 and load-faults F13: each form of a wrong address."""
    monkeypatch.chdir(tmp_path)
    error = run(error_of(call(address)))
    assert isinstance(error, kind) and not isinstance(error, UnicodeError)
    named = address[0] if kind is OSError and isinstance(address, tuple) else address
    shown = repr(os.fsdecode(named)) if isinstance(named, (str, bytes, Path)) else repr(named)
    assert shown in str(error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("host", [None, b"127.0.0.1", 5, ["127.0.0.1", None]])
def test_a_server_at_a_wrong_host_names_it(host):
    """load-faults F13: any host but a str is a TypeError that shows the address."""
    with pytest.raises(TypeError, match=r"an address is \(host, port\)"):
        run(serve(echo, host, 0))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:8080", ("localhost", 8080)),
        ("[::1]:80", ("::1", 80)),
        ("::1", ("::1", 80)),
    ],
)
def test_a_text_with_a_port_is_refused_with_the_address_that_was_meant(text, meant):
    """newcomer: `Listen("127.0.0.1:80")` made a Unix socket of that name, without any error."""
    for call in (Listen, Connect):
        assert repr(meant) in str(run(error_of(call(text))))


def test_paths_with_a_colon_are_still_paths(tmp_path, monkeypatch):
    """newcomer: a Path, and a str with a slash, are always paths."""
    monkeypatch.chdir(tmp_path)

    def main():
        for address in (Path("127.0.0.1:80"), "./127.0.0.1:80", str(tmp_path / "x:1"), "a:b", b"x:y"):
            with (yield Listen(address)) as listener, (yield Connect(address)), (yield Accept(listener)):
                assert len(os.listdir(tmp_path)) == 1
        return os.listdir(tmp_path)

    assert run(main()) == []


@needs_abstract_names
@pytest.mark.parametrize("name", ["\0minisched:80", b"\0minisched\0\xff", "\0", "\0" + "x" * 107])
def test_abstract_names_and_what_getsockname_returns_for_them_are_addresses(name):
    """load-faults F13: an abstract name may hold any bytes, and leaves no file."""

    def main():
        with (yield Listen(name)) as listener:
            assert isinstance(listener.address, bytes)
            assert (yield from error_of(Listen(name))).errno == errno.EADDRINUSE
            with (yield Connect(listener.address)), (yield Accept(listener)) as far:
                return far.address == listener.address

    assert run(main())


def test_a_system_without_abstract_names_or_unix_sockets_says_so(monkeypatch):
    """load-faults F13: the error is one sentence, not an AttributeError."""
    monkeypatch.setattr("minisched.net.addresses.HAS_ABSTRACT_NAMES", False)
    assert "only Linux" in str(run(error_of(Listen("\0name"))))
    monkeypatch.delattr(socket, "AF_UNIX")
    assert "no Unix sockets" in str(run(error_of(Listen("name"))))


# Unix paths.


def leave_stale(path, kind=socket.SOCK_STREAM):
    """Leave a socket file as a killed process does."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(path)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_path_that_a_dead_process_left_is_taken_over(path, kind):
    """load-faults F8: the next start is not refused."""
    leave_stale(path, kind)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, ready=ready))
        assert (yield from served(path))
        yield from stopped(server)

    run(main())
    assert not os.path.exists(path)


def bound_only(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    return sock


def datagrams(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    return sock


def listening_full(path):
    sock = bound_only(path)
    sock.listen(0)
    return sock


@pytest.mark.parametrize("make", [bound_only, listening_full, datagrams, listen])
def test_a_path_at_which_a_socket_is_open_is_in_use_and_the_socket_notices_nothing(make, path):
    """load-faults F8: a path is never taken from a socket, also if that does not listen yet, or has a full backlog."""
    with make(path) as sock:
        error = run(error_of(Listen(path)))
        assert error.errno == errno.EADDRINUSE and error.filename == path
        assert stat.S_ISSOCK(os.lstat(path).st_mode)
        sock.setblocking(False)
        with pytest.raises((BlockingIOError, OSError)):
            sock.try_accept() if isinstance(sock, Socket) else socket.socket.accept(sock)
    if os.path.exists(path):
        os.unlink(path)


def a_file(path):
    Path(path).write_text("precious")


def a_link_to_a_stale_socket(path):
    leave_stale(path + "-far")
    os.symlink(path + "-far", path)


@pytest.mark.parametrize("make", [a_file, os.mkdir, os.mkfifo, a_link_to_a_stale_socket, lambda p: os.symlink("no", p)])
def test_a_file_of_another_kind_is_never_replaced(make, path):
    """load-faults F8: only a socket file is taken over."""
    make(path)
    before = os.lstat(path)
    assert run(error_of(Listen(path))).errno == errno.EADDRINUSE
    assert os.lstat(path).st_ino == before.st_ino
    assert os.lstat(path).st_mode == before.st_mode


def test_two_listeners_that_start_at_once_do_not_take_the_path_from_each_other(path, monkeypatch):
    """load-faults F8: the slower one finds the path in use, though it was stale when both started."""
    leave_stale(path)
    pauses, rival = [], []
    unlink = os.unlink

    def start_rival(name):
        thread = threading.Thread(target=lambda: rival.append(attempt()))
        thread.start()
        while not pauses and thread.is_alive():  # until it has found the directory locked
            os.sched_yield()
        threads.append(thread)
        unlink(name)

    def attempt():
        try:
            return listen(path)
        except OSError as error:
            return error

    def pause(*arguments):
        pauses.append(arguments)
        os.sched_yield()

    threads = []
    monkeypatch.setattr(unix_paths.os, "unlink", lambda name: unlink(name) if threads else start_rival(name))
    monkeypatch.setattr(unix_paths.select, "select", pause)
    monkeypatch.setattr(unix_paths, "LOCK_TRIES", 10**6)
    first = attempt()
    threads[0].join()
    assert isinstance(first, Socket)
    assert rival[0].errno == errno.EADDRINUSE
    client_of(path).close()
    first.close()
    assert not os.path.exists(path)


def test_a_directory_that_stays_locked_or_can_not_be_locked_leaves_the_path_in_use(path, monkeypatch):
    """load-faults F8: the search for the lock ends, and a stale path is not removed without the lock."""
    import fcntl

    leave_stale(path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    monkeypatch.setattr(unix_paths.select, "select", lambda *arguments: None)
    assert run(error_of(Listen(path))).errno == errno.EADDRINUSE
    fcntl.flock(directory, fcntl.LOCK_UN)
    os.close(directory)

    def no_locks(descriptor, operation):
        if operation != fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert run(error_of(Listen(path))).errno == errno.EADDRINUSE

    def unreadable(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(unix_paths.os, "open", unreadable)
    assert run(error_of(Listen(path))).errno == errno.EADDRINUSE
    assert os.path.exists(path)


def test_a_stale_path_that_vanishes_meanwhile_is_free(path, monkeypatch):
    """load-faults F8: another program may remove the stale file first."""
    leave_stale(path)

    def is_stale(name):
        os.unlink(name)
        return True

    monkeypatch.setattr(unix_paths, "is_stale", is_stale)
    listen(path).close()
    assert not os.path.exists(path)


def test_a_closing_listener_never_removes_the_path_of_its_successor(path):
    """load-faults F8: the path is removed while the socket is open, so that nobody has taken it over yet."""
    found = []

    class Watched(Socket):
        def _real_close(self, *arguments):  # of the standard library's socket
            found.append(os.path.exists(path))
            super()._real_close(*arguments)

    listen(path, make=Watched).close()
    assert found == [False]


def test_a_relative_path_is_removed_after_a_change_of_directory(tmp_path, monkeypatch):
    """world, fixes that were tried (`os.path.abspath`): `chdir` between the bind and the close."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()

    def main():
        with (yield Listen("sock")), (yield Listen("folder/../other")):
            os.chdir("/")
            assert sorted(os.listdir(tmp_path)) == ["folder", "other", "sock"]

    run(main())
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [PermissionError(1, "no"), NotADirectoryError(20, "no"), OSError(30, "read-only")])
def test_a_path_that_can_not_be_removed_is_logged_and_the_listener_is_closed(error, path, monkeypatch, said):
    """load-faults F1: the listener is closed all the same."""

    def refuse(name):
        raise error

    listener = listen(path)
    with monkeypatch.context() as patch:
        patch.setattr(unix_paths.os, "unlink", refuse)
        listener.close()
    assert listener.fileno() == -1
    assert said() == [f"can't remove the socket {path!r}: {error.strerror}"]


def test_a_path_with_a_nul_leaves_no_file(path):
    """world 29: the operating system reads a path up to the NUL, and would make a file of that name."""
    error = run(error_of(Listen(path + "\0b")))
    assert isinstance(error, ValueError) and "NUL" in str(error)
    assert not os.path.exists(path)


@pytest.mark.parametrize("call", [Connect, Listen])
def test_a_path_that_is_too_long_is_named_with_the_limit(call):
    """load-faults F13: the standard library's error has neither a number nor the path."""
    error = run(error_of(call("/" + "x" * 200)))
    assert error.errno == errno.ENAMETOOLONG and "201 bytes" in str(error) and "'/xxx" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another limit")
def test_the_longest_path_is_taken(tmp_path, monkeypatch):
    """load-faults F13: the limit is the one of the system."""
    monkeypatch.chdir(tmp_path)
    listen("x" * 107).close()
    with pytest.raises(OSError, match="too long"):
        listen("x" * 108)


# Modes and owners.


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0])
def test_a_unix_path_has_its_mode_before_anybody_can_connect(mode, path, monkeypatch):
    """load-faults F13: the mode is set before the socket listens, and the umask is left alone."""
    found = []
    real = socket.socket.listen

    def listens(sock, backlog):
        found.append(stat.S_IMODE(os.stat(path).st_mode))
        real(sock, backlog)

    def no_umask(mask):
        raise AssertionError("the umask belongs to all threads")

    monkeypatch.setattr(Socket, "listen", listens, raising=False)
    monkeypatch.setattr(os, "umask", no_umask)

    def main():
        server, _ = yield from begun(lambda ready: serve_unix(echo, path, mode=mode, ready=ready))
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
        yield from stopped(server)

    run(main())
    assert found == [mode]


def test_a_mode_can_be_set_where_the_library_follows_links_only(path, monkeypatch):
    """load-faults F13: a C library without `fchmodat` of links; a link in place of the socket is not followed."""
    real = os.chmod
    victim = path + "-victim"
    Path(victim).write_text("precious")
    real(victim, 0o600)

    def chmod(name, mode, *, follow_symlinks=True):
        if not follow_symlinks:
            if replaced:
                os.rename(name, name + "-away")
                os.symlink(victim, name)
            raise NotImplementedError
        real(name, mode)

    monkeypatch.setattr(unix_paths.os, "chmod", chmod)
    replaced = False
    with listen(path, mode=0o640):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    replaced = True
    assert run(error_of(Listen(path, mode=0o666))).errno == errno.ENOENT
    assert stat.S_IMODE(os.stat(victim).st_mode) == 0o600


@needs_root
@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        (1234, (1234, 0)),
        ("1234:5678", (1234, 5678)),
        (":5678", (0, 5678)),
        ("root:5678", (0, 5678)),
        ("1234:", (1234, 0)),
    ],
)
def test_a_unix_path_has_its_owner(owner, ids, path):
    """load-faults F13: the owner, as `chown` writes it."""
    os.chown(os.path.dirname(path), 0, 0)
    with listen(path, owner=owner, mode=0o660):
        status = os.stat(path)
        assert (status.st_uid, status.st_gid) == ids
        assert stat.S_IMODE(status.st_mode) == 0o660


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"mode": "0660"}, TypeError, "'0660'"),
        ({"mode": True}, TypeError, "True"),
        ({"mode": 660}, ValueError, "0o660"),
        ({"mode": -1}, ValueError, "-1"),
        ({"owner": "no-such-user"}, ValueError, "'no-such-user'"),
        ({"owner": ":no-such-group"}, ValueError, "':no-such-group'"),
        ({"owner": ""}, TypeError, "''"),
        ({"owner": (1, 2)}, TypeError, r"\(1, 2\)"),
        ({"owner": -1}, ValueError, "-1"),
        ({"owner": 2**32 - 1}, ValueError, "4294967295"),
    ],
)
def test_a_wrong_mode_or_owner_is_refused_before_the_path_is_made(options, kind, text, path):
    """load-faults F13: one error that shows the value."""
    with pytest.raises(kind, match=text):
        listen(path, **options)
    assert not os.path.exists(path)


@pytest.mark.parametrize("address", [(LOCAL, 0), pytest.param("\0minisched", marks=needs_abstract_names)])
@pytest.mark.parametrize("options", [{"mode": 0o600}, {"owner": 0}])
def test_an_address_without_a_file_has_no_mode_and_no_owner(address, options):
    """load-faults F13: a mode that would protect nothing is refused."""
    with pytest.raises(ValueError, match="mode"):
        listen(address, **options)


def test_a_mode_that_can_not_be_set_leaves_nothing(path, monkeypatch):
    """load-faults F13: the error names the path, which is removed."""

    def refuse(*arguments, **keywords):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(unix_paths.os, "chmod", refuse)
    assert run(error_of(Listen(path, mode=0o600))).filename == path
    assert not os.path.exists(path)


def test_workers_share_all_addresses_of_a_name_and_a_path_with_its_mode(path, monkeypatch):
    """world 20, load-faults F13: `serve_workers` opens the same listeners as `serve`."""
    hosts(monkeypatch, localhost=[LOCAL, "127.0.0.2"])
    found = []

    class Enough(Exception):
        pass

    def ready(listener):
        found.append(listener.address)
        if len(found) == 3:
            found.append(stat.S_IMODE(os.stat(path).st_mode))
            raise Enough

    with pytest.raises(Enough):
        serve_workers(echo, ("localhost", 0), path, workers=1, mode=0o600, ready=ready)
    (one, port), (two, same), *rest = found
    assert (one, two, same, *rest) == (LOCAL, "127.0.0.2", port, path, 0o600)


# Connections.


class ToItself(Network):
    """A network whose first sockets are bound to the port that they connect to."""

    own = 0

    def dial(self, address):
        [(make, target)] = super().dial(address)
        left = [self.own]
        self.made = []

        def make_socket():
            sock = make()
            self.made.append(sock)
            if left[0]:
                left[0] -= 1
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, servers.RESET)  # the port is free at once
                sock.bind(target)
            return sock

        return [(make_socket, target)]


@pytest.mark.parametrize("own", [1, 2, 3])
def test_a_connection_to_itself_is_tried_again_and_then_refused(own, monkeypatch):
    """world 25: TCP connects to itself, where nobody listens."""
    monkeypatch.setattr(ToItself, "own", own)
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        address = sock.getsockname()

    def main():
        from minisched import CurrentTask

        kernel = (yield CurrentTask()).kernel
        kernel.services[Network] = network = ToItself(kernel)
        with pytest.raises(ConnectionRefusedError, match=LOCAL) as caught:
            yield Connect(address)
        assert ("to itself" in str(caught.value)) == (own == 3)
        assert len(network.made) == min(own + 1, 3)
        assert [sock.fileno() for sock in network.made] == [-1] * len(network.made)

    run(main())


def test_a_peer_that_resets_at_once_is_connected_all_the_same(monkeypatch):
    """world 25: the test for a connection to itself does not turn a lost connection into a failed Connect."""

    class Reset(Socket):
        def getsockname(self):
            return self.peer  # as if the system had chosen the same port

        def getpeername(self):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            monkeypatch.setattr(Network, "socket", Reset)
            with (yield Connect(listener.address)) as sock:
                return type(sock)

    assert run(main()) is Reset


def test_a_socket_that_refuses_nodelay_is_closed(monkeypatch):
    """load-faults F3: the error of the option is one of the address, and nothing is left open."""

    class Refusing(Socket):
        def setsockopt(self, *arguments):
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    monkeypatch.setattr(Network, "socket", Refusing)
    assert run(error_of(Connect((LOCAL, 9)))).errno == errno.ENOPROTOOPT


# Threads.


@pytest.mark.parametrize("verb", ["close", "detach"])
def test_a_socket_that_a_run_uses_can_not_be_closed_in_another_thread(verb):
    """world 16: the other thread gets an error that names Portal.call, and the reader goes on."""

    def main():
        ours, plain = pair()
        with ours, plain:
            reader = yield Spawn(reading(ours))
            yield from parked(reader)
            with pytest.raises(SyscallError, match=rf"{verb} of .* another thread .* Portal\.call"):
                yield InThread(getattr(ours, verb))
            assert ours.fileno() >= 0
            yield Write(plain, b"x")
            return (yield Join(reader))

    def reading(sock):
        return (yield Read(sock, 5))

    assert run(main()) == b"x"


def test_a_portal_closes_a_socket_for_another_thread():
    """world 16: the proposed call wakes the reader."""

    def main():
        ours, plain = pair()
        with plain:
            reader = yield Spawn(reading(ours), keep=True)
            yield from parked(reader)
            with (yield Portal()) as portal:
                yield InThread(portal.call, ours.close)
            with pytest.raises(ClosedError):
                yield Join(reader)

    def reading(sock):
        yield Read(sock, 5)

    run(main())


def test_a_socket_that_no_run_watches_is_closed_in_any_thread():
    """world 16: before its first wait, and after its run."""

    def main(ours, other):
        yield InThread(other.close)
        with (yield CancelScope()) as scope:
            reader = yield Spawn(reading(ours))
            yield from parked(reader)
            scope.cancel()

    def reading(sock):
        yield Read(sock, 5)

    ours, plain = pair()
    other, far = pair()
    with plain, far:
        run(main(ours, other))
        thread = threading.Thread(target=ours.close)
        thread.start()
        thread.join()
        assert (ours.fileno(), other.fileno()) == (-1, -1)


# Reading and writing.


@pytest.mark.parametrize("call", [lambda sock: Read(sock, 5), lambda sock: Write(sock, b"x")], ids=["Read", "Write"])
@pytest.mark.parametrize("blocks", [True, False])
def test_a_tls_socket_is_refused_by_name(call, blocks):
    """newcomer A2.11: the error says how to use an ssl.SSLSocket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False

    def main():
        with (yield Listen((LOCAL, 0))) as listener:
            plain = socket.create_connection(listener.address)
            with context.wrap_socket(plain, do_handshake_on_connect=False) as tls:
                tls.setblocking(blocks)
                error = yield from error_of(call(tls))
                assert isinstance(error, TypeError)
                assert "SSLSocket" in str(error) and "start_tls" in str(error)
                with (yield Accept(listener)) as far:
                    yield Write(far, b"x")
                    yield WaitReadable(tls)

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(memoryview(bytes(16)).cast("B", (4, 4))[::2]),
    ],
)
def test_a_write_of_bytes_that_are_not_contiguous_says_so(data):
    """world 30, load-faults F13: "Write takes bytes, not memoryview" misled."""
    ours, plain = pair()
    with ours, plain:
        error = run(error_of(Write(ours, data)))
    assert isinstance(error, TypeError) and "not contiguous: pass bytes(" in str(error)


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ((ctypes.c_uint16 * 2)(0x6161, 0x6262), b"aabb"),
        ((ctypes.c_char * 2 * 2)((b"a", b"b"), (b"c", b"d")), b"abcd"),
        ((ctypes.c_char * 2 * 0)(), b""),
        (array.array("H", [0x6161]), b"aa"),
        (memoryview(b"abcd").cast("B", (2, 2)), b"abcd"),
        (memoryview(b"a").cast("B", ()), b"a"),
        (bytearray(b"ab"), b"ab"),
    ],
)
def test_contiguous_bytes_of_any_format_are_written(data, sent):
    """world 30: views with a byte order, and empty ones of several dimensions, are bytes, too."""
    ours, plain = pair()
    with ours, plain:

        def main():
            return (yield Write(ours, data))

        assert run(main()) == len(sent)
        plain.setblocking(False)
        assert not sent or plain.recv(100) == sent
