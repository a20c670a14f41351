"""TLS: `start_tls` and the file-like that it returns, and `serve(tls=...)`. All in memory or over loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

import pytest
from helpers import nothing_is_left, parked, pattern, run, until  # noqa: F401
from programs import finished
from servers import echo, handlers, said, settled, stopped  # noqa: F401

pytest.importorskip("trustme")

from certificates import NAME, client_context, server_context

import minisched
from minisched import (
    BusyError,
    Cancel,
    ClosedError,
    Connect,
    FileWrapper,
    IncompleteWrite,
    Join,
    Listen,
    MoveOnAfter,
    Now,
    Read,
    Sleep,
    Socket,
    Spawn,
    Stream,
    TaskCancelled,
    TimedOut,
    Timeout,
    TlsConnection,
    TlsError,
    TlsTruncated,
    WaitReadable,
    Write,
    gather,
    select,
    serve,
    serve_listeners,
    start_tls,
)
from minisched.net import tls_errors
from minisched.net.tls import BATCH_BYTES, RECEIVE_BYTES, Handshake
from minisched.net.tls_errors import explained, reason_of
from minisched.testing import cancel_everywhere, check_syscall

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
PLAIN_HTTP = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"


def sockets():
    """Return two connected Sockets."""
    return [Socket(fileno=end.detach(), peer="pair") for end in socket.socketpair()]


def connected(server=None, client=None, **options):
    """Return both ends of a TLS connection, the server's first."""
    near, far = sockets()
    return (
        yield from gather(
            start_tls(near, server or server_context(), server_side=True),
            start_tls(far, client or client_context(), server_hostname=options.pop("name", NAME), **options),
        )
    )


def plain_call(tls, *data):
    """Encrypt and send records, in a plain call between two yields."""
    for piece in data:
        assert tls.try_write(piece) == len(piece)


def reading(file, size):
    data = b""
    while len(data) < size and (more := (yield Read(file, 30_000))):
        data += more
    return data


def writing(file, data):
    return (yield Write(file, data))


def failure(body):
    """Run `body`; return the text of its TlsError."""
    try:
        yield from body
    except TlsError as error:
        return str(error)
    return None


# The conformance of the calls.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_read_passes_the_conformance_test(version):
    server = server_context()
    server.maximum_version = version

    def make():
        near, far = yield from connected(server)
        return Read(near, 9), lambda: plain_call(far, b"x"), lambda: (near.close(), far.close())

    check_syscall(make)


def test_a_write_passes_the_conformance_test():
    def make():
        near, far = yield from connected()
        return Write(near, bytes(300_000)), lambda: drain(far.inner), lambda: (near.close(), far.close())

    check_syscall(make)


def drain(sock):
    """Read a socket until it is empty."""
    data = b""
    with pytest.raises(BlockingIOError):
        while True:
            data += sock.try_read(1 << 20)
    return data


def test_a_handshake_passes_the_conformance_test():
    def make():
        near, far = sockets()
        client = TlsConnection(far, client_context(), server_hostname=NAME)
        with pytest.raises(BlockingIOError):
            client.try_handshake()  # the first message is sent
        call = Handshake(TlsConnection(near, server_context(), server_side=True))
        return call, lambda: complete(client), lambda: (near.close(), far.close())

    def complete(client):
        with suppress(BlockingIOError):  # a server that was cancelled before has not answered
            client.try_handshake()

    check_syscall(make)


# Bytes.


@pytest.mark.parametrize("version", VERSIONS)
def test_a_megabyte_goes_both_ways_at_once(version):
    server, data = server_context(), pattern(1 << 20)
    server.maximum_version = version

    def main():
        near, far = yield from connected(server)
        with near, far:
            got = yield from gather(
                writing(near, data), writing(far, data[::-1]), reading(near, len(data)), reading(far, len(data))
            )
            return got == [len(data), len(data), data[::-1], data]

    assert run(main())


def test_records_of_one_byte_are_read_together():
    def main():
        near, far = yield from connected()
        with near, far:
            plain_call(far, *(b"%c" % letter for letter in b"one byte at a time"))
            return (yield Read(near, 4)), (yield Read(near, 100))

    assert run(main()) == (b"one ", b"byte at a time")


class OneByte(FileWrapper):
    """Delivers one byte at a time, as a slow network may."""

    def try_read(self, size):
        return self.inner.try_read(1)


