"""Bakers and customers with a small shelf in between: a bounded queue makes fast producers wait for slow consumers.

Shows: `put` waits while a Queue is full (baking takes no time, but once the shelf is full, each loaf has
to wait for a customer); after `close`, consumers end when no items are left; a `group` ends when all its
tasks have ended, on Ctrl-C, too, so the final balance is correct.

Run it:    python demos/producer_consumer.py [--room N] [--loaves N]
Watch it:  minisched run --trace demos/producer_consumer.py
"""

import argparse

import console

from minisched import Join, Queue, Sleep, group, run

BAKERS = ("Ana", "Ben")
CUSTOMERS = {"Xenia": 0.2, "Yves": 0.7}  # with the seconds that each customer needs to eat a loaf

LEGEND = """\
bakers              customers             |one = for each loaf then on the shelf
(While a baker waits, a loaf that is taken is replaced by the baker's at once.)"""


class Bakery:
    """A shelf of limited size, and the loaves that were put on it and taken from it."""

    def __init__(self, room=2, loaves=4):
        self.shelf = Queue(room, "shelf")
        self.loaves = loaves  # per baker
        self.put, self.taken = [], []

    def bake(self, baker):
        """Put loaves on the shelf as soon as there is room."""
        for number in range(1, self.loaves + 1):
            loaf = f"{baker}'s {number}"
            yield self.shelf.put(loaf)
            self.put.append(loaf)
            self.print_event(f"{baker} puts {loaf}")
        print(f"{baker} is done")

    def buy(self, customer):
        """Take loaves from the shelf and eat them, until the shelf is closed and empty."""

        def eat(loaf):
            self.taken.append(loaf)
            self.print_event(f"{'':20}{customer} takes {loaf}")
            yield Sleep(CUSTOMERS[customer])

        yield from self.shelf.for_each(eat)
        print(f"{'':20}{customer} goes home")

    def open(self, team):
        """Start all tasks in a group, and close the shelf when the last baker is done."""
        bakers = []
        for baker in BAKERS:
            bakers.append((yield team.spawn(self.bake(baker), baker)))
        for customer in CUSTOMERS:
            yield team.spawn(self.buy(customer), customer)
        for baker in bakers:
            yield Join(baker)
        self.shelf.close()

    def print_event(self, event):
        """Print an event, and how full the shelf is now."""
        print(f"{event:42}|{'=' * self.shelf.qsize()}")

    def balance(self):
        """Compare the loaves that were put on the shelf with those that were taken or are left."""
        left = [self.shelf.get_nowait() for _ in range(self.shelf.qsize())]
        print(f"{len(self.put)} put, {len(self.taken)} taken, {len(left)} left")
        print("the balance is right" if sorted(self.put) == sorted(self.taken + left) else "THE BALANCE IS WRONG")


def main(room=2, loaves=4):
    """Run a bakery until all loaves are eaten."""
    bakery = Bakery(int(room), int(loaves))
    print(LEGEND)
    try:
        yield from group(bakery.open)
    finally:
        bakery.balance()


def command_line():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(description="Two fast bakers and two slow customers.")
    parser.add_argument(
        "--room", type=console.whole(0), default=2, metavar="N", help="size of the shelf; default: %(default)s"
    )
    parser.add_argument(
        "--loaves", type=console.whole(0), default=4, metavar="N", help="per baker; default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        run(main(options.room, options.loaves))
