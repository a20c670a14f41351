"""curio, which can be imported before Python 3.12 only."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import curio

from ..rss import used_memory
from . import BLOCK_BYTES, BLOCKS, ENDLESS_SECONDS, MAX_SLEEP_SECONDS, TASKS, TIMEOUT_SECONDS, file_of_blocks, finished

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
        for turn in range(size // TASKS):
            await curio.sleep(0)
        finished(turn + 1)

    return taking_turns([body] * TASKS)


syscall = switch  # curio has no cheaper way to yield


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for turn in range(turns):
        await curio.sleep(0)
    finished(turn + 1)


def depth_1(size):
    return taking_turns([lambda: deeper(0, size)])


def depth_10(size):
    return taking_turns([lambda: deeper(9, size)])


def depth_100(size):
    return taking_turns([lambda: deeper(99, size)])


async def same(number):
    return number


def spawn(size):
    async def main():
        start = perf_counter()
        for number in range(size):
            task = await curio.spawn(same, number)
            result = await task.join()
        seconds = perf_counter() - start
        finished(result + 1)
        return seconds

    return run(main)


def fan(size):
    async def main():
        start = perf_counter()
        async with curio.TaskGroup() as group:
            for number in range(size):
                await group.spawn(same, number)
        finished(number + 1)
        return perf_counter() - start

    return run(main)


def sleep(size):
    random = Random(1)

    async def main():
        start = process_time()
        async with curio.TaskGroup() as group:
            for number in range(size):
                await group.spawn(curio.sleep, random.uniform(0, MAX_SLEEP_SECONDS))
        finished(number + 1)
        return process_time() - start

    return run(main)


def timeout(size):
    async def main():
        start = perf_counter()
        for turn in range(size):
            async with curio.timeout_after(TIMEOUT_SECONDS):
                await curio.sleep(0)
        finished(turn + 1)
        return perf_counter() - start

    return run(main)


def queue(size):
    async def put(items):
        for number in range(size):
            await items.put(number)

    async def main():
        items = curio.Queue(1)
        putter = await curio.spawn(put, items)
        start = perf_counter()
        for _ in range(size):
            item = await items.get()
        seconds = perf_counter() - start
        await putter.join()
        finished(item + 1)
        return seconds

    return run(main)


def lock(size):
    shared = curio.Lock()

    async def body():
        for turn in range(size // TASKS):
            async with shared:
                await curio.sleep(0)
        finished(turn + 1)

    return taking_turns([body] * TASKS)


def file_reads(size):
    async def main(path):
        async with curio.aopen(path, "rb", buffering=0) as file:
            start = process_time()
            for number in range(size):
                if number % BLOCKS == 0:
                    await file.seek(0)  # a file of curio has no reads at an offset
                finished(len(await file.read(BLOCK_BYTES)) // BLOCK_BYTES)
            return process_time() - start

    with file_of_blocks() as path:
        return run(main, path)


def cancel(size):
    async def main():
        tasks = [await curio.spawn(curio.sleep, ENDLESS_SECONDS) for _ in range(size)]
        await curio.sleep(0)
        start = perf_counter()
        for task in tasks:
            await task.cancel(blocking=False)
        for task in tasks:
            await task.wait()
        seconds = perf_counter() - start
        finished(sum(task.terminated for task in tasks))
        return seconds

    return run(main)


def cancel_each(size):
    async def main():
        tasks = [await curio.spawn(curio.sleep, ENDLESS_SECONDS) for _ in range(size)]
        await curio.sleep(0)
        start = perf_counter()
        for task in tasks:
            await task.cancel()  # waits until the task has ended
        seconds = perf_counter() - start
        finished(sum(task.terminated for task in tasks))
        return seconds

    return run(main)


def memory(size):
    async def sleeper():
        await curio.sleep(ENDLESS_SECONDS)

    async def main():
        before = used_memory()
        tasks = [await curio.spawn(sleeper) for _ in range(size)]
        await curio.sleep(0)
        used = used_memory() - before
        finished(sum(not task.terminated for task in tasks))
        for task in tasks:
            await task.cancel(blocking=False)
        return used

    return run(main)
