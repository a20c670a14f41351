"""gevent: greenlets, each with a stack of its own."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import gevent
import gevent.lock
import gevent.queue

from ..rss import used_memory
from . import ENDLESS_SECONDS, MAX_SLEEP_SECONDS, TASKS, TIMEOUT_SECONDS, finished


def taking_turns(bodies):
    tasks = [gevent.spawn(body) for body in bodies]
    start = perf_counter()
    gevent.joinall(tasks, raise_error=True)
    return perf_counter() - start


def switch(size):
    def body():
        for turn in range(size // TASKS):
            gevent.sleep(0)
        finished(turn + 1)

    return taking_turns([body] * TASKS)


syscall = switch  # gevent has no cheaper way to yield


def deeper(below, turns):
    if below:
        return deeper(below - 1, turns)
    for turn in range(turns):
        gevent.sleep(0)
    finished(turn + 1)


def depth_1(size):
    return taking_turns([lambda: deeper(0, size)])


def depth_10(size):
    return taking_turns([lambda: deeper(9, size)])


def depth_100(size):
    return taking_turns([lambda: deeper(99, size)])


def same(number):
    return number


def spawn(size):
    start = perf_counter()
    for number in range(size):
        task = gevent.spawn(same, number)
        task.join()
        result = task.value
    seconds = perf_counter() - start
    finished(result + 1)
    return seconds


def fan(size):
    start = perf_counter()
    tasks = gevent.joinall([gevent.spawn(same, number) for number in range(size)])
    seconds = perf_counter() - start
    finished(max(task.value for task in tasks) + 1)
    return seconds


def sleep(size):
    random = Random(1)
    start = process_time()
    tasks = gevent.joinall([gevent.spawn(gevent.sleep, random.uniform(0, MAX_SLEEP_SECONDS)) for _ in range(size)])
    seconds = process_time() - start
    finished(sum(task.successful() for task in tasks))
    return seconds


def timeout(size):
    start = perf_counter()
    for turn in range(size):
        with gevent.Timeout(TIMEOUT_SECONDS):
            gevent.sleep(0)
    finished(turn + 1)
    return perf_counter() - start


def queue(size):
    def put():
        for number in range(size):
            items.put(number)

    items = gevent.queue.Queue(1)
    putter = gevent.spawn(put)
    start = perf_counter()
    for _ in range(size):
        item = items.get()
    seconds = perf_counter() - start
    putter.join()
    finished(item + 1)
    return seconds


def lock(size):
    shared = gevent.lock.BoundedSemaphore(1)

    def body():
        for turn in range(size // TASKS):
            with shared:
                gevent.sleep(0)
        finished(turn + 1)

    return taking_turns([body] * TASKS)


def cancel(size):
    tasks = [gevent.spawn(gevent.sleep, ENDLESS_SECONDS) for _ in range(size)]
    gevent.sleep(0)
    start = perf_counter()
    gevent.killall(tasks)
    seconds = perf_counter() - start
    finished(sum(isinstance(task.value, gevent.GreenletExit) for task in tasks))
    return seconds


def cancel_each(size):
    tasks = [gevent.spawn(gevent.sleep, ENDLESS_SECONDS) for _ in range(size)]
    gevent.sleep(0)
    start = perf_counter()
    for task in tasks:
        task.kill()  # waits until the task has ended
    seconds = perf_counter() - start
    finished(sum(isinstance(task.value, gevent.GreenletExit) for task in tasks))
    return seconds


def memory(size):
    def sleeper():
        gevent.sleep(ENDLESS_SECONDS)

    before = used_memory()
    tasks = [gevent.spawn(sleeper) for _ in range(size)]
    gevent.sleep(0)
    used = used_memory() - before
    finished(sum(not task.ready() for task in tasks))
    gevent.killall(tasks)
    return used
