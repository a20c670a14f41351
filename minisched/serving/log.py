"""The log of a server: lines that no peer can forge, and that no failure of the log keeps from being reported.

Theory of operation. The standard library calls log handlers and filters in the thread that logs, here the run's. One
that raises must not end the run, and an exception that cannot be printed must not stop the line that reports it. So
`log` formats a traceback itself (`describe_failure`). If the log raises, `log` writes the line to standard error.

Invariants:
1. `log` raises nothing, except for KeyboardInterrupt and SystemExit.
2. A text of a peer, also one in an exception, cannot begin a line and contains no control characters: a traceback is
   indented, and in all other texts a newline is escaped.

Decision: equal failures of handlers are limited. In REPEAT_SECONDS, TRACEBACKS_PER_KIND tracebacks of one kind are
logged; the kind is the class of the exception and the line that raised it. Those beyond are counted, and the count is
logged. Because: a log blocks when nobody reads it, for example a pipe with its 64 KB full, and a client that can cause
a failure could so stop the server. Rejected: logging in a thread, with a queue, which loses the last lines of a program
that crashes; a program can do that itself by `logging.handlers.QueueHandler`. The limit makes a full pipe rare, but a
log that nobody reads may still stop a server.

Not here: the lines themselves (`connections`, `serve`, `workers`); the view of a running server (`status`).
"""

from __future__ import annotations

import sys

from ..kernel.tracebacks import leaf_errors, members, one_line, printable
from ..net.addresses import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..net.sockets import Socket
    from ..net.tls import TlsConnection

LEVELS = {"info": 20, "warning": 30, "error": 40}
INDENT = "    "  # of a traceback: a line of the log begins at the margin
MAX_GROUP_LEVELS = 10  # Python prints groups up to this depth, and fails at some hundreds
MAX_ERRORS_SHOWN = 15  # of a group that is nested deeper; as many as Python prints of a flat one
TRACEBACKS_PER_KIND = 20  # some 20 KB, while a pipe holds 64 KB
REPEAT_SECONDS = 60.0  # then the failures that were only counted are reported
MAX_KINDS = 100  # that are distinguished at a time; the failures of any further kind count as one kind

Kind = tuple[str, str, int]


def logger() -> Any:
    """Return the logger `minisched`."""
    import logging  # imported here: only servers log, and `import minisched` is to stay quick

    return logging.getLogger("minisched")


def log(level: str, text: str, *values: object, error: BaseException | None = None) -> None:
    """Log a line, and the traceback of `error`; if the log raises, write both to standard error.

    Args:
        level: "info", "warning" or "error".
        text, values: as for `logging.Logger.info`. A text of a peer is passed through `printable` first.
        error: the exception whose traceback follows the line.

    Raises:
        KeyboardInterrupt, SystemExit: a handler or filter of the log raised it.
    """
    target = logger()
    if not target.isEnabledFor(LEVELS[level]):
        return
    file, line, function, _ = target.findCaller(False, 2)
    info = None if error is None else (type(error), error, traceback_of(error))
    record = target.makeRecord(target.name, LEVELS[level], file, line, text, values, info, function)
    if error is not None:
        record.exc_text = describe_failure(error)  # a Formatter takes this text in place of making its own
    try:
        target.handle(record)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        report_broken_log(record, problem)


def report_broken_log(record: Any, problem: BaseException) -> None:
    """Write a line that could not be logged to standard error, with the reason."""
    lines = [
        f"minisched: the log failed: {one_line(problem)}",
        describe_failure(problem, chain=False),
        "The lost line:",
    ]
    lines += [record.getMessage(), *([record.exc_text] if record.exc_text else [])]
    try:
        _ = sys.stderr.write("\n".join(lines) + "\n")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        pass  # there is no such stream, it is closed, or its reader is gone: no place is left


def peer_name(conn: Socket | TlsConnection) -> str:
    """Return the peer as `host:port`, or a phrase for a Unix socket without a name. No peer can forge a line by it."""
    peer: Any = conn.peer
    if not peer:
        return "a Unix peer"
    return printable(repr(peer) if isinstance(peer, (str, bytes)) else text_of(peer))


def connection_count(number: int) -> str:
    """Return "1 connection", "2 connections" and so on."""
    return "1 connection" if number == 1 else f"{number} connections"


def describe_failure(error: BaseException, *, chain: bool = True) -> str:
    """Return the traceback of any exception as text, indented; of a deep group, the tracebacks of its errors.

    `chain`: with the tracebacks of its cause and context.
    """
    try:
        text = formatted(shallow(error), chain)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # one of the errors cannot be formatted, and must not hide the others
        errors = leaf_errors(error)
        text = "".join(formatted_anyhow(leaf) for leaf in errors[:MAX_ERRORS_SHOWN])
        if len(errors) > MAX_ERRORS_SHOWN:
            text += f"and {len(errors) - MAX_ERRORS_SHOWN} more errors\n"
    return "\n".join(INDENT + printable(line) for line in text.rstrip("\n").split("\n"))


def formatted(error: BaseException, chain: bool) -> str:
    """Return the traceback of an exception, as Python prints it."""
    import traceback  # imported here: `logging` imports it, too

    return "".join(traceback.format_exception(error, chain=chain))


def formatted_anyhow(error: BaseException) -> str:
    """Return the traceback of an exception that Python may fail to print: then without its notes, cause and context."""
    import traceback

    try:
        return formatted(error, chain=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:
        lines = traceback.format_tb(traceback_of(error))
        return "".join([*lines, f"{one_line(error)} (its traceback cannot be printed: {one_line(problem)})\n"])


def shallow(error: BaseException) -> BaseException:
    """Return `error`, or for a group that is nested too deep to be printed, a flat one of the same errors."""
    levels, level = 0, [error]
    while level := [
        member for group in level if issubclass(type(group), BaseExceptionGroup) for member in members(group)
    ]:
        levels += 1
    if levels <= MAX_GROUP_LEVELS:
        return error
    return BaseExceptionGroup(f"{one_line(error)}; the errors in {levels} levels of groups", leaf_errors(error))


def traceback_of(error: BaseException) -> Any:
    """Return the traceback of an exception, whatever its class has put in place of the attribute."""
    return BaseException.__traceback__.__get__(error)  # type: ignore[attr-defined]


class FailureCounts:
    """The kinds of failures of the last REPEAT_SECONDS: how many of each were logged, and how many only counted."""

    def __init__(self) -> None:
        self.kinds: dict[Kind, list[int]] = {}  # [logged, counted]

    def is_logged(self, error: BaseException) -> bool:
        """Return whether a failure is to be logged; otherwise, count it."""
        kind = kind_of(error)
        if kind not in self.kinds and len(self.kinds) >= MAX_KINDS:
            kind = ("a failure of another kind", "", 0)
        counts = self.kinds.setdefault(kind, [0, 0])
        logged = counts[0] < TRACEBACKS_PER_KIND
        counts[not logged] += 1
        return logged

    def begin_anew(self) -> list[str]:
        """Forget all kinds; return a line for each kind with failures that were only counted."""
        kinds, self.kinds = self.kinds, {}
        return [
            f"{counted} more failures like the {logged} logged before: {printable(name)}"
            + (f" ({printable(file)}:{line})" if file else "")
            for (name, file, line), (logged, counted) in kinds.items()
            if counted
        ]


def kind_of(error: BaseException) -> Kind:
    """Return the class of an exception and where it was raised; of a group, those of its first error."""
    first = leaf_errors(error)[0]
    trace = traceback_of(first)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(first).__name__, "", 0
    return type(first).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
