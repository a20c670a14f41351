"""Tasks and syscalls that the tests of locks, events, semaphores and queues share."""

from __future__ import annotations

from minisched import Cancelled, ClosedError, Join, Sleep, Syscall, TaskCancelled


class Abort(BaseException):
    """Ends a run at once."""


class AbortRun(Syscall[None]):
    """End the run at once, as a second Ctrl-C does: the kernel closes every body where it stands."""

    __slots__ = ()

    def handle(self, kernel, task):
        kernel.fault = Abort()
        raise kernel.fault


def contender(lock, log, name, seconds=0.0):
    """Own the lock for some seconds; log the start and a cancellation."""
    with (yield lock.acquire()):
        log.append(f"{name} owns it")
        try:
            yield Sleep(seconds)
        except Cancelled:
            log.append(f"{name} is cancelled")
            raise


def result_or_error(task):
    """Return the result of a task, or the error that Join raises."""
    try:
        return (yield Join(task))
    except Exception as error:
        return error


def ended(task):
    """Wait for the end of a task, however it ends."""
    try:
        yield Join(task)
    except (TaskCancelled, ClosedError):
        pass


def logged(call, log, name):
    """Yield a call and log the answer."""
    answer = yield call
    log.append((name, answer))


def getter(source, log, count=1):
    """Get items; log each item, and the error that ends the task early."""
    try:
        for _ in range(count):
            log.append((yield source.get()))
    except (Cancelled, ClosedError) as error:
        log.append(type(error).__name__)
        raise


def putter(queue, log, *items):
    """Put items; log each item that was put, and the error that ends the task early."""
    try:
        for item in items:
            yield queue.put(item)
            log.append(f"put {item}")
    except (Cancelled, ClosedError) as error:
        log.append(type(error).__name__)
        raise
