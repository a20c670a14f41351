"""Solutions of the exercises of the lessons, one function for each.

Shows: one possible solution of each exercise. Try to write your own first; checks.py says whether it is right.

Run it:    python demos/lessons/solutions.py    (this checks all of them)
"""

import sys
from argparse import ArgumentParser
from collections import deque
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from math import factorial, inf

from checks import check_all
from lesson5_yield_from import accumulate
from lesson9_schedules import orders
from lesson10_recording import recorded

from minisched import Cancelled, InThread, Join, MoveOnAfter, Read, Shield, Sleep, Spawn, Write, gather
from minisched.lab import record, replay


def lesson1_exercise1(evens):
    """Collect the even numbers."""
    while True:
        number = yield
        if number % 2 == 0:
            evens.append(number)


def lesson1_exercise2(function):
    """Return a function that starts its coroutines (David Beazley, "A Curious Course on Coroutines", 2009)."""

    @wraps(function)
    def start(*args, **keywords):
        coroutine = function(*args, **keywords)
        next(coroutine)
        return coroutine

    return start


def lesson1_exercise3(coroutines, values):
    """Send each value to the coroutines that are still alive."""
    alive = [coroutine for coroutine in coroutines if survives(coroutine, None)]
    for value in values:
        alive = [coroutine for coroutine in alive if survives(coroutine, value)]


def survives(coroutine, value):
    """Send a value; return whether the coroutine waits for another one."""
    try:
        coroutine.send(value)
    except StopIteration:
        return False
    return True


def lesson2_exercise1():
    """Yield the mean."""
    mean, count, total = None, 0, 0
    while True:
        total += yield mean
        count += 1
        mean = total / count


def lesson2_exercise2():
    """Yield the value before the latest. Python evaluates the right side of `=` from left to right."""
    before = latest = None
    while True:
        before, latest = latest, (yield before)


def lesson2_exercise3(calls):
    """Yield one syscall after the other."""
    answers = []
    for call in calls:
        answers.append((yield call))
    return answers


def lesson3_exercise1(log):
    """Handle GeneratorExit only: a `finally` would run after other exceptions, too."""
    try:
        while True:
            log.append((yield))
    except GeneratorExit:
        log.append("closed")
        raise


@contextmanager
def lesson3_exercise2(coroutine):
    """Start the coroutine, and close it at the end. (This function is a generator itself: its `yield` is the block.)"""
    next(coroutine)
    try:
        yield coroutine
    finally:
        coroutine.close()


def lesson3_exercise3(log):
    """Wait in the cleanup, under a Shield."""
    try:
        yield Sleep(inf)
    except Cancelled:
        with (yield Shield(10)):
            yield Sleep(2)
            log.append("bye")
        raise


def lesson4_exercise1():
    """Start again from 0 after a ValueError."""
    total = 0
    while True:
        try:
            total += yield total
        except ValueError:
            total = 0


def lesson4_exercise2(make, attempts):
    """Catch the OSErrors of all attempts but the last."""
    for _ in range(attempts - 1):
        try:
            return (yield make())
        except OSError:
            pass
    return (yield make())


def lesson4_exercise3(*bodies):
    """Store the next step of each body, `send` or `throw`, in the queue. minisched's kernel does the same."""
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
    """Pass on each value with `send`, each exception with `throw`."""
    step, value = inner.send, None
    while True:
        try:
            yielded = step(value)
        except StopIteration as stop:
            return stop.value
        try:
            step, value = inner.send, (yield yielded)
        except Exception as error:
            step, value = inner.throw, error


def lesson5_exercise3(tree):
    """Yield the numbers of an inner tree with `yield from`, which returns their count."""
    count = 0
    for item in tree:
        if isinstance(item, list):
            count += yield from lesson5_exercise3(item)
        else:
            yield item
            count += 1
    return count


def lesson5_exercise4(bodies):
    """Spawn all tasks before joining the first. (`gather` does the same.)"""
    tasks, results = [], []
    for body in bodies:
        tasks.append((yield Spawn(body)))
    for task in tasks:
        results.append((yield Join(task)))
    return results


def lesson6_exercise1(items):
    """Raise a ValueError in place of the StopIteration."""
    items = iter(items)
    for first in items:
        try:
            second = next(items)
        except StopIteration:
            raise ValueError(f"{first!r} is left over") from None
        yield first, second


def lesson6_exercise2(generator):
    """Call `next` until StopIteration brings the return value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def lesson6_exercise3(items, default):
    """Take as many items as asked for. (`islice` returns fewer items at the end, without an exception.)"""
    items, count, taken = iter(items), 0, None
    while True:
        wanted = yield taken
        taken = list(islice(items, wanted))
        count += len(taken)
        if len(taken) < wanted:
            yield taken + [default] * (wanted - len(taken))
            return count


def lesson7_exercise1(file, size):
    """Keep an incomplete line until the rest comes."""
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
    """Run a task for each path, which waits for its thread."""

    def call(path):
        return (yield InThread(function, path))

    return (yield from gather(*map(call, paths)))


def lesson8_exercise1():
    """Answer complete lines only."""
    rest, answer = b"", b""
    while True:
        rest += yield answer
        *lines, rest = rest.split(b"\n")
        answer = b"".join(line.upper() + b"\n" for line in lines)


def lesson8_exercise2(conn, lines):
    """Read until the answer is complete."""
    answers = []
    for line in lines:
        yield Write(conn, line + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += yield Read(conn, 4096)
        answers.append(answer.removesuffix(b"\n"))
    return answers


def lesson8_exercise3(conn, seconds):
    """Set a timeout for each read, not for the whole task."""
    count = 0
    while True:
        data = b""
        with (yield MoveOnAfter(seconds)):
            data = yield Read(conn, 4096)
        if not data:
            return count
        count += yield Write(conn, data)


def lesson9_exercise1(turns):
    """Divide all orders of all turns by those of the turns of each coroutine."""
    orders = factorial(sum(turns))
    for own in turns:
        orders //= factorial(own)
    return orders


def lesson9_exercise2(make, left):
    """Take an order of turns after the other, each with fresh coroutines."""
    results = set()
    for order in orders(left):
        bodies, result = make()
        for body in order:
            next(bodies[body], None)
        results.add(result())
    return results


def lesson9_exercise3(account, amount):
    """Hold the lock from the look to the change."""
    with (yield account.lock.acquire()):
        balance = account.balance
        yield
        if balance < amount:
            return False
        account.balance = balance - amount
        return True


def lesson10_exercise1(make, answer):
    """Answer the questions of the second run from the recording of the first one."""
    result, tape = recorded(make(), answer)
    left = iter(tape)

    def repeat(question):
        asked, sent = next(left, (None, None))
        if asked != question:
            raise ValueError(question)
        return sent

    try:
        return (result, tape) == recorded(make(), repeat)
    except ValueError:
        return False


def lesson10_exercise2(make, tape):
    """Compare each question; at the end of the coroutine, all of the tape has to be used."""
    coroutine, sent = make(), None
    for number, (question, answer) in enumerate(tape, 1):
        try:
            if coroutine.send(sent) != question:
                return number
        except StopIteration:
            return number
        sent = answer
    try:
        coroutine.send(sent)
    except StopIteration:
        return None
    return len(tape) + 1


def lesson10_exercise3(make, path):
    """Make a fresh task for each run."""
    return record(make(), path), replay(make(), path)


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    sys.exit(check_all(globals()))
