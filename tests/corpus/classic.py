"""Classic mistakes: lost updates, deadlocks, checks before an act."""

from __future__ import annotations

from functools import partial

from minisched import Condition, Event, Lock, Queue
from minisched.lab import Shared, together


def pause(turns):
    """Let the other tasks run first in round robin, which so hides the mistake."""
    for _ in range(turns):
        yield


def lost_update(fixed):
    """Three tasks read a number, and write a larger one in another turn."""
    shared, lock = Shared(value=0), Lock()

    def add(late):
        yield from pause(late)
        if fixed:
            with (yield lock.acquire()):
                yield from change()
        else:
            yield from change()

    def change():
        before = shared.value
        yield
        shared.value = before + 1

    def main():
        yield from together(add(0), add(3), add(6))

    def check():
        assert shared.value == 3, "an update is lost"

    return main(), check


def two_locks(fixed):
    """Two tasks acquire two locks in opposite orders."""
    first, second = Lock("first"), Lock("second")

    def both(one, other, late):
        yield from pause(late)
        with (yield one.acquire()):
            yield
            with (yield other.acquire()):
                pass

    def main():
        order = (first, second) if fixed else (second, first)
        yield from together(both(first, second, 0), both(*order, 4))

    return main()


def philosophers(count, fixed):
    """Each takes the left fork, then the right one (E. W. Dijkstra, 1965)."""
    forks = [Lock(f"fork {number}") for number in range(count)]

    def dine(number):
        yield from pause(2 * number)
        left, right = number, (number + 1) % count
        if fixed and left > right:
            left, right = right, left
        with (yield forks[left].acquire()), (yield forks[right].acquire()):
            pass

    def main():
        yield from together(*map(dine, range(count)))

    return main()


three_philosophers, four_philosophers, five_philosophers = (partial(philosophers, count) for count in (3, 4, 5))


def check_of_a_queue(fixed):
    """Two tasks see that a queue has an item, and both take it (gh-74116, in its kind)."""
    queue = Queue()

    def consume(late):
        yield from pause(late)
        if queue.qsize():
            if not fixed:
                yield
            queue.get_nowait()

    def main():
        queue.put_nowait("item")
        yield from together(consume(0), consume(3))

    return main()


def check_of_an_event(fixed):
    """Two tasks see that nothing was initialized yet, and both do it."""
    ready, shared = Event(), Shared(times=0)

    def initialize(late):
        yield from pause(late)
        if not ready.is_set():
            if not fixed:
                yield
            shared.times += 1
            ready.set()

    def main():
        yield from together(initialize(0), initialize(3))

    def check():
        assert shared.times == 1, "initialized twice"

    return main(), check


def bounded_buffer(fixed):
    """One condition, for room and for items, that wakes one task: it may be one of the wrong kind."""
    condition, shared = Condition(), Shared(items=0)

    def put(late):
        yield from pause(late)
        with (yield condition.acquire()):
            while shared.items == 1:
                yield from condition.wait()
            shared.items += 1
            condition.notify(2 if fixed else 1)

    def get(late):
        yield from pause(late)
        with (yield condition.acquire()):
            while shared.items == 0:
                yield from condition.wait()
            shared.items -= 1
            condition.notify(2 if fixed else 1)

    def main():
        yield from together(put(0), get(4), put(8), get(12))

    return main()
