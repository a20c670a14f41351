"""curio's synchronization and queues, on those of minisched: there, a release, a set and a notify are coroutines."""

from __future__ import annotations

from contextlib import contextmanager

import minisched

from .tasks import FromThreads


@contextmanager
def misuse_as_runtime_error():
    try:
        yield
    except minisched.SyscallError as error:
        raise RuntimeError(str(error)) from None


class Event:
    def __init__(self):
        self.inner = minisched.Event()

    def is_set(self):
        return self.inner.is_set()

    def clear(self):
        self.inner.clear()

    async def wait(self):
        await self.inner.wait()

    async def set(self):
        self.inner.set()


class Owned(FromThreads):
    """The calls that a lock and a semaphore have in common."""

    async def acquire(self):
        await self.inner.acquire()
        return True

    async def release(self):
        with misuse_as_runtime_error():
            self.inner.release()

    def locked(self):
        return self.inner.locked()

    async def __aenter__(self):
        await self.acquire()
        return self

    async def __aexit__(self, *_):
        await self.release()


class Lock(Owned):
    def __init__(self):
        self.inner = minisched.Lock()


class RLock(Owned):
    def __init__(self):
        self.inner = minisched.RLock()


class Semaphore(Owned):
    def __init__(self, value=1):
        self.inner = minisched.Semaphore(value)

    @property
    def value(self):
        return self.inner.value

    def locked(self):
        return self.inner.value == 0


class Condition(Owned):
    def __init__(self, lock=None):
        self.lock = lock or Lock()
        self.inner = minisched.Condition(self.lock.inner)

    def locked(self):
        return self.lock.locked()

    async def wait(self):
        with misuse_as_runtime_error():
            await self.inner.wait()

    async def wait_for(self, predicate):
        return await self.inner.wait_for(predicate)

    async def notify(self, n=1):
        with misuse_as_runtime_error():
            self.inner.notify(n)

    async def notify_all(self):
        with misuse_as_runtime_error():
            self.inner.notify_all()


class Result:
    """An event with a value or an error. minisched has none."""

    def __init__(self):
        self.event, self.value, self.error = minisched.Event(), None, None

    def is_set(self):
        return self.event.is_set()

    async def unwrap(self):
        await self.event.wait()
        if self.error is not None:
            raise self.error
        return self.value

    async def set_value(self, value):
        self.value = value
        self.event.set()

    async def set_exception(self, error):
        self.error = error
        self.event.set()


class Queue:
    kind = minisched.Queue

    def __init__(self, maxsize=0):
        self.maxsize = maxsize
        self.inner = self.kind(maxsize or None)

    def empty(self):
        return not self.inner.qsize()

    def full(self):
        return bool(self.maxsize) and self.inner.qsize() >= self.maxsize

    def qsize(self):
        return self.inner.qsize()

    async def put(self, item):
        await self.inner.put(item)

    async def get(self):
        return await self.inner.get()

    async def task_done(self):
        self.inner.task_done()

    async def join(self):
        await self.inner.join()


class PriorityQueue(Queue):
    kind = minisched.PriorityQueue


class LifoQueue(Queue):
    kind = minisched.LifoQueue
