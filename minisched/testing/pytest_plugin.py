"""The plugin for pytest: tests that are generators or `async def` run in the scheduler, on a virtual clock.

`pip install minisched` installs it; it does nothing to a test without one of these marks:

- `@pytest.mark.minisched`: run the test once, with the kernel's invariants checked. Afterwards, no task waits, no timer
  is set, and no descriptor, thread or child process is left. `real_time=True` runs it on the machine's clock, and
  `leaks=False` does not look for descriptors, threads and processes.
- `@pytest.mark.explore`: run it in many schedules, as `minisched.lab.explore` does, with the same arguments.
- `@pytest.mark.cancel_everywhere`: run it once for each point at which a cancellation can reach it.
- `@pytest.mark.faults_everywhere`: run it once for each fault of the operating system.

With `minisched_mode = "auto"` in the configuration of pytest, each generator and each `async def` has the first mark.
A test is a method or a function, and has fixtures and parameters as any. It is called again for each run, with the same
values of pytest's own fixtures. The objects that a run changes are made in the test, or by a `testing.fixture`.
Under one of the other three marks, a plain function may return the arguments of `explore`: main; or main and a function
that checks the result.

The fixture `minisched_seed` is a seed: 0, or each one of `--minisched-seeds`, such as 20, `3,17` or `100-199`.
A failed exploration prints its schedule, and the command that runs only that one (`--minisched-schedule`). With
`--minisched-record FOLDER`, tests of the first mark are recorded, and the recordings of those that fail are kept, with
the command that replays one (`--minisched-replay FILE`). A replay needs no network: see `minisched.lab.replay`.

Theory of operation. pytest refuses to collect a generator. So it is collected as a plain function that has its
signature and marks, and `pytest_pyfunc_call` runs it. A test of hypothesis is a plain function that calls the test
itself once for each example: that call is the one that runs in the scheduler.

Invariants:
1. Without a mark, and in strict mode, pytest does what it does without this plugin.

Not here: fixtures that run in the scheduler (`fixtures`); the runs under a mark (`cancel_everywhere`, `lab`).
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from functools import partial, wraps
from inspect import iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path

import pytest

from .. import loop
from ..kernel.tracebacks import strip_own_frames
from ..kernel.watcher import Watcher
from ..lab.explore import explore
from ..lab.faults import faults_everywhere
from ..lab.leftovers import Resources, leftovers
from ..lab.record import Recorder, Refusals, replay
from ..lab.tape import BadRecording, TapeReader, TapeWriter
from ..tasks.clocks import VirtualClock
from .cancel_everywhere import cancel_everywhere
from .checker import Checker
from .fixtures import Prepared, around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Task

MARKS = {
    "minisched(real_time=False, leaks=True)": "run a generator or an `async def` in the scheduler",
    "explore(runs=, exhaustive=, cancellations=, deadlines=, ...)": "run it in many schedules: minisched.lab.explore",
    "cancel_everywhere(expected=)": "run it with a cancellation at each point: minisched.testing.cancel_everywhere",
    "faults_everywhere(expected=, kinds=)": "run it with each fault at each place: minisched.lab.faults_everywhere",
}
NAMES = [mark.partition("(")[0] for mark in MARKS]
OTHERS = ("anyio", "asyncio", "trio")  # marks of other plugins that run `async def` tests
SECTION = "minisched"  # of the report of a failed test
MAX_NAME_CHARACTERS = 150  # of the file of a recording: a file name has at most 255 bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("minisched", "tests that run in the scheduler of minisched")
    group.addoption("--minisched-seeds", metavar="SEEDS", help="of minisched_seed: 20, 3,17 or 100-199; default: 0")
    group.addoption("--minisched-schedule", metavar="SCHEDULE", help="the only schedule of tests that are explored")
    group.addoption("--minisched-record", metavar="FOLDER", help="keep the recordings of tests that fail here")
    group.addoption("--minisched-replay", metavar="FILE", help="replay this recording, and run no other test")
    parser.addini("minisched_mode", "auto: run each generator and `async def` in the scheduler", default="strict")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for mark, text in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {text}")
    if config.getini("minisched_mode") not in ("auto", "strict"):
        raise pytest.UsageError(f"minisched_mode is auto or strict, not {config.getini('minisched_mode')!r}")
    _ = seeds(config)


def seeds(config: pytest.Config) -> list[int]:
    """Return the seeds of the command line."""
    text: str = config.getoption("--minisched-seeds") or "0-0"
    found: list[int] = []
    for part in (f"0-{int(text) - 1}" if text.isdecimal() else text).split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise pytest.UsageError(f"--minisched-seeds is a number of seeds, a list or a range, not {text!r}")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not found:
        raise pytest.UsageError(f"--minisched-seeds: {text!r} has no seeds")
    return found


@pytest.fixture
def minisched_seed() -> int:
    """Return the seed of this run of the test."""
    return 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a seed once for each of them."""
    if "minisched_seed" in metafunc.fixturenames and metafunc.config.getoption("--minisched-seeds"):
        metafunc.parametrize("minisched_seed", seeds(metafunc.config), ids="seed{}".format)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> Any:
    """Collect a generator as pytest collects a plain function."""
    function = getattr(obj, "__func__", obj)
    if not isgeneratorfunction(function) or not collector.istestfunction(obj, name):
        return None
    marks = {mark.name for mark in (*collector.iter_markers(), *getattr(function, "pytestmark", ()))}
    if marks.isdisjoint(NAMES) and collector.config.getini("minisched_mode") != "auto":
        return None
    return collector.ihook.pytest_pycollect_makeitem(collector=collector, name=name, obj=as_plain(function))


