"""Syscalls as a user writes them, from public names alone (`tests/users/`): they are short, and they hold."""

from __future__ import annotations

import ast
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import no_file_is_left_open, pair, parked, run, until  # noqa: F401

import minisched
from minisched import (
    READ,
    WRITE,
    Cancel,
    Event,
    FileWrapper,
    Join,
    Listen,
    Read,
    Sleep,
    Socket,
    Spawn,
    TaskCancelled,
    TimedOut,
    Timeout,
    Write,
    gather,
    select,
    serve_listeners,
)
from minisched.testing import check_syscall

USERS = Path(__file__).parent / "users"
sys.path.insert(0, str(USERS))

from datagrams import RecvFrom, SendTo  # noqa: E402
from resolve import Resolve  # noqa: E402
from tls import Handshake, Tls  # noqa: E402
from wait_process import WaitProcess  # noqa: E402

MAX_LINES = {"wait_process": 25, "datagrams": 2 * 25, "resolve": 2 * 25, "tls": 80}


@pytest.mark.parametrize("path", sorted(USERS.glob("*.py")), ids=lambda path: path.stem)
def test_a_file_of_a_user_is_short_and_imports_public_names_only(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES[path.stem]
    modules = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert {module for module in modules if module.partition(".")[0] == "minisched"} == {"minisched"}


# A child process.


def child(code="input()"):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux")
def test_wait_process_passes_the_conformance_test():
    def make():
        process = child()
        return WaitProcess(process), process.kill, lambda: (process.kill(), process.communicate())

    check_syscall(make)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux")
def test_the_first_of_two_processes_and_a_timeout():
    def main():
        slow, quick = child(), child("raise SystemExit(7)")
        assert (yield select(WaitProcess(slow), WaitProcess(quick))) == (1, 7)
        assert (yield select(WaitProcess(slow), Sleep(0))) == (1, None)
        slow.kill()
        assert (yield WaitProcess(slow)) == -9
        slow.communicate(), quick.communicate()

    run(main())


# Datagrams.


def udp():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def test_recv_from_passes_the_conformance_test():
    def make():
        near, far = udp(), udp()
        return RecvFrom(near, 9), lambda: far.sendto(b"x", near.getsockname()), lambda: (near.close(), far.close())

    check_syscall(make)


def test_datagrams_come_and_go_on_plain_sockets():
    def main():
        with udp() as near, udp() as far:
            assert (yield SendTo(far, b"hello", near.getsockname())) == 5
            assert (yield select(RecvFrom(near, 9), Event().wait())) == (0, (b"hello", far.getsockname()))
            assert (yield SendTo(far, b"", near.getsockname())) == 0
            assert (yield RecvFrom(near, 9))[0] == b""
            with pytest.raises(TimedOut):
                with (yield Timeout(1)):
                    yield RecvFrom(near, 9)

    run(main())


# A look-up in a thread.


def test_resolve_passes_the_conformance_test():
    check_syscall(lambda: Resolve("127.0.0.1", 80))


def test_an_unknown_name_raises():
    def main():
        found = yield Resolve("127.0.0.1", 80)
        with pytest.raises(OSError):
            yield Resolve("127.0.0.1", "no such service")
        return found[0][4]

    assert run(main()) == ("127.0.0.1", 80)


# TLS.


@pytest.fixture(scope="module")
def contexts():
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("example.org").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def tls_pair(contexts):
    near, far = (Socket(fileno=end.detach(), peer="pair") for end in socket.socketpair())
    return Tls(near, contexts[0]), Tls(far, contexts[1], "example.org")


def handshake(tls):
    yield Handshake(tls)


def reading(tls, size):
    data = b""
    while len(data) < size:
        data += yield Read(tls, 30_000)
    return data


def writing(tls, data):
    yield Write(tls, data)


def test_a_read_of_a_tls_connection_passes_the_conformance_test(contexts):
    def make():
        near, far = tls_pair(contexts)
        yield from gather(handshake(near), handshake(far))
        return Read(near, 9), lambda: far.try_write(b"x"), lambda: (near.close(), far.close())

    check_syscall(make)


def test_megabytes_go_both_ways_at_once(contexts):
    def main():
        near, far = tls_pair(contexts)
        one, other = os.urandom(2_000_000), os.urandom(2_000_000)
        with near, far:
            yield from gather(handshake(near), handshake(far))
            got = yield from gather(
                writing(near, one), writing(far, other), reading(near, len(other)), reading(far, len(one))
            )
            return got[2] == other and got[3] == one

    assert run(main())


def test_megabytes_go_both_ways_at_once_without_a_handshake_of_its_own(contexts):
    """The first Read and the first Write of each end make the handshake, and wait for the same event."""

    def main():
        near, far = tls_pair(contexts)
        one, other = os.urandom(1_000_000), os.urandom(1_000_000)
        with near, far:
            got = yield from gather(
                reading(near, len(other)), reading(far, len(one)), writing(near, one), writing(far, other)
            )
            return got[0] == other and got[1] == one

    assert run(main())


def test_a_server_of_tls_answers_a_client_of_the_standard_library(contexts):
    server, client = contexts

    def handler(conn):
        with Tls(conn, server) as tls:
            yield Handshake(tls)
            while data := (yield Read(tls, 100_000)):
                yield Write(tls, data)

    def talk(address, answers):
        with (
            socket.create_connection(address) as plain,
            client.wrap_socket(plain, server_hostname="example.org") as sock,
        ):
            for size in (1, 100, 100_000):
                sock.sendall(bytes(size))
                got = 0
                while got < size:
                    got += len(sock.recv(size - got))
                answers.append(got)

    def main():
        answers = []
        with (yield Listen(("127.0.0.1", 0))) as listener:
            task = yield Spawn(serve_listeners(handler, listener, grace=0), keep=True)
            thread = threading.Thread(target=talk, args=(listener.address, answers))
            thread.start()
            while thread.is_alive():
                yield Sleep(0.01)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)
        return answers

    assert minisched.run(main()) == [1, 100, 100_000]


