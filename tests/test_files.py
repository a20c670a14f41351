"""Reading, writing and closing: Sockets, borrowed files, and file-likes in memory."""

from __future__ import annotations

import array
import io
import os
import socket
from functools import partial

import pytest
from helpers import Ask, Recording, no_file_is_left_open, pair, parked, pattern, run, until, watched  # noqa: F401

from minisched import (
    BusyError,
    Cancel,
    Cancelled,
    Close,
    ClosedError,
    FileOperation,
    Join,
    Poller,
    Read,
    Socket,
    Spawn,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    Write,
    select,
)
from minisched.io import borrowed, filelike
from minisched.io._selectors2 import READ, WRITE
from minisched.io.filelike import FileState
from minisched.testing import check_syscall

NAMES = {READ: "reader", WRITE: "writer"}  # the field of FileState that has the waiter of a direction
BIG_BYTES = 4_000_000  # more than any socket's buffers


class Memory:
    """A file-like without a descriptor: no part of it comes from the operating system."""

    label = "memory"

    def __init__(self, room=0):
        self.data = b""
        self.ended = False
        self.room = room  # the number of bytes that it takes
        self.taken = b""
        self.file_state = FileState()
        self.tries = []

    def try_read(self, size):
        self.tries.append("read")
        if not self.data and not self.ended:
            raise BlockingIOError
        data, self.data = self.data[:size], self.data[size:]
        return data

    def try_write(self, data):
        self.tries.append("write")
        if not self.room:
            raise BlockingIOError
        taken = bytes(data[: self.room])
        self.taken, self.room = self.taken + taken, self.room - len(taken)
        return len(taken)

    @property
    def waiters(self):
        """The waiters, by direction."""
        found = {direction: getattr(self.file_state, name) for direction, name in NAMES.items()}
        return {direction: waiter for direction, waiter in found.items() if waiter is not None}

    def watch(self, kernel, direction, waiter):
        if direction in self.waiters:
            raise BusyError("this direction has a waiter")
        setattr(self.file_state, NAMES[direction], waiter)

    def unwatch(self, kernel, direction):
        assert direction in self.waiters
        setattr(self.file_state, NAMES[direction], None)

    def take(self, direction):
        """Take the waiter of a direction out and return it."""
        waiter = self.waiters[direction]
        setattr(self.file_state, NAMES[direction], None)
        return waiter

    def close(self):
        for direction in self.waiters:
            self.take(direction).closed()

    def feed(self, data):
        """Add data to read; b"" ends the file."""
        self.data, self.ended = self.data + data, not data
        if READ in self.waiters:
            self.take(READ).ready()

    def drain(self, room):
        """Make room for bytes to be written."""
        self.room = room
        if WRITE in self.waiters:
            self.take(WRITE).ready()


@pytest.fixture(
    params=["Socket", "blocking socket", "non-blocking socket", "socket with a timeout", "pipe", "descriptors"]
)
def ends(request):
    """Return a file to read from and one to write to, in each form that Read and Write accept."""
    if request.param in ("pipe", "descriptors"):
        reader, writer = os.pipe()
        if request.param == "descriptors":
            yield reader, writer
            close_descriptors(reader, writer)
        else:
            with open(reader, "rb", buffering=0) as read_end, open(writer, "wb", buffering=0) as write_end:
                yield read_end, write_end
        return
    first, second = socket.socketpair()
    if request.param == "Socket":
        first, second = Socket(fileno=first.detach(), peer=""), Socket(fileno=second.detach(), peer="")
    else:
        timeout = {"blocking socket": None, "non-blocking socket": 0.0, "socket with a timeout": 3600.0}[request.param]
        first.settimeout(timeout)
        second.settimeout(timeout)
    with first, second:
        yield first, second


def close_descriptors(*descriptors):
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError:
            pass


def mode(file):
    return os.get_blocking(file if isinstance(file, int) else file.fileno()), getattr(file, "gettimeout", int)()


