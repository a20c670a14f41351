"""Lesson 10, a run that happened once: the same answers of the world give the same run again.

Shows: a coroutine that asks for everything that it does not know; a list of the answers; a replay, and a program that
has changed. Then tasks: an update that was lost because of threads, recorded once, and replayed without threads.

Run it:    python demos/lessons/lesson10_recording.py
Watch it:  minisched run --trace demos/lessons/lesson10_recording.py
"""

from argparse import ArgumentParser
from pathlib import Path
from random import randint
from tempfile import TemporaryDirectory
from threading import Event

from minisched import InThread, Listen, gather, run
from minisched.lab import Diverged, record, replay
from minisched.testing import VirtualClock

# By hand.


def walk(length):
    """Roll dice until the way is done; return the number of rolls. A roll is a question."""
    rolls = 0
    while length > 0:
        length -= yield "roll"
        rolls += 1
    return rolls


def recorded(coroutine, answer):
    """Run a coroutine by asking the world; return its result, and the list of all questions and answers."""
    tape, sent = [], None
    while True:
        try:
            question = coroutine.send(sent)
        except StopIteration as end:
            return end.value, tape
        sent = answer(question)
        tape.append((question, sent))


def replayed(coroutine, tape):
    """Run a coroutine with recorded answers; ValueError if it asks anything else."""
    sent = None
    for number, (question, answer) in enumerate([*tape, ("nothing", None)], 1):
        try:
            asked = coroutine.send(sent)
        except StopIteration as end:
            return end.value
        if asked != question:
            raise ValueError(f"question {number} was {question!r}, and now it is {asked!r}")
        sent = answer


def greedy_walk(length):
    """Walk as before, but ask whether there is a bus first."""
    if (yield "bus?"):
        return 0
    return (yield from walk(length))


def by_hand():
    """Record a walk with real dice, and replay it."""
    print("A walk that nobody can repeat, with dice:")
    rolls, tape = recorded(walk(20), lambda question: randint(1, 6))
    print(f"  the recording has an answer for each roll: {len(tape) == rolls}")
    print(f"  the replay has as many rolls: {replayed(walk(20), tape) == rolls}")
    print("A program that has changed:")
    try:
        replayed(greedy_walk(20), tape)
    except ValueError as error:
        print(f"  {error}")


# The same as tasks. The questions are those of the event loop: the time, the bytes of a socket, the answer of a thread.


class Counter:
    """A counter in a database, whose answers come from threads: here, the first task gets its answer last."""

    def __init__(self):
        self.value = 0
        self.log = []
        self.second_has_written = Event()

    def add(self, name, work):
        """Add 1, in three steps; the second one is a call in a thread."""
        value = self.value
        self.log.append(f"{name} has read {value}")
        yield InThread(work)
        self.value = value + 1
        self.log.append(f"{name} writes {self.value}")

    def both(self):
        """Let two tasks add 1; return the value."""
        go = self.second_has_written
        yield from gather(self.add("first", go.wait), self.add("second", go.set))
        return self.value


def recorded_run():
    """Record a run with threads; replay it, and read its log."""
    with TemporaryDirectory() as folder:
        tape = Path(folder, "run.jsonl")
        value = record(Counter().both(), tape)
        print(f"A run that has lost an update: the counter is {value}")
        again = Counter()
        print("The replay, without threads:")
        print(f"  the counter is {replay(again.both(), tape)} again")
        print(f"  the call in the thread was made: {again.second_has_written.is_set()}")
        for line in again.log:
            print(f"  {line}")
        print("The replay of a program with another question:")
        try:
            replay(opens_a_port(), tape)
        except Diverged as error:
            print(f"  {type(error).__name__}, in {str(error).rpartition(' in ')[2]}")


def opens_a_port():
    """Ask the network first, which the recorded run has not done."""
    with (yield Listen(("127.0.0.1", 0))):
        return (yield from Counter().both())


def main():
    """Add 1 in one task after the other: each waits for its thread, and no update is lost."""
    counter = Counter()
    for name in ("first", "second"):
        yield from counter.add(name, int)
    for line in counter.log:
        print(f"  {line}")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    recorded_run()
    print("Tasks:")
    run(main(), clock=VirtualClock())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson10_exercise1(make, answer): `make()` returns a fresh coroutine that yields questions. Run it, with
#    `answer(question)` for each; then run a second one with the same answers. Return whether both have asked the same
#    questions and returned the same value.
# 2. lesson10_exercise2(make, tape): return the number of the first question that is not the one in `tape`, a list of
#    pairs (question, answer), from 1; None if the coroutine has asked all of them and no other. One question too few
#    or too many differs, too.
# 3. lesson10_exercise3(make, path): record the run of `make()`, a task, into the file `path`, and replay it with
#    another `make()`. Return both results as a pair.
