"""Files that could hold up the event loop, wait for ever, or count as idle: the reported cases and their siblings."""

from __future__ import annotations

import errno
import os
import pty
import resource
import selectors
import socket
import sys
import termios
import tty
from contextlib import ExitStack, suppress

import pytest

from minisched import (
    Cancel,
    Cancelled,
    Close,
    ClosedError,
    Connect,
    FileOperation,
    Join,
    Network,
    Read,
    Sleep,
    Socket,
    Spawn,
    Syscall,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    Write,
    run,
    testing,
)
from minisched.io import nowait
from minisched.io.filelike import FileState
from minisched.io.poller import NotPollable

linux = pytest.mark.skipif(sys.platform != "linux", reason="epoll, RWF_NOWAIT and /proc")
pytestmark = pytest.mark.timeout(60)  # a loop that is blocked in a system call fails the test
LINE = b"x" * 48 + b"\t\n"
WAYS = ["as it is", "without RWF_NOWAIT", "without RWF_NOWAIT and /proc"]


@pytest.fixture(autouse=True)
def no_file_is_left_open():
    before = sorted(os.listdir("/dev/fd"))
    yield
    assert sorted(os.listdir("/dev/fd")) == before


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Leave out the ways of `nowait`, one after the other, as on other systems."""
    if request.param != WAYS[0]:
        monkeypatch.setattr(nowait, "NOWAIT", 0)
    if request.param == WAYS[2]:
        monkeypatch.setattr(nowait, "reopened", lambda *_: None)
    return request.param


class Ends:
    """The descriptors of a test: a reader and a writer in blocking mode, all closed at the end."""

    def __init__(self, kind, path):
        self.numbers = []
        if kind == "pipe":
            self.reader, self.writer = self.add(*os.pipe())
        elif kind == "FIFO":
            os.mkfifo(path)
            early = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            self.writer = self.add(os.open(path, os.O_WRONLY))[0]
            self.reader = self.add(os.open(path, os.O_RDONLY))[0]
            os.close(early)
        elif kind == "socket by number":
            self.reader, self.writer = self.add(*(sock.detach() for sock in socket.socketpair()))
        else:
            master, slave = self.add(*pty.openpty())
            tty.setraw(slave, termios.TCSANOW)
            self.reader, self.writer = (slave, master) if kind == "terminal" else (master, slave)
        assert os.get_blocking(self.reader) and os.get_blocking(self.writer)

    def add(self, *numbers):
        self.numbers += numbers
        return numbers

    def dup(self, number):
        return self.add(os.dup(number))[0]

    def close(self):
        for number in self.numbers:
            with suppress(OSError):
                os.close(number)


KINDS = ["pipe", "FIFO", "socket by number", "terminal", "controlling end"]


@pytest.fixture(params=KINDS)
def ends(request, tmp_path):
    ends = Ends(request.param, tmp_path / "fifo")
    yield ends
    ends.close()


def reads(file, size):
    return (yield Read(file, size))


def writes(file, data):
    return (yield Write(file, data))


def parked(*tasks):
    for _ in range(10_000):
        if all(task.state == "parked" for task in tasks):
            return
        yield
    raise AssertionError("not parked")


@linux
def test_two_tasks_that_read_one_file_in_blocking_mode_hold_up_no_task(ends, way):
    """world 2: of two readers woken by one byte, one gets it, and the other goes on waiting."""

    def main():
        tasks = []
        for number in (ends.reader, ends.dup(ends.reader)):
            tasks.append((yield Spawn(reads(number, 1))))
        yield from parked(*tasks)
        os.write(ends.writer, b"x")
        while all(task.state == "parked" for task in tasks):
            yield Sleep(0.001)
        yield Sleep(0.01)
        waits = [task for task in tasks if task.state == "parked"]
        assert len(waits) == 1
        os.write(ends.writer, b"y")
        found = []
        for task in tasks:
            found.append((yield Join(task)))
        return sorted(found)

    assert run(main()) == [b"x", b"y"]
    assert os.get_blocking(ends.reader) and os.get_blocking(ends.writer)


@linux
def test_two_tasks_that_write_to_one_file_in_blocking_mode_hold_up_no_task(ends, way):
    """world 2: two writers, as on descriptors 1 and 2 after 2>&1; only the same run makes room for them."""
    size = 100_000

    def main():
        for number in (ends.writer, ends.dup(ends.writer)):
            yield Spawn(writes(number, LINE * (size // 50)))
        found = b""
        while len(found) < 2 * size:
            found += yield Read(ends.reader, 4096)
        return found

    found = run(main())
    assert len(found) == 2 * size
    assert found.count(b"\n") == 2 * size // 50


@linux
def test_a_terminal_that_adds_carriage_returns_holds_up_no_task(tmp_path, way):
    """world 2: a line end takes more room than a byte, so that a small piece could block, too."""
    ends = Ends("controlling end", tmp_path)
    attributes = termios.tcgetattr(ends.writer)
    attributes[1] |= termios.OPOST | termios.ONLCR
    termios.tcsetattr(ends.writer, termios.TCSANOW, attributes)
    lines = 3_000  # more than the buffer of a terminal holds

    def main():
        yield Spawn(writes(ends.writer, b"x\n" * lines))
        found = b""
        while len(found) < 3 * lines:
            found += yield Read(ends.reader, 257)
        return found

    assert run(main()) == b"x\r\n" * lines
    ends.close()


@linux
@pytest.mark.parametrize("kind", ["pipe", "FIFO", "terminal"])
def test_another_process_that_takes_the_bytes_first_holds_up_no_task(kind, tmp_path):
    """world 2: the bytes vanish after every check that could be made; without a window, the read still returns."""
    ends = Ends(kind, tmp_path / "fifo")
    mode = os.fstat(ends.reader).st_mode
    with pytest.raises(BlockingIOError):
        nowait.read_now(ends.reader, 10, mode)
    os.write(ends.writer, b"abc")
    assert nowait.read_now(ends.reader, 2, mode) == b"ab"
    assert nowait.read_now(ends.reader, 10, mode) == b"c"
    with pytest.raises(BlockingIOError):
        while True:
            nowait.write_now(ends.writer, bytes(70_000), mode)
    ends.close()


@linux
def test_a_file_that_another_process_sets_to_blocking_mode_during_the_wait_holds_up_no_task(ends):
    """world 2, sibling: the mode belongs to all processes that share the file, and may change while a task waits."""
    os.set_blocking(ends.reader, False)

    def main():
        first = yield Spawn(reads(ends.reader, 1))
        second = yield Spawn(reads(ends.dup(ends.reader), 1))
        yield from parked(first, second)
        os.set_blocking(ends.reader, True)
        os.write(ends.writer, b"x")
        while first.state == second.state == "parked":
            yield Sleep(0.001)
        os.write(ends.writer, b"y")
        return sorted([(yield Join(first)), (yield Join(second))])

    assert run(main()) == [b"x", b"y"]


class OwnMethods(socket.socket):
    def recv(self, *args):
        return super().recv(*args)


@pytest.mark.parametrize("kind", [socket.socket, OwnMethods])
def test_a_socket_with_a_timeout_whose_bytes_are_taken_holds_up_no_task(kind):
    """world 2, sibling: `recv` of a socket with a timeout waits for it, whatever its flags say."""

    def main(first, second, far):
        tasks = [(yield Spawn(reads(first, 1))), (yield Spawn(reads(second, 1)))]
        yield from parked(*tasks)
        far.send(b"x")
        while all(task.state == "parked" for task in tasks):
            yield Sleep(0.001)
        far.send(b"y")
        return sorted([(yield Join(tasks[0])), (yield Join(tasks[1]))])

    near, far = socket.socketpair()
    with kind(fileno=near.detach()) as near, near.dup() as second, far:
        near.settimeout(3600)
        second.settimeout(3600)
        assert run(main(near, second, far)) == [b"x", b"y"]
        assert run(writes(near, b"z")) == 1
        assert near.gettimeout() == 3600


@linux
def test_a_default_timeout_does_not_change_the_mode_of_a_socket_by_number(monkeypatch):
    """world 2, sibling: a socket object for a descriptor applies the default timeout, which would be shared."""
    monkeypatch.setattr(nowait, "NOWAIT", 0)
    near, far = socket.socketpair()
    with near, far:
        socket.setdefaulttimeout(5)
        try:
            far.send(b"x")
            assert run(reads(near.fileno(), 5)) == b"x"
            assert run(writes(near.fileno(), b"y")) == 1
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(near.fileno())


class Asks(Syscall):
    def __init__(self, question):
        self.question = question

    def handle(self, kernel, task):
        return self.question(kernel)


def reopen_fifo(path):
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def new_eventfd(_):
    return os.eventfd(0, os.EFD_NONBLOCK)


@linux
@pytest.mark.parametrize("opens", [reopen_fifo, new_eventfd])
@pytest.mark.parametrize("dup", [False, True])
def test_a_descriptor_that_was_closed_and_opened_again_with_the_same_inode_is_new(opens, dup, tmp_path):
    """world 17: the old reader gets ClosedError, the new one the bytes; nobody waits or is refused for ever."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    message = (1).to_bytes(8, sys.byteorder)

    def main():
        fd = opens(path)
        first = yield Spawn(reads(fd, 8), keep=True)
        yield from parked(first)
        kept = os.dup(fd) if dup else None
        os.close(fd)
        assert opens(path) == fd
        second = yield Spawn(reads(fd, 8))
        yield from parked(second)
        with pytest.raises(ClosedError):
            yield Join(first)
        os.write(fd, message)
        result = yield Join(second)
        yield Close(fd)
        if kept is not None:
            os.close(kept)
        return result

    assert testing.run(main()) == message


