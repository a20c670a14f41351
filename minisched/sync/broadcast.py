"""Broadcasts: each item goes to every subscriber.

Theory of operation. A broadcast keeps its last `size` items in one buffer for all subscribers. A subscription is a
position in the stream of items: a get returns the item at that position and advances it. Publishing never waits; it
overwrites the oldest item of a full buffer. If the item at a position has been overwritten, the next get raises
Lagged, once, with the number of missed items. After that, the subscription goes on with the oldest item in the buffer.

Invariants:
1. A subscriber gets each item that was published since it subscribed, or Lagged with their number.
2. A task waits at a subscription only while the subscription has no item.

Not here: `get`, `get_nowait`, `for_each` and `async for` of subscriptions, which queues have too
(`queues`, class `Source`).
"""

from __future__ import annotations

from ..errors import ClosedError, Lagged
from ..kernel.generic import Answering, Item
from ..kernel.numbers import check_count
from ..kernel.waiting import NOT_YET, resume, throw
from .queues import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self


class Broadcast(Answering[Item]):
    """Publish items to all subscribers.

    Publishing never waits. A subscriber that falls more than `size` items behind gets Lagged.

    Args:
        size: how many items are kept for slow subscribers; 1 or more. `math.inf` keeps all of them for ever.

    Raises:
        TypeError: if `size` is not an integer.
        ValueError: if `size` is less than 1, or NaN.

    Example:
        >>> from minisched import Broadcast, Spawn
        >>> from minisched.testing import run
        >>> def listener(name, news):
        ...     yield from news.for_each(lambda item: print(name, item))
        >>> def main():
        ...     broadcast = Broadcast()
        ...     for name in "ab":
        ...         yield Spawn(listener(name, broadcast.subscribe()))
        ...     broadcast.publish("hello")
        ...     broadcast.close()
        >>> run(main())
        a hello
        b hello
    """

    def __init__(self, size: int = 64) -> None:
        size = check_count("Broadcast", "size", "items", size, least=1, endless=True)
        self.size: float = size
        self.items: list[Any] = []  # a ring: item N is at N % size; in a deque, a get walks to the middle
        self.published = 0  # items so far
        self.subscriptions: dict[Subscription[Item], None] = {}  # a set in insertion order
        self.closed = False

    def subscribe(self, name: str | None = None) -> Subscription[Item]:
        """Subscribe to the items that are published from now on. A plain call.

        Args:
            name: the subscription's name, shown in traces and deadlock reports; by default a number that the run
                assigns.

        Returns:
            A subscription, for a `with` that ends it; or call its `close`.

        Example:
            >>> from minisched import Broadcast
            >>> broadcast = Broadcast()
            >>> with broadcast.subscribe() as news:
            ...     broadcast.publish("hello")
            ...     news.get_nowait()
            'hello'
        """
        subscription = Subscription(self, name)
        self.subscriptions[subscription] = None
        return subscription

    def publish(self, item: Item) -> None:
        """Publish `item` to all subscribers. A plain call that never waits, O(subscribers).

        Raises:
            ClosedError: if the broadcast is closed.
            SyscallError: in another thread than that of the subscribers' run.

        Example:
            >>> from minisched import Broadcast
            >>> broadcast = Broadcast()
            >>> first, second = broadcast.subscribe(), broadcast.subscribe()
            >>> broadcast.publish("hello")
            >>> first.get_nowait(), second.get_nowait()
            ('hello', 'hello')
        """
        self._check_caller("publish")
        if self.closed:
            raise ClosedError("the broadcast is closed")
        if self.published < self.size:
            self.items.append(item)
        else:
            self.items[self.published % int(self.size)] = item
        self.published += 1
        for subscription in self.subscriptions:
            subscription.wake_waiters()

    def close(self) -> None:
        """Close the broadcast: refuse further items.

        Subscribers can still get the items that are kept; after that, `get` raises ClosedError.
        Closing a closed broadcast does nothing. A plain call, O(subscribers + waiters).

        Raises:
            SyscallError: in another thread than that of the subscribers' run.

        Example:
            >>> from minisched import Broadcast, ClosedError
            >>> broadcast = Broadcast()
            >>> broadcast.close()
            >>> try:
            ...     broadcast.publish("late")
            ... except ClosedError as error:
            ...     print(error)
            the broadcast is closed
        """
        self._check_caller("close")
        self.closed = True
        for subscription in self.subscriptions:
            subscription.wake_waiters()

    def _check_caller(self, verb: str) -> None:
        """Raise SyscallError in another thread than that of the subscribers' run, before anything has changed."""
        for subscription in self.subscriptions:
            _ = subscription.check_caller(verb)


class Subscription(Source[Item]):
    """Receive the items that a broadcast publishes after the call of `subscribe`.

    Made by `broadcast.subscribe()`. Wait for items by `get`, `for_each` or `async for`. If several
    tasks wait at one subscription, each item goes to one of them. Leaving the `with`, or `close`,
    ends the subscription.

    Example:
        >>> from minisched import Broadcast, Lagged
        >>> from minisched.testing import run
        >>> def main():
        ...     broadcast = Broadcast(size=2)
        ...     with broadcast.subscribe() as news:
        ...         for number in range(5):
        ...             broadcast.publish(number)
        ...         try:
        ...             yield news.get()
        ...         except Lagged as lagged:
        ...             print("missed", lagged.count)
        ...         return (yield news.get())
        >>> run(main())
        missed 3
        3
    """

    __slots__ = ("broadcast", "position")

    def __init__(self, broadcast: Broadcast[Item], name: str | None) -> None:
        super().__init__(name)
        self.broadcast = broadcast
        self.position = broadcast.published  # the number of the next item to get

    def take(self) -> Item:
        """Take and return the next item, or return NOT_YET; raise Lagged, once, if items have been overwritten."""
        broadcast = self.broadcast
        behind = broadcast.published - self.position
        if self.closed or (behind == 0 and broadcast.closed):
            raise ClosedError("the subscription is closed" if self.closed else "the broadcast is closed")
        if behind == 0:
            return NOT_YET
        kept = len(broadcast.items)
        if behind > kept:
            self.position += behind - kept
            raise Lagged(behind - kept)
        position, self.position = self.position, self.position + 1
        return broadcast.items[position if kept < broadcast.size else position % kept]

    def wake_waiters(self) -> None:
        """Give waiters the available items, or ClosedError if no item will come any more."""
        while self.waiters and self.kernel is not None:
            try:
                item = self.take()
            except ClosedError as closed:
                throw(self.kernel, self.waiters.popitem(last=False)[0], closed)
                continue
            if item is NOT_YET:
                return
            resume(self.kernel, self.waiters.popitem(last=False)[0], item)

    def close(self) -> None:
        """End the subscription: receive no further items.

        Waiting tasks and later calls of `get` get ClosedError, also if items are left. Closing a
        closed subscription does nothing. A plain call, O(waiters).

        Raises:
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Broadcast
            >>> broadcast = Broadcast()
            >>> news = broadcast.subscribe()
            >>> news.close()
            >>> len(broadcast.subscriptions)
            0
        """
        _ = self.check_caller("close")
        self.closed = True
        _ = self.broadcast.subscriptions.pop(self, None)
        self.wake_waiters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
