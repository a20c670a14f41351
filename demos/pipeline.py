"""Three stages with a small queue between each two: the last is slow, and so the first is no faster.

Shows: stages that know nothing but the queue they get from and the one they put to, which each closes
when it is through; back-pressure through two queues (a line is read when there is room for it,
not all of them at once); a failure in one stage (--fail), which ends all and leaves nothing
running; and `except*` for the ExceptionGroup that it comes in.

Run it:    python demos/pipeline.py [--room N] [--times N] [--fail]
Watch it:  minisched run --trace demos/pipeline.py
"""

import argparse
import sys
from collections import Counter

from minisched import Queue, Sleep, group, run

LINES = ("apples 3", "pears 2", "apples 1", "plums 7", "pears 4", "apples 2", "plums 1", "pears 5", "plums 2")
BAD_LINES = (*LINES[:4], "pears many", *LINES[5:])


class BadLine(Exception):
    """A line is not a fruit and a number."""


class Pipeline:
    """The queues, how many lines each stage is done with, and the totals."""

    def __init__(self, room=1):
        self.raw = Queue(room, "raw")
        self.parsed = Queue(room, "parsed")
        self.done = Counter(read=0, parse=0, add=0)
        self.totals = Counter()

    def read(self, lines):
        """Put the lines into `raw`."""
        for number, line in enumerate(lines, 1):
            yield self.raw.put((number, line))
            self.tell("read", number)
        self.raw.close()  # not in a `finally`: the next stage must not take a failure for the end

    def parse(self):
        """Make of each line in `raw` an entry in `parsed`."""

        def parse_one(numbered):
            number, line = numbered
            fruit, _, amount = line.partition(" ")
            if not amount.isdecimal():
                raise BadLine(f"line {number}: {line!r} is not a fruit and a number")
            yield self.parsed.put((number, fruit, int(amount)))
            self.tell("parse", number)

        yield from self.raw.for_each(parse_one)
        self.parsed.close()

    def add(self):
        """Add up what is in `parsed`, taking time over it."""

        def add_one(entry):
            number, fruit, amount = entry
            yield Sleep(0.1)
            self.totals[fruit] += amount
            self.tell("add", number)

        yield from self.parsed.for_each(add_one)

    def tell(self, stage, number):
        """Count a line, and print its number in the column of the stage."""
        self.done[stage] += 1
        print(f"{'':{12 * list(self.done).index(stage)}}{stage} {number}")


def main(room=1, times=1, fail=""):
    """Run the stages; print what came out, and what became of them."""
    pipeline, stages = Pipeline(int(room)), []
    lines = (BAD_LINES if fail else LINES) * int(times)

    def start(team):
        for stage in (pipeline.read(lines), pipeline.parse(), pipeline.add()):
            stages.append((yield team.spawn(stage)))

    try:
        yield from group(start)
        print("totals:", ", ".join(f"{amount} {fruit}" for fruit, amount in pipeline.totals.items()))
    finally:
        print("lines: ", ", ".join(f"{stage} {number}" for stage, number in pipeline.done.items()))
        print("stages:", ", ".join(f"{stage.name} is {stage.state}" for stage in stages))


def command_line():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Read, parse and add up lines, in three stages at once.")
    parser.add_argument("--room", type=count, default=1, metavar="N", help="in each queue; default: %(default)s")
    parser.add_argument("--times", type=count, default=1, metavar="N", help="to read the lines; default: %(default)s")
    parser.add_argument("--fail", action="store_true", help="let there be a line that can't be parsed")
    return parser


def count(text):
    """Return a number from the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number is wanted, 0 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    options, status = command_line().parse_args(), 0
    try:
        run(main(options.room, options.times, options.fail))
    except* KeyboardInterrupt:
        status = 130
    except* BadLine as failures:
        status = f"pipeline: {'; '.join(map(str, failures.exceptions))}"
    sys.exit(status)
