"""gevent: greenlets, which have a stack of their own."""

from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import gevent
import gevent.lock
import gevent.queue

from ..rss import used_memory
from . import DEADLINES, LIMIT, LONG, TASKS


def taking_turns(bodies):
    tasks = [gevent.spawn(body) for body in bodies]
    start = perf_counter()
    gevent.joinall(tasks, raise_error=True)
    return perf_counter() - start


def switch(size):
    def body():
        for _ in range(size // TASKS):
            gevent.sleep(0)

    return taking_turns([body] * TASKS) / size


syscall = switch  # it is what lets the others run


def deeper(below, turns):
    if below:
        return deeper(below - 1, turns)
    for _ in range(turns):
        gevent.sleep(0)


def depth_1(size):
    return taking_turns([lambda: deeper(0, size)]) / size


def depth_10(size):
    return taking_turns([lambda: deeper(9, size)]) / size


def depth_100(size):
    return taking_turns([lambda: deeper(99, size)]) / size


def nothing():
    return


def spawn(size):
    start = perf_counter()
    for _ in range(size):
        gevent.spawn(nothing).join()
    return (perf_counter() - start) / size


def fan(size):
    start = perf_counter()
    gevent.joinall([gevent.spawn(nothing) for _ in range(size)])
    return (perf_counter() - start) / size


def sleep(size):
    random = Random(1)
    start = process_time()
    gevent.joinall([gevent.spawn(gevent.sleep, random.uniform(0, DEADLINES)) for _ in range(size)])
    return (process_time() - start) / size


def timeout(size):
    start = perf_counter()
    for _ in range(size):
        with gevent.Timeout(LIMIT):
            gevent.sleep(0)
    return (perf_counter() - start) / size


def queue(size):
    def put():
        for number in range(size):
            items.put(number)

    items = gevent.queue.Queue(1)
    putter = gevent.spawn(put)
    start = perf_counter()
    for _ in range(size):
        items.get()
    seconds = perf_counter() - start
    putter.join()
    return seconds / size


def lock(size):
    shared = gevent.lock.BoundedSemaphore(1)

    def body():
        for _ in range(size // TASKS):
            with shared:
                gevent.sleep(0)

    return taking_turns([body] * TASKS) / size


def cancel(size):
    tasks = [gevent.spawn(gevent.sleep, LONG) for _ in range(size)]
    gevent.sleep(0)
    start = perf_counter()
    gevent.killall(tasks)
    return (perf_counter() - start) / size


def memory(size):
    def sleeper():
        gevent.sleep(LONG)

    before = used_memory()
    tasks = [gevent.spawn(sleeper) for _ in range(size)]
    gevent.sleep(0)
    used = used_memory() - before
    gevent.killall(tasks)
    return used / size