def as_plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the signature and the marks of `function` that is not a generator."""

    @wraps(function)
    def plain(*args: Any, **arguments: Any) -> Any:
        return function(*args, **arguments)

    return plain


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only the test that a recording is replayed for."""
    path = config.getoption("--minisched-replay")
    if path is None:
        return
    try:
        recorded = recorded_test(path)
    except (OSError, BadRecording) as error:
        raise pytest.UsageError(f"--minisched-replay: {error}") from error
    others = [item for item in items if item.nodeid != recorded]
    if len(others) == len(items):
        raise pytest.UsageError(f"--minisched-replay: {path} is a recording of {recorded}, which is not a test here")
    items[:] = [item for item in items if item.nodeid == recorded]
    config.hook.pytest_deselected(items=others)


def recorded_test(path: str) -> str:
    """Return the name of the test that a recording is of."""
    tape = TapeReader(path)
    tape.close()
    return str(tape.header.get("test", "a program"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test in the scheduler; None leaves it to pytest."""
    __tracebackhide__ = True
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    function = pyfuncitem.obj if handle is None else handle.inner_test
    names = names_of(pyfuncitem, runs=runs_in_scheduler(function))
    if not names:
        return refuse_fixtures(arguments_of(pyfuncitem))
    if handle is None:
        run_test(pyfuncitem, names, function, arguments_of(pyfuncitem))
        return True

    def run_example(*args: Any, **arguments: Any) -> None:
        __tracebackhide__ = True
        run_test(pyfuncitem, names, partial(function, *args), arguments)

    handle.inner_test = run_example
    return None


def runs_in_scheduler(function: Callable[..., Any]) -> bool:
    """Return whether a function is a generator or an `async def`."""
    return isgeneratorfunction(function) or iscoroutinefunction(function)


def names_of(item: pytest.Function, *, runs: bool) -> list[str]:
    """Return the names of the marks that a test runs under, the nearest last; none for a test of pytest."""
    names = list(dict.fromkeys(mark.name for mark in item.iter_markers() if mark.name in NAMES))[::-1]
    if names == ["minisched"] and not runs:
        return []
    if names or not runs or item.config.getini("minisched_mode") != "auto":
        return names
    return [] if any(item.get_closest_marker(name) for name in OTHERS) else ["minisched"]


def run_test(item: pytest.Function, names: list[str], function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Run a test in the scheduler, under each of the marks."""
    __tracebackhide__ = True
    make = partial(made, item, function, arguments)
    trials = [name for name in names if name != "minisched"]
    try:
        for name in trials:
            TRIALS[name](item, make, options(item, name))
        if not trials:
            run_once(item, make, **options(item, "minisched"))
    except BaseException as error:
        skipped = isinstance(error.__cause__, pytest.skip.Exception)
        raise strip_own_frames(error.__cause__ if skipped and error.__cause__ else error) from error.__cause__


def options(item: pytest.Function, name: str) -> dict[str, Any]:
    """Return the arguments of a mark."""
    mark = item.get_closest_marker(name)
    if mark is None:
        return {}
    if mark.args:
        raise pytest.UsageError(f"{item.nodeid}: the arguments of the mark {name} have names: {usage(name)}")
    return dict(mark.kwargs)


def usage(name: str) -> str:
    """Return the form of a mark."""
    return next(mark for mark in MARKS if mark.startswith(f"{name}("))


def arguments_of(item: pytest.Function) -> dict[str, Any]:
    """Return the arguments that a test is called with."""
    return {name: item.funcargs[name] for name in signature(item.obj).parameters if name in item.funcargs}


def refuse_fixtures(arguments: dict[str, Any]) -> None:
    """Raise TypeError if a plain test uses a fixture that needs the scheduler."""
    for name, value in arguments.items():
        if isinstance(value, Prepared):
            raise TypeError(f"the fixture {name!r} runs in the scheduler, and so do tests that use it: see the marks")


def made(item: pytest.Function, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return the program of a test, for one run."""
    prepared = {name: value for name, value in item.funcargs.items() if isinstance(value, Prepared)}
    if prepared and runs_in_scheduler(function):
        main = around(function, arguments, prepared)
        main.__name__ = item.name
        return main
    refuse_fixtures(arguments)
    program = function(**arguments)
    if program is None:
        raise TypeError(f"{item.name} returns None: it is a generator or an `async def`, or returns its main task")
    return program


# The marks.


def explored(item: pytest.Function, make: Callable[[], Any], given: dict[str, Any]) -> None:
    """Explore the schedules of a test; raise the error of one that fails, with its lanes in the report."""
    __tracebackhide__ = True
    if "minisched_seed" in item.funcargs:
        _ = given.setdefault("seed", item.funcargs["minisched_seed"])
    _ = given.setdefault("schedule", item.config.getoption("--minisched-schedule"))
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        result = explore(make, **given)
        text = str(result)
    if result.error is not None:
        command = f"pytest {shlex.quote(item.nodeid)} --minisched-schedule={shlex.quote(str(result.schedule))}"
        item.add_report_section("call", SECTION, f"{text}\n\nOnly this schedule:\n  {command}")
        given["schedule"] = result.schedule
        _ = explore(make, **given)  # once more, for the output of its program
        raise result.error


def cancelled(item: pytest.Function, make: Callable[[], Any], given: dict[str, Any]) -> None:
    """Run a test with a cancellation at each point."""
    __tracebackhide__ = True
    _ = cancel_everywhere(make, **given)


def with_faults(item: pytest.Function, make: Callable[[], Any], given: dict[str, Any]) -> None:
    """Run a test with each fault at each place."""
    __tracebackhide__ = True
    _ = faults_everywhere(make, **given)


TRIALS = {"explore": explored, "cancel_everywhere": cancelled, "faults_everywhere": with_faults}


def run_once(item: pytest.Function, make: Callable[[], Any], *, real_time: bool = False, leaks: bool = True) -> None:
    """Run a test once, and look for what it has left behind."""
    __tracebackhide__ = True
    before, left = Resources(), Left()
    main = make()
    clock = None if real_time else VirtualClock()
    recording, replayed = (item.config.getoption(f"--minisched-{name}") for name in ("record", "replay"))
    if replayed:
        replay(main, replayed, clock=clock, watch=[Checker(), left], debug=True)
    elif recording:
        run_recorded(item, make, main, Path(recording), clock, left)
    else:
        loop.run(main, clock=clock, watch=[Checker(), left], debug=True)
    found = [*left.found, *([before.left()] if leaks and not replayed else [])]
    if any(found):
        raise AssertionError(f"the test left behind: {', '.join(filter(None, found))}")


def run_recorded(
    item: pytest.Function, make: Callable[[], Any], main: Any, folder: Path, clock: VirtualClock | None, left: Left
) -> None:
    """Record a test; remove the recording unless it fails. One that can't be recorded runs a second time, without."""
    __tracebackhide__ = True
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.=-]+", "_", item.nodeid).strip("_")[-MAX_NAME_CHARACTERS:] + ".jsonl")
    recorder = Recorder(TapeWriter(os.fspath(path), {"test": item.nodeid}))
    try:
        loop.run(main, services=recorder.services(clock), watch=[Refusals(recorder), Checker(), left], debug=True)
    except BaseException:
        recorder.close()
        if recorder.refused is None:
            command = f"pytest {shlex.quote(item.nodeid)} --minisched-replay={shlex.quote(os.fspath(path))}"
            item.add_report_section("call", SECTION, f"Recorded in {path}. To run it again:\n  {command}")
            raise
    else:
        recorder.close()
    path.unlink()
    if recorder.refused is not None:
        item.add_report_section("call", SECTION, f"Not recorded: {recorder.refused}")
        loop.run(make(), clock=clock, watch=[Checker(), left], debug=True)


class Left(Watcher):
    """Notes what the services hold when the main task ends."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def exit(self, task: Task) -> None:
        if task.spawner is None:
            self.found = list(leftovers(task.kernel))