# Every form of file


def test_a_read_returns_what_was_written_and_then_the_end_again_and_again(ends):
    reader, writer = ends

    def main():
        task = yield Spawn(all_of(reader, 5))
        yield from parked(task)
        assert (yield Write(writer, b"hello")) == 5
        yield Close(writer)
        data = yield Join(task)
        return data, (yield Read(reader, 5)), (yield Read(reader, 5))

    before = mode(reader), mode(writer)
    assert run(main()) == (b"hello", b"", b"")
    assert mode(reader) == before[0]


def all_of(file, size):
    """Read until the end."""
    parts = []
    while data := (yield Read(file, size)):
        assert len(data) <= size
        parts.append(data)
    return b"".join(parts)


def test_a_write_of_many_steps_arrives_whole_and_holds_no_task_up(ends):
    reader, writer = ends
    data = pattern(BIG_BYTES // 4)
    turns = []

    def write():
        assert (yield Write(writer, data)) == len(data)
        yield Close(writer)

    def others():
        while True:
            turns.append(None)
            yield

    def main():
        yield Spawn(others(), daemon=True)
        yield Spawn(write())
        for _ in range(10):  # the reader is slow
            yield
        return (yield from all_of(reader, 65536))

    before = mode(writer)
    assert run(main()) == data
    assert len(turns) > 10
    assert before == mode(reader) or isinstance(reader, Socket)


def test_a_write_cancelled_partway_reports_exactly_how_much_was_written(ends):
    reader, writer = ends
    data = pattern(BIG_BYTES)
    said = []

    def write():
        try:
            yield Write(writer, data)
        except Cancelled as cancelled:
            said.append(cancelled.written)
            raise

    def main():
        task = yield Spawn(write(), keep=True)
        yield from parked(task)
        yield Read(reader, 1000)
        yield from parked(task)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        yield Close(writer)
        return 1000 + len((yield from all_of(reader, 65536)))

    assert run(main()) == said[0]
    assert 0 < said[0] < len(data)


def test_a_cancelled_read_loses_no_bytes_that_arrive_in_the_same_turn(ends):
    reader, writer = ends

    def main():
        task = yield Spawn(all_of(reader, 5), keep=True)
        yield from parked(task)
        yield Write(writer, b"hello")  # the bytes have arrived, and the loop has not polled yet
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return (yield Read(reader, 5))

    assert run(main()) == b"hello"


def test_waiting_for_readiness_takes_no_bytes(ends):
    reader, writer = ends

    def main():
        yield WaitWritable(writer)
        task = yield Spawn(waits_readable())
        yield from parked(task)
        yield Write(writer, b"x")
        yield Join(task)
        yield WaitReadable(reader)
        return (yield Read(reader, 5))

    def waits_readable():
        yield WaitReadable(reader)

    assert run(main()) == b"x"


def test_a_second_reader_gets_busy_error_before_it_tries(ends):
    reader, writer = ends

    def main():
        first = yield Spawn(one_read())
        yield from parked(first)
        with pytest.raises(BusyError, match="another task waits to read"):
            yield Read(reader, 5)
        with pytest.raises(BusyError, match="another task waits to read"):
            yield WaitReadable(reader)
        yield Write(writer, b"x")
        return (yield Join(first))

    def one_read():
        return (yield Read(reader, 5))

    assert run(main()) == b"x"


def test_a_second_writer_gets_busy_error_before_it_tries(ends):
    reader, writer = ends
    data = pattern(BIG_BYTES // 4)

    def main():
        first = yield Spawn(write())
        yield from parked(first)
        with pytest.raises(BusyError, match="another task waits to write"):
            yield Write(writer, b"in between")
        return (yield from all_of(reader, 65536))

    def write():
        yield Write(writer, data)
        yield Close(writer)

    assert run(main()) == data


def test_close_wakes_the_waiting_task_with_closed_error(ends):
    reader, _ = ends

    def main():
        task = yield Spawn(one_read(), keep=True)
        yield from parked(task)
        yield Close(reader)
        with pytest.raises(ClosedError, match="was closed while task 'one_read' waited for it"):
            yield Join(task)
        return (yield Ask(watched))

    def one_read():
        yield Read(reader, 5)

    assert run(main()) == []


def test_an_empty_write_returns_0_at_once(ends):
    _, writer = ends

    def main():
        return (yield Write(writer, b""))

    assert run(main()) == 0


# Sockets


def test_a_socket_can_have_a_reader_and_a_writer_at_once():
    data = pattern(BIG_BYTES)

    def main():
        ours, plain = pair()
        with ours, plain:
            reader = yield Spawn(one_read(ours))
            writer = yield Spawn(write(ours))
            yield from parked(reader, writer)
            yield Write(plain, b"x")
            assert (yield Join(reader)) == b"x"
            size = 0
            while size < len(data):
                size += len((yield Read(plain, 65536)))
            return (yield Join(writer))

    def one_read(sock):
        return (yield Read(sock, 5))

    def write(sock):
        return (yield Write(sock, data))

    assert run(main()) == len(data)


@pytest.mark.parametrize("close", ["close", "with", "detach"])
def test_each_way_to_give_up_a_socket_wakes_its_waiters(close):
    def main():
        ours, plain = pair()
        with plain:
            reader = yield Spawn(one_read(ours), keep=True)
            writer = yield Spawn(write(ours), keep=True)
            yield from parked(reader, writer)
            if close == "close":
                ours.close()
            elif close == "detach":
                os.close(ours.detach())
            else:
                with ours:
                    pass
            for task in (reader, writer):
                with pytest.raises(ClosedError, match="socket was closed while task"):
                    yield Join(task)
            assert (yield Ask(watched)) == []

    def one_read(sock):
        yield Read(sock, 5)

    def write(sock):
        yield Write(sock, pattern(BIG_BYTES))

    run(main())


@pytest.mark.parametrize("drained", [False, True])
@pytest.mark.parametrize(
    "call", [lambda sock: Read(sock, 5), lambda sock: Write(sock, b"x"), WaitReadable, WaitWritable]
)
def test_a_closed_socket_is_refused_by_its_name(call, drained):
    def main():
        ours, plain = pair()
        plain.close()
        ours.file_state.drained = drained
        ours.close()
        with pytest.raises(ClosedError, match="socket is closed"):
            yield call(ours)
        yield Close(ours)  # again does nothing

    run(main())


def test_a_write_to_a_broken_connection_raises_broken_pipe_error():
    def main():
        ours, plain = pair()
        with ours:
            plain.close()
            with pytest.raises(BrokenPipeError):
                yield Write(ours, b"x")

    run(main())


def test_a_connection_that_breaks_wakes_the_waiting_write_with_connection_error():
    def write(ours):
        yield Write(ours, pattern(BIG_BYTES))

    def main():
        ours, plain = pair()
        with ours:
            task = yield Spawn(write(ours), keep=True)
            yield from parked(task)
            plain.close()
            with pytest.raises(ConnectionError):
                yield Join(task)

    run(main())


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda sock: Read(sock, 5), b"hello"),
        (lambda sock: Write(sock, b"x"), 1),
        (lambda sock: WaitReadable(sock), None),
        (lambda sock: WaitWritable(sock), None),
        (lambda sock: Close(sock), None),
    ],
    ids=["Read", "Write", "WaitReadable", "WaitWritable", "Close"],
)
def test_each_file_syscall_is_awaitable(call, result):
    async def main():
        ours, plain = pair()
        with ours, plain:
            plain.send(b"hello")
            return await call(ours)

    assert run(main()) == result


