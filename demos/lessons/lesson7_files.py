"""Lesson 7, long work in pieces: a big file is read in chunks, and other tasks run in between.

Shows: while a file is read in one piece, no other task can run; a `yield` after each chunk changes that. A chunk may
cut a line in two; a coroutine keeps the first half. Then tasks: Read, InThread and Open, and how they differ for a
regular file.

Run it:    python demos/lessons/lesson7_files.py
Watch it:  minisched run --trace demos/lessons/lesson7_files.py
"""

import os
from argparse import ArgumentParser
from itertools import count
from tempfile import TemporaryDirectory

from minisched import InThread, Open, Read, Spawn, run

CHUNK_BYTES = 131072


def make_file(folder):
    """Write the numbers from 0 to 99,999, one per line; return the path."""
    path = os.path.join(folder, "numbers.txt")
    with open(path, "w") as file:
        file.writelines(f"{number:06}\n" for number in range(100_000))
    return path


def add_lines():
    """Receive chunks of a file, cut at any byte, until None comes; return the sum of the numbers on the lines."""
    total, rest = 0, b""
    while (chunk := (yield)) is not None:
        *lines, rest = (rest + chunk).split(b"\n")  # `rest` is an incomplete line, or empty
        total += sum(map(int, lines))
    return total + int(rest or 0)


def finish(coroutine):
    """Send None; return the coroutine's return value."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class Turns:
    """Another body that always has something to do: it counts its turns."""

    def __init__(self):
        self.number = 0

    def go_on(self):
        """Count the turns."""
        for self.number in count(1):
            yield


# By hand.


def add_up_at_once(path):
    """Read the whole file at once. Nothing else can run meanwhile."""
    with open(path, "rb") as file:
        return sum(map(int, file.read().split()))


def add_up(path):
    """Read the file in chunks, and yield after each of them, so that others can run. Return the total."""
    adder = add_lines()
    next(adder)
    with open(path, "rb") as file:
        for number in count(1):
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return finish(adder)
            adder.send(chunk)
            print(f"  chunk {number}: {len(chunk)} bytes")
            yield


def by_hand(path):
    """Schedule two bodies by hand: one reads, the other counts."""
    turns = Turns()
    counting = turns.go_on()
    print("At once:")
    print(f"  the sum is {add_up_at_once(path)}; turns of the other body meanwhile: {turns.number}")
    print("In chunks:")
    total, reading = None, add_up(path)
    while total is None:
        try:
            next(reading)
            next(counting)
        except StopIteration as stop:
            total = stop.value
    print(f"  the sum is {total}; turns of the other body meanwhile: {turns.number}")


# The same as tasks.


def add_up_by_read(path):
    """Ask the kernel for each chunk; after each yield, the other tasks have their turns.

    A regular file is always ready, so no selector waits for one (epoll refuses it). Read reads such a file at once, in
    the event loop's thread; if the disk is slow, all tasks wait for that chunk. The file is opened without a buffer,
    because Read reads from the operating system directly and refuses a file with a buffer.
    """
    adder = add_lines()
    next(adder)
    with open(path, "rb", buffering=0) as file:
        while chunk := (yield Read(file, CHUNK_BYTES)):
            adder.send(chunk)
    return finish(adder)


def add_up_in_thread(path):
    """Open the file and read each chunk in another thread, so that no other task waits for a slow disk.

    A thread costs more than reading a chunk that is already in memory. The number of turns of the other tasks now
    depends on the disk.
    """
    adder = add_lines()
    next(adder)
    with (yield InThread(open, path, "rb")) as file:
        while chunk := (yield InThread(file.read, CHUNK_BYTES)):
            adder.send(chunk)
    return finish(adder)


def add_up_by_open(path):
    """Open the file by a syscall: Read then reads a chunk that is already in memory at once, and any other in a thread.

    So the file costs no thread that it does not need, and no other task waits for a slow disk.
    """
    adder = add_lines()
    next(adder)
    with (yield Open(path)) as file:
        while chunk := (yield Read(file, CHUNK_BYTES)):
            adder.send(chunk)
    return finish(adder)


def main():
    """Add up the file in three ways, next to a task that counts its turns."""
    turns = Turns()
    yield Spawn(turns.go_on(), daemon=True)
    with TemporaryDirectory() as folder:
        path = make_file(folder)
        before = turns.number
        total = yield from add_up_by_read(path)
        meanwhile, before = turns.number - before, turns.number
        print(f"  with Read:     the sum is {total}; turns of the other task meanwhile: {meanwhile}")
        total = yield from add_up_in_thread(path)
        print(f"  with InThread: the sum is {total}; at least as many turns: {turns.number - before >= meanwhile}")
        before = turns.number
        total = yield from add_up_by_open(path)
        print(f"  with Open:     the sum is {total}; at least as many turns: {turns.number - before >= meanwhile}")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    with TemporaryDirectory() as folder:
        by_hand(make_file(folder))
    print("Tasks:")
    run(main())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson7_exercise1(file, size): a generator that reads `size` bytes at a time from an open file, and yields its
#    lines one by one, without the b"\n". The last line counts even if it has no b"\n".
# 2. lesson7_exercise2(source, target, size): a task that copies the open file `source` to `target` with Read and
#    Write, at most `size` bytes at a time, and returns the number of bytes. Neither file has a buffer.
# 3. lesson7_exercise3(function, paths): a task that calls `function(path)` for all paths at once, each call in a
#    thread, and returns the list of the results, in the order of `paths`.
