"""The demos, as a user runs them."""

from __future__ import annotations

import os
import re
import resource
import socket
import struct
import sys
import threading
from contextlib import contextmanager

import pytest
from programs import ROOT, assert_one_line, finished, started

SERVER = ROOT / "demos" / "echo_server.py"
CLIENT = ROOT / "demos" / "echo_client.py"
HELLO = ROOT / "demos" / "hello.py"

GREETINGS = """\
hello from Ada
hello from Grace
main waits for both
Grace slept 0.1 s
Ada slept 0.2 s
8 letters in all
"""


def serving(*arguments, **keywords):
    """Start the echo server at a free port, or where `arguments` say."""
    return started(SERVER, *(arguments or ("--port", "0")), **keywords)


def port_of(server):
    """Return where a server says that it listens."""
    return server.expect(r"listening on 127\.0\.0\.1:(\d+); try: nc 127\.0\.0\.1 \1, or: .*\r?\n")[1]


def client(*arguments, **keywords):
    return finished(CLIENT, *arguments, **keywords)


@contextmanager
def fake_server(talk):
    """Give the port of a server that does `talk(conn)` with one connection, in a thread."""

    def serve():
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(20)
            talk(conn)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(40)


def client_of(talk, *arguments):
    """Run the client with one connection, to a server that does `talk`."""
    with fake_server(talk) as port:
        return client("--port", port, "--connections", 1, *arguments)


