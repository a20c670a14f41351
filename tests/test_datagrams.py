"""Datagrams: UDP over IPv4 and IPv6, and Unix; on our sockets and on plain ones."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from helpers import nothing_is_left, parked, run  # noqa: F401

from minisched import (
    BusyError,
    Cancel,
    ClosedError,
    CurrentTask,
    DatagramTruncated,
    Event,
    Join,
    LimitExceeded,
    Network,
    Now,
    OpenDatagram,
    Read,
    RecvFrom,
    SendTo,
    Sleep,
    Socket,
    Spawn,
    TimedOut,
    Timeout,
    Write,
    gather,
    select,
)
from minisched.net import datagram_sockets, datagrams, unix_paths
from minisched.testing import cancel_everywhere, check_syscall

outside_webassembly = pytest.mark.skipif(sys.platform == "emscripten", reason="there are no sockets")

LOCAL = ("127.0.0.1", 0)
LOCAL6 = ("::1", 0)
MAX4, MAX6 = 65_507, 65_527  # bytes in a datagram over IPv4 and over IPv6


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL6)
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
FAMILIES = ["IPv4", pytest.param("IPv6", marks=needs_ipv6), "Unix"]


@pytest.fixture
def path():
    """Return a short path that does not exist, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        yield os.path.join(directory, "sock")


@pytest.fixture(params=FAMILIES)
def local(request, path):
    """Return a local address of each family; a second socket takes `other_than(local)`."""
    return {"IPv4": LOCAL, "IPv6": LOCAL6, "Unix": path}[request.param]


def other_than(address):
    return address + "2" if isinstance(address, str) else address


