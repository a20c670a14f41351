"""Run the operations of one peer: `python -m tests.benchmarks.worker MODULE`.

Each line of standard input is `NAME SIZE TIMES`. The worker calls the function NAME of the peer's module
TIMES times and answers `FIGURE OPERATIONS`: the seconds (or bytes) of one operation, and the number of
operations that the tasks reported. It answers `none` if the peer has no such function.
"""

from __future__ import annotations

import importlib
import sys

from .peers import counts


def main(module: str) -> None:
    """Answer each line until standard input is closed."""
    peer = importlib.import_module(f"{__package__}.peers.{module}")
    for line in sys.stdin:
        name, size, times = line.split()
        function = getattr(peer, name, None)
        if function is None:
            print("none", flush=True)
            continue
        counts.clear()
        total = sum(function(int(size)) for _ in range(int(times)))
        operations = sum(counts)
        print(total / operations, operations, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
