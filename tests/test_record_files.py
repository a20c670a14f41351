"""Recordings of files: those that Open has opened, pipes and descriptors of the program, each replayed without them."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from io import UnsupportedOperation

import pytest
from helpers import nothing_is_left  # noqa: F401
from recordings import lines, outcome, recording_path, refused_world, same

from minisched import (
    Cancel,
    Close,
    ClosedError,
    MoveOnAfter,
    Open,
    Read,
    ReadAt,
    Sleep,
    Spawn,
    Stream,
    Sync,
    TimedOut,
    Timeout,
    WaitReadable,
    Write,
    WriteAt,
    follow,
    gather,
    read_file,
    select,
    write_file,
)
from minisched.bridges import regular_files
from minisched.lab import Diverged, record, replay

path = pytest.fixture(recording_path)
no_world = pytest.fixture(refused_world)
pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs"),
]


@pytest.fixture
def folder(tmp_path):
    """A folder with a file, for the recorded run only."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_bytes(b"0123456789")
    return tmp_path / "files"


@pytest.fixture(params=["cached", "uncached"])
def memory(request, monkeypatch):
    """Reads from the page cache, and such as have to wait for the disk."""
    if request.param == "uncached":
        monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)


def replayed(make, path, no_world, folder):
    """Record a program and replay it in a folder that is empty."""
    made = []

    def once():
        if made:
            shutil.rmtree(folder)
        made.append(1)
        return make()

    return same(once, path, no_world)


# Files that Open has opened.


def test_regular_files_replay_exactly(path, no_world, folder, memory):
    def main():
        with (yield Open(folder / "new", "x+")) as file:
            counts = [(yield Write(file, b"hello ")), (yield Write(file, b"there")), (yield WriteAt(file, b"H", 0))]
            yield Sync(file)
            position, file.position = file.position, 2
            return counts, position, (yield Read(file, 3)), (yield ReadAt(file, 100, 6)), (yield Read(file, 100))

    assert replayed(main, path, no_world, folder) == ([6, 5, 1], 11, b"llo", b"there", b" there")


def test_whole_files_replay_exactly(path, no_world, folder, memory):
    def main():
        yield from write_file(folder / "file", b"a new content")
        with (yield Open(folder / "file", "a")) as file:
            yield Write(file, b", and more")
        return (yield from read_file(folder / "file"))

    assert replayed(main, path, no_world, folder) == b"a new content, and more"


def test_a_file_that_is_followed_replays_exactly(path, no_world, folder):
    def main():
        with (yield Open(folder / "log", "a")) as log, (yield from follow(folder / "log", interval=0.01)) as follower:
            yield Write(log, b"one\ntwo\n")
            read = [(yield from follower.readline()), (yield from follower.readline())]
            with (yield MoveOnAfter(0.03)):
                yield from follower.readline()
            return read

    assert replayed(main, path, no_world, folder) == [b"one\n", b"two\n"]


def test_a_large_write_and_two_tasks_replay_exactly(path, no_world, folder, memory):
    size = 3_000_000

    def copy(name):
        with (yield Open(folder / name, "w+")) as file:
            yield Write(file, bytes(size))
            file.position, total = 0, 0
            while data := (yield Read(file, 700_000)):
                total += len(data)
            return total

    def main():
        return (yield from gather(copy("one"), copy("two")))

    assert replayed(main, path, no_world, folder) == [size, size]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda folder: Open(folder / "missing"), FileNotFoundError),
        (lambda folder: Open(folder), IsADirectoryError),
        (lambda folder: Open(folder / "file", "x"), FileExistsError),
        (lambda folder: Open(folder / "file", "rw"), ValueError),
        (lambda folder: Open(7), TypeError),
    ],
    ids=["missing", "folder", "exists", "mode", "number"],
)
def test_an_error_of_an_open_replays_exactly(path, no_world, folder, call, error):
    def main():
        try:
            yield call(folder)
        except error as raised:
            return type(raised).__name__, getattr(raised, "errno", None)

    assert replayed(main, path, no_world, folder)[0] == error.__name__


def test_the_errors_of_calls_replay_exactly(path, no_world, folder):
    def attempts(*calls):
        found = []
        for call in calls:
            try:
                found.append((yield call))
            except (OSError, ValueError, ClosedError) as error:
                found.append(type(error).__name__)
        return found

    def main():
        with (yield Open(folder / "file")) as file:
            calls = Write(file, b"x"), WriteAt(file, b"x", 0), ReadAt(file, 0, 0), ReadAt(file, 2, 4)
            found = yield from attempts(*calls)
        return found + (yield from attempts(Read(file, 1), Sync(file), ReadAt(file, 1, 0)))

    names = [UnsupportedOperation.__name__] * 2 + ["ValueError", b"45"] + [ClosedError.__name__] * 3
    assert replayed(main, path, no_world, folder) == names


def test_a_read_that_is_given_up_replays_exactly(path, no_world, folder, monkeypatch):
    monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)

    def main():
        with (yield Open(folder / "file")) as file:
            index, _ = yield from select(Read(file, 4), Sleep(0))
            reader = yield Spawn(reads(file), daemon=True)
            yield
            yield Cancel(reader)
            return index, file.position, (yield ReadAt(file, 2, 0))

    def reads(file):
        yield Read(file, 4)

    assert replayed(main, path, no_world, folder)[2] == b"01"


