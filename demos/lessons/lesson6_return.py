"""Lesson 6, the value at the end: `return total`, and why it is not `raise StopIteration(total)`.

Shows: that this has been a RuntimeError since Python 3.7; what went wrong before, without a word; that `return` is
what makes the StopIteration, with the value in it; how to end where an inner `next` finds nothing more. Then tasks:
the kernel takes a StopIteration for the end, and its value for the result.

Run it:    python demos/lessons/lesson6_return.py
Watch it:  minisched run --trace demos/lessons/lesson6_return.py
"""

from minisched import InThread, Join, Queue, Spawn, run

# By hand.


def accumulate_as_before():
    """Add up what is sent in until that is None; then raise what `return` would raise: so it was written once."""
    total = 0
    while (number := (yield)) is not None:
        total += number
    raise StopIteration(total)


def accumulate():
    """Add up what is sent in until that is None; return the total."""
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
    """A StopIteration that would leave a generator's body becomes a RuntimeError there, with the first as its cause."""
    try:
        feed(sum_coroutine(accumulate_as_before))
    except RuntimeError as error:
        print(f"  {error!r}, because of {error.__cause__!r}")


class Pairs:
    """Items two by two, by an iterator without `yield`: it is `__next__` that raises StopIteration at the end."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items), next(self.items)  # if only the second one finds nothing, the first is lost


def pairs(items):
    """The same with `yield`, and the same fault: its StopIteration comes out of `next`, and was not meant as an end."""
    items = iter(items)
    while True:
        yield next(items), next(items)


def see_why():
    """Until Python 3.6 both ended like the first: PEP 479 (Chris Angelico and Guido van Rossum, 2014) is the reason.

    An inner `next` with nothing to give is an error that was not thought of. In a generator it looked like an end.
    """
    print(f"  by a class:    {list(Pairs('abcde'))}, and where is the e?")
    found = []
    try:
        found.extend(pairs("abcde"))
    except RuntimeError as error:
        print(f"  by `yield`:    {found}, then {error!r}")


def whole_pairs(items):
    """Say what shall be done where there is no second one: here, to end, by `return`."""
    items = iter(items)
    for first in items:
        try:
            second = next(items)
        except StopIteration:
            print(f"  {first} is left over")
            return
        yield first, second


def see_what_return_does():
    """`return total` ends a generator, and Python raises StopIteration(total) where `next` or `send` was called."""
    coroutine = accumulate()
    next(coroutine)
    coroutine.send(55)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        print(f"  out comes {stop!r}, its value is {stop.value}")


def by_hand():
    """Be the one who is told of the end."""
    print("raise StopIteration(total):")
    raise_stop_iteration()
    print("Five letters, two by two:")
    see_why()
    print(f"  by `return`:   {list(whole_pairs('abcde'))}")
    print("return total:")
    see_what_return_does()
    feed(sum_coroutine(accumulate))


# The same as tasks.


def accumulate_task(numbers):
    """Add up what comes by a queue until that is None; return the total, which is the task's result."""
    total = 0
    while (number := (yield numbers.get())) is not None:
        total += number
    return total


def task_as_before():
    """End as one did before."""
    yield
    raise StopIteration(55)


def main():
    """Join tasks that end in either way. What a thread raises is thrown into a task: a StopIteration must not be."""
    numbers = Queue()
    task = yield Spawn(accumulate_task(numbers))
    for number in (*range(1, 101), None):
        yield numbers.put(number)
    print(f"  Join -> {(yield Join(task))}")
    task = yield Spawn(task_as_before(), keep=True)
    for call in (Join(task), InThread(next, iter(()))):
        try:
            yield call
        except RuntimeError as error:
            print(f"  {type(call).__name__} raises {error!r}")


if __name__ == "__main__":
    by_hand()
    print("Tasks:")
    run(main())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson6_exercise1(items): a generator that gives the items two by two, and raises ValueError if one is left over.
# 2. lesson6_exercise2(generator): run a generator to its end (what it yields is dropped), and return what it returns.
# 3. lesson6_exercise3(items, default): a coroutine. For each number that is sent in, it gives that many items, as a
#    list; where there are not enough, it fills up with `default`, gives that list, and then returns how many items
#    there have been.