@linux
def test_the_reader_of_a_descriptor_that_was_reopened_is_woken_without_another_reader(tmp_path):
    """world 17: the regular check finds it, too."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def main():
        fd = reopen_fifo(path)
        first = yield Spawn(reads(fd, 8), keep=True)
        yield from parked(first)
        os.close(fd)
        assert reopen_fifo(path) == fd
        with pytest.raises(ClosedError):
            yield Join(first)
        os.close(fd)
        yield Sleep(3)

    testing.run(main())


@linux
def test_the_number_of_a_socket_that_was_closed_outside_the_scheduler_is_not_busy(tmp_path):
    """world 17, sibling: the check also finds a Socket whose number was closed by its number."""

    def main():
        near, far = socket.socketpair()
        ours = Socket(fileno=near.detach(), peer="")
        first = yield Spawn(reads(ours, 8), keep=True)
        yield from parked(first)
        fd = ours.fileno()
        os.close(fd)
        again, writer = os.pipe()
        assert again == fd
        second = yield Spawn(reads(fd, 8))
        yield from parked(second)
        os.write(writer, b"x")
        found = yield Join(second)
        with pytest.raises(ClosedError):
            yield Join(first)
        ours.detach()
        os.close(fd)
        os.close(writer)
        far.close()
        return found

    assert testing.run(main()) == b"x"


@linux
def test_of_several_tasks_on_duplicates_only_those_of_closed_descriptors_get_closed_error():
    """world 17, sibling: epoll goes on reporting a closed descriptor while a duplicate is open."""

    def main():
        reader, writer = os.pipe()
        numbers = [reader, os.dup(reader), os.dup(reader)]
        tasks = []
        for number in numbers:
            tasks.append((yield Spawn(reads(number, 1), keep=True)))
        yield from parked(*tasks)
        os.close(numbers[0])
        os.close(numbers[2])
        for task in (tasks[0], tasks[2]):
            with pytest.raises(ClosedError):
                yield Join(task)
        os.write(writer, b"x")
        found = yield Join(tasks[1])
        os.close(numbers[1])
        os.close(writer)
        return found

    assert run(main()) == b"x"


@pytest.mark.parametrize("make", [selectors.SelectSelector, "SelectSelector"])
def test_a_descriptor_over_fd_setsize_is_refused_by_a_sentence_and_nothing_stays_open(make):
    """world 24: the error says what to use instead, and the pair of the loop is closed."""
    from minisched.io._selectors2 import selectors_of_platform

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    selector = (selectors_of_platform()[make] if isinstance(make, str) else make)()
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    try:
        before = sorted(os.listdir("/dev/fd"))
        with pytest.raises(ValueError, match=r"file descriptor \d+ is too large for select.*pass a PollSelector"):
            run(sleeps(0.01), selector=selector)
        with pytest.raises(ValueError, match="leave out `selector=`"):
            run(reads_new_pipe(), selector=(selectors_of_platform()[make] if isinstance(make, str) else make)())
        assert sorted(os.listdir("/dev/fd")) == before
    finally:
        for fd in files:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sleeps(seconds):
    yield Sleep(seconds)


def reads_new_pipe():
    reader, writer = os.pipe()
    try:
        yield Read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def fill(sock):
    with suppress(BlockingIOError):
        while True:
            socket.socket.send(sock, bytes(100_000), socket.MSG_DONTWAIT)


class Takes(FileOperation):
    """An operation of one's own, which needs `size` bytes at once."""

    def __init__(self, sock, size):
        self.file, self.size = sock, size

    def try_once(self, sock):
        if len(socket.socket.recv(sock, self.size, socket.MSG_PEEK)) < self.size:
            raise BlockingIOError
        return sock.try_read(self.size)


