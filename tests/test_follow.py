"""follow: a tail that goes on through truncation and rotation."""

from __future__ import annotations

import os
from concurrent.futures import Future

import pytest
from helpers import nothing_is_left, open_numbers, parked, run, settled  # noqa: F401

from minisched import (
    BusyError,
    Cancel,
    ClosedError,
    Join,
    LimitExceeded,
    MoveOnAfter,
    Now,
    Sleep,
    Spawn,
    TaskCancelled,
    follow,
)
from minisched import run as run_in_real_time
from minisched.bridges import regular_files, thread_pool
from minisched.testing import cancel_everywhere


@pytest.fixture(autouse=True)
def threads_at_once(monkeypatch):
    """Do the work of a thread at once, since virtual time would pass while a thread looks at the file."""

    def submit(pool, call):
        future = Future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(thread_pool.Pool, "submit", submit)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    return path


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


def collecting(path, lines, **keywords):
    """Append each line of the file to `lines`, in a task of its own."""

    def body():
        with (yield from follow(path, **keywords)) as follower:
            followers.append(follower)
            while True:
                lines.append((yield from follower.readline()))

    followers = []
    return body(), followers


def test_lines_that_are_appended_arrive(path):
    def main():
        with (yield from follow(path)) as follower:
            append(path, b"one\ntwo\nthr")
            assert (yield from follower.readline()) == b"one\n"
            assert (yield from follower.readline()) == b"two\n"
            with (yield MoveOnAfter(3)):
                yield from follower.readline()
            append(path, b"ee\n")
            return (yield from follower.readline())

    assert run(main()) == b"three\n"


def test_the_start_of_the_file_is_read_on_request(path):
    async def main():
        lines = []
        with await follow(path, from_start=True) as follower:
            append(path, b"new\n")
            async for line in follower:
                lines.append(line)
                if line == b"new\n":
                    return lines

    assert run(main()) == [b"old\n", b"new\n"]


def test_bytes_are_returned_as_they_come(path):
    def main():
        with (yield from follow(path, interval=2)) as follower:
            append(path, b"no newline")
            first = yield from follower.read()
            start = yield Now()
            task = yield Spawn(more())
            second = yield from follower.read()
            yield Join(task)
            return first, second, (yield Now()) - start

    def more():
        yield Sleep(1)
        append(path, b"more")

    assert run(main()) == (b"no newline", b"more", 2)


def test_a_truncated_file_is_read_from_its_start(path):
    def main():
        lines = []
        body, _ = collecting(path, lines)
        task = yield Spawn(body)
        yield Sleep(1)
        append(path, b"one\ncut sho")
        yield Sleep(1)
        os.truncate(path, 0)
        yield Sleep(1)
        append(path, b"two\n")
        yield Sleep(1)
        yield Cancel(task)
        return lines

    assert run(main()) == [b"one\n", b"cut sho", b"two\n"]


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(path):
    def main():
        lines = []
        body, followers = collecting(path, lines, interval=1)
        task = yield Spawn(body)
        yield Sleep(1.5)
        append(path, b"one\n")
        yield Sleep(1)
        os.rename(path, f"{path}.1")
        append(f"{path}.1", b"two\n")
        yield Sleep(5)  # nothing has the path
        append(f"{path}.1", b"three\n")
        path.write_bytes(b"a\n")
        yield Sleep(1)
        append(f"{path}.1", b"four\n")  # the writer has not noticed the rotation
        yield Sleep(2)
        append(path, b"b\n")
        yield Sleep(1)
        assert followers[0].file.name == path
        yield Cancel(task)
        return lines

    assert run(main()) == [b"one\n", b"two\n", b"three\n", b"four\n", b"a\n", b"b\n"]


def test_a_line_that_a_rotation_has_cut_short_is_not_joined_to_the_next_one(path):
    def main():
        lines = []
        body, _ = collecting(path, lines)
        task = yield Spawn(body)
        yield Sleep(1)
        append(path, b"cut sho")
        os.rename(path, f"{path}.1")
        path.write_bytes(b"a\n")
        yield Sleep(2)
        yield Cancel(task)
        return lines

    assert run(main()) == [b"cut sho", b"a\n"]


