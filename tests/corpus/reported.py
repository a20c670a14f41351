"""Mistakes that were reported of other schedulers, as a program can make them: home-made primitives, and cleanups.

They are built on `Event` and `Shared`, as the reported ones are on futures.
"""

from __future__ import annotations

from minisched import Cancel, Cancelled, Event, Join, Lock, Queue, Sleep, Spawn, TaskCancelled
from minisched.kernel import Syscall
from minisched.lab import Shared, together

from .classic import pause


class Victims(Syscall):
    """Spawn tasks that keep their failures, all in one turn; return them."""

    __slots__ = ("bodies",)
    checkpoint = False

    def __init__(self, *bodies):
        self.bodies = bodies

    def handle(self, kernel, task):
        return [kernel.spawn(body, None, task, True) for body in self.bodies]


def cancelled_later(victim, late):
    """Cancel a task at some time, and wait for its end."""
    yield from pause(late)
    yield Cancel(victim)
    try:
        yield Join(victim)
    except TaskCancelled:
        pass


class HomeMadeLock:
    """A lock of one flag, and an event for each waiter, as in asyncio."""

    def __init__(self, fixed):
        self.fixed = fixed
        self.shared = Shared(locked=False, waiters=())

    def acquire(self):
        while self.shared.locked:
            woken = Event()
            self.shared.waiters += (woken,)
            try:
                yield woken.wait()
                yield  # the turn between the wake-up and the lock
            except Cancelled:
                if self.fixed:
                    self.pass_on(woken)
                raise
        self.shared.locked = True

    def pass_on(self, woken):
        self.shared.waiters = tuple(other for other in self.shared.waiters if other is not woken)
        if woken.is_set() and not self.shared.locked:
            self.wake_first()

    def release(self):
        self.shared.locked = False
        self.wake_first()

    def wake_first(self):
        if self.shared.waiters:
            first, *rest = self.shared.waiters
            self.shared.waiters = tuple(rest)
            first.set()


def lock_leaks_at_a_cancellation(fixed):
    """bpo-27585, anyio #398: a waiter that was woken, and is then cancelled, wakes no other one."""
    lock = HomeMadeLock(fixed)

    def work(turns):
        yield from lock.acquire()
        try:
            yield from pause(turns)
        finally:
            lock.release()

    def main():
        yield from together(work(1), group())

    def group():
        victim, _ = yield Victims(work(0), work(0))
        yield from cancelled_later(victim, 6)

    return main()


def lost_notification(fixed):  # noqa: C901
    """gh-112202: the notification of a waiter that is cancelled while it acquires the lock again goes to nobody."""
    shared, lock = Shared(waiters=(), notified=0), Lock()

    def notify():
        if shared.waiters:
            first, *rest = shared.waiters
            shared.waiters = tuple(rest)
            first.set()

    def wait():
        woken = Event()
        shared.waiters += (woken,)
        try:
            yield woken.wait()
            with (yield lock.acquire()):
                shared.notified += 1
        except Cancelled:
            if fixed and woken.is_set():
                notify()
            shared.waiters = tuple(other for other in shared.waiters if other is not woken)
            raise

    def notify_once():
        yield
        notify()

    def main():
        victim, other = yield Victims(wait(), wait())
        yield Sleep(1)  # both wait
        both = yield Spawn(together(notify_once(), cancelled_later(victim, 5)))  # waits for its own children only
        yield Join(both)
        yield Sleep(1)
        yield Cancel(other)

    def check():
        assert shared.notified == 1, "the notification is lost"

    return main(), check


def too_many_grants(fixed):
    """gh-76915, anyio #1170: the count is checked in one turn and taken in another."""
    shared = Shared(free=1, inside=0, most=0)

    def work(late):
        yield from pause(late)
        while not shared.free:
            yield Sleep(1)
        if not fixed:
            yield
        shared.free -= 1
        shared.inside += 1
        shared.most = max(shared.most, shared.inside)
        yield
        shared.inside -= 1
        shared.free += 1

    def main():
        yield from together(work(0), work(4))

    def check():
        assert shared.most == 1, "two tasks are inside"

    return main(), check


