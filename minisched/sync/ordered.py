"""Queues in another order: the smallest item first, or the newest.

Theory of operation. Both are queues with another buffer. That of a PriorityQueue is a sorted list. An item finds its
place there, by comparisons, when it is put. So an item that cannot be compared is refused by the put, before anything
has changed, and a get compares nothing.

Decision: items with equal priorities leave a PriorityQueue in FIFO order, and `key` computes a priority from an item.
Because: no item starves behind later ones of its own rank, and the order is the same in each run. With `key`, two items
of one rank are never compared, as the second members of the tuples `(priority, item)` are.
Rejected: a heap (`heapq`), which has no order among equals, compares when an item is taken, and is left in disorder
when a comparison fails.

Decision: waiting putters get room in the order of their arrival, whatever their items' priorities.
Because: the buffer has the priorities, and a bound on it promises each putter its turn.
Rejected: the most urgent putter first. Others could then wait for ever.

Not here: waiting, room, closing and `join` (`queues`).
"""

from __future__ import annotations

from collections import deque

from ..kernel.generic import Item
from .queues import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .queues import Buffer


class PriorityQueue(Queue[Item]):
    """Pass items between tasks, the smallest first; equal ones in FIFO order.

    Otherwise like `Queue`. Only items in the queue are ordered: an item that goes straight to a waiting getter is
    compared with none. Waiting putters get room in FIFO order. A put and a get cost O(log(items)).

    Args:
        maxsize: how many items the queue holds; None for no bound; 0 for a rendezvous.
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.
        key: a function that returns the priority of an item; the lowest comes first. None: the item itself. The
            priorities need `<` only, and a total order.

    Raises:
        ValueError: if `maxsize` is negative or NaN.
        TypeError: from a put, if the item's priority cannot be compared with the others. The item is not put, and the
            queue is as before. Other errors of `key` or of a comparison pass through, in the same way. A put that
            waits for room raises them when there is room.

    Example:
        >>> from minisched import PriorityQueue
        >>> from minisched.testing import run
        >>> def main():
        ...     queue = PriorityQueue(key=lambda job: job["urgency"])
        ...     for name, urgency in ("read mail", 2), ("put out the fire", 1), ("answer mail", 2):
        ...         yield queue.put({"name": name, "urgency": urgency})
        ...     queue.close()
        ...     yield from queue.for_each(lambda job: print(job["name"]))
        >>> run(main())
        put out the fire
        read mail
        answer mail
    """

    __slots__ = ("key",)

    def __init__(
        self, maxsize: float | None = None, name: str | None = None, *, key: Callable[[Item], Any] | None = None
    ) -> None:
        self.key = key
        super().__init__(maxsize, name)

    def make_buffer(self) -> Buffer:
        return SortedBuffer(self.key)


class LifoQueue(Queue[Item]):
    """Pass items between tasks, last in, first out: a stack.

    Otherwise like `Queue`. An item that is put while a getter waits goes straight to it. Waiting putters get room in
    FIFO order.

    Args:
        maxsize: how many items the queue holds; None for no bound; 0 for a rendezvous.
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.

    Raises:
        ValueError: if `maxsize` is negative or NaN.

    Example:
        >>> from minisched import LifoQueue
        >>> from minisched.testing import run
        >>> def main():
        ...     queue = LifoQueue()
        ...     for page in "first", "second":
        ...         yield queue.put(page)
        ...     return (yield queue.get())
        >>> run(main())
        'second'
    """

    __slots__ = ()

    def make_buffer(self) -> Buffer:
        return Stack()


class Stack(deque["Any"]):
    """A buffer from which the newest item is taken first."""

    def popleft(self) -> Any:
        """Remove and return the newest item."""
        return self.pop()


class SortedBuffer:
    """A buffer from which the smallest item is taken first, and the oldest of equal ones."""

    def __init__(self, key: Callable[[Any], Any] | None) -> None:
        from sortedcontainers import SortedKeyList  # only here: slow to import

        self.items: Any = SortedKeyList(key=itself if key is None else key)

    def append(self, item: Any) -> None:
        """Add an item after those that are not greater; if a comparison raises, change nothing."""
        try:
            self.items.add(item)
        except TypeError as error:
            raise TypeError(
                f"a PriorityQueue cannot order an item of type {type(item).__name__}: {error}; put items that can be "
                "compared with each other, or pass `key=`, a function that returns the priority of an item"
            ) from error

    def popleft(self) -> Any:
        """Remove and return the smallest item."""
        return self.items.pop(0)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        return iter(self.items)


def itself(item: Any) -> Any:
    """Return `item`: the priority of an item without `key`."""
    return item