# Files in blocking mode


def test_a_write_to_a_pipe_that_is_full_waits_and_does_not_block():
    def main():
        reader, writer = os.pipe()
        fill(writer)
        task = yield Spawn(write(writer))
        yield from parked(task)
        size = 0
        while size < 65536:
            size += len((yield Read(reader, 65536)))
        assert (yield Join(task)) == 1
        yield Close(reader)
        yield Close(writer)

    def write(writer):
        return (yield Write(writer, b"x"))

    run(main())


@pytest.mark.parametrize("call", [lambda sock: Read(sock, 5), lambda sock: Write(sock, b"x")], ids=["Read", "Write"])
def test_a_spurious_wake_up_does_not_block_on_a_socket_in_blocking_mode(call):
    def main():
        ours, plain = pair()
        with ours, plain:
            if isinstance(call(plain), Write):
                fill(plain)
            task = yield Spawn(one(plain), keep=True)
            yield from parked(task)
            poller = yield Ask(lambda kernel: kernel.service(Poller))
            poller.dispatch(poller.registered[plain.fileno()], READ | WRITE)
            assert task.state == "parked"
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    def one(sock):
        yield call(sock)

    run(main())


# Regular files, and objects that are not files


def test_a_regular_file_of_any_size_is_read_and_written(tmp_path):
    data = pattern(100_000)

    def main():
        with open(tmp_path / "regular", "wb", buffering=0) as file:
            assert (yield Write(file, data)) == len(data)
            yield WaitWritable(file)
        with open(tmp_path / "regular", "rb", buffering=0) as file:
            yield WaitReadable(file)
            found = yield from all_of(file, 65536)
            return found, (yield Read(file, 5))

    assert run(main()) == (data, b"")


