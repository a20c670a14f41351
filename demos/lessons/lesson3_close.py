"""Lesson 3, the end from outside: `close` raises GeneratorExit at the `yield` where a coroutine stands.

Shows: how a coroutine learns that it is closed, and what it may do then; `finally`, which does for every kind of
end; what `close` can't do; an indentation that is missing under `while True:`. Then tasks, which are told by
Cancelled in place of GeneratorExit, because a task may have to wait while it cleans up; and the one that is closed.

Run it:    python demos/lessons/lesson3_close.py
Watch it:  minisched run --trace demos/lessons/lesson3_close.py
"""

from minisched import Cancel, Cancelled, Join, Queue, Shield, Sleep, Spawn, SyscallError, TaskCancelled, run
from minisched.testing import VirtualClock

# By hand.

UNINDENTED = """\
def number_coroutine():
    try:
        while True:
        number = (yield)
    except GeneratorExit:
        print("closed")
"""


def show_what_is_missing():
    """What `while` repeats stands further to the right than `while`, or Python does not even begin to run the file."""
    try:
        compile(UNINDENTED, "a listing", "exec")
    except IndentationError as error:
        print(f"  {type(error).__name__} in line {error.lineno}: {error.msg}")


def number_coroutine():
    """Print each number that is sent in; say when it is closed."""
    try:
        while True:
            number = yield
            print(f" {number}", end="")
    except GeneratorExit:
        print("\n  the coroutine is closed")


def close_it():
    """`close` takes the GeneratorExit: whoever calls it sees nothing of that. To close again does nothing."""
    coroutine = number_coroutine()
    next(coroutine)
    print(" ", end="")
    for number in range(20):
        coroutine.send(number)
    coroutine.close()
    coroutine.close()
    try:
        coroutine.send(20)
    except StopIteration:
        print("  nothing can be sent to it any more")


def tidy():
    """Clean up in a `finally`: it does for an end of any kind."""
    print(" begun", end="")
    try:
        yield
    finally:
        print(", cleaned up", end="")


def end_in_every_way():
    """One that has not begun has nothing to clean up: not even its `finally` is run."""
    ways = {"close": lambda coroutine: coroutine.close(), "throw": lambda coroutine: coroutine.throw(ValueError)}
    for name, end in {**ways, "next": next}.items():
        print(f"  {name}:", end="")
        coroutine = tidy()
        next(coroutine)
        try:
            end(coroutine)
        except (ValueError, StopIteration) as error:
            print(f", {type(error).__name__} comes out", end="")
        print()
    tidy().close()
    print("  close, before it has begun: nothing at all")


def deaf():
    """Take the first GeneratorExit for nothing, and yield again."""
    try:
        yield
    except GeneratorExit:
        yield "just a moment"


def close_one_that_goes_on():
    """A coroutine that is closed has to end: there is nobody any more whom it could wait for."""
    coroutine = deaf()
    next(coroutine)
    try:
        coroutine.close()
    except RuntimeError as error:
        print(f"  RuntimeError: {error}")


def by_hand():
    """Be the one who closes."""
    print("`while True:` with nothing indented under it:")
    show_what_is_missing()
    print("Twenty numbers, and close:")
    close_it()
    print("Four ends of a `try ... finally`:")
    end_in_every_way()
    print("One that will not end:")
    close_one_that_goes_on()


# The same as tasks. The kernel does not close a task that it shall end: it throws Cancelled, and goes on with it.


def number_task(numbers):
    """Print each number that comes; clean up, which takes a second, when it is cancelled."""
    try:
        while True:
            print(f" {(yield numbers.get())}", end="")
    except Cancelled as cancelled:
        print(f"\n  cancelled: {cancelled.reason}")
        with (yield Shield(5)):  # in here the cancellation is not seen, for five seconds at most
            yield Sleep(1)
        print("  cleaned up, and waited for it: after GeneratorExit it could not have")
        raise  # it was not ours to take: the task shall end


def stubborn():
    """Take no notice of being cancelled."""
    told = 0
    try:
        while True:
            try:
                yield
            except Cancelled:
                told += 1
    except GeneratorExit:
        print(f"  told {told} times, then closed")


def main():
    """Cancel both tasks."""
    numbers = Queue()
    task = yield Spawn(number_task(numbers), keep=True)
    print(" ", end="")
    for number in range(20):
        yield numbers.put(number)
    yield  # the last one is on its way
    yield Cancel(task, "that was all")
    try:
        yield Join(task)
    except TaskCancelled as error:
        print(f"  {error}")
    task = yield Spawn(stubborn(), keep=True)
    yield
    yield Cancel(task)
    try:
        yield Join(task)
    except SyscallError as error:
        print(f"  {error}")


if __name__ == "__main__":
    by_hand()
    print("Tasks, which are cancelled:")
    run(main(), clock=VirtualClock())

# Exercises (how to have them checked: see the end of lesson1_send.py).
#
# 1. lesson3_exercise1(log): a coroutine that appends what is sent in to the list `log`, and "closed" when it is
#    closed, but nothing when it ends by another exception.
# 2. lesson3_exercise2(coroutine): a context manager. `with lesson3_exercise2(number_coroutine()) as coroutine:` gives
#    the coroutine, standing at its first `yield`; at the end of the block it is closed, however the block ends.
# 3. lesson3_exercise3(log): a task that waits for ever. When it is cancelled, it waits two seconds more, appends "bye"
#    to the list `log`, and lets the cancellation pass.
