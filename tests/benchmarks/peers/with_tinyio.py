"""tinyio: a small loop over generators, without queues and without cancellation."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import tinyio

from ..rss import used_memory
from . import ENDLESS_SECONDS, MAX_SLEEP_SECONDS, TASKS, TIMEOUT_SECONDS, finished


def run(main):
    return tinyio.Loop().run(main)


def taking_turns(bodies):
    """Run tasks until all have ended; return the seconds that they took."""

    def main():
        start = perf_counter()
        yield bodies
        return perf_counter() - start

    return run(main())


def switch(size):
    def body():
        for turn in range(size // TASKS):
            yield
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def syscall(size):
    def body():
        for turn in range(size // TASKS):
            yield tinyio.sleep(0)
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for turn in range(turns):
        yield
    finished(turn + 1)


def depth_1(size):
    return taking_turns([deeper(0, size)])


def depth_10(size):
    return taking_turns([deeper(9, size)])


def depth_100(size):
    return taking_turns([deeper(99, size)])


def same(number):
    return number
    yield


def spawn(size):
    def main():
        start = perf_counter()
        for number in range(size):
            result = yield same(number)
        seconds = perf_counter() - start
        finished(result + 1)
        return seconds

    return run(main())


def fan(size):
    def main():
        start = perf_counter()
        results = yield [same(number) for number in range(size)]
        seconds = perf_counter() - start
        finished(results[-1] + 1)
        return seconds

    return run(main())


def sleep(size):
    random = Random(1)

    def main():
        start = process_time()
        results = yield [tinyio.sleep(random.uniform(0, MAX_SLEEP_SECONDS)) for _ in range(size)]
        seconds = process_time() - start
        finished(len(results))
        return seconds

    return run(main())


def timeout(size):
    def main():
        start = perf_counter()
        for turn in range(size):
            yield tinyio.timeout(once(), TIMEOUT_SECONDS)
        finished(turn + 1)
        return perf_counter() - start

    return run(main())


def once():
    yield


def lock(size):
    shared = tinyio.Lock()

    def body():
        for turn in range(size // TASKS):
            with (yield shared()):
                yield
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def memory(size):
    def sleeper():
        yield tinyio.sleep(ENDLESS_SECONDS)

    def main():
        before = used_memory()
        tasks = {sleeper() for _ in range(size)}
        yield tasks
        yield
        finished(len(tasks))
        raise Used(used_memory() - before)

    try:
        run(main())
    except Used as used:
        return used.args[0]


class Used(Exception):
    """An exception that ends the sleepers; its argument is the memory that they used."""