@pytest.mark.parametrize("opened", ["rb", "r", "w+b", "w"])
def test_a_file_with_a_buffer_is_refused_with_a_way_out(opened, tmp_path):
    (tmp_path / "regular").write_bytes(b"x")

    def main(file):
        with pytest.raises(TypeError, match=r"has a buffer.*pass its fileno\(\), or open it with buffering=0"):
            yield Read(file, 5)
        with pytest.raises(TypeError, match="has a buffer"):
            yield Write(file, b"x")

    with open(tmp_path / "regular", opened) as file:
        run(main(file))


def test_an_object_that_is_not_a_file_is_refused():
    def main():
        for no_file in ("name.txt", None, object()):
            with pytest.raises(TypeError, match=r"is not a file: it has neither fileno\(\) nor a file_state"):
                yield Read(no_file, 5)

    run(main())


def test_a_file_like_without_a_file_state_is_refused():
    class Incomplete(io.FileIO):
        def try_read(self, size):
            return b"upper"

    def main():
        with open(os.devnull) as null, Incomplete(os.dup(null.fileno())) as file:
            for call in (Read(file, 5), Write(file, b"x"), WaitReadable(file)):
                with pytest.raises(TypeError, match="has a try_read, but no file_state"):
                    yield call

    run(main())


def test_a_closed_file_is_refused_and_closing_it_again_does_nothing(tmp_path):
    plain, other = socket.socketpair()
    regular = open(tmp_path / "regular", "wb", buffering=0)  # noqa: SIM115

    def main():
        for file in (plain, other, regular):
            yield Close(file)
            with pytest.raises(ClosedError, match="is closed"):
                yield Write(file, b"x")
            yield Close(file)

    run(main())


def test_a_descriptor_that_is_not_open_raises_oserror():
    def main():
        reader, writer = os.pipe()
        yield Close(reader)
        yield Close(writer)
        for call in (Read(reader, 5), Close(reader), WaitWritable(writer)):
            with pytest.raises(OSError, match="Bad file descriptor"):
                yield call

    run(main())


@pytest.mark.parametrize("size", [0, -1])
def test_a_read_of_less_than_one_byte_is_refused(size):
    def main():
        with pytest.raises(ValueError, match=f"size is a number of bytes, 1 or more, not {size}"):
            yield Read(Memory(), size)

    run(main())


# The data of a Write