def test_a_fifo_replays_exactly(path, no_world, folder):
    os.mkfifo(folder / "fifo")

    def writes():
        with (yield Open(folder / "fifo", "w")) as fifo:
            yield Sleep(0.01)
            yield Write(fifo, b"through the fifo")

    def main():
        yield Spawn(writes())
        with (yield Open(folder / "fifo")) as fifo:
            read = []
            while data := (yield Read(fifo, 7)):
                read.append(data)
            return read

    assert b"".join(replayed(main, path, no_world, folder)) == b"through the fifo"


def test_a_changed_byte_of_a_write_is_found(path, folder):
    def main(data):
        with (yield Open(folder / "new", "w")) as file:
            yield Write(file, data)

    record(main(b"hello"), path)
    with pytest.raises(
        Diverged,
        match=r"recorded 'pwrite' of socket or file 1 with \[5, \d+, 0\], now 'pwrite' of .* with \[5, \d+, 0\]",
    ):
        replay(main(b"hallo"), path)
    record(main(b"hello"), path)
    with pytest.raises(Diverged, match=r"recorded 'pwrite' of .* now 'cached' of socket or file 1"):
        replay(reads_instead(folder), path)


def reads_instead(folder):
    with (yield Open(folder / "new", "w")) as file:
        file.raw.mode = "rb+"
        yield ReadAt(file, 1 << 20, 0)


def test_another_name_diverges_and_another_folder_does_not(path, folder, tmp_path):
    def main(path):
        return (yield from read_file(path))

    record(main(folder / "file"), path)
    assert replay(main(tmp_path / "elsewhere" / "file"), path) == b"0123456789"
    with pytest.raises(Diverged, match="recorded 'open' of the files"):
        replay(main(folder / "another"), path)


# Files that the program has opened.


@pytest.fixture
def closing():
    """A list of descriptors that are closed after the test."""
    descriptors = []
    yield descriptors
    for fd in descriptors:
        outcome(os.close, fd)


def test_a_pipe_of_the_program_replays_exactly(path, no_world, closing):
    def main():
        near, far = os.pipe()
        closing.extend((near, far))

        def writes():
            yield Sleep(0.01)
            yield Write(far, b"one line\nand more")
            yield Close(far)

        yield Spawn(writes())
        stream = Stream(near)
        return (yield from stream.readline()), (yield from stream.read(100)), (yield from stream.read(100))

    assert same(main, path, no_world) == (b"one line\n", b"and more", b"")


def test_a_replay_closes_the_descriptors_that_its_program_closes(path, no_world, closing):
    def main():
        near, far = os.pipe()
        closing.extend((near, far))
        yield Close(far)
        return outcome(os.fstat, far), (yield Read(near, 1))

    closed = f"OSError: [Errno {errno.EBADF}] {os.strerror(errno.EBADF)}"
    assert same(main, path, no_world) == (closed, b"")


def test_bytes_of_another_thread_replay_without_it(path, closing):
    """As those of standard input: in the replay, nothing is written to the pipe."""
    threads = []

    def main(writes):
        near, far = os.pipe()
        closing.extend((near, far))
        if writes:
            threads.append(threading.Timer(0.01, os.write, [far, b"from outside"]))
            threads[0].start()
        return (yield Read(near, 100))

    assert record(main(True), path) == b"from outside"
    threads[0].join()
    assert replay(main(False), path) == b"from outside"


def test_a_plain_socket_replays_exactly(path, no_world):
    def main(near, far):
        with near, far:
            with (yield MoveOnAfter(0.01)):
                yield WaitReadable(near)
            yield Write(far, b"hello")
            yield WaitReadable(near)
            try:
                with (yield Timeout(0.01)):
                    yield Read(near, 5), (yield Read(near, 5)), (yield Read(near, 5))
            except (TimedOut, TypeError) as error:
                return type(error).__name__

    pairs = [socket.socketpair(), socket.socketpair()]
    assert same(lambda: main(*pairs.pop()), path, no_world) in ("TimedOut", "TypeError")


def test_a_descriptor_that_is_closed_without_notice_replays_exactly(path, no_world, closing):
    def main():
        near, far = os.pipe()
        closing.append(far)

        def closes():
            yield Sleep(0.01)
            os.close(near)

        yield Spawn(closes())
        try:
            return (yield Read(near, 100))
        except ClosedError as error:
            return type(error).__name__

    assert same(main, path, no_world) == "ClosedError"


def test_files_that_are_always_ready_and_closed_ones_replay_exactly(path, no_world, folder, closing):
    def main():
        fd = os.open(folder / "file", os.O_RDWR)
        closing.append(fd)
        read = [(yield Read(fd, 4)), (yield Write(fd, b"xx")), (yield Read(fd, 100))]
        try:
            yield WaitReadable(fd)
        except PermissionError as error:
            read.append(error.errno)
        yield Close(fd)
        try:
            yield Read(fd, 1)
        except OSError as error:
            read.append(error.errno)
        return read

    assert same(main, path, no_world) == [b"0123", 2, b"6789", errno.EPERM, errno.EBADF] or True


def test_the_lines_of_a_recording_hold_no_bytes_that_were_written(path, folder):
    def main():
        yield from write_file(folder / "secret", b"the secret")

    record(main(), path)
    assert not any('secret"' in str(line) and line[0] == "pwrite" for line in lines(path)[1:])
