"""Tickets: the items of a queue that threads share, and those that wait for them, under one lock.

Theory of operation. The lock is held for a few steps, and never while anything waits. A get that finds no item, and a
put that finds no room, leave a *ticket*. Each change of the queue serves the tickets that it can, in order of their
arrival: a getter is given an item, and a putter is given a place, which is then reserved for it. The owner of a served
ticket is woken in its own way: by a call in the loop of its run (`Wakeup.call`), a released lock, or
`call_soon_threadsafe`. It then redeems the ticket in its own thread. Only then does a get have its item, and is the
item of a put in the queue. An owner that was cancelled or timed out meanwhile gives the ticket back: the item goes to
the front of the queue, the place to the next putter.

How is a ticket given back by code that the garbage collector runs, such as the closing of a pending coroutine? It may
run in the middle of another operation of the same thread, which has the lock. So the ticket is put into `returned`
first. If the lock is taken, its holder looks there after it has released it.

Invariants:
1. Getters wait only while there is no item, putters only while there is no room.
2. A ticket is served once, and then redeemed or given back, and its item or place with it.
3. Other threads touch nothing of a kernel: they only schedule calls.

Decision: a putter is given a place, and puts its item itself. Because: a put that another thread had completed could
not be cancelled any more, and its task would be cancelled all the same. Rejected: moving the items of waiting putters
into the queue, as Queue does in its one thread; waking a putter to try again, as curio and janus do, since another
putter may always be faster.

Not here: the queue that programs use, and the ways to wait (`universal_queue`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict, deque
from functools import partial

from ..errors import ClosedError
from ..kernel import Service
from ..kernel.waiting import NOT_YET, resume, task_of, throw
from .wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..kernel import Kernel, Task
    from ..kernel.waiting import Waiter


class TicketQueue:
    """Items, and the tickets of those that wait. Each change serves the tickets that it can; any thread makes it."""

    __slots__ = ("closed", "getters", "items", "lock", "maxsize", "name", "putters", "reserved", "returned")

    def __init__(self, maxsize: float, name: str | None) -> None:
        self.maxsize = maxsize
        self.name = name
        self.closed = False
        self.lock = allocate_lock()
        self.items: deque[Any] = deque()
        self.getters: OrderedDict[Ticket, None] = OrderedDict()  # those that are not served
        self.putters: OrderedDict[Ticket, None] = OrderedDict()
        self.reserved = 0  # places that were given to putters, which have not put their items
        self.returned: deque[Ticket] = deque()  # tickets whose owners have given up, and that are not withdrawn yet

    def take(self) -> Any:
        """Take and return the next item, or return NOT_YET; raise ClosedError if no item will come any more."""

        def change() -> Any:
            if self.items:
                return self.items.popleft()
            self._check_open()
            return NOT_YET

        return self._change(change)

    def offer(self, item: object) -> Any:
        """Put an item and return None; return NOT_YET if there is no room."""

        def change() -> Any:
            self._check_open()
            if not self._has_room():
                return NOT_YET
            self.items.append(item)
            return None

        return self._change(change)

    def end(self) -> None:
        """Refuse further items, and wake those that wait, unless there is an item for them."""

        def change() -> None:
            self.closed = True

        self._change(change)

    def join(self, ticket: Ticket) -> None:
        """Let a ticket wait its turn; it may be served at once."""
        waiters = self.putters if ticket.puts else self.getters
        self._change(partial(waiters.__setitem__, ticket, None))

    def redeem(self, ticket: Ticket) -> Any:
        """Return the item of a getter that was woken, or put that of a putter; raise ClosedError after a close."""

        def change() -> Any:
            if not ticket.served:
                raise self._closed()
            ticket.served = False
            if not ticket.puts:
                return ticket.item
            self.reserved -= 1
            self._check_open()
            self.items.append(ticket.item)
            return None

        return self._change(change)

    def give_back(self, ticket: Ticket) -> None:
        """Withdraw a ticket whose owner has given up; its item or place goes to the next one."""
        self.returned.append(ticket)
        self._process_returned()

    def _process_returned(self) -> None:
        while self.returned and self.lock.acquire(blocking=False):
            served: list[Ticket] = []
            try:
                while self.returned:
                    self._withdraw(self.returned.popleft())
                self._serve(served)
            finally:
                self.lock.release()
            self._wake(served)

    def _withdraw(self, ticket: Ticket) -> None:
        _ = (self.putters if ticket.puts else self.getters).pop(ticket, None)
        if ticket.served:
            ticket.served = False
            if ticket.puts:
                self.reserved -= 1
            else:
                self.items.appendleft(ticket.item)

    def _change(self, change: Callable[[], Any]) -> Any:
        """Make a change under the lock, and wake the owners of the tickets that can then be served."""
        served: list[Ticket] = []
        try:
            with self.lock:
                try:
                    return change()
                finally:
                    self._serve(served)
        finally:
            self._wake(served)
            self._process_returned()

    def _serve(self, served: list[Ticket]) -> None:
        """Give items to getters and places to putters; after a close, end the other waits. The lock is held."""
        while self.items and self.getters:
            ticket, _ = self.getters.popitem(last=False)
            ticket.item = self.items.popleft()
            ticket.served = True
            served.append(ticket)
        while self.putters and not self.closed and self._has_room():
            ticket, _ = self.putters.popitem(last=False)
            self.reserved += 1
            ticket.served = True
            served.append(ticket)
        if self.closed:
            served += [*self.getters, *self.putters]
            self.getters.clear()
            self.putters.clear()

    def _wake(self, served: list[Ticket]) -> None:
        for ticket in served:
            try:
                _ = ticket.wake()
            except RuntimeError:  # the event loop of the owner was closed, and the owner has not given it back
                self.returned.append(ticket)

    def _has_room(self) -> bool:
        return len(self.items) + self.reserved < self.maxsize

    def _check_open(self) -> None:
        if self.closed:
            raise self._closed()

    def _closed(self) -> ClosedError:
        return ClosedError(f"queue {self.name} is closed" if self.name else "queue is closed")


class Ticket:
    """A get or a put that waits. The queue's lock guards `served`; it is True from the serving to the redemption."""

    __slots__ = ("item", "puts", "queue", "served", "wake")

    def __init__(self, queue: TicketQueue, puts: bool = False, item: Any = None) -> None:
        self.queue = queue
        self.puts = puts  # True: the owner waits for a place; False: for an item
        self.item = item  # to put, or that was given to a getter
        self.served = False
        self.wake: Callable[[], object]  # wakes the owner; any thread calls it, without the lock, once


class Tickets(Service):
    """The tasks of a run that wait at universal queues."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.wakeup = kernel.service(Wakeup)
        self.waiting: dict[Ticket, Waiter] = {}

    def redeem(self, ticket: Ticket) -> None:
        """Wake the waiter whose ticket was served, unless it has given up. The loop calls this in its Wait phase."""
        waiter = self.waiting.pop(ticket, None)
        if waiter is None:
            return
        try:
            answer = ticket.queue.redeem(ticket)
        except ClosedError as error:
            throw(self.kernel, waiter, error)
        else:
            resume(self.kernel, waiter, answer)

    def give_up(self, ticket: Ticket) -> None:
        """End a wait: the undo."""
        del self.waiting[ticket]
        ticket.queue.give_back(ticket)

    def pending(self) -> int:
        return len(self.waiting)

    def tasks(self) -> Iterable[Task]:
        return map(task_of, self.waiting.values())
