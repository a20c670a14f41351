"""Echo servers with clients of other authors: nc, socat, and blocking sockets of the standard library."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from threading import Thread

import pytest
from helpers import pattern
from programs import ROOT, SECONDS, started
from servers import LOCAL, asked, dial, received

from minisched import MoveOnAfter, OpenDatagram, RecvFrom, SendTo, Sleep, run

pytestmark = pytest.mark.slow  # each test runs programs

MEGABYTE = pattern(1 << 20)
DEMO = ROOT / "demos" / "echo_server.py"
PACKAGES = {"nc": "netcat-openbsd", "openssl": "openssl", "socat": "socat", "curl": "curl", "wrk": "wrk"}


@pytest.fixture(scope="module", params=["TCP", "Unix", "lines"])
def address(request):
    """Return the address of an echo server that all tests of one kind share."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sock")
        program = [DEMO, "--lines", len(MEGABYTE)] if request.param == "lines" else ["-m", "minisched", "echo"]
        with started(*program, *(["--unix", path] if request.param == "Unix" else ["--port", 0])) as echo:
            where = echo.expect(r"listening on (\S+);")[1]
            yield path if request.param == "Unix" else (LOCAL, int(where.rpartition(":")[2]))
            assert echo.interrupt() == 130
            assert echo.errors() == "", "a client was left, or something failed"


def client(name):
    """Return the path of a program; if it is not installed, skip the test, or fail it where CI is set."""
    path = shutil.which(name)
    if path is not None and name == "nc":  # other programs of this name have other options
        shown = subprocess.run([path, "-h"], capture_output=True, timeout=SECONDS)
        path = path if b"OpenBSD" in shown.stdout + shown.stderr else None
    if path is None:
        why = f"{name} is not installed (Debian's package is {PACKAGES[name]})"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return path


def echoed(command, data):
    """Run a program with `data` on its standard input; return its standard output."""
    result = subprocess.run(list(map(str, command)), input=data, capture_output=True, timeout=SECONDS)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("data", [b"one line\n", b"", MEGABYTE], ids=["a line", "nothing", "a megabyte"])
def test_nc_receives_all_it_sent_after_it_has_closed_its_half(address, data):
    where = ["-U", address] if isinstance(address, str) else address
    assert echoed([client("nc"), "-N", *where], data) == data


@pytest.mark.parametrize("data", [b"one line\n", b"", MEGABYTE], ids=["a line", "nothing", "a megabyte"])
def test_socat_receives_all_it_sent(address, data):
    where = f"UNIX-CONNECT:{address}" if isinstance(address, str) else f"TCP:{address[0]}:{address[1]}"
    wait = SECONDS / 2  # the wait of socat for the other half, after it has closed its own
    assert echoed([client("socat"), "-t", wait, "-", where], data) == data


def test_killing_nc_does_not_disturb_the_server(address):
    where = ["-U", address] if isinstance(address, str) else list(map(str, address))
    with subprocess.Popen([client("nc"), *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        killed.stdin.write(b"\n")
        killed.stdin.flush()
        assert killed.stdout.read(1) == b"\n"
        killed.kill()
    with dial(address) as conn:
        assert asked(conn, b"still there?\n") == b"still there?\n"


def test_a_blocking_socket_receives_each_of_its_messages(address):
    with dial(address) as conn:
        for size in (1, 10, 1000, 100_000):
            message = MEGABYTE[: size - 1] + b"\n"
            assert asked(conn, message) == message


def test_a_blocking_socket_that_closes_its_half_receives_all_data_and_then_the_end(address):
    with dial(address) as conn:
        sender = Thread(target=send_all, args=(conn, MEGABYTE))
        sender.start()
        assert received(conn, len(MEGABYTE) + 1) == MEGABYTE
        sender.join(SECONDS)


def send_all(conn, data):
    conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)


def test_a_file_object_of_a_blocking_socket_reads_lines(address):
    with dial(address) as conn, conn.makefile("rwb") as file:
        for number in range(100):
            file.write(b"line %d\n" % number)
        file.flush()
        assert [file.readline() for _ in range(100)] == [b"line %d\n" % number for number in range(100)]


# Datagrams.


@pytest.fixture(scope="module")
def udp():
    """Return the address of a UDP echo server that all tests share."""
    with started("demos/echo_server.py", "--udp", "--port", 0) as echo:
        port = echo.expect(r"receiving datagrams at 127.0.0.1:(\d+); try: nc -u 127.0.0.1 (\d+) \(Ctrl-C stops\)\n")[1]
        yield int(port)
        assert echo.interrupt() == 130
        assert echo.errors() == "", "a datagram was an error"


def datagram_client(name, port):
    if name == "nc":
        return [client("nc"), "-u", LOCAL, str(port)]
    return [client("socat"), "-t", str(SECONDS / 2), "-b", "65507", "-", f"UDP:{LOCAL}:{port}"]


@pytest.mark.parametrize("name", ["nc", "socat"])
@pytest.mark.parametrize("size", [1, 1000, 16_000])
def test_a_client_of_udp_receives_each_datagram_it_sent(name, size, udp):
    command = datagram_client(name, udp)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            for number in range(3):
                data = MEGABYTE[number:][:size]
                process.stdin.write(data)
                process.stdin.flush()
                assert process.stdout.read(size) == data
        finally:
            process.kill()


def test_many_blocking_sockets_of_udp_receive_their_own_datagrams_and_an_empty_one(udp):
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
    try:
        for number, sock in enumerate(socks):
            sock.settimeout(SECONDS)
            sock.connect((LOCAL, udp))
            assert sock.send(b"%d" % number) > 0
        for number, sock in enumerate(socks):
            assert sock.recv(100) == b"%d" % number
            sock.send(b"")
            assert sock.recv(100) == b""
            sock.send(MEGABYTE[:65_507])
            assert sock.recv(1 << 16) == MEGABYTE[:65_507]
    finally:
        for sock in socks:
            sock.close()


def test_a_client_that_is_gone_does_not_disturb_the_udp_server(udp):
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (LOCAL, udp))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        sock.sendto(b"still there?", (LOCAL, udp))
        assert sock.recv(100) == b"still there?"


@pytest.mark.parametrize("name", ["nc", "socat"])
def test_a_client_of_ours_talks_to_a_udp_server_of_another_author(name):
    port = free_port()
    listen = ["-u", "-l", LOCAL, str(port)] if name == "nc" else [f"UDP-LISTEN:{port},bind={LOCAL}", "PIPE"]
    with subprocess.Popen([client(name), *listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdin.write(b"hello\n")  # nc sends it when it has a peer; socat echoes what it receives
            process.stdin.flush()
            assert run(answer_of(port)) == b"hello\n"
        finally:
            process.kill()


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOCAL, 0))
        return sock.getsockname()[1]


def answer_of(port):
    """Send a datagram until the other program, which does not say when it has begun, answers."""
    with (yield OpenDatagram(remote=(LOCAL, port))) as sock:
        for _ in range(100 * SECONDS):
            try:
                yield SendTo(sock, b"hello\n")
                with (yield MoveOnAfter(0.01)):
                    return (yield RecvFrom(sock))[0]
            except ConnectionRefusedError:  # an ICMP error: nothing listens there yet
                yield Sleep(0.01)
