"""Queues: items handed from task to task; and broadcasts, which all subscribers see.

Theory of operation. An item goes straight to the first getter that waits, else to the buffer, else
its putter waits with it in hand, first come, first served. Getting one makes room, into which the
first putter's item moves. A cancelled getter that was handed an item has it, and is told of the
cancellation at its next checkpoint; a cancelled putter's item was never in the queue.

Invariants:
1. Getters wait only while there is neither an item nor a putter; putters only while it is full.
2. Each item that was put is got once, in the order of the puts.
3. A subscriber gets each item that was published since it came, or is told how many it missed.

Not here: waiting for one of several queues (`waiting.select`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import chain
from math import inf

from .errors import ClosedError, Missed, WouldBlock
from .kernel import Kernel, Task
from .tasks import awaitable, finished
from .waiting import NOT_YET, Leaving, Primitive, Selectable, resume, throw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType
    from typing import Any, Self

    from .waiting import Waiter


class Feed(Primitive):
    """Where items come from, until it is closed: what queues and subscriptions have in common."""

    __slots__ = ("closed",)

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.closed = False

    def get(self) -> Get:
        """Wait for the next item. ClosedError once it is closed and empty. Cancelled while parked: it takes none."""
        return Get(self)

    def get_nowait(self) -> Any:
        """Return the next item; WouldBlock if there is none now, ClosedError if there will be none."""
        _ = self.here("get_nowait")
        item = self.take()
        if item is NOT_YET:
            raise WouldBlock(f"nothing to get from {self!r}")
        return item

    def take(self) -> Any:
        """Take the next item, or NOT_YET; ClosedError if there will be none."""
        raise NotImplementedError

    @awaitable
    def for_each(self, work: Callable[[Any], object]) -> Generator[Any, Any, None]:
        """Call `work(item)`, a function, a generator function or an `async def`, for each item until it is closed.

        Raises what `work` raises, and Missed; it may be called again, then, and goes on with the next item.
        """
        while True:
            try:
                item = yield self.get()
            except ClosedError:
                return
            yield from finished(work(item))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.get()
        except ClosedError:
            raise StopAsyncIteration from None


class Queue(Feed):
    """First in, first out, at most `maxsize` items: None for any number, 0 for a rendezvous (a put waits for a get).

    `put` and `get` return syscalls; `put_nowait`, `get_nowait` and `close` are
    plain calls. `async for item in queue`, or `yield from queue.for_each(work)`,
    goes on until the queue is closed and empty.
    """

    __slots__ = ("items", "maxsize", "putters")

    def __init__(self, maxsize: float | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.maxsize = inf if maxsize is None else maxsize
        if not self.maxsize >= 0:
            raise ValueError(f"a queue is for 0 or more items, or None for any number, not {maxsize!r}")
        self.items: deque[Any] = deque()
        self.putters: OrderedDict[Waiter, Any] = OrderedDict()  # with what each wants to put

    def put(self, item: object) -> Put:
        """Wait for room and put `item`. ClosedError if it is closed, or is meanwhile. Cancelled: it is not put."""
        return Put(self, item)

    def put_nowait(self, item: object) -> None:
        """Put `item`; WouldBlock if there is no room, ClosedError if it is closed."""
        _ = self.here("put_nowait")
        if not self.offer(item):
            raise WouldBlock(f"no room in {self!r}")

    def close(self) -> None:
        """Let no more be put: those who wait to put, or in vain to get, get ClosedError. Again: nothing happens."""
        kernel = self.here("close")
        self.closed = True
        for waiters in (self.waiters, self.putters):
            while waiters and kernel is not None:
                throw(kernel, waiters.popitem(last=False)[0], self._closed())

    def qsize(self) -> int:
        """Return how many items are in it, those in the hands of waiting putters aside."""
        return len(self.items)

    def offer(self, item: object) -> bool:
        """Hand `item` to a getter or put it into the buffer; return whether that could be done."""
        if self.closed:
            raise self._closed()
        if self.waiters and self.kernel is not None:
            resume(self.kernel, self.waiters.popitem(last=False)[0], item)
        elif len(self.items) < self.maxsize:
            self.items.append(item)
        else:
            return False
        return True

    def take(self) -> Any:
        """Take the next item, or NOT_YET; the first putter's item moves up."""
        items = self.items
        if self.putters and self.kernel is not None:
            putter, item = self.putters.popitem(last=False)
            items.append(item)
            resume(self.kernel, putter)
        if items:
            return items.popleft()
        if self.closed:
            raise self._closed()
        return NOT_YET

    def waiting(self) -> Iterable[Waiter]:
        return chain(self.waiters, self.putters)

    def state(self) -> str:
        said = f"{len(self.items)} of {self.maxsize} items"
        return f"{said}, {len(self.waiters)} getting, {len(self.putters)} putting{', closed' if self.closed else ''}"

    def _closed(self) -> ClosedError:
        return ClosedError(f"queue {self.name or ''} is closed".replace("  ", " "))


