"""Lesson 4, exceptions go in: `throw` raises one at the `yield` where a coroutine stands, and returns as `send` does.

Shows: an exception as a message, and the total that comes out for it; three mistakes that are easily made with it (a
total that was never set, the wrong coroutine, the old form of `throw`); an exception that ends a coroutine, and
one after which it goes on. Then tasks, to which the kernel throws what went wrong with what they asked for.

Run it:    python demos/lessons/lesson4_throw.py
Watch it:  minisched run --trace demos/lessons/lesson4_throw.py
"""

from minisched import ClosedError, Join, Queue, Sleep, Spawn, TimedOut, Timeout, Watcher, run
from minisched.testing import VirtualClock

# By hand.


def sum_coroutine():
    """Add up what is sent in; give the total when a RuntimeError is thrown in."""
    total = 0
    try:
        while True:
            total += yield
    except RuntimeError as error:
        print(f"  told: {error}")
        yield total  # this is what `throw` returns


def ask_for_the_total(coroutine):
    """Send it 0 to 19, then throw; return what comes out. (An IndentationError would come first: see lesson 3.)

    Before Python 3.12 it was also written throw(RuntimeError, "the end"); that form is deprecated: throw an exception.
    """
    next(coroutine)
    for number in range(20):
        coroutine.send(number)
    return coroutine.throw(RuntimeError("the end"))


def and_then():
    """The `yield` after the exception is a stop as any other: one more step, and the coroutine has ended."""
    coroutine = sum_coroutine()
    print(f"  throw -> {ask_for_the_total(coroutine)}")
    print(f"  next  -> {next(coroutine, 'StopIteration')}")


def sum_without_a_beginning():
    """Forget `total = 0`. That `total` is assigned to makes it a local name, which has no value yet."""
    try:
        while True:
            number = yield
            total += number  # noqa: F821 (the mistake that is shown)
    except RuntimeError:
        yield total


def number_coroutine():
    """Print each number that is sent in. No RuntimeError is expected here."""
    while True:
        print(f" {(yield)}", end="")


def make_each_mistake():
    """What comes out, if not the total."""
    try:
        ask_for_the_total(sum_without_a_beginning())
    except UnboundLocalError as error:  # at the first `send`: it is no RuntimeError, and so nobody in there takes it
        print(f"  no beginning: {error}")
    coroutine = number_coroutine()  # where sum_coroutine() was meant
    print(" ", end="")
    try:
        ask_for_the_total(coroutine)
    except RuntimeError as error:
        print(f"\n  the wrong coroutine: it has no total, and {error!r} comes back from `throw`")
        print(f"  it has ended by that: next -> {next(coroutine, 'StopIteration')}")


def patient():
    """Add up what is sent in, and go on after an exception: the `try` is inside of the loop."""
    total = 0
    while True:
        try:
            total += yield total
        except ValueError as error:
            print(f"    {error}: nothing is added")


def go_on():
    """`throw` returns what the next `yield` gives, as `send` does."""
    coroutine = patient()
    print(f"  next  -> {next(coroutine)}")
    print(f"  send  -> {coroutine.send(5)}")
    print(f"  throw -> {coroutine.throw(ValueError('not a number'))}")
    print(f"  send  -> {coroutine.send(2)}")


def by_hand():
    """Be the one who throws."""
    print("A total for an exception:")
    and_then()
    print("Two mistakes:")
    make_each_mistake()
    print("An exception that is not the end:")
    go_on()


# The same as tasks. What a syscall raises is thrown into the task that has asked for it.


def sum_task(numbers):
    """Add up what comes by a queue until that is closed, which is told by an exception; return the total."""
    total = 0
    try:
        while True:
            total += yield numbers.get()
    except ClosedError as error:
        print(f"  told: {error}")
        return total


class Throws(Watcher):
    """Say when a turn is a call of `throw`, not of `send`."""

    def turn(self, task):
        if task.step == task.throw_in:
            print(f"  the kernel calls {task.name}.throw({type(task.value[0]).__name__})")


def impatient():
    """Wait for what never comes, for two seconds: one exception is thrown in, and another leaves the `with`."""
    with (yield Timeout(2)):
        yield Sleep(60)


def main():
    """Have ClosedError thrown into a task that waits; then be thrown the failure of another one."""
    numbers = Queue(name="of numbers")
    task = yield Spawn(sum_task(numbers))
    for number in range(20):
        yield numbers.put(number)
    yield  # the last one is on its way
    numbers.close()
    print(f"  the total is {(yield Join(task))}")
    task = yield Spawn(impatient(), keep=True)  # keep: its failure waits for our Join
    try:
        yield Join(task)
    except TimedOut as error:
        print(f"  told: {error}")


if __name__ == "__main__":
    by_hand()
    print("Tasks, and the kernel that throws:")
    run(main(), clock=VirtualClock(), watch=[Throws()])

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson4_exercise1(): a sum_coroutine that gives the total for each number, as in lesson 2, and begins again from 0
#    when a ValueError is thrown in: `throw` then returns 0. Any other exception ends it.
# 2. lesson4_exercise2(make, attempts): a task that yields the syscall which `make()` returns, and returns the answer.
#    On an OSError it tries again, with a new one, `attempts` times in all; the last OSError is raised.
# 3. lesson4_exercise3(*bodies): the scheduler of lesson 2 (`take_turns`), which throws what a request raises into the
#    body that has made it. The body's next request, if it goes on, is dealt with as any other.
