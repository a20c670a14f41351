"""Syscalls of one's own: `yield Publish("news", item)` gives an item to all who have subscribed to a topic.

Shows: a service that others find by a name, not by an object; a call that answers at once; a subscription that is a
context manager, so that it ends however its block ends; and a bound: who is slow loses the oldest items, is told how
many, and holds nobody up.

Run it:    python demos/extend/topics.py
"""

from collections import deque
from typing import NamedTuple

from checked import show

from minisched import ClosedError, CurrentTask, Primitive, Service, Sleep, Spawn, Syscall
from minisched.testing import run


class Delivery(NamedTuple):
    """An item, and how many before it were dropped because nobody fetched them in time."""

    item: object
    missed: int


# The service, and what tasks wait at.


class Topics(Service):
    """The subscriptions to each topic, in the order of their coming."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.by_name = {}

    def add(self, subscription):
        """Let a subscription be given what is published."""
        self.by_name.setdefault(subscription.topic, {})[subscription] = None

    def remove(self, subscription):
        """Take it back."""
        subscribed = self.by_name[subscription.topic]
        del subscribed[subscription]
        if not subscribed:
            del self.by_name[subscription.topic]

    def publish(self, topic, item):
        """Give an item to all who have subscribed; return how many those are. A plain call: none of them can wait."""
        subscribed = list(self.by_name.get(topic, ()))
        for subscription in subscribed:
            subscription.put(item)
        return len(subscribed)


class Subscription(Primitive):
    """The last items of a topic, so many at most, for a task to fetch. Leave its block to end it."""

    __slots__ = ("ended", "items", "missed", "size", "topic")

    def __init__(self, topic, size):
        super().__init__(topic)
        self.topic = topic
        self.size = size
        self.items = deque()
        self.missed = 0
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def next(self):
        """Return the call that waits for the next item."""
        return Next(self)

    def put(self, item):
        """Give the item to the first who waits; else keep it, in place of the oldest if there are too many."""
        if self.waiters:
            task, _ = self.waiters.popitem(last=False)
            self.kernel.resume(task, Delivery(item, 0))
            return
        self.items.append(item)
        if len(self.items) > self.size:
            self.items.popleft()
            self.missed += 1

    def end(self):
        """Want no more items; who waits for one is told. Again, that changes nothing."""
        if self.ended:
            return
        self.ended = True
        if self.kernel is not None:
            self.kernel.service(Topics).remove(self)
        while self.waiters:
            task, _ = self.waiters.popitem(last=False)
            self.kernel.throw(task, ClosedError(f"{self!r} was ended"))


# The syscalls.


class Subscribe(Syscall[Subscription]):
    """Subscribe to a topic; return the Subscription, which keeps `size` items at most. Not a checkpoint."""

    __slots__ = ("size", "topic")
    checkpoint = False

    def __init__(self, topic, size=16):
        if size < 1:
            raise ValueError(f"a subscription to {topic!r} has to keep an item at least, not {size}")
        self.topic = topic
        self.size = size

    def handle(self, kernel, task):
        subscription = Subscription(self.topic, self.size)
        subscription.join_run(kernel)
        kernel.service(Topics).add(subscription)
        return subscription


class Publish(Syscall[int]):
    """Give an item to all who have subscribed to a topic; return how many those are. Never waits."""

    __slots__ = ("item", "topic")

    def __init__(self, topic, item):
        self.topic = topic
        self.item = item

    def handle(self, kernel, task):
        return kernel.service(Topics).publish(self.topic, self.item)


class Next(Syscall[Delivery]):
    """Wait for the next item of a subscription; return it, and how many were missed before it.

    ClosedError once the subscription has ended. Cancelled while parked: no item is lost.
    """

    __slots__ = ("subscription",)

    def __init__(self, subscription):
        self.subscription = subscription

    def handle(self, kernel, task):
        subscription = self.subscription
        if subscription.ended:
            raise ClosedError(f"{subscription!r} was ended")
        if subscription.items:
            missed, subscription.missed = subscription.missed, 0
            return Delivery(subscription.items.popleft(), missed)
        kernel.park(task, undo=subscription.enlist(task))


class Stubborn(Next):
    """Wrong: it is parked without an undo, so that a cancellation has to wait for an item that may never come."""

    __slots__ = ()

    def handle(self, kernel, task):
        self.subscription.enlist(task)
        kernel.park(task, undo=None)


# The demonstration.


def reader(name, seconds, size):
    """Read what comes, with so many seconds for each item."""
    with (yield Subscribe("news", size)) as subscription:
        while True:
            item, missed = yield subscription.next()
            print(f"  {name}: {item}" + (f" ({missed} missed)" if missed else ""))
            if item == "good night":
                return
            yield Sleep(seconds)


def main():
    """A quick reader and a slow one; nobody waits for either."""
    yield Spawn(reader("quick", 0.1, 2))
    yield Spawn(reader("slow", 3.5, 2))
    for hour in range(6):
        yield Publish("news", f"it is {hour} o'clock")
        yield Sleep(1)
    print(f"  {(yield Publish('news', 'good night'))} were told")


def subscribed(kind):
    """Return what makes a call, and what brings about what it waits for."""

    def make():
        kernel = (yield CurrentTask()).kernel
        subscription = yield Subscribe("news")
        return kind(subscription), lambda: kernel.service(Topics).publish("news", "an item")

    return make


CHECKED = {"Next": subscribed(Next), "Stubborn": subscribed(Stubborn)}

if __name__ == "__main__":
    print("A quick reader and a slow one:")
    run(main())
    show(**CHECKED)
