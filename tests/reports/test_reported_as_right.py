"""Situations that other loops and servers got wrong, and that were reported to be right here (world, 30 to 43)."""

from __future__ import annotations

import gc
import os
import socket
import tty

import pytest
import servers
from helpers import no_file_is_left_open, pair, parked, run  # noqa: F401
from programs import finished
from servers import begun, client_of, dial, received, stopped
from test_workers import working

from minisched import (
    Cancel,
    Cancelled,
    Join,
    Listen,
    Read,
    Sleep,
    Spawn,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    Write,
    serve_listeners,
)

path, said = servers.path, servers.said


@pytest.mark.parametrize(
    "data",
    [memoryview(b""), memoryview(b"abcdef").cast("B", (2, 3)), memoryview(b"a").cast("B", ())],
    ids=["empty", "two dimensions", "no dimension"],
)
def test_a_view_of_any_shape_is_written_whole(data):
    """world 30: cpython#135862, a memoryview of several dimensions."""

    def main():
        ours, plain = pair()
        with ours, plain:
            written = yield Write(ours, data)
            assert written in (None, data.nbytes)
            ours.shutdown(socket.SHUT_WR)
            return received(plain, 100)

    assert run(main()) == data.tobytes()


@pytest.mark.parametrize("end", ["done", "cancelled"])
def test_a_bytearray_can_be_shortened_after_its_write(end):
    """world 31: a BufferError, since the write still held an export of the bytearray."""
    data = bytearray(b"x" * (100 if end == "done" else 10_000_000))

    def writer(sock):
        try:
            yield Write(sock, data)
        except Cancelled as error:
            del data[: error.written]
            raise

    def main():
        ours, plain = pair()
        with ours, plain:
            task = yield Spawn(writer(ours), keep=True)
            if end == "cancelled":
                yield from parked(task)
                yield Cancel(task)
                with pytest.raises(TaskCancelled):
                    yield Join(task)
            else:
                yield Join(task)
            data.clear()

    run(main())


def test_a_pipe_whose_reader_is_gone_ends_a_write_and_a_wait():
    """world 32: EPOLLHUP and EPOLLERR without end."""

    def write(fd):
        with pytest.raises(BrokenPipeError):
            yield Write(fd, bytes(1_000_000))

    def wait(fd):
        yield WaitWritable(fd)

    def main():
        for body in (write, wait):
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            try:
                if body is wait:
                    while True:
                        os.write(writer, bytes(65536))
            except BlockingIOError:
                pass
            task = yield Spawn(body(writer))
            yield from parked(task)
            os.close(reader)
            yield Join(task)
            os.close(writer)

    run(main())


def test_urgent_data_disturbs_no_read():
    """world 33: data out of band, in between and alone."""

    def main():
        with (yield Listen(("127.0.0.1", 0))) as listener:
            client = dial(listener.address)
            with client, listener.try_accept() as conn:
                client.send(b"one")
                assert (yield Read(conn, 10)) == b"one"
                client.send(b"!", socket.MSG_OOB)
                client.send(b"two")
                assert (yield Read(conn, 10)) == b"two"
                task = yield Spawn(read_all(conn))
                yield from parked(task)
                client.send(b"!", socket.MSG_OOB)
                client.shutdown(socket.SHUT_WR)
                return (yield Join(task))

    assert run(main()) == b""


def read_all(conn):
    data = b""
    while more := (yield Read(conn, 100)):
        data += more
    return data


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_files_without_readiness_answer_as_the_operating_system_does():
    """world 37: /dev/null, /dev/full, /dev/urandom, a directory."""

    def main():
        null, full = os.open("/dev/null", os.O_RDWR), os.open("/dev/full", os.O_RDWR)
        random, folder = os.open("/dev/urandom", os.O_RDONLY), os.open("/", os.O_RDONLY)
        try:
            assert (yield Read(null, 10)) == b""
            yield Write(null, b"gone")
            with pytest.raises(OSError, match="No space left"):
                yield Write(full, b"x")
            assert len((yield Read(random, 10))) == 10
            with pytest.raises(IsADirectoryError):
                yield Read(folder, 10)
        finally:
            for fd in (null, full, random, folder):
                os.close(fd)

    run(main())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
