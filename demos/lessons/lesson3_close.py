"""Lesson 3, ending from outside: `close` raises GeneratorExit at the `yield` where a coroutine is suspended.

Shows: the exception that a closed coroutine sees, and its choices then; `finally`, which runs at an end of any kind;
the limits of `close`; a missing indentation under `while True:`. Then tasks, which get Cancelled instead of
GeneratorExit, because a task may have to wait during its cleanup; and a task that ignores it and is closed.

Run it:    python demos/lessons/lesson3_close.py
Watch it:  minisched run --trace demos/lessons/lesson3_close.py
"""

from argparse import ArgumentParser

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


def show_the_indentation_error():
    """Compile a loop whose body is not indented: Python refuses the file before it runs a line of it."""
    try:
        compile(UNINDENTED, "a listing", "exec")
    except IndentationError as error:
        print(f"  {type(error).__name__} in line {error.lineno}: {error.msg}")


def number_coroutine():
    """Print each number that is sent in, and a line at the end when the coroutine is closed."""
    try:
        while True:
            number = yield
            print(f" {number}", end="")
    except GeneratorExit:
        print("\n  the coroutine is closed")


def close_it():
    """Close a coroutine: `close` catches the GeneratorExit, so its caller sees no exception. Closing twice is fine."""
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
        print("  send raises StopIteration after that")


def tidy():
    """Clean up in a `finally`, which runs at an end of any kind."""
    print(" started", end="")
    try:
        yield
    finally:
        print(", cleaned up", end="")


def end_in_every_way():
    """End a coroutine in four ways. If it has not started, closing it does not even run its `finally`."""
    ways = {"close": lambda coroutine: coroutine.close(), "throw": lambda coroutine: coroutine.throw(ValueError)}
    for name, end in {**ways, "next": next}.items():
        print(f"  {name}:", end="")
        coroutine = tidy()
        next(coroutine)
        try:
            end(coroutine)
        except (ValueError, StopIteration) as error:
            print(f", {type(error).__name__} is raised", end="")
        print()
    tidy().close()
    print("  close before the start: nothing runs")


def deaf():
    """Ignore the first GeneratorExit and yield again."""
    try:
        yield
    except GeneratorExit:
        yield "just a moment"


def close_one_that_goes_on():
    """Close a coroutine that yields again: a closed coroutine has to end, because no value will come any more."""
    coroutine = deaf()
    next(coroutine)
    try:
        coroutine.close()
    except RuntimeError as error:
        print(f"  RuntimeError: {error}")


def by_hand():
    """Call `close` ourselves."""
    print("`while True:` with nothing indented under it:")
    show_the_indentation_error()
    print("Twenty numbers, then close:")
    close_it()
    print("Four ends of a `try ... finally`:")
    end_in_every_way()
    print("A coroutine that refuses to end:")
    close_one_that_goes_on()


# The same as tasks. To end a task, the kernel throws Cancelled into it, and keeps giving it turns for its cleanup.


def number_task(numbers):
    """Print each number that comes; when cancelled, clean up for a second."""
    try:
        while True:
            print(f" {(yield numbers.get())}", end="")
    except Cancelled as cancelled:
        print(f"\n  cancelled: {cancelled.reason}")
        with (yield Shield(5)):  # this block does not see the cancellation, for at most five seconds
            yield Sleep(1)
        print("  cleaned up, and waited for that; after GeneratorExit, waiting is impossible")
        raise  # re-raise: a task that swallows Cancelled would go on


def stubborn():
    """Swallow every Cancelled."""
    count = 0
    try:
        while True:
            try:
                yield
            except Cancelled:
                count += 1
    except GeneratorExit:
        print(f"  swallowed {count} Cancelleds, then closed")


def main():
    """Cancel both tasks."""
    numbers = Queue()
    task = yield Spawn(number_task(numbers), keep=True)
    print(" ", end="")
    for number in range(20):
        yield numbers.put(number)
    yield  # give the task a turn to receive the last number
    yield Cancel(task, "no more numbers")
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
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    by_hand()
    print("Tasks that are cancelled:")
    run(main(), clock=VirtualClock())

# Exercises (the end of lesson1_send.py says how to check them).
#
# 1. lesson3_exercise1(log): a coroutine that appends each value that it receives to the list `log`. It appends
#    "closed" when it is closed, but nothing when another exception ends it.
# 2. lesson3_exercise2(coroutine): a context manager. `with lesson3_exercise2(number_coroutine()) as coroutine:` gives
#    the coroutine at its first `yield`. The coroutine is closed at the end of the block, however the block ends.
# 3. lesson3_exercise3(log): a task that waits for ever. When it is cancelled, it waits for two more seconds, appends
#    "bye" to the list `log`, and re-raises the cancellation.