def test_a_connection_that_delivers_one_byte_at_a_time():
    def main():
        near, far = sockets()
        near, far = yield from gather(
            start_tls(OneByte(near), server_context(), server_side=True),
            start_tls(OneByte(far), client_context(), server_hostname=NAME),
        )
        with near, far:
            return (yield from gather(writing(near, b"a few bytes" * 10), reading(far, 110)))

    assert run(main()) == [110, b"a few bytes" * 10]


def test_a_slow_network_does_not_hold_up_other_tasks():
    """A try ends after a few receives, also if more has arrived: other tasks have their turn."""

    def counting(counts):
        while True:
            counts.append(0)
            yield Sleep(0)

    def main():
        near, far = yield from connected()
        with near, far:
            near.inner = OneByte(near.inner)
            plain_call(far, bytes(1000))
            counts = []
            task = yield Spawn(counting(counts), daemon=True)
            assert (yield Read(near, 1000)) == bytes(1000)
            yield Cancel(task)
            return len(counts)

    assert run(main()) > 100


def test_tls_inside_of_tls():
    data = pattern(1 << 18)

    def main():
        near, far = yield from connected()
        near, far = yield from gather(
            start_tls(near, server_context(), server_side=True),
            start_tls(far, client_context(), server_hostname=NAME),
        )
        with near, far:
            got = yield from gather(
                writing(near, data), writing(far, data), reading(near, len(data)), reading(far, len(data))
            )
            near.write_eof()
            return got[2:] == [data, data] and (yield Read(far, 1)) == b""

    assert run(main())


def test_tls_begins_after_a_plain_exchange_and_loses_no_byte_that_was_read_already():
    def client(sock):
        with sock:
            yield Write(sock, b"STARTTLS\n")
            tls = yield from start_tls(sock, client_context(), server_hostname=NAME)
            yield Write(tls, b"secret")
            return (yield Read(tls, 100))

    def server(sock):
        with sock:
            yield settled()  # the line and the first message of the handshake arrive together
            line, _, received = (yield Read(sock, 65536)).partition(b"\n")
            assert received
            tls = yield from start_tls(sock, server_context(), server_side=True, received=received)
            yield Write(tls, line + (yield Read(tls, 100)))

    def main():
        near, far = sockets()
        return (yield from gather(client(far), server(near)))

    assert run(main()) == [b"STARTTLSsecret", None]


def test_a_coroutine_awaits_start_tls():
    async def talk(sock, context, **options):
        with await start_tls(sock, context, **options) as tls:
            await Write(tls, b"hello")
            return await Read(tls, 100)

    def main():
        near, far = sockets()
        server = talk(near, server_context(), server_side=True)
        return (yield from gather(server, talk(far, client_context(), server_hostname=NAME)))

    assert run(main()) == [b"hello", b"hello"]


# The knowledge of each side about the other.


def test_a_connection_knows_its_version_cipher_protocol_and_peer():
    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener:
            plain = yield Connect(listener.address)
            task = yield Spawn(start_tls(plain, client_context(alpn=["h2", "x"]), server_hostname=NAME), keep=True)
            near = listener.try_accept()
            near = yield from start_tls(near, server_context(alpn=["x", "y"]), server_side=True)
            far = yield Join(task)
            with near, far:
                assert (near.version, near.alpn, far.alpn) == ("TLSv1.3", "x", "x")
                assert near.cipher == far.cipher and "TLS_" in near.cipher
                assert (near.peer, near.address) == (far.address, far.peer)
                assert near.peer_certificate is None
                assert far.peer_certificate["subjectAltName"] == (("DNS", NAME),)
                assert repr(Read(near, 1)) == "Read(TlsConnection of socket, 1)"

    run(main())


def test_sides_without_a_common_protocol_have_none():
    def main():
        near, far = yield from connected(server_context(alpn=["a"]), client_context(alpn=["b"]))
        with near, far:
            return near.alpn, far.alpn

    assert run(main()) == (None, None)


def test_a_server_chooses_the_certificate_by_the_name_that_the_client_asks_for():
    context, asked = server_context(), []
    other = server_context("other.org")

    def choose(connection, name, _):
        asked.append(name)
        connection.context = other if name == "other.org" else context

    context.sni_callback = choose

    def main():
        for name in (NAME, "other.org"):
            near, far = yield from connected(context, name=name)
            with near, far:
                assert far.peer_certificate["subjectAltName"] == (("DNS", name),)

    run(main())
    assert asked == [NAME, "other.org"]


def test_a_server_sees_the_certificate_of_a_client():
    def main():
        near, far = yield from connected(server_context(verify=True), client_context(name="me.example.org"))
        with near, far:
            return near.peer_certificate["subjectAltName"]

    assert run(main()) == (("DNS", "me.example.org"),)


