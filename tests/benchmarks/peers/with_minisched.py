"""minisched."""

# ruff: noqa: B007  (the last value of a loop variable is reported after the loop)
from __future__ import annotations

from random import Random
from time import perf_counter, process_time

from minisched import (
    Cancel,
    CurrentTask,
    InThread,
    Join,
    JoinAll,
    Lock,
    Open,
    Queue,
    ReadAt,
    Sleep,
    Spawn,
    TaskCancelled,
    Timeout,
    gather,
    run,
    run_process,
)

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


def taking_turns(bodies):
    """Run tasks until all have ended; return the seconds from the moment at which all have been spawned."""

    def main():
        me = yield CurrentTask()
        for body in bodies:  # not by Spawn: each is a turn, in which the tasks that exist already would run
            me.kernel.spawn(body, None, me)
        start = perf_counter()
        yield JoinAll()
        return perf_counter() - start

    return run(main(), debug=False)


def switch(size):
    def body():
        for turn in range(size // TASKS):
            yield
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def scale_switch(tasks):
    def body():
        for turn in range(SWITCHES):
            yield
        finished(turn + 1)

    return taking_turns(body() for _ in range(tasks))


def syscall(size):
    def body():
        for turn in range(size // TASKS):
            yield Sleep(0)
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for turn in range(turns):
        yield
    finished(turn + 1)


def depth_1(size):
    return taking_turns([deeper(0, size)])


def depth_10(size):
    return taking_turns([deeper(9, size)])


def depth_100(size):
    return taking_turns([deeper(99, size)])


def same(number):
    return number
    yield


def sleeper(seconds):
    yield Sleep(seconds)


def spawn(size):
    def main():
        start = perf_counter()
        for number in range(size):
            task = yield Spawn(same(number))
            result = yield Join(task)
        seconds = perf_counter() - start
        finished(result + 1)
        return seconds

    return run(main(), debug=False)


def fan(size):
    def main():
        start = perf_counter()
        for number in range(size):
            yield Spawn(same(number))
        yield JoinAll()
        finished(number + 1)
        return perf_counter() - start

    return run(main(), debug=False)


def sleep(size, longest=MAX_SLEEP_SECONDS):
    random = Random(1)

    def main():
        start = process_time()
        for number in range(size):
            yield Spawn(sleeper(random.uniform(0, longest)))
        yield JoinAll()
        finished(number + 1)
        return process_time() - start

    return run(main(), debug=False)


def scale_sleep(tasks):
    return sleep(tasks, tasks * SLEEP_PER_TASK_SECONDS)


def timeout(size):
    def main():
        start = perf_counter()
        for turn in range(size):
            with (yield Timeout(TIMEOUT_SECONDS)):
                yield
        finished(turn + 1)
        return perf_counter() - start

    return run(main(), debug=False)


def queue(size):
    def put(items):
        for number in range(size):
            yield items.put(number)

    def main():
        items = Queue(1)
        yield Spawn(put(items))
        start = perf_counter()
        for _ in range(size):
            item = yield items.get()
        finished(item + 1)
        return perf_counter() - start

    return run(main(), debug=False)


def lock(size):
    shared = Lock()

    def body():
        for turn in range(size // TASKS):
            yield shared.acquire()
            try:
                yield
            finally:
                shared.release()
        finished(turn + 1)

    return taking_turns([body() for _ in range(TASKS)])


def thread(size):
    def main():
        yield InThread(int)  # starts the thread
        start = process_time()
        for _ in range(size):
            yield InThread(finished, 1)
        return process_time() - start

    return run(main(), debug=False)


def file_reads(size):
    def main(path):
        with (yield Open(path)) as file:
            start = process_time()
            for number in range(size):
                finished(len((yield ReadAt(file, BLOCK_BYTES, number % BLOCKS * BLOCK_BYTES))) // BLOCK_BYTES)
            return process_time() - start

    with file_of_blocks() as path:
        return run(main(path), debug=False)


def processes(size):
    def main():
        start = process_time()
        results = yield from gather(*(run_process(PROGRAM) for _ in range(size)))
        seconds = process_time() - start
        finished(sum(len(result.stdout) for result in results) // 2)
        return seconds

    return run(main(), debug=False)


def cancel(size):
    def parent():
        for number in range(size):
            yield Spawn(sleeper(ENDLESS_SECONDS))
        finished(number + 1)

    def main():
        task = yield Spawn(parent())
        while task.state != "ending":
            yield
        yield
        start = perf_counter()
        yield Cancel(task)
        yield Join(task)
        return perf_counter() - start

    return run(main(), debug=False)


def cancel_each(size):
    def main():
        tasks = []
        for _ in range(size):
            tasks.append((yield Spawn(sleeper(ENDLESS_SECONDS))))
        cancelled = 0
        start = perf_counter()
        for task in tasks:
            yield Cancel(task)
            try:
                yield Join(task)
            except TaskCancelled:
                cancelled += 1
        seconds = perf_counter() - start
        finished(cancelled)
        return seconds

    return run(main(), debug=False)


def fail(size):
    def failing():
        finished(1)
        raise ValueError
        yield

    def main():
        start = perf_counter()
        try:
            yield from gather(*(failing() for _ in range(size)))
        except ValueError:
            return perf_counter() - start

    return run(main(), debug=False)


def memory(size):
    def main():
        before = used_memory()
        for number in range(size):
            yield Spawn(sleeper(ENDLESS_SECONDS), daemon=True)
        yield
        finished(number + 1)
        return used_memory() - before

    return run(main(), debug=False)
