"""`python -m tests.benchmarks.costs`: print the table of what an operation costs in allocations and system calls.

Unlike times, these numbers are the same in each run. A process does N operations, another one does 2 N: the
difference between their counts, divided by N, is the cost of one operation, without that of starting and stopping.
A C library counts the allocations and `strace` counts the system calls. A number that cannot be counted, without
a compiler or without strace, is shown as `-`.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .catalogue import MINISCHED
from .echo import can_trace, compiled, has_compiler
from .work import MODULES

PACKAGE = "tests.benchmarks"  # its name in a process that starts in the root directory of the project
ROOT = Path(__file__).parents[2]
LABELS = {
    "switch": "a bare yield",
    "syscall": "a sleep of 0 s",
    "spawn": "spawn a task and join it",
    "timeout": "a yield within a timeout",
    "queue": "put an item and get it",
    "lock": "acquire a lock, yield, release it",
    "cancel": "cancel a sleeping task",
    "cancel_each": "cancel a sleeping task and join it",
}
PEERS = (MINISCHED, "asyncio")
OPERATIONS = 10_000


def main() -> None:
    """Print the table in Markdown, as it stands in README.md."""
    for line in table():
        print(line, flush=True)


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| operation | benchmark | " + " | ".join(f"{peer}: allocations | system calls" for peer in PEERS) + " |"
    yield "|---" * (2 + 2 * len(PEERS)) + "|"
    for name, label in LABELS.items():
        counts = [count(peer, name) for peer in PEERS for count in (allocations, system_calls)]
        numbers = ["-" if count is None else f"{max(count, 0):.1f}" for count in counts]
        yield f"| {label} | `{name}` | " + " | ".join(numbers) + " |"


def allocations(peer: str, name: str) -> float | None:
    """Return the number of allocations of one operation."""
    if not has_compiler():
        return None
    library = compiled("allocations.c", "-shared", "-fPIC")
    return per_operation(lambda size: int(run_operations(peer, name, size, library).stdout))


def system_calls(peer: str, name: str) -> float | None:
    """Return the number of system calls of one operation."""
    if not can_trace():
        return None

    def count(size: int) -> int:
        with tempfile.NamedTemporaryFile("r") as report:
            _ = run_operations(peer, name, size, under=["strace", "-c", "-f", "-o", report.name])
            *_, total = report.read().strip().splitlines()
        return int(total.split()[3])

    return per_operation(count)


def per_operation(count: Callable[[int], int]) -> float:
    """Return how much one operation adds to a count."""
    return (count(2 * OPERATIONS) - count(OPERATIONS)) / OPERATIONS


def run_operations(
    peer: str, name: str, size: int, library: str = "", under: tuple[str, ...] | list[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Do `size` operations of a peer in a new process; `under` is a command that runs the process."""
    module = f"{PACKAGE}.peers.{MODULES[peer]}"
    command = [*under, sys.executable, "-m", f"{PACKAGE}.costs", module, name, str(size), library]
    environment = os.environ | {"PYTHONHASHSEED": "0"}  # dicts and sets grow in the same way in each process
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


def operate(module: str, name: str, size: str, library: str) -> None:
    """Do the operations in this process; with a library, print the number of allocations."""
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
