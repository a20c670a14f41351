"""Bakers and customers with a small shelf between them: a bounded queue makes the fast wait for the slow.

Shows: `put`, which waits while a Queue is full (the bakers need no time at all, but once the shelf is
full, each line of theirs follows one of a customer's); `close`, which ends those who get as soon as
there is nothing left; a `group`, which ends when all in it have, on Ctrl-C too: so the books are
made up when nothing can change hands any more.

Run it:    python demos/producer_consumer.py [--room N] [--loaves N]
Watch it:  minisched run --trace demos/producer_consumer.py
"""

import argparse
import sys

from minisched import Join, Queue, Sleep, group, run

BAKERS = ("Ana", "Ben")
CUSTOMERS = {"Xenia": 0.2, "Yves": 0.7}  # and how many seconds each takes to eat a loaf


class Bakery:
    """A shelf with so much room, what was put on it and what was taken from it."""

    def __init__(self, room=2, loaves=4):
        self.shelf = Queue(room, "shelf")
        self.loaves = loaves  # of each baker
        self.put, self.taken = [], []

    def bake(self, baker):
        """Put loaves on the shelf, as fast as there is room."""
        for number in range(1, self.loaves + 1):
            loaf = f"{baker}'s {number}"
            yield self.shelf.put(loaf)
            self.put.append(loaf)
            self.say(f"{baker} puts {loaf}")
        print(f"{baker} is done")

    def buy(self, customer):
        """Take loaves from the shelf and eat them, as long as there are any to come."""

        def eat(loaf):
            self.taken.append(loaf)
            self.say(f"{'':20}{customer} takes {loaf}")
            yield Sleep(CUSTOMERS[customer])

        yield from self.shelf.for_each(eat)
        print(f"{'':20}{customer} goes home")

    def open(self, team):
        """Be the body of a group: let all in, and close the shelf when the last baker is done."""
        bakers = []
        for baker in BAKERS:
            bakers.append((yield team.spawn(self.bake(baker), baker)))
        for customer in CUSTOMERS:
            yield team.spawn(self.buy(customer), customer)
        for baker in bakers:
            yield Join(baker)
        self.shelf.close()

    def say(self, what):
        """Print what has happened, and how full the shelf is now."""
        print(f"{what:42}|{'=' * self.shelf.qsize()}")

    def balance(self):
        """Print what was put on the shelf, and where it is now."""
        left = [self.shelf.get_nowait() for _ in range(self.shelf.qsize())]
        print(f"{len(self.put)} put, {len(self.taken)} taken, {len(left)} left")
        print("the books balance" if sorted(self.put) == sorted(self.taken + left) else "THE BOOKS DO NOT BALANCE")


def main(room=2, loaves=4):
    """Keep a bakery open until all is eaten."""
    bakery = Bakery(int(room), int(loaves))
    try:
        yield from group(bakery.open)
    finally:
        bakery.balance()


def command_line():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Two bakers who are fast, and two customers who are not.")
    parser.add_argument("--room", type=count, default=2, metavar="N", help="on the shelf; default: %(default)s")
    parser.add_argument("--loaves", type=count, default=4, metavar="N", help="of each baker; default: %(default)s")
    return parser


def count(text):
    """Return a number from the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number is wanted, 0 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    options = command_line().parse_args()
    try:
        run(main(options.room, options.loaves))
    except KeyboardInterrupt:
        sys.exit(130)
