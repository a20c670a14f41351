"""Five philosophers, five forks, two of them needed to eat: a deadlock, its report, and a way out.

Shows: a Lock for each fork, held in a `with (yield fork.acquire()):`; that a program in which nobody
can ever go on does not hang: `run` lets it clean up and raises Deadlock, whose text says who waits
where, for what, and in which cycle; that locks which all take in one order can't come to that.

Run it:    python demos/dining_philosophers.py [--deadlock | --fixed] [--meals N]
Watch it:  minisched run --trace demos/dining_philosophers.py
"""

import argparse
import sys

from minisched import Barrier, Deadlock, JoinAll, Lock, Sleep, Spawn, run

# Around the table; and how many seconds each takes for a meal.
PHILOSOPHERS = {"Plato": 0.08, "Hypatia": 0.24, "Avicenna": 0.24, "Kant": 0.08, "Arendt": 0.08}


def philosopher(name, first, second, meals, seated):
    """Eat so many times, with two forks, taken one after the other; nobody begins before all are seated."""
    yield seated.wait()
    for meal in range(1, meals + 1):
        with (yield first.acquire()):
            print(f"{name} has {first.name}")
            with (yield second.acquire()):
                print(f"{name} has {second.name}, too, and eats meal {meal}")
                yield Sleep(PHILOSOPHERS[name])
    print(f"{name} gets up")


def lay_the_table():
    """Return the forks: the first is on the left of the first philosopher, and on the right of the last."""
    return [Lock(f"fork {number}") for number, _ in enumerate(PHILOSOPHERS, 1)]


def dinner(forks, fixed=False, meals=2):
    """Let everybody eat; `fixed`: nobody takes a fork while having one with a higher number."""
    seated = Barrier(len(forks), "seated")
    for seat, name in enumerate(PHILOSOPHERS):
        left, right = seat, (seat + 1) % len(forks)
        first, second = sorted((left, right)) if fixed else (left, right)
        yield Spawn(philosopher(name, forks[first], forks[second], meals, seated), name)
    yield JoinAll()
    print("everybody has eaten")


def main(fixed="", meals=2):
    """Be what `minisched run` runs: the deadlock, unless there is a word after the file's name."""
    yield from dinner(lay_the_table(), bool(fixed), int(meals))


def show(fixed, meals):
    """Run a dinner; print how it ends, and what became of the forks."""
    print("Everybody takes the fork with the lower number first." if fixed else "Everybody takes the left fork first.")
    forks = lay_the_table()
    try:
        run(dinner(forks, fixed, meals))
    except Deadlock as report:
        print(f"\nDeadlock: {report}\n")
    print(f"forks on the table: {sum(not fork.locked() for fork in forks)}")


def command_line():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="A dinner that ends in a deadlock, and one that does not.")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--deadlock", action="store_true", help="only the first: each takes the left fork first")
    only.add_argument("--fixed", action="store_true", help="only the second: the fork with the lower number first")
    parser.add_argument("--meals", type=count, default=2, metavar="N", help="of each; default: %(default)s")
    return parser


def count(text):
    """Return a number from the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number is wanted, 0 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    options = command_line().parse_args()
    try:
        if not options.fixed:
            show(False, options.meals)
        if not options.fixed and not options.deadlock:
            print()
        if not options.deadlock:
            show(True, options.meals)
    except KeyboardInterrupt:
        sys.exit(130)
