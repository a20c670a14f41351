"""Limits of time, each in a few lines: a limit is a `with` around what it limits.

Shows: Timeout, which raises, and MoveOnAfter, which goes on; a deadline that is moved while it runs; a
Shield around a cleanup that has to wait; which of two limits counts that are over at once; and a retry
that waits longer each time. What is cut short may wait at any depth of calls; its `finally` runs.

Run it:    python demos/timeouts.py [--only PART]
Watch it:  minisched run --trace demos/timeouts.py
"""

import argparse
import sys
from math import inf

from minisched import MoveOnAfter, Now, Shield, Sleep, TimedOut, Timeout, run


def ask(seconds):
    """Ask somebody who takes so long to answer."""
    yield Sleep(seconds)
    return "42"


def timeout():
    """Timeout raises TimedOut where its time is over."""
    with (yield Timeout(0.5)):
        print("  one who is quick:", (yield from ask(0.05)))
    try:
        with (yield Timeout(0.1)):
            print("  one who is not:", (yield from ask(inf)))
    except TimedOut as error:
        print(f"  one who is not: {error}")


def move_on():
    """MoveOnAfter goes on with what there is."""
    answers = []
    with (yield MoveOnAfter(0.3)) as scope:
        for seconds in (0.02, 0.02, inf):
            answers.append((yield from ask(seconds)))
    print(f"  {len(answers)} answers of 3; cut short: {scope.cancelled}")


def idle():
    """A deadline that moves with each answer limits the silence, not the whole."""
    try:
        with (yield Timeout(0.2)) as scope:
            for seconds in (0.06, 0.06, 0.06, 0.06, inf):
                yield from ask(seconds)
                scope.deadline = (yield Now()) + 0.2
                print("  an answer")
    except TimedOut as error:
        print(f"  silence: {error}")


def cleanup():
    """What is cancelled stays cancelled: a cleanup that has to wait needs a Shield."""
    with (yield MoveOnAfter(0.1)):
        try:
            yield from ask(inf)
        finally:
            with (yield Shield(1)):  # for a second at most; without it, the next line would be cut short, too
                yield from ask(0.05)
                print("  said goodbye, and was answered")
    print("  gone on")


def nested():
    """Of two limits that are over at once, the outer one counts."""
    try:
        with (yield Timeout(0.1)) as outer:
            try:
                with (yield Timeout(None)) as inner:
                    inner.deadline = outer.deadline
                    yield from ask(inf)
            except TimedOut:
                print("  the inner one")  # then this part would go on, with no time left
    except TimedOut as error:
        print(f"  the outer one: {error.scope is outer}; both were over: {inner.cancel_called}")


def retry():
    """Try again, waiting twice as long each time."""
    pause = 0.05
    for attempt, seconds in enumerate((inf, inf, 0.02), 1):
        try:
            with (yield Timeout(0.2)):
                answer = yield from ask(seconds)
        except TimedOut:
            print(f"  attempt {attempt}: nothing; the next one in {pause} s")
            yield Sleep(pause)
            pause *= 2
        else:
            print(f"  attempt {attempt}: {answer}")
            return


PARTS = {part.__name__: part for part in (timeout, move_on, idle, cleanup, nested, retry)}


def main(only=None):
    """Run all parts, or only one."""
    for name in [only] if only else PARTS:
        print(f"{name}: {PARTS[name].__doc__}")
        yield from PARTS[name]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Limits of time, each in a few lines.")
    parser.add_argument("--only", choices=PARTS, help="one part of the demo in place of all")
    options = parser.parse_args()
    try:
        run(main(options.only))
    except KeyboardInterrupt:
        sys.exit(130)
