"""`python -m tests.benchmarks [--check] [NAME ...]`: measure, print; with --check, fail where a bound is passed."""

from __future__ import annotations

import argparse
import platform
import sys
from statistics import median, quantiles

from . import flat, imports, switch

BENCHMARKS = {
    "switch": switch,
    "import": imports,
    "cancel": flat.Flat(flat.cancel),
    "timeout": flat.Flat(flat.timeout),
}


def main() -> int:
    """Run the benchmarks that are named, or all of them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a bound is passed")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}: take one of {', '.join(BENCHMARKS)}")
    print(f"Python {platform.python_version()}")
    passed = [report(name) for name in chosen.names or BENCHMARKS]
    return 1 if chosen.check and not all(passed) else 0


def report(name: str) -> bool:
    """Measure, print one line, and return whether the bound is kept."""
    benchmark = BENCHMARKS[name]
    rounds = list(benchmark.rounds())
    ratios = [ours / theirs for ours, theirs in rounds]
    low, _, high = quantiles(ratios, n=4)
    ours, theirs = (median(times) for times in zip(*rounds, strict=True))
    scale, unit = benchmark.UNIT
    print(
        f"{name:<8} minisched {ours * scale:.0f} {unit}, {benchmark.OTHER} {theirs * scale:.0f} {unit}: "
        f"{median(ratios):.2f} x (quartiles {low:.2f} to {high:.2f}, bound {benchmark.BOUND}, {len(rounds)} rounds)"
    )
    return median(ratios) <= benchmark.BOUND


if __name__ == "__main__":
    sys.exit(main())
