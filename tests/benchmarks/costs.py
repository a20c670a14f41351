"""`python -m tests.benchmarks.costs`: what an operation costs in allocations and in system calls.

Unlike times, these are the same in each run. Both are counted of so many operations and of twice as
many, each in a process of its own, since the difference is free of what it takes to begin and to end.
Allocations are counted by a C program, system calls by `strace`; without a compiler, or strace, there
is no such column.
"""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .catalogue import LIMIT, OURS
from .echo import can_trace, compiled, has_compiler
from .work import MODULES

PACKAGE = "tests.benchmarks"  # as it is called in a process of its own, at the root of the project
ROOT = Path(__file__).parents[2]
OPERATIONS = {
    "switch": "a bare yield",
    "syscall": "a sleep of 0 s",
    "spawn": "spawn a task and join it",
    "timeout": "a yield within a limit of time",
    "queue": "put and get an item",
    "lock": "acquire, yield, release",
    "cancel": "cancel a sleeping task",
}
PEERS = (OURS, LIMIT, "asyncio")
SIZE = 10_000


def main() -> None:
    """Print a line for each operation and peer."""
    print(f"{'':<32}{'':<12}{'allocations':>12}{'system calls':>14}")
    for name, what in OPERATIONS.items():
        for peer in PEERS:
            if hasattr(importlib.import_module(f"{__package__}.peers.{MODULES[peer]}"), name):
                counts = allocations(peer, name), system_calls(peer, name)
                figures = ["-" if count is None else f"{count:.2f}" for count in counts]
                print(f"{what:<32}{peer:<12}{figures[0]:>12}{figures[1]:>14}", flush=True)


def allocations(peer: str, name: str) -> float | None:
    """Return how often one operation asks for memory."""
    if not has_compiler():
        return None
    library = compiled("allocations.c", "-shared", "-fPIC")
    return each(lambda size: int(started(peer, name, size, library).stdout))


def system_calls(peer: str, name: str) -> float | None:
    """Return how many system calls one operation makes."""
    if not can_trace():
        return None

    def count(size: int) -> int:
        with tempfile.NamedTemporaryFile("r") as report:
            _ = started(peer, name, size, under=["strace", "-c", "-f", "-o", report.name])
            *_, total = report.read().strip().splitlines()
        return int(total.split()[3])

    return each(count)


def each(count: Callable[[int], int]) -> float:
    """Return what one operation adds to a count."""
    return (count(2 * SIZE) - count(SIZE)) / SIZE


def started(peer: str, name: str, size: int, library: str = "", under: tuple[str, ...] | list[str] = ()):
    """Do the operations of a peer in a new process."""
    module = f"{PACKAGE}.peers.{MODULES[peer]}"
    command = [*under, sys.executable, "-m", f"{PACKAGE}.costs", module, name, str(size), library]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def operate(module: str, name: str, size: str, library: str) -> None:
    """Be that process: do the operations, and print how often memory was asked for."""
    operation = getattr(importlib.import_module(module), name)
    if not library:
        _ = operation(int(size))
        return
    counter = ctypes.CDLL(library)
    counter.counted.restype = ctypes.c_longlong
    python = ctypes.pythonapi
    counter.count_from_here(python.PyMem_GetAllocator, python.PyMem_SetAllocator)
    _ = operation(int(size))
    print(counter.counted())


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else operate(*sys.argv[1:])