@pytest.mark.parametrize(
    "data",
    [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("I", [1, 2, 3]), memoryview(b"abcdefgh").cast("I")],
    ids=["bytes", "bytearray", "memoryview", "array", "memoryview of integers"],
)
def test_any_object_with_a_buffer_is_written_and_counted_in_bytes(data):
    wanted = bytes(memoryview(data).cast("B"))

    def main():
        memory = Memory(room=3)
        task = yield Spawn(write(memory))
        yield from parked(task)
        memory.drain(100)
        assert (yield Join(task)) == len(wanted)
        return memory.taken

    def write(memory):
        return (yield Write(memory, data))

    assert run(main()) == wanted
    assert repr(Write(Memory(), data)) == f"Write(memory, {len(wanted)} bytes)"


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
def test_an_object_without_a_buffer_is_not_written(data):
    def main():
        with pytest.raises(TypeError, match=f"Write takes bytes, not {type(data).__name__}; a str is encoded first"):
            yield Write(Memory(), data)

    run(main())
    assert repr(Write(Memory(), data)) == f"Write(memory, {type(data).__name__})"


# File-likes in memory


def test_after_a_short_read_of_a_file_that_is_empty_then_the_next_read_waits_before_it_tries():
    class Promising(Memory):
        short_read_means_empty = True

    def main():
        memory = Promising()
        memory.feed(b"abcdef")
        assert (yield Read(memory, 4)) == b"abcd"  # a full read: there may be more
        assert (yield Read(memory, 4)) == b"ef"
        task = yield Spawn(one_read(memory))
        yield from parked(task)
        assert memory.tries == ["read", "read"]
        memory.feed(b"gh")
        assert (yield Join(task)) == b"gh"
        return memory.tries

    def one_read(memory):
        return (yield Read(memory, 4))

    assert run(main()) == ["read", "read", "read"]


def test_a_second_reader_does_not_try():
    def main():
        memory = Memory()
        first = yield Spawn(one_read(memory))
        yield from parked(first)
        with pytest.raises(BusyError, match="waits to read memory; one at a time"):
            yield Read(memory, 4)
        memory.feed(b"x")
        yield Join(first)
        return memory.tries

    def one_read(memory):
        yield Read(memory, 4)

    assert run(main()) == ["read", "read"]


def test_a_read_goes_on_waiting_after_a_spurious_wake_up():
    def main():
        memory = Memory()
        task = yield Spawn(one_read(memory))
        yield from parked(task)
        memory.take(READ).ready()
        yield from parked(task)
        memory.feed(b"x")
        return (yield Join(task))

    def one_read(memory):
        return (yield Read(memory, 4))

    assert run(main()) == b"x"


def test_an_error_of_a_later_try_is_raised_at_the_yield_and_ends_the_wait():
    class Failing(Memory):
        def try_read(self, size):
            if self.data:
                raise OSError("broken")
            return super().try_read(size)

    def main():
        memory = Failing()
        task = yield Spawn(one_read(memory), keep=True)
        yield from parked(task)
        memory.feed(b"x")
        with pytest.raises(OSError, match="broken"):
            yield Join(task)
        return memory.waiters

    def one_read(memory):
        yield Read(memory, 4)

    assert run(main()) == {}


class Encrypted(Memory):
    """Like TLS: before it can be read, it wants the directions in `hands`, one after the other."""

    def __init__(self, *hands):
        super().__init__()
        self.hands = list(hands)
        self.watched = []

    def try_read(self, size):
        if self.hands:
            error = BlockingIOError()
            wants = self.hands.pop(0)
            if wants is not None:
                error.wants = wants
            raise error
        return super().try_read(size)

    def watch(self, kernel, direction, waiter):
        self.watched.append(direction)
        super().watch(kernel, direction, waiter)

    def wake(self):
        for direction in self.waiters:
            self.take(direction).ready()


