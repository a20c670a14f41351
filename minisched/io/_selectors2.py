"""The selectors2 package: imported when a selector is first made, with its faults contained.

Theory of operation. selectors2 2.0.2 (2020) imports `Mapping` from `collections`, which Python 3.10
removed. `load` puts that name back for the duration of the import and takes it away again. A program
that never waits for a file does not need selectors2, so `import minisched` does not import it.

A selector can leave a wrong registration behind. Each such fault is corrected here, so that the
poller can trust `set_events` and `discard`:

- `register` of a file that can't be polled keeps the key. It is removed.
- `modify` that fails halfway loses the key or keeps it. It is removed.
- The key of a closed file blocks the next file with the same descriptor. It is replaced.
- `select()` with a descriptor over FD_SETSIZE fails in each later call, in the standard library
  too. Such a descriptor is refused when it is registered.
- A timeout of weeks overflows. The loop never waits longer than a day at once.

Invariants:
1. This is the only module that imports selectors2.
2. After `set_events` has raised, the descriptor is not registered.

Not here: the tasks that wait for files (`poller`).
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import collections
import select
import selectors
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Key(Protocol):
        """The part of a selector's key that the poller uses."""

        @property
        def fd(self) -> int: ...

    class Selector(Protocol):
        """The interface that `run(selector=...)` accepts; the standard library's selectors have it, too."""

        def register(self, fileobj: int, events: int, data: Any = None, /) -> object: ...
        def unregister(self, fileobj: int, /) -> object: ...
        def modify(self, fileobj: int, events: int, data: Any = None, /) -> object: ...
        def select(self, timeout: float | None = None, /) -> list[tuple[Key, int]]: ...
        def close(self) -> None: ...

    Poll = Callable[[float | None], list[tuple[int, int]]]  # seconds (None: no limit) -> [(fd, mask as epoll has it)]

# The two events, with the values of the standard library. `load` asserts that selectors2 has the same values.
READ = 1
WRITE = 2  # the same value in selectors2 and in the standard library

MAX_EVENTS = 1024  # events that one call of epoll returns at most; epoll allocates room for all of them
IN: int = getattr(select, "EPOLLIN", 1)  # the same number where there is no epoll
OUT: int = getattr(select, "EPOLLOUT", 4)  # the same number where there is no epoll
EPOLL: type | None = getattr(select, "epoll", None)
NAMES = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")


class NotPollable(PermissionError):
    """The file can't be polled, since it never blocks: a regular file or a directory."""


@cache
def load() -> Any:
    """Import selectors2 and return it."""
    lend = not hasattr(collections, "Mapping")
    if lend:
        collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
    try:
        import selectors2
    finally:
        if lend and hasattr(collections, "Mapping"):  # another thread may have removed it already
            del collections.Mapping  # type: ignore[attr-defined]
    assert (selectors2.EVENT_READ, selectors2.EVENT_WRITE) == (READ, WRITE)
    return selectors2


def default_selector() -> Selector:
    """Return the best selector of this platform."""
    return load().DefaultSelector()


def selectors_of_platform() -> dict[str, Callable[[], Selector]]:
    """Return the selectors that this platform has, by name."""
    return {name: getattr(load(), name) for name in NAMES if hasattr(load(), name)}


def poll_of(selector: Selector) -> Poll:
    """Return a function that polls: `select` of this selector, but with file descriptors and epoll's masks.

    The mask of epoll is not converted, since the poller compares it directly. The function may return descriptors that
    are not registered: epoll goes on reporting a closed descriptor while a duplicate of it is open.
    """
    if type(selector) is getattr(load(), "EpollSelector", None):  # a derived class may have a `select` of its own
        return poll_by_epoll(selector)
    return lambda timeout: [(key.fd, mask_of(events)) for key, events in selector.select(timeout)]


def poll_by_epoll(selector: Any) -> Poll:
    """Return the poll function of an EpollSelector.

    Copy for speed of `EpollSelector.select`: gains about 15 % of the user CPU instructions of `echo_100x1KB`. It
    builds no list of keys that would be unpacked again at once. Python itself repeats an interrupted call (PEP 475) and
    rounds the timeout up to milliseconds.
    """
    poll, keys = selector._epoll.poll, selector._fd_to_key

    def poll_epoll(timeout: float | None) -> list[tuple[int, int]]:
        if timeout is not None and timeout < 0:
            timeout = 0.0  # a negative one would wait for ever
        count = len(keys)
        return poll(timeout, (count if count < MAX_EVENTS else MAX_EVENTS) or 1)

    return poll_epoll


def mask_of(events: int) -> int:
    """Return epoll's mask for these events."""
    return (IN if events & READ else 0) | (OUT if events & WRITE else 0)


def events_of(mask: int) -> int:
    """Return the events of one of epoll's masks; an error counts as both."""
    return (READ if mask & ~OUT else 0) | (WRITE if mask & ~IN else 0)


def set_events(selector: Selector, fd: int, old_events: int, events: int) -> None:
    """Watch `fd` for `events`; it was watched for `old_events` so far (0: not at all).

    Raises NotPollable for a regular file, another OSError or ValueError for a descriptor that can't
    be watched. The descriptor is not registered then.
    """
    if isinstance(selector, (load().SelectSelector, selectors.SelectSelector)):
        refuse_over_fd_setsize(fd)
    try:
        try:
            _ = (selector.modify if old_events else selector.register)(fd, events)
        except KeyError:  # a closed file with this descriptor has left its key
            discard(selector, fd)
            _ = selector.register(fd, events)
    except (OSError, ValueError) as error:
        discard(selector, fd)
        if isinstance(error, PermissionError):  # the error of epoll for a regular file
            raise NotPollable(*error.args) from None
        raise


def refuse_over_fd_setsize(fd: int) -> None:
    """Raise ValueError, which says what to use instead, for a descriptor that `select.select` can't take."""
    try:
        _ = select.select([fd], [], [], 0)
    except ValueError:
        raise ValueError(
            f"file descriptor {fd} is too large for select(), which mostly takes those below 1024: "
            "leave out `selector=`, pass a PollSelector, or have fewer files open"
        ) from None


def watches(selector: Selector, fd: int, events: int) -> bool | None:
    """Return whether epoll still watches the open file that `fd` refers to now; None if `selector` is not epoll.

    `modify` of a selector would not ask epoll, since the events are the same. Its own epoll object is asked.
    """
    epoll: Any = getattr(selector, "_epoll", None) or getattr(selector, "_selector", None)
    if EPOLL is None or type(epoll) is not EPOLL:
        return None
    try:
        epoll.modify(fd, mask_of(events))
    except OSError:  # ENOENT: another open file has the descriptor now; EBADF: none has
        return False
    return True


def discard(selector: Selector, fd: int) -> None:
    """Unregister `fd`; do nothing if it is not registered, or not open."""
    try:
        _ = selector.unregister(fd)
    except (KeyError, OSError, ValueError):
        pass
