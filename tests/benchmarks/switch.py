"""A bare `yield`: minisched's kernel against a bare loop over a deque of generators.

Both run 100 tasks; a round measures one after the other, so that what slows the machine down for
a while slows down both. The kernel is the stock one, in batches as `run` has it, each task in its context, and
Python's collector as it is.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter

from minisched.family import ended
from minisched.kernel import Kernel
from minisched.loop import BATCH

OTHER = "the bare loop"
UNIT = (1e9, "ns")
BOUND = 2.2
ROUNDS, TASKS, YIELDS = 60, 100, 500


def body():
    """Yield, and yield again."""
    for _ in range(YIELDS):
        yield


def rounds():
    """Return (seconds per switch in minisched, in the bare loop) for each round."""
    in_kernel(), in_bare_loop()  # the first time, the interpreter specialises its code
    for _ in range(ROUNDS):
        yield in_kernel(), in_bare_loop()


def in_kernel() -> float:
    """Return the seconds per switch of the kernel, the ends of the tasks included."""
    kernel = Kernel(ended)
    for _ in range(TASKS):
        kernel.spawn(body(), "body")
    started = perf_counter()
    while kernel.ready:
        kernel.turns(BATCH)
    return (perf_counter() - started) / (TASKS * YIELDS)


def in_bare_loop() -> float:
    """Return the seconds per switch of the smallest scheduler there is, the ends included."""
    ready = deque(body() for _ in range(TASKS))
    started = perf_counter()
    bare_loop(ready)
    return (perf_counter() - started) / (TASKS * YIELDS)


def bare_loop(ready: deque) -> None:
    """Run generators in turns, to their ends."""
    while ready:
        task = ready.popleft()
        try:
            task.send(None)
        except StopIteration:
            continue
        ready.append(task)
