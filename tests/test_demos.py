"""The demos, run as programs, and the Korean page about the project."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import socket
import struct
import sys
import threading
from contextlib import contextmanager
from inspect import signature

import pytest
from programs import ROOT, assert_one_line, finished, started
from test_readme import listings

from minisched import serve

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
    """Start the echo server with `arguments`, or at a free port."""
    return started(SERVER, *(arguments or ("--port", "0")), **keywords)


def port_of(server):
    """Return the port that a server prints."""
    return server.expect(r"listening on 127\.0\.0\.1:(\d+); try: nc 127\.0\.0\.1 \1, or: .*\r?\n")[1]


def client(*arguments, **keywords):
    return finished(CLIENT, *arguments, **keywords)


@contextmanager
def fake_server(talk):
    """Run a server that calls `talk(conn)` for one connection, in a thread; yield its port."""

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
    """Run the client with one connection to a fake server that calls `talk`."""
    with fake_server(talk) as port:
        return client("--port", port, "--connections", 1, *arguments)


@contextmanager
def few_files(most):
    """Start processes with a soft limit of `most` open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Hello.


@pytest.mark.slow
@pytest.mark.parametrize("command", [[HELLO], ["-m", "minisched", "run", HELLO]], ids=["script", "command"])
def test_hello_prints_in_the_order_of_its_sleeps(command):
    result = finished(*command)
    assert (result.returncode, result.stdout, result.stderr) == (0, GREETINGS, "")


# The server.


@pytest.mark.slow
def test_the_server_prints_its_address_and_its_totals_to_a_pipe():
    with serving() as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            conn.shutdown(socket.SHUT_WR)
            assert conn.recv(100) == b""
        assert server.interrupt() == 130
        _, totals = server.said.splitlines()
        assert re.fullmatch(r"served 1 connection, 1 read, 5 bytes in [\d.]+ s", totals)
        assert server.errors() == ""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_server_echoes_lines_and_refuses_one_that_is_too_long(workers):
    with serving("--port", "0", "--lines", "10", "--workers", workers) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn, conn.makefile("rb") as file:
            conn.sendall(b"one\ntw")
            assert file.readline() == b"one\n"
            conn.settimeout(0)
            with pytest.raises(BlockingIOError):
                conn.recv(100)
            conn.settimeout(20)
            conn.sendall(b"o\n123456789\n1234567890\n" + bytes(10_000_000))
            assert [file.readline(), file.readline()] == [b"two\n", b"123456789\n"]
            assert re.fullmatch(rb"10 bytes came without b'\\n'; \d+ bytes can still be read\n", file.read())
        assert server.interrupt() == 130
        assert "failed" not in server.errors()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_connection_that_is_open_after_the_grace_period_is_closed_and_logged(workers):
    with serving("--port", "0", "--grace", "0", "--workers", workers) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            assert server.interrupt() == 130
            assert conn.recv(100) == b""
        (line,) = server.errors().splitlines()
        assert "cancelled 1 connection" in line


@pytest.mark.slow
def test_a_connection_above_the_limit_waits_until_another_one_ends():
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


@pytest.mark.slow
def test_an_idle_connection_is_closed():
    with serving("--port", "0", "--idle-timeout", "0.2") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            assert conn.recv(100) == b""


@pytest.mark.slow
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
        assert re.search(r"\nserved 20 connections, \d+ reads, 26 kB in [\d.]+ s\n$", server.said)
        assert server.said.count("\n") == 2  # and no status line
        assert server.errors() == ""
    assert not path.exists()


@pytest.mark.slow
def test_workers_print_no_status_line():
    with serving("--port", "0", "--workers", "2", terminal="stdout") as server:
        port_of(server)
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        assert server.interrupt() == 130
        assert server.said.count("\n") == 2 and "\x1b" not in server.said


@pytest.mark.slow
def test_server_and_client_connect_at_a_unix_path(tmp_path):
    path = tmp_path / "echo"
    with serving("--unix", path) as server:
        python = os.path.relpath(sys.executable, ROOT)
        server.expect(f"listening on {path}; try: nc -U {path}, or: {python} demos/echo_client.py --unix {path}")
        result = client("--unix", path, "--connections", 3, "--messages", 5)
        assert (result.returncode, result.stderr) == (0, "")
        assert server.interrupt() == 130
        assert server.errors() == ""
    assert not path.exists()


@pytest.mark.slow
def test_the_server_can_be_run_and_traced_by_the_command_line():
    with started("-m", "minisched", "run", "--trace", SERVER, "127.0.0.1", "0") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
        assert server.interrupt() == 130
        assert "Listen(('127.0.0.1'," in server.errors()


