"""Queues: each item goes from one task to one other.

Theory of operation. An item that is put goes straight to the first waiting getter. Without one, it goes into the
buffer. If the buffer is full, the putter waits and keeps the item. A get takes the oldest item of the buffer, and the
first waiting putter's item moves up into the room. A getter that was handed an item has it, even if a cancellation
comes in the same turn: its next checkpoint raises Cancelled. The item of a cancelled putter never was in the queue.

The buffer is what `make_buffer` returns: any object with `append(item)`, `popleft()` and `__len__`. Its `append` may
refuse an item by an exception, which the put raises. `popleft` never raises.

Invariants:
1. Getters wait only while there is neither an item nor a putter; putters wait only while the buffer is full.
2. Each item that was put is taken once, in FIFO order.
3. `unfinished` items were put and have had no `task_done`; tasks wait in `join` only while there are some.

Not here: queues in another order (`ordered`); items that go to every subscriber (`broadcast`); waiting for the first
of several queues (`tasks/select_calls.py`); the reason why wait queues are an OrderedDict (`kernel/primitive.py`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import chain
from math import inf

from ..errors import ClosedError, WouldBlock
from ..kernel import Selectable
from ..kernel.generic import Answer, Answering, Item
from ..kernel.numbers import check_count
from ..kernel.primitive import LeaveQueue, Primitive
from ..kernel.waiting import NOT_YET, resume, throw
from ..tasks.tasks import awaitable, finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any, Protocol, Self

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter

    class Buffer(Protocol):
        """The items of a queue, in their order."""

        def append(self, item: Any, /) -> None:
            """Add an item, or raise an error and change nothing."""

        def popleft(self) -> Any:
            """Remove and return the next item."""

        def __len__(self) -> int: ...


class Source(Primitive, Answering[Item]):
    """The common base of queues and subscriptions: gives items to tasks until it is closed."""

    __slots__ = ("closed",)

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.closed = False

    def get(self) -> Get[Item]:
        """Wait for the next item and take it.

        Waiters get items in FIFO order; a put, a publish or a close wakes the task. A cancellation while the
        task is parked undoes the wait and takes no item. Can be a branch of `select`.

        Returns:
            The next item.

        Raises:
            ClosedError: once no item will come any more, also if that happens during the wait.
            Lagged: from a subscription, if it has missed items.
            SyscallError: if tasks of another run wait here.

        Example:
            >>> from minisched import Queue
            >>> from minisched.testing import run
            >>> def main():
            ...     queue = Queue()
            ...     queue.put_nowait("item")
            ...     return (yield queue.get())
            >>> run(main())
            'item'
        """
        return Get(self)

    def get_nowait(self) -> Item:
        """Take the next item without waiting. A plain call.

        Returns:
            The next item.

        Raises:
            WouldBlock: if there is no item now.
            ClosedError: if no item will come any more.
            Lagged: from a subscription, if it has missed items.
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Queue
            >>> queue = Queue()
            >>> queue.put_nowait("item")
            >>> queue.get_nowait()
            'item'
        """
        _ = self.check_caller("get_nowait")
        item = self.take()
        if item is NOT_YET:
            raise WouldBlock(f"no item in {self!r}: `get` waits for one")
        return item

    def take(self) -> Item:
        """Take and return the next item, or return NOT_YET; raise ClosedError if no item will come any more."""
        raise NotImplementedError

    @awaitable
    def for_each(self, work: Callable[[Item], object]) -> Generator[Any, Any, None]:
        """Call `work(item)` for each item, until no item will come any more.

        This is the generator form of `async for item in queue`. Call it by `yield from`, or `await` it.

        Args:
            work: a plain function, a generator function or an `async def`. If it returns a generator or an awaitable,
                such as a syscall, that is run before the next item.

        Raises:
            Lagged: from a subscription, if it has missed items. Errors of `work` pass through. After
                either, call `for_each` again to go on with the next item.

        Example:
            >>> from minisched import Queue, run
            >>> def main():
            ...     queue = Queue()
            ...     for item in "ab":
            ...         queue.put_nowait(item)
            ...     queue.close()
            ...     yield from queue.for_each(print)
            >>> run(main())
            a
            b
        """
        while True:
            try:
                item = yield self.get()
            except ClosedError:
                return
            yield from finished(work(item))  # outside of the `try`: a ClosedError of `work` passes through
            del item  # before the next wait

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        try:
            return await self.get()
        except ClosedError:
            raise StopAsyncIteration from None


class Queue(Source[Item]):
    """Pass items between tasks, first in, first out.

    The syscalls `put` and `get` wait for room or for an item. The plain calls `put_nowait`, `get_nowait`, `close` and
    `qsize` never wait. The loops `async for item in queue` and `yield from queue.for_each(work)` end when the queue is
    closed and empty. `join` waits until `task_done` was called for each item.

    Args:
        maxsize: how many items the queue holds; None for no bound; 0 for a rendezvous, in which
            each put waits for a get.
        name: shown in errors, traces and deadlock reports; by default a number that the run assigns.

    Raises:
        TypeError, ValueError: if `maxsize` is not an integer, or is negative or NaN; infinity is allowed.

    Example:
        >>> from minisched import Queue, Spawn
        >>> from minisched.testing import run
        >>> def producer(queue):
        ...     for number in range(3):
        ...         yield queue.put(number)
        ...     queue.close()
        >>> def main():
        ...     queue = Queue(maxsize=1)
        ...     yield Spawn(producer(queue))
        ...     yield from queue.for_each(print)
        >>> run(main())
        0
        1
        2
    """

    __slots__ = ("items", "joiners", "maxsize", "putters", "unfinished")

    def __init__(self, maxsize: float | None = None, name: str | None = None) -> None:
        super().__init__(name)
        given = inf if maxsize is None else maxsize
        self.maxsize: float = check_count(type(self).__name__, "maxsize", "items", given, optional=True, endless=True)
        self.items: Buffer = self.make_buffer()
        self.unfinished = 0  # items that were put and have had no `task_done`
        self.joiners: OrderedDict[Waiter, Any] = OrderedDict()
        self.putters: OrderedDict[Waiter, Any] = OrderedDict()  # each with its item; `waiters` holds the getters

    def make_buffer(self) -> Buffer:
        """Return the empty buffer of a new queue. Another order of items is another buffer."""
        items: deque[Any] = deque()
        return items

    def put(self, item: Item) -> Put:
        """Wait for room and put `item` into the queue.

        Waiting putters put their items in FIFO order; a get or a close wakes the task. A cancellation while
        the task is parked undoes the wait, and `item` is not put. Can be a branch of `select`.

        Raises:
            ClosedError: if the queue is closed, or is closed during the wait; `item` is not put.
            SyscallError: if tasks of another run wait here.

        Example:
            >>> from minisched import Queue
            >>> from minisched.testing import run
            >>> def main():
            ...     queue = Queue(2)
            ...     yield queue.put("item")
            ...     return queue
            >>> run(main())
            <Queue #1: 1 of 2 items, 0 getting, 0 putting>
        """
        return Put(self, item)

    def put_nowait(self, item: Item) -> None:
        """Put `item` into the queue without waiting. A plain call.

        Raises:
            WouldBlock: if there is no room.
            ClosedError: if the queue is closed.
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Queue, WouldBlock
            >>> queue = Queue(1)
            >>> queue.put_nowait("a")
            >>> try:
            ...     queue.put_nowait("b")
            ... except WouldBlock as error:
            ...     print(error)
            no room in <Queue unused: 1 of 1 items, 0 getting, 0 putting>: `put` waits for it
        """
        _ = self.check_caller("put_nowait")
        if not self.offer(item):
            raise WouldBlock(f"no room in {self!r}: `put` waits for it")

    def close(self) -> None:
        """Close the queue: refuse further items.

        Items in the queue can still be got; after that, `get` raises ClosedError. Waiting getters and putters get
        ClosedError at once. Closing a closed queue does nothing. A plain call, O(waiters).

        Raises:
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Queue
            >>> queue = Queue(name="mail")
            >>> queue.put_nowait("last")
            >>> queue.close()
            >>> queue
            <Queue mail: 1 of inf items, 0 getting, 0 putting, closed>
        """
        kernel = self.check_caller("close")
        self.closed = True
        for waiters in (self.waiters, self.putters):
            while waiters and kernel is not None:
                throw(kernel, waiters.popitem(last=False)[0], self._closed())

    def qsize(self) -> int:
        """Return the number of items in the queue, without those of waiting putters.

        Example:
            >>> from minisched import Queue
            >>> queue = Queue()
            >>> queue.put_nowait("item")
            >>> queue.qsize()
            1
        """
        return len(self.items)

    def task_done(self) -> None:
        """Report that the work on one item, which a get returned, is done.

        When it was called for each item that was put, `join` wakes its waiters, in FIFO order. A closed queue counts
        on. A plain call, O(waiters) at the last item.

        Raises:
            ValueError: if it is called more often than items were put.
            SyscallError: in another thread than the run's.

        Example:
            >>> from minisched import Queue
            >>> queue = Queue()
            >>> queue.put_nowait("item")
            >>> queue.get_nowait()
            'item'
            >>> queue.task_done()
            >>> queue.unfinished
            0
        """
        kernel = self.check_caller("task_done")
        if not self.unfinished:
            raise ValueError(f"task_done of {self!r} was called more often than items were put")
        self.unfinished -= 1
        while not self.unfinished and self.joiners and kernel is not None:
            resume(kernel, self.joiners.popitem(last=False)[0])

    def join(self) -> QueueJoin:
        """Wait until `task_done` was called for each item that was put.

        Returns at once if that is so already, as in a new queue. The last `task_done` wakes the task. Items of waiting
        putters do not count, nor does closing the queue end the wait. A cancellation while the task is parked undoes
        the wait. Can be a branch of `select`.

        Raises:
            SyscallError: if tasks of another run wait here.

        Example:
            >>> from minisched import Now, Queue, Sleep, Spawn
            >>> from minisched.testing import run
            >>> def worker(queue):
            ...     while True:
            ...         item = yield queue.get()
            ...         yield Sleep(item)
            ...         queue.task_done()
            >>> def main():
            ...     queue = Queue()
            ...     yield Spawn(worker(queue), daemon=True)
            ...     for seconds in 1, 2:
            ...         yield queue.put(seconds)
            ...     yield queue.join()
            ...     return (yield Now())
            >>> run(main())
            3.0
        """
        return QueueJoin(self)

    def offer(self, item: object) -> bool:
        """Hand `item` to a waiting getter or append it to the buffer; return whether either was possible."""
        if self.closed:
            raise self._closed()
        if self.waiters and self.kernel is not None:
            resume(self.kernel, self.waiters.popitem(last=False)[0], item)
        elif len(self.items) < self.maxsize:
            self.items.append(item)
        else:
            return False
        self.unfinished += 1
        return True

    def take(self) -> Item:
        """Take and return the next item, or return NOT_YET; the first waiting putter's item moves up."""
        items = self.items
        if items:
            item = items.popleft()
            if self.putters:
                self._fill()
            return item
        if self.putters and self.kernel is not None:  # a rendezvous
            putter, item = self.putters.popitem(last=False)
            self.unfinished += 1
            resume(self.kernel, putter)
            return item
        if self.closed:
            raise self._closed()
        return NOT_YET

    def _fill(self) -> None:
        """Let items of waiting putters move up into the room in the buffer; wake a putter whose item is refused."""
        while self.putters and len(self.items) < self.maxsize and self.kernel is not None:
            putter, item = self.putters.popitem(last=False)
            try:
                self.items.append(item)
            except Exception as error:
                throw(self.kernel, putter, error)
            else:
                self.unfinished += 1
                resume(self.kernel, putter)

    def waiting(self) -> Iterable[Waiter]:
        return chain(self.waiters, self.putters, self.joiners)

    def state(self) -> str:
        room = f"{len(self.items)} of {self.maxsize} items"
        closed = ", closed" if self.closed else ""
        return f"{room}, {len(self.waiters)} getting, {len(self.putters)} putting{closed}"

    def _closed(self) -> ClosedError:
        return ClosedError(f"queue {self.name} is closed" if self.name else "queue is closed")


