"""asyncio, as Python brings it."""

from __future__ import annotations

import asyncio
from random import Random
from time import perf_counter, process_time

from ..rss import used_memory
from . import DEADLINES, DENSITY, LIMIT, LONG, SWITCHES, TASKS

run = asyncio.run


def taking_turns(bodies):
    async def main():
        tasks = [asyncio.create_task(body) for body in bodies]
        start = perf_counter()
        await asyncio.gather(*tasks)
        return perf_counter() - start

    return run(main())


def switch(size):
    async def body():
        for _ in range(size // TASKS):
            await asyncio.sleep(0)

    return taking_turns([body() for _ in range(TASKS)]) / size


def scale_switch(tasks):
    async def body():
        for _ in range(SWITCHES):
            await asyncio.sleep(0)

    return taking_turns(body() for _ in range(tasks)) / (tasks * SWITCHES)


syscall = switch  # it is what lets the others run


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for _ in range(turns):
        await asyncio.sleep(0)


def depth_1(size):
    return taking_turns([deeper(0, size)]) / size


def depth_10(size):
    return taking_turns([deeper(9, size)]) / size


def depth_100(size):
    return taking_turns([deeper(99, size)]) / size


async def nothing():
    return


def spawn(size):
    async def main():
        start = perf_counter()
        for _ in range(size):
            await asyncio.create_task(nothing())
        return perf_counter() - start

    return run(main()) / size


def fan(size):
    async def main():
        start = perf_counter()
        await asyncio.gather(*(nothing() for _ in range(size)))
        return perf_counter() - start

    return run(main()) / size


def sleep(size, deadlines=DEADLINES):
    random = Random(1)

    async def main():
        start = process_time()
        await asyncio.gather(*(asyncio.sleep(random.uniform(0, deadlines)) for _ in range(size)))
        return process_time() - start

    return run(main()) / size


def scale_sleep(tasks):
    return sleep(tasks, tasks * DENSITY)


def timeout(size):
    async def main():
        start = perf_counter()
        for _ in range(size):
            async with asyncio.timeout(LIMIT):
                await asyncio.sleep(0)
        return perf_counter() - start

    return run(main()) / size


def queue(size):
    async def put(items):
        for number in range(size):
            await items.put(number)

    async def main():
        items = asyncio.Queue(1)
        putter = asyncio.create_task(put(items))
        start = perf_counter()
        for _ in range(size):
            await items.get()
        seconds = perf_counter() - start
        await putter
        return seconds

    return run(main()) / size


def lock(size):
    shared = asyncio.Lock()

    async def body():
        for _ in range(size // TASKS):
            async with shared:
                await asyncio.sleep(0)

    return taking_turns([body() for _ in range(TASKS)]) / size


def cancel(size):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(LONG)) for _ in range(size)]
        await asyncio.sleep(0)
        start = perf_counter()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return perf_counter() - start

    return run(main()) / size


def memory(size):
    async def sleeper():
        await asyncio.sleep(LONG)

    async def main():
        before = used_memory()
        tasks = [asyncio.create_task(sleeper()) for _ in range(size)]
        await asyncio.sleep(0)
        used = used_memory() - before
        for task in tasks:
            task.cancel()
        return used

    return run(main()) / size
