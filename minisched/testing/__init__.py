"""Tools for tests: virtual time, checked runs, traces, and cancellation at every point.

`run` runs a program in virtual time and asserts the kernel's invariants. `trace` returns the text trace of a run, and
`golden` compares a text with a stored one. `check_syscall` is the conformance test for a syscall that waits.
`cancel_everywhere` runs a program once for each point at which a cancellation can reach it. `Checker` and
`VirtualClock` are the parts of `run`, for `minisched.run`.

With pytest, a test can be a generator or an `async def` itself: `@pytest.mark.minisched` runs it once on a virtual
clock, and the marks `explore`, `cancel_everywhere` and `faults_everywhere` run it many times (`pytest --markers`). Its
fixtures can run in the scheduler, too (`fixture`, `Provide`). `pytest --help` lists the options for seeds, schedules
and recordings.

Theory of operation. The virtual clock jumps to the next deadline as soon as no task is ready, so no test ever waits,
and a program without files and threads makes the same run each time. Every check raises an AssertionError whose
message says what is wrong: any test runner will do.

The functions `check_syscall` and `cancel_everywhere` have the names of their modules, so as attributes of this
package the functions shadow the modules. `from minisched.testing.check_syscall import Trial` still works;
a module itself is `sys.modules["minisched.testing.check_syscall"]`.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ..lab.trace import TextTrace
from ..loop import run as run_in_real_time
from ..tasks.clocks import VirtualClock
from ..tasks.timers import Timers
from .cancel_everywhere import cancel_everywhere
from .check_syscall import check_syscall
from .checker import Checker
from .fixtures import Provide, fixture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
    from typing import Any, TypeVar

    from ..io._selectors2 import Selector
    from ..kernel import Kernel, Service
    from ..kernel.watcher import Watcher
    from ..tasks.clocks import Clock

    Result = TypeVar("Result")

    Program = Generator[Any, Any, Result] | Coroutine[Any, Any, Result]

__all__ = [
    "Checker",
    "Provide",
    "VirtualClock",
    "cancel_everywhere",
    "check_syscall",
    "fixture",
    "golden",
    "run",
    "trace",
]


def run(
    main: Program[Result],
    *,
    ready: Any = None,
    clock: Clock | None = None,
    selector: Selector | None = None,
    services: Mapping[type[Service], Callable[[Kernel], Service]] | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool = True,
) -> Result:
    """Run a program in virtual time, and assert the kernel's invariants before each turn.

    Otherwise like `minisched.run`. Time passes only when no task is ready: the clock then jumps to the next
    deadline. Files, threads and signals work, too, but virtual time may run ahead of them.

    Args:
        main: the generator or coroutine of the main task.
        ready: a queue to use as the ready queue.
        clock: another clock; default: a new `VirtualClock`, which starts at 0, unless `services` replaces Timers.
        selector: another selector.
        services: replacements of services by class, as for `minisched.run`.
        watch: watchers, which are notified of each event after the `Checker`.
        debug: warn of mistakes, as `minisched.run(debug=True)` does.

    Returns:
        The return value of the main task.

    Raises:
        AssertionError: when an invariant of the kernel does not hold.
        Deadlock: when no task can ever run again; and any error of the program, as `minisched.run` does.

    Example:
        >>> from minisched import Now, Sleep
        >>> from minisched.testing import run
        >>> def main():
        ...     yield Sleep(3600)
        ...     return (yield Now())
        >>> run(main())
        3600.0
    """
    if clock is None and Timers not in (services or ()):
        clock = VirtualClock()
    watch = [Checker(), *watch]
    return run_in_real_time(
        main, ready=ready, clock=clock, selector=selector, services=services, watch=watch, debug=debug
    )


def trace(main: Program[object]) -> str:
    """Return the text trace of a run in virtual time, with the outcome as the last line.

    The lines are those of `minisched.lab.TextTrace`. An exception of the run is not raised but becomes the last line.

    Example:
        >>> from minisched import Sleep
        >>> from minisched.testing import trace
        >>> def main():
        ...     yield Sleep(2)
        >>> print(trace(main()))
            0  -               spawned 0 main
            1  0 main          <- None
            1  0 main          -> Sleep(2) parked
            1  -               woke 0 main
            2  0 main          <- None
            2  0 main          ended: returned None
        returned None
    """
    lines: list[str] = []
    try:
        outcome = f"returned {run(main, watch=[TextTrace(lines.append)])!r}"
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {error}"
    return "\n".join([*lines, outcome])


def golden(text: str, path: str | Path, *, update: bool = False) -> None:
    r"""Assert that a text equals the content of a file, the golden copy.

    Args:
        text: for example the result of `trace`; newlines at its end do not count.
        path: the golden file, in UTF-8.
        update: write the text to the file instead; read the difference before you commit it. The environment
            variable MINISCHED_UPDATE_GOLDEN does the same for all calls.

    Raises:
        AssertionError: with the difference, line by line.
        FileNotFoundError: if there is no golden file yet.

    Example:
        >>> import os, tempfile
        >>> from minisched.testing import golden
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "greeting.txt")
        ...     golden("hello", path, update=True)
        ...     golden("hello\n", path)
        ...     try:
        ...         golden("goodbye", path)
        ...     except AssertionError as error:
        ...         print(*str(error).splitlines()[-2:], sep="\n")
        -hello
        +goodbye
    """
    path = Path(path)
    if update or os.environ.get("MINISCHED_UPDATE_GOLDEN"):
        _ = path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    expected = path.read_text(encoding="utf-8").splitlines()
    actual = text.rstrip("\n").splitlines()
    difference = "\n".join(difflib.unified_diff(expected, actual, str(path), "this run", lineterm=""))
    if difference:
        raise AssertionError(
            f"the text differs from the golden file (if the change is intended, update the file):\n{difference}"
        )
