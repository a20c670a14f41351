"""Streams: lines and messages over each kind of file, split in each way, and cut in each way."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from helpers import nothing_is_left, pair, parked, run, until  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

import minisched
from minisched import (
    WRITE,
    BusyError,
    Cancel,
    ClosedError,
    FileState,
    FileWrapper,
    IncompleteRead,
    IncompleteWrite,
    Join,
    LimitExceeded,
    MoveOnAfter,
    Read,
    Sleep,
    Socket,
    Spawn,
    Stream,
    SyscallError,
    TaskCancelled,
    TimedOut,
    Timeout,
    Timers,
    WouldBlock,
    do_now,
    gather,
    select,
)
from minisched.io.incoming import READ_BYTES, READS_IN_A_TURN
from minisched.io.streams import PendingStreamWrite
from minisched.testing import cancel_everywhere, check_syscall

sys.path.insert(0, str(Path(__file__).parent / "users"))

from tls import Handshake, Tls


class Script:
    """A file-like whose reads return these pieces, each a second after the one before. It takes all that is written."""

    def __init__(self, *pieces):
        self.pieces = [*pieces]
        self.file_state = FileState()
        self.is_ready = False
        self.written = b""

    def try_read(self, size):
        if not self.is_ready:
            raise BlockingIOError
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        if piece[size:]:
            self.pieces.insert(0, piece[size:])
        else:
            self.is_ready = False
        return piece[:size]

    def try_write(self, data):
        self.written += bytes(data)
        return len(data)

    def watch(self, kernel, direction, operation):
        timers = kernel.service(Timers)
        self.file_state.reader = operation
        self.timer = timers.call_at(timers.now() + 1, self.fire)

    def unwatch(self, kernel, direction):
        self.file_state.reader = None
        self.timer.cancel()

    def fire(self):
        self.is_ready = True
        operation, self.file_state.reader = self.file_state.reader, None
        operation.ready()

    def close(self):
        pass


def bytewise(data):
    return [data[index : index + 1] for index in range(len(data))]


# Each kind of file.


class Plain(FileWrapper):
    """A wrapper that changes nothing."""


def sockets():
    return [Socket(fileno=sock.detach(), peer="pair") for sock in socket.socketpair()]


def fds():
    return [sock.detach() for sock in socket.socketpair()]


def timeouts():
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(20)
    return ends


def files():
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)


KINDS = {
    "Sockets": sockets,
    "wrappers": lambda: [*map(Plain, sockets())],
    "sockets": socket.socketpair,
    "sockets with a timeout": timeouts,
    "descriptors of sockets": fds,
    "descriptors of a pipe": os.pipe,
    "files of a pipe": files,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_reads_and_writes_each_kind_of_file(kind):
    def reader(stream, log):
        log.append((yield stream.readline()))
        log.append((yield stream.read_exactly(3)))
        log.append((yield stream.read_until(b"--")))
        log.append((yield stream.read(2)))
        log.append((yield stream.read_exactly(1_000_000)) == b"z" + bytes(999_999))
        while line := (yield stream.readline()):
            log.append(line)

    def main():
        log = []
        near, far = map(Stream, KINDS[kind]())
        with near, far:
            task = yield Spawn(reader(near, log))
            for piece in (b"on", b"e\ntw", b"o1-", b"-xyz"):
                yield from parked(task)
                assert (yield far.write(piece)) == len(piece)
            yield far.write(bytes(999_999) + b"\nlast\nno newline")
            yield far.write_eof()
            yield Join(task)
        return log

    assert run(main()) == [b"one\n", b"two", b"1--", b"xy", True, b"\n", b"last\n", b"no newline"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_closes_its_file_once_and_wakes_its_reader(kind):
    def reads(stream):
        with pytest.raises(ClosedError, match="was closed while task 'reads' waited"):
            yield stream.readline()
        with pytest.raises(ClosedError, match="the stream is closed"):
            yield stream.readline()

    def main():
        near, far = map(Stream, KINDS[kind]())
        with near, far:
            yield far.write(b"lost")
            task = yield Spawn(reads(near))
            yield from parked(task)
            near.close()
            taken = os.open(os.devnull, os.O_RDONLY)  # the descriptor that the stream had
            near.close()
            os.close(taken)
            assert (near.available, repr(near).endswith(": closed>")) == (0, True)
            yield Join(task)
            with pytest.raises(ClosedError, match="the stream is closed"):
                yield near.write(b"x")
            with pytest.raises(ClosedError, match="the stream is closed"):
                yield near.write_eof()

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_closed_after_the_run(kind):
    near, far = map(Stream, KINDS[kind]())
    near.close(), far.close(), far.close()


def test_a_stream_of_a_regular_file_reads_to_its_end_and_on_when_it_has_grown(tmp_path):
    def main():
        with Stream(os.open(path, os.O_RDWR)) as stream:
            lines = []

            async def read_lines():
                lines.extend([line async for line in stream])

            yield Join((yield Spawn(read_lines())))
            with path.open("ab") as file:
                file.write(b"more\n" + bytes(3_000_000))
            return lines, (yield stream.readline()), len((yield stream.read_exactly(3_000_000)))

    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    assert run(main()) == ([b"one\n", b"two\n"], b"more\n", 3_000_000)


@pytest.mark.parametrize(
    ("file", "error", "text"),
    [
        (None, TypeError, "None is not a file"),
        (sys.__stdout__, TypeError, "has a buffer"),
        (-1, ClosedError, "-1 is closed"),
        (object(), TypeError, "is not a file"),
    ],
)
def test_a_stream_of_something_else_is_an_error_at_once(file, error, text):
    with pytest.raises(error, match=text):
        Stream(file)


def test_a_stream_of_a_socket_of_ssl_is_an_error_at_once():
    near, far = socket.socketpair()
    with far, ssl.create_default_context().wrap_socket(near, server_hostname="x", do_handshake_on_connect=False) as tls:
        with pytest.raises(TypeError, match="Stream can't use SSLSocket"):
            Stream(tls)


def test_wrong_numbers_and_separators_are_errors_of_their_call():
    stream = Stream(Script())
    for call, error, text in (
        (lambda: Stream(Script(), limit=0), ValueError, "Stream: limit is a number of bytes, 1 or more, not 0"),
        (lambda: Stream(Script(), limit=None), TypeError, "Stream: limit"),
        (lambda: stream.read(0), ValueError, "read: size is a number of bytes, 1 or more, not 0"),
        (lambda: stream.read_exactly(-1), ValueError, "read_exactly: size is a number of bytes, 0 or more, not -1"),
        (lambda: stream.read_exactly("1"), TypeError, "read_exactly: size"),
        (lambda: stream.readline(0), ValueError, "readline: limit is a number of bytes, 1 or more, or None"),
        (lambda: stream.readline(1.5), TypeError, "readline: limit"),
        (
            lambda: stream.read_until(b""),
            ValueError,
            "read_until: separator is one byte or more, and this one is empty",
        ),
        (lambda: stream.read_until("\n"), TypeError, r"read_until: separator is bytes, not '\\n' \(str\)"),
        (lambda: stream.read_until(b"abc", 2), ValueError, "read_until: limit is a number of bytes, 3 or more"),
        (lambda: stream.read_until(b"x", limit=float("inf")), ValueError, "read_until: limit"),
    ):
        with pytest.raises(error, match=text):
            call()
    with pytest.raises(SyscallError, match="a Stream is not iterable"):
        list(stream)


def test_the_limit_of_a_stream_holds_for_a_separator_that_is_longer_than_it():
    def main():
        stream = Stream(Script(b"a", b"bcd"), limit=2)
        with pytest.raises(LimitExceeded):
            yield stream.read_until(b"abcd")

    run(main())


# Pieces.


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_results_do_not_depend_on_the_pieces_in_which_the_bytes_come(data):
    """The model is a bytes object that is cut."""
    content = data.draw(st.lists(st.sampled_from([b"a", b"-", b"\n", b"--", b"-a"]), max_size=30).map(b"".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=9)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True) if a < b]
    calls = data.draw(st.lists(st.sampled_from(["line", "exactly", "until", "until twice", "some"]), max_size=9))
    limit = data.draw(st.integers(3, 9))

    def main():
        stream, rest = Stream(Script(*pieces), limit), content
        for call in calls:
            if call == "some":
                got = yield stream.read(2)
                assert rest.startswith(got) and len(got) <= 2 and bool(got) == bool(rest)
                rest = rest[len(got) :]
                continue
            if call == "exactly":
                wanted, end = stream.read_exactly(4), 4 if len(rest) >= 4 else -1
                too_long = False
            else:
                separator = b"\n" if call == "line" else b"--"
                wanted = stream.readline() if call == "line" else stream.read_until(separator)
                found = rest.find(separator)
                end = found + len(separator) if found >= 0 else -1
                too_long = end > limit or (end < 0 and len(rest) >= limit)
                end = len(rest) if end < 0 and call == "line" else end
            if too_long:
                with pytest.raises(LimitExceeded) as caught:
                    yield wanted
                assert limit <= caught.value.available == stream.available <= len(rest)
            elif end < 0:
                with pytest.raises(IncompleteRead) as caught:
                    yield wanted
                assert caught.value.available == stream.available == len(rest)
            else:
                assert (yield wanted) == rest[:end]
                rest = rest[end:]

    run(main())


def test_a_separator_may_come_in_pieces_and_begin_twice():
    def main():
        stream, found = Stream(Script(*bytewise(b"a-b--c---d--"), b"--")), []
        for separator in (b"--", bytearray(b"--"), b"-d", memoryview(b"----")):
            found.append((yield stream.read_until(separator)))
        return found

    assert run(main()) == [b"a-b--", b"c--", b"-d", b"----"]


class Counting(bytearray):
    """A buffer that counts the bytes in which a separator was searched."""

    searched = 0

    def find(self, separator, start, end):
        self.searched += max(0, min(len(self), end) - start)
        return super().find(separator, start, end)


@pytest.mark.parametrize("again", [False, True], ids=["one call", "many calls"])
@pytest.mark.parametrize("separator", [b"\n", b"\r\n\r\n"], ids=repr)
def test_bytes_that_come_one_at_a_time_are_searched_once_and_copied_once(separator, again):
    message = b"\r" * 1000 + separator

    def main():
        stream = Stream(Script(*bytewise(message)))
        stream.buffer = buffer = Counting()
        if again:
            while (found := (yield select(stream.read_until(separator), Sleep(1.5))))[0]:
                assert stream.buffer is buffer
        else:
            found = 0, (yield stream.read_until(separator))
        assert found[1] == message
        return buffer.searched

    assert run(main()) <= (4 if again else 2) * len(separator) * len(message)


def test_a_long_pause_between_two_pieces_costs_no_time():
    def main():
        stream = Stream(Script(b"a" * 1000, *[b"a"] * 10))
        searched = []
        for _ in range(10):
            with (yield MoveOnAfter(1.5)):
                yield stream.readline()
            searched.append(stream.searched)
        return searched

    assert run(main()) == list(range(1000, 1010))


# Limits.


def test_a_line_that_is_too_long_stays_readable():
    def main():
        stream = Stream(Script(b"0123", b"45", b"6789\nnext"))
        with pytest.raises(LimitExceeded) as caught:
            yield stream.readline(limit=5)
        assert caught.value.available == 6
        assert str(caught.value) == "5 bytes came without b'\\n'; 6 bytes can still be read"
        with pytest.raises(LimitExceeded):
            yield stream.readline(limit=10)
        assert (yield stream.readline(limit=11)) == b"0123456789\n"
        with pytest.raises(LimitExceeded):
            yield stream.readline(limit=4)
        assert (yield stream.readline(limit=5)) == b"next"  # and the end

    run(main())


def test_a_line_without_an_end_takes_no_more_memory_than_its_limit_and_one_read():
    def main():
        near, far = pair()
        with far, Stream(near, limit=1000) as stream:
            far.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    far.send(bytes(READ_BYTES))
            with pytest.raises(LimitExceeded) as caught:
                yield stream.readline()
            assert 1000 <= caught.value.available <= 1000 + READ_BYTES
            with pytest.raises(LimitExceeded) as again:
                yield stream.readline()
            assert again.value.available == caught.value.available  # nothing more was read

    run(main())


class Endless(Socket):
    """A socket that never runs out of bytes."""

    __slots__ = ()
    short_read_means_empty = True

    def try_read(self, size):
        return bytes(size)


@pytest.mark.parametrize("kind", ["Socket", "pipe"])
def test_a_peer_that_is_faster_than_its_reader_leaves_turns_to_other_tasks(kind, monkeypatch):
    from minisched.io import borrowed

    size = 100 * READ_BYTES

    def count(turns):
        while True:
            turns.append(1)
            yield

    def main():
        if kind == "Socket":
            near, far = socket.socketpair()
            near = Endless(fileno=near.detach())
            far = far.detach()
        else:
            near, far = os.pipe()
            monkeypatch.setattr(borrowed, "read_now", lambda fd, size, mode: bytes(size))
        turns = []
        os.write(far, b"x")
        with Stream(near) as stream, Stream(far):
            _ = yield Spawn(count(turns), daemon=True)
            assert len((yield stream.read_exactly(size))) == size
        return len(turns)

    assert run(main()) >= 100 // READS_IN_A_TURN


# The end.


def test_an_end_in_the_middle_leaves_the_bytes_readable():
    def main():
        stream = Stream(Script(b"abc"))
        with pytest.raises(
            IncompleteRead, match="the stream ended after 3 of 4 bytes, which can still be read"
        ) as caught:
            yield stream.read_exactly(4)
        assert (caught.value.available, stream.available, isinstance(caught.value, EOFError)) == (3, 3, True)
        with pytest.raises(IncompleteRead, match=r"ended after 3 bytes without b'\\r\\n'"):
            yield stream.read_until(b"\r\n")
        assert (yield stream.read_exactly(0)) == b""
        assert (yield stream.read_exactly(2)) == b"ab"
        assert (yield stream.readline()) == b"c"
        assert (yield stream.readline()) == (yield stream.read(9)) == b""
        with pytest.raises(IncompleteRead) as caught:
            yield stream.read_exactly(1)
        assert caught.value.available == 0

    run(main())


def test_an_error_of_the_file_leaves_the_bytes_readable():
    def main():
        stream = Stream(Script(b"abc", OSError(errno.EIO, "broken"), b"d\n"))
        with pytest.raises(OSError, match="broken"):
            yield stream.readline()
        assert stream.available == 3
        return (yield stream.readline())

    assert run(main()) == b"abcd\n"


def test_async_for_goes_through_the_lines():
    async def main():
        return [line async for line in Stream(Script(b"one\nt", b"wo\nthree"))]

    assert run(main()) == [b"one\n", b"two\n", b"three"]


# Cancellation.


def fed(call, data):
    def make():
        near, far = pair()
        return call(Stream(near)), lambda: far.send(data), lambda: (near.close(), far.close())

    return make


def over_a_pipe():
    reader, writer = os.pipe()
    return Stream(reader).readline(), lambda: os.write(writer, b"\n"), lambda: (os.close(reader), os.close(writer))


def full(sock):
    """Fill the buffers of a socket."""
    sock.setblocking(False)
    try:
        while True:
            socket.socket.send(sock, bytes(65536))
    except BlockingIOError:
        return sock


def write_that_waits():
    near, far = pair()

    def drain():
        try:
            while True:
                far.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    return Stream(full(near)).write(b"hello"), drain, lambda: (near.close(), far.close())


@pytest.mark.parametrize(
    "make",
    [
        fed(lambda stream: stream.read(9), b"x"),
        fed(lambda stream: stream.read_exactly(3), b"abc"),
        fed(lambda stream: stream.read_until(b"--"), b"a--"),
        fed(lambda stream: stream.readline(), b"abc\n"),
        lambda: Stream(Script(b"a", b"b", b"c\n")).readline(),
        over_a_pipe,
        write_that_waits,
    ],
    ids=["read", "read_exactly", "read_until", "readline", "readline in pieces", "readline of a pipe", "write"],
)
def test_the_calls_of_a_stream_pass_the_conformance_test(make):
    check_syscall(make)


def test_write_eof_passes_the_conformance_test():
    def make():
        near, far = pair()
        return Stream(near).write_eof(), None, lambda: (near.close(), far.close())

    check_syscall(make)


class Slow(Script):
    """Its write_eof waits for a second."""

    def watch(self, kernel, direction, operation):
        assert direction == WRITE
        timers = kernel.service(Timers)
        self.file_state.writer = operation
        self.timer = timers.call_at(timers.now() + 1, self.fire)

    def unwatch(self, kernel, direction):
        self.file_state.writer = None
        self.timer.cancel()

    def fire(self):
        self.is_ready = True
        operation, self.file_state.writer = self.file_state.writer, None
        operation.ready()

    def write_eof(self):
        if not self.is_ready:
            raise BlockingIOError


def test_write_eof_may_wait_and_passes_the_conformance_test():
    check_syscall(lambda: Stream(Slow()).write_eof())
    check_syscall(lambda: Stream(Plain(Slow())).write_eof())


def test_a_stream_cancelled_everywhere_loses_no_byte():
    """Wherever it is cancelled, the bytes that were taken, those in the buffer, and the rest make up the whole."""
    content = b"one\n" + b"two--" + b"three" + b"four\nfive"

    def make():
        script = Script(*bytewise(content[:7]), content[7:12], *bytewise(content[12:]))
        stream, taken = Stream(script), []

        def main():
            for call in (stream.readline(), stream.read_until(b"--"), stream.read_exactly(5)):
                for _ in range(2):  # the first try is too short for most of them
                    with (yield MoveOnAfter(2.5)):
                        taken.append((yield call))
                        break
            while data := (yield stream.read(4)):
                taken.append(data)

        def check():
            assert b"".join(taken) + bytes(stream.buffer) + b"".join(script.pieces) == content

        return main(), check

    assert cancel_everywhere(make, expected=(IncompleteRead,)) > 20


def test_a_call_that_loses_in_a_select_or_would_block_has_taken_nothing():
    def main():
        stream = Stream(Script(b"ab", b"c\n"))
        assert (yield select(stream.readline(), Sleep(1.5))) == (1, None)
        assert stream.available == 2
        with pytest.raises(WouldBlock):
            do_now(stream.readline())
        assert do_now(stream.read(1)) == b"a"
        assert (yield select(Sleep(5), stream.readline())) == (1, b"bc\n")

    run(main())


class WritesFirst(FileWrapper):
    """Its first read has to write a byte, as that of TLS does."""

    has_written = False

    def try_read(self, size):
        if not self.has_written:
            try:
                self.inner.try_write(b"?")
            except BlockingIOError as error:
                error.wants = WRITE
                raise
            self.has_written = True
        return self.inner.try_read(size)


def emptied(sock):
    """Return the last bytes of those that a socket has received."""
    received = b""
    try:
        while True:
            received = sock.recv(1_000_000, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return received[-1:]


@pytest.mark.parametrize("call", [lambda file: Read(file, 9), lambda file: Stream(file).readline()])
def test_a_read_in_a_select_waits_for_the_event_that_it_needs(call):
    def asks(file, log):
        log.append((yield select(call(file), Sleep(1000))))

    def main():
        log = []
        near, far = pair()
        with far, WritesFirst(full(near)) as file:
            task = yield Spawn(asks(file, log))
            yield from parked(task)
            emptied(far)
            yield from until(lambda: emptied(far) == b"?")
            far.send(b"answer\n")
            yield Join(task)
        return log

    assert run(main()) == [(0, b"answer\n")]


# Two tasks.


def test_a_second_reader_gets_busy_error_and_not_the_bytes_that_the_first_waits_with():
    def reads(stream, log):
        log.append((yield stream.read_exactly(4)))

    def main(kind):
        log = []
        near, far = map(Stream, KINDS[kind]())
        with near, far:
            yield far.write(b"ab\n")
            task = yield Spawn(reads(near, log))
            yield from parked(task)
            assert near.available == 3
            for call in (near.read(1), near.readline(), near.read_until(b"a"), near.read_exactly(1)):
                with pytest.raises(BusyError, match="another task waits to read"):
                    yield call
            yield far.write(b"c")
            yield Join(task)
        return log

    for kind in KINDS:
        assert run(main(kind)) == [b"ab\nc"]


def test_one_task_reads_while_another_writes():
    def echo(stream):
        while line := (yield stream.readline()):
            yield stream.write(line)
        yield stream.write_eof()

    def send(stream):
        for number in range(50):
            yield stream.write(b"%d\n" % number * 20)
        yield stream.write_eof()

    def receive(stream, log):
        while line := (yield stream.readline()):
            log.append(line)

    def main():
        log = []
        near, far = map(Stream, sockets())
        with near, far:
            yield from gather(echo(far), send(near), receive(near, log))
        return log == [b"%d\n" % number for number in range(50) for _ in range(20)]

    assert run(main())


# Writes that are cut.


def cut_by(how, stream, far):
    """Write 10 MB, of which only a part fits, and cut that in one of several ways."""
    if how == "cancelled":

        def writes():
            with pytest.raises(minisched.Cancelled):
                yield stream.write(bytes(10_000_000))

        task = yield Spawn(writes())
        yield from parked(task)
        yield Cancel(task)
        yield Join(task)
    elif how == "timed out":
        with pytest.raises(TimedOut) as caught:
            with (yield Timeout(1)):
                yield stream.write(bytes(10_000_000))
        assert caught.value.written == stream.cut[0]
    elif how == "select":  # the write has begun, so it wins; the cancellation cuts it
        with (yield MoveOnAfter(1)):
            yield select(Sleep(9), stream.write(bytes(10_000_000)), Sleep(0.5))
    else:
        task = yield Spawn(write_and_fail(stream), keep=True)
        yield from parked(task)
        far.close()
        yield Join(task)


def write_and_fail(stream):
    with pytest.raises(OSError):
        yield stream.write(bytes(10_000_000))


@pytest.mark.parametrize("how", ["cancelled", "timed out", "select", "an error"])
def test_a_stream_that_was_cut_in_a_write_refuses_the_next_one_with_the_count(how):
    def main():
        near, far = pair()
        with far, Stream(near) as stream:
            yield from cut_by(how, stream, far)
            for call in (lambda: stream.write(b""), stream.write_eof, lambda: select(stream.write(b"x"), Sleep(1))):
                with pytest.raises(IncompleteWrite, match=r"cut after \d+ of 10000000 bytes") as caught:
                    yield call()
            assert caught.value.size == 10_000_000
            if how != "an error":
                far.setblocking(False)
                came = 0
                while came < caught.value.written:
                    came += len(far.recv(1_000_000))
                with pytest.raises(BlockingIOError):
                    far.recv(1)
                far.send(b"still open\n")
                assert (yield stream.readline()) == b"still open\n"

    run(main())


def test_a_write_that_has_written_nothing_has_not_cut_the_stream():
    def main():
        near, far = pair()
        with far, Stream(full(near)) as stream:
            with (yield MoveOnAfter(1)) as scope:
                yield stream.write(b"hello")
            assert scope.cancelled_caught
            assert (yield select(stream.write(b"hello"), Sleep(1))) == (1, None)
            far.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    far.recv(1_000_000)
            assert (yield stream.write(b"hello")) == 5
            assert far.recv(9) == b"hello"

    run(main())


def test_a_write_of_which_the_file_has_taken_all_bytes_has_not_cut_the_stream():
    stream = Stream(Script())
    PendingStreamWrite(stream, None, stream.file, b"abc", 3).release()
    assert stream.cut is None
    PendingStreamWrite(stream, None, stream.file, b"abc", 2).release()
    assert stream.cut == (2, 3)


# The end of what is written.


@pytest.mark.parametrize("kind", KINDS)
def test_after_write_eof_a_write_is_refused(kind):
    def main():
        far, near = map(Stream, KINDS[kind]())
        with near, far:
            yield near.write_eof()
            assert (yield far.read(9)) == b""
            with pytest.raises(ClosedError, match="the stream is closed"):
                yield near.write(b"x")
            if near.closed:
                assert "pipe" in kind
            else:
                yield near.write_eof()
                yield far.write(b"an answer\n")
                assert (yield near.readline()) == b"an answer\n"

    run(main())


def test_write_eof_of_a_file_like_that_has_none_is_an_error():
    def main():
        for file in (Script(), Plain(Script())):
            stream = Stream(file)
            with pytest.raises(TypeError, match="Script has no write_eof, so only its close"):
                yield stream.write_eof()
            yield stream.write(b"still open")

    run(main())


def test_write_eof_after_the_peer_has_reset_the_connection_is_a_broken_pipe():
    def main():
        with (yield minisched.Listen(("127.0.0.1", 0))) as listener:
            with Stream((yield minisched.Connect(listener.address))) as stream:
                with (yield minisched.Accept(listener)) as far:
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                with pytest.raises(ConnectionResetError):
                    yield stream.readline()
                with pytest.raises(BrokenPipeError):
                    yield stream.write_eof()

    run(main())


def test_a_write_that_waits_makes_write_eof_busy():
    def main():
        near, far = pair()
        with far, Stream(full(near)) as stream:
            task = yield Spawn(write_and_fail(stream))
            yield from parked(task)
            with pytest.raises(BusyError, match="waits to write"):
                yield stream.write_eof()
            far.close()
            yield Join(task)

    run(main())


def test_a_stream_in_use_is_not_closed_in_another_thread():
    def closes(stream, errors):
        try:
            stream.close()
        except SyscallError as error:
            errors.append(str(error))

    def main():
        near, far = pair()
        errors = []
        with far, Stream(near) as stream:
            assert (yield select(stream.readline(), Sleep(1))) == (1, None)
            thread = threading.Thread(target=closes, args=(stream, errors))
            thread.start()
            thread.join(20)
            far.send(b"open\n")
            return len(errors), (yield stream.readline())

    assert run(main()) == (1, b"open\n")


# Other parts of the package.


def test_a_byte_of_an_incomplete_line_counts_as_activity():
    def reads(stream):
        yield stream.readline()

    def main():
        near, far = pair()
        with far, Stream(near) as stream:
            task = yield Spawn(reads(stream))
            yield from parked(task)
            near.file_state.used = False
            far.send(b"x")
            yield from until(lambda: near.file_state.used)
            assert (stream.available, near.is_waited_for()) == (1, True)
            near.file_state.used = False
            yield stream.write(b"y")
            assert near.file_state.used
            far.send(b"\n")
            yield Join(task)

    run(main())


def test_a_byte_that_is_there_when_the_call_is_made_counts_too():
    def main():
        near, far = pair()
        with far, Stream(near) as stream:
            yield
            far.send(b"x")
            with pytest.raises(WouldBlock):
                do_now(stream.readline())
            return near.file_state.used, stream.available

    assert run(main()) == (True, 1)


def test_a_peer_that_never_reads_holds_no_more_memory_than_a_limit_and_one_read():
    def echo(stream):
        while line := (yield stream.readline()):
            yield stream.write(line)

    def main():
        near, far = pair()
        with far, Stream(near, limit=1000) as stream:
            far.setblocking(False)
            task, sent, most = (yield Spawn(echo(stream))), 0, 0
            for _ in range(200):  # far more than the buffers of both sockets
                try:
                    sent += far.send(b"line\n" * 10_000)
                except BlockingIOError:
                    pass
                yield Sleep(0.01)
                most = max(most, stream.available)
            assert sent > 2 * READ_BYTES and task.state == "parked"
            yield Cancel(task)
        return most

    assert 0 < run(main()) <= 1000 + READ_BYTES


def test_a_handler_of_serve_that_meets_an_early_end_is_logged_in_one_line(caplog):
    def handler(conn):
        stream = Stream(conn)
        size = int((yield stream.readline()))
        yield stream.write((yield stream.read_exactly(size)))

    def talk(address):
        with Stream((yield minisched.Connect(address))) as stream:
            yield stream.write(b"3\nabc")
            assert (yield stream.read_exactly(3)) == b"abc"
            assert (yield stream.read(1)) == b""
        with Stream((yield minisched.Connect(address))) as stream:
            yield stream.write(b"3\na")
            yield stream.write_eof()
            assert (yield stream.read(1)) == b""

    def main():
        with (yield minisched.Listen(("127.0.0.1", 0))) as listener:
            task = yield Spawn(minisched.serve_listeners(handler, listener), keep=True)
            yield from talk(listener.address)
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    caplog.set_level("INFO", "minisched")
    run(main())
    (record,) = [record for record in caplog.records if "handler" in record.getMessage()]
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage().endswith("the stream ended after 1 of 3 bytes, which can still be read")


def test_a_stream_of_a_tls_connection_reads_lines():
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("example.org").configure_cert(server)
    authority.configure_trust(client)

    def handshake(tls):
        yield Handshake(tls)

    def echo(stream):
        while line := (yield stream.readline()):
            yield stream.write(line)

    def main():
        near, far = sockets()
        near, far = Tls(near, server), Tls(far, client, "example.org")
        with Stream(near) as near, Stream(far) as far:
            yield from gather(handshake(near.file), handshake(far.file))
            task = yield Spawn(echo(near))
            yield far.write(b"one\ntwo\n" + bytes(50_000) + b"\n")
            lines = (yield far.readline()), (yield far.readline()), len((yield far.readline()))
            yield Cancel(task)
            return lines

    assert run(main()) == (b"one\n", b"two\n", 50_001)


def test_a_read_of_the_same_file_does_not_see_what_the_stream_has_read_ahead():
    def main():
        near, far = pair()
        with far, Stream(near) as stream:
            far.send(b"one\ntwo\n")
            assert (yield stream.readline()) == b"one\n"
            far.send(b"three")
            assert (yield Read(near, 9)) == b"three"
            assert stream.available == 4
            assert repr(stream) == "<Stream of socket: 4 bytes available>"
            return (yield stream.readline())

    assert run(main()) == b"two\n"


def test_the_search_for_the_next_line_begins_at_the_beginning_of_the_rest():
    def main():
        ours, plain = pair()
        with Stream(ours) as stream, plain:
            plain.send(b"abc")
            reader = yield Spawn(first(stream))
            yield from parked(reader)  # the call has searched three bytes
            plain.send(b"d\nx\ny\n")
            return (yield Join(reader)), (yield stream.readline()), (yield stream.readline())

    def first(stream):
        return (yield stream.readline())

    assert run(main()) == (b"abcd\n", b"x\n", b"y\n")


def test_a_search_for_another_separator_looks_at_what_the_last_one_has_passed():
    def main(near, far):
        with Stream(near) as near, Stream(far) as far:
            yield near.write(b"a,b")
            with (yield MoveOnAfter(0.05)) as scope:
                yield far.read_until(b"\n")
            return scope.cancelled_caught, (yield far.read_until(b","))

    assert run(main(*socket.socketpair())) == (True, b"a,")
