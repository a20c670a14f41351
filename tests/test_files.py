"""Reading, writing and closing: our sockets, other people's files, and file-likes in memory."""

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
    Join,
    Poller,
    Read,
    Socket,
    Spawn,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    Write,
    attempt,
    files,
)
from minisched.entries import Entry
from minisched.kernel import Syscall
from minisched.poller import READ, WRITE
from minisched.testing import check_syscall

NAMES = {READ: "reader", WRITE: "writer"}  # of who waits, in an entry
BIG = 4_000_000  # bytes: more than any socket's buffers


class Memory:
    """A file without a number: nothing of it comes from the operating system."""

    label = "memory"

    def __init__(self, room=0):
        self.data = b""
        self.ended = False
        self.room = room  # how much it takes
        self.taken = b""
        self.entry = Entry()
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
        """Who waits, by the direction."""
        found = {direction: getattr(self.entry, name) for direction, name in NAMES.items()}
        return {direction: waiter for direction, waiter in found.items() if waiter is not None}

    def watch(self, kernel, direction, waiter):
        if direction in self.waiters:
            raise BusyError("another waits for this")
        setattr(self.entry, NAMES[direction], waiter)

    def unwatch(self, kernel, direction):
        assert direction in self.waiters
        setattr(self.entry, NAMES[direction], None)

    def take(self, direction):
        """Let nobody wait any more; return who did."""
        waiter = self.waiters[direction]
        setattr(self.entry, NAMES[direction], None)
        return waiter

    def close(self):
        for direction in self.waiters:
            self.take(direction).closed()

    def feed(self, data):
        """Let there be more to read; none, and it has ended."""
        self.data, self.ended = self.data + data, not data
        if READ in self.waiters:
            self.take(READ).ready()

    def drain(self, room):
        """Let there be more room."""
        self.room = room
        if WRITE in self.waiters:
            self.take(WRITE).ready()


@pytest.fixture(params=["ours", "blocking socket", "non-blocking socket", "socket with a timeout", "pipe", "numbers"])
def ends(request):
    """Return what to read from and what to write to, in each of the forms that are taken."""
    if request.param in ("pipe", "numbers"):
        reader, writer = os.pipe()
        if request.param == "numbers":
            yield reader, writer
            close_numbers(reader, writer)
        else:
            with open(reader, "rb", buffering=0) as read_end, open(writer, "wb", buffering=0) as write_end:
                yield read_end, write_end
        return
    first, second = socket.socketpair()
    if request.param == "ours":
        first, second = Socket(fileno=first.detach(), peer=""), Socket(fileno=second.detach(), peer="")
    else:
        timeout = {"blocking socket": None, "non-blocking socket": 0.0, "socket with a timeout": 3600.0}[request.param]
        first.settimeout(timeout)
        second.settimeout(timeout)
    with first, second:
        yield first, second


def close_numbers(*numbers):
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            pass


def mode(file):
    return os.get_blocking(file if isinstance(file, int) else file.fileno()), getattr(file, "gettimeout", int)()


# Reading and writing, whatever the file


def test_what_is_written_is_read_and_the_end_is_the_end_again_and_again(ends):
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


