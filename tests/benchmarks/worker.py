"""The process of one peer: `python -m tests.benchmarks.worker MODULE` does what standard input asks for.

A line is `NAME SIZE TIMES`; the answer is the mean of what the function returned so many times, or
`none` if the peer can't do it.
"""

from __future__ import annotations

import importlib
import sys


def main(module: str) -> None:
    """Answer until the other side has no more to ask."""
    peer = importlib.import_module(f"{__package__}.peers.{module}")
    for line in sys.stdin:
        name, size, times = line.split()
        work = getattr(peer, name, None)
        print("none" if work is None else sum(work(int(size)) for _ in range(int(times))) / int(times), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