@pytest.mark.parametrize(
    ("hands", "watched"),
    [
        ([WRITE, WRITE, READ], [WRITE, WRITE, READ, READ]),
        ([WRITE, None, WRITE], [WRITE, READ, WRITE, READ]),
        ([None, WRITE], [READ, WRITE, READ]),
    ],
)
def test_a_read_waits_for_the_direction_that_the_file_wants_or_else_to_read(hands, watched):
    def main():
        file = Encrypted(*hands)
        task = yield Spawn(one_read(file))
        yield from parked(task)
        while file.hands:
            file.wake()
            assert len(file.waiters) == 1
        file.wake()
        file.feed(b"x")
        assert (yield Join(task)) == b"x"
        return file.watched

    def one_read(file):
        return (yield Read(file, 4))

    assert run(main()) == watched


class Buffered(Memory):
    """Takes all bytes of a Write at once, and has sent them when there is room."""

    def try_write(self, data):
        self.taken += bytes(data)
        if not self.room:
            error = BlockingIOError()
            error.characters_written = len(data)
            raise error
        return len(data)


@pytest.mark.parametrize("in_select", [False, True])
def test_a_write_counts_bytes_that_the_file_has_taken_and_ends_when_they_are_sent(in_select):
    def main():
        file, written = Buffered(), []
        tasks = []
        for data in (b"cancelled", b"sent"):
            tasks.append((yield Spawn(write(file, data, written), keep=True)))
            yield from parked(tasks[-1])
            if data == b"cancelled":
                yield Cancel(tasks[0])
                yield
        file.drain(1)
        yield Join(tasks[1])
        return written, file.taken, file.waiters

    def write(file, data, written):
        call = Write(file, data)
        try:
            written.append((yield select(call)) if in_select else (0, (yield call)))
        except Cancelled as cancelled:
            written.append(cancelled.written)
            raise

    assert run(main()) == ([9, (0, 4)], b"cancelledsent", {})


def test_an_operation_that_wants_a_busy_direction_gets_busy_error():
    def main():
        file = Encrypted(None, WRITE)
        reader = yield Spawn(one_read(file), keep=True)
        writer = yield Spawn(write(file))
        yield from parked(reader, writer)
        file.take(READ).ready()
        with pytest.raises(BusyError):
            yield Join(reader)
        file.drain(1)
        yield Join(writer)
        return file.waiters, file.taken

    def one_read(file):
        yield Read(file, 4)

    def write(file):
        yield Write(file, b"x")

    assert run(main()) == ({}, b"x")


def test_a_file_operation_of_ones_own():
    class ReadLine(FileOperation[bytes]):
        def try_once(self, file):
            end = file.data.find(b"\n") + 1
            if not end:
                raise BlockingIOError
            return file.try_read(end)

    def reader(memory):
        return (yield ReadLine(memory)), (yield ReadLine(memory))

    def main():
        memory = Memory()
        task = yield Spawn(reader(memory))
        for data in (b"on", b"e\ntw", b"o\n"):
            yield from parked(task)
            memory.feed(data)
        return (yield Join(task))

    assert run(main()) == (b"one\n", b"two\n")


def test_a_file_operation_in_one_direction_is_not_busy_while_a_task_waits_in_the_other():
    class WriteOne(FileOperation[int]):
        direction = WRITE

        def try_once(self, file):
            return file.try_write(b"x")

    def one_read(memory):
        return (yield Read(memory, 4))

    def main():
        memory = Memory(room=1)
        reader = yield Spawn(one_read(memory))
        yield from parked(reader)
        assert (yield WriteOne(memory)) == 1
        memory.feed(b"y")
        return memory.taken, (yield Join(reader))

    assert run(main()) == (b"x", b"y")


# Descriptors of a Socket, and names


def test_a_refusal_of_the_selector_is_raised_at_the_yield():
    recording = Recording()

    def main():
        ours, plain = pair()
        with ours, plain:
            recording.errors["register"] = OSError("no more of these")
            with pytest.raises(OSError, match="no more of these"):
                yield Read(ours, 1)
            yield Write(plain, b"x")
            return (yield Read(ours, 1))

    assert run(main(), selector=recording) == b"x"