# An operation that waits for the event of the other direction.


class Contrary(FileWrapper):
    """Its Write has to read a byte first, and its Read has to write one."""

    def __init__(self, inner):
        super().__init__(inner)
        self.has_read = self.has_written = False

    def try_write(self, data):
        if not self.has_read:
            try:
                assert self.inner.try_read(1) == b"!"
            except BlockingIOError as error:
                error.wants = READ
                raise
            self.has_read = True
        return self.inner.try_write(data)

    def try_read(self, size):
        if not self.has_written:
            try:
                self.inner.try_write(b"?")
            except BlockingIOError as error:
                error.wants = WRITE
                raise
            self.has_written = True
        return self.inner.try_read(size)


def reads(file, log):
    log.append((yield Read(file, 9)))


def writes(file, log):
    log.append((yield Write(file, b"hello")))


@pytest.mark.parametrize("bodies", [(reads, writes), (writes, reads)], ids=["read first", "write first"])
@pytest.mark.parametrize(("cancelled", "sent", "answer"), [(reads, b"!", 5), (writes, b"xx", b"xx")])
def test_a_read_and_a_write_may_wait_for_the_same_event(bodies, cancelled, sent, answer):
    def main():
        near, far = pair()
        log, tasks = [], {}
        with Contrary(near) as file, far:
            for body in bodies:
                tasks[body] = yield Spawn(body(file, log), keep=True)
                yield from parked(tasks[body])
            assert far.recv(9) == b"?"
            yield Cancel(tasks[cancelled])  # takes back its own wait, and not that of the other one
            with pytest.raises(TaskCancelled):
                yield Join(tasks[cancelled])
            far.send(sent)
            for body in {*bodies} - {cancelled}:
                yield Join(tasks[body])
            assert near.file_state.wanted() == 0
        return log

    assert run(main()) == [answer]


class Either(FileWrapper):
    """Its Read is tried again when the file can be read, and when it can be written."""

    tries = 0

    def try_read(self, size):
        self.tries += 1
        try:
            return self.inner.try_read(size)
        except BlockingIOError as error:
            error.wants = READ | WRITE
            raise


def test_a_read_may_wait_for_the_first_of_both_events():
    def main():
        near, far = pair()
        log = []
        with Either(near) as file, far:
            task = yield Spawn(reads(near, log), keep=True)
            yield from parked(task)
            far.send(b"a")  # from now on, the socket is registered for reading
            yield Join(task)
            with pytest.raises(BlockingIOError):
                while True:
                    near.try_write(bytes(65536))
            task = yield Spawn(reads(file, log), keep=True)
            yield from parked(task)
            yield from until(lambda: near.file_state.wanted() == READ | WRITE)
            assert file.tries == 1
            with pytest.raises(BlockingIOError):
                while True:
                    far.recv(65536, socket.MSG_DONTWAIT)  # now there is room
            yield from until(lambda: file.tries > 1)
            far.send(b"x")
            yield Join(task)
            assert near.file_state.wanted() == 0
        return log

    assert run(main()) == [b"a", b"x"]
