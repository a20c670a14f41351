"""selectors2, made importable on today's Pythons, with its faults contained: its only importer.

selectors2 2.0.2 (2020) imports `Mapping` from `collections`, where it is no longer since Python
3.10: the name is lent for the time of the import and taken back.

What goes wrong inside a selector is put right here, so that the poller can trust it:
`register` of what can't be polled keeps a key (rolled back); `modify` that fails halfway loses or
keeps one (rolled back); a key of a file that is gone blocks its number (replaced); `select()` with
a number over FD_SETSIZE fails at every later call, the standard library's too (refused at once); a
timeout of weeks overflows (the loop never asks for more than a day).

Not here: which file is waited for by whom (`poller`).
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import collections
import collections.abc
import select
import selectors
import sys
from math import ceil

from ._lent import Later, Lent

lent = not hasattr(collections, "Mapping")
if lent:
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
try:
    with Lent(Later("platform", python_implementation=lambda: sys.implementation.name)):
        import selectors2
finally:
    if lent:
        del collections.Mapping  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Key(Protocol):
        """What `select` says of a file: its number and what was registered with it."""

        @property
        def fd(self) -> int: ...
        @property
        def data(self) -> Any: ...

    class Selector(Protocol):
        """The shape that `run(selector=...)` takes: the standard library's selectors have it too."""

        def register(self, fileobj: int, events: int, data: Any = None, /) -> object: ...
        def unregister(self, fileobj: int, /) -> object: ...
        def modify(self, fileobj: int, events: int, data: Any = None, /) -> object: ...
        def select(self, timeout: float | None = None, /) -> list[tuple[Key, int]]: ...
        def close(self) -> None: ...


BY_SELECT = (selectors2.SelectSelector, selectors.SelectSelector)
READ: int = selectors2.EVENT_READ
WRITE: int = selectors2.EVENT_WRITE
AT_ONCE = 1024  # events of one look
IN: int = getattr(select, "EPOLLIN", 0)
OUT: int = getattr(select, "EPOLLOUT", 0)
NAMES = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")


def default_selector() -> Selector:
    """Return the best selector of this platform."""
    selector = selectors2.DefaultSelector()
    if type(selector) is not getattr(selectors2, "EpollSelector", None):
        return selector
    selector.close()
    return Epoll()


if hasattr(selectors2, "EpollSelector"):

    class Epoll(selectors2.EpollSelector):  # pyright: ignore[reportUntypedBaseClass]
        """selectors2's, with a shorter `select`, which is most of what a loop does while nothing is ready."""

        def select(self, timeout: float | None = None) -> list[tuple[Key, int]]:
            """Wait up to `timeout` seconds (None: any) for files; return those that are ready, with their events."""
            keys = self._fd_to_key
            seconds = -1.0 if timeout is None else ceil(timeout * 1000) * 0.001 if timeout > 0 else 0.0
            # Python goes on by itself after a signal (PEP 475). At most so many at once: it makes room for all.
            found = self._epoll.poll(seconds, min(len(keys), AT_ONCE) or 1)
            return [
                (keys[fd], READ if mask == IN else events_of(mask) & keys[fd].events)
                for fd, mask in found
                if fd in keys  # epoll goes on about a number that was closed while a copy of it is open
            ]


def events_of(mask: int) -> int:
    """Return what epoll's events mean; an error is both."""
    return (READ if mask & ~OUT else 0) | (WRITE if mask & ~IN else 0)


def selectors_of_platform() -> dict[str, Callable[[], Selector]]:
    """Return the selectors that this platform has, by name."""
    found = {name: getattr(selectors2, name) for name in NAMES if hasattr(selectors2, name)}
    if "EpollSelector" in found:
        found["Epoll"] = Epoll
    return found


def set_events(selector: Selector, fd: int, was: int, events: int, data: object) -> None:
    """Register `fd` for `events` where it was registered for `was` (0: not at all).

    OSError or ValueError if it can't be polled; it is not registered then.
    """
    if isinstance(selector, BY_SELECT):
        _ = select.select([fd], [], [], 0)  # raises ValueError for a number over FD_SETSIZE
    try:
        try:
            _ = (selector.modify if was else selector.register)(fd, events, data)
        except KeyError:  # something else holds a key for this number, and its file is gone
            discard(selector, fd)
            _ = selector.register(fd, events, data)
    except (OSError, ValueError):
        discard(selector, fd)
        raise


def discard(selector: Selector, fd: int) -> None:
    """Unregister `fd`, whether it is registered, open, or neither."""
    try:
        _ = selector.unregister(fd)
    except (KeyError, OSError, ValueError):
        pass
