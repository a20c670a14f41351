"""`python -m tests.benchmarks`: measure minisched, its peers, and the limits that no scheduler can beat."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import echo, results, show, tls, work
from .catalogue import MINISCHED, PEERS, Benchmark, installed
from .processes import ProcessFailed, ProcessTimeout

BENCHMARKS = {benchmark.name: benchmark for benchmark in [*work.BENCHMARKS, *echo.BENCHMARKS, *tls.BENCHMARKS]}


def options() -> argparse.Namespace:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = "a benchmark, or the first part of its name, such as `echo` or `depth`; default: all but `scale`"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--list", action="store_true", help="list the benchmarks and exit")
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(PEERS)}; default: all that are installed")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each benchmark; default: 3 to 21")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write all values to a JSON file")
    parser.add_argument("--load", type=Path, metavar="FILE", help="read the values from a file; measure nothing")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the ratios in a picture, .svg or .png")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a ratio is below floor.json")
    parser.add_argument("--write-floor", action="store_true", help="write the measured ratios to floor.json")
    args = parser.parse_args()
    args.benchmarks = named_benchmarks(parser, args.names)
    args.peers = named_peers(parser, args.peers)
    return args


def named_benchmarks(parser: argparse.ArgumentParser, names: list[str]) -> list[Benchmark]:
    """Return the benchmarks of these names."""
    chosen = [one for one in BENCHMARKS.values() if not names and not one.name.startswith("scale")]
    for name in names:
        matching = [one for one in BENCHMARKS.values() if one.name == name or one.name.startswith(f"{name}_")]
        if not matching:
            parser.error(f"there is no benchmark {name!r}: choose from {', '.join(BENCHMARKS)}")
        chosen += [one for one in matching if one not in chosen]
    return chosen


def named_peers(parser: argparse.ArgumentParser, peers: str | None) -> list[str]:
    """Return the peers of these names, after minisched."""
    names = PEERS if peers is None else peers.split(",")
    for name in names:
        if name not in PEERS:
            parser.error(f"there is no peer {name!r}: choose from {', '.join(PEERS)}")
    return [MINISCHED, *(name for name in names if name != MINISCHED)]


def measure(args: argparse.Namespace, found: results.Results) -> None:
    """Measure the chosen benchmarks; a peer that is not installed or that fails is left out and reported."""
    for peer in args.peers:
        if not installed(peer):
            found.missing[peer] = "not installed"
    with show.progress(show.console()) as bar:
        for benchmark in args.benchmarks:
            rounds = args.rounds or benchmark.rounds
            task = bar.add_task(benchmark.name, total=rounds)
            while not measure_one(benchmark, args.peers, rounds, found, lambda task=task: bar.advance(task)):
                bar.reset(task)
            bar.remove_task(task)
            if args.save:
                found.save(args.save)  # after each benchmark, since all of them take an hour


def measure_one(
    benchmark: Benchmark, peers: list[str], rounds: int, found: results.Results, advance: Callable[[], object]
) -> bool:
    """Measure one benchmark; return False if a peer failed and the benchmark must be repeated without it."""
    left_out = found.missing.keys() | found.too_slow.get(benchmark.name, {})
    present = [peer for peer in peers if peer in benchmark.peers and peer not in left_out]
    measured = []
    try:
        for values in benchmark.measure(present, rounds):
            measured.append(values)
            advance()
    except ProcessFailed as error:
        failed, _, reason = str(error).partition(": ")
        if failed not in present or failed == MINISCHED:
            raise
        timed_out = isinstance(error, ProcessTimeout)
        reasons = found.too_slow.setdefault(benchmark.name, {}) if timed_out else found.missing
        reasons[failed] = reason
        return False
    for values in measured:
        found.add(benchmark.series, values)
    return True


def main() -> int:
    """Run the command and return its exit status."""
    args = options()
    if args.list:
        print(*(f"{benchmark.name:<18} {benchmark.description}" for benchmark in BENCHMARKS.values()), sep="\n")
        return 0
    found = results.load(args.load) if args.load else results.Results()
    if not args.load:
        measure(args, found)
    for table in show.tables(found):
        show.console().print(table)
    print("".join(f"{line}\n" for line in found.left_out()), end="")
    if args.save:
        found.save(args.save)
    if args.draw:
        from . import picture  # imported late, since matplotlib takes a second

        picture.draw(found, args.draw)
    if args.write_floor:
        results.write_floor(found)
    failures = results.below_the_floor(found) if args.check else []
    print("".join(f"{line}\n" for line in failures), end="")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