def test_a_terminal_in_blocking_mode_is_read_whole_and_its_hang_up_is_an_error():
    """world 37 and 38: a pty by its number, which stays in blocking mode."""

    def writer(fd):
        for _ in range(20):
            yield Write(fd, b"x" * 1000)

    def main():
        master, slave = os.openpty()
        tty.setraw(slave)
        yield Spawn(writer(slave))
        data = b""
        while len(data) < 20_000:
            data += yield Read(master, 4096)
        assert data == b"x" * 20_000 and os.get_blocking(master) and os.get_blocking(slave)
        os.close(slave)
        try:
            assert (yield Read(master, 10)) == b""
        except OSError as error:  # Linux
            assert error.strerror == "Input/output error"
        os.close(master)

    run(main())


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, TaskCancelled], ids=lambda error: error.__name__)
def test_a_handler_that_raises_an_exception_of_the_machinery_ends_alone(error, said):
    """world 39: the others go on."""

    def handler(conn):
        data = yield Read(conn, 10)
        if data == b"raise":
            raise error("odd")
        yield Write(conn, data)

    def main():
        listener = yield Listen(("127.0.0.1", 0))
        server, _ = yield from begun(lambda ready: serve_listeners(handler, listener, ready=ready))
        with client_of(listener.address) as bad, client_of(listener.address) as good:
            bad.send(b"raise")
            yield WaitReadable(bad)
            assert bad.recv(1) == b""
            good.send(b"hello")
            yield WaitReadable(good)
            assert good.recv(10) == b"hello"
        yield from stopped(server)

    run(main())
    assert any("failed" in text for text in said())


@pytest.mark.slow
def test_a_run_with_threads_works_at_the_exit_of_the_interpreter():
    """world 41: cpython#99704, threads at the interpreter's exit."""
    text = """
import atexit
from minisched import InThread, run

def main():
    return (yield InThread(lambda: "from a thread"))

atexit.register(lambda: print(run(main())))
"""
    done = finished("-c", text)
    assert (done.stdout, done.stderr, done.returncode) == ("from a thread\n", "", 0)


@pytest.mark.slow
def test_a_wait_for_sigchld_takes_no_exit_status():
    """world 42: the statuses of `subprocess` in threads, beside a task that waits for SIGCHLD."""
    text = """
import signal, subprocess, sys
from minisched import InThread, Spawn, WaitSignal, gather, run

seen = []

def watch():
    while True:
        seen.append((yield WaitSignal(signal.SIGCHLD)))

def child(number):
    return (yield InThread(lambda: subprocess.run(["sh", "-c", f"exit {number}"]).returncode))

def main():
    yield Spawn(watch(), daemon=True)
    return (yield from gather(*(child(number) for number in range(20))))

assert run(main()) == list(range(20))
assert seen and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
"""
    done = finished("-c", text)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.slow
def test_a_request_is_answered_after_the_first_process_was_killed(path):
    """world 43: the first process is killed while a handler has a request."""
    text = """
def handler(conn):
    data = yield Read(conn, 100)
    yield Write(conn, b"begun")
    yield Sleep(0.3)
    yield Write(conn, data)

main([sys.argv[1]], workers=2)
"""
    with working(text, path) as (program, _), dial(path) as conn:
        conn.sendall(b"hello")
        assert received(conn, 5) == b"begun"
        program.process.kill()
        assert received(conn, 5) == b"hello"
        program.wait()


def test_connections_one_after_the_other_leave_no_object_behind():
    """world 35: memory that grows with the number of connections there ever were."""

    def handler(conn):
        yield Write(conn, (yield Read(conn, 10)))

    def one(address):
        with client_of(address) as client:
            client.send(b"hello")
            yield WaitReadable(client)
            assert client.recv(10) == b"hello"
            yield WaitReadable(client)

    def main():
        listener = yield Listen(("127.0.0.1", 0))
        server, _ = yield from begun(lambda ready: serve_listeners(handler, listener, ready=ready))
        counts = []
        for _ in range(3):
            for _ in range(50):
                yield from one(listener.address)
            yield Sleep(0.001)
            gc.collect()
            counts.append(len(gc.get_objects()))
        yield from stopped(server)
        return counts

    first, second, third = run(main())
    assert third - second < 50 and second - first < 50  # fewer than one object for each connection
