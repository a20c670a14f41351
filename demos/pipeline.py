"""A pipeline of three stages with small queues in between: the slow last stage slows down the first one.

Shows: a stage knows only its input queue and its output queue, which it closes at the end; back-pressure
through two queues (a line is read only when there is room for it); a failure in one stage (--fail), which
ends all stages and leaves nothing running: each stage notes how it ended; and `except*` for the ExceptionGroup of
the failure.

Run it:    python demos/pipeline.py [--room N] [--times N] [--fail]
Watch it:  minisched run --trace demos/pipeline.py
"""

import argparse
import sys
from collections import Counter

import console

from minisched import Cancelled, Queue, Sleep, group, run

LINES = ("apples 3", "pears 2", "apples 1", "plums 7", "pears 4", "apples 2", "plums 1", "pears 5", "plums 2")
BAD_LINES = (*LINES[:4], "pears many", *LINES[5:])


class BadLine(Exception):
    """Raised for a line that is not a fruit and a number."""


class Pipeline:
    """The queues, the number of lines that each stage has handled, how it ended, and the totals."""

    def __init__(self, room=1):
        self.raw = Queue(room, "raw")
        self.parsed = Queue(room, "parsed")
        self.done = Counter(read=0, parse=0, add=0)
        self.endings = {}  # by stage: done, failed or cancelled
        self.totals = Counter()

    def read(self, lines):
        """Put the lines into `raw`."""
        for number, line in enumerate(lines, 1):
            yield self.raw.put((number, line))
            self.count_line("read", number)
        self.raw.close()  # not in a `finally`: to the next stage, a failure must not look like the end of the input

    def parse(self):
        """Parse each line in `raw`, and put the result into `parsed`."""

        def parse_one(numbered):
            number, line = numbered
            fruit, _, amount = line.partition(" ")
            if not amount.isdecimal():
                raise BadLine(f"line {number}: {line!r} is not a fruit and a number")
            yield self.parsed.put((number, fruit, int(amount)))
            self.count_line("parse", number)

        yield from self.raw.for_each(parse_one)
        self.parsed.close()

    def add(self):
        """Add up the entries in `parsed`, slowly."""

        def add_one(entry):
            number, fruit, amount = entry
            yield Sleep(0.1)
            self.totals[fruit] += amount
            self.count_line("add", number)

        yield from self.parsed.for_each(add_one)

    def run_stage(self, stage, body):
        """Run a stage, and note how it ends."""
        self.endings[stage] = "was cancelled"  # also if the stage is cancelled before its first turn
        try:
            yield from body
        except Cancelled:
            raise
        except Exception:
            self.endings[stage] = "failed"
            raise
        self.endings[stage] = "is done"

    def describe_endings(self):
        """Return how the stages ended, as a sentence: "parse failed, read and add were cancelled"."""
        order = ("failed", "was cancelled", "is done")
        names = {ending: [stage for stage, was in self.endings.items() if was == ending] for ending in order}
        return ", ".join(in_words(stages, ending) for ending, stages in names.items() if stages) or "none has started"

    def count_line(self, stage, number):
        """Count a line for a stage, and print its number in the column of that stage."""
        self.done[stage] += 1
        print(f"{'':{12 * list(self.done).index(stage)}}{stage} {number}")


def main(room=1, times=1, fail=""):
    """Run the stages; print the totals, and the state of each stage at the end."""
    pipeline = Pipeline(int(room))
    lines = (BAD_LINES if fail else LINES) * int(times)

    def start(team):
        for name, stage in (("read", pipeline.read(lines)), ("parse", pipeline.parse()), ("add", pipeline.add())):
            yield team.spawn(pipeline.run_stage(name, stage), name)

    try:
        yield from group(start)
        print("totals:", ", ".join(f"{amount} {fruit}" for fruit, amount in pipeline.totals.items()))
    finally:
        print("lines: ", ", ".join(f"{stage} {number}" for stage, number in pipeline.done.items()))
        print("stages:", pipeline.describe_endings())


def in_words(names, ending):
    """Return "read is done", "read and add are done" or "read, parse and add are done"."""
    if len(names) > 1:
        names = [", ".join(names[:-1]) + f" and {names[-1]}"]
        ending = ending.replace("is ", "are ").replace("was ", "were ")
    return f"{names[0]} {ending}"


def command_line():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(description="Read, parse and add up lines, in three concurrent stages.")
    parser.add_argument(
        "--room", type=console.whole(0), default=1, metavar="N", help="size of each queue; default: %(default)s"
    )
    parser.add_argument(
        "--times", type=console.whole(0), default=1, metavar="N", help="repeat the lines; default: %(default)s"
    )
    parser.add_argument("--fail", action="store_true", help="include a line that cannot be parsed")
    return parser


if __name__ == "__main__":
    options, status = command_line().parse_args(), 0
    with console.quiet_end():
        try:
            run(main(options.room, options.times, options.fail))
        except* BadLine as failures:
            status = f"pipeline: {'; '.join(map(str, failures.exceptions))}"
    sys.exit(status)
