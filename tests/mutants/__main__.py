"""Named one-line mutations of the package; a test must notice each: `python -m tests.mutants [NAME ...]`.

A mutant is the package with one fragment replaced. It is *killed* when a test of its module fails or hangs. One that
survives shows that no test covers that line, or that the line does nothing. `--list` prints their names.

`--seconds` tries as many as fit, module by module, in an order that `--seed` determines.

The tables (`kernel.txt`, `tasks.txt`, ...) have an entry for each mutant: a title `MODULE: NAME`, the lines of the
fragment after `- `, and the lines that replace it after `+ `. The fragment occurs once in the module. A title that ends
with ` *` names a mutant of cancellation that a program can show: the reference interpreter must find it too.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from threading import Lock
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TABLES = sorted(Path(__file__).parent.glob("*.txt"))
MAX_SECONDS = 60  # a mutant that runs longer hangs, so it is killed
MAX_UNMUTATED_SECONDS = 300
MIN_SECONDS = 10
MIN_SLOWDOWN_RATIO = 1.5  # the least patience with tests that take long by themselves
MAX_SLOWDOWN_RATIO = 3  # a mutant whose tests take this many times as long as without it hangs, too
PARALLEL_MUTANTS = 3  # one more than the processors of a small machine: tests that hang often wait

REPORTED_WORKERS = "reports/test_reported_workers.py"

# For each mutated module, the test files that must notice.
TESTS = {
    "errors": ["test_kernel.py"],
    "kernel.tracebacks": ["test_tracebacks.py", "test_kernel.py", "reports/test_reported_groups.py"],
    "kernel.generic": ["reports/test_reported_types.py"],
    "kernel.tree": ["test_kernel.py", "test_scopes.py", "test_tasks.py", "test_timeouts.py", "test_taskgroup.py"],
    "kernel.scoping": [
        "test_kernel.py",
        "test_scopes.py",
        "test_tasks.py",
        "test_timeouts.py",
        "test_taskgroup.py",
        "reports/test_reported_endings.py",
    ],
    "kernel.kernel": ["test_kernel.py", "test_scopes.py", "test_tasks.py"],
    "kernel.syscall": ["test_kernel.py", "test_scopes.py", "test_tasks.py", "reports/test_reported_endings.py"],
    "kernel.numbers": ["reports/test_reported_numbers.py"],
    "kernel.misuse": ["test_kernel.py", "test_misuse.py"],
    "kernel.blocks": ["test_blocks.py"],
    "kernel.current": ["test_do_now.py"],
    "tasks.do_now": ["test_do_now.py"],
    "lab.handling": ["test_handling.py"],
    "lab.slow_turns": ["test_slow_turns.py"],
    "kernel.lifecycle": ["test_tasks.py", "test_locks.py", "test_kernel.py"],
    "kernel.waiting": ["test_waiting.py", "test_locks.py"],
    "kernel.primitive": ["test_waiting.py", "test_locks.py"],
    "tasks.select_calls": ["test_waiting.py", "test_locks.py", "test_select_io.py"],
    "tasks.clocks": ["test_timers.py"],
    "tasks.timers": ["test_timers.py", "reports/test_reported_numbers.py"],
    "tasks.scopes": [
        "test_scopes.py",
        "test_timeouts.py",
        "test_kernel.py",
        "test_tasks.py",
        "test_taskgroup.py",
        "reports/test_reported_endings.py",
    ],
    "tasks.tasks": ["test_tasks.py"],
    "tasks.taskgroup": [
        "test_taskgroup.py",
        "test_groups.py",
        "reports/test_reported_endings.py",
        "reports/test_reported_groups.py",
    ],
    "tasks.starting": ["test_starting.py"],
    "tasks.gather": ["test_groups.py", "reports/test_reported_endings.py", "reports/test_reported_groups.py"],
    "tasks.supervision": ["test_supervision.py", "reports/test_reported_endings.py"],
    "sync.locks": ["test_locks.py", "test_rlock.py", "test_conditions.py"],
    "sync.conditions": ["test_conditions.py", "test_rlock.py"],
    "sync.events": ["test_events.py"],
    "sync.semaphore": ["test_semaphore.py"],
    "sync.limiter": ["test_limiter.py"],
    "sync.queues": ["test_queues.py", "test_ordered.py"],
    "sync.ordered": ["test_ordered.py"],
    "sync.broadcast": ["test_broadcast.py"],
    "loop": ["test_loop.py", "test_wakeup.py", "test_second_signal.py", "reports/test_reported_bridges.py"],
    "pace": ["test_loop.py"],
    "bridges.asyncgens": ["test_loop.py", "test_wakeup.py", "reports/test_reported_bridges.py"],
    "io.filelike": ["test_files.py", "test_poller.py", "reports/test_reported_blocking.py"],
    "io.poller": [
        "test_poller.py",
        "test_files.py",
        "test_traps.py",
        "test_users.py",
        "reports/test_reported_blocking.py",
        "reports/test_reported_serve.py",
    ],
    "io.stale": ["test_poller.py", "test_traps.py", "reports/test_reported_blocking.py"],
    "io._selectors2": ["test_selectors2.py", "reports/test_reported_blocking.py"],
    "io.nonblocking": [
        "test_files.py",
        "test_sockets.py",
        "reports/test_reported_blocking.py",
        "test_select_io.py",
        "test_streams.py",
    ],
    "io.files": ["test_files.py", "reports/test_reported_blocking.py"],
    "io.borrowed": ["test_files.py", "test_traps.py", "reports/test_reported_blocking.py"],
    "io.incoming": ["test_streams.py"],
    "io.streams": ["test_streams.py"],
    "io.nowait": ["reports/test_reported_blocking.py"],
    "io.disk": ["test_regular_files.py"],
    "io.opened": ["test_regular_files.py"],
    "net.sockets": ["test_sockets.py", "test_files.py", "test_limits.py", "reports/test_reported_addresses.py"],
    "net.network": ["test_sockets.py", "test_limits.py", "reports/test_reported_addresses.py"],
    "net.datagrams": ["test_datagrams.py"],
    "net.datagram_sockets": ["test_datagrams.py"],
    "net.dialing": ["test_names.py", "test_sockets.py", "reports/test_reported_addresses.py"],
    "net.binding": ["test_sockets.py", "reports/test_reported_addresses.py"],
    "net.tls": ["test_tls.py"],
    "net.addresses": ["test_names.py", "test_sockets.py", "reports/test_reported_addresses.py"],
    "net.names": ["test_names.py"],
    "net.connecting": ["test_connecting.py"],
    "net.unix_paths": ["test_sockets.py", "test_datagrams.py", "test_workers.py", "reports/test_reported_addresses.py"],
    "serving.connections": [
        "test_serve.py",
        "test_limits.py",
        "test_listening.py",
        "test_hostile.py",
        "test_exhaustion.py",
        "test_tls.py",
        "reports/test_reported_serve.py",
    ],
    "serving.log": ["test_serve.py", "reports/test_reported_serve.py"],
    "serving.status": ["reports/test_reported_serve.py"],
    "serving.serve": ["test_serve.py", "test_listening.py", "test_limits.py", "reports/test_reported_serve.py"],
    "serving.workers": ["test_workers.py", REPORTED_WORKERS],
    "serving.processes": [REPORTED_WORKERS],
    "serving.stop_signals": [REPORTED_WORKERS],
    "bridges.children": ["test_processes.py"],
    "bridges.child_ends": ["test_processes.py"],
    "bridges.child_processes": ["test_processes.py"],
    "bridges.run_process": ["test_processes.py"],
    "io.pipes": ["test_processes.py"],
    "bridges.portal": ["test_threads.py", "reports/test_reported_bridges.py", "reports/test_reported_peers.py"],
    "bridges.threads": ["test_threads.py", "reports/test_reported_bridges.py"],
    "bridges.tickets": ["test_universal_queue.py"],
    "bridges.universal_queue": ["test_universal_queue.py"],
    "bridges.thread_pool": ["test_threads.py", "reports/test_reported_bridges.py"],
    "bridges.regular_files": ["test_regular_files.py"],
    "bridges.opening": ["test_regular_files.py"],
    "bridges.whole_files": ["test_whole_files.py"],
    "bridges.follow": ["test_follow.py"],
    "bridges.request": ["reports/test_reported_bridges.py"],
    "bridges.sleeping": ["reports/test_reported_bridges.py"],
    "bridges.signals": ["test_signals.py", "test_select_io.py", "reports/test_reported_bridges.py"],
    "bridges.wakeup": ["test_wakeup.py", "test_second_signal.py", "reports/test_reported_bridges.py"],
    "bridges.interrupt": ["test_wakeup.py", "test_second_signal.py", "reports/test_reported_bridges.py"],
    "lab.debug": ["test_debug.py", "reports/test_reported_sync.py"],
    "lab.timeline": ["test_timeline.py", "test_trace.py"],
    "lab.trace": ["test_trace.py"],
    "lab.report": ["test_report.py"],
    **{f"lab.{name}": ["test_record.py"] for name in ("record", "tape", "world_sockets")},
    "lab.world": ["test_record.py", "test_record_files.py"],
    "lab.world_files": ["test_record_files.py"],
    **{f"testing.{name}": ["test_pytest_plugin.py"] for name in ("fixtures", "pytest_plugin")},
    "testing.checker": ["test_testing.py"],
    "lab.explore.acts": ["test_acts.py"],
    "lab.explore.liveness": ["test_liveness.py"],
    **{f"lab.explore.{name}": ["test_exhaustive.py", "test_acts.py"] for name in ("exhaustive", "checkpoint")},
    **{f"lab.explore.{name}": ["test_exhaustive.py"] for name in ("footprints", "tracking", "explain", "together")},
    **{
        f"lab.explore.{name}": ["test_explore.py", "test_liveness.py", "test_acts.py"]
        for name in ("search", "schedule", "portfolio")
    },
    **{f"lab.simnet.{name}": ["test_simnet.py"] for name in ("network", "sockets", "datagrams")},
    "lab.faults": ["test_faults.py"],
    "lab.leftovers": ["test_faults.py", "test_cancel_everywhere.py", "test_liveness.py"],
}


SLOW_FILES = {
    "test_workers.py",
    REPORTED_WORKERS,
    "test_exhaustion.py",
}  # their slow tests run, too: nothing else kills these mutants

MARK = "MINISCHED_MUTANT"  # in the environment of all programs that the tests of a mutant start
REFERENCE = "test_reference.py"
SEED = "1"  # of its random programs, so that each run of this finds the same
BY_REFERENCE = """
kernel.kernel: a bare yield is no checkpoint
kernel.kernel: every call is a checkpoint
kernel.kernel: a child hangs under the task, not its innermost scope
kernel.kernel: a child of a cancelled scope is not told
kernel.kernel: an undo is dropped
kernel.tree: a shield lets cancellation through
kernel.tree: the innermost cancellation comes first
kernel.kernel: a task behind a shield is woken
kernel.kernel: a second cancellation replaces the first
kernel.tree: a child is not handed outward
kernel.tree: a child that is handed outward is cancelled no more
kernel.tree: the innermost cancelled scope swallows
kernel.tree: a scope that took nothing says that it did
tasks.scopes: a scope entered after a cancellation is not cancelled
tasks.scopes: the timer of a timeout that was left still fires
tasks.scopes: a deadline in the past is ignored
tasks.scopes: a lifted shield still hides cancellations
kernel.lifecycle: joiners of a cancelled task get a result
kernel.lifecycle: a failing task lets its children go on
kernel.lifecycle: a failing child lets its parent go on
kernel.lifecycle: a stray Cancelled passes for a cancellation
""".strip().splitlines()


class Mutant(NamedTuple):
    """`old` occurs once in the module, and is replaced by `new`."""

    module: str
    name: str
    old: str
    new: str
    by_reference: bool  # the reference interpreter alone has to find it, too


# Runs pytest on the mutated copy in argv[1], and nothing else: neither an installed minisched nor all memory.
DRIVER = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
except ImportError:
    pass
import minisched, pytest
assert minisched.__file__.startswith(sys.argv[1]), f"{minisched.__file__} is not the mutated copy"
sys.exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def main() -> int:
    """Run the mutants that are named, or all of them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant's name, a part of it, or a module")
    parser.add_argument("--list", action="store_true", help="name them and exit")
    parser.add_argument("--seconds", type=float, default=inf, help="start no mutant later; default: all are tried")
    parser.add_argument("--seed", default="", help="of the order of the modules; default: that of the tables")
    wanted = parser.parse_args()
    mutants = [m for m in all_mutants() if not wanted.names or any(n == m.module or n in m.name for n in wanted.names)]
    if wanted.list:
        print(*(f"{mutant.module:<16} {mutant.name}" for mutant in mutants), sep="\n")
        return 0
    if not mutants:
        parser.error(f"no mutant is called {' or '.join(wanted.names)}")
    if wrong := misfits():
        print(*wrong, sep="\n")
        return 1
    return 0 if run(in_order(mutants, wanted.seed), wanted.seconds) else 1