# Handshakes that fail.


def both(server, client, name=NAME):
    """Try a handshake; return the errors of both sides, the server's first. A client also reads."""

    def client_side(sock):
        tls = yield from start_tls(sock, client, server_hostname=name)
        with tls:
            yield Read(tls, 1)

    def server_side(sock):
        with (yield from start_tls(sock, server, server_side=True)) as tls:
            yield Write(tls, b"x")

    def main():
        near, far = sockets()
        errors = yield from gather(failure(server_side(near)), failure(client_side(far)))
        assert (near.fileno(), far.fileno()) == (-1, -1)
        return errors

    return run(main())


def only(context, version):
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("server", "client", "name", "at_server", "at_client"),
    [
        ({"expired": True}, {}, NAME, "has expired", "certificate of the peer is refused: certificate has expired"),
        ({"name": "other.org"}, {}, NAME, "TLS: the peer refuses the certificate", "is not valid for 'example.org'"),
        ({}, {"trusting": False}, NAME, "does not know the authority", "unable to get local issuer certificate"),
        (
            {"verify": True},
            {},
            NAME,
            "has sent no certificate, and this side requires one",
            "TLS with example.org: the",
        ),
    ],
    ids=["expired", "wrong host name", "unknown authority", "no client certificate"],
)
def test_each_side_says_why_a_handshake_has_failed(server, client, name, at_server, at_client, version):
    errors = both(only(server_context(**server), version), client_context(**client), name)
    assert at_server in errors[0] and at_client in errors[1]


def test_sides_without_a_common_version_say_so():
    errors = both(only(server_context(), VERSIONS[1]), only(client_context(), VERSIONS[0]))
    assert errors == [f"{prefix}: there is no version of TLS that both sides accept" for prefix in NAMES]


NAMES = ("TLS", "TLS with example.org")


def test_sides_without_a_common_cipher_say_so():
    server, client = only(server_context(), VERSIONS[0]), client_context()
    server.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    client.maximum_version = VERSIONS[0]
    errors = both(server, client)
    assert "both sides have no cipher in common" in errors[0] and "the peer refuses" in errors[1]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (PLAIN_HTTP, "TLS: the peer has sent an HTTP request without TLS"),
        (b"hello\n" * 20, "TLS: the peer does not speak TLS here"),
        (b"", "TLS: the peer has closed the connection during the handshake"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS: the peer has closed the connection during the handshake"),
    ],
    ids=["HTTP", "text", "nothing", "a part of a message"],
)
def test_a_server_says_what_it_got_in_place_of_a_handshake(sent, text):
    def main():
        near, far = sockets()
        far.try_write(sent)
        far.shutdown(socket.SHUT_WR)
        with far:
            error = yield from failure(start_tls(near, server_context(), server_side=True))
            assert near.fileno() == -1
            return error

    assert run(main()) == text


def test_the_error_has_the_reason_of_openssl_and_the_exception_of_ssl_as_its_cause():
    def main():
        near, far = sockets()
        far.try_write(PLAIN_HTTP)
        with far, pytest.raises(TlsError) as raised:
            yield from start_tls(near, server_context(), server_side=True)
        return raised.value

    error = run(main())
    assert error.reason == error.__cause__.reason == "HTTP_REQUEST"
    assert isinstance(error, ConnectionError) and isinstance(error.__cause__, ssl.SSLError)


def test_a_reason_that_this_python_has_no_name_for_has_its_sentence_too():
    error = ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)")
    error.reason = None
    assert reason_of(error) == "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"
    assert explained(error, reason_of(error), False, False).endswith("(ALPN)")
    other = ssl.SSLError(1, "something new")
    other.reason = None
    assert reason_of(other) is None and explained(other, None, False, False) == "something new"


def test_a_context_that_ignores_ends_without_close_notify_does_not_take_one_for_a_handshake():
    context = server_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF

    def main():
        near, far = sockets()
        far.close()
        return (yield from failure(start_tls(near, context, server_side=True)))

    assert run(main()) == "TLS: the peer has closed the connection during the handshake"


def test_a_client_that_never_speaks_is_given_up():
    def main():
        near, far = sockets()
        with far:
            with pytest.raises(TimedOut, match="TLS: the handshake has taken more than 30 s"):
                yield from start_tls(near, server_context(), server_side=True)
            assert near.fileno() == -1
            return (yield Now())

    assert run(main()) == 30


