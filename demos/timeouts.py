"""Timeouts and retries in a few lines each: a timeout is a `with` block.

Shows: Timeout raises an exception, MoveOnAfter continues after its block; a deadline can be moved; a Shield
protects a cleanup that has to wait; if two timeouts expire at once, the outer one counts; a retry waits
longer each time. A timeout interrupts a wait at any depth of calls, and its `finally` blocks run.

Run it:    python demos/timeouts.py [--only PART]
Watch it:  minisched run --trace demos/timeouts.py
"""

import argparse
from math import inf

import console

from minisched import MoveOnAfter, Now, Shield, Sleep, TimedOut, Timeout, run


def ask(seconds):
    """Return an answer after `seconds` seconds."""
    yield Sleep(seconds)
    return "42"


def timeout():
    """Timeout raises TimedOut when its time is up."""
    with (yield Timeout(0.5)):
        print("  a quick answer:", (yield from ask(0.05)))
    try:
        with (yield Timeout(0.1)):
            print("  no answer:", (yield from ask(inf)))
    except TimedOut as error:
        print(f"  no answer: {error}")


def move_on():
    """MoveOnAfter ends its block, and the program continues."""
    answers = []
    with (yield MoveOnAfter(0.3)) as scope:
        for seconds in (0.02, 0.02, inf):
            answers.append((yield from ask(seconds)))
    how = "the time was up before the last one" if scope.cancelled_caught else "all in time"
    print(f"  {len(answers)} of 3 answers: {how}")


def idle():
    """A deadline that moves at each answer limits each pause."""
    try:
        with (yield Timeout(0.2)) as scope:
            for seconds in (0.06, 0.06, 0.06, 0.06, inf):
                yield from ask(seconds)
                scope.deadline = (yield Now()) + 0.2
                print("  an answer")
    except TimedOut as error:
        print(f"  no further answer: {error}")


def cleanup():
    """Cancellation persists, so a cleanup that has to wait needs a Shield."""
    with (yield MoveOnAfter(0.1)):
        try:
            yield from ask(inf)
        finally:
            with (yield Shield(1)):  # for at most a second; without it, the next line would raise Cancelled
                yield from ask(0.05)
                print("  sent a goodbye and got an answer")
    print("  continued after the block")


def nested():
    """If two timeouts expire at once, the outer one counts."""
    try:
        with (yield Timeout(0.1)) as outer:
            try:
                with (yield Timeout(None)) as inner:
                    inner.deadline = outer.deadline
                    yield from ask(inf)
            except TimedOut:
                print("  the inner timeout was raised")  # not reached: this code would continue with no time left
    except TimedOut as error:
        which = "outer" if error.scope is outer else "inner"
        print(
            f"  the {which} timeout was raised; the inner one had {'' if inner.cancel_called else 'not '}expired, too"
        )


def retry():
    """Retry, with a pause that doubles each time."""
    pause = 0.05
    for attempt, seconds in enumerate((inf, inf, 0.02), 1):
        try:
            with (yield Timeout(0.2)):
                answer = yield from ask(seconds)
        except TimedOut:
            print(f"  attempt {attempt}: timed out; the next one in {pause} s")
            yield Sleep(pause)
            pause *= 2
        else:
            print(f"  attempt {attempt}: {answer}")
            return


PARTS = {part.__name__: part for part in (timeout, move_on, idle, cleanup, nested, retry)}


def main(only=None):
    """Run all parts, or one of them."""
    for name in [only] if only else PARTS:
        print(f"{name}: {PARTS[name].__doc__}")
        yield from PARTS[name]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Timeouts and retries, in a few lines each.")
    parser.add_argument("--only", choices=PARTS, help="run one part of the demo instead of all")
    options = parser.parse_args()
    with console.quiet_end():
        run(main(options.only))
