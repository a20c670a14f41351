"""trio."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from random import Random
from time import perf_counter, process_time

import trio

from ..rss import used_memory
from . import (
    BLOCK_BYTES,
    BLOCKS,
    ENDLESS_SECONDS,
    MAX_SLEEP_SECONDS,
    PROGRAM,
    TASKS,
    TIMEOUT_SECONDS,
    file_of_blocks,
    finished,
)

run = trio.run


def taking_turns(bodies):
    """Run functions as tasks; return the seconds from the moment at which all have been started."""

    async def main():
        async with trio.open_nursery() as nursery:
            for body in bodies:
                nursery.start_soon(body)
            start = perf_counter()
        return perf_counter() - start

    return run(main)


def switch(size):
    async def body():
        for turn in range(size // TASKS):
            await trio.lowlevel.checkpoint()
        finished(turn + 1)

    return taking_turns([body] * TASKS)


def syscall(size):
    async def body():
        for turn in range(size // TASKS):
            await trio.sleep(0)
        finished(turn + 1)

    return taking_turns([body] * TASKS)


async def deeper(below, turns):
    if below:
        return await deeper(below - 1, turns)
    for turn in range(turns):
        await trio.lowlevel.checkpoint()
    finished(turn + 1)


def depth_1(size):
    return taking_turns([lambda: deeper(0, size)])


def depth_10(size):
    return taking_turns([lambda: deeper(9, size)])


def depth_100(size):
    return taking_turns([lambda: deeper(99, size)])


async def nothing():
    return


def spawn(size):
    async def main():
        start = perf_counter()
        for number in range(size):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nothing)
        finished(number + 1)
        return perf_counter() - start

    return run(main)


def fan(size):
    async def main():
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(nothing)
        finished(number + 1)
        return perf_counter() - start

    return run(main)


def sleep(size):
    random = Random(1)

    async def main():
        start = process_time()
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(trio.sleep, random.uniform(0, MAX_SLEEP_SECONDS))
        finished(number + 1)
        return process_time() - start

    return run(main)


def timeout(size):
    async def main():
        start = perf_counter()
        for turn in range(size):
            with trio.fail_after(TIMEOUT_SECONDS):
                await trio.lowlevel.checkpoint()
        finished(turn + 1)
        return perf_counter() - start

    return run(main)


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
                item = await receiver.receive()
            finished(item + 1)
            return perf_counter() - start

    return run(main)


def lock(size):
    shared = trio.Lock()

    async def body():
        for turn in range(size // TASKS):
            async with shared:
                await trio.lowlevel.checkpoint()
        finished(turn + 1)

    return taking_turns([body] * TASKS)


def thread(size):
    async def main():
        await trio.to_thread.run_sync(int)  # starts the thread
        start = process_time()
        for _ in range(size):
            await trio.to_thread.run_sync(finished, 1)
        return process_time() - start

    return run(main)


def file_reads(size):
    async def main(path):
        async with await trio.open_file(path, "rb", buffering=0) as file:
            start = process_time()
            for number in range(size):
                if number % BLOCKS == 0:
                    await file.seek(0)  # a file of trio has no reads at an offset
                finished(len(await file.read(BLOCK_BYTES)) // BLOCK_BYTES)
            return process_time() - start

    with file_of_blocks() as path:
        return run(main, path)


def processes(size):
    async def output(results):
        results.append(await trio.run_process(PROGRAM, capture_stdout=True, capture_stderr=True))

    async def main():
        results = []
        start = process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(output, results)
        seconds = process_time() - start
        finished(sum(len(result.stdout) for result in results) // 2)
        return seconds

    return run(main)


def cancel(size):
    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(trio.sleep, ENDLESS_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
            finished(len(nursery.child_tasks))
            start = perf_counter()
            nursery.cancel_scope.cancel()
        return perf_counter() - start

    import trio.testing

    return run(main)


def fail(size):
    async def failing():
        finished(1)
        raise ValueError

    async def main():
        start = perf_counter()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(size):
                    nursery.start_soon(failing)
        except* ValueError:
            pass
        return perf_counter() - start

    return run(main)


def memory(size):
    async def sleeper():
        await trio.sleep(ENDLESS_SECONDS)

    async def main():
        before = used_memory()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(sleeper)
            await trio.lowlevel.checkpoint()
            used = used_memory() - before
            finished(len(nursery.child_tasks))
            nursery.cancel_scope.cancel()
        return used

    return run(main)
