"""Regular files: Open, Read and Write with a position, ReadAt, WriteAt, Sync; and FIFOs, terminals and devices."""

from __future__ import annotations

import errno
import gc
import io
import os
import pty
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import is_open, nothing_is_left, open_numbers, parked, run, settled, until  # noqa: F401

import minisched
from minisched import (
    BusyError,
    Cancel,
    Cancelled,
    Close,
    ClosedError,
    CurrentTask,
    FileWrapper,
    InThread,
    Join,
    MoveOnAfter,
    Open,
    Queue,
    Read,
    ReadAt,
    Sleep,
    Spawn,
    Sync,
    TaskCancelled,
    WaitReadable,
    WaitWritable,
    WouldBlock,
    Write,
    WriteAt,
    do_now,
    gather,
    select,
)
from minisched import run as run_in_real_time
from minisched.bridges import opening, regular_files
from minisched.bridges.threads import Threads
from minisched.io import disk
from minisched.testing import cancel_everywhere, check_syscall

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and RWF_NOWAIT are Linux's")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def uncached(monkeypatch):
    """Let every read wait for the disk."""
    monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)


@pytest.fixture
def gate(monkeypatch):
    """Let each call of `gate.holds(name)` in a thread wait until `gate.opens()`; `gate.entered` counts the calls."""
    return Gate(monkeypatch)


class Gate:
    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.entered = 0
        self.semaphore = threading.Semaphore(0)

    def holds(self, *names):
        for name in names:
            self.monkeypatch.setattr(regular_files, name, self._held(getattr(regular_files, name)))

    def _held(self, function):
        def held(*args):
            self.entered += 1
            assert self.semaphore.acquire(timeout=20)
            return function(*args)

        return held

    def opens(self, calls=100):
        self.semaphore.release(calls)


def reads(file, size=100):
    return (yield Read(file, size))


def writes(file, data):
    return (yield Write(file, data))


def opened(path, mode="r"):
    """Return the file; close it at the end of the test's run."""
    return (yield Open(path, mode))


# Open.


@pytest.mark.parametrize("mode", ["r", "rb", "br", "r+", "w", "wb", "w+b", "a", "a+", "ab"])
def test_the_modes_are_those_of_the_built_in_open(path, mode):
    def contents(opening):
        with opening as file:
            file.write(b"ab") if file.writable() else None
        return path.read_bytes()

    def main():
        path.write_bytes(b"0123456789")
        with (yield Open(path, mode)) as file:
            if mode.strip("b") != "r":
                assert (yield Write(file, b"ab")) == 2
            readable = mode.strip("b") not in ("w", "a")
            if not readable:
                with pytest.raises(io.UnsupportedOperation, match="'file' is not open for reading: its mode is"):
                    yield Read(file, 1)
                with pytest.raises(io.UnsupportedOperation, match="'file' is not open for reading: its mode is"):
                    yield ReadAt(file, 1, 0)
        return path.read_bytes()

    ours = run(main())
    path.write_bytes(b"0123456789")
    assert ours == contents(io.FileIO(path, mode))


def test_a_new_file_must_not_exist(tmp_path):
    def main():
        with (yield Open(tmp_path / "new", "x")) as file:
            yield Write(file, b"1")
            with pytest.raises(io.UnsupportedOperation):
                yield Read(file, 1)
        with pytest.raises(FileExistsError, match="new"):
            yield Open(tmp_path / "new", "xb")

    run(main())
    assert (tmp_path / "new").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("path", "mode", "kind", "text"),
    [
        ("nowhere", "r", FileNotFoundError, "nowhere"),
        (".", "r", IsADirectoryError, "'.'"),
        (".", "w", IsADirectoryError, "'.'"),
        (3, "r", TypeError, "not the file descriptor 3: Read and Write take that as it is"),
        (True, "r", TypeError, "not the file descriptor True"),
        (None, "r", TypeError, "NoneType"),
        (3.5, "r", TypeError, "float"),
        ("a\0b", "r", ValueError, "null"),
        ("a", "rt", ValueError, "bytes, and its mode can't be 'rt'"),
        ("a", "rw", ValueError, "exactly one"),
        ("a", "", ValueError, "exactly one"),
        ("a", 7, TypeError, "int"),
    ],
)
def test_bad_input_is_a_clear_error_of_the_one_task(path, mode, kind, text):
    def main():
        with pytest.raises(kind, match=text):
            yield Open(path, mode)
        yield

    run(main())


