"""`python -m tests.benchmarks`: minisched beside its peers, and beside what can be reached at all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import echo, results, show, work
from .catalogue import OURS, PEERS, Benchmark, installed
from .processes import Failed, Slow

BENCHMARKS = {benchmark.name: benchmark for benchmark in [*work.BENCHMARKS, *echo.BENCHMARKS]}


def options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    said = "a benchmark, or what its name begins with, as `echo` or `depth`; default: all but `scale`"
    parser.add_argument("names", nargs="*", metavar="NAME", help=said)
    parser.add_argument("--list", action="store_true", help="say what there is to measure, and exit")
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(PEERS)}; default: all that are installed")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often all are measured; default: 3 to 15")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to a file")
    parser.add_argument("--read", type=Path, metavar="FILE", help="show what is in such a file; measure nothing")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .svg or .png")
    parser.add_argument("--check", action="store_true", help="exit with status 1 where a ratio is below floor.json")
    parser.add_argument("--write-floor", action="store_true", help="make what was measured the floor")
    asked = parser.parse_args()
    asked.chosen = chosen(parser, asked.names)
    asked.among = among(parser, asked.peers)
    return asked


def chosen(parser: argparse.ArgumentParser, names: list[str]) -> list[Benchmark]:
    """Return the benchmarks of these names."""
    found = [one for one in BENCHMARKS.values() if not names and not one.name.startswith("scale")]
    for name in names:
        more = [one for one in BENCHMARKS.values() if one.name == name or one.name.startswith(f"{name}_")]
        if not more:
            parser.error(f"there is no benchmark {name!r}: take one of {', '.join(BENCHMARKS)}")
        found += [one for one in more if one not in found]
    return found


def among(parser: argparse.ArgumentParser, peers: str | None) -> list[str]:
    """Return the peers that are asked for, ours first."""
    named = PEERS if peers is None else peers.split(",")
    for peer in named:
        if peer not in PEERS:
            parser.error(f"there is no peer {peer!r}: take some of {', '.join(PEERS)}")
    return [OURS, *(peer for peer in named if peer != OURS)]


def measure(asked: argparse.Namespace, found: results.Results) -> None:
    """Measure what is asked for; a peer that is not installed, or that breaks off, is left out by name."""
    for peer in asked.among:
        if not installed(peer):
            found.missing[peer] = "it is not installed"
    with show.progress(show.console()) as bar:
        for benchmark in asked.chosen:
            rounds = asked.rounds or benchmark.rounds
            task = bar.add_task(benchmark.name, total=rounds)
            while not attempted(benchmark, asked.among, rounds, found, lambda task=task: bar.advance(task)):
                bar.reset(task)
            bar.remove_task(task)
            if asked.json:
                found.save(asked.json)  # now, too: all of them take an hour


def attempted(
    benchmark: Benchmark, peers: list[str], rounds: int, found: results.Results, advance: Callable[[], object]
) -> bool:
    """Measure one benchmark; return False if a peer broke off: then again, without it."""
    left_out = found.missing.keys() | found.slow.get(benchmark.name, {})
    there = [peer for peer in peers if peer in benchmark.peers and peer not in left_out]
    measured = []
    try:
        for values in benchmark.measure(there, rounds):
            measured.append(values)
            advance()
    except Failed as error:
        broken, _, why = str(error).partition(": ")
        if broken not in there or broken == OURS:
            raise
        missing = found.slow.setdefault(benchmark.name, {}) if isinstance(error, Slow) else found.missing
        missing[broken] = why
        return False
    for values in measured:
        found.add(benchmark.series, values)
    return True


def main() -> int:
    """Do what is asked for; return the exit status."""
    asked = options()
    if asked.list:
        print(*(f"{benchmark.name:<18} {benchmark.what}" for benchmark in BENCHMARKS.values()), sep="\n")
        return 0
    found = results.read(asked.read) if asked.read else results.Results()
    if not asked.read:
        measure(asked, found)
    for table in show.tables(found):
        show.console().print(table)
    for line in found.left_out():
        print(line)
    if asked.json:
        found.save(asked.json)
    if asked.plot:
        from . import plot  # only here: it is slow to import

        plot.draw(found, asked.plot)
    if asked.write_floor:
        results.write_floor(found)
    wrong = results.below_the_floor(found) if asked.check else []
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