@contextmanager
def few_files(most):
    """Let processes start with `most` open files at most, as is usual, where they may ask for more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Hello.


@pytest.mark.parametrize("how", [[HELLO], ["-m", "minisched", "run", HELLO]])
def test_hello_prints_in_the_order_of_its_sleeps(how):
    result = finished(*how)
    assert (result.returncode, result.stdout, result.stderr) == (0, GREETINGS, "")


# The server.


def test_the_server_says_one_line_on_a_pipe_and_ends_without_a_word():
    with serving() as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            conn.shutdown(socket.SHUT_WR)
            assert conn.recv(100) == b""
        assert server.interrupt() == 130
        assert server.said.count("\n") == 1
        assert server.errors() == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_still_connected_when_the_grace_is_over_is_cut_and_told_of(workers):
    with serving("--port", "0", "--grace", "0", "--workers", workers) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            assert server.interrupt() == 130
            assert conn.recv(100) == b""
        (line,) = server.errors().splitlines()
        assert "cut 1 connection" in line


def test_who_comes_when_there_are_enough_connections_waits_for_the_next_end():
    with serving("--port", "0", "--max-connections", "1") as server:
        address = ("127.0.0.1", port_of(server))
        first = socket.create_connection(address, timeout=20)
        with socket.create_connection(address, timeout=20) as second:
            second.sendall(b"second")
            with first:
                first.sendall(b"first")
                assert first.recv(100) == b"first"
                second.settimeout(0)
                with pytest.raises(BlockingIOError):
                    second.recv(100)
            second.settimeout(20)
            assert second.recv(100) == b"second"


def test_who_is_idle_is_cut():
    with serving("--port", "0", "--idle-timeout", "0.2") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            assert conn.recv(100) == b""


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_workers_serve_at_one_address_and_end_together(where, tmp_path):
    path = tmp_path / "echo"
    with serving("--workers", 2, *(["--unix", path] if where == "unix" else ["--port", 0])) as server:
        if where == "unix":
            server.expect(f"listening on {path}; ")
            options = ["--unix", path]
        else:
            options = ["--port", port_of(server)]
        result = client(*options, "--connections", 20, "--messages", 20)
        assert (result.returncode, result.stderr) == (0, "")
        assert server.interrupt() == 130
        assert server.said.count("\n") == 1  # no live line, either
        assert server.errors() == ""
    assert not path.exists()


def test_workers_have_no_live_line():
    with serving("--port", "0", "--workers", "2", terminal="stdout") as server:
        port_of(server)
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        assert server.interrupt() == 130
        assert server.said.count("\n") == 1


def test_server_and_client_meet_at_a_unix_path(tmp_path):
    path = tmp_path / "echo"
    with serving("--unix", path) as server:
        python = os.path.relpath(sys.executable, ROOT)
        server.expect(f"listening on {path}; try: nc -U {path}, or: {python} demos/echo_client.py --unix {path}")
        result = client("--unix", path, "--connections", 3, "--messages", 5)
        assert (result.returncode, result.stderr) == (0, "")
        assert server.interrupt() == 130
        assert server.errors() == ""
    assert not path.exists()


def test_the_server_can_be_run_and_traced_by_the_command_line():
    with started("-m", "minisched", "run", "--trace", SERVER, "127.0.0.1", "0") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        assert server.interrupt() == 130
        assert "Admit(" in server.errors()


def test_a_live_line_on_a_terminal_tells_what_goes_on_and_ends_with_the_server():
    with serving(terminal="stdout") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            server.expect(r"\rconnections 1, messages/s \d+, bytes/s \d+, tasks ready \d+, parked 4\x1b\[K")
        server.expect(r"\rconnections 0, messages/s 0, bytes/s 0, tasks ready \d+, parked 3\x1b\[K")
        assert server.interrupt() == 130
        assert server.said.endswith("\x1b[K\r\n")  # the prompt of the shell comes on a line of its own
        assert server.errors() == ""


def test_the_server_refuses_what_it_can_not_have_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line(finished(SERVER, "--port", port), f"127.0.0.1:{port}: Address already in use")
        assert_one_line(finished(SERVER, "--port", port, "--workers", 2), f"127.0.0.1:{port}: Address already in use")
    assert_one_line(finished(SERVER, "--port", 65536), "port 65536 is out of range")
    assert_one_line(finished(SERVER, "--port", 0, "--workers", 0), "serve_workers takes", "1 worker or more")
    for workers in (1, 2):
        result = finished(SERVER, "--port", 0, "--max-connections", 0, "--workers", workers)
        assert_one_line(result, "max_connections is 1 or more")
    assert_one_line(finished(SERVER, "--port", 0, "--idle-timeout", "nan"), "idle_timeout is a number of seconds")
    (tmp_path / "mine").write_text("kept")
    assert_one_line(finished(SERVER, "--unix", tmp_path / "mine"), "mine: Address already in use")
    assert (tmp_path / "mine").read_text() == "kept"


# The client.


def test_the_client_reports_what_it_verified_and_measured():
    with serving() as server:
        result = client("--port", port_of(server), "--connections", 7, "--messages", 11, "--size", 13)
    assert (result.returncode, result.stderr) == (0, "")
    number = r"\d+(\.\d+)?"
    assert re.fullmatch(
        "connections  7\nmessages     77, every byte verified\nbytes        1001\n"
        f"seconds      {number}\nmessages/s   {number}\n"
        f"latency ms   p50 {number}, p90 {number}, p99 {number}, max {number}\n",
        result.stdout,
    )


def test_more_in_flight_than_the_sockets_hold_does_not_block_the_client():
    with serving() as server:
        arguments = ["--connections", 2, "--messages", 12, "--size", 4_000_000, "--in-flight", 6]
        result = client("--port", port_of(server), *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert "bytes        96000000\n" in result.stdout


def test_the_smallest_measurement_works():
    with serving() as server:
        arguments = ["--connections", 1, "--messages", 1, "--size", 1, "--in-flight", 1]
        assert client("--port", port_of(server), *arguments).returncode == 0


def test_nobody_listening_is_one_line(tmp_path):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        assert_one_line(client("--port", port), f"127.0.0.1:{port}: Connection refused")
    assert_one_line(client("--port", 65536), "port 65536 is out of range")
    assert_one_line(client("--unix", tmp_path / "nothing"), "nothing: No such file or directory")


@pytest.mark.parametrize("name", ["--connections", "--messages", "--size", "--in-flight"])
def test_a_count_below_1_is_refused_with_the_usage(name):
    result = client(name, 0)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"argument {name}: invalid count value: '0'" in result.stderr


def test_a_wrong_byte_is_found_and_its_place_told():
    def talk(conn):
        first = conn.recv(100)
        conn.sendall(first)
        second = bytearray(conn.recv(100))
        second[3] ^= 1
        conn.sendall(second)
        while conn.recv(100):
            pass

    result = client_of(talk, "--size", 8, "--in-flight", 1)
    assert_one_line(result, "connection 0, message 1, byte 3: sent b' ', got b'!'")


def test_an_early_end_is_one_line():
    def talk(conn):
        conn.sendall(conn.recv(100))
        conn.recv(100)

    result = client_of(talk, "--size", 8, "--in-flight", 1)
    assert_one_line(result, "connection 0: closed after 1 of 100 messages")


def test_a_connection_that_is_broken_off_is_one_line():
    def talk(conn):
        conn.recv(1)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset

    result = client_of(talk)
    assert_one_line(result, "echo_client: connection 0: ")
    assert "Connection reset by peer" in result.stderr or "Broken pipe" in result.stderr


def test_more_than_was_sent_is_one_line():
    def talk(conn):
        conn.sendall(conn.recv(100) + b"x")
        while conn.recv(100):
            pass

    result = client_of(talk, "--messages", 1, "--size", 8)
    assert_one_line(result, "connection 0: more came back than was sent")


def test_ctrl_c_ends_a_client_that_waits_without_a_word():
    came = threading.Event()

    def talk(conn):
        conn.recv(100)
        came.set()
        while conn.recv(100):
            pass

    with fake_server(talk) as port, started(CLIENT, "--port", port, "--connections", 1) as running:
        assert came.wait(20)
        assert running.interrupt() == 130
        assert (running.said, running.errors()) == ("", "")


def test_a_progress_bar_on_a_terminal_comes_to_its_end():
    pytest.importorskip("rich")
    with serving() as server, started(CLIENT, "--port", port_of(server), terminal="stderr") as running:
        running.expect("messages.*100%")
        assert running.wait() == 0
        assert b"every byte verified" in running.process.stdout.read()


def test_without_rich_the_client_says_how_to_get_a_progress_bar(tmp_path):
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError")
    with serving() as server:
        with started(CLIENT, "--port", port_of(server), terminal="stderr", path=[tmp_path]) as running:
            assert running.wait() == 0
            assert running.said == "for a progress bar: pip install minisched[demo]\r\n"
            assert b"every byte verified" in running.process.stdout.read()


# Many at once.


@pytest.mark.slow
def test_1000_connections_at_once_get_100_messages_each_back_unchanged():
    with few_files(256), serving() as server:
        result = client("--port", port_of(server), "--connections", 1000, "--messages", 100)
        assert (result.returncode, result.stderr) == (0, "")
        assert "connections  1000\nmessages     100000, every byte verified\n" in result.stdout
        assert server.interrupt() == 130
        assert server.errors() == ""
