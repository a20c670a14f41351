"""The limit: the smallest loop over generators that there is, which can do nothing but take turns."""

from __future__ import annotations

from collections import deque
from time import perf_counter

from ..rss import used_memory
from . import SWITCHES, TASKS


def loop(ready: deque) -> None:
    """Run generators in turns, to their ends."""
    while ready:
        task = ready.popleft()
        try:
            task.send(None)
        except StopIteration:
            continue
        ready.append(task)


def timed(ready):
    start = perf_counter()
    loop(ready)
    return perf_counter() - start


def body(turns):
    for _ in range(turns):
        yield


def switch(size):
    return timed(deque(body(size // TASKS) for _ in range(TASKS))) / size


def scale_switch(tasks):
    return timed(deque(body(SWITCHES) for _ in range(tasks))) / (tasks * SWITCHES)


syscall = switch  # it has none


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for _ in range(turns):
        yield


def depth_1(size):
    return timed(deque([deeper(0, size)])) / size


def depth_10(size):
    return timed(deque([deeper(9, size)])) / size


def depth_100(size):
    return timed(deque([deeper(99, size)])) / size


def fan(size):
    start = perf_counter()
    loop(deque(body(0) for _ in range(size)))
    return (perf_counter() - start) / size


def single():
    yield


def memory(size):
    before = used_memory()
    ready = deque(single() for _ in range(size))
    for task in ready:
        task.send(None)
    return (used_memory() - before) / size
