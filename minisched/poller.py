"""Readiness: one selector, and who waits for which file.

Theory of operation. An `Entry` says who waits to read a file, who waits to write, and for which
events the selector watches its number. Our own sockets stay registered until they are closed, since
to take them back and forth would be most of the system calls of a server. Any other file is
registered for one wait only: its number can be reused behind our back. An event that nobody waits
for is tolerated a few times in a row; then it is no longer watched for.

Invariants:
1. At most one waiter for each file and direction.
2. The selector watches at least for what somebody waits for.
3. `entries` holds what the selector watches, and nothing else.
4. The poller holds numbers, never files: a dropped socket is collected, and warned about by Python.

Not here: what is known of one file (`entries`); reading and writing (`files`), which a waiter does
when it is told that it can.
"""

from __future__ import annotations

from math import inf

from ._selectors2 import IN, READ, WRITE, default_selector, discard, events_of, poll_of, set_events
from .entries import Entry, identity
from .errors import BusyError
from .kernel import Kernel, Service, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._selectors2 import Selector
    from .entries import Waiter

__all__ = ["READ", "WRITE", "Poller"]
PATIENCE = 4  # events in a row that nobody waits for, while no task is ready
VAIN = 10  # waits in a row that ended early, and brought nothing
LOOK = 1.0  # seconds between two looks at whether the files of others are still there