@pytest.mark.slow
def test_a_status_line_on_a_terminal_shows_the_figures_and_ends_with_the_server():
    with serving(terminal="stdout") as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as conn:
            conn.sendall(b"hello")
            assert conn.recv(100) == b"hello"
            server.expect(r"\r1 connection, \d+ reads/s, \d+ bytes?/s, \d+ tasks? ready to run\x1b\[K")
        server.expect(r"\r0 connections, 0 reads/s, 0 bytes/s, \d+ tasks? ready to run\x1b\[K")
        assert server.interrupt() == 130
        # The status line is replaced by the totals, and the shell's prompt starts on a new line.
        assert re.search(r"\r\x1b\[Kserved 1 connection, 1 read, 5 bytes in [\d.]+ s\r\n$", server.said)
        assert server.errors() == ""


@pytest.mark.slow
def test_a_wrong_option_of_the_server_is_a_one_line_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_one_line(finished(SERVER, "--port", port), f"127.0.0.1:{port}: Address already in use")
        assert_one_line(finished(SERVER, "--port", port, "--workers", 2), f"127.0.0.1:{port}: Address already in use")
    for option, text, wrong in (
        ("--port", "65536", "expected a number from 0 to 65,535"),
        ("--port", "-1", "expected a number from 0 to 65,535"),
        ("--workers", "0", "expected a number of at least 1"),
        ("--lines", "0", "expected a number of at least 1"),
        ("--max-connections", "0", "expected a number of at least 1"),
        ("--idle-timeout", "nan", "expected seconds, more than 0, or inf for no limit"),
        ("--idle-timeout", "0", "expected seconds, more than 0, or inf for no limit"),
        ("--grace", "-1", "expected seconds, 0 or more, or inf for no limit"),
    ):
        result = finished(SERVER, option, text)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.endswith(f"echo_server.py: error: argument {option}: {wrong}, not '{text}'\n")
    (tmp_path / "mine").write_text("kept")
    assert_one_line(finished(SERVER, "--unix", tmp_path / "mine"), "mine: Address already in use")
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_server_echoes_datagrams(host):
    with started(SERVER, "--udp", "--host", host, "--port", 0) as server:
        where = server.expect(r"receiving datagrams at (\S+):(\d+); try: nc -u (\S+) (\d+) \(Ctrl-C stops\)\n")
        assert where[3] == host and where[2] == where[4]
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.connect((host, int(where[2])))
            for data in (b"hello", b"", bytes(65_000)):
                sock.send(data)
                assert sock.recv(100_000) == data
        assert server.interrupt() == 130
        assert server.errors() == ""


@pytest.mark.slow
def test_a_wrong_option_of_the_server_of_datagrams_is_a_one_line_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert_one_line(finished(SERVER, "--udp", "--port", port), f"127.0.0.1:{port}: Address already in use")
    assert_one_line(finished(SERVER, "--udp", "--host", "localhost"), "'localhost'", "is not an IP address")
    for options in (["--unix", "path"], ["--workers", 2]):
        result = finished(SERVER, "--udp", *options)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.endswith("error: --udp takes a host and a port, and one process\n")


# The client.


@pytest.mark.slow
def test_the_client_reports_its_measurements():
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


@pytest.mark.slow
def test_more_bytes_in_flight_than_the_sockets_buffer_do_not_block_the_client():
    with serving() as server:
        arguments = ["--connections", 2, "--messages", 12, "--size", 4_000_000, "--in-flight", 6]
        result = client("--port", port_of(server), *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert "bytes        96000000\n" in result.stdout


@pytest.mark.slow
def test_the_smallest_measurement_works():
    with serving() as server:
        arguments = ["--connections", 1, "--messages", 1, "--size", 1, "--in-flight", 1]
        assert client("--port", port_of(server), *arguments).returncode == 0


@pytest.mark.slow
def test_a_refused_connection_is_a_one_line_error(tmp_path):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        assert_one_line(client("--port", port), f"127.0.0.1:{port}: Connection refused")
    result = client("--port", 65536)
    assert (result.returncode, result.stdout) == (2, "") and "expected a number from 0 to 65,535" in result.stderr
    assert_one_line(client("--unix", tmp_path / "nothing"), "nothing: No such file or directory")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["--connections", "--messages", "--size", "--in-flight"])
def test_a_count_below_1_is_refused_with_the_usage(name):
    result = client(name, 0)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"argument {name}: expected a number of at least 1, not '0'" in result.stderr