def in_order(mutants: list[Mutant], seed: str) -> list[Mutant]:
    """Return the mutants of one module after the other, in an order of the modules that depends on the seed."""
    modules = sorted({mutant.module for mutant in mutants})
    if seed:
        random.Random(seed).shuffle(modules)
    return sorted(mutants, key=lambda mutant: modules.index(mutant.module))


def run(mutants: list[Mutant], seconds: float) -> bool:
    """Try the mutants; start none after some seconds. Return whether all that were tried are killed."""
    began = time.monotonic()
    trials: list[tuple[Mutant, list[str]]] = []
    for mutant in mutants:
        trials.append((mutant, TESTS[mutant.module]))
        if mutant.by_reference:
            trials.append((mutant, [REFERENCE]))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PARALLEL_MUTANTS) as pool:
        modules = {mutant.module: Unmutated(mutant.module, Path(folder)) for mutant in mutants}

        def attempt(trial: tuple[Mutant, list[str]]) -> bool | None:
            mutant, tests = trial
            if time.monotonic() - began > seconds:
                return None
            return modules[mutant.module].works() and report(mutant, tests, Path(folder))

        killed = [fate for fate in pool.map(attempt, trials) if fate is not None]
    left = f"; {len(trials) - len(killed)} were not tried" if len(killed) < len(trials) else ""
    print(f"{sum(killed)} of {len(killed)} killed in {time.monotonic() - began:.0f} s{left}")
    return bool(killed) and all(killed)


