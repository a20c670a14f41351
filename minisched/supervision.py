"""Supervision: tasks that are started again when they fail, up to a limit.

Theory of operation. Erlang's one-for-one supervisor (Armstrong, "Making reliable distributed
systems in the presence of software errors", 2003, ch. 5.2): a child that fails is replaced, alone.
If more than so many failures come within so many seconds, something is wrong that a restart does
not mend: all are ended, and the supervisor fails, which is its own supervisor's business.

Not here: the group itself (`groups`).
"""

from __future__ import annotations

from collections import deque

from .errors import LimitExceeded, SyscallError
from .family import failure
from .groups import Crew, check_function
from .kernel import Task
from .tasks import awaitable
from .timers import Now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .taskgroup import Body


class Supervision(Crew):
    """The group of a `supervise`: it hears of each end, and no end is its own."""

    __slots__ = ()

    def note(self, child: Task) -> bool:
        self.ends.append(child)
        return False

    def failures(self) -> list[Task]:
        return [child for child in self.ends if child.failure is not None]  # since the last restart


@awaitable
def supervise(*makers: Callable[[], Body], restarts: int = 3, within: float = 5.0) -> Generator[Any, Any, list[Any]]:
    """Run a task of each maker; one that fails is made again, at once; return the last results, in the makers' order.

    A maker is a function that returns a fresh generator or coroutine. Who
    returns, or is cancelled alone (None), is done. A failure is logged. More
    than `restarts` of them within `within` seconds, whosever they are, end all
    the others, and LimitExceeded is raised `from` the last one. ValueError for
    negative limits.
    """
    if not (restarts >= 0 and within >= 0):
        raise ValueError(f"supervise takes limits of 0 or more, not restarts={restarts!r}, within={within!r}")
    for maker in makers:
        check_function(maker, "supervise")
    team, error = Supervision("supervise"), None
    yield from team.start(tuple(maker() for maker in makers))
    try:
        yield from keep_alive(team, makers, restarts, within)
    except BaseException as raised:
        error = raised
    error = yield from team.end(error)
    if error is not None:
        raise error
    return [child.result for child in team.members]


def keep_alive(
    team: Supervision, makers: tuple[Callable[[], Body], ...], restarts: int, within: float
) -> Generator[Any, Any, None]:
    """Replace each child that fails, until all have ended well or the limit is passed."""
    recent: deque[float] = deque()  # when the last failures were
    while (child := (yield from team.next_end())) is not None:
        if child.failure is None:
            continue
        now = yield Now()
        recent.append(now)
        while recent[0] < now - within:
            _ = recent.popleft()
        if len(recent) > restarts:
            said = f"task {child.name!r} failed, and there were {restarts} restarts within {within:g} s"
            raise LimitExceeded(said) from failure(child)
        log_failure(child, len(recent), restarts, within)
        number = team.members.index(child)
        body = makers[number]()
        if getattr(body, "gi_frame", getattr(body, "cr_frame", True)) is None:  # it has ended
            raise SyscallError(
                f"task {child.name!r} can't be started again: its maker has to make a fresh one each time"
            )
        team.members[number] = yield team.spawn(body, child.name)


def log_failure(child: Task, count: int, restarts: int, within: float) -> None:
    """Log what a child raised, and that it is started again."""
    import logging  # only here: it would be a quarter of the package's time to import

    said = "task %r failed and is started again (%d of at most %s within %g s)"
    logging.getLogger("minisched").error(said, child.name, count, restarts, within, exc_info=failure(child))