class Get(Selectable[Answer]):
    """Wait for the next item and take it; made by `queue.get()` and `subscription.get()`."""

    __slots__ = ("source",)

    def __init__(self, source: Source[Answer]) -> None:
        self.source = source

    def try_now(self, kernel: Kernel, task: Task) -> Answer:
        if self.source.kernel is not kernel:
            self.source.bind(kernel)
        return self.source.take()

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        return self.source.add_waiter(waiter)


class QueueJoin(Selectable[None]):
    """Wait until the work on each item of a queue is done; made by `queue.join()`."""

    __slots__ = ("queue",)

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def try_now(self, kernel: Kernel, task: Task) -> None:
        self.queue.bind(kernel)
        return NOT_YET if self.queue.unfinished else None

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        self.queue.joiners[waiter] = None
        return LeaveQueue(self.queue.joiners, waiter)


class Put(Selectable[None]):
    """Wait for room and put an item into a queue; made by `queue.put(item)`."""

    __slots__ = ("item", "queue")

    def __init__(self, queue: Queue, item: object) -> None:
        self.queue = queue
        self.item = item

    def try_now(self, kernel: Kernel, task: Task) -> None:
        if self.queue.kernel is not kernel:
            self.queue.bind(kernel)
        return None if self.queue.offer(self.item) else NOT_YET

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        self.queue.putters[waiter] = self.item
        return LeaveQueue(self.queue.putters, waiter)