def all_mutants() -> list[Mutant]:
    """Return what the table says."""
    mutants: list[Mutant] = []
    for entry in "\n".join(table.read_text(encoding="utf-8") for table in TABLES).strip().split("\n\n"):
        title, *lines = entry.splitlines()
        module, _, name = title.removesuffix(" *").partition(": ")
        old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
        mutants.append(Mutant(module, name, old, new, title.endswith(" *")))
    return mutants


def misfits() -> list[str]:
    """Return what keeps the mutants from proving anything: fragments that are gone, tests that are not there."""
    wrong = [f"{mutant.module}: {mutant.name}: {problem}" for mutant in all_mutants() if (problem := misfit(mutant))]
    needed = dict.fromkeys([REFERENCE, *(name for tests in TESTS.values() for name in tests)])
    return [*wrong, *(f"tests/{name} is not there" for name in needed if not (ROOT / "tests" / name).exists())]


class Unmutated:
    """A module without a mutation. Its tests run once, before those of its first mutant."""

    def __init__(self, module: str, folder: Path) -> None:
        self.module = module
        self.place = unmutated(folder, module)
        self.lock = Lock()  # the mutants of one module are tried in several threads
        self.passes: bool | None = None

    def works(self) -> bool:
        """Return whether the tests of the module pass."""
        with self.lock:
            if self.passes is None:
                fate = timed(self.module, copy(ROOT, self.place))
                self.passes = fate is None
                if fate is not None:
                    print(f"{self.module:<16} without any mutation: {fate}", flush=True)
            return self.passes