def test_a_rotation_that_is_taken_back_changes_nothing(path):
    def main():
        lines = []
        body, _ = collecting(path, lines, interval=1)
        task = yield Spawn(body)
        yield Sleep(0.5)
        for _ in range(3):
            os.rename(path, f"{path}.1")
            path.write_bytes(b"other\n")
            yield Sleep(1)
            os.replace(f"{path}.1", path)
            yield Sleep(1)
        append(path, b"one\n")
        yield Sleep(2)
        yield Cancel(task)
        return lines

    assert run(main()) == [b"one\n"]


def test_a_file_that_is_created_later_is_read_from_its_start(tmp_path):
    def main():
        lines = []
        body, _ = collecting(tmp_path / "new", lines)
        task = yield Spawn(body)
        yield Sleep(5)
        append(tmp_path / "new", b"one\n")
        yield Sleep(1)
        yield Cancel(task)
        return lines

    assert run(main()) == [b"one\n"]


def test_a_line_above_the_limit_stays_readable(path):
    def main():
        with (yield from follow(path)) as follower:
            append(path, b"12345\n12345678")
            assert (yield from follower.readline(6)) == b"12345\n"
            for _ in range(2):
                with pytest.raises(LimitExceeded, match="has more than 6 bytes"):
                    yield from follower.readline(6)
            append(path, b"9\nab\n")
            data = yield from follower.read()
            assert data.startswith(b"12345678")
            while not data.endswith(b"ab\n"):
                data += yield from follower.read()
            append(path, b"1234567\n")
            with pytest.raises(LimitExceeded):
                yield from follower.readline(7)
            return (yield from follower.readline(8))

    assert run(main()) == b"1234567\n"


def test_one_task_reads_at_a_time_and_a_close_ends_its_wait(path):
    def main():
        lines = []
        body, followers = collecting(path, lines, interval=1)
        task = yield Spawn(body, keep=True)
        yield Sleep(0.5)
        with pytest.raises(BusyError, match="another task reads the follower of"):
            yield from followers[0].read()
        followers[0].close()
        with pytest.raises(ClosedError, match="the follower of"):
            yield Join(task)
        with pytest.raises(ClosedError):
            yield from followers[0].readline()

    run(main())


@pytest.mark.parametrize(
    ("name", "keywords", "kind", "text"),
    [
        (".", {}, IsADirectoryError, "directory"),
        ("/dev/null", {}, OSError, "not a regular file, which could be followed"),
        ("log", {"interval": -1}, ValueError, "interval"),
        ("log", {"interval": "1"}, TypeError, "interval"),
        (3, {}, TypeError, "not the file descriptor 3"),
    ],
)
def test_a_path_that_can_not_be_followed_is_a_clear_error(name, keywords, kind, text):
    with pytest.raises(kind, match=text):
        run(follow(name, **keywords))


def test_a_limit_must_be_a_number(path):
    def main():
        with (yield from follow(path, from_start=True)) as follower:
            with pytest.raises(ValueError, match="limit"):
                yield from follower.readline(0)
            return (yield from follower.readline())

    assert run(main()) == b"old\n"


def test_threads_look_at_the_file(path, monkeypatch):
    monkeypatch.undo()

    def main():
        with (yield from follow(path, interval=0.001)) as follower:
            task = yield Spawn(reads(follower))
            yield from parked(task)
            append(path, b"one\n")
            return (yield Join(task))

    def reads(follower):
        return (yield from follower.readline())

    assert run_in_real_time(main()) == b"one\n"


def test_a_follower_that_is_cancelled_anywhere_loses_no_byte_and_leaves_no_file(path, monkeypatch):
    monkeypatch.setattr(regular_files, "read_cached", lambda fd, size, offset: None)
    before = open_numbers()

    def make():
        path.write_bytes(b"1\n2\n3\n")
        lines, cancelled = [], []

        def reader(follower):
            while len(lines) < 3:
                lines.append((yield from follower.readline()))

        def main():
            with (yield from follow(path, from_start=True)) as follower:
                task = yield Spawn(reader(follower), keep=True)
                try:
                    yield Join(task)
                except TaskCancelled:
                    cancelled.append(1)
                    yield Join((yield Spawn(reader(follower))))  # goes on where the first one stopped
                assert lines == [b"1\n", b"2\n", b"3\n"]

        def check():
            settled(open_numbers, before)

        return main(), check

    assert cancel_everywhere(make) > 10