def test_paths_may_be_str_bytes_or_path(path):
    async def main():
        for kind in str, os.fsencode, Path:
            async with Open(kind(path)) as file:
                assert await Read(file, 3) == b"012"
                assert file.name == kind(path) or os.fspath(file.name) == os.fspath(path)
                assert file.label == "file 'file'" and file.mode == "rb" and file.fileno() == file.fd
            assert file.closed and file.fileno() == -1 and file.label == "closed file 'file'"
            assert repr(file) == f"<RegularFile {file.name!r} closed>"

    run(main())


def test_an_abandoned_open_closes_the_file(path, monkeypatch):
    from minisched.bridges import opening

    may_open, made = threading.Event(), []

    def slow(*args, **keywords):
        assert may_open.wait(20)
        made.append(io.FileIO(*args, **keywords))
        return made[-1]

    monkeypatch.setattr(opening, "FileIO", slow)

    def main():
        with (yield MoveOnAfter(0)) as scope:
            yield Open(path)
        assert not scope.cancelled_caught or not made  # cancelled before it began
        task = yield Spawn(opened(path), keep=True)
        yield from parked(task)
        yield Cancel(task)
        with pytest.raises(TaskCancelled):
            yield Join(task)
        may_open.set()
        yield from until(lambda: made and made[0].closed)
        # the file is open already when the task gives up, in the turn of the answer's arrival
        number, _ = yield select(Sleep(0), Open(path))
        assert number == 0

    run(main())
    assert all(raw.closed for raw in made)


def test_an_open_that_may_create_a_file_is_not_abandoned(path, monkeypatch):
    from minisched.bridges import opening

    may_open, entered = threading.Event(), []

    def slow(*args, **keywords):
        entered.append(1)
        assert may_open.wait(20)
        return io.FileIO(*args, **keywords)

    monkeypatch.setattr(opening, "FileIO", slow)
    got = []

    def opens(mode):
        with (yield Open(path.with_name(mode), mode)) as file:
            got.append(file)
            yield

    def main():
        tasks = []
        for mode in "x", "w", "a":
            tasks.append((yield Spawn(opens(mode), keep=True)))
        yield from until(lambda: len(entered) == 3)
        for task in tasks:
            yield Cancel(task)
        yield
        assert all(task.state == "parked" for task in tasks)
        may_open.set()
        for task in tasks:
            with pytest.raises(TaskCancelled):
                yield Join(task)

    run(main())
    assert len(got) == 3 and all(file.closed for file in got)


def test_open_in_select_gives_the_file(path):
    def main():
        number, file = yield select(Queue().get(), Open(path))
        with file:
            return number, (yield Read(file, 2))

    assert run(main()) == (1, b"01")


def test_a_dropped_file_is_reported_by_python(path):
    """The thread that has opened it may hold it for a moment longer."""

    def main():
        yield Open(path)
        for _ in range(1000):
            if warned:
                break
            yield Sleep(0.01)
            gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed file") as warned:
        run(main())


# Read and Write.


def test_read_and_write_move_one_position(path):
    def main():
        with (yield Open(path, "r+")) as file:
            assert (yield Read(file, 3)) == b"012"
            assert (yield Write(file, b"abc")) == 3 and file.position == 6
            assert (yield Read(file, 100)) == b"6789"
            assert (yield Read(file, 100)) == b"" and file.position == 10
            file.position = 2
            assert (yield Read(file, 5)) == b"2abc6"
            assert (yield Write(file, b"")) == 0
            assert (yield Write(file, bytearray(b"XY"))) == 2
            assert (yield Write(file, memoryview(b"Z!"))) == 2
        return path.read_bytes()

    assert run(main()) == b"012abc6XYZ!"


def test_files_without_a_cache_are_read_by_a_thread(path, uncached):
    test_read_and_write_move_one_position(path)


def test_appending_writes_at_the_end_wherever_that_is(path):
    def main():
        with (yield Open(path, "a+")) as one, (yield Open(path, "a")) as two:
            assert one.position == 10
            yield Write(one, b"A")
            yield Write(two, b"B")
            yield Write(one, b"C")
            assert (one.position, two.position) == (13, 12)
            with pytest.raises(io.UnsupportedOperation, match="at an offset: its mode is 'ab'"):
                yield WriteAt(two, b"x", 0)
            one.position = 9
            return (yield Read(one, 100))

    assert run(main()) == b"9ABC"