class Get(Selectable["Any"]):
    """Wait for an item: `queue.get()`, `subscription.get()`."""

    __slots__ = ("source",)

    def __init__(self, source: Feed) -> None:
        self.source = source

    def handle(self, kernel: Kernel, task: Task) -> Any:
        # What `attempt` and `enlist` do: two calls less for each item.
        source = self.source
        if source.kernel is not kernel:
            source.join_run(kernel)
        item = source.take()
        if item is not NOT_YET:
            return item
        kernel.park(task, source.enlist(task))
        return None

    def attempt(self, kernel: Kernel, task: Task) -> Any:
        source = self.source
        if source.kernel is not kernel:
            source.join_run(kernel)
        return source.take()

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.source.enlist(waiter)


class Put(Selectable[None]):
    """Wait for room for an item: `queue.put(item)`."""

    __slots__ = ("item", "queue")

    def __init__(self, queue: Queue, item: object) -> None:
        self.queue = queue
        self.item = item

    def handle(self, kernel: Kernel, task: Task) -> None:
        # What `attempt` and `enlist` do: two calls less for each item.
        queue = self.queue
        if queue.kernel is not kernel:
            queue.join_run(kernel)
        if not queue.offer(self.item):
            kernel.park(task, self.enlist(kernel, task))

    def attempt(self, kernel: Kernel, task: Task) -> None:
        queue = self.queue
        if queue.kernel is not kernel:
            queue.join_run(kernel)
        return None if queue.offer(self.item) else NOT_YET

    def enlist(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        self.queue.putters[waiter] = self.item
        return Leaving(self.queue.putters, waiter)


class Broadcast:
    """Items that every subscriber sees, of which the last `size` are kept for those who are slower.

    To publish never waits: who is further behind is told by `Missed` how many
    passed it by, and goes on with the oldest that is kept.
    """

    def __init__(self, size: int = 64) -> None:
        if size < 1:
            raise ValueError(f"a broadcast keeps one item or more, not {size!r}")
        self.items: deque[Any] = deque(maxlen=size)
        self.published = 0
        self.subscriptions: dict[Subscription, None] = {}
        self.closed = False

    def subscribe(self, name: str | None = None) -> Subscription:
        """Return a subscription to what is published from now on; leave its `with`, or `close` it, to end it."""
        subscription = Subscription(self, name)
        self.subscriptions[subscription] = None
        return subscription

    def publish(self, item: object) -> None:
        """Let every subscriber see `item`. A plain call. ClosedError if it is closed. O(subscribers)."""
        self._here("publish")
        if self.closed:
            raise ClosedError("the broadcast is closed")
        self.items.append(item)
        self.published += 1
        for subscription in self.subscriptions:
            subscription.tell()

    def close(self) -> None:
        """Publish no more: subscribers see what is left, then ClosedError. A plain call; again: nothing happens."""
        self._here("close")
        self.closed = True
        for subscription in self.subscriptions:
            subscription.tell()

    def _here(self, verb: str) -> None:
        """Raise SyscallError in any thread but that of the subscribers' run, before anything is changed."""
        for subscription in self.subscriptions:
            _ = subscription.here(verb)


class Subscription(Feed):
    """What one subscriber of a broadcast has still to see."""

    __slots__ = ("broadcast", "seen")

    def __init__(self, broadcast: Broadcast, name: str | None) -> None:
        super().__init__(name)
        self.broadcast = broadcast
        self.seen = broadcast.published

    def take(self) -> Any:
        """Take the next item, or NOT_YET; Missed, once, if some are gone."""
        broadcast = self.broadcast
        behind = broadcast.published - self.seen
        if self.closed or (behind == 0 and broadcast.closed):
            raise ClosedError("the subscription is closed" if self.closed else "the broadcast is closed")
        if behind == 0:
            return NOT_YET
        kept = len(broadcast.items)
        if behind > kept:
            self.seen += behind - kept
            raise Missed(behind - kept)
        self.seen += 1
        return broadcast.items[kept - behind]

    def tell(self) -> None:
        """Wake those who wait, as far as there is something for them."""
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
        """See no more; who waits gets ClosedError. A plain call."""
        _ = self.here("close")
        self.closed = True
        _ = self.broadcast.subscriptions.pop(self, None)
        self.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
