"""Run the tests of other libraries on minisched, and compare the outcomes with the lists."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import lists, suites
from .suites import SUITES, Suite, Unavailable

LOG_CHARACTERS = 10_000  # of pytest's output, shown if a list and a run differ
TRIES = 3  # of a test that fails, before it counts as failed
AT_ONCE = {"SPAWN": "at_once"}  # for the adapters


def compared(suite: Suite, folder: Path, update: bool) -> tuple[str, list[str]]:
    """Run a suite; return a line of figures, and the differences from its list."""
    entries = lists.read(suite.list)
    source = suites.fetch(suite, folder)
    place = folder / "run"
    suites.prepare(suite, source, place)
    outcomes = suites.run(suite, source, place, leave_out=lists.of_kind(entries, lists.NOT_APPLICABLE))
    if update:
        retried(suite, source, place, outcomes, lambda: [*lists.problems(entries, outcomes, among={"failed"})])
        entries = lists.with_passes(entries, outcomes)
        lists.write(suite.list, entries)
    faults = retried(suite, source, place, outcomes, lambda: [*lists.problems(entries, outcomes)])
    order = lists.of_kind(entries, lists.ORDER)
    if order:
        at_once = suites.run(suite, source, place, only=order, environment=AT_ONCE)
        faults += retried(suite, source, place, at_once, lambda: [*lists.failures(at_once)], AT_ONCE)
    return f"{suite.name} {suite.version}: {lists.count(entries, outcomes)}", faults


def retried(suite, source, place, outcomes, find_problems, environment: Mapping[str, str] = {}) -> list[str]:
    """Run the cases that have a problem again, alone; return the problems that stay, and what pytest says of them.

    Many of these tests wait for real time, and fail on a busy machine.
    """
    for _ in range(TRIES):
        retry = [case for case, _ in find_problems() if case in outcomes]
        if not retry:
            break
        outcomes |= suites.run(suite, source, place, only=retry, processes=0, environment=environment)
    faults = [f"{suite.list.name}: {case} {problem}" for case, problem in find_problems()]
    if faults:
        faults.append((place / suites.LOG).read_text(encoding="utf-8")[-LOG_CHARACTERS:])
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(suite.name for suite in SUITES))
    parser.add_argument("--update", action="store_true", help="add the tests that pass now to the lists")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the tests and their logs, which stay there")
    options = parser.parse_args()
    chosen = [suite for suite in SUITES if suite.name in options.suites or not options.suites]
    if len(chosen) < len({*options.suites}):
        parser.error("a SUITE is " + " or ".join(suite.name for suite in SUITES))
    with tempfile.TemporaryDirectory() as temporary:
        folders = [(options.keep or Path(temporary)) / suite.name for suite in chosen]
        for folder in folders:
            folder.mkdir(parents=True)
        with ThreadPoolExecutor() as threads:
            runs = [threads.submit(compared, *each, options.update) for each in zip(chosen, folders, strict=True)]
        return max(report(suite, run) for suite, run in zip(chosen, runs, strict=True))


def report(suite: Suite, run) -> int:
    """Print the result of a suite; return the exit status."""
    try:
        line, faults = run.result()
    except Unavailable as error:
        print(f"{suite.name} {suite.version} cannot be downloaded, and its tests were not run: {error}")
        return int(os.environ.get("CI") == "true")
    print(line, *faults, sep="\n  ")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