@pytest.mark.parametrize("call", [WaitReadable, WaitWritable, lambda sock: Takes(sock, 1), lambda sock: Takes(sock, 2)])
def test_a_file_that_became_ready_counts_as_used(call):
    """world 3: also for WaitReadable, WaitWritable and an operation of one's own, even one that needs more bytes."""

    def main():
        near, far = socket.socketpair()
        with Socket(fileno=near.detach(), peer="") as ours, far:
            if call is WaitWritable:
                fill(ours)
            task = yield Spawn(waits(ours), keep=True)
            yield from parked(task)
            assert not ours.file_state.used
            if call is WaitWritable:
                far.recv(10_000_000)
            else:
                far.send(b"x")
            for _ in range(1000):
                if ours.file_state.used:
                    break
                yield Sleep(0.001)
            used = ours.file_state.used
            yield Cancel(task)
            return used

    def waits(sock):
        yield call(sock)

    assert run(main()) is True


def test_an_operation_of_ones_own_that_is_done_at_once_counts_as_used():
    """world 3, sibling: an operation that does not wait moves bytes, too; one that would block does not."""

    def main():
        near, far = socket.socketpair()
        with Socket(fileno=near.detach(), peer="") as ours, far:
            far.send(b"x")
            assert (yield Takes(ours, 1)) == b"x"
            return ours.file_state.used

    assert run(main()) is True


