"""Lesson 2, values come out: what stands to the right of `yield` is what `next` and `send` return.

Shows: a coroutine that gives a total for each number; that `send` returns what the *next* `yield` gives; that the
value which comes out can be a request, and the one which goes in its answer. That is all that a scheduler
needs: one of ten lines, then the real one.

Run it:    python demos/lessons/lesson2_yield.py
Watch it:  minisched run --trace demos/lessons/lesson2_yield.py
"""

from collections import deque
from functools import partial

from minisched import Now, Queue, Sleep, Spawn, run
from minisched.testing import VirtualClock

# By hand.


def sum_coroutine():
    """Give the total so far, and take the next number; again and again."""
    total = 0
    while True:
        number = yield total  # here, at the `=`, no parentheses are needed; within more they are: (yield total) + 1
        total += number


def add_up():
    """`next` brings the first total. Each `send` goes in at one `yield`, and comes out at the next."""
    coroutine = sum_coroutine()
    print(f"  next    -> {next(coroutine)}")
    for number in (1, 2, 3):
        print(f"  send({number}) -> {coroutine.send(number)}")


def sleeper():
    """Ask for two things, by what is yielded. It does nothing itself: somebody has to."""
    yield Sleep(2)
    now = yield Now()
    print(f"  the task was told: {now}")


def be_the_kernel():
    """Anybody can play the kernel for a task: take what comes out, and send in whatever the answer shall be."""
    body = sleeper()
    print(f"  it asks: {next(body)}")
    print(f"  it asks: {body.send(None)}")  # we have not slept at all, and it can't know
    try:
        body.send("half past nine")
    except StopIteration:
        print("  it has ended")


def take_turns(*bodies):
    """A scheduler in ten lines: what a body yields is a function to be called; its next turn brings the result."""
    ready = deque((body, None) for body in bodies)
    while ready:
        body, answer = ready.popleft()
        try:
            request = body.send(answer)
        except StopIteration:
            continue
        ready.append((body, request()))


def buyer(name, shelf):
    """Ask for things from a shelf until it is empty."""
    while (yield partial(len, shelf)):
        print(f"  {name} takes the {(yield shelf.pop)}")


def by_hand():
    """Be the one who sends, and who takes what comes out."""
    print("A total for each number:")
    add_up()
    print("What comes out may be a request, what goes in its answer:")
    be_the_kernel()
    print("A scheduler in ten lines, and two tasks:")
    take_turns(buyer("Ada", ["pear", "apple", "plum"]), buyer("Grace", ["book"]))


# The same as tasks. A value for another task goes through a queue; what is yielded goes to the kernel.


def sum_task(numbers, totals):
    """Put a total into `totals` for each number from `numbers`, beginning with 0."""
    total = 0
    while True:
        yield totals.put(total)
        total += yield numbers.get()


def main():
    """Do what `add_up` does, with another task; then have the kernel do what `sleeper` asks for."""
    numbers, totals = Queue(), Queue()
    yield Spawn(sum_task(numbers, totals), daemon=True)
    print(f"  at first -> {(yield totals.get())}")
    for number in (1, 2, 3):
        yield numbers.put(number)
        print(f"  put({number})   -> {(yield totals.get())}")
    yield from sleeper()


if __name__ == "__main__":
    by_hand()
    print("Tasks, and the kernel that answers (its clock stood at 0, and is a virtual one: nobody has waited):")
    run(main(), clock=VirtualClock())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson2_exercise1(): a coroutine that gives the mean of all numbers that were sent so far; None before the first.
# 2. lesson2_exercise2(): a coroutine that gives what was sent the time before: send(1) -> None, send(2) -> 1,
#    send(3) -> 2. What `next` gives is None, too.
# 3. lesson2_exercise3(calls): a task that yields each syscall of the list `calls`, in order, and returns the list of
#    the answers.