@needs_linux
def test_bytes_in_the_page_cache_cost_no_thread(path, monkeypatch):
    with open(path, "rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError:
            pytest.skip("the file system of the temporary folder has no RWF_NOWAIT")

    def main():
        kernel = (yield CurrentTask()).kernel
        with (yield Open(path)) as file:
            monkeypatch.setattr(kernel.service(Threads).pool, "submit", lambda call: pytest.fail("in a thread"))
            assert (yield Read(file, 4)) == b"0123"
            assert (yield ReadAt(file, 4, 2)) == b"2345"
            assert (yield ReadAt(file, 4, 8)) == b"89"
            assert (yield ReadAt(file, 4, 10)) == (yield ReadAt(file, 4, 99)) == b""
            assert do_now(ReadAt(file, 2, 0)) == b"01"
            assert (yield select(ReadAt(file, 2, 0), Sleep(0))) == (0, b"01")
            monkeypatch.undo()

    run(main())


def test_a_read_that_waits_for_the_disk_holds_up_no_task_and_is_not_done_now(path, uncached, gate):
    gate.holds("read_piece", "read_all")

    def main():
        with (yield Open(path)) as file:
            for call in Read(file, 4), ReadAt(file, 4, 0):
                with pytest.raises(WouldBlock):
                    do_now(call)
            task = yield Spawn(reads(file, 4))
            yield from until(lambda: gate.entered == 1)
            for _ in range(10):
                yield
            gate.opens()
            assert (yield Join(task)) == b"0123"
            assert (yield ReadAt(file, 4, 0)) == b"0123"

    run(main())


@pytest.mark.parametrize("how", ["cancelled", "select"])
def test_a_read_that_is_given_up_has_moved_nothing(path, uncached, gate, how):
    gate.holds("read_piece")

    def selects(file):
        number, _ = yield select(Read(file, 4), Sleep(1))
        assert number == 1

    def main():
        with (yield Open(path)) as file:
            task = yield Spawn(reads(file, 4) if how == "cancelled" else selects(file), keep=True)
            yield from until(lambda: gate.entered == 1)
            if how == "cancelled":
                yield Cancel(task)
                with pytest.raises(TaskCancelled):
                    yield Join(task)
            else:
                yield Join(task)
            assert file.position == 0 and file.file_state.reader is None
            gate.opens()
            return (yield Read(file, 4))

    assert run(main()) == b"0123"


@pytest.mark.parametrize("how", ["write", "select", "wrapped"])
def test_a_cancelled_write_says_exactly_how_much_is_written(path, gate, monkeypatch, how):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 4)
    gate.holds("write_piece")
    seen = []

    def writer(file):
        write = Write(FileWrapper(file) if how == "wrapped" else file, b"abcdefghijklm")
        try:
            yield (select(Sleep(60), write) if how == "select" else write)
        except Cancelled as cancelled:
            seen.append(cancelled.written)
            raise

    def main():
        with (yield Open(path, "r+")) as file:
            task = yield Spawn(writer(file), keep=True)
            for pieces in 1, 2:
                yield from until(lambda pieces=pieces: gate.entered == pieces)
                if pieces == 2:
                    yield Cancel(task)
                    yield
                    assert task.state == "parked"  # until the piece is done
                gate.opens(1)
            with pytest.raises(TaskCancelled):
                yield Join(task)
            assert file.position == 8 and file.file_state.writer is None
            yield Write(file, b"") if how == "select" else Sleep(0)
        return path.read_bytes()

    assert run(main()) == b"abcdefgh89"
    assert seen == [8]


def test_a_write_whose_last_piece_is_under_way_has_happened(path, gate):
    gate.holds("write_piece")
    results = []

    def writer(file):
        results.append((yield Write(file, b"abc")))
        yield Sleep(0)

    def main():
        with (yield Open(path, "r+")) as file:
            task = yield Spawn(writer(file), keep=True)
            yield from until(lambda: gate.entered == 1)
            yield Cancel(task)
            gate.opens()
            with pytest.raises(TaskCancelled):
                yield Join(task)

    run(main())
    assert results == [3] and path.read_bytes() == b"abc3456789"


