"""Faults of the operating system, at one place and at each place: servers and clients go on, or fail cleanly."""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress

import pytest
from helpers import nothing_is_left  # noqa: F401

from minisched import (
    Accept,
    Cancel,
    Close,
    ClosedError,
    Connect,
    InThread,
    Listen,
    MoveOnAfter,
    Now,
    Open,
    OpenDatagram,
    Read,
    ReadAt,
    Resolve,
    Sleep,
    Spawn,
    Stream,
    Sync,
    SyscallError,
    Timeout,
    Write,
    WriteAt,
    gather,
    open_connection,
    read_file,
    run,
    serve_listeners,
    write_file,
)
from minisched.io.nowait import MAX_READ_BYTES
from minisched.kernel.tree import PARKED
from minisched.lab import Faults, faults_everywhere, leftovers
from minisched.lab.faults import FAULTS, JUMP_SECONDS
from minisched.testing import VirtualClock

LOCAL = ("127.0.0.1", 0)
pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(autouse=True)
def no_log():
    """Servers log the failures that the tests inject."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def echo(conn):
    while data := (yield Read(conn, 100)):
        yield Write(conn, data)


def talk(address, seen=None):
    """Send two messages to an echo server and check what comes back; a lost connection ends the talk."""
    try:
        with (yield Connect(address)) as sock:
            for message in (b"first", b"second"):
                yield Write(sock, message)
                got = b""
                while len(got) < len(message):
                    data = yield Read(sock, 100)
                    if not data:
                        return
                    got += data
                assert got == message
            if seen is not None:
                seen.append("whole")
    except OSError:
        pass


def served(seen=None, clients=2):
    """Run an echo server and clients."""
    with (yield Listen(LOCAL)) as listener:
        server = yield Spawn(serve_listeners(echo, listener))
        yield from gather(*(talk(listener.address, seen) for _ in range(clients)))
        yield Sleep(1)
        yield Cancel(server)


def uses_files(path):
    """Write and read a file, by each call."""
    with (yield Open(path, "w+")) as file:
        yield Write(file, b"01234")
        yield WriteAt(file, b"5", 5)
        yield Sync(file)
        file.position = 0
        while (yield Read(file, 4)):
            pass
        yield ReadAt(file, MAX_READ_BYTES + 1, 0)


def uses_a_pipe():
    """Write to a pipe of the program, and read it."""
    near, far = os.pipe()
    try:
        yield Write(far, b"0123")
        yield Read(near, 4)
    finally:
        yield Close(near)
        yield Close(far)


# One fault.


PLACES = [(kind, fault) for kind, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize(("kind", "fault"), PLACES)
def test_each_fault_happens_where_the_script_says(kind, fault, tmp_path):
    def main():
        for program in served(), uses_files(tmp_path / "file"), uses_a_pipe():
            try:
                yield from program
            except (OSError, ExceptionGroup):
                pass
        return (yield Now())

    needed = {("cached", 1): "not cached"} if kind == "pread" else {}
    faults = Faults({(kind, 1): fault} | needed)
    services = faults.services()
    services[type_of_timers()] = lambda kernel: faults_timers(faults, kernel)
    try:
        time = run(main(), services=services)
    except KeyboardInterrupt:
        assert fault == "Ctrl-C"
    else:
        assert fault != "Ctrl-C" and (time >= JUMP_SECONDS) == (fault == "clock jumps")
    assert faults.injected == {(kind, 1): fault} | needed


def type_of_timers():
    from minisched import Timers

    return Timers


def faults_timers(faults, kernel):
    faults.kernel = kernel
    return type_of_timers()(kernel, VirtualClock())


def test_a_question_inside_another_one_has_no_number():
    def main():
        with (yield Listen(LOCAL)) as listener:  # which makes a socket, too
            with pytest.raises(OSError, match="Too many open files"):
                yield Connect(listener.address)
        return "the Listen has not failed"

    faults = Faults({("socket", 1): "EMFILE"})
    assert run(main(), services=faults.services()) == "the Listen has not failed"


def test_after_a_short_read_the_rest_comes_with_the_next_one():
    def main():
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as near:
            with (yield Accept(listener)) as far:
                yield Write(near, b"hello")
                return (yield Read(far, 100)), (yield Read(far, 100))

    assert run(main(), services=Faults({("read", 1): "short"}).services()) == (b"h", b"ello")


def test_a_short_write_is_finished():
    def main():
        with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as near:
            with (yield Accept(listener)) as far:
                written = yield Write(near, b"hello")
                near.close()
                stream = Stream(far)
                return written, (yield from stream.read_exactly(5))

    assert run(main(), services=Faults({("write", 1): "short", ("write", 2): "would block"}).services()) == (
        5,
        b"hello",
    )


@pytest.mark.parametrize("script", [{("read", 1): "EPIPE"}, {("none", 1): "short"}, {("poll", 1): ""}])
def test_a_fault_that_does_not_exist_is_refused(script):
    with pytest.raises(ValueError, match=r"^no fault .* at .* 1: "):
        Faults(script)


def test_the_same_seed_gives_the_same_faults():
    def injected(seed):
        faults = Faults(seed=seed, rate=0.2)
        services = faults.services()
        services[type_of_timers()] = lambda kernel: faults_timers(faults, kernel)
        try:
            run(served(), services=services)
        except (OSError, ExceptionGroup):
            pass
        return faults.injected

    scripts = [injected(seed) for seed in range(20)]
    assert len({repr(script) for script in scripts}) > 10
    assert injected(7) == scripts[7]


def test_datagrams_go_past_the_faults():
    def main():
        with (yield OpenDatagram(local=LOCAL)) as datagrams:
            return (yield InThread(sum, [1, 2])), datagrams.address[0]

    assert run(main(), services=Faults({("read", 1): "ECONNRESET"}).services()) == (3, "127.0.0.1")


@pytest.mark.parametrize(
    ("place", "fault", "error"),
    [
        (("pwrite", 2), "ENOSPC", errno.ENOSPC),
        (("open", 1), "EMFILE", errno.EMFILE),
        (("open", 1), "ENOSPC", errno.ENOSPC),
        (("fsync", 1), "EIO", errno.EIO),
    ],
)
def test_a_full_or_broken_disk_leaves_the_old_file(tmp_path, place, fault, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def main():
        yield from write_file(path, bytes(3_000_000))

    with pytest.raises(OSError) as raised:
        run(main(), services=Faults({place: fault}).services())
    assert raised.value.errno == error and path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_file_is_old_or_new_after_each_fault_of_the_disk(tmp_path):
    path = tmp_path / "file"

    def make():
        path.write_bytes(b"old")

        def main():
            yield from write_file(path, b"the new content")

        def check():
            assert path.read_bytes() in (b"old", b"the new content") and os.listdir(tmp_path) == ["file"]

        return main(), check

    assert faults_everywhere(make) >= 8


def test_a_copy_has_each_byte_after_short_reads_and_writes_of_files(tmp_path):
    (tmp_path / "old").write_bytes(b"0123456789" * 3)

    def make():
        def main():
            with (yield Open(tmp_path / "old")) as source, (yield Open(tmp_path / "new", "w")) as sink:
                while data := (yield Read(source, 7)):
                    yield Write(sink, data)
            return (yield from read_file(tmp_path / "new"))

        def check():
            assert (b"0123456789" * 3).startswith((tmp_path / "new").read_bytes())

        (tmp_path / "new").write_bytes(b"")
        return main(), check

    assert faults_everywhere(make) > 20
    for place in [("pwrite", number) for number in range(1, 6)] + [("cached", number) for number in range(1, 6)]:
        fault = "short" if place[0] == "pwrite" else "not cached"
        assert run(make()[0], services=Faults({place: fault}).services()) == b"0123456789" * 3


def test_a_pipe_has_each_byte_after_a_short_write_and_a_false_alarm():
    def main():
        near, far = os.pipe()
        try:
            yield Write(far, b"0123456789")
            got = b""
            while len(got) < 10:
                got += yield Read(near, 10)
            return got
        finally:
            yield Close(near)
            yield Close(far)

    for kind in ("write file", "read file"):
        for fault in ("short", "would block"):
            assert run(main(), services=Faults({(kind, 1): fault}).services()) == b"0123456789"


def test_a_socket_that_is_detached_or_refuses_a_close_has_the_right_descriptor():
    def main():
        listener = yield Listen(LOCAL)
        parked = yield Spawn(accepts(listener), daemon=True)
        yield
        with pytest.raises(SyscallError, match="another thread"):
            yield InThread(listener.close)
        assert listener.fileno() >= 0 and parked.state == PARKED
        number = listener.fileno()
        assert listener.detach() == number and listener.fileno() == -1
        os.close(number)

    def accepts(listener):
        with suppress(ClosedError):
            yield Accept(listener)

    run(main(), services=Faults().services())


# Each fault at each place.


def test_a_server_and_its_clients_end_cleanly_whatever_the_system_reports():
    assert faults_everywhere(served) > 100


def test_a_server_goes_on_after_each_fault_of_one_connection():
    def make():
        seen = []

        def main():
            with (yield Listen(LOCAL)) as listener:
                server = yield Spawn(serve_listeners(echo, listener))
                yield from talk(listener.address)
                yield Sleep(2)  # after EMFILE, a server pauses
                while not seen:  # a fault may meet the second client, too; the third has none left
                    yield from talk(listener.address, seen)
                yield Cancel(server)

        return main(), lambda: seen or None

    assert faults_everywhere(make, kinds=("read", "write", "accept", "connect", "poll")) > 60


def test_a_stream_ends_cleanly_whatever_the_system_reports():
    def make():
        def answer(conn):
            yield from Stream(conn).write((yield from Stream(conn).readline()))

        def main():
            with (yield Listen(LOCAL)) as listener:
                server = yield Spawn(serve_listeners(answer, listener))
                try:
                    with (yield MoveOnAfter(60)), (yield from open_connection(*listener.address)) as conn:
                        yield from Stream(conn).write(b"line\n")
                        yield from Stream(conn).readline()
                finally:
                    yield Cancel(server)

        return main()

    assert faults_everywhere(make, expected=(OSError, EOFError)) > 50


def test_a_name_that_can_not_be_resolved_is_an_error_of_its_task():
    def main():
        return [one.address for one in (yield Resolve("127.0.0.1", 80))]

    with pytest.raises(socket.gaierror, match="Temporary failure in name resolution"):
        run(main(), services=Faults({("known", 1): "no name server"}).services())


# Mistakes that it finds.


leaked = []


def leaks():
    with (yield Listen(LOCAL)) as listener:
        first = yield Connect(listener.address)
        leaked.append(first)
        second = yield Connect(listener.address)  # if this fails, the first one stays open
        first.close()
        second.close()


def swallows():
    with (yield Listen(LOCAL)) as listener:
        while True:
            try:
                with (yield Connect(listener.address)), (yield Accept(listener)):
                    return
            except OSError:
                while True:
                    yield  # and never gives up


def waits():
    with (yield Listen(LOCAL)) as listener, (yield Connect(listener.address)) as near:
        with (yield Accept(listener)) as far:
            try:
                yield Write(near, b"hello")
            except OSError:
                pass
            yield Read(far, 100)  # which never come, if the write has failed


def raises():
    with (yield Listen(LOCAL)) as listener:
        try:
            with (yield Connect(listener.address)):
                pass
        except OSError as error:
            raise RuntimeError("a new error") from error


def loses():
    items = [1]

    def main():
        with (yield Listen(LOCAL)) as listener:
            items.pop()
            with (yield Connect(listener.address)):
                items.append(1)

    def check():
        assert items == [1], "the item is lost"

    return main(), check


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (leaks, r"^E\w+ at (connect|socket) \d: AssertionError\('the run left behind: descriptor"),
        (raises, r"^E\w+ at (connect|socket) \d: RuntimeError\('a new error'\)"),
        (loses, r"^E\w+ at (connect|socket) \d: AssertionError\('the item is lost"),
    ],
)
def test_a_mistake_is_found_and_its_fault_is_named(make, text, recwarn, monkeypatch):
    monkeypatch.setattr(leftovers, "GRACE_SECONDS", 0.05)  # a leak does not end by itself
    with pytest.raises(AssertionError, match=text):
        faults_everywhere(make, kinds=("connect", "socket", "accept"))
    while leaked:
        leaked.pop().close()


@pytest.mark.slow
def test_a_program_that_spins_or_waits_for_ever_is_found():
    with pytest.raises(
        AssertionError, match=r"at accept 1: SyscallError.*the program spins: [\d,]+ turns are not enough"
    ):
        faults_everywhere(swallows, kinds=("accept",))
    with pytest.raises(
        AssertionError, match=r"at write 1: SyscallError\('the program waits for a file for more than 5 s'"
    ):
        faults_everywhere(waits, kinds=("write",))


def test_a_program_that_fails_without_a_fault_is_named():
    def main():
        with (yield Timeout(1)):
            yield Sleep(2)

    with pytest.raises(AssertionError, match=r"^without a fault: TimedOut"):
        faults_everywhere(main)