def test_a_write_that_takes_many_steps_arrives_whole_and_holds_nobody_up(ends):
    reader, writer = ends
    data = pattern(BIG // 4)
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
        for _ in range(10):  # a slow reader
            yield
        return (yield from all_of(reader, 65536))

    before = mode(writer)
    assert run(main()) == data
    assert len(turns) > 10
    assert before == mode(reader) or isinstance(reader, Socket)


def test_a_write_that_is_cancelled_midway_says_exactly_how_much_went_out(ends):
    reader, writer = ends
    data = pattern(BIG)
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


def test_a_cancelled_read_loses_nothing_of_what_comes_in_the_same_turn(ends):
    reader, writer = ends

    def main():
        task = yield Spawn(all_of(reader, 5), keep=True)
        yield from parked(task)
        yield Write(writer, b"hello")  # it is there, and the loop has not looked
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        return (yield Read(reader, 5))

    assert run(main()) == b"hello"


def test_waits_for_readiness_touch_nothing(ends):
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
    data = pattern(BIG // 4)

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


def test_close_wakes_who_waits_with_closed_error(ends):
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


def test_nothing_at_all_is_written_at_once(ends):
    _, writer = ends

    def main():
        return (yield Write(writer, b""))

    assert run(main()) == 0


# Our sockets


def test_a_reader_and_a_writer_of_one_socket_do_not_mind_each_other():
    data = pattern(BIG)

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
def test_each_way_to_part_with_a_socket_wakes_its_waiters(close):
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
        yield Write(sock, pattern(BIG))

    run(main())


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(
    "call", [lambda sock: Read(sock, 5), lambda sock: Write(sock, b"x"), WaitReadable, WaitWritable]
)
def test_a_closed_socket_is_refused_by_its_name(call, short):
    def main():
        ours, plain = pair()
        plain.close()
        ours.entry.short = short
        ours.close()
        with pytest.raises(ClosedError, match="socket is closed"):
            yield call(ours)
        yield Close(ours)  # again does nothing

    run(main())


def test_a_broken_connection_raises_what_the_operating_system_says():
    def main():
        ours, plain = pair()
        with ours:
            plain.close()
            with pytest.raises(BrokenPipeError):
                yield Write(ours, b"x")

    run(main())


def test_a_connection_that_breaks_while_it_is_waited_for_raises_there():
    def write(ours):
        yield Write(ours, pattern(BIG))

    def main():
        ours, plain = pair()
        with ours:
            task = yield Spawn(write(ours), keep=True)
            yield from parked(task)
            plain.close()
            with pytest.raises(ConnectionError):
                yield Join(task)

    run(main())


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
def test_a_wake_up_in_vain_does_not_block_on_a_socket_in_blocking_mode(call):
    def main():
        ours, plain = pair()
        with ours, plain:
            if isinstance(call(plain), Write):
                fill(plain)
            task = yield Spawn(one(plain), keep=True)
            yield from parked(task)
            poller = yield Ask(lambda kernel: kernel.service(Poller))
            poller.tell(poller.entries[plain.fileno()], READ | WRITE)
            assert task.state == "parked"
            yield Cancel(task)
            with pytest.raises(TaskCancelled):
                yield Join(task)

    def one(sock):
        yield call(sock)

    run(main())


# Regular files, and what is no file


def test_a_regular_file_is_read_and_written_whatever_its_size(tmp_path):
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


def test_what_is_no_file_is_refused():
    def main():
        for thing in ("name.txt", None, object()):
            with pytest.raises(TypeError, match="is not a file: no fileno"):
                yield Read(thing, 5)

    run(main())


def test_what_reads_but_has_no_entry_is_told_so():
    class Old(io.FileIO):
        def try_read(self, size):
            return b"upper"

    def main():
        with open(os.devnull) as null, Old(os.dup(null.fileno())) as old:
            for call in (Read(old, 5), Write(old, b"x"), WaitReadable(old)):
                with pytest.raises(TypeError, match="has a try_read, but no entry"):
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


def test_a_number_that_is_not_open_is_an_error():
    def main():
        reader, writer = os.pipe()
        yield Close(reader)
        yield Close(writer)
        for call in (Read(reader, 5), Close(reader), WaitWritable(writer)):
            with pytest.raises(OSError, match="Bad file descriptor"):
                yield call

    run(main())


@pytest.mark.parametrize("size", [0, -1])
def test_a_read_of_nothing_is_refused_since_nothing_means_the_end(size):
    def main():
        with pytest.raises(ValueError, match=rf"1 byte or more, not {size}"):
            yield Read(Memory(), size)

    run(main())


# What can be written


@pytest.mark.parametrize(
    "data",
    [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("I", [1, 2, 3]), memoryview(b"abcdefgh").cast("I")],
    ids=["bytes", "bytearray", "memoryview", "array", "memoryview of integers"],
)
def test_whatever_has_bytes_is_written_and_counted_in_bytes(data):
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
def test_what_has_no_bytes_is_refused(data):
    def main():
        with pytest.raises(TypeError, match=f"Write takes bytes, not {type(data).__name__}; a str is encoded first"):
            yield Write(Memory(), data)

    run(main())
    assert repr(Write(Memory(), data)) == f"Write(memory, {type(data).__name__})"


# File-likes in memory


def test_a_read_that_came_back_short_makes_the_next_one_wait_before_it_tries():
    def main():
        memory = Memory()
        memory.feed(b"abcdef")
        assert (yield Read(memory, 4)) == b"abcd"  # all that was asked for: there may be more
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


def test_a_second_reader_has_not_tried():
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


def test_a_wake_up_in_vain_goes_on_waiting():
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


def test_a_failure_while_it_waits_is_raised_at_the_yield_and_the_wait_is_over():
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
    """Like TLS: `hands` says what it wants, one after the other, before it can read."""

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
def test_a_read_waits_for_what_the_file_wants_and_for_reading_where_it_does_not_say(hands, watched):
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


def test_a_turn_to_a_direction_that_is_taken_is_busy_error_for_the_one_who_turns():
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


def test_attempt_is_enough_for_a_syscall_of_ones_own():
    class ReadLine(Syscall[bytes]):
        def __init__(self, file):
            self.file = file

        def handle(self, kernel, task):
            return attempt(kernel, task, self.file, READ, self.line)

        def line(self):
            end = self.file.data.find(b"\n") + 1
            if not end:
                raise BlockingIOError
            return self.file.try_read(end)

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


# Numbers of one of our sockets, and names


def test_a_file_that_can_not_be_polled_is_an_error_at_the_yield():
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


def test_our_socket_can_be_waited_for_by_its_number_in_between():
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


def test_calls_say_which_file_they_are_about_and_nothing_that_changes_from_run_to_run():
    reader, writer = os.pipe()
    close_numbers(reader, writer)
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


def test_who_uses_its_number_changes_nothing_for_our_socket():
    def main():
        ours, plain = pair()
        with ours, plain:
            other = socket.socket(fileno=ours.fileno())
            other.settimeout(5)  # it has to be waited for, then
            waiting = yield Spawn(waits(ours))
            yield from parked(waiting)
            with pytest.raises(BusyError):
                yield Read(other, 1)
            assert not ours.entry.short
            yield Write(plain, b"x")
            yield Join(waiting)
            assert (yield Read(ours, 1)) == b"x"
            other.detach()

    def waits(sock):
        yield WaitReadable(sock)

    run(main())


def test_what_is_wrapped_is_called_what_it_was_before():
    def main():
        return (yield Ask(lambda kernel: files.describe(files.Foreign(kernel, 0))))

    assert run(main()) == "file 0"


# The battery


@pytest.mark.parametrize("ours", [True, False], ids=["our socket", "a blocking socket"])
def test_the_battery(ours):
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
    number = file if isinstance(file, int) else file.fileno()
    blocking = os.get_blocking(number)
    os.set_blocking(number, False)
    for size in (65536, 1):
        try:
            while True:
                os.write(number, bytes(size))
        except BlockingIOError:
            pass
    os.set_blocking(number, blocking)


def drain(other):
    """Read until there is nothing."""
    try:
        while other.recv(65536):
            pass
    except BlockingIOError:
        pass


def test_a_reader_of_a_number_that_becomes_another_file_is_woken():
    def main():
        ours, plain = pair()
        with plain:
            task = yield Spawn(one_read(ours), keep=True)
            yield from parked(task)
            number = ours.fileno()
            ours.close()
            new, other = pair()
            with new, other:
                assert new.fileno() == number
                with pytest.raises(ClosedError):
                    yield Join(task)
                yield Write(other, b"to the new one")
                assert (yield Read(new, 100)) == b"to the new one"

    def one_read(sock):
        yield Read(sock, 5)

    run(main())
