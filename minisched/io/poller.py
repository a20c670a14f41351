"""Readiness: one selector, and which waiter an event wakes.

Theory of operation. A `FileState` has the waiters of one file and the events that the selector watches for. The poller
adds waiters, polls the selector for ready descriptors, and calls their waiters. A *persistent* descriptor, as a
`Socket` has, stays registered until it is closed, since a server that registered it for each wait would make twice as
many system calls. Any other descriptor is *one-shot*, registered for one wait only, since it can be closed and reused
without notice (`stale`). An event without a waiter is tolerated a few times in a row. Then the poller stops watching
for it.

Invariants:
1. At most one waiter for each file and direction.
2. The selector watches at least for the events that have a waiter.
3. `registered` holds the states that the selector watches, and no others.
4. The poller holds descriptors, never files: a socket that the program drops is garbage collected, and
   Python warns of it.

Decision: polling is level-triggered, and files are polled once in a round of the ready tasks.
Because: a poll reports every socket that has data, also those whose tasks have not had their turn yet. When files were
polled every 61 turns, as timers are, 1,000 busy connections caused 16 events a message that no task waited for, and
the server took 2.7 times the user CPU time (`python -m tests.benchmarks echo_1000x1KB`).
Rejected: edge-triggered epoll, which does not report the rest when urgent data or a passed descriptor cuts
a read short.

Not here: the state of one file (`filelike`); reading and writing (`files`), which the waiters do.
"""

from __future__ import annotations

from math import inf

from ..errors import BusyError
from ..kernel import Service
from ._selectors2 import (
    IN,
    READ,
    WRITE,
    NotPollable,
    default_selector,
    discard,
    events_of,
    poll_of,
    set_events,
    watches,
)
from .filelike import FileState, event_of
from .stale import MAX_EMPTY_POLLS, STALE_CHECK_SECONDS, has_other_identity, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..kernel import Kernel, Task
    from ._selectors2 import Poll, Selector
    from .filelike import PendingOperation

__all__ = ["READ", "WRITE", "NotPollable", "Poller"]

MAX_UNCLAIMED_EVENTS = 4  # events in a row without a waiter that are tolerated, and one more for each ready task


