"""For tests, ours and yours: a virtual clock, a checked run, golden traces, a battery for syscalls.

Theory of operation. `run` is `minisched.run` on a clock that jumps to the next deadline as soon as
nothing is ready, so that no test ever waits, with the kernel's invariants asserted after every turn
(sampled once there are more than 1,000 tasks). `check_syscall` puts a syscall through each moment
at which a cancellation can meet it, each in a run of its own, and says in words what went wrong;
`cancel_everywhere` does that to a program.

Not here: the battery (`battery`) and the injection (`injection`); pytest: all of this works in any test runner.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .battery import check_syscall
from .clocks import VirtualClock
from .injection import cancel_everywhere
from .loop import run as run_in_real_time
from .watch import Checker, TextTrace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence
    from typing import Any, TypeVar

    from ._selectors2 import Selector
    from .clocks import Clock
    from .watch import Watcher

    Result = TypeVar("Result")
    Program = Generator[Any, Any, Result] | Coroutine[Any, Any, Result]


def run(
    main: Program[Result],
    *,
    ready: Any = None,
    clock: Clock | None = None,
    selector: Selector | None = None,
    watch: Sequence[Watcher] = (),
    debug: bool = True,
) -> Result:
    """Run as `minisched.run` does, in virtual time unless a clock is given, asserting the kernel's invariants."""
    clock = VirtualClock() if clock is None else clock
    return run_in_real_time(main, ready=ready, clock=clock, selector=selector, watch=[Checker(), *watch], debug=debug)


def trace(main: Program[object]) -> str:
    """Return the text trace of a run in virtual time, with its outcome as the last line.

    >>> from minisched import Sleep
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
    """Assert that `text` is what the file at `path` holds.

    With `update`, or MINISCHED_UPDATE_GOLDEN set in the environment, it is
    written there instead: read the difference before you commit it.
    """
    path = Path(path)
    if update or os.environ.get("MINISCHED_UPDATE_GOLDEN"):
        _ = path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    wanted = path.read_text(encoding="utf-8").splitlines()
    got = text.rstrip("\n").splitlines()
    difference = "\n".join(difflib.unified_diff(wanted, got, str(path), "this run", lineterm=""))
    assert not difference, f"the trace is not the golden one any more (update it if that is right):\n{difference}"


__all__ = ["Checker", "VirtualClock", "cancel_everywhere", "check_syscall", "golden", "run", "trace"]