def test_a_client_that_speaks_one_byte_a_second_is_given_up():
    def drip(sock):
        for byte in b"\x16\x03\x01\x02\x00" + bytes(500):
            with suppress(BrokenPipeError):
                sock.try_write(bytes([byte]))
            yield Sleep(1)

    def main():
        near, far = sockets()
        with far:
            _ = yield Spawn(drip(far), daemon=True)
            with pytest.raises(TimedOut):
                yield from start_tls(near, server_context(), server_side=True, timeout=5)
            return (yield Now())

    assert run(main()) == 5


def test_a_wrong_argument_leaves_the_connection_open():
    def main():
        near, far = sockets()
        plain, other = socket.socketpair()
        with near, far, plain, other:
            for conn, context, options, error, text in [
                (near, server_context(), {"server_side": True, "server_hostname": NAME}, ValueError, "is for clients"),
                (near, server_context(), {"server_side": True, "timeout": -1}, ValueError, "MoveOnAfter"),
                (near, None, {}, TypeError, "TLS takes a context"),
                (plain, client_context(), {}, TypeError, "a plain socket is wrapped"),
                (near, client_context(), {}, ValueError, "server_hostname that the certificate must have"),
                (near, client_context(), {"server_side": True}, ssl.SSLError, "Cannot create a server socket"),
            ]:
                with pytest.raises(error, match=text):
                    yield from start_tls(conn, context, **options)
            assert near.fileno() >= 0

    run(main())


def test_a_socket_that_another_task_reads_is_busy():
    def reads(sock):
        yield Read(sock, 1)

    def main():
        near, far = sockets()
        with far:
            task = yield Spawn(reads(near), keep=True)
            yield from parked(task)
            with pytest.raises(BusyError):
                yield from start_tls(near, server_context(), server_side=True)
            with pytest.raises(ClosedError):
                yield Join(task)

    run(main())


# The end of a connection.


def test_a_close_is_seen_as_the_end_by_the_peer():
    def main():
        near, far = yield from connected()
        with far:
            yield Write(near, b"the last")
            near.close()
            near.close()
            return (yield Read(far, 100)), (yield Read(far, 100)), (yield Read(far, 100))

    assert run(main()) == (b"the last", b"", b"")


def test_a_truncated_stream_differs_from_a_closed_one():
    def main():
        near, far = yield from connected()
        with far:
            yield Write(near, b"not the la")
            near.inner.close()
            assert (yield Read(far, 100)) == b"not the la"
            for _ in range(2):
                with pytest.raises(TlsTruncated, match="ended without a close_notify: bytes may be missing"):
                    yield Read(far, 100)

    run(main())


def test_a_context_may_allow_a_truncated_stream():
    if ssl.create_default_context().options & ssl.OP_IGNORE_UNEXPECTED_EOF:
        pytest.skip("each context has the option, so it has no effect")
    context = client_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF

    def main():
        near, far = yield from connected(client=context)
        with far:
            near.inner.close()
            return (yield Read(far, 100)), (yield Read(far, 100))

    assert run(main()) == (b"", b"")


def test_a_truncated_stream_is_an_error_where_each_context_has_the_option(monkeypatch):
    """Python 3.11.2 sets OP_IGNORE_UNEXPECTED_EOF in each new context."""
    context = client_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    monkeypatch.setattr(tls_errors, "option_of_each_context", lambda: ssl.OP_IGNORE_UNEXPECTED_EOF)

    def main():
        near, far = yield from connected(client=context)
        with far:
            near.inner.close()
            with pytest.raises(TlsTruncated):
                yield Read(far, 100)

    run(main())
    assert context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


@pytest.mark.parametrize("version", VERSIONS)
def test_one_direction_ends_and_the_other_goes_on(version):
    server = server_context()
    server.maximum_version = version

    def main():
        near, far = yield from connected(server)
        with near, far:
            plain_call(near, b"sent before", b" and never read in between")
            assert (yield Read(far, 4)) == b"sent"  # the rest is decrypted, or waits to be
            far.write_eof()
            far.write_eof()
            assert (yield Read(near, 100)) == b""
            with pytest.raises(BrokenPipeError, match="write_eof"):
                yield Write(far, b"x")
            assert (yield Write(far, b"")) == 0
            assert (yield from reading(far, 33)) == b" before and never read in between"
            yield Write(near, b"answer")
            assert (yield Read(far, 100)) == b"answer"
            near.close()
            assert (yield Read(far, 100)) == b""

    run(main())


