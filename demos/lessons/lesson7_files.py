"""Lesson 7, long work in pieces: a big file is read chunk by chunk, and the others go on in between.

Shows: what everybody else can do while a file is read at once (nothing); a `yield` after each chunk; a line that is
cut in two by the end of a chunk, and the coroutine that keeps its beginning. Then tasks: Read and InThread, and what
the difference is for a regular file.

Run it:    python demos/lessons/lesson7_files.py
Watch it:  minisched run --trace demos/lessons/lesson7_files.py
"""

import os
from itertools import count
from tempfile import TemporaryDirectory

from minisched import InThread, Read, Spawn, run

CHUNK = 131072  # bytes


def make_file(folder):
    """Write the numbers from 0 to 99,999, one on a line; return the path."""
    path = os.path.join(folder, "numbers.txt")
    with open(path, "w") as file:
        file.writelines(f"{number:06}\n" for number in range(100_000))
    return path


def add_lines():
    """Take chunks of a file, which may end anywhere, until None comes; return the sum of the numbers on the lines."""
    total, rest = 0, b""
    while (chunk := (yield)) is not None:
        *lines, rest = (rest + chunk).split(b"\n")  # the last one is not whole; it is empty if the chunk ended a line
        total += sum(map(int, lines))
    return total + int(rest or 0)


def ended(coroutine):
    """Send None; return what the coroutine returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


class Turns:
    """Somebody else, with a little to do all the time: here, to count."""

    def __init__(self):
        self.number = 0

    def go_on(self):
        """Count, for as long as there are turns."""
        for self.number in count(1):
            yield


# By hand.


def add_up_at_once(path):
    """Read all of it. Nobody else can do anything meanwhile."""
    with open(path, "rb") as file:
        return sum(map(int, file.read().split()))


def add_up(path):
    """Read a chunk, and let the others go on: again and again. Return the total."""
    adder = add_lines()
    next(adder)
    with open(path, "rb") as file:
        for number in count(1):
            chunk = file.read(CHUNK)
            if not chunk:
                return ended(adder)
            adder.send(chunk)
            print(f"  chunk {number}, of {len(chunk)} bytes")
            yield


def by_hand(path):
    """Be the scheduler of two: whoever reads, and whoever counts."""
    turns = Turns()
    counting = turns.go_on()
    print("At once:")
    print(f"  the sum is {add_up_at_once(path)}; turns of somebody else meanwhile: {turns.number}")
    print("In pieces:")
    total, reading = None, add_up(path)
    while total is None:
        try:
            next(reading)
            next(counting)
        except StopIteration as stop:
            total = stop.value
    print(f"  the sum is {total}; turns of somebody else meanwhile: {turns.number}")


# The same as tasks.


def add_up_by_read(path):
    """Ask the kernel for each chunk; each yield costs a turn, and the others have theirs.

    A regular file is always ready: no selector waits for one (epoll refuses it). So Read reads it in place, as soon
    as it is asked, in the loop's own thread, and if the disk is slow, all wait for that chunk. No `buffering`: Read
    goes to the operating system, past a buffer, and says so if there is one.
    """
    adder = add_lines()
    next(adder)
    with open(path, "rb", buffering=0) as file:
        while chunk := (yield Read(file, CHUNK)):
            adder.send(chunk)
    return ended(adder)


def add_up_in_thread(path):
    """Have another thread read each chunk, and open the file: for disks that are slow or far away, nobody waits.

    It costs more than a chunk that is in memory already, and how many turns the others have is now up to the disk.
    """
    adder = add_lines()
    next(adder)
    with (yield InThread(open, path, "rb")) as file:
        while chunk := (yield InThread(file.read, CHUNK)):
            adder.send(chunk)
    return ended(adder)


def main():
    """Add up the file in both ways, with somebody else beside."""
    turns = Turns()
    yield Spawn(turns.go_on(), daemon=True)
    with TemporaryDirectory() as folder:
        path = make_file(folder)
        before = turns.number
        total = yield from add_up_by_read(path)
        meanwhile, before = turns.number - before, turns.number
        print(f"  by Read:     the sum is {total}; turns of somebody else meanwhile: {meanwhile}")
        total = yield from add_up_in_thread(path)
        print(f"  by InThread: the sum is {total}; at least as many: {turns.number - before >= meanwhile}")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        by_hand(make_file(folder))
    print("Tasks:")
    run(main())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson7_exercise1(file, size): a generator that reads `size` bytes at a time from an open file, and gives its lines
#    one by one, without the b"\n". A file that ends without one has a last line all the same.
# 2. lesson7_exercise2(source, target, size): a task that copies the open file `source` to `target`, by Read and Write,
#    in pieces of `size` bytes at most; it returns how many bytes that were. Both files have no buffer.
# 3. lesson7_exercise3(function, paths): a task that calls `function(path)` for each path, each in a thread, all at
#    once, and returns the list of what came of it, in the order of `paths`.
