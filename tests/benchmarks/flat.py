"""A task among 100,000 against one among 1,000: sleepers that are cancelled at once, timeouts that are never reached.

A round measures as many tasks in both ways, one after the other, in real runs.
"""

from __future__ import annotations

from time import perf_counter

from minisched import CancelScope, Event, JoinAll, Sleep, Spawn, Timeout, run

FEW, MANY = 1_000, 100_000
ROUNDS = 5


class Flat:
    """A benchmark: `cost(tasks)` returns the seconds of a run of so many."""

    OTHER = f"among {FEW:,} tasks instead of {MANY:,}"
    UNIT = (1e6, "us")
    BOUND = 2

    def __init__(self, cost):
        self.cost = cost

    def rounds(self):
        """Return (seconds per task among many, among few) for each round."""
        self.cost(FEW)  # the first time, the interpreter specialises its code
        for _ in range(ROUNDS):
            many = self.cost(MANY) / MANY
            yield many, sum(self.cost(FEW) for _ in range(MANY // FEW)) / MANY


def cancel(tasks: int) -> float:
    """Cancel so many sleeping tasks by one scope, and wait for their ends; return the seconds of that alone."""

    def main():
        with (yield CancelScope()) as scope:
            for _ in range(tasks):
                yield Spawn(sleeper())
            yield
            started = perf_counter()
            scope.cancel()
        yield JoinAll()
        return perf_counter() - started

    def sleeper():
        yield Sleep(3600)

    return run(main(), debug=False)


def timeout(tasks: int) -> float:
    """Let so many tasks, made before, enter a timeout, wait in it, all at once, and leave it; return the seconds."""
    start, done = Event(), Event()

    def body():
        yield start.wait()
        with (yield Timeout(3600)):
            yield done.wait()

    def main():
        for _ in range(tasks):
            yield Spawn(body())
        yield
        started = perf_counter()
        start.set()
        yield
        done.set()
        yield JoinAll()
        return perf_counter() - started

    return run(main(), debug=False)