def test_a_write_wins_a_select_as_soon_as_it_has_begun(path, gate):
    gate.holds("write_piece", "write_all")

    def main():
        with (yield Open(path, "r+")) as file:
            for call in Write(file, b"ab"), WriteAt(file, b"AB", 4):
                task = yield Spawn(selects(call))
                yield from until(lambda: gate.entered)
                yield Sleep(10)
                gate.opens(1)
                assert (yield Join(task)) == (0, 2)
                gate.entered = 0

    def selects(call):
        return (yield select(call, Sleep(1)))

    run(main())
    assert path.read_bytes() == b"ab23AB6789"


def test_a_write_that_loses_a_select_at_once_is_never_made(path):
    def main():
        with (yield Open(path, "r+")) as file:
            assert (yield select(Write(file, b"lost"), Sleep(0)))[0] == 1
            yield WaitWritable(file)
            yield WaitReadable(file)
            assert file.position == 0
        return path.read_bytes()

    assert run(main()) == b"0123456789"


def test_a_position_has_one_user_at_a_time(path, uncached, gate):
    gate.holds("read_piece", "write_piece")

    def main():
        with (yield Open(path, "r+")) as file:
            for first, text in (reads(file), "read"), (writes(file, b"a"), "write"):
                task = yield Spawn(first)
                yield from until(lambda: gate.entered)
                for second in Read(file, 1), Write(file, b"b"), select(Read(file, 1)), select(Write(file, b"b")):
                    with pytest.raises(BusyError, match=f"another task waits to {text} file 'file'"):
                        yield second
                gate.opens(1)
                yield Join(task)
                gate.entered = 0

    run(main())


def test_reads_and_writes_at_offsets_go_on_at_once(path, uncached, gate):
    gate.holds("read_all", "write_all")

    def at(call):
        return (yield call)

    def main():
        with (yield Open(path, "r+")) as file:
            calls = [ReadAt(file, 2, 0), ReadAt(file, 2, 0), WriteAt(file, b"ab", 4), WriteAt(file, b"cd", 6)]
            tasks = []
            for call in calls:
                tasks.append((yield Spawn(at(call))))
            yield from until(lambda: gate.entered == 4)
            assert (
                repr(calls[0]) == "ReadAt(file 'file', 2, 0)" and repr(calls[2]) == "WriteAt(file 'file', 2 bytes, 4)"
            )
            gate.opens()
            results = []
            for task in tasks:
                results.append((yield Join(task)))
            return results

    assert run(main()) == [b"01", b"01", 2, 2]
    assert path.read_bytes() == b"0123abcd89"


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda file: ReadAt(file, 0, 0), ValueError, "size"),
        (lambda file: ReadAt(file, 1.5, 0), TypeError, "size"),
        (lambda file: ReadAt(file, 1, -1), ValueError, "offset"),
        (lambda file: WriteAt(file, b"", -1), ValueError, "offset"),
        (lambda file: WriteAt(file, b"x", 0), io.UnsupportedOperation, "can't be written at an offset"),
        (lambda file: Write(file, b"x"), io.UnsupportedOperation, "is not open for writing: its mode is 'rb'"),
        (lambda file: ReadAt(file.fileno(), 1, 0), TypeError, "ReadAt takes a regular file that Open has opened"),
        (lambda file: WriteAt(3, b"", 0), TypeError, "WriteAt takes a regular file that Open has opened, not file 3"),
        (lambda file: Sync(3), TypeError, "Sync takes a regular file that Open has opened, not file 3"),
    ],
)
def test_bad_arguments_are_clear_errors(path, make, kind, text):
    def main():
        with (yield Open(path)) as file:
            with pytest.raises(kind, match=text):
                yield make(file)
            assert (yield Read(file, 1)) == b"0"

    run(main())


def test_large_reads_and_writes_go_in_pieces(path, monkeypatch, uncached):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 7)
    monkeypatch.setattr(disk, "MAX_PIECE_BYTES", 7)
    data = bytes(range(50))

    def main():
        with (yield Open(path, "w+")) as file:
            assert (yield Write(file, data)) == 50
            assert (yield WriteAt(file, data, 50)) == 50
            with pytest.raises(TypeError, match="a str is encoded first"):
                yield WriteAt(file, "text", 0)
            assert (yield ReadAt(file, 2**40, 10)) == (data + data)[10:]
            assert (yield ReadAt(file, 30, 10)) == data[10:40]
            file.position = 40
            assert (yield Read(file, 100)) == data[40:47]

    run(main())


