"""Lesson 2, values come out: `next` and `send` return the value to the right of `yield`.

Shows: a coroutine that returns a total for each number. `send` returns the value of the *next* `yield`. A value that
comes out can be a request, and the value that goes in can be its answer. A scheduler needs no more than that: first a
scheduler of ten lines, then the real one.

Run it:    python demos/lessons/lesson2_yield.py
Watch it:  minisched run --trace demos/lessons/lesson2_yield.py
"""

from argparse import ArgumentParser
from collections import deque
from functools import partial

from minisched import Now, Queue, Sleep, Spawn, run
from minisched.testing import VirtualClock

# By hand.


def sum_coroutine():
    """Yield the total so far and receive the next number, again and again."""
    total = 0
    while True:
        number = yield total  # inside a larger expression `yield` needs parentheses: (yield total) + 1
        total += number


def add_up():
    """Print the totals: `next` returns the first one. Each `send` goes in at one `yield` and returns at the next."""
    coroutine = sum_coroutine()
    print(f"  next    -> {next(coroutine)}")
    for number in (1, 2, 3):
        print(f"  send({number}) -> {coroutine.send(number)}")


def sleeper():
    """Yield two requests. The body itself neither sleeps nor reads a clock."""
    yield Sleep(2)
    now = yield Now()
    print(f"  the task received: {now}")


def play_the_kernel():
    """Take the requests that come out of a task body, and send in any answers that we like."""
    body = sleeper()
    print(f"  its request: {next(body)}")
    print(f"  its request: {body.send(None)}")  # no time has passed, but the body cannot know that
    try:
        body.send("half past nine")
    except StopIteration:
        print("  the body has ended")


def take_turns(*bodies):
    """Run bodies in turn: a body yields a function, and receives its result at its next turn."""
    ready = deque((body, None) for body in bodies)
    while ready:
        body, answer = ready.popleft()
        try:
            request = body.send(answer)
        except StopIteration:
            continue
        ready.append((body, request()))


def buyer(name, shelf):
    """Take items from a shelf until the shelf is empty."""
    while (yield partial(len, shelf)):
        print(f"  {name} takes the {(yield shelf.pop)}")


def by_hand():
    """Call `send` ourselves and look at the values that come out."""
    print("A total for each number:")
    add_up()
    print("Requests come out, answers go in:")
    play_the_kernel()
    print("A scheduler in ten lines, and two tasks:")
    take_turns(buyer("Ada", ["pear", "apple", "plum"]), buyer("Grace", ["book"]))


# The same as tasks. A yielded value goes to the kernel; a value for another task goes through a queue.


def sum_task(numbers, totals):
    """Put a total into `totals` for each number from `numbers`, starting with 0."""
    total = 0
    while True:
        yield totals.put(total)
        total += yield numbers.get()


def main():
    """Do the same as `add_up` with another task; then let the kernel handle the requests of `sleeper`."""
    numbers, totals = Queue(), Queue()
    yield Spawn(sum_task(numbers, totals), daemon=True)
    print(f"  at first -> {(yield totals.get())}")
    for number in (1, 2, 3):
        yield numbers.put(number)
        print(f"  put({number})   -> {(yield totals.get())}")
    yield from sleeper()


if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks, and the kernel that answers (in virtual time, so nobody waits):")
    run(main(), clock=VirtualClock())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson2_exercise1(): a coroutine that yields the mean of all numbers that it has received; None before the first.
# 2. lesson2_exercise2(): a coroutine that yields the value that it received one `send` earlier: send(1) -> None,
#    send(2) -> 1, send(3) -> 2. `next` returns None, too.
# 3. lesson2_exercise3(calls): a task that yields each syscall of the list `calls`, in order, and returns the list of
#    the answers.
