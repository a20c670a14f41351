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
        """What `select` says of a file: its number."""

        @property
        def fd(self) -> int: ...

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
IN: int = getattr(select, "EPOLLIN", 1)
OUT: int = getattr(select, "EPOLLOUT", 4)
NAMES = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")


def default_selector() -> Selector:
    """Return the best selector of this platform."""
    selector = selectors2.DefaultSelector()
    if type(selector) is not getattr(selectors2, "EpollSelector", None):
        return selector
    selector.close()
    return Epoll()


Base: Any = getattr(selectors2, "EpollSelector", object)


class Epoll(Base):
    """selectors2's, which says more shortly what is ready: that is most of what a loop does while no task is."""

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds (None: any) for files; return the numbers that are ready, and epoll's masks.

        There may be numbers among them that nobody has registered: epoll
        goes on about one that was closed while a copy of it is open.
        """
        seconds = -1.0 if timeout is None else ceil(timeout * 1000) * 0.001 if timeout > 0 else 0.0
        # Python goes on by itself after a signal (PEP 475). At most so many at once: it makes room for all.
        return self._epoll.poll(seconds, min(len(self._fd_to_key), AT_ONCE) or 1)


def poll_of(selector: Selector) -> Callable[[float | None], list[tuple[int, int]]]:
    """Return what asks a selector which numbers are ready, as its `select` does, with epoll's masks."""
    if type(selector) is Epoll:  # what is derived from it may have a `select` of its own
        return selector.poll
    return lambda timeout: [(key.fd, mask_of(events)) for key, events in selector.select(timeout)]


def mask_of(events: int) -> int:
    """Return events as epoll has them."""
    return (IN if events & READ else 0) | (OUT if events & WRITE else 0)


def events_of(mask: int) -> int:
    """Return what epoll's mask means; an error is both."""
    return (READ if mask & ~OUT else 0) | (WRITE if mask & ~IN else 0)


def selectors_of_platform() -> dict[str, Callable[[], Selector]]:
    """Return the selectors that this platform has, by name."""
    found = {name: getattr(selectors2, name) for name in NAMES if hasattr(selectors2, name)}
    if "EpollSelector" in found:
        found["Epoll"] = Epoll
    return found


def set_events(selector: Selector, fd: int, was: int, events: int) -> None:
    """Register `fd` for `events` where it was registered for `was` (0: not at all).

    OSError or ValueError if it can't be polled; it is not registered then.
    """
    if isinstance(selector, BY_SELECT):
        _ = select.select([fd], [], [], 0)  # raises ValueError for a number over FD_SETSIZE
    try:
        try:
            _ = (selector.modify if was else selector.register)(fd, events)
        except KeyError:  # something else holds a key for this number, and its file is gone
            discard(selector, fd)
            _ = selector.register(fd, events)
    except (OSError, ValueError):
        discard(selector, fd)
        raise


def discard(selector: Selector, fd: int) -> None:
    """Unregister `fd`, whether it is registered, open, or neither."""
    try:
        _ = selector.unregister(fd)
    except (KeyError, OSError, ValueError):
        pass
