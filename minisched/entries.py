"""What is known of a file: who waits for it, and what the last read has said.

Theory of operation. Each file-like has an `Entry` (see `foreign.File`), so that a read or a write sees
at once, and without a call, whether another task waits, and whether it is worth trying. The poller
fills it in for what has a number; a file in memory does it by itself.

Invariants:
1. A closed socket's entry is CLOSED: there, both directions are taken, and nothing ever changes.

Not here: the selector, and what an event means (`poller`).
"""

from __future__ import annotations

import os
from math import inf

from ._selectors2 import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .kernel import Task
    from .poller import Poller

    class Waiter(Protocol):
        """Who waits for a file. `task` is None for one that is no task."""

        @property
        def task(self) -> Task | None: ...
        def ready(self) -> None:
            """Be told that it is worth trying (perhaps in vain)."""
            ...

        def closed(self) -> None:
            """Be told that the file was closed: the wait is over."""
            ...


class Entry:
    """What is known of one file."""

    __slots__ = (
        *("active", "events", "fd", "file", "lasting", "misses", "poller"),
        *("reader", "short", "since", "writer"),
    )

    def __init__(self, fd: int = -1, lasting: bool = True, poller: Poller | None = None) -> None:
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None
        self.short = False  # the last read (or accept) took all there was: the next one waits first
        self.active = False  # something came or went, since this was last set
        self.fd = fd
        self.poller = poller  # that watches it, or did last
        self.lasting = lasting  # stays registered between waits
        self.file: tuple[int, int] | None = None  # if not: which file the number had when it was registered
        self.events = 0  # what the selector watches for
        self.since = inf  # the last look before that began; not of one that is watched for one wait
        self.misses = 0

    def waiter(self, direction: int) -> Waiter | None:
        """Return who waits for a direction."""
        return self.reader if direction == READ else self.writer

    def wanted(self) -> int:
        """Return the events that somebody waits for."""
        return (READ if self.reader is not None else 0) | (WRITE if self.writer is not None else 0)


def identity(fd: int) -> tuple[int, int] | None:
    """Return which file a number is, None if it is none."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


taken: Any = "closed"  # it is told nothing
CLOSED = Entry()
CLOSED.reader = CLOSED.writer = taken
