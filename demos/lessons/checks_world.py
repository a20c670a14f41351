"""Checks of the exercises of lessons 7 and 8, each a function that is given a solution.

Shows: how tasks are tested that read files, ask threads, or talk with each other: a pair of sockets is a network.

Run it:    python demos/lessons/checks.py FILE    (this file does nothing by itself)
"""

import io
from contextlib import contextmanager
from pathlib import Path
from socket import socketpair
from tempfile import TemporaryDirectory
from threading import Barrier, BrokenBarrierError

from expect import Wrong, expect

from minisched import Now, Read, Sleep, Spawn, Write
from minisched.testing import run

PATIENCE = 10  # seconds until threads that should run at once are said not to

# Lesson 7: files.


class Listening(io.BytesIO):
    """A file in memory that writes down how much is asked for."""

    def __init__(self, data):
        super().__init__(data)
        self.sizes = []

    def read(self, size=-1):
        self.sizes.append(size)
        return super().read(size)


def check_lesson7_exercise1(solution):
    for data, lines in ((b"a\n\nbcd\ne", [b"a", b"", b"bcd", b"e"]), (b"ab\n", [b"ab"]), (b"", [])):
        for size in (1, 2, 3, 100):
            file = Listening(data)
            expect(f"the lines of {data!r}, by {size}", list(solution(file, size)), lines)
            expect("how much is read at a time", {*file.sizes}, {size})
    file = Listening(b"a\nb\nc\n")
    expect("the first line", next(solution(file, 2)), b"a")
    expect("how often it was read for that", len(file.sizes), 1)


def check_lesson7_exercise2(solution):
    data, turns = bytes(range(250)) * 4, []

    def others():
        while True:
            yield
            turns.append("a turn")

    def main():
        yield Spawn(others(), daemon=True)
        with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
            return (yield from solution(reading, writing, 100))

    with TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(data)
        expect("how many bytes", run(main()), len(data))
        expect("whether the copy is the same", target.read_bytes() == data, True)
    expect("whether others had turns, for 10 pieces 20 or more", len(turns) >= 20, True)


def check_lesson7_exercise3(solution):
    barrier = Barrier(3)

    def function(path):
        try:
            barrier.wait(PATIENCE)
        except BrokenBarrierError:
            raise Wrong("three calls, each in a thread, are not at work at the same time") from None
        return path.upper()

    expect("what came of a, b and c", run(solution(function, ["a", "b", "c"])), ["A", "B", "C"])


# Lesson 8: network.


@contextmanager
def connection():
    """Give two sockets that are connected with each other."""
    here, there = socketpair()
    with here, there:
        yield here, there


def check_lesson8_exercise1(solution):
    coroutine = solution()
    sent = (None, b"a", b"b\nc\nd", b"\n", b"e\n")
    expect(f"what comes out for {sent}", list(map(coroutine.send, sent)), [b"", b"", b"AB\nC\n", b"D\n", b"E\n"])


def check_lesson8_exercise2(solution):
    def slow_peer(conn):
        for line in (b"one", b"two"):
            expect("what came", (yield Read(conn, 100)), line + b"\n")
            yield Write(conn, b"answer to ")
            yield Sleep(1)
            yield Write(conn, line + b"\n")

    def main():
        with connection() as (here, there):
            yield Spawn(slow_peer(there))
            return (yield from solution(here, [b"one", b"two"]))

    expect("the answers", run(main()), [b"answer to one", b"answer to two"])


def check_lesson8_exercise3(solution):
    def client(conn, goes):
        for data in (b"ab", b"c"):
            yield Write(conn, data)
            expect("what came back", (yield Read(conn, 100)), data)
            yield Sleep(2)
        if goes:
            conn.close()

    def main(goes):
        with connection() as (here, there):
            yield Spawn(client(there, goes))
            count = yield from solution(here, 3)
            return count, (yield Now()), here.fileno() >= 0

    expect("how many bytes, until when, of one that fell silent at 2; still open?", run(main(False)), (3, 5.0, True))
    expect("how many bytes, until when, of one that closed at 4; still open?", run(main(True)), (3, 4.0, True))
