"""A bare `yield`: minisched's kernel against a bare loop over a deque of generators.

Both run 100 tasks; a round measures one after the other, so that what slows the machine down for
a while slows down both. The kernel is the stock one, each task in its context.
"""

from __future__ import annotations

import gc
from collections import deque
from time import perf_counter

from minisched.kernel import Kernel
from minisched.tasks import ended

OTHER = "the bare loop"
UNIT = (1e9, "ns")
BOUND = 2.2
ROUNDS, TASKS, YIELDS = 60, 100, 200


def body():
    """Yield, and yield again."""
    for _ in range(YIELDS):
        yield


def rounds():
    """Return (seconds per switch in minisched, in the bare loop) for each round."""
    in_kernel(), in_bare_loop()  # the first time, the interpreter specialises its code
    gc.disable()
    try:
        for _ in range(ROUNDS):
            yield in_kernel(), in_bare_loop()
    finally:
        gc.enable()


def in_kernel() -> float:
    """Return the seconds per switch of the kernel, without the spawns."""
    kernel = Kernel(ended)
    for _ in range(TASKS):
        kernel.spawn(body(), "body")
    started = perf_counter()
    kernel.turns(TASKS * YIELDS)
    seconds = (perf_counter() - started) / (TASKS * YIELDS)
    kernel.turns(TASKS)  # the ends
    assert not kernel.ready
    return seconds


def in_bare_loop() -> float:
    """Return the seconds per switch of the smallest scheduler there is."""
    ready = deque(body() for _ in range(TASKS))
    started = perf_counter()
    bare_turns(ready, TASKS * YIELDS)
    return (perf_counter() - started) / (TASKS * YIELDS)


def bare_turns(ready: deque, limit: int) -> None:
    """Run turns until `limit` are over or nothing is ready."""
    for _ in range(limit):
        if not ready:
            break
        task = ready.popleft()
        try:
            task.send(None)
        except StopIteration:
            continue
        ready.append(task)
