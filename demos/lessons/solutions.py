"""Solutions of the exercises that the lessons end with, one function for each.

Shows: one way of doing each of them. Try it yourself first: checks.py says whether yours is right, too.

Run it:    python demos/lessons/solutions.py    (it checks all of them)
"""

import sys
from collections import deque
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from math import inf

from checks import check_all
from lesson5_yield_from import accumulate

from minisched import Cancelled, InThread, Join, MoveOnAfter, Read, Shield, Sleep, Spawn, Write, gather


def lesson1_exercise1(evens):
    """Collect the even numbers."""
    while True:
        number = yield
        if number % 2 == 0:
            evens.append(number)


def lesson1_exercise2(function):
    """Make coroutines that have begun already (David Beazley, "A Curious Course on Coroutines", 2009)."""

    @wraps(function)
    def begun(*args, **keywords):
        coroutine = function(*args, **keywords)
        next(coroutine)
        return coroutine

    return begun


def lesson1_exercise3(coroutines, values):
    """Send each value to all that are left."""
    left = [coroutine for coroutine in coroutines if goes_on(coroutine, None)]
    for value in values:
        left = [coroutine for coroutine in left if goes_on(coroutine, value)]


def goes_on(coroutine, value):
    """Send a value; return whether there is a `yield` for the next one."""
    try:
        coroutine.send(value)
    except StopIteration:
        return False
    return True


def lesson2_exercise1():
    """Give the mean."""
    mean, count, total = None, 0, 0
    while True:
        total += yield mean
        count += 1
        mean = total / count


def lesson2_exercise2():
    """Give what came the time before. What stands to the right of `=` is looked at from left to right."""
    before = latest = None
    while True:
        before, latest = latest, (yield before)


def lesson2_exercise3(calls):
    """Ask one after the other."""
    answers = []
    for call in calls:
        answers.append((yield call))
    return answers


def lesson3_exercise1(log):
    """Tell a close from an exception: a `finally` could not."""
    try:
        while True:
            log.append((yield))
    except GeneratorExit:
        log.append("closed")
        raise


@contextmanager
def lesson3_exercise2(coroutine):
    """Begin, and close in the end. (This is a generator itself: its `yield` is the block.)"""
    next(coroutine)
    try:
        yield coroutine
    finally:
        coroutine.close()


def lesson3_exercise3(log):
    """Wait in the cleanup, too."""
    try:
        yield Sleep(inf)
    except Cancelled:
        with (yield Shield(10)):
            yield Sleep(2)
            log.append("bye")
        raise


def lesson4_exercise1():
    """Begin again from 0 after a ValueError."""
    total = 0
    while True:
        try:
            total += yield total
        except ValueError:
            total = 0


def lesson4_exercise2(make, attempts):
    """Try again, but for the last time."""
    for _ in range(attempts - 1):
        try:
            return (yield make())
        except OSError:
            pass
    return (yield make())


def lesson4_exercise3(*bodies):
    """Keep for each body what its next turn is, `send` or `throw`. The kernel does so, too: see `step` in tree.py."""
    ready = deque((body, body.send, None) for body in bodies)
    while ready:
        body, step, value = ready.popleft()
        try:
            request = step(value)
        except StopIteration:
            continue
        try:
            ready.append((body, body.send, request()))
        except Exception as error:
            ready.append((body, body.throw, error))


def lesson5_exercise1():
    """Return two totals."""
    return (yield from accumulate()), (yield from accumulate())


def lesson5_exercise2(inner):
    """Pass on what comes in, by the same door."""
    step, value = inner.send, None
    while True:
        try:
            given = step(value)
        except StopIteration as stop:
            return stop.value
        try:
            step, value = inner.send, (yield given)
        except Exception as error:
            step, value = inner.throw, error


def lesson5_exercise3(tree):
    """Give the numbers of a tree within as one's own."""
    count = 0
    for item in tree:
        if isinstance(item, list):
            count += yield from lesson5_exercise3(item)
        else:
            yield item
            count += 1
    return count


def lesson5_exercise4(bodies):
    """Spawn all before the first is joined. (`gather` does this.)"""
    tasks, results = [], []
    for body in bodies:
        tasks.append((yield Spawn(body)))
    for task in tasks:
        results.append((yield Join(task)))
    return results


def lesson6_exercise1(items):
    """Say what is missing in words of one's own."""
    items = iter(items)
    for first in items:
        try:
            second = next(items)
        except StopIteration:
            raise ValueError(f"{first!r} is left over") from None
        yield first, second


def lesson6_exercise2(generator):
    """Go on until StopIteration brings the value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def lesson6_exercise3(items, default):
    """Give so many at a time. (`islice` ends early in silence, and raises nothing.)"""
    items, count, given = iter(items), 0, None
    while True:
        wanted = yield given
        given = list(islice(items, wanted))
        count += len(given)
        if len(given) < wanted:
            yield given + [default] * (wanted - len(given))
            return count


def lesson7_exercise1(file, size):
    """Keep the beginning of a line until its end comes."""
    rest = b""
    while chunk := file.read(size):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def lesson7_exercise2(source, target, size):
    """Copy piece by piece."""
    copied = 0
    while data := (yield Read(source, size)):
        copied += yield Write(target, data)
    return copied


def lesson7_exercise3(function, paths):
    """A thread for each, and a task that waits for it."""

    def call(path):
        return (yield InThread(function, path))

    return (yield from gather(*map(call, paths)))


def lesson8_exercise1():
    """Answer the lines that are whole."""
    rest, answer = b"", b""
    while True:
        rest += yield answer
        *lines, rest = rest.split(b"\n")
        answer = b"".join(line.upper() + b"\n" for line in lines)


def lesson8_exercise2(conn, lines):
    """Read on until the answer is whole."""
    answers = []
    for line in lines:
        yield Write(conn, line + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += yield Read(conn, 4096)
        answers.append(answer.removesuffix(b"\n"))
    return answers


def lesson8_exercise3(conn, seconds):
    """Limit each wait, not the whole."""
    count = 0
    while True:
        data = b""
        with (yield MoveOnAfter(seconds)):
            data = yield Read(conn, 4096)
        if not data:
            return count
        count += yield Write(conn, data)


if __name__ == "__main__":
    sys.exit(check_all(globals()))
