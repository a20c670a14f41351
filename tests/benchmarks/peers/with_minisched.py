"""minisched itself."""

from __future__ import annotations

from random import Random
from time import perf_counter, process_time

from minisched import Cancel, CurrentTask, Join, JoinAll, Lock, Queue, Sleep, Spawn, Timeout, run

from ..rss import used_memory
from . import DEADLINES, DENSITY, LIMIT, LONG, SWITCHES, TASKS


def taking_turns(bodies):
    """Run tasks to their ends; return the seconds that takes."""

    def main():
        me = yield CurrentTask()
        for body in bodies:  # all in one turn: a Spawn is a turn in which those that are there take theirs
            me.kernel.spawn(body, None, me)
        start = perf_counter()
        yield JoinAll()
        return perf_counter() - start

    return run(main(), debug=False)


def switch(size):
    def body():
        for _ in range(size // TASKS):
            yield

    return taking_turns([body() for _ in range(TASKS)]) / size


def scale_switch(tasks):
    def body():
        for _ in range(SWITCHES):
            yield

    return taking_turns(body() for _ in range(tasks)) / (tasks * SWITCHES)


def syscall(size):
    def body():
        for _ in range(size // TASKS):
            yield Sleep(0)

    return taking_turns([body() for _ in range(TASKS)]) / size


def deeper(below, turns):
    if below:
        return (yield from deeper(below - 1, turns))
    for _ in range(turns):
        yield


def depth_1(size):
    return taking_turns([deeper(0, size)]) / size


def depth_10(size):
    return taking_turns([deeper(9, size)]) / size


def depth_100(size):
    return taking_turns([deeper(99, size)]) / size


def nothing():
    return
    yield


def sleeper(seconds):
    yield Sleep(seconds)


def spawn(size):
    def main():
        start = perf_counter()
        for _ in range(size):
            task = yield Spawn(nothing())
            yield Join(task)
        return perf_counter() - start

    return run(main(), debug=False) / size


def fan(size):
    def main():
        start = perf_counter()
        for _ in range(size):
            yield Spawn(nothing())
        yield JoinAll()
        return perf_counter() - start

    return run(main(), debug=False) / size


def sleep(size, deadlines=DEADLINES):
    random = Random(1)

    def main():
        start = process_time()
        for _ in range(size):
            yield Spawn(sleeper(random.uniform(0, deadlines)))
        yield JoinAll()
        return process_time() - start

    return run(main(), debug=False) / size


def scale_sleep(tasks):
    return sleep(tasks, tasks * DENSITY)


def timeout(size):
    def main():
        start = perf_counter()
        for _ in range(size):
            with (yield Timeout(LIMIT)):
                yield
        return perf_counter() - start

    return run(main(), debug=False) / size


def queue(size):
    def put(items):
        for number in range(size):
            yield items.put(number)

    def main():
        items = Queue(1)
        yield Spawn(put(items))
        start = perf_counter()
        for _ in range(size):
            yield items.get()
        return perf_counter() - start

    return run(main(), debug=False) / size


def lock(size):
    shared = Lock()

    def body():
        for _ in range(size // TASKS):
            yield shared.acquire()
            try:
                yield
            finally:
                shared.release()

    return taking_turns([body() for _ in range(TASKS)]) / size


def cancel(size):
    def parent():
        for _ in range(size):
            yield Spawn(sleeper(LONG))

    def main():
        task = yield Spawn(parent())
        while task.state != "ending":
            yield
        yield
        start = perf_counter()
        yield Cancel(task)
        yield Join(task)  # whose body has returned
        return perf_counter() - start

    return run(main(), debug=False) / size


def memory(size):
    def main():
        before = used_memory()
        for _ in range(size):
            yield Spawn(sleeper(LONG), daemon=True)
        yield
        return used_memory() - before

    return run(main(), debug=False) / size