def test_a_record_that_was_cut_by_write_eof_is_read_whole():
    def main():
        near, far = yield from connected()
        with near, far:
            plain_call(near, b"whole")
            record = far.inner.try_read(100)
            far.incoming.write(record[:12])
            far.write_eof()
            far.incoming.write(record[12:])
            far.may_hold = True
            return (yield Read(far, 100))

    assert run(main()) == b"whole"


def test_a_close_notify_that_does_not_fit_goes_out_with_the_next_read():
    def main():
        near, far = yield from connected()
        with near, far:
            filled = fill(near)
            for _ in range(2):
                with pytest.raises(BlockingIOError):
                    near.write_eof()
            task = yield Spawn(reading(near, 1), keep=True)
            yield from parked(task)
            assert len((yield from reading(far, 1 << 30))) == filled  # until the end
            far.close()
            return (yield Join(task))

    assert run(main()) == b""


def fill(tls):
    """Write in plain calls until nothing fits any more; return how many bytes are in the stream."""
    filled = 0
    with pytest.raises(BlockingIOError) as raised:
        while True:
            filled += tls.try_write(bytes(BATCH_BYTES))
    return filled + raised.value.characters_written


def test_a_record_that_was_changed_breaks_the_connection_after_the_data_before_it():
    def main():
        near, far = yield from connected()
        with near, far:
            plain_call(near, b"good")
            good = far.inner.try_read(1000)
            plain_call(near, b"evil")
            evil = bytearray(far.inner.try_read(1000))
            evil[-1] ^= 1
            near.inner.try_write(good + evil)
            assert (yield Read(far, 100)) == b"good"
            for call in (Read(far, 1), Write(far, b"x"), Read(far, 1)):
                with pytest.raises(TlsError, match="a record was changed"):
                    yield call
            with pytest.raises(TlsError, match=r"(?i)bad record mac"):  # the alert
                yield Read(near, 1)

    run(main())


def test_a_lost_connection_raises_its_own_error():
    def main():
        near, far = yield from connected()
        with near:
            far.inner.try_read(1000)
            near.inner.try_write(b"unread")
            far.inner.close()  # a Unix socket with unread bytes is reset
            with pytest.raises(ConnectionResetError):
                yield Read(near, 1)

    run(main())


# Waiting.


def test_a_wait_for_bytes_ends_at_once_while_some_are_decrypted():
    def main():
        near, far = yield from connected()
        with near, far:
            plain_call(near, b"two parts")
            assert (yield Read(far, 3)) == b"two"
            yield WaitReadable(far)
            assert (yield select(Read(far, 100), Sleep(1))) == (0, b" parts")
            assert (yield select(WaitReadable(far), Sleep(1))) == (1, None)
            assert (yield select(Read(far, 1), Sleep(1))) == (1, None)
            plain_call(near, b"more")
            yield WaitReadable(far)
            assert (yield Read(far, 100)) == b"more"

    run(main())


def test_a_short_read_costs_no_second_try():
    calls = []

    class Counting(FileWrapper):
        short_read_means_empty = True

        def try_read(self, size):
            calls.append(size)
            return self.inner.try_read(size)

    def main():
        near, far = yield from connected()
        with near, far:
            far.inner = Counting(far.inner)
            plain_call(near, b"one")
            assert (yield Read(far, 100)) == b"one"
            calls.clear()
            task = yield Spawn(reading(far, 3), keep=True)
            yield from parked(task)
            assert calls == []
            plain_call(near, b"two")
            assert (yield Join(task)) == b"two"
            assert calls == [RECEIVE_BYTES]

    run(main())


def test_a_peer_that_never_reads_adds_nothing_to_a_bound_and_a_flood_neither():
    def main():
        near, far = yield from connected()
        with near, far:
            task = yield Spawn(writing(near, bytes(10_000_000)), keep=True)
            yield from parked(task)
            assert 0 < len(near.unsent) + near.outgoing.pending < BATCH_BYTES + 1000
            assert (yield Read(far, 1)) == b"\0"
            assert far.incoming.pending <= RECEIVE_BYTES
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    run(main())


# A write that is cancelled.


def test_a_cancelled_write_says_exactly_how_much_is_in_the_stream():
    data = pattern(1 << 20)

    def cut(near, data):
        """Write for a second; return how much is written."""
        try:
            with (yield Timeout(1)):
                return (yield Write(near, data))
        except TimedOut as error:
            return error.written

    def main():
        near, far = yield from connected()
        with near, far:
            written, received, cuts = 0, b"", 0
            while written < len(data):
                written += yield from cut(near, data[written:])
                cuts += 1
                while len(received) < written - BATCH_BYTES:  # the rest may not be sent yet
                    received += yield Read(far, 30_000)
            near.close()
            received += yield from reading(far, 1 << 30)
            return cuts, received

    cuts, received = run(main())
    assert cuts > 2 and received == data


