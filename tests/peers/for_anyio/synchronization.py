"""anyio's events, locks, semaphores and capacity limiters, on those of minisched."""

from __future__ import annotations

import math
from contextlib import contextmanager

import anyio
from anyio import CapacityLimiterStatistics, EventStatistics, LockStatistics, SemaphoreStatistics

import minisched

from .current import checkpoint_if_cancelled, task
from .tasks import info


@contextmanager
def errors(misuse=RuntimeError, text=None):
    """Raise anyio's exceptions in place of those of minisched."""
    try:
        yield
    except minisched.WouldBlock as error:
        raise anyio.WouldBlock from error
    except minisched.SyscallError as error:
        raise misuse(text or str(error)) from error


async def acquired(primitive, wait, fast, *borrower):
    """Acquire, and take a turn even if nothing blocks, unless `fast`: in anyio, an acquire is a checkpoint."""
    await checkpoint_if_cancelled()
    try:
        primitive.acquire_nowait(*borrower)
    except anyio.WouldBlock:
        await wait(*borrower)
        return
    if not fast:
        try:
            await minisched.Pause()
        except minisched.Cancelled:
            primitive.release(*borrower)
            raise


class Event(anyio.Event):
    __slots__ = ("inner",)

    def __new__(cls):
        return object.__new__(cls)

    def __init__(self):
        self.inner = minisched.Event()

    def set(self):
        self.inner.set()

    def is_set(self):
        return self.inner.is_set()

    async def wait(self):
        await self.inner.wait()

    def statistics(self):
        return EventStatistics(len(self.inner.waiters))


class Lock(anyio.Lock):
    __slots__ = ("fast", "inner")

    def __new__(cls, **_):
        return object.__new__(cls)

    def __init__(self, *, fast_acquire=False):
        self.inner, self.fast = minisched.Lock(), fast_acquire

    def acquire_nowait(self):
        with errors(text="Attempted to acquire an already held Lock"):
            self.inner.acquire_nowait()

    async def acquire(self):
        await acquired(self, self.inner.acquire, self.fast)

    def release(self):
        with errors(text="The current task is not holding this lock"):
            self.inner.release()

    def locked(self):
        return self.inner.locked()

    def statistics(self):
        owner = self.inner.owner
        return LockStatistics(self.locked(), owner and info(owner), len(self.inner.waiters))


class Semaphore(anyio.Semaphore):
    __slots__ = ("fast", "inner")

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, initial_value, *, max_value=None, fast_acquire=False):
        super().__init__(initial_value, max_value=max_value)  # checks the values
        self.inner, self.fast = minisched.Semaphore(initial_value, max_value), fast_acquire

    def acquire_nowait(self):
        with errors():
            self.inner.acquire_nowait()

    async def acquire(self):
        await acquired(self, self.inner.acquire, self.fast)

    def release(self):
        with errors(ValueError):
            self.inner.release()

    @property
    def value(self):
        return self.inner.value

    @property
    def max_value(self):
        return self.inner.maximum

    def statistics(self):
        return SemaphoreStatistics(len(self.inner.waiters))


class CapacityLimiter(anyio.CapacityLimiter):
    def __new__(cls, *_):
        return object.__new__(cls)

    def __init__(self, total_tokens):
        self.inner = minisched.CapacityLimiter(checked(total_tokens))

    @property
    def total_tokens(self):
        return self.inner.total_tokens

    @total_tokens.setter
    def total_tokens(self, total_tokens):
        self.inner.total_tokens = checked(total_tokens)

    @property
    def borrowed_tokens(self):
        return self.inner.borrowed_tokens

    @property
    def available_tokens(self):
        return self.inner.available_tokens

    def acquire_nowait(self):
        self.acquire_on_behalf_of_nowait(task())

    def acquire_on_behalf_of_nowait(self, borrower):
        with errors(text="this borrower is already holding one of this CapacityLimiter's tokens"):
            self.inner.acquire_nowait(borrower)

    async def acquire(self):
        await self.acquire_on_behalf_of(task())

    async def acquire_on_behalf_of(self, borrower):
        await acquired(Borrowing(self), self.inner.acquire, False, borrower)

    def release(self):
        self.release_on_behalf_of(task())

    def release_on_behalf_of(self, borrower):
        with errors(text="this borrower isn't holding any of this CapacityLimiter's tokens"):
            self.inner.release(borrower)

    async def __aenter__(self):
        await self.acquire()

    async def __aexit__(self, kind, error, trace):
        self.release()

    def statistics(self):
        limiter = self.inner
        borrowers = tuple(limiter.borrowers)
        return CapacityLimiterStatistics(len(borrowers), limiter.total_tokens, borrowers, len(limiter.waiters))


class Borrowing:
    """A limiter whose calls name the borrower, as `acquired` makes them."""

    def __init__(self, limiter):
        self.acquire_nowait = limiter.acquire_on_behalf_of_nowait
        self.release = limiter.release_on_behalf_of


def checked(total_tokens):
    """Return a number of tokens; raise what anyio raises for anything else."""
    if not isinstance(total_tokens, int) and total_tokens != math.inf:
        raise TypeError("total_tokens must be an int or math.inf")
    if total_tokens < 0:
        raise ValueError("total_tokens must be >= 0")
    return total_tokens