class Records:
    """A file-like that returns a record at a time, and holds the rest itself, as TLS does."""

    def __init__(self, sock, state):
        self.sock, self.file_state = sock, state
        self.records = []

    def try_read(self, size):
        if not self.records:
            self.records = [bytes([byte]) for byte in self.sock.try_read(100)]
        return self.records.pop(0) if self.records else b""

    def watch(self, kernel, direction, waiter):
        self.sock.watch(kernel, direction, waiter)

    def unwatch(self, kernel, direction):
        self.sock.unwatch(kernel, direction)


def test_a_file_like_with_short_reads_is_read_to_its_end():
    """newcomer A1.4: a short read does not mean that nothing is left; so too with the state of the socket below."""

    def main():
        near, far = socket.socketpair()
        with Socket(fileno=near.detach(), peer="") as ours, far:
            far.send(b"?")
            assert (yield Read(ours, 100)) == b"?"  # a short read of the socket itself
            assert ours.file_state.drained
            records = Records(ours, ours.file_state)
            far.send(b"abc")
            yield WaitReadable(ours)
            records.records = [bytes([byte]) for byte in ours.try_read(100)]  # as a handshake may leave them
            found = []
            for _ in range(3):
                found.append((yield Read(records, 100)))
            return found

    assert testing.run(main()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(("promises", "calls"), [(None, 3), (True, 2)])
def test_a_socket_class_with_a_try_read_of_its_own_does_not_inherit_the_promise(promises, calls):
    """newcomer A1.4, sibling: a derived class that returns less holds the rest, unless it promises again."""

    class Unpacking(Socket):
        __slots__ = ()
        tries = []  # noqa: RUF012
        if promises is not None:
            short_read_means_empty = promises

        def try_read(self, size):
            self.tries.append(size)
            return Socket.try_read(self, 1)

    def main():
        near, far = socket.socketpair()
        with Unpacking(fileno=near.detach(), peer="") as ours, far:
            far.send(b"ab")
            assert (yield Read(ours, 5)) == b"a"
            assert (yield Read(ours, 5)) == b"b"
            task = yield Spawn(reads(ours, 5), keep=True)
            yield from parked(task)
            yield Cancel(task)

    run(main())
    assert len(Unpacking.tries) == calls
    assert Socket.short_read_means_empty


class Refusing:
    """A file-like that raises `error` when a task wants to wait; `tries` BlockingIOErrors come before a result."""

    label = "refusing"

    def __init__(self, error, tries):
        self.error, self.tries = error, tries
        self.file_state = FileState()

    def try_read(self, size):
        self.tries -= 1
        if self.tries >= 0:
            raise BlockingIOError
        return b"x"

    def watch(self, kernel, direction, waiter):
        raise self.error

    def unwatch(self, kernel, direction):
        raise AssertionError("nothing is watched")


def test_only_not_pollable_means_that_a_file_like_is_always_ready():
    """carried over: a plain PermissionError of `watch` is an error, and is raised at the yield."""
    assert run(reads(Refusing(NotPollable(), 1), 5)) == b"x"
    with pytest.raises(PermissionError, match="not allowed"):
        run(reads(Refusing(PermissionError("not allowed"), 1), 5))


def test_a_file_that_would_block_and_cannot_be_polled_raises_instead_of_holding_up_the_loop():
    """world 2, sibling: trying for ever would hold up every task."""
    with pytest.raises(BlockingIOError, match="refusing would block, and can't be polled"):
        run(reads(Refusing(NotPollable(), 1_000_000_000), 5))


def test_a_file_that_turns_out_to_be_always_ready_is_read_again_at_once():
    """carried over, sibling: NotPollable means the same for a later wait of the operation."""

    class Turning(Refusing):
        def watch(self, kernel, direction, waiter):
            if self.file_state.reader is None and self.tries == 1:
                self.file_state.reader = waiter
            else:
                raise NotPollable

    def main():
        file = Turning(None, 2)
        task = yield Spawn(reads(file, 5))
        yield from parked(task)
        waiter, file.file_state.reader = file.file_state.reader, None
        waiter.ready()
        return (yield Join(task))

    assert run(main()) == b"x"


class Trying(Socket):
    """A socket that connects to the address "last" only, and that the selector refuses the `refused`th time."""

    __slots__ = ()
    refused = 0
    waiters = []  # noqa: RUF012

    def try_connect(self, address):
        if address != "last":
            raise BlockingIOError
        return self

    def watch(self, kernel, direction, waiter):
        self.waiters.append(waiter)
        if len(self.waiters) == self.refused:
            raise OSError(errno.ENOSPC, "no room")


class TwoAddresses(Network):
    def dial(self, address):
        return [(lambda: Trying(socket.AF_INET, socket.SOCK_STREAM), name) for name in ("first", "last")]


def connects():
    with (yield Connect(("example.org", 1))) as sock:
        return sock.fileno() >= 0


@pytest.mark.parametrize("refused", [1, 2])
def test_an_address_that_the_selector_refuses_later_is_followed_by_the_next(refused, monkeypatch):
    """carried over: a refusal in a later wait of Connect leads to the next address, as the first one does."""
    monkeypatch.setattr(Trying, "refused", refused)
    monkeypatch.setattr(Trying, "waiters", [])

    def main():
        yield Asks(lambda kernel: kernel.services.__setitem__(Network, TwoAddresses(kernel)))
        task = yield Spawn(connects())
        yield
        if refused == 2:
            Trying.waiters[0].ready()
        return (yield Join(task))

    assert run(main()) is True
    assert len(Trying.waiters) == refused


# Exotic files


@linux
def test_the_end_of_the_reader_of_a_pipe_is_reported_while_it_is_watched():
    """world 32: a hang-up of the reader wakes the writer, which gets BrokenPipeError; WaitWritable is woken, too."""

    def main(call):
        reader, writer = os.pipe()
        with suppress(BlockingIOError):
            while True:
                os.pwritev(writer, [bytes(65536)], -1, os.RWF_NOWAIT)
        task = yield Spawn(waits(call(writer)), keep=True)
        yield from parked(task)
        os.close(reader)
        try:
            return (yield Join(task))
        finally:
            os.close(writer)

    def waits(call):
        yield call

    with pytest.raises(BrokenPipeError):
        run(main(lambda fd: Write(fd, bytes(200_000))))
    assert run(main(WaitWritable)) is None


def test_urgent_data_between_bytes_neither_loses_nor_delays_any():
    """world 33: a read that urgent data cuts short is not the last."""

    def main():
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as far,
        ):
            near, _ = listener.accept()
            with Socket(fileno=near.detach(), peer="") as ours:
                far.send(b"one")
                far.send(b"!", socket.MSG_OOB)
                far.send(b"two")
                found = b""
                while len(found) < 6:
                    found += yield Read(ours, 100)
                far.send(b"!", socket.MSG_OOB)
                far.send(b"three")
                while len(found) < 11:
                    found += yield Read(ours, 100)
                return found

    assert run(main()) == b"onetwothree"