def test_a_read_sends_the_rest_of_a_write_that_was_cancelled():
    def asks(near):
        with pytest.raises(TimedOut) as raised:
            with (yield Timeout(1)):
                yield Write(near, bytes(10_000_000))
        return raised.value.written, (yield Read(near, 100))

    def main():
        near, far = yield from connected()
        with near, far:
            task = yield Spawn(asks(near), keep=True)
            yield Sleep(2)
            received = 0
            with (yield MoveOnAfter(1)):
                while True:
                    received += len((yield Read(far, 65536)))
            yield Write(far, b"answer")
            return (yield Join(task)), received

    (written, answer), received = run(main())
    assert answer == b"answer" and received == written > 0


def test_a_stream_over_tls_that_was_cut_in_a_write_refuses_the_next_one_with_the_count():
    def main():
        near, far = yield from connected()
        with near, far:
            stream = Stream(near)
            with pytest.raises(TimedOut) as timed_out:
                with (yield Timeout(1)):
                    yield from stream.write(bytes(10_000_000))
            with pytest.raises(IncompleteWrite) as refused:
                yield from stream.write(b"more")
            return timed_out.value.written, str(refused.value)

    written, text = run(main())
    assert 0 < written < 10_000_000 and f"cut after {written} of 10000000 bytes" in text


def test_a_cancellation_at_any_point_of_two_handshakes_and_a_talk_leaves_nothing():
    server, client = server_context(), client_context()

    def make():
        near, far = sockets()
        left = []

        def side(sock, context, **options):
            with sock:
                try:
                    tls = yield from start_tls(sock, context, **options)
                except BaseException:
                    left.append(sock.fileno())
                    raise
                with tls:
                    yield Write(tls, b"x" * 100)
                    yield Read(tls, 200)
                    tls.write_eof()
                    yield Read(tls, 1)

        def main():
            with near, far:
                yield from gather(side(near, server, server_side=True), side(far, client, server_hostname=NAME))

        def check():
            assert (near.fileno(), far.fileno()) == (-1, -1)
            assert not left or left == [-1] * len(left)

        return main(), check

    assert cancel_everywhere(make, expected=(TlsError, ConnectionError, TaskCancelled)) > 20


# A write that has to read first, as in a renegotiation of TLS 1.2: `test_tls_clients` has real ones.


class Renegotiating:
    """An object of `ssl` whose write needs a byte of the peer first."""

    def __init__(self, connection):
        self.connection = connection
        self.tls = connection.tls
        self.has_read = False

    def __getattr__(self, name):
        return getattr(self.tls, name)

    def read(self, size):
        data = self.tls.read(size)
        self.has_read = True
        return data

    def write(self, data):
        if not self.has_read and not self.connection.incoming.pending:
            raise ssl.SSLWantReadError
        self.has_read = True
        return self.tls.write(data)


def renegotiating():
    near, far = yield from connected()
    with (yield MoveOnAfter(0.001)):
        yield Read(near, 1)  # the tickets of TLS 1.3
    with (yield MoveOnAfter(0.001)):
        yield Read(far, 1)
    near.tls = Renegotiating(near)
    return near, far


def test_a_write_waits_for_bytes_of_the_peer():
    def main():
        near, far = yield from renegotiating()
        with near, far:
            task = yield Spawn(writing(near, b"hello"), keep=True)
            yield from parked(task)
            plain_call(far, b"x")
            assert (yield Join(task)) == 5
            return (yield Read(near, 1)), (yield Read(far, 100))

    assert run(main()) == (b"x", b"hello")


def test_a_write_that_takes_bytes_in_wakes_the_reader_of_them():
    def main():
        near, far = yield from renegotiating()
        with near, far:
            reader = yield Spawn(reading(near, 1), keep=True)
            yield from parked(reader)
            plain_call(far, b"x")
            yield Write(near, b"hello")
            return (yield Join(reader)), (yield Read(far, 100))

    assert run(main()) == (b"x", b"hello")


