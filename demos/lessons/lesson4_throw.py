"""Lesson 4, exceptions go in: `throw` raises an exception at the suspended `yield`, and returns as `send` does.

Shows: an exception as a message, and the total that comes out in return; three common mistakes (a total that was never
set, the wrong coroutine, the old form of `throw`); an exception that ends a coroutine, and one after which it goes
on. Then tasks: if a syscall fails, the kernel throws its exception into the task that has yielded it.

Run it:    python demos/lessons/lesson4_throw.py
Watch it:  minisched run --trace demos/lessons/lesson4_throw.py
"""

from argparse import ArgumentParser

from minisched import ClosedError, Join, Queue, Sleep, Spawn, TimedOut, Timeout, Watcher, run
from minisched.testing import VirtualClock

# By hand.


def sum_coroutine():
    """Add up the numbers that are sent in; yield the total when a RuntimeError is thrown in."""
    total = 0
    try:
        while True:
            total += yield
    except RuntimeError as error:
        print(f"  received: {error}")
        yield total  # `throw` returns this value


def ask_for_the_total(coroutine):
    """Send 0 to 19, then throw; return the value that comes out. (For a missing indentation, see lesson 3.)

    The old form, throw(RuntimeError, "the end"), is deprecated since Python 3.12. Throw an exception object instead.
    """
    next(coroutine)
    for number in range(20):
        coroutine.send(number)
    return coroutine.throw(RuntimeError("the end"))


def throw_and_continue():
    """Throw, then continue: the `yield` after the exception is like any other, and after one more step it ends."""
    coroutine = sum_coroutine()
    print(f"  throw -> {ask_for_the_total(coroutine)}")
    print(f"  next  -> {next(coroutine, 'StopIteration')}")


def sum_without_a_beginning():
    """Forget `total = 0`: the assignment below makes `total` a local variable, and it has no value yet."""
    try:
        while True:
            number = yield
            total += number  # noqa: F821 (the mistake that is shown)
    except RuntimeError:
        yield total


def number_coroutine():
    """Print each number that is sent in. This coroutine does not catch RuntimeError."""
    while True:
        print(f" {(yield)}", end="")


def make_each_mistake():
    """Show what comes out instead of the total."""
    try:
        ask_for_the_total(sum_without_a_beginning())
    except UnboundLocalError as error:  # raised at the first `send`; the coroutine catches RuntimeError only
        print(f"  no initial total: {error}")
    coroutine = number_coroutine()  # where sum_coroutine() was meant
    print(" ", end="")
    try:
        ask_for_the_total(coroutine)
    except RuntimeError as error:
        print(f"\n  the wrong coroutine: no total, and `throw` raises {error!r}")
        print(f"  the exception has ended it: next -> {next(coroutine, 'StopIteration')}")


def patient():
    """Add up the numbers that are sent in, and go on after an exception: the `try` is inside the loop."""
    total = 0
    while True:
        try:
            total += yield total
        except ValueError as error:
            print(f"    {error}: nothing is added")


def go_on():
    """Throw between two sends: `throw` returns the value of the next `yield`, as `send` does."""
    coroutine = patient()
    print(f"  next  -> {next(coroutine)}")
    print(f"  send  -> {coroutine.send(5)}")
    print(f"  throw -> {coroutine.throw(ValueError('not a number'))}")
    print(f"  send  -> {coroutine.send(2)}")


def by_hand():
    """Call `throw` ourselves."""
    print("An exception goes in, the total comes out:")
    throw_and_continue()
    print("Two mistakes:")
    make_each_mistake()
    print("An exception after which the coroutine goes on:")
    go_on()


# The same as tasks. The exception of a syscall is thrown into the task that has yielded the syscall.


def sum_task(numbers):
    """Add up the numbers from a queue until ClosedError says that the queue is closed; return the total."""
    total = 0
    try:
        while True:
            total += yield numbers.get()
    except ClosedError as error:
        print(f"  received: {error}")
        return total


class Throws(Watcher):
    """Print when a turn is a call of `throw`, not of `send`."""

    def turn(self, task):
        if task.step == task.throw_in:
            print(f"  the kernel calls {task.name}.throw({type(task.sent[0]).__name__})")


def impatient():
    """Wait with a timeout of two seconds: Cancelled is thrown in, and TimedOut leaves the `with` block."""
    with (yield Timeout(2)):
        yield Sleep(60)


def main():
    """Close a queue for which a task waits; then join a task that fails."""
    numbers = Queue(name="of numbers")
    task = yield Spawn(sum_task(numbers))
    for number in range(20):
        yield numbers.put(number)
    yield  # give the task a turn to receive the last number
    numbers.close()
    print(f"  the total is {(yield Join(task))}")
    task = yield Spawn(impatient(), keep=True)  # keep: the failure is kept for our Join
    try:
        yield Join(task)
    except TimedOut as error:
        print(f"  received: {error}")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks, and the kernel that calls throw:")
    run(main(), clock=VirtualClock(), watch=[Throws()])

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson4_exercise1(): a sum_coroutine that yields the total for each number, as in lesson 2, and starts again from
#    0 when a ValueError is thrown in; `throw` then returns 0. Any other exception ends it.
# 2. lesson4_exercise2(make, attempts): a task that yields the syscall that `make()` returns, and returns its answer.
#    After an OSError it tries again with a new syscall, at most `attempts` times in all; the last OSError is raised.
# 3. lesson4_exercise3(*bodies): the scheduler of lesson 2 (`take_turns`). If a request raises an exception, throw it
#    into the body that has yielded the request. If the body then yields another request, handle it like any other.
