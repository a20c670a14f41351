"""Lesson 6, the value at the end: write `return total`, not `raise StopIteration(total)`.

Shows: raising StopIteration in a generator has been a RuntimeError since Python 3.7; before that, it could hide a bug.
`return` is the way to raise StopIteration with a value. A generator whose inner `next` may lack an item catches
StopIteration and returns. Then tasks: the kernel catches StopIteration, and its value is the task's result.

Run it:    python demos/lessons/lesson6_return.py
Watch it:  minisched run --trace demos/lessons/lesson6_return.py
"""

from argparse import ArgumentParser

from minisched import InThread, Join, Queue, Spawn, run

# By hand.


def old_accumulate():
    """Add up the numbers that are sent in, until None is sent; then raise StopIteration, as in old Python code."""
    total = 0
    while (number := (yield)) is not None:
        total += number
    raise StopIteration(total)


def accumulate():
    """Add up the numbers that are sent in, until None is sent; return the total."""
    total = 0
    while (number := (yield)) is not None:
        total += number
    return total


def sum_coroutine(accumulate):
    """Print one total after the other."""
    while True:
        print(f"  the total is {(yield from accumulate())}")


def feed(coroutine):
    """Send 1 to 10, and 1 to 100, each followed by None."""
    next(coroutine)
    for most in (10, 100):
        for number in range(1, most + 1):
            coroutine.send(number)
        coroutine.send(None)


def raise_stop_iteration():
    """Show that a StopIteration that leaves a generator's body becomes a RuntimeError with the first as its cause."""
    try:
        feed(sum_coroutine(old_accumulate))
    except RuntimeError as error:
        print(f"  {error!r}, because of {error.__cause__!r}")


class Pairs:
    """Pairs of items, from an iterator without `yield`: its `__next__` raises StopIteration at the end."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items), next(self.items)  # if the second `next` has no item, the first item is lost


def pairs(items):
    """Yield pairs of items, with the same bug: an inner `next` raises StopIteration by accident."""
    items = iter(items)
    while True:
        yield next(items), next(items)


def show_the_reason():
    """Lose an item in two ways. PEP 479 (Chris Angelico and Guido van Rossum, 2014) has the reason for the change.

    An inner `next` without an item is an unexpected error. Up to Python 3.6 it looked like the normal end of the
    generator, so both versions behaved like the class.
    """
    print(f"  a class:             {list(Pairs('abcde'))}; the e is lost")
    items = []
    try:
        items.extend(pairs("abcde"))
    except RuntimeError as error:
        print(f"  a generator:         {items}, then {type(error).__name__}")


def whole_pairs(items):
    """Yield pairs of items, and handle a missing second item: end with `return`."""
    items = iter(items)
    for first in items:
        try:
            second = next(items)
        except StopIteration:
            print(f"  {first} is left over")
            return
        yield first, second


def show_return():
    """Show that `return total` ends a generator, and that Python then raises StopIteration(total) in `send`."""
    coroutine = accumulate()
    next(coroutine)
    coroutine.send(55)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        print(f"  send raises {stop!r}, its value is {stop.value}")


def by_hand():
    """Catch the StopIteration ourselves."""
    print("raise StopIteration(total):")
    raise_stop_iteration()
    print("Five letters in pairs:")
    show_the_reason()
    print(f"  the fixed generator: {list(whole_pairs('abcde'))}")
    print("return total:")
    show_return()
    feed(sum_coroutine(accumulate))


# The same as tasks.


def accumulate_task(numbers):
    """Add up the numbers from a queue until None comes; return the total, which is the task's result."""
    total = 0
    while (number := (yield numbers.get())) is not None:
        total += number
    return total


def old_task():
    """End as in old Python code."""
    yield
    raise StopIteration(55)


def main():
    """Join tasks that end in both ways; a StopIteration from a thread becomes a RuntimeError, too."""
    numbers = Queue()
    task = yield Spawn(accumulate_task(numbers))
    for number in (*range(1, 101), None):
        yield numbers.put(number)
    print(f"  Join -> {(yield Join(task))}")
    task = yield Spawn(old_task(), keep=True)
    for call in (Join(task), InThread(next, iter(()))):
        try:
            yield call
        except RuntimeError as error:
            print(f"  {type(call).__name__} raises {error!r}")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks:")
    run(main())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson6_exercise1(items): a generator that yields the items in pairs, and raises ValueError if one is left over.
# 2. lesson6_exercise2(generator): run a generator to its end, ignore the values it yields, and return its return value.
# 3. lesson6_exercise3(items, default): a coroutine. For each number that is sent in, it yields a list of that many
#    items. If too few items are left, it fills the list with `default`, yields it, and then returns how many items
#    there were in all.
