"""The bare loop: a limit. The smallest loop that lets generators take turns, without anything else."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from collections import deque
from time import perf_counter

from ..rss import used_memory
from . import SWITCHES, TASKS, finished


def loop(ready: deque) -> None:
    """Run generators in turns until all have ended."""
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
    for turn in range(turns):
        yield
    finished(turn + 1)


def switch(size):
    return timed(deque(body(size // TASKS) for _ in range(TASKS)))


def scale_switch(tasks):
    return timed(deque(body(SWITCHES) for _ in range(tasks)))


syscall = switch  # the bare loop has no syscalls


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for turn in range(turns):
        yield
    finished(turn + 1)


def depth_1(size):
    return timed(deque([deeper(0, size)]))


def depth_10(size):
    return timed(deque([deeper(9, size)]))


def depth_100(size):
    return timed(deque([deeper(99, size)]))


def nothing():
    return
    yield


def fan(size):
    start = perf_counter()
    tasks = deque(nothing() for _ in range(size))
    finished(len(tasks))
    loop(tasks)
    return perf_counter() - start


def single():
    yield


def memory(size):
    before = used_memory()
    ready = deque(single() for _ in range(size))
    for task in ready:
        task.send(None)
    finished(len(ready))
    return used_memory() - before
