"""trio."""

from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import trio

from ..rss import used_memory
from . import DEADLINES, LIMIT, LONG, TASKS

run = trio.run


def taking_turns(bodies):
    """Run functions as tasks; return the seconds from when all are there to when all have ended."""

    async def main():
        async with trio.open_nursery() as nursery:
            for body in bodies:
                nursery.start_soon(body)
            start = perf_counter()
        return perf_counter() - start

    return run(main)


def switch(size):
    async def body():
        for _ in range(size // TASKS):
            await trio.lowlevel.checkpoint()

    return taking_turns([body] * TASKS) / size


def syscall(size):
    async def body():
        for _ in range(size // TASKS):
            await trio.sleep(0)

    return taking_turns([body] * TASKS) / size


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for _ in range(turns):
        await trio.lowlevel.checkpoint()


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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nothing)
        return perf_counter() - start

    return run(main) / size


def fan(size):
    async def main():
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(nothing)
        return perf_counter() - start

    return run(main) / size


def sleep(size):
    random = Random(1)

    async def main():
        start = process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(trio.sleep, random.uniform(0, DEADLINES))
        return process_time() - start

    return run(main) / size


def timeout(size):
    async def main():
        start = perf_counter()
        for _ in range(size):
            with trio.fail_after(LIMIT):
                await trio.lowlevel.checkpoint()
        return perf_counter() - start

    return run(main) / size


def queue(size):
    async def main():
        sender, receiver = trio.open_memory_channel(1)

        async def put():
            for number in range(size):
                await sender.send(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            start = perf_counter()
            for _ in range(size):
                await receiver.receive()
            return perf_counter() - start

    return run(main) / size


def lock(size):
    shared = trio.Lock()

    async def body():
        for _ in range(size // TASKS):
            async with shared:
                await trio.lowlevel.checkpoint()

    return taking_turns([body] * TASKS) / size


def cancel(size):
    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(trio.sleep, LONG)
            await trio.testing.wait_all_tasks_blocked()
            start = perf_counter()
            nursery.cancel_scope.cancel()
        return perf_counter() - start

    import trio.testing

    return run(main) / size


def memory(size):
    async def sleeper():
        await trio.sleep(LONG)

    async def main():
        before = used_memory()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(sleeper)
            await trio.lowlevel.checkpoint()
            used = used_memory() - before
            nursery.cancel_scope.cancel()
        return used

    return run(main) / size