@linux
def test_exotic_files_answer_as_the_operating_system_says():
    """world 37: a directory, devices and files of /proc; none of them waits for ever."""
    with ExitStack() as stack:

        def opened(path, flags=os.O_RDONLY):
            fd = os.open(path, flags)
            stack.callback(os.close, fd)
            return fd

        assert run(reads(opened("/dev/null"), 5)) == b""
        assert run(writes(opened("/dev/null", os.O_WRONLY), b"abc")) == 3
        assert run(reads(opened("/dev/zero"), 5)) == bytes(5)
        assert len(run(reads(opened("/dev/urandom"), 5))) == 5
        assert run(reads(opened("/proc/self/status"), 5)) == b"Name:"
        with pytest.raises(IsADirectoryError):
            run(reads(opened("/"), 5))
        with pytest.raises(OSError, match="No space left"):
            run(writes(opened("/dev/full", os.O_WRONLY), b"x"))
        with pytest.raises(OSError, match="Bad file descriptor"):
            run(writes(opened("/dev/zero"), b"x"))


@linux
def test_the_hang_up_of_a_terminal_is_an_error_of_the_read(tmp_path):
    """world 37: the controlling end reports EIO once the last terminal end is closed."""
    ends = Ends("controlling end", tmp_path)

    def main():
        task = yield Spawn(reads(ends.reader, 5), keep=True)
        yield from parked(task)
        os.close(ends.writer)
        with pytest.raises(OSError, match="Input/output error"):
            yield Join(task)

    run(main())
    ends.close()


@linux
def test_much_data_passes_through_small_buffers_in_the_same_run(ends, way):
    """world 38: 100 KB to a task of the same run arrive whole."""
    data = bytes(range(32, 127)) * 1000

    def main():
        task = yield Spawn(writes(ends.writer, data))
        found = b""
        while len(found) < len(data):
            found += yield Read(ends.reader, 1000)
        assert (yield Join(task)) == len(data)
        return found

    assert run(main()) == data


@linux
def test_a_write_that_is_cancelled_reports_what_has_arrived(ends):
    """world 2, sibling: the count of a Write in blocking mode is exact."""
    seen = []

    def write():
        try:
            yield Write(ends.writer, bytes(1_000_000))
        except Cancelled as cancelled:
            seen.append(cancelled.written)
            raise

    def main():
        task = yield Spawn(write(), keep=True)
        yield from parked(task)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        found = 0
        while found < seen[0]:
            found += len((yield Read(ends.reader, 65536)))
        second = yield Spawn(reads(ends.reader, 1), keep=True)
        yield from parked(second)  # nothing more comes
        yield Cancel(second)
        return found

    assert run(main()) == seen[0] > 0