def test_a_read_with_nowait_that_reports_an_end_too_early_is_made_again(path, monkeypatch):
    """As on Linux 5.9 and 5.10: see "Bugs" in the manual page of preadv2."""
    monkeypatch.setattr(disk, "read_nowait", lambda fd, size, offset: b"")

    def main():
        with (yield Open(path)) as file:
            return (yield Read(file, 2)), (yield ReadAt(file, 2, 1)), (yield ReadAt(file, 2, 10))

    assert run(main()) == (b"01", b"12", b"")


@pytest.mark.parametrize("answer", [None, BlockingIOError, b"01"])
def test_a_read_with_nowait_may_be_missing_refused_or_short(path, monkeypatch, answer):
    def read_nowait(fd, size, offset):
        if answer is BlockingIOError:
            raise BlockingIOError
        return answer if offset == 0 else None

    monkeypatch.setattr(disk, "read_nowait", read_nowait)

    def main():
        with (yield Open(path)) as file:
            return (yield ReadAt(file, 4, 0)), (yield Read(file, 4))

    assert run(main()) == (b"0123", b"01" if answer == b"01" else b"0123")


def test_systems_without_pread_seek(path, monkeypatch, uncached):
    monkeypatch.setattr(disk, "pread", disk.pread_by_seek)
    monkeypatch.setattr(disk, "pwrite", disk.pwrite_by_seek)

    def main():
        with (yield Open(path, "r+")) as file:
            assert (yield Read(file, 2)) == b"01"
            assert (yield ReadAt(file, 2, 8)) == b"89"
            yield Write(file, b"a")
            yield WriteAt(file, b"bc", 4)
            assert (yield Read(file, 9)) == b"3bc6789"

    run(main())


def test_operations_in_threads_leave_no_cycle(path, uncached):
    def main():
        with (yield Open(path, "r+")) as file:
            seen.append(weakref.ref(file))
            for call in Read(file, 1), Write(file, b"x"), ReadAt(file, 1, 0), WriteAt(file, b"x", 0), Sync(file):
                yield call
            for call in Read(file, 1), ReadAt(file, 1, 0):
                assert (yield select(Sleep(0), call))[0] == 0
            with (yield MoveOnAfter(0)):
                yield Read(file, 1)

    seen = []
    gc.disable()
    try:
        run(main())
        settled(seen[0], None)
    finally:
        gc.enable()


@needs_fifo
def test_a_file_may_be_used_in_a_later_run(path, tmp_path, uncached):
    os.mkfifo(tmp_path / "fifo")

    def first():
        file, fifo = (yield Open(path)), (yield Open(tmp_path / "fifo", "r+"))
        with (yield MoveOnAfter(0.001)):
            yield Read(fifo, 1)
        return file, fifo, (yield Read(file, 2))

    def second(file, fifo):
        with file, fifo:
            task = yield Spawn(reads(fifo))
            yield from parked(task)
            yield Write(fifo, b"x")
            return (yield Join(task)), (yield Read(file, 2))

    file, fifo, data = run(first())
    assert data == b"01" and run(second(file, fifo)) == (b"x", b"23")


# Errors of the system, and closing.


def test_a_full_disk_is_enospc_and_the_position_says_what_is_written(path, monkeypatch):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 4)
    real = os.pwrite

    def pwrite(fd, data, offset):
        if offset >= 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: 6 - offset], offset)

    monkeypatch.setattr(disk, "pwrite", pwrite)

    def main():
        with (yield Open(path, "r+")) as file:
            for write in Write(file, b"abcdefgh"), select(Write(file, b"abcdefgh")), WriteAt(file, b"abcdefgh", 0):
                with pytest.raises(OSError, match="No space left") as caught:
                    yield write
                assert caught.value.errno == errno.ENOSPC and file.position == 6
            file.position = 4
            assert (yield Write(file, b"EF")) == 2

    run(main())
    assert path.read_bytes() == b"abcdEF6789"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_device_is_enospc():
    def main():
        with (yield Open("/dev/full", "w")) as file:
            with pytest.raises(OSError) as caught:
                yield Write(file, b"x")
            assert caught.value.errno == errno.ENOSPC
        with (yield Open("/dev/zero")) as file:
            return (yield Read(file, 3))

    assert run(main()) == b"\0\0\0"


