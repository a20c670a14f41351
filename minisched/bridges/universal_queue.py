"""UniversalQueue: one queue for tasks, threads and asyncio code.

Theory of operation. The items and the waiters of all kinds are in one place (`tickets`). A task waits parked, a thread
waits for a lock of its own, and asyncio code for a future of its event loop.

Invariants:
1. Each item is got once, also if getters are cancelled, time out, or end with their run or event loop. A put that was
   cancelled or timed out has put nothing.
2. Items that are there are got in the order in which they were put. Getters are served in order of arrival, and so are
   putters, whatever their kinds.
3. No waiter polls.

Decision: a task that waits here counts as one that the world outside may wake, so its wait is never a Deadlock, also
if the run is alone. Because: no run can know which thread, event loop or other run will put an item, or when. A thread
that waits keeps no run alive. A program that wants to end such a wait closes the queue, or sets a Timeout. Rejected: a
Deadlock if there is no other thread at the moment, which a signal handler or a later thread may prove wrong.

Decision: `get` and `put` return calls, which a task yields or awaits, and which asyncio code awaits; threads use
`blocking_get` and `blocking_put`, named as in tokio. Because: a call that blocks a thread must not look like one that
does not. Rejected: one method that finds out where it is called, as in curio; two views of the queue, as in janus.

Not here: the lock, and the order of the waiters (`tickets`); queues within one run (`sync/queues`), which are faster;
`queue.Queue`, for threads alone; a rendezvous, which needs both sides at one moment.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock, get_ident
from functools import partial
from math import inf
from sys import modules

from ..errors import ClosedError, SyscallError, TimedOut, WouldBlock
from ..kernel import Selectable
from ..kernel.current import kernels
from ..kernel.generic import Answer, Answering, Item
from ..kernel.numbers import check_count, check_seconds
from ..kernel.waiting import NOT_YET
from .tickets import Ticket, TicketQueue, Tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, Self

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter


class UniversalQueue(TicketQueue, Answering[Item]):
    """Pass items between tasks of any runs, threads, and asyncio code, first in, first out.

    Tasks `yield queue.get()` and `yield queue.put(item)`, or await them. asyncio code awaits the same calls. Threads
    use `blocking_get` and `blocking_put`. The plain calls `get_nowait`, `put_nowait`, `close` and `qsize` may be used
    in any thread, but not in a signal handler or a finalizer. The loop `async for item in queue`, of a task or of
    asyncio, ends when the queue is closed and empty.

    Waiters of all kinds are served in order of arrival. A cancelled or timed-out get has taken nothing; a cancelled or
    timed-out put has put nothing. A getter that is cancelled when it was already handed an item returns that to the
    front of the queue, which may then be larger than `maxsize` for a moment.

    While a task waits here, its run does not end with a Deadlock, since another thread may still wake the task.

    Args:
        maxsize: how many items the queue holds, 1 or more; None for no bound.
        name: shown in errors and reports.

    Raises:
        TypeError, ValueError: if `maxsize` is not an integer from 1; infinity is allowed.

    Example:
        >>> from threading import Thread
        >>> from minisched import UniversalQueue, run
        >>> def thread(queue):
        ...     for word in "from", "a", "thread":
        ...         queue.blocking_put(word)
        ...     queue.close()
        >>> async def main():
        ...     queue = UniversalQueue(1)
        ...     Thread(target=thread, args=[queue]).start()
        ...     return [word async for word in queue]
        >>> run(main())
        ['from', 'a', 'thread']
    """

    __slots__ = ("__weakref__",)

    def __init__(self, maxsize: float | None = None, name: str | None = None) -> None:
        given = inf if maxsize is None else maxsize
        rule = "UniversalQueue", "maxsize", "items"
        super().__init__(check_count(*rule, given, least=1, optional=True, endless=True), name)

    # For tasks and asyncio code.

    def get(self) -> UniversalGet[Item]:
        """Wait for the next item and take it.

        A put or a close wakes the task. A cancellation undoes the wait and takes no item. Can be a branch of `select`.

        Returns:
            The next item.

        Raises:
            ClosedError: once no item will come any more, also if that happens during the wait.
            OSError: no file descriptor is left for the wake-up of the loop.

        Example:
            >>> import asyncio
            >>> from minisched import UniversalQueue, run
            >>> queue = UniversalQueue()
            >>> queue.put_nowait("for a task")
            >>> queue.put_nowait("for asyncio")
            >>> async def main():
            ...     return await queue.get()
            >>> run(main()), asyncio.run(main())
            ('for a task', 'for asyncio')
        """
        return UniversalGet(self)

    def put(self, item: Item) -> UniversalPut:
        """Wait for room and put `item` into the queue.

        A get or a close wakes the task. A cancellation undoes the wait, and `item` is not put. Can be a branch of
        `select`.

        Raises:
            ClosedError: the queue is closed, or is closed during the wait; `item` is not put.
            OSError: no file descriptor is left for the wake-up of the loop.

        Example:
            >>> from minisched import UniversalQueue, run
            >>> def main():
            ...     queue = UniversalQueue(2, name="mail")
            ...     yield queue.put("item")
            ...     return queue
            >>> run(main())
            <UniversalQueue mail: 1 of 2 items, 0 getting, 0 putting>
        """
        return UniversalPut(self, item)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        try:
            return await self.get()
        except ClosedError:
            raise StopAsyncIteration from None

    # For threads.

    def blocking_get(self, timeout: float | None = None) -> Item:
        """Block the calling thread until there is an item, and take it.

        Args:
            timeout: the most seconds to wait; None for no limit.

        Returns:
            The next item.

        Raises:
            ClosedError: once no item will come any more, also if that happens during the wait.
            TimedOut: no item came in time.
            SyscallError: the thread has a run or an asyncio event loop, whose tasks would all have to wait.

        Example:
            >>> from minisched import UniversalQueue
            >>> queue = UniversalQueue()
            >>> queue.put_nowait("item")
            >>> queue.blocking_get(timeout=1)
            'item'
        """
        return self._block("get", self.take, Ticket(self), timeout)

    def blocking_put(self, item: Item, timeout: float | None = None) -> None:
        """Block the calling thread until there is room, and put `item` into the queue.

        Args:
            item: the item.
            timeout: the most seconds to wait; None for no limit.

        Raises:
            ClosedError: the queue is closed, or is closed during the wait; `item` is not put.
            TimedOut: there was no room in time; `item` is not put.
            SyscallError: the thread has a run or an asyncio event loop, whose tasks would all have to wait.

        Example:
            >>> from minisched import TimedOut, UniversalQueue
            >>> queue = UniversalQueue(1)
            >>> queue.blocking_put("first")
            >>> try:
            ...     queue.blocking_put("second", timeout=0.001)
            ... except TimedOut as error:
            ...     print(error)
            blocking_put timed out: 0.001 s have passed
        """
        self._block("put", partial(self.offer, item), Ticket(self, puts=True, item=item), timeout)

    # For all.

    def get_nowait(self) -> Item:
        """Take the next item without waiting. A plain call, for any thread.

        Raises:
            WouldBlock: there is no item now.
            ClosedError: no item will come any more.

        Example:
            >>> from minisched import UniversalQueue
            >>> queue = UniversalQueue()
            >>> queue.put_nowait("item")
            >>> queue.get_nowait()
            'item'
        """
        item = self.take()
        if item is NOT_YET:
            raise WouldBlock(f"no item in {self!r}: `get` and `blocking_get` wait for one")
        return item

    def put_nowait(self, item: Item) -> None:
        """Put `item` into the queue without waiting. A plain call, for any thread.

        Raises:
            WouldBlock: there is no room, or it is reserved for putters that have waited.
            ClosedError: the queue is closed.

        Example:
            >>> from minisched import UniversalQueue
            >>> queue = UniversalQueue(1)
            >>> queue.put_nowait("item")
            >>> queue.qsize()
            1
        """
        if self.offer(item) is NOT_YET:
            raise WouldBlock(f"no room in {self!r}: `put` and `blocking_put` wait for it")

    def close(self) -> None:
        """Close the queue: refuse further items. A plain call, for any thread; O(waiters).

        Items in the queue can still be got; after that, a get raises ClosedError. Waiting getters and putters of all
        kinds get ClosedError at once. Closing a closed queue does nothing.

        Example:
            >>> from minisched import UniversalQueue
            >>> queue = UniversalQueue(name="mail")
            >>> queue.put_nowait("last")
            >>> queue.close()
            >>> queue
            <UniversalQueue mail: 1 of inf items, 0 getting, 0 putting, closed>
        """
        self.end()

    def qsize(self) -> int:
        """Return the number of items in the queue, without those of waiting putters.

        Example:
            >>> from minisched import UniversalQueue
            >>> UniversalQueue().qsize()
            0
        """
        return len(self.items)

    def __repr__(self) -> str:
        waiters = f"{len(self.getters)} getting, {len(self.putters)} putting"
        state = f"{len(self.items)} of {self.maxsize} items, {waiters}{', closed' if self.closed else ''}"
        return f"<{' '.join(filter(None, ['UniversalQueue', self.name]))}: {state}>"

    def _block(self, verb: str, try_now: Callable[[], Any], ticket: Ticket, timeout: float | None) -> Any:
        """Wait in a thread."""
        name = f"blocking_{verb}"
        seconds = -1 if timeout is None else check_seconds(name, "timeout", timeout, optional=True)
        if get_ident() in kernels or has_event_loop():
            raise SyscallError(f"{name} would hold up every task of this thread: there, yield or await `{verb}`")
        answer = try_now()
        if answer is not NOT_YET:
            return answer
        gate = allocate_lock()
        _ = gate.acquire()
        ticket.wake = gate.release
        try:
            self.join(ticket)
            if not gate.acquire(timeout=min(seconds, TIMEOUT_MAX)):
                raise TimedOut(f"{name} timed out: {seconds:g} s have passed")
            return self.redeem(ticket)
        except BaseException:
            self.give_back(ticket)
            raise


class UniversalCall(Selectable[Answer]):
    """A get or a put; a task yields or awaits it, and asyncio code awaits it."""

    __slots__ = ("queue",)
    external = True

    def __init__(self, queue: UniversalQueue) -> None:
        self.queue = queue

    def ticket(self) -> Ticket:
        """Return a new ticket."""
        raise NotImplementedError

    def add_waiter(self, kernel: Kernel, waiter: Waiter) -> Callable[[], object]:
        tickets, ticket = kernel.service(Tickets), self.ticket()
        tickets.wakeup.open()  # now, since it fails if no descriptor is left
        ticket.wake = partial(tickets.wakeup.call, partial(tickets.redeem, ticket))
        tickets.waiting[ticket] = waiter
        self.queue.join(ticket)
        return partial(tickets.give_up, ticket)

    def __await__(self) -> Generator[Any, Any, Answer]:
        in_run = get_ident() in kernels
        return self.__iter__() if in_run else wait_in_asyncio(self.queue, self.ticket()).__await__()


class UniversalGet(UniversalCall[Answer]):
    """Wait for the next item and take it; made by `universal_queue.get()`."""

    __slots__ = ()

    def ticket(self) -> Ticket:
        return Ticket(self.queue)

    def try_now(self, kernel: Kernel, task: Task) -> Answer:
        return self.queue.take()


class UniversalPut(UniversalCall[None]):
    """Wait for room and put an item into a queue; made by `universal_queue.put(item)`."""

    __slots__ = ("item",)

    def __init__(self, queue: UniversalQueue, item: object) -> None:
        super().__init__(queue)
        self.item = item

    def ticket(self) -> Ticket:
        return Ticket(self.queue, puts=True, item=self.item)

    def try_now(self, kernel: Kernel, task: Task) -> None:
        return self.queue.offer(self.item)


async def wait_in_asyncio(queue: UniversalQueue, ticket: Ticket) -> Any:
    """Get or put in a coroutine of asyncio."""
    from asyncio import get_running_loop  # imported here: it is slow to import, and asyncio code has imported it

    loop = get_running_loop()
    answer = queue.offer(ticket.item) if ticket.puts else queue.take()
    if answer is not NOT_YET:
        return answer
    future = loop.create_future()
    ticket.wake = lambda: loop.call_soon_threadsafe(wake_future, future)
    try:
        queue.join(ticket)
        await future
        return queue.redeem(ticket)
    except BaseException:
        queue.give_back(ticket)
        raise


def has_event_loop() -> bool:
    """Return whether an asyncio event loop runs in this thread."""
    if "asyncio" not in modules:
        return False
    try:
        modules["asyncio"].get_running_loop()
    except (RuntimeError, AttributeError):  # no loop; or another thread is just importing asyncio
        return False
    return True


def wake_future(future: Any) -> None:
    """Set a future of asyncio, unless it was cancelled."""
    if not future.done():
        future.set_result(None)
