"""supervise: tasks that are restarted when they fail, up to a limit.

Theory of operation. This is Erlang's one-for-one supervisor (J. Armstrong, "Making reliable distributed systems in the
presence of software errors", 2003, chapter 5.2). A child that fails is replaced; the other children run on. When more
than `restarts` failures occur within `within` seconds, restarting evidently does not help. All children are then
cancelled, and the supervisor fails itself, so that a supervisor above it may restart the whole group.

Decision: only a child that fails is restarted, and the limit counts the failures of all children together.
Because: Erlang's *transient* children and its restart intensity work this way. A child that returns has finished its
work.
Rejected: restarting every child that ends, like Erlang's *permanent* children; a loop in the child does the same.

Invariants:
1. Each maker has at most one living child.
2. A failure is logged, or is the cause of the LimitExceeded that is raised.

Not here: the group itself (`taskgroup`, `gather`).
"""

from __future__ import annotations

from collections import deque

from ..errors import LimitExceeded, SyscallError
from ..kernel.lifecycle import failure
from ..kernel.numbers import check_count, check_seconds
from .gather import FailFast
from .taskgroup import check_function
from .tasks import awaitable
from .timers import Now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from ..kernel import Task
    from .tasks import Body

    Result = TypeVar("Result")


class Supervision(FailFast):
    """The group of `supervise`: it reports each end to its owner, and no end ends the group."""

    __slots__ = ()

    def record_outcome(self, child: Task) -> bool:
        self.ends.append(child)
        return False

    def failures(self) -> list[Task]:
        return [child for child in self.ends if child.failure is not None]  # those that were not restarted


@awaitable
def supervise(
    *makers: Callable[[], Body[Result]], restarts: int = 3, within: float = 5.0
) -> Generator[Any, Any, list[Result | Any]]:
    """Run a task for each maker, and restart a task that fails; return the results when all tasks have returned.

    A failed task is restarted at once, and its failure is logged (logger `minisched`, level ERROR, with the traceback).
    A task that returns is finished; so is one that was cancelled alone, whose result is None. When the limit is passed,
    the other tasks are cancelled, and LimitExceeded is raised when they have ended. A cancellation of the caller
    cancels all tasks.

    Args:
        makers: functions without parameters that return a fresh generator or coroutine each time.
        restarts: how many failures of all tasks together are allowed within `within` seconds.
        within: the length of that period, in seconds.

    Returns:
        The results of the last task of each maker, in the order of the makers.

    Raises:
        LimitExceeded: for one failure more than that; its `__cause__` is the last failure.
        TypeError: if a limit is not a number.
        ValueError: for negative limits and NaN; infinity is allowed.
        SyscallError: for a maker that is not a function, or that returns the same task again.

    Example:
        >>> import logging
        >>> from minisched import Sleep, supervise
        >>> from minisched.testing import run
        >>> logging.getLogger("minisched").setLevel(logging.CRITICAL)  # do not print the failure
        >>> attempts = []
        >>> def flaky():
        ...     attempts.append(1)
        ...     yield Sleep(1)
        ...     if len(attempts) < 3:
        ...         raise OSError("connection lost")
        ...     return "done"
        >>> def main():
        ...     return (yield from supervise(flaky))
        >>> run(main())
        ['done']
        >>> len(attempts)
        3
        >>> logging.getLogger("minisched").setLevel(logging.NOTSET)
    """
    restarts = check_count("supervise", "restarts", "restarts", restarts, endless=True)
    within = check_seconds("supervise", "within", within)
    for maker in makers:
        check_function(maker, "supervise")
    group, error = Supervision("supervise"), None
    yield from group.begin_with(tuple(maker() for maker in makers))
    try:
        yield from restart_failed(group, makers, restarts, within)
    except BaseException as raised:
        error = raised
    try:
        error = yield from group.end(error)
        if error is not None:
            raise error
    finally:
        results = [child.result for child in group.members]
        del error, group  # this frame is in the traceback, and the group has the tasks that failed: leave no cycle
    return results


def restart_failed(
    group: Supervision, makers: tuple[Callable[[], Body], ...], restarts: int, within: float
) -> Generator[Any, Any, None]:
    """Restart each child that fails, until all have ended without a failure or the limit is passed."""
    recent: deque[float] = deque()  # the times of the last failures
    numbers = {child: number for number, child in enumerate(group.members)}
    while True:
        child = None  # drop the last failure before the next wait
        child = yield from group.next_end()
        if child is None:
            return
        if child.failure is None:
            continue
        now = yield Now()
        recent.append(now)
        while recent[0] < now - within:
            _ = recent.popleft()
        if len(recent) > restarts:
            text = f"task {child.name!r} failed, and there were {restarts} restarts within {within:g} s"
            raise LimitExceeded(text) from failure(child)
        log_failure(child, len(recent), restarts, within)
        number = numbers.pop(child)
        body = makers[number]()
        if getattr(body, "gi_frame", getattr(body, "cr_frame", True)) is None:  # the body has ended
            raise SyscallError(
                f"task {child.name!r} cannot be restarted: its maker returned a task that has ended; make a fresh one"
            )
        group.members[number] = restarted = yield group.spawn(body, child.name)
        numbers[restarted] = number


def log_failure(child: Task, count: int, restarts: int, within: float) -> None:
    """Log the exception of a child that is about to be restarted."""
    import logging  # only here: slow to import

    text = "task %r failed and is started again (%d of at most %s within %g s)"
    logging.getLogger("minisched").error(text, child.name, count, restarts, within, exc_info=failure(child))