def plain(address=LOCAL, seconds=None, kind=socket.socket):
    """Return a bound plain socket, blocking or with a timeout."""
    sock = kind(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(seconds)
    return sock


def receiving(sock, log, size=100):
    log.append((yield RecvFrom(sock, size)))


def received(sock, count, size=100):
    """Return the next datagrams."""
    got = []
    for _ in range(count):
        got.append((yield RecvFrom(sock, size))[0])
    return got


def sending(sock, data, *address):
    return (yield SendTo(sock, data, *address))


# Both kinds of addresses, connected and not.


def test_a_datagram_comes_with_the_address_to_which_the_answer_goes(local):
    def main():
        with (yield OpenDatagram(local)) as near, (yield OpenDatagram(other_than(local))) as far:
            assert (yield SendTo(far, b"hello", near.address)) == 5
            assert (yield RecvFrom(near)) == (b"hello", far.address)
            yield SendTo(near, b"answer", far.address)
            return (yield RecvFrom(far))[0]

    assert run(main()) == b"answer"


def test_a_connected_socket_needs_no_address_and_can_be_answered(local):
    def main():
        with (yield OpenDatagram(local)) as server, (yield OpenDatagram(remote=server.address)) as client:
            assert (client.peer, server.peer) == (server.address, None)
            yield SendTo(client, b"question")
            data, sender = yield RecvFrom(server)
            yield SendTo(server, data[::-1], sender)
            assert (yield RecvFrom(client)) == (b"noitseuq", server.address)
            yield Write(client, b"w")
            yield Write(client, b"")
            return [(yield Read(server, 10)), (yield Read(server, 10))]

    if isinstance(local, str) and sys.platform != "linux":
        pytest.skip("no abstract names")
    assert run(main()) == [b"w", b""]


def test_a_connected_socket_receives_from_its_peer_only():
    def main():
        with (yield OpenDatagram(LOCAL)) as peer, (yield OpenDatagram(LOCAL)) as other:
            with (yield OpenDatagram(LOCAL, peer.address)) as sock:
                yield SendTo(other, b"from another", sock.address)
                yield SendTo(peer, b"from the peer", sock.address)
                return (yield RecvFrom(sock))[0]

    assert run(main()) == b"from the peer"


def test_an_async_def_awaits_the_same_calls():
    async def main():
        async with OpenDatagram(LOCAL) as sock:
            await SendTo(sock, b"hello", sock.address)
            return (await RecvFrom(sock, 10))[0]

    assert run(main()) == b"hello"


def test_an_empty_datagram_is_a_datagram(local):
    def main():
        with (yield OpenDatagram(local)) as near, (yield OpenDatagram(other_than(local))) as far:
            for data in (b"", b"x", b""):
                assert (yield SendTo(far, data, near.address)) == len(data)
            return (yield from received(near, 3))

    assert run(main()) == [b"", b"x", b""]


def test_a_task_receives_while_another_one_sends():
    def pump(sock, to):
        for number in range(100):
            yield SendTo(sock, b"%d" % number, to)
            yield

    def drain(sock):
        return (yield from received(sock, 100, 9))

    def main():
        with (yield OpenDatagram(LOCAL)) as one, (yield OpenDatagram(LOCAL)) as two:
            return (yield from gather(drain(one), drain(two), pump(one, two.address), pump(two, one.address)))

    assert run(main())[:2] == [[b"%d" % number for number in range(100)]] * 2


def test_the_bytes_may_be_in_any_buffer():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            for data in (bytearray(b"ab"), memoryview(b"abcd")[::2].tobytes(), memoryview(b"ab")):
                yield SendTo(sock, data, sock.address)
            with pytest.raises(TypeError, match="SendTo takes bytes, not str"):
                yield SendTo(sock, "ab", sock.address)
            return (yield from received(sock, 3))

    assert run(main()) == [b"ab", b"ac", b"ab"]


# Sizes.


def test_a_datagram_that_is_larger_than_asked_for_says_that_it_was_cut(local):
    def main():
        with (yield OpenDatagram(local)) as near, (yield OpenDatagram(other_than(local))) as far:
            for data in (b"12345", b"1234", b"next"):
                yield SendTo(far, data, near.address)
            with pytest.raises(DatagramTruncated, match="more than 4 bytes") as caught:
                yield RecvFrom(near, 4)
            assert (caught.value.data, caught.value.address) == (b"1234", far.address)
            assert isinstance(caught.value, LimitExceeded)
            return (yield from received(near, 2, 4))

    assert run(main()) == [b"1234", b"next"]


def test_a_read_of_a_datagram_socket_says_it_too():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            yield SendTo(sock, b"12345", sock.address)
            yield SendTo(sock, b"12", sock.address)
            with pytest.raises(DatagramTruncated):
                yield Read(sock, 4)
            return (yield Read(sock, 4))

    assert run(main()) == b"12"


@pytest.mark.parametrize("size", [0, -1, 1.5, "9", True, None])
def test_a_size_is_an_integer_from_1(size):
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            with pytest.raises((TypeError, ValueError), match="RecvFrom: size is a number of bytes, 1 or more"):
                yield RecvFrom(sock, size)

    run(main())


@pytest.mark.parametrize(
    ("address", "limit", "text"),
    [(LOCAL, MAX4, "65,508 bytes, and a datagram holds at most 65,507"),
     pytest.param(LOCAL6, MAX6, "65,528 bytes, and a datagram holds at most 65,527", marks=needs_ipv6)],
    ids=["IPv4", "IPv6"],
)  # fmt: skip
def test_a_datagram_that_is_too_large_is_an_error_that_names_the_limit(address, limit, text):
    def main():
        with (yield OpenDatagram(address)) as sock, (yield OpenDatagram(remote=sock.address)) as client:
            for to in ((sock, sock.address), (client, None)):
                with pytest.raises(OSError, match=text) as caught:
                    yield SendTo(to[0], bytes(limit + 1), to[1])
                assert caught.value.errno == errno.EMSGSIZE
                assert str(sock.address[1]) in caught.value.filename
            yield SendTo(client, bytes(limit))
            return len((yield RecvFrom(sock))[0])

    assert run(main()) == limit


@needs_linux
def test_a_unix_datagram_may_be_as_large_as_the_buffer_and_the_error_names_that(path):
    def main():
        with (yield OpenDatagram(path)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
            with pytest.raises(OSError, match="500,000 bytes, and the socket's SO_SNDBUF is 4") as caught:
                yield SendTo(sock, bytes(500_000), path)
            assert caught.value.errno == errno.EMSGSIZE
            yield SendTo(sock, bytes(100_000), path)
            with pytest.raises(DatagramTruncated):
                yield RecvFrom(sock)
            yield SendTo(sock, bytes(100_000), path)
            return len((yield RecvFrom(sock, 10**20))[0])

    assert run(main()) == 100_000


# ICMP errors.


def free_port():
    with plain() as sock:
        return sock.getsockname()


@needs_linux
@pytest.mark.parametrize("call", [lambda sock: RecvFrom(sock), lambda sock: SendTo(sock, b"second")])
def test_an_icmp_error_reaches_the_next_call_on_a_connected_socket_once(call):
    def main():
        where = free_port()
        with (yield OpenDatagram(remote=where)) as sock:
            yield SendTo(sock, b"first")
            with pytest.raises(ConnectionRefusedError) as caught:
                yield call(sock)
            assert caught.value.filename == f"127.0.0.1:{where[1]}"
            with (yield OpenDatagram(where)) as server:  # from now on, a socket is there
                yield SendTo(sock, b"third")
                return (yield RecvFrom(server))[0]

    assert run(main()) == b"third"


@needs_linux
def test_an_icmp_error_wakes_the_task_that_waits():
    def main():
        with (yield OpenDatagram(remote=free_port())) as sock:
            task = yield Spawn(receiving(sock, []), keep=True)
            yield from parked(task)
            yield SendTo(sock, b"x")
            with pytest.raises(ConnectionRefusedError):
                yield Join(task)

    run(main())


def test_a_peer_that_is_gone_causes_no_error_on_an_unconnected_socket():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            yield SendTo(sock, b"to nobody", free_port())
            yield SendTo(sock, b"x", sock.address)
            return (yield RecvFrom(sock))[0]

    assert run(main()) == b"x"


def test_a_unix_path_without_a_socket_refuses(path):
    def main():
        with (yield OpenDatagram(path + "2")) as sock:
            with pytest.raises(FileNotFoundError) as caught:
                yield SendTo(sock, b"x", path)
            assert caught.value.filename == path
            with pytest.raises(FileNotFoundError) as caught:
                yield OpenDatagram(remote=path)
            assert caught.value.filename == path
            stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            stale.bind(path)
            stale.close()
            with pytest.raises(ConnectionRefusedError):
                yield SendTo(sock, b"x", path)

    run(main())


# Waiting for room.


def filled(sock, *address):
    """Send until there is no room; return how many datagrams fit."""
    for count in range(100_000):
        try:
            datagram_sockets.send(sock, b"fill", address[0] if address else None)
        except BlockingIOError:
            return count
    raise AssertionError("there is always room")


@needs_linux
@pytest.mark.parametrize("connected", [True, False])
def test_send_to_waits_for_room_and_passes_the_conformance_test(path, connected):
    def make():
        receiver = yield OpenDatagram(path)
        sender = yield OpenDatagram(remote=path) if connected else OpenDatagram(path + "2")
        to = () if connected else (path,)
        assert filled(sender, *to) > 0
        drain = socket.socket.recv

        def complete():
            drain(receiver, 10)

        return SendTo(sender, b"last", *to), complete, lambda: (sender.close(), receiver.close())

    check_syscall(make)


@needs_linux
def test_a_send_for_which_a_poll_reports_room_that_is_not_there_is_tried_again_after_pauses(path):
    """The receiver's queue is full, and the sender is not connected: its own socket is always writable."""

    def main():
        with (yield OpenDatagram(path)) as receiver, (yield OpenDatagram(path + "2")) as sender:
            count = filled(sender, path)
            task = yield Spawn(sending(sender, b"last", path))
            yield from parked(task)
            for tries in range(3):  # nothing happens in a pause, so that virtual time passes
                assert (yield Now()) == pytest.approx(tries * datagrams.RETRY_SECONDS)
                yield Sleep(datagrams.RETRY_SECONDS)
                assert task.state == "parked"
            got = yield from received(receiver, count)
            assert (yield Join(task)) == 4
            return [*got, *(yield from received(receiver, 1))]

    assert run(main())[-2:] == [b"fill", b"last"]


@needs_linux
def test_a_socket_that_is_closed_during_such_a_pause_wakes_its_task(path):
    def main():
        with (yield OpenDatagram(path)), (yield OpenDatagram(path + "2")) as sender:
            filled(sender, path)
            task = yield Spawn(sending(sender, b"last", path), keep=True)
            yield from parked(task)
            sender.close()
            with pytest.raises(ClosedError):
                yield Join(task)

    run(main())


class Full(socket.socket):
    """A plain socket for which the system has no buffers, some times."""

    def __init__(self, *args):
        super().__init__(*args)
        self.times = 3

    def sendto(self, *args):
        self.times -= 1
        if self.times >= 0:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return super().sendto(*args)


def test_a_lack_of_buffers_waits_without_polling():
    def main():
        with plain(kind=Full) as sock:
            begin = yield Now()
            assert (yield SendTo(sock, b"x", sock.getsockname())) == 1
            assert sock.times == -1
            passed = (yield Now()) - begin
            assert (yield RecvFrom(sock, 9))[0] == b"x"
            return passed

    assert run(main()) == pytest.approx(3 * datagrams.RETRY_SECONDS)


# Plain sockets, and other files.


@pytest.mark.parametrize("seconds", [None, 0, 5], ids=["blocking", "non-blocking", "with a timeout"])
def test_a_plain_socket_works_in_each_mode_and_keeps_it(seconds):
    def main():
        with plain(seconds=seconds) as near, plain(seconds=seconds) as far:
            log = []
            task = yield Spawn(receiving(near, log))
            yield from parked(task)
            assert (yield SendTo(far, b"hello", near.getsockname())) == 5
            yield Join(task)
            assert near.gettimeout() == seconds
            with pytest.raises(DatagramTruncated):
                yield SendTo(far, b"hello", near.getsockname())
                yield RecvFrom(near, 4)
            return log == [(b"hello", far.getsockname())]

    assert run(main())


def test_a_socket_of_ours_around_any_datagram_socket_works():
    def main():
        with Socket(fileno=plain().detach()) as sock:
            yield SendTo(sock, b"hello", sock.address)
            with pytest.raises(DatagramTruncated):
                yield RecvFrom(sock, 4)

    run(main())


def test_other_files_are_refused_with_what_to_use():
    def main():
        one, other = socket.socketpair()
        with one, other:
            with pytest.raises(TypeError, match="this is a stream socket: use Read"):
                yield RecvFrom(one)
            with pytest.raises(TypeError, match="this is a stream socket: use Write"):
                yield SendTo(other, b"x")
            for file in (one.fileno(), object(), None):
                with pytest.raises(TypeError, match="RecvFrom takes a socket"):
                    yield RecvFrom(file)

    run(main())


def test_a_socket_without_a_peer_needs_an_address(path):
    def main():
        for local in (LOCAL, path):
            with (yield OpenDatagram(local)) as sock:
                with pytest.raises(OSError, match="the socket is not connected, so SendTo needs an address"):
                    yield SendTo(sock, b"x")

    run(main())


# Waiting, closing, cancelling.


@pytest.mark.parametrize("seconds", ["ours", None, 5])
def test_recv_from_passes_the_conformance_test(seconds):
    def make():
        near = (yield OpenDatagram(LOCAL)) if seconds == "ours" else plain(seconds=seconds)
        far = plain()
        return RecvFrom(near, 9), lambda: far.sendto(b"x", near.getsockname()), lambda: (near.close(), far.close())

    check_syscall(make)


def test_one_task_at_a_time_and_a_close_wakes_it():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            task = yield Spawn(receiving(sock, []), keep=True)
            yield from parked(task)
            with pytest.raises(BusyError, match="another task waits to read datagram socket"):
                yield RecvFrom(sock)
            yield SendTo(sock, b"", ("127.0.0.1", 9))  # the other direction is free
            sock.close()
            with pytest.raises(ClosedError):
                yield Join(task)
            for call in (RecvFrom(sock), SendTo(sock, b"x", LOCAL)):
                with pytest.raises(ClosedError, match="datagram socket is closed"):
                    yield call
            assert sock.label == "closed datagram socket"

    run(main())


def test_a_call_can_be_a_branch_of_select_and_have_a_timeout():
    def main():
        with (yield OpenDatagram(LOCAL)) as one, (yield OpenDatagram(LOCAL)) as two:
            yield SendTo(one, b"x", two.address)
            assert (yield select(RecvFrom(one), RecvFrom(two), Event().wait())) == (1, (b"x", one.address))
            with pytest.raises(TimedOut):
                with (yield Timeout(1)):
                    yield RecvFrom(one)
            return (yield select(RecvFrom(one), SendTo(two, b"ab", one.address)))

    assert run(main()) == (1, 2)


class Conversation:
    """A program in which one task sends three datagrams to another one, and which is then checked.

    They are Unix datagrams, since the system loses none of them.
    """

    def __init__(self, path):
        self.path = path
        self.sent, self.got, self.server = [], [], None

    def main(self):
        self.server = yield OpenDatagram(self.path)
        with (yield OpenDatagram(remote=self.path)) as client:
            task = yield Spawn(self.consumer(), keep=True)
            yield Join((yield Spawn(self.producer(client), keep=True)))
            yield Sleep(1)
            yield Cancel(task)

    def producer(self, client):
        for data in (b"1", b"2", b"3"):
            yield SendTo(client, data)
            self.sent.append(data)

    def consumer(self):
        while True:
            data, _ = yield RecvFrom(self.server)
            self.got.append(data)

    def check(self):
        if self.server is not None:
            while (data := unread(self.server)) is not None:
                self.got.append(data)
            self.server.close()
        assert self.sent == self.got, f"sent {self.sent}, and received {self.got}"
        assert not os.path.exists(self.path)


def unread(sock):
    """Return the next datagram, or None."""
    try:
        return datagram_sockets.receive(sock, 9)[0]
    except BlockingIOError:
        return None


def test_no_datagram_is_lost_wherever_a_program_is_cancelled(path):
    def make():
        conversation = Conversation(path)
        return conversation.main(), conversation.check

    assert cancel_everywhere(make) > 10


# Addresses.


@pytest.fixture
def no_name_server(monkeypatch):
    """Fail if a name server could be asked."""
    look_up = socket.getaddrinfo

    def numeric_only(*args, flags=0, **keywords):
        assert flags & socket.AI_NUMERICHOST
        return look_up(*args, flags=flags, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", numeric_only)


@pytest.mark.parametrize("host", ["localhost", "example.org", "", "<broadcast>", "a%b", "127.0.0.1\0", "fe80::1%\0"])
def test_a_name_is_refused_with_a_sentence(host, no_name_server):
    def main():
        for call in (OpenDatagram((host, 80)), OpenDatagram(remote=(host, 80))):
            with pytest.raises(ValueError, match=r"is not an IP address; look a name up first, by `yield Resolve\("):
                yield call
        with (yield OpenDatagram(LOCAL)) as ours, plain() as theirs:
            for sock in (ours, theirs):
                with pytest.raises(ValueError, match="is not an IP address"):
                    yield SendTo(sock, b"x", (host, 80))

    run(main())


@needs_ipv6
@pytest.mark.parametrize("parts", [(), (0,), (0, 0)])
def test_an_ipv6_address_has_two_to_four_parts(parts, no_name_server):
    def main():
        with (yield OpenDatagram(("::1", 0, *parts))) as server:
            to = ("::1", server.address[1], *parts)
            with (yield OpenDatagram(remote=to)) as client, (yield OpenDatagram(LOCAL6)) as other:
                yield SendTo(client, b"a")
                yield SendTo(other, b"b", to)
                return (yield from received(server, 2))

    assert run(main()) == [b"a", b"b"]


@needs_linux
def test_an_address_may_name_its_interface(no_name_server):
    index = socket.if_nametoindex("lo")
    assert datagram_sockets.for_family(socket.AF_INET6, ("fe80::1%lo", 7)) == ("fe80::1", 7, 0, index)
    assert datagram_sockets.for_family(socket.AF_INET6, ("fe80::1%lo", 7, 5, 9)) == ("fe80::1", 7, 5, 9)


@pytest.mark.parametrize(
    ("local", "remote", "error", "text"),
    [(None, None, ValueError, "a local or a remote address, or both: there is none"),
     (LOCAL, LOCAL6, ValueError, "which are of two kinds"),
     (LOCAL, "/path", ValueError, "which are of two kinds"),
     ("127.0.0.1:80", None, ValueError, "an address is \\(host, port\\)"),
     (("127.0.0.1", 65536), None, ValueError, "a port is a number from 0 to 65535"),
     (("127.0.0.1", 1, 0, 0), None, ValueError, "an address of IPv4 is \\(ip, port\\)"),
     (("127.0.0.1", "80"), None, TypeError, "an address is \\(host, port\\)"),
     (80, None, TypeError, "an address is \\(host, port\\)")],
    ids=range(8),
)  # fmt: skip
def test_a_malformed_address_is_refused(local, remote, error, text):
    def main():
        with pytest.raises(error, match=text):
            yield OpenDatagram(local, remote)

    run(main())


def test_an_address_of_another_kind_than_the_socket_is_refused(path):
    def main():
        with (yield OpenDatagram(LOCAL)) as udp, (yield OpenDatagram(path)) as unix:
            with pytest.raises(ValueError, match="the socket is one of IPv4, and '::1' is an address of IPv6"):
                yield SendTo(udp, b"x", ("::1", 80))
            with pytest.raises(TypeError, match="an address is"):
                yield SendTo(udp, b"x", path)
            with pytest.raises(TypeError, match="the address of a Unix socket is a path"):
                yield SendTo(unix, b"x", udp.address)
            with pytest.raises(ValueError, match="mode and owner are those of a Unix path"):
                yield OpenDatagram(LOCAL, mode=0o600)

    run(main())


def test_an_address_that_is_in_use_or_not_here_is_named():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            with pytest.raises(OSError) as caught:
                yield OpenDatagram(sock.address)
            assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, f"127.0.0.1:{sock.address[1]}")
            with pytest.raises(OSError) as caught:
                yield OpenDatagram(("192.0.2.1", 0))
            assert (caught.value.errno, caught.value.filename) == (errno.EADDRNOTAVAIL, "192.0.2.1:0")

    run(main())


@needs_linux
def test_sockets_may_share_a_port_if_each_of_them_says_so():
    def main():
        with (yield OpenDatagram(LOCAL, reuse_port=True)) as one:
            with (yield OpenDatagram(one.address, reuse_port=True)) as two:
                return one.address == two.address

    assert run(main())


@needs_ipv6
def test_ipv4_and_ipv6_may_have_the_same_port():
    def main():
        with (yield OpenDatagram(("::", 0))) as six, (yield OpenDatagram(("0.0.0.0", six.address[1]))):
            pass

    run(main())


def test_the_network_of_a_run_opens_the_socket():
    class Counting(Network):
        def open_datagram(self, local, remote, **options):
            calls.append((local, remote))
            return super().open_datagram(local, remote, **options)

    def main():
        kernel = (yield CurrentTask()).kernel
        kernel.services[Network] = Counting(kernel)
        with (yield OpenDatagram(LOCAL)):
            pass

    calls = []
    run(main())
    assert calls == [(LOCAL, None)]


# Unix paths.


def test_a_path_is_removed_at_the_close_and_taken_over_from_a_dead_process(path):
    def main():
        for given in (path, os.fsencode(path), Path(path)):
            with (yield OpenDatagram(given)) as sock:
                assert stat.S_ISSOCK(os.lstat(path).st_mode)
                with pytest.raises(OSError) as caught:
                    yield OpenDatagram(path)
                assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, path)
            assert sock.fileno() < 0 and not os.path.exists(path)
        stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stale.bind(path)
        stale.close()
        with (yield OpenDatagram(path)) as sock:
            yield SendTo(sock, b"x", path)
            assert (yield RecvFrom(sock)) == (b"x", path)
        Path(path).write_text("a file")
        with pytest.raises(OSError):
            yield OpenDatagram(path)
        assert Path(path).read_text() == "a file"

    run(main())


@outside_webassembly
def test_a_path_has_no_permissions_before_it_has_its_mode(path, monkeypatch):
    seen = []
    set_access = unix_paths.BoundPath.set_access

    def note(self, *access):
        seen.append(stat.S_IMODE(os.lstat(path).st_mode))
        set_access(self, *access)

    monkeypatch.setattr(unix_paths.BoundPath, "set_access", note)

    def main():
        with (yield OpenDatagram(path, mode=0o620, owner=os.getuid())):
            return stat.S_IMODE(os.lstat(path).st_mode)

    assert run(main()) == 0o620
    assert seen == ([0] if sys.platform == "linux" else seen)


def test_a_socket_that_cannot_be_connected_or_given_its_mode_leaves_neither_path_nor_descriptor(path, monkeypatch):
    def main():
        with pytest.raises(FileNotFoundError) as caught:
            yield OpenDatagram(path, path + "none")
        assert caught.value.filename == path + "none" and not os.path.exists(path)

        def fail(self, *access):
            raise PermissionError(errno.EPERM, "not you")

        monkeypatch.setattr(unix_paths.BoundPath, "set_access", fail)
        with pytest.raises(PermissionError):
            yield OpenDatagram(path, mode=0o600)
        assert not os.path.exists(path)

    run(main())


@needs_linux
def test_an_abstract_name_is_an_address_without_a_mode():
    name = f"\0minisched-{os.getpid()}"

    def main():
        with (yield OpenDatagram(name)) as server, (yield OpenDatagram(remote=name)) as client:
            yield SendTo(client, b"x")
            data, sender = yield RecvFrom(server)
            yield SendTo(server, data, sender)
            assert (yield RecvFrom(client))[0] == b"x"
        with pytest.raises(ValueError, match="has neither mode nor owner"):
            yield OpenDatagram(name, mode=0o600)

    run(main())


def test_the_calls_describe_themselves():
    def main():
        with (yield OpenDatagram(LOCAL)) as sock:
            return repr(RecvFrom(sock, 9)), repr(SendTo(sock, b"abc", LOCAL)), repr(OpenDatagram(LOCAL))

    assert run(main()) == (
        "RecvFrom(datagram socket)",
        "SendTo(datagram socket, 3 bytes, ('127.0.0.1', 0))",
        "OpenDatagram(('127.0.0.1', 0), None)",
    )
