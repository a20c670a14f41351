"""curio, where it still imports (before Python 3.12)."""

from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import curio

from ..rss import used_memory
from . import DEADLINES, LIMIT, LONG, TASKS

run = curio.run


def taking_turns(bodies):
    async def main():
        tasks = [await curio.spawn(body) for body in bodies]
        start = perf_counter()
        for task in tasks:
            await task.join()
        return perf_counter() - start

    return run(main)


def switch(size):
    async def body():
        for _ in range(size // TASKS):
            await curio.sleep(0)

    return taking_turns([body] * TASKS) / size


syscall = switch  # it is what lets the others run


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for _ in range(turns):
        await curio.sleep(0)


def depth_1(size):
    return taking_turns([lambda: deeper(0, size)]) / size


def depth_10(size):
    return taking_turns([lambda: deeper(9, size)]) / size


def depth_100(size):
    return taking_turns([lambda: deeper(99, size)]) / size


async def nothing():
    return


def spawn(size):
    async def main():
        start = perf_counter()
        for _ in range(size):
            task = await curio.spawn(nothing)
            await task.join()
        return perf_counter() - start

    return run(main) / size


def fan(size):
    async def main():
        start = perf_counter()
        async with curio.TaskGroup() as group:
            for _ in range(size):
                await group.spawn(nothing)
        return perf_counter() - start

    return run(main) / size


def sleep(size):
    random = Random(1)

    async def main():
        start = process_time()
        async with curio.TaskGroup() as group:
            for _ in range(size):
                await group.spawn(curio.sleep, random.uniform(0, DEADLINES))
        return process_time() - start

    return run(main) / size


def timeout(size):
    async def main():
        start = perf_counter()
        for _ in range(size):
            async with curio.timeout_after(LIMIT):
                await curio.sleep(0)
        return perf_counter() - start

    return run(main) / size


def queue(size):
    async def put(items):
        for number in range(size):
            await items.put(number)

    async def main():
        items = curio.Queue(1)
        putter = await curio.spawn(put, items)
        start = perf_counter()
        for _ in range(size):
            await items.get()
        seconds = perf_counter() - start
        await putter.join()
        return seconds

    return run(main) / size


def lock(size):
    shared = curio.Lock()

    async def body():
        for _ in range(size // TASKS):
            async with shared:
                await curio.sleep(0)

    return taking_turns([body] * TASKS) / size


def cancel(size):
    async def main():
        tasks = [await curio.spawn(curio.sleep, LONG) for _ in range(size)]
        await curio.sleep(0)
        start = perf_counter()
        for task in tasks:
            await task.cancel(blocking=False)
        for task in tasks:
            await task.wait()
        return perf_counter() - start

    return run(main) / size


def memory(size):
    async def sleeper():
        await curio.sleep(LONG)

    async def main():
        before = used_memory()
        tasks = [await curio.spawn(sleeper) for _ in range(size)]
        await curio.sleep(0)
        used = used_memory() - before
        for task in tasks:
            await task.cancel(blocking=False)
        return used

    return run(main) / size