class Poller(Service):
    """The service that waits for files: one selector, and the waiters of all files of a run.

    A syscall on files normally is a `FileOperation`. The poller is for a file-like with a
    descriptor of its own: it gets a state (`state_of`), adds waiters to it, and drops it before the descriptor is
    closed. A call takes constant time, but `select` is O(events).

    Example:
        >>> import socket
        >>> from minisched import Poller, Syscall, run
        >>> from minisched.io.poller import READ
        >>> class Wake:
        ...     def __init__(self, task):
        ...         self.task = task
        ...     def ready(self):
        ...         self.task.kernel.resume(self.task, "readable")
        ...     def closed(self):
        ...         self.task.kernel.throw(self.task, OSError("closed"))
        >>> class WhenReadable(Syscall):
        ...     def __init__(self, sock):
        ...         self.sock = sock
        ...     def handle(self, kernel, task):
        ...         poller = kernel.service(Poller)
        ...         state = poller.borrow(self.sock.fileno())
        ...         poller.add_waiter(state, READ, Wake(task))
        ...         kernel.park(task, lambda: poller.remove_waiter(state, READ))
        >>> def main(near, far):
        ...     with near, far:
        ...         far.send(b"x")
        ...         return (yield WhenReadable(near))
        >>> run(main(*socket.socketpair()))
        'readable'
    """

    def __init__(self, kernel: Kernel, selector: Selector | None = None) -> None:
        super().__init__(kernel)
        self.selector = selector
        self.poll: Poll = self._first_poll if selector is None else poll_of(selector)
        self.registered: dict[int, FileState] = {}
        self.one_shot: dict[FileState, None] = {}  # those of `registered` that are watched for one wait only
        self.generation = 0  # polls so far
        self.waiting = 0  # waiters
        self.internal_waiters = 0  # of these, the waiters without a task, which only end the loop's wait
        self.stale_checked_at = -inf  # when the one-shot descriptors were last checked
        self.asleep: Any = None  # a SleepingQueue, the ready queue during a poll that may wait; the wake-up sets it
        self.empty_polls = 0  # polls in a row that returned early and woke no task; the loop resets it

    def state_of(self, fd: int, *, persistent: bool = False) -> FileState:
        """Return a state for the descriptor `fd`, to which waiters can be added.

        Args:
            fd: a file descriptor that can be polled.
            persistent: the caller owns the descriptor. It stays registered between waits; the caller gets the state
                once in a run, keeps it, and calls `drop` before the descriptor is closed. Otherwise the state is for
                one wait (see `borrow`).
        """
        return FileState(fd, persistent, self) if persistent else self.borrow(fd)

    def borrow(self, fd: int) -> FileState:
        """Return the state for one wait on the descriptor `fd`, which the scheduler does not own.

        This is the registered state, if there is one of the same file, so that a second waiter gets BusyError. Only
        the persistent state of a socket without waiters is not shared: the socket may have been garbage
        collected, and the descriptor reused. A socket with a waiter is alive, since its waiter refers to it.
        """
        state = self.registered.get(fd)
        if state is not None and self.is_stale(state):
            self.drop(state)
            state = None
        if state is None or (state.persistent and not state.wanted()):
            return FileState(fd, False, self)
        return state

    def add_waiter(self, state: FileState, direction: int, waiter: PendingOperation) -> None:
        """Register `waiter`: its `ready` is called once, when the file is ready for `direction`.

        Args:
            state: the state of the file, of `state_of` or `borrow`.
            direction: the event to wait for, READ or WRITE, or both, of which one comes first.
            waiter: any object with `task`, `ready()` and `closed()`. To wait again, it is added again. An operation
                that has to wait for the other event, as a TLS read that has to write first, has the attributes
                `direction`, which it is the one waiter of, and `waits_for`, which is the event.

        Raises:
            BusyError: the direction has a waiter already.
            NotPollable: the file is a regular file, which is always ready; a kind of PermissionError.
            OSError: the descriptor can't be polled, for another reason.
            ValueError: the descriptor is too large for `select`. The text says what to use instead.
        """
        reads = (getattr(waiter, "direction", direction) if state.crosses else direction) == READ
        if (state.reader if reads else state.writer) is not None:
            raise BusyError(f"another task waits for file {state.fd} already")
        if direction & ~state.events:
            _ = self._open_selector()  # before anything changes, since that may fail
            self._set_interest(state, state.events | direction)
        if reads:
            state.reader = waiter
        else:
            state.writer = waiter
        self.waiting += 1
        if state.crosses:
            state.registered_in = inf  # from now on, `dispatch` handles its events

    def remove_waiter(self, state: FileState, direction: int) -> None:
        """Remove the waiter for `direction`, if there is one, without calling it: the undo of a wait."""
        _ = self._pop_waiter(state, state.given_up(direction) if state.crosses else direction)
        if not state.persistent:
            self._shrink_interest(state)

    def drop(self, state: FileState) -> None:
        """Unregister a file that is about to be closed, or was closed; call `closed` of its waiters."""
        waiters = [waiter for waiter in (state.reader, state.writer) if waiter is not None]
        state.reader = state.writer = None
        self.waiting -= len(waiters)
        self._set_interest(state, 0)
        for waiter in waiters:
            waiter.closed()

    def _set_interest(self, state: FileState, events: int) -> None:
        """Let the selector watch for `events`. If it refuses, drop the state and raise the OSError or ValueError."""
        old_events, state.events, state.unclaimed = state.events, events, 0
        if not events:
            if old_events:
                del self.registered[state.fd]
                _ = self.one_shot.pop(state, None)
                discard(self._open_selector(), state.fd)
        elif events != old_events:
            other = self.registered.get(state.fd)
            if other is not state:
                if other is not None:  # the state of a file that was closed without notice: its descriptor is reused
                    self.drop(other)
                self.registered[state.fd] = state
                if state.persistent:
                    state.registered_in = self.generation
                else:
                    self.one_shot[state] = None
                    state.identity = identity(state.fd)
            try:
                self.watch(state, old_events)
            except BaseException:
                self.drop(state)
                raise

    def watch(self, state: FileState, old_events: int) -> None:
        """Let the selector watch for the events of a state, in place of `old_events`."""
        set_events(self._open_selector(), state.fd, old_events, state.events)

    def _shrink_interest(self, state: FileState) -> None:
        """Watch only for the events that have a waiter."""
        try:
            self._set_interest(state, state.wanted())
        except (OSError, ValueError):
            pass  # the file was closed outside the scheduler, and `drop` has called its waiters

    def select(self, timeout: float | None) -> int:
        """Wait for files, and call the waiters of those that are ready; the loop's Wait phase.

        Args:
            timeout: how long to wait, in seconds; 0 only polls; None waits until an event comes.

        Returns:
            How many events the selector reported, those without a waiter included.
        """
        # Without files, there is nothing to poll. While tasks are ready, there is no wait that an internal waiter could
        # end, so these don't count either. Both save a system call.
        nothing_to_poll = timeout == 0 and len(self.registered) <= (self.internal_waiters if self.kernel.ready else 0)
        events = [] if nothing_to_poll else self._poll(timeout)
        self.generation = generation = self.generation + 1
        states = self.registered
        for fd, mask in events:
            try:
                state = states[fd]
            except KeyError:
                continue  # an earlier waiter has closed the file, or epoll reports a descriptor that is closed
            # Why is one kind of event handled here? The plain form of this loop is, for each event,
            #     self.dispatch(state, events_of(mask) & state.events)
            # Nearly every event of a server says that a persistent socket can be read. For that one, `dispatch` would
            # convert masks and check both directions, only to reach the few lines below.
            # Copy for speed of `dispatch`: gains at least 16 % of the user CPU instructions of `echo_100x1KB`.
            # A socket that was registered since the poll returned goes to `dispatch`, and so does a one-shot
            # descriptor, whose `registered_in` is infinite.
            if mask != IN or state.registered_in >= generation:
                self.dispatch(state, events_of(mask) & state.events)
                continue
            waiter = state.reader
            if waiter is None:
                # The task that reads it is ready, and has read since the last event: so it is in a busy server.
                if state.drained:
                    state.drained, state.unclaimed = False, 1
                else:
                    self._count_unclaimed(state, READ)
                continue
            state.reader, state.unclaimed = None, 0
            state.used = True
            self.waiting -= 1
            waiter.ready()
        if self.kernel.watch is not None:
            self.kernel.watch.poll(timeout, len(events))
        return len(events)

    def dispatch(self, state: FileState, events: int) -> None:
        """Call the waiters of a file for these events."""
        if not state.persistent and self.is_stale(state):
            return self.drop(state)  # `select` and `poll` report the file that has the descriptor now
        if state.registered_in == self.generation:
            return None  # registered since the poll returned: the event is of the file that had the descriptor before
        unclaimed = events & ~state.wanted()
        for direction in (READ, WRITE):
            waiter = state.waiter_for(direction)
            if waiter is not None and events & event_of(waiter, direction):
                _ = self._pop_waiter(state, direction)
                state.used = True
                waiter.ready()
        if not state.persistent:
            self._shrink_interest(state)
        elif unclaimed:
            self._count_unclaimed(state, unclaimed)
        else:
            state.unclaimed = 0
        return None

    def _count_unclaimed(self, state: FileState, events: int) -> None:
        """Handle an event without a waiter: after MAX_UNCLAIMED_EVENTS of them in a row, stop watching for it."""
        if events & READ and state.drained:  # there is more to read: the next read may try at once
            state.drained, state.unclaimed = False, 0
        # A task that is ready may be the reader, and not have had its turn yet.
        if state.unclaimed < MAX_UNCLAIMED_EVENTS + len(self.kernel.ready):
            state.unclaimed += 1
        else:
            self._shrink_interest(state)

    def _pop_waiter(self, state: FileState, direction: int) -> PendingOperation | None:
        """Take the waiter for a direction out of the state and return it."""
        if direction == READ:
            waiter, state.reader = state.reader, None
        else:
            waiter, state.writer = state.writer, None
        if waiter is not None:
            self.waiting -= 1
        return waiter

    def _open_selector(self) -> Selector:
        """Return the selector, made now if there is none. OSError if no descriptor is left."""
        if self.selector is None:
            self.selector = default_selector()
            self.poll = poll_of(self.selector)
        return self.selector

    def _first_poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Open the selector and poll; this is `poll` at first, so that a run without files never opens one."""
        _ = self._open_selector()
        return self.poll(timeout)

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Poll the selector, for at most STALE_CHECK_SECONDS while there are one-shot descriptors."""
        to_be_checked = bool(self.one_shot) and (timeout is None or timeout > STALE_CHECK_SECONDS)
        kernel, asleep = self.kernel, self.asleep
        try:
            if asleep is not None and timeout != 0:
                asleep.queue, kernel.ready = kernel.ready, asleep
            events = self.poll(STALE_CHECK_SECONDS if to_be_checked else timeout)
            if to_be_checked and not events:
                self.empty_polls = 0  # the poll returned early because of this shorter timeout
                _ = self._drop_stale(self.one_shot)
            return events
        except (OSError, ValueError):  # `select` fails if one of its descriptors is closed already
            if not self._drop_stale(self.registered.values()):
                raise
            return []
        finally:
            if asleep is not None and kernel.ready is asleep:
                kernel.ready = asleep.queue

    # The defences against descriptors that were closed outside the scheduler: see `stale`.

    def check_stale(self, now: float) -> None:
        """Drop stale one-shot descriptors, at most once in STALE_CHECK_SECONDS, however busy the loop is."""
        if now >= self.stale_checked_at + STALE_CHECK_SECONDS:
            self.stale_checked_at = now
            _ = self._drop_stale(self.one_shot)

    def is_stale(self, state: FileState) -> bool:
        """Return whether a registered descriptor was closed, or refers to another file now."""
        assert self.selector is not None
        watched = watches(self.selector, state.fd, state.events)
        return has_other_identity(state) if watched is None else not watched

    def _drop_stale(self, states: Iterable[FileState]) -> int:
        """Drop the stale ones of these states; return how many there were."""
        stale = [state for state in states if self.is_stale(state)]
        for state in stale:
            self.drop(state)
        return len(stale)

    def note_empty_poll(self) -> None:
        """Count a poll that returned early and woke no task; renew the selector after MAX_EMPTY_POLLS of them."""
        self.empty_polls += 1
        if self.empty_polls >= MAX_EMPTY_POLLS:
            self.renew()

    def renew(self) -> None:
        """Make a new selector of the same kind, and register with it what the old one watched."""
        self.empty_polls = 0
        if self.selector is None:
            return
        try:
            selector = type(self.selector)()
        except (TypeError, OSError):
            return  # its class needs arguments, or there is no descriptor left: the old one stays
        self.selector.close()
        self.selector, self.poll = selector, poll_of(selector)
        for state in list(self.registered.values()):
            try:
                set_events(selector, state.fd, 0, state.events)
            except (OSError, ValueError):
                self.drop(state)

    # The interface of a service, for the kernel and the loop.

    def waiters(self) -> Iterator[PendingOperation]:
        """Return all waiters, those of the loop included."""
        for state in list(self.registered.values()):
            for waiter in (state.reader, state.writer):
                if waiter is not None:
                    yield waiter

    def tasks(self) -> Iterator[Task]:
        """Return the tasks that wait for a file."""
        for waiter in self.waiters():
            if waiter.task is not None:
                yield waiter.task

    def pending(self) -> int:
        """Return how many tasks wait for a file. O(1): the loop calls this before each wait."""
        return self.waiting - self.internal_waiters

    def abandon(self) -> None:
        """Start again in a forked process. The registrations belong to the first process and stay untouched."""
        self._clear()
        self.one_shot.clear()
        if self.selector is not None:
            self.selector.close()
            self.selector = default_selector()
            self.poll = poll_of(self.selector)

    def close(self) -> None:
        """Close the selector. The files stay open."""
        for state in list(self.registered.values()):
            discard(self._open_selector(), state.fd)
        self._clear()
        if self.selector is not None:
            self.selector.close()

    def _clear(self) -> None:
        """Reset all states: a socket may be used again in another run."""
        for state in self.registered.values():
            state.events = 0
            state.reader = state.writer = None
        self.registered.clear()
        self.waiting = self.internal_waiters = 0