def woken_without_another_look(fixed):  # noqa: C901
    """gh-90155, in its kind: a woken waiter takes what a task that came later has taken already."""
    shared = Shared(free=0, waiters=())

    def acquire():
        while not shared.free:
            woken = Event()
            shared.waiters += (woken,)
            yield woken.wait()
            yield
            if not fixed:
                break
        shared.free -= 1
        assert shared.free >= 0, "granted twice"

    def release():
        shared.free += 1
        for woken in shared.waiters:
            woken.set()
        shared.waiters = ()

    def work(late):
        yield from pause(late)
        yield from acquire()
        yield
        release()

    def main():
        yield from together(work(0), work(5), releaser())

    def releaser():
        yield from pause(1)
        release()

    return main()


def item_lost_at_a_cancellation(fixed):
    """gh-68000: a task is cancelled between the item and its use."""
    queue, shared = Queue(), Shared(got=())

    def consume():
        while True:
            item = yield queue.get()
            if not fixed:
                yield  # a checkpoint
            shared.got += (item,)

    def main():
        (consumer,) = yield Victims(consume())
        queue.put_nowait(1)
        yield from cancelled_later(consumer, 3)

    def check():
        assert [*shared.got, *queue.items] == [1], "the item is lost"

    return main(), check


def cancellation_swallowed(fixed):
    """gh-86296: a wait that ends and is cancelled at once goes on, and the cancellation is lost."""
    done, shared = Event(), Shared(cancelled=False, went_on=False)

    def work():
        try:
            yield done.wait()
            yield
        except Cancelled:
            shared.cancelled = True
            if fixed or not done.is_set():
                raise
        shared.went_on = True

    def finish():
        yield
        done.set()

    def main():
        (victim,) = yield Victims(work())
        yield from together(finish(), cancelled_later(victim, 5))

    def check():
        assert not (shared.cancelled and shared.went_on), "a cancelled task went on"

    return main(), check


def hang_at_the_end(fixed):
    """Others wait for a task that is cancelled before it has closed their queue."""
    queue = Queue()

    def produce():
        try:
            yield queue.put(1)
            yield
        except Cancelled:
            if fixed:
                queue.close()
            raise
        queue.close()

    def consume():
        yield from queue.for_each(lambda item: None)

    def main():
        producer, _ = yield Victims(produce(), consume())
        yield from cancelled_later(producer, 5)

    return main()


def closed_twice(fixed):
    """uvloop #738, in its kind: two tasks see an open file, and both close its number."""
    shared = Shared(open=True, closes=0)

    def close(late):
        yield from pause(late)
        if shared.open:
            if fixed:
                shared.open = False
            yield
            shared.closes += 1
            shared.open = False

    def main():
        yield from together(close(0), close(3))

    def check():
        assert shared.closes == 1, "closed twice"

    return main(), check


def two_winners(fixed):
    """gh-124309: two attempts succeed before the first has cancelled the other."""
    shared = Shared(winners=0)

    def attempt(late):
        yield from pause(late)
        if not shared.winners:
            if fixed:
                shared.winners += 1
                return
            yield
            shared.winners += 1

    def main():
        yield from together(attempt(0), attempt(3), attempt(6))

    def check():
        assert shared.winners == 1, "more than one winner"

    return main(), check


def result_read_too_soon(fixed):
    """A task reads the result of another one, which has ended in round robin."""
    shared = Shared(seen=None)

    def compute():
        yield
        return 42

    def read(task):
        if fixed:
            yield Join(task)
        else:
            yield from pause(3)
        shared.seen = task.result

    def main():
        (task,) = yield Victims(compute())
        yield from together(read(task))

    def check():
        assert shared.seen == 42, "there was no result yet"

    return main(), check
