"""curio's clock, sleep and time limits, on those of minisched."""

from __future__ import annotations

import minisched

from .errors import UncaughtTimeoutError
from .tasks import FromThreads, instantiate


async def clock():
    return await minisched.Now()


async def sleep(seconds):
    await minisched.Sleep(seconds)
    return await minisched.Now()


class Limit(FromThreads):
    def __init__(self, seconds, ignore=False, timeout_result=None):
        self.seconds, self.ignore, self.timeout_result = seconds, ignore, timeout_result
        self.expired, self.result = False, True

    async def __aenter__(self):
        self.scope = await (minisched.MoveOnAfter if self.ignore else minisched.Timeout)(self.seconds)
        self.scope.__enter__()
        return self

    async def __aexit__(self, kind, error, trace):
        try:
            swallowed = self.scope.__exit__(kind, error, trace)
        except minisched.TimedOut as timed_out:
            self.expire()
            # In curio, the TaskTimeout is the exception that was raised in the block, on which curio's streams have
            # noted their progress (`bytes_read`).
            vars(timed_out).update(vars(error))
            raise
        if swallowed:
            self.expire()
        elif (
            isinstance(error, minisched.TimedOut) and error.scope is not None
        ):  # of a limit inside, and not caught there
            raise UncaughtTimeoutError("Uncaught timeout received")
        return swallowed

    def expire(self):
        self.expired, self.result = True, self.timeout_result


def timeout_after(seconds, coro=None, *args, ignore=False, timeout_result=None):
    limit = Limit(seconds, ignore, timeout_result)
    if coro is None:
        return limit

    async def limited():
        async with limit:
            return await instantiate(coro, args)
        return timeout_result

    return limited()


def ignore_after(seconds, coro=None, *args, timeout_result=None):
    return timeout_after(seconds, coro, *args, ignore=True, timeout_result=timeout_result)
