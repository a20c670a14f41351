"""Syscalls of a user: `yield Publish("news", item)` sends an item to all subscribers of a topic.

Shows: tasks find each other by the name of a topic, not by a shared object; a syscall that returns at once; a
subscription is a context manager, so it ends however its block ends; a bound on memory: a slow subscriber loses the
oldest items, gets their number, and does not delay the publisher.

Run it:    python demos/extend/topics.py
"""

from argparse import ArgumentParser
from collections import deque
from typing import NamedTuple

from checked import show

from minisched import ClosedError, CurrentTask, Primitive, Service, Sleep, Spawn, Syscall
from minisched.testing import run


class Delivery(NamedTuple):
    """An item, and the number of items that were dropped before it because the subscriber was too slow."""

    item: object
    missed: int


# The service and the primitive.


class Topics(Service):
    """The subscriptions to each topic, in order of arrival."""

    def __init__(self, kernel):
        super().__init__(kernel)
        self.by_name = {}

    def add(self, subscription):
        """Add a subscription to its topic."""
        self.by_name.setdefault(subscription.topic, {})[subscription] = None

    def remove(self, subscription):
        """Remove a subscription."""
        subscribed = self.by_name[subscription.topic]
        del subscribed[subscription]
        if not subscribed:
            del self.by_name[subscription.topic]

    def publish(self, topic, item):
        """Send an item to all subscribers; return their number. A plain call that never waits."""
        subscribed = list(self.by_name.get(topic, ()))
        for subscription in subscribed:
            subscription.put(item)
        return len(subscribed)


class Subscription(Primitive):
    """The unread items of a topic, at most `size` of them. It ends at the end of its `with` block."""

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
        """Return the syscall that waits for the next item."""
        return Next(self)

    def put(self, item):
        """Hand the item to the first waiter, or store it; if there are too many items, drop the oldest."""
        if self.waiters:
            task, _ = self.waiters.popitem(last=False)
            self.kernel.resume(task, Delivery(item, 0))
            return
        self.items.append(item)
        if len(self.items) > self.size:
            self.items.popleft()
            self.missed += 1

    def end(self):
        """End the subscription; waiting tasks get a ClosedError. A second call has no effect."""
        if self.ended:
            return
        self.ended = True
        if self.kernel is not None:
            self.kernel.service(Topics).remove(self)
        while self.waiters:
            task, _ = self.waiters.popitem(last=False)
            self.kernel.throw(task, ClosedError(f"{self!r} has ended"))


# The syscalls.


class Subscribe(Syscall[Subscription]):
    """Subscribe to a topic; return the Subscription, which stores at most `size` items. Not a checkpoint."""

    __slots__ = ("size", "topic")
    checkpoint = False

    def __init__(self, topic, size=16):
        if size < 1:
            raise ValueError(f"a subscription to {topic!r} has to store at least one item, not {size}")
        self.topic = topic
        self.size = size

    def handle(self, kernel, task):
        subscription = Subscription(self.topic, self.size)
        subscription.bind(kernel)
        kernel.service(Topics).add(subscription)
        return subscription


class Publish(Syscall[int]):
    """Send an item to all subscribers of a topic; return their number. Never waits."""

    __slots__ = ("item", "topic")

    def __init__(self, topic, item):
        self.topic = topic
        self.item = item

    def handle(self, kernel, task):
        return kernel.service(Topics).publish(self.topic, self.item)


class Next(Syscall[Delivery]):
    """Wait for the next item of a subscription; return the item and the number of items missed before it.

    Raises ClosedError if the subscription has ended. A cancellation loses no item.
    """

    __slots__ = ("subscription",)

    def __init__(self, subscription):
        self.subscription = subscription

    def handle(self, kernel, task):
        subscription = self.subscription
        if subscription.ended:
            raise ClosedError(f"{subscription!r} has ended")
        if subscription.items:
            missed, subscription.missed = subscription.missed, 0
            return Delivery(subscription.items.popleft(), missed)
        kernel.park(task, undo=subscription.add_waiter(task))


class Stubborn(Next):
    """Wrong: it parks without an undo, so that a cancellation has to wait for an item that may never come."""

    __slots__ = ()

    def handle(self, kernel, task):
        self.subscription.add_waiter(task)
        kernel.park(task, undo=None)


# The demonstration.


def reader(name, seconds, size):
    """Read items, and take `seconds` seconds for each of them."""
    with (yield Subscribe("news", size)) as subscription:
        while True:
            item, missed = yield subscription.next()
            print(f"  {name}: {item}" + (f" ({missed} missed)" if missed else ""))
            if item == "good night":
                return
            yield Sleep(seconds)


def main():
    """Publish to a quick reader and a slow one, without waiting for either."""
    yield Spawn(reader("quick", 0.1, 2))
    yield Spawn(reader("slow", 3.5, 2))
    for hour in range(6):
        yield Publish("news", f"{hour} o'clock")
        yield Sleep(1)
    print(f"  sent to {(yield Publish('news', 'good night'))} subscribers")


def subscribed(kind):
    """Return a function that creates a syscall, with a function that completes it."""

    def make():
        kernel = (yield CurrentTask()).kernel
        subscription = yield Subscribe("news")
        return kind(subscription), lambda: kernel.service(Topics).publish("news", "an item")

    return make


CHECKED = {"Next": subscribed(Next), "Stubborn": subscribed(Stubborn)}

if __name__ == "__main__":
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # for --help
    print("A quick reader and a slow one:")
    run(main())
    show(**CHECKED)