def test_a_read_that_fails_in_its_thread_fails_in_the_task(path, uncached, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(disk, "pread", fail)
    monkeypatch.setattr(os, "fsync", fail)

    def main():
        with (yield Open(path)) as file:
            for call in Read(file, 1), ReadAt(file, 1, 0), select(Read(file, 1)), Sync(file):
                with pytest.raises(OSError, match="the disk is broken"):
                    yield call
            monkeypatch.undo()
            assert (yield Read(file, 1)) == b"0"

    run(main())


def test_a_closed_file_refuses_each_call(path):
    def main():
        with (yield Open(path, "r+")) as file:
            yield Close(file)
        file.close()
        for call in Read(file, 1), Write(file, b"x"), ReadAt(file, 1, 0), WriteAt(file, b"x", 0), Sync(file):
            with pytest.raises(ClosedError, match="the file 'file' is closed"):
                yield call
        for call in WaitReadable(file), select(Read(file, 1)), select(Write(file, b"x")):
            with pytest.raises(ClosedError, match="the file 'file' is closed"):
                yield call

    run(main())


def test_the_last_thread_closes_the_descriptor(path, uncached, gate):
    gate.holds("read_piece", "read_all")

    def main():
        file = yield Open(path)
        fd = file.fileno()
        reader = yield Spawn(reads(file), keep=True)
        other = yield Spawn(at(ReadAt(file, 2, 0)))
        yield from until(lambda: gate.entered == 2)
        file.close()
        with pytest.raises(ClosedError, match="was closed while task 'reads' waited"):
            yield Join(reader)
        with pytest.raises(ClosedError):
            yield Read(file, 1)
        assert is_open(fd) and file.closed
        gate.opens(1)
        yield Sleep(0)
        assert is_open(fd)
        gate.opens(1)
        assert (yield Join(other)) == b"01"
        yield from until(lambda: not is_open(fd))

    def at(call):
        return (yield call)

    run(main())


@pytest.mark.parametrize("size", [4, 9])
def test_a_write_of_a_file_that_is_closed_ends_after_its_piece(path, gate, monkeypatch, size):
    monkeypatch.setattr(regular_files, "MAX_PIECE_BYTES", 4)
    gate.holds("write_piece")

    def main():
        file = yield Open(path, "r+")
        task = yield Spawn(writes(file, b"abcdefghi"[:size]), keep=True)
        yield from until(lambda: gate.entered)
        file.close()
        yield
        assert task.state == "parked" and is_open(file.fd)
        gate.opens()
        if size == 4:
            assert (yield Join(task)) == 4
        else:
            with pytest.raises(ClosedError):
                yield Join(task)
        assert not is_open(file.fd)

    run(main())
    assert path.read_bytes() == b"abcd456789"


def test_a_file_stays_usable_when_no_thread_can_be_started(path, uncached, monkeypatch):
    def main():
        kernel = (yield CurrentTask()).kernel
        with (yield Open(path, "r+")) as file:

            def refuse(call):
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(kernel.service(Threads).pool, "submit", refuse)
            for call in Read(file, 1), Write(file, b"x"), ReadAt(file, 1, 0), WriteAt(file, b"x", 0), Sync(file):
                with pytest.raises(RuntimeError, match="can't start"):
                    yield call
            with pytest.raises(RuntimeError, match="can't start"):
                yield Open(path)
            monkeypatch.undo()
            assert file.users == 0 and (yield Read(file, 1)) == b"0"
            yield Write(file, b"a")

    run(main())
    assert path.read_bytes() == b"0a23456789"


# FIFOs, terminals, devices, standard input.


@needs_fifo
def test_a_fifo_is_opened_without_waiting_and_its_first_read_waits_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def main():
        with (yield Open(tmp_path / "fifo")) as fifo:
            task = yield Spawn(reads(fifo))
            yield from parked(task)
            with (yield Open(tmp_path / "fifo", "w")) as writer:
                yield Write(writer, b"hello")
                assert (yield Join(task)) == b"hello"
                with pytest.raises(TypeError, match="ReadAt takes a regular file"):
                    yield ReadAt(fifo, 1, 0)
                task = yield Spawn(reads(fifo))
                yield from parked(task)
            assert (yield Join(task)) == b""
            task = yield Spawn(reads(fifo), keep=True)
            assert (yield Join(task)) == b""
        fifo.close()

    run(main())


@needs_fifo
def test_an_open_of_a_fifo_without_a_reader_waits_without_a_thread(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def main():
        pool = (yield CurrentTask()).kernel.service(Threads).pool
        waiting = []
        for _ in range(3):
            waiting.append((yield Spawn(opened(tmp_path / "fifo", "w"), keep=True)))
        yield Sleep(0.1)
        for _ in range(10):
            yield InThread(int)
        assert all(task.state == "parked" for task in waiting)
        yield from until(lambda: pool.busy == 0)
        for task in waiting[1:]:
            yield Cancel(task)
        assert (yield select(Open(tmp_path / "fifo", "w"), Sleep(0.1)))[0] == 1
        with (yield Open(tmp_path / "fifo")) as reader, (yield Join(waiting[0])) as writer:
            yield Write(writer, b"x")
            assert (yield Read(reader, 9)) == b"x"

    run_in_real_time(main())


@needs_fifo
def test_a_cancellation_during_an_attempt_to_open_a_fifo_is_delivered_after_it(tmp_path, monkeypatch):
    from minisched.bridges import opening

    os.mkfifo(tmp_path / "fifo")
    may_open, entered = threading.Event(), threading.Event()
    real = opening.kind_of

    def slow(path):
        entered.set()
        assert may_open.wait(20)
        return real(path)

    monkeypatch.setattr(opening, "kind_of", slow)

    def main():
        task = yield Spawn(opened(tmp_path / "fifo", "w"), keep=True)
        yield from until(entered.is_set)
        yield Cancel(task, "no time")
        yield from parked(task)
        may_open.set()
        with pytest.raises(TaskCancelled, match="no time"):
            yield Join(task)

    run_in_real_time(main())


@needs_fifo
def test_an_attempt_that_finds_no_thread_fails_in_the_task(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")

    def main():
        pool = (yield CurrentTask()).kernel.service(Threads).pool
        task = yield Spawn(opened(tmp_path / "fifo", "w"), keep=True)
        yield from parked(task)
        monkeypatch.setattr(pool, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            yield Join(task)

    def refuse(call):
        raise RuntimeError("can't start new thread")

    run_in_real_time(main())


@needs_fifo
def test_closing_a_fifo_wakes_its_reader_and_closes_the_descriptor(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def main():
        fifo = yield Open(tmp_path / "fifo")
        task = yield Spawn(reads(fifo), keep=True)
        yield from parked(task)
        yield Close(fifo)
        assert task.state != "parked"
        with pytest.raises(ClosedError, match="file 'fifo' was closed while task 'reads' waited"):
            yield Join(task)
        assert not is_open(fifo.fd)

    run(main())


def test_an_opened_terminal_never_blocks_and_the_shared_one_keeps_its_mode():
    ours, theirs = pty.openpty()

    def main():
        with (yield Open(os.ttyname(theirs), "r+")) as terminal:
            task = yield Spawn(reads(terminal))
            yield from parked(task)
            os.write(ours, b"hello\n")
            assert (yield Join(task)) == b"hello\n"
            assert (yield Write(terminal, b"you")) == 3
            assert os.get_blocking(theirs) and not os.get_blocking(terminal.fileno())

    try:
        run(main())
    finally:
        os.close(ours)
        os.close(theirs)


STDIN = """
import os, sys
from minisched import Open, Read, Sleep, Spawn, run
reading = []
def ticking():
    ticks = 0
    while ticks < 5:
        yield Sleep(0.001)
        ticks += len(reading)
    print("ticked", flush=True)
def read(file):
    reading.append(1)
    return (yield Read(file, 100))
def main():
    yield Spawn(ticking())
    if sys.argv[1] == "0":
        data = yield from read(0)
    else:
        with (yield Open(sys.argv[1])) as file:
            data = yield from read(file)
    print(data, os.get_blocking(0), flush=True)
run(main())
"""


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pipe", "terminal", "file"])
@pytest.mark.parametrize("name", ["0", "/dev/stdin"])
def test_standard_input_holds_up_nothing_and_keeps_its_mode(path, kind, name):
    ours = None
    if kind == "pipe":
        theirs, ours = os.pipe()
    elif kind == "terminal":
        ours, theirs = pty.openpty()
    else:
        theirs = os.open(path, os.O_RDONLY)
    command = [sys.executable, "-c", STDIN, name]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        if ours is not None:
            assert process.stdout.readline() == "ticked\n"  # another task runs while the read waits
            os.write(ours, b"0123456789\n")
        said = process.stdout.read().replace("ticked\n", "")
    os.close(theirs)
    if ours is not None:
        os.close(ours)
    data = b"0123456789" if kind == "file" else b"0123456789\n"
    assert said == f"{data!r} True\n"


# Every moment of a cancellation.


def closing(make):
    """Return a `make` of check_syscall whose file is closed at the end of each trial."""

    def made(path, mode="r+"):
        file = yield Open(path, mode)
        return make(file), None, file.close

    return made


@pytest.mark.parametrize("make", [lambda file: Read(file, 4), lambda file: ReadAt(file, 4, 0)], ids=["Read", "ReadAt"])
def test_reads_keep_the_rules_of_cancellation(path, uncached, make):
    check_syscall(lambda: closing(make)(path))


@pytest.mark.parametrize(
    "make",
    [lambda file: Write(file, b"ab"), lambda file: WriteAt(file, b"ab", 0), lambda file: Sync(file)],
    ids=["Write", "WriteAt", "Sync"],
)
def test_writes_keep_the_rules_of_cancellation(path, make):
    """A write in a thread can't be undone, so a cancelled task waits for it. (The Write has one piece.)"""
    check_syscall(lambda: closing(make)(path), cancellable=False)


def test_an_open_keeps_the_rules_of_cancellation(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the trial drops the file that it gets
        check_syscall(lambda: Open(path))
        check_syscall(lambda: Open(path, "a"), cancellable=False)
        gc.collect()


def test_a_copy_that_is_cancelled_anywhere_leaves_no_file_and_no_thread(path, tmp_path, uncached):
    before = open_numbers()  # not in each trial: the thread of an abandoned Open may open its file only in the next one

    def make():
        target = tmp_path / "copy"
        state = SimpleNamespace(written=0)

        def copy():
            with (yield Open(path)) as source, (yield Open(target, "w")) as sink:
                while data := (yield Read(source, 6)):
                    try:
                        state.written += yield Write(sink, data)
                    except Cancelled as cancelled:
                        state.written += cancelled.written
                        raise
                yield Sync(sink)

        def check():
            assert not target.exists() or target.read_bytes() == b"0123456789"[: state.written]
            target.unlink(missing_ok=True)
            settled(open_numbers, before)  # an abandoned Open closes its file in its thread

        return copy(), check

    assert cancel_everywhere(make) > 10


@pytest.mark.skipif(not hasattr(minisched, "Stream"), reason="there are no streams yet")
@pytest.mark.parametrize("cached", [True, False])
def test_a_stream_returns_the_lines_of_a_file(path, monkeypatch, cached):
    if not cached:
        monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)
    lines = [b"line %d\n" % number for number in range(5_000)]

    async def main():
        async with Open(path, "w") as file:
            await minisched.Stream(file).write(b"".join(lines))
        async with Open(path) as file:
            return [line async for line in minisched.Stream(file)]

    assert run(main()) == lines


def test_gathered_reads_of_one_file_are_in_parallel(path):
    def at(file, offset):
        return (yield ReadAt(file, 2, offset))

    def main():
        with (yield Open(path)) as file:
            return (yield from gather(*(at(file, offset) for offset in range(0, 10, 2))))

    assert run(main()) == [b"01", b"23", b"45", b"67", b"89"]


@pytest.mark.parametrize("ends", ["cancelled", "loses", "completes", "fails"])
def test_an_open_leaves_no_cycle_however_it_ends(path, ends):
    def main():
        if ends == "cancelled":
            task = yield Spawn(opens(path))
            yield
            yield Cancel(task)
        elif ends == "loses":
            yield from select(Open(path), Sleep(0))
        else:
            yield from opens(path if ends == "completes" else f"{path}.missing")
        yield InThread(time.sleep, 0.02)  # in this run, the thread of an abandoned Open ends, and its answer is dropped

    def opens(name):
        try:
            with (yield Open(name)):
                pass
        except FileNotFoundError:
            pass

    gc.collect()
    gc.disable()
    try:
        run_in_real_time(main())
        settled(lambda: [one for one in gc.get_objects() if type(one) is opening.Opening], [])
    finally:
        gc.enable()