def test_a_read_that_takes_bytes_in_wakes_the_writer_that_waits_for_them():
    def main():
        near, far = yield from renegotiating()
        with near, far:
            writer = yield Spawn(writing(near, b"hello"), keep=True)
            yield from parked(writer)
            plain_call(far, b"x")
            assert (yield Read(near, 1)) == b"x"
            return (yield Join(writer)), (yield Read(far, 100))

    assert run(main()) == (5, b"hello")


def test_a_writer_without_end_of_its_renegotiation_holds_nothing_up():
    def main():
        near, far = yield from renegotiating()
        with near, far:
            near.tls.write = never
            near.inner = OneByte(near.inner)
            plain_call(far, bytes(1000))
            task = yield Spawn(writing(near, b"hello"), keep=True)
            yield Sleep(1)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    run(main())


def never(data):
    raise ssl.SSLWantReadError


# Servers.


def served(handler, body, **options):
    """Run `body(address)` beside a server with TLS; return its result."""

    def main():
        options.setdefault("tls", server_context())
        ready = []
        server = yield Spawn(serve(handler, "127.0.0.1", 0, ready=ready.append, **options), "server", keep=True)
        yield from until(lambda: ready)
        result = yield from body(ready[0].address)
        yield from stopped(server)
        return result

    return run(main())


def dialled(address, **options):
    conn = yield Connect(address)
    return (yield from start_tls(conn, client_context(**options), server_hostname=NAME))


async def echo_async(conn):
    while data := await Read(conn, 65536):
        await Write(conn, data)


@pytest.mark.parametrize("handler", [echo, echo_async])
def test_a_server_with_tls_gives_its_handler_the_tls_connection(handler):
    def body(address):
        with (yield from dialled(address)) as tls:
            yield Write(tls, b"hello")
            assert (yield Read(tls, 100)) == b"hello"
            tls.write_eof()
            return (yield Read(tls, 100))  # the handler ends, and the server sends its close_notify

    assert served(handler, body) == b""


def test_a_handler_knows_its_peer(said):  # noqa: F811
    seen = []

    def handler(conn):
        seen.append((conn.peer, conn.address, conn.version))
        yield
        raise ValueError("the handler's own")

    def body(address):
        with (yield from dialled(address)) as tls:
            yield Read(tls, 1)
            return [(tls.address, tls.peer, "TLSv1.3")]

    assert served(handler, body) == seen
    assert [text.partition(" of ")[0] for text in said()] == ["handler-1"] and said()[0].endswith("failed")


@pytest.mark.parametrize(
    ("sent", "text"),
    [(PLAIN_HTTP, "the peer has sent an HTTP request without TLS"), (b"", "the peer has closed the connection during")],
)
def test_a_failed_handshake_is_one_line_and_the_server_goes_on(said, sent, text):  # noqa: F811
    def body(address):
        with (yield Connect(address)) as plain:
            yield Write(plain, sent)
            plain.shutdown(socket.SHUT_WR)
            yield from reading(plain, 100)
        with (yield from dialled(address)) as tls:
            yield Write(tls, b"hello")
            return (yield Read(tls, 100))

    assert served(echo, body) == b"hello"
    (line,) = said()
    assert line.startswith("echo-1 of 127.0.0.1:") and text in line


def test_failed_handshakes_are_limited_in_the_log(said, caplog):  # noqa: F811
    def body(address):
        for _ in range(30):
            with (yield Connect(address)) as plain:
                yield Write(plain, PLAIN_HTTP)
                yield from reading(plain, 100)

    served(echo, body)
    assert len(said()) == 21 and said()[-1].startswith("10 more failures like the 20 logged before")
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_a_client_that_never_speaks_counts_as_a_connection_until_the_limit_of_the_handshake(said):  # noqa: F811
    def body(address):
        with (yield Connect(address)) as silent, (yield Connect(address)) as plain:
            with (yield from start_tls(plain, client_context(), server_hostname=NAME, timeout=60)):
                assert (yield Now()) >= 30  # the server has not accepted it before
            return (yield Read(silent, 1))

    assert served(echo, body, max_connections=1) == b""
    assert [text.partition(": ")[2] for text in said()] == ["TLS: the handshake has taken more than 30 s"]


def test_a_silent_client_does_not_hold_up_the_others_or_the_stop():
    def body(address):
        _ = yield Connect(address)
        with (yield from dialled(address)) as tls:
            yield Write(tls, b"hello")
            assert (yield Read(tls, 100)) == b"hello"
        body.stopped_at = yield Now()
        return _

    def main():
        ready = []
        server = serve(echo, "127.0.0.1", 0, tls=server_context(), ready=ready.append, grace=2)
        server = yield Spawn(server, keep=True)
        yield from until(lambda: ready)
        with (yield from body(ready[0].address)):
            yield from stopped(server)
            return (yield Now()) - body.stopped_at

    assert run(main()) == pytest.approx(2)


