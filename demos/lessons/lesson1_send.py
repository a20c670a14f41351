"""Lesson 1, values go in: a coroutine waits at its `yield`, and `send` hands it what it waits for.

Shows: a call makes a coroutine and runs nothing of it; `next` takes it to its first `yield`; each `send` goes
on from where it stands; there is one run, with several ways in, and when that is over, it is over. Then a task,
whose `send` is called by the scheduler.

Run it:    python demos/lessons/lesson1_send.py
Watch it:  minisched run --trace demos/lessons/lesson1_send.py
"""

from inspect import getgeneratorstate

from minisched import Queue, Spawn, Watcher, run

# By hand.


def number_coroutine():
    """Say each number that is sent in."""
    while True:
        number = yield
        print(f"  received {number}")


def begin():
    """A coroutine has to be taken to its first `yield` before anything can be sent to it."""
    coroutine = number_coroutine()
    print(f"  called: {getgeneratorstate(coroutine)}")
    try:
        coroutine.send(1)
    except TypeError as error:
        print(f"  too early: {error}")
    next(coroutine)  # the same as coroutine.send(None)
    print(f"  after next: {getgeneratorstate(coroutine)}")
    for number in (1, 2, 3):
        coroutine.send(number)


def three_doors():
    """Have three places at which it can be entered: its beginning, and each `yield`."""
    print("    in by the first door")
    first = yield
    print(f"    in by the second, with {first}")
    second = yield
    print(f"    in by the third, with {second}")


def enter_by_each_door():
    """It is often said that a coroutine's code runs several times. It runs once, and is entered several times.

    Its locals, and the place at which it stands, are kept in between. To run it again is to call the function again.
    """
    coroutine = three_doors()
    print(f"  it stands at line {line(coroutine)} of the function")
    for value in (None, "A"):
        coroutine.send(value)
        print(f"  it stands at line {line(coroutine)}")
    for value in ("B", "C"):
        try:
            coroutine.send(value)
        except StopIteration:
            print(f"  {value!r} ends with StopIteration: {getgeneratorstate(coroutine)}")


def line(coroutine):
    """Return the line at which a coroutine stands, counted from its `def`, which is line 1."""
    return coroutine.gi_frame.f_lineno - coroutine.gi_code.co_firstlineno + 1


def by_hand():
    """Be the one who sends."""
    print("One coroutine, three numbers:")
    begin()
    print("One run, three ways in:")
    enter_by_each_door()


# The same as a task: now the kernel sends.


def number_task(numbers):
    """Say each number that comes by a queue. `yield numbers.get()` asks for it, and the answer is sent in."""
    while True:
        number = yield numbers.get()
        print(f"  received {number}")


class Sends(Watcher):
    """Say what the kernel sends to the task of that name: a turn is a call of `send`."""

    def __init__(self, name):
        self.name = name

    def turn(self, task):
        if task.name == self.name and task.step == task.gen.send:
            print(f"  the kernel calls send({task.value})")


def main():
    """Start the task, which needs no `next` of ours, and put numbers into its queue."""
    numbers = Queue()
    yield Spawn(number_task(numbers), daemon=True)  # a daemon: it is ended when main is, as its loop has no end
    for number in (1, 2, 3):
        yield numbers.put(number)
    yield  # the last number is on its way: let the task have its turn


if __name__ == "__main__":
    by_hand()
    print("A task, and the kernel that sends:")
    run(main(), watch=[Sends("number_task")])

# Exercises. Write each in a file of your own, under the name given here, and have it checked:
#     python demos/lessons/checks.py FILE
# A solution of each stands in solutions.py.
#
# 1. lesson1_exercise1(evens): a coroutine that appends each even number that is sent in to the list `evens`.
# 2. lesson1_exercise2(function): a decorator for functions like `number_coroutine`: what it returns makes
#    coroutines that stand at their first `yield` already, so that nobody can forget `next`.
# 3. lesson1_exercise3(coroutines, values): start each coroutine, then send each value to every one of them, in
#    their order. Those that have ended are left out from then on, and nothing is sent to them again.