@pytest.mark.slow
def test_a_wrong_byte_is_reported_with_its_position():
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


@pytest.mark.slow
def test_an_early_end_is_a_one_line_error():
    def talk(conn):
        conn.sendall(conn.recv(100))
        conn.recv(100)

    result = client_of(talk, "--size", 8, "--in-flight", 1)
    assert_one_line(result, "connection 0: closed after 1 of 100 messages")


@pytest.mark.slow
def test_a_reset_connection_is_a_one_line_error():
    def talk(conn):
        conn.recv(1)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its close is a reset

    result = client_of(talk)
    assert_one_line(result, "echo_client: connection 0: ")
    assert "Connection reset by peer" in result.stderr or "Broken pipe" in result.stderr


@pytest.mark.slow
def test_more_bytes_than_were_sent_are_a_one_line_error():
    def talk(conn):
        conn.sendall(conn.recv(100) + b"x")
        while conn.recv(100):
            pass

    result = client_of(talk, "--messages", 1, "--size", 8)
    assert_one_line(result, "connection 0: received more than was sent")


@pytest.mark.slow
def test_ctrl_c_ends_a_waiting_client_without_output():
    arrived = threading.Event()

    def talk(conn):
        conn.recv(100)
        arrived.set()
        while conn.recv(100):
            pass

    with fake_server(talk) as port, started(CLIENT, "--port", port, "--connections", 1) as running:
        assert arrived.wait(20)
        assert running.interrupt() == 130
        assert (running.said, running.errors()) == ("", "")


@pytest.mark.slow
def test_a_progress_bar_on_a_terminal_reaches_100_percent():
    pytest.importorskip("rich")
    with serving() as server, started(CLIENT, "--port", port_of(server), terminal="stderr") as running:
        running.expect("messages.*100%")
        assert running.wait() == 0
        assert b"every byte verified" in running.process.stdout.read()


@pytest.mark.slow
def test_without_rich_the_client_prints_how_to_install_it(tmp_path):
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError")
    with serving() as server:
        with started(CLIENT, "--port", port_of(server), terminal="stderr", path=[tmp_path]) as running:
            assert running.wait() == 0
            assert running.said == "for a progress bar: pip install -e '.[demo]'\r\n"
            assert b"every byte verified" in running.process.stdout.read()


# Many connections at once.


@pytest.mark.slow
def test_1000_concurrent_connections_get_100_messages_each_back_unchanged():
    with few_files(256), serving() as server:
        result = client("--port", port_of(server), "--connections", 1000, "--messages", 100)
        assert (result.returncode, result.stderr) == (0, "")
        assert "connections  1000\nmessages     100000, every byte verified\n" in result.stdout
        assert server.interrupt() == 130
        assert server.errors() == ""


# The options, without a process.


def test_the_default_limits_of_the_echo_server_are_those_of_serve(monkeypatch):
    monkeypatch.syspath_prepend(SERVER.parent)
    import echo_server

    options = echo_server.server_options("").parse_args([])
    defaults = {name: parameter.default for name, parameter in signature(serve).parameters.items()}
    assert vars(options).items() >= {name: defaults[name] for name in echo_server.limits_of(options)}.items()
    assert (options.host, options.port) == ("127.0.0.1", 7777)


# The Korean page.


def test_the_commands_of_the_korean_page_are_those_of_the_english_documents():
    documents = ("README.md", "demos/lessons/README.md", "demos/stages/README.md", "demos/policies/README.md")
    commands = [listing.text.splitlines() for listing in listings("demos/README.ko.md") if listing.language == "sh"]
    english = {line for name in documents for listing in listings(name) for line in listing.text.splitlines()}
    set_up = [lines[0] for lines in commands[:2]]
    assert set_up == [listing.text.strip() for listing in listings("README.md") if listing.language == "sh"][:2]
    assert {line for lines in commands for line in lines} <= english


def test_the_listings_of_the_korean_page_print_what_it_says():
    python = [listing for listing in listings("demos/README.ko.md") if listing.language == "python"]
    printed = [listing.text for listing in listings("demos/README.ko.md") if listing.what == "prints"]
    assert len(python) == len(printed) >= 2
    for listing, expected in zip(python, printed, strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(listing.text, "a listing", "exec"), {"__name__": "__main__"})
        assert out.getvalue() == expected


def test_the_links_of_the_korean_page_lead_to_files():
    links = re.findall(r"\]\(([\w./]+)\)", (ROOT / "demos" / "README.ko.md").read_text(encoding="utf-8"))
    assert len(links) > 5
    assert not [link for link in links if not (ROOT / "demos" / link).exists()]