class Poller(Service):
    """Who waits for which file."""

    def __init__(self, kernel: Kernel, selector: Selector | None = None) -> None:
        super().__init__(kernel)
        self.selector = default_selector() if selector is None else selector
        self.poll = poll_of(self.selector)
        self.entries: dict[int, Entry] = {}
        self.looks = 0  # so far
        self.waiting = 0  # waiters
        self.silent = 0  # of these, who is no task, and has to be told only to end a wait
        self.foreign: dict[Entry, None] = {}  # those that are watched for one wait
        self.looked = -inf  # when these were looked at
        self.vain = 0  # waits

    def entry(self, fd: int, *, lasting: bool = False) -> Entry:
        """Return the entry of `fd`. A lasting one is new: who owns the number asks for it, once in a run."""
        entry = self.entries.get(fd)
        return Entry(fd, lasting, self) if entry is None or lasting or entry.lasting else entry

    def wait(self, entry: Entry, direction: int, waiter: Waiter) -> None:
        """Tell `waiter`, once, when the file is ready. OSError or ValueError if it can't be polled; BusyError."""
        if entry.waiter(direction) is not None:
            raise BusyError(f"another task waits for file {entry.fd} already")
        if not entry.events & direction:
            self._watch(entry, entry.events | direction)
        if direction == READ:
            entry.reader = waiter
        else:
            entry.writer = waiter
        self.waiting += 1

    def forget(self, entry: Entry, direction: int) -> None:
        """End a task's wait."""
        _ = self._taken(entry, direction)
        if not entry.lasting:
            self._relax(entry)

    def drop(self, entry: Entry) -> None:
        """Forget a file that is about to be closed, or has been: who waits for it gets ClosedError."""
        waiters = [waiter for waiter in (entry.reader, entry.writer) if waiter is not None]
        entry.reader = entry.writer = None
        self.waiting -= len(waiters)
        self._watch(entry, 0)
        for waiter in waiters:
            waiter.closed()

    def _watch(self, entry: Entry, events: int) -> None:
        """Have the selector watch for `events`. What it refuses is dropped, and the OSError or ValueError raised."""
        was, entry.events, entry.misses = entry.events, events, 0
        if not events:
            if was:
                del self.entries[entry.fd]
                _ = self.foreign.pop(entry, None)
                discard(self.selector, entry.fd)
        elif events != was:
            other = self.entries.get(entry.fd)
            if other is not entry:
                if other is not None:  # left by a file that is gone: the number is reused
                    self.drop(other)
                self.entries[entry.fd] = entry
                if entry.lasting:
                    entry.since = self.looks
                else:
                    self.foreign[entry] = None
                    entry.file = identity(entry.fd)
            try:
                set_events(self.selector, entry.fd, was, events)
            except BaseException:
                self.drop(entry)
                raise

    def _relax(self, entry: Entry) -> None:
        """Watch for no more than somebody waits for."""
        try:
            self._watch(entry, entry.wanted())
        except (OSError, ValueError):
            pass  # it was closed behind our back: who waits has been told

    def select(self, timeout: float | None) -> int:
        """Wait up to `timeout` seconds (None: any) for files; tell the waiters; return how many events there were."""
        # While tasks are ready, and only files are watched that are there to end a wait, that is a system call in vain.
        in_vain = timeout == 0 and len(self.entries) <= self.silent and self.kernel.ready
        events = [] if in_vain else self._ask(timeout)
        self.looks = looks = self.looks + 1
        entries = self.entries
        for fd, mask in events:
            try:
                entry = entries[fd]
            except KeyError:
                continue
            if mask != IN or entry.since >= looks:
                self.tell(entry, events_of(mask) & entry.events)
                continue
            waiter = entry.reader  # nearly always a socket of ours can be read: `tell` takes 0.4 us more for that
            if waiter is None:
                if entry.short:  # read by a task that has not had its turn again: most often, while many are busy
                    entry.short, entry.misses = False, 1
                else:
                    self._missed(entry, READ)
                continue
            entry.reader, entry.misses = None, 0
            self.waiting -= 1
            waiter.ready()
        if self.kernel.watch is not None:
            self.kernel.watch.poll(timeout, len(events))
        return len(events)

    def tell(self, entry: Entry, mask: int) -> None:
        """Tell who waits for these events."""
        if entry.file is not None and entry.file != identity(entry.fd):
            return self.drop(entry)  # a selector that goes by numbers speaks of who has this one now
        if entry.since == self.looks:
            return None  # it is not what was ready that has this number now
        missed = mask & ~entry.wanted()
        for direction in (READ, WRITE):
            waiter = self._taken(entry, direction) if mask & direction else None
            if waiter is not None:
                waiter.ready()
        if not entry.lasting:
            self._relax(entry)
        elif missed:
            self._missed(entry, missed)
        else:
            entry.misses = 0
        return None

    def _missed(self, entry: Entry, events: int) -> None:
        """Bear with events that nobody waits for, up to a point; the next read need not wait."""
        if events & READ and entry.short:  # it has been read since the last time
            entry.short, entry.misses = False, 0
        if entry.misses < PATIENCE + len(self.kernel.ready):  # who reads it may just not have had its turn
            entry.misses += 1
        else:
            self._relax(entry)

    def _taken(self, entry: Entry, direction: int) -> Waiter | None:
        """Let nobody wait for this direction any more; return who did."""
        if direction == READ:
            waiter, entry.reader = entry.reader, None
        else:
            waiter, entry.writer = entry.writer, None
        if waiter is not None:
            self.waiting -= 1
        return waiter

    def _ask(self, timeout: float | None) -> list[tuple[int, int]]:
        look = bool(self.foreign) and (timeout is None or timeout > LOOK)
        try:
            events = self.poll(LOOK if look else timeout)
            if look and not events:
                self.vain = 0  # it ended early for a reason
                _ = self._drop_the_closed(self.foreign)
            return events
        except (OSError, ValueError):  # a select with a number that was closed behind our back
            if not self._drop_the_closed(self.entries.values()):
                raise
            return []

    def look(self, now: float) -> None:
        """Look once in a while, however busy the loop is, whether the files of others are still there."""
        if now >= self.looked + LOOK:
            self.looked = now
            _ = self._drop_the_closed(self.foreign)

    def _drop_the_closed(self, entries: Iterable[Entry]) -> int:
        """Drop the numbers that belong to no file any more, or to another one; return how many there were."""
        gone = [entry for entry in entries if (file := identity(entry.fd)) is None or file != (entry.file or file)]
        for entry in gone:
            self.drop(entry)
        return len(gone)

    def in_vain(self) -> None:
        """Be told that a wait has ended early, and nobody was woken. If that goes on, make the selector anew.

        A number that was closed while a copy of it (`os.dup`) is open stays with
        epoll, which reports it for ever, and can't be told to stop.
        """
        self.vain += 1
        if self.vain >= VAIN:
            self.renew()

    def renew(self) -> None:
        """Make the selector anew, with what is watched."""
        self.vain = 0
        try:
            selector = type(self.selector)()
        except (TypeError, OSError):
            return  # it can't be made like that, or not now
        self.selector.close()
        self.selector, self.poll = selector, poll_of(selector)
        for entry in list(self.entries.values()):
            try:
                set_events(self.selector, entry.fd, 0, entry.events)
            except (OSError, ValueError):
                self.drop(entry)

    def waiters(self) -> Iterator[Waiter]:
        """Return everybody who waits."""
        for entry in list(self.entries.values()):
            for waiter in (entry.reader, entry.writer):
                if waiter is not None:
                    yield waiter

    def tasks(self) -> Iterator[Task]:
        """Return the tasks that wait for a file."""
        for waiter in self.waiters():
            if waiter.task is not None:
                yield waiter.task

    def pending(self) -> int:
        """Return how many tasks wait for a file: each may be woken from outside. O(1): it is asked at each wait."""
        return self.waiting - self.silent

    def abandon(self) -> None:
        """Be in a process that was forked: what the selector watches is the first process's, and is left alone."""
        self._clear()
        self.foreign.clear()
        self.selector.close()
        self.selector = default_selector()
        self.poll = poll_of(self.selector)

    def close(self) -> None:
        """Close the selector."""
        for entry in list(self.entries.values()):
            discard(self.selector, entry.fd)
        self._clear()
        self.selector.close()

    def _clear(self) -> None:
        """Let all entries be as if nobody had waited: a socket may be used in another run."""
        for entry in self.entries.values():
            entry.events = 0
            entry.reader = entry.writer = None
        self.entries.clear()
        self.waiting = self.silent = 0
