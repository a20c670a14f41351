"""Lesson 5, coroutines in coroutines: `yield from` runs another coroutine and returns its return value.

Shows: a coroutine that computes a sum for another one; `yield from` written out by hand; `throw` and `close`, which
reach the innermost coroutine, too; a forgotten `from`. Then tasks: `yield from` waits for the result of a function,
Spawn and Join let functions run concurrently.

Run it:    python demos/lessons/lesson5_yield_from.py
Watch it:  minisched run --trace demos/lessons/lesson5_yield_from.py
"""

from argparse import ArgumentParser

from minisched import Join, Now, Queue, Sleep, Spawn, SyscallError, run
from minisched.testing import VirtualClock

# By hand.


def accumulate():
    """Add up the numbers that are sent in, until None is sent; return the total."""
    total = 0
    while (number := (yield)) is not None:
        total += number
    return total


def sum_coroutine():
    """Print one total after the other. The numbers go past this function: `yield from` sends them to `accumulate`."""
    while True:
        total = yield from accumulate()
        print(f"  the total is {total}")


def sum_written_out():
    """Do the same without `yield from`. (This version passes on `send` only, not `throw` and `close`.)

    PEP 380 (Greg Ewing, 2009) has the whole expansion, about forty lines.
    """
    while True:
        inner = accumulate()
        yielded = next(inner)
        while True:
            sent = yield yielded
            try:
                yielded = inner.send(sent)
            except StopIteration as stop:  # the inner coroutine has returned; the exception holds its return value
                total = stop.value
                break
        print(f"  the total is {total}")


def feed(coroutine):
    """Send 1 to 10, and 1 to 100, each followed by None."""
    next(coroutine)
    for most in (10, 100):
        for number in range(1, most + 1):
            coroutine.send(number)
        coroutine.send(None)


def innermost():
    """Print the exception that comes in, and a line at the end."""
    try:
        yield
    except ValueError as error:
        print(f"  inside: {error}")
        yield
    finally:
        print("  inside: the end")


def outermost():
    """Pass everything on to `innermost`."""
    yield from innermost()


def reach_the_innermost():
    """Throw into the outer coroutine and close it: both reach the inner one."""
    coroutine = outermost()
    next(coroutine)
    coroutine.throw(ValueError("thrown into the outer coroutine"))
    coroutine.close()


def forgetful():
    """Forget the `from`: the generator object itself comes out, and nothing runs it."""
    total = yield accumulate()
    print(f"  the total is {total!r}")


def forget_from():
    """Show the effect of a forgotten `from`: the next value that is sent in becomes the total."""
    coroutine = forgetful()
    print(f"  next returns a {type(next(coroutine)).__name__} object")
    try:
        coroutine.send(1)
    except StopIteration:
        pass


def by_hand():
    """Call `send` on the outermost coroutine."""
    print("Two sums by `yield from`:")
    feed(sum_coroutine())
    print("The same without `yield from`:")
    feed(sum_written_out())
    print("An exception and a close from outside:")
    reach_the_innermost()
    print("Without `from`:")
    forget_from()


# The same as tasks. The kernel sees the outermost generator only; syscalls pass through all generators in between.


def accumulate_task(numbers):
    """Add up the numbers from a queue until None comes; return the total. Tasks call this with `yield from`."""
    total = 0
    while (number := (yield numbers.get())) is not None:
        total += number
    return total


def sum_task(numbers):
    """Print two totals."""
    for _ in range(2):
        print(f"  the total is {(yield from accumulate_task(numbers))}")


def count_slowly(most):
    """Return a sum after a wait."""
    yield from Sleep(most / 10)  # a syscall can be yielded, yielded from, or awaited
    return sum(range(1, most + 1))


def one_after_the_other():
    """Call two functions, one after the other."""
    return (yield from count_slowly(10)), (yield from count_slowly(20))


def both_at_once():
    """Run both functions as tasks, then join them for their results."""
    first, second = (yield Spawn(count_slowly(10))), (yield Spawn(count_slowly(20)))
    return (yield Join(first)), (yield Join(second))


def main():
    """Feed a task; call two functions one after the other, then at once; forget a `from`."""
    numbers = Queue()
    task = yield Spawn(sum_task(numbers))
    for number in (*range(1, 11), None, *range(1, 101), None):
        yield numbers.put(number)
    yield Join(task)
    for function in (one_after_the_other, both_at_once):
        start = yield Now()
        totals = yield from function()
        print(f"  {function.__name__}: {totals} after {(yield Now()) - start:.0f} s")
    try:
        yield accumulate_task(numbers)
    except SyscallError as error:
        print(f"  without `from`: {error}")


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks:")
    run(main(), clock=VirtualClock())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson5_exercise1(): a coroutine that uses `accumulate` twice and returns both totals as a pair.
# 2. lesson5_exercise2(inner): do the same as `yield from inner`, but without `yield from`: for `next`, `send`, `throw`
#    and the return value. (An exception that is thrown in reaches `inner`; `throw` then returns what `inner` yields.)
# 3. lesson5_exercise3(tree): a tree is a list of numbers and trees. Yield each number in it, in order, and return how
#    many numbers there were.
# 4. lesson5_exercise4(bodies): a task that runs all the generators at once, each as a task of its own, and returns the
#    list of their return values, in the order of `bodies`.
