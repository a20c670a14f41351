"""Checks for the exercises of lessons 7 and 8: each function checks one solution.

Shows: how to test tasks that read files, use threads or talk to each other: a pair of sockets is a network.

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

BARRIER_SECONDS = 10  # the longest wait for threads that should run at the same time

# Lesson 7: files.


class LoggedFile(io.BytesIO):
    """A file in memory that logs the size of each read."""

    def __init__(self, data):
        super().__init__(data)
        self.sizes = []

    def read(self, size=-1):
        self.sizes.append(size)
        return super().read(size)


def check_lesson7_exercise1(solution):
    for data, lines in ((b"a\n\nbcd\ne", [b"a", b"", b"bcd", b"e"]), (b"ab\n", [b"ab"]), (b"", [])):
        for size in (1, 2, 3, 100):
            file = LoggedFile(data)
            expect(f"the lines of {data!r}, by {size}", list(solution(file, size)), lines)
            expect("the sizes of the reads", {*file.sizes}, {size})
    file = LoggedFile(b"a\nb\nc\n")
    expect("the first line", next(solution(file, 2)), b"a")
    expect("the number of reads for that line", len(file.sizes), 1)


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
        expect("the number of bytes", run(main()), len(data))
        expect("the copy is the same", target.read_bytes() == data, True)
    expect("whether other tasks had 20 turns or more during 10 pieces", len(turns) >= 20, True)


def check_lesson7_exercise3(solution):
    barrier = Barrier(3)

    def function(path):
        try:
            barrier.wait(BARRIER_SECONDS)
        except BrokenBarrierError:
            raise Wrong("the three calls do not run at the same time, each in a thread") from None
        return path.upper()

    expect("the results for a, b and c", run(solution(function, ["a", "b", "c"])), ["A", "B", "C"])


# Lesson 8: network.


@contextmanager
def connection():
    """Yield two sockets that are connected to each other."""
    near, far = socketpair()
    with near, far:
        yield near, far


def check_lesson8_exercise1(solution):
    coroutine = solution()
    sent = (None, b"a", b"b\nc\nd", b"\n", b"e\n")
    expect(f"the output for {sent}", list(map(coroutine.send, sent)), [b"", b"", b"AB\nC\n", b"D\n", b"E\n"])


def check_lesson8_exercise2(solution):
    def slow_peer(conn):
        for line in (b"one", b"two"):
            expect("the line that arrived", (yield Read(conn, 100)), line + b"\n")
            yield Write(conn, b"answer to ")
            yield Sleep(1)
            yield Write(conn, line + b"\n")

    def main():
        with connection() as (near, far):
            yield Spawn(slow_peer(far))
            return (yield from solution(near, [b"one", b"two"]))

    expect("the answers", run(main()), [b"answer to one", b"answer to two"])


def check_lesson8_exercise3(solution):
    def client(conn, closes):
        for data in (b"ab", b"c"):
            yield Write(conn, data)
            expect("the bytes that came back", (yield Read(conn, 100)), data)
            yield Sleep(2)
        if closes:
            conn.close()

    def main(closes):
        with connection() as (near, far):
            yield Spawn(client(far, closes))
            count = yield from solution(near, 3)
            return count, (yield Now()), near.fileno() >= 0

    question = "the bytes, the time of the end, and whether the connection is open"
    expect(f"{question}, if the peer is silent from 2 s on", run(main(False)), (3, 5.0, True))
    expect(f"{question}, if the peer closes at 4 s", run(main(True)), (3, 4.0, True))
