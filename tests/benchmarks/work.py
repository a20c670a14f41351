"""Benchmarks of what happens inside of one process: tasks, timers, locks, memory, imports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from .catalogue import LIMIT, OURS, SHAPE, Benchmark, Series, Values
from .processes import Process, python

MODULES = {
    OURS: "with_minisched",
    LIMIT: "bare",
    SHAPE: "bare_tasks",
    "uvloop": "with_uvloop",
    "asyncio": "with_asyncio",
    "gevent": "with_gevent",
    "trio": "with_trio",
    "curio": "with_curio",
    "tinyio": "with_tinyio",
}
WORKER = "tests.benchmarks.worker"
WARM = 2  # rounds that do not count: the interpreter specialises its code, and caches fill
PATIENCE = 300  # seconds that a million tasks may take
MANY = 100_000  # tasks: as they ended, so they left the memory, and the next ones would find it so
SAME = 3  # rounds with the same processes: where things happen to lie in memory makes one faster than another
IMPORT = "from time import perf_counter as now; began = now(); import {}; print(now() - began)"


@dataclass(frozen=True)
class Work(Benchmark):
    """`size` operations, done so many times; the figure is what one of them takes. `anew`: in a new process each."""

    size: int
    times: int = 1
    anew: bool = False
    patience: float | None = None

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        if self.anew:
            for _ in range(rounds):
                with ExitStack() as running:  # when one breaks off, the others are ended, too
                    yield self.round([running.enter_context(worker(peer)) for peer in peers], close=True)
            return
        for first in range(0, rounds, SAME):
            with ExitStack() as running:
                workers = [running.enter_context(worker(peer)) for peer in peers]
                for number in range(first - WARM, min(first + SAME, rounds)):
                    values = self.round(workers, close=False)
                    if number >= first:
                        yield values

    def round(self, workers: list[Process], close: bool) -> Values:
        """Let each do the work once."""
        values: dict[str, float] = {}
        for one in workers:
            said = one.ask(f"{self.name} {self.size} {self.times}", self.patience)
            if said != "none":
                values[one.name] = float(said)
            if close:
                one.__exit__()
        return {self.name: values}


@dataclass(frozen=True)
class Scale(Benchmark):
    """The same work among more and more tasks: a series for each number of them."""

    work: str
    sizes: tuple[int, ...]

    def measure(self, peers: list[str], rounds: int) -> Iterator[Values]:
        parts = [
            Work(
                self.work,
                self.what,
                rounds,
                self.peers,
                size=size,
                times=max(2_000 // size, 1),
                anew=size >= MANY,
                patience=PATIENCE,
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
        for number in range(-1, rounds):  # the first time, the compiled files are written
            values: dict[str, float] = {}
            for peer in peers:
                with python(peer, "-c", IMPORT.format(peer)) as process:
                    values[peer] = float(process.line())
            if number >= 0:
                yield {self.name: values}


def worker(peer: str) -> Process:
    """Start the process of a peer."""
    return python(peer, "-m", WORKER, MODULES[peer])


def work(name: str, what: str, size: int, rounds: int = 21, unit: str = "us", *, anew: bool = False) -> Work:
    """Return a benchmark of one figure."""
    return Work(name, what, rounds, tuple(MODULES), size=size, anew=anew, series=(Series(name, what, unit),))


def scale(name: str, what: str, work: str, sizes: tuple[int, ...]) -> Scale:
    """Return a benchmark of a figure at several numbers of tasks."""
    series = tuple(Series(f"{name}@{size}", f"{what}, {size:,} of them") for size in sizes)
    return Scale(name, what, 3, (OURS, LIMIT, "asyncio"), work=work, sizes=sizes, series=series)


TASKS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
BENCHMARKS: list[Benchmark] = [
    work("switch", "100 tasks that only let each other run", 50_000),
    work("syscall", "the same by a call that is made each time: a sleep of 0 s", 50_000),
    work("spawn", "start a task and wait for its end, one at a time", 10_000),
    work("fan", "start 10,000 tasks and wait for all", 10_000),
    work("sleep", "50,000 tasks that each sleep up to 0.2 s: processor time", 50_000, 9),
    work("timeout", "enter and leave a limit of 30 s, and let others run in it", 10_000),
    work("queue", "hand an item over, through a queue of one", 20_000),
    work("lock", "100 tasks that take turns at a lock and let others run in it", 20_000),
    work("cancel", "end 50,000 sleeping tasks by cancelling them", 50_000, 9),
    work("depth_1", "a yield, 1 call deep", 20_000),
    work("depth_10", "a yield, 10 calls deep (`yield from`, `await`)", 20_000),
    work("depth_100", "a yield, 100 calls deep", 5_000),
    work("memory", "memory of a sleeping task", 100_000, 3, "bytes", anew=True),
    Import(
        "import",
        "import the package",
        15,
        (OURS, "asyncio", "uvloop", "gevent", "trio", "curio", "tinyio"),
        series=(Series("import", "import the package", "ms"),),
    ),
    scale("scale_switch", "tasks that only let each other run", "scale_switch", TASKS),
    scale("scale_sleep", "tasks that each sleep up to 2 us times their number: processor time", "scale_sleep", TASKS),
    scale("scale_cancel", "sleeping tasks that are cancelled", "cancel", TASKS),
]
