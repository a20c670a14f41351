"""Count prime numbers on a Dask cluster: a few local processes, or the machines of a scheduler that runs already.

Shows: `Submit` uses a cluster like any other executor; `gather` returns the results in the order of the
ranges, in whatever order they arrive; with `abandon=True`, Ctrl-C does not wait for calls that are still
running; `InThread` starts the processes in a thread, because that call would block all tasks; a thread that blocks
SIGINT hands that on to the processes it starts, so that Ctrl-C reaches this process alone, from the first second on.

Needs Dask: pip install -e '.[cluster]'
Run it:     python demos/cluster_primes.py [--below N] [--ranges N] [--workers N | --scheduler ADDRESS]
Watch it:   minisched run --trace demos/cluster_primes.py
"""

import argparse
import contextlib
import logging
import signal
import sys
from itertools import pairwise
from math import isqrt
from multiprocessing import resource_tracker

import console

from minisched import InThread, Shield, Submit, gather, run

CONNECT_SECONDS = 10  # to a scheduler that is named


def count(low, high):
    """Return how many prime numbers there are in `range(low, high)`. This function runs in a worker process."""
    return sum(all(number % other for other in range(2, isqrt(number) + 1)) for number in range(max(low, 2), high))


def count_elsewhere(executor, low, high):
    """Submit one range to the cluster, and print its result when it arrives."""
    primes = yield Submit(executor, count, low, high, abandon=True)
    print(f"{low:10,} to {high - 1:10,} {primes:10,}", flush=True)
    return primes


def distributed():
    """Import Dask; exit with one line if it is not installed."""
    try:
        import distributed
    except ImportError as error:
        sys.exit(f"cluster_primes.py needs Dask: pip install -e '.[cluster]' ({error})")
    return distributed


def start_cluster(workers):
    """Return a cluster of `workers` local processes. Called in a thread."""
    # A terminal sends Ctrl-C to all processes. Those that this thread starts, and its threads, inherit its signal mask;
    # this process ends them. The tracker of multiprocessing is started first, since that would reset the mask.
    make_cluster = distributed().LocalCluster
    print(f"starting the workers: {workers}", flush=True)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return make_cluster(
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def connect(address):
    """Return a client of a running scheduler. Called in a thread."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        return distributed().Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.exit(f"cluster_primes.py: no scheduler at {address}: {reason}")


def main(below=100_000, ranges=5, workers=2, scheduler=None):
    """Start a cluster or connect to one, submit the ranges, and add up the results."""
    below, ranges, workers = int(below), int(ranges), int(workers)
    opened = contextlib.ExitStack()
    try:
        if scheduler is None:
            cluster = yield InThread(start_cluster, workers)
            opened.callback(cluster.close)
            client = yield InThread(cluster.get_client)
        else:
            client = yield InThread(connect, scheduler, abandon=True)
        opened.callback(client.close)
        print(f"primes below {below:,}, workers: {len((yield InThread(client.nthreads)))}", flush=True)
        executor = client.get_executor()
        ends = [below * number // ranges for number in range(ranges + 1)]
        counts = yield from gather(*(count_elsewhere(executor, low, high) for low, high in pairwise(ends)))
    finally:
        with (yield Shield(None)):
            yield InThread(opened.close)
    print(f"{sum(counts):,} in all")


def command_line():
    """Return the argument parser."""
    text = "Count prime numbers on a Dask cluster: processes of this machine, or a scheduler with any workers."
    parser = argparse.ArgumentParser(description=text)
    count = console.whole(1)
    text = "count the primes below N; default: %(default)s"
    parser.add_argument("--below", type=count, default=100_000, metavar="N", help=text)
    text = "split the numbers into N ranges, one for each call; default: %(default)s"
    parser.add_argument("--ranges", type=count, default=5, metavar="N", help=text)
    where = parser.add_mutually_exclusive_group()
    text = "number of processes to start on this machine; default: %(default)s"
    where.add_argument("--workers", type=count, default=2, metavar="N", help=text)
    text = "use the workers of a running scheduler, such as tcp://10.0.0.1:8786 (`dask scheduler` prints its address)"
    where.add_argument("--scheduler", metavar="ADDRESS", help=text)
    return parser


if __name__ == "__main__":
    options = command_line().parse_args()
    with console.quiet_end():
        run(main(options.below, options.ranges, options.workers, options.scheduler))
