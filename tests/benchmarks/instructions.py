"""`python -m tests.benchmarks.instructions NAME...`: print how many instructions one operation takes.

The instructions are those of the program itself, in user mode: the time that the operating system takes for a system
call is not in them. Unlike times, they hardly depend on the machine and on what else runs there. So they show a change
of one percent, and they can be compared with those of another version, where the same command runs. `valgrind` counts
them, which makes a program fifty times slower. As in `costs`, the difference between two processes with different
numbers of operations is free of the start and the end.

Names are those of benchmarks: an operation inside one process, or a load on an echo server.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator

from . import costs, echo, work
from .catalogue import MINISCHED
from .processes import Process, ProcessFailed

OPERATIONS = 1_000  # and as many more in the second process
END_SECONDS = 120  # the timeout for the messages, and for the end, of a server under valgrind


def main(arguments: list[str]) -> None:
    """Print a table in Markdown: a row for each benchmark, a column for each peer."""
    counted = {one.name: one for one in (*work.BENCHMARKS, *echo.BENCHMARKS) if isinstance(one, work.Work | echo.Echo)}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*counted])
    parser.add_argument("--peers", metavar="A,B", default=f"{MINISCHED},asyncio,uvloop,asyncio protocol")
    args = parser.parse_args(arguments)
    for line in table([counted[name] for name in args.names], args.peers.split(",")):
        print(line, flush=True)


def table(benchmarks: list[work.Work | echo.Echo], peers: list[str]) -> Iterator[str]:
    """Yield the lines of the table; a peer that cannot take part in a benchmark has `-`."""
    yield f"| benchmark | {' | '.join(peers)} |"
    yield "|---" * (1 + len(peers)) + "|"
    for benchmark in benchmarks:
        present = warmed_up(benchmark, [peer for peer in peers if peer in benchmark.peers])
        counts = [instructions(benchmark, peer) if peer in present else None for peer in peers]
        cells = ("-" if count is None else f"{count:,.0f}" for count in counts)
        yield f"| `{benchmark.name}` | {' | '.join(cells)} |"


def warmed_up(benchmark: work.Work | echo.Echo, peers: list[str]) -> set[str]:
    """Run each peer once, so that no process that is counted has to compile modules; return those that can."""
    return {peer for values in benchmark.measure(peers, 1) for by_peer in values.values() for peer in by_peer}


def instructions(benchmark: work.Work | echo.Echo, peer: str) -> float:
    """Return the number of instructions of one operation, or of one message."""
    if shutil.which("valgrind") is None:
        raise ProcessFailed("instructions are counted by valgrind, which is not installed")
    if isinstance(benchmark, echo.Echo):
        each = OPERATIONS // benchmark.connections
        more, less = of_server(benchmark, peer, 2 * each), of_server(benchmark, peer, each)
        return (more - less) / each / benchmark.connections
    more, less = of_work(peer, benchmark.name, 2 * OPERATIONS), of_work(peer, benchmark.name, OPERATIONS)
    return (more - less) / OPERATIONS


def of_work(peer: str, name: str, size: int) -> int:
    """Return the instructions of a process that does an operation `size` times."""
    with tempfile.NamedTemporaryFile("r") as report:
        _ = costs.run_operations(peer, name, size, under=callgrind(report.name))
        return total(report.read())


def of_server(benchmark: echo.Echo, peer: str, messages: int) -> int:
    """Return the instructions of a server that answers a number of messages on each connection."""
    with tempfile.NamedTemporaryFile("r") as report:
        server, port = benchmark.start(peer, under=callgrind(report.name))
        with server:
            with benchmark.load(peer, port) as clients:
                _ = clients.ask(str(-messages), END_SECONDS)
            end(server)
        return total(report.read())


def end(server: Process) -> None:
    """End a server so that valgrind writes its report."""
    server.process.terminate()
    _ = server.process.wait(END_SECONDS)


def callgrind(file: str) -> list[str]:
    """Return the command that counts the instructions of the command that follows, and writes them to a file."""
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}"]


def total(report: str) -> int:
    """Return the number of instructions in a report of callgrind."""
    return int(report.rpartition("\ntotals: ")[2].split()[0])


if __name__ == "__main__":
    main(sys.argv[1:])
