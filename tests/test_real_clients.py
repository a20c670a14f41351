"""Clients that we did not write, against `minisched echo`: nc, socat, and a plain socket that blocks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from threading import Thread

import pytest
from helpers import pattern
from programs import SECONDS, started
from servers import LOCAL, asked, dial, received

MEGABYTE = pattern(1 << 20)
PACKAGES = {"nc": "netcat-openbsd", "socat": "socat"}


@pytest.fixture(scope="module", params=["TCP", "Unix"])
def address(request):
    """Return where an echo server listens, which all tests of a kind share."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sock")
        with started(
            "-m", "minisched", "echo", *(["--unix", path] if request.param == "Unix" else ["--port", 0])
        ) as echo:
            found = echo.expect(r"listening on (\S+);")[1]
            yield path if request.param == "Unix" else (LOCAL, int(found.rpartition(":")[2]))
            assert echo.interrupt() == 130
            assert echo.errors() == "", "somebody was left over, or something went wrong"


def client(name):
    """Return the path of a program; skip the test where it is not installed, but where CI is set, that fails it."""
    path = shutil.which(name)
    if path is not None and name == "nc":  # there are others of this name, with other options
        told = subprocess.run([path, "-h"], capture_output=True, timeout=SECONDS)
        path = path if b"OpenBSD" in told.stdout + told.stderr else None
    if path is None:
        why = f"{name} is not installed (Debian's package is {PACKAGES[name]})"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return path


def sent_and_back(command, data):
    """Run a program with `data` on its standard input; return its standard output."""
    result = subprocess.run(list(map(str, command)), input=data, capture_output=True, timeout=SECONDS)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("data", [b"one line\n", b"", MEGABYTE], ids=["a line", "nothing", "a megabyte"])
def test_nc_gets_back_what_it_sends_before_it_closes_its_half(address, data):
    where = ["-U", address] if isinstance(address, str) else address
    assert sent_and_back([client("nc"), "-N", *where], data) == data


@pytest.mark.parametrize("data", [b"one line\n", b"", MEGABYTE], ids=["a line", "nothing", "a megabyte"])
def test_socat_gets_back_what_it_sends(address, data):
    where = f"UNIX-CONNECT:{address}" if isinstance(address, str) else f"TCP:{address[0]}:{address[1]}"
    wait = SECONDS / 2  # for the other half, once its own is closed: it ends when that is closed, too
    assert sent_and_back([client("socat"), "-t", wait, "-", where], data) == data


def test_nc_that_is_killed_in_the_middle_does_no_harm(address):
    where = ["-U", address] if isinstance(address, str) else list(map(str, address))
    with subprocess.Popen([client("nc"), *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        killed.stdin.write(b"x")
        killed.stdin.flush()
        assert killed.stdout.read(1) == b"x"
        killed.kill()
    with dial(address) as conn:
        assert asked(conn, b"still there?") == b"still there?"


def test_a_plain_socket_that_blocks_gets_back_each_of_its_messages(address):
    with dial(address) as conn:
        for size in (1, 10, 1000, 100_000):
            assert asked(conn, MEGABYTE[:size]) == MEGABYTE[:size]


def test_a_plain_socket_that_closes_its_half_gets_all_and_then_the_end(address):
    with dial(address) as conn:
        sender = Thread(target=send_all, args=(conn, MEGABYTE))
        sender.start()
        assert received(conn, len(MEGABYTE) + 1) == MEGABYTE
        sender.join(SECONDS)


def send_all(conn, data):
    conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)


def test_a_file_object_on_a_plain_socket_reads_lines(address):
    with dial(address) as conn, conn.makefile("rwb") as file:
        for number in range(100):
            file.write(b"line %d\n" % number)
        file.flush()
        assert [file.readline() for _ in range(100)] == [b"line %d\n" % number for number in range(100)]
