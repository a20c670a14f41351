"""Benchmarks of operations inside one process: tasks, timers, locks and queues, memory, imports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from .catalogue import BARE_LOOP, BARE_TASKS, IN_THREAD, MINISCHED, Benchmark, Series, Values
from .processes import Process, python

MODULES = {
    MINISCHED: "with_minisched",
    BARE_LOOP: "bare",
    BARE_TASKS: "bare_tasks",
    "uvloop": "with_uvloop",
    "asyncio": "with_asyncio",
    "gevent": "with_gevent",
    "trio": "with_trio",
    "curio": "with_curio",
    "tinyio": "with_tinyio",
}
FILE_MODULES = {peer: MODULES[peer] for peer in (MINISCHED, "uvloop", "asyncio", "trio", "curio")}
FILE_MODULES[IN_THREAD] = "with_inthread"
WORKER = "tests.benchmarks.worker"
WARM_UP_ROUNDS = 2  # not counted: the interpreter specialises its bytecode, and caches fill
LONG_ANSWER_SECONDS = 300  # the timeout of a million tasks
FRESH_TASKS = 100_000  # from this number on, each round needs a new process: the old one's heap is fragmented
ROUNDS_PER_PROCESS = 3  # then a new process, since the memory layout of a process makes it faster or slower
IMPORT_PROGRAM = "from time import perf_counter as now; start = now(); import {}; print(now() - start)"


class DifferentWork(Exception):
    """The peers have not all done the same number of operations."""


@dataclass(frozen=True)
class Work(Benchmark):
    """An operation, done `size` times in each of `times` calls; the figure is the cost of one operation.

    With `fresh`, each round has new processes.
    """

    size: int
    times: int = 1
    fresh: bool = False
    timeout: float | None = None

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        if self.fresh:
            for _ in range(rounds):
                with ExitStack() as running:  # if one worker fails, the others are ended too
                    yield self.round([running.enter_context(worker(peer)) for peer in peers], close=True)
            return
        for first in range(0, rounds, ROUNDS_PER_PROCESS):
            with ExitStack() as running:
                workers = [running.enter_context(worker(peer)) for peer in peers]
                for number in range(first - WARM_UP_ROUNDS, min(first + ROUNDS_PER_PROCESS, rounds)):
                    values = self.round(workers, close=False)
                    if number >= first:
                        yield values

    def round(self, workers: list[Process], close: bool) -> Values:
        """Let each worker do the work once, one after the other."""
        values: dict[str, float] = {}
        operations: dict[str, int] = {}
        for process in workers:
            answer = process.ask(f"{self.name} {self.size} {self.times}", self.timeout)
            if answer != "none":
                figure, count = answer.split()
                values[process.name], operations[process.name] = float(figure), int(count)
            if close:
                process.__exit__()
        if len(set(operations.values())) > 1:
            raise DifferentWork(f"{self.name}: the peers did different numbers of operations: {operations}")
        return {self.name: values}


@dataclass(frozen=True)
class Scale(Benchmark):
    """One operation among more and more tasks, with a series for each number of tasks."""

    work: str
    sizes: tuple[int, ...]

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        parts = [
            Work(
                self.work,
                self.description,
                rounds,
                self.peers,
                size=size,
                times=max(2_000 // size, 1),
                fresh=size >= FRESH_TASKS,
                timeout=LONG_ANSWER_SECONDS,
                series=(series,),
            )
            for size, series in zip(self.sizes, self.series, strict=True)
        ]
        for _ in range(rounds):
            values: Values = {}
            for part in parts:
                for measured in part.measure(peers, 1):
                    values[part.series[0].name] = measured[self.work]
            yield values


@dataclass(frozen=True)
class Import(Benchmark):
    """The time that a fresh interpreter takes to import a package."""

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        for number in range(-1, rounds):  # round -1 writes the .pyc files and is not counted
            values: dict[str, float] = {}
            for peer in peers:
                with python(peer, "-c", IMPORT_PROGRAM.format(peer)) as process:
                    values[peer] = float(process.line())
            if number >= 0:
                yield {self.name: values}


def worker(peer: str) -> Process:
    """Start the worker process of a peer."""
    return python(peer, "-m", WORKER, (MODULES | FILE_MODULES)[peer])


def work(name: str, description: str, size: int, rounds: int = 21, unit: str = "us", *, fresh: bool = False) -> Work:
    """Return a benchmark of one series."""
    series = (Series(name, description, unit),)
    return Work(name, description, rounds, tuple(MODULES), size=size, fresh=fresh, series=series)


def scale(name: str, description: str, work: str, sizes: tuple[int, ...]) -> Scale:
    """Return a benchmark of one operation among several numbers of tasks."""
    series = tuple(Series(f"{name}@{size}", f"{description}; {size:,} tasks") for size in sizes)
    return Scale(name, description, 3, (MINISCHED, BARE_LOOP, "asyncio"), work=work, sizes=sizes, series=series)


TASK_COUNTS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
BENCHMARKS: list[Benchmark] = [
    work("switch", "a bare yield, among 100 tasks", 50_000),
    work("syscall", "a sleep of 0 s, among 100 tasks", 50_000),
    work("spawn", "start a task and join it, one at a time", 10_000),
    work("fan", "start 10,000 tasks and join them all", 10_000),
    work("sleep", "50,000 tasks that each sleep up to 0.2 s (CPU time)", 50_000, 9),
    work("timeout", "enter a timeout of 30 s, yield, and leave it", 10_000),
    work("queue", "pass an item through a queue of size 1", 20_000),
    work("lock", "acquire a lock, yield, release it, among 100 tasks", 20_000),
    work("cancel", "cancel 50,000 sleeping tasks", 50_000, 9),
    work("cancel_each", "cancel 10,000 sleeping tasks one by one, and join each of them", 10_000, 9),
    work("fail", "10,000 tasks at once that all fail", 10_000, 9),
    work("thread", "a function's answer from another thread (CPU time)", 3_000),
    Work(
        "file_reads",
        "read 4 KiB of a file that is in the page cache (CPU time)",
        21,
        tuple(FILE_MODULES),
        size=10_000,
        series=(Series("file_reads", "read 4 KiB of a file that is in the page cache (CPU time)"),),
    ),
    work("processes", "run a program and read its output, 100 at once (CPU time)", 100, 9, "ms"),
    work("depth_1", "a yield, 1 call deep", 20_000),
    work("depth_10", "a yield, 10 calls deep (`yield from`, `await`)", 20_000),
    work("depth_100", "a yield, 100 calls deep", 5_000),
    work("memory", "memory of a sleeping task", 100_000, 3, "bytes", fresh=True),
    Import(
        "import",
        "import the package",
        15,
        (MINISCHED, "asyncio", "uvloop", "gevent", "trio", "curio", "tinyio"),
        series=(Series("import", "import the package", "ms"),),
    ),
    scale("scale_switch", "a bare yield", "scale_switch", TASK_COUNTS),
    scale("scale_sleep", "a sleep of up to 2 us for each task (CPU time)", "scale_sleep", TASK_COUNTS),
    scale("scale_cancel", "cancel a sleeping task", "cancel", TASK_COUNTS),
]
