"""tinyio: a small loop over generators, without files; what it can't do is not here."""

from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import tinyio

from ..rss import used_memory
from . import DEADLINES, LIMIT, LONG, TASKS


def run(main):
    return tinyio.Loop().run(main)


def taking_turns(bodies):
    """Run tasks to their ends; return the seconds that takes."""

    def main():
        start = perf_counter()
        yield bodies
        return perf_counter() - start

    return run(main())


def switch(size):
    def body():
        for _ in range(size // TASKS):
            yield

    return taking_turns([body() for _ in range(TASKS)]) / size


def syscall(size):
    def body():
        for _ in range(size // TASKS):
            yield tinyio.sleep(0)

    return taking_turns([body() for _ in range(TASKS)]) / size


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for _ in range(turns):
        yield


def depth_1(size):
    return taking_turns([deeper(0, size)]) / size


def depth_10(size):
    return taking_turns([deeper(9, size)]) / size


def depth_100(size):
    return taking_turns([deeper(99, size)]) / size


def nothing():
    return
    yield


def spawn(size):
    def main():
        start = perf_counter()
        for _ in range(size):
            yield nothing()
        return perf_counter() - start

    return run(main()) / size


def fan(size):
    def main():
        start = perf_counter()
        yield [nothing() for _ in range(size)]
        return perf_counter() - start

    return run(main()) / size


def sleep(size):
    random = Random(1)

    def main():
        start = process_time()
        yield [tinyio.sleep(random.uniform(0, DEADLINES)) for _ in range(size)]
        return process_time() - start

    return run(main()) / size


def timeout(size):
    def main():
        start = perf_counter()
        for _ in range(size):
            yield tinyio.timeout(once(), LIMIT)
        return perf_counter() - start

    return run(main()) / size


def once():
    yield


def lock(size):
    shared = tinyio.Lock()

    def body():
        for _ in range(size // TASKS):
            with (yield shared()):
                yield

    return taking_turns([body() for _ in range(TASKS)]) / size


def memory(size):
    def sleeper():
        yield tinyio.sleep(LONG)

    def main():
        before = used_memory()
        yield {sleeper() for _ in range(size)}
        yield
        raise Used(used_memory() - before)

    try:
        run(main())
    except Used as used:  # an error ends the sleepers
        return used.args[0] / size


class Used(Exception):
    """So much memory is used."""
