"""Prime numbers, counted by a Dask cluster: a few processes here, where it might be a hundred machines.

Shows: `Submit`, for which a cluster is an executor like any other; `gather`, whose answers are in the
order of the ranges, whichever comes first; `abandon=True`, by which Ctrl-C does not wait for what the
cluster still counts; `InThread`, for a call that would hold up all tasks: to start the processes.

Needs Dask: pip install minisched[cluster]
Run it:     python demos/cluster_primes.py [--below N] [--ranges N] [--workers N]
Watch it:   minisched run --trace demos/cluster_primes.py
"""

import argparse
import logging
import signal
import sys
from itertools import pairwise
from math import isqrt

from minisched import InThread, Submit, gather, run


def count(low, high):
    """Return how many prime numbers there are from `low` up to `high`, which is not one of them: a worker does this."""
    return sum(all(number % other for other in range(2, isqrt(number) + 1)) for number in range(max(low, 2), high))


def count_elsewhere(executor, low, high):
    """Have a range counted, and say so as soon as it is."""
    primes = yield Submit(executor, count, low, high, abandon=True)
    print(f"{low:10,} to {high - 1:10,} {primes:10,}", flush=True)
    return primes


def start_cluster(workers):
    """Return a cluster of so many processes here. Called in a thread."""
    try:
        from distributed import LocalCluster
    except ImportError as error:
        sys.exit(f"cluster_primes.py needs Dask: pip install minisched[cluster] ({error})")
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
    )


def main(below=100_000, ranges=5, workers=2):
    """Start a cluster, share the numbers out to it, and add up what comes back."""
    below, ranges, workers = int(below), int(ranges), int(workers)
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to the workers too, who inherit this
    try:
        cluster = yield InThread(start_cluster, workers)
    finally:
        signal.signal(signal.SIGINT, usual)
    with cluster, cluster.get_client() as client:
        print(f"primes below {below:,}, workers: {workers}", flush=True)
        executor = client.get_executor()
        ends = [below * number // ranges for number in range(ranges + 1)]
        counts = yield from gather(*(count_elsewhere(executor, low, high) for low, high in pairwise(ends)))
    print(f"{sum(counts):,} in all")


def command_line():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Count prime numbers on a Dask cluster of this machine.")
    parser.add_argument("--below", type=positive, default=100_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--ranges", type=positive, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="processes; default: %(default)s")
    return parser


def positive(text):
    """Return a number from the command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number is wanted, 1 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    options = command_line().parse_args()
    try:
        run(main(options.below, options.ranges, options.workers))
    except KeyboardInterrupt:
        sys.exit(130)
