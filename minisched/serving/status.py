"""A view of a running server: its connections, its tasks and what they wait for.

Theory of operation. Each server of a run registers its `Connections` in the service `Servers` while it serves. The text
of `server_status` is made from that and from the kernel's tasks when it is asked for, so it costs nothing before. It
is multi-line text for people: the names and calls in it are escaped, so that no peer can forge a line.

Not here: descriptions of the calls that tasks wait in (`lab.report`); counters of messages, which the program's handler
can keep.
"""

from __future__ import annotations

from functools import partial
from itertools import islice

from ..bridges.signals import WaitSignal
from ..io.poller import Poller
from ..kernel import Service
from ..kernel.tracebacks import PACKAGE, printable
from ..kernel.tree import ENDING, PARKED
from ..tasks.tasks import CurrentTask
from ..tasks.timers import Timers
from .log import log, peer_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator
    from typing import Any

    from ..kernel import Kernel, Task
    from ..sync.events import Event
    from .connections import Connection, Connections

MAX_TASKS_SHOWN = 50  # connections, and as many other tasks: two screens
MAX_CALL_CHARACTERS = 100  # of the call that a task waits in: a line stays readable


class Servers(Service):
    """The servers of a run that serve now."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.running: dict[Connections, None] = {}


def server_status(kernel: Kernel) -> str:
    """Return a view of the servers of a run and of its tasks, as lines of text for people.

    The view has the uptime in seconds, the connections with their peers and ages, and what each task waits for. Call
    this between two yields: it is a plain call and changes nothing. O(tasks). The names of peers and tasks in it are
    escaped. `serve(status_signal=signal.SIGUSR1)` logs this text at each such signal.

    Args:
        kernel: of the run, as `(yield CurrentTask()).kernel`.

    Returns:
        The text, without a newline at its end. At most 50 connections and 50 other tasks are listed.

    Example:
        >>> from minisched import Connect, CurrentTask, Event, Read, Spawn, Write, run, serve, server_status
        >>> def handler(conn):
        ...     yield Write(conn, b"hello")
        ...     yield Read(conn, 100)
        >>> def main():
        ...     listening, addresses = Event(), []
        ...     def ready(listener):
        ...         addresses.append(listener.address)
        ...         listening.set()
        ...     yield Spawn(serve(handler, "127.0.0.1", 0, ready=ready), daemon=True)
        ...     yield listening.wait()
        ...     with (yield Connect(addresses[0])) as conn:
        ...         yield Read(conn, 100)
        ...         return server_status((yield CurrentTask()).kernel)
        >>> print(run(main()))
        status: 5 tasks, 0 of them ready; ... polls of files
        server up 0 s: 1 connection of at most ...; 1 accepted, 0 handlers failed
          handler-1 of 127.0.0.1:..., 0 s old: waits in Read(socket, 100), at ... (handler)
        other tasks
          0 main: ...
    """
    now = kernel.service(Timers).now()
    others = dict.fromkeys(kernel.tasks())
    polls = kernel.service(Poller).generation
    lines = [f"status: {len(others):,} tasks, {len(kernel.ready):,} of them ready; {polls:,} polls of files"]
    for server in kernel.service(Servers).running:
        lines += [server.status_line(now), *listed(partial(handler_line, now), server.connections.items())]
        others = {task: None for task in others if task not in server.connections}
    lines += ["other tasks", *listed(task_line, others)]
    return "\n".join(map(printable, lines))


def handler_line(now: float, entry: tuple[Task, Connection]) -> str:
    """Describe a handler and its connection."""
    task, connection = entry
    return f"{task.name} of {peer_name(connection.conn)}, {now - connection.accepted_at:.0f} s old: {doing(task)}"


def task_line(task: Task) -> str:
    """Describe a task."""
    from ..lab import report  # imported here: an instrument

    return f"{report.label(task)}: {doing(task)}"


def listed(make_line: Callable[[Any], str], things: Collection[Any]) -> list[str]:
    """Return a line for each of the first MAX_TASKS_SHOWN things, indented, and how many more there are."""
    lines = [f"  {make_line(thing)}" for thing in islice(things, MAX_TASKS_SHOWN)]
    rest = len(things) - len(lines)
    return [*lines, f"  and {rest:,} more"] if rest else lines


def doing(task: Task) -> str:
    """Describe what a task waits for, and where."""
    from ..lab import report  # imported here: an instrument

    if task.state not in (PARKED, ENDING):
        return f"is {task.state}"
    text = report.waits(task, {})
    text = text if len(text) <= MAX_CALL_CHARACTERS else text[: MAX_CALL_CHARACTERS - 3] + "..."
    places = [place for place in report.stack(task) if not place[0].startswith(PACKAGE)]
    return text + (f", at {places[-1][0]}:{places[-1][1]} ({places[-1][2]})" if places else "")


def log_status(signum: int, begun: Event) -> Generator[Any, Any, None]:
    """Log the status of the servers of this run at each signal `signum`; set `begun` when the first one may arrive."""
    task: Task = yield CurrentTask()
    _ = server_status(task.kernel)  # this imports what it needs now: later, there may be no file descriptor for that
    begun.set()  # the server listens after this turn, at whose end the task waits for the signal
    while True:
        _ = yield WaitSignal(signum)
        log("warning", "%s", server_status(task.kernel))