def timed(module: str, place: Path) -> str | None:
    """Run the tests of a module that is not mutated; record how long a mutant may take."""
    start = time.monotonic()
    fate = run_tests(place, TESTS[module], MAX_UNMUTATED_SECONDS)
    seconds = time.monotonic() - start
    if fate is not None:  # once more: on a loaded machine, a test that waits for real time may fail
        fate = run_tests(place, TESTS[module], MAX_UNMUTATED_SECONDS)
    patience[module] = max(min(seconds * MAX_SLOWDOWN_RATIO, MAX_SECONDS), seconds * MIN_SLOWDOWN_RATIO, MIN_SECONDS)
    return fate


patience: dict[str, float] = {}  # seconds


def misfit(mutant: Mutant) -> str | None:
    """Return why a mutant can't be made; None if it can."""
    found = (ROOT / path_of(mutant.module)).read_text().count(mutant.old)
    return None if found == 1 else f"{mutant.old!r} occurs {found} times, not once"


def path_of(module: str) -> str:
    """Return the path of a module of the package."""
    return f"minisched/{module.replace('.', '/')}.py"


def report(mutant: Mutant, tests: list[str], folder: Path) -> bool:
    """Run tests on a mutant, print its fate, and return whether it was killed."""
    name = re.sub(r"\W+", "-", f"{mutant.module} {mutant.name} {tests[0]}")
    place = copy(unmutated(folder, mutant.module), folder / name)  # with its compiled modules, which saves a second
    module = place / path_of(mutant.module)
    module.write_text(module.read_text().replace(mutant.old, mutant.new))
    fate = run_tests(place, tests, MAX_SECONDS if tests == [REFERENCE] else patience[mutant.module])
    print(f"{mutant.module:<16} {mutant.name:<58} {fate or 'SURVIVED'}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return fate is not None


def unmutated(folder: Path, module: str) -> Path:
    """Return the place of the copy in which the tests of a module run without a mutation."""
    return folder / f"unmutated-{module}"


def copy(source: Path, place: Path) -> Path:
    """Copy what the tests need from `source` to `place`; return it."""
    unwanted = shutil.ignore_patterns("__pycache__") if source == ROOT else None
    for name in ("minisched", "tests"):
        shutil.copytree(source / name, place / name, ignore=unwanted)
    shutil.copy(source / "pyproject.toml", place)
    return place


def run_tests(place: Path, tests: list[str], seconds: float = MAX_SECONDS) -> str | None:
    """Run tests on the package in `place`; return what killed it, None if it lives."""
    # realpath: where the temporary folder is a link, modules say where it leads.
    command = [sys.executable, "-c", DRIVER, os.path.realpath(place), *(f"tests/{name}" for name in tests)]
    if not SLOW_FILES.isdisjoint(tests):
        command += ["-m", ""]  # overrides "not slow"
    # -c puts the working directory first on the path: before any installed minisched.
    # A folder of its own for temporary files: two pytests that clean up a common one may meet there.
    temporary = tempfile.mkdtemp(dir=place.parent, prefix="t")
    process = subprocess.Popen(
        command, cwd=os.path.realpath(place), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        | {"MINISCHED_SEED": SEED, MARK: str(place), "PYTEST_DEBUG_TEMPROOT": temporary},
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "killed: it hangs"
    finally:
        kill_group(process)
        kill_marked(place)
    if process.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    if process.returncode == 1 and failed:
        return f"killed by {failed[1]}"
    if "INTERNALERROR" in output or process.returncode < 0 or "KeyboardInterrupt" in output:
        return f"killed: pytest was interrupted (status {process.returncode})"
    raise RuntimeError(f"pytest did not run in {place}:\n{output}")


def kill_marked(place: Path) -> None:
    """Kill the programs that the tests in `place` have left, in sessions of their own: one may spin (Linux)."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={place}".encode() in environ.read_bytes().split(b"\0"):
                os.kill(int(environ.parent.name), signal.SIGKILL)
        except OSError:
            pass  # the process has ended, or belongs to another user


def kill_group(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


if __name__ == "__main__":
    sys.exit(main())