def test_an_idle_tls_connection_is_ended(said):  # noqa: F811
    def body(address):
        with (yield from dialled(address)) as tls:
            for _ in range(5):
                yield Write(tls, b"x")
                yield Read(tls, 1)
                yield Sleep(3)
            assert (yield Read(tls, 1)) == b""  # with a close_notify
            return (yield Now())

    assert 19 <= served(echo, body, idle_timeout=6) <= 22
    assert [text.partition(": ")[2] for text in said()] == ["idle for 6 s"]


def test_a_truncated_stream_is_logged_in_one_line(said):  # noqa: F811
    def body(address):
        tls = yield from dialled(address)
        yield Write(tls, b"x")
        assert (yield Read(tls, 1)) == b"x"  # no bytes are left unread: the socket is not reset
        tls.inner.close()
        yield settled()

    served(echo, body)
    text = "TLS: the stream has ended without a close_notify: bytes may be missing"
    assert [line.partition(": ")[2] for line in said()] == [text]


def test_a_handler_that_is_not_a_task_is_reported(said, caplog):  # noqa: F811
    def body(address):
        with (yield from dialled(address)) as tls:
            return (yield Read(tls, 1))

    assert served(lambda conn: None, body) == b""
    assert "None is not a task" in caplog.text


@pytest.mark.slow  # a hundred runs, each with a server
def test_a_cancellation_at_any_point_of_a_server_and_its_client_leaves_nothing():
    server_tls, client_tls = server_context(), client_context()

    def make():
        def main():
            listener = yield Listen(("127.0.0.1", 0))
            server = serve_listeners(echo, listener, tls=server_tls, grace=1)
            server = yield Spawn(server, "server", keep=True)
            with (yield Connect(listener.address)) as conn:
                with (yield from start_tls(conn, client_tls, server_hostname=NAME)) as tls:
                    tls.write_eof()
                    assert (yield Read(tls, 100)) == b""
            yield from stopped(server)

        return main()

    assert cancel_everywhere(make, expected=(AssertionError, OSError)) > 20


@pytest.mark.parametrize(
    ("tls", "error", "text"),
    [
        (lambda: True, TypeError, "serve takes tls=ssl.SSLContext"),
        (client_context, ValueError, "Cannot create a server socket with a PROTOCOL_TLS_CLIENT context"),
    ],
)
def test_a_context_that_no_server_can_use_is_refused_at_the_start(tls, error, text):
    with pytest.raises(error, match=text):
        run(serve(echo, "127.0.0.1", 0, tls=tls()))


def test_a_client_of_the_standard_library_talks_with_a_server():
    def talk(address, answers):
        with (
            socket.create_connection(address, timeout=20) as plain,
            client_context().wrap_socket(plain, server_hostname=NAME, suppress_ragged_eofs=False) as sock,
        ):
            for size in (1, 100, 100_000):
                sock.sendall(bytes(size))
                got = 0
                while got < size:
                    got += len(sock.recv(size - got))
                answers.append(got)
            sock.unwrap().close()
            answers.append("closed")

    def main():
        answers = []
        with (yield Listen(("127.0.0.1", 0))) as listener:
            task = yield Spawn(serve_listeners(echo, listener, grace=0, tls=server_context()), keep=True)
            thread = threading.Thread(target=talk, args=(listener.address, answers))
            thread.start()
            while thread.is_alive():
                yield Sleep(0.01)
            thread.join()
            yield from stopped(task)
        return answers

    assert minisched.run(main()) == [1, 100, 100_000, "closed"]


IMPORTS = """
import socket, ssl, sys
from minisched import Read, Socket, Spawn, gather, run, start_tls
from minisched.serving.connections import Connections

def handler(conn):
    yield

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
connections = Connections(handler, None, None, None, None, context)
loaded = {*sys.modules}

def main():
    near, far = socket.socketpair()
    with near, Socket(fileno=far.detach()) as far:
        near.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
        yield from connections.run_with_tls(far, context)

run(main(), debug=False)
print(*sorted(name for name in {*sys.modules} - loaded if name.startswith(("minisched", "ssl", "_ssl"))))
"""


def test_a_handshake_imports_nothing_since_no_descriptor_may_be_left_for_it():
    result = finished("-c", IMPORTS)
    assert (result.returncode, result.stdout.split()) == (0, []), result
