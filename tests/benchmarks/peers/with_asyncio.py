"""asyncio, with the event loop of the standard library."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from random import Random
from time import perf_counter, process_time

from ..rss import used_memory
from . import (
    BLOCK_BYTES,
    BLOCKS,
    ENDLESS_SECONDS,
    MAX_SLEEP_SECONDS,
    PROGRAM,
    SLEEP_PER_TASK_SECONDS,
    SWITCHES,
    TASKS,
    TIMEOUT_SECONDS,
    file_of_blocks,
    finished,
)

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
        for turn in range(size // TASKS):
            await asyncio.sleep(0)
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def scale_switch(tasks):
    async def body():
        for turn in range(SWITCHES):
            await asyncio.sleep(0)
        finished(turn + 1)

    return taking_turns(body() for _ in range(tasks))


syscall = switch  # asyncio has no cheaper way to yield


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for turn in range(turns):
        await asyncio.sleep(0)
    finished(turn + 1)


def depth_1(size):
    return taking_turns([deeper(0, size)])


def depth_10(size):
    return taking_turns([deeper(9, size)])


def depth_100(size):
    return taking_turns([deeper(99, size)])


async def same(number):
    return number


def spawn(size):
    async def main():
        start = perf_counter()
        for number in range(size):
            result = await asyncio.create_task(same(number))
        seconds = perf_counter() - start
        finished(result + 1)
        return seconds

    return run(main())


def fan(size):
    async def main():
        start = perf_counter()
        results = await asyncio.gather(*(same(number) for number in range(size)))
        seconds = perf_counter() - start
        finished(results[-1] + 1)
        return seconds

    return run(main())


def sleep(size, longest=MAX_SLEEP_SECONDS):
    random = Random(1)

    async def main():
        start = process_time()
        results = await asyncio.gather(*(asyncio.sleep(random.uniform(0, longest), 1) for _ in range(size)))
        seconds = process_time() - start
        finished(sum(results))
        return seconds

    return run(main())


def scale_sleep(tasks):
    return sleep(tasks, tasks * SLEEP_PER_TASK_SECONDS)


def timeout(size):
    async def main():
        start = perf_counter()
        for turn in range(size):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.sleep(0)
        finished(turn + 1)
        return perf_counter() - start

    return run(main())


def queue(size):
    async def put(items):
        for number in range(size):
            await items.put(number)

    async def main():
        items = asyncio.Queue(1)
        putter = asyncio.create_task(put(items))
        start = perf_counter()
        for _ in range(size):
            item = await items.get()
        seconds = perf_counter() - start
        await putter
        finished(item + 1)
        return seconds

    return run(main())


def lock(size):
    shared = asyncio.Lock()

    async def body():
        for turn in range(size // TASKS):
            async with shared:
                await asyncio.sleep(0)
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def thread(size):
    async def main():
        await asyncio.to_thread(int)  # starts the thread
        start = process_time()
        for _ in range(size):
            await asyncio.to_thread(finished, 1)
        return process_time() - start

    return run(main())


def file_reads(size):
    async def main(path):
        file = await asyncio.to_thread(open, path, "rb", buffering=0)
        with file:
            start = process_time()
            for number in range(size):
                data = await asyncio.to_thread(os.pread, file.fileno(), BLOCK_BYTES, number % BLOCKS * BLOCK_BYTES)
                finished(len(data) // BLOCK_BYTES)
            return process_time() - start

    with file_of_blocks() as path:
        return run(main(path))


def processes(size):
    async def output():
        process = await asyncio.create_subprocess_exec(*PROGRAM, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        return await process.communicate()

    async def main():
        start = process_time()
        results = await asyncio.gather(*(output() for _ in range(size)))
        seconds = process_time() - start
        finished(sum(len(out) for out, _ in results) // 2)
        return seconds

    return run(main())


def cancel(size):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(ENDLESS_SECONDS)) for _ in range(size)]
        await asyncio.sleep(0)
        start = perf_counter()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        seconds = perf_counter() - start
        finished(sum(task.cancelled() for task in tasks))
        return seconds

    return run(main())


def cancel_each(size):
    async def main():
        tasks = [asyncio.create_task(asyncio.sleep(ENDLESS_SECONDS)) for _ in range(size)]
        await asyncio.sleep(0)
        cancelled = 0
        start = perf_counter()
        for task in tasks:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cancelled += 1
        seconds = perf_counter() - start
        finished(cancelled)
        return seconds

    return run(main())


def fail(size):
    async def failing():
        finished(1)
        raise ValueError

    async def main():
        start = perf_counter()
        try:
            await asyncio.gather(*(failing() for _ in range(size)))
        except ValueError:
            return perf_counter() - start

    return run(main())


def memory(size):
    async def sleeper():
        await asyncio.sleep(ENDLESS_SECONDS)

    async def main():
        before = used_memory()
        tasks = [asyncio.create_task(sleeper()) for _ in range(size)]
        await asyncio.sleep(0)
        used = used_memory() - before
        finished(sum(not task.done() for task in tasks))
        for task in tasks:
            task.cancel()
        return used

    return run(main())
