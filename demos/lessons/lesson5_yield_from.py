"""Lesson 5, coroutines in coroutines: `yield from` passes everything on to another one, and returns what that returns.

Shows: a sum that one coroutine makes for another; what `yield from` is, written out; that `throw` and `close` reach
the innermost one, too; the `from` that was forgotten. Then tasks: `yield from` for what has to be done first,
Spawn and Join for what can go on beside.

Run it:    python demos/lessons/lesson5_yield_from.py
Watch it:  minisched run --trace demos/lessons/lesson5_yield_from.py
"""

from minisched import Join, Now, Queue, Sleep, Spawn, SyscallError, run
from minisched.testing import VirtualClock

# By hand.


def accumulate():
    """Add up what is sent in until that is None; return the total."""
    total = 0
    while (number := (yield)) is not None:
        total += number
    return total


def sum_coroutine():
    """Print one total after the other. It never sees a number: `yield from` lets them through to `accumulate`."""
    while True:
        total = yield from accumulate()
        print(f"  the total is {total}")


def sum_written_out():
    """Do the same without `yield from`: what that does, but for `throw` and `close`, which it passes on as well.

    In full it is some forty lines: PEP 380 (Greg Ewing, 2009) has them.
    """
    while True:
        inner = accumulate()
        given = next(inner)
        while True:
            sent = yield given
            try:
                given = inner.send(sent)
            except StopIteration as stop:  # it has returned, and this is how one is told of what
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
    """Say what comes in."""
    try:
        yield
    except ValueError as error:
        print(f"  inside: {error}")
        yield
    finally:
        print("  inside: the end")


def outermost():
    """Pass everything on."""
    yield from innermost()


def reach_the_innermost():
    """What is done to the outer one is done to the one within."""
    coroutine = outermost()
    next(coroutine)
    coroutine.throw(ValueError("thrown into the outer one"))
    coroutine.close()


def forgetful():
    """Forget the `from`: the generator itself comes out, and nobody runs it."""
    total = yield accumulate()
    print(f"  and the total is {total!r}")


def forget_from():
    """Whatever is sent in at that `yield` is then taken for the total."""
    coroutine = forgetful()
    print(f"  out comes a {type(next(coroutine)).__name__}")
    try:
        coroutine.send(1)
    except StopIteration:
        pass


def by_hand():
    """Be the one who sends, far outside."""
    print("Two sums by `yield from`:")
    feed(sum_coroutine())
    print("The same, written out:")
    feed(sum_written_out())
    print("An exception and an end, from far outside:")
    reach_the_innermost()
    print("Without `from`:")
    forget_from()


# The same as tasks. The kernel has the outermost generator alone: syscalls come out through all that are between.


def accumulate_task(numbers):
    """Add up what comes by a queue until that is None; return the total. A function as any other: others call it."""
    total = 0
    while (number := (yield numbers.get())) is not None:
        total += number
    return total


def sum_task(numbers):
    """Print two totals."""
    for _ in range(2):
        print(f"  the total is {(yield from accumulate_task(numbers))}")


def count_slowly(most):
    """Return a sum for which something has to be waited for."""
    yield from Sleep(most / 10)  # a syscall passes itself on to whoever writes `yield from`, or `await`
    return sum(range(1, most + 1))


def first_one_then_the_other():
    """Wait where it stands: a call, as of a function."""
    return (yield from count_slowly(10)), (yield from count_slowly(20))


def both_at_once():
    """Let two tasks wait, and then ask what they have returned."""
    one, other = (yield Spawn(count_slowly(10))), (yield Spawn(count_slowly(20)))
    return (yield Join(one)), (yield Join(other))


def main():
    """Feed a task; do two things one after the other, then at once; forget the `from`."""
    numbers = Queue()
    task = yield Spawn(sum_task(numbers))
    for number in (*range(1, 11), None, *range(1, 101), None):
        yield numbers.put(number)
    yield Join(task)
    for way in (first_one_then_the_other, both_at_once):
        begun = yield Now()
        totals = yield from way()
        print(f"  {way.__name__}: {totals} after {(yield Now()) - begun:.0f} s")
    try:
        yield accumulate_task(numbers)
    except SyscallError as error:
        print(f"  without `from`: {error}")


if __name__ == "__main__":
    by_hand()
    print("Tasks:")
    run(main(), clock=VirtualClock())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson5_exercise1(): a coroutine that uses `accumulate` twice, and returns both totals as a pair.
# 2. lesson5_exercise2(inner): `yield from inner`, written out for `next`, `send` and `throw`, with its return value.
#    (An exception that is thrown in reaches `inner`; what `inner` gives then comes out of `throw`.)
# 3. lesson5_exercise3(tree): a tree is a list of numbers and trees. Give each number in it, in order, and return how
#    many there were.
# 4. lesson5_exercise4(bodies): a task that runs each of the generators as a task of its own, all at once, and returns
#    the list of what they have returned, in the order of `bodies`.
