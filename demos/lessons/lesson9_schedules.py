"""Lesson 9, which schedules are there? Two tasks take turns in many orders, and a mistake may show in one of them only.

Shows: all orders of the turns of two coroutines, and the results; a lost update. Then tasks: `explore` tries other
orders than round robin until one fails, makes that one as short as it can, and runs it again; a lock, and the proof.

Run it:    python demos/lessons/lesson9_schedules.py
Watch it:  minisched run --trace demos/lessons/lesson9_schedules.py
"""

from argparse import ArgumentParser

from minisched import Lock, run
from minisched.lab import Shared, explore, together
from minisched.testing import VirtualClock

# By hand.


def add(counter):
    """Add 1 in two turns: the first reads the value, the second writes it."""
    value = counter["value"]
    yield
    counter["value"] = value + 1


def orders(left):
    """Yield all orders in which coroutines can take their turns; `left` has the number of turns of each."""
    if not any(left):
        yield ()
    for body, turns in enumerate(left):
        if turns:
            for order in orders([*left[:body], turns - 1, *left[body + 1 :]]):
                yield (body, *order)


def run_in(order):
    """Run two coroutines in this order of turns; return the value of their counter."""
    counter = {"value": 0}
    bodies = add(counter), add(counter)
    for body in order:
        next(bodies[body], None)  # None in place of StopIteration
    return counter["value"]


def by_hand():
    """Try all orders, and count how many there would be of more tasks."""
    print("Two coroutines that add 1, in each order of their turns:")
    for order in orders([2, 2]):
        print(f"  {' '.join('ab'[body] for body in order)}: the counter is {run_in(order)}")
    print("The number of orders:")
    for tasks in (2, 3, 4):
        print(f"  of {tasks} coroutines with 2 turns each: {sum(1 for _ in orders([2] * tasks))}")


# The same as tasks, for `explore`. Each call returns a fresh program, and a function that checks its result.


def counting(lock=None):
    """Return a program of two tasks that add 1. The second begins later, so that round robin is right."""
    counter = Shared(value=0)

    def add(late):
        for _ in range(late):
            yield
        if lock is None:
            yield from read_and_write()
        else:
            with (yield lock.acquire()):
                yield from read_and_write()

    def read_and_write():
        value = counter.value
        yield
        counter.value = value + 1

    def both():
        yield from together(add(0), add(2))

    def check():
        assert counter.value == 2, f"the counter is {counter.value}"

    return both(), check


def explored():
    """Find the order that loses an update, run it again, and prove that a lock is enough."""
    print("Schedules that differ, until one fails:")
    found = explore(counting, exhaustive=True)
    print(f"  run {found.runs} fails with schedule {found.schedule!r}: {found.error}")
    print("The same schedule again, a row for each turn:")
    for line in found.lanes():
        print(f"  {line}".rstrip())
    print("With a lock:")
    proof = explore(lambda: counting(Lock()), exhaustive=True)
    print(f"  {proof.runs - proof.cut_short} schedules differ, and none fails: {proof.exhausted}")


def main():
    """Run the program in round robin: nothing is wrong there."""
    program, check = counting()
    yield from program
    check()
    print("  round robin does not show the mistake")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    explored()
    print("Tasks:")
    run(main(), clock=VirtualClock())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson9_exercise1(turns): the number of orders in which coroutines can take their turns, if `turns` is the list of
#    the numbers of turns. It has to be quick for [10, 10, 10], which has 5,550,996,791,340 orders.
# 2. lesson9_exercise2(make, left): `make()` returns a list of fresh coroutines, and a function without arguments. Run
#    the coroutines in each order (`left` has their turns) and return the set of what the function returns at the end.
# 3. lesson9_exercise3(account, amount): a task that takes `amount` from `account.balance` and returns True, unless the
#    balance is too small: then it returns False. Between the look and the change, there has to be a bare `yield`, as
#    if a database was asked; `account.lock` is a Lock. No order of turns may make the balance negative.
