"""TLS with programs of other authors at the other end: `openssl s_client` and `s_server`, and socat."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from threading import Event, Thread
from time import perf_counter

import pytest
from programs import ROOT, SECONDS, started

pytest.importorskip("trustme")

from certificates import NAME, client_context, write_files
from helpers import pattern
from servers import LOCAL, asked, come_true, dial, memory_of, serving
from test_real_clients import client, echoed

from minisched import Connect, InThread, Read, Timeout, TlsError, TlsTruncated, Write, gather, run, start_tls

pytestmark = pytest.mark.slow  # each test runs programs

MEGABYTE = pattern(1 << 20)
VERSIONS = ["-tls1_2", "-tls1_3"]
RENEGOTIATION_FLAGS = 0x100  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which the module `ssl` does not name


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the paths of the authority's certificate, and of a server's certificate and key."""
    return write_files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def demo(files):
    """Return the port of the demo server, which all tests share."""
    with started(ROOT / "demos" / "echo_server.py", "--port", 0, "--tls", *files[1:]) as server:
        port = server.expect(r"listening on 127.0.0.1:(\d+) with TLS; try: openssl s_client -quiet -connect (\S+) ")[1]
        yield port
        assert server.interrupt() == 130
        assert server.errors() == "", "a client was left, or something failed"


def s_client(port, files, *options):
    return [client("openssl"), "s_client", "-connect", f"{LOCAL}:{port}", "-CAfile", files[0], "-servername", NAME,
            "-verify_hostname", NAME, "-verify_return_error", *options]  # fmt: skip


class Talk:
    """A program of OpenSSL, which is given lines and says what it receives."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.said = b""

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def expect(self, expected):
        """Read the output until it matches; return the match."""
        while not (match := re.search(expected, self.said)):
            line = self.process.stdout.readline()
            assert line, f"no {expected!r} in {self.said!r}"
            self.said += line
        self.said = self.said[match.end() :]
        return match


@contextmanager
def talk(*command):
    talking = Talk(list(map(str, command)))
    with talking.process as process:
        try:
            yield talking
        finally:
            process.kill()


# Our server.


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_receives_what_it_sent(demo, files, version):
    with talk(*s_client(demo, files, "-quiet", version)) as program:
        for line in (b"one\n", b"x" * 10_000 + b"\n"):
            program.say(line)
            program.expect(b"(?m)^" + line)


def test_s_client_verifies_the_certificate_and_agrees_on_a_version(demo, files):
    with talk(*s_client(demo, files)) as program:
        program.expect(rb"New, TLSv1.3, Cipher is TLS_")
        program.expect(rb"Verify return code: 0 \(ok\)")
        program.say(b"Q\n")  # s_client closes the connection
        assert program.process.wait(SECONDS) == 0


def test_s_client_updates_its_keys_and_asks_for_new_ones(demo, files):
    with talk(*s_client(demo, files, "-tls1_3")) as program:
        for command in (b"k", b"K", b"K"):
            program.say(command + b"\n")
            program.expect(rb"KEYUPDATE")
            program.say(b"after " + command + b"\n")
            program.expect(rb"(?m)^after " + command)


def test_s_client_renegotiates_while_data_goes_both_ways(files):
    context = f"""
import ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain({files[1]!r}, {files[2]!r})
context.options |= {RENEGOTIATION_FLAGS}
until_interrupted(run, serve(echo, {LOCAL!r}, 0, tls=context, ready=ready))
"""
    with serving(context) as (server, (_, port)), talk(*s_client(port, files, "-tls1_2")) as program:
        for word in (b"one", b"two", b"three"):
            program.say(word + b"\n")
            program.expect(rb"(?m)^" + word)
            program.say(b"R\n")
            program.expect(rb"RENEGOTIATING")
        program.say(b"end\n")
        program.expect(rb"(?m)^end")
        assert server.interrupt() == 130


@pytest.mark.parametrize("data", [b"one line\n", b"", MEGABYTE], ids=["a line", "nothing", "a megabyte"])
def test_socat_receives_all_it_sent(demo, files, data):
    where = f"OPENSSL:{LOCAL}:{demo},cafile={files[0]},commonname={NAME}"
    assert echoed([client("socat"), "-t", SECONDS / 2, "-", where], data) == data


def test_a_plain_client_and_one_that_does_not_trust_the_certificate_disturb_no_other(demo, files, tmp_path):
    assert echoed([client("socat"), "-t", 5, "-", f"TCP:{LOCAL}:{demo}"], b"GET / HTTP/1.0\r\n\r\n") == b""
    command = [client("openssl"), "s_client", "-connect", f"{LOCAL}:{demo}", "-verify_return_error"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS).returncode == 1
    test_s_client_receives_what_it_sent(demo, files, "-tls1_3")


def test_a_certificate_made_for_trying_works_with_the_command_that_the_demo_prints():
    with started(ROOT / "demos" / "echo_server.py", "--port", 0, "--self-signed") as server:
        command = server.expect(r"with TLS; try: (openssl .*) \(Ctrl-C stops\)")[1].split()
        with talk(client("openssl"), *command[1:]) as program:
            program.say(b"hello\n")
            program.expect(rb"(?m)^hello")
        assert server.interrupt() == 130


def test_the_demo_serves_tls_in_several_processes_and_at_a_unix_path(files, tmp_path):
    path = tmp_path / "s"
    options = ("--unix", path, "--workers", 2, "--self-signed")
    with started(ROOT / "demos" / "echo_server.py", *options) as server:
        command = server.expect(r"with TLS; try: (openssl .*) \(Ctrl-C stops\)")[1].split()
        for _ in range(3):
            with talk(client("openssl"), *command[1:]) as program:
                program.say(b"hello\n")
                program.expect(rb"(?m)^hello")
        assert server.interrupt() == 130


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--tls", "no", "file"], "--tls no file: No such file"), (["--tls", __file__, __file__], "--tls ")],
)
def test_the_demo_says_in_one_line_that_a_certificate_cannot_be_used(options, text):
    with started(ROOT / "demos" / "echo_server.py", *options) as server:
        assert server.wait() == 1
        errors = server.errors()
        assert errors.startswith(text) and errors.count("\n") == 1


# Load.


def secure(port, context, **options):
    """Return a blocking socket with TLS, connected to the demo."""
    return context.wrap_socket(dial((LOCAL, int(port))), server_hostname=NAME, **options)


def seconds_of_an_echo(sock):
    """Return the median of some hundred echoes."""
    times = []
    for _ in range(300):
        start = perf_counter()
        assert asked(sock, b"x" * 100) == b"x" * 100
        times.append(perf_counter() - start)
    return median(times)


def test_200_slow_clients_do_not_slow_a_fast_one_by_more_than_a_factor_of_2(demo):
    context, ending = client_context(), Event()

    def trickle(slow, silent):
        hello = b"\x16\x03\x01\x02\x00" + bytes(1000)
        for number in range(1000):
            for sock in slow:
                sock.send(b"x")  # a record of one byte; its echo is never read
            for sock in silent:
                sock.send(hello[number : number + 1])
            if ending.wait(0.5):
                return

    with ExitStack() as stack:
        fast = stack.enter_context(secure(demo, context))
        slow = [stack.enter_context(secure(demo, context)) for _ in range(100)]
        silent = [stack.enter_context(dial((LOCAL, int(demo)))) for _ in range(100)]
        ratios = []
        for _ in range(5):  # the machine may be busy with something else
            alone = seconds_of_an_echo(fast)
            thread = Thread(target=trickle, args=(slow, silent))
            thread.start()
            ratios.append(seconds_of_an_echo(fast) / alone)
            ending.set()
            thread.join()
            ending.clear()
            if ratios[-1] < 2:
                return
        pytest.fail(f"the fast client took {ratios} times as long")


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_clients_that_never_read_hold_the_memory_of_their_connections_to_a_bound(files):
    context = client_context()
    with (
        started(ROOT / "demos" / "echo_server.py", "--port", 0, "--tls", *files[1:]) as server,
        ExitStack() as stack,
    ):
        port = server.expect(r"listening on 127.0.0.1:(\d+) ")[1]
        clients = [stack.enter_context(secure(port, context)) for _ in range(100)]
        for sock in clients:
            assert asked(sock, b"x") == b"x"
        before = memory_of(server.process.pid)
        for sock in clients:
            sock.setblocking(False)
        for _ in range(50):
            for sock in clients:
                with suppress(ssl.SSLWantWriteError):
                    sock.send(bytes(1 << 20))
        with secure(port, context) as other:
            assert asked(other, b"still there?") == b"still there?"
        grown = (memory_of(server.process.pid) - before) / len(clients)
        assert grown < 512 * 1024, f"{grown:,.0f} bytes for each connection"


# Our client.


@contextmanager
def s_server(files, *options):
    """Start a server of OpenSSL; yield it and its port."""
    lines = ["stdbuf", "-oL"]  # some of its output is not flushed otherwise
    command = [
        *lines,
        client("openssl"),
        "s_server",
        "-accept",
        f"{LOCAL}:0",
        "-cert",
        files[1],
        "-key",
        files[2],
        *options,
    ]
    with talk(*command) as program:
        yield program, int(program.expect(rb"ACCEPT \S+:(\d+)\n")[1])


def dialled(port, **options):
    conn = yield Connect((LOCAL, port))
    return (yield from start_tls(conn, client_context(**options), server_hostname=NAME))


def within_limit(body):
    """Run `body` with a timeout."""

    def main():
        with (yield Timeout(SECONDS)):
            return (yield from body)

    return run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server_answers_our_client(files, version):
    def main(port):
        with (yield from dialled(port)) as tls:
            yield Write(tls, b"hello\n")
            return tls.version, (yield Read(tls, 100))

    with s_server(files, "-rev", version) as (_, port):
        assert within_limit(main(port)) == ("TLSv1.2" if version == "-tls1_2" else "TLSv1.3", b"olleh\n")


@pytest.mark.parametrize(
    ("version", "command"),
    [("-tls1_2", b"r"), ("-tls1_3", b"K"), ("-tls1_3", b"k")],
    ids=["a renegotiation", "a key update with an answer", "a key update"],
)
def test_our_client_goes_on_after(files, version, command):
    def main(program, port):
        with (yield from dialled(port)) as tls:
            for word in (b"one\n", b"two\n", b"three\n"):
                yield Write(tls, word)
                yield InThread(program.expect, rb"(?m)^" + word)
                _ = yield from gather(reads(tls, program, word, command), writes(tls, b"while " + word))
                yield InThread(program.expect, rb"(?m)^while " + word)

    def reads(tls, program, word, command):
        program.say(command + b"\n")
        yield InThread(program.expect, rb"SSL_do_handshake -> 1")
        program.say(b"answer " + word)
        data = b""
        while not data.endswith(b"answer " + word):
            data += yield Read(tls, 100)

    def writes(tls, data):
        yield Write(tls, data)

    with s_server(files, version) as (program, port):
        within_limit(main(program, port))


def test_s_server_closes_the_connection_with_a_close_notify_and_without_one(files):
    def page(port):
        with (yield from dialled(port)) as tls:
            yield Write(tls, b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while more := (yield Read(tls, 65536)):
                data += more
            return data

    def cut(program, port):
        with (yield from dialled(port)) as tls:
            yield Write(tls, b"hello\n")
            yield InThread(program.expect, rb"(?m)^hello")
            program.say(b"q\n")  # s_server closes the socket
            with pytest.raises(TlsTruncated):
                yield Read(tls, 100)

    with s_server(files, "-www") as (_, port):
        assert within_limit(page(port)).endswith(b"</HTML>\r\n\r\n")
    with s_server(files) as (program, port):
        within_limit(cut(program, port))


def test_s_server_sees_our_close_notify(files):
    def main(port):
        with (yield from dialled(port)) as tls:
            yield Write(tls, b"hello\n")
            tls.write_eof()
            return (yield Read(tls, 100))

    with s_server(files, "-naccept", 1) as (program, port):
        assert within_limit(main(port)) == b""
        program.expect(rb"(?m)^hello")
        program.expect(rb"(?m)^DONE")
        come_true(lambda: program.process.poll() is not None, "the end of s_server")


def test_s_server_requires_a_certificate_of_ours(files):
    def main(port, **options):
        with (yield from dialled(port, **options)) as tls:
            yield Write(tls, b"hello\n")
            return (yield Read(tls, 100))

    with s_server(files, "-rev", "-Verify", 1, "-CAfile", files[0], "-verify_return_error") as (_, port):
        assert within_limit(main(port, name="me.example.org")) == b"olleh\n"
        with pytest.raises(TlsError, match="the peer requires a certificate of this side"):
            within_limit(main(port))


def test_s_server_and_our_client_agree_on_a_protocol(files):
    def main(port):
        with (yield from dialled(port, alpn=["b", "c"])) as tls:
            return tls.alpn

    def refused(port):
        with pytest.raises(TlsError, match=r"speaks none of the protocols .* \(ALPN\)"):
            yield from dialled(port, alpn=["d"])

    with s_server(files, "-rev", "-alpn", "a,b") as (_, port):
        assert within_limit(main(port)) == "b"
        within_limit(refused(port))