def test_a_socket_can_also_be_used_by_its_descriptor():
    def main():
        ours, plain = pair()
        with ours, plain:
            for file in (ours, ours.fileno(), ours, ours.fileno()):
                task = yield Spawn(one_read(file))
                yield from parked(task)
                yield Write(plain, b"x")
                assert (yield Join(task)) == b"x"

    def one_read(file):
        yield WaitReadable(file)
        return (yield Read(file, 1))

    run(main())


def test_the_repr_of_a_syscall_names_its_file_without_descriptors_of_sockets():
    reader, writer = os.pipe()
    close_descriptors(reader, writer)
    ours, plain = pair()
    listener = Socket(fileno=plain.detach())
    calls = [Read(ours, 5), Write(ours, b"abc"), WaitReadable(listener), WaitWritable(io.BytesIO()), Close(7)]
    with ours, listener:
        assert [repr(call) for call in calls] == [
            "Read(socket, 5)",
            "Write(socket, 3 bytes)",
            "WaitReadable(listener)",
            "WaitWritable(BytesIO)",
            "Close(file 7)",
        ]
    assert repr(calls[0]) == "Read(closed socket, 5)"


def test_a_refused_read_by_descriptor_does_not_change_the_sockets_state():
    def main():
        ours, plain = pair()
        with ours, plain:
            other = socket.socket(fileno=ours.fileno())
            other.settimeout(5)  # its reads would block, so Read polls before its first try
            waiting = yield Spawn(waits(ours))
            yield from parked(waiting)
            with pytest.raises(BusyError):
                yield Read(other, 1)
            assert not ours.file_state.drained
            yield Write(plain, b"x")
            yield Join(waiting)
            assert (yield Read(ours, 1)) == b"x"
            other.detach()

    def waits(sock):
        yield WaitReadable(sock)

    run(main())


def test_a_borrowed_file_has_the_name_of_the_file_itself():
    def main():
        return (yield Ask(lambda kernel: filelike.describe(borrowed.BorrowedFile(kernel, 0))))

    assert run(main()) == "file 0"


# The conformance test


@pytest.mark.parametrize("ours", [True, False], ids=["Socket", "blocking socket"])
def test_each_file_syscall_passes_the_conformance_test(ours):
    def of(call, prepare=None, complete=None):
        def make():
            sock, other = pair()
            if not ours:
                sock = socket.socket(fileno=sock.detach())
                sock.setblocking(True)
            other.setblocking(False)
            if prepare is not None:
                prepare(sock)
            return call(sock), partial(complete, other), partial(close_both, sock, other)
            yield

        check_syscall(make)

    of(lambda sock: Read(sock, 5), None, send)
    of(WaitReadable, None, send)
    of(lambda sock: Write(sock, b"x"), fill, drain)
    of(WaitWritable, fill, drain)


def close_both(sock, other):
    sock.close()
    other.close()


def send(other):
    try:
        other.send(b"x")
    except BrokenPipeError:
        pass


def fill(file):
    """Write until there is no room; leave the mode as it is."""
    fd = file if isinstance(file, int) else file.fileno()
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    for size in (65536, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except BlockingIOError:
            pass
    os.set_blocking(fd, blocking)


def drain(other):
    """Read until there is nothing."""
    try:
        while other.recv(65536):
            pass
    except BlockingIOError:
        pass


def test_a_reader_of_a_closed_socket_is_woken_when_its_descriptor_is_reused():
    def main():
        ours, plain = pair()
        with plain:
            task = yield Spawn(one_read(ours), keep=True)
            yield from parked(task)
            fd = ours.fileno()
            ours.close()
            new, other = pair()
            with new, other:
                assert new.fileno() == fd
                with pytest.raises(ClosedError):
                    yield Join(task)
                yield Write(other, b"to the new one")
                assert (yield Read(new, 100)) == b"to the new one"

    def one_read(sock):
        yield Read(sock, 5)

    run(main())
