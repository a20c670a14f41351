"""Lesson 1, values go in: a coroutine waits at its `yield`, and `send` gives it a value.

Shows: calling a generator function creates a coroutine, but runs none of its code. `next` runs it to its first
`yield`, and each `send` continues from there. One call gives one run with several entry points; a run that has ended
cannot be restarted. Then a task, for which the scheduler calls `send`.

Run it:    python demos/lessons/lesson1_send.py
Watch it:  minisched run --trace demos/lessons/lesson1_send.py
"""

from argparse import ArgumentParser
from inspect import getgeneratorstate

from minisched import Queue, Spawn, Watcher, run

# By hand.


def number_coroutine():
    """Print each number that is sent in."""
    while True:
        number = yield
        print(f"  received {number}")


def begin():
    """Advance a coroutine to its first `yield`; before that, it cannot receive a value."""
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


def three_entry_points():
    """Can be entered at three places: at its beginning, and at each `yield`."""
    print("    entered at the beginning")
    first = yield
    print(f"    entered at the first yield, with {first}")
    second = yield
    print(f"    entered at the second yield, with {second}")


def enter_at_each_point():
    """Enter one run several times.

    People often say that the code of a coroutine runs several times. It runs once, and is entered several times.
    Between the entries it keeps its local variables and its position. To run it again, call the function again.
    """
    coroutine = three_entry_points()
    print(f"  position: line {line(coroutine)} of the function")
    for value in (None, "A"):
        coroutine.send(value)
        print(f"  position: line {line(coroutine)}")
    for value in ("B", "C"):
        try:
            coroutine.send(value)
        except StopIteration:
            print(f"  send({value!r}) raises StopIteration: {getgeneratorstate(coroutine)}")


def line(coroutine):
    """Return the line at which a coroutine is suspended, counted from its `def`, which is line 1."""
    return coroutine.gi_frame.f_lineno - coroutine.gi_code.co_firstlineno + 1


def by_hand():
    """Call `next` and `send` ourselves."""
    print("One coroutine, three numbers:")
    begin()
    print("One run, three entry points:")
    enter_at_each_point()


# The same as a task: now the kernel calls `send`.


def number_task(numbers):
    """Print each number from a queue. `yield numbers.get()` asks for a number, and the kernel sends the answer."""
    while True:
        number = yield numbers.get()
        print(f"  received {number}")


class Sends(Watcher):
    """Print what the kernel sends to one task, chosen by its name: a turn is a call of `send`."""

    def __init__(self, name):
        self.name = name

    def turn(self, task):
        if task.name == self.name and task.step == task.gen.send:
            print(f"  the kernel calls send({task.sent})")


def main():
    """Start the task, which needs no `next`, and put numbers into its queue."""
    numbers = Queue()
    yield Spawn(number_task(numbers), daemon=True)  # its loop is endless; a daemon is cancelled when main ends
    for number in (1, 2, 3):
        yield numbers.put(number)
    yield  # the last number is already queued: give the task a turn to receive it


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("A task, and the kernel that calls send:")
    run(main(), watch=[Sends("number_task")])

# Exercises. Write your functions into a file of your own, under the names given here, and check them:
#     python demos/lessons/checks.py FILE
# solutions.py has a solution for each exercise.
#
# 1. lesson1_exercise1(evens): a coroutine that appends each even number that it receives to the list `evens`.
# 2. lesson1_exercise2(function): a decorator for functions like `number_coroutine`. The decorated function returns
#    coroutines that are already at their first `yield`, so that no caller can forget `next`.
# 3. lesson1_exercise3(coroutines, values): start all coroutines, then send each value to all of them, in the order of
#    the list. When a coroutine ends, send nothing to it any more.
