"""The dining philosophers: a deadlock, its report, and a way to avoid it.

Shows: each fork is a Lock, held in a block `with (yield fork.acquire()):`. A program in which no task can
continue does not hang: `run` cancels the tasks and raises Deadlock, whose text lists each waiting task,
where and for what it waits, and the cycle. If all tasks acquire locks in the same order, there is no cycle.

Run it:    python demos/dining_philosophers.py [--deadlock | --fixed] [--meals N]
Watch it:  minisched run --trace demos/dining_philosophers.py
"""

import argparse

import console

from minisched import Barrier, Deadlock, JoinAll, Lock, Sleep, Spawn, run

# The philosophers in the order of their seats, with the seconds that each needs for a meal.
PHILOSOPHERS = {"Plato": 0.08, "Hypatia": 0.24, "Avicenna": 0.24, "Kant": 0.08, "Arendt": 0.08}


def philosopher(name, first, second, meals, seated):
    """Wait until all are seated; then eat `meals` times, each time with two forks, taken one after the other."""
    yield seated.wait()
    for meal in range(1, meals + 1):
        with (yield first.acquire()):
            print(f"{name} has {first.name}")
            with (yield second.acquire()):
                print(f"{name} has {second.name}, too, and eats meal {meal}")
                yield Sleep(PHILOSOPHERS[name])
    print(f"{name} gets up")


def lay_the_table():
    """Return the forks; the first is to the left of the first philosopher and to the right of the last."""
    return [Lock(f"fork {number}") for number, _ in enumerate(PHILOSOPHERS, 1)]


def dinner(forks, fixed=False, meals=2):
    """Run the dinner. If `fixed`, all philosophers take the fork with the lower number first."""
    seated = Barrier(len(forks), "seated")
    for seat, name in enumerate(PHILOSOPHERS):
        left, right = seat, (seat + 1) % len(forks)
        first, second = sorted((left, right)) if fixed else (left, right)
        yield Spawn(philosopher(name, forks[first], forks[second], meals, seated), name)
    yield JoinAll()
    print("all philosophers have eaten")


def main(fixed="", meals=2):
    """Run the dinner from `minisched run`: the deadlock, or the fixed dinner if there is any argument."""
    yield from dinner(lay_the_table(), bool(fixed), int(meals))


def show(fixed, meals):
    """Run a dinner; print how it ends, and how many forks are back on the table."""
    print("Everybody takes the fork with the lower number first." if fixed else "Everybody takes the left fork first.")
    forks = lay_the_table()
    try:
        run(dinner(forks, fixed, meals))
    except Deadlock as report:
        print(f"\nDeadlock: {report}")
        print("(0 is the main task; 0.0 is its first child, 0.1 its second one, and so on)\n")
    print(f"forks on the table: {sum(not fork.locked() for fork in forks)}")


def command_line():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(description="Run a dinner that ends in a deadlock, and one that does not.")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--deadlock", action="store_true", help="only the first dinner: the left fork first")
    only.add_argument("--fixed", action="store_true", help="only the second dinner: the lower number first")
    parser.add_argument(
        "--meals", type=console.whole(0), default=2, metavar="N", help="per philosopher; default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        if not options.fixed:
            show(False, options.meals)
        if not options.fixed and not options.deadlock:
            print()
        if not options.deadlock:
            show(True, options.meals)
