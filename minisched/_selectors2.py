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
import selectors
from select import select

if hasattr(collections, "Mapping"):
    import selectors2
else:
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
    try:
        import selectors2
    finally:
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
NAMES = ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")


def default_selector() -> Selector:
    """Return the best selector of this platform."""
    return selectors2.DefaultSelector()


def selectors_of_platform() -> dict[str, Callable[[], Selector]]:
    """Return the selectors that this platform has, by name."""
    return {name: getattr(selectors2, name) for name in NAMES if hasattr(selectors2, name)}


def set_events(selector: Selector, fd: int, was: int, events: int, data: object) -> None:
    """Register `fd` for `events` where it was registered for `was` (0: not at all).

    OSError or ValueError if it can't be polled; it is not registered then.
    """
    if isinstance(selector, BY_SELECT):
        _ = select([fd], [], [], 0)  # raises ValueError for a number over FD_SETSIZE
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
